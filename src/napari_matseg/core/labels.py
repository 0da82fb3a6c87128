"""From classes to objects."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_matseg.core.summits import join, survey

DEPTH = 0.6
"""How deep inside its object the deepest pixel must lie, from 0 to 1; else it is no object but a speck."""
NECK = 0.5
"""Objects are parted where the depth of the neck between them is less than this share of the shallower one's."""


def label_objects(classes_yx: np.ndarray, depth_yx: np.ndarray | None = None) -> np.ndarray:
    """Give each object an id of its own.

    Parameters
    ----------
    classes_yx : array, shape (height, width), uint8
        Class ids; 0 is no object.
    depth_yx : array, shape (height, width), float32, optional
        How deep inside its object each pixel lies, from 0 to 1. Objects that touch are parted along its valleys, where
        these are deep enough. A region that is shallow all over belongs to a deep one beside it; if there is none,
        the model is not sure that it is an object, and it is left out.

    Returns
    -------
    array, shape (height, width), uint32
        Ids from 1, class by class in reading order; 0 is no object. Objects of different class never share an id.

    Examples
    --------
    >>> label_objects(np.array([[1, 1, 0, 1], [0, 0, 0, 2]], dtype=np.uint8)).tolist()
    [[1, 1, 0, 2], [0, 0, 0, 3]]
    """
    parted = None
    if depth_yx is not None:
        landscape = survey(classes_yx, depth_yx)
        owner = owners(landscape.heights, landscape.passes, landscape.pass_heights)
        known = landscape.heights[owner] >= DEPTH
        # The ground of no summit, -1, is the last entry.
        parted = np.append(np.where(known, owner + 1, 0), 0)[landscape.ground_yx]
    labels = np.zeros(classes_yx.shape, dtype=np.uint32)
    total = 0
    for class_id in np.unique(classes_yx):
        if class_id == 0:
            continue
        inside = classes_yx == class_id
        found, n = _components(inside) if parted is None else _numbered(np.where(inside, parted, 0))
        labels[inside] = found[inside] + np.uint32(total) * (found[inside] > 0)
        total += n
    return labels


def _components(inside: np.ndarray) -> tuple[np.ndarray, int]:
    """Find connected regions; pixels that share a corner are connected."""
    labels = np.empty(inside.shape, dtype=np.uint32)
    n = ndimage.label(inside, structure=np.ones((3, 3)), output=labels)
    return labels, int(n)


def owners(heights: np.ndarray, passes: np.ndarray, pass_heights: np.ndarray) -> np.ndarray:
    """Decide which summits are one object by the depths of the valleys between them.

    Parameters
    ----------
    heights, passes, pass_heights : array
        As of a `Landscape`.

    Returns
    -------
    array, shape (n,), int64
        The highest summit of the object that each belongs to; a shallow one goes over its highest pass to a
        neighbour. What is lower than `DEPTH` even there is no object.
    """
    owner = join(heights, passes, pass_heights, NECK)
    shallow = heights < DEPTH
    into = np.arange(len(owner))
    for a, b in owner[passes]:
        for low, high in ((a, b), (b, a)):
            if shallow[low] and into[low] == low and not shallow[high]:
                into[low] = high
    whose: np.ndarray = into[owner]
    return whose


def _numbered(objects_yx: np.ndarray) -> tuple[np.ndarray, int]:
    """Give objects numbers from 1 in reading order."""
    values, first, place = np.unique(objects_yx, return_index=True, return_inverse=True)
    inside = values > 0
    number = np.zeros(len(values), dtype=np.uint32)
    number[np.flatnonzero(inside)[np.argsort(first[inside])]] = np.arange(1, np.count_nonzero(inside) + 1)
    return number[place.reshape(objects_yx.shape)], int(np.count_nonzero(inside))

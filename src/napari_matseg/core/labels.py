"""From classes to objects."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

CORE_DEPTH = 0.5  # relative depth beyond which a pixel belongs to the core of its object


def label_objects(classes_yx: np.ndarray, depth_yx: np.ndarray | None = None) -> np.ndarray:
    """Give each object an id of its own.

    Parameters
    ----------
    classes_yx : array, shape (height, width), uint8
        Class ids; 0 is no object.
    depth_yx : array, shape (height, width), float32, optional
        How deep inside its object each pixel lies, from 0 to 1. Objects that touch are parted where it dips:
        each connected core deeper than 0.5 grows into an object (watershed, Meyer 1994,
        doi 10.1016/0165-1684(94)90060-4).

    Returns
    -------
    array, shape (height, width), uint32
        Ids from 1 in reading order of their first pixels' classes; 0 is no object. Objects of different class
        never share an id.

    Examples
    --------
    >>> label_objects(np.array([[1, 1, 0, 1], [0, 0, 0, 2]], dtype=np.uint8)).tolist()
    [[1, 1, 0, 2], [0, 0, 0, 3]]
    """
    labels = np.zeros(classes_yx.shape, dtype=np.uint32)
    total = 0
    for class_id in np.unique(classes_yx):
        if class_id == 0:
            continue
        inside = classes_yx == class_id
        found, n = _components(inside) if depth_yx is None else _parted(inside, depth_yx)
        labels[inside] = found[inside] + np.uint32(total)
        total += n
    return labels


def _components(inside: np.ndarray) -> tuple[np.ndarray, int]:
    """Find connected regions; pixels that share a corner are connected."""
    labels = np.empty(inside.shape, dtype=np.uint32)
    n = ndimage.label(inside, structure=np.ones((3, 3)), output=labels)
    return labels, int(n)


def _parted(inside: np.ndarray, depth_yx: np.ndarray) -> tuple[np.ndarray, int]:
    cores, n_cores = _components(inside & (depth_yx > CORE_DEPTH))
    regions, n_regions = _components(inside)
    # A region too shallow for a core is an object all the same.
    has_core = np.zeros(n_regions + 1, dtype=bool)
    has_core[regions[cores > 0]] = True
    has_core[0] = True
    shallow = ~has_core[regions]
    ids = np.cumsum(~has_core).astype(np.uint32) + np.uint32(n_cores)
    cores[shallow] = ids[regions[shallow]]
    parted = watershed(-depth_yx, cores.astype(np.int32), mask=inside, connectivity=2)
    return parted.astype(np.uint32), n_cores + int((~has_core).sum())

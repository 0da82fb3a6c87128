"""What is mended in labels before they are measured: holes, specks, and objects that the edge cuts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_matseg.core.labels import label_objects

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_matseg.settings import CleanSettings


def clean_objects(ids_yx: NDArray[np.uint32], settings: CleanSettings, rows: slice = slice(None)) -> NDArray[np.uint32]:
    """Fill the holes of objects, then leave out those that are small or reach the edge.

    A hole is background that one object alone encloses, corners being no way out of it; what it holds counts to the
    object's size.

    Parameters
    ----------
    ids_yx : array, shape (height, width), uint32
        Ids of objects; 0 is none.
    settings : CleanSettings
    rows : slice
        Rows that show the specimen; what lies outside stays as it is.

    Returns
    -------
    array, shape (height, width), uint32
        The objects that stay keep their ids.

    Examples
    --------
    >>> from napari_matseg.settings import CleanSettings
    >>> ids = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 0, 7], [1, 1, 1, 0, 0]], np.uint32)
    >>> clean_objects(ids, CleanSettings(fill_holes_px=1, min_area_px=2)).tolist()
    [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]]
    """
    cleaned = ids_yx.copy()
    inside = cleaned[rows]
    if settings.fill_holes_px:
        _fill_holes(inside, settings.fill_holes_px)
    ids, place, areas = np.unique(inside, return_inverse=True, return_counts=True)
    left = areas < settings.min_area_px
    if settings.exclude_edge and inside.size:
        at_edge = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
        left |= np.isin(ids, np.concatenate(at_edge))
    if left.any():
        inside[:] = np.where(left, 0, ids).astype(ids.dtype)[place.reshape(inside.shape)]
    return cleaned


def clean_classes(
    classes_yx: NDArray[np.uint8],
    instances_yx: NDArray[np.uint32] | None,
    settings: CleanSettings,
    rows: slice = slice(None),
) -> tuple[NDArray[np.uint8], NDArray[np.uint32] | None]:
    """Do as `clean_objects` with the objects of classes, in classes and ids alike.

    Parameters
    ----------
    classes_yx : array, shape (height, width), uint8
        Class ids; 0 is no object.
    instances_yx : array, shape (height, width), uint32, optional
        Ids of objects, each of one class. Where there are none, each connected piece of a class is an object.
    settings : CleanSettings
    rows : slice
        Rows that show the specimen.

    Returns
    -------
    classes_yx, instances_yx
        What becomes background has class 0 and id 0, and a hole that is filled the class and the id of its object.
    """
    inside = np.zeros_like(classes_yx)
    inside[rows] = classes_yx[rows]
    given = np.zeros(classes_yx.shape, np.uint32) if instances_yx is None else instances_yx
    highest = int(given.max(initial=0))
    ids = label_objects(np.where(given > 0, 0, inside).astype(np.uint8))
    ids[ids > 0] += np.uint32(highest)
    ids = np.where(given > 0, given, ids)
    class_of = np.zeros(int(ids.max(initial=0)) + 1, np.uint8)
    class_of[ids] = classes_yx
    class_of[0] = 0
    cleaned = clean_objects(ids, settings, rows)
    classes = classes_yx.copy()
    classes[rows] = class_of[cleaned[rows]]
    if instances_yx is None:
        return classes, None
    return classes, np.where(cleaned > highest, np.uint32(0), cleaned)


def _fill_holes(ids_yx: NDArray[np.uint32], most: int) -> None:
    """Give holes of up to so many pixels, in place, to what encloses them."""
    holes, n = ndimage.label(ids_yx == 0)
    if n == 0:
        return
    hole = np.bincount(holes.ravel(), minlength=n + 1) <= most
    hole[0] = False
    for edge in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        hole[edge] = False
    lowest = np.full(n + 1, np.iinfo(ids_yx.dtype).max, ids_yx.dtype)
    highest = np.zeros(n + 1, ids_yx.dtype)
    for axis in (0, 1):
        for here, there in ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))):
            at = (here, slice(None)) if axis == 0 else (slice(None), here)
            beside = (there, slice(None)) if axis == 0 else (slice(None), there)
            touching = (holes[at] > 0) & (ids_yx[beside] > 0)
            which, owners = holes[at][touching], ids_yx[beside][touching]
            np.minimum.at(lowest, which, owners)
            np.maximum.at(highest, which, owners)
    hole &= lowest == highest
    filled = hole[holes]
    ids_yx[filled] = highest[holes[filled]]

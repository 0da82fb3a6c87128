"""One object of a micrograph: the scores of a crop, and where the crop lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from napari_matseg.settings import PromptSettings

BARELY = np.float16(2**-10)
"""Score of a pixel that cleaning gave to an object: another object that was found there has the stronger claim."""
KNOWN = np.float16(6)
"""Score of a pixel that a label image says is the object's; as a probability, 0.998."""
MOST = 60000.0
"""Largest score; half precision ends a little above."""
EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True, eq=False)
class ObjectMask:
    """What a promptable model found for one prompt.

    Attributes
    ----------
    id : int
        The object's label, from 1.
    top, left : int
        First row and column of the crop in the plane; the crop lies inside the plane.
    scores_yx : array, shape (height, width), float16
        Logits of the crop, above 0 inside the object, which nowhere reaches beyond the crop; of shape (0, 0) where
        nothing was found.
    iou : float
        IoU with the true object as the model predicts it, 0 to 1.
    stability : float
        IoU of the mask at a higher threshold with that at a lower one, 0 to 1.
    plane : int
        Of the stack.
    """

    id: int
    top: int
    left: int
    scores_yx: np.ndarray
    iou: float
    stability: float
    plane: int = 0

    @property
    def mask_yx(self) -> np.ndarray:
        """The object's pixels in the crop, bool."""
        inside: np.ndarray = self.scores_yx > 0
        return inside

    @property
    def where(self) -> tuple[slice, slice]:
        """Rows and columns of the crop in the plane."""
        height, width = self.scores_yx.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def clean(found: ObjectMask, settings: PromptSettings) -> ObjectMask:
    """Fill small holes and drop small pieces.

    A hole is background that is cut off from the crop's edge; what reaches that edge lies outside the object or is a
    bay of it. Pixels of one piece touch by a side or a corner, those of one hole by a side. The largest piece is never
    dropped, however small.

    Parameters
    ----------
    found : ObjectMask
    settings : PromptSettings
        Of which `fill_holes_px` and `drop_specks_px` count.

    Returns
    -------
    ObjectMask
        The same object where nothing was to be done. Pixels that change sides get a score near 0, so that the mask
        is where the scores are above 0 as before.
    """
    mask = found.mask_yx
    kept = _without_specks(mask, settings.drop_specks_px)
    filled = _without_holes(kept, settings.fill_holes_px)
    if filled is mask:
        return found
    scores = found.scores_yx.copy()
    scores[mask & ~filled] = -BARELY
    scores[filled & ~mask] = BARELY
    return replace(found, scores_yx=scores)


def trim(found: ObjectMask) -> ObjectMask:
    """Cut the crop to the object's pixels; to shape (0, 0) where it has none."""
    mask = found.mask_yx
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return replace(found, scores_yx=found.scores_yx[:0, :0])
    top, left = int(rows[0]), int(columns[0])
    scores = found.scores_yx[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    return replace(found, top=found.top + top, left=found.left + left, scores_yx=scores)


def bounding_box(mask: ObjectMask) -> tuple[float, float, float, float] | None:
    """Edges (y0, x0, y1, x1) of the pixels of an object, in pixels; None if there are none."""
    inside = mask.mask_yx
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        return None
    top, left = mask.top - 0.5, mask.left - 0.5
    return top + float(rows[0]), left + float(columns[0]), top + float(rows[-1]) + 1, left + float(columns[-1]) + 1


def from_label(labels_yx: np.ndarray, id: int, plane: int = 0) -> ObjectMask:  # noqa: A002
    """Make an object of a present label, for instance to have it refined.

    Parameters
    ----------
    labels_yx : array, shape (height, width), integer
    id : int
        Label of the object.
    plane : int
        Of the stack, that the labels belong to.

    Returns
    -------
    ObjectMask
        With the crop one pixel wider than the object on each side, where the plane goes on.

    Raises
    ------
    InputError
        If no pixel has that label.
    """
    inside = labels_yx == id
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        raise InputError(f"Label {id} is nowhere in the labels; give one of those that are.")
    top, left = max(int(rows[0]) - 1, 0), max(int(columns[0]) - 1, 0)
    crop = inside[top : rows[-1] + 2, left : columns[-1] + 2]
    return ObjectMask(id, top, left, np.where(crop, KNOWN, -KNOWN), iou=1.0, stability=1.0, plane=plane)


def _without_specks(mask: np.ndarray, limit: int) -> np.ndarray:
    """Drop pieces of up to that many pixels; gives the same array if there are none."""
    pieces, count = ndimage.label(mask, EIGHT) if limit else (mask, 1)
    if count < 2:
        return mask
    areas = np.bincount(pieces.ravel())
    areas[0] = 0
    kept = areas > limit
    kept[areas.argmax()] = True
    kept[0] = False
    return mask if kept[1:].all() else kept[pieces]


def _without_holes(mask: np.ndarray, limit: int) -> np.ndarray:
    """Fill holes of up to that many pixels; gives the same array if there are none."""
    holes, count = ndimage.label(~mask) if limit else (mask, 1)
    if count == 0 or limit == 0:
        return mask
    areas = np.bincount(holes.ravel())
    small = areas <= limit
    small[0] = False
    for border in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        small[border] = False
    return mask | small[holes] if small.any() else mask

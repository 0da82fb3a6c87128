"""What is known of an object but not of its mask: it hangs together, and fills the box that was drawn round it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from napari_matseg.core.objects import ObjectMask

EIGHT = np.ones((3, 3), bool)
OUTSIDE = -1.0
"""Score of what is taken away."""
SHIFTS = (0.0, -0.25, 0.25, -0.5, 0.5, -1.0, 1.0, -1.5, 1.5, -2.0, 2.0)
"""Thresholds that are tried; the nearest to 0 first, so that it stays where nothing is gained."""
CAUTION = 0.5
"""How much too low the scores are that answer clicks, found on micrographs held out of the training."""
COST = 0.02
"""IoU of boxes that a threshold of 1 must gain."""


def fill_box(scores_yx: np.ndarray, box_yx: tuple[float, float, float, float]) -> np.ndarray:
    """Move the threshold so that the object's bounding box is most nearly the one that was asked for.

    Parameters
    ----------
    scores_yx : array, shape (height, width), float32
        Logits of the mask, in cells.
    box_yx : (float, float, float, float)
        Edges (y0, x0, y1, x1) in cells; the first cell's are at 0 and 1.

    Returns
    -------
    array, shape (height, width), float32
        The scores, shifted, with one piece above 0.
    """
    near = tuple(
        _near(low, high, length) for low, high, length in zip(box_yx[:2], box_yx[2:], scores_yx.shape, strict=True)
    )
    top, left = near[0].start, near[1].start
    box = box_yx[0] - top, box_yx[1] - left, box_yx[2] - top, box_yx[3] - left
    crop = scores_yx[near]
    masks = {shift: _piece(crop > shift, None) for shift in SHIFTS}
    best = max(SHIFTS, key=lambda shift: _box_iou(masks[shift], box) - COST * abs(shift))
    found: np.ndarray = np.minimum(scores_yx, np.float32(OUTSIDE))
    found[near] = _only(crop - np.float32(best), masks[best])
    return found


def keep_piece(scores_yx: np.ndarray, clicks_yx: np.ndarray) -> np.ndarray:
    """Keep the pieces that were clicked, or the largest where none was, at the threshold that suits clicks.

    Parameters
    ----------
    scores_yx : array, shape (height, width), float32
    clicks_yx : array, shape (n, 2), float
        Points in the object, in cells.

    Returns
    -------
    array, shape (height, width), float32
    """
    scores_yx = scores_yx + np.float32(CAUTION)
    return _only(scores_yx, _piece(scores_yx > 0, clicks_yx))


def keep_clicked(found: ObjectMask, clicks_yx: np.ndarray) -> ObjectMask:
    """Keep the pieces of an object that were clicked, or the largest where none was.

    Parameters
    ----------
    found : ObjectMask
    clicks_yx : array, shape (n, 2), float
        Points in the object, in pixels of the plane.
    """
    mask = _piece(found.mask_yx, clicks_yx + 0.5 - [found.top, found.left])
    kept = np.where(found.mask_yx & ~mask, np.float16(OUTSIDE), found.scores_yx)
    return replace(found, scores_yx=kept)


def _near(low: float, high: float, length: int) -> slice:
    """Cells within half a side of a box; no further does what was drawn reach."""
    margin = (high - low) / 2 + 2
    return slice(max(0, int(low - margin)), max(1, min(length, int(high + margin) + 1)))


def _piece(mask: np.ndarray, clicks_yx: np.ndarray | None) -> np.ndarray:
    pieces, n = ndimage.label(mask, EIGHT)
    if n < 2:
        return mask
    if clicks_yx is not None and len(clicks_yx):
        y, x = (np.clip(axis.astype(int), 0, length - 1) for axis, length in zip(clicks_yx.T, mask.shape, strict=True))
        clicked = np.unique(pieces[y, x])
        if clicked.any():
            return np.isin(pieces, clicked[clicked > 0])
    kept: np.ndarray = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    return kept


def _only(scores_yx: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where((scores_yx > 0) & ~mask, np.float32(OUTSIDE), scores_yx)


def _box_iou(mask: np.ndarray, box_yx: tuple[float, float, float, float]) -> float:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0.0
    y0, x0, y1, x1 = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    top, left, bottom, right = box_yx
    both = max(0.0, min(y1, bottom) - max(y0, top)) * max(0.0, min(x1, right) - max(x0, left))
    return float(both / ((y1 - y0) * (x1 - x0) + (bottom - top) * (right - left) - both))

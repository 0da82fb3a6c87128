"""From low-resolution scores to the pixels of the image, there only where the object is."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

RIM = 1  # px
BAND = 128  # px; rows that are multiplied at once: a band needs few of the scores, all rows together need all of them


def upscale(
    scores_yx: Tensor, input_hw: tuple[int, int], original_hw: tuple[int, int], img_size: int
) -> tuple[Tensor, int, int]:
    """Interpolate scores to the image, in a crop that holds every positive pixel.

    The values are those of `Sam.postprocess_masks`: bilinear to the model's frame, cut to what the image fills of it,
    bilinear to the image. Both steps act on rows and on columns alone, so that the two together are one matrix for
    the rows and one for the columns, and of these only the part at the object is needed.

    Parameters
    ----------
    scores_yx : Tensor, shape (rows, columns), float32
        Logits of one mask, for the whole frame.
    input_hw : tuple of int
        Height and width in px of the part of the frame that the image fills.
    original_hw : tuple of int
        Height and width of the image in px.
    img_size : int
        Side of the frame in px.

    Returns
    -------
    crop_yx : Tensor, float32
        Logits of the image's pixels from (top, left) on; of shape (0, 0) if no score of the frame is positive.
    top, left : int
        Of the crop in the image, in px.
    """
    import torch

    positive: np.ndarray = (scores_yx > 0).cpu().numpy()
    if not positive.any():
        return scores_yx.new_empty((0, 0)), 0, 0
    places = []
    for axis in (0, 1):
        taps = _taps(positive.shape[axis], img_size, input_hw[axis], original_hw[axis])
        inside = np.flatnonzero(positive.any(axis=1 - axis))
        places.append((taps, *taps.reached(int(inside[0]), int(inside[-1]))))
    (rows, top, bottom), (columns, left, right) = places
    if top == bottom or left == right:  # positive where the image does not fill the frame
        return scores_yx.new_empty((0, 0)), 0, 0

    weights, sources = columns.matrix(left, right)
    wide = scores_yx[:, sources] @ torch.from_numpy(weights).to(scores_yx).T
    crop = scores_yx.new_empty((bottom - top, right - left))
    for start in range(top, bottom, BAND):
        stop = min(start + BAND, bottom)
        weights, sources = rows.matrix(start, stop)
        torch.mm(torch.from_numpy(weights).to(scores_yx), wide[sources], out=crop[start - top : stop - top])
    return crop, top, left


@dataclass(frozen=True, eq=False)
class _Taps:
    """Which neighbouring scores make a pixel, along one axis.

    Attributes
    ----------
    first, last : ndarray, shape (pixels,)
        Of the scores that a pixel is made from; both ascend.
    weights : ndarray, shape (pixels, most scores for a pixel), float32
    """

    first: np.ndarray
    last: np.ndarray
    weights: np.ndarray

    def reached(self, low: int, high: int) -> tuple[int, int]:
        """Pixels, from start to stop, that the scores from `low` to `high` reach, with a rim."""
        start = int(np.searchsorted(self.last, low, side="left"))
        stop = int(np.searchsorted(self.first, high, side="right"))
        return (max(start - RIM, 0), min(stop + RIM, len(self.first))) if start < stop else (0, 0)

    def matrix(self, start: int, stop: int) -> tuple[np.ndarray, slice]:
        """Weights of shape (pixels, scores), and the scores that they are for."""
        sources = slice(int(self.first[start]), int(self.last[stop - 1]) + 1)
        columns = self.first[start:stop, None] - sources.start + np.arange(self.weights.shape[1])
        matrix = np.zeros((stop - start, sources.stop - sources.start + self.weights.shape[1]), np.float32)
        np.put_along_axis(matrix, columns, self.weights[start:stop], axis=1)
        return matrix[:, : sources.stop - sources.start], sources


@functools.lru_cache(maxsize=32)
def _taps(scores: int, frame: int, filled: int, pixels: int) -> _Taps:
    """Join scores -> frame, cut to what is filled, with filled -> pixels."""
    below, above, share = _bilinear(scores, frame)
    near, far, part = _bilinear(filled, pixels)
    first, last = below[near], above[far]
    weights = np.zeros((pixels, int((last - first).max()) + 1))
    for source, weight in (
        (below[near], (1 - share[near]) * (1 - part)),
        (above[near], share[near] * (1 - part)),
        (below[far], (1 - share[far]) * part),
        (above[far], share[far] * part),
    ):
        weights[np.arange(pixels), source - first] += weight
    return _Taps(first, last, weights.astype(np.float32))


def _bilinear(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower neighbour, upper neighbour and share of the upper for each new sample, as torch's `interpolate` has them.

    Sample i stands at (i + 1/2) old / new - 1/2, not before the first (pixels are areas: `align_corners=False`).
    torch computes the place in float32, which is seen in the shares.
    """
    place = np.float32(old / new) * (np.arange(new, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    place = np.clip(place, 0, old - 1)
    below = place.astype(np.int64)
    return below, np.minimum(below + 1, old - 1), (place - below).astype(np.float64)

"""An image as it looks mirrored, for models that are asked about it more than once and whose answers are averaged.

What a network takes for an edge depends a little on which way round it sees it, and the mean of its answers is better
than any of them (test-time augmentation; Krizhevsky et al. 2012, doi 10.1145/3065386, section 4.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.windows import CELL

if TYPE_CHECKING:
    from torch import Tensor

    from napari_matseg.core.sam.decoder import PromptBatch

VIEWS = ((False, False), (False, True), (True, False), (True, True))
"""Whether top and bottom, and left and right, change places."""
ALIGN = 16
"""Pixels of the frame for a cell of the embedding."""

View = tuple[bool, bool]


def mirror_pixels(pixels: np.ndarray, view: View) -> np.ndarray:
    """Mirror what the model sees.

    Parameters
    ----------
    pixels : array, shape (height, width) or (height, width, 3)
    view : (bool, bool)
        One of `VIEWS`.

    Returns
    -------
    array
        With both sides made whole cells by repeating the last pixels, so that cells lie on cells in all views.
    """
    if not any(view):
        return pixels
    more = [(0, _whole(length) - length) for length in pixels.shape[:2]]
    padded = np.pad(pixels, [*more, *[(0, 0)] * (pixels.ndim - 2)], mode="edge")
    return np.ascontiguousarray(padded[:: -1 if view[0] else 1, :: -1 if view[1] else 1])


def mirror_prompts(batch: PromptBatch, input_hw: tuple[int, int], view: View) -> PromptBatch:
    """Move prompts to where `mirror_pixels` puts what they are about.

    Parameters
    ----------
    batch : PromptBatch
    input_hw : (int, int)
        Height and width in pixels of the part of the frame that the image fills.
    view : (bool, bool)
    """
    import torch

    from napari_matseg.core.sam.decoder import PromptBatch

    if not any(view):
        return batch
    height, width = (_whole(length) for length in input_hw)
    sign = torch.tensor([-1.0 if mirrored else 1.0 for mirrored in view[::-1]])
    # Positions are those of pixels' middles, of which the first is 0.
    sides = zip((width, height), view[::-1], strict=True)
    shift = torch.tensor([float(side - 1) if mirrored else 0.0 for side, mirrored in sides])
    points, boxes, masks = batch.points_xy, batch.boxes_xyxy, batch.masks
    if points is not None:
        points = points * sign.to(points) + shift.to(points)
    if boxes is not None:
        corners = boxes.reshape(-1, 2, 2) * sign.to(boxes) + shift.to(boxes)
        boxes = corners.sort(dim=1).values.reshape(-1, 4)
    if masks is not None:
        masks = mirror_scores(masks, input_hw, view)
    return PromptBatch(points, batch.polarity, boxes, masks)


def mirror_scores(scores: Tensor, input_hw: tuple[int, int], view: View) -> Tensor:
    """Mirror the part of some scores, shape (..., 4 h, 4 w), that the image fills; twice gives them back."""
    axes = [axis for axis, mirrored in zip((-2, -1), view, strict=True) if mirrored]
    if not axes:
        return scores
    rows, columns = (_whole(length) // CELL for length in input_hw)
    mirrored = scores.clone()
    mirrored[..., :rows, :columns] = scores[..., :rows, :columns].flip(axes)
    return mirrored


def _whole(length: int) -> int:
    return -(-length // ALIGN) * ALIGN

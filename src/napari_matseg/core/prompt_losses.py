"""What a promptable model learns from: masks, and boxes of the objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def mask_loss(scores: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy relative to the object's size, and soft Dice (Milletari et al. 2016, doi 10.1109/3DV.2016.79).

    Parameters
    ----------
    scores : Tensor, shape (objects, k, height, width)
    truth : Tensor, shape (objects, 1, height, width)
        Share of each cell that the object covers.

    Returns
    -------
    Tensor, shape (objects, k)
    """
    truth = truth.expand_as(scores)
    entropy = functional.binary_cross_entropy_with_logits(scores, truth, reduction="none").sum(dim=(2, 3))
    area = truth.sum(dim=(2, 3))
    probability = scores.sigmoid()
    overlap = 2 * (probability * truth).sum(dim=(2, 3)) + 1
    dice = 1 - overlap / (probability.sum(dim=(2, 3)) + area + 1)
    return entropy / (4 * area + 512) + dice


def extent_loss(extent: Tensor, truth: Tensor) -> Tensor:
    """Negative logarithm of the IoU of guessed and true boxes (Yu et al. 2016, doi 10.1145/2964284.2967274).

    Parameters
    ----------
    extent : Tensor, shape (batch, 4, height, width)
        Logarithms, as `CompactEncoder.embed_grey` gives them.
    truth : Tensor, shape (batch, 4, height, width)
        Distances; NaN where there is no object.

    Returns
    -------
    Tensor
        Mean over the places with an object.
    """
    known = truth.isfinite().all(dim=1)
    guess, truth = extent.exp().movedim(1, -1)[known], truth.movedim(1, -1)[known]
    both = torch.minimum(guess, truth)
    overlap, area, true_area = ((box[:, 0] + box[:, 2]) * (box[:, 1] + box[:, 3]) for box in (both, guess, truth))
    return -(overlap / (area + true_area - overlap)).log().sum() / max(len(truth), 1)


def mask_iou(scores: Tensor, truth: Tensor) -> Tensor:
    """IoU of thresholded masks with the truth.

    Parameters
    ----------
    scores : Tensor, shape (objects, k, height, width)
    truth : Tensor, shape (objects, 1, height, width)
        Share of each cell that the object covers.

    Returns
    -------
    Tensor, shape (objects, k)
    """
    found, there = scores.detach() > 0, truth > 0.5
    union = (found | there).sum(dim=(2, 3))
    return (found & there).sum(dim=(2, 3)) / union.clamp(min=1)

"""Losses of a segmentation, as the literature writes them.

All take scores (logits) of shape (batch, classes, height, width), a truth of class ids of shape
(batch, height, width), int64, in which `IGNORE` marks pixels that do not count, and give a scalar.
With p the softmax probabilities and y the one-hot truth, sums run over all pixels of the batch that count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from napari_matseg.settings import LossTerm

IGNORE = 255
SUREST = 1e-6  # least 1 - p of the focal loss; below 1 a power has no gradient at 0


def cross_entropy(scores: Tensor, truth: Tensor) -> Tensor:
    """Mean of -log p of the true class; 0 if no pixel counts."""
    from torch.nn import functional

    total = functional.cross_entropy(scores, truth, ignore_index=IGNORE, reduction="sum")
    return total / (truth != IGNORE).sum().clamp(min=1)


def focal(scores: Tensor, truth: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean of -(1 - p)^gamma log p of the true class (Lin et al. 2017, doi 10.1109/ICCV.2017.324)."""
    from torch.nn import functional

    surprise = functional.cross_entropy(scores, truth, ignore_index=IGNORE, reduction="none")
    doubt = (1 - (-surprise).exp()).clamp(min=SUREST)
    return (doubt**gamma * surprise).sum() / (truth != IGNORE).sum().clamp(min=1)


def jaccard(scores: Tensor, truth: Tensor, smoothing: float = 1.0) -> Tensor:
    """Soft Jaccard loss, mean over classes of 1 - (y.p + e) / (|y| + |p| - y.p + e).

    Some texts leave the intersection out of the denominator; this is the definition, which is 0 when p = y
    (Rahman and Wang 2016, doi 10.1007/978-3-319-50835-1_22).
    """
    overlap, truth_size, size = _overlaps(scores, truth)
    return (1 - (overlap + smoothing) / (truth_size + size - overlap + smoothing)).mean()


def dice(scores: Tensor, truth: Tensor, smoothing: float = 1.0) -> Tensor:
    """Soft Dice loss, mean over classes of 1 - (2 y.p + e) / (|y| + |p| + e).

    Milletari et al. 2016, doi 10.1109/3DV.2016.79, with plain instead of squared norms.
    """
    overlap, truth_size, size = _overlaps(scores, truth)
    return (1 - (2 * overlap + smoothing) / (truth_size + size + smoothing)).mean()


def weighted_sum(terms: Iterable[LossTerm], scores: Tensor, truth: Tensor) -> Tensor:
    """Sum of the terms, each times its weight."""
    from torch import stack

    return stack([term.weight * _term(term, scores, truth) for term in terms]).sum()


def _term(term: LossTerm, scores: Tensor, truth: Tensor) -> Tensor:
    match term.name:
        case "cross_entropy":
            return cross_entropy(scores, truth)
        case "focal":
            return focal(scores, truth, term.gamma)
        case "jaccard":
            return jaccard(scores, truth, term.smoothing)
        case "dice":
            return dice(scores, truth, term.smoothing)


def _overlaps(scores: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y.p, |y| and |p| for each class."""
    from torch.nn import functional

    counts = (truth != IGNORE).unsqueeze(1)
    probabilities = scores.softmax(dim=1) * counts
    truth = truth.where(truth != IGNORE, truth.new_zeros(()))
    one_hot = functional.one_hot(truth, scores.shape[1]).movedim(-1, 1) * counts
    over = (0, 2, 3)
    return (one_hot * probabilities).sum(over), one_hot.sum(over), probabilities.sum(over)

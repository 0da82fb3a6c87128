"""Losses of a segmentation, as the literature writes them.

All take scores (logits) of shape (batch, classes, height, width) and give a scalar. The truth is one of two:

- multi-class: class ids, shape (batch, height, width), int64; p is the softmax of the scores;
- multi-label: 1 where a class is and 0 where it is not, shape (batch, classes, height, width), any dtype, for classes
  that may overlap; p is the sigmoid of the scores.

Where the truth is `IGNORE`, nothing counts: such pixels change no value and have no gradient, whatever their scores,
and where no pixel counts the loss is 0. With y the truth as 0 and 1, sums run over all pixels of the batch that count.
Half precision is computed in float32; float64 stays.

`class_weights` says how much each class counts, None for all alike: the mean over pixels, or over classes, is a
weighted one, so that only the ratios of the weights matter.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from napari_matseg.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from napari_matseg.settings import LossTerm

    Weights = Sequence[float] | None

IGNORE = 255
SUREST = 1e-6  # least 1 - p, or 1 - T, that is raised to a power; below a power of 1 there is no gradient at 0
LEAST = 1e-12  # in place of a sum of weights that is 0
REACH = 3  # widths from a boundary to where it no longer matters


def cross_entropy(scores: Tensor, truth: Tensor, class_weights: Weights = None) -> Tensor:
    """Mean of -log p of what is true; with labels, of -y log p - (1 - y) log(1 - p)."""
    surprise, weights = _surprise(_seen(scores, truth), class_weights)
    return _mean(surprise, weights)


def focal(scores: Tensor, truth: Tensor, gamma: float = 2.0, class_weights: Weights = None) -> Tensor:
    """Mean of -(1 - p)^gamma log p of what is true (Lin et al. 2017, doi 10.1109/ICCV.2017.324)."""
    surprise, weights = _surprise(_seen(scores, truth), class_weights)
    doubt = (1 - (-surprise).exp()).clamp(min=SUREST)
    return _mean(doubt**gamma * surprise, weights)


def boundary(
    scores: Tensor,
    truth: Tensor,
    boundary_weight: float = 10.0,
    boundary_width_px: float = 5.0,
    class_weights: Weights = None,
) -> Tensor:
    """Cross-entropy in which pixels near a boundary count for more: 1 + w exp(-d^2 / 2s^2) times.

    d is the distance in pixels to the nearest pixel that has a neighbour of another class, w `boundary_weight` and
    s `boundary_width_px`; beyond 3 s they count once. Without a boundary this is the cross-entropy.

    After Ronneberger et al. 2015 (doi 10.1007/978-3-319-24574-4_28), who weigh the gaps between cells. Only two
    pixels that both count make a boundary, so where painting ends there is none. A loss of distance maps (Kervadec
    et al. 2019) would need to know how far the nearest boundary is everywhere, which sparse labels do not say, and
    is neither 0 nor smallest at a fixed value for what is right.
    """
    from torch import no_grad

    seen = _seen(scores, truth)
    surprise, weights = _surprise(seen, class_weights)
    with no_grad():
        near = _nearness(_at_boundary(seen.truth, seen.counts).to(weights), boundary_width_px)
    return _mean(surprise, weights * (1 + boundary_weight * near))


def jaccard(scores: Tensor, truth: Tensor, smoothing: float = 1.0, class_weights: Weights = None) -> Tensor:
    """Soft Jaccard loss, mean over classes of 1 - (y.p + e) / (|y| + |p| - y.p + e).

    Some texts leave the intersection out of the denominator; this is the definition, which is 0 when p = y
    (Rahman and Wang 2016, doi 10.1007/978-3-319-50835-1_22). A class that the truth has nowhere counts as well:
    it is 0 when p is, and 1/2 where |p| = e.
    """
    overlap, truth_size, size = _overlaps(_seen(scores, truth))
    return _over_classes(1 - (overlap + smoothing) / (truth_size + size - overlap + smoothing), class_weights)


def dice(scores: Tensor, truth: Tensor, smoothing: float = 1.0, class_weights: Weights = None) -> Tensor:
    """Soft Dice loss, mean over classes of 1 - (2 y.p + e) / (|y| + |p| + e).

    Milletari et al. 2016, doi 10.1109/3DV.2016.79, with plain instead of squared norms. Classes that the truth has
    nowhere count as in `jaccard`.
    """
    overlap, truth_size, size = _overlaps(_seen(scores, truth))
    return _over_classes(1 - (2 * overlap + smoothing) / (truth_size + size + smoothing), class_weights)


def tversky(
    scores: Tensor,
    truth: Tensor,
    alpha: float = 0.3,
    beta: float = 0.7,
    power: float = 1.0,
    smoothing: float = 1.0,
    class_weights: Weights = None,
) -> Tensor:
    """Tversky loss, mean over classes of (1 - T)^power with T = (y.p + e) / (y.p + alpha FP + beta FN + e).

    FP = |p| - y.p is what is found and not there, FN = |y| - y.p what is there and not found (Salehi et al. 2017,
    doi 10.1007/978-3-319-67389-9_44). alpha = beta = 1 is `jaccard`, alpha = beta = 1/2 is `dice` with 2 e. A power
    of 3/4 is the focal Tversky loss (Abraham and Khan 2019, doi 10.1109/ISBI.2019.8759329); below 1 - T = 1e-6 the
    power goes on as a line to 0, where it would have no gradient. Classes that the truth has nowhere count as in
    `jaccard`.
    """
    overlap, truth_size, size = _overlaps(_seen(scores, truth))
    costs = alpha * (size - overlap) + beta * (truth_size - overlap)
    losses = costs / (overlap + costs + smoothing)
    if power != 1:
        losses = (losses.clamp(min=SUREST) ** power).where(losses > SUREST, losses * SUREST ** (power - 1))
    return _over_classes(losses, class_weights)


def lovasz(scores: Tensor, truth: Tensor, class_weights: Weights = None) -> Tensor:
    """Lovász extension of 1 - IoU at the errors |y - p|, mean over the classes that the truth has.

    Lovász-softmax of Berman et al. 2018 (doi 10.1109/CVPR.2018.00464), over the pixels of the whole batch; with
    labels, the same of the sigmoid. Where every p is 0 or 1 it is 1 - IoU. Classes that the truth has nowhere do not
    count, as there 1 - IoU is 1 whatever was found.
    """
    from torch import where

    seen = _seen(scores, truth)
    probabilities, true = (values.movedim(1, 0).flatten(1) for values in (_probabilities(seen), _one_hot(seen)))
    counts = _counts_of_classes(seen).expand_as(seen.scores).movedim(1, 0).flatten(1)
    # What is ignored goes last, after all errors.
    errors, order = (true - probabilities).abs().where(counts, probabilities.new_tensor(-1)).sort(descending=True)
    is_true = true.bool().gather(1, order)
    # Each pixel taken for wrong, from the worst on, raises 1 - IoU by a step; counted in integers, which stay exact.
    total = is_true.sum(1, keepdim=True)
    left = total - is_true.cumsum(1) + is_true.long()
    union = (total + (~is_true).cumsum(1) - (~is_true).long()).clamp(min=1)
    steps = where(is_true, 1 / union.to(errors), left.to(errors) / union.to(errors) / (union + 1).to(errors))
    present = (total[:, 0] > 0).to(errors)
    weights = present if class_weights is None else present * present.new_tensor(class_weights)
    return _mean((errors.clamp(min=0) * steps).sum(1), weights)


def balanced_weights(pixels: Sequence[int]) -> tuple[float, ...]:
    """Weights of classes by which all have the same say, however many pixels they have: n / (C n_c).

    King and Zeng 2001, doi 10.1093/oxfordjournals.pan.a004868. Their mean over pixels is 1 if every class has some;
    a class without pixels weighs 1.

    Parameters
    ----------
    pixels : sequence of int
        Pixels of each class.

    Examples
    --------
    >>> balanced_weights([400, 200, 0])
    (0.5, 1.0, 1.0)
    """
    total = sum(pixels)
    return tuple(total / (len(pixels) * own) if own else 1.0 for own in pixels)


def weighted_sum(terms: Iterable[LossTerm], scores: Tensor, truth: Tensor, balance: Weights = None) -> Tensor:
    """Sum of the terms, each times its weight.

    Parameters
    ----------
    terms : iterable of LossTerm
    scores, truth : Tensor
    balance : sequence of float, optional
        What class weights of "balanced" are, as `balanced_weights` gives them for the training's pixels.

    Raises
    ------
    SettingsError
        If a term asks for them and they are not given.
    """
    from torch import stack

    return stack([term.weight * _term(term, scores, truth, balance) for term in terms]).sum()


def _term(term: LossTerm, scores: Tensor, truth: Tensor, balance: Weights) -> Tensor:
    weights: Weights
    if term.class_weights == "balanced":
        if balance is None:
            raise SettingsError(
                "class_weights: balanced needs the pixels of the training; give a number for each class."
            )
        weights = balance
    else:
        weights = term.class_weights
    match term.name:
        case "cross_entropy":
            return cross_entropy(scores, truth, weights)
        case "focal":
            return focal(scores, truth, term.gamma, weights)
        case "boundary":
            return boundary(scores, truth, term.boundary_weight, term.boundary_width_px, weights)
        case "jaccard":
            return jaccard(scores, truth, term.smoothing, weights)
        case "dice":
            return dice(scores, truth, term.smoothing, weights)
        case "tversky":
            return tversky(scores, truth, term.alpha, term.beta, term.power, term.smoothing, weights)
        case "lovasz":
            return lovasz(scores, truth, weights)


class _Seen(NamedTuple):
    """Scores and truth, both 0 where nothing counts, and where something does (in the truth's shape)."""

    scores: Tensor
    truth: Tensor
    counts: Tensor

    @property
    def labels(self) -> bool:
        """Whether classes may overlap."""
        return self.truth.ndim == self.scores.ndim


def _seen(scores: Tensor, truth: Tensor) -> _Seen:
    """Put aside what is ignored; not by a factor of 0, which would keep what is infinite or not a number."""
    counts = truth != IGNORE
    seen = _Seen(scores if scores.dtype.itemsize > 4 else scores.float(), truth * counts, counts)
    return seen._replace(scores=seen.scores.where(_counts_of_classes(seen), seen.scores.new_zeros(())))


def _counts_of_classes(seen: _Seen) -> Tensor:
    return seen.counts if seen.labels else seen.counts.unsqueeze(1)


def _surprise(seen: _Seen, class_weights: Weights) -> tuple[Tensor, Tensor]:
    """-log p of what is true, and the weight of each, in the truth's shape."""
    from torch.nn import functional

    weights = seen.counts.to(seen.scores)
    of_class = None if class_weights is None else seen.scores.new_tensor(class_weights)
    if seen.labels:
        if of_class is not None:
            weights = weights * of_class[:, None, None]
        true = seen.truth.to(seen.scores)
        return functional.binary_cross_entropy_with_logits(seen.scores, true, reduction="none"), weights
    if of_class is not None:
        weights = weights * of_class[seen.truth]
    return functional.cross_entropy(seen.scores, seen.truth, reduction="none"), weights


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=LEAST)


def _probabilities(seen: _Seen) -> Tensor:
    return seen.scores.sigmoid() if seen.labels else seen.scores.softmax(dim=1)


def _one_hot(seen: _Seen) -> Tensor:
    """Y in the shape and dtype of the scores, 0 where nothing counts."""
    if seen.labels:
        return seen.truth.to(seen.scores)
    source = seen.counts.unsqueeze(1).to(seen.scores)
    return seen.scores.new_zeros(seen.scores.shape).scatter(1, seen.truth.unsqueeze(1), source)


def _overlaps(seen: _Seen) -> tuple[Tensor, Tensor, Tensor]:
    """y.p, |y| and |p| for each class."""
    probabilities, true = _probabilities(seen) * _counts_of_classes(seen), _one_hot(seen)
    over = (0, 2, 3)
    return (true * probabilities).sum(over), true.sum(over), probabilities.sum(over)


def _over_classes(losses: Tensor, class_weights: Weights) -> Tensor:
    return losses.mean() if class_weights is None else _mean(losses, losses.new_tensor(class_weights))


def _at_boundary(truth: Tensor, counts: Tensor) -> Tensor:
    """Pixels with one of another class above, below or beside them; both must count."""
    found = counts.new_zeros(counts.shape)
    for axis in (-2, -1):
        size = truth.shape[axis] - 1
        before, after = (0, size), (1, size)
        differ = truth.narrow(axis, *before) != truth.narrow(axis, *after)
        differ &= counts.narrow(axis, *before) & counts.narrow(axis, *after)
        for side in (before, after):
            found.narrow(axis, *side).logical_or_(differ)
    return found


def _nearness(places: Tensor, width: float) -> Tensor:
    """exp(-d^2 / 2 width^2) for the distance d to the nearest place, of those that are 1 instead of 0.

    0 beyond the reach. It is a product of a factor for each axis, so its maximum is found along one and then the other.
    """
    near = places
    for axis in (-2, -1):
        size, reached = near.shape[axis], near.clone()
        for step in range(1, min(math.ceil(REACH * width), size - 1) + 1):
            factor = math.exp(-0.5 * (step / width) ** 2)
            for to, come_from in ((step, 0), (0, step)):
                part = reached.narrow(axis, to, size - step)
                part.copy_(part.maximum(factor * near.narrow(axis, come_from, size - step)))
        near = reached
    return near

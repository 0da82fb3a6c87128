from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from napari_matseg.core.losses import IGNORE, cross_entropy, dice, focal, jaccard, weighted_sum
from napari_matseg.settings import LossTerm

Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: list[Loss] = [cross_entropy, focal, jaccard, dice]
EVERY = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


def example() -> tuple[Tensor, Tensor]:
    """Three pixels: class 1 with probability 0.9, 0.4 and 0.2, and it is 1, 1 and 0."""
    one = torch.tensor([0.9, 0.4, 0.2], dtype=torch.float64)
    return torch.stack([1 - one, one]).log()[None, :, None, :], torch.tensor([[[1, 1, 0]]])


def sure_of(truth: Tensor, classes: int, by: float = 40.0) -> Tensor:
    """Scores that leave no doubt."""
    return by * functional.one_hot(truth, classes).movedim(-1, 1).double()


@pytest.mark.parametrize(
    ("loss", "by_hand"),
    [
        (cross_entropy, -(math.log(0.9) + math.log(0.4) + math.log(0.8)) / 3),
        (focal, -(0.01 * math.log(0.9) + 0.36 * math.log(0.4) + 0.04 * math.log(0.8)) / 3),
        (partial(focal, gamma=1.0), -(0.1 * math.log(0.9) + 0.6 * math.log(0.4) + 0.2 * math.log(0.8)) / 3),
        # Class 1: y.p = 1.3, |y| = 2, |p| = 1.5; class 0: y.p = 0.8, |y| = 1, |p| = 1.5.
        (jaccard, ((1 - 2.3 / 3.2) + (1 - 1.8 / 2.7)) / 2),
        (partial(jaccard, smoothing=0.5), ((1 - 1.8 / 2.7) + (1 - 1.3 / 2.2)) / 2),
        (dice, ((1 - 3.6 / 4.5) + (1 - 2.6 / 3.5)) / 2),
        (partial(dice, smoothing=0.5), ((1 - 3.1 / 4.0) + (1 - 2.1 / 3.0)) / 2),
    ],
)
def test_agrees_with_the_value_found_by_hand(loss: Loss, by_hand: float) -> None:
    assert loss(*example()).item() == pytest.approx(by_hand, abs=1e-12)


@EVERY
@given(st.integers(1, 4), st.integers(2, 4), st.integers(0, 99))
def test_is_0_when_all_is_right(loss: Loss, side: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, classes, (2, side, side), generator=generator)
    assert loss(sure_of(truth, classes), truth).item() == pytest.approx(0, abs=1e-9)


@EVERY
def test_is_largest_when_all_is_wrong(loss: Loss) -> None:
    truth = torch.zeros(1, 20, 20, dtype=torch.int64)
    truth[:, :10] = 1
    wrong = loss(sure_of(1 - truth, 2), truth).item()
    if loss in (jaccard, dice):
        assert 0.99 < wrong <= 1
    else:
        assert wrong == pytest.approx(40)


def test_jaccard_takes_the_intersection_out_of_the_sum() -> None:
    # Without "- y.p" in the denominator a perfect prediction would give 1/2, not 0.
    truth = torch.ones(1, 100, 100, dtype=torch.int64)
    truth[:, :50] = 0
    assert jaccard(sure_of(truth, 2), truth).item() == pytest.approx(0, abs=1e-9)
    half_right = truth.clone()
    half_right[:, 50:75] = 0  # class 1: 2500 of 5000; class 0: 5000 of 7500
    found = jaccard(sure_of(half_right, 2), truth, smoothing=1e-6).item()
    assert found == pytest.approx(1 - (2500 / 5000 + 5000 / 7500) / 2, abs=1e-6)


@pytest.mark.parametrize("loss", [jaccard, dice])
def test_smoothing_forgives_a_class_that_is_nowhere(loss: Callable[..., Tensor]) -> None:
    truth = torch.zeros(1, 4, 4, dtype=torch.int64)
    assert loss(sure_of(truth, 3), truth).item() == pytest.approx(0, abs=1e-9)
    small = truth.clone()
    small[0, 0, 0] = 1
    missed = [loss(sure_of(truth, 2), small, smoothing=epsilon).item() for epsilon in (0.1, 1.0, 10.0)]
    assert missed == sorted(missed, reverse=True)
    assert missed[0] > missed[-1]


@EVERY
def test_what_is_ignored_changes_nothing(loss: Loss) -> None:
    scores, truth = example()
    more = torch.cat([scores, torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]], dtype=torch.float64)], dim=-1)
    ignored = torch.cat([truth, torch.full((1, 1, 2), IGNORE)], dim=-1).requires_grad_(False)
    more.requires_grad_()
    value = loss(more, ignored)
    assert value.item() == pytest.approx(loss(scores, truth).item(), abs=1e-12)
    value.backward()
    assert more.grad is not None
    assert not more.grad[..., 3:].any()
    assert more.grad[..., :3].all()


@EVERY
def test_nothing_that_counts_is_no_loss(loss: Loss) -> None:
    scores = torch.randn(1, 2, 3, 3, requires_grad=True)
    value = loss(scores, torch.full((1, 3, 3), IGNORE))
    value.backward()
    assert value.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()


@EVERY
def test_gradient_is_that_of_the_value(loss: Loss) -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    truth = torch.randint(0, 3, (2, 2, 2), generator=generator)
    truth[0, 0, 0] = IGNORE
    assert torch.autograd.gradcheck(lambda values: loss(values, truth), scores)


@EVERY
def test_gradient_leads_to_the_truth(loss: Loss) -> None:
    truth = torch.tensor([[[0, 1], [2, 1]]])
    scores = torch.zeros(1, 3, 2, 2, requires_grad=True)
    for _ in range(200):
        (slope,) = torch.autograd.grad(loss(scores, truth), scores)
        scores = (scores - 5 * slope).detach().requires_grad_()
    assert torch.equal(scores.argmax(dim=1), truth)
    assert loss(scores, truth) < 0.1


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    assert focal(*example(), gamma=0).item() == pytest.approx(cross_entropy(*example()).item(), abs=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_focal_loss_of_what_is_certain_has_a_gradient(gamma: float) -> None:
    truth = torch.tensor([[[0, 1, IGNORE]]])
    scores = sure_of(torch.tensor([[[0, 1, 0]]]), 2, by=200.0).float().requires_grad_()
    focal(scores, truth, gamma).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_weighted_sum() -> None:
    terms = [
        LossTerm(name="cross_entropy", weight=0.5),
        LossTerm(name="dice", smoothing=3.0),
        LossTerm(name="jaccard", weight=2, smoothing=0.5),
        LossTerm(name="focal", weight=0.1, gamma=3.0),
    ]
    scores, truth = example()
    expected = (
        0.5 * cross_entropy(scores, truth)
        + dice(scores, truth, 3.0)
        + 2 * jaccard(scores, truth, 0.5)
        + 0.1 * focal(scores, truth, 3.0)
    )
    assert weighted_sum(terms, scores, truth).item() == pytest.approx(expected.item(), abs=1e-12)

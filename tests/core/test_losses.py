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

from napari_matseg.core.losses import (
    IGNORE,
    balanced_weights,
    boundary,
    cross_entropy,
    dice,
    focal,
    jaccard,
    lovasz,
    tversky,
    weighted_sum,
)
from napari_matseg.errors import SettingsError
from napari_matseg.settings import LossTerm

Loss = Callable[..., Tensor]
LOSSES: list[Loss] = [cross_entropy, focal, boundary, jaccard, dice, tversky, lovasz]
OVERLAP: list[Loss] = [jaccard, dice, tversky, lovasz]
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
        # Class 1: FP = 0.2, FN = 0.7; class 0: FP = 0.7, FN = 0.2.
        (tversky, (0.55 / 2.85 + 0.35 / 2.15) / 2),
        (partial(tversky, alpha=1, beta=0.5, smoothing=2), (0.55 / 3.85 + 0.8 / 3.6) / 2),
        (partial(tversky, power=0.75), ((0.55 / 2.85) ** 0.75 + (0.35 / 2.15) ** 0.75) / 2),
        # Errors from the worst: 0.6, 0.2, 0.1. Class 1 (true, false, true): IoU falls from 1 to 1/2, 1/3 and 0;
        # class 0 (false, true, false): from 1 to 1/2, 0 and 0.
        (lovasz, ((0.6 / 2 + 0.2 / 6 + 0.1 / 3) + (0.6 / 2 + 0.2 / 2)) / 2),
        # The second and the third pixel lie at the boundary, the first a pixel away.
        (
            partial(boundary, boundary_weight=3.0, boundary_width_px=1.0),
            -(math.log(0.9) * (1 + 3 * math.exp(-0.5)) + 4 * math.log(0.4) + 4 * math.log(0.8))
            / (9 + 3 * math.exp(-0.5)),
        ),
        # Class 1 counts three times.
        (partial(cross_entropy, class_weights=(1, 3)), -(3 * math.log(0.9) + 3 * math.log(0.4) + math.log(0.8)) / 7),
        (
            partial(focal, class_weights=(1, 3)),
            -(0.03 * math.log(0.9) + 1.08 * math.log(0.4) + 0.04 * math.log(0.8)) / 7,
        ),
        (partial(jaccard, class_weights=(1, 3)), (3 * (1 - 2.3 / 3.2) + (1 - 1.8 / 2.7)) / 4),
        (partial(dice, class_weights=(0, 2)), 1 - 3.6 / 4.5),
        (partial(tversky, class_weights=(1, 3)), (3 * 0.55 / 2.85 + 0.35 / 2.15) / 4),
        (partial(lovasz, class_weights=(1, 3)), (3 * (0.6 / 2 + 0.2 / 6 + 0.1 / 3) + (0.6 / 2 + 0.2 / 2)) / 4),
    ],
)
def test_agrees_with_the_value_found_by_hand(loss: Loss, by_hand: float) -> None:
    assert loss(*example()).item() == pytest.approx(by_hand, abs=1e-12)


def labels_example() -> tuple[Tensor, Tensor]:
    """Three pixels of one label: found with probability 0.9, 0.4 and 0.2, and there, there and not there."""
    found = torch.tensor([0.9, 0.4, 0.2], dtype=torch.float64)
    return found.logit()[None, None, None], torch.tensor([1, 1, 0], dtype=torch.uint8)[None, None, None]


@pytest.mark.parametrize(
    ("loss", "by_hand"),
    [
        (cross_entropy, -(math.log(0.9) + math.log(0.4) + math.log(0.8)) / 3),
        (partial(cross_entropy, class_weights=(5,)), -(math.log(0.9) + math.log(0.4) + math.log(0.8)) / 3),
        (focal, -(0.01 * math.log(0.9) + 0.36 * math.log(0.4) + 0.04 * math.log(0.8)) / 3),
        (jaccard, 1 - 2.3 / 3.2),
        (dice, 1 - 3.6 / 4.5),
        (tversky, 0.55 / 2.85),
        (lovasz, 0.6 / 2 + 0.2 / 6 + 0.1 / 3),
        (
            partial(boundary, boundary_weight=3.0, boundary_width_px=1.0),
            -(math.log(0.9) * (1 + 3 * math.exp(-0.5)) + 4 * math.log(0.4) + 4 * math.log(0.8))
            / (9 + 3 * math.exp(-0.5)),
        ),
    ],
)
def test_labels_agree_with_the_value_found_by_hand(loss: Loss, by_hand: float) -> None:
    assert loss(*labels_example()).item() == pytest.approx(by_hand, abs=1e-12)


@EVERY
def test_labels_may_overlap_and_be_ignored_one_by_one(loss: Loss) -> None:
    generator = torch.Generator().manual_seed(3)
    truth = torch.randint(0, 2, (2, 3, 5, 6), generator=generator)
    truth[:, :, 0, 0] = 1
    assert loss(60 * (2 * truth.double() - 1), truth).item() == pytest.approx(0, abs=1e-9)
    truth[:, 1] = IGNORE
    truth[1, 2] = IGNORE
    scores = torch.randn(2, 3, 5, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: loss(values, truth), scores)
    (slope,) = torch.autograd.grad(loss(scores, truth), scores)
    assert not slope[truth == IGNORE].any()
    assert slope[truth != IGNORE].count_nonzero() > 20
    assert loss(scores, torch.full_like(truth, IGNORE)).item() == 0


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
    if loss in OVERLAP:
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


@pytest.mark.parametrize("loss", [jaccard, dice, tversky])
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


def random_case(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Scores of three classes, and a truth with holes."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, 3, 9, 11, dtype=torch.float64, generator=generator).to(dtype)
    truth = torch.randint(0, 3, (2, 9, 11), generator=generator)
    truth[torch.rand(truth.shape, generator=generator) < 0.3] = IGNORE
    return scores, truth


@EVERY
@given(st.integers(0, 99), st.permutations(range(3)))
def test_the_order_of_the_classes_does_not_matter(loss: Loss, seed: int, order: list[int]) -> None:
    scores, truth = random_case(seed)
    weights = torch.tensor([0.5, 1.0, 4.0])
    renamed = truth.clone()
    for new, old in enumerate(order):
        renamed[truth == old] = new
    for given_weights, new_weights in ((None, None), (weights.tolist(), weights[order].tolist())):
        found = loss(scores[:, order], renamed, class_weights=new_weights).item()
        assert found == pytest.approx(loss(scores, truth, class_weights=given_weights).item(), abs=1e-9)


@EVERY
@given(st.integers(0, 99), st.floats(1e-3, 1e3))
def test_only_ratios_of_class_weights_matter(loss: Loss, seed: int, factor: float) -> None:
    scores, truth = random_case(seed)
    plain = loss(scores, truth).item()
    assert loss(scores, truth, class_weights=[factor] * 3).item() == pytest.approx(plain, abs=1e-9)


@EVERY
@given(st.integers(0, 99))
def test_mirroring_and_a_batch_in_another_order_change_nothing(loss: Loss, seed: int) -> None:
    scores, truth = random_case(seed)
    plain = loss(scores, truth).item()
    assert loss(scores.flip(0), truth.flip(0)).item() == pytest.approx(plain, abs=1e-9)
    assert loss(scores.flip(-1), truth.flip(-1)).item() == pytest.approx(plain, abs=1e-9)
    assert loss(scores.transpose(-1, -2), truth.transpose(-1, -2)).item() == pytest.approx(plain, abs=1e-9)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(loss: Loss, dtype: torch.dtype) -> None:
    truth = torch.zeros(1, 300, 300, dtype=torch.int64)  # more pixels than float16 can count
    truth[:, :, 150:] = 1
    scores = torch.randn(1, 2, 300, 300, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    value = loss(scores, truth)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(scores.detach().float(), truth).item(), rel=1e-6)
    value.backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(scores.detach(), truth).item() == pytest.approx(value.item(), rel=1e-6)


@EVERY
@pytest.mark.parametrize("labels", [False, True])
def test_scores_without_bounds_at_ignored_pixels_do_no_harm(loss: Loss, labels: bool) -> None:
    scores, truth = random_case(5)
    if labels:
        truth = truth.unsqueeze(1).expand_as(scores).clamp(max=1).where(truth.unsqueeze(1) != IGNORE, IGNORE)
    ignored = (truth == IGNORE) if labels else (truth == IGNORE).unsqueeze(1).expand_as(scores)
    for bad in (math.inf, -math.inf, math.nan):
        spoilt = scores.masked_fill(ignored, bad).requires_grad_()
        value = loss(spoilt, truth)
        assert value.item() == loss(scores, truth).item()
        (slope,) = torch.autograd.grad(value, spoilt)
        assert slope.isfinite().all()


@EVERY
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_tiny_crops(loss: Loss, shape: tuple[int, int]) -> None:
    scores = torch.randn(1, 2, *shape, requires_grad=True)
    truth = torch.arange(shape[0] * shape[1]).reshape(1, *shape) % 2
    value = loss(scores, truth)
    value.backward()
    assert value > 0
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("loss", [cross_entropy, focal, boundary, lovasz])
def test_where_only_classes_of_no_weight_are_there_is_no_loss(loss: Loss) -> None:
    truth = torch.zeros(1, 3, 3, dtype=torch.int64)
    assert loss(torch.randn(1, 2, 3, 3), truth, class_weights=(0, 1)).item() == 0


def test_tversky_has_jaccard_and_dice_as_limits() -> None:
    scores, truth = random_case(0)
    assert tversky(scores, truth, 1, 1).item() == pytest.approx(jaccard(scores, truth).item(), abs=1e-12)
    assert tversky(scores, truth, 0.5, 0.5).item() == pytest.approx(dice(scores, truth, 2.0).item(), abs=1e-12)


def test_tversky_charges_more_for_what_was_missed() -> None:
    truth = torch.zeros(1, 10, 10, dtype=torch.int64)
    truth[:, :, :5] = 1
    fewer, more = truth.clone(), truth.clone()
    fewer[:, :2], more[:, :2] = 0, 1
    only = {"class_weights": (0, 1), "alpha": 0.2, "beta": 0.8}
    assert tversky(sure_of(fewer, 2), truth, **only) > tversky(sure_of(more, 2), truth, **only) * 1.5


@pytest.mark.parametrize("power", [0.5, 0.75, 2.0])
def test_a_power_of_what_is_certain_has_a_gradient(power: float) -> None:
    truth = torch.tensor([[[0, 1, IGNORE]]])
    scores = sure_of(torch.tensor([[[0, 1, 0]]]), 2, by=200.0).float().requires_grad_()
    value = tversky(scores, truth, power=power)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


@given(st.integers(0, 99))
def test_lovasz_of_what_is_certain_is_the_lost_iou(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth, found = torch.randint(0, 3, (2, 2, 6, 7), generator=generator)
    truth[0, :2] = IGNORE
    counts = truth != IGNORE
    lost = []
    for index in range(3):
        is_true, is_found = (truth == index) & counts, (found == index) & counts
        if is_true.any():
            lost.append(1 - ((is_true & is_found).sum() / (is_true | is_found).sum()).item())
    value = lovasz(sure_of(found, 3, by=200.0), truth).item()
    assert value == pytest.approx(sum(lost) / len(lost), abs=1e-6)


def test_lovasz_leaves_out_classes_that_are_nowhere() -> None:
    scores, truth = random_case(1)
    truth[truth == 2] = 1
    only = lovasz(scores, truth, class_weights=(1, 1, 0)).item()
    assert lovasz(scores, truth).item() == pytest.approx(only, abs=1e-12)


def test_lovasz_steps_are_exact_where_pixels_are_many() -> None:
    # The steps of a class sum to 1, which differences of IoU near 1 would not do in float32.
    truth = torch.zeros(1, 1000, 1000, dtype=torch.int64)
    truth[:, :500] = 1
    assert lovasz(torch.zeros(1, 2, 1000, 1000), truth).item() == pytest.approx(0.5, abs=1e-6)


def test_boundary_without_a_boundary_is_cross_entropy() -> None:
    scores, truth = random_case(2)
    plain = cross_entropy(scores, truth).item()
    assert boundary(scores, truth, boundary_weight=0).item() == pytest.approx(plain, abs=1e-12)
    one = truth.where(truth == IGNORE, 1)  # where painting ends there is no boundary
    assert boundary(scores, one).item() == pytest.approx(cross_entropy(scores, one).item(), abs=1e-12)
    alone = truth.clone()
    alone[:, ::2], alone[:, :, ::2] = IGNORE, IGNORE  # no two pixels that count touch
    assert boundary(scores, alone).item() == pytest.approx(cross_entropy(scores, alone).item(), abs=1e-12)


@pytest.mark.parametrize("width", [0.5, 1.7, 4.0])
def test_boundary_weighs_by_the_euclidean_distance(width: float) -> None:
    from scipy import ndimage

    truth = torch.zeros(1, 40, 50, dtype=torch.int64)
    truth[:, 12:20, 15:31] = 1
    at = torch.zeros(40, 50, dtype=torch.bool)
    at[11:21, 15:31], at[12:20, 14:32], at[13:19, 16:30] = True, True, False
    distance = torch.from_numpy(ndimage.distance_transform_edt(~at.numpy()))
    expected = (distance <= 3 * width) * torch.exp(-(distance**2) / (2 * width**2))
    # The slope of -log p at equal scores is the weight of the pixel, by half.
    scores = torch.zeros(1, 2, 40, 50, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(boundary(scores, truth, 4.0, width), scores)
    weights = slope[0, 0].abs() / slope[0, 0].abs().min()
    beyond = (distance > 3 * width) & (distance <= 3 * width + 1)  # in the corners of the square that is searched
    torch.testing.assert_close(weights[~beyond], (1 + 4 * expected)[~beyond], atol=0.05, rtol=0)
    assert weights[beyond].max() < 1 + 4 * math.exp(-4.5) + 1e-6


def test_balanced_weights_give_each_class_the_same_say() -> None:
    pixels = [7000, 2000, 1000]
    weights = balanced_weights(pixels)
    shares = [weight * own for weight, own in zip(weights, pixels, strict=True)]
    assert shares == pytest.approx([10000 / 3] * 3)
    assert balanced_weights([5, 5]) == (1, 1)
    assert balanced_weights([0, 0]) == (1, 1)


def test_balanced_terms_take_the_weights_of_the_training() -> None:
    scores, truth = random_case(4)
    term = LossTerm(name="cross_entropy", class_weights="balanced")
    expected = cross_entropy(scores, truth, (0.2, 1, 5)).item()
    assert weighted_sum([term], scores, truth, (0.2, 1, 5)).item() == pytest.approx(expected, abs=1e-12)
    with pytest.raises(SettingsError, match=r"^class_weights: balanced needs .*; give a number for each class\.$"):
        weighted_sum([term], scores, truth)


def test_weighted_sum_of_those_with_settings_of_their_own() -> None:
    scores, truth = random_case(6)
    terms = [
        LossTerm(name="tversky", alpha=0.4, beta=0.6, power=0.75, smoothing=2),
        LossTerm(name="boundary", boundary_weight=3, boundary_width_px=2, weight=0.5, class_weights=(1, 2, 3)),
        LossTerm(name="lovasz", weight=2),
    ]
    expected = (
        tversky(scores, truth, 0.4, 0.6, 0.75, 2.0)
        + 0.5 * boundary(scores, truth, 3.0, 2.0, (1, 2, 3))
        + 2 * lovasz(scores, truth)
    )
    assert weighted_sum(terms, scores, truth).item() == pytest.approx(expected.item(), abs=1e-12)

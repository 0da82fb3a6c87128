from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from napari_matseg.core.agreement.instances import THRESHOLDS, InstanceCounts, InstanceScores, count_instances
from napari_matseg.core.agreement.pairs import count_pairs
from napari_matseg.errors import InputError

images = st.tuples(*[hnp.arrays(np.uint8, (5, 6), elements=st.integers(0, 5))] * 2)


def score(prediction: object, truth: object, thresholds: tuple[float, ...] = THRESHOLDS) -> InstanceScores:
    return InstanceScores(count_instances(count_pairs(np.asarray(prediction), np.asarray(truth)), thresholds))


def densely(prediction: np.ndarray, truth: np.ndarray, threshold: float) -> dict[str, float]:
    """Compute the same from a table of all objects against all others."""
    masks = [[labels == i for i in np.unique(labels) if i > 0] for labels in (truth, prediction)]
    iou = np.array([[(t & p).sum() / (t | p).sum() for p in masks[1]] for t in masks[0]])
    iou = iou.reshape(len(masks[0]), len(masks[1]))
    able = iou >= threshold
    row, column = linear_sum_assignment(able + iou / 100, maximize=True)
    matched = iou[row, column][able[row, column]]
    tp, n_truth, n_predicted = len(matched), *map(len, masks)
    fp, fn = n_predicted - tp, n_truth - tp

    def ratio(part: float, whole: float) -> float:
        return part / whole if whole else float("nan")

    return {
        "matched": tp,
        "missed": fn,
        "false": fp,
        "ap": ratio(tp, tp + fp + fn),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "panoptic_quality": ratio(matched.sum(), tp + fp / 2 + fn / 2),
        "mean_matched_iou": ratio(matched.sum(), tp),
        "mean_true_iou": ratio(matched.sum(), n_truth),
        "best": ratio(sum(iou.max(axis=1, initial=0)), n_truth),
    }


def check_same(counts: InstanceCounts, other: InstanceCounts) -> None:
    for name, value in vars(counts).items():
        np.testing.assert_allclose(value, getattr(other, name), rtol=1e-12, err_msg=name)


def test_thresholds_are_those_of_the_data_science_bowl() -> None:
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@given(images, st.sampled_from([0.1, 0.25, 0.5, 0.55, 0.75]))
@settings(max_examples=60, deadline=None)
def test_agrees_with_a_dense_table(pair: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    scores = score(*pair, (threshold,))
    expected = densely(*pair, threshold)
    assert scores.mean_best_iou == pytest.approx(expected.pop("best"), nan_ok=True)
    for name, value in expected.items():
        of = scores.counts if name == "matched" else scores
        np.testing.assert_allclose(getattr(of, name), [value], atol=1e-12, err_msg=name)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_an_iou_of_just_the_threshold_is_enough(threshold: float) -> None:
    truth = np.ones((1, 100), int)
    least = round(100 * threshold)
    assert score(np.arange(100)[None] < least, truth, (threshold,)).counts.matched.tolist() == [1]
    assert score(np.arange(100)[None] < least - 1, truth, (threshold,)).counts.matched.tolist() == [0]


def test_in_closed_form() -> None:
    truth = np.zeros((30, 40), int)
    truth[:10, :10], truth[:10, 20:30], truth[20:, :20], truth[20:, 30:] = 1, 2, 3, 4
    prediction = np.zeros((30, 40), int)
    prediction[:10, :8] = 7  # IoU 0.8 with 1
    prediction[20:, :10], prediction[20:, 10:20] = 8, 9  # halves of 3; 2 and 4 are missed
    prediction[12:16, 30:] = 10  # in nothing
    scores = score(prediction, truth, (0.5, 0.8, 0.9))
    counts = scores.counts
    assert (counts.n_truth, counts.n_predicted, counts.n_images, counts.n_split, counts.n_merged) == (4, 4, 1, 1, 0)
    assert counts.matched.tolist() == [2, 1, 0]
    assert (scores.missed.tolist(), scores.false.tolist()) == ([2, 3, 4], [2, 3, 4])
    np.testing.assert_allclose(scores.ap, [2 / 6, 1 / 7, 0])
    assert scores.mean_ap == pytest.approx((2 / 6 + 1 / 7) / 3)
    np.testing.assert_allclose(scores.f1, [0.5, 0.25, 0])
    np.testing.assert_allclose(scores.mean_matched_iou, [0.65, 0.8, np.nan])
    np.testing.assert_allclose(scores.panoptic_quality, [1.3 / 4, 0.8 / 4, 0])
    np.testing.assert_allclose(scores.mean_true_iou, [1.3 / 4, 0.8 / 4, 0])
    assert scores.mean_best_iou == pytest.approx(1.3 / 4)
    merged = score(truth, prediction)
    assert (merged.counts.n_split, merged.counts.n_merged) == (0, 1)


@given(images, images)
@settings(max_examples=30, deadline=None)
def test_images_add_up(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> None:
    separate = score(*one).counts + score(*other).counts
    assert separate.n_images == 2
    beside = [np.hstack([a, np.where(b > 0, b + 10, 0)]) for a, b in zip(one, other, strict=True)]
    together = score(*beside).counts + InstanceCounts.zero()  # one image of both
    check_same(together + InstanceCounts(**{**vars(InstanceCounts.zero()), "n_images": 1}), separate)


def test_perfect_and_nothing() -> None:
    labels = np.array([[1, 1, 0], [0, 2**32 - 1, 7]], dtype=np.uint32)
    perfect = score(labels, labels)
    for name in ("ap", "f1", "precision", "recall", "panoptic_quality", "mean_matched_iou", "mean_true_iou"):
        assert (getattr(perfect, name) == 1).all()
    assert perfect.mean_ap == perfect.mean_best_iou == 1

    nothing = score(np.zeros((2, 3), int), np.zeros((2, 3), int))
    assert np.isnan(nothing.ap).all()
    assert np.isnan([nothing.mean_ap, nothing.mean_best_iou]).all()
    only_false = score(labels, np.zeros((2, 3), int))
    assert (only_false.ap == 0).all()
    assert (only_false.precision == 0).all()
    assert np.isnan(only_false.recall).all()
    assert only_false.false.tolist() == [3] * len(THRESHOLDS)


def test_tables_are_plain() -> None:
    scores = score([[1, 1, 2]], [[1, 1, 1]], (0.5, 0.9))
    assert scores.rows() == [
        {
            "threshold": 0.5,
            "ap": 0.5,
            "f1": pytest.approx(2 / 3),
            "precision": 0.5,
            "recall": 1.0,
            "panoptic_quality": pytest.approx(4 / 9),
            "mean_matched_iou": pytest.approx(2 / 3),
            "mean_true_iou": pytest.approx(2 / 3),
            "matched": 1,
            "missed": 0,
            "false": 1,
        },
        {
            "threshold": 0.9,
            "ap": 0.0,
            "f1": 0.0,
            "precision": 0.0,
            "recall": 0.0,
            "panoptic_quality": 0.0,
            "mean_matched_iou": None,
            "mean_true_iou": 0.0,
            "matched": 0,
            "missed": 1,
            "false": 2,
        },
    ]
    table = scores.to_dict()
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    assert {name: table[name] for name in ("images", "truth", "predicted", "splits", "merges", "mean_ap")} == {
        "images": 1,
        "truth": 1,
        "predicted": 2,
        "splits": 1,
        "merges": 0,
        "mean_ap": 0.25,
    }
    assert table["thresholds"] == scores.rows()


def test_says_what_is_wrong() -> None:
    pairs = count_pairs(np.ones((2, 2), int), np.ones((2, 2), int))
    with pytest.raises(InputError, match=r"counts at IoU 0\.5 and at 0\.5, 0\.75 cannot be added"):
        count_instances(pairs, [0.5]) + count_instances(pairs, [0.5, 0.75])
    with pytest.raises(InputError, match="at one IoU or more, not at none"):
        count_instances(pairs, [])
    with pytest.raises(InputError, match="an IoU of 50 cannot be asked"):
        count_instances(pairs, [50])

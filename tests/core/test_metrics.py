from __future__ import annotations

import json
import math
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_matseg.core import metrics
from napari_matseg.core.metrics import Counts, Scores, count, list_values
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

N_CLASSES = 4
IGNORE = 255
shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=8)


def labels(values: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """Prediction and truth of one shape; the values are those of the truth."""
    return shapes.flatmap(
        lambda shape: st.tuples(
            hnp.arrays(np.uint8, shape, elements=st.integers(0, N_CLASSES - 1), fill=st.nothing()),
            hnp.arrays(np.uint8, shape, elements=values, fill=st.nothing()),
        )
    )


pairs = labels(st.integers(0, N_CLASSES - 1))
pairs_with_ignored = labels(st.sampled_from([*range(N_CLASSES), IGNORE]))


def score(prediction: object, truth: object, n_classes: int = 2, ignore: int | None = None) -> Scores:
    return Scores(count(np.asarray(prediction), np.asarray(truth), n_classes, ignore=ignore))


@settings(max_examples=25)
@given(pairs)
def test_agrees_with_scikit_learn(pair: tuple[np.ndarray, np.ndarray]) -> None:
    from sklearn import metrics as sk

    prediction, truth = pair
    scores = score(prediction, truth, N_CLASSES)
    flat = truth.ravel(), prediction.ravel()
    every = {"labels": list(range(N_CLASSES)), "average": None}
    occurs = np.isin(np.arange(N_CLASSES), flat)

    np.testing.assert_array_equal(scores.counts.confusion, sk.confusion_matrix(*flat, labels=every["labels"]))
    iou = sk.jaccard_score(*flat, **every, zero_division=0)
    np.testing.assert_allclose(scores.iou, np.where(occurs, iou, np.nan), rtol=0, atol=1e-12)
    for ours, theirs in [
        (scores.dice, sk.f1_score),
        (scores.precision, sk.precision_score),
        (scores.recall, sk.recall_score),
    ]:
        np.testing.assert_allclose(ours, theirs(*flat, **every, zero_division=np.nan), rtol=0, atol=1e-12)
    overall = {
        scores.mean_iou: iou[occurs].mean(),
        scores.mean_dice: sk.f1_score(*flat, labels=np.flatnonzero(occurs), average="macro"),
        scores.pooled_iou: sk.jaccard_score(*flat, average="micro"),
        scores.accuracy: sk.accuracy_score(*flat),
        scores.frequency_weighted_iou: sk.jaccard_score(*flat, average="weighted", zero_division=0),
    }
    for ours, theirs in overall.items():
        assert ours == pytest.approx(theirs, abs=1e-12)
    one_or_not = [sk.accuracy_score(flat[0] == i, flat[1] == i) for i in range(N_CLASSES)]
    np.testing.assert_allclose(scores.class_accuracy, one_or_not, rtol=0, atol=1e-12)


@pytest.fixture
def float64_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make torchmetrics divide in float64: in float32 alone it is off by 1e-8."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("float64_torch")
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs_with_ignored)
def test_agrees_with_torchmetrics(pair: tuple[np.ndarray, np.ndarray]) -> None:
    import torch
    from torchmetrics.functional import classification as tm

    prediction, truth = pair
    if (truth == IGNORE).all():
        return
    scores = score(prediction, truth, N_CLASSES, ignore=IGNORE)
    same = {
        "preds": torch.tensor(prediction.ravel(), dtype=torch.int64),
        "target": torch.tensor(truth.ravel(), dtype=torch.int64),
        "num_classes": N_CLASSES,
        "ignore_index": IGNORE,
        "validate_args": False,
    }
    for ours, theirs in [
        (scores.iou, tm.multiclass_jaccard_index(**same, average="none")),
        (scores.dice, tm.multiclass_f1_score(**same, average="none")),
        (scores.precision, tm.multiclass_precision(**same, average="none")),
        (scores.recall, tm.multiclass_recall(**same, average="none")),
    ]:
        np.testing.assert_allclose(np.nan_to_num(ours), theirs.numpy(), rtol=0, atol=1e-12)
    for overall, theirs in [
        (scores.mean_iou, tm.multiclass_jaccard_index(**same, average="macro")),
        (scores.pooled_iou, tm.multiclass_jaccard_index(**same, average="micro")),
        (scores.frequency_weighted_iou, tm.multiclass_jaccard_index(**same, average="weighted")),
        (scores.accuracy, tm.multiclass_accuracy(**same, average="micro")),
    ]:
        assert overall == pytest.approx(float(theirs), abs=1e-12)
    np.testing.assert_array_equal(scores.counts.confusion, tm.multiclass_confusion_matrix(**same).numpy())


def test_pooled_iou_is_the_micro_average_of_segmentation_models() -> None:
    import torch
    from segmentation_models_pytorch.metrics import get_stats, iou_score

    prediction, truth = np.random.default_rng(0).integers(0, 3, (2, 1, 16, 16))
    one_hot = [torch.tensor(np.moveaxis(np.eye(3, dtype=np.int64)[a], -1, 1)) for a in (prediction, truth)]
    theirs = iou_score(*get_stats(*one_hot, mode="multilabel"), reduction="micro")
    assert score(prediction, truth, 3).pooled_iou == pytest.approx(float(theirs), abs=1e-7)


@given(pairs_with_ignored, st.data())
def test_counts_of_parts_add_up_to_those_of_the_whole(pair: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, pair[0].shape[0]))
    mask = data.draw(hnp.arrays(np.bool_, pair[0].shape))
    parts = [tuple(a[rows] for a in (*pair, mask)) for rows in (slice(cut), slice(cut, None))]
    summed = sum((count(p, t, N_CLASSES, IGNORE, m) for p, t, m in parts), Counts.zero(N_CLASSES))
    np.testing.assert_array_equal(summed.confusion, count(*pair, N_CLASSES, IGNORE, mask).confusion)


@given(pairs_with_ignored, st.data())
def test_mask_and_ignore_are_the_same_as_picking_out_pixels(
    pair: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    mask = data.draw(hnp.arrays(np.bool_, pair[0].shape))
    kept = mask & (pair[1] != IGNORE)
    np.testing.assert_array_equal(
        count(*pair, N_CLASSES, IGNORE, mask).confusion, count(pair[0][kept], pair[1][kept], N_CLASSES).confusion
    )


@given(pairs, st.sampled_from([1, 3, 7]))
def test_chunks_do_not_show(pair: tuple[np.ndarray, np.ndarray], chunk: int) -> None:
    whole = count(*pair, N_CLASSES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "CHUNK", chunk)
        np.testing.assert_array_equal(count(*pair, N_CLASSES).confusion, whole.confusion)


def test_rows_are_the_truth_and_columns_the_prediction() -> None:
    assert count([1, 1, 0], [0, 1, 1], 2).confusion.tolist() == [[0, 1], [1, 1]]
    assert count([1, 1, 0], [0, 1, 1], 2).confusion.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.uint16, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("other", [np.bool_, np.uint8, np.int64])
def test_any_integer_type_will_do(dtype: type, other: type) -> None:
    prediction, truth = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    assert count(prediction.astype(dtype), truth.astype(other), 2).confusion.tolist() == [[2, 1], [0, 1]]


@pytest.mark.parametrize("n_classes", [1, 2, 15, 16, 17, 255, 256, 257, 300])
def test_no_number_of_classes_overflows(n_classes: int) -> None:
    every = np.arange(n_classes, dtype=np.uint16)
    np.testing.assert_array_equal(count(every, every, n_classes).confusion, np.eye(n_classes))
    np.testing.assert_array_equal(count(every, every[::-1], n_classes).confusion, np.eye(n_classes)[::-1])


def test_arrays_that_do_not_lie_in_order() -> None:
    prediction, truth = np.random.default_rng(0).integers(0, 3, (2, 40, 50), dtype=np.uint8)
    expected = count(prediction[::2, ::3].copy(), truth[::2, ::3].copy(), 3).confusion
    np.testing.assert_array_equal(
        count(prediction[::2, ::3], np.asfortranarray(truth)[::2, ::3], 3).confusion, expected
    )


def test_one_pixel() -> None:
    scores = score([[1]], [[1]])
    assert scores.counts.confusion.tolist() == [[0, 0], [0, 1]]
    np.testing.assert_array_equal(scores.iou, [np.nan, 1])
    assert scores.mean_iou == scores.pooled_iou == scores.accuracy == scores.frequency_weighted_iou == 1
    assert count(np.uint8(1), np.uint8(0), 2).confusion.tolist() == [[0, 1], [0, 0]]


def test_memory_map_is_not_copied(tmp_path: Path) -> None:
    shape = (4096, 4096)
    maps = [np.memmap(tmp_path / name, dtype=np.uint8, mode="w+", shape=shape) for name in ("prediction", "truth")]
    maps[1][:1000] = 1
    tracemalloc.start()
    counts = count(*maps, 2, ignore=7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts.confusion.tolist() == [[3096 * 4096, 0], [1000 * 4096, 0]]
    assert peak < 4e6


def test_classes_that_occur_nowhere_are_nan_and_left_out_of_the_means() -> None:
    scores = score([0, 0, 1, 1], [0, 0, 0, 1], 4)
    np.testing.assert_array_equal(np.isnan(scores.iou), [False, False, True, True])
    assert scores.mean_iou == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores.mean_dice == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_class_that_is_only_predicted_or_only_there_counts_as_zero() -> None:
    scores = score([0, 1, 0], [0, 0, 2], 3)
    assert scores.iou.tolist() == [1 / 3, 0, 0]
    assert scores.mean_iou == pytest.approx(1 / 9)
    np.testing.assert_array_equal(scores.precision, [0.5, 0, np.nan])
    np.testing.assert_array_equal(scores.recall, [0.5, np.nan, 0])


def test_nothing_at_all_is_nan() -> None:
    for counts in (
        Counts.zero(2),
        count(np.zeros((0, 5), dtype=np.uint8), np.zeros((0, 5), dtype=np.uint8), 2),
        count([0, 1], [9, 9], 2, ignore=9),
        count([0, 1], [0, 1], 2, mask=[False, False]),
    ):
        scores = Scores(counts)
        assert not counts.confusion.any()
        assert np.isnan(scores.iou).all()
        overall = [scores.mean_iou, scores.mean_dice, scores.pooled_iou, scores.accuracy, scores.frequency_weighted_iou]
        assert all(map(math.isnan, overall))


def test_ignored_pixels_may_hold_any_prediction() -> None:
    assert count([0, 77], [0, IGNORE], 2, ignore=IGNORE).confusion.tolist() == [[1, 0], [0, 0]]
    assert count([0, 77], [0, -1], 2, ignore=-1).confusion.tolist() == [[1, 0], [0, 0]]
    assert count([0, 77], [0, 88], 2, mask=[True, False]).confusion.tolist() == [[1, 0], [0, 0]]


def test_ignore_outside_the_type_ignores_nothing() -> None:
    ids = np.array([0, 1], dtype=np.uint8)
    assert count(ids, ids, 2, ignore=-1).confusion.tolist() == [[1, 0], [0, 1]]


def test_ignored_class_keeps_its_false_predictions() -> None:
    assert count([0, 0, 1], [0, 1, 1], 2, ignore=0).confusion.tolist() == [[0, 0], [1, 1]]


def test_to_dict_is_plain_json() -> None:
    result = score([0, 0, 1, 1], [0, 0, 0, 1], 3).to_dict(["matrix", "secondary", "tertiary"])
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result == {
        "iou": {"matrix": pytest.approx(2 / 3), "secondary": 0.5, "tertiary": None},
        "dice": {"matrix": pytest.approx(4 / 5), "secondary": pytest.approx(2 / 3), "tertiary": None},
        "precision": {"matrix": 1.0, "secondary": 0.5, "tertiary": None},
        "recall": {"matrix": pytest.approx(2 / 3), "secondary": 1.0, "tertiary": None},
        "pixels": {
            "matrix": {"truth": 3, "prediction": 2},
            "secondary": {"truth": 1, "prediction": 2},
            "tertiary": {"truth": 0, "prediction": 0},
        },
        "mean_iou": pytest.approx(7 / 12),
        "mean_dice": pytest.approx(11 / 15),
        "pooled_iou": 0.6,
        "accuracy": 0.75,
        "frequency_weighted_iou": pytest.approx(0.625),
    }


def test_rows_end_with_the_means() -> None:
    scores = score([0, 0, 1, 1], [0, 0, 0, 1], 3)
    rows = scores.rows(["matrix", "secondary", "tertiary"])
    assert [row["class"] for row in rows] == ["matrix", "secondary", "tertiary", "mean"]
    assert all(list(row) == list(rows[0]) for row in rows)
    assert rows[1] == {
        "class": "secondary",
        "iou": 0.5,
        "dice": pytest.approx(2 / 3),
        "precision": 0.5,
        "recall": 1.0,
        "pixels_truth": 1,
        "pixels_prediction": 2,
    }
    assert rows[2]["iou"] is None
    assert rows[3]["iou"] == scores.mean_iou
    assert rows[3]["precision"] == pytest.approx(0.75)
    assert rows[3]["pixels_truth"] is None


def test_names_must_fit_the_classes() -> None:
    for names in (["matrix"], ["matrix", "matrix"], []):
        with pytest.raises(InputError, match="2 classes need as many different names"):
            Scores(Counts.zero(2)).to_dict(names)
        with pytest.raises(InputError, match="2 classes need as many different names"):
            Scores(Counts.zero(2)).rows(names)


def test_shapes_must_be_the_same() -> None:
    with pytest.raises(InputError, match=r"prediction and truth differ in shape, \(2, 3\) and \(3, 2\)"):
        count(np.zeros((2, 3), dtype=int), np.zeros((3, 2), dtype=int), 2)
    with pytest.raises(InputError, match=r"prediction and mask differ in shape, \(2,\) and \(1,\)"):
        count([0, 1], [0, 1], 2, mask=[True])


def test_floats_are_refused() -> None:
    with pytest.raises(InputError, match="prediction: class ids must be integers, not float64"):
        count([0.0], [0], 2)
    with pytest.raises(InputError, match="truth: class ids must be integers, not float32"):
        count([0], np.zeros(1, dtype=np.float32), 2)


def test_mask_must_be_boolean() -> None:
    with pytest.raises(InputError, match="mask: must be boolean, not uint8; compare"):
        count([0], [0], 2, mask=np.ones(1, dtype=np.uint8))


def test_values_that_are_no_class_are_listed() -> None:
    truth = np.zeros(400_000, dtype=np.int16)
    truth[:2], truth[2], truth[-3:] = 255, -1, 9
    message = r"truth: class ids go from 0 to 2, but there are 9 \(3 pixels\), 255 \(2 pixels\), -1 \(1 pixel\);"
    with pytest.raises(InputError, match=message + " map them to classes, or ignore them"):
        count(np.zeros_like(truth), truth, 3)
    with pytest.raises(InputError, match=r"prediction: class ids .* 0 to 0, but there are 1 \(1 pixel\); map"):
        count([0, 1], [0, 0], 1)


def test_long_lists_of_values_are_cut() -> None:
    assert list_values(np.arange(7), np.arange(7) + 1).endswith("2 (3 pixels) and 2 more")


def test_counts_of_other_classes_do_not_add() -> None:
    with pytest.raises(InputError, match="counts of 2 and of 3 classes cannot be added"):
        Counts.zero(2) + Counts.zero(3)


def test_counts_must_be_a_square_matrix() -> None:
    for shape in ((2, 3), (4,), (0, 0)):
        with pytest.raises(InputError, match="square matrix"):
            Counts(np.zeros(shape, dtype=np.int64))

from __future__ import annotations

import tracemalloc
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_matseg.core.agreement import pairs as module
from napari_matseg.core.agreement.pairs import Pairs, count_pairs, count_pairs_steps
from napari_matseg.core.progress import finish
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

IDS = [0, 1, 2, 7, 300, 2**32 - 1]
shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9)
images = shapes.flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.uint32, shape, elements=st.sampled_from(IDS), fill=st.nothing())] * 2)
)


def by_hand(prediction: np.ndarray, truth: np.ndarray) -> tuple[dict[int, int], dict[int, int], dict]:
    """Areas of the truth and of the prediction, and overlaps, counted mask by mask."""
    areas = [{int(i): int((labels == i).sum()) for i in np.unique(labels) if i > 0} for labels in (truth, prediction)]
    overlaps = {(t, p): int(((truth == t) & (prediction == p)).sum()) for t, p in product(*areas)}
    return areas[0], areas[1], {ids: n for ids, n in overlaps.items() if n}


def plain(pairs: Pairs) -> tuple[dict[int, int], dict[int, int], dict]:
    assert all(values.dtype == np.int64 for values in vars(pairs).values())
    ids = zip(
        pairs.truth_ids[pairs.truth_index].tolist(),
        pairs.predicted_ids[pairs.predicted_index].tolist(),
        strict=True,
    )
    return (
        dict(zip(pairs.truth_ids.tolist(), pairs.truth_areas.tolist(), strict=True)),
        dict(zip(pairs.predicted_ids.tolist(), pairs.predicted_areas.tolist(), strict=True)),
        dict(zip(ids, pairs.overlaps.tolist(), strict=True)),
    )


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BAND", 16)
    monkeypatch.setattr(module, "CHUNK", 3)
    monkeypatch.setattr(module, "PENDING", 2)


@given(images)
@settings(max_examples=60)
def test_agrees_with_counting_by_hand(pair: tuple[np.ndarray, np.ndarray]) -> None:
    pairs = count_pairs(*pair)
    assert plain(pairs) == by_hand(*pair)
    order = np.lexsort((pairs.predicted_index, pairs.truth_index))
    assert (order == np.arange(order.size)).all()
    assert (np.diff(pairs.truth_ids) > 0).all()
    assert (np.diff(pairs.predicted_ids) > 0).all()


@pytest.mark.usefixtures("small_parts")
def test_agrees_however_small_the_parts() -> None:
    rng = np.random.default_rng(0)
    for shape in ((9, 7), (1, 40), (40, 1), (0, 4), (4, 0)):
        prediction, truth = rng.choice(np.array(IDS, np.uint32), (2, *shape))
        mask = rng.random(shape) < 0.7
        assert plain(count_pairs(prediction, truth)) == by_hand(prediction, truth)
        assert plain(count_pairs(prediction, truth, mask=mask)) == by_hand(prediction * mask, truth * mask)


@given(images, st.data())
@settings(max_examples=40)
def test_what_is_masked_is_not_there(pair: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    prediction, truth = pair
    height, width = truth.shape
    shape = data.draw(st.sampled_from([(height, width), (height, 1), (1, width), (width,), ()]))
    mask = data.draw(hnp.arrays(np.bool_, shape))
    assert plain(count_pairs(prediction, truth, mask=mask)) == by_hand(prediction * mask, truth * mask)


@given(images, st.integers(0, 9), st.booleans())
@settings(max_examples=40)
def test_parts_of_a_plane_add_up(pair: tuple[np.ndarray, np.ndarray], at: int, upright: bool) -> None:
    prediction, truth = (labels.T if upright else labels for labels in pair)
    parts = count_pairs(prediction[:at], truth[:at]) + count_pairs(prediction[at:], truth[at:])
    assert plain(parts) == by_hand(prediction, truth)


@pytest.mark.parametrize("dtype", ["u1", "i1", "bool", ">u2", "<i4", ">i4", "u4", "i8", "u8"])
def test_labels_of_any_integer_type(dtype: str) -> None:
    truth = np.array([[0, 1, 1], [0, 0, 1]])
    prediction = np.array([[1, 1, 1], [0, 0, 1]]).astype(dtype)
    assert plain(count_pairs(prediction, truth)) == by_hand(prediction, truth)
    assert plain(count_pairs(truth[::-1, ::2], prediction[::-1, ::2])) == by_hand(truth[:, ::2], prediction[:, ::2])


def test_iou_of_the_same_and_of_parts() -> None:
    labels = np.repeat([[5, 0, 2**32 - 1]], 4, axis=1).astype(np.uint32)
    same = count_pairs(labels, labels)
    assert same.iou.tolist() == [1.0, 1.0]
    assert count_pairs(np.where(np.arange(12) < 3, labels, 0), labels).iou.tolist() == [0.75]
    nothing = count_pairs(np.zeros((3, 3), int), np.zeros((3, 3), int))
    assert plain(nothing) == ({}, {}, {})
    assert nothing.iou.size == 0


class InFile:
    """Labels that exist only while they are looked at: row // 8 + 1 everywhere."""

    dtype = np.dtype(np.uint32)

    def __init__(self, height: int, width: int) -> None:
        self.shape = (height, width)
        self.read: list[int] = []

    def __getitem__(self, key: slice) -> np.ndarray:
        rows = np.arange(self.shape[0], dtype=np.uint32)[key]
        self.read.append(rows.size * self.shape[1])
        return np.repeat(rows[:, None] // 8 + 1, self.shape[1], axis=1)


def test_labels_in_their_file_are_read_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BAND", 1 << 16)
    prediction, truth = InFile(2048, 1000), InFile(2048, 1000)
    tracemalloc.start()
    pairs = count_pairs(prediction, truth)  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (pairs.truth_ids == np.arange(1, 257)).all()
    assert (pairs.overlaps == 8000).all()
    assert sum(truth.read) == sum(prediction.read) == 2048 * 1000
    assert max(truth.read) <= module.BAND
    assert peak < 2 << 20  # all of one is 8 MB


def test_memory_mapped(tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    np.save(tmp_path / "labels.npy", labels)
    mapped = np.load(tmp_path / "labels.npy", mmap_mode="r")
    assert plain(count_pairs(mapped, mapped)) == by_hand(labels, labels)


def test_tells_progress_and_can_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BAND", 10)
    labels = InFile(7, 5)
    steps = [(step.done, step.total) for step in count_pairs_steps(labels, labels)]  # type: ignore[arg-type]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    labels.read.clear()
    work = count_pairs_steps(labels, labels)  # type: ignore[arg-type]
    next(work)
    work.close()
    assert sum(labels.read) == 20


@pytest.mark.parametrize(
    ("prediction", "truth", "mask", "message"),
    [
        (np.zeros((2, 3, 4), int), np.zeros((2, 3, 4), int), None, "prediction: objects are compared in one plane"),
        (np.zeros((3, 4), int), np.zeros(4, int), None, r"truth: .* shape \(4,\); take the planes of a stack one by"),
        (np.zeros((3, 4)), np.zeros((3, 4), int), None, "prediction: labels must be integers, not float64"),
        (np.zeros((3, 4), int), np.zeros((4, 3), int), None, "differ in shape"),
        (
            np.full((1, 2), -1),
            np.ones((1, 2), int),
            None,
            "prediction: labels go from 0 to 4294967295, but there is -1",
        ),
        (np.ones((1, 2), int), np.full((1, 2), 2**32), None, "truth: .* there is 4294967296; number the objects anew"),
        (np.ones((1, 2), int), np.ones((1, 2), int), np.ones((1, 2), int), "mask: must be boolean, not int64"),
        (
            np.ones((1, 2), int),
            np.ones((1, 2), int),
            np.ones((1, 3), bool),
            r"mask: has shape \(1, 3\), which does not",
        ),
    ],
)
def test_says_what_is_wrong(prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        finish(count_pairs_steps(prediction, truth, mask=mask))

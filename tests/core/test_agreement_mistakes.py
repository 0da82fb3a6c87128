from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_matseg.core.agreement import mistakes as module
from napari_matseg.core.agreement.matching import match
from napari_matseg.core.agreement.mistakes import KINDS, Mistake, find_mistakes
from napari_matseg.core.agreement.pairs import count_pairs
from napari_matseg.errors import InputError

RIGHT, FALSE_POSITIVE, FALSE_NEGATIVE, SPLIT, MERGE = range(1, 6)


def blank(height: int = 20, width: int = 30) -> np.ndarray:
    return np.zeros((height, width), np.int32)


def only(prediction: np.ndarray, truth: np.ndarray, **options: object) -> Mistake:
    mistakes = find_mistakes(prediction, truth, **options)[1]
    assert len(mistakes) == 1, mistakes
    return mistakes[0]


# Blocks of 3 x 3 pixels, so that objects and errors come in sizes that matter.
labels = hnp.arrays(np.int64, (4, 5), elements=st.integers(0, 4)).map(lambda some: np.kron(some, np.ones((3, 3), int)))


def summary(mistakes: list[Mistake]) -> list[tuple]:
    return sorted(
        (m.kind, m.truth_labels, m.predicted_labels, m.area_px, m.top, m.left, m.bottom, m.right, m.text)
        for m in mistakes
    )


def test_equal_labels_have_no_mistakes() -> None:
    labels = blank()
    labels[2:8, 2:8], labels[10:15, 4:20] = 3, 2**31 - 1
    overlay, mistakes = find_mistakes(labels, labels)
    assert mistakes == []
    np.testing.assert_array_equal(overlay, labels > 0)
    assert overlay.dtype == np.uint8


def test_a_missed_object() -> None:
    truth = blank()
    truth[2:8, 3:7] = 12
    overlay, (mistake,) = find_mistakes(blank(), truth)
    assert mistake == Mistake("false negative", (12,), (), 4.5, 4.5, 24, 2, 3, 8, 7, 0.0, "missed: object 12")
    np.testing.assert_array_equal(overlay, np.where(truth > 0, FALSE_NEGATIVE, 0))


def test_a_spurious_object() -> None:
    prediction = blank()
    prediction[2:8, 3:7] = 7
    overlay, (mistake,) = find_mistakes(prediction, blank())
    assert mistake == Mistake("false positive", (), (7,), 4.5, 4.5, 24, 2, 3, 8, 7, 0.0, "spurious: object 7")
    np.testing.assert_array_equal(overlay, np.where(prediction > 0, FALSE_POSITIVE, 0))


def test_a_split_without_a_match() -> None:
    truth, prediction = blank(), blank()
    truth[2:12, 2:22] = 3
    prediction[2:12, 2:11], prediction[2:12, 12:22] = 9, 7
    prediction[2, 2] = 0
    overlay, (mistake,) = find_mistakes(prediction, truth, iou=0.6)
    assert mistake.text == "split: object 3 into 7, 9"
    assert (mistake.kind, mistake.truth_labels, mistake.predicted_labels) == ("split", (3,), (7, 9))
    assert (mistake.y, mistake.x, mistake.area_px, mistake.iou) == (6.5, 11.5, 189, 0.5)
    assert (mistake.top, mistake.left, mistake.bottom, mistake.right) == (2, 2, 12, 22)
    np.testing.assert_array_equal(overlay, np.where(prediction > 0, SPLIT, np.where(truth > 0, FALSE_NEGATIVE, 0)))


def test_a_split_whose_largest_piece_is_matched() -> None:
    truth, prediction = blank(), blank()
    truth[2:12, 2:22] = 3
    prediction[2:12, 2:17], prediction[2:12, 17:22] = 9, 7
    overlay, (mistake,) = find_mistakes(prediction, truth)
    assert (mistake.text, mistake.area_px, mistake.iou) == ("split: object 3 into 7, 9", 50, 0.75)
    np.testing.assert_array_equal(overlay, np.choose(prediction // 2, [0, 0, 0, SPLIT, RIGHT]))


def test_a_merge() -> None:
    truth, prediction = blank(), blank()
    truth[2:12, 2:11], truth[2:12, 12:22] = 3, 5
    prediction[2:12, 2:22] = 7
    overlay, (mistake,) = find_mistakes(prediction, truth, iou=0.6)
    assert mistake.text == "merge: objects 3, 5 into 7"
    assert (mistake.kind, mistake.truth_labels, mistake.predicted_labels) == ("merge", (3, 5), (7,))
    assert (mistake.area_px, mistake.iou) == (190, 0.5)
    np.testing.assert_array_equal(overlay, np.where(truth > 0, MERGE, np.where(prediction > 0, FALSE_POSITIVE, 0)))


def test_many_pieces_are_not_all_named() -> None:
    truth, prediction = blank(), blank()
    truth[:, :28] = 1
    for k in range(7):
        prediction[:, 4 * k : 4 * k + 4] = k + 1
    assert only(prediction, truth).text == "split: object 1 into 1, 2, 3, 4, 5 and 2 more"


def test_a_wrong_outline_is_listed_where_it_is_thick() -> None:
    truth, prediction = blank(), blank()
    truth[4:16, 4:16] = 12
    prediction[3:17, 3:17] = 7  # a rim of 1 px
    prediction[8:12, 17:23] = 7  # and a bulge
    overlay, (mistake,) = find_mistakes(prediction, truth)
    assert mistake.kind == "false positive"
    assert mistake.text == "outline: object 7 has 28 px beyond object 12"
    assert (mistake.truth_labels, mistake.predicted_labels, mistake.area_px) == ((12,), (7,), 28)
    assert (mistake.top, mistake.left, mistake.bottom, mistake.right) == (8, 16, 12, 23)
    assert mistake.iou == pytest.approx(144 / (196 + 24))
    np.testing.assert_array_equal(overlay, np.where(truth > 0, RIGHT, np.where(prediction > 0, FALSE_POSITIVE, 0)))

    overlay, (mistake,) = find_mistakes(truth, prediction)
    assert mistake.kind == "false negative"
    assert mistake.text == "outline: object 12 lacks 28 px of object 7"
    np.testing.assert_array_equal(overlay, np.where(truth > 0, RIGHT, np.where(prediction > 0, FALSE_NEGATIVE, 0)))


def test_rims_of_two_pixels_are_only_in_the_overlay_even_where_they_touch_others() -> None:
    truth, prediction = blank(), blank()
    truth[:, :15], truth[:, 15:] = 1, 2
    prediction[:, :13], prediction[:, 17:] = 1, 2
    overlay, mistakes = find_mistakes(prediction, truth)
    assert mistakes == []
    assert (overlay == FALSE_NEGATIVE).sum() == 80


def test_largest_first_and_separate_pieces_apart() -> None:
    truth, prediction = blank(), blank()
    truth[5:15, 5:25] = 1
    prediction[5:15, 5:25] = 1
    prediction[0:5, 6:9] = prediction[15:20, 6:10] = 1
    truth[0:2, 20:22] = 2
    mistakes = find_mistakes(prediction, truth)[1]
    assert [(m.area_px, m.top) for m in mistakes] == [(20, 15), (15, 0), (4, 0)]


def test_objects_that_overlap_too_little_are_missed_and_spurious() -> None:
    truth, prediction = blank(), blank()
    truth[2:12, 2:12], prediction[2:12, 6:16] = 1, 1
    overlay, mistakes = find_mistakes(prediction, truth)
    assert {m.text for m in mistakes} == {"missed: object 1", "spurious: object 1"}
    assert {m.iou for m in mistakes} == {60 / 140}
    np.testing.assert_array_equal(overlay, np.where(truth > 0, FALSE_NEGATIVE, np.where(prediction, FALSE_POSITIVE, 0)))
    assert find_mistakes(prediction, truth, iou=0.4)[1][0].text.startswith("outline")


def test_an_object_need_not_be_connected_and_ids_may_be_large() -> None:
    truth = np.zeros((20, 30), np.uint32)
    truth[1:4, 1:4] = truth[10:13, 21:24] = 2**32 - 1
    mistake = only(np.zeros_like(truth), truth)
    assert (mistake.truth_labels, mistake.area_px) == ((2**32 - 1,), 18)
    assert (mistake.y, mistake.x) == (6.5, 12)
    assert (mistake.top, mistake.left, mistake.bottom, mistake.right) == (1, 1, 13, 24)


def test_what_is_masked_is_not_there() -> None:
    truth, prediction = blank(), blank()
    truth[2:8, 2:8], truth[2:8, 20:26], prediction[2:8, 2:8] = 1, 2, 1
    prediction[2:8, 8:18] = 1
    mask = np.zeros(truth.shape, bool)
    mask[:, :11] = True
    overlay, (mistake,) = find_mistakes(prediction, truth, mask=mask)
    assert mistake.text == "outline: object 1 has 18 px beyond object 1"
    assert not overlay[:, 11:].any()
    np.testing.assert_array_equal(find_mistakes(prediction, truth, mask=mask[:1])[0], overlay)


@settings(max_examples=60, deadline=None)
@given(labels, labels, st.sampled_from([0.3, 0.5, 0.7]))
def test_the_overlay_holds_what_the_matches_say(prediction: np.ndarray, truth: np.ndarray, iou: float) -> None:
    overlay, mistakes = find_mistakes(prediction, truth, iou)
    np.testing.assert_array_equal(overlay > 0, (prediction > 0) | (truth > 0))
    pairs = count_pairs(prediction, truth)
    matches = match(pairs, iou)
    right = np.zeros(truth.shape, bool)
    for i, j in zip(matches.truth_index, matches.predicted_index, strict=True):
        right |= (truth == pairs.truth_ids[i]) & (prediction == pairs.predicted_ids[j])
    np.testing.assert_array_equal(overlay == RIGHT, right)
    assert not ((overlay == FALSE_POSITIVE) & (truth > 0)).any()
    assert not ((overlay == FALSE_NEGATIVE) & (truth == 0)).any()
    assert not (np.isin(overlay, (SPLIT, MERGE)) & ((truth == 0) | (prediction == 0))).any()

    for mistake in mistakes:
        box = overlay[mistake.top : mistake.bottom, mistake.left : mistake.right]
        assert 0 < mistake.area_px <= box.size
        assert mistake.top <= mistake.y < mistake.bottom
        assert mistake.left <= mistake.x < mistake.right
        assert 0 <= mistake.iou <= 1
        assert mistake.kind in KINDS[1:]
    assert [m.area_px for m in mistakes] == sorted((m.area_px for m in mistakes), reverse=True)
    matched = set(pairs.truth_ids[matches.truth_index].tolist())
    named = {label for m in mistakes for label in m.truth_labels}
    assert set(pairs.truth_ids.tolist()) <= matched | named
    listed = [m for m in mistakes if m.text.startswith("split")]
    assert sum(m.area_px for m in listed) == (overlay == SPLIT).sum()


@settings(max_examples=40, deadline=None)
@given(labels, labels)
def test_exchanged_images_exchange_the_kinds(prediction: np.ndarray, truth: np.ndarray) -> None:
    def whole_objects(mistakes: list[Mistake], *, swap: bool) -> list[tuple]:
        names = {"missed": "spurious", "spurious": "missed", "split": "merge", "merge": "split"}
        found = []
        for m in mistakes:
            name, _, _ = m.text.partition(": ")
            if name != "outline":
                ours = (m.truth_labels, m.predicted_labels)
                found.append((names[name] if swap else name, *(ours[::-1] if swap else ours), m.area_px, m.y, m.x))
        return sorted(found)

    one, other = find_mistakes(prediction, truth, 0.6)[1], find_mistakes(truth, prediction, 0.6)[1]
    assert whole_objects(one, swap=False) == whole_objects(other, swap=True)


@settings(max_examples=30, deadline=None)
@given(labels, labels)
def test_bands_do_not_show(prediction: np.ndarray, truth: np.ndarray) -> None:
    overlay, mistakes = find_mistakes(prediction, truth)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BAND", 2 * truth.shape[1])
        in_bands, also = find_mistakes(prediction, truth)
    np.testing.assert_array_equal(in_bands, overlay)
    assert summary(also) == summary(mistakes)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1)])
def test_images_of_nothing(shape: tuple[int, int]) -> None:
    overlay, mistakes = find_mistakes(np.zeros(shape, int), np.zeros(shape, int))
    assert overlay.shape == shape
    assert mistakes == []


def test_one_object_fills_the_frame() -> None:
    overlay, mistakes = find_mistakes(np.ones((6, 7), int), np.full((6, 7), 5))
    assert mistakes == []
    assert (overlay == RIGHT).all()


def test_what_cannot_be_used_is_told() -> None:
    with pytest.raises(InputError, match="differ in shape"):
        find_mistakes(blank(), blank(5))
    with pytest.raises(InputError, match="IoU of 0 cannot be asked"):
        find_mistakes(blank(), blank(), iou=0)

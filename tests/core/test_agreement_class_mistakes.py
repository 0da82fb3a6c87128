from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_matseg.core.agreement.class_mistakes import find_class_mistakes
from napari_matseg.core.agreement.mistakes import Mistake
from napari_matseg.errors import InputError

NAMES = ["matrix", "pore", "crack"]
RIGHT, FALSE_POSITIVE, FALSE_NEGATIVE = range(1, 4)

shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)
images = shapes.flatmap(lambda shape: st.tuples(*(hnp.arrays(np.uint8, shape, elements=st.integers(0, 2)),) * 2))


def blank() -> np.ndarray:
    return np.zeros((20, 30), np.uint8)


def test_pieces_are_named_by_what_was_taken_for_what() -> None:
    truth, prediction = blank(), blank()
    truth[2:6, 2:12] = 1
    prediction[2:6, 6:12] = 2
    prediction[14:18, 20:25] = 1
    overlay, mistakes = find_class_mistakes(prediction, truth, NAMES)
    assert [(m.kind, m.text, m.area_px) for m in mistakes] == [
        ("false negative", "pore taken for crack", 24),
        ("false positive", "matrix taken for pore", 20),
        ("false negative", "pore taken for matrix", 16),
    ]
    assert isinstance(mistakes[1], Mistake)
    assert (mistakes[1].truth_labels, mistakes[1].predicted_labels) == ((0,), (1,))
    assert (mistakes[1].y, mistakes[1].x, mistakes[1].top, mistakes[1].right) == (15.5, 22, 14, 25)
    assert np.isnan(mistakes[1].iou)
    np.testing.assert_array_equal(overlay[3, [3, 8]], FALSE_NEGATIVE)
    assert overlay[15, 22] == FALSE_POSITIVE
    assert overlay.dtype == np.uint8


@settings(max_examples=50, deadline=None)
@given(images)
def test_the_overlay_follows_from_the_classes(pair: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, truth = pair
    overlay, mistakes = find_class_mistakes(prediction, truth, NAMES)
    expected = np.where(
        truth == prediction, np.where(truth > 0, RIGHT, 0), np.where(truth > 0, FALSE_NEGATIVE, FALSE_POSITIVE)
    )
    np.testing.assert_array_equal(overlay, expected)
    for m in mistakes:
        box = np.s_[m.top : m.bottom, m.left : m.right]
        (a,), (b,) = m.truth_labels, m.predicted_labels
        assert 9 <= m.area_px <= ((truth[box] == a) & (prediction[box] == b)).sum()
    assert [m.area_px for m in mistakes] == sorted((m.area_px for m in mistakes), reverse=True)
    assert sum(m.area_px for m in mistakes) <= (truth != prediction).sum()


def test_a_rim_is_not_listed_but_its_thick_parts_are() -> None:
    truth, prediction = blank(), blank()
    truth[4:16, 4:16] = prediction[3:17, 3:17] = 1
    assert find_class_mistakes(prediction, truth, NAMES)[1] == []
    prediction[8:12, 17:23] = 1
    (mistake,) = find_class_mistakes(prediction, truth, NAMES)[1]
    assert (mistake.area_px, mistake.left, mistake.right) == (28, 16, 23)


def test_a_thin_crack_is_listed_when_it_was_missed_as_a_whole() -> None:
    truth, prediction = blank(), blank()
    truth[5, 2:28] = 2
    (mistake,) = find_class_mistakes(prediction, truth, NAMES)[1]
    assert (mistake.text, mistake.area_px) == ("crack taken for matrix", 26)
    (mistake,) = find_class_mistakes(truth, prediction, NAMES)[1]
    assert (mistake.text, mistake.area_px) == ("matrix taken for crack", 26)
    truth[5, 10:] = 0
    truth[5, 2] = 0
    assert find_class_mistakes(prediction, truth, NAMES)[1] == []


def test_all_of_an_image_may_be_wrong() -> None:
    (mistake,) = find_class_mistakes(blank() + 1, blank(), NAMES)[1]
    assert (mistake.text, mistake.area_px) == ("matrix taken for pore", 600)
    (mistake,) = find_class_mistakes(np.ones((3, 3), bool), np.zeros((3, 3), int), NAMES)[1]
    assert mistake.area_px == 9


def test_what_is_left_out_is_neither_right_nor_wrong() -> None:
    truth, prediction = blank(), blank()
    truth[2:8, 2:8], truth[10:15, 10:15] = 1, 255
    mask = np.ones(truth.shape, bool)
    mask[:, :4] = False
    overlay, (mistake,) = find_class_mistakes(prediction, truth, NAMES, ignore=255, mask=mask)
    assert mistake.area_px == 24
    assert not overlay[10:15].any()
    assert not overlay[:, :4].any()


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1)])
def test_images_of_nothing(shape: tuple[int, int]) -> None:
    overlay, mistakes = find_class_mistakes(np.zeros(shape, int), np.zeros(shape, int), NAMES)
    assert overlay.shape == shape
    assert mistakes == []


def test_what_cannot_be_used_is_told() -> None:
    with pytest.raises(InputError, match=r"one plane \(height, width\), not in an array of shape \(2, 4, 4\)"):
        find_class_mistakes(np.zeros((2, 4, 4), int), np.zeros((2, 4, 4), int), NAMES)
    with pytest.raises(InputError, match="class ids go from 0 to 2"):
        find_class_mistakes(blank(), blank() + 7, NAMES)
    with pytest.raises(InputError, match="differ in shape"):
        find_class_mistakes(blank(), blank()[1:], NAMES)

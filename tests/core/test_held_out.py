from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.dataset import Example
from napari_matseg.core.held_out import CONTEXT, GAP, cut_to_labels, hold_out_regions
from napari_matseg.core.normalise import grey_scale
from napari_matseg.core.truth import IGNORE
from napari_matseg.errors import InputError
from napari_matseg.settings import NormaliseSettings


def example(classes: np.ndarray) -> Example:
    image = np.random.default_rng(0).integers(0, 255, (1, *classes.shape)).astype(np.uint8)
    return Example("steel", image, classes)


def split(classes: np.ndarray, share: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    (learnt,), (held_out,) = hold_out_regions([example(classes)], share)
    return learnt.classes_yx, held_out.classes_yx


@given(st.integers(0, 999), st.floats(0.1, 0.5))
def test_each_label_is_in_one_part_at_most_and_the_parts_are_apart(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    classes = np.full((60, 90), IGNORE, np.uint8)
    for class_id in (0, 1, 2):
        classes[tuple(rng.integers(0, (60, 90), (40, 2)).T)] = class_id
    learnt, held_out = split(classes, share)
    for part in (learnt, held_out):
        there = part != IGNORE
        np.testing.assert_array_equal(part[there], classes[there])
        assert set(np.unique(part[there])) == {0, 1, 2}
    ones, others = np.argwhere(learnt != IGNORE), np.argwhere(held_out != IGNORE)
    distance = np.hypot(*(ones[:, None] - others[None]).transpose(2, 0, 1))
    assert distance.min() > GAP
    for class_id in (0, 1, 2):
        assert (held_out == class_id).sum() / (classes == class_id).sum() == pytest.approx(share, abs=0.3)


def test_of_a_whole_truth_the_share_is_held_out() -> None:
    classes = np.indices((80, 100)).sum(0).astype(np.uint8) % 2
    learnt, held_out = split(classes)
    assert (held_out != IGNORE).mean() == pytest.approx(0.25, abs=0.01)
    assert (learnt != IGNORE).mean() == pytest.approx(0.75 - GAP / 100, abs=0.03)


def test_line_is_where_each_class_is_on_both_sides() -> None:
    classes = np.full((60, 60), IGNORE, np.uint8)
    classes[5:55, 10], classes[5:55, 50] = 0, 1  # no upright line would do
    learnt, held_out = split(classes)
    for class_id in (0, 1):
        assert (held_out == class_id).sum() in (12, 13)
        assert (learnt == class_id).sum() > 25


def test_the_image_is_the_same() -> None:
    whole = example(np.indices((40, 50)).sum(0).astype(np.uint8) % 2)
    (learnt,), (held_out,) = hold_out_regions([whole], 0.25)
    assert learnt.image_cyx is whole.image_cyx
    assert held_out.image_cyx is whole.image_cyx


@pytest.mark.parametrize("labelled", [[], [(20, 20, 0)], [(20, 20, 0), (22, 20, 0), (20, 22, 1), (22, 22, 1)]])
def test_labels_that_cannot_be_parted(labelled: list[tuple[int, int, int]]) -> None:
    classes = np.full((40, 40), IGNORE, np.uint8)
    for y, x, class_id in labelled:
        classes[y, x] = class_id
    with pytest.raises(InputError, match=r"^steel: no straight line parts .*; label each class in two places, or hold"):
        split(classes)


def test_what_is_far_from_labels_is_cut_away() -> None:
    classes = np.full((400, 300), IGNORE, np.uint8)
    classes[200:210, 5:100] = 1
    whole = example(classes)
    cut = cut_to_labels(whole, NormaliseSettings())
    assert cut.classes_yx.shape == (10 + 2 * CONTEXT, 100 + CONTEXT)
    assert (cut.classes_yx == 1).sum() == 950
    np.testing.assert_array_equal(cut.image_cyx, whole.image_cyx[:, 200 - CONTEXT : 210 + CONTEXT, : 100 + CONTEXT])
    assert cut.scale(NormaliseSettings()) == grey_scale(whole.image_cyx)


def test_a_whole_truth_is_not_cut() -> None:
    whole = example(np.zeros((40, 50), np.uint8))
    assert cut_to_labels(whole, NormaliseSettings()).image_cyx.shape == (1, 40, 50)

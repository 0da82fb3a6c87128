from __future__ import annotations

import numpy as np
import pytest

from napari_matseg.core.sam.one_piece import CAUTION, OUTSIDE, fill_box, keep_piece


@pytest.fixture
def hill() -> np.ndarray:
    """Scores that fall by 0.1 a cell from 1 in the middle."""
    rows, columns = np.indices((64, 64))
    return (1 - 0.1 * np.hypot(rows - 31.5, columns - 31.5)).astype(np.float32)


@pytest.mark.parametrize("radius", [6, 10, 15, 20])
def test_mask_fills_its_box(hill: np.ndarray, radius: int) -> None:
    box = (32.0 - radius, 32.0 - radius, 32.0 + radius, 32.0 + radius)
    rows = np.flatnonzero((fill_box(hill, box) > 0).any(axis=1))
    assert rows[0] == pytest.approx(box[0], abs=2.5)
    assert rows[-1] + 1 == pytest.approx(box[2], abs=2.5)


def test_threshold_stays_where_the_box_is_filled(hill: np.ndarray) -> None:
    np.testing.assert_array_equal(fill_box(hill, (22.0, 22.0, 42.0, 42.0)) > 0, hill > 0)


def test_nothing_far_from_the_box_belongs_to_it(hill: np.ndarray) -> None:
    scores = hill.copy()
    scores[2:6, 2:6] = 5
    found = fill_box(scores, (22.0, 22.0, 42.0, 42.0))
    assert found[2:6, 2:6].max() == OUTSIDE
    assert (found[20:44, 20:44] > 0).sum() == (hill > 0).sum()


@pytest.mark.parametrize("box", [(-9.0, -9.0, 3.0, 70.0), (60.0, 60.0, 90.0, 90.0), (5.0, 5.0, 5.0, 5.0)], ids=str)
def test_boxes_over_the_edge_and_without_extent(hill: np.ndarray, box: tuple[float, ...]) -> None:
    assert fill_box(hill, box).shape == hill.shape


def test_no_mask_stays_none() -> None:
    assert not (fill_box(np.full((16, 16), -9, np.float32), (4.0, 4.0, 9.0, 9.0)) > 0).any()
    assert not (keep_piece(np.full((16, 16), -9, np.float32), np.zeros((1, 2))) > 0).any()


def test_the_piece_that_was_clicked_is_kept() -> None:
    scores = np.full((20, 20), -3, np.float32)
    scores[1:4, 1:4] = scores[10:19, 10:19] = 2
    small = keep_piece(scores, np.array([[2.5, 2.5]]))
    assert (small > 0).sum() == 9
    assert small[2, 2] == 2 + CAUTION
    assert (keep_piece(scores, np.array([[7.0, 7.0]])) > 0).sum() == 81
    assert (keep_piece(scores, np.array([[2.0, 2.0], [12.0, 12.0]])) > 0).sum() == 90
    assert (keep_piece(scores, np.empty((0, 2))) > 0).sum() == 81


def test_scores_are_not_changed_in_place(hill: np.ndarray) -> None:
    before = hill.copy()
    fill_box(hill, (0.0, 0.0, 5.0, 5.0))
    keep_piece(hill, np.array([[3.0, 3.0]]))
    np.testing.assert_array_equal(hill, before)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_matseg.core.measure import grain_fields, runs
from napari_matseg.core.measure.grain_fields import GrainField, count_grains_steps, grains_in_steps
from napari_matseg.core.measure.grains import grains_of
from napari_matseg.core.progress import finish
from napari_matseg.errors import InputError

SHAPES = st.tuples(st.integers(1, 30), st.integers(1, 12))


def count(labels: np.ndarray) -> GrainField:
    return finish(count_grains_steps(labels))


@given(
    SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 1, 2, 3]))),
    st.integers(1, 60),
    st.integers(1, 4),
    st.sampled_from([3, 256]),
)
def test_strips_change_nothing(labels: np.ndarray, band: int, margin: int, lines: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grain_fields, "TEST_LINES", lines)
        whole = count(labels)
        patch.setattr(grain_fields, "MARGIN", margin)
        patch.setattr(runs, "BAND", band)
        parts = count(labels)
    assert (parts.shape_yx, parts.n_planar) == (whole.shape_yx, whole.n_planar)
    np.testing.assert_array_equal(parts.crossings, whole.crossings)
    np.testing.assert_array_equal(parts.steps, whole.steps)


@given(SHAPES.flatmap(lambda shape: arrays(np.bool_, shape)), st.integers(1, 60), st.integers(1, 4), st.integers(1, 4))
def test_grains_of_boundaries_are_those_of_the_whole(boundary: np.ndarray, band: int, margin: int, least: int) -> None:
    whole = grains_of(boundary, min_area_px=least)
    height, width = boundary.shape
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grain_fields, "MARGIN", margin)
        patch.setattr(runs, "BAND", band)
        read = finish(grains_in_steps(boundary.__getitem__, boundary.shape, least))
        strips = [read(rows) for rows in runs.bands(0, height, width)]
    np.testing.assert_array_equal(np.concatenate(strips), whole)


def test_lines_are_those_through_the_whole() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 4, (9, 7))
    found = count(labels)
    lines = [
        list(labels),
        list(labels.T),
        *[[image.diagonal(k) for k in range(-8, 7)] for image in (labels, labels[::-1])],
    ]
    for direction, along in enumerate(lines):
        assert found.crossings[direction] == sum(np.count_nonzero(np.diff(line)) for line in along)
        assert found.steps[direction] == sum(len(line) - 1 for line in along)


def test_what_has_no_grain_far_and_wide_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((200, 8), np.uint8)
    labels[0] = 1
    monkeypatch.setattr(runs, "BAND", 10 * 8)
    monkeypatch.setattr(grain_fields, "MARGIN", 4)
    monkeypatch.setattr(grain_fields, "MOST_WIDE", 50 * 8)
    with pytest.raises(InputError, match="too wide to find the grains beside it in an image of this size; crop"):
        count(labels)
    monkeypatch.setattr(grain_fields, "MOST_WIDE", 500 * 8)
    assert count(labels).n_planar == count(np.ones_like(labels)).n_planar

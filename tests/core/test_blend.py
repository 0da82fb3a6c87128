from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.blend import FLOOR, Blender, window_weights
from napari_matseg.core.tile import ceil_to, plan_blend

shapes = st.tuples(st.integers(1, 120), st.integers(1, 120))


def blend(maps_cyx: np.ndarray, tiles: list) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Blend the windows of maps; also which rows came out when."""
    blender = Blender(maps_cyx.shape[0], maps_cyx.shape[1:])
    out = np.full_like(maps_cyx, np.nan)
    spans = []
    finals = [blender.add(tile, maps_cyx[:, *tile.window]) for tile in tiles] + [blender.rest()]
    for first, means in (final for final in finals if final is not None):
        spans.append((first, first + means.shape[1]))
        out[:, slice(*spans[-1])] = means
    return out, spans


@given(shapes, st.integers(8, 64), st.floats(0.05, 0.9), st.sampled_from([1, 4, 8]), st.integers(1, 3))
def test_what_does_not_depend_on_the_window_comes_back(shape, side, overlap, stride, channels):
    canvas = [ceil_to(length, stride) for length in shape]
    maps = np.random.default_rng(0).normal(size=(channels, *canvas)).astype(np.float32)
    out, spans = blend(maps, plan_blend(shape, side, overlap, stride))
    np.testing.assert_allclose(out, maps, rtol=1e-5, atol=1e-6)
    # Rows come once, in order.
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    assert spans[-1][1] == canvas[0]


def test_windows_that_disagree_give_a_mean_between_them():
    tiles = plan_blend((64, 96), 64, 0.5, 8)
    assert len(tiles) == 2
    blender = Blender(1, (64, 96))
    for value, tile in enumerate(tiles):
        assert blender.add(tile, np.full((1, *tile.shape), value, dtype=np.float32)) is None
    _, means = blender.rest()
    row = means[0, 32]
    assert (row[:32] == 0).all()
    assert (row[64:] == 1).all()
    assert (np.diff(row[32:64]) > 0).all()  # no step anywhere
    assert row[47:49].mean() == pytest.approx(0.5, abs=1e-6)


def test_rows_are_given_away_as_soon_as_no_window_can_change_them():
    tiles = plan_blend((96, 64), 64, 0.5, 8)
    blender = Blender(1, (96, 64))
    ones = np.ones((1, 64, 64), dtype=np.float32)
    assert blender.add(tiles[0], ones) is None
    first, means = blender.add(tiles[1], ones)
    assert (first, means.shape) == (0, (1, 32, 64))
    first, means = blender.rest()
    assert (first, means.shape) == (32, (1, 64, 64))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 17), (64, 64)])
def test_weights_are_positive_symmetric_and_largest_in_the_middle(shape):
    weights = window_weights(shape)
    assert weights.shape == shape
    assert weights.dtype == np.float32
    assert weights.min() >= np.float32(FLOOR)
    assert weights.max() == weights[shape[0] // 2, shape[1] // 2] <= 1
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-7)
    assert not weights.flags.writeable

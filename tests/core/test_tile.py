from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.tile import Tile, ceil_to, computed_pixels, plan_blend, plan_tiles

lengths = st.integers(1, 300)
shapes = st.tuples(lengths, lengths)
sides = st.integers(1, 260)
halos = st.integers(0, 70)
strides = st.sampled_from([1, 2, 8, 16, 32])
overlaps = st.floats(0.01, 0.99)


def is_aligned_and_inside(tiles: list[Tile], shape: tuple[int, int], stride: int) -> bool:
    canvas = [ceil_to(length, stride) for length in shape]
    return all(
        span.start % stride == span.stop % stride == 0 and 0 <= span.start < span.stop <= length
        for tile in tiles
        for span, length in zip((tile.y, tile.x), canvas, strict=True)
    )


@given(shapes, sides, halos, strides)
def test_tiles_cover_each_pixel_exactly_once(shape, side, halo, stride):
    seen = np.zeros(shape, dtype=int)
    for tile in plan_tiles(shape, side, halo, stride):
        assert seen[tile.keep].shape == (tile.y.keep_stop - tile.y.keep_start, tile.x.keep_stop - tile.x.keep_start)
        seen[tile.keep] += 1
    assert (seen == 1).all()


@given(shapes, sides, halos, strides)
def test_windows_lie_on_the_stride_and_inside_the_canvas(shape, side, halo, stride):
    assert is_aligned_and_inside(plan_tiles(shape, side, halo, stride), shape, stride)


@given(shapes, sides, halos, strides)
def test_what_is_kept_is_a_halo_away_from_where_the_canvas_goes_on(shape, side, halo, stride):
    for tile in plan_tiles(shape, side, halo, stride):
        for span, length in zip((tile.y, tile.x), shape, strict=True):
            assert span.start == 0 or span.keep_start - span.start >= halo
            assert span.stop == ceil_to(length, stride) or span.stop - span.keep_stop >= halo
            assert span.start <= span.keep_start < span.keep_stop <= span.stop


@given(shapes, sides, halos, strides)
def test_windows_are_no_larger_than_asked_unless_the_halo_wants_it(shape, side, halo, stride):
    largest = max(side, 2 * ceil_to(halo, stride) + stride)
    assert all(max(tile.shape) <= largest for tile in plan_tiles(shape, side, halo, stride))


@given(shapes, sides, halos, strides)
def test_what_is_kept_is_at_the_same_place_on_canvas_and_window(shape, side, halo, stride):
    rows, columns = np.indices([ceil_to(length, stride) for length in shape])
    for tile in plan_tiles(shape, side, halo, stride):
        for indices in (rows, columns):
            np.testing.assert_array_equal(indices[tile.window][tile.inner], indices[tile.keep])


@given(shapes, sides, halos, strides, overlaps)
def test_tiles_come_in_reading_order(shape, side, halo, stride, overlap):
    for tiles in (plan_tiles(shape, side, halo, stride), plan_blend(shape, side, overlap, stride)):
        corners = [(tile.y.start, tile.x.start) for tile in tiles]
        assert corners == sorted(set(corners))


@given(shapes, halos, strides)
def test_one_tile_is_enough_for_what_fits(shape, halo, stride):
    (tile,) = plan_tiles(shape, ceil_to(max(shape), stride), halo, stride)
    assert tile.shape == (ceil_to(shape[0], stride), ceil_to(shape[1], stride))
    assert tile.keep == (slice(0, shape[0]), slice(0, shape[1]))


@pytest.mark.parametrize(
    ("shape", "windows"), [((1, 1), [(32, 32)]), ((3, 500), [(32, 256)] * 3), ((500, 3), [(256, 32)] * 3)]
)
def test_images_smaller_than_the_stride(shape, windows):
    tiles = plan_tiles(shape, 256, 40, 32)
    assert [tile.shape for tile in tiles[:-1]] == windows[:-1]
    assert min(tiles[-1].shape) == 32


@given(shapes, sides, overlaps, strides)
def test_windows_to_blend_are_equal_and_cover_everything(shape, side, overlap, stride):
    tiles = plan_blend(shape, side, overlap, stride)
    assert is_aligned_and_inside(tiles, shape, stride)
    assert len({tile.shape for tile in tiles}) == 1
    assert max(tiles[0].shape) <= max(side, stride)
    seen = np.zeros([ceil_to(length, stride) for length in shape], dtype=bool)
    for tile in tiles:
        assert tile.keep == tile.window
        seen[tile.window] = True
    assert seen.all()


@given(shapes, st.integers(4, 30), st.floats(0.05, 0.75))
def test_windows_to_blend_overlap_at_least_as_asked(shape, strides_per_side, overlap):
    stride = 8
    tiles = plan_blend(shape, strides_per_side * stride, overlap, stride)
    for axis in ("y", "x"):
        spans = sorted({(getattr(tile, axis).start, getattr(tile, axis).stop) for tile in tiles})
        for (_, stop), (start, next_stop) in pairwise(spans):
            assert stop - start >= overlap * (next_stop - start)


def test_blending_takes_no_more_windows_than_it_needs():
    assert len(plan_blend((100, 300), 100, 0.5, 1)) == 5
    assert len(plan_blend((100, 301), 100, 0.5, 1)) == 6
    assert len(plan_blend((100, 100), 100, 0.5, 1)) == 1


def test_computed_pixels_counts_halos_as_often_as_they_are_seen():
    assert computed_pixels(plan_tiles((64, 64), 64, 0, 8)) == 64 * 64
    assert computed_pixels(plan_tiles((32, 100), 64, 16, 8)) == 32 * (64 + 64 + 40)


@pytest.mark.parametrize(
    "arguments",
    [((0, 5), 64, 0, 8), ((5, -1), 64, 0, 8), ((5, 5), 0, 0, 8), ((5, 5), 64, -1, 8), ((5, 5), 64, 0, 0)],
)
def test_impossible_tiles_are_errors(arguments):
    with pytest.raises(ValueError, match="cannot tile"):
        plan_tiles(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [((0, 5), 64, 0.5, 8), ((5, 5), 0, 0.5, 8), ((5, 5), 64, 0.0, 8), ((5, 5), 64, 1.0, 8), ((5, 5), 64, 0.5, 0)],
)
def test_impossible_blends_are_errors(arguments):
    with pytest.raises(ValueError, match="cannot tile"):
        plan_blend(*arguments)

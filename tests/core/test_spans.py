from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.draw import polygon2mask

from napari_matseg.core.spans import Spans, fill, of_counts, of_mask, paint
from napari_matseg.errors import InputError

SHAPE = (24, 31)
CORNERS = st.lists(st.tuples(st.integers(-300, 3400), st.integers(-300, 2700)), min_size=3, max_size=9)


def square(x: float, y: float, side: float) -> np.ndarray:
    return np.array([(x, y), (x + side, y), (x + side, y + side), (x, y + side)], dtype=float)


def mask_of(spans: Spans, shape: tuple[int, int] = SHAPE, owner: int = 0) -> np.ndarray:
    mask = np.zeros(shape, dtype=np.int64)
    for i in np.flatnonzero(spans.owner == owner):
        start, length, step = spans.start[i], spans.length[i], spans.step[i]
        mask.reshape(-1)[start : start + length * step : step] += 1
    assert mask.max(initial=0) <= 1  # no pixel twice
    return mask > 0


def test_corners_are_those_of_pixels() -> None:
    spans = fill([square(0, 0, 10)], [0], [0], SHAPE)
    expected = np.zeros(SHAPE, dtype=bool)
    expected[:10, :10] = True
    np.testing.assert_array_equal(mask_of(spans), expected)
    assert spans.areas(2).tolist() == [100, 0]


@pytest.mark.parametrize(("offset", "area"), [(0.0, 100), (0.49, 100), (0.5, 100), (0.51, 100)])
def test_a_centre_on_the_outline_counts_once(offset: float, area: int) -> None:
    """The upper and left sides are the shape's, so that its area does not depend on where it lies."""
    assert fill([square(3 + offset, 2 + offset, 10)], [0], [0], SHAPE).areas(1)[0] == area


@given(st.integers(1, 30), st.integers(1, 23), st.integers(0, 23), st.integers(0, 30))
def test_shapes_that_share_a_side_share_no_pixel_and_leave_none_out(x: int, y: int, left: int, right: int) -> None:
    """Four quadrilaterals around a point tile the plane, though their sides go through pixel centres."""
    height, width = SHAPE
    middle = (x + 0.5, y + 0.5)
    west, east, north, south = (0, left + 0.5), (width, right * 0.7 + 0.1), (x, 0), (width - x, height)
    rings = [
        np.array(ring)
        for ring in (
            [(0, 0), north, middle, west],
            [north, (width, 0), east, middle],
            [east, (width, height), south, middle],
            [middle, south, (0, height), west],
        )
    ]
    simple = all(polygon_is_simple(ring) for ring in rings)
    together = sum(mask_of(fill([ring], [0], [0], SHAPE)).astype(int) for ring in rings)
    if simple:
        assert (together == 1).all()


def polygon_is_simple(ring: np.ndarray) -> bool:
    """Convex, as its corners all turn one way."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return bool((turn >= 0).all())


@given(CORNERS)
def test_agrees_with_scikit_image(corners: list[tuple[int, int]]) -> None:
    """Where no centre lies on an outline; there scikit-image counts all of them in."""
    ring = np.array(corners) / 100 + 0.00137
    expected = polygon2mask(SHAPE, ring[:, ::-1] - 0.5)
    np.testing.assert_array_equal(mask_of(fill([ring], [0], [0], SHAPE)), expected)


@given(CORNERS, CORNERS)
def test_rings_of_a_part_are_holes_and_parts_of_a_shape_are_joined(
    one: list[tuple[int, int]], two: list[tuple[int, int]]
) -> None:
    rings = [np.array(one) / 100, np.array(two) / 100]
    first, second = (mask_of(fill([ring], [0], [0], SHAPE)) for ring in rings)
    np.testing.assert_array_equal(mask_of(fill(rings, [0, 0], [0], SHAPE)), first ^ second)
    np.testing.assert_array_equal(mask_of(fill(rings, [0, 1], [0, 0], SHAPE)), first | second)
    apart = fill(rings, [0, 1], [0, 1], SHAPE)
    np.testing.assert_array_equal(mask_of(apart, owner=0), first)
    np.testing.assert_array_equal(mask_of(apart, owner=1), second)


@given(CORNERS, st.integers(0, 8))
def test_where_a_ring_begins_and_which_way_it_goes_does_not_matter(corners: list[tuple[int, int]], n: int) -> None:
    ring = np.array(corners) / 100
    expected = mask_of(fill([ring], [0], [0], SHAPE))
    np.testing.assert_array_equal(mask_of(fill([np.roll(ring, n, axis=0)[::-1]], [0], [0], SHAPE)), expected)


def test_what_has_no_inside() -> None:
    rings = [np.zeros((0, 2)), square(1, 1, 5)[:2], square(-50, 3, 20), square(3, 99, 9)]
    assert len(fill(rings, range(4), range(4), SHAPE).owner) == 0
    assert paint(Spans.join([]), np.zeros(0, dtype=np.int64), SHAPE).sum() == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e8, -1e300])
def test_corners_that_are_no_place(bad: float) -> None:
    ring = square(1, 1, 5)
    ring[2, 0] = bad
    with pytest.raises(InputError, match=r"^f: a corner is no place in an image; draw it again\.$"):
        fill([ring], [0], [0], SHAPE, "f")


def test_outlines_that_are_absurdly_long() -> None:
    zigzag = np.column_stack([np.arange(40_000) % 7, np.arange(40_000) % 2 * 9000]).astype(float)
    with pytest.raises(InputError, match=r"^f: the outlines are absurdly long"):
        fill([zigzag], [0], [0], (9000, 9000), "f")


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 5), st.integers(0, 7), st.integers(0, 9))
def test_runs_of_a_mask(pixels: list[bool], width: int, top: int, left: int) -> None:
    mask = np.resize(pixels, (len(pixels) // width + 1, width))[:12]
    expected = np.zeros(SHAPE, dtype=bool)
    expected[top : top + mask.shape[0], left : left + width] = mask
    np.testing.assert_array_equal(mask_of(of_mask(mask, top, left, 0, SHAPE)), expected)


@given(st.lists(st.integers(0, 200), max_size=12))
def test_runs_of_a_code(lengths: list[int]) -> None:
    """Down the columns, as COCO counts."""
    ends = np.minimum(np.cumsum(lengths, dtype=np.int64), SHAPE[0] * SHAPE[1])
    counts = np.diff(ends, prepend=0, append=SHAPE[0] * SHAPE[1])
    flat = np.repeat(np.arange(len(counts)) % 2, counts)
    spans = of_counts(counts, 3, SHAPE)
    np.testing.assert_array_equal(mask_of(spans, owner=3), flat.reshape(SHAPE, order="F"))


def test_what_is_painted_later_covers_what_is_there() -> None:
    spans = fill([square(0, 0, 10), square(5, 5, 10)], [0, 1], [0, 1], SHAPE)
    later = paint(spans, np.array([0, 1]), SHAPE)
    assert np.bincount(later.ravel()).tolist() == [SHAPE[0] * SHAPE[1] - 175, 75, 100]
    earlier = paint(spans, np.array([1, 0]), SHAPE)
    assert np.bincount(earlier.ravel()).tolist() == [SHAPE[0] * SHAPE[1] - 175, 100, 75]


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rings = [rng.uniform(-5, 35, (5, 2)) for _ in range(40)]
    spans = fill(rings, range(40), range(40), SHAPE)
    order = rng.permutation(40)
    expected = paint(spans, order, SHAPE)
    monkeypatch.setattr("napari_matseg.core.spans.CHUNK", 7)
    np.testing.assert_array_equal(paint(spans, order, SHAPE), expected)


def test_absurdly_many_pixels() -> None:
    one = of_counts(np.array([0, 4000 * 4000]), 0, (4000, 4000))
    spans = Spans(*(np.repeat(column, 101) for column in (one.owner, one.start, one.length, one.step)))
    with pytest.raises(InputError, match=r"^f: the objects together have 1616000000 pixels or more, many times those"):
        paint(spans, np.array([0]), (4000, 4000), "f")

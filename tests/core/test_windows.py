from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core import windows as module
from napari_matseg.core.windows import Aim, Window, Windows

FRAME = 1024
lengths = st.integers(1, 9000)
shapes = st.tuples(lengths, lengths)
scales = st.none() | st.floats(0.05, 8)


def at(y: float, x: float) -> Aim:
    return Aim.at((y, x, y, x), whole=False)


def box(y: float, x: float, side: float) -> Aim:
    return Aim.at((y - side / 2, x - side / 2, y + side / 2, x + side / 2), whole=True)


@st.composite
def aims(draw: st.DrawFn) -> tuple[tuple[int, int], Aim]:
    shape = draw(shapes)
    y, x = (draw(st.floats(-0.5, length - 0.501)) for length in shape)
    side = draw(st.just(0.0) | st.floats(1, 9000))
    y0, x0 = max(-0.5, y - side / 2), max(-0.5, x - side / 2)
    y1, x1 = min(shape[0] - 0.5, y + side / 2), min(shape[1] - 0.5, x + side / 2)
    return shape, Aim.at((y0, x0, y1, x1), whole=side > 0)


@given(aims(), scales)
def test_every_prompt_is_well_inside_a_window_of_the_micrograph(aimed, scale):
    shape, aim = aimed
    window = Windows(shape, FRAME, scale).first(aim)
    for start, length, total, low, high in zip(
        (window.top, window.left), (window.height, window.width), shape, aim.box[:2], aim.box[2:], strict=True
    ):
        assert 0 <= start
        assert start + length <= total
        assert length == min(window.side, total)
        # A point is a quarter of the window away from a border that the micrograph crosses; a box does not cross it.
        margin = window.side / 4 - 2 if low == high else -2
        assert start == 0 or low - start >= margin
        assert start + length == total or start + length - high >= margin


@given(shapes, scales)
def test_scales_are_factors_of_two_up_to_the_whole_micrograph(shape, scale):
    sides = Windows(shape, FRAME, scale).sides
    assert sides[-1] == max(shape)
    assert all(b == 2 * a for a, b in pairwise(sides[:-1]))
    assert all(a < b for a, b in pairwise(sides))
    if scale is None and len(sides) > 1:
        assert sides[0] == FRAME // module.ONCE.magnify
        assert module.SPARE <= sides[-1] / sides[-2] <= 2 * module.SPARE


@given(shapes)
def test_neighbours_share_windows(shape):
    """On a lattice there are few windows, however many prompts."""
    windows = Windows(shape, FRAME)
    asked = {windows.first(at(y, x)) for y in range(0, shape[0], 301) for x in range(0, shape[1], 301)}
    per_axis = [math.ceil(max(0, length - FRAME) / (FRAME // 2)) + 1 for length in shape]
    assert len(asked) <= per_axis[0] * per_axis[1]


@pytest.mark.parametrize("shape", [(700, 1000), (1, 1), (5, 700), (1024, 1024), (1094, 1500)])
def test_what_is_not_large_is_seen_whole(shape):
    window = Windows(shape, FRAME).first(at(0, 0))
    assert window == Window(0, 0, *shape, FRAME)
    assert max(window.input_shape) == FRAME


def test_a_large_micrograph_is_seen_as_it_is():
    window = Windows((8192, 8192), FRAME).first(at(5000, 4000))
    assert (window.height, window.width, window.scale) == (1024, 1024, 1.0)
    assert window.input_shape == (1024, 1024)
    assert window.slices == (slice(window.top, window.top + 1024), slice(window.left, window.left + 1024))


@pytest.mark.parametrize(
    ("side", "scale"), [(3, 2.0), (40, 2.0), (64, 1.0), (500, 1.0), (520, 0.5), (1500, 0.25), (4000, 0.125)]
)
def test_an_object_of_known_extent_is_seen_at_a_scale_that_suits_it(side, scale):
    window = Windows((8192, 8192), FRAME).first(box(4000, 4000, side))
    assert window.scale == scale


def test_area_limits_say_how_large_an_object_may_be():
    windows = Windows((8192, 8192), FRAME)
    scale = {
        limits: windows.first(Aim.at((9, 9, 9, 9), whole=False, area_px=limits)).scale
        for limits in [(1, 1e9), (1, 100), (1e6, 2e6)]
    }
    assert scale == {(1, 1e9): 1.0, (1, 100): 2.0, (1e6, 2e6): 0.5}
    assert Aim.at((0, 0, 50, 20), whole=False).least == 50
    assert Aim.at((0, 0, 50, 20), whole=True, area_px=(1, 2)) == Aim((0, 0, 50, 20), 50, 50)


def test_a_scale_that_was_asked_for_is_kept():
    windows = Windows((3000, 4000), FRAME, 2.0)
    assert windows.sides == (512, 1024, 2048, 4000)
    assert windows.first(at(9, 9)).scale == 2
    assert windows.first(box(900, 900, 4)).scale == 2
    assert windows.first(box(900, 900, 400)).scale == 1  # else it would be cut
    assert Windows((300, 400), FRAME, 2.0).sides == (400,)
    assert Windows((700, 800), FRAME, 1.5).sides == (683, 800)


def test_an_answer_that_a_border_cuts_is_asked_for_at_a_coarser_scale():
    windows = Windows((8192, 8192), FRAME)
    aim = at(4000, 4000)
    window = windows.first(aim)
    found = (3990.0, 3990.0, 4010.0, window.left + 1023.5)
    coarser = windows.next(window, aim, found)
    assert coarser is not None
    assert coarser.side == 2048
    assert coarser.left < found[1] - 256
    assert coarser.left + coarser.width > found[3] + 256
    assert windows.next(window, aim, (3990, 3990, 4010, window.left + 1000)) is None
    everything = (window.top - 0.5, window.left - 0.5, window.top + 1023.5, window.left + 1023.5)
    steps = [window]
    while (onward := windows.next(steps[-1], aim, everything, again=True)) is not None:
        steps.append(onward)
        everything = (onward.top - 0.5, onward.left - 0.5, *(v + onward.side - 0.5 for v in (onward.top, onward.left)))
    assert [one.side for one in steps] == [1024, 2048, 4096, 8192]


def test_the_border_of_the_micrograph_cuts_nothing_that_could_be_seen():
    windows = Windows((3000, 2000), FRAME)
    aim = at(2, 2)
    window = windows.first(aim)
    assert (window.top, window.left) == (0, 0)
    assert windows.next(window, aim, (-0.5, -0.5, 100, 100)) is None
    whole = Windows((300, 2000), FRAME).first(at(0, 1999))
    assert Windows((300, 2000), FRAME).next(whole, at(0, 1999), (-0.5, 1500, 299.5, 1999.5)) is None


@given(aims(), aims())
def test_prompts_come_to_an_end(aimed, other):
    shape, aim = aimed
    windows = Windows(shape, FRAME)
    window, steps = windows.first(aim), 0
    found = tuple(min(max(v, -0.5), shape[i % 2] - 0.5) for i, v in enumerate(other[1].box))
    while (onward := windows.next(window, aim, found, again=steps > 0)) is not None:
        assert onward.side > window.side or steps == 0
        window, steps = onward, steps + 1
    assert steps <= len(windows.sides)


def test_small_answers_may_be_asked_for_again_at_a_finer_scale_once():
    aim = at(4000, 4000)
    tiny = (3990.0, 3990.0, 4010.0, 4010.0)
    windows = Windows((8192, 8192), FRAME)
    assert windows.next(windows.first(aim), aim, tiny) is None
    windows = Windows((8192, 8192), FRAME, look=module.CLOSELY)
    window = windows.first(aim)
    finer = windows.next(window, aim, tiny)
    assert finer is not None
    assert finer.side == 128
    assert windows.next(window, aim, tiny, again=True) is None
    assert windows.next(window, box(4000, 4000, 10), tiny) is None  # was known before
    assert Windows((8192, 8192), FRAME, 1.0, module.CLOSELY).next(window, aim, tiny) is None  # the scale was asked for


@pytest.mark.parametrize("shape", [(700, 1000), (1, 1), (333, 200), (5, 700), (1500, 1094)])
def test_coordinates_in_the_frame_are_segment_anythings(shape):
    from segment_anything.utils.transforms import ResizeLongestSide

    window = Windows(shape, FRAME).first(at(0, 0))
    transform = ResizeLongestSide(FRAME)
    assert window.input_shape == transform.get_preprocess_shape(*shape, FRAME)
    y, x = shape[0] * 0.3, shape[1] * 0.9
    np.testing.assert_array_equal(window.to_frame(y, x), transform.apply_coords(np.array([[x, y]]), shape)[0, ::-1])


def test_a_sliver_has_a_row_in_the_frame():
    assert Window(0, 0, 1, 5000, FRAME).input_shape == (1, 1024)

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.prompts import Left, make_prompts, parse_polarity
from napari_matseg.errors import InputError

SHAPE = (20, 30)
coordinates = st.one_of(st.floats(-5, 40), st.just(math.nan))
ids = st.integers(-1, 6)


def left_of(points: list[list[float]], **how: object) -> dict[int, str]:
    """Reasons by the row of the point."""
    prompts, left = make_prompts(points, **{"shape_yx": SHAPE, **how})  # type: ignore[arg-type]
    assert len(prompts) + len(left) == len(points)
    return {item.row: item.reason for item in left}


@given(st.lists(st.tuples(coordinates, coordinates, ids, st.booleans(), st.integers(-1, 2)), max_size=12), st.data())
def test_every_point_is_in_one_prompt_or_left_with_a_reason(rows, data):
    points = [row[:2] for row in rows]
    boxes = data.draw(st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), max_size=4))
    prompts, left = make_prompts(
        points,
        objects=[row[2] for row in rows],
        polarity=[row[3] for row in rows],
        planes=[row[4] for row in rows],
        boxes_yx=boxes,
        box_objects=list(range(1, len(boxes) + 1)),
        shape_yx=SHAPE,
        n_planes=2,
        rows=slice(0, 15),
    )
    used = [tuple(point) for prompt in prompts for point in prompt.points_yx.tolist()]
    lost = [item.row for item in left if item.kind == "point"]
    rest = [point for k, point in enumerate(points, 1) if k not in lost]
    assert sorted(used) == sorted(rest)
    assert sum(prompt.box_yx is not None for prompt in prompts) + sum(item.kind == "box" for item in left) == len(boxes)
    assert [prompt.id for prompt in prompts] == sorted({prompt.id for prompt in prompts})
    assert all(item.reason and str(item).startswith(item.kind) for item in left)
    for prompt in prompts:
        assert prompt.positive.any() or prompt.box_yx is not None
        assert len(prompt.positive) == len(prompt.points_yx)
        if prompt.box_yx is not None:
            y0, x0, y1, x1 = prompt.box_yx
            assert -0.5 <= y0 < y1 <= 14.5
            assert -0.5 <= x0 < x1 <= 29.5


def test_without_ids_point_k_is_object_k():
    prompts, left = make_prompts([[1, 2], [3, 4], [5.5, 6]], shape_yx=SHAPE)
    assert [prompt.id for prompt in prompts] == [1, 2, 3]
    assert prompts[2].points_yx.tolist() == [[5.5, 6.0]]
    assert prompts[2].positive.tolist() == [True]
    assert left == ()


def test_points_of_one_id_are_asked_together_in_their_order():
    prompts, left = make_prompts(
        [[1, 1], [2, 2], [3, 3]], objects=[7, 4, 7], polarity=["positive", 1, "-"], shape_yx=SHAPE
    )
    assert [prompt.id for prompt in prompts] == [4, 7]
    assert prompts[1].points_yx.tolist() == [[1, 1], [3, 3]]
    assert prompts[1].positive.tolist() == [True, False]
    assert not left


def test_what_cannot_be_used_is_given_back_with_the_reason():
    assert left_of([[1, 1], [-0.6, 3], [19.6, 3], [3, 29.5], [math.nan, 2], [3, math.inf]]) == {
        2: "y -0.6, x 3 lies outside the image of 20 x 30 px",
        3: "y 19.6, x 3 lies outside the image of 20 x 30 px",
        4: "y 3, x 29.5 lies outside the image of 20 x 30 px",
        5: "a coordinate is not a number",
        6: "a coordinate is not a number",
    }
    assert left_of([[14.4, 1], [14.5, 1]], rows=slice(0, 15)) == {2: "y 14.5 lies in the data bar"}
    assert left_of([[1, 1]] * 3, planes=[0, 1, 0.5]) == {
        2: "there is no plane 1; there is plane 0",
        3: "there is no plane 0.5; there is plane 0",
    }
    assert left_of([[1, 1]], planes=[3], n_planes=3) == {1: "there is no plane 3; there is planes 0 to 2"}
    assert left_of([[1, 1]] * 4, objects=[0, 1.5, math.nan, 2**32]) == {
        1: "0 is no id; ids are whole numbers from 1",
        2: "1.5 is no id; ids are whole numbers from 1",
        3: "nan is no id; ids are whole numbers from 1",
        4: "4.29497e+09 is no id; ids are whole numbers from 1",
    }
    assert left_of([[1, 1], [2, 2]], polarity=["yes?", 1]) == {1: "polarity 'yes?' is neither positive nor negative"}


def test_an_object_with_negative_points_only_is_left():
    prompts, left = make_prompts([[1, 1], [2, 2], [99, 9]], objects=[1, 2, 1], polarity=[0, 1, 1], shape_yx=SHAPE)
    assert [prompt.id for prompt in prompts] == [2]
    assert [item.row for item in left] == [1, 3]
    assert left[0] == Left(1, 1, "the object has negative points only; add a positive one or a box")
    assert str(left[0]) == "point 1 (object 1): the object has negative points only; add a positive one or a box"


def test_an_id_on_two_planes_keeps_the_first():
    prompts, left = make_prompts(
        [[1, 1], [2, 2], [3, 3]], objects=[5, 5, 5], planes=[2, 0, 2], shape_yx=SHAPE, n_planes=3
    )
    assert [(prompt.id, prompt.plane, len(prompt.points_yx)) for prompt in prompts] == [(5, 2, 2)]
    assert left == (Left(2, 5, "the object is on plane 2 already; give what is on plane 0 an id of its own"),)


def test_boxes_join_the_points_of_their_id():
    prompts, left = make_prompts(
        [[5, 5]],
        objects=[3],
        polarity=[False],
        boxes_yx=[[2, 2, 9, 9], [9, 9, 2, 2], [0, 0, 1, 1]],
        box_objects=[3, 8, 3],
        shape_yx=SHAPE,
    )
    assert [(prompt.id, prompt.box_yx) for prompt in prompts] == [(3, (2, 2, 9, 9)), (8, (2, 2, 9, 9))]
    assert prompts[0].positive.tolist() == [False]
    assert prompts[1].points_yx.shape == (0, 2)
    assert left == (Left(3, 3, "the object has a box already", "box"),)


def test_boxes_without_ids_are_counted_on_from_the_points():
    boxes = [[1, 1, 4, 4], [5, 5, 8, 8]]
    prompts, _ = make_prompts([[1, 1]], objects=[9], boxes_yx=boxes, shape_yx=SHAPE)
    assert [prompt.id for prompt in prompts] == [9, 10, 11]
    prompts, _ = make_prompts([], boxes_yx=boxes, shape_yx=SHAPE)
    assert [prompt.id for prompt in prompts] == [1, 2]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([-9, -9, 99, 99], (-0.5, -0.5, 14.5, 29.5)),
        ([3, 30, 9, 40], "the box lies outside the image of 20 x 30 px"),
        ([-9, 3, -1, 9], "the box lies outside the image of 20 x 30 px"),
        ([16, 3, 18, 9], "the box lies in the data bar"),
        ([3, 3, 3, 9], "the box has no area"),
        ([3, math.nan, 3, 9], "a corner is not a number"),
    ],
)
def test_boxes_are_cut_to_the_image(box, expected):
    prompts, left = make_prompts([], boxes_yx=[box], shape_yx=SHAPE, rows=slice(0, 15))
    assert (prompts[0].box_yx if prompts else left[0].reason) == expected


def test_nothing_asked_is_nothing():
    assert make_prompts([], shape_yx=SHAPE) == ((), ())


def test_many_points_take_no_time():
    rng = np.random.default_rng(0)
    prompts, _ = make_prompts(rng.random((20_000, 2)) * 15, objects=np.arange(1, 20_001) // 2 + 1, shape_yx=SHAPE)
    assert len(prompts) == 10_001


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"points_yx": [[1, 2, 3]]}, "points of shape (1, 3) cannot be used; give one row of 2 numbers for each"),
        ({"objects": [1]}, "objects of shape (1,) do not fit 2 rows"),
        ({"objects": ["a", "b"]}, "objects must be numbers"),
        ({"polarity": [1]}, "polarity of shape (1,) does not fit 2 points"),
        ({"boxes_yx": [[1, 2]]}, "boxes of shape (1, 2) cannot be used"),
    ],
)
def test_arrays_that_do_not_fit_are_named(how, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make_prompts(**{"points_yx": [[1, 2], [3, 4]], "shape_yx": SHAPE, **how})


def test_polarity_in_words():
    assert all(parse_polarity(word) for word in (True, 1, "1", "TRUE", " positive ", "+", np.True_, 1.0))
    assert not any(parse_polarity(word) for word in (False, 0, "0", "false", "Negative", "-", -1, np.False_))
    with pytest.raises(ValueError, match="'maybe' is neither"):
        parse_polarity("maybe")

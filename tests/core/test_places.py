from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.places import Place, find_places, most_uncertain


def test_the_most_uncertain_square_comes_first() -> None:
    map_yx = np.zeros((200, 300), np.float32)
    map_yx[40:72, 80:112] = 0.8
    map_yx[160:192, 240:272] = 0.4
    first, second, *others = find_places(map_yx, 5, 32, top=10, plane=3)
    assert (first.top, first.left, first.height, first.width, first.plane) == (50, 80, 32, 32, 3)
    assert first.uncertainty == np.float32(0.8)
    assert (second.top, second.left) == (170, 240)
    assert first.centre_yx == (66.0, 96.0)
    assert not others


def test_nothing_is_named_where_all_is_sure() -> None:
    assert find_places(np.zeros((50, 60), np.float32), 5) == []
    assert find_places(np.ones((50, 60), np.float32), 0) == []


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([None, 8, 20, 64]))
def test_squares_lie_inside_and_apart(height: int, width: int, side: int | None) -> None:
    map_yx = np.random.default_rng(height * 91 + width).random((height, width), np.float32)
    places = find_places(map_yx, 6, side)
    assert places
    for one in places:
        assert 0 <= one.top < one.top + one.height <= height
        assert 0 <= one.left < one.left + one.width <= width
        mean = map_yx[one.top : one.top + one.height, one.left : one.left + one.width].mean()
        assert abs(one.uncertainty - mean) < 1e-5
    for i, one in enumerate(places):
        for other in places[:i]:
            away = abs(one.top - other.top) >= one.height, abs(one.left - other.left) >= one.width
            assert any(away)


def test_places_of_planes_are_put_in_one_order() -> None:
    some = [Place(plane, 0, 0, 8, 8, value) for plane, value in enumerate((0.1, 0.5, 0.3))]
    assert [one.plane for one in most_uncertain(some, 2)] == [1, 2]
    assert some[1].to_dict() == {"plane": 1, "top": 0, "left": 0, "height": 8, "width": 8, "uncertainty": 0.5}

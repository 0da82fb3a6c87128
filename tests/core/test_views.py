from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_matseg.core.normalise import GreyScale
from napari_matseg.core.views import View, make_views

PLAIN = (slice(None), slice(None), slice(None))


def _image(shape: tuple[int, int], channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (channels, *shape), dtype=np.uint8)


@given(
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1.0, 1.15, 1 / 1.15, 1.5]),
    st.tuples(st.integers(1, 23), st.integers(1, 23)),
    st.integers(1, 9),
)
@settings(max_examples=60)
def test_what_is_seen_in_tiles_goes_back_to_each_pixel_once(
    transpose: bool, flip_y: bool, flip_x: bool, zoom: float, shape: tuple[int, int], side: int
) -> None:
    view = View(transpose, flip_y, flip_x, zoom)
    seen = view.see(_image(shape))
    times = np.zeros(shape, int)
    for top in range(0, seen.shape[1], side):
        for left in range(0, seen.shape[2], side):
            where = slice(top, min(top + side, seen.shape[1])), slice(left, min(left + side, seen.shape[2]))
            part = seen[slice(None), *where]
            inside, back = view.back(where, part, shape)
            assert back.shape[-2:] == times[inside].shape
            times[inside] += 1
    assert (times == 1).all()


@pytest.mark.parametrize("view", make_views(8, 1.0, 1.25))
def test_turns_come_back_as_they_were(view: View) -> None:
    image = _image((7, 10), 3)
    seen = view.see(image)
    whole = seen[PLAIN]
    assert whole.shape == seen.shape
    np.testing.assert_array_equal(seen[:, 1:3, 2:6], whole[:, 1:3, 2:6])
    where, back = view.back((slice(0, seen.shape[1]), slice(0, seen.shape[2])), whole, (7, 10))
    assert where == (slice(0, 7), slice(0, 10))
    np.testing.assert_array_equal(back, image)


def test_the_eight_turns_differ() -> None:
    image = _image((5, 5))
    assert len({view.see(image)[PLAIN].tobytes() for view in make_views(8, 1, 1)}) == 8


def test_without_turns_rows_stay_rows() -> None:
    assert not any(view.transpose for view in make_views(8, 1.2, 1.2, turns=False))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_magnified_pixels_lie_between_those_of_the_image(dtype: type) -> None:
    y, x = np.mgrid[:20, :30]
    ramp = (3 * y + 2 * x).astype(dtype)[None]
    seen = View(zoom=1.5).see(ramp)
    assert seen.shape == (1, 30, 45)
    whole = seen[PLAIN]
    assert whole.dtype == seen.dtype
    expected = 3 * ((np.arange(30) + 0.5) / 1.5 - 0.5)[:, None] + 2 * ((np.arange(45) + 0.5) / 1.5 - 0.5)
    np.testing.assert_allclose(whole[0, 2:-2, 2:-2], expected[2:-2, 2:-2], rtol=1e-5)
    np.testing.assert_allclose(seen[:, 11:14, 20:29], whole[:, 11:14, 20:29], rtol=1e-6)


def test_contrast_is_about_the_middle() -> None:
    scale = GreyScale((0.0,), (100.0,))
    more = View(contrast=2.0).scale(scale)
    assert (more.low, more.high) == ((25.0,), (75.0,))
    image = np.array([[[50, 75]]], np.uint8)
    np.testing.assert_allclose(more.apply(image), 2 * scale.apply(image))

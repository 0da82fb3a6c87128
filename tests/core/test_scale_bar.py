from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.scale_bar import find_scale_bar, parse_length_nm, size_by_line
from napari_matseg.core.synthetic import demo_micrograph
from napari_matseg.errors import InputError


def noisy(shape: tuple[int, int] = (200, 300), level: float = 120, seed: int = 0) -> np.ndarray:
    grey = np.random.default_rng(seed).normal(level, 6, shape)
    return np.clip(grey, 0, 255).astype(np.uint8)


def test_the_demos_bar_is_found_in_its_data_bar():
    demo = demo_micrograph("particles", shape=(64, 512))
    found = find_scale_bar(Micrograph(demo.sample.image_yx, data_bar=demo.data_bar))
    assert found is not None
    assert (found.x1 - found.x0) * demo.pixel_size_nm == pytest.approx(200, abs=0.1)
    assert 64 + 14 <= found.y <= 64 + 20


@pytest.mark.parametrize("ink", [0, 255])
@pytest.mark.parametrize("thick", [1, 3, 9])
def test_a_bar_burnt_into_the_picture(ink, thick):
    grey = noisy()
    grey[170 : 170 + thick, 40:131] = ink
    found = find_scale_bar(Micrograph(grey))
    assert found == pytest.approx((170 + thick / 2, 40, 131), abs=0.2)


def test_soft_ends_are_found_to_a_fraction_of_a_pixel():
    grey = np.full((100, 200), 100, np.float32)
    grey[80:84, 50:120] = 250
    grey[80:84, 49], grey[80:84, 120] = 175, 137.5  # half, and a quarter covered
    found = find_scale_bar(Micrograph(grey))
    assert found is not None
    assert (found.x0, found.x1) == pytest.approx((49.5, 120.25), abs=0.3)


def test_a_bar_broken_by_its_text_and_one_with_ticks():
    bar = np.zeros((40, 400), np.uint8)
    bar[18:20, 100:160] = bar[18:20, 200:258] = 255
    bar[12:26, 100] = bar[12:26, 257] = 255
    found = find_scale_bar(Micrograph(np.concatenate([noisy((160, 400)), bar]), data_bar=(160, 200)))
    assert found is not None
    assert (found.x0, found.x1) == pytest.approx((100, 258), abs=1.5)


def test_lines_of_a_table_are_no_scale_bar():
    bar = np.zeros((40, 400), np.uint8)
    bar[:, [100, 250]] = 255
    bar[20, 100:251] = 255
    micrograph = Micrograph(np.concatenate([noisy((160, 400)), bar]), data_bar=(160, 200))
    assert find_scale_bar(micrograph) is None


def test_where_the_data_bar_has_none_the_picture_is_searched():
    grey = noisy((200, 300))
    grey[160:] = 0
    grey[150:153, 30:90] = 255
    found = find_scale_bar(Micrograph(grey, data_bar=(160, 200)))
    assert found is not None
    assert (found.y, found.x0, found.x1) == pytest.approx((151.5, 30, 90), abs=0.3)


@pytest.mark.parametrize(
    "grey",
    [noisy(), np.zeros((50, 60)), np.full((50, 60), np.nan), noisy((2, 40)), np.zeros((10, 20_000), np.uint8)],
    ids=["noise", "flat", "nan", "low", "wide"],
)
def test_nothing_to_be_found(grey):
    assert find_scale_bar(Micrograph(grey)) is None


def test_colour_and_planes():
    rgb = np.repeat(noisy()[None, ..., None], 2, axis=0).repeat(3, axis=-1)
    rgb[1, 180:184, 20:80] = 255
    micrograph = Micrograph(rgb, "ZYXS")
    assert find_scale_bar(micrograph, 0) is None
    assert find_scale_bar(micrograph, 1) == pytest.approx((182, 20, 80), abs=0.2)


@pytest.mark.parametrize(
    ("text", "nm"),
    [
        ("500 nm", 500),
        ("2µm", 2000),
        ("1,5 um", 1500),
        ("0.1 mm", 1e5),
        ("40 Å", 4),
        (" 1 000 nm ", 1000),
        (".5nm", 0.5),
    ],
)
def test_lengths_as_people_type_them(text, nm):
    assert parse_length_nm(text) == nm


@pytest.mark.parametrize("text", ["", "500", "nm", "-2 nm", "0 nm", "5 1/nm", "5 s", "1e999 nm", "two nm"])
def test_what_is_no_length(text):
    with pytest.raises(InputError, match="is no length; give a number and its unit, such as 500 nm"):
        parse_length_nm(text)


@given(
    st.floats(0.01, 1e5),
    st.floats(0.2, 5),
    st.tuples(*[st.floats(-500, 500)] * 4).filter(lambda p: abs(p[2] - p[0]) + abs(p[3] - p[1]) > 20),
)
def test_the_line_has_the_length_that_was_given(length_nm, ratio, line):
    start, end = line[:2], line[2:]
    y, x = size_by_line(start, end, length_nm, ratio)
    assert y / x == pytest.approx(ratio)
    assert np.hypot((end[0] - start[0]) * y, (end[1] - start[1]) * x) == pytest.approx(length_nm)


def test_a_line_too_short_is_named():
    with pytest.raises(InputError, match=r"the line is 1\.0 px long, too short"):
        size_by_line((0, 0), (0, 1), 100)

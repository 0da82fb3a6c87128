from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from napari_matseg.core.annotate import draw_text, drawable, length_text, round_length_nm, text_box


@given(st.floats(1e-4, 1e9))
def test_the_round_length_is_the_largest_that_fits(longest):
    length = round_length_nm(longest)
    assert length <= longest * (1 + 1e-6)
    assert length > longest / 2.5 * (1 - 1e-6)
    assert f"{length:e}"[0] in "125"
    assert set(f"{length:.6e}"[2:8]) == {"0"}


@pytest.mark.parametrize(
    ("length", "text"),
    [(0.05, "0.05 nm"), (1.0, "1 nm"), (999.0, "999 nm"), (1000.0, "1 µm"), (2e5, "200 µm"), (5e6, "5 mm")],
)
def test_lengths_are_written_in_the_unit_that_suits(length, text):
    assert length_text(length) == text


@pytest.mark.parametrize(
    ("text", "drawn"),
    [("\u0393-\u03c3", "Gamma-sigma"), ("1 µm", "1 µm"), ("\u212b", "A"), ("\u6676", "?"), ("a\u00d7b", "a?b")],
)
def test_letters_that_the_font_lacks_are_replaced(text, drawn):
    assert drawable(text) == drawn


@pytest.mark.parametrize("height", [9, 20, 48])
def test_micro_is_a_u_with_a_leg(height):
    def ink(text: str) -> np.ndarray:
        canvas = Image.new("L", (200, 100))
        draw_text(ImageDraw.Draw(canvas), (5, 5), text, height, 255)
        return np.asarray(canvas) > 128

    with_leg, without = ink("5 µm"), ink("5 um")
    extra = np.flatnonzero((with_leg & ~without).any(axis=1))
    assert extra.min() >= np.flatnonzero(without.any(axis=1)).min()
    assert extra.max() > np.flatnonzero(without.any(axis=1)).max()
    assert text_box("5 µm", height) == text_box("5 um", height)

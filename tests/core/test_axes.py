from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from napari_matseg.core import axes
from napari_matseg.core.axes import arrange
from napari_matseg.core.pixels import LazyPixels

STORED = np.random.default_rng(0).integers(0, 1000, (2, 1, 3, 4, 5)).astype(">i2")
NAMES = ("t", "c", "z", "y", "x")


@pytest.mark.parametrize("limit", [0, 2**20])
@pytest.mark.parametrize("order", list(permutations(range(5)))[::7])
def test_any_order_of_axes_gives_planes_and_then_rows_and_columns(monkeypatch, limit, order):
    monkeypatch.setattr(axes, "LAZY_BYTES", limit)
    stored, names = STORED.transpose(order), [NAMES[axis] for axis in order]
    pixels, letters = arrange(stored.__getitem__, stored.shape, stored.dtype, names)
    assert isinstance(pixels, LazyPixels) is (limit == 0)
    assert pixels.dtype == np.int16
    expected = STORED[:, 0] if letters == "TZYX" else STORED[:, 0].swapaxes(0, 1)
    assert letters in ("TZYX", "ZTYX")
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(pixels[1, ..., 1:3, ::2], expected[1, ..., 1:3, ::2])


@pytest.mark.parametrize("limit", [0, 2**20])
def test_colour_comes_last_without_an_alpha(monkeypatch, limit):
    monkeypatch.setattr(axes, "LAZY_BYTES", limit)
    stored = np.random.default_rng(0).integers(0, 255, (4, 5, 6), dtype=np.uint8)
    pixels, letters = arrange(stored.__getitem__, stored.shape, stored.dtype, ("c", "y", "x"), colour=0)
    assert letters == "YXS"
    np.testing.assert_array_equal(pixels, np.moveaxis(stored[:3], 0, -1))


def test_grey_as_colour_is_grey():
    stored = np.stack([STORED[0, 0, 0]] * 3)
    pixels, letters = arrange(stored.__getitem__, stored.shape, stored.dtype, ("c", "y", "x"), colour=0)
    assert letters == "YX"
    np.testing.assert_array_equal(pixels, stored[0])


def test_only_the_ends_of_what_stays_are_read():
    keys = []

    def fetch(key):
        keys.append(key)
        return STORED[key]

    arrange(fetch, STORED.shape, STORED.dtype, NAMES, stays=True)
    assert keys == [(0, 0, 0, slice(0, 1), slice(0, 1)), (1, 0, 2, slice(3, 4), slice(4, 5))]

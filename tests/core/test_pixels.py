from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.pixels import (
    LazyPixels,
    as_grey,
    has_equal_channels,
    invert,
    look_up,
    native,
    palette_table,
)

RAMP = np.repeat(np.arange(256)[:, None], 3, axis=1)
VALUES = np.random.default_rng(0).integers(0, 255, (2, 3, 5, 7, 3), dtype=np.uint8)


def lazy(values: np.ndarray, n_planes_axes: int) -> LazyPixels:
    planes = values.reshape(-1, *values.shape[n_planes_axes:])

    def read(number, box):
        rows, columns = box
        assert len(rows)
        assert len(columns)
        return planes[number][rows.start : rows.stop, columns.start : columns.stop]

    return LazyPixels(values.shape, values.dtype, n_planes_axes, read)


def keys_for(shape: tuple[int, ...]) -> st.SearchStrategy:
    axes = [st.integers(-n, n - 1) | st.slices(n) for n in shape]
    whole = st.tuples(*axes)
    return st.one_of(
        whole,
        st.integers(0, len(shape)).flatmap(lambda cut: whole.map(lambda key: key[:cut])),
        st.integers(0, len(shape)).flatmap(lambda cut: whole.map(lambda key: (..., *key[cut:]))),
        axes[0],
    )


@given(key=keys_for(VALUES.shape))
def test_lazy_pixels_slice_like_numpy(key):
    got = lazy(VALUES, 2)[key]
    np.testing.assert_array_equal(got, VALUES[key])
    assert got.shape == VALUES[key].shape


@given(key=keys_for((5, 7)))
def test_a_single_lazy_image_slices_like_numpy(key):
    np.testing.assert_array_equal(lazy(VALUES[0, 0, ..., 0], 0)[key], VALUES[0, 0, ..., 0][key])


def test_lazy_pixels_pass_for_an_array():
    pixels = lazy(VALUES, 2)
    assert (pixels.ndim, pixels.size, len(pixels)) == (5, VALUES.size, 2)
    np.testing.assert_array_equal(np.asarray(pixels), VALUES)
    assert np.asarray(pixels, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="copy"):
        np.asarray(pixels, copy=False)


def test_dask_takes_lazy_pixels():
    array = pytest.importorskip("dask.array").from_array(lazy(VALUES, 2), chunks=(1, 1, 4, 4, 3))
    np.testing.assert_array_equal(array.compute(scheduler="sync"), VALUES)


@pytest.mark.parametrize("key", [(0,) * 6, (..., ...), 2, (0, 3), (0, 0, 5)])
def test_lazy_pixels_refuse_what_is_out_of_bounds(key):
    with pytest.raises(IndexError):
        lazy(VALUES, 2)[key]


@pytest.mark.parametrize("key", [[0, 1], "z", None, 1.5])
def test_lazy_pixels_refuse_other_keys(key):
    with pytest.raises(TypeError):
        lazy(VALUES, 2)[key]


def test_a_grey_ramp_of_16_bits_comes_down_to_8_if_nothing_is_lost():
    for table in (palette_table(RAMP), palette_table(RAMP * 257), palette_table(RAMP * 256)):
        assert table.dtype == np.uint8
        np.testing.assert_array_equal(table, np.arange(256))


def test_a_grey_ramp_of_real_16_bits_is_kept():
    ramp = np.repeat(np.arange(65536, dtype=np.uint16)[:, None], 3, axis=1)
    table = palette_table(ramp)
    assert table.dtype == np.uint16
    np.testing.assert_array_equal(table, ramp[:, 0])


def test_a_falling_ramp_is_what_is_seen():
    np.testing.assert_array_equal(palette_table(RAMP[::-1]), np.arange(256)[::-1])


def test_a_ramp_with_entries_for_coloured_marks_is_grey():
    ramp = RAMP.copy()
    ramp[9::9] = (0, 255, 0)
    table = palette_table(ramp)
    assert table.shape == (256,)
    assert table[8] == 8
    assert table[9] == 182  # luminance of pure green, ITU-R BT.709


@pytest.mark.parametrize(
    "colours",
    [
        np.stack([np.arange(256), np.zeros(256), np.arange(256)[::-1]], axis=1).astype(int),
        np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], *[[0, 0, 0]] * 253]),
        np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0]]),
    ],
    ids=["map", "mask", "three"],
)
def test_a_colour_map_is_colour(colours):
    np.testing.assert_array_equal(palette_table(colours), colours)


def test_indices_that_the_palette_lacks_are_black():
    np.testing.assert_array_equal(look_up(np.array([[0, 1, 9]]), np.array([7, 8], np.uint8)), [[7, 8, 0]])


@given(st.integers(1, 16))
def test_inversion_of_unsigned_values_is_its_own_inverse(bits):
    values = np.arange(min(2**bits, 300)).astype(np.uint8 if bits <= 8 else np.uint16)
    inverted = invert(values, bits)
    assert inverted.dtype == values.dtype
    assert inverted[0] == 2**bits - 1
    np.testing.assert_array_equal(invert(inverted, bits), values)


def test_inversion_of_signed_values_and_floats_keeps_their_order_reversed():
    np.testing.assert_array_equal(invert(np.array([-128, 0, 127], np.int8), 8), [127, -1, -128])
    np.testing.assert_array_equal(invert(np.array([0.0, 2.5]), 64), [0, -2.5])


def test_channels_that_agree_are_one():
    grey = VALUES[0, 0, ..., 0]
    image = np.stack([grey] * 3, axis=-1)
    assert has_equal_channels(image)
    np.testing.assert_array_equal(as_grey(image), grey)


def test_channels_that_agree_in_nan_are_one():
    image = np.full((2, 2, 3), np.nan, np.float32)
    assert has_equal_channels(image)
    assert as_grey(image).dtype == np.float32


def test_a_coloured_pixel_becomes_its_luminance_and_leaves_the_others():
    image = np.full((1, 2, 3), 201, np.uint8)
    image[0, 1] = (255, 0, 0)
    assert not has_equal_channels(image)
    np.testing.assert_array_equal(as_grey(image), [[201, 54]])


def test_bits_become_0_and_1_and_bytes_are_turned():
    assert native(np.array([True])).dtype == np.uint8
    turned = native(np.array([1, 2], ">u2"))
    assert turned.dtype.isnative
    np.testing.assert_array_equal(turned, [1, 2])

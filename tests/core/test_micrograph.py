from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_matseg.core.micrograph import Micrograph
from napari_matseg.errors import InputError


def grey(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(np.uint16)


def test_an_image():
    micrograph = Micrograph(grey(4, 6))
    assert micrograph.shape_yx == (4, 6)
    assert micrograph.shape_planes == ()
    assert micrograph.n_planes == 1
    assert not micrograph.is_colour
    assert micrograph.name == "image"
    np.testing.assert_array_equal(micrograph.plane(), grey(4, 6)[None])
    assert micrograph.plane().dtype == np.uint16


def test_a_stack():
    pixels = grey(2, 3, 4, 6)
    micrograph = Micrograph(pixels, "TZYX", source=Path("stack.tif"))
    assert micrograph.shape_planes == (2, 3)
    assert micrograph.n_planes == 6
    for index in range(6):
        np.testing.assert_array_equal(micrograph.plane(index)[0], pixels[index // 3, index % 3])
    with pytest.raises(InputError, match=r"stack\.tif: there is no plane 6; it has planes 0 to 5"):
        micrograph.plane(6)
    with pytest.raises(InputError, match="no plane -1"):
        micrograph.plane(-1)


def test_a_stack_in_true_colour():
    pixels = np.random.default_rng(0).integers(0, 255, (5, 4, 6, 3), dtype=np.uint8)
    micrograph = Micrograph(pixels, "ZYXS")
    assert micrograph.shape_yx == (4, 6)
    assert micrograph.shape_planes == (5,)
    np.testing.assert_array_equal(micrograph.plane(2, channels=3), np.moveaxis(pixels[2], -1, 0))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_colour_becomes_luminance(dtype):
    pixels = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(dtype)
    luminance = Micrograph(pixels, "YXS").plane()
    assert luminance.shape == (1, 4, 6)
    assert luminance.dtype == np.float32
    expected = 0.2126 * pixels[..., 0] + 0.7152 * pixels[..., 1] + 0.0722 * pixels[..., 2]
    np.testing.assert_allclose(luminance[0], expected, rtol=1e-5)


def test_grey_is_repeated_for_a_model_of_colour():
    np.testing.assert_array_equal(Micrograph(grey(4, 6)).plane(channels=3), np.stack([grey(4, 6)] * 3))


@pytest.mark.parametrize(("pixels", "axes", "have"), [(grey(4, 6), "YX", 1), (grey(4, 6, 3), "YXS", 3)])
def test_other_numbers_of_channels_are_errors(pixels, axes, have):
    with pytest.raises(InputError, match=f"takes 5 channels, the image has {have}; choose another model"):
        Micrograph(pixels, axes).plane(channels=5)


@pytest.mark.parametrize(
    ("bar", "rows"),
    [
        (None, slice(0, 100)),
        ((90, 100), slice(0, 90)),
        ((90, 95), slice(0, 90)),  # what is below the bar is a rest of it
        ((0, 10), slice(10, 100)),
        ((5, 10), slice(10, 100)),
        ((0, 99), slice(99, 100)),
    ],
)
def test_the_data_bar_is_left_out(bar, rows):
    micrograph = Micrograph(grey(2, 100, 6), "ZYX", data_bar=bar)
    assert micrograph.content_rows == rows
    mask = micrograph.content_mask()
    assert mask.shape == (2, 100, 6)
    expected = np.zeros((2, 100, 6), dtype=bool)
    expected[:, rows] = True
    np.testing.assert_array_equal(mask, expected)
    assert mask.strides[0] == mask.strides[2] == 0  # a view of one column


def test_a_data_bar_over_everything_is_an_error():
    with pytest.raises(InputError, match="data bar covers the whole image; keep the data bar"):
        _ = Micrograph(grey(10, 6), data_bar=(0, 10)).content_rows


@pytest.mark.parametrize(
    ("pixels", "axes", "message"),
    [
        (grey(4, 6), "ZYX", r"axes 'ZYX' do not fit pixels of shape \(4, 6\); give one letter per axis"),
        (grey(4, 6), "XY", "axes must end in YX or YXS, not 'XY'; move the axes first"),
        (grey(4, 6, 2), "YXC", "axes must end in YX or YXS"),
        (grey(4, 6, 4), "YXS", "3 channels .* not 4"),
        (grey(0, 6), "YX", r"holds no pixels \(shape \(0, 6\)\)"),
        (np.zeros((4, 6), dtype=complex), "YX", "integers or real numbers, not complex128; convert"),
        (np.full((4, 6), "a"), "YX", "integers or real numbers"),
    ],
)
def test_pixels_that_are_no_micrograph(pixels, axes, message):
    with pytest.raises(InputError, match=f"odd.tif: .*{message}"):
        Micrograph(pixels, axes, source=Path("odd.tif"))


def test_planes_are_read_one_at_a_time():
    class Lazy:
        shape, dtype = (3, 4, 6), np.dtype(np.uint16)

        def __init__(self) -> None:
            self.read: list[object] = []

        def __getitem__(self, key: object) -> np.ndarray:
            self.read.append(key)
            return grey(3, 4, 6)[key]

    lazy = Lazy()
    micrograph = Micrograph(lazy, "ZYX")
    _ = micrograph.content_mask(), micrograph.shape_yx
    assert lazy.read == []
    np.testing.assert_array_equal(micrograph.plane(1)[0], grey(3, 4, 6)[1])
    assert [key[0] for key in lazy.read] == [1]

from __future__ import annotations

import numpy as np
import pytest

from napari_matseg.core.channels import CHANNELS, take_channel
from napari_matseg.core.micrograph import Micrograph


@pytest.fixture(params=["YXS", "ZTYXS"])
def colour(request) -> Micrograph:
    axes = request.param
    shape = (2, 3, 8, 9, 3)[-len(axes) :]
    pixels = np.random.default_rng(0).integers(0, 2**16, shape).astype(np.uint16)
    return Micrograph(pixels, axes, pixel_size_nm=(1.0, 2.0), levels=(pixels[..., ::2, ::2, :],))


@pytest.mark.parametrize("channel", CHANNELS)
def test_one_channel(colour, channel):
    grey = take_channel(colour, channel)
    expected = colour.pixels[..., CHANNELS.index(channel)]
    assert (grey.axes, grey.pixel_size_nm, grey.levels) == (colour.axes[:-1], (1.0, 2.0), ())
    assert grey.pixels.dtype == np.uint16
    np.testing.assert_array_equal(np.asarray(grey.pixels), expected)
    np.testing.assert_array_equal(grey.pixels[..., 2:5, 3], expected[..., 2:5, 3])
    np.testing.assert_array_equal(grey.plane(grey.n_planes - 1)[0], expected.reshape(-1, 8, 9)[-1])


def test_luminance_is_what_a_network_of_one_channel_gets(colour):
    grey = take_channel(colour, "luminance")
    assert grey.pixels.dtype == np.float32
    for plane in range(colour.n_planes):
        np.testing.assert_array_equal(grey.plane(plane), colour.plane(plane))


def test_grey_stays():
    grey = Micrograph(np.zeros((4, 5)))
    assert take_channel(grey, "red") is grey

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from napari_matseg.core import normalise
from napari_matseg.core.normalise import GreyScale, grey_scale
from napari_matseg.errors import SettingsError
from napari_matseg.settings import NormaliseSettings

DTYPES = ["bool", "uint8", "uint16", ">u2", "int8", "int16", "uint32", "int32", "float16", "float32", "float64"]
LIMIT = NormaliseSettings().limit
FLOATS = {"allow_subnormal": False, "min_value": -1e6, "max_value": 1e6}


def image_of(dtype: str, shape: tuple[int, ...] = (1, 40, 60)) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, shape)
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_goes_from_minus_one_to_one(dtype):
    image = image_of(dtype)
    scaled = grey_scale(image, NormaliseSettings(low=0, high=100)).apply(image)
    assert scaled.dtype == np.float32
    assert scaled.shape == image.shape
    assert (scaled.min(), scaled.max()) == pytest.approx((-1, 1), abs=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32"])
def test_statistics_are_percentiles_of_all_pixels(dtype):
    image = np.random.default_rng(1).gamma(2, 20, (2, 51, 67)).clip(0, 255).astype(dtype)
    scale = grey_scale(image, NormaliseSettings(low=2.5, high=90))
    for channel, low, high in zip(image, scale.low, scale.high, strict=True):
        assert low == np.percentile(channel, 2.5, method="inverted_cdf")
        assert high == np.percentile(channel, 90, method="inverted_cdf")


@given(
    hnp.arrays(np.float64, st.tuples(st.just(1), st.integers(1, 12), st.integers(1, 12)), elements=st.floats(**FLOATS)),
    st.floats(0.01, 1000),
    st.floats(-1000, 1000),
)
def test_gain_and_offset_of_the_detector_make_no_difference(image, gain, offset):
    changed = image * gain + offset
    before, after = grey_scale(image), grey_scale(changed)
    if before.high[0] - before.low[0] > 1e-3:
        np.testing.assert_allclose(before.apply(image), after.apply(changed), atol=1e-3)


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int32, np.float16, np.float32, np.float64]),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=10),
        elements={"allow_subnormal": False},
    )
)
def test_whatever_comes_in_what_comes_out_is_finite_and_within_the_limit(image):
    scaled = grey_scale(image).apply(image)
    assert scaled.dtype == np.float32
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() <= LIMIT


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_part_is_scaled_as_in_the_whole(dtype):
    image = image_of(dtype)
    scale = grey_scale(image)
    part = np.s_[:, 7:19, 30:41]
    np.testing.assert_array_equal(scale.apply(image[part]), scale.apply(image)[part])


def test_a_hot_pixel_stays_one_pixel():
    image = np.random.default_rng(0).integers(1000, 1200, (1, 64, 64)).astype(np.uint16)
    hot = image.copy()
    hot[0, 5, 6] = 65535
    before, after = grey_scale(image), grey_scale(hot)
    assert before == after
    differs = before.apply(image) != after.apply(hot)
    assert np.argwhere(differs).tolist() == [[0, 5, 6]]
    assert after.apply(hot)[0, 5, 6] == LIMIT


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_is_not_finite_does_not_count(dtype):
    image = image_of(dtype)
    spoilt = image.copy()
    spoilt[0, 0, :3] = np.nan, np.inf, -np.inf
    spoilt[0, 20:] = np.nan
    scale = grey_scale(spoilt)
    assert scale == grey_scale(np.where(np.isfinite(spoilt), spoilt, spoilt[0, 1, 0])[:, :20])
    scaled = scale.apply(spoilt)
    assert scaled[0, 0, :3].tolist() == [0, LIMIT, -LIMIT]
    assert (scaled[0, 20:] == 0).all()
    np.testing.assert_array_equal(scaled[0, 1:20], scale.apply(image)[0, 1:20])


@pytest.mark.parametrize(
    "image",
    [
        np.full((1, 5, 7), 200, dtype=np.uint8),
        np.full((1, 5, 7), 65535, dtype=np.uint16),
        np.zeros((1, 1, 1), dtype=np.float32),
        np.full((1, 5, 7), -3.5),
        np.full((1, 5, 7), np.nan, dtype=np.float32),
        np.full((1, 5, 7), np.inf, dtype=np.float16),
        np.full((1, 5, 7), True),
    ],
)
def test_an_image_without_contrast_is_zero_throughout(image):
    scaled = grey_scale(image).apply(image)
    assert (scaled == 0).all()


def test_of_an_almost_constant_image_the_extremes_count():
    image = np.full((1, 40, 40), 7, dtype=np.uint8)
    image[0, 3, 3] = 9
    scale = grey_scale(image)
    assert (scale.low, scale.high) == ((7.0,), (9.0,))
    assert np.unique(scale.apply(image)).tolist() == [-1, 1]


def test_channels_are_scaled_apart():
    image = image_of("uint8", (3, 20, 20))
    image[1] = 5
    image[2] //= 3
    scaled = grey_scale(image).apply(image)
    for channel in range(3):
        alone = image[channel : channel + 1]
        np.testing.assert_array_equal(scaled[channel], grey_scale(alone).apply(alone)[0])


def test_values_that_float32_could_not_hold_apart_stay_apart():
    image = (4_000_000_000 + np.arange(100).reshape(1, 10, 10)).astype(np.uint32)
    scaled = grey_scale(image, NormaliseSettings(low=0, high=100)).apply(image)
    np.testing.assert_allclose(scaled.ravel(), np.linspace(-1, 1, 100), atol=1e-5)


def test_the_limit_is_that_of_the_settings():
    image = np.array([[[0, 1, 100]]], dtype=np.float32)
    settings = NormaliseSettings(limit=1.5)
    scale = GreyScale((0.0,), (1.0,), settings.limit)
    assert scale.apply(image).ravel().tolist() == [-1, 1, 1.5]
    assert grey_scale(image, settings).limit == 1.5


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_bands_of_rows_add_up(monkeypatch, dtype):
    image = image_of(dtype)
    expected = grey_scale(image)
    monkeypatch.setattr(normalise, "BAND", 130)
    assert grey_scale(image) == expected


def test_of_large_float_images_a_sample_is_enough(monkeypatch):
    monkeypatch.setattr(normalise, "MAX_SAMPLE", 10_000)
    image = np.random.default_rng(0).normal(size=(1, 400, 300))
    scale = grey_scale(image)
    assert (scale.low[0], scale.high[0]) == pytest.approx(tuple(np.percentile(image, (1, 99))), abs=0.1)


MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def test_mean_and_deviation_of_eight_bits_are_of_the_whole_range() -> None:
    image = np.random.default_rng(0).integers(100, 140, (3, 8, 9), dtype=np.uint8)
    found = grey_scale(image, NormaliseSettings(mean=MEAN, std=STD)).apply(image)
    expected = (image / 255 - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_other_depths_are_stretched_first(dtype: type) -> None:
    image = (np.arange(200, dtype=np.float64).reshape(1, 10, 20) + 50).astype(dtype)
    settings = NormaliseSettings(mean=(0.4,), std=(0.2,), low=0, high=100)
    found = grey_scale(image, settings).apply(image)
    np.testing.assert_allclose(
        found, np.clip((np.linspace(0, 1, 200).reshape(1, 10, 20) - 0.4) / 0.2, -3, 3), atol=1e-5
    )


def test_one_mean_is_of_all_channels() -> None:
    image = np.zeros((3, 4, 4), np.uint8)
    assert grey_scale(image, NormaliseSettings(mean=(0.5,), std=(0.5,))).low == (0, 0, 0)
    with pytest.raises(SettingsError, match="mean and std are of 3 channels and the network takes 1"):
        grey_scale(image[:1], NormaliseSettings(mean=MEAN, std=STD))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mean": MEAN}, "mean and std go together"),
        ({"mean": MEAN, "std": (0.1,)}, "mean and std must be as many"),
        ({"mean": (0.5,), "std": (0.0,)}, "std above 0"),
    ],
)
def test_statistics_that_make_no_sense(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        NormaliseSettings(**values)

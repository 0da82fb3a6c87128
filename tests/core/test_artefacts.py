from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core import artefacts
from napari_matseg.core.artefacts import (
    BLACK,
    SPAN,
    add_readout_noise,
    add_shot_noise,
    add_streaks,
    defocus,
    from_bytes,
    paste_data_bar,
    to_bytes,
)
from napari_matseg.core.data_bar import find_data_bar

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
seeds = st.integers(0, 2**32 - 1)


def bar_only(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return paste_data_bar(image, rng)[0]


every = pytest.mark.parametrize(
    "change", [add_shot_noise, add_readout_noise, defocus, add_streaks, bar_only], ids=lambda change: change.__name__
)


def grey(shape: tuple[int, ...] = (1, 96, 128), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@every
@given(seeds, st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 70)))
def test_shape_and_dtype_stay_and_so_does_the_image(change: Change, seed: int, shape: tuple[int, int, int]) -> None:
    image = grey(shape)
    before = image.copy()
    changed = change(image, np.random.default_rng(seed))
    assert changed.shape == shape
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    np.testing.assert_array_equal(image, before)


@every
@given(seeds, st.sampled_from([-3.0, -1.5, 0.0, 3.0]))
def test_constant_images_stay_finite(change: Change, seed: int, value: float) -> None:
    assert np.isfinite(change(np.full((1, 48, 5), value, np.float32), np.random.default_rng(seed))).all()


@every
def test_the_generator_decides_everything(change: Change) -> None:
    one, same, other = (change(grey(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - grey()).max() > 0.05
    assert np.abs(one - other).max() > 0.05


def test_bytes_and_back() -> None:
    steps = np.arange(256, dtype=np.uint8)[None, None]
    np.testing.assert_array_equal(to_bytes(from_bytes(steps) + np.float32(1e-4)), steps)
    assert from_bytes(steps)[0, 0, [0, 255]].tolist() == [BLACK, BLACK + SPAN]
    assert to_bytes(np.array([-3.0, 3.0])).tolist() == [0, 255]


@pytest.mark.parametrize("dose", [30.0, 400.0])
def test_shot_noise_has_the_variance_of_electrons(monkeypatch: pytest.MonkeyPatch, dose: float) -> None:
    monkeypatch.setattr(artefacts, "DOSES", (dose, dose))
    for intensity in (0.1, 0.5, 1.0):
        image = np.full((1, 300, 300), BLACK + SPAN * intensity, np.float32)
        found = (add_shot_noise(image, np.random.default_rng(0)) - BLACK) / SPAN
        assert found.mean() == pytest.approx(intensity, abs=5 * np.sqrt(intensity / dose) / 300)
        assert found.var() == pytest.approx(intensity / dose, rel=0.05)


def test_shot_noise_leaves_black_as_it_is() -> None:
    image = np.full((1, 9, 9), BLACK - 1, np.float32)
    np.testing.assert_array_equal(add_shot_noise(image, np.random.default_rng(0)), image)


def test_readout_noise_is_the_same_in_dark_and_bright(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefacts, "READOUT", (0.2, 0.2))
    image = np.full((1, 200, 400), -1, np.float32)
    image[:, :, 200:] = 1
    noise = add_readout_noise(image, np.random.default_rng(0)) - image
    for half in (noise[..., :200], noise[..., 200:]):
        assert half.mean() == pytest.approx(0, abs=0.005)
        assert half.std() == pytest.approx(0.2, rel=0.02)


@given(seeds)
def test_defocus_spreads_a_point_over_an_ellipse(seed: int) -> None:
    image = np.zeros((1, 41, 41), np.float32)
    image[0, 20, 20] = 1
    spread = defocus(image, np.random.default_rng(seed))[0].astype(float)
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert spread.min() >= 0
    y, x = np.nonzero(spread)
    assert np.hypot(y - 20, x - 20).max() <= artefacts.RADII_PX[1] + 1.5
    np.testing.assert_allclose(spread, spread[::-1, ::-1], atol=1e-6)


def test_defocus_of_a_round_lens_has_the_radius_of_the_disc(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = artefacts._ellipse(3.0, 3.0, 0.4).astype(float)
    y, x = np.indices(kernel.shape) - len(kernel) // 2
    assert (kernel * (y**2 + x**2)).sum() == pytest.approx(3.0**2 / 2, rel=0.05)
    narrow = artefacts._ellipse(3.0, 1.2, 0.0).astype(float)
    assert (narrow * x**2).sum() == pytest.approx(3.0**2 / 4, rel=0.1)
    assert (narrow * y**2).sum() == pytest.approx(1.2**2 / 4 + 1 / 12, rel=0.15)


@given(seeds)
def test_streaks_run_along_the_rows_and_only_fade(seed: int) -> None:
    image = grey((2, 64, 80))
    lines = (add_streaks(image, np.random.default_rng(seed)) - image).astype(float)
    np.testing.assert_allclose(lines[0], lines[1], atol=1e-5)
    touched = np.abs(lines[0]).max(1) > 1e-5
    assert touched.mean() < 0.5
    assert np.abs(np.diff(lines[0][~touched], axis=1)).max(initial=0) < 1e-5


@given(seeds, st.integers(48, 400))
def test_data_bar_lies_along_the_edge_and_hides_no_more_than_it_may(seed: int, height: int) -> None:
    image = grey((2, height, 200))
    pasted, rows = paste_data_bar(image, np.random.default_rng(seed))
    assert rows.start == 0 or rows.stop == height
    assert artefacts.LOWEST_BAR_PX <= rows.stop - rows.start <= np.ceil(height / 4)
    np.testing.assert_array_equal(pasted[0, rows], pasted[1, rows])
    outside = np.ones(height, bool)
    outside[rows] = False
    np.testing.assert_array_equal(pasted[:, outside], image[:, outside])
    ground = np.isclose(np.abs(pasted[0, rows]), 1.5)
    assert ground.mean() > 0.5
    assert np.ptp(pasted[0, rows]) == pytest.approx(SPAN)


@pytest.mark.parametrize("height", [1, 20, 47])
def test_low_images_have_no_data_bar(height: int) -> None:
    pasted, rows = paste_data_bar(grey((1, height, 100)), np.random.default_rng(0))
    assert rows.stop == rows.start
    np.testing.assert_array_equal(pasted, grey((1, height, 100)))


def test_data_bars_look_like_those_that_are_found_in_files() -> None:
    found = 0
    for seed in range(20):
        pasted, rows = paste_data_bar(grey((1, 400, 600)), np.random.default_rng(seed))
        found += find_data_bar(to_bytes(pasted)[0]) == (rows.start, rows.stop)
    assert found >= 14

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.augment import change_grey, crop_map, take
from napari_matseg.settings import AugmentSettings

UNCHANGED = AugmentSettings(
    scale=(1, 1),
    aspect=1,
    rotate=False,
    brightness=0,
    contrast=(1, 1),
    gamma=(1, 1),
    invert=0,
    shading=0,
    blur=0,
    noise=0,
)
seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 400)


def corners(matrix: np.ndarray, offset: np.ndarray, crop: int) -> np.ndarray:
    """Where the middles of the crop's corner pixels lie."""
    last = crop - 1
    return np.array([[0, 0], [0, last], [last, 0], [last, last]]) @ matrix.T + offset


@given(st.tuples(sides, sides), st.integers(1, 256), seeds)
def test_crops_have_their_middle_in_the_micrograph(shape: tuple[int, int], crop: int, seed: int) -> None:
    matrix, offset = crop_map(shape, crop, AugmentSettings(), np.random.default_rng(seed))
    middle = corners(matrix, offset, crop).mean(axis=0)
    assert (middle >= 0).all()
    assert (middle <= shape).all()


@given(st.tuples(st.integers(300, 600), st.integers(300, 600)), seeds)
def test_crops_hang_over_the_edge_by_a_tenth_at_most(shape: tuple[int, int], seed: int) -> None:
    crop = 64
    matrix, offset = crop_map(shape, crop, AugmentSettings(scale=(0.7, 2)), np.random.default_rng(seed))
    found = corners(matrix, offset, crop)
    over = 0.1 * np.ptp(found, axis=0) + 1
    assert (found.min(axis=0) >= -over).all()
    assert (found.max(axis=0) <= shape + over).all()


@given(seeds)
def test_scale_and_aspect_keep_to_their_limits(seed: int) -> None:
    settings = AugmentSettings(scale=(0.5, 3), aspect=1.5)
    matrix, _ = crop_map((300, 300), 64, settings, np.random.default_rng(seed))
    along_y, along_x = 1 / np.linalg.norm(matrix, axis=0)
    assert 0.5 <= np.sqrt(along_y * along_x) * (1 + 1e-12)
    assert np.sqrt(along_y * along_x) <= 3 * (1 + 1e-12)
    assert 1 / 1.5 <= along_y / along_x * (1 + 1e-12)
    assert along_y / along_x <= 1.5 * (1 + 1e-12)
    # Turned and flipped, but not sheared.
    assert matrix[:, 0] @ matrix[:, 1] == pytest.approx(0, abs=1e-9)


def test_settings_that_change_nothing_give_the_micrograph_itself() -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(-1.5, 3, (40, 60)).astype(np.float32)
    matrix, offset = crop_map(image.shape, 16, UNCHANGED, rng)
    np.testing.assert_array_equal(matrix, np.eye(2))
    for order in (0, 1):
        cut = take(image, matrix, np.round(offset).clip(0, 24), 16, order)
        top, left = np.round(offset).astype(int).clip(0, 24)
        np.testing.assert_allclose(cut, image[top : top + 16, left : left + 16], atol=1e-6)
    np.testing.assert_allclose(change_grey(image[None], UNCHANGED, rng)[0], image, atol=1e-5)


def test_without_rotation_up_stays_up() -> None:
    settings = AugmentSettings(rotate=False)
    for seed in range(20):
        matrix, _ = crop_map((100, 100), 32, settings, np.random.default_rng(seed))
        assert (np.diag(matrix) > 0).all()
        assert not matrix[[0, 1], [1, 0]].any()


def test_with_rotation_half_the_crops_are_mirrored() -> None:
    rng = np.random.default_rng(0)
    mirrored = [np.linalg.det(crop_map((100, 100), 32, AugmentSettings(), rng)[0]) < 0 for _ in range(200)]
    assert 70 < sum(mirrored) < 130


@given(seeds)
def test_truth_stays_on_the_image(seed: int) -> None:
    y, x = np.ogrid[:200, :260]
    disc = np.hypot(y - 90, x - 140) < 60
    rng = np.random.default_rng(seed)
    matrix, offset = crop_map(disc.shape, 96, AugmentSettings(), rng)
    classes = take(disc.astype(np.uint8), matrix, offset, 96, order=0)
    grey = take(disc.astype(np.float32), matrix, offset, 96, order=1)
    inside, outside = classes == 1, classes == 0
    if inside.any():
        assert (grey[inside] > 0.3).mean() > 0.99
    if outside.any():
        assert (grey[outside] < 0.7).mean() > 0.99


def test_class_ids_are_never_mixed() -> None:
    truth = np.kron(np.array([[0, 7], [7, 0]]), np.ones((20, 20), int)).astype(np.uint8)
    for seed in range(10):
        matrix, offset = crop_map(truth.shape, 64, AugmentSettings(), np.random.default_rng(seed))
        cut = take(truth, matrix, offset, 64, order=0)
        assert cut.dtype == np.uint8
        assert set(np.unique(cut)) <= {0, 7}


def test_beyond_the_edge_the_micrograph_is_mirrored() -> None:
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    cut = take(image, np.eye(2), np.array([-2.0, 0.0]), 4, order=1)
    np.testing.assert_allclose(cut, image[[1, 0, 0, 1]], atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (3, 5)])
def test_tiny_micrographs_fill_a_crop(shape: tuple[int, int]) -> None:
    matrix, offset = crop_map(shape, 64, AugmentSettings(), np.random.default_rng(0))
    cut = take(np.full(shape, 5, np.float32), matrix, offset, 64, order=1)
    np.testing.assert_allclose(cut, np.full((64, 64), 5), rtol=1e-6)


def test_magnifying_down_does_not_alias() -> None:
    stripes = np.tile(np.array([-1, 1], np.float32), (256, 128))
    settings = UNCHANGED.model_copy(update={"scale": (0.25, 0.25)})
    matrix, offset = crop_map(stripes.shape, 32, settings, np.random.default_rng(0))
    cut = take(stripes, matrix, offset, 32, order=1)
    assert np.abs(cut[:, 4:-4]).max() < 0.1  # the first stripe is twice as wide, being mirrored


@given(seeds)
def test_grey_stays_finite_and_in_place(seed: int) -> None:
    image = np.full((1, 64, 64), -1, np.float32)
    image[0, 20:40, 10:30] = 1
    image[0, 0, :2] = -3, 3
    settings = AugmentSettings(invert=0, noise=0, shading=0)
    changed = change_grey(image, settings, np.random.default_rng(seed))
    assert changed.shape == image.shape
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    assert changed[0, 24:36, 14:26].min() > changed[0, 50:60, 40:60].max()


def test_inversion_negates() -> None:
    image = np.linspace(-1.5, 1.5, 64, dtype=np.float32).reshape(1, 8, 8)
    settings = UNCHANGED.model_copy(update={"invert": 1.0})
    np.testing.assert_allclose(change_grey(image, settings, np.random.default_rng(0)), -image, atol=1e-5)


@pytest.mark.parametrize("change", [{"shading": 1.0}, {"blur": 1.0}, {"noise": 1.0}, {"brightness": 0.5}])
def test_each_change_changes(change: dict[str, float]) -> None:
    image = np.random.default_rng(1).uniform(-1, 1, (2, 64, 64)).astype(np.float32)
    settings = UNCHANGED.model_copy(update=change)
    changed = change_grey(image, settings, np.random.default_rng(0))
    assert np.abs(changed - image).mean() > 0.01
    assert changed.shape == image.shape


def test_the_same_random_numbers_give_the_same_crop() -> None:
    image = np.random.default_rng(1).uniform(-1, 1, (1, 100, 100)).astype(np.float32)
    settings = AugmentSettings(invert=0.5, shading=1, blur=1, noise=1)

    def crop(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        matrix, offset = crop_map((100, 100), 64, settings, rng)
        return change_grey(take(image[0], matrix, offset, 64, order=1)[None], settings, rng)

    np.testing.assert_array_equal(crop(3), crop(3))
    assert np.abs(crop(3) - crop(4)).mean() > 0.01

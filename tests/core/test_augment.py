from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.augment import augment, change_grey, crop_map, elastic_shift, preview, take
from napari_matseg.core.normalise import grey_scale
from napari_matseg.errors import InputError
from napari_matseg.settings import AugmentSettings, NormaliseSettings

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
EVERYTHING = AugmentSettings(
    elastic=0.5,
    invert=0.5,
    shading=0.5,
    streaks=0.5,
    blur=0.5,
    defocus=0.5,
    shot_noise=0.5,
    noise=0.5,
    readout_noise=0.5,
    burnt_in=0.5,
    data_bar=0.5,
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


@pytest.mark.parametrize(
    "change",
    [
        {"brightness": 0.5},
        *({name: 1.0} for name in ("shading", "streaks", "blur", "defocus", "shot_noise", "noise", "readout_noise")),
    ],
)
def test_each_change_changes(change: dict[str, float]) -> None:
    image = np.random.default_rng(1).uniform(-1, 1, (2, 64, 64)).astype(np.float32)
    settings = UNCHANGED.model_copy(update=change)
    changed = change_grey(image, settings, np.random.default_rng(0))
    assert np.abs(changed - image).mean() > 0.005
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


@given(seeds)
def test_quarter_turns_move_pixels_as_they_are(seed: int) -> None:
    settings = UNCHANGED.model_copy(update={"rotate": "quarter"})
    image = np.random.default_rng(0).uniform(-1, 1, (16, 16)).astype(np.float32)
    rng = np.random.default_rng(seed)
    matrix, _ = crop_map(image.shape, 16, settings, rng)
    assert set(np.abs(matrix).ravel()) == {0.0, 1.0}
    assert abs(np.linalg.det(matrix)) == 1
    cut = take(image, matrix, 7.5 - matrix @ [7.5, 7.5], 16, order=1)
    turned = [np.rot90(one, times) for one in (image, image.T) for times in range(4)]
    assert any(np.allclose(cut, one, atol=1e-6) for one in turned)


def test_quarter_turns_are_all_drawn() -> None:
    settings, rng = UNCHANGED.model_copy(update={"rotate": "quarter"}), np.random.default_rng(0)
    drawn = {tuple(crop_map((100, 100), 32, settings, rng)[0].round().ravel()) for _ in range(200)}
    assert len(drawn) == 8


def test_mirroring_alone_keeps_up_and_down() -> None:
    settings, rng = UNCHANGED.model_copy(update={"rotate": "mirror"}), np.random.default_rng(0)
    drawn = [crop_map((100, 100), 32, settings, rng)[0] for _ in range(100)]
    assert all(matrix[0].tolist() == [1, 0] and matrix[1, 0] == 0 for matrix in drawn)
    assert 30 < sum(matrix[1, 1] < 0 for matrix in drawn) < 70


@given(seeds, st.integers(1, 90))
def test_elastic_distortion_never_folds_over(seed: int, crop: int) -> None:
    shift = elastic_shift(crop, np.random.default_rng(seed))
    assert shift.shape == (2, crop, crop)
    np.testing.assert_allclose(shift.mean((1, 2)), 0, atol=1e-9)
    if crop == 1:
        return
    assert np.abs(np.diff(shift, axis=1)).max() <= 0.6
    assert np.abs(np.diff(shift, axis=2)).max() <= 0.6
    down, right = np.diff(shift, axis=1)[:, :, :-1], np.diff(shift, axis=2)[:, :-1]
    jacobian = (1 + down[0]) * (1 + right[1]) - down[1] * right[0]
    assert jacobian.min() > 0
    assert np.abs(shift).max() > 0


def test_a_shift_of_nothing_changes_nothing() -> None:
    image = np.random.default_rng(0).uniform(-1, 1, (50, 40)).astype(np.float32)
    matrix, offset = crop_map(image.shape, 24, AugmentSettings(), np.random.default_rng(1))
    for order in (0, 1):
        plain = take(image, matrix, offset, 24, order)
        np.testing.assert_allclose(take(image, matrix, offset, 24, order, np.zeros((2, 24, 24))), plain, atol=1e-5)


def test_a_shift_takes_pixels_from_elsewhere() -> None:
    image = np.arange(400, dtype=np.float32).reshape(20, 20)
    shift = np.zeros((2, 8, 8))
    shift[0], shift[1] = 3, -2
    cut = take(image, np.eye(2), np.array([5.0, 6.0]), 8, order=1, shift=shift)
    np.testing.assert_allclose(cut, image[8:16, 4:12], atol=1e-4)


@given(seeds)
def test_truth_stays_on_the_image_that_is_distorted(seed: int) -> None:
    y, x = np.ogrid[:200, :260]
    disc = np.hypot(y - 90, x - 140) < 60
    settings = UNCHANGED.model_copy(update={"elastic": 1.0, "rotate": True, "scale": (0.6, 1.6)})
    depth = np.clip(1 - np.hypot(y - 90, x - 140) / 60, 0, 1).astype(np.float32)
    image = (2 * disc - 1).astype(np.float32)[None]
    grey, classes, distance = augment(image, disc.astype(np.uint8), depth, 96, settings, np.random.default_rng(seed))
    assert distance is not None
    assert ((grey[0] > 0) == (classes == 1)).mean() > 0.99
    assert ((distance > 0.01) == (classes == 1)).mean() > 0.97


@given(seeds, st.tuples(st.integers(1, 80), st.integers(1, 80)), st.integers(1, 3))
def test_truth_is_never_mixed_or_made_up(seed: int, shape: tuple[int, int], channels: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice(np.array([3, 7, 255], np.uint8), shape)
    before = truth.copy()
    image = rng.uniform(-1, 1, (channels, *shape)).astype(np.float32)
    grey, classes, _ = augment(image, truth, None, 64, EVERYTHING, rng)
    assert grey.shape == (channels, 64, 64)
    assert (grey.dtype, classes.dtype) == (np.float32, np.uint8)
    assert np.isfinite(grey).all()
    assert set(np.unique(classes)) <= {0, *np.unique(truth)}
    np.testing.assert_array_equal(truth, before)
    bar = np.flatnonzero((classes == 0).any(1))
    assert not bar.size or bar[0] == 0 or bar[-1] == 63
    assert bar.size <= 16


@given(seeds)
def test_what_is_ignored_stays_so(seed: int) -> None:
    image = np.zeros((1, 90, 90), np.float32)
    settings = EVERYTHING.model_copy(update={"data_bar": 1.0})
    _, classes, _ = augment(image, np.full((90, 90), 255, np.uint8), None, 64, settings, np.random.default_rng(seed))
    assert (classes == 255).all()


def test_data_bar_is_class_0_without_depth() -> None:
    settings = UNCHANGED.model_copy(update={"data_bar": 1.0})
    truth = np.full((128, 128), 2, np.uint8)
    truth[:, :40] = 255
    image, depth = np.zeros((1, 128, 128), np.float32), np.ones((128, 128), np.float32)
    grey, classes, distance = augment(image, truth, depth, 128, settings, np.random.default_rng(1))
    _, truth, _ = augment(image, truth, depth, 128, UNCHANGED, np.random.default_rng(1))
    bar = np.abs(grey[0]).max(1) > 1.4
    assert 12 <= bar.sum() <= 32
    np.testing.assert_array_equal(classes[~bar], truth[~bar])
    assert set(np.unique(classes[bar])) == {0, 255}
    np.testing.assert_array_equal(classes == 255, truth == 255)
    assert distance is not None
    np.testing.assert_array_equal(distance, np.repeat(~bar[:, None], 128, axis=1).astype(np.float32))


class TestPreview:
    image = np.random.default_rng(0).integers(0, 60000, (120, 150)).astype(np.uint16)
    truth = (image > 30000).astype(np.uint8)

    def test_gives_as_many_as_asked_for_and_the_same_again(self) -> None:
        pairs = preview(self.image, self.truth, EVERYTHING, n=4, seed=3, crop=64)
        longer = preview(self.image, self.truth, EVERYTHING, n=5, seed=3, crop=64)
        assert (len(pairs), len(longer)) == (4, 5)
        for (grey, classes), (again, _) in zip(pairs, longer[:4], strict=True):
            assert grey.shape == classes.shape == (64, 64)
            assert (grey.dtype, classes.dtype) == (np.float32, np.uint8)
            np.testing.assert_array_equal(grey, again)
        assert len({grey.tobytes() for grey, _ in pairs}) == 4
        assert preview(self.image, self.truth, EVERYTHING, n=0) == []

    def test_without_changes_it_shows_the_micrograph(self) -> None:
        settings = NormaliseSettings(low=0, high=100)
        ((grey, classes),) = preview(self.image, self.truth, UNCHANGED, 1, 4, crop=50, normalise=settings)
        rng = np.random.default_rng((4, 0))
        rng.random()  # for the lettering
        matrix, offset = crop_map(self.image.shape, 50, UNCHANGED, rng)
        scaled = grey_scale(self.image[None], settings).apply(self.image[None])[0]
        np.testing.assert_allclose(grey, take(scaled, matrix, offset, 50, order=1), atol=1e-5)
        np.testing.assert_array_equal(classes, take(self.truth, matrix, offset, 50, order=0))
        assert matrix.tolist() == np.eye(2).tolist()

    def test_what_is_no_number_is_grey(self) -> None:
        image = self.image.astype(np.float32)
        image[:60] = np.nan
        for grey, _ in preview(image, self.truth, EVERYTHING, n=4, crop=64):
            assert np.isfinite(grey).all()
        for value in (np.nan, 7.0):
            ((grey, _),) = preview(np.full((1, 1), value), np.zeros((1, 1), np.uint8), EVERYTHING, n=1, crop=32)
            assert np.isfinite(grey).all()

    @pytest.mark.parametrize("shapes", [((4, 5), (5, 4)), ((1, 4, 5), (1, 4, 5)), ((0, 3), (0, 3))])
    def test_image_and_truth_that_do_not_belong_together(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        with pytest.raises(
            InputError, match=r"^image of shape .* and truth of shape .*: give a plane and the truth of"
        ):
            preview(np.zeros(shapes[0]), np.zeros(shapes[1], np.uint8), AugmentSettings())


@given(st.integers(0, 999), st.integers(0, 199), st.integers(0, 299))
def test_crop_shows_the_pixel_that_it_is_to_show(seed: int, y: int, x: int) -> None:
    settings = AugmentSettings(scale=(0.5, 2.0))
    rng = np.random.default_rng(seed)
    matrix, offset = crop_map((200, 300), 64, settings, rng, near=np.array([y, x]))
    place = np.linalg.solve(matrix, np.array([y, x]) - offset)
    assert (place > -1).all()
    assert (place < 64).all()


def test_crop_that_is_to_show_a_pixel_of_a_corner_hangs_over_little() -> None:
    settings = AugmentSettings(scale=(1.0, 1.0), aspect=1, rotate=False)
    inside = []
    for seed in range(40):
        _, offset = crop_map((500, 500), 64, settings, np.random.default_rng(seed), near=np.array([3.0, 3.0]))
        inside.append((offset > -40).all())
    assert np.mean(inside) > 0.8

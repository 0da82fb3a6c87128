from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import ndimage

from napari_matseg.core.label_files import read_labels_info
from napari_matseg.core.read import read
from napari_matseg.core.synthetic import burn_in, coating, demo_micrograph, particles, superalloy, write_demo
from napari_matseg.core.synthetic.canvas import ANGLES, Bodies, apart, rasterise, relabel
from napari_matseg.errors import InputError, OutputError

SHAPE = (96, 128)


def is_consistent(sample, shape) -> bool:
    kinds = (sample.image_yx, np.uint8), (sample.truth_yx, np.uint16), (sample.classes_yx, np.uint8)
    fits = all(array.shape == shape and array.dtype == dtype for array, dtype in kinds)
    without_gaps = np.array_equal(np.unique(sample.truth_yx[sample.truth_yx > 0]), np.arange(sample.truth_yx.max()) + 1)
    return fits and without_gaps and np.array_equal(sample.truth_yx > 0, sample.classes_yx > 0)


@pytest.mark.parametrize("style", [None, "sem", "tem", "darkfield"])
def test_particles_have_a_consistent_truth(style):
    for seed in range(25):
        sample = particles(SHAPE, np.random.default_rng(seed), style=style)
        assert is_consistent(sample, SHAPE)
        assert sample.classes_yx.max() <= 1


def test_superalloy_has_a_consistent_truth_and_both_sizes():
    fractions = []
    for seed in range(8):
        sample = superalloy((256, 200), np.random.default_rng(seed))
        assert is_consistent(sample, (256, 200))
        fractions.append(np.bincount(sample.classes_yx.ravel(), minlength=3) / sample.classes_yx.size)
    _, secondary, tertiary = np.mean(fractions, axis=0)
    assert 0.35 < secondary < 0.65
    assert 0.002 < tertiary < 0.08


def test_each_precipitate_is_one_piece_of_one_class():
    sample = superalloy((256, 256), np.random.default_rng(3))
    for label in (1, 2):
        own = sample.classes_yx == label
        _, pieces = ndimage.label(own)
        assert len(np.unique(sample.truth_yx[own])) == pieces


@pytest.mark.parametrize("draw", [particles, superalloy, coating])
def test_the_same_seed_gives_the_same_micrograph(draw):
    one, two, other = (draw(SHAPE, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(one.image_yx, two.image_yx)
    assert np.array_equal(one.truth_yx, two.truth_yx)
    assert not np.array_equal(one.image_yx, other.image_yx)


@pytest.mark.parametrize("draw", [particles, superalloy, coating])
@pytest.mark.parametrize("shape", [(16, 16), (16, 300), (300, 16)])
def test_extreme_shapes(draw, shape):
    for seed in range(12):
        assert is_consistent(draw(shape, np.random.default_rng(seed)), shape)


@pytest.mark.parametrize("draw", [particles, superalloy, coating])
def test_too_small_a_shape_is_named(draw):
    with pytest.raises(InputError, match=r"\(8, 64\) is too small; ask for 16"):
        draw((8, 64), np.random.default_rng(0))


def test_unknown_style_is_named():
    with pytest.raises(InputError, match="no style 'afm'; choose one of sem, tem, darkfield"):
        particles(SHAPE, np.random.default_rng(0), style="afm")


def test_particles_are_seen_in_the_image():
    contrasts = []
    for seed in range(30):
        sample = particles((128, 128), np.random.default_rng(seed), style="tem")
        inside = sample.truth_yx > 0
        if 0.02 < inside.mean() < 0.98:
            contrasts.append(sample.image_yx[~inside].mean() - sample.image_yx[inside].mean())
    assert len(contrasts) > 15
    assert np.mean(np.array(contrasts) > 5) > 0.9


def test_particles_vary_in_number_and_size():
    truths = [particles((128, 128), np.random.default_rng(seed)).truth_yx for seed in range(40)]
    numbers = [int(truth.max()) for truth in truths]
    largest = [np.bincount(truth.ravel())[1:].max() for truth in truths if truth.any()]
    assert min(numbers) <= 2
    assert max(numbers) >= 100
    assert max(largest) > 0.25 * 128**2
    assert min(largest) < 150


def test_drawing_is_fast_enough_for_training():
    started = time.process_time()
    for seed in range(10):
        particles((256, 256), np.random.default_rng(seed))
    assert (time.process_time() - started) / 10 < 0.1  # about 7 ms; the margin is for slow machines


def disc(y: float, x: float, radius: float, length: float = 0.0, turn: float = 0.0) -> Bodies:
    def column(value: float) -> np.ndarray:
        return np.array([value], np.float32)

    outline = np.ones((1, ANGLES), np.float32)
    return Bodies(np.array([[y, x]]), column(radius), outline, column(length), column(turn))


def test_rasterised_disc_is_the_disc():
    inside = rasterise((64, 80), disc(30.3, 41.7, 12.5))
    y, x = np.mgrid[:64, :80]
    expected = np.hypot(y - 30.3, x - 41.7) < 12.5
    assert set(inside.index) == set(np.flatnonzero(expected))
    assert np.allclose(inside.rho * 12.5, np.hypot(inside.index // 80 - 30.3, inside.index % 80 - 41.7), atol=1e-3)


def test_rod_lies_along_its_axis_and_keeps_the_area():
    inside = rasterise((200, 200), disc(100.3, 99.6, 40, length=3, turn=np.pi / 2))
    y, x = np.divmod(inside.index, 200)
    assert np.ptp(y) > 2 * np.ptp(x)
    assert len(inside.index) == pytest.approx(np.pi * 40**2, rel=0.02)


@pytest.mark.parametrize("centre", [(-50, -50), (500, 10), (10, 500)])
def test_a_body_outside_the_image_has_no_pixels(centre):
    assert rasterise((32, 48), disc(*centre, 10)).index.size == 0


def test_apart_keeps_the_first_of_those_that_clash():
    centres = np.array([[0.0, 0.0], [0.0, 1.5], [0.0, 3.0], [0.0, 9.0]])
    # The third clashes only with the second, which has gone.
    assert apart(centres, np.ones(4), 1.0).tolist() == [True, False, True, True]


def test_relabel_closes_gaps_and_keeps_the_order():
    assert relabel(np.array([[0, 7], [3, 7]])).tolist() == [[0, 2], [1, 2]]


def test_burn_in_changes_a_small_part_and_not_its_input():
    image = np.full((256, 300), 120, np.uint8)
    shares = []
    for seed in range(40):
        burnt = burn_in(image, np.random.default_rng(seed))
        assert burnt.shape == image.shape
        assert burnt.dtype == np.uint8
        shares.append(np.mean(burnt != image))
    assert (image == 120).all()
    assert min(shares) > 0.0001
    assert max(shares) < 0.35


def test_burn_in_takes_small_images_and_is_deterministic():
    image = np.zeros((40, 24), np.uint8)
    for seed in range(10):
        one, two = (burn_in(image, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(one, two)


@pytest.mark.parametrize("kind", ["particles", "superalloy", "cracks"])
def test_demo_has_a_data_bar_below_that_is_background(kind):
    sample, (first, end), pixel_size_nm = demo_micrograph(kind, seed=1, shape=(128, 400))
    assert is_consistent(sample, (end, 400))
    assert (first, end) == (128, 192)
    assert not sample.classes_yx[first:].any()
    assert sample.classes_yx[:first].any()
    assert pixel_size_nm > 0
    bar = sample.image_yx[first + 1 :]
    assert bar.max() == 255
    assert np.median(bar) == 0


def test_scale_bar_of_the_demo_has_its_length():
    sample, (first, _), pixel_size_nm = demo_micrograph("particles", shape=(64, 512))
    rows = sample.image_yx[first + 14 : first + 20] == 255
    ends = np.flatnonzero(rows.all(axis=0))
    assert ends[-1] - ends[0] + 1 == round(200 / pixel_size_nm)


def test_demo_is_the_same_each_time():
    one, two, other = (demo_micrograph(seed=seed, shape=(64, 96)).sample.image_yx for seed in (0, 0, 1))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_unknown_demo_is_named():
    with pytest.raises(InputError, match="no demo 'cells'; choose one of particles, superalloy, cracks"):
        demo_micrograph("cells")


@pytest.mark.parametrize("kind", ["particles", "superalloy", "cracks"])
def test_written_demo_is_read_as_from_an_instrument(tmp_path, kind):
    image, truth = write_demo(tmp_path / "demo.tif", kind, seed=2, shape=(96, 160))
    demo = demo_micrograph(kind, seed=2, shape=(96, 160))
    micrograph = read(image)
    assert micrograph.pixel_size_nm == pytest.approx((demo.pixel_size_nm,) * 2, rel=1e-6)
    assert micrograph.data_bar == demo.data_bar
    assert micrograph.vendor is not None
    assert np.array_equal(micrograph.plane()[0], demo.sample.image_yx)
    labels = read(truth)
    assert labels.pixel_size_nm == pytest.approx((demo.pixel_size_nm,) * 2, rel=1e-6)
    assert np.array_equal(labels.plane()[0], demo.sample.classes_yx)
    classes, _ = read_labels_info(truth)
    assert classes is not None
    assert len(classes) == (2 if kind == "particles" else 3)


def test_written_demo_is_the_same_file_each_time(tmp_path):
    one, _ = write_demo(tmp_path / "one.tif", shape=(32, 48))
    two, _ = write_demo(tmp_path / "two.tif", shape=(32, 48))
    assert one.read_bytes() == two.read_bytes()


def test_demo_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(OutputError, match=r"no folder .*missing; create it first"):
        write_demo(tmp_path / "missing" / "demo.tif", shape=(32, 48))

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw

from napari_matseg.core.annotate import draw_text
from napari_matseg.core.data_bar import MOST_ROWS, TALLEST, find_data_bar, with_data_bar
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.read import read
from napari_matseg.core.synthetic.demo import demo_micrograph, write_demo
from napari_matseg.core.synthetic.lettering import burn_in
from napari_matseg.errors import InputError

HEIGHT, WIDTH = 200, 300
TEXT = "EHT = 5.00 kV  WD = 3.9 mm  Mag = 20.0 K X"


def content(seed: int = 0, shape: tuple[int, int] = (HEIGHT, WIDTH), mean: float = 120) -> np.ndarray:
    """Blobs under noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    waves = 30 * np.sin(rows / 9 + seed) * np.cos(columns / 13)
    return np.clip(mean + waves + rng.normal(0, 12, shape), 0, 255).astype(np.uint8)


def bar(height: int = 24, width: int = WIDTH, ground: int = 0, ink: int = 255, line: int = 0) -> np.ndarray:
    """One line of text and a scale bar, perhaps with a line above them."""
    canvas = Image.new("L", (width, height), ground)
    draw = ImageDraw.Draw(canvas)
    draw_text(draw, (6, height // 3), TEXT, height // 2, ink)
    draw.rectangle((0.8 * width, height // 2, 0.95 * width, height // 2 + 1), fill=ink)
    image = np.array(canvas)
    image[:line] = ink
    return image


def below(image: np.ndarray, strip: np.ndarray) -> np.ndarray:
    return np.concatenate((image, strip))


@pytest.mark.parametrize("line", [0, 1, 2])
@pytest.mark.parametrize(("ground", "ink"), [(0, 255), (40, 255), (255, 0), (230, 60)])
@pytest.mark.parametrize("height", [14, 24, 36])
def test_a_bar_is_found_to_the_row(height, ground, ink, line):
    strip = bar(height, ground=ground, ink=ink, line=line)
    assert find_data_bar(below(content(), strip)) == (HEIGHT, HEIGHT + height)
    above = np.concatenate((strip[::-1] if line else strip, content()))
    assert find_data_bar(above) == (0, height)


@given(st.integers(14, 40), st.integers(0, 30), st.sampled_from([0, 20, 235, 255]), st.integers(60, 190))
def test_what_is_found_is_the_bar_whatever_the_image(height, seed, ground, mean):
    strip = bar(height, ground=ground, ink=255 - ground)
    assert find_data_bar(below(content(seed, mean=mean), strip)) == (HEIGHT, HEIGHT + height)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("scale", [1, 0.001, 100])
def test_of_any_dtype(dtype, scale):
    image = below(content(), bar())
    assert find_data_bar((image * (scale if np.dtype(dtype).kind == "f" else 1)).astype(dtype)) == (HEIGHT, HEIGHT + 24)


def test_of_16_bits_with_an_image_of_few_levels():
    image = below(content().astype(np.uint16) + 300, bar().astype(np.uint16) * 257)
    assert find_data_bar(image) == (HEIGHT, HEIGHT + 24)


def test_of_colour():
    image = np.repeat(below(content(), bar())[..., None], 3, axis=2)
    image[HEIGHT + 6 : HEIGHT + 16, 200:215] = (0, 60, 200)
    assert find_data_bar(image) == (HEIGHT, HEIGHT + 24)


def test_of_bits():
    rng = np.random.default_rng(0)
    assert find_data_bar(below(rng.random((HEIGHT, WIDTH)) < 0.5, bar() > 128)) == (HEIGHT, HEIGHT + 24)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_do_no_harm(bad):
    image = below(content(), bar()).astype(np.float32)
    image[50:60, 20:40] = bad
    image[-40, 5] = bad
    assert find_data_bar(image) == (HEIGHT, HEIGHT + 24)
    assert find_data_bar(np.full((HEIGHT, WIDTH), bad)) is None


def test_values_beyond_single_precision_do_no_harm():
    image = below(content(), bar()).astype(np.float64)
    assert find_data_bar(np.where(image > 120, 1e300, -1e300)) is None
    image[-40, 50] = 1e300
    assert find_data_bar(image) == (HEIGHT, HEIGHT + 24)


def test_a_row_of_the_image_below_the_bar_belongs_to_it():
    image = np.concatenate((content(), bar(), content(shape=(2, WIDTH))))
    assert find_data_bar(image) == (HEIGHT, HEIGHT + 26)


def test_of_a_dark_image_by_the_line_above_the_bar():
    assert find_data_bar(below(np.zeros((HEIGHT, WIDTH), np.uint8), bar(line=1))) == (HEIGHT, HEIGHT + 24)


def test_of_a_wide_image_a_few_columns_are_read():
    wide = below(np.tile(content(), (1, 100)), np.tile(bar(), (1, 100)))
    read = []

    class Lazy:
        shape = wide.shape

        def __getitem__(self, part):
            read.append(wide[part].shape[1])
            return wide[part]

    assert find_data_bar(Lazy()) == (HEIGHT, HEIGHT + 24)
    assert set(read) == {1024}


def test_bottom_before_top():
    assert find_data_bar(np.concatenate((bar(20), content(), bar(24)))) == (220, 244)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 3), (30, 30), (0, 0), (0, 40), (40, 0), (100, 31)])
def test_too_small_to_have_one(shape):
    assert find_data_bar(np.zeros(shape, np.uint8)) is None
    assert find_data_bar(np.random.default_rng(0).integers(0, 255, shape)) is None


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.full((HEIGHT, WIDTH), 7, np.uint8), id="constant"),
        pytest.param(content(), id="image alone"),
        pytest.param(np.tile(bar(), (9, 1)), id="all text"),
        pytest.param(bar(HEIGHT), id="bar over everything"),
        pytest.param(below(content(), np.zeros((24, WIDTH), np.uint8)), id="frame without letters"),
        pytest.param(np.pad(content(), 12, constant_values=255), id="white frame"),
        pytest.param(below(content(), bar(120)), id="taller than any"),
        pytest.param(below(content(shape=(400, WIDTH)), bar(7)), id="lower than any"),
        pytest.param(np.maximum(below(content(), content(9, (24, WIDTH))), below(content(), bar())), id="text over it"),
        pytest.param(below(content(), np.hstack((bar(width=150), content(3, (24, 150))))), id="of half the width"),
    ],
)
def test_no_bar(image):
    assert find_data_bar(image) is None
    assert find_data_bar(image[::-1]) is None


@pytest.mark.parametrize("seed", range(20))
def test_lettering_on_the_image_or_on_a_dark_sky_is_no_bar(seed):
    rng = np.random.default_rng(seed)
    image = content(seed, (400, 500))
    assert find_data_bar(burn_in(image, rng)) is None
    surface = 60 + 25 * np.sin(np.linspace(0, rng.uniform(7, 20), 500))
    image[np.arange(400)[:, None] < surface] = 0
    assert find_data_bar(burn_in(image[::-1], rng)) is None


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=80)))
def test_always_rows_at_an_edge_of_no_more_than_a_quarter(image):
    found = find_data_bar(image)
    height = len(image)
    assert found is None or (found[1] == height) != (found[0] == 0)
    assert found is None or 0 < found[1] - found[0] <= TALLEST * height + 3


@given(st.integers(0, 30), st.booleans())
def test_turned_upside_down_it_is_at_the_other_edge(seed, has_bar):
    image = below(content(seed), bar() if has_bar else content(seed + 1, (24, WIDTH)))
    found, turned = find_data_bar(image), find_data_bar(image[::-1])
    assert (found is not None) == has_bar
    assert turned == (None if found is None else (0, found[1] - found[0]))


@pytest.mark.parametrize("kind", ["particles", "superalloy"])
def test_of_the_demo(kind):
    demo = demo_micrograph(kind, shape=(384, 512))
    assert find_data_bar(demo.sample.image_yx) == demo.data_bar


class TestInAMicrograph:
    def test_found_in_the_picture(self):
        found = with_data_bar(Micrograph(below(content(), bar())))
        assert (found.data_bar, found.data_bar_from) == ((HEIGHT, HEIGHT + 24), "picture")
        assert found.content_rows == slice(0, HEIGHT)
        assert found.describe()["data_bar_from"] == "picture"

    def test_what_is_known_stays(self):
        known = Micrograph(below(content(), bar()), data_bar=(210, 224))
        assert with_data_bar(known) is known

    def test_none(self):
        bare = Micrograph(content())
        assert with_data_bar(bare) is bare
        assert bare.describe()["data_bar_from"] is None

    @pytest.mark.parametrize("axes", ["ZYX", "TZYX", "ZYXS"])
    def test_of_a_stack_by_its_first_plane(self, axes):
        plane = below(content(), bar())
        plane = np.repeat(plane[..., None], 3, axis=2) if axes.endswith("S") else plane
        other = np.zeros_like(plane)
        stack = np.stack((plane, other))
        stack = stack[None] if axes == "TZYX" else stack
        assert with_data_bar(Micrograph(stack, axes)).data_bar == (HEIGHT, HEIGHT + 24)

    def test_few_rows_are_read_of_a_large_image(self):
        rows_read = []

        def part(plane, box):
            rows_read.append((plane, len(box[0])))
            rng = np.random.default_rng(0)
            return rng.integers(0, 255, (len(box[0]), len(box[1])), dtype=np.uint8)

        lazy = LazyPixels((3, 100_000, 4000), np.dtype(np.uint8), 1, part)
        assert with_data_bar(Micrograph(lazy, "ZYX")).data_bar is None
        assert {plane for plane, _ in rows_read} == {0}
        assert sum(count for _, count in rows_read) < 300

    def test_no_more_than_a_bound_where_the_edge_is_flat(self):
        rows_read = []

        def part(_plane, box):
            rows_read.append(len(box[0]))
            flat = np.zeros((len(box[0]), len(box[1])), np.uint8)
            flat[:, ::50] = 255
            return flat

        assert with_data_bar(Micrograph(LazyPixels((50_000, 5000), np.dtype(np.uint8), 0, part))).data_bar is None
        assert max(rows_read) < 1.1 * MOST_ROWS

    def test_damage_at_the_edge_is_left_for_those_who_read_there(self):
        def part(_plane, _box):
            raise InputError("damaged")

        damaged = Micrograph(LazyPixels((400, 400), np.dtype(np.uint8), 0, part))
        assert with_data_bar(damaged).data_bar is None


class TestInAFile:
    def test_found_unless_it_is_not_wanted(self, tmp_path: Path):
        path = tmp_path / "image.png"
        Image.fromarray(below(content(), bar())).save(path)
        assert read(path).data_bar == (HEIGHT, HEIGHT + 24)
        assert read(path, find_bar=False).data_bar is None

    def test_by_the_record_and_not_by_the_picture(self, tmp_path: Path):
        path, _ = write_demo(tmp_path / "demo.tif", shape=(96, 128))
        for micrograph in (read(path), read(path, find_bar=False)):
            assert (micrograph.data_bar, micrograph.data_bar_from) == ((96, 160), "record")


def grating() -> np.ndarray:
    """Flat and rough lines in turn, each of which could be the end of a bar."""
    rows = np.arange(768)[:, None]
    is_rough = (rows % 24 < 12) & (np.random.default_rng(0).random((768, 1024)) < 0.7)
    return np.where(is_rough, 255, 0).astype(np.uint8)


@pytest.mark.parametrize(
    "image", [demo_micrograph(shape=(704, 1024)).sample.image_yx, content(shape=(768, 1024)), grating()]
)
def test_it_takes_a_few_milliseconds(image):
    times = []
    for _ in range(5):
        started = time.process_time()
        find_data_bar(image)
        times.append(time.process_time() - started)
    assert min(times) < 0.03

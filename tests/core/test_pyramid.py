from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_matseg.core import pyramid as module
from napari_matseg.core import pyramid_cache, pyramid_sample
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import Progress, finish
from napari_matseg.core.pyramid import Pyramid
from napari_matseg.core.pyramid_cache import pyramid_folder, pyramid_key, shrink_folder
from napari_matseg.core.pyramid_sample import Kind, halve, take_sample
from napari_matseg.core.read import read
from napari_matseg.errors import InputError, OutputError

PLENTY = 2**30
LABELS = (np.arange(100 * 150) // 7 % 3).astype(np.uint8).reshape(100, 150)


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """Everything some hundred times smaller, so that a small image is a large one."""
    monkeypatch.setenv("NAPARI_MATSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("napari_matseg.core.read_tiff.LAZY_BYTES", 100)
    monkeypatch.setattr("napari_matseg.core.axes.LAZY_BYTES", 100)
    for name, value in {"SMALLEST": 20, "SIDE": 32, "CHUNK": 16, "MEMORY_BYTES": 900, "GRIDS": (4,)}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(pyramid_sample, "GRIDS", (4,))


def image(shape: tuple[int, ...] = (100, 150), dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def write(path: Path, pixels: np.ndarray, **kind: object) -> Micrograph:
    photometric = "rgb" if pixels.ndim > 2 and pixels.shape[-1] == 3 else "minisblack"
    tifffile.imwrite(path, pixels, photometric=photometric, **({"tile": (16, 16)} | kind))
    return read(path, find_bar=False)


def expected(pixels: np.ndarray, n: int, kind: Kind = "image") -> list[np.ndarray]:
    levels = []
    for _ in range(n):
        pixels = halve(pixels, kind)
        levels.append(pixels)
    return levels


def assert_levels(pyramid: Pyramid, pixels: np.ndarray, kind: Kind = "image") -> None:
    assert [level.shape[:2] for level in pyramid.levels] == [(50, 75), (25, 38), (13, 19)]
    for level, right in zip(pyramid.levels, expected(pixels, 3, kind), strict=True):
        assert level.dtype == pixels.dtype
        np.testing.assert_array_equal(level[...], right)


@given(
    arrays(
        st.sampled_from(["u1", "i1", "u2", "i2", "u4", "f4", "f8"]),
        st.tuples(st.integers(1, 5), st.integers(1, 5)),
        elements=st.integers(0, 100),
    )
)
def test_halving_takes_the_mean_and_keeps_the_type(pixels):
    half = halve(pixels)
    assert half.dtype == pixels.dtype
    assert half.shape == tuple(-(-side // 2) for side in pixels.shape)
    padded = np.pad(pixels, [(0, side % 2) for side in pixels.shape], mode="edge").astype(float)
    mean = (padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]) / 4
    assert np.abs(half - mean).max() <= (0.5 if pixels.dtype.kind in "ui" else 0)


def test_halving_extremes_does_not_wrap_round():
    for dtype in ("uint8", "uint16", "uint32", "int8", "int32"):
        for value in (np.iinfo(dtype).min, np.iinfo(dtype).max):
            np.testing.assert_array_equal(halve(np.full((4, 4), value, dtype)), np.full((2, 2), value, dtype))


@pytest.mark.parametrize("kind", [{}, {"tile": None, "rowsperstrip": 3, "compression": "zlib"}, {"tile": None}])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_copies_are_means_of_the_image(tmp_path, kind, dtype):
    pixels = image(dtype=dtype)
    pyramid = Pyramid(write(tmp_path / "a.tif", pixels, **kind), PLENTY)
    assert not pyramid.ready
    steps = list(pyramid.steps())
    assert steps[-1].done == steps[-1].total > 1
    assert pyramid.ready
    assert_levels(pyramid, pixels)


def test_colour(tmp_path):
    pixels = image((100, 150, 3))
    pyramid = Pyramid(write(tmp_path / "a.tif", pixels), PLENTY)
    finish(pyramid.steps())
    assert_levels(pyramid, pixels)


def test_each_plane_of_a_stack_has_its_own(tmp_path):
    pixels = image((3, 100, 150))
    pyramid = Pyramid(write(tmp_path / "a.tif", pixels), PLENTY)
    finish(pyramid.steps())
    for plane in range(3):
        np.testing.assert_array_equal(pyramid.levels[1][plane], expected(pixels[plane], 2)[1])


def test_labels_are_never_mixed(tmp_path):
    pyramid = Pyramid(write(tmp_path / "a.tif", LABELS), PLENTY, "labels")
    assert set(np.unique(pyramid.levels[-1][...])) <= {0, 1, 2}
    finish(pyramid.steps())
    assert_levels(pyramid, LABELS, "labels")


def test_copies_in_the_file_are_gone_on_from(tmp_path):
    pixels = image((200, 300))
    micrograph = write(tmp_path / "a.tif", pixels)
    pyramid = Pyramid(replace(micrograph, levels=(write(tmp_path / "b.tif", halve(pixels)).pixels,)), PLENTY)
    finish(pyramid.steps())
    assert_levels(pyramid, halve(pixels))


def test_next_time_they_are_there_at_once(tmp_path):
    micrograph = write(tmp_path / "a.tif", image())
    finish(Pyramid(micrograph, PLENTY).steps())
    again = Pyramid(micrograph, PLENTY)
    assert again.ready
    assert list(again.steps()) == []
    assert_levels(again, image())


def test_another_content_is_another_pyramid(tmp_path):
    path = tmp_path / "a.tif"
    write(path, image())
    key = pyramid_key(path, 1)
    assert key == pyramid_key(path, 1) != pyramid_key(path, 2)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    with path.open("rb+") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\1\2\3")
    os.utime(path, ns=times)
    assert pyramid_key(path, 1) != key
    key = pyramid_key(path, 1)
    os.utime(path, ns=(0, 0))
    assert pyramid_key(path, 1) != key


def test_a_store_goes_by_its_metadata(tmp_path):
    store = tmp_path / "a.zarr"
    store.mkdir()
    (store / ".zattrs").write_text("{}")
    key = pyramid_key(store, 1)
    (store / ".zattrs").write_text('{"a": 1}')
    assert pyramid_key(store, 1) != key


def test_before_it_is_done_there_is_something_to_see(tmp_path):
    pixels = np.add.outer(np.arange(200), np.zeros(300)).astype(np.uint8)
    pyramid = Pyramid(write(tmp_path / "a.tif", pixels), PLENTY)
    for level in pyramid.levels:
        seen = level[...].astype(int)
        assert seen.shape == level.shape
        assert np.all(np.diff(seen, axis=0) >= 0), "it gets brighter downwards, if in steps"
        assert np.ptp(seen) > 100
    steps = pyramid.steps()
    next(steps), next(steps)  # one block is done
    np.testing.assert_array_equal(pyramid.levels[0][:16, :16], halve(pixels)[:16, :16])
    assert not np.array_equal(pyramid.levels[0][...], halve(pixels))
    steps.close()


def test_what_is_looked_at_comes_first(tmp_path, monkeypatch):
    pixels = image((200, 300))
    pyramid = Pyramid(write(tmp_path / "a.tif", pixels), PLENTY)
    steps = pyramid.steps()
    next(steps)
    pyramid.levels[0][97:110, 145:150]
    pyramid.levels[-1][...]  # of the whole, which is no wish
    next(steps)
    np.testing.assert_array_equal(pyramid.levels[0][97:110, 145:150], halve(pixels)[97:110, 145:150])
    assert not np.array_equal(pyramid.levels[0][:16, :16], halve(pixels)[:16, :16])
    steps.close()


def test_giving_up_leaves_nothing_but_something_to_see(tmp_path):
    micrograph = write(tmp_path / "a.tif", image())
    pyramid = Pyramid(micrograph, PLENTY)
    steps = pyramid.steps()
    next(steps), next(steps)
    assert list(pyramid_folder().iterdir())
    steps.close()
    assert not list(pyramid_folder().iterdir())
    assert pyramid.levels[0][...].shape == (50, 75)
    assert not Pyramid(micrograph, PLENTY).ready


def test_a_damaged_copy_is_made_again(tmp_path):
    micrograph = write(tmp_path / "a.tif", image())
    pyramid = Pyramid(micrograph, PLENTY)
    finish(pyramid.steps())
    (pyramid.path / "2" / ".zarray").write_text("nothing")
    again = Pyramid(micrograph, PLENTY)
    assert not again.ready
    finish(again.steps())
    assert_levels(again, image())


def test_no_reading_is_of_what_is_not_needed(tmp_path, monkeypatch):
    """Opening takes few samples, and making the copies takes each block once."""
    micrograph = write(tmp_path / "a.tif", image((200, 300)))
    read_px = [0]
    inner = micrograph.pixels._read

    def counting(plane, box):
        read_px[0] += len(box[0]) * len(box[1])
        return inner(plane, box)

    monkeypatch.setattr(micrograph.pixels, "_read", counting)
    pyramid = Pyramid(micrograph, PLENTY)
    assert read_px[0] <= 16 * pyramid_sample.WINDOW**2
    read_px[0] = 0
    finish(pyramid.steps())
    assert read_px[0] == 200 * 300


def test_sample_of_values(tmp_path):
    pixels = image((100, 150), "float32")
    pixels[::7, ::5] = np.nan
    sample = take_sample(write(tmp_path / "a.tif", pixels).pixels, (), False, "image")
    assert (sample.low, sample.high) == (pytest.approx(0, abs=3), pytest.approx(199, abs=3))
    assert sample.coarse.shape == (4, 4)
    flat = take_sample(write(tmp_path / "b.tif", np.full((90, 90), 7, "uint16")).pixels, (), False, "image")
    assert (flat.low, flat.high) == (7, 8)
    none = take_sample(write(tmp_path / "c.tif", np.full((90, 90), np.nan, "f4")).pixels, (), False, "image")
    assert (none.low, none.high) == (0, 1)


def folder_of(tmp_path: Path, name: str, size: int, age: float) -> Path:
    path = tmp_path / name
    (path / "1").mkdir(parents=True)
    (path / "1" / "0").write_bytes(b"x" * size)
    for one in (path / "1", path):
        os.utime(one, (time.time() - age,) * 2)
    return path


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    old, new, oldest = (
        folder_of(tmp_path, f"{name}.pyramid", 100, age) for name, age in (("a", 20), ("b", 10), ("c", 30))
    )
    shrink_folder(tmp_path, 300, oldest)
    assert old.exists()
    shrink_folder(tmp_path, 250, oldest)
    assert not old.exists()
    assert new.exists()
    assert oldest.exists()


def test_what_was_left_half_done_goes_when_it_is_old(tmp_path):
    fresh = folder_of(tmp_path, ".a.pyramid", 1, 10)
    stale = folder_of(tmp_path, ".b.pyramid", 1, pyramid_cache.ABANDONED_S + 10)
    shrink_folder(tmp_path, PLENTY, tmp_path / "x")
    assert fresh.exists()
    assert not stale.exists()


def test_no_folder_can_be_made(tmp_path):
    (tmp_path / "cache").write_text("a file")
    pyramid = Pyramid(write(tmp_path / "a.tif", image()), PLENTY)
    with pytest.raises(OutputError, match="so no smaller copies are made"):
        finish(pyramid.steps())
    assert pyramid.levels[0][...].shape == (50, 75)


def test_pixels_of_no_file_have_none():
    with pytest.raises(ValueError, match="no file"):
        Pyramid(Micrograph(image()), PLENTY)


def test_a_file_that_is_damaged_inside(tmp_path):
    micrograph = write(tmp_path / "a.tif", image((200, 300)), compression="zlib")
    content = bytearray(micrograph.source.read_bytes())
    offset = len(content) // 2
    content[offset : offset + 400] = b"\xff" * 400
    pyramid = Pyramid(micrograph, PLENTY)
    micrograph.source.write_bytes(bytes(content))
    with pytest.raises(InputError, match="damaged"):
        finish(pyramid.steps())
    assert not list(pyramid_folder().iterdir())


def test_progress_is_of_blocks(tmp_path):
    steps = list(Pyramid(write(tmp_path / "a.tif", image()), PLENTY).steps())
    assert steps[0] == Progress(0, 20, "making smaller copies")

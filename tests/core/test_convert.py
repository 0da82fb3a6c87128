from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_matseg.core import convert as module
from napari_matseg.core.convert import convert_steps, describe_cost, view_bytes
from napari_matseg.core.converted import record_of, restored
from napari_matseg.core.label_files import write_labels
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.progress import finish
from napari_matseg.core.pyramid_sample import halve
from napari_matseg.core.read import read
from napari_matseg.core.synthetic import write_demo
from napari_matseg.errors import InputError, OutputError

ENDINGS = ("tif", "ome.zarr")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Tiles and copies so small that a small image has many."""
    monkeypatch.setattr("napari_matseg.core.read_tiff.LAZY_BYTES", 100)
    monkeypatch.setattr("napari_matseg.core.axes.LAZY_BYTES", 100)
    monkeypatch.setattr(module, "TILE", 16)
    monkeypatch.setattr(module, "SMALLEST", 40)


def image(shape: tuple[int, ...] = (150, 100), dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def assert_same(again: Micrograph, micrograph: Micrograph, path: Path) -> None:
    assert again.source == path
    for name in ("axes", "pixel_size_nm", "pixel_size_from", "data_bar", "data_bar_from", "vendor", "metadata"):
        assert getattr(again, name) == getattr(micrograph, name), name
    assert again.pixels.dtype == micrograph.pixels.dtype
    np.testing.assert_array_equal(again.pixels[...], micrograph.pixels[...])


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_the_same_micrograph_comes_back_with_smaller_copies(tmp_path, ending, dtype):
    pixels = image(dtype=dtype)
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, pixels, rowsperstrip=7, compression="zlib", resolution=(2e6, 1e6), resolutionunit=3)
    micrograph = read(source)
    path = tmp_path / f"b.{ending}"
    assert finish(convert_steps(micrograph, path)) == path
    again = read(path)
    assert_same(again, micrograph, path)
    assert again.pixel_size_nm == (10.0, 5.0)
    assert again.pixels.block_yx == (16, 16)
    assert [level.shape for level in again.levels] == [(75, 50), (38, 25)]
    np.testing.assert_array_equal(again.levels[0][...], halve(pixels))
    np.testing.assert_array_equal(again.levels[1][...], halve(halve(pixels)))
    assert sorted(tmp_path.iterdir()) == [source, path], "nothing else is left"


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_the_instrument_recorded_is_kept(tmp_path, ending):
    source, _ = write_demo(tmp_path / "demo.tif", shape=(96, 128))
    micrograph = read(source)
    assert micrograph.metadata
    assert micrograph.data_bar is not None
    path = tmp_path / f"b.{ending}"
    finish(convert_steps(micrograph, path))
    assert_same(read(path), micrograph, path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_bar_that_the_picture_told_of(tmp_path, ending):
    micrograph = replace(Micrograph(image()), data_bar=(130, 150), data_bar_from="picture")
    path = tmp_path / f"b.{ending}"
    finish(convert_steps(micrograph, path))
    assert_same(read(path), micrograph, path)
    assert read(path, find_bar=False).data_bar is None


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("shape", "axes"), [((3, 60, 50), "ZYX"), ((2, 3, 60, 50), "VPYX"), ((60, 50, 3), "YXS")])
def test_stacks_and_colour(tmp_path, ending, shape, axes):
    micrograph = Micrograph(image(shape), axes, metadata={"voltage_kV": 5.0}, vendor="Somebody")
    path = tmp_path / f"b.{ending}"
    finish(convert_steps(micrograph, path))
    again = read(path)
    assert_same(again, micrograph, path)
    assert len(again.levels) == 1


@pytest.mark.parametrize("ending", ENDINGS)
def test_cancelled_half_way_leaves_nothing_and_what_was_there(tmp_path, ending):
    steps = convert_steps(Micrograph(image()), tmp_path / f"b.{ending}")
    for _ in range(5):
        next(steps)
    steps.close()
    assert list(tmp_path.iterdir()) == []
    finish(convert_steps(Micrograph(image()), tmp_path / f"b.{ending}"))
    steps = convert_steps(Micrograph(image() + 1), tmp_path / f"b.{ending}")
    next(steps), next(steps)
    steps.close()
    np.testing.assert_array_equal(read(tmp_path / f"b.{ending}").pixels[...], image())


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_strip_is_read_once(tmp_path, ending, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", image((200, 100)), rowsperstrip=40, compression="zlib")
    micrograph = read(tmp_path / "a.tif", find_bar=False)
    rows: list[int] = []
    inner = micrograph.pixels._read
    monkeypatch.setattr(micrograph.pixels, "_read", lambda p, box: (rows.append(len(box[0])), inner(p, box))[1])
    finish(convert_steps(micrograph, tmp_path / f"b.{ending}"))
    assert rows == [48, 48, 48, 48, 8]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_damaged_file_leaves_nothing(tmp_path, ending):
    def read_box(plane, box):
        if box[0].start > 40:
            raise InputError("a.tif: is damaged; copy it again.")
        return image()[box[0].start : box[0].stop, box[1].start : box[1].stop]

    micrograph = Micrograph(LazyPixels((150, 100), np.dtype(np.uint8), 0, read_box, (1, 100)))
    with pytest.raises(InputError, match="damaged"):
        finish(convert_steps(micrograph, tmp_path / f"b.{ending}"))
    assert list(tmp_path.iterdir()) == []


def test_progress_ends_where_it_says(tmp_path):
    for ending in ENDINGS:
        steps = list(convert_steps(Micrograph(image()), tmp_path / f"b.{ending}"))
        assert steps[-1].done == steps[-1].total == 10 + 5 + 3


def test_names_that_will_not_do(tmp_path):
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, image())
    with pytest.raises(OutputError, match=r"neither TIFF nor OME-Zarr by its name"):
        finish(convert_steps(read(source), tmp_path / "b.png"))
    with pytest.raises(OutputError, match="is the file that is read"):
        finish(convert_steps(read(source), source))
    for ending in ENDINGS:
        with pytest.raises(OutputError, match="there is no folder"):
            finish(convert_steps(read(source), tmp_path / "none" / f"b.{ending}"))


def test_values_that_the_format_does_not_know(tmp_path):
    micrograph = Micrograph(image(dtype="float16"))
    with pytest.raises(InputError, match=r"float16 are not known to OME-TIFF; convert to \.ome\.zarr"):
        finish(convert_steps(micrograph, tmp_path / "b.tif"))
    finish(convert_steps(micrograph, tmp_path / "b.ome.zarr"))
    np.testing.assert_array_equal(read(tmp_path / "b.ome.zarr").pixels[...], micrograph.pixels)


def test_labels_are_left_alone(tmp_path):
    write_labels(tmp_path / "a.tif", image() % 2, record={"job": "segment"})
    with pytest.raises(InputError, match="holds labels"):
        finish(convert_steps(read(tmp_path / "a.tif"), tmp_path / "b.tif"))


def test_what_a_view_costs(tmp_path):
    def lazy(block_yx, shape=(65536, 65536)):
        return LazyPixels(shape, np.dtype(np.uint8), 0, lambda plane, box: np.zeros(0), block_yx)

    assert view_bytes(np.zeros((2000, 2000))) == view_bytes(lazy(None)) == 0
    assert view_bytes(lazy((1, 65536))) == 1024 * 65536
    assert view_bytes(lazy((100, 65536))) == 1200 * 65536
    assert view_bytes(lazy((512, 512))) == 1536**2
    assert view_bytes(lazy((1, 65536, 3)[:2], (65536, 65536, 3))) == 3 * 1024 * 65536
    assert describe_cost(Micrograph(lazy((1, 65536)))) == (
        "this file is striped: each view of 1024 x 1024 pixels reads up to 67 MB"
    )
    assert "in blocks of 512 x 512 pixels" in describe_cost(Micrograph(lazy((512, 512))))


GOOD = record_of(Micrograph(image(), pixel_size_nm=(2.0, 2.0), data_bar=(140, 150), data_bar_from="record"))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"axes": "XY"},
        {"axes": "ZYX"},
        {"axes": 3},
        {"pixel_size_nm": [0, 1]},
        {"pixel_size_nm": ["1", "1"]},
        {"pixel_size_nm": [1.0]},
        {"pixel_size_nm": [float("inf"), 1]},
        {"data_bar_rows": [140, 151]},
        {"data_bar_rows": [True, 5]},
        {"data_bar_rows": None},
        {"data_bar_from": "nobody"},
        {"vendor": ["a"]},
        {"metadata": None},
    ],
)
def test_records_that_make_no_sense_change_nothing(change):
    plain = Micrograph(image())
    assert restored(plain, GOOD).data_bar == (140, 150)
    assert restored(plain, GOOD | change) is plain


@pytest.mark.parametrize("record", [None, [], "x", 3])
def test_what_is_no_record_changes_nothing(record):
    plain = Micrograph(image())
    assert restored(plain, record) is plain

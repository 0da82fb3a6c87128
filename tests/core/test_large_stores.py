from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_matseg.core import label_files
from napari_matseg.core.label_files import find_labels_info, read_labels_info, write_labels
from napari_matseg.core.large import stores
from napari_matseg.core.large.stores import StoredLabels, replacing_folder, store_steps, write_labels_zarr
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.progress import finish
from napari_matseg.core.read import read
from napari_matseg.errors import InputError, OutputError
from napari_matseg.settings import ClassSpec

CLASSES = (ClassSpec(name="matrix", colour=(0, 0, 0)), ClassSpec(name="\u03b3\u2032 \u00b5", colour=(0, 90, 255)))
RECORD = {"job": "segment", "n": 3, "nothing": None}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "CHUNK", 16)
    monkeypatch.setattr(stores, "SMALLEST", 16)
    monkeypatch.setattr(label_files, "LARGE_TILE", 16)


def labels_of(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, shape).astype(dtype)


def stored(path: Path, labels: np.ndarray) -> StoredLabels:
    finish(store_steps(path, list(labels.reshape(-1, *labels.shape[-2:])), labels.shape, labels.dtype, 0))
    return StoredLabels(path)


@given(
    planes=st.sampled_from([(), (2,), (2, 1)]),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    top=st.integers(0, 20),
    below=st.integers(0, 20),
)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_store_holds_what_was_put_in_and_smaller_copies(tmp_path, planes, height, width, top, below):
    labels = np.random.default_rng(height).integers(0, 3, (*planes, height, width)).astype(np.uint32)
    shape = (*planes, top + height + below, width)
    counts = finish(
        store_steps(tmp_path / "a.zarr", list(labels.reshape(-1, height, width)), shape, labels.dtype, top, n_classes=4)
    )
    assert counts.tolist() == np.bincount(labels.ravel(), minlength=4).tolist()
    back = StoredLabels(tmp_path / "a.zarr")
    expected = np.zeros(shape, np.uint32)
    expected[..., top : top + height, :] = labels
    for level in (back, *back.levels):
        np.testing.assert_array_equal(level[...], expected)
        expected = expected[..., ::2, ::2]
    assert max((back, *back.levels)[-1].shape[-2:]) <= 16


@pytest.mark.parametrize("size", [None, (2.0, 4.0)])
@pytest.mark.parametrize(("shape", "axes"), [((50, 37), "YX"), ((2, 20, 50), "ZYX"), ((2, 3, 20, 30), "TZYX")])
@pytest.mark.parametrize("in_store", [False, True])
def test_zarr_reads_back_the_same(tmp_path, shape, axes, size, in_store):
    labels = labels_of(shape)
    given_labels: Any = stored(tmp_path / "a.zarr", labels) if in_store else labels
    path = tmp_path / "a_labels.ome.zarr"
    write_labels_zarr(path, given_labels, pixel_size_nm=size, classes=CLASSES, axes=axes, record=RECORD)
    back = read(path, find_bar=False)
    np.testing.assert_array_equal(back.pixels, labels)
    assert (back.axes, back.pixel_size_nm, back.pixels.dtype) == (axes, size, np.uint8)
    assert read_labels_info(path) == find_labels_info(path) == (CLASSES, RECORD)
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]


def test_zarr_says_what_others_ask_for(tmp_path):
    path = tmp_path / "a_labels.ome.zarr"
    write_labels_zarr(path, labels_of((70, 30)), pixel_size_nm=(2.0, 4.0), classes=CLASSES)
    found = json.loads((path / ".zattrs").read_text())
    multiscale = found["multiscales"][0]
    assert [axis["unit"] for axis in multiscale["axes"]] == ["nanometer"] * 2
    scales = [one["coordinateTransformations"][0]["scale"] for one in multiscale["datasets"]]
    assert scales == [[2, 4], [4, 8], [8, 16], [16, 32]]
    assert found["image-label"]["colors"][1] == {"label-value": 1, "rgba": [0, 90, 255, 255]}
    assert found["image-label"]["properties"][1] == {"label-value": 1, "class": "\u03b3\u2032 \u00b5"}
    array = json.loads((path / "0" / ".zarray").read_text())
    assert (array["zarr_format"], array["dimension_separator"], array["compressor"]["id"]) == (2, "/", "zstd")


@pytest.mark.parametrize(("shape", "axes"), [((50, 37), "YX"), ((2, 20, 50), "ZYX"), ((9, 5), "YX")])
def test_tiff_of_a_store_is_tiled_with_smaller_copies(tmp_path, shape, axes):
    labels = labels_of(shape, "uint32")
    path = tmp_path / "a_labels.tif"
    of_store = stored(tmp_path / "a.zarr", labels)
    write_labels(path, of_store, pixel_size_nm=(2.0, 4.0), classes=CLASSES, axes=axes, record=RECORD)
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        (series,) = tif.series
        assert series.axes == axes
        assert series.keyframe.is_tiled
        assert len(series.levels) == 1 + len(of_store.levels)
        for level in series.levels:
            np.testing.assert_array_equal(level.asarray(), labels)
            labels = labels[..., ::2, ::2]
    back = read(path, find_bar=False)
    np.testing.assert_array_equal(back.pixels, of_store[...])
    assert (back.axes, back.pixel_size_nm) == (axes, (2.0, 4.0))
    assert read_labels_info(path) == (CLASSES, RECORD)


def test_much_is_written_as_bigtiff(tmp_path, monkeypatch):
    of_store = stored(tmp_path / "a.zarr", labels_of((50, 37)))
    monkeypatch.setattr(label_files, "CLASSIC_LIMIT", 1000)
    write_labels(tmp_path / "a.tif", of_store)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_bigtiff


def test_a_store_takes_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "a.ome.zarr"
    for labels in (labels_of((40, 40)), labels_of((20, 30), "uint16")):
        write_labels_zarr(path, labels)
        np.testing.assert_array_equal(read(path, find_bar=False).pixels, labels)
    assert [one.name for one in tmp_path.iterdir()] == ["a.ome.zarr"]


def test_what_goes_wrong_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.ome.zarr"
    write_labels_zarr(path, labels_of((40, 40)))

    class Bad(LazyPixels):
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
            raise OSError(errno.ENOSPC, "No space left on device")

    bad = Bad((40, 40), np.dtype(np.uint8), 0, lambda _, box: np.zeros((len(box[0]), len(box[1])), np.uint8))
    with pytest.raises(OutputError, match=r"a\.ome\.zarr: .*disk is full"):
        write_labels_zarr(path, bad)
    np.testing.assert_array_equal(read(path, find_bar=False).pixels, labels_of((40, 40)))
    assert [one.name for one in tmp_path.iterdir()] == ["a.ome.zarr"]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.mkdir()
    (path / "old").write_text("old")
    real = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if (self / "new").exists():
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError, match="Permission denied"), replacing_folder(path) as temporary:
        (temporary / "new").write_text("new")
    assert [one.name for one in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_there_has_to_be_a_folder(tmp_path):
    with pytest.raises(OutputError, match="no folder"):
        write_labels_zarr(tmp_path / "none" / "a.ome.zarr", labels_of((4, 4)))


@pytest.mark.parametrize(
    ("labels", "more", "message"),
    [
        (np.zeros((4, 4), np.int64), {}, "type int64 cannot be kept"),
        (np.zeros((4, 4), np.uint8), {"axes": "ZYX"}, "do not fit axes"),
        (np.zeros((4, 4), np.uint8), {"pixel_size_nm": (0, 1)}, "cannot be; give sizes above 0"),
    ],
)
def test_what_cannot_be_kept(tmp_path, labels, more, message):
    with pytest.raises(InputError, match=message):
        write_labels_zarr(tmp_path / "a.ome.zarr", labels, **more)


@pytest.mark.parametrize("text", [None, "{", "[]", '{"napari-matseg": 3}', "{}"])
def test_a_store_of_others_has_no_info(tmp_path, text):
    if text is not None:
        (tmp_path / ".zattrs").write_text(text)
    assert find_labels_info(tmp_path) == (None, None)

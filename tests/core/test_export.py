from __future__ import annotations

import csv
import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from napari_matseg.core import export
from napari_matseg.core.export import (
    make_folder,
    overlay_rgb,
    read_labels_info,
    replacing,
    write_csv,
    write_json,
    write_labels,
    write_png,
)
from napari_matseg.core.read import read
from napari_matseg.errors import InputError, OutputError
from napari_matseg.settings import ClassSpec, SegmentSettings

CLASSES = (
    ClassSpec(name="matrix", colour=(0, 0, 0)),
    ClassSpec(name='\u03b3\u2032 µ "big" <&> {x}', colour=(0, 0, 255)),
    ClassSpec(name="small", colour=(255, 0, 0)),
)


@given(
    labels=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.uint32]), hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)
    ),
    sizes=st.tuples(*[st.floats(1e-3, 1e6)] * 2),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_labels_come_back_as_they_were_written(tmp_path, labels, sizes):
    path = tmp_path / "labels.tif"
    write_labels(path, labels, pixel_size_nm=sizes)
    back = tifffile.imread(path)
    assert back.dtype == labels.dtype
    assert np.array_equal(back.reshape(labels.shape), labels)
    pixels = tifffile.xml2dict(tifffile.tiffcomment(path))["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeX"]) == pytest.approx(sizes, rel=1e-6)
    assert pixels["PhysicalSizeXUnit"] == pixels["PhysicalSizeYUnit"] == "nm"


def test_pixel_size_comes_back_through_the_reader(tmp_path):
    write_labels(tmp_path / "labels.tif", np.eye(20, 30, dtype=np.uint8), pixel_size_nm=(1.2345678, 0.7654321))
    assert read(tmp_path / "labels.tif").pixel_size_nm == pytest.approx((1.2345678, 0.7654321), rel=1e-6)


def test_pixel_size_is_also_in_the_resolution_tags(tmp_path):
    write_labels(tmp_path / "labels.tif", np.zeros((8, 9), np.uint8), pixel_size_nm=(4.0, 2.0))
    with tifffile.TiffFile(tmp_path / "labels.tif") as tif:
        tags = tif.pages[0].tags
        assert tags["ResolutionUnit"].value == 3  # centimetres
        x, y = (tags[name].value for name in ("XResolution", "YResolution"))
    assert 1e7 * x[1] / x[0] == pytest.approx(2.0)
    assert 1e7 * y[1] / y[0] == pytest.approx(4.0)


@pytest.mark.parametrize("size", [0.0, -1.0, math.nan, math.inf])
def test_impossible_pixel_sizes_are_refused(tmp_path, size):
    with pytest.raises(InputError, match="cannot be; give sizes above 0"):
        write_labels(tmp_path / "labels.tif", np.zeros((4, 4), np.uint8), pixel_size_nm=(1.0, size))
    assert not list(tmp_path.iterdir())


def test_without_a_pixel_size_none_is_made_up(tmp_path):
    write_labels(tmp_path / "labels.tif", np.zeros((8, 9), np.uint8))
    assert read(tmp_path / "labels.tif").pixel_size_nm is None


def test_classes_and_record_come_back(tmp_path):
    record = {"model": "particles", "nested": {"µ": [1, 2.5, None, True]}, "path": "a\\b\n<c> & {d}"}
    write_labels(tmp_path / "labels.tif", np.zeros((8, 9), np.uint16), classes=CLASSES, record=record)
    assert read_labels_info(tmp_path / "labels.tif") == (CLASSES, record)


def test_record_alone_comes_back(tmp_path):
    write_labels(tmp_path / "labels.tif", np.zeros((8, 9), np.uint16), record={})
    assert read_labels_info(tmp_path / "labels.tif") == (None, {})


def test_files_of_others_have_no_classes(tmp_path):
    tifffile.imwrite(tmp_path / "plain.tif", np.zeros((8, 9), np.uint8))
    metadata = {"axes": "YX", "MapAnnotation": {"Namespace": "elsewhere", "classes": "[]"}}
    tifffile.imwrite(tmp_path / "other.ome.tif", np.zeros((8, 9), np.uint8), ome=True, metadata=metadata)
    write_labels(tmp_path / "bare.tif", np.zeros((8, 9), np.uint8))
    for name in ("plain.tif", "other.ome.tif", "bare.tif"):
        assert read_labels_info(tmp_path / name) == (None, None)


def test_no_labels_info_from_what_is_no_tiff(tmp_path):
    (tmp_path / "text.tif").write_text("not a TIFF")
    with pytest.raises(InputError, match=r"text\.tif: cannot be read as TIFF"):
        read_labels_info(tmp_path / "text.tif")
    with pytest.raises(InputError, match=r"none\.tif: cannot be read .*No such file"):
        read_labels_info(tmp_path / "none.tif")


def test_damaged_classes_are_named(tmp_path):
    annotation = {"Namespace": export.NAMESPACE, "classes": '[{"name": 3}]'}
    metadata = {"axes": "YX", "MapAnnotation": annotation}
    tifffile.imwrite(tmp_path / "odd.tif", np.zeros((8, 9), np.uint8), ome=True, metadata=metadata)
    with pytest.raises(InputError, match=r"odd\.tif: its classes or record are damaged"):
        read_labels_info(tmp_path / "odd.tif")


@pytest.mark.parametrize(
    ("axes", "expected"), [("ZYX", "ZYX"), ("TZYX", "TZYX"), ("QYX", "TYX"), ("ZQYX", "ZTYX"), ("IZCYX", "TZCYX")]
)
def test_stacks_keep_their_planes(tmp_path, axes, expected):
    shape = (*(2, 3, 4)[: len(axes) - 2], 5, 6)
    labels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    write_labels(tmp_path / "stack.tif", labels, axes=axes)
    with tifffile.TiffFile(tmp_path / "stack.tif") as tif:
        assert tif.series[0].axes == expected
        assert np.array_equal(tif.asarray(), labels)


def test_large_labels_are_tiled_and_compressed(tmp_path):
    write_labels(tmp_path / "small.tif", np.zeros((64, 2048), np.uint8))
    write_labels(tmp_path / "large.tif", np.zeros((64, 2049), np.uint8))
    with tifffile.TiffFile(tmp_path / "small.tif") as small, tifffile.TiffFile(tmp_path / "large.tif") as large:
        assert not small.pages[0].is_tiled
        assert large.pages[0].is_tiled
        assert not large.is_bigtiff
        assert small.pages[0].compression == large.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE


def test_bigtiff_where_classic_tiff_might_not_do(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "CLASSIC_LIMIT", 50)
    write_labels(tmp_path / "big.tif", np.zeros((8, 9), np.uint8))
    with tifffile.TiffFile(tmp_path / "big.tif") as tif:
        assert tif.is_bigtiff


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
def test_labels_of_another_type_are_refused(tmp_path, dtype):
    with pytest.raises(InputError, match="convert them to uint8"):
        write_labels(tmp_path / "labels.tif", np.zeros((4, 4), dtype))


@pytest.mark.parametrize(
    ("shape", "axes"), [((4, 4), "ZYX"), ((4, 4, 3), "YXS"), ((0, 4), "YX"), ((1, 1, 1, 1, 4, 4), "ABCDYX")]
)
def test_labels_that_do_not_fit_their_axes_are_refused(tmp_path, shape, axes):
    with pytest.raises(InputError, match="do not fit axes"):
        write_labels(tmp_path / "labels.tif", np.zeros(shape, np.uint8), axes=axes)


def test_nothing_in_the_file_tells_the_machine(tmp_path):
    from uuid import getnode

    write_labels(tmp_path / "labels.tif", np.zeros((4, 4), np.uint8), classes=CLASSES)
    content = (tmp_path / "labels.tif").read_bytes()
    assert f"{getnode():012x}".encode() not in content
    assert str(tmp_path).encode() not in content


WRITERS = {
    "labels.tif": lambda path: write_labels(path, np.ones((4, 4), np.uint8)),
    "picture.png": lambda path: write_png(path, np.zeros((4, 4, 3), np.uint8)),
    "record.json": lambda path: write_json(path, {"a": 1}),
    "table.csv": lambda path: write_csv(path, [{"a": 1}]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_written_file_replaces_the_old_one_and_leaves_nothing_else(tmp_path, name):
    (tmp_path / name).write_bytes(b"old")
    WRITERS[name](tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() not in (b"old", b"")


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_folder_is_named(tmp_path, name):
    with pytest.raises(OutputError, match=r"cannot be written, since there is no folder .*missing; create it"):
        WRITERS[name](tmp_path / "missing" / name)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_in_place_of_the_folder_is_named(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="there is no folder"):
        WRITERS[name](tmp_path / "file" / name)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_in_place_of_the_file_is_named(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match="is a folder; give the name of a file"):
        WRITERS[name](tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "disk is full; free some space"), (errno.EIO, "Input/output error.*check the disk")],
)
@pytest.mark.parametrize("name", WRITERS)
def test_a_failing_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, name, code, words):
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    (tmp_path / name).write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=words) as caught:
        WRITERS[name](tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"old"


def test_a_folder_that_is_not_ours_is_named(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "touch", fail)
    with pytest.raises(OutputError, match=r"Permission denied.*choose a folder that you may write to"):
        write_json(tmp_path / "record.json", {})


def test_a_fault_of_ours_stays_one_and_leaves_nothing(tmp_path):
    def work() -> None:
        with replacing(tmp_path / "file.txt") as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert not list(tmp_path.iterdir())


def test_long_names_are_no_trouble(tmp_path):
    path = tmp_path / ("n" * 250 + ".json")
    write_json(path, 1)
    assert path.exists()


def test_json_knows_no_nan(tmp_path):
    content = {
        "nan": math.nan,
        "infinite": [math.inf, -np.inf, np.float32("nan")],
        "array": np.array([[1.5, np.nan]]),
        "number": np.int64(3),
        "path": Path("a"),
        "settings": SegmentSettings(tile=512),
        "text": "µm",
        7: (True, None),
    }
    write_json(tmp_path / "a.json", content)
    back = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert back["nan"] is None
    assert back["infinite"] == [None, None, None]
    assert back["array"] == [[1.5, None]]
    assert back["number"] == 3
    assert back["path"] == "a"
    assert back["settings"]["tile"] == 512
    assert back["text"] == "µm"
    assert back["7"] == [True, None]


@given(
    st.lists(st.fixed_dictionaries({"a": st.integers(), "b": st.text("x,\"'\n µ", max_size=5)}), min_size=1, max_size=5)
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tables_come_back_as_they_were_written(tmp_path, rows):
    write_csv(tmp_path / "table.csv", rows)
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [{"a": str(row["a"]), "b": row["b"]} for row in rows]


def test_tables_have_all_columns_and_leave_empty_what_is_missing(tmp_path):
    write_csv(tmp_path / "t.csv", [{"a": 1, "b": math.nan}, {"c": np.float32("nan"), "a": None}, {"b": np.int8(2)}])
    assert (tmp_path / "t.csv").read_bytes() == b"a,b,c\n1,,\n,,\n,2,\n"


def test_an_empty_table_is_an_empty_file(tmp_path):
    write_csv(tmp_path / "t.csv", [])
    assert (tmp_path / "t.csv").read_bytes() == b""


def test_pictures_come_back(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    write_png(tmp_path / "a.png", rgb)
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array_equal(np.asarray(picture), rgb)


def test_overlay_tints_classes_and_outlines_them():
    image = np.tile(np.linspace(0, 1000, 60, dtype=np.uint16), (50, 1))
    labels = np.zeros((50, 60), np.uint8)
    labels[10:30, 10:40] = 1
    rgb = overlay_rgb(image, labels, CLASSES, opacity=0.5)
    assert rgb.dtype == np.uint8
    assert rgb.shape[1:] == (60, 3)
    assert rgb.shape[0] > 50  # the legend
    assert (rgb[5, :, 0] == rgb[5, :, 2]).all()  # class 0 stays grey
    assert rgb[5, 0, 0] == 0
    assert rgb[5, -1, 0] == 255
    assert tuple(rgb[10, 25]) == CLASSES[1].colour  # outline
    inner, grey = rgb[20, 25].astype(int), rgb[5, 25, 0]
    assert inner[2] == pytest.approx(0.5 * grey + 0.5 * 255, abs=1)
    assert inner[0] == pytest.approx(0.5 * grey, abs=1)


def test_overlay_legend_shows_each_colour():
    rgb = overlay_rgb(np.zeros((40, 120)), np.zeros((40, 120), np.uint8), CLASSES)
    legend = rgb[40:].reshape(-1, 3)
    for spec in CLASSES[1:]:
        assert (legend == spec.colour).all(axis=1).any()


def test_overlay_without_classes_has_no_legend():
    assert overlay_rgb(np.zeros((40, 50)), np.zeros((40, 50), np.uint8), CLASSES[:1]).shape == (40, 50, 3)


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan, np.inf])
def test_overlay_of_a_constant_image(value):
    rgb = overlay_rgb(np.full((40, 50), value), np.zeros((40, 50), np.uint8), CLASSES[:1])
    assert (rgb == (127 if np.isfinite(value) else 0)).all()


def test_overlay_is_not_upset_by_single_values():
    image = np.random.default_rng(0).normal(100, 1, (100, 100))
    image[0, :3] = np.nan, np.inf, 1e9
    rgb = overlay_rgb(image, np.zeros((100, 100), np.uint8), CLASSES[:1])
    assert rgb[1:].std() > 30
    assert tuple(rgb[0, 0]) == (0, 0, 0)


def test_overlay_of_a_nearly_constant_image_stretches_what_there_is():
    image = np.zeros((100, 100))
    image[0, 0] = 1
    assert overlay_rgb(image, np.zeros((100, 100), np.uint8), CLASSES[:1])[0, 0, 0] == 255


def test_overlay_scale_bar_has_a_round_length():
    image, labels = np.zeros((200, 400)), np.zeros((200, 400), np.uint8)
    rgb = overlay_rgb(image, labels, CLASSES[:1], pixel_size_nm=(9.9, 5.0))
    longest = max((rgb[y] == 255).all(axis=1).sum() for y in range(200))
    assert longest == 500 / 5
    assert (overlay_rgb(image, labels, CLASSES[:1]) == 127).all()


def test_overlay_leaves_the_data_bar_alone():
    image = np.random.default_rng(0).normal(100, 1, (200, 400))
    image[150:] = 0
    labels = np.zeros((200, 400), np.uint8)
    rgb = overlay_rgb(image, labels, CLASSES[:1], pixel_size_nm=(5.0, 5.0), data_bar=(150, 200))
    assert rgb[:150, :200].std() > 30
    assert (rgb[150:] == 0).all()


def test_large_overlays_are_made_smaller(monkeypatch):
    monkeypatch.setattr(export, "OVERLAY_LIMIT", 100)
    labels = np.ones((150, 240), np.uint8)
    rgb = overlay_rgb(np.zeros((150, 240)), labels, CLASSES[:2], pixel_size_nm=(10.0, 10.0), data_bar=(141, 150))
    assert rgb.shape[1] == 80
    assert 50 < rgb.shape[0] < 100


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 3)])
def test_overlays_of_odd_shapes(shape):
    labels = np.ones(shape, np.uint8)
    rgb = overlay_rgb(np.zeros(shape), labels, CLASSES, pixel_size_nm=(1.0, 1.0))
    assert max(rgb.shape[:2]) <= 4200


def test_overlay_of_arrays_that_do_not_fit_is_refused():
    with pytest.raises(InputError, match=r"\(4, 5\) and labels of shape \(4, 4\).*of the same shape"):
        overlay_rgb(np.zeros((4, 5)), np.zeros((4, 4), np.uint8), CLASSES)
    with pytest.raises(InputError, match="one plane of each"):
        overlay_rgb(np.zeros((2, 4, 4)), np.zeros((2, 4, 4), np.uint8), CLASSES)


def test_overlay_of_a_label_without_a_class_is_refused():
    with pytest.raises(InputError, match="Label 3 is none of the 3 classes"):
        overlay_rgb(np.zeros((4, 4)), np.full((4, 4), 3), CLASSES)


def test_a_folder_is_made_with_those_it_lies_in(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "b"):
        with pytest.raises(OutputError, match="file"):
            make_folder(folder)

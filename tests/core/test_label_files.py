from __future__ import annotations

import json
import math

import numpy as np
import ome_types
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_matseg.core import export, label_files
from napari_matseg.core.label_files import read_labels_info, write_labels
from napari_matseg.core.read import read
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

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


def test_labels_are_compressed_and_in_strips_until_they_stay_in_their_file(tmp_path, monkeypatch):
    monkeypatch.setattr(label_files, "LAZY_BYTES", 64 * 2048)
    write_labels(tmp_path / "small.tif", np.zeros((64, 2048), np.uint8))
    write_labels(tmp_path / "large.tif", np.zeros((64, 2049), np.uint8))
    with tifffile.TiffFile(tmp_path / "small.tif") as small, tifffile.TiffFile(tmp_path / "large.tif") as large:
        assert not small.pages[0].is_tiled
        assert large.pages[0].is_tiled
        assert not large.is_bigtiff
        assert small.pages[0].compression == large.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE


@pytest.mark.parametrize("sizes", [(0.05, 0.04), (1.25, 0.8), (333.3, 250.1), (12_345.6, 10_000.0)])
def test_other_programs_see_ids_pixel_size_and_names(tmp_path, sizes):
    path = tmp_path / "labels.tif"
    labels = np.arange(12, dtype=np.uint32).reshape(3, 4) * 400_000_000
    write_labels(path, labels, pixel_size_nm=sizes, classes=CLASSES, record={"job": "segment"})
    ome = ome_types.from_tiff(path)
    pixels = ome.images[0].pixels
    assert (pixels.size_y, pixels.size_x, pixels.type.value) == (3, 4, "uint32")
    nm = [size.to("nm").magnitude for size in (pixels.physical_size_y_quantity, pixels.physical_size_x_quantity)]
    assert nm == pytest.approx(sizes)
    (annotation,) = ome.structured_annotations.map_annotations
    assert annotation.namespace == export.NAMESPACE
    assert CLASSES[1].name in json.loads(dict(annotation.value)["classes"])[1]["name"]
    with tifffile.TiffFile(path) as tif:  # as ImageJ without Bio-Formats does
        page = tif.pages.first
        assert page.resolutionunit == tifffile.RESUNIT.CENTIMETER
        assert 1e7 / np.array(page.resolution) == pytest.approx(sizes[::-1], rel=1e-6)
        assert (page.compression, page.is_tiled) == (tifffile.COMPRESSION.ADOBE_DEFLATE, False)
        np.testing.assert_array_equal(page.asarray(), labels)


def test_any_name_of_a_file_makes_xml(tmp_path):
    path = tmp_path / 'a <&> "\x01\x1b" \u03b3.tif'
    write_labels(path, np.zeros((4, 4), np.uint8), record={"file": "\x01\ud800"})
    assert ome_types.from_tiff(path).images[0].name == 'a <&> "" \u03b3'
    assert read_labels_info(path) == (None, {"file": "\x01\ud800"})


def test_bigtiff_where_classic_tiff_might_not_do(tmp_path, monkeypatch):
    monkeypatch.setattr(label_files, "CLASSIC_LIMIT", 50)
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

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_matseg.core.data_bar import find_data_bar
from napari_matseg.core.read import read

SIZES_NM = {
    "FEI-Helios-Ebeam-16bits.tif": (471, 512),
    "FEI-Helios-navcam.tif": (551, 768),
    "JEOL-SightX-TEM-mag-dummy.tif": (556, 556),
    "TVIPS_bin4.tif": (1024, 1024),
    "olympus_SIS.tif": (101, 112),
    "test_loading_image_saved_with_DM.tif": (68, 68),
    "test_loading_image_saved_with_imageJ.tif": (68, 68),
    "test_loading_image_saved_with_imageJ_stack.tif": (68, 68),
    "test_tiff_Zeiss_SEM_512pix.tif": (384, 512),
}
# The oracle could not read this one; the structure in its tag 33560 has 2.392791775876e-11 m.
OLYMPUS_NM = (0.023927918, 0.023927918)


@pytest.mark.parametrize("name", SIZES_NM)
def test_pixel_size_is_that_of_an_independent_reader(real_data, name):
    expected = json.loads((real_data / "vendor_tiff" / "expected.json").read_text())[name]
    micrograph = read(real_data / "vendor_tiff" / name)
    expected = OLYMPUS_NM if isinstance(expected, str) else expected
    assert micrograph.pixel_size_nm == (None if expected is None else pytest.approx(expected, rel=1e-4))
    assert micrograph.shape_yx == SIZES_NM[name]
    assert micrograph.vendor
    json.dumps(micrograph.metadata, allow_nan=False)


@pytest.mark.parametrize(
    ("name", "data_bar"),
    [("FEI-Helios-Ebeam-16bits.tif", (442, 471)), ("FEI-Helios-navcam.tif", (512, 551)), ("TVIPS_bin4.tif", None)],
)
def test_data_bar_is_that_of_the_record(real_data, name, data_bar):
    assert read(real_data / "vendor_tiff" / name).data_bar == data_bar


@pytest.mark.parametrize(
    ("name", "data_bar"),
    [
        ("FEI-Helios-Ebeam-16bits.tif", (442, 471)),
        ("test_tiff_Zeiss_SEM_512pix.tif", (350, 384)),
        ("TVIPS_bin4.tif", None),
    ],
)
def test_data_bar_is_found_in_the_picture_alone(real_data, name, data_bar):
    assert find_data_bar(read(real_data / "vendor_tiff" / name, find_bar=False).plane()[0]) == data_bar


@pytest.mark.parametrize("folder", ["superalloy/images", "superalloy/masks", "ebc/images", "ebc/labels", "emps/labels"])
def test_no_data_bar_where_there_is_none(real_data, folder):
    paths = sorted((real_data / folder).iterdir())
    found = [path.name for path in paths[:: max(1, len(paths) // 20)] if read(path).data_bar]
    assert not found


def test_settings_of_the_instrument(real_data):
    assert read(real_data / "vendor_tiff" / "test_tiff_Zeiss_SEM_512pix.tif").metadata == {
        "instrument": "ULTRA 55-36-06",
        "detector": "InLens",
        "voltage_kV": 5.0,
        "magnification": 50000.0,
        "working_distance_mm": 3.9,
        "date": "2018-09-25T08:20:42",
    }


def test_zeiss_grey_with_green_marks_is_grey(real_data):
    micrograph = read(real_data / "vendor_tiff" / "test_tiff_Zeiss_SEM_512pix.tif")
    assert micrograph.axes == "YX"
    assert micrograph.pixels.dtype == np.uint8


def test_olympus_image_and_not_its_preview(real_data):
    micrograph = read(real_data / "vendor_tiff" / "olympus_SIS.tif")
    assert micrograph.axes == "YX"
    assert micrograph.pixels.dtype == np.uint16


def test_an_imagej_stack_has_planes(real_data):
    micrograph = read(real_data / "vendor_tiff" / "test_loading_image_saved_with_imageJ_stack.tif")
    assert micrograph.axes == "ZYX"
    assert micrograph.n_planes == 2


@pytest.mark.parametrize(
    ("folder", "pattern", "axes", "count"),
    [
        ("superalloy/images", "*.tif", "YX", 10),
        ("superalloy/masks", "*.tif", "YXS", 10),
        ("ebc/images", "*.tif", "YX", 5),
        ("ebc/labels", "*.tif", "YX", 5),
        ("emps/images", "*.*", "YX", 20),
        ("emps/labels", "*.png", "YX", 20),
    ],
)
def test_micrographs_without_a_record(real_data, folder, pattern, axes, count):
    paths = sorted((real_data / folder).glob(pattern))
    assert paths
    for path in paths[:: max(1, len(paths) // count)]:
        micrograph = read(path)
        assert micrograph.axes == axes, path
        assert micrograph.pixel_size_nm is None, path
        assert micrograph.data_bar_from != "record", path

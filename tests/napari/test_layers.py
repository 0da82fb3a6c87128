from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer

from napari_matseg._napari.layers import (
    KEY,
    as_read,
    classes_layer,
    describe,
    file_of,
    image_layer,
    micrograph_from_layer,
    objects_layer,
    placement,
    placement_of,
    record_of,
    specs_of,
)
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.read import read
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

SPECS = (ClassSpec(name="matrix", colour=(9, 9, 9)), ClassSpec(name="pore", colour=(255, 0, 0)))
GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_grey_image() -> None:
    micrograph = micrograph_from_layer(Image(GREY))
    assert micrograph.axes == "YX"
    assert micrograph.pixels is not None
    assert np.shares_memory(micrograph.pixels, GREY)
    assert (micrograph.pixel_size_nm, micrograph.data_bar, micrograph.source) == (None, None, None)


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_comes_without_alpha(channels: int) -> None:
    rgb = np.zeros((40, 50, channels), np.uint8)
    micrograph = micrograph_from_layer(Image(rgb))
    assert (micrograph.axes, micrograph.pixels.shape) == ("YXS", (40, 50, 3))


def test_leading_axes_are_planes() -> None:
    micrograph = micrograph_from_layer(Image(np.zeros((2, 3, 5, 6), np.uint16)))
    assert (micrograph.axes, micrograph.n_planes, micrograph.shape_yx) == ("TZYX", 6, (5, 6))
    colour = micrograph_from_layer(Image(np.zeros((2, 5, 6, 3), np.uint8), rgb=True))
    assert (colour.axes, colour.n_planes, colour.shape_yx) == ("ZYXS", 2, (5, 6))


def test_of_a_pyramid_the_full_resolution_is_taken() -> None:
    large = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    layer = Image([large, large[::2, ::2]], multiscale=True)
    assert micrograph_from_layer(layer).pixels.shape == (64, 64)


def test_dask_stays_lazy() -> None:
    lazy = da.zeros((2, 30, 40), chunks=(1, 30, 40), dtype=np.uint8)
    micrograph = micrograph_from_layer(Image(lazy))
    assert isinstance(micrograph.pixels, da.Array)
    assert micrograph.plane(1).shape == (1, 30, 40)


@pytest.mark.parametrize(
    ("scale", "units", "expected"),
    [
        ((2.0, 3.0), ("nm", "nm"), (2.0, 3.0)),
        ((0.5, 0.25), ("um", "micrometer"), (500.0, 250.0)),
        ((-2.0, 2.0), ("nm", "nm"), (2.0, 2.0)),
        ((2.0, 2.0), ("pixel", "pixel"), None),
        ((2.0, 2.0), None, None),
        ((1.0, 1.0), ("s", "nm"), None),
    ],
)
def test_pixel_size_is_that_of_scale_and_units(scale: Any, units: Any, expected: Any) -> None:
    size = micrograph_from_layer(Image(GREY, scale=scale, units=units)).pixel_size_nm
    assert size == (None if expected is None else pytest.approx(expected))


def test_too_many_axes_are_refused() -> None:
    with pytest.raises(InputError, match="has 7 axes"):
        micrograph_from_layer(Image(np.zeros((1, 1, 1, 1, 1, 4, 4), np.uint8)))


def test_what_the_reader_kept_comes_back(tmp_path: Path) -> None:
    micrograph = Micrograph(
        GREY,
        pixel_size_nm=(2.0, 3.0),
        data_bar=(2, 3),
        source=tmp_path / "a.tif",
        vendor="FEI",
        metadata={"detector": "ETD"},
    )
    again = micrograph_from_layer(Layer.create(*image_layer(micrograph, "a")))
    assert describe(again) == describe(micrograph)


def test_of_another_shape_nothing_of_the_file_is_true_any_more(tmp_path: Path) -> None:
    micrograph = Micrograph(GREY, pixel_size_nm=(2.0, 2.0), data_bar=(2, 3), source=tmp_path / "a.tif")
    layer = Layer.create(*image_layer(micrograph, "a"))
    layer.data = GREY[:2]
    cropped = micrograph_from_layer(layer)
    assert (cropped.data_bar, cropped.source) == (None, None)
    assert cropped.pixel_size_nm == (2.0, 2.0)  # by the layer's scale


def test_of_another_type_it_is_not_the_file_but_has_its_data_bar(tmp_path: Path) -> None:
    micrograph = Micrograph(GREY, data_bar=(2, 3), source=tmp_path / "a.tif")
    layer = Layer.create(*image_layer(micrograph, "a"))
    layer.data = GREY.astype(np.float32) / 2
    filtered = micrograph_from_layer(layer)
    assert (filtered.data_bar, filtered.source) == ((2, 3), None)


def test_the_file_is_asked_where_napari_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    grey = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50)
    tifffile.imwrite(path, np.repeat(grey[..., None], 3, axis=2), photometric="rgb")
    (layer,) = ViewerModel().open(path, plugin="napari")
    assert layer.rgb
    micrograph = as_read(micrograph_from_layer(layer), file_of(layer))
    assert describe(micrograph) == describe(read(path))
    np.testing.assert_array_equal(micrograph.pixels, grey)


def test_a_format_of_another_reader_is_taken_as_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", GREY)
    (layer,) = ViewerModel().open(tmp_path / "a.npy", plugin="napari")
    micrograph = as_read(micrograph_from_layer(layer), file_of(layer))
    assert micrograph.source is None
    np.testing.assert_array_equal(micrograph.pixels, GREY)


def test_colour_stays_colour() -> None:
    rgb = np.stack([GREY, GREY, GREY + 1], axis=-1)
    assert as_read(micrograph_from_layer(Image(rgb, rgb=True))).axes == "YXS"


def test_a_layer_of_the_same_place_covers_the_same_pixels() -> None:
    image = Image(
        np.zeros((2, 30, 40), np.uint8),
        scale=(4.0, 0.5, 0.25),
        translate=(1, 20, -30),
        rotate=[[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]],
        shear=[0, 0, 0.3],
        affine=[[1, 0, 0, 5], [0, 0, 2, 6], [0, -1, 0, 7], [0, 0, 0, 1]],
        units=("s", "um", "um"),
        axis_labels=("t", "y", "x"),
    )
    labels = Labels(np.zeros((2, 30, 40), np.uint8), **placement(image))
    for point in ((0, 0, 0), (1, 29, 39), (0, 12.5, 3)):
        np.testing.assert_allclose(labels.data_to_world(point), image.data_to_world(point), rtol=0, atol=1e-12)
    assert labels.units == image.units
    assert labels.axis_labels == image.axis_labels


def test_colour_image_has_a_place_for_labels() -> None:
    image = Image(np.zeros((30, 40, 3), np.uint8), rgb=True, scale=(2, 3), units=("nm", "nm"))
    labels = Labels(np.zeros((30, 40), np.uint8), **placement(image))
    np.testing.assert_array_equal(labels.scale, image.scale)


def test_planes_have_no_length() -> None:
    micrograph = Micrograph(np.zeros((2, 3, 4), np.uint8), "ZYX", pixel_size_nm=(5.0, 6.0))
    assert placement_of(micrograph) == {
        "scale": (1.0, 5.0, 6.0),
        "units": ("pixel", "nm", "nm"),
        "axis_labels": ("z", "y", "x"),
    }
    assert "units" not in placement_of(Micrograph(GREY))


def test_classes_have_names_and_colours() -> None:
    layer = Layer.create(*classes_layer(GREY % 2, SPECS, "result", {}, size_nm=(1.0, 2.0), record={"job": "segment"}))
    assert isinstance(layer, Labels)
    np.testing.assert_array_equal(layer.get_color(1), (1, 0, 0, 1))
    assert layer.colormap.map(0)[3] == 0
    assert layer.colormap.map(77)[3] == 1  # what a user paints beyond the classes is seen
    assert layer.get_status((0, 1))["value"].endswith("class: pore")
    assert layer.get_status((0, 0))["value"].endswith("class: matrix")
    assert specs_of(layer.metadata) == SPECS
    assert record_of(layer) == {"job": "segment"}
    assert json.loads(json.dumps(layer.metadata[KEY])) == layer.metadata[KEY]


def test_objects_have_a_record_but_no_classes() -> None:
    layer = Layer.create(*objects_layer(GREY.astype(np.uint32), "objects", {}, record={"job": "segment"}))
    assert specs_of(layer.metadata) is None
    assert record_of(layer) == {"job": "segment"}
    assert not np.array_equal(layer.get_color(1), layer.get_color(2))


def test_a_layer_of_the_users_own_has_no_record() -> None:
    layer = Labels(GREY)
    assert record_of(layer) is None
    assert specs_of(layer.metadata) is None

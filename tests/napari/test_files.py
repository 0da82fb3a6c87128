from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from PIL import Image as Picture

from napari_matseg._napari import sample_data
from napari_matseg._napari.layers import (
    KEY,
    as_read,
    classes_layer,
    file_of,
    micrograph_from_layer,
    objects_layer,
    specs_of,
)
from napari_matseg._napari.reader import get_reader, read_layers
from napari_matseg.core.label_files import read_labels_info
from napari_matseg.core.read import read
from napari_matseg.core.synthetic import write_demo
from napari_matseg.core.synthetic.demo import CLASSES
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

PLUGIN = "napari-matseg"
SPECS = (ClassSpec(name="matrix", colour=(9, 9, 9)), ClassSpec(name="pore", colour=(255, 0, 0)))
LABELS = np.arange(20, dtype=np.uint8).reshape(4, 5) % 2


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TIFF of an instrument, with pixel size and data bar."""
    image, _ = write_demo(tmp_path_factory.mktemp("demo") / "demo.tif", shape=(64, 96))
    return image


def test_micrograph_opens_with_its_pixel_size_and_data_bar(demo: Path) -> None:
    viewer = ViewerModel()
    (layer,) = viewer.open(demo, plugin=PLUGIN)
    assert isinstance(layer, Image)
    assert layer.name == "demo"
    np.testing.assert_allclose(layer.scale, read(demo).pixel_size_nm)
    assert [str(unit) for unit in layer.units] == ["nanometer", "nanometer"]
    assert layer.axis_labels == ("y", "x")
    assert layer.metadata[KEY]["data_bar_rows"] == [64, 128]
    again = micrograph_from_layer(layer)
    assert (again.source, again.data_bar) == (demo, (64, 128))


def test_data_bar_is_found_where_napari_read_the_file(demo: Path) -> None:
    (layer,) = ViewerModel().open(demo, plugin="napari")
    micrograph = as_read(micrograph_from_layer(layer), file_of(layer))
    assert (micrograph.source, micrograph.data_bar) == (demo, (64, 128))
    assert micrograph.pixel_size_nm == read(demo).pixel_size_nm


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".TIF"])
def test_pictures_open_in_pixels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Picture.fromarray(np.full((6, 8), 7, np.uint8)).save(path)
    (layer,) = ViewerModel().open(path, plugin=PLUGIN)
    assert layer.data.shape == (6, 8)
    assert [str(unit) for unit in layer.units] == ["pixel", "pixel"]
    np.testing.assert_array_equal(layer.scale, (1, 1))


def test_colour_opens_as_colour(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", rgb, photometric="rgb")
    (layer,) = ViewerModel().open(tmp_path / "a.tif", plugin=PLUGIN)
    assert layer.rgb
    np.testing.assert_array_equal(layer.data, rgb)


def test_pages_open_as_a_stack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 6, 8), np.uint8), photometric="minisblack")
    (layer,) = ViewerModel().open(tmp_path / "a.tif", plugin=PLUGIN)
    assert (layer.data.shape, layer.axis_labels) == ((3, 6, 8), ("z", "y", "x"))


def test_image_that_stays_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_matseg.core.read_tiff.LAZY_BYTES", 100)
    image = np.random.default_rng(0).integers(0, 255, (3, 64, 80), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", tile=(32, 32))
    (layer,) = ViewerModel().open(tmp_path / "a.tif", plugin=PLUGIN)
    assert not isinstance(layer.data, np.ndarray)
    np.testing.assert_array_equal(micrograph_from_layer(layer).plane(2)[0], image[2])


def test_ome_zarr_opens_as_a_pyramid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_matseg.core.axes.LAZY_BYTES", 100)
    image = np.random.default_rng(0).integers(0, 255, (64, 80), dtype=np.uint8)
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    for number in (0, 1):
        group.create_array(str(number), data=image[:: number + 1, :: number + 1], chunks=(32, 32))
    scale = [{"type": "scale", "scale": [2.0, 3.0]}]
    datasets = [{"path": str(number), "coordinateTransformations": scale} for number in (0, 1)]
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "yx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    (layer,) = ViewerModel().open(tmp_path / "a.zarr", plugin=PLUGIN)
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [(64, 80), (32, 40)]
    np.testing.assert_array_equal(layer.scale, (2, 3))
    again = micrograph_from_layer(layer)
    assert again.source == tmp_path / "a.zarr"
    np.testing.assert_array_equal(again.plane()[0], image)


def test_several_files_as_one_stack_are_left_to_others(tmp_path: Path) -> None:
    assert get_reader([str(tmp_path / "a.tif"), str(tmp_path / "b.tif")]) is None


def test_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0 nothing")
    with pytest.raises(InputError, match="damaged"):
        read_layers(str(tmp_path / "a.tif"))


def save_and_open(layer: Layer, path: Path) -> Any:
    viewer = ViewerModel()
    viewer.add_layer(layer)
    assert viewer.layers.save(str(path), plugin=PLUGIN) == [str(path)]
    (again,) = viewer.open(path, plugin=PLUGIN)
    return again


@pytest.mark.parametrize("name", ["a.tif", "a.ome.zarr"])
@pytest.mark.parametrize("labels", [LABELS, np.stack([LABELS, 1 - LABELS])], ids=["image", "stack"])
def test_classes_come_back_as_they_were_saved(tmp_path: Path, labels: np.ndarray, name: str) -> None:
    planes = labels.ndim - 2
    place = {"scale": (*[1.0] * planes, 0.002, 0.003), "units": (*["pixel"] * planes, "um", "um")}
    record = {"job": "segment", "seconds": 1.5}
    again = save_and_open(Layer.create(*classes_layer(labels, SPECS, "a", place, record=record)), tmp_path / name)
    assert isinstance(again, Labels)
    np.testing.assert_array_equal(again.data, labels)
    assert again.data.dtype == np.uint8
    np.testing.assert_allclose(again.scale[-2:], (2, 3))
    assert specs_of(again.metadata) == SPECS
    assert again.metadata[KEY]["record"] == record
    np.testing.assert_array_equal(again.get_color(1), (1, 0, 0, 1))
    again.data_setitem((np.array([0]),) * labels.ndim, 1)  # can be painted


@pytest.mark.parametrize("name", ["a.tif", "a.ome.zarr"])
def test_objects_come_back_as_they_were_saved(tmp_path: Path, name: str) -> None:
    objects = LABELS.astype(np.uint32) * 100_000
    again = save_and_open(Layer.create(*objects_layer(objects, "a", {}, record={"job": "segment"})), tmp_path / name)
    np.testing.assert_array_equal(again.data, objects)
    assert again.metadata[KEY]["kind"] == "objects"


def test_labels_of_the_users_own_can_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    viewer = ViewerModel()
    viewer.add_labels(LABELS.astype(np.int64) * 300, scale=(2, 2), units=("nm", "nm"))
    viewer.layers.save(str(path), plugin=PLUGIN)
    micrograph = read(path)
    assert micrograph.pixels.dtype == np.uint16
    assert micrograph.pixel_size_nm == (2.0, 2.0)
    assert read_labels_info(path) == (None, None)


def test_labels_that_no_file_holds(tmp_path: Path) -> None:
    viewer = ViewerModel()
    viewer.add_labels(LABELS.astype(np.int64) - 1, name="mine")
    with pytest.raises(InputError, match="mine: labels from -1 to 0 cannot be kept"):
        viewer.layers.save(str(tmp_path / "a.tif"), plugin=PLUGIN)


@pytest.mark.parametrize("kind", ["particles", "superalloy", "cracks"])
def test_samples_have_truth_scale_and_units(kind: str) -> None:
    viewer = ViewerModel()
    viewer.open_sample(PLUGIN, kind)
    image, truth = viewer.layers
    assert isinstance(truth, Labels)
    assert not truth.visible
    np.testing.assert_array_equal(image.scale, truth.scale)
    assert image.units == truth.units
    assert str(image.units[0]) == "nanometer"
    assert image.metadata[KEY]["data_bar_rows"] is not None
    assert specs_of(truth.metadata) == CLASSES[kind]
    assert truth.data.shape == image.data.shape
    assert truth.data.max() == len(CLASSES[kind]) - 1


def test_samples_are_lists_of_layers() -> None:
    assert [kind for _, _, kind in sample_data.particles()] == ["image", "labels"]

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Layer

from napari_matseg._napari.layers import classes_layer, full_resolution, micrograph_from_layer, objects_layer
from napari_matseg._napari.reader import read_layers
from napari_matseg.core import axes, label_files, read_tiff
from napari_matseg.core.large import stores
from napari_matseg.core.large.stores import StoredLabels, store_steps, write_labels_zarr
from napari_matseg.core.progress import finish
from napari_matseg.settings import ClassSpec

CLASSES = (ClassSpec(name="matrix", colour=(0, 0, 0)), ClassSpec(name="particle", colour=(0, 90, 255)))
LABELS = np.random.default_rng(0).integers(0, 2, (150, 100)).astype(np.uint8)


@pytest.fixture
def stored(tmp_path, monkeypatch) -> StoredLabels:
    """Labels with levels of 75 and 38 rows."""
    monkeypatch.setattr(stores, "CHUNK", 16)
    monkeypatch.setattr(stores, "SMALLEST", 40)
    monkeypatch.setattr(label_files, "LARGE_TILE", 16)
    finish(store_steps(tmp_path / "a.zarr", [LABELS], LABELS.shape, LABELS.dtype, 0))
    return StoredLabels(tmp_path / "a.zarr")


def test_a_large_result_is_a_pyramid(stored):
    place = {"scale": (2.0, 2.0), "units": ("nm", "nm")}
    for data in (classes_layer(stored, CLASSES, "a", place), objects_layer(stored, "a", place)):
        layer = Layer.create(*data)
        assert layer.multiscale
        assert [level.shape for level in layer.data] == [(150, 100), (75, 50), (38, 25)]
        assert full_resolution(layer) is stored
        np.testing.assert_array_equal(micrograph_from_layer(layer).plane()[0], LABELS)


@pytest.mark.parametrize("ending", ["tif", "ome.zarr"])
@pytest.mark.parametrize("classes", [CLASSES, ()])
def test_its_files_come_back_as_pyramids_of_labels(stored, tmp_path, monkeypatch, ending, classes):
    monkeypatch.setattr(read_tiff, "LAZY_BYTES", 0)
    monkeypatch.setattr(axes, "LAZY_BYTES", 0)
    write = label_files.write_labels if ending == "tif" else write_labels_zarr
    path = tmp_path / f"b_labels.{ending}"
    write(path, stored, classes=classes, pixel_size_nm=(2.0, 3.0), record={"job": "segment"})
    ((data, attributes, kind),) = read_layers(str(path))
    assert kind == "labels"
    layer = Layer.create(data, attributes, kind)
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [(150, 100), (75, 50), (38, 25)]
    np.testing.assert_array_equal(layer.data[1][...], LABELS[::2, ::2])
    assert tuple(layer.scale) == (2.0, 3.0)
    known = layer.metadata["napari_matseg"]
    assert known["record"] == {"job": "segment"}
    assert len(known.get("classes", ())) == len(classes)


def test_small_labels_in_zarr_are_labels_too(tmp_path):
    write_labels_zarr(tmp_path / "c.ome.zarr", LABELS, classes=CLASSES)
    ((data, attributes, kind),) = read_layers(str(tmp_path / "c.ome.zarr"))
    assert kind == "labels"
    assert isinstance(data, np.ndarray)
    assert not attributes.get("multiscale")

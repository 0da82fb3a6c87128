from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image, Points, Shapes

from napari_matseg._napari.layers import KEY, axes_of, micrograph_from_layer
from napari_matseg._napari.prompt_layers import collect
from napari_matseg.pipeline import segment

PLUGIN = "napari-matseg"


@pytest.fixture
def stack(noise: np.ndarray, tmp_path: Path) -> Path:
    """OME-TIFF of two times of three slices, each another picture."""
    planes = np.stack([np.stack([np.roll(noise, 9 * z + 40 * t, 1) for z in range(3)]) for t in range(2)])
    planes[1, 2] = 255 - planes[1, 2] // 2
    path = tmp_path / "a.ome.tif"
    size = {"PhysicalSizeX": 2.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 2.0, "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(path, planes, photometric="minisblack", metadata={"axes": "TZYX", **size})
    return path


def test_planes_are_segmented_one_by_one_whichever_is_shown(
    make_napari_viewer: Any, wait_for: Any, tiny: str, stack: Path, tmp_path: Path
) -> None:
    viewer = make_napari_viewer()
    (layer,) = viewer.open(stack, plugin=PLUGIN)
    viewer.dims.set_point((0, 1), (1, 2))
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Segment micrograph")
    widget.model.model = tiny
    widget.device.setCurrentIndex(widget.device.findData("cpu"))
    widget.run()
    wait_for(widget)
    result = viewer.layers["a.ome tiny"]
    assert (layer.axis_labels, result.axis_labels) == (("t", "z", "y", "x"),) * 2
    assert result.metadata[KEY]["record"]["image"]["axes"] == "TZYX"
    micrograph = micrograph_from_layer(layer)
    for t, z in ((0, 0), (1, 2)):
        alone = segment(micrograph.plane(3 * t + z)[0], model="tiny", device="cpu")
        np.testing.assert_array_equal(result.data[t, z], alone.classes)
    viewer.layers.selection.active = result
    viewer.layers.save(str(tmp_path / "labels.tif"), selected=True, plugin=PLUGIN)
    (again,) = ViewerModel().open(tmp_path / "labels.tif", plugin=PLUGIN)
    assert again.axis_labels == ("t", "z", "y", "x")
    np.testing.assert_array_equal(again.scale, (1, 1, 2, 2))
    np.testing.assert_array_equal(again.data, result.data)


def test_points_and_boxes_belong_to_their_plane() -> None:
    image = Image(np.zeros((2, 3, 40, 60), np.uint8), scale=(5, 4, 2, 2), translate=(100, 50, 7, 9))
    points = Points([[0, 1, 10, 20], [1, 2, 30, 40]], scale=image.scale, translate=image.translate)
    box = [[1, 0, 5, 6], [1, 0, 5, 16], [1, 0, 15, 16], [1, 0, 15, 6]]
    shapes = Shapes([box], shape_type="rectangle", scale=image.scale, translate=image.translate)
    asked = collect(image, points, shapes, None, (100, 58, 0, 0))
    assert asked.planes.tolist() == [1, 5]
    np.testing.assert_allclose(asked.points_yx, [[10, 20], [30, 40]])
    assert [(one.plane, one.box_yx) for one in asked.boxes] == [(3, (5, 6, 15, 16))]
    flat = Shapes([[[5, 6], [5, 16], [15, 16], [15, 6]]], shape_type="rectangle", scale=(2, 2), translate=(7, 9))
    asked = collect(image, None, flat, None, (105, 54, 0, 0))  # the sliders say which plane
    assert [one.plane for one in asked.boxes] == [4]


@pytest.mark.parametrize(
    ("labels", "axes"),
    [(("t", "y", "x"), "TYX"), (("c", "y", "x"), "CYX"), (("-3", "-2", "-1"), "ZYX"), (("y", "t", "x"), "ZYX")],
)
def test_axes_keep_their_names(labels: tuple[str, ...], axes: str) -> None:
    assert axes_of(1, labels) == axes
    assert micrograph_from_layer(Image(np.zeros((2, 4, 5)), axis_labels=labels)).axes == axes

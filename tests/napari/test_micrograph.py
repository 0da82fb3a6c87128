from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels, Layer, Points, Shapes
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks
from qtpy.QtWidgets import QApplication

from napari_matseg._napari.evaluate_result import Asked as Compared
from napari_matseg._napari.evaluate_result import evaluate_layers
from napari_matseg._napari.layers import (
    KEY,
    classes_layer,
    counted_rows,
    image_layer,
    micrograph_from_layer,
    placement,
)
from napari_matseg._napari.marks import rows_of
from napari_matseg._napari.measure_result import Asked, measure
from napari_matseg._napari.micrograph import MicrographWidget
from napari_matseg._napari.prompt_places import in_pixels
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import finish
from napari_matseg.core.synthetic import demo_micrograph
from napari_matseg.pipeline import segment
from napari_matseg.settings import ClassSpec, EvaluateSettings, MeasureSettings

Open = Callable[..., MicrographWidget]
GREY = np.random.default_rng(0).integers(60, 90, (100, 160), dtype=np.uint8)
SPECS = (ClassSpec(name="matrix", colour=(9, 9, 9)), ClassSpec(name="pore", colour=(255, 0, 0)))
ODD = {
    "scale": (2.0, 3.0),
    "translate": (100, -50),
    "rotate": 30,
    "shear": [0.2],
    "affine": [[0, 2, 7], [-1, 0, 8], [0, 0, 1]],
}


@pytest.fixture
def open_widget(make_napari_viewer: Any) -> Open:
    """Open the widget in a viewer with these layers; the first one is chosen."""

    def open_(*layers: Layer, show: bool = False) -> MicrographWidget:
        viewer = make_napari_viewer(show=show)
        for layer in layers:
            viewer.add_layer(layer)
        if layers:
            viewer.layers.selection.active = layers[0]
        _, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Micrograph")
        assert isinstance(widget, MicrographWidget)
        return widget

    return open_


def from_file(pixels: np.ndarray = GREY, axes: str = "YX", **known: Any) -> Layer:
    return Layer.create(*image_layer(Micrograph(pixels, axes, **known), "steel"))


def settle(qtbot: Any) -> None:
    qtbot.wait(30)


def test_what_the_file_says_is_shown(open_widget: Open) -> None:
    widget = open_widget(
        from_file(pixel_size_nm=(2.0, 2.0), pixel_size_from="tag 34682", vendor="FEI", metadata={"detector": "ETD"})
    )
    assert "2 nm" in widget.form.pixel_size.text()
    assert "from tag 34682" in widget.form.pixel_size.text()
    assert widget.form.data_bar.text() == "none found"
    text = widget.form.table.text()
    assert "Detector\tETD" in text
    assert "Voltage\tunknown" in text
    widget.form.copy.click()
    assert QApplication.clipboard().text() == text


def test_an_unknown_pixel_size_is_said_to_be_unknown(open_widget: Open) -> None:
    widget = open_widget(Image(GREY))
    assert "unknown: sizes stay in pixels" in widget.form.pixel_size.text()
    assert "Pixel size\tunknown" in widget.form.table.text()


def test_what_another_reader_left_out_is_read(open_widget: Open, wait_for: Any, tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", GREY, description="ImageJ=1.54f\nunit=nm\n", resolution=(0.5, 0.5), resolutionunit=1
    )
    widget = open_widget()
    (layer,) = widget._viewer.open(tmp_path / "a.tif", plugin="napari")
    wait_for(widget)
    assert "2 nm" in widget.form.pixel_size.text()
    widget.form.size.setText("4 nm")
    widget.form.set_size.click()
    micrograph = micrograph_from_layer(layer)
    assert (micrograph.pixel_size_nm, micrograph.vendor) == ((4.0, 4.0), "ImageJ")
    assert micrograph.source == tmp_path / "a.tif"


def test_a_typed_size_goes_to_all_that_lies_on_the_image_and_back(open_widget: Open) -> None:
    image = from_file()
    labels = Layer.create(*classes_layer(GREY // 80, SPECS, "pores", placement(image)))
    points, box = Points([[10, 20]]), Shapes([[[1, 2], [3, 4]]], shape_type="line")
    small = Labels(np.zeros((10, 10), np.uint8), name="small", scale=(5, 5))
    widget = open_widget(image, labels, points, box, small)
    before = [tuple(layer.scale) for layer in widget._viewer.layers]
    widget.form.size.setText("0,25 µm")
    widget.form.set_size.click()
    for layer in (image, labels, points, box):
        np.testing.assert_array_equal(layer.scale, (250, 250))
        assert [str(unit) for unit in layer.units] == ["nanometer", "nanometer"]
    np.testing.assert_array_equal(small.scale, (5, 5))
    assert labels.metadata[KEY]["pixel_size_nm"] == [250, 250]
    assert micrograph_from_layer(image).pixel_size_from == "typed by hand"
    assert "pores, " in widget.form.message.text()
    assert widget._viewer.canvas.overlays.scale_bar.visible
    widget.form.undo.click()
    assert [tuple(layer.scale) for layer in widget._viewer.layers] == before
    assert str(image.units[0]) == "pixel"
    assert micrograph_from_layer(image).pixel_size_nm is None
    assert "unknown" in widget.form.pixel_size.text()
    assert not widget.form.undo.isEnabled()


def test_points_that_could_belong_to_another_image_stay(open_widget: Open) -> None:
    image, other, points = Image(GREY), Image(np.zeros((50, 60))), Points([[1, 2]])
    widget = open_widget(image, other, points)
    widget.form.size.setText("3 nm")
    widget.form.set_size.click()
    np.testing.assert_array_equal(image.scale, (3, 3))
    for layer in (other, points):
        np.testing.assert_array_equal(layer.scale, (1, 1))


def test_a_moved_image_stays_with_its_layers(open_widget: Open) -> None:
    image = Image(GREY, translate=(10, 20))
    labels = Labels(GREY // 80, translate=(10, 20))
    widget = open_widget(image, labels)
    widget.form.size.setText("3 nm")
    widget.form.set_size.click()
    for layer in (image, labels):
        np.testing.assert_array_equal(layer.translate, (30, 60))


@pytest.mark.parametrize("text", ["", "5", "-1 nm", "5 s"])
def test_what_is_no_size_changes_nothing(open_widget: Open, text: str) -> None:
    image = Image(GREY)
    widget = open_widget(image)
    widget.form.size.setText(text)
    widget.form.set_size.click()
    assert "is no length; give a number and its unit" in widget.form.message.text()
    np.testing.assert_array_equal(image.scale, (1, 1))


@pytest.mark.parametrize("place", [{}, ODD, {"scale": (0.5, 0.25), "units": ("um", "um")}], ids=["plain", "odd", "um"])
def test_a_line_along_the_scale_bar_sets_the_size(open_widget: Open, qtbot: Any, place: dict[str, Any]) -> None:
    image = Image(GREY, **place)
    widget = open_widget(image)
    widget.form.draw.click()
    assert widget._viewer.layers.selection.active == widget.line.layer
    assert widget.line.layer.mode == "add_line"
    for start, end in (([0, 0], [5, 5]), ([80, 20], [80, 120])):  # only the last one counts
        ends = in_pixels(np.array([start, end], float), image, widget.line.layer, (0, 0))
        widget.line.layer.add(ends, shape_type="line")
        settle(qtbot)
    assert len(widget.line.layer.data) == 1
    assert widget.form.line.text() == "100.0 px"
    widget.form.length.setText("500 nm")
    assert "so a pixel is" in widget.form.line.text()
    ratio = 2 if "units" in place else 1  # a pixel of unknown size is square
    widget.form.set_length.click()
    np.testing.assert_allclose(image.scale, (5 * ratio, 5), rtol=1e-6)
    assert micrograph_from_layer(image).pixel_size_nm == pytest.approx((5 * ratio, 5), rel=1e-6)
    assert "100.0 px along the scale bar of 500 nm" in widget.form.pixel_size.text()
    np.testing.assert_allclose(widget.line.corners(), [[80, 20], [80, 120]], atol=1e-3)  # stays where it was drawn


def test_the_scale_bar_is_proposed_and_confirmed(open_widget: Open) -> None:
    demo = demo_micrograph(shape=(64, 512))
    image = from_file(demo.sample.image_yx, data_bar=demo.data_bar, data_bar_from="record")
    widget = open_widget(image)
    widget.form.find.click()
    np.testing.assert_array_equal(image.scale, (1, 1))  # it is a proposal
    widget.form.length.setText("200 nm")
    widget.form.set_length.click()
    np.testing.assert_allclose(image.scale, (2, 2), rtol=1e-3)


def test_no_scale_bar_no_line(open_widget: Open) -> None:
    widget = open_widget(Image(GREY))
    widget.form.find.click()
    assert "No scale bar is found" in widget.form.message.text()
    widget.form.set_length.click()
    assert "There is no line" in widget.form.message.text()
    widget.line.put(widget.image.layer, np.array([[1.0, 1.0], [1.0, 2.0]]), "line")
    widget.form.length.setText("5 nm")
    widget.form.set_length.click()
    assert "too short to measure by" in widget.form.message.text()


def drag(layer: Shapes, start: np.ndarray, end: np.ndarray) -> None:
    """Drag with the mouse between two places of a layer."""
    from napari.utils._test_utils import read_only_mouse_event

    def event(kind: str, place: np.ndarray, *, dragging: bool) -> Any:
        world = tuple(layer.data_to_world(place))
        return read_only_mouse_event(type=kind, is_dragging=dragging, position=world, modifiers=[], button=1)

    mouse_press_callbacks(layer, event("mouse_press", start, dragging=False))
    mouse_move_callbacks(layer, event("mouse_move", (start + end) / 2, dragging=True))
    mouse_move_callbacks(layer, event("mouse_move", end, dragging=True))
    mouse_release_callbacks(layer, event("mouse_release", end, dragging=False))


@pytest.mark.parametrize("place", [{}, {"scale": (4.0, 4.0), "units": ("nm", "nm"), "translate": (50, -9)}])
def test_the_data_bar_is_marked_and_dragged(open_widget: Open, qtbot: Any, place: dict[str, Any]) -> None:
    image = from_file(data_bar=(90, 100), data_bar_from="picture")
    for name, value in place.items():
        setattr(image, name, value)
    widget = open_widget(image)
    mark = widget.bar.layer
    assert "rows 90 to 99, from the picture" in widget.form.data_bar.text()
    assert widget._viewer.layers.selection.active == image
    widget.form.drag.click()
    drag(mark, np.array([89.5, 79.5]), np.array([69.7, 79.5]))
    settle(qtbot)
    micrograph = micrograph_from_layer(image)
    assert (micrograph.data_bar, micrograph.data_bar_from) == ((70, 100), "user")
    assert micrograph.content_rows == slice(0, 70)
    assert "rows 70 to 99, from you" in widget.form.data_bar.text()
    np.testing.assert_allclose(widget.bar.corners()[:, 0].min(), 69.5, atol=1e-3)  # on whole rows
    widget.form.no_bar.click()
    assert micrograph_from_layer(image).content_rows == slice(0, 100)
    assert "none, as you said" in widget.form.data_bar.text()
    assert not widget.bar.there
    widget.form.undo.click()
    widget.form.undo.click()
    assert micrograph_from_layer(image).data_bar == (90, 100)
    assert widget.bar.there


def test_a_bar_can_be_marked_where_none_was_found_and_deleted(open_widget: Open, qtbot: Any) -> None:
    image = Image(GREY)
    widget = open_widget(image)
    assert widget.form.drag.text() == "Mark one"
    widget.form.drag.click()
    assert micrograph_from_layer(image).data_bar == (92, 100)
    widget.bar.layer.selected_data = {0}
    widget.bar.layer.remove_selected()
    settle(qtbot)
    assert micrograph_from_layer(image).data_bar is None
    assert micrograph_from_layer(image).data_bar_from == "user"


@pytest.mark.parametrize(
    ("top", "bottom", "rows"),
    [(-0.5, 9.5, (0, 10)), (-9, 20.2, (0, 21)), (80.1, 120, (81, 100)), (99.6, 130, None), (-20, -0.6, None),
     (-5, 103, (0, 99))],
)  # fmt: skip
def test_rows_of_a_rectangle(top: float, bottom: float, rows: Any) -> None:
    assert rows_of(np.array([[top, 3], [bottom, 50]]), 100) == rows


def test_segmentation_uses_the_dragged_rows(open_widget: Open, tiny: str) -> None:
    image = from_file(data_bar=(90, 100), data_bar_from="picture")
    widget = open_widget(image)
    widget._set_bar((60, 100))
    result = segment(micrograph_from_layer(image), model="tiny", device="cpu")
    assert result.record["segmented_rows"] == [0, 60]
    assert result.record["image"]["data_bar_from"] == "user"


def test_labels_made_before_count_where_there_is_no_bar(open_widget: Open) -> None:
    image = from_file(data_bar=(90, 100), data_bar_from="picture")
    classes = np.zeros((100, 160), np.uint8)
    classes[:50], classes[80:] = 1, 1
    record = {"segmented_rows": [0, 90]}
    labels = Layer.create(*classes_layer(classes, SPECS, "pores", placement(image), record=record))
    truth = Layer.create(*classes_layer(classes, SPECS, "truth", placement(image)))
    widget = open_widget(image, labels, truth)
    widget._set_bar((80, 100))
    assert counted_rows(labels) == (0, 80)
    measured = finish(measure(Asked(labels, image, True, MeasureSettings(), None), 0)).measured
    assert measured.record["measured_rows"] == [0, 80]
    assert measured.fields[0].pixels.tolist() == [30 * 160, 50 * 160]
    compared, _ = finish(evaluate_layers(Compared(labels, truth, SPECS, EvaluateSettings()), 0))
    assert compared.mask is not None
    assert int(compared.mask[..., 0].sum()) == 80
    widget._set_bar(None)  # what was never segmented still does not count
    assert counted_rows(labels) == (0, 90)
    widget.undo()
    widget.undo()
    assert "counted_rows" not in labels.metadata[KEY]


def test_a_bar_that_leaves_nothing_is_refused(open_widget: Open) -> None:
    image = from_file()
    record = {"segmented_rows": [50, 100]}
    labels = Layer.create(*classes_layer(GREY // 80, SPECS, "pores", placement(image), record=record))
    widget = open_widget(image, labels)
    widget._try(lambda: widget._set_bar((40, 100)))
    assert "nothing of it would be left" in widget.form.message.text()
    assert micrograph_from_layer(image).data_bar is None


def test_marks_lie_on_every_plane_of_a_stack(open_widget: Open) -> None:
    image = from_file(np.stack([GREY] * 3), "TYX", data_bar=(90, 100), data_bar_from="record")
    widget = open_widget(image)
    assert (widget.bar.layer.ndim, micrograph_from_layer(image).axes) == (2, "TYX")
    widget._viewer.dims.set_point(0, 2)
    widget.form.size.setText("7 nm")
    widget.form.set_size.click()
    np.testing.assert_array_equal(image.scale, (1, 7, 7))
    assert [str(unit) for unit in image.units] == ["pixel", "nanometer", "nanometer"]
    np.testing.assert_allclose(widget.bar.corners()[:, 0].max(), 99.5)


def test_marks_are_no_layers_for_others_and_go_with_the_widget(open_widget: Open) -> None:
    widget = open_widget(from_file(data_bar=(90, 100)), Image(np.zeros((20, 30)), name="other"))
    viewer = widget._viewer
    widget.form.find.click()
    assert widget.bar.layer.metadata[KEY]["kind"] == "overlay"
    viewer.layers.selection.active = viewer.layers["other"]
    assert not widget.bar.there
    viewer.layers.selection.active = viewer.layers["steel"]
    assert widget.bar.there
    widget.close_job()
    assert [layer.name for layer in viewer.layers] == ["steel", "other"]
    viewer.layers["steel"].scale = (2, 2)  # nothing listens any more


def test_without_an_image(open_widget: Open) -> None:
    widget = open_widget()
    widget.type_size()
    assert "There is no image" in widget.form.message.text()
    assert not widget.form.set_size.isEnabled()


def test_a_scale_that_napari_sets_is_noticed(open_widget: Open) -> None:
    image = Image(GREY)
    widget = open_widget(image)
    image.units = ("nm", "nm")
    image.scale = (6, 6)
    assert "6 nm" in widget.form.pixel_size.text()
    assert replace(widget.known).pixel_size_nm == (6, 6)

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from napari.layers import Image, Labels, Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_matseg._napari.filters import Condition, Filters
from napari_matseg._napari.frames import FrameTable, cell, heading
from napari_matseg._napari.layers import OVERLAY, classes_layer, image_layer, objects_layer
from napari_matseg._napari.measure import MeasureWidget
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.settings import ClassSpec

Wait = Callable[[Any], None]
Open = Callable[..., MeasureWidget]
SPECS = tuple(
    ClassSpec(name=n, colour=c) for n, c in (("matrix", (9, 9, 9)), ("pore", (255, 0, 0)), ("crack", (0, 0, 255)))
)
IN_NM = {"scale": (2.0, 2.0), "units": ("nm", "nm")}


def squares(n: int = 4, side: int = 6, first: int = 1) -> np.ndarray:
    """Labels 1, 3, 5 and so on, each of a square that is a pixel wider than the one before, and one at the edge."""
    labels = np.zeros((60, 80), np.uint16)
    for k in range(n):
        top, left = 5 + 18 * (k // 3), 5 + 24 * (k % 3)
        labels[top : top + side + k, left : left + side + k] = first + 2 * k
    labels[50:60, 70:80] = first + 2 * n
    return labels


OBJECTS = squares()
CLASSES = np.where(np.isin(OBJECTS, (1, 5)), 1, np.where(OBJECTS > 0, 2, 0)).astype(np.uint8)


@pytest.fixture
def open_widget(make_napari_viewer: Any) -> Open:
    def open_(*layers: Layer) -> MeasureWidget:
        viewer = make_napari_viewer()
        for layer in layers:
            viewer.add_layer(layer)
        _, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Measure")
        assert isinstance(widget, MeasureWidget)
        return widget

    return open_


@pytest.fixture
def measured(open_widget: Open, wait_for: Wait) -> Open:
    def open_(*layers: Layer) -> MeasureWidget:
        widget = open_widget(*layers)
        widget.run_bar.run_button.click()
        wait_for(widget)
        assert widget.result is not None, widget.run_bar.message.text()
        return widget

    return open_


def column(widget: MeasureWidget, name: str) -> list[str]:
    """Cells of a column from top to bottom."""
    model = widget.objects.table.model()
    titles = [model.headerData(x, Qt.Orientation.Horizontal).replace("\n", " ") for x in range(model.columnCount())]
    x = titles.index(name)
    return [model.data(model.index(y, x)) for y in range(model.rowCount())]


def titles(widget: MeasureWidget) -> list[str]:
    model = widget.objects.table.model()
    return [model.headerData(x, Qt.Orientation.Horizontal).replace("\n", " ") for x in range(model.columnCount())]


def keep(widget: MeasureWidget, name: str, low: str = "", high: str = "") -> Any:
    """Add a filter and let it act."""
    line = widget.objects.filters.add()
    line.column.setCurrentIndex(line.column.findData(name))
    line.low.setText(low)
    line.high.setText(high)
    widget.objects.filters.changed.emit()
    return line


def chosen(widget: MeasureWidget) -> list[int]:
    """Labels of the rows that are selected."""
    return widget.result.table["label"].iloc[widget.objects.table.selected()].tolist()


def overlays(widget: MeasureWidget) -> dict[str, np.ndarray]:
    """What the layers that only show something show."""
    return {
        layer.name: np.asarray(layer.data)
        for layer in widget._viewer.layers
        if layer.metadata.get("napari_matseg", {}).get("kind") == OVERLAY and layer.visible
    }


def drawn(widget: MeasureWidget, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """What an overlay covers of the labels."""
    layer = widget._viewer.layers[name]
    labels = widget.result.asked.labels
    first = np.rint(labels.world_to_data(layer.data_to_world([0] * layer.ndim))).astype(int)
    whole = np.zeros(shape, bool)
    whole[tuple(slice(a, a + n) for a, n in zip(first, layer.data.shape, strict=True))] = layer.data > 0
    return whole


def test_objects_are_measured_in_nm_with_intensities(measured: Open) -> None:
    image = image_layer(Micrograph(OBJECTS.astype(np.float32), pixel_size_nm=(2.0, 2.0)), "steel")
    widget = measured(Layer.create(*image), Labels(OBJECTS, name="mine", **IN_NM))
    assert column(widget, "Label") == ["1", "3", "5", "7", "9"]
    assert column(widget, "Area (nm²)") == [f"{4 * (6 + k) ** 2}" for k in range(4)] + ["400"]
    assert column(widget, "Intensity mean")[1] == "3.00"
    assert column(widget, "At edge") == ["", "", "", "", "yes"]
    assert "Area (px)" not in titles(widget)
    assert "Class" not in titles(widget)
    assert "<b>5 objects</b> in mine, 1 of them at the edge" in widget.run_bar.message.text()
    assert widget.objects.count.text() == "5 objects"
    assert not widget.tabs.isTabVisible(2)


def test_without_a_pixel_size_all_is_in_px_and_headed_so(measured: Open) -> None:
    widget = measured(Labels(OBJECTS))
    assert {"Area (px)", "Diameter (px)", "Feret max (px)"} <= set(titles(widget))
    assert not any("nm" in title for title in titles(widget))
    assert "sizes are in pixels" in widget.run_bar.message.text()
    assert "needs the pixel size" in widget.spacing.text.text()
    assert not widget.spacing.grains.isEnabled()
    assert "px</b> by number" in _sizes_text(widget)


def test_pixel_size_can_be_typed(measured: Open, wait_for: Wait) -> None:
    widget = measured(Labels(OBJECTS))
    widget.form.pixel_size.setText("0,5 nm")
    widget.form.pixel_size.editingFinished.emit()
    assert "Out of date" in widget.stale.text()
    assert widget.run_bar.run_button.text() == "Measure again"
    widget.run()
    wait_for(widget)
    assert column(widget, "Area (nm²)")[0] == "9.00"
    assert widget.stale.text() == ""
    widget.form.pixel_size.setText("tiny")
    widget.run()
    assert "tiny is no pixel size" in widget.run_bar.message.text()


def test_classes_are_guessed_and_their_pieces_measured(measured: Open) -> None:
    layer = Layer.create(*classes_layer(CLASSES, SPECS, "phases", {}))
    widget = measured(layer)
    assert widget.form.kind.currentData() is True
    assert column(widget, "Class") == ["pore", "pore", "crack", "crack", "crack"]
    assert widget.tabs.isTabVisible(2)
    text = widget.phases.pane.text.text()
    assert f"{(CLASSES == 1).mean():.2%}" in text
    assert "integral range" in text
    assert widget.phases.pane.plot is not None
    assert [widget.sizes.group.itemData(i) for i in range(widget.sizes.group.count())] == ["all", "class"]


def test_classes_without_names_have_their_values_for_names(open_widget: Open, wait_for: Wait) -> None:
    widget = open_widget(Labels(CLASSES))
    assert widget.form.kind.currentData() is False
    widget.form.kind.setCurrentIndex(1)
    widget.run()
    wait_for(widget)
    assert column(widget, "Class") == ["1", "1", "2", "2", "2"]


def test_ids_are_too_many_for_classes(open_widget: Open, wait_for: Wait) -> None:
    widget = open_widget(Labels(OBJECTS * 100))
    widget.form.kind.setCurrentIndex(1)
    widget.run()
    wait_for(widget)
    assert "say that they are objects" in widget.run_bar.message.text()
    assert widget.result is None
    assert widget.run_bar.run_button.isEnabled()


def test_values_beyond_the_classes_are_an_error(open_widget: Open, wait_for: Wait) -> None:
    widget = open_widget(Layer.create(*classes_layer(CLASSES + 1, SPECS, "phases", {})))
    widget.run()
    wait_for(widget)
    assert "classes are 0 to 2" in widget.run_bar.message.text()


def test_labels_have_to_be_there(open_widget: Open) -> None:
    widget = open_widget(Image(OBJECTS.astype(float)))
    widget.run_bar.run_button.click()
    assert "There are no labels" in widget.run_bar.message.text()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Labels(da.from_array(OBJECTS, chunks=16)),
        lambda: Labels([OBJECTS, OBJECTS[::2, ::2]], multiscale=True),
        lambda: Labels(OBJECTS.astype(np.uint32) * 400_000_000),
        lambda: Labels(OBJECTS > 4),
    ],
    ids=["dask", "pyramid", "large ids", "bool"],
)
def test_kinds_of_labels(measured: Open, make: Callable[[], Layer]) -> None:
    layer = make()
    widget = measured(layer)
    labels = np.asarray(layer.data[0] if layer.multiscale else layer.data).astype(np.int64)
    table = widget.result.table
    assert table["label"].tolist() == np.unique(labels)[1:].tolist()
    widget.objects.table.selectRow(0)
    np.testing.assert_array_equal(drawn(widget, "selected objects", labels.shape), labels == table["label"].iloc[0])
    widget.objects.grey.setChecked(True)
    widget.objects.edge.setChecked(True)
    np.testing.assert_array_equal(
        overlays(widget)["objects filtered out"] > 0, np.isin(labels, table["label"][table["touches_edge"]])
    )


def test_empty_labels(measured: Open) -> None:
    widget = measured(Labels(np.zeros((20, 30), np.uint8)))
    assert widget.objects.count.text() == "0 objects"
    assert "nothing left to draw" in _sizes_text(widget)
    widget.objects.table.selectAll()
    widget.objects.edge.setChecked(True)
    keep(widget, "area_px", "3")
    assert not widget.objects.save_button.isEnabled()


def test_row_lights_its_object_up(measured: Open) -> None:
    layer = Labels(OBJECTS, name="mine", translate=(7, 9), scale=(2, 2), rotate=20, units=("nm", "nm"))
    widget = measured(layer)
    before, colours = layer.data.copy(), layer.colormap
    viewer = widget._viewer
    viewer.layers.selection.active = layer
    widget.objects.table.selectRow(2)
    assert layer.selected_label == 5
    np.testing.assert_array_equal(drawn(widget, "selected objects", OBJECTS.shape), OBJECTS == 5)
    np.testing.assert_array_equal(layer.data, before)
    assert layer.colormap is colours
    assert viewer.layers.selection.active == layer
    y, x = widget.result.table[["y", "x"]].iloc[2]
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], layer.data_to_world((y, x)))


def test_several_rows_and_none(measured: Open) -> None:
    widget = measured(Labels(OBJECTS))
    widget.objects.table.selectAll()
    np.testing.assert_array_equal(drawn(widget, "selected objects", OBJECTS.shape), OBJECTS > 0)
    widget.objects.table.clearSelection()
    assert overlays(widget) == {}


def test_large_selection_is_shown_no_finer_than_the_screen(measured: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_matseg._napari.measure_link.FINEST", 20)
    widget = measured(Labels(OBJECTS, **IN_NM))
    widget.objects.table.selectAll()
    layer = widget._viewer.layers["selected objects"]
    assert max(layer.data.shape) <= 20
    for pixel in np.argwhere(layer.data):
        y, x = np.rint(widget.result.asked.labels.world_to_data(layer.data_to_world(pixel))).astype(int)
        assert OBJECTS[y, x]


def test_click_selects_the_row(measured: Open) -> None:
    layer = Labels(OBJECTS, name="mine", translate=(7, 9), scale=(2, 2), units=("nm", "nm"))
    widget = measured(layer)
    widget._viewer.layers.selection.active = layer
    widget.objects.table.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    click(widget, (25, 8))
    assert chosen(widget) == [OBJECTS[25, 8]]
    assert overlays(widget)["selected objects"].any()
    click(widget, (6, 6), "Control")
    assert sorted(chosen(widget)) == [1, 7]
    click(widget, (6, 6), "Control")
    assert chosen(widget) == [7]
    click(widget, (6, 6), drag=20)
    assert chosen(widget) == [7]
    click(widget, (0, 0))
    assert chosen(widget) == []
    click(widget, (-30, 4000))
    assert chosen(widget) == []
    layer.mode = "paint"
    click(widget, (6, 6))
    assert chosen(widget) == []


def test_click_on_a_piece_of_a_class(measured: Open) -> None:
    widget = measured(Layer.create(*classes_layer(CLASSES, SPECS, "phases", {})))
    click(widget, (6, 60))
    row = widget.result.table.iloc[widget.objects.table.selected()]
    assert row["class"].tolist() == ["pore"]
    assert row["area_px"].tolist() == [64]
    np.testing.assert_array_equal(drawn(widget, "selected objects", OBJECTS.shape), OBJECTS == 5)


def test_click_on_an_object_that_is_filtered_out(measured: Open) -> None:
    widget = measured(Labels(OBJECTS))
    keep(widget, "area_px", "50")
    click(widget, (6, 6))
    assert chosen(widget) == []
    assert "Object 1 is filtered out" in widget.run_bar.message.text()


def test_stack_shows_the_plane_of_the_object(measured: Open) -> None:
    stack = np.stack([OBJECTS, np.zeros_like(OBJECTS), squares(2, first=2)])
    widget = measured(Labels(stack))
    viewer = widget._viewer
    assert column(widget, "Plane") == ["0"] * 5 + ["2"] * 3
    widget.objects.table.selectRow(6)
    assert viewer.dims.current_step[0] == 2
    np.testing.assert_array_equal(drawn(widget, "selected objects", stack.shape)[2], stack[2] == 4)
    viewer.dims.set_point(0, 0)
    assert "selected objects" not in overlays(widget)
    click(widget, (0, 6, 6))
    assert widget.objects.table.selected().tolist() == [0]
    assert [widget.sizes.group.itemData(i) for i in range(widget.sizes.group.count())] == ["all", "file"]
    widget.objects.grey.setChecked(True)
    widget.objects.edge.setChecked(True)
    viewer.dims.set_point(0, 2)
    np.testing.assert_array_equal(drawn(widget, "objects filtered out", stack.shape)[2], stack[2] == 6)


def test_filters(measured: Open) -> None:
    widget = measured(Labels(OBJECTS))
    line = keep(widget, "area_px", "40", "99")
    assert column(widget, "Label") == ["3", "5", "7"]
    assert widget.objects.count.text() == "3 of 5 objects"
    assert "<b>D10" in _sizes_text(widget)
    assert "3 objects" in _sizes_text(widget)
    other = keep(widget, "label", "", "5")
    assert column(widget, "Label") == ["3", "5"]
    other.removed.emit()
    widget.objects.filters.changed.emit()
    line.low.setText("forty")
    widget.objects.filters.changed.emit()
    assert column(widget, "Label") == ["1", "3", "5", "7"]
    assert "no number" in line.low.toolTip()


def test_nothing_left_is_said_and_harmless(measured: Open, tmp_path: Path) -> None:
    widget = measured(Labels(OBJECTS, **IN_NM))
    widget.objects.table.selectRow(0)
    line = keep(widget, "diameter_nm", "1e9")
    assert widget.objects.count.text() == "0 of 5 objects: nothing left to show"
    assert overlays(widget) == {}
    assert "nothing left to draw" in _sizes_text(widget)
    widget.objects.table.sortByColumn(1, Qt.SortOrder.AscendingOrder)
    widget.objects.grey.setChecked(True)
    assert overlays(widget)["objects filtered out"].any()
    assert not widget.objects.save_button.isEnabled()
    widget.save(tmp_path)
    line.low.setText("")
    widget.objects.filters.changed.emit()
    assert widget.objects.count.text() == "5 objects"


def test_filters_stay_when_measured_again(measured: Open, wait_for: Wait) -> None:
    widget = measured(Labels(OBJECTS))
    keep(widget, "area_px", "40")
    keep(widget, "diameter_px", "1")
    widget.form.pixel_size.setText("3")
    widget.run()
    wait_for(widget)
    # Areas in px are not shown beside those in nm², and no diameter is in px any more.
    assert widget.objects.filters.lines == []
    assert widget.objects.count.text() == "5 objects"


def test_filter_by_class(measured: Open) -> None:
    widget = measured(Layer.create(*classes_layer(CLASSES, SPECS, "phases", {})))
    line = widget.objects.filters.add()
    line.column.setCurrentIndex(line.column.findData("class"))
    line.value.setCurrentText("pore")
    widget.objects.filters.changed.emit()
    assert column(widget, "Class") == ["pore", "pore"]


def test_sizes_follow_their_choices(measured: Open) -> None:
    widget = measured(Labels(OBJECTS, **IN_NM))
    sizes = widget.sizes
    assert "Miles-Lantuéjoul weights" in _sizes_text(widget)
    sizes.edge.setCurrentIndex(sizes.edge.findData("keep"))
    assert "not corrected" in _sizes_text(widget)
    assert "5 objects" in _sizes_text(widget)
    sizes.quantity.setCurrentIndex(sizes.quantity.findData("area"))
    sizes.weighting.setCurrentIndex(sizes.weighting.findData("area"))
    assert "nm²</b> by area" in _sizes_text(widget)
    assert {"area_nm2"} <= set(sizes.pane.plot.data.columns)
    sizes.edge.setCurrentIndex(sizes.edge.findData("guard"))
    assert not sizes.guard.isHidden()
    sizes.guard.setValue(4)
    assert "guard frame of 4 px" in _sizes_text(widget)
    sizes.guard.setValue(40)
    assert "leaves no frame" in _sizes_text(widget)
    assert sizes.pane.plot is None
    sizes.edge.setCurrentIndex(0)
    for i in range(sizes.axis.count()):
        sizes.axis.setCurrentIndex(i)
        _sizes_text(widget)
        assert sizes.pane.plot is not None


def test_spacing_and_grains(measured: Open, wait_for: Wait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    widget = measured(Labels(OBJECTS, **IN_NM))
    spacing = widget.spacing
    spacing.grains.setCurrentIndex(spacing.grains.findData(-1))
    spacing.run_button.click()
    wait_for(widget)
    for words in ("Mean free path", "Nearest neighbour", "Grain size G", "planimetric", "intercept", "Interval"):
        assert words in spacing.text.text()
    assert "5 objects" in widget.run_bar.message.text()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args: (str(tmp_path / "spacing"), ""))
    spacing.save_button.click()
    assert pd.read_csv(tmp_path / "spacing.csv")["of"].tolist() == ["all objects", "grains", "grains"]
    spacing.what.setCurrentIndex(-1)
    assert spacing.spacing is None


def test_grains_between_boundaries(measured: Open, wait_for: Wait) -> None:
    classes = np.ones((60, 80), np.uint8)
    classes[::20] = classes[:, ::20] = 2
    widget = measured(Layer.create(*classes_layer(classes, SPECS, "steel", IN_NM)))
    spacing = widget.spacing
    spacing.grains.setCurrentIndex(spacing.grains.findText("parted by crack"))
    spacing.what.setCurrentIndex(spacing.what.findText("crack"))
    spacing.run_button.click()
    wait_for(widget)
    assert spacing.spacing.what == "crack"
    assert spacing.spacing.grains[0].fields == 1
    assert np.isfinite(spacing.spacing.grains[0].g)


def test_edited_labels_are_out_of_date(measured: Open, wait_for: Wait, tmp_path: Path) -> None:
    layer = Labels(OBJECTS.copy(), name="mine")
    widget = measured(layer)
    assert widget.stale.isHidden()
    layer.paint((30, 40), 7)
    assert "Out of date: mine was changed" in widget.stale.text()
    assert widget.run_bar.run_button.text() == "Measure again"
    with pytest.raises(Exception, match="measure again before saving"):
        widget.save(tmp_path)
    widget.run()
    wait_for(widget)
    assert widget.stale.isHidden()
    assert widget.run_bar.run_button.text() == "Measure"
    layer.undo()
    assert "Out of date" in widget.stale.text()
    widget.run()
    wait_for(widget)
    layer.scale = (3, 3)
    assert "Out of date" in widget.stale.text()


def test_labels_of_another_shape_are_not_linked(measured: Open) -> None:
    layer = Labels(OBJECTS)
    widget = measured(layer)
    widget.objects.table.selectRow(0)
    layer.data = OBJECTS[:20, :20]
    assert overlays(widget) == {}
    widget.objects.table.selectRow(1)
    assert "cannot be shown" in widget.run_bar.message.text()
    click(widget, (6, 6))


def test_removed_layer_leaves_its_numbers(measured: Open) -> None:
    widget = measured(Labels(OBJECTS, name="mine"))
    widget.objects.table.selectRow(0)
    widget._viewer.layers.remove("mine")
    assert "mine is no longer there" in widget.stale.text()
    assert overlays(widget) == {}
    assert column(widget, "Label") == ["1", "3", "5", "7", "9"]
    widget.objects.table.selectRow(1)
    keep(widget, "label", "3")
    widget.measure_spacing()
    assert "measure again" in widget.run_bar.message.text()
    widget.run()
    assert "There are no labels" in widget.run_bar.message.text()


def test_overlay_may_be_deleted(measured: Open) -> None:
    widget = measured(Labels(OBJECTS))
    widget.objects.table.selectRow(0)
    widget._viewer.layers.remove("selected objects")
    widget.objects.table.selectRow(1)
    assert overlays(widget)["selected objects"].any()
    assert widget.form.labels.count() == 1


def test_another_layer_is_not_taken_for_the_measured_one(measured: Open) -> None:
    widget = measured(Labels(OBJECTS, name="mine"))
    widget._viewer.add_labels(OBJECTS, name="other")
    assert widget.stale.isHidden()
    widget.form.labels.setCurrentIndex(widget.form.labels.findText("other"))
    assert "These are the numbers of mine" in widget.stale.text()


def test_image_of_the_same_shape_is_chosen(open_widget: Open) -> None:
    widget = open_widget(
        Image(np.zeros((5, 6)), name="small"), Image(np.zeros((60, 80)), name="steel"), Labels(OBJECTS)
    )
    assert widget.form.image.currentText() == "steel"
    widget.form.image.setCurrentIndex(0)
    widget.form.image.activated.emit(0)
    widget._viewer.add_points([[0, 0]])
    assert widget.form.image.layer is None


def test_data_bar_is_left_out(measured: Open, wait_for: Wait) -> None:
    labels = objects_layer(OBJECTS, "objects", {}, record={"job": "segment", "segmented_rows": [0, 40]})
    widget = measured(Layer.create(*labels))
    assert column(widget, "Label") == ["1", "3", "5", "7"]
    assert widget.result.measured.fields[0].shape_yx == (40, 80)
    assert widget.result.measured.record["made_by"]["job"] == "segment"
    widget.form.data_bar.setChecked(False)
    assert "Out of date" in widget.stale.text()
    widget.run()
    wait_for(widget)
    assert len(column(widget, "Label")) == 5


def test_buttons_save(measured: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = image_layer(Micrograph(OBJECTS.astype(np.float32), pixel_size_nm=(2.0, 2.0)), "steel")
    widget = measured(Layer.create(*image), Layer.create(*classes_layer(CLASSES, SPECS, "a/b", IN_NM)))
    keep(widget, "label", "2")
    answers = ["", str(tmp_path / "t"), str(tmp_path / "none" / "t")]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args: (answers.pop(0), ""))
    for _ in range(3):
        widget.objects.save_button.click()
    assert "none" in widget.run_bar.message.text()
    table = pd.read_csv(tmp_path / "t.csv")
    assert table["label"].tolist() == [2, 3, 4, 5]
    assert "diameter_nm" in table
    _sizes_text(widget)
    answers = ["", str(tmp_path / "f"), str(tmp_path / "g.png"), str(tmp_path / "none" / "f.svg")]
    for _ in range(4):
        widget.sizes.pane.save_button.click()
    assert {"f.svg", "f.csv", "g.png", "g.csv"} <= {path.name for path in tmp_path.iterdir()}
    folders = ["", str(tmp_path / "all"), str(tmp_path / "t.csv" / "all")]
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args: folders.pop(0))
    for _ in range(3):
        widget.save_button.click()
    saved = {path.name for path in (tmp_path / "all").iterdir()}
    assert {"a-b_report.html", "a-b_measurements.csv", "a-b_size_figure.svg", "a-b_measured.json"} <= saved
    assert len(pd.read_csv(tmp_path / "all" / "a-b_measurements.csv")) == 4
    record = json.loads((tmp_path / "all" / "a-b_measured.json").read_text())
    assert record["filters"]["conditions"][0] == {"column": "label", "low": 2.0, "high": None, "text": None}
    assert "t.csv" in widget.run_bar.message.text()


def test_figure_is_as_wide_as_the_dock(make_napari_viewer: Any, wait_for: Wait, qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.add_labels(OBJECTS)
    _, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Measure")
    widget.run()
    wait_for(widget)
    widget.tabs.setCurrentWidget(widget.sizes)
    qtbot.waitUntil(lambda: widget.sizes.pane.plot is not None, timeout=20_000)
    pane = widget.sizes.pane
    canvas = pane._canvas
    qtbot.waitUntil(lambda: canvas.width() == min(pane.width(), 620), timeout=20_000)
    width, height = canvas.figure.get_size_inches()
    np.testing.assert_allclose((width, height), pane.plot.size_in, rtol=0.01)
    widget.sizes.weighting.setCurrentIndex(1)
    assert pane._canvas is not canvas
    assert widget.minimumSizeHint().width() <= 420


def test_dock_closed(measured: Open) -> None:
    widget = measured(Labels(OBJECTS, name="mine"))
    viewer = widget._viewer
    widget.objects.table.selectRow(0)
    widget.run()
    viewer.window.remove_dock_widget(widget)
    assert [layer.name for layer in viewer.layers] == ["mine"]
    assert widget.objects.link._on_mouse not in viewer.mouse_drag_callbacks
    viewer.layers["mine"].data = OBJECTS + 1
    viewer.add_labels(OBJECTS)
    assert widget.form.labels.count() == 1
    widget.deleteLater()


def test_table_sorts_with_nothing_last(qtbot: Any) -> None:
    table = FrameTable()
    qtbot.addWidget(table)
    frame = pd.DataFrame({"label": [1, 2, 3], "class": ["b", "a", "c"], "size_nm": [np.nan, 2.0, 1.0]})
    table.fill(frame, ["label", "class", "size_nm"])
    table.sortByColumn(2, Qt.SortOrder.AscendingOrder)
    assert table.shown.tolist() == [2, 1, 0]
    table.sortByColumn(2, Qt.SortOrder.DescendingOrder)
    assert table.shown.tolist() == [1, 2, 0]
    table.selectRow(1)
    assert table.selected().tolist() == [2]
    table.keep(np.array([True, False, True]))
    assert table.shown.tolist() == [2, 0]
    assert table.selected().tolist() == [2]
    table.sortByColumn(1, Qt.SortOrder.AscendingOrder)
    assert table.shown.tolist() == [0, 2]
    assert table.selected().tolist() == [2]


def test_twenty_thousand_rows_stay_quick(qtbot: Any) -> None:
    import time

    n = 20_000
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"c{i}_nm": rng.random(n) for i in range(24)})
    table = FrameTable()
    qtbot.addWidget(table)
    started = time.perf_counter()
    table.fill(frame, list(frame.columns))
    table.sortByColumn(3, Qt.SortOrder.AscendingOrder)
    table.selectAll()
    table.keep(frame["c1_nm"].to_numpy() > 0.5)
    assert table.selected().size == (frame["c1_nm"] > 0.5).sum()
    assert time.perf_counter() - started < 10  # 0.2 s where nothing else runs


def test_conditions() -> None:
    frame = pd.DataFrame({"a": [1.0, np.nan, 3.0], "b": ["x", "y", "x"]})
    assert Condition("a").meets(frame).tolist() == [True, True, True]
    assert Condition("a", low=2).meets(frame).tolist() == [False, False, True]
    assert Condition("a", 5, 2).meets(frame).tolist() == [False, False, False]
    assert Condition("b", text="x").meets(frame).tolist() == [True, False, True]
    assert Condition("a", low=0).meets(frame.iloc[:0]).tolist() == []


def test_filters_of_a_column_of_nothing(qtbot: Any) -> None:
    filters = Filters()
    qtbot.addWidget(filters)
    filters.suit(pd.DataFrame({"a": [np.nan, np.nan]}), ["a"])
    line = filters.add()
    line.low.setText("1")
    assert filters.meets().tolist() == [False, False]
    filters.suit(pd.DataFrame({"b": [1]}), ["b"])
    assert filters.lines == []


def test_cells_and_headings() -> None:
    assert (heading("y"), heading("touches_edge"), heading("orientation_deg")) == (
        "y (px)",
        "At edge",
        "Orientation (°)",
    )
    assert [cell(value) for value in (0.12345, 99.96, -5.0, np.inf, None, np.bool_(False))] == [
        "0.123", "100.0", "-5.00", "inf", "None", ""
    ]  # fmt: skip


def click(widget: MeasureWidget, place: tuple[int, ...], *modifiers: str, drag: int = 0) -> None:
    """Press and release the mouse on a pixel of the labels that were measured."""
    position = widget.result.asked.labels.data_to_world(place)
    event = SimpleNamespace(
        button=1, pos=np.array([50, 50]), position=position, type="mouse_press", modifiers=modifiers
    )
    steps = widget.objects.link._on_mouse(widget._viewer, event)
    next(steps, None)
    if drag:
        event.type, event.pos = "mouse_move", np.array([50 + drag, 50])
        next(steps, None)
    event.type = "mouse_release"
    next(steps, None)


def _sizes_text(widget: MeasureWidget) -> str:
    """Text of the sizes, as if somebody looked."""
    widget.sizes._draw()
    return widget.sizes.pane.text.text()

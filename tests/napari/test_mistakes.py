from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer
from qtpy.QtWidgets import QFileDialog

from napari_matseg._napari import evaluate_result
from napari_matseg._napari.evaluate import EvaluateWidget
from napari_matseg._napari.evaluate_result import Asked, Evaluation, Mistakes, evaluate_layers
from napari_matseg._napari.layers import classes_layer, objects_layer
from napari_matseg._napari.mistakes_fix import pixels_of, with_truth
from napari_matseg._napari.mistakes_list import same
from napari_matseg.comparing import compare
from napari_matseg.core.agreement.mistakes import KINDS, find_mistakes
from napari_matseg.core.label_files import write_labels
from napari_matseg.core.progress import finish
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec, EvaluateSettings

Wait = Callable[[Any], None]
Open = Callable[..., EvaluateWidget]
PHASES = (ClassSpec(name="matrix", colour=(0, 0, 0)), ClassSpec(name="pore", colour=(255, 0, 0)))
SCALE = {"scale": (2.0, 2.0), "translate": (100.0, 50.0), "units": ("nm", "nm")}
PATIENCE = 60_000  # ms


def truth() -> np.ndarray:
    """Six squares."""
    labels = np.zeros((60, 90), np.uint16)
    for number in range(6):
        y, x = 5 + 30 * (number // 3), 5 + 30 * (number % 3)
        labels[y : y + 20, x : x + 20] = 10 * (number + 1)
    return labels


def prediction() -> np.ndarray:
    """Object 10 is split, 20 and 30 are merged, 40 is missed, 50 lacks a piece, and one is made up in the data bar."""
    labels = truth()
    labels[5:25, 5:15] = 7
    labels[5:25, 35:85] = 20
    labels[labels == 40] = 0
    labels[35:45, 35:42] = 0
    labels[56:60, 2:9] = 99
    return labels


def asked(predicted: np.ndarray, true: np.ndarray, *, objects: bool = True) -> Asked:
    classes = None if objects else PHASES
    return Asked(Labels(predicted), Labels(true), classes, EvaluateSettings(objects=objects))


def evaluated(predicted: np.ndarray, true: np.ndarray, *, objects: bool = True) -> tuple[Evaluation, Mistakes]:
    return finish(evaluate_layers(asked(predicted, true, objects=objects), 0))


@pytest.fixture
def open_widget(make_napari_viewer: Any) -> Open:
    def open_(*layers: Layer, show: bool = False) -> EvaluateWidget:
        viewer = make_napari_viewer(show=show)
        for layer in layers:
            viewer.add_layer(layer)
        _, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Evaluate segmentation")
        widget.prediction.layer, widget.truth.layer = viewer.layers["found"], viewer.layers["truth"]
        return widget

    return open_


def found(labels: np.ndarray | None = None, **more: Any) -> Layer:
    record = {"job": "segment", "segmented_rows": [0, 56]}
    return Layer.create(*objects_layer(prediction() if labels is None else labels, "found", more, record=record))


def texts(widget: EvaluateWidget) -> list[str]:
    return [mistake.text for mistake in widget.mistakes.mistakes.found]


def test_objects_are_compared_and_shown(
    open_widget: Open, wait_for: Wait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image(np.zeros((60, 90)), **SCALE)
    widget = open_widget(image, Labels(truth(), name="truth", **SCALE), found(**SCALE), show=True)
    viewer = widget._viewer
    assert widget.kind.currentText().startswith("objects")
    widget.run_bar.run_button.click()
    wait_for(widget)

    write_labels(tmp_path / "a.tif", prediction(), record={"segmented_rows": [0, 56]}, pixel_size_nm=(2.0, 2.0))
    write_labels(tmp_path / "t.tif", truth())
    expected = compare([(tmp_path / "a.tif", tmp_path / "t.tif")], EvaluateSettings(objects=True)).tables()
    assert {name: widget.evaluation.tables[name] for name in ("objects", "overall", "sizes")} == {
        name: expected[name] for name in ("objects", "overall", "sizes")
    }
    assert "3 of 6 true objects found, 3 missed" in widget.scores.text.text()
    assert "1 true object split, 1 predicted object merging several" in widget.scores.text.text()
    assert [widget.tabs.tabText(i) for i in range(4)] == ["Scores", "Sizes", "By IoU", "Mistakes (4)"]

    overlay = viewer.layers["mistakes"]
    codes, mistakes = find_mistakes(prediction()[:56], truth()[:56])
    np.testing.assert_array_equal(overlay.data[:56], codes)
    assert not overlay.data[56:].any()  # the data bar
    assert texts(widget) == [mistake.text for mistake in mistakes]
    np.testing.assert_allclose(overlay.data_to_world((0, 0)), (100, 50))
    assert [str(unit) for unit in overlay.units] == ["nanometer"] * 2
    assert widget.prediction.findText("mistakes") == -1
    assert "split&nbsp;(1)" in widget.mistakes.legend.text()

    for page in range(4):
        widget.tabs.setCurrentIndex(page)
    assert widget.sizes.table.shown.size == len(expected["sizes"])
    assert widget.sizes.pane.plot is not None
    assert widget.pictures.pane.plot is not None
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args: str(tmp_path / "out"))
    widget.saving.all_button.click()
    assert (tmp_path / "out" / "found_objects.csv").is_file()
    assert (tmp_path / "out" / "found_comparison.json").is_file()


def test_rows_fly_and_outline(open_widget: Open, wait_for: Wait) -> None:
    widget = open_widget(Labels(truth(), name="truth", **SCALE), found(**SCALE))
    viewer, tab = widget._viewer, widget.mistakes
    widget.run()
    wait_for(widget)
    assert not tab.take_button.isEnabled()
    row = texts(widget).index("missed: object 40")
    tab.table.selectRow(row)
    assert viewer.layers.selection.active == viewer.layers["found"]
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], (100 + 2 * 44.5, 50 + 2 * 14.5))
    outline = viewer.layers["selected mistake"]
    inside = np.argwhere(outline.data)
    np.testing.assert_allclose(outline.data_to_world(inside.min(axis=0)), (100 + 2 * 35, 50 + 2 * 5))
    np.testing.assert_allclose(outline.data_to_world(inside.max(axis=0)), (100 + 2 * 54, 50 + 2 * 24))
    assert outline.contour >= 1
    tab.table.clearSelection()
    tab.table.go_to(0)
    tab.next_button.click()
    tab.previous_button.click()
    assert tab.selected.text == texts(widget)[0]
    tab.previous()
    assert tab.selected.text == texts(widget)[0]
    assert {"Alt-Right", "Alt-Left", "Alt-T"} <= {str(key).replace("+", "-") for key in viewer.keymap}
    viewer.window.remove_dock_widget(widget)
    assert [layer.name for layer in viewer.layers] == ["truth", "found"]
    assert not any("Alt" in str(key) for key in viewer.keymap)
    viewer.layers["found"].paint((3, 3), 5)  # nobody listens
    viewer.layers.clear()
    widget.deleteLater()


def test_figures_follow_the_brush(open_widget: Open, wait_for: Wait, qtbot: Any) -> None:
    widget = open_widget(Labels(truth(), name="truth"), found())
    layer, tab = widget._viewer.layers["found"], widget.mistakes
    widget.run()
    wait_for(widget)

    def until_followed(act: Callable[[], Any]) -> None:
        before = widget.evaluation
        act()
        qtbot.waitUntil(lambda: widget.evaluation is not before and not widget._live.running, timeout=PATIENCE)

    missed = texts(widget).index("missed: object 40")
    tab.table.selectRow(missed)
    widget._viewer.layers["mistakes"].visible = False
    there = np.nonzero(truth() == 60)
    until_followed(lambda: layer.data_setitem(there, 0))
    assert "missed: object 60" in texts(widget)
    assert tab.selected.text == "missed: object 40"
    assert "2 of 6 true objects found" in widget.scores.text.text()
    assert not widget._viewer.layers["mistakes"].visible  # it stays as the user has it
    assert not tab.over.isChecked()
    until_followed(layer.undo)
    assert "missed: object 60" not in texts(widget)

    tab.over.setChecked(True)
    n = len(texts(widget))
    until_followed(tab.take)
    assert len(texts(widget)) == n - 1
    assert "missed: object 40" not in texts(widget)
    np.testing.assert_array_equal(layer.data == 100, truth() == 40)
    until_followed(layer.undo)
    np.testing.assert_array_equal(layer.data, prediction())
    before = widget.evaluation
    layer.refresh()
    qtbot.wait(700)
    assert widget.evaluation is before  # nothing was changed

    widget._viewer.layers.remove("found")
    assert widget.evaluation is None
    assert [one.name for one in widget._viewer.layers] == ["truth"]


def test_a_large_image_has_to_be_evaluated_again(
    open_widget: Open, wait_for: Wait, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_result, "FOLLOWED", 10)
    widget = open_widget(Labels(truth(), name="truth"), found())
    widget.run()
    wait_for(widget)
    before = widget.evaluation
    widget._viewer.layers["found"].data_setitem(np.nonzero(truth() == 60), 0)
    qtbot.waitUntil(lambda: not widget.stale.isHidden(), timeout=PATIENCE)
    assert "out of date" in widget.stale.text()
    assert widget.evaluation is before
    assert widget.run_bar.run_button.text() == "Evaluate again"
    widget.run()
    wait_for(widget)
    assert widget.stale.isHidden()
    assert "missed: object 60" in texts(widget)


def test_stack_shows_the_mistakes_of_its_plane(open_widget: Open, wait_for: Wait, qtbot: Any) -> None:
    stack = np.stack([truth(), prediction()])
    widget = open_widget(Labels(np.stack([truth()] * 2), name="truth"), found(stack))
    viewer = widget._viewer
    viewer.dims.set_point(0, 0)
    widget.run()
    wait_for(widget)
    assert widget.mistakes.mistakes.plane == 0
    assert texts(widget) == []
    assert "No mistakes" in widget.mistakes.hint.text()
    assert widget.evaluation.scores.counts.n_truth == 12
    viewer.dims.set_point(0, 1)
    qtbot.waitUntil(lambda: bool(texts(widget)), timeout=PATIENCE)
    assert widget.mistakes.mistakes.plane == 1
    np.testing.assert_allclose(viewer.layers["mistakes"].data_to_world((0, 0, 0)), (1, 0, 0))
    widget.mistakes.table.selectRow(texts(widget).index("missed: object 40"))
    widget.mistakes.take()
    np.testing.assert_array_equal(viewer.layers["found"].data[0], truth())
    assert (viewer.layers["found"].data[1][truth() == 40] == 100).all()


def test_classes_have_mistakes_too(open_widget: Open, wait_for: Wait) -> None:
    true = (truth() > 0).astype(np.uint8)
    drawn = true.copy()
    drawn[5:25, 5:25] = 0
    predicted = Layer.create(*classes_layer(drawn, PHASES, "found", {}, record={"job": "segment"}))
    widget = open_widget(Labels(true, name="truth"), predicted, show=True)
    assert widget.kind.currentText().startswith("classes")
    widget.run()
    wait_for(widget)
    assert texts(widget) == ["pore taken for matrix"]
    for page in range(4):
        widget.tabs.setCurrentIndex(page)
    assert widget.pictures.pane.plot is not None
    assert widget.sizes.table.shown.size == 2
    widget.mistakes.next()
    assert predicted.selected_label == 1
    widget.mistakes.take()
    np.testing.assert_array_equal(predicted.data, true)
    widget.kind.setCurrentIndex(1)
    assert widget.tabs.isHidden()
    assert "mistakes" not in widget._viewer.layers


def test_shapes_of_objects_that_differ(open_widget: Open, wait_for: Wait) -> None:
    widget = open_widget(Labels(truth()[:-1], name="truth"), found())
    widget.run()
    wait_for(widget)
    assert "truth: has shape (59, 90) and the prediction (60, 90)" in widget.run_bar.message.text()
    assert "mistakes" not in widget._viewer.layers


def test_taking_the_truth_everywhere_leaves_no_mistake() -> None:
    rng = np.random.default_rng(0)
    labels = prediction()
    labels[rng.integers(0, 60, 40), rng.integers(0, 90, 40)] = 5
    for _ in range(30):
        evaluation, mistakes = evaluated(labels, truth())
        if not mistakes.found:
            break
        labels = with_truth(labels, evaluation, mistakes, mistakes.found[-1])
    assert not mistakes.found
    assert evaluation.scores.ap[0] == 1
    assert evaluation.scores.counts.n_split == evaluation.scores.counts.n_merged == 0


@pytest.mark.parametrize("kind", KINDS[1:])
def test_pixels_of_a_mistake(kind: str) -> None:
    labels = prediction()
    evaluation, mistakes = evaluated(labels, truth())
    (mistake,) = [one for one in mistakes.found if one.kind == kind and not one.text.startswith("outline")]
    expected = {
        "false positive": labels == 99,
        "false negative": truth() == 40,
        "split": truth() == 10,
        "merge": labels == 20,
    }[kind]
    mask = np.zeros(labels.shape, bool)
    mask[mistake.top : mistake.bottom, mistake.left : mistake.right] = pixels_of(evaluation, mistakes, mistake)
    np.testing.assert_array_equal(mask, expected)


def test_pixels_of_a_wrong_outline_are_one_piece() -> None:
    true = np.zeros((30, 30), np.uint8)
    true[5:25, 5:25] = 1
    labels = true.copy()
    labels[5:15, 5:9] = 0
    labels[7:9, 12:14] = 0  # too thin to be listed
    evaluation, mistakes = evaluated(labels, true)
    (mistake,) = mistakes.found
    assert pixels_of(evaluation, mistakes, mistake).sum() == mistake.area_px == 40
    assert (with_truth(labels, evaluation, mistakes, mistake) != true).sum() == 4


def test_no_room_for_another_id() -> None:
    labels = np.where(truth() == 40, 0, truth()).astype(np.uint8)
    labels[0, 0] = 255
    evaluation, mistakes = evaluated(labels, truth())
    missed = next(one for one in mistakes.found if one.text == "missed: object 40")
    with pytest.raises(InputError, match="uint8 has no room for the id 256"):
        with_truth(labels, evaluation, mistakes, missed)


def test_pieces_of_classes_cannot_take_the_truth() -> None:
    layer = Layer.create(*classes_layer((truth() > 0).astype(np.uint8), PHASES, "found", {}))
    work = evaluate_layers(Asked(layer, Labels(truth()), PHASES, EvaluateSettings(objects=True)), 0)
    evaluation, mistakes = finish(work)
    assert evaluation.scores.ap[0] == 1
    assert not evaluation.plain
    assert not mistakes.found


def test_a_mistake_is_known_again() -> None:
    labels = prediction()
    _, before = evaluated(labels, truth())
    labels[truth() == 60] = 0
    _, after = evaluated(labels, truth())
    for mistake in before.found:
        assert after.found[same(mistake, after.found)].text == mistake.text
    new = next(one for one in after.found if one.text == "missed: object 60")
    assert same(new, before.found) is None

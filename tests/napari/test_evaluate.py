from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image, Labels, Layer
from qtpy.QtWidgets import QFileDialog

from napari_matseg._napari.evaluate import EvaluateWidget
from napari_matseg._napari.layers import classes_layer, objects_layer
from napari_matseg._napari.reader import read_layers
from napari_matseg.comparing import compare
from napari_matseg.core.agreement.boundaries import BoundaryScores, count_boundaries
from napari_matseg.core.evaluate import evaluate
from napari_matseg.core.label_files import write_labels
from napari_matseg.core.metrics import Scores, count
from napari_matseg.settings import ClassSpec

Wait = Callable[[Any], None]
Open = Callable[..., EvaluateWidget]
SPECS = tuple(
    ClassSpec(name=n, colour=c) for n, c in (("matrix", (9, 9, 9)), ("pore", (255, 0, 0)), ("crack", (0, 0, 255)))
)
RNG = np.random.default_rng(1)
TRUTH = RNG.integers(0, 3, (40, 50), dtype=np.uint8)
PREDICTION = np.where(RNG.random((40, 50)) < 0.8, TRUTH, RNG.integers(0, 3, (40, 50))).astype(np.uint8)


def result(classes: np.ndarray = PREDICTION, name: str = "result", rows: tuple[int, int] | None = None) -> Layer:
    record = {"job": "segment", "segmented_rows": rows or [0, classes.shape[-2]]}
    return Layer.create(*classes_layer(classes, SPECS, name, {}, record=record))


@pytest.fixture
def open_widget(make_napari_viewer: Any, tiny: str) -> Open:
    def open_(*layers: Layer) -> EvaluateWidget:
        assert tiny
        viewer = make_napari_viewer()
        for layer in layers:
            viewer.add_layer(layer)
        _, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Evaluate segmentation")
        assert isinstance(widget, EvaluateWidget)
        return widget

    return open_


def cells(widget: EvaluateWidget) -> list[list[str]]:
    table = widget.table
    return [[table.item(y, x).text() for x in range(table.columnCount())] for y in range(table.rowCount())]


def test_table_has_a_row_for_each_class_and_one_for_the_mean(open_widget: Open, wait_for: Wait) -> None:
    widget = open_widget(result(), Labels(TRUTH, name="truth"))
    assert (widget.prediction.currentText(), widget.truth.currentText()) == ("result", "truth")
    widget.run_bar.run_button.click()
    wait_for(widget)
    scores = Scores(count(PREDICTION, TRUTH, 3))
    rows = cells(widget)
    assert [row[0] for row in rows] == ["matrix", "pore", "crack", "mean"]
    outlines = BoundaryScores(count_boundaries(PREDICTION, TRUTH, 3))
    assert rows[1][1:] == [
        f"{scores.iou[1]:.4f}",
        f"{scores.dice[1]:.4f}",
        f"{scores.precision[1]:.4f}",
        f"{scores.recall[1]:.4f}",
        f"{outlines.f1[1]:.4f}",
        f"{outlines.hausdorff95[1]:.2f}",
        "-",
        str((TRUTH == 1).sum()),
        str((PREDICTION == 1).sum()),
    ]
    assert widget.table.isColumnHidden(7)  # the pixel size is not known
    assert rows[3][1:6] == [
        f"{scores.mean_iou:.4f}",
        f"{scores.mean_dice:.4f}",
        *rows[3][3:5],
        f"{outlines.mean_f1:.4f}",
    ]
    assert rows[3][6:] == ["-"] * 4
    assert f"Pooled IoU {scores.pooled_iou:.4f}" in widget.run_bar.message.text()


def test_numbers_are_those_of_the_files(open_widget: Open, wait_for: Wait, tmp_path: Path) -> None:
    prediction, truth = tmp_path / "a_labels.tif", tmp_path / "a_truth.tif"
    write_labels(prediction, PREDICTION, classes=SPECS, record={"segmented_rows": [0, 30]}, pixel_size_nm=(2.0, 2.0))
    write_labels(truth, TRUTH, pixel_size_nm=(2.0, 2.0))
    layers = [Layer.create(*read_layers(str(path))[0]) for path in (prediction, truth)]
    widget = open_widget(*layers)
    widget.prediction.layer, widget.truth.layer = layers
    widget.run()
    wait_for(widget)
    expected, _ = evaluate(prediction, truth)
    assert widget.evaluation is not None
    np.testing.assert_array_equal(widget.evaluation.scores.counts.confusion, expected.counts.confusion)
    assert expected.counts.confusion.sum() == 30 * 50
    tables = compare([(prediction, truth)]).tables()
    assert widget.evaluation.tables["classes"] == tables["classes"]
    assert widget.evaluation.tables["fractions"] == tables["fractions"]
    assert not widget.table.isColumnHidden(7)


def test_data_bar_counts_if_it_is_wanted(open_widget: Open, wait_for: Wait) -> None:
    widget = open_widget(result(rows=(0, 30)), Labels(TRUTH))
    widget.data_bar.setChecked(False)
    widget.run()
    wait_for(widget)
    assert widget.evaluation is not None
    assert widget.evaluation.scores.counts.confusion.sum() == TRUTH.size


@pytest.mark.parametrize(
    "truth",
    [
        Image(np.array([spec.colour for spec in SPECS], np.uint8)[TRUTH], name="mask"),
        Image(
            np.concatenate([np.array([s.colour for s in SPECS], np.uint8)[TRUTH], TRUTH[..., None]], -1), name="mask"
        ),
        Image(TRUTH.astype(np.float64), name="mask"),
        Image(np.stack([TRUTH] * 3, axis=-1), name="mask"),
        Labels(da.from_array(TRUTH, chunks=20)),
        Labels([TRUTH, TRUTH[::2, ::2]], multiscale=True),
    ],
    ids=["rgb", "rgba", "float", "grey as rgb", "dask", "pyramid"],
)
def test_kinds_of_truth(open_widget: Open, wait_for: Wait, truth: Layer) -> None:
    widget = open_widget(result(), truth)
    widget.run()
    wait_for(widget)
    assert widget.evaluation is not None, widget.run_bar.message.text()
    np.testing.assert_array_equal(widget.evaluation.scores.counts.confusion, count(PREDICTION, TRUTH, 3).confusion)


def test_stack(open_widget: Open, wait_for: Wait) -> None:
    widget = open_widget(result(np.stack([PREDICTION, TRUTH]), rows=(10, 40)), Labels(np.stack([TRUTH, TRUTH])))
    widget.run()
    wait_for(widget)
    assert widget.evaluation is not None
    expected = count(PREDICTION[10:], TRUTH[10:], 3) + count(TRUTH[10:], TRUTH[10:], 3)
    np.testing.assert_array_equal(widget.evaluation.scores.counts.confusion, expected.confusion)


def test_reading_of_the_truth_is_told(open_widget: Open, wait_for: Wait) -> None:
    specs = SPECS[:2]
    prediction = Layer.create(
        *classes_layer((PREDICTION > 0).astype(np.uint8), specs, "r", {}, record={"job": "segment"})
    )
    widget = open_widget(prediction, Labels((TRUTH > 0).astype(np.uint8) * 255))
    widget.run()
    wait_for(widget)
    assert "255 read as" in widget.run_bar.message.text()


def test_ids_where_nothing_names_the_classes(open_widget: Open, wait_for: Wait) -> None:
    widget = open_widget(Labels(PREDICTION, name="mine"), Labels(TRUTH, name="truth"))
    widget.prediction.layer, widget.truth.layer = widget._viewer.layers
    widget.run()
    wait_for(widget)
    assert [row[0] for row in cells(widget)] == ["0", "1", "2", "mean"]


def test_classes_of_a_model(open_widget: Open, wait_for: Wait) -> None:
    widget = open_widget(Labels(PREDICTION, name="mine"), Image(np.array([s.colour for s in SPECS], np.uint8)[TRUTH]))
    widget.prediction.layer, widget.truth.layer = widget._viewer.layers
    widget.run()
    wait_for(widget)
    assert "is in colour, and nothing says which classes" in widget.run_bar.message.text()
    widget.classes.model = "tiny"
    widget.run()
    wait_for(widget)
    assert [row[0] for row in cells(widget)] == ["matrix", "pore", "crack", "mean"]


def test_shapes_that_differ(open_widget: Open, wait_for: Wait) -> None:
    widget = open_widget(result(), Labels(TRUTH[:-1]))
    widget.run()
    wait_for(widget)
    assert "has shape (39, 50) and the prediction (40, 50)" in widget.run_bar.message.text()
    assert not widget.saving.isEnabled()


def test_values_that_are_no_class(open_widget: Open, wait_for: Wait) -> None:
    widget = open_widget(result(), Labels(TRUTH + 7))
    widget.run()
    wait_for(widget)
    assert "give a mapping" in widget.run_bar.message.text()


def test_layers_have_to_be_chosen(open_widget: Open) -> None:
    widget = open_widget()
    widget.run_bar.run_button.click()
    assert "Choose a layer with the prediction first" in widget.run_bar.message.text()


def test_objects_are_not_chosen_unasked(open_widget: Open) -> None:
    objects = Layer.create(*objects_layer(PREDICTION.astype(np.uint32), "objects", {}, record={"job": "segment"}))
    assert open_widget(result(), objects).prediction.currentText() == "result"


def test_truth_has_to_be_chosen(open_widget: Open) -> None:
    widget = open_widget(result(), Image(TRUTH, name="steel"))
    assert widget.truth.layer is None  # the micrograph is no truth
    widget.run()
    assert "Choose a layer with the truth first" in widget.run_bar.message.text()


def test_a_layer_is_not_its_own_truth(open_widget: Open) -> None:
    widget = open_widget(result())
    widget.truth.layer = widget.prediction.layer
    widget.run()
    assert "are the same layer" in widget.run_bar.message.text()


def test_numbers_go_when_another_layer_is_chosen(open_widget: Open, wait_for: Wait) -> None:
    widget = open_widget(result(), Labels(TRUTH, name="truth"), Labels(PREDICTION, name="other"))
    widget.run()
    wait_for(widget)
    assert widget.saving.isEnabled()
    widget.truth.setCurrentIndex(widget.truth.findText("truth"))
    assert widget.table.rowCount() == 0
    assert not widget.saving.isEnabled()


def test_numbers_stay_when_other_layers_come_and_go(open_widget: Open, wait_for: Wait) -> None:
    widget = open_widget(result(), Labels(TRUTH, name="truth"))
    widget.run()
    wait_for(widget)
    widget._viewer.add_labels(TRUTH, name="other")
    widget._viewer.layers.remove("other")
    assert widget.table.rowCount() == 4
    widget._viewer.layers.remove("truth")
    assert widget.table.rowCount() == 0


def test_button_saves_the_table(
    open_widget: Open, wait_for: Wait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = open_widget(result(), Labels(TRUTH))
    widget.run()
    wait_for(widget)
    answers = ["", str(tmp_path / "scores"), str(tmp_path / "missing" / "scores.csv")]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args: (answers.pop(0), ""))
    widget.saving.table_button.click()
    assert not list(tmp_path.iterdir())
    widget.saving.table_button.click()
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["matrix", "pore", "crack", "mean"]
    assert widget.evaluation is not None
    assert float(rows[2]["iou"]) == widget.evaluation.scores.iou[2]
    widget.saving.table_button.click()
    assert "missing" in widget.run_bar.message.text()
    assert "scores.csv" in widget.run_bar.message.text()


def test_dock_closed(open_widget: Open) -> None:
    widget = open_widget(result())
    viewer = widget._viewer
    viewer.window.remove_dock_widget(widget)
    viewer.add_labels(TRUTH)
    assert widget.truth.count() == 1
    widget.deleteLater()

"""Evaluate a segmentation: the same numbers as `napari-matseg evaluate` gives for the same files."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.viewer import Viewer
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QCheckBox, QFileDialog, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.jobs import Job
from napari_matseg._napari.layers import as_read, micrograph_from_layer, record_of, specs_of
from napari_matseg._napari.models import ModelChoice
from napari_matseg._napari.parts import Form, LayerChoice, RunBar, shrink
from napari_matseg._napari.tables import Row, ScoresTable
from napari_matseg.core.checkpoints import read_card
from napari_matseg.core.evaluate import classes_of, evaluate
from napari_matseg.core.export import write_csv
from napari_matseg.core.metrics import Scores
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import Progress
from napari_matseg.errors import MatsegError
from napari_matseg.settings import ClassSpec

AS_LAYERS_SAY = "as the layers say"


@dataclass(frozen=True)
class Evaluation:
    """Scores with what they are scores of."""

    scores: Scores
    classes: tuple[ClassSpec, ...]
    notes: tuple[str, ...]

    def rows(self) -> list[Row]:
        """One row for each class and one for their means."""
        return self.scores.rows([spec.name for spec in self.classes])


class EvaluateWidget(QWidget):
    """Compares a labels layer with the truth, class by class."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer
        self.evaluation: Evaluation | None = None
        self._job = Job(self)
        self._job.succeeded.connect(self._on_succeeded)
        self._job.ended.connect(self._on_ended)

        self.prediction = LayerChoice(napari_viewer, [Labels], prefer=_looks_like_result)
        self.truth = LayerChoice(napari_viewer, [Labels, Image], prefer=_looks_like_truth)
        self.classes = ModelChoice(first=AS_LAYERS_SAY)
        self.classes.setToolTip("Whose names and colours the classes have, if the layers do not say.")
        self.data_bar = QCheckBox("Leave the data bar out")
        self.data_bar.setToolTip("Rows that were not segmented do not count.")
        self.data_bar.setChecked(True)
        self.run_bar = RunBar(self._job, self.run, "Evaluate")
        self.table = ScoresTable()
        self.save_button = QPushButton("Save as CSV…")
        self.save_button.clicked.connect(self._ask_and_save)
        self._lay_out()
        self._forget_scores()
        for choice in (self.prediction, self.truth, self.classes):
            choice.currentIndexChanged.connect(self._forget_scores)
        self.data_bar.toggled.connect(self._forget_scores)

    def _lay_out(self) -> None:
        self._form = Form()
        self._form.add("Prediction", self.prediction)
        self._form.add("Truth", self.truth)
        self._form.add("Classes", shrink(self.classes))
        self._form.add("", self.data_bar)
        layout = QVBoxLayout(self)
        for widget in (self._form, self.run_bar, self.table, self.save_button):
            layout.addWidget(widget)
        layout.addStretch()

    def run(self) -> None:
        """Start comparing; the table comes later, or an error is shown."""
        if self._job.running:
            return
        self._forget_scores()
        predicted, true = self.prediction.layer, self.truth.layer
        if predicted is None or true is None:
            self.run_bar.fail(f"Choose a layer with the {'prediction' if predicted is None else 'truth'} first.")
            return
        if predicted == true:
            self.run_bar.fail("Prediction and truth are the same layer; choose two.")
            return
        try:
            model = self.classes.model
            classes = specs_of(predicted.metadata) or specs_of(true.metadata)
            if model is not None:
                classes = read_card(model).classes
            pair = micrograph_from_layer(predicted), micrograph_from_layer(true)
        except MatsegError as error:
            self.run_bar.fail(str(error))
            return
        record = (record_of(predicted) or {}) if self.data_bar.isChecked() else {}
        self._form.setEnabled(False)
        self.run_bar.begin()
        self._job.start(_evaluate(*pair, classes, record.get("segmented_rows")), f"Evaluating {predicted.name}")

    def save(self, path: Path) -> None:
        """Write the table as CSV.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        if self.evaluation is not None:
            write_csv(path, self.evaluation.rows())

    def event(self, event: QEvent) -> bool:
        """Notice that the dock was closed, of which napari tells only by taking the widget out."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._job.cancel()
            self.prediction.forget()
            self.truth.forget()
        return bool(super().event(event))

    def _on_succeeded(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self.table.fill(evaluation.rows(), evaluation.classes)
        self.save_button.setEnabled(True)
        scores = evaluation.scores
        lines = [f"<b>Pooled IoU {scores.pooled_iou:.4f}</b>, pixel accuracy {scores.accuracy:.4f}"]
        self.run_bar.say("<br>".join([*lines, *map(escape, evaluation.notes)]))

    def _on_ended(self) -> None:
        self._form.setEnabled(True)

    def _forget_scores(self) -> None:
        """Numbers stay on show only as long as the choices that they belong to."""
        self.evaluation = None
        self.table.empty()
        self.save_button.setEnabled(False)
        self.run_bar.say("")

    def _ask_and_save(self) -> None:
        layer = self.prediction.layer
        name = f"{'' if layer is None else layer.name} scores.csv".strip().replace("/", "-")
        file, _ = QFileDialog.getSaveFileName(self, "Save as CSV", name, "Tables (*.csv)")
        if not file:
            return
        path = Path(file if file.lower().endswith(".csv") else f"{file}.csv")
        try:
            self.save(path)
        except MatsegError as error:
            self.run_bar.fail(str(error))
        else:
            self.run_bar.say(f"Saved as {escape(str(path))}.")


def _evaluate(
    predicted: Micrograph, true: Micrograph, classes: Sequence[ClassSpec] | None, rows: Sequence[int] | None
) -> Generator[Progress, None, Evaluation]:
    """Compare two layers' pixels, without the rows that were not segmented."""
    yield Progress(0, 1, "comparing")
    prediction, truth = np.asarray(predicted.pixels), np.asarray(as_read(true).pixels)
    found = tuple(classes) if classes is not None else classes_of(prediction, truth)
    mask = None
    if rows is not None:
        mask = np.zeros((prediction.shape[-2], 1), dtype=bool)
        mask[slice(*rows)] = True
        mask = np.broadcast_to(mask, prediction.shape)
    scores, notes = evaluate(prediction, truth, found, mask=mask)
    return Evaluation(scores, found, tuple(notes))


def _looks_like_result(layer: Any) -> bool:
    return record_of(layer) is not None and specs_of(layer.metadata) is not None


def _looks_like_truth(layer: Any) -> bool:
    if isinstance(layer, Labels):
        return record_of(layer) is None
    return any(word in layer.name.lower() for word in ("truth", "mask", "label"))

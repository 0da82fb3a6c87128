"""The figures of a comparison: scores, what they do to the sizes, and pictures of them."""

from __future__ import annotations

from html import escape

import numpy as np
from pandas import DataFrame
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_matseg._napari.evaluate_result import Evaluation
from napari_matseg._napari.frames import FrameTable
from napari_matseg._napari.parts import text_label
from napari_matseg._napari.plots import PlotPane
from napari_matseg._napari.tables import ScoresTable
from napari_matseg.core.agreement.comparisons import ObjectComparison, Rows
from napari_matseg.core.agreement.size_errors import say_size_errors
from napari_matseg.core.figures.scores import agreement_figure, confusion_figure
from napari_matseg.core.figures.sizes import size_comparison_figure

SCROLL_BAR = 18  # px
OBJECTS = {
    "threshold": "IoU from",
    "ap": "AP",
    "f1": "F1",
    "panoptic_quality": "PQ",
    "matched": "Found",
    "missed": "Missed",
    "false": "False",
    "precision": "Precision",
    "recall": "Recall",
    "mean_matched_iou": "Mean IoU",
}
MEANING = {
    "IoU from": "Two objects are the same if their IoU is at least this.",
    "AP": "found / (found + missed + false)",
    "PQ": "panoptic quality: F1 times the mean IoU of the objects found",
    "Mean IoU": "of the objects found",
}
SIZES = {
    "measure": "Of sizes",
    "predicted": "Predicted",
    "true": "True",
    "error": "Error",
    "relative": "Error (%)",
}
FRACTIONS = {
    "class": "Class",
    "predicted": "Predicted (%)",
    "true": "True (%)",
    "error_points": "Error (points)",
    "relative": "Error (%)",
}


class Tab(QWidget):
    """Shows something of an evaluation, once somebody looks."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._evaluation: Evaluation | None = None
        self._due = False

    def show_evaluation(self, evaluation: Evaluation) -> None:
        """Show these figures."""
        self._evaluation, self._due = evaluation, True
        self._draw_if_seen()

    def showEvent(self, event: QShowEvent) -> None:
        """Show what is new since the tab was last in sight."""
        super().showEvent(event)
        self._draw_if_seen()

    def _draw_if_seen(self) -> None:
        if self._due and self._evaluation is not None and self.isVisible():
            self._due = False
            self.draw(self._evaluation)

    def draw(self, evaluation: Evaluation) -> None:
        """Fill the tab."""
        raise NotImplementedError


class ScoresTab(QWidget):
    """Table of classes, or of IoU from which on objects are the same, and the figures in words."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.classes, self.objects = ScoresTable(), Figures()
        self.text = text_label()
        layout = QVBoxLayout(self)
        for widget in (self.classes, self.objects, self.text):
            layout.addWidget(widget)
        layout.addStretch()

    def show_evaluation(self, evaluation: Evaluation) -> None:
        """Show these figures."""
        self.objects.setVisible(evaluation.objects)
        if evaluation.objects:
            self.classes.empty()
            self.objects.show_rows(evaluation.rows(), OBJECTS, MEANING)
        else:
            self.classes.fill(evaluation.rows(), evaluation.classes)
        self.text.setText("<br>".join(map(escape, sentences(evaluation))))

    def empty(self) -> None:
        """Show nothing."""
        self.classes.empty()
        self.objects.setVisible(False)
        self.text.setText("")


class SizesTab(Tab):
    """Errors of the size distribution, or of the phase fractions."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.table, self.pane = Figures(), PlotPane()
        layout = QVBoxLayout(self)
        layout.addWidget(self.table)
        layout.addWidget(self.pane)
        layout.addStretch()

    def draw(self, evaluation: Evaluation) -> None:
        """Fill the tab."""
        compared = evaluation.compared
        if not isinstance(compared, ObjectComparison):
            self.table.show_rows(_fractions(evaluation.tables["fractions"]), FRACTIONS)
            self.pane.show_plot(None, "Share of the area that each class has.")
            return
        rows = evaluation.tables["sizes"]
        self.table.show_rows(_sizes(rows), SIZES)
        predicted, true = compared.predicted[0], compared.true[0]
        self.pane.name = f"{evaluation.name} sizes"
        text = f"{escape(say_size_errors(rows, evaluation.iou))}<br>Edge: {escape(true.edge)}"
        if predicted.values.size and true.values.size:
            self.pane.show_plot(size_comparison_figure(predicted, true, by=compared.measure.weighting), text)
        else:
            self.pane.show_plot(None, text)


class PictureTab(Tab):
    """The confusion matrix of classes, or the agreement of objects by IoU."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.pane = PlotPane()
        layout = QVBoxLayout(self)
        layout.addWidget(self.pane)
        layout.addStretch()

    def draw(self, evaluation: Evaluation) -> None:
        """Fill the tab."""
        compared = evaluation.compared
        if isinstance(compared, ObjectComparison):
            self.pane.name = f"{evaluation.name} agreement"
            text = "The stricter the IoU from which on two objects are the same, the fewer agree."
            self.pane.show_plot(agreement_figure(compared.scores), text)
        else:
            self.pane.name = f"{evaluation.name} confusion"
            text = "Each row is a class of the truth: which share of it was taken for which class."
            self.pane.show_plot(confusion_figure(compared.scores.counts, compared.class_names), text)


class Figures(FrameTable):
    """A short table, all of which is in sight."""

    def show_rows(self, rows: Rows, titles: dict[str, str], meaning: dict[str, str] | None = None) -> None:
        """Show some columns of rows, under these titles."""
        known = [{name: np.nan if value is None else value for name, value in row.items()} for row in rows]
        table = DataFrame([{title: row.get(name) for name, title in titles.items()} for row in known])
        self.fill(table, list(titles.values()))
        self.setToolTip(
            "<br>".join(f"<b>{escape(title)}</b>: {escape(text)}" for title, text in (meaning or {}).items())
        )
        heights = self.horizontalHeader().sizeHint().height() + self.verticalHeader().length()
        self.setFixedHeight(heights + SCROLL_BAR)


def headline(evaluation: Evaluation) -> str:
    """Give the figure to look at first, as rich text."""
    scores = evaluation.scores
    if not isinstance(evaluation.compared, ObjectComparison):
        return f"<b>Pooled IoU {scores.pooled_iou:.4f}</b>, pixel accuracy {scores.accuracy:.4f}"
    return f"<b>F1 {scores.f1[0]:.4f}</b> of objects from an IoU of 0.5 on, mean AP {scores.mean_ap:.4f}"


def sentences(evaluation: Evaluation) -> list[str]:
    """Say in words what came out."""
    compared = evaluation.compared
    if not isinstance(compared, ObjectComparison):
        mean = evaluation.rows()[-1].get("boundary_f1")
        outline = "" if mean is None else f" Mean boundary F1 {mean:.4f}, within {compared.settings.tolerance_px:g} px."
        return [f"Mean IoU {compared.scores.mean_iou:.4f}, mean Dice {compared.scores.mean_dice:.4f}.{outline}"]
    scores, counts = compared.scores, compared.scores.counts
    found = int(counts.matched[0])
    return [
        f"{found} of {_n(counts.n_truth, 'true object')} found, {int(scores.missed[0])} missed; "
        f"{int(scores.false[0])} of {_n(counts.n_predicted, 'predicted object')} false (IoU 0.5).",
        f"{_n(counts.n_split, 'true object')} split, {_n(counts.n_merged, 'predicted object')} merging several.",
        say_size_errors(evaluation.tables["sizes"], evaluation.iou),
    ]


def _n(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _sizes(rows: Rows) -> Rows:
    return [
        row
        | {
            "measure": row["measure"].removesuffix(" distance")
            + (f" ({row['unit'].replace('2', '²')})" if row["unit"] else ""),
            "relative": None if row["relative_error"] is None else 100 * row["relative_error"],
        }
        for row in rows
    ]


def _fractions(rows: Rows) -> Rows:
    per_cent = {"predicted": "predicted", "true": "true", "relative": "relative_error"}
    return [
        row | {name: None if row[key] is None else 100 * row[key] for name, key in per_cent.items()} for row in rows
    ]

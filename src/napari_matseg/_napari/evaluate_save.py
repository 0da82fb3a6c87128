"""Buttons that save the tables of a comparison."""

from __future__ import annotations

from html import escape
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_matseg._napari.evaluate_result import Evaluation
from napari_matseg.comparing import save_comparison
from napari_matseg.core.export import write_csv
from napari_matseg.errors import MatsegError


class SaveBar(QWidget):
    """Saves the table of scores, or everything."""

    said = Signal(str)
    failed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._evaluation: Evaluation | None = None
        self.table_button, self.all_button = QPushButton("Save as CSV…"), QPushButton("Save all tables…")
        self.table_button.setToolTip("The table of scores.")
        self.all_button.setToolTip("Into a folder: every table as CSV, and all of it with its settings as JSON.")
        self.table_button.clicked.connect(self._ask_and_save)
        self.all_button.clicked.connect(self._ask_and_save_all)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table_button)
        layout.addWidget(self.all_button)

    def show_evaluation(self, evaluation: Evaluation | None) -> None:
        """Save these figures from now on; nothing without any."""
        self._evaluation = evaluation
        self.setVisible(evaluation is not None)
        self.setEnabled(evaluation is not None)

    def _ask_and_save(self) -> None:
        if self._evaluation is None:
            return
        name = f"{self._evaluation.name} scores.csv".replace("/", "-")
        file, _ = QFileDialog.getSaveFileName(self, "Save as CSV", name, "Tables (*.csv)")
        if not file:
            return
        path = Path(file if file.lower().endswith(".csv") else f"{file}.csv")
        try:
            write_csv(path, self._evaluation.rows())
        except MatsegError as error:
            self.failed.emit(str(error))
        else:
            self.said.emit(f"Saved as {escape(str(path))}.")

    def _ask_and_save_all(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Save all tables into the folder")
        if not folder or self._evaluation is None:
            return
        try:
            files = save_comparison(self._evaluation.compared, folder, self._evaluation.name.replace("/", "-"))
        except MatsegError as error:
            self.failed.emit(str(error))
        else:
            self.said.emit(f"{len(files)} files saved, among them {escape(str(files['record']))}.")

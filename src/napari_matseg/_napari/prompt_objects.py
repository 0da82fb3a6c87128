"""The objects that were found: their table, and the way to each of them."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.camera import fly_to
from napari_matseg._napari.prompt_results import Shown
from napari_matseg._napari.tables import ObjectsTable
from napari_matseg.core.export import write_csv
from napari_matseg.errors import MatsegError


class ObjectsPane(QWidget):
    """Table of the objects, with buttons to step through those that are flagged and to save it."""

    visited = Signal(int)
    """An object was gone to."""
    said = Signal(str)
    failed = Signal(str)

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._shown: Shown | None = None
        self._last = 0
        self.title = QLabel()
        self.flagged_button, self.save_button = QPushButton("Next flagged"), QPushButton("Save as CSV…")
        self.flagged_button.setToolTip("Goes to the next object that deserves a look, and says why. (N)")
        self.table = ObjectsTable()
        self.flagged_button.clicked.connect(self.next_flagged)
        self.save_button.clicked.connect(self._ask_and_save)
        self.table.chosen.connect(self.visit)
        buttons = QHBoxLayout()
        buttons.addWidget(self.flagged_button)
        buttons.addWidget(self.save_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.title)
        layout.addWidget(self.table)
        layout.addLayout(buttons)
        self.show_rows(None)

    def show_rows(self, shown: Shown | None) -> None:
        """Show the table of these results; nothing without any."""
        self._shown = shown
        rows = [] if shown is None else shown.found.rows
        flagged = sum(bool(row["flagged"]) for row in rows)
        self.table.fill(rows)
        self.title.setText(f"{len(rows)} object{'s' * (len(rows) != 1)}, {flagged} flagged for a look")
        self.flagged_button.setEnabled(flagged > 0)
        self.setVisible(bool(rows))

    def next_flagged(self) -> None:
        """Go to the flagged object that comes after the last one, from the beginning again after the last."""
        flagged = [row for row in self.table.rows if row["flagged"]]
        if not flagged:
            self.said.emit("No object is flagged.")
            return
        row = next((row for row in flagged if row["label"] > self._last), flagged[0])
        self.table.show_label(row["label"])
        self.visit(row["label"])
        self.said.emit(
            f"Object {row['label']}: {escape(row['reason'])} ({flagged.index(row) + 1} of {len(flagged)} flagged)."
        )

    def visit(self, label: int) -> None:
        """Bring an object to the middle of the view, and choose its label."""
        if self._shown is None or not self._shown.there:
            return
        self._last = label
        row = self._shown.found.table[label]
        layer = self._shown.layers[0]
        layer.selected_label = label
        y, x, extent = self._place(row)
        planes = np.unravel_index(row["plane"], self._shown.found.micrograph.shape_planes)
        fly_to(self._viewer, layer, [*map(int, planes), y, x], extent)
        self.visited.emit(label)

    def _place(self, row: dict[str, Any]) -> tuple[float, float, float]:
        """Middle of an object, and its longer side; of its points, if it has no pixel."""
        found = self._shown.found
        if row["y"] is not None:
            mask = found.assembly(row["plane"]).objects[row["label"]]
            return row["y"], row["x"], float(max(mask.scores_yx.shape))
        points = found.prompts[row["label"]].points_yx
        y, x = points.mean(axis=0) if len(points) else np.array(found.micrograph.shape_yx) / 2
        return float(y), float(x), 0.0

    def save(self, path: Path) -> None:
        """Write the table as CSV.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        write_csv(path, self.table.rows)

    def _ask_and_save(self) -> None:
        name = "objects.csv" if self._shown is None else f"{self._shown.layers[0].name}.csv".replace("/", "-")
        file, _ = QFileDialog.getSaveFileName(self, "Save as CSV", name, "Tables (*.csv)")
        if not file:
            return
        path = Path(file if file.lower().endswith(".csv") else f"{file}.csv")
        try:
            self.save(path)
        except MatsegError as error:
            self.failed.emit(str(error))
        else:
            self.said.emit(f"Saved as {escape(str(path))}.")

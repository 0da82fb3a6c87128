"""The objects that were measured: their table and its filters, linked with the viewer."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_matseg._napari.filters import Filters
from napari_matseg._napari.frames import FrameTable
from napari_matseg._napari.measure_link import NONE, Link
from napari_matseg._napari.measure_result import Result
from napari_matseg._napari.saving import TABLES, ask_file
from napari_matseg.errors import MatsegError
from napari_matseg.reporting import write_table

LATE = ("y", "x")
"""Columns that come last."""
TALL = 220  # px


class ObjectsTab(QWidget):
    """Table of objects; rows and objects are selected together."""

    filtered = Signal()
    """Other rows are kept."""
    said = Signal(str)
    failed = Signal(str)

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._result: Result | None = None
        self.kept: NDArray[np.bool_] = np.zeros(0, bool)
        self.link = Link(viewer, self)
        self.count = QLabel()
        self.add_button = QPushButton("Add filter")
        self.add_button.setToolTip("Keep only objects of which a column lies between two limits.")
        self.filters = Filters()
        self.edge = QCheckBox("Without edge objects")
        self.edge.setToolTip("Leaves out the objects that the edge of the field cuts, whose size is not known.")
        self.grey = QCheckBox("Grey out the others")
        self.grey.setToolTip("Covers the objects that are filtered out, in the viewer.")
        self.table = FrameTable()
        self.table.setMinimumHeight(TALL)
        self.save_button = QPushButton("Save table…")
        self._lay_out()
        self.add_button.clicked.connect(self.add_filter)
        self.filters.changed.connect(self._on_filtered)
        self.edge.toggled.connect(self._on_filtered)
        self.grey.toggled.connect(self.refresh)
        self.table.chosen.connect(self._on_chosen)
        self.link.picked.connect(self._on_picked)
        self.link.said.connect(self.said)
        self.save_button.clicked.connect(self._ask_and_save)

    def _lay_out(self) -> None:
        first, second = QHBoxLayout(), QHBoxLayout()
        self.count.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        first.addWidget(self.count, 1)
        first.addWidget(self.add_button)
        second.addWidget(self.edge)
        second.addWidget(self.grey)
        second.addStretch()
        layout = QVBoxLayout(self)
        layout.addLayout(first)
        layout.addWidget(self.filters)
        layout.addLayout(second)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.save_button)

    def show_result(self, result: Result) -> None:
        """Show the objects of a measurement."""
        self.link.use(result)
        self._result = result
        told = {
            "file": False,
            "plane": result.n_planes > 1,
            "class": len(result.specs) > 2,
            "area_px": not result.in_nm,
        }
        columns = [name for name in result.table.columns if told.get(name, True)]
        columns.sort(key=lambda name: name in LATE)
        self.table.fill(result.table, columns)
        self.filters.suit(result.table, [name for name in columns if name != "touches_edge"])
        self._keep()

    def add_filter(self) -> None:
        """Add a line to the filters."""
        if self._result is not None:
            self.filters.add()

    def refresh(self) -> None:
        """Show in the viewer which objects are selected, and which are filtered out."""
        left_out = np.flatnonzero(~self.kept) if self.grey.isChecked() else NONE
        self.link.show_rows(self.table.selected(), left_out)

    def why(self) -> dict[str, Any]:
        """Say what the filters ask for, in plain JSON types."""
        return {"without_edge": self.edge.isChecked(), "conditions": self.filters.describe()}

    def save(self, path: Path) -> None:
        """Write the rows that are kept as CSV.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        if self._result is not None:
            write_table(path, self._result.table[self.kept])

    def _on_filtered(self) -> None:
        if self._result is not None:
            self._keep()
            self.filtered.emit()

    def _keep(self) -> None:
        self.kept = self.filters.meets()
        if self.edge.isChecked():
            self.kept &= ~self._result.table["touches_edge"].to_numpy(bool)
        self.table.keep(self.kept)
        n, total = int(self.kept.sum()), self.kept.size
        text = f"{n:,} of {total:,}" if n < total else f"{n:,}"
        text = f"{text} object{'s' * (total != 1)}".replace(",", " ")
        self.count.setText(text + (": nothing left to show" if n < total and not n else ""))
        self.save_button.setEnabled(n > 0)
        self.refresh()

    def _on_chosen(self) -> None:
        row = self.table.current()
        if not self.link.there:
            self.said.emit("The labels are not there as they were measured, so their objects cannot be shown.")
        elif row is not None:
            self.link.fly_to(row)
        self.refresh()

    def _on_picked(self, row: int | None, add: bool) -> None:
        if row is not None and not self.kept[row]:
            self.said.emit(f"Object {self._result.table['label'].iat[row]} is filtered out.")
        found = NONE if row is None else np.array([row])
        self.table.select(np.setxor1d(self.table.selected(), found) if add else found)
        self.refresh()

    def _ask_and_save(self) -> None:
        path = ask_file(self, "Save table", f"{self._result.name} measurements", TABLES)
        if path is None:
            return
        try:
            self.save(path)
        except MatsegError as error:
            self.failed.emit(str(error))
        else:
            self.said.emit(f"{self.count.text()} saved as {escape(str(path))}.")

"""The objects that were measured: their table, filters, and the way between rows and the canvas."""

from __future__ import annotations

from collections.abc import Generator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFileDialog, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_matseg._napari.camera import fly_to, magnification, place_under
from napari_matseg._napari.filters import Filters
from napari_matseg._napari.frames import FrameTable
from napari_matseg._napari.measure_result import Result
from napari_matseg._napari.overlays import Overlay
from napari_matseg._napari.prompt_places import plane_on_view
from napari_matseg.errors import MatsegError
from napari_matseg.measuring import write_table

SELECTED, LEFT_OUT = "#ffd60a", "#8a8a8a"
OUTLINE = 2.5  # px on the screen
FINEST = 1536
"""So many rows and columns of an overlay at most."""
STILL = 4  # px on the screen that the mouse may move in a click
LATE = ("y", "x", "area_px")
"""Columns that come last, if there are better ones."""
TALL = 220  # px


class ObjectsTab(QWidget):
    """Table of objects; rows and objects are selected together."""

    filtered = Signal()
    """Other rows are kept."""
    said = Signal(str)
    failed = Signal(str)

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._result: Result | None = None
        self._showing = False
        self.kept: NDArray[np.bool_] = np.zeros(0, bool)
        self.count = QLabel()
        self.add_button = QPushButton("Add filter")
        self.add_button.setToolTip("Keep only objects of which a column lies between two limits.")
        self.filters = Filters()
        self.edge = QCheckBox("Without those at the edge")
        self.edge.setToolTip("Whose size is not known, because the field cuts them.")
        self.grey = QCheckBox("Grey out the others")
        self.grey.setToolTip("Covers the objects that are filtered out, in the viewer.")
        self.table = FrameTable()
        self.table.setMinimumHeight(TALL)
        self.save_button = QPushButton("Save table…")
        self._selected = Overlay(viewer, "selected objects", SELECTED, 1.0)
        self._left_out = Overlay(viewer, "objects filtered out", LEFT_OUT, 0.85)
        self._lay_out()
        self.add_button.clicked.connect(self.add_filter)
        self.filters.changed.connect(self._on_filtered)
        self.edge.toggled.connect(self._on_filtered)
        self.grey.toggled.connect(self.refresh)
        self.table.chosen.connect(self._on_chosen)
        self.save_button.clicked.connect(self._ask_and_save)
        viewer.mouse_drag_callbacks.append(self._on_mouse)
        viewer.dims.events.current_step.connect(self._on_plane)

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

    @property
    def linked(self) -> bool:
        """Whether there are objects in the viewer that the rows belong to."""
        return self._result is not None and self._result.asked.labels in self._viewer.layers and self._result.fits

    def show_result(self, result: Result | None) -> None:
        """Show the objects of a measurement; nothing without one."""
        self._selected.remove()
        self._left_out.remove()
        self._result = result
        if result is None:
            return
        table = result.table
        told = {
            "file": False,
            "plane": result.n_planes > 1,
            "class": len(result.specs) > 2,
            "area_px": not result.in_nm,
        }
        columns = [name for name in table.columns if told.get(name, True)]
        columns.sort(key=lambda name: name in LATE[: 2 if not result.in_nm else 3])
        self.table.fill(table, columns)
        offered = [name for name in columns if name != "touches_edge"]
        self.filters.suit(table, offered)
        self._keep()

    def add_filter(self) -> None:
        """Add a line to the filters."""
        if self._result is not None:
            self.filters.add()

    def forget(self) -> None:
        """Take no more notice of the viewer, and leave it as it was."""
        self._selected.remove()
        self._left_out.remove()
        self._result = None
        if self._on_mouse in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_mouse)
        self._viewer.dims.events.current_step.disconnect(self._on_plane)

    def refresh(self) -> None:
        """Notice that layers have come, gone or changed."""
        if not self._showing:  # showing a layer moves the viewer's sliders, at times
            self._showing = True
            try:
                self._light_up()
                self._show_left_out()
            finally:
                self._showing = False

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
        table = self._result.table
        self.kept = self.filters.meets()
        if self.edge.isChecked():
            self.kept &= ~table["touches_edge"].to_numpy(bool)
        self.table.keep(self.kept)
        n, total = int(self.kept.sum()), len(table)
        of = f"{n:,} of {total:,}".replace(",", " ") if n < total else f"{n:,}".replace(",", " ")
        self.count.setText(f"{of} object{'s' * (total != 1)}" + (": nothing left to show" if total and not n else ""))
        self.save_button.setEnabled(n > 0)
        self.refresh()

    def _on_chosen(self) -> None:
        row = self.table.current()
        rows = self.table.selected()
        if not self.linked:
            if self._result is not None:
                self.said.emit("The layer that was measured is not there as it was, so its objects cannot be shown.")
            return
        result = self._result
        if rows.size == 1 and not result.asked.classes:
            result.asked.labels.selected_label = int(result.table["label"].iat[rows[0]])
        if row is not None:
            frame = result.frames(np.array([row]))
            place = [*result.planes(int(result.table["plane"].iat[row])), *result.table[["y", "x"]].iloc[row]]
            fly_to(self._viewer, result.asked.labels, place, float((frame[2:] - frame[:2]).max()) / 2)
        self.refresh()

    def _on_plane(self, event: Any = None) -> None:
        if self._result is not None and self._result.n_planes > 1:
            self.refresh()

    def _plane(self) -> int:
        return plane_on_view(self._result.asked.labels, self._viewer.dims.point)

    def _light_up(self) -> None:
        """Outline the selected objects of the plane that is shown."""
        rows = self.table.selected() if self.linked else np.zeros(0, np.intp)
        plane = self._plane() if rows.size else 0
        rows = rows[self._result.table["plane"].to_numpy()[rows] == plane] if rows.size else rows
        if not rows.size:
            self._selected.hide()
            return
        frames = self._result.frames(rows)
        (top, left), (bottom, right) = frames[:2].min(axis=1), frames[2:].max(axis=1)
        self._cover(self._selected, rows, (slice(top, bottom), slice(left, right)), outlined=True)

    def _show_left_out(self) -> None:
        """Cover the objects of the plane that is shown that are filtered out."""
        if not (self.grey.isChecked() and self.linked) or self.kept.all():
            self._left_out.hide()
            return
        rows = np.flatnonzero(~self.kept & (self._result.table["plane"].to_numpy() == self._plane()))
        self._cover(self._left_out, rows, (slice(0, None), slice(0, None)))

    def _cover(
        self, overlay: Overlay, rows: NDArray[np.intp], frame: tuple[slice, slice], *, outlined: bool = False
    ) -> None:
        """Show objects of the plane that is shown, within a frame; no finer than the screen needs it."""
        result, plane = self._result, self._plane()
        layer, objects = result.asked.labels, result.objects(plane)
        sides = [len(range(*side.indices(length))) for side, length in zip(frame, objects.shape, strict=True)]
        step = -(-max(sides) // FINEST)
        first = [side.start + step // 2 for side in frame]
        part = np.asarray(objects[first[0] : frame[0].stop : step, first[1] : frame[1].stop : step])
        mask = np.isin(part, result.table["label"].to_numpy()[rows])
        outline = max(1, round(OUTLINE / (step * magnification(self._viewer, layer)))) if outlined else 0
        overlay.show(layer, [*result.planes(plane), *first], mask, step=step, outline=outline)

    def _on_mouse(self, viewer: Viewer, event: Any) -> Generator[None, None, None]:
        """Select what is clicked at, unless the click does something else."""
        active = viewer.layers.selection.active
        busy = active is not None and str(active.mode) not in ("pan_zoom", "pick")
        if busy or not self.linked or event.button != 1 or viewer.dims.ndisplay != 2:
            return
        begun = np.array(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.array(event.pos) - begun).max() <= STILL:
            self.pick(event.position, add="Control" in event.modifiers or "Shift" in event.modifiers)

    def pick(self, position: Any, *, add: bool = False) -> None:
        """Select the row of the object at a place in the viewer; none, where there is none.

        Parameters
        ----------
        position : sequence of float
            In the viewer's coordinates.
        add : bool
            Select it besides those that are selected, or no longer.
        """
        if not self.linked:
            return
        result = self._result
        y, x = place_under(self._viewer, result.asked.labels, position)[-2:]
        plane = self._plane()
        objects = result.objects(plane)
        height, width = objects.shape
        label = int(np.asarray(objects[y, x])) if 0 <= y < height and 0 <= x < width else 0
        table = result.table
        found = np.flatnonzero((table["label"].to_numpy() == label) & (table["plane"].to_numpy() == plane))
        if found.size and not self.kept[found[0]]:
            self.said.emit(f"Object {label} is filtered out.")
        self.table.select(np.setxor1d(self.table.selected(), found) if add else found)
        self.refresh()

    def _ask_and_save(self) -> None:
        name = "" if self._result is None else self._result.name
        file, _ = QFileDialog.getSaveFileName(
            self, "Save table", f"{name} measurements.csv".replace("/", "-"), "Tables (*.csv)"
        )
        if not file:
            return
        path = Path(file if file.lower().endswith(".csv") else f"{file}.csv")
        try:
            self.save(path)
        except MatsegError as error:
            self.failed.emit(str(error))
        else:
            self.said.emit(f"{self.count.text()} saved as {escape(str(path))}.")

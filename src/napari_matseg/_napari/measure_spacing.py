"""Grain size, mean free path and nearest neighbours of what was measured."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from html import escape

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.frames import cell
from napari_matseg._napari.measure_result import Result
from napari_matseg._napari.parts import Form, shrink, text_label
from napari_matseg._napari.saving import TABLES, ask_file
from napari_matseg.core.export import write_csv
from napari_matseg.core.measure.field import ALL_OBJECTS
from napari_matseg.core.measure.grain_fields import GrainField
from napari_matseg.core.measure.grain_files import count_plane_steps
from napari_matseg.core.measure.grains import GrainSize, intercept, planimetric
from napari_matseg.core.measure.spacing import FreePath, Neighbours, nearest_neighbours
from napari_matseg.core.progress import Progress, of_planes
from napari_matseg.errors import MatsegError

NO_GRAINS = "no grains"


@dataclass(frozen=True, eq=False)
class Spacing:
    """How things lie in the fields of a measurement."""

    what: str
    path: FreePath
    neighbours: Neighbours
    grains: tuple[GrainSize, ...]

    def rows(self) -> list[dict[str, object]]:
        """One row for the spacing and one for each way to the grain size."""
        return [{"of": self.what, **self.path.to_dict(), **self.neighbours.to_dict()},
                *({"of": "grains", **size.to_dict()} for size in self.grains)]  # fmt: skip

    def tables(self) -> dict[str, dict[str, object]]:
        """Tables for a report, by their headings."""
        found: dict[str, dict[str, object]] = {
            f"Spacing of {self.what}": {**self.path.to_dict(), **self.neighbours.to_dict()}
        }
        return found | {f"Grain size, {size.method}": _known(size.to_dict()) for size in self.grains}


def _known(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if value == value}


class SpacingTab(QWidget):
    """Says how far apart the objects lie, and how large grains are."""

    asked = Signal()
    """The numbers are to be made."""
    said = Signal(str)
    failed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._result: Result | None = None
        self.spacing: Spacing | None = None
        self.what, self.grains = shrink(QComboBox()), shrink(QComboBox())
        self.what.setToolTip("The phase whose pieces the distances are between.")
        self.grains.setToolTip("Whether the labels are grains, or which class is the boundaries between them.")
        self.run_button, self.save_button = QPushButton("Measure spacing"), QPushButton("Save table…")
        self.text = text_label()
        form = Form()
        form.add("Between", self.what)
        form.add("Grains", self.grains)
        layout = QVBoxLayout(self)
        for widget in (form, self.run_button, self.text, self.save_button):
            layout.addWidget(widget)
        layout.addStretch()
        self.run_button.clicked.connect(self.asked)
        self.save_button.clicked.connect(self._ask_and_save)
        for choice in (self.what, self.grains):
            choice.currentIndexChanged.connect(self._forget)
        self._forget()

    def show_result(self, result: Result | None) -> None:
        """Offer what there is in a measurement."""
        self._result = result
        names = [] if result is None else [spec.name for spec in result.specs]
        for choice, items in (
            (self.what, [(ALL_OBJECTS, 0), *((name, i) for i, name in enumerate(names) if i)]),
            (self.grains, [(NO_GRAINS, None), *([] if names else [("the objects are grains", -1)]),
                           *((f"parted by {name}", i) for i, name in enumerate(names))]),
        ):  # fmt: skip
            choice.blockSignals(True)
            choice.clear()
            for title, value in items:
                choice.addItem(title, value)
            choice.blockSignals(False)
        self._forget()

    def work(self) -> Generator[Progress, None, Spacing]:
        """Make the numbers, of all objects: without some of them, others would seem to lie far from all."""
        return _measure(self._result, self.what.currentText(), self.what.currentData(), self.grains.currentData())

    def show_spacing(self, spacing: Spacing) -> None:
        """Show the numbers."""
        self.spacing = spacing
        self.text.setText(in_words(spacing))
        self.save_button.setVisible(True)

    def _forget(self) -> None:
        self.spacing = None
        self.save_button.setVisible(False)
        known = self._result is not None and self._result.in_nm
        self.grains.setEnabled(known)
        self.run_button.setEnabled(self._result is not None)
        self.text.setText("" if known or self._result is None else "Grain size needs the pixel size; set it above.")

    def _ask_and_save(self) -> None:
        path = ask_file(self, "Save table", f"{self._result.name} spacing", TABLES)
        if path is None:
            return
        try:
            write_csv(path, self.spacing.rows())
        except MatsegError as error:
            self.failed.emit(str(error))
        else:
            self.said.emit(f"Saved as {escape(str(path))}.")


def in_words(spacing: Spacing) -> str:
    """Say what came out, as rich text."""
    path, near = spacing.path, spacing.neighbours
    lines = [
        f"<b>Mean free path {_told(path.mean_free_path)} {path.unit}</b> between {escape(spacing.what)}; "
        f"mean chord within {_told(path.mean_chord)} {path.unit}. (1 - V<sub>V</sub>) / N<sub>L</sub> with "
        f"V<sub>V</sub> = {path.fraction:.2%}.",
        f"<b>Nearest neighbour {_told(near.mean)} ± {_told(near.std)} {near.unit}</b> from centre to centre; strewn at "
        f"random it would be {_told(near.random_mean)} {near.unit}, so the ratio of Clark and Evans is "
        f"{_told(near.ratio)}. {near.distances.size} of {near.n_seen} objects, filtered out or not, are nearer to "
        "their neighbour than to the edge, and are counted with the weights that this asks for.",
    ]
    for size in spacing.grains:
        mean = (
            f"mean diameter {_told(size.mean_diameter_um)} µm, {size.counted:.0f} grains"
            if size.method == "planimetric"
            else f"mean intercept {_told(size.mean_intercept_um)} µm, {size.counted:.0f} crossings"
        )
        lines.append(
            f"<b>Grain size G = {_told(size.g)}</b> ({_told(size.ci95_low)} to {_told(size.ci95_high)}), ASTM E112 "
            f"{size.method}; {mean}. Interval: {escape(size.interval)}."
        )
    return "<p>" + "</p><p>".join(lines) + "</p>"


def _told(value: float) -> str:
    """Write a number, or that it cannot be said."""
    return cell(value) or "not known"


def _measure(result: Result, what: str, class_id: int, grains: int | None) -> Generator[Progress, None, Spacing]:
    table = result.table
    if class_id:
        table = table[table["class"] == what]
    size = result.measured.fields[0].pixel_size_nm
    neighbours: Neighbours | None = None
    counted: list[GrainField] = []
    for plane, field in enumerate(result.measured.fields):
        yield Progress(plane, result.n_planes, "measuring")
        near = nearest_neighbours(table[table["plane"] == plane], field.shape_yx, size, first_row=field.first_row)
        neighbours = near if neighbours is None else neighbours + near
        if grains is not None:
            rows = slice(field.first_row, field.first_row + field.shape_yx[0])
            work = count_plane_steps(result.drawn.view(plane, rows=rows), None if grains < 0 else grains)
            counted.append((yield from of_planes(work, plane, result.n_planes)))
    sizes = (planimetric(counted, size), intercept(counted, size)) if counted else ()
    paths = [field.paths[what] for field in result.measured.fields]
    return Spacing(what, _together(paths), neighbours, sizes)


def _together(paths: list[FreePath]) -> FreePath:
    """Put planes of a stack together, which are of one size, so that means are exact."""
    per_length = np.mean([path.per_length for path in paths], axis=0)
    fraction = float(np.mean([path.fraction for path in paths]))
    return FreePath(paths[0].unit, fraction, tuple(map(float, per_length)), paths[0].weights)

"""Size distributions of what was measured."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QGridLayout, QVBoxLayout, QWidget

from napari_matseg._napari.frames import cell
from napari_matseg._napari.measure_result import Result
from napari_matseg._napari.parts import in_red, shrink
from napari_matseg._napari.plots import PlotPane
from napari_matseg.core.figures.sizes import size_figure
from napari_matseg.core.measure.sizes import Sizes, pool
from napari_matseg.errors import MatsegError
from napari_matseg.measuring import sizes_of
from napari_matseg.settings import MeasureSettings

QUANTITIES = {
    "diameter": "equivalent diameter",
    "feret_max": "largest Feret",
    "feret_min": "smallest Feret",
    "major_axis": "major axis",
    "minor_axis": "minor axis",
    "perimeter": "perimeter",
    "area": "area",
}
WEIGHTINGS = {"number": "by number", "area": "by area"}
EDGES = {
    "miles-lantuejoul": "edge: Miles-Lantuéjoul",
    "guard": "edge: guard frame",
    "drop": "edge: left out",
    "keep": "edge: kept",
}
AXES = {"axis: automatic": "auto", "axis: linear": False, "axis: logarithmic": True}
GROUPS = {"all": "all together", "class": "class by class", "file": "plane by plane"}
MOST_GROUPS = 8
"""More curves than that nobody tells apart."""
PERCENTILES = (10, 50, 90)
WIDEST_GUARD = 1e5  # px


class SizesTab(QWidget):
    """Histogram and cumulative curve of the objects that are kept, with their D-values in words."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._result: Result | None = None
        self._kept: NDArray[np.bool_] | None = None
        self._due = False
        self.quantity, self.weighting = _choice(QUANTITIES), _choice(WEIGHTINGS)
        self.edge, self.group, self.axis = _choice(EDGES), _choice({}), shrink(QComboBox())
        for title, log in AXES.items():
            self.axis.addItem(title, log)
        self.guard = QDoubleSpinBox()
        self.guard.setRange(0, WIDEST_GUARD)
        self.guard.setDecimals(0)
        self.guard.setSuffix(" px")
        self.guard.setSpecialValueText("largest object")
        self.guard.setToolTip("From the edge of the field to the guard frame: the extent of the largest object, or px.")
        self.weighting.setToolTip("Whether an object counts as one, or as its area.")
        self.edge.setToolTip(
            "What is done about the objects that the edge of the field cuts, of which more are large. Miles-Lantuéjoul "
            "weights and the guard frame make up for it; nothing does where they are only left out, or kept."
        )
        self.pane = PlotPane()
        self._lay_out()
        for choice in (self.quantity, self.weighting, self.edge, self.group, self.axis):
            choice.currentIndexChanged.connect(self._on_changed)
        self.guard.valueChanged.connect(self._on_changed)
        self._on_changed()

    def _lay_out(self) -> None:
        choices = QGridLayout()
        fields = (self.quantity, self.weighting, self.edge, self.axis, self.group, self.guard)
        for place, field in enumerate(fields):
            choices.addWidget(field, place // 2, place % 2)
            field.setMinimumWidth(1)
        choices.setColumnStretch(0, 4)
        choices.setColumnStretch(1, 3)
        layout = QVBoxLayout(self)
        layout.addLayout(choices)
        layout.addWidget(self.pane)
        layout.addStretch()

    def settings(self, base: MeasureSettings) -> MeasureSettings:
        """Give settings with what is chosen here."""
        guard = self.guard.value() if self.edge.currentData() == "guard" else 0
        return base.model_copy(
            update={
                "quantity": self.quantity.currentData(),
                "weighting": self.weighting.currentData(),
                "edge": self.edge.currentData(),
                "guard_px": guard or None,
            }
        )

    def show_result(self, result: Result | None, kept: NDArray[np.bool_] | None = None) -> None:
        """Show the sizes of the objects that are kept."""
        if result is not self._result:
            groups = ["all"]
            groups += ["class"] if result is not None and len(result.specs) > 2 else []
            groups += ["file"] if result is not None and 1 < result.n_planes <= MOST_GROUPS else []
            self.group.blockSignals(True)
            self.group.clear()
            for group in groups:
                self.group.addItem(GROUPS[group], group)
            self.group.blockSignals(False)
            self.group.setVisible(len(groups) > 1)
        self._result, self._kept = result, kept
        self._draw_when_seen()

    def showEvent(self, event: QShowEvent) -> None:
        """Draw what has changed while nobody looked."""
        super().showEvent(event)
        if self._due:
            self._draw()

    def _on_changed(self) -> None:
        self.guard.setVisible(self.edge.currentData() == "guard")
        self._draw_when_seen()

    def _draw_when_seen(self) -> None:
        self._due = True
        if self.isVisible():
            self._draw()

    def _draw(self) -> None:
        self._due = False
        if self._result is None:
            self.pane.show_plot(None, "")
            return
        self.pane.name = f"{self._result.name} sizes"
        settings = self.settings(self._result.asked.settings)
        by = settings.weighting
        try:
            groups = sizes_of(self._result.measured, settings, self.group.currentData(), self._kept)
            together = pool(list(groups.values()))
            if not together.values.size:
                self.pane.show_plot(None, _nothing(together))
                return
            plot = size_figure(list(groups.values()), list(groups), by=by, log=self.axis.currentData())
        except MatsegError as error:
            self.pane.show_plot(None, in_red(str(error)))
            return
        self.pane.show_plot(plot, in_words(together, by))


def in_words(sizes: Sizes, by: str) -> str:
    """Say what a distribution comes to, as rich text."""
    unit = sizes.unit.replace("2", "²")
    values = (f"D{percent}&nbsp;{cell(sizes.quantile(percent / 100, by))}" for percent in PERCENTILES)
    n = sizes.values.size
    left_out = sizes.n_seen - n
    spread = f", standard deviation {cell(sizes.std(by))}" if n > 1 else ""
    lines = [
        f"<b>{', '.join(values)} {unit}</b> by {by}",
        f"Mean {cell(sizes.mean(by))}{spread} {unit}",
        f"{n} object{'s' * (n != 1)}" + (f", and {left_out} that the edge cuts or rules out" if left_out else ""),
        f"Edge: {escape(sizes.edge)}",
    ]
    return "<br>".join(lines)


def _nothing(sizes: Sizes) -> str:
    if sizes.n_seen:
        return (
            f"None of the {sizes.n_seen} objects counts ({escape(sizes.edge)}). Measure a larger field, or choose "
            "another correction."
        )
    return "There is nothing left to draw; let the filters pass more objects."


def _choice(items: dict[str, str]) -> QComboBox:
    choice = shrink(QComboBox())
    for value, title in items.items():
        choice.addItem(title, value)
    return choice

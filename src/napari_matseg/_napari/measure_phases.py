"""Area fractions of the classes that were measured."""

from __future__ import annotations

from html import escape

import numpy as np
from pandas import DataFrame
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_matseg._napari.measure_result import Result
from napari_matseg._napari.parts import swatch
from napari_matseg._napari.plots import PlotPane
from napari_matseg.core.figures.fractions import fractions_figure


class PhasesTab(QWidget):
    """Fractions with their intervals, drawn and in words."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.pane = PlotPane()
        layout = QVBoxLayout(self)
        layout.addWidget(self.pane)
        layout.addStretch()
        self.show_result(None)

    def show_result(self, result: Result | None) -> None:
        """Show the fractions of a measurement."""
        fractions = None if result is None else result.measured.fractions()
        if fractions is None:
            self.pane.show_plot(None, "The labels are objects without classes; measure classes for phase fractions.")
            return
        self.pane.name = f"{result.name} fractions"
        self.pane.show_plot(fractions_figure(fractions, result.specs), in_words(fractions, result))


def in_words(fractions: DataFrame, result: Result) -> str:
    """Say what the fractions are and how sure, as rich text."""
    specs = {spec.name: spec for spec in result.specs}
    rows = []
    for row in fractions.itertuples():
        name = swatch(specs[row[1]])
        known = np.isfinite([row.ci95_low, row.ci95_high]).all()
        interval = f"{row.ci95_low:.2%} to {row.ci95_high:.2%}" if known else "no interval"
        rows.append(f"<tr><td>{name}</td><td>&nbsp;<b>{row.fraction:.2%}</b></td><td>&nbsp;{interval}</td></tr>")
    methods = "; ".join(dict.fromkeys(fractions["method"]))
    n = int(fractions["fields"].iloc[0])
    fields = f"{n} field" + ("s" if n != 1 else "")
    return f"<table>{''.join(rows)}</table>Area fractions with 95 % intervals: {escape(methods)} ({fields})."

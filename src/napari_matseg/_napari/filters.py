"""Conditions on the columns of a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QLineEdit, QStackedWidget, QToolButton, QVBoxLayout, QWidget

from napari_matseg._napari.frames import cell, heading
from napari_matseg._napari.parts import ERROR_COLOUR, shrink

PAUSE_MS = 250
"""So long nothing must be typed before rows are sought anew."""


@dataclass(frozen=True)
class Condition:
    """What rows must meet: a column between two limits, each of which may be open, or equal to a text."""

    column: str
    low: float | None = None
    high: float | None = None
    text: str | None = None

    def meets(self, table: DataFrame) -> NDArray[np.bool_]:
        """Rows that meet it; one without a value does not lie between limits."""
        column = table[self.column]
        if self.text is not None:
            return (column == self.text).to_numpy(bool)
        met = np.ones(len(table), bool)
        if self.low is not None:
            met &= (column >= self.low).to_numpy(bool)
        if self.high is not None:
            met &= (column <= self.high).to_numpy(bool)
        return met


class Filters(QWidget):
    """A line for each condition; rows must meet all of them."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._table = DataFrame()
        self._columns: list[str] = []
        self.lines: list[FilterLine] = []
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(PAUSE_MS)
        self._later.timeout.connect(self.changed)
        self.setVisible(False)

    def suit(self, table: DataFrame, columns: list[str]) -> None:
        """Be about this table; conditions on columns that it does not have go."""
        self._table, self._columns = table, columns
        for line in list(self.lines):
            if line.condition.column in columns:
                line.suit(table, columns)
            else:
                self.remove(line)

    def add(self) -> FilterLine:
        """Add a line, which lets everything pass until it is filled in."""
        line = FilterLine(self)
        line.suit(self._table, self._columns)
        line.changed.connect(self._later.start)
        line.removed.connect(self._on_removed)
        self.lines.append(line)
        self._layout.addWidget(line)
        self.setVisible(True)
        return line

    def remove(self, line: FilterLine) -> None:
        """Take a line away."""
        self.lines.remove(line)
        self._layout.removeWidget(line)
        line.setVisible(False)
        line.deleteLater()
        self.setVisible(bool(self.lines))

    def meets(self) -> NDArray[np.bool_]:
        """Rows of the table that meet all conditions."""
        met = np.ones(len(self._table), bool)
        for line in self.lines:
            met &= line.condition.meets(self._table)
        return met

    def describe(self) -> list[dict[str, Any]]:
        """Give the conditions in plain JSON types."""
        return [asdict(line.condition) for line in self.lines]

    def _on_removed(self) -> None:
        self.remove(self.sender())
        self._later.start()


class FilterLine(QWidget):
    """One condition: a column, and what it is to be."""

    changed = Signal()
    removed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._table = DataFrame()
        self.column = shrink(QComboBox())
        self.low, self.high, self.value = QLineEdit(), QLineEdit(), shrink(QComboBox())
        for choice in (self.column, self.value):
            choice.setMinimumContentsLength(8)
        remove = QToolButton()
        remove.setText("×")  # noqa: RUF001
        remove.setToolTip("Remove this condition.")
        between = QWidget()
        limits = QHBoxLayout(between)
        limits.setContentsMargins(0, 0, 0, 0)
        for widget in (self.low, QLabel("to"), self.high):
            limits.addWidget(widget)
        self._what = QStackedWidget()
        self._what.addWidget(between)
        self._what.addWidget(self.value)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.column, 5)
        layout.addWidget(self._what, 5)
        layout.addWidget(remove)
        self.column.currentIndexChanged.connect(self._on_column)
        self.value.currentIndexChanged.connect(self.changed)
        for limit in (self.low, self.high):
            limit.textChanged.connect(self._on_limit)
        remove.clicked.connect(self.removed)

    @property
    def condition(self) -> Condition:
        """What the line says; a limit that is no number is open."""
        column = self.column.currentData()
        if self._what.currentIndex() == 1:
            return Condition(column, text=self.value.currentText())
        return Condition(column, _number(self.low.text()), _number(self.high.text()))

    def suit(self, table: DataFrame, columns: list[str]) -> None:
        """Offer the columns of a table; the chosen one stays so."""
        self._table = table
        before, value = self.column.currentData(), self.value.currentText()
        self.column.blockSignals(True)
        self.column.clear()
        for name in columns:
            self.column.addItem(heading(name), name)
        self.column.setCurrentIndex(max(0, columns.index(before) if before in columns else 0))
        self.column.blockSignals(False)
        self._offer()
        if value:
            self.value.setCurrentIndex(max(0, self.value.findText(value)))

    def _on_column(self) -> None:
        self.low.clear()
        self.high.clear()
        self._offer()
        self.changed.emit()

    def _offer(self) -> None:
        name = self.column.currentData()
        if name is None:
            return
        column = self._table[name]
        numbers = is_numeric_dtype(column) and not is_bool_dtype(column)
        self._what.setCurrentIndex(0 if numbers else 1)
        self.value.blockSignals(True)
        self.value.clear()
        if numbers:
            ends = (column.min(), column.max()) if column.notna().any() else (np.nan, np.nan)
            for limit, end in zip((self.low, self.high), ends, strict=True):
                limit.setPlaceholderText(cell(end))
        else:
            self.value.addItems(sorted(column.astype(str).unique()))
        self.value.blockSignals(False)

    def _on_limit(self) -> None:
        limit = self.sender()
        wrong = bool(limit.text().strip()) and _number(limit.text()) is None
        limit.setStyleSheet(f"color: {ERROR_COLOUR}" if wrong else "")
        limit.setToolTip("This is no number, so there is no limit." if wrong else "")
        self.changed.emit()


def _number(text: str) -> float | None:
    """Read a number as people type it, or none."""
    try:
        value = float(text.replace(" ", "").replace(",", "."))
    except ValueError:
        return None
    return value if np.isfinite(value) else None

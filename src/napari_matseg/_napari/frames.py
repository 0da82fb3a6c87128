"""Tables of measurements in the dock: tens of thousands of rows, sorted and filtered where they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, RangeIndex
from qtpy.QtCore import QAbstractTableModel, QItemSelection, QItemSelectionModel, QModelIndex, QObject, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QTableView, QWidget

UNITS = {"_nm2": "nm²", "_nm": "nm", "_px": "px", "_deg": "°"}
TITLES = {"touches_edge": "At edge", "y": "y (px)", "x": "x (px)"}
ROWS_MEASURED = 200
"""By so many rows the widths of columns are found: all of them would take long."""


class FrameTable(QTableView):
    """Rows of a frame; a click on a column's head sorts by it."""

    chosen = Signal()
    """The user selected other rows."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = _Frame(self)
        self.setModel(self._model)
        self.verticalHeader().setVisible(False)
        self.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 6)
        self.setWordWrap(False)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        header = self.horizontalHeader()
        header.setResizeContentsPrecision(ROWS_MEASURED)
        header.setSectionsClickable(True)
        header.setHighlightSections(False)
        header.sortIndicatorChanged.connect(self._on_sorted)
        self._quiet = False
        self.selectionModel().selectionChanged.connect(self._on_selected)

    def fill(self, table: DataFrame, columns: list[str]) -> None:
        """Show all rows of a frame in its own order, none of them selected."""
        with self._quietly():
            self._model.fill(table, columns)
            header = self.horizontalHeader()
            header.setSortIndicatorShown(True)
            header.blockSignals(True)
            header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
            header.blockSignals(False)
            self.resizeColumnsToContents()

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Show these rows; what is selected of them stays so."""
        rows = self.selected()
        with self._quietly():
            self._model.keep(kept)
            self.select(rows)

    @property
    def shown(self) -> NDArray[np.intp]:
        """Rows of the frame from top to bottom."""
        return self._model.shown

    def selected(self) -> NDArray[np.intp]:
        """Rows of the frame that are selected, from top to bottom."""
        spans = [(span.top(), span.bottom() + 1) for span in self.selectionModel().selection()]
        places = np.unique(np.concatenate([np.arange(*span) for span in spans])) if spans else np.zeros(0, np.intp)
        return self.shown[places.astype(np.intp)]

    def current(self) -> int | None:
        """Row of the frame that was selected last; None if it no longer is."""
        index = self.selectionModel().currentIndex()
        return int(self.shown[index.row()]) if self.selectionModel().isSelected(index) else None

    def select(self, rows: NDArray[np.intp]) -> None:
        """Select these rows of the frame, as far as they are shown, without `chosen`."""
        places = np.flatnonzero(np.isin(self.shown, rows))
        ends = np.flatnonzero(np.diff(places) > 1)
        spans = zip(places[np.r_[0, ends + 1]], places[np.r_[ends, -1]], strict=True) if places.size else ()
        selection = QItemSelection()
        last = self._model.columnCount() - 1
        for top, bottom in spans:
            selection.select(self._model.index(int(top), 0), self._model.index(int(bottom), last))
        flags = QItemSelectionModel.SelectionFlag
        with self._quietly():
            self.selectionModel().select(selection, flags.ClearAndSelect)
            if places.size:
                first = self._model.index(int(places[0]), 0)
                self.selectionModel().setCurrentIndex(first, flags.NoUpdate)
                self.scrollTo(first)

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Do not tell of what the user does not do."""
        before, self._quiet = self._quiet, True
        yield
        self._quiet = before

    def _on_sorted(self, section: int, order: Qt.SortOrder) -> None:
        rows = self.selected()
        with self._quietly():
            self._model.order_by(section, ascending=order == Qt.SortOrder.AscendingOrder)
            self.select(rows)

    def _on_selected(self) -> None:
        if not self._quiet:
            self.chosen.emit()


class _Frame(QAbstractTableModel):
    """Some rows of a frame in some order, whose cells are made only when they come into sight."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.shown = np.zeros(0, np.intp)
        self._table = DataFrame()
        self._columns: list[str] = []
        self._values: list[NDArray[Any]] = []
        self._order = self._kept = np.zeros(0, np.intp)

    def fill(self, table: DataFrame, columns: list[str]) -> None:
        self.beginResetModel()
        self._table = table.set_axis(RangeIndex(len(table)))
        self._columns = columns
        self._values = [table[name].to_numpy() for name in columns]
        self._order = self.shown = np.arange(len(table))
        self._kept = np.ones(len(table), bool)
        self.endResetModel()

    def keep(self, kept: NDArray[np.bool_]) -> None:
        self.beginResetModel()
        self._kept = kept
        self.shown = self._order[kept[self._order]]
        self.endResetModel()

    def order_by(self, section: int, *, ascending: bool) -> None:
        """Sort; rows without a value come last either way."""
        if 0 <= section < len(self._columns):
            column = self._table[self._columns[section]]
            self._order = column.sort_values(ascending=ascending, kind="stable").index.to_numpy()
            self.keep(self._kept)

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self.shown)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._columns)

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return heading(self._columns[section]).replace(" (", "\n(")
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if role == Qt.ItemDataRole.DisplayRole:
            return cell(self._values[index.column()][self.shown[index.row()]])
        if role == Qt.ItemDataRole.TextAlignmentRole and self._values[index.column()].dtype.kind in "iuf":
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None


def heading(column: str) -> str:
    """Give the name of a column of measurements as the user reads it, with its unit.

    Examples
    --------
    >>> heading("feret_max_nm"), heading("area_px"), heading("circularity")
    ('Feret max (nm)', 'Area (px)', 'Circularity')
    """
    if column in TITLES:
        return TITLES[column]
    for ending, unit in UNITS.items():
        if column.endswith(ending):
            return f"{heading(column.removesuffix(ending))} ({unit})"
    return column[:1].upper() + column[1:].replace("_", " ")


def cell(value: Any) -> str:
    """Write a value with three significant digits, or all before the point.

    Examples
    --------
    >>> cell(12345.6), cell(12.345), cell(0.5), cell(True), cell(float("nan")), cell("pore")
    ('12 346', '12.3', '0.500', 'yes', '', 'pore')
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else ""
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace(",", " ")
    if not isinstance(value, float | np.floating):
        return str(value)
    if not np.isfinite(value):
        return "" if np.isnan(value) else f"{value}"
    digits = next((n for n, limit in enumerate((1, 10, 100)) if abs(value) < limit), 3)
    return f"{value:,.{3 - digits}f}".replace(",", " ")

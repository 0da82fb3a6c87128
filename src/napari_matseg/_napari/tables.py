"""Tables of scores and of objects in the dock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QTableWidget, QTableWidgetItem, QWidget

from napari_matseg._napari.parts import FLAG_COLOUR
from napari_matseg.settings import ClassSpec

Row = dict[str, str | float | None]
COLUMNS = {
    "class": "Class",
    "iou": "IoU",
    "dice": "Dice",
    "precision": "Precision",
    "recall": "Recall",
    "boundary_f1": "Boundary\nF1",
    "hausdorff95_px": "Hausdorff\n95 (px)",
    "hausdorff95_nm": "Hausdorff\n95 (nm)",
    "pixels_truth": "Truth\n(px)",
    "pixels_prediction": "Prediction\n(px)",
}
SPARE = ("hausdorff95_nm",)
DIGITS = dict.fromkeys(("hausdorff95_px", "hausdorff95_nm"), 2)
OBJECT_COLUMNS = {
    "label": "Label",
    "plane": "Plane",
    "area_nm2": "Area\n(nm²)",
    "area_px": "Area\n(px)",
    "predicted_iou": "Predicted\nIoU",
    "stability": "Stability",
    "touches_edge": "At\nedge",
    "reason": "To look at",
}
WIDEST, SCROLL_BAR, TALL = 440, 18, 180  # px


class ScoresTable(QTableWidget):
    """A row for each class with its colour, and one for the means; out of sight while it is empty."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, len(COLUMNS), parent)
        self.setHorizontalHeaderLabels(list(COLUMNS.values()))
        self.verticalHeader().setVisible(False)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.empty()

    def empty(self) -> None:
        """Show nothing."""
        self.setRowCount(0)
        self.setMinimumWidth(0)
        self.setVisible(False)

    def fill(self, rows: Sequence[Row], classes: Sequence[ClassSpec]) -> None:
        """Show rows as `ClassComparison.tables` gives them, those of the classes first."""
        self.setRowCount(len(rows))
        for y, row in enumerate(rows):
            for x, column in enumerate(COLUMNS):
                item = QTableWidgetItem(_text(row.get(column), DIGITS.get(column, 4)))
                if x:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                elif y < len(classes):
                    item.setIcon(_icon(classes[y]))
                self.setItem(y, x, item)
        for x, column in enumerate(COLUMNS):
            self.setColumnHidden(x, column in SPARE and all(row.get(column) is None for row in rows))
        self.setVisible(True)
        self.resizeColumnsToContents()
        # All of it is to be seen, or in a narrow dock at least with a scroll bar that hides no row.
        header = self.horizontalHeader()
        self.setMinimumWidth(min(header.length() + 4, WIDEST))
        self.setFixedHeight(header.sizeHint().height() + self.verticalHeader().length() + SCROLL_BAR)


class ObjectsTable(QTableView):
    """A row for each object, for thousands of them; out of sight while it is empty."""

    chosen = Signal(int)
    """Label of the row that was clicked, or gone to by keys."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = _Objects(self)
        self.setModel(self._model)
        self.verticalHeader().setVisible(False)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setMinimumHeight(TALL)
        self.horizontalHeader().setStretchLastSection(True)
        self._quiet = False
        self.selectionModel().currentRowChanged.connect(self._on_row)
        self.clicked.connect(self._on_row)  # the row that is the current one already, too
        self.fill([])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What is shown."""
        return self._model.rows

    def fill(self, rows: Sequence[dict[str, Any]]) -> None:
        """Show rows as `core.object_table.object_table` gives them; the chosen one stays chosen, but quietly."""
        index = self.currentIndex()
        label = self.rows[index.row()]["label"] if index.isValid() else None
        fits = self._model.columnCount() if self.rows else 0
        self._model.fill(rows)
        self.setVisible(bool(rows))
        if fits != self._model.columnCount():
            self.resizeColumnsToContents()
        if label is not None:
            self.show_label(label)

    def show_label(self, label: int) -> None:
        """Mark the row of an object, without `chosen`."""
        labels = [row["label"] for row in self.rows]
        if label in labels:
            self._quiet = True
            self.selectRow(labels.index(label))
            self._quiet = False

    def _on_row(self, index: QModelIndex) -> None:
        if index.isValid() and not self._quiet:
            self.chosen.emit(self.rows[index.row()]["label"])


class _Objects(QAbstractTableModel):
    """Rows of objects, whose cells are made only when they come into sight."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.rows: list[dict[str, Any]] = []
        self._columns: list[str] = []

    def fill(self, rows: Sequence[dict[str, Any]]) -> None:
        self.beginResetModel()
        self.rows = list(rows)
        known = self.rows[0] if self.rows else {}
        many = len({row["plane"] for row in self.rows}) > 1
        self._columns = [name for name in OBJECT_COLUMNS if name in known and (many or name != "plane")]
        if "area_nm2" in self._columns:
            self._columns.remove("area_px")
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._columns)

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return OBJECT_COLUMNS[self._columns[section]]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row, column = self.rows[index.row()], self._columns[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return _cell(row[column])
        if role == Qt.ItemDataRole.TextAlignmentRole and column != "reason":
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        if role == Qt.ItemDataRole.ToolTipRole:
            return row["reason"] or None
        if role == Qt.ItemDataRole.ForegroundRole and row["flagged"]:
            return QColor(FLAG_COLOUR)
        return None


def _text(value: str | float | None, digits: int) -> str:
    """Text of a cell; a ratio that is not defined (0/0) is a dash."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:.{digits}f}" if isinstance(value, float) else f"{value:,}".replace(",", " ")


def _icon(spec: ClassSpec) -> QIcon:
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(*spec.colour))
    return QIcon(pixmap)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:.2f}" if value < 10 else f"{value:,.0f}".replace(",", " ")
    return value if isinstance(value, str) else f"{value:,}".replace(",", " ")

"""Tables of scores in the dock."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from napari_matseg.settings import ClassSpec

Row = dict[str, str | float | None]
COLUMNS = {
    "class": "Class",
    "iou": "IoU",
    "dice": "Dice",
    "precision": "Precision",
    "recall": "Recall",
    "pixels_truth": "Truth\n(px)",
    "pixels_prediction": "Prediction\n(px)",
}
WIDEST, SCROLL_BAR = 560, 18  # px


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
        """Show rows as `core.metrics.Scores.rows` gives them, those of the classes first."""
        self.setRowCount(len(rows))
        for y, row in enumerate(rows):
            for x, column in enumerate(COLUMNS):
                item = QTableWidgetItem(_text(row[column]))
                if x:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                elif y < len(classes):
                    item.setIcon(_icon(classes[y]))
                self.setItem(y, x, item)
        self.setVisible(True)
        self.resizeColumnsToContents()
        # All of it is to be seen, or in a narrow dock at least with a scroll bar that hides no row.
        header = self.horizontalHeader()
        self.setMinimumWidth(min(header.length() + 4, WIDEST))
        self.setFixedHeight(header.sizeHint().height() + self.verticalHeader().length() + SCROLL_BAR)


def _text(value: str | float | None) -> str:
    """Text of a cell; a ratio that is not defined (0/0) is a dash."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}".replace(",", " ")


def _icon(spec: ClassSpec) -> QIcon:
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(*spec.colour))
    return QIcon(pixmap)

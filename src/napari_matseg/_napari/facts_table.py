"""The table of what is known of a micrograph, which can be copied."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtGui import QKeyEvent, QKeySequence
from qtpy.QtWidgets import QAbstractItemView, QApplication, QHeaderView, QTableWidget, QTableWidgetItem, QWidget


class FactsTable(QTableWidget):
    """Titles and values; Ctrl+C copies the selected rows, or all where none are selected."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, 2, parent)
        self.horizontalHeader().setVisible(False)
        self.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        self.horizontalHeader().setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.verticalHeader().setVisible(False)
        self.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 6)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)

    def fill(self, facts: Sequence[tuple[str, str]]) -> None:
        """Show these instead of the last ones."""
        self.setRowCount(len(facts))
        for row, pair in enumerate(facts):
            for column, text in enumerate(pair):
                item = QTableWidgetItem(text)
                item.setToolTip(text)
                self.setItem(row, column, item)
        rows = min(len(facts), 16) * self.verticalHeader().defaultSectionSize()
        self.setMinimumHeight(rows + 2 * self.frameWidth())

    def text(self) -> str:
        """Give the selected rows, or all, as lines of title, tab and value."""
        selected = sorted({index.row() for index in self.selectedIndexes()}) or range(self.rowCount())
        return "\n".join("\t".join(self.item(row, column).text() for column in (0, 1)) for row in selected)

    def copy(self) -> None:
        """Put the text on the clipboard."""
        QApplication.clipboard().setText(self.text())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Copy rows, and not only the cell that Qt would."""
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy()
            return
        super().keyPressEvent(event)

"""The classes that a training is for: colour, name, and how much of each there is."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from napari_matseg.settings import ClassSpec, Colour

TALLEST = 6  # rows that are seen without scrolling


class ClassTable(QTableWidget):
    """A row for each value; names can be changed and stay with their value."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, 3, parent)
        self._names: dict[tuple[str, int], str] = {}
        self._source = ""
        self._values: list[int] = []
        self._colours: list[Colour] = []
        self.setHorizontalHeaderLabels(["Label", "Class (click twice to name it)", "Pixels"])
        self.verticalHeader().setVisible(False)
        self.setIconSize(QSize(14, 14))
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.itemChanged.connect(self._on_item_changed)
        self.fill("", {}, {})

    def fill(self, source: str, classes: Mapping[int, tuple[str, Colour]], pixels: Mapping[int, int]) -> None:
        """Show the classes of these values of a source, each with a name, if the user gave none, and a colour."""
        self.blockSignals(True)
        self._source = source
        self._values = list(classes)
        self._colours = [colour for _, colour in classes.values()]
        self.setRowCount(len(classes))
        for y, (value, (name, colour)) in enumerate(classes.items()):
            square = QPixmap(14, 14)
            square.fill(QColor(*colour))
            label = QTableWidgetItem(QIcon(square), str(value))
            label.setFlags(Qt.ItemFlag.ItemIsEnabled)
            count = QTableWidgetItem(f"{pixels[value]:,}".replace(",", " ") if value in pixels else "")
            count.setFlags(Qt.ItemFlag.ItemIsEnabled)
            count.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            for x, item in enumerate((label, QTableWidgetItem(self._names.get((source, value), name)), count)):
                self.setItem(y, x, item)
        self.blockSignals(False)
        self.setColumnHidden(2, not pixels)
        self.setVisible(bool(classes))
        rows = sum(self.rowHeight(y) for y in range(min(len(classes), TALLEST)))
        self.setFixedHeight(self.horizontalHeader().sizeHint().height() + rows + 4)

    def classes(self) -> dict[int, ClassSpec]:
        """Name and colour of each value."""
        named = [self.item(y, 1).text().strip() or f"class {value}" for y, value in enumerate(self._values)]
        return {
            value: ClassSpec(name=name, colour=colour)
            for value, name, colour in zip(self._values, named, self._colours, strict=True)
        }

    def rename(self, value: int, name: str) -> None:
        """Name the class of a value, as typing does."""
        self.item(self._values.index(value), 1).setText(name)

    def _on_item_changed(self, item: QTableWidgetItem) -> None:
        self._names[self._source, self._values[item.row()]] = item.text().strip()
        self.changed.emit()

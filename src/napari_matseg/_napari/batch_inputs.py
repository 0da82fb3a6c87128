"""Where the micrographs of a batch are: files, folders, patterns."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from qtpy.QtCore import QMimeData, Qt, Signal
from qtpy.QtGui import QKeyEvent, QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

HIGH = 66  # px
WILD = "*?["


class Inputs(QWidget):
    """A list of files, folders and patterns, to which more can be dropped, chosen or typed."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.list = _List()
        self.line = QLineEdit()
        self.line.setPlaceholderText("or type: a path, or a pattern such as data/**/*.tif")
        self.files_button, self.folder_button = QPushButton("Files…"), QPushButton("Folder…")
        self.remove_button = QPushButton("Remove")
        self.remove_button.setToolTip("Takes what is selected off the list, or all of it; no file is touched. (Delete)")
        buttons = QHBoxLayout()
        buttons.addWidget(self.line, 1)
        for button in (self.files_button, self.folder_button, self.remove_button):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.list)
        layout.addLayout(buttons)
        self.line.returnPressed.connect(self._on_typed)
        self.files_button.clicked.connect(self._ask_files)
        self.folder_button.clicked.connect(self._ask_folder)
        self.remove_button.clicked.connect(self.remove)
        self.list.delete_pressed.connect(self.remove)

    @property
    def inputs(self) -> list[str]:
        """Paths and patterns, as they were given."""
        return [self.list.item(row).text() for row in range(self.list.count())]

    def add(self, inputs: Iterable[str]) -> None:
        """Put more on the list, each once."""
        there = set(self.inputs)
        new = [text for text in dict.fromkeys(inputs) if text not in there]
        if new:
            self.list.addItems(new)
            self.list.scrollToBottom()
            self.changed.emit()

    def remove(self) -> None:
        """Take what is selected off the list; all if nothing is."""
        chosen = self.list.selectedItems()
        if not chosen:
            self.list.clear()
        for item in chosen:
            self.list.takeItem(self.list.row(item))
        self.changed.emit()

    def _on_typed(self) -> None:
        text = self.line.text().strip()
        if text:
            self.line.clear()
            self.add([str(Path(text).expanduser())])

    def _ask_files(self) -> None:
        files, _ = QFileDialog.getOpenFileNames(self, "Micrographs")
        self.add(files)

    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of micrographs")
        self.add([folder] if folder else [])


class _List(QListWidget):
    """Says what to do while it is empty."""

    delete_pressed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(HIGH)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setUniformItemSizes(True)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw."""
        super().paintEvent(event)
        if not self.count():
            painter = QPainter(self.viewport())
            painter.setOpacity(0.6)
            painter.drawText(self.viewport().rect(), Qt.AlignmentFlag.AlignCenter, "Drop files or folders here")
            painter.end()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Take off what is selected."""
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace) and self.selectedItems():
            self.delete_pressed.emit()
        else:
            super().keyPressEvent(event)


def dropped(data: QMimeData) -> list[str]:
    """Files and folders of this machine that are dragged."""
    return [str(Path(url.toLocalFile())) for url in data.urls() if url.isLocalFile()]


def folder_beside(inputs: list[str]) -> Path | None:
    """Folder for the results of these, beside the first; None if there are none.

    Examples
    --------
    >>> folder_beside(["/data/today"]).as_posix(), folder_beside(["/data/today/*/a*.tif"]).as_posix()
    ('/data/today results', '/data/today results')
    """
    if not inputs:
        return None
    parts = Path(inputs[0]).parts
    wild = next((place for place, part in enumerate(parts) if set(part) & set(WILD)), None)
    first = Path(inputs[0])
    if wild is not None:
        first = Path(*parts[:wild]) if wild else Path()
    elif first.is_file():
        first = first.parent
    first = first.absolute()
    return first.with_name(f"{first.name} results") if first.name else first / "results"

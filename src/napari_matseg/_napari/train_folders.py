"""Folders of images and truths to learn from."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.jobs import Job
from napari_matseg._napari.parts import Form, in_red, text_label
from napari_matseg._napari.train_data import SHARE, FromFolders, say_held_out
from napari_matseg.core.train_folders import Folders, look_into
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

HELP = (
    "Images and their truths, matched by the names of their files: class ids, black and white, an id for each object, "
    "colours, ImageJ's regions, or COCO."
)


class FolderPairs(QWidget):
    """Two folders, and what was found in them."""

    changed = Signal()
    """Something else may be learnt from."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.found: Folders | None = None
        self._job = Job(self)
        self._job.succeeded.connect(self._show)
        self._job.failed.connect(self._fail)
        self._job.ended.connect(self._on_ended)
        self._again = False
        self.images, self.truth = FolderLine("Folder of the images"), FolderLine("Folder of the truths")
        self.note = text_label()
        self.sparse = QCheckBox("0 is not labelled: ignored, not background")
        form = Form()
        form.add("Images", self.images)
        form.add("Truths", self.truth)
        help_ = text_label()
        help_.setText(HELP)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        for widget in (help_, form, self.note, self.sparse):
            layout.addWidget(widget)
        layout.addStretch()
        for line in (self.images, self.truth):
            line.chosen.connect(self.look)
        self.sparse.toggled.connect(self.changed)

    def look(self) -> None:
        """Look into the folders, if there are two; what is found comes later."""
        images, truth = self.images.path, self.truth.path
        self.found = None
        self.changed.emit()
        if images is None or truth is None:
            return
        if self._job.running:
            self._again = True
            self._job.cancel()
            return
        self.note.setText("looking into the folders…")
        self._job.start(look_into(images, truth), None)

    def classes(self) -> dict[int, ClassSpec]:
        """Classes that were found, by their value in the truths."""
        if self.found is None:
            return {}
        return {i: spec for i, spec in enumerate(self.found.classes) if i or not self.sparse.isChecked()}

    def held_out(self) -> str:
        """Say what a model will be judged by."""
        n = 0 if self.found is None else len(self.found.pairs)
        return say_held_out(n, max(1, round(SHARE * n)) if n > 1 else 0) if n else ""

    def data(self) -> FromFolders:
        """Take what was found.

        Raises
        ------
        InputError
            If nothing was.
        """
        if self.found is None:
            raise InputError("there is nothing to learn from; choose a folder of images and one of their truths.")
        return FromFolders(self.found, 0 if self.sparse.isChecked() else self.found.unlabelled)

    def forget(self) -> None:
        """Stop looking."""
        self._job.cancel()

    def _show(self, found: Folders) -> None:
        self.found = found
        what = "objects, each with an id" if found.objects else f"{len(found.classes)} values or classes"
        self.note.setText(f"{len(found.pairs)} image(s) with a truth; the truths hold {what}.")
        self.sparse.blockSignals(True)
        self.sparse.setChecked(found.unlabelled == 0)
        self.sparse.setEnabled(not found.objects)
        self.sparse.blockSignals(False)
        self.changed.emit()

    def _fail(self, text: str) -> None:
        self.note.setText(in_red(text))

    def _on_ended(self) -> None:
        if self._again:
            self._again = False
            self.look()


class FolderLine(QWidget):
    """A folder, typed or chosen."""

    chosen = Signal()

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title = title
        self.line = QLineEdit()
        self.line.setPlaceholderText("choose a folder")
        button = QPushButton("…")
        button.setFixedWidth(32)
        button.setToolTip(f"{title}…")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line)
        layout.addWidget(button)
        button.clicked.connect(self._ask)
        self.line.editingFinished.connect(self.chosen)

    @property
    def path(self) -> Path | None:
        """The folder; None if none is chosen."""
        text = self.line.text().strip()
        return Path(text).expanduser().absolute() if text else None

    @path.setter
    def path(self, path: Path) -> None:
        self.line.setText(str(path))
        self.chosen.emit()

    def _ask(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, self._title, self.line.text())
        if folder:
            self.path = Path(folder)

"""What a batch is to do: by which recipe, to which micrographs, into which folder."""

from __future__ import annotations

from pathlib import Path

from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget

from napari_matseg._napari.batch_inputs import Inputs, folder_beside
from napari_matseg._napari.batch_recipe import RecipeChoice
from napari_matseg._napari.parts import Form, text_label
from napari_matseg.errors import SettingsError


class BatchForm(Form):
    """Recipe, micrographs and folder for the results."""

    changed = Signal()
    """Other micrographs, or another folder."""

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.recipe = RecipeChoice(viewer)
        self.inputs = Inputs()
        self.found = text_label()
        self.out_line = QLineEdit()
        self.out_button = QPushButton("…")
        self.out_button.setToolTip("Choose the folder for the results.")
        out = QWidget()
        row = QHBoxLayout(out)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.out_line, 1)
        row.addWidget(self.out_button)
        for title, field in (
            ("Recipe", self.recipe),
            ("Micrographs", self.inputs),
            ("", self.found),
            ("Results into", out),
        ):
            self.add(title, field)
        self.found.hide()
        self.out_button.clicked.connect(self._ask_out)
        self.inputs.changed.connect(self._on_inputs)
        self.out_line.editingFinished.connect(self.changed)

    @property
    def out(self) -> Path:
        """Folder for the results.

        Raises
        ------
        SettingsError
            If there is none.
        """
        text = self.out_line.text().strip() or self.out_line.placeholderText()
        if not text:
            raise SettingsError("there is no folder for the results; choose one.")
        return Path(text).expanduser()

    def say_found(self, html: str) -> None:
        """Say which micrographs were found."""
        self.found.setText(html)
        self.found.setVisible(bool(html))

    def _on_inputs(self) -> None:
        beside = folder_beside(self.inputs.inputs)
        self.out_line.setPlaceholderText("" if beside is None else str(beside))
        self.changed.emit()

    def _ask_out(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the results")
        if folder:
            self.out_line.setText(folder)
            self.changed.emit()

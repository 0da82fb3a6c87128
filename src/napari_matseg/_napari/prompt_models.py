"""Promptable models in the widgets: which there are, what they are for, and the one in memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.models import BROWSE
from napari_matseg._napari.parts import Form, shrink, text_label
from napari_matseg._napari.prompt_form import TITLES
from napari_matseg.core.devices import choose_device
from napari_matseg.core.sam.weights import (
    PromptableModel,
    available_promptable,
    load_promptable,
    read_promptable_card,
)
from napari_matseg.core.sam.zoo import ZOO
from napari_matseg.errors import ModelError
from napari_matseg.settings import PromptSettings

FILES = "Promptable models (*.safetensors *.pth *.pt)"


class LoadedPromptable:
    """The promptable model used last, in memory, so that the next run need not load it."""

    def __init__(self) -> None:
        self._kept: tuple[Any, PromptableModel] | None = None

    def get(self, model: str, device: str) -> PromptableModel:
        """Model on a device; loaded unless it is here and its file is as it was.

        Raises
        ------
        MatsegError
            If there is no such model or device, or the file is damaged.
        """
        chosen = str(choose_device(device))
        if self._kept is not None and self._kept[0] == (model, chosen, _state(self._kept[1].path)):
            return self._kept[1]
        self._kept = None
        loaded = load_promptable(model, chosen)
        self._kept = (model, chosen, _state(loaded.path)), loaded
        return loaded

    def clear(self) -> None:
        """Give the memory back, that of the GPU too."""
        self._kept = None
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


def _state(path: Path) -> tuple[int, int] | None:
    """Give what changes when a file does; None if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


class PromptableChoice(QComboBox):
    """The promptable models that are here, those that can be fetched, and any file."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        shrink(self)
        self._paths: dict[str, Path | None] = {}
        self._files: list[str] = []
        self._chosen = PromptSettings().model
        self.refresh()
        self.activated.connect(self._on_activated)

    @property
    def model(self) -> str:
        """Name or file of the chosen model."""
        return self._chosen

    @model.setter
    def model(self, model: str) -> None:
        if model not in self._paths and model not in self._files:
            self._files.append(model)
        self._chosen = model
        self.refresh()
        self.currentIndexChanged.emit(self.currentIndex())

    @property
    def to_fetch(self) -> bool:
        """Whether the chosen model is known, but not on this computer."""
        return self._chosen in self._paths and self._paths[self._chosen] is None

    def refresh(self) -> None:
        """List the models anew; the choice stays."""
        self._paths = available_promptable()
        self.blockSignals(True)
        self.clear()
        for name, path in self._paths.items():
            missing = path is None and name in ZOO
            self.addItem(f"{name} ({ZOO[name].megabytes} MB to download)" if missing else name, name)
        for file in self._files:
            self.addItem(Path(file).name, file)
        self.insertSeparator(self.count())
        self.addItem(BROWSE, BROWSE)
        self.setCurrentIndex(self.findData(self._chosen))
        self.blockSignals(False)

    def describe(self) -> str:
        """Say in rich text what the chosen model is for."""
        entry = ZOO.get(self._chosen)
        if entry is not None:
            return f"For {escape(entry.purpose)}. Licence {escape(entry.licence)}."
        path = self._paths.get(self._chosen) or Path(self._chosen)
        try:
            card = read_promptable_card(path)
        except ModelError as error:
            return escape(str(error))
        return "" if card is None else escape(card.description)

    def showPopup(self) -> None:
        self.refresh()
        super().showPopup()

    def _on_activated(self) -> None:
        if self.currentData() != BROWSE:
            self.model = self.currentData()
            return
        file, _ = QFileDialog.getOpenFileName(self, "Promptable model", "", FILES)
        self.model = file or self._chosen


class ModelField(QWidget):
    """The choice of a promptable model, what is said of it, and the button that fetches it."""

    changed = Signal()
    """Another model is chosen, or it is here now."""

    def __init__(self, fetch: Callable[[], None], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.choice = PromptableChoice()
        self.about = text_label()
        self.fetch_button = QPushButton("Download")
        self.fetch_button.clicked.connect(fetch)
        form = Form(TITLES)
        form.add("Model", self.choice)
        form.add("", self.about)
        form.add("", self.fetch_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(form)
        self.choice.currentIndexChanged.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show what is known of the chosen model."""
        text = self.choice.describe()
        self.about.setText(text)
        self.choice.setToolTip(text)
        self.about.setVisible(self.choice.to_fetch)
        self.fetch_button.setVisible(self.choice.to_fetch)
        self.changed.emit()

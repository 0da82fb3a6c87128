"""Models in the widgets: which there are, what they are for, and those in memory."""

from __future__ import annotations

import sys
from collections import OrderedDict
from html import escape
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QTextDocument
from qtpy.QtWidgets import QComboBox, QFileDialog, QWidget

from napari_matseg._napari.parts import swatch
from napari_matseg.core.architectures import load_triton_apart
from napari_matseg.core.checkpoints import ONNX_SUFFIX, SUFFIX, Model, available, find, load_model, read_card
from napari_matseg.core.devices import choose_device
from napari_matseg.errors import MatsegError
from napari_matseg.settings import SegmentSettings

BROWSE = "Browse for a file…"
NONE = ""
TILINGS = {
    "auto": ("automatic", "A halo that changes at most 0.01 % of the pixels; blending where the network has no limit."),
    "exact": ("exact", "A halo as wide as the network sees: the same result as without tiles, but slower."),
    "blend": ("blend", "Tiles that overlap are averaged."),
    "whole": ("no tiles", "The whole image at once; takes the most memory."),
}


def load_torch() -> None:
    """Import torch and what the networks are made with; slow the first time."""
    load_triton_apart()
    import segmentation_models_pytorch  # noqa: F401


def describe_card(model: str) -> tuple[str, str]:
    """Give what a model is for with its classes, or why it cannot be used, and its whole card; both as rich text."""
    try:
        card = read_card(model)
    except MatsegError as error:
        return escape(str(error)), ""
    classes = ", ".join(swatch(spec) for spec in card.classes[1:])
    whole = QTextDocument()
    whole.setMarkdown(card.to_markdown())
    return (f"{escape(card.description)}<br>{classes}" if card.description else classes), whole.toHtml()


class LoadedModels:
    """The models used last, in memory, so that the next run need not load them."""

    def __init__(self, most: int = 2) -> None:
        self._most = most
        self._models: OrderedDict[Any, Model] = OrderedDict()

    def get(self, model: str, device: str) -> Model:
        """Model on a device; loaded unless it is here and its file is as it was.

        Raises
        ------
        MatsegError
            If there is no such model or device, or the file is damaged.
        """
        chosen = str(choose_device(device))
        path = find(model)
        state = path.stat()
        key = (path, state.st_mtime_ns, state.st_size, chosen)
        if key not in self._models:
            self._models[key] = load_model(path, chosen)
        self._models.move_to_end(key)
        while len(self._models) > self._most:
            self._models.popitem(last=False)
        return self._models[key]

    def clear(self) -> None:
        """Give the memory back, that of the GPU too."""
        self._models.clear()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


class ModelChoice(QComboBox):
    """The models that are here, and any file.

    Parameters
    ----------
    first : str, optional
        An item before all models, for none of them; it is chosen at first, else the default model.
    """

    def __init__(self, first: str | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._first = first
        self._chosen = SegmentSettings().model if first is None else NONE
        self.refresh()
        self.activated.connect(self._on_activated)

    @property
    def model(self) -> str | None:
        """Name or file of the chosen model; None if there is none."""
        chosen = self.currentData()
        return None if chosen in (None, NONE, BROWSE) else str(chosen)

    @model.setter
    def model(self, model: str) -> None:
        if self.findData(model) < 0:
            self.insertItem(self.count() - 2, Path(model).name, model)
        self._chosen = model
        self.setCurrentIndex(self.findData(model))

    def refresh(self) -> None:
        """List the models anew; the choice stays."""
        files = [
            self.itemData(i) for i in range(self.count() - 2) if Path(self.itemData(i)).suffix in (SUFFIX, ONNX_SUFFIX)
        ]
        self.blockSignals(True)
        self.clear()
        if self._first is not None:
            self.addItem(self._first, NONE)
        for name in [*available(), *files]:
            self.addItem(Path(name).name, name)
        self.insertSeparator(self.count())
        self.addItem(BROWSE, BROWSE)
        self.setCurrentIndex(max(0, self.findData(self._chosen)) if self.count() > 2 else -1)
        self.blockSignals(False)

    def showPopup(self) -> None:
        self.refresh()
        super().showPopup()

    def _on_activated(self) -> None:
        if self.currentData() != BROWSE:
            self._chosen = self.currentData()
            return
        file, _ = QFileDialog.getOpenFileName(self, "Model file", "", f"Models (*{SUFFIX} *{ONNX_SUFFIX})")
        if file:
            self.model = file
        else:
            self.setCurrentIndex(self.findData(self._chosen))


class DeviceChoice(QComboBox):
    """Where the network runs; what there is besides the CPU is looked up when the list is opened."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.addItem("auto (a GPU if there is one)", "auto")
        self.addItem("cpu", "cpu")

    @property
    def device(self) -> str:
        """As `SegmentSettings.device`."""
        return str(self.currentData())

    def showPopup(self) -> None:
        load_torch()
        import torch

        others = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        others += ["mps"] * torch.backends.mps.is_available()
        for device in others:
            if self.findData(device) < 0:
                self.addItem(device, device)
        super().showPopup()


class TilingChoice(QComboBox):
    """How a large micrograph is put to the network."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        for tiling, (title, tip) in TILINGS.items():
            self.addItem(title, tiling)
            self.setItemData(self.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)

    @property
    def tiling(self) -> str:
        """As `SegmentSettings.tiling`."""
        return str(self.currentData())

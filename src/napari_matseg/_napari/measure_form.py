"""What is to be measured."""

from __future__ import annotations

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QLineEdit, QWidget

from napari_matseg._napari.layers import micrograph_from_layer, specs_of
from napari_matseg._napari.measure_result import Asked
from napari_matseg._napari.parts import Form, LayerChoice, shrink
from napari_matseg._napari.prompt_places import shape_of
from napari_matseg.errors import InputError, MatsegError
from napari_matseg.settings import MeasureSettings


class MeasureForm(Form):
    """Labels, what they are, an image for intensities, and how large a pixel is."""

    changed = Signal()
    """Something else may be asked for."""

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.labels = LayerChoice(viewer, [Labels])
        self.kind = shrink(QComboBox())
        self.kind.addItem("objects, each with an id of its own", False)
        self.kind.addItem("classes: objects are connected pieces", True)
        self.image = LayerChoice(viewer, [Image], none="none: no intensities", prefer=self._belongs)
        self.pixel_size = PixelSize()
        self.data_bar = QCheckBox("Leave the data bar out")
        self.data_bar.setToolTip("The field ends at the instrument's data bar, or where the segmentation ended.")
        self.data_bar.setChecked(MeasureSettings().exclude_data_bar)
        for title, field in (
            ("Labels", self.labels),
            ("They are", self.kind),
            ("Image", self.image),
            ("Pixel size", self.pixel_size),
            ("", self.data_bar),
        ):
            self.add(title, field)
        self._suit_labels()
        self.labels.currentIndexChanged.connect(self._suit_labels)
        self.image.currentIndexChanged.connect(self._suit_size)
        for signal in (
            self.labels.currentIndexChanged,
            self.labels.refreshed,
            self.kind.currentIndexChanged,
            self.image.currentIndexChanged,
            self.pixel_size.editingFinished,
            self.data_bar.toggled,
        ):
            signal.connect(self._on_changed)

    def asked(self) -> Asked | None:
        """Give what is chosen; None without labels.

        Raises
        ------
        InputError
            If the pixel size is none.
        """
        layer = self.labels.layer
        if layer is None:
            return None
        settings = MeasureSettings(exclude_data_bar=self.data_bar.isChecked())
        return Asked(layer, self.image.layer, self.kind.currentData(), settings, self.pixel_size.value)

    def forget(self) -> None:
        """Take no more notice of the viewer."""
        self.labels.forget()
        self.image.forget()

    def _on_changed(self, *_changed: object) -> None:
        self.changed.emit()

    def _suit_labels(self, *_changed: object) -> None:
        """Guess what a layer's labels are, and which image they belong to."""
        layer = self.labels.layer
        if layer is not None:
            self.kind.setCurrentIndex(self.kind.findData(specs_of(layer.metadata) is not None))
            if self.image.layer is not None and not self._belongs(self.image.layer):
                self.image.setCurrentIndex(0)
            self.image.refresh()
        self._suit_size()

    def _suit_size(self, *_changed: object) -> None:
        """Say how large pixels are, by the labels or else by the image."""
        sizes = []
        for layer in (self.labels.layer, self.image.layer):
            try:
                sizes.append(None if layer is None else micrograph_from_layer(layer).pixel_size_nm)
            except MatsegError:
                sizes.append(None)
        self.pixel_size.know(sizes[0] or sizes[1])

    def _belongs(self, image: Layer) -> bool:
        """Whether an image has the shape of the labels that are chosen."""
        return self.labels.layer is not None and shape_of(image) == shape_of(self.labels.layer)


class PixelSize(QLineEdit):
    """The pixel size, as the layer says or as the user does."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip("In nanometres. Leave it empty to take what the layer says; without any, sizes are in pixels.")
        self.setClearButtonEnabled(True)

    def know(self, size_nm: tuple[float, float] | None) -> None:
        """Show what the layer says."""
        if size_nm is None:
            text = "not known: sizes are in px, or type nm"
        else:
            y, x = (f"{side:.4g}" for side in size_nm)
            text = f"{y} nm (of the layer)" if y == x else f"{y} nm high, {x} nm wide (of the layer)"
        self.setPlaceholderText(text)

    @property
    def value(self) -> tuple[float, float] | None:
        """Height and width that the user gives; None where that is left to the layer.

        Raises
        ------
        InputError
            If there is something else than a size.
        """
        text = self.text().strip()
        if not text:
            return None
        try:
            size = float(text.removesuffix("nm").strip().replace(",", "."))
        except ValueError:
            size = np.nan
        if not (np.isfinite(size) and size > 0):
            raise InputError(f"{text} is no pixel size; give nanometres such as 1.25, or leave the field empty.")
        return size, size

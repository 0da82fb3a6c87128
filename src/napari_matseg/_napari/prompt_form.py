"""How prompts become masks, as fields of a form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari.layers import Layer
from pydantic import ValidationError
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QHBoxLayout, QLabel, QSpinBox, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_matseg._napari.layers import micrograph_from_layer
from napari_matseg._napari.models import DeviceChoice
from napari_matseg._napari.parts import Form, shrink
from napari_matseg.errors import MatsegError, SettingsError
from napari_matseg.settings import PromptSettings, explain

CHOICES = {
    "best": ("best score", "Of the three masks that answer a click, that which the model itself thinks most of."),
    "part": ("part", "The smallest of the three masks that answer a click."),
    "particle": ("particle", "The middle one of the three masks that answer a click."),
    "agglomerate": ("agglomerate", "The largest of the three masks that answer a click."),
}
OVERLAPS = {
    "score": (
        "higher score",
        "Each pixel goes to the object with the higher score there; an object that would lose most of itself keeps it.",
    ),
    "smaller": ("smaller object", "Pixels go to the smaller object."),
    "separate": ("keep both", "Objects that overlap go to layers of their own."),
}
VIEWS = {
    1: ("once", "The model sees the image as it is."),
    2: ("twice", "The image and its mirror image; what the model answers is averaged. Takes twice the time."),
    4: ("four times", "Mirrored in all ways; what the model answers is averaged. Takes four times the time."),
}
ANY = (1e-9, 1e18)
"""Limits of an area that has none."""
TITLES = 66  # px


class AreaRange(QWidget):
    """Smallest and largest area; 0 is any."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.in_nm2 = False
        self.low, self.high = _number(1e12, "any", 1), _number(1e12, "any", 1)
        self._unit = QLabel()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget, stretch in ((self.low, 1), (QLabel("to"), 0), (self.high, 1), (self._unit, 0)):
            layout.addWidget(widget, stretch)
        for box in (self.low, self.high):
            box.valueChanged.connect(self.changed)
        self.set_unit(in_nm2=False)

    def set_unit(self, *, in_nm2: bool) -> None:
        """Measure in nm² or in pixels; numbers that were given in the other unit are forgotten."""
        if in_nm2 != self.in_nm2:
            self.low.setValue(0)
            self.high.setValue(0)
        self.in_nm2 = in_nm2
        self._unit.setText("nm²" if in_nm2 else "px")

    def limits(self) -> tuple[float, float] | None:
        """Smallest and largest area; None for any."""
        if not self.low.value() and not self.high.value():
            return None
        return self.low.value() or ANY[0], self.high.value() or ANY[1]


class PromptForm(QWidget):
    """Fields for all of `PromptSettings` but the model."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        defaults = PromptSettings()
        self.choice, self.overlaps = _choice(CHOICES, defaults.choice), _choice(OVERLAPS, defaults.overlaps)
        self.area = AreaRange()
        self.area.setToolTip("Answers of another size are passed over where another one fits, and flagged elsewhere.")
        self.device = DeviceChoice()
        self.holes, self.specks = _pixels(defaults.fill_holes_px), _pixels(defaults.drop_specks_px)
        self.holes.setToolTip("Holes of up to so many pixels are filled.")
        self.specks.setToolTip("Pieces of up to so many pixels, apart from the object's largest, are removed.")
        self.stability, self.iou = _share(defaults.min_stability), _share(defaults.min_iou)
        self.stability.setToolTip("Objects that are less stable when the threshold moves are flagged for a look.")
        self.iou.setToolTip("Objects of which the model thinks less are flagged for a look.")
        self.scale = _number(64, "automatic", 0.25, decimals=2)
        self.scale.setToolTip("Magnification at which the model sees the image; automatic: so that the object fits.")
        self.views = _choice(VIEWS, defaults.views)
        self.data_bar = QCheckBox("Leave the data bar out")
        self.data_bar.setToolTip("Nothing is looked for in the instrument's data bar, if the file tells of it.")
        self.data_bar.setChecked(defaults.exclude_data_bar)
        self._lay_out()
        for field in (self.choice, self.overlaps, self.device, self.views):
            field.currentIndexChanged.connect(self.changed)
        for field in (self.holes, self.specks, self.stability, self.iou, self.scale):
            field.valueChanged.connect(self.changed)
        self.area.changed.connect(self.changed)
        self.data_bar.toggled.connect(self.changed)

    def _lay_out(self) -> None:
        form, advanced = Form(TITLES), Form()
        form.add("Mask", self.choice)
        form.add("Area", self.area)
        form.add("Overlaps", self.overlaps)
        advanced.add("Fill holes", self.holes)
        advanced.add("Drop specks", self.specks)
        advanced.add("Flag below", _side_by_side(QLabel("stability"), self.stability, QLabel("IoU"), self.iou))
        advanced.add("Scale", self.scale)
        advanced.add("Look", self.views)
        advanced.add("Device", shrink(self.device))
        advanced.add("", self.data_bar)
        self.advanced = QCollapsible("Advanced", expandedIcon="▾", collapsedIcon="▸")
        self.advanced.addWidget(advanced)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(form)
        layout.addWidget(self.advanced)

    def suit(self, image: Layer | None) -> None:
        """Measure areas in nm² where an image's pixel size is known."""
        try:
            size = None if image is None else micrograph_from_layer(image).pixel_size_nm
        except MatsegError:  # said when it is to be segmented
            size = None
        self.area.set_unit(in_nm2=size is not None)

    def settings(self, model: str) -> PromptSettings:
        """Give what the fields are set to.

        Raises
        ------
        SettingsError
            If a value is impossible.
        """
        limits = self.area.limits()
        fields: dict[str, Any] = {
            "model": model,
            "device": self.device.device,
            "choice": self.choice.currentData(),
            "area_nm2" if self.area.in_nm2 else "area_px": limits,
            "overlaps": self.overlaps.currentData(),
            "fill_holes_px": self.holes.value(),
            "drop_specks_px": self.specks.value(),
            "views": self.views.currentData(),
            "min_stability": self.stability.value(),
            "min_iou": self.iou.value(),
            "scale": self.scale.value() or None,
            "exclude_data_bar": self.data_bar.isChecked(),
        }
        if limits is not None and limits[0] > limits[1]:
            raise SettingsError("the smallest area is above the largest; swap them.")
        try:
            return PromptSettings(**fields)
        except ValidationError as error:
            raise SettingsError(explain(error)) from error


def _choice(items: Mapping[Any, tuple[str, str]], chosen: Any) -> QComboBox:
    choice = QComboBox()
    for value, (title, tip) in items.items():
        choice.addItem(title, value)
        choice.setItemData(choice.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
    choice.setCurrentIndex(choice.findData(chosen))
    return shrink(choice)


def _number(most: float, zero: str, step: float, decimals: int = 0) -> QDoubleSpinBox:
    """Field for a number, of which 0 stands for something else."""
    box = QDoubleSpinBox()
    box.setDecimals(decimals)
    box.setRange(0, most)
    box.setSingleStep(step)
    box.setSpecialValueText(zero)
    box.setMinimumWidth(60)
    return box


def _pixels(value: int) -> QSpinBox:
    box = QSpinBox()
    box.setRange(0, 1 << 20)
    box.setSuffix(" px")
    box.setValue(value)
    return box


def _share(value: float) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(0, 1)
    box.setSingleStep(0.05)
    box.setValue(value)
    return box


def _side_by_side(*widgets: QWidget) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return row

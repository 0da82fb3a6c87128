"""Labels layers to learn from: which, painted over which image, and which of them to hold out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.evaluate_watch import Watch
from napari_matseg._napari.layers import (
    file_of,
    full_resolution,
    micrograph_from_layer,
    placement,
    record_of,
    specs_of,
)
from napari_matseg._napari.parts import LayerChoice, shrink, text_label
from napari_matseg._napari.prompt_places import shape_of
from napari_matseg._napari.train_data import FromLayers, say_held_out
from napari_matseg.core.figures.plot import shortened
from napari_matseg.core.train_pairs import Painted, file_names
from napari_matseg.core.truth_pictures import MOST_CLASSES
from napari_matseg.errors import InputError
from napari_matseg.settings import Colour

HELP = (
    "Paint a few strokes of <b>every</b> class over an image: label 1 is the first class (matrix or background), label "
    "2 the second, and so on. What is not painted (0) is <b>ignored</b>; it is not background."
)
WIDE = "What is 0 is background or matrix, the first class; the whole image is labelled."
LONGEST = 24  # letters of a layer's name


@dataclass
class _Row:
    """A labels layer, and what the user says of it."""

    layer: Labels
    use: QCheckBox
    image: LayerChoice
    hold_out: QCheckBox


class PaintedLayers(QWidget):
    """The labels layers of the viewer, each with the image that it is painted over."""

    changed = Signal()
    """Something else may be learnt from."""

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._rows: list[_Row] = []
        self._watch = Watch(viewer, self)
        self._watch.settled.connect(self.changed)
        self.help = text_label()
        self.nothing = shrink(QComboBox())
        self.nothing.addItem("not painted: ignored", True)
        self.nothing.addItem("background or matrix, the first class", False)
        self.new_button = QPushButton("New layer to paint in")
        self.new_button.setToolTip("A labels layer over the image that is selected, with a brush and label 1.")
        self._grid = QGridLayout()
        self._grid.setColumnStretch(1, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.addWidget(self.help)
        layout.addLayout(self._grid)
        below = QGridLayout()
        below.addWidget(QLabel("0 is"), 0, 0)
        below.addWidget(self.nothing, 0, 1)
        below.addWidget(self.new_button, 0, 2)
        below.setColumnStretch(1, 1)
        layout.addLayout(below)
        layout.addStretch()
        self.new_button.clicked.connect(self.add_layer)
        self.nothing.currentIndexChanged.connect(self._on_changed)
        self._events = [viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.renamed]
        for event in self._events:
            event.connect(self.refresh)
        self.refresh()

    @property
    def layers(self) -> list[Labels]:
        """Those that are ticked."""
        return [row.layer for row in self._rows if row.use.isChecked()]

    @property
    def sparse(self) -> bool:
        """Whether what is 0 is ignored."""
        return bool(self.nothing.currentData())

    def refresh(self, event: object = None) -> None:
        """List the layers anew; what is ticked stays."""
        there = [layer for layer in self._viewer.layers if isinstance(layer, Labels)]
        kept = [row for row in self._rows if row.layer in there]
        for row in self._rows:
            if row not in kept:
                _take_out(row)
        known = [row.layer for row in kept]
        new = [self._make_row(layer) for layer in there if layer not in known]
        self._rows = kept + new
        for y, row in enumerate(self._rows):
            row.use.setText(shortened(row.layer.name, LONGEST))
            for x, widget in enumerate((row.use, row.image, row.hold_out)):
                self._grid.addWidget(widget, y, x)
        if any(row.use.isChecked() and specs_of(row.layer.metadata) for row in new):
            self.nothing.setCurrentIndex(self.nothing.findData(False))
        self._on_changed()

    def add_layer(self) -> Labels | None:
        """Add a layer to paint in over the image that is selected, or the topmost."""
        images = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        if not images:
            return None
        active = self._viewer.layers.selection.active
        image = active if active in images else images[-1]
        data = np.zeros(shape_of(image), dtype=np.uint8)
        layer = self._viewer.add_labels(data, name=f"{image.name} painted", opacity=0.7, **placement(image))
        layer.brush_size, layer.mode = max(4, round(min(shape_of(image)[-2:]) / 80)), "paint"
        return layer

    def values(self) -> dict[int, int]:
        """Pixels of each value in the ticked layers.

        Raises
        ------
        InputError
            If they hold objects instead of classes, or cannot be painted in.
        """
        pixels: dict[int, int] = {}
        for layer in self.layers:
            labels = full_resolution(layer)
            if not isinstance(labels, np.ndarray):
                raise InputError(f"{layer.name}: lies in a file; save it, and choose its folder under Folders.")
            found, counts = np.unique(labels, return_counts=True)
            if len(found) > MOST_CLASSES + 1:
                raise InputError(f"{layer.name}: has {len(found)} values: these are objects; untick it.")
            for value, count in zip(found.tolist(), counts.tolist(), strict=True):
                pixels[value] = pixels.get(value, 0) + count
        return {value: pixels[value] for value in sorted(pixels) if value or not self.sparse}

    def known(self, value: int) -> tuple[str, Colour]:
        """Name and colour that the ticked layers have for a value."""
        colour, name = (0, 0, 0), f"class {value}"
        for layer in self.layers:
            specs = specs_of(layer.metadata)
            if specs is not None and value < len(specs):
                return specs[value].name, specs[value].colour
            shown = layer.get_color(value)
            if shown is not None and shown[3] > 0:
                colour = tuple(round(255 * float(part)) for part in shown[:3])
        return name, colour

    def held_out(self) -> str:
        """Say what a model will be judged by."""
        rows = [row for row in self._rows if row.use.isChecked()]
        return say_held_out(len(rows), sum(row.hold_out.isChecked() for row in rows)) if rows else ""

    def data(self, values: Mapping[int, object]) -> FromLayers:
        """Take what is painted, as it is now.

        Raises
        ------
        InputError
            If nothing is, or an image is missing, or painted over twice.
        """
        rows = [row for row in self._rows if row.use.isChecked()]
        if not rows:
            raise InputError("there is nothing to learn from; tick a labels layer, or add one and paint in it.")
        images: list[Layer] = []
        for row in rows:
            image = row.image.layer
            if image is None or shape_of(image) != shape_of(row.layer):
                raise InputError(f"{row.layer.name}: choose the image that it is painted over, of the same shape.")
            if image in images:
                raise InputError(f"{image.name}: two ticked layers are painted over it; untick one.")
            images.append(image)
        names = file_names([image.name for image in images])
        painted = tuple(
            Painted(name, micrograph_from_layer(image), np.array(full_resolution(row.layer)))
            for name, image, row in zip(names, images, rows, strict=True)
        )
        held_out = frozenset(name for name, row in zip(names, rows, strict=True) if row.hold_out.isChecked())
        return FromLayers(painted, tuple(map(file_of, images)), tuple(values), held_out)

    def forget(self) -> None:
        """Take no more notice of the viewer."""
        for event in self._events:
            event.disconnect(self.refresh)
        self._watch.forget()
        for row in self._rows:
            row.image.forget()

    def _make_row(self, layer: Labels) -> _Row:
        image = LayerChoice(self._viewer, [Image], prefer=lambda other: shape_of(other) == shape_of(layer))
        use, hold_out = QCheckBox(), QCheckBox("hold out")
        use.setToolTip(f"Learn from {layer.name}.")
        hold_out.setToolTip("Do not learn from this image, but judge by it.")
        use.setChecked(record_of(layer) is None and image.layer is not None)
        use.toggled.connect(self._on_changed)
        hold_out.toggled.connect(self._on_changed)
        image.currentIndexChanged.connect(self._on_changed)
        return _Row(layer, use, image, hold_out)

    def _on_changed(self, *_changed: object) -> None:
        self.help.setText(HELP if self.sparse else WIDE)
        several = len(self.layers) > 1
        for row in self._rows:
            row.hold_out.setEnabled(several and row.use.isChecked())
            row.hold_out.setVisible(several)
            row.hold_out.setChecked(row.hold_out.isChecked() and row.hold_out.isEnabled())
        self._watch.watch(*self.layers)
        self.changed.emit()


def _take_out(row: _Row) -> None:
    row.image.forget()
    for widget in (row.use, row.image, row.hold_out):
        widget.setParent(None)
        widget.deleteLater()

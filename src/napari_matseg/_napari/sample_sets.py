"""Public sets of micrographs with truth: read the licence, fetch one, open its images."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QComboBox, QListWidget, QListWidgetItem, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.docks import Dock
from napari_matseg._napari.jobs import Job
from napari_matseg._napari.layers import LayerData, classes_layer, image_layer, objects_layer, placement_of
from napari_matseg._napari.parts import shrink, text_label
from napari_matseg._napari.run_bar import RunBar
from napari_matseg.core.read import read
from napari_matseg.core.samples import PUBLIC, fetch_set, pairs, samples_folder, say_source, source_of
from napari_matseg.core.synthetic.demo import CLASSES
from napari_matseg.errors import MatsegError

WIDGET = "Public sample sets"
WIDTH, LIST_HEIGHT = 340, 160  # px
BLUE, RED = (0, 0, 255), (255, 0, 0)
"""Colours of secondary and tertiary precipitates in NASA's masks."""


def set_layers(name: str, image: Path, truth: Path) -> list[LayerData]:
    """Image of a set, and its truth as objects or classes.

    Raises
    ------
    InputError
        If one of the files cannot be read.
    """
    micrograph, true = read(image), read(truth, find_bar=False)
    place, title = placement_of(micrograph), f"{image.stem} truth"
    pixels = np.asarray(true.pixels)
    if true.is_colour:
        classes = np.zeros(pixels.shape[:2], np.uint8)
        for number, colour in enumerate((BLUE, RED), start=1):
            classes[(pixels == colour).all(axis=-1)] = number
        return [image_layer(micrograph, image.stem), classes_layer(classes, CLASSES["superalloy"], title, place)]
    if name == "emps":
        return [image_layer(micrograph, image.stem), objects_layer(pixels.astype(np.uint32), title, place)]
    return [
        image_layer(micrograph, image.stem),
        classes_layer(pixels.astype(np.uint8), CLASSES["cracks"], title, place),
    ]


class SampleSetsWidget(Dock):
    """Fetches a public set of micrographs when its button is pressed, and opens what is chosen of it."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer
        self._job = Job(self)
        self._job.succeeded.connect(self._on_succeeded)
        self._job.ended.connect(self._on_ended)
        self.which = QComboBox()
        for name, one in PUBLIC.items():
            self.which.addItem(f"{name.upper()}: {one.title.partition(':')[0]}", name)
        self.about = text_label()
        self.run_bar = RunBar(self._job, self.run, "Fetch", units="")
        self.images = QListWidget()
        self.images.setMinimumHeight(LIST_HEIGHT)
        self.open_button = QPushButton("Open with its truth")
        layout = QVBoxLayout(self)
        for widget in (shrink(self.which), self.about, self.run_bar, self.images, self.open_button):
            layout.addWidget(widget)
        layout.addStretch()
        self.which.currentIndexChanged.connect(self._show)
        self.images.itemDoubleClicked.connect(self.open)
        self.open_button.clicked.connect(self.open)
        self._show()

    @property
    def name(self) -> str:
        """The set that is chosen."""
        return str(self.which.currentData())

    def choose(self, name: str) -> None:
        """Choose a set."""
        self.which.setCurrentIndex(self.which.findData(name))

    def run(self) -> None:
        """Start to fetch the set that is chosen; nothing is sent or fetched before."""
        if not self._job.running:
            self.run_bar.begin()
            self.which.setEnabled(False)
            self._job.start(fetch_set(self.name), f"Fetching {self.name}")

    def open(self) -> None:
        """Open the image that is chosen in the list, and its truth."""
        item = self.images.currentItem()
        if item is None:
            return
        try:
            layers = set_layers(self.name, *item.data(Qt.ItemDataRole.UserRole))
        except MatsegError as error:
            self.run_bar.fail(str(error))
            return
        for data in layers:
            self._viewer.add_layer(Layer.create(*data))

    def sizeHint(self) -> QSize:
        """Wide enough for the title that napari gives the dock."""
        return QSize(max(WIDTH, super().sizeHint().width()), super().sizeHint().height())

    def on_closed(self) -> None:
        """Stop."""
        self._job.cancel()

    def _show(self) -> None:
        """Describe the set, and list its images if they are here."""
        one, folder = PUBLIC[self.name], samples_folder() / self.name
        source = source_of(folder)
        lines = [escape(line) for line in one.describe().splitlines()]
        lines[0] = f"<b>{lines[0]}</b>"
        if source is not None:
            lines[-1] = f"sha256 of what came: {escape(str(source.get('sha256')))}"
            lines.append(f"It is in {escape(str(folder))}.")
        self.about.setText("<br>".join(lines))
        self.run_bar.run_button.setVisible(source is None)
        self.images.clear()
        for image, truth in pairs(self.name, folder) if source is not None else ():
            item = QListWidgetItem(image.relative_to(folder).as_posix())
            item.setData(Qt.ItemDataRole.UserRole, (image, truth))
            self.images.addItem(item)
        there = self.images.count() > 0
        self.images.setCurrentRow(0)
        self.images.setVisible(there)
        self.open_button.setVisible(there)

    def _on_succeeded(self, folder: Path) -> None:
        self.run_bar.say(escape(f"{len(pairs(self.name, folder))} images with truth; {say_source(folder)}."))
        self._show()

    def _on_ended(self) -> None:
        self.which.setEnabled(True)

"""What is to be segmented, and the layers that prompts come from, as fields of a form."""

from __future__ import annotations

from pathlib import Path

from napari.layers import Image, Labels, Points, Shapes
from napari.viewer import Viewer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.layers import as_read, file_of, micrograph_from_layer
from napari_matseg._napari.parts import Form, LayerChoice, shrink
from napari_matseg._napari.prompt_asked import Asked
from napari_matseg._napari.prompt_form import TITLES
from napari_matseg._napari.prompt_layers import OBJECT, collect, points_layer
from napari_matseg._napari.prompt_places import on_planes
from napari_matseg.core.point_files import read_points
from napari_matseg.errors import InputError, MatsegError

POINTS, CENTRES, EVERYTHING = "points", "centres", "everything"
WHATS = {
    POINTS: ("my points", "What you point at: points, boxes, labels."),
    CENTRES: ("detected centres", "Particles whose centres are found first, on the plane that is shown."),
    EVERYTHING: ("everything", "All that stands out, on the plane that is shown."),
}
NO_IMAGE = "There is no image; open one, or choose an image layer."


class Sources(QWidget):
    """Which image counts, what is to be segmented on it, and which points, boxes and labels count.

    Parameters
    ----------
    viewer : Viewer
    """

    failed = Signal(str)
    """One line for the user."""
    changed = Signal()
    """Something else is to be segmented."""

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.image = LayerChoice(viewer, [Image], follow=True)
        self.what_choice = QComboBox()
        for number, (what, (title, tip)) in enumerate(WHATS.items()):
            self.what_choice.addItem(title, what)
            self.what_choice.setItemData(number, tip, Qt.ItemDataRole.ToolTipRole)
        self._searched: tuple[Image, str, Points] | None = None
        self.points = LayerChoice(viewer, [Points], follow=True)
        self.shapes = LayerChoice(viewer, [Shapes], prefer=_never, none="none")
        self.labels = LayerChoice(viewer, [Labels], prefer=_never, none="none")
        self.points.setToolTip("One point on each object. Its id is in the layer's feature “object”.")
        self.shapes.setToolTip("Rectangles and polygons: one round each object.")
        self.labels.setToolTip("Labels of this image to be refined: each is a prompt, with the points of its id.")
        self.new_button, self.csv_button = QPushButton("New points"), QPushButton("From CSV…")
        self.new_button.setToolTip("A layer for points that lies on the image, ready to be clicked on.")
        self.csv_button.setToolTip("Columns y, x in pixels or y_nm, x_nm; and, if you like, object and polarity.")
        self.new_button.clicked.connect(self._on_new)
        self.csv_button.clicked.connect(self._on_csv)
        buttons = QWidget()
        row = QHBoxLayout(buttons)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.new_button)
        row.addWidget(self.csv_button)
        form, self._pointed = Form(TITLES), Form(TITLES)
        form.add("Image", self.image)
        form.add("Segment", shrink(self.what_choice))
        self._pointed.add("Points", self.points)
        self._pointed.add("", buttons)
        self._pointed.add("Boxes", self.shapes)
        self._pointed.add("Refine", self.labels)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(form)
        layout.addWidget(self._pointed)
        self.what_choice.currentIndexChanged.connect(self._on_what)
        self.image.currentIndexChanged.connect(self._on_image)

    @property
    def what(self) -> str:
        """What is to be segmented: `POINTS`, `CENTRES` or `EVERYTHING`."""
        return str(self.what_choice.currentData())

    @what.setter
    def what(self, what: str) -> None:
        self.what_choice.setCurrentIndex(self.what_choice.findData(what))

    @property
    def found_by(self) -> str:
        """What the points that are chosen were found by, or else `what`."""
        if self._searched is None or self._searched[0] != self.image.layer or self._searched[2] != self.points.layer:
            return self.what
        return self._searched[1]

    def take(self, points: Points) -> None:
        """Go on with points that were found on the image, and for another image with what was chosen before."""
        searched = self.image.layer, self.what, points
        self.points.layer = points
        self.what = POINTS
        self._searched = searched

    def forget(self) -> None:
        """Take no more notice of the viewer."""
        for choice in (self.image, self.points, self.shapes, self.labels):
            choice.forget()

    def asked(self) -> Asked:
        """Take what the layers ask for.

        Raises
        ------
        InputError
            If there is no image, or a layer cannot be used.
        """
        if self.image.layer is None:
            raise InputError(NO_IMAGE)
        layers = self.points.layer, self.shapes.layer, self.labels.layer
        return collect(self.image.layer, *layers, self._viewer.dims.point)

    def new_points(self) -> Points:
        """Add a layer for points on the image, select it and let the next click add a point.

        Raises
        ------
        InputError
            If there is no image.
        """
        image = self.image.layer
        if image is None:
            raise InputError(NO_IMAGE)
        return self._add(points_layer(image, f"{image.name} points"))

    def load_points(self, path: Path) -> Points:
        """Add points from a table.

        Raises
        ------
        MatsegError
            If there is no image, or the table cannot be used.
        """
        image = self.image.layer
        if image is None:
            raise InputError(NO_IMAGE)
        micrograph = as_read(micrograph_from_layer(image), file_of(image))
        table = read_points(path, micrograph.pixel_size_nm)
        places = on_planes(table.points_yx, table.planes, micrograph.shape_planes)
        return self._add(points_layer(image, path.stem, places, table.objects, table.positive))

    def _add(self, layer: Points) -> Points:
        self._viewer.add_layer(layer)
        self.points.layer = layer
        self._viewer.layers.selection.active = layer
        layer.mode = "add"
        return layer

    def _on_what(self) -> None:
        self._searched = None
        self._pointed.setVisible(self.what == POINTS)
        self.changed.emit()

    def _on_image(self) -> None:
        if self._searched is not None and self._searched[0] != self.image.layer:
            self.what = self._searched[1]

    def _on_new(self) -> None:
        try:
            self.new_points()
        except MatsegError as error:
            self.failed.emit(str(error))

    def _on_csv(self) -> None:
        file, _ = QFileDialog.getOpenFileName(self, "Points", "", "Tables (*.csv)")
        if not file:
            return
        try:
            self.load_points(Path(file))
        except MatsegError as error:
            self.failed.emit(str(error))


def is_ours(points: Points | None) -> bool:
    """Whether the points of a layer say which object they belong to."""
    return points is not None and OBJECT in points.features


def _never(layer: object) -> bool:
    return False

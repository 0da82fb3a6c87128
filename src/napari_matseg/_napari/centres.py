"""Detect centres: a Points layer with a point on each particle, ready for Points to masks."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from napari.layers import Image, Layer, Points
from napari.viewer import Viewer
from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QVBoxLayout, QWidget
from superqt import QLabeledDoubleSlider

from napari_matseg._napari.docks import Dock
from napari_matseg._napari.jobs import Job
from napari_matseg._napari.layers import as_read, file_of, micrograph_from_layer
from napari_matseg._napari.models import DeviceChoice, LoadedModels, ModelChoice, load_torch
from napari_matseg._napari.parts import Form, LayerChoice, shrink, text_label
from napari_matseg._napari.prompt_layers import points_layer
from napari_matseg._napari.prompt_places import on_planes
from napari_matseg._napari.run_bar import RunBar
from napari_matseg.core.centres import Centres, Responses, pick, respond_steps
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import Progress
from napari_matseg.errors import MatsegError, SettingsError
from napari_matseg.settings import CentreSettings

METHODS = {"model": "segmentation model", "log": "blobs (Laplacian of Gaussian)", "doh": "blobs (Hessian)"}
WIDTH = 340  # px
MOST = 1e6  # of a diameter
Seen = tuple[Micrograph, int, Responses]


class CentresWidget(Dock):
    """Finds the centres of particles on the plane that is shown.

    Looking at the image is done once; the sliders then choose among what was found, and the points follow.
    """

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer
        self._models = LoadedModels()
        self.destroyed.connect(self._models.clear)
        self._seen: Seen | None = None
        self._layer: Points | None = None
        self._asked: tuple[Layer, str] | None = None
        self._job = Job(self)
        self._job.succeeded.connect(self._on_succeeded)
        defaults = CentreSettings()

        self.image = LayerChoice(napari_viewer, [Image], follow=True)
        self.method = QComboBox()
        for method, title in METHODS.items():
            self.method.addItem(title, method)
        self.model = ModelChoice()
        self.device = DeviceChoice()
        self.polarity = QComboBox()
        self.polarity.addItems(["either", "bright", "dark"])
        self.smallest, self.largest = self._diameter("any size"), self._diameter("any size")
        self.sure = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.sure.setRange(0, 1)
        self.edge = QCheckBox("Leave out what reaches the edge")
        self.data_bar = QCheckBox("Leave the data bar out")
        self.data_bar.setChecked(defaults.exclude_data_bar)
        self.run_bar = RunBar(self._job, self.run, "Detect centres")
        self.found = text_label()
        self._lay_out()
        self._on_method()

        self.method.currentIndexChanged.connect(self._on_method)
        self.sure.valueChanged.connect(self._choose)
        self.edge.toggled.connect(self._choose)
        self.polarity.currentIndexChanged.connect(self._choose)
        self.smallest.valueChanged.connect(self._choose)
        self.largest.valueChanged.connect(self._choose)

    def _diameter(self, none: str) -> QDoubleSpinBox:
        field = QDoubleSpinBox()
        field.setRange(0, MOST)
        field.setDecimals(1)
        field.setSpecialValueText(none)
        return field

    def _lay_out(self) -> None:
        self._form = Form()
        for title, field in (
            ("Image", self.image),
            ("Method", shrink(self.method)),
            ("Model", shrink(self.model)),
            ("Polarity", self.polarity),
            ("Device", shrink(self.device)),
            ("", self.data_bar),
        ):
            self._form.add(title, field)
        self._choice = Form()
        for title, field in (
            ("At least", self.sure),
            ("Smallest", self.smallest),
            ("Largest", self.largest),
            ("", self.edge),
        ):
            self._choice.add(title, field)
        layout = QVBoxLayout(self)
        for widget in (self._form, self.run_bar, self._choice, self.found):
            layout.addWidget(widget)
        layout.addStretch()

    def settings(self, *, sized: bool = True) -> CentreSettings:
        """Give what the widget is set to.

        Parameters
        ----------
        sized : bool
            With the diameters; they may change once the image has been looked at.
        """
        method = self.method.currentData()
        unit = "nm" if self._pixel_size() else "px"
        sizes = {f"min_diameter_{unit}": self.smallest.value(), f"max_diameter_{unit}": self.largest.value()}
        given = {name: value for name, value in sizes.items() if value and sized}
        if method == "model" and self.model.model is None:
            raise SettingsError("there is no model; choose one, or browse for a model file.")
        if len(given) == 2 and self.smallest.value() > self.largest.value():
            raise SettingsError("the smallest diameter is above the largest; lower the one, or raise the other.")
        return CentreSettings(
            method=method,
            model=self.model.model or CentreSettings().model,
            polarity=self.polarity.currentText(),
            exclude_edge=self.edge.isChecked(),
            exclude_data_bar=self.data_bar.isChecked(),
            device=self.device.device,
            **{"depth" if method == "model" else "contrast": self.sure.value()},
            **given,
        )

    def run(self) -> None:
        """Start looking; the points come later, or an error is shown."""
        if self._job.running:
            return
        layer = self.image.layer
        if layer is None:
            self.run_bar.fail("There is no image; open one, or choose an image layer.")
            return
        try:
            settings = self.settings(sized=False)
            micrograph = as_read(micrograph_from_layer(layer), file_of(layer))
        except MatsegError as error:
            self.run_bar.fail(str(error))
            return
        step = [int(n) for n in self._viewer.dims.current_step[-layer.ndim :]][: len(micrograph.shape_planes)]
        plane = int(np.ravel_multi_index(step, micrograph.shape_planes)) if step else 0
        self._seen, self._layer, self._asked = None, None, (layer, f"{layer.name} centres")
        self.run_bar.begin()
        self._job.start(_look(micrograph, plane, settings, self._models), f"Detecting centres on {layer.name}")

    def on_closed(self) -> None:
        """Stop, and give back what is held."""
        self._job.cancel()
        self.image.forget()
        if not self._job.running:
            self._models.clear()

    def sizeHint(self) -> QSize:
        """Wide enough for the title that napari gives the dock."""
        size = super().sizeHint()
        return QSize(max(WIDTH, size.width()), size.height())

    def _pixel_size(self) -> bool:
        layer = self.image.layer
        try:
            return layer is not None and micrograph_from_layer(layer).pixel_size_nm is not None
        except MatsegError:
            return False

    def _on_method(self) -> None:
        is_model = self.method.currentData() == "model"
        defaults = CentreSettings()
        self.model.setEnabled(is_model)
        self.polarity.setEnabled(not is_model)
        self.sure.setValue(defaults.depth if is_model else defaults.contrast)
        self.sure.setToolTip("How sure the model must be." if is_model else "Contrast as a share of the grey range.")

    def _on_succeeded(self, seen: Seen) -> None:
        self._seen = seen
        unit = " nm" if seen[0].pixel_size_nm else " px"
        self.smallest.setSuffix(unit)
        self.largest.setSuffix(unit)
        self._choose()

    def _choose(self, *_changed: object) -> None:
        """Let the points be those that the sliders ask for."""
        if self._seen is None or self._asked is None:
            return
        image, name = self._asked
        if image not in self._viewer.layers:
            return
        micrograph, plane, responses = self._seen
        try:
            settings = self.settings()
            if not responses.covers(settings):
                self.found.setText("Press <i>Detect centres</i> again for these settings.")
                return
            centres = pick(responses, settings)
        except MatsegError as error:
            self.run_bar.fail(str(error))
            return
        self._show(image, name, centres, plane, micrograph)

    def _show(self, image: Layer, name: str, centres: Centres, plane: int, micrograph: Micrograph) -> None:
        planes = np.full(len(centres), plane)
        layer = points_layer(image, name, on_planes(centres.points_yx, planes, micrograph.shape_planes))
        features = layer.features.assign(diameter_px=centres.diameter_px, strength=centres.strength)
        if self._layer is not None and self._layer in self._viewer.layers:
            self._layer.data = layer.data
            self._layer.features = features
        else:
            layer.features = features
            self._layer = self._viewer.add_layer(layer)
        self.found.setText(f"{len(centres)} centres. <i>Points to masks</i> makes a mask for each.")


def _look(
    micrograph: Micrograph, plane: int, settings: CentreSettings, models: LoadedModels
) -> Generator[Progress, None, Seen]:
    """`respond_steps` with a model that may be in memory."""
    yield Progress(0, 1, "loading the model")
    loaded = None
    if settings.method == "model":
        load_torch()
        loaded = models.get(settings.model, settings.device)
    return micrograph, plane, (yield from respond_steps(micrograph, settings, plane=plane, loaded=loaded))

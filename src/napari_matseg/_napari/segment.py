"""Segment a micrograph: choose image and model, press the button."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from napari.layers import Image, Layer
from napari.viewer import Viewer
from qtpy.QtCore import QSize
from qtpy.QtWidgets import QCheckBox, QLineEdit, QSpinBox, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_matseg._napari.arriving import ArrivingLayer, with_preview
from napari_matseg._napari.docks import Dock
from napari_matseg._napari.jobs import Job
from napari_matseg._napari.layers import (
    as_read,
    classes_layer,
    file_of,
    micrograph_from_layer,
    objects_layer,
)
from napari_matseg._napari.models import (
    DeviceChoice,
    LoadedModels,
    ModelChoice,
    TilingChoice,
    describe_card,
    load_torch,
)
from napari_matseg._napari.parts import Form, LayerChoice, shrink, text_label
from napari_matseg._napari.recipes import RecipeBar, segment_recipe
from napari_matseg._napari.run_bar import CANCELLED, RunBar
from napari_matseg._napari.summary import summarise
from napari_matseg._napari.uncertainty import UncertaintyBar
from napari_matseg.core.checkpoints import ModelCard
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import Arrived, Progress
from napari_matseg.errors import MatsegError, SettingsError
from napari_matseg.pipeline import Segmentation, change, segment_steps
from napari_matseg.settings import Recipe, SegmentSettings

OUTLINE, WIDTH = 2, 340  # px


class SegmentWidget(Dock):
    """Segments an image layer with a model; the classes become a labels layer that lies on the image.

    Every run adds a layer, and napari numbers names that are taken: nothing is ever overwritten.
    """

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer
        self._models = LoadedModels()
        self.destroyed.connect(self._models.clear)
        self._arriving: ArrivingLayer | None = None
        self._job = Job(self)
        self._job.succeeded.connect(self._on_succeeded)
        self._job.ended.connect(self._on_ended)

        self.image = LayerChoice(napari_viewer, [Image], follow=True)
        self.model = ModelChoice()
        self.about = text_label()
        self.device = DeviceChoice()
        self.result_name = QLineEdit()
        self.tiling = TilingChoice()
        self.tile = QSpinBox()
        self.tile.setRange(0, 1 << 16)
        self.tile.setSingleStep(64)
        self.tile.setSpecialValueText("automatic")
        self.tile.setSuffix(" px")
        defaults = SegmentSettings()
        self.objects = QCheckBox("Separate touching objects")
        self.objects.setToolTip("Also adds a layer in which every object has an id of its own.")
        self.objects.setChecked(defaults.instances)
        self.data_bar = QCheckBox("Leave the data bar out")
        self.data_bar.setToolTip(
            "The instrument's data bar becomes class 0 and does not count, if the file tells of it."
        )
        self.data_bar.setChecked(defaults.exclude_data_bar)
        self.run_bar = RunBar(self._job, self.run, "Segment")
        self._job.progressed.connect(self._on_progressed)
        self.unsure = UncertaintyBar(napari_viewer, self.image, self.settings, self._models, self._job)
        self.unsure.busy.connect(self.run_bar.setDisabled)
        self.recipe_bar = RecipeBar(self.recipe)
        self._lay_out()

        self.image.currentIndexChanged.connect(self._suggest_name)
        self.image.refreshed.connect(self._suggest_name)
        self.model.currentIndexChanged.connect(self._describe_model)
        self._describe_model()

    def _lay_out(self) -> None:
        self._form = Form()
        self._form.add("Image", self.image)
        self._form.add("Model", shrink(self.model))
        self._form.add("", self.about)
        self._form.add("Device", shrink(self.device))
        self._form.add("Result", self.result_name)
        advanced = Form()
        advanced.add("Tiling", shrink(self.tiling))
        advanced.add("Tile size", self.tile)
        advanced.add("", self.objects)
        advanced.add("", self.data_bar)
        self.advanced = QCollapsible("Advanced", expandedIcon="▾", collapsedIcon="▸")
        self.advanced.addWidget(advanced)
        layout = QVBoxLayout(self)
        for widget in (self._form, self.advanced, self.run_bar, self.unsure, self.recipe_bar):
            layout.addWidget(widget)
        layout.addStretch()

    def settings(self) -> SegmentSettings:
        """Give what the widget is set to.

        Raises
        ------
        SettingsError
            If no model is chosen, or the tile is too small.
        """
        if self.model.model is None:
            raise SettingsError("there is no model; choose one, or browse for a model file.")
        return change(
            SegmentSettings(),
            {
                "model": self.model.model,
                "device": self.device.device,
                "tiling": self.tiling.tiling,
                "tile": self.tile.value() or None,
                "instances": self.objects.isChecked(),
                "exclude_data_bar": self.data_bar.isChecked(),
            },
        )

    def recipe(self) -> Recipe:
        """Give what the widget is set to as what is to be done to other micrographs, too.

        Raises
        ------
        MatsegError
            As of `settings`, or if the image cannot be used.
        """
        return segment_recipe(self.settings(), self.image.layer)

    def run(self) -> None:
        """Start segmenting; the result comes later, or an error is shown."""
        if self._job.running:
            return
        layer = self.image.layer
        if layer is None:
            self.run_bar.fail("There is no image; open one, or choose an image layer.")
            return
        try:
            settings = self.settings()
            micrograph = micrograph_from_layer(layer)
        except MatsegError as error:
            self.run_bar.fail(str(error))
            return
        name = self.result_name.text().strip() or self.result_name.placeholderText()
        self._arriving = ArrivingLayer(self._viewer, layer, name)
        self._form.setEnabled(False)
        self.advanced.setEnabled(False)
        self.run_bar.cancelled = CANCELLED
        self.run_bar.begin()
        work = _segment(micrograph, file_of(layer), settings, self._models)
        self._job.start(work, f"Segmenting {layer.name}")

    def on_closed(self) -> None:
        """Stop, and give back what is held: the model's memory, and the viewer's events."""
        self._job.cancel()
        self.unsure.close_job()
        self.image.forget()
        if not self._job.running and not self.unsure.running:
            self._models.clear()

    def sizeHint(self) -> QSize:
        """Wide enough for the title that napari gives the dock."""
        size = super().sizeHint()
        return QSize(max(WIDTH, size.width()), size.height())

    def _on_progressed(self, step: Progress) -> None:
        if self._arriving is None or not isinstance(step, Arrived):
            return
        self.run_bar.cancelled = self._arriving.describe_cancelled(step)
        self._arriving.show(step)

    def _on_succeeded(self, outcome: tuple[Segmentation, ModelCard]) -> None:
        result, card = outcome
        if self._arriving is None:
            return
        name, place = self._arriving.name, self._arriving.place
        kept = {"size_nm": result.record["image"]["pixel_size_nm"], "record": result.record}
        layers = [classes_layer(result.classes, result.specs, name, place, **kept)]
        if result.instances is not None:
            layers.append(objects_layer(result.instances, f"{name} objects", place, **kept))
        self._arriving.replace_by(Layer.create(*layers[0]))
        added = [self._viewer.add_layer(Layer.create(*data)) for data in layers[1:]]
        if result.instances is not None:
            added[-1].contour, added[-1].opacity = OUTLINE, 1  # the classes below stay to be seen
        self.run_bar.say(summarise(result, card))

    def _on_ended(self, cancelled: bool) -> None:
        if self._arriving is not None:
            self._arriving.remove()
        self._arriving = None
        self._form.setEnabled(True)
        self.advanced.setEnabled(True)
        if self._closed:
            self._models.clear()

    def _describe_model(self) -> None:
        model = self.model.model
        self._suggest_name()
        if model is None:
            self.about.setText("No models here; browse for a model file." if self.model.count() < 3 else "")
            return
        text, whole = describe_card(model)
        self.about.setText(text)
        self.about.setToolTip(whole)

    def _suggest_name(self) -> None:
        image, model = self.image.layer, self.model.currentText()
        self.result_name.setPlaceholderText(
            "" if image is None else f"{image.name} {model.removesuffix('.safetensors')}"
        )


def _segment(
    micrograph: Micrograph, file: Path | None, settings: SegmentSettings, models: LoadedModels
) -> Generator[Progress, None, tuple[Segmentation, ModelCard]]:
    """`segment_steps` with a model that may be in memory, on a layer as if our reader had read it."""
    yield Progress(0, 1, "loading the model")
    load_torch()
    model = models.get(settings.model, settings.device)
    work = segment_steps(as_read(micrograph, file), settings, loaded=model)
    result = yield from with_preview(work, model.card.classes)
    return result, model.card

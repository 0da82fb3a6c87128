"""Segment a micrograph: choose image and model, press the button."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from html import escape
from typing import Any

from napari.layers import Image, Layer
from napari.viewer import Viewer
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QCheckBox, QComboBox, QLineEdit, QSpinBox, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_matseg._napari.jobs import Job
from napari_matseg._napari.layers import classes_layer, full_resolution, micrograph_from_layer, objects_layer, placement
from napari_matseg._napari.models import DeviceChoice, LoadedModels, ModelChoice, load_torch
from napari_matseg._napari.parts import LayerChoice, RunBar, form, shrink, swatch, text_label
from napari_matseg.core.checkpoints import ModelCard, read_card
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import Progress
from napari_matseg.errors import MatsegError, SettingsError
from napari_matseg.pipeline import Segmentation, change, segment_steps
from napari_matseg.settings import SegmentSettings

TILINGS = {
    "auto": ("automatic", "A halo that changes at most 0.01 % of the pixels; blending where the network has no limit."),
    "exact": ("exact", "A halo as wide as the network sees: the same result as without tiles, but slower."),
    "blend": ("blend", "Tiles that overlap are averaged."),
    "whole": ("no tiles", "The whole image at once; takes the most memory."),
}


@dataclass(frozen=True)
class _Target:
    """Where the result is to go, as it was when the run started."""

    layer: Layer
    shape: tuple[int, ...]
    place: dict[str, Any]
    name: str
    size_nm: tuple[float, float] | None


class SegmentWidget(QWidget):
    """Segments an image layer with a model; the classes become a labels layer that lies on the image.

    Every run adds a layer, and napari numbers names that are taken: nothing is ever overwritten.
    """

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer
        self._models = LoadedModels()
        self._target: _Target | None = None
        self._job = Job(self)
        self._job.succeeded.connect(self._on_succeeded)
        self._job.ended.connect(self._on_ended)

        self.image = LayerChoice(napari_viewer, [Image], follow=True)
        self.model = ModelChoice()
        self.about = text_label()
        self.device = DeviceChoice()
        self.result_name = QLineEdit()
        self.tiling = QComboBox()
        for tiling, (title, tip) in TILINGS.items():
            self.tiling.addItem(title, tiling)
            self.tiling.setItemData(self.tiling.count() - 1, tip, 3)  # Qt.ToolTipRole
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
        self.data_bar.setToolTip("The instrument's data bar becomes class 0 and does not count, if the file tells of it.")
        self.data_bar.setChecked(defaults.exclude_data_bar)
        self.run_bar = RunBar(self._job, self.run, "Segment")
        self._lay_out()

        self.image.currentIndexChanged.connect(self._suggest_name)
        self.model.currentIndexChanged.connect(self._describe_model)
        self._describe_model()

    def _lay_out(self) -> None:
        self._form = QWidget()
        main = form()
        self._form.setLayout(main)
        main.addRow("Image", self.image)
        main.addRow("Model", shrink(self.model))
        main.addRow("", self.about)
        main.addRow("Device", shrink(self.device))
        main.addRow("Result", self.result_name)
        advanced = QWidget()
        advanced.setLayout(more := form())
        more.addRow("Tiling", shrink(self.tiling))
        more.addRow("Tile size", self.tile)
        more.addRow(self.objects)
        more.addRow(self.data_bar)
        self.advanced = QCollapsible("Advanced", expandedIcon="▾", collapsedIcon="▸")
        self.advanced.addWidget(advanced)
        layout = QVBoxLayout(self)
        for widget in (self._form, self.advanced, self.run_bar):
            layout.addWidget(widget)
        layout.addStretch()

    def settings(self) -> SegmentSettings:
        """What the widget is set to.

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
                "tiling": self.tiling.currentData(),
                "tile": self.tile.value() or None,
                "instances": self.objects.isChecked(),
                "exclude_data_bar": self.data_bar.isChecked(),
            },
        )

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
        shape = tuple(full_resolution(layer).shape)
        self._target = _Target(layer, shape, placement(layer), name, micrograph.pixel_size_nm)
        self._form.setEnabled(False)
        self.advanced.setEnabled(False)
        self.run_bar.begin()
        self._job.start(_segment(micrograph, settings, self._models), f"Segmenting {layer.name}")

    def close_job(self) -> None:
        """Stop, and give back what is held: the model's memory, and the viewer's events."""
        self._job.cancel()
        self.image.forget()
        if not self._job.running:
            self._models.clear()

    def event(self, event: QEvent) -> bool:
        """Notice that the dock was closed, of which napari tells only by taking the widget out."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.close_job()
        return bool(super().event(event))

    def _on_succeeded(self, outcome: tuple[Segmentation, ModelCard]) -> None:
        result, card = outcome
        target = self._target
        if target is None:
            return
        place = target.place
        if target.layer in self._viewer.layers and tuple(full_resolution(target.layer).shape) == target.shape:
            place = placement(target.layer)  # it may have been moved meanwhile
        kept = {"size_nm": target.size_nm, "record": result.record}
        layers = [classes_layer(result.classes, result.specs, target.name, place, **kept)]
        if result.instances is not None:
            layers.append(objects_layer(result.instances, f"{target.name} objects", place, **kept))
        for data in layers:
            self._viewer.add_layer(Layer.create(*data))
        self.run_bar.say(summarise(result, card))

    def _on_ended(self, cancelled: bool) -> None:
        self._target = None
        self._form.setEnabled(True)
        self.advanced.setEnabled(True)
        if self.parent() is None:
            self._models.clear()

    def _describe_model(self) -> None:
        model = self.model.model
        self._suggest_name()
        if model is None:
            self.about.setText("No models here; browse for a model file." if self.model.count() < 3 else "")
            return
        try:
            card = read_card(model)
        except MatsegError as error:
            self.about.setText(escape(str(error)))
            return
        classes = ", ".join(swatch(spec) for spec in card.classes[1:])
        self.about.setText(f"{escape(card.description)}<br>{classes}" if card.description else classes)
        self.about.setToolTip(card.to_text())

    def _suggest_name(self) -> None:
        image, model = self.image.layer, self.model.currentText()
        self.result_name.setPlaceholderText("" if image is None else f"{image.name} {model.removesuffix('.safetensors')}")


def _segment(
    micrograph: Micrograph, settings: SegmentSettings, models: LoadedModels
) -> Generator[Progress, None, tuple[Segmentation, ModelCard]]:
    """`segment_steps` with a model that may be in memory."""
    yield Progress(0, 1, "loading the model")
    load_torch()
    model = models.get(settings.model, settings.device)
    result = yield from segment_steps(micrograph, settings, loaded=model)
    return result, model.card


def summarise(result: Segmentation, card: ModelCard) -> str:
    """Say in rich text what came out, in what time, and what to know of it."""
    record = result.record
    shares = [f"{swatch(spec)}&nbsp;{record['fractions'][spec.name]:.1%}" for spec in result.specs[1:]]
    if result.instances is not None:
        planes = result.instances.reshape(-1, result.instances.shape[-2] * result.instances.shape[-1])
        shares.append(f"{int(planes.max(axis=1).astype(int).sum())} objects")
    *planes_shape, height, width = result.classes.shape
    size = f"{width} × {height} px" + "".join(f" × {n}" for n in planes_shape)
    first, n_tiles = record["planes"][0]["tiling"], sum(plane["tiling"]["tiles"] for plane in record["planes"])
    tiles = f"{n_tiles} tile{'s' if n_tiles != 1 else ''}"
    tiles += {"halo": f", halo {first['halo']} px", "blend": ", blended"}.get(first["strategy"], "")
    lines = [", ".join(shares), f"{size} in {record['seconds']:.1f} s on {record['device']} ({tiles})."]
    start, stop = record["segmented_rows"]
    if stop - start < height:
        rows = f"{stop + 1} to {height}" if start == 0 else f"1 to {start}"
        lines.append(f"Without the data bar, rows {rows}.")
    if first["strategy"] == "blend" and card.reach is None:
        measured = "an unknown share" if card.disagreement is None else f"{card.disagreement:.2%}"
        lines.append(f"Tiles were blended, which gives {measured} of the pixels another class than one pass over all.")
    return "<br>".join(lines)



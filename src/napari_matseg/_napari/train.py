"""Train a model on micrographs that are painted in the viewer, or on folders of images and truths."""

from __future__ import annotations

from html import escape
from pathlib import Path

from napari.viewer import Viewer
from qtpy.QtCore import QSize, QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QHBoxLayout, QPushButton, QTabWidget, QVBoxLayout, QWidget

from napari_matseg._napari.docks import Dock
from napari_matseg._napari.jobs import Job
from napari_matseg._napari.models import ModelChoice
from napari_matseg._napari.parts import Scroll
from napari_matseg._napari.segment import SegmentWidget
from napari_matseg._napari.train_bar import TrainBar
from napari_matseg._napari.train_classes import ClassTable
from napari_matseg._napari.train_data import NOTHING_HELD_OUT
from napari_matseg._napari.train_folders import FolderPairs
from napari_matseg._napari.train_form import TrainForm
from napari_matseg._napari.train_job import Asked, Trained, give_back, train
from napari_matseg._napari.train_layers import PaintedLayers
from napari_matseg._napari.train_live import LivePane
from napari_matseg._napari.train_preview import AugmentPreview
from napari_matseg.core.checkpoints import ModelCard
from napari_matseg.core.progress import Progress, finish
from napari_matseg.core.train import TrainProgress
from napari_matseg.core.train_pairs import write_training
from napari_matseg.errors import InputError, MatsegError
from napari_matseg.settings import TrainSettings

WIDTH, HEIGHT = 430, 820  # px
SEGMENT = "Segment micrograph"


class TrainWidget(Dock):
    """Trains a model, shows how it learns, and puts it among the models."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer
        self.trained: Trained | None = None
        self._asked: Asked | None = None
        self._job = Job(self)
        self._job.progressed.connect(self._on_progressed)
        self._job.succeeded.connect(self._on_succeeded)
        self._job.ended.connect(self._on_ended)

        self.layers, self.folders = PaintedLayers(napari_viewer), FolderPairs()
        self.sources = QTabWidget()
        self.sources.addTab(self.layers, "Painted layers")
        self.sources.addTab(self.folders, "Folders")
        self.classes = ClassTable()
        self.form = TrainForm()
        self.run_bar = TrainBar(self._job, self.run)
        self.live = LivePane()
        self.segment_button = QPushButton("Segment with it")
        self.segment_button.setVisible(False)
        self.recipe_button = QPushButton("Save recipe…")
        self.recipe_button.setToolTip(
            "A text file that napari-matseg train makes the same model of, and beside it what is painted, as images "
            "and labels."
        )
        self._lay_out()
        for part in (self.layers, self.folders, self.classes, self.form):
            part.changed.connect(self._judge)
        self.sources.currentChanged.connect(self._judge)
        self.form.preview_button.clicked.connect(self.preview)
        self.segment_button.clicked.connect(self.segment)
        self.recipe_button.clicked.connect(self._ask_and_save)
        self._judge()

    def _lay_out(self) -> None:
        self._fields = QWidget()
        fields = QVBoxLayout(self._fields)
        fields.setContentsMargins(0, 0, 0, 0)
        for widget in (self.sources, self.classes, self.form):
            fields.addWidget(widget)
        inner = QWidget()
        layout = QVBoxLayout(inner)
        for widget in (self._fields, self.run_bar, self.live):
            layout.addWidget(widget)
        below = QHBoxLayout()
        below.addWidget(self.segment_button)
        below.addWidget(self.recipe_button)
        layout.addLayout(below)
        layout.addStretch()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        self._scroll = Scroll(inner)
        outer.addWidget(self._scroll)

    def asked(self, name: str | None = None) -> Asked:
        """Take what is chosen and painted, as it is now.

        Raises
        ------
        MatsegError
            If something is missing or makes no sense.
        """
        classes = self.classes.classes()
        source = self.sources.currentWidget()
        data = self.layers.data(classes) if source is self.layers else self.folders.data()
        if len(classes) < 2:
            painted = ", ".join(spec.name for spec in classes.values()) or "nothing"
            raise InputError(f"a model needs two classes or more, and there is {painted}; paint another one, too.")
        return Asked(self.form.settings(name or self.form.chosen_name(), data, tuple(classes.values())), data)

    def run(self) -> None:
        """Start training; the model comes later, or an error is shown."""
        if self._job.running:
            return
        try:
            self._judge()
            asked = self.asked()
        except MatsegError as error:
            self.run_bar.fail(str(error))
            return
        self._asked = asked
        settings = asked.settings
        self._fields.setVisible(False)  # so that what is live is to be seen
        self.recipe_button.setEnabled(False)
        self.segment_button.setVisible(False)
        self.live.title.setText(f"<b>{escape(settings.name)}</b>: {self.form.about_text}")
        self.live.begin(settings.classes, settings.steps, settings.name, held_out=settings.data.validates)
        self.run_bar.begin()
        self._job.start(train(asked, self.run_bar.control), f"Training {settings.name}")

    def preview(self) -> None:
        """Show crops as the training will see them."""
        try:
            asked = self.asked()
        except MatsegError as error:
            self.run_bar.fail(str(error))
            return
        settings = asked.settings
        AugmentPreview(asked.data.example(settings.architecture.in_channels), settings, self).show()

    def segment(self) -> None:
        """Open the widget that segments, with the model that was trained."""
        if self.trained is None:
            return
        _, widget = self._viewer.window.add_plugin_dock_widget("napari-matseg", SEGMENT)
        if isinstance(widget, SegmentWidget):
            widget.model.refresh()
            widget.model.model = self.trained.card.name

    def save(self, folder: Path) -> Path:
        """Write the recipe of the model that was trained, or of what is chosen now, and the data beside it.

        Raises
        ------
        MatsegError
            If something is missing, or cannot be written.
        """
        asked = None
        if self.trained is not None:
            now = self.asked(self.trained.card.name)
            if now.same(self.trained.asked):  # with the step that it was stopped at
                asked = Asked(TrainSettings.model_validate(self.trained.card.recipe), now.data)
        asked = asked or self.asked()
        settings = asked.settings
        finish(asked.data.prepare(folder, settings.name, settings.classes))
        path = folder / f"{settings.name}.yaml"
        write_training(settings, path)
        return path

    def on_closed(self) -> None:
        """Stop, and give back what is held."""
        self._job.cancel()
        self.form.weights.close_job()
        self.layers.forget()
        self.folders.forget()

    def sizeHint(self) -> QSize:
        """Wide enough for the curves, which scroll where the window is low."""
        return QSize(WIDTH, HEIGHT)

    def _judge(self, *_changed: object) -> None:
        """Show the classes that there are, and say what would be held out."""
        source = self.sources.currentWidget()
        try:
            if source is self.layers:
                pixels = self.layers.values()
                self.classes.fill("layers", {value: self.layers.known(value) for value in pixels}, pixels)
                self.form.suggest(next((layer.name for layer in self.layers.layers), ""))
            else:
                found = self.folders.classes()
                self.classes.fill("folders", {i: (spec.name, spec.colour) for i, spec in found.items()}, {})
        except MatsegError as error:
            self.form.held_out.setText(escape(str(error)))
        else:
            self.form.held_out.setText(source.held_out() if self.form.hold_out.isChecked() else NOTHING_HELD_OUT)

    def _on_progressed(self, step: Progress) -> None:
        if isinstance(step, TrainProgress) and not self._closed:
            self.live.show_step(step)

    def _on_succeeded(self, trained: Trained) -> None:
        self.trained = trained
        if self._closed:
            return
        self.live.redraw()
        for widget in QApplication.allWidgets():
            if isinstance(widget, ModelChoice):
                widget.refresh()
        self.segment_button.setVisible(True)
        self.run_bar.say(_summary(trained.card))

    def _on_ended(self) -> None:
        self._asked = None
        self._fields.setVisible(True)
        self.recipe_button.setEnabled(True)
        give_back()
        QTimer.singleShot(0, self._show_end)

    def _show_end(self) -> None:
        self._scroll.ensureWidgetVisible(self.recipe_button)

    def _ask_and_save(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Save the recipe into the folder")
        if not folder:
            return
        try:
            path = self.save(Path(folder))
        except MatsegError as error:
            self.run_bar.fail(str(error))
        else:
            self.run_bar.say(f"Saved. To train the same again: napari-matseg train {escape(str(path))}")


def _summary(card: ModelCard) -> str:
    """Say in rich text what came out."""
    text = f"<b>{escape(card.name)}</b> is in the list of models: segment with it, or ask there where to label next."
    figures = card.accuracy.get("validation")
    if figures is None:
        return f"{text} Nothing was held out, so how good it is is not known."
    return f"{text} Mean IoU {figures['mean_iou']:.3f}, Dice {figures['mean_dice']:.3f} on {escape(figures['on'])}."

"""Measure labels: every object, the distribution of their sizes, phases, grains; linked with the viewer."""

from __future__ import annotations

from collections.abc import Callable, Generator
from html import escape
from pathlib import Path
from typing import Any

from napari.layers import Image, Labels, Layer
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QSize
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QPushButton, QTabWidget, QVBoxLayout, QWidget

from napari_matseg._napari.jobs import Job
from napari_matseg._napari.layers import micrograph_from_layer, specs_of
from napari_matseg._napari.measure_objects import ObjectsTab
from napari_matseg._napari.measure_parts import PixelSize, Watch
from napari_matseg._napari.measure_phases import PhasesTab
from napari_matseg._napari.measure_result import Asked, Result, measure
from napari_matseg._napari.measure_sizes import SizesTab
from napari_matseg._napari.measure_spacing import Spacing, SpacingTab
from napari_matseg._napari.parts import FLAG_COLOUR, Form, LayerChoice, RunBar, Scroll, text_label
from napari_matseg._napari.prompt_places import plane_on_view, shape_of
from napari_matseg.core.progress import Progress
from napari_matseg.errors import InputError, MatsegError
from napari_matseg.measuring import save_figures, save_measured, save_report
from napari_matseg.settings import MeasureSettings

WIDTH, HEIGHT = 400, 760  # px
Work = Generator[Progress, None, Any]


class MeasureWidget(QWidget):
    """Measures a labels layer; rows of the table and objects in the viewer are selected together."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer
        self.result: Result | None = None
        self._then: Callable[[Any], None] | None = None
        self._asked: Asked | None = None
        self._closed = False
        self._job = Job(self)
        self._job.succeeded.connect(self._on_succeeded)
        self._job.ended.connect(self._on_ended)
        self._watch = Watch(napari_viewer, self)

        self.labels = LayerChoice(napari_viewer, [Labels])
        self.image = LayerChoice(napari_viewer, [Image], none="none: no intensities", prefer=self._belongs)
        self.kind = QComboBox()
        self.kind.addItem("objects, each with an id of its own", False)
        self.kind.addItem("classes: objects are connected pieces", True)
        self.pixel_size = PixelSize()
        self.data_bar = QCheckBox("Leave the data bar out")
        self.data_bar.setToolTip("The field ends at the instrument's data bar, or where the segmentation ended.")
        self.data_bar.setChecked(MeasureSettings().exclude_data_bar)
        self.run_bar = RunBar(self._job, self.run, "Measure", "planes")
        self.stale = text_label()
        self.save_button = QPushButton("Save report and tables…")
        self.save_button.setToolTip(
            "Into a folder: a page with image, overlay, tables and figures (HTML), tables (CSV), figures (SVG), "
            "and the record of what was done (JSON); of the objects that the filters keep."
        )
        self.objects, self.sizes = ObjectsTab(napari_viewer), SizesTab()
        self.phases, self.spacing = PhasesTab(), SpacingTab()
        self._lay_out()
        self._connect()
        self._suit_labels()

    def _lay_out(self) -> None:
        self._form = Form()
        for title, field in (
            ("Labels", self.labels),
            ("They are", self.kind),
            ("Image", self.image),
            ("Pixel size", self.pixel_size),
            ("", self.data_bar),
        ):
            self._form.add(title, field)
        self.tabs = QTabWidget()
        for title, tab in (
            ("Objects", self.objects),
            ("Sizes", self.sizes),
            ("Phases", self.phases),
            ("Spacing", self.spacing),
        ):
            self.tabs.addTab(tab, title)
        inner = QWidget()
        layout = QVBoxLayout(inner)
        for widget in (self._form, self.run_bar, self.stale):
            layout.addWidget(widget)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self.save_button)
        layout.addStretch()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scroll(inner))
        self.tabs.setVisible(False)
        self.save_button.setVisible(False)
        self.stale.setVisible(False)

    def _connect(self) -> None:
        self.labels.currentIndexChanged.connect(self._suit_labels)
        self.image.currentIndexChanged.connect(self._suit_size)
        for choice in (self.labels, self.image, self.kind):
            choice.currentIndexChanged.connect(self._judge)
        self.labels.refreshed.connect(self._judge)
        self.data_bar.toggled.connect(self._judge)
        self.pixel_size.editingFinished.connect(self._judge)
        self._watch.changed.connect(self._on_edited)
        self.objects.filtered.connect(self._on_filtered)
        self.spacing.asked.connect(self.measure_spacing)
        self.save_button.clicked.connect(self._ask_and_save)
        for part in (self.objects, self.sizes.pane, self.phases.pane, self.spacing):
            part.said.connect(self.run_bar.say)
            part.failed.connect(self.run_bar.fail)

    def run(self) -> None:
        """Start measuring; the numbers come later, or an error is shown."""
        if self._job.running:
            return
        try:
            asked = self._ask()
        except MatsegError as error:
            self.run_bar.fail(str(error))
            return
        if asked is None:
            self.run_bar.fail("There are no labels; segment an image, or open labels, and choose them here.")
            return
        self._asked = asked
        self._watch.watch(asked.labels)
        shown = plane_on_view(asked.labels, self._viewer.dims.point)
        self._begin(measure(asked, shown), f"Measuring {asked.labels.name}", self._show)

    def measure_spacing(self) -> None:
        """Start to measure spacing and grain size of what has been measured."""
        if self._job.running or self.result is None:
            return
        if not self.objects.linked:
            self.run_bar.fail("The labels are not there any more as they were measured; measure again.")
            return
        self._begin(self.spacing.work(), "Measuring spacing", self._show_spacing)

    def save(self, folder: Path) -> list[Path]:
        """Write report, tables, figures and record of the objects that are kept; nothing without any numbers.

        Raises
        ------
        MatsegError
            If the labels are not those that were measured, or something cannot be written.
        """
        result = self.result
        if result is None:
            return []
        if self._watch.edited or not result.fits:
            raise InputError(f"{result.name}: was changed after it was measured; measure again before saving.")
        settings = self.sizes.settings(result.asked.settings)
        measured, stem = result.only(self.objects.kept, self.objects.why()), result.name.replace("/", "-")
        more = {} if self.spacing.spacing is None else self.spacing.spacing.tables()
        files = save_measured(measured, folder, stem, settings)
        files |= save_figures(measured, folder, stem, settings)
        files |= save_report(measured, folder, stem, result.drawn, result.seen, settings, more=more)
        return list(files.values())

    def sizeHint(self) -> QSize:
        """Wide enough for the table, which scrolls where the window is low."""
        return QSize(WIDTH, HEIGHT)

    def event(self, event: QEvent) -> bool:
        """Notice that the dock was closed, of which napari tells only by taking the widget out."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.close_job()
        return bool(super().event(event))

    def close_job(self) -> None:
        """Stop, and leave the viewer as it was."""
        if not self._closed:
            self._closed = True
            self._job.cancel()
            self.labels.forget()
            self.image.forget()
            self._watch.forget()
            self.objects.forget()

    def _ask(self) -> Asked | None:
        layer = self.labels.layer
        if layer is None:
            return None
        settings = MeasureSettings(exclude_data_bar=self.data_bar.isChecked())
        return Asked(layer, self.image.layer, self.kind.currentData(), settings, self.pixel_size.value)

    def _begin(self, work: Work, title: str, then: Callable[[Any], None]) -> None:
        self._then = then
        self._form.setEnabled(False)
        self.run_bar.begin()
        self._job.start(work, title)

    def _show(self, result: Result) -> None:
        self.result = result
        self.objects.show_result(result)
        self.sizes.show_result(result, self.objects.kept)
        self.phases.show_result(result)
        self.spacing.show_result(result)
        self.tabs.setTabVisible(self.tabs.indexOf(self.phases), result.asked.classes)
        self.tabs.setVisible(True)
        self.save_button.setVisible(True)
        self.run_bar.say(self._summary(result))
        self._judge()

    def _show_spacing(self, spacing: Spacing) -> None:
        self.spacing.show_spacing(spacing)
        self.run_bar.say(self._summary(self.result))

    def _summary(self, result: Result) -> str:
        n = len(result.table)
        cut = int(result.table["touches_edge"].sum())
        text = f"<b>{n:,} object{'s' * (n != 1)}</b> in {escape(result.name)}".replace(",", " ")
        if n:
            text += f", {cut} of them at the edge"
        if not result.in_nm:
            text += ". The pixel size is not known: sizes are in pixels."
        return text

    def _ask_and_save(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Save into the folder")
        if not folder:
            return
        try:
            files = self.save(Path(folder))
        except MatsegError as error:
            self.run_bar.fail(str(error))
        else:
            self.run_bar.say(f"{len(files)} files saved, among them {escape(str(files[-1]))}.")

    def _on_filtered(self) -> None:
        if self.result is not None:
            self.sizes.show_result(self.result, self.objects.kept)

    def _on_edited(self) -> None:
        self._judge()
        self.objects.refresh()

    def _on_succeeded(self, outcome: Any) -> None:
        if self._then is not None and not self._closed:
            self._then(outcome)

    def _on_ended(self) -> None:
        self._then = None
        self._form.setEnabled(True)

    def _judge(self, *_changed: object) -> None:
        """Say if the numbers on show are not those of what is chosen, as it is now."""
        reason = "" if self.result is None else self._reason(self.result)
        self.stale.setVisible(bool(reason))
        self.stale.setText(f'<span style="color: {FLAG_COLOUR}">{escape(reason)}</span>' if reason else "")
        self.run_bar.run_button.setText("Measure again" if reason else "Measure")

    def _reason(self, result: Result) -> str:
        asked = result.asked
        if asked.labels not in self._viewer.layers:
            return f"{result.name} is no longer there: these are its numbers as it was."
        if self.labels.layer != asked.labels:
            return f"These are the numbers of {result.name}; press Measure again for those of the layer chosen above."
        if self._watch.edited:
            return f"Out of date: {asked.labels.name} was changed after it was measured."
        try:
            now = self._ask()
        except MatsegError as error:
            return str(error)
        same = (now.image == asked.image, now.classes == asked.classes, now.settings == asked.settings,
                now.pixel_size_nm == asked.pixel_size_nm)  # fmt: skip
        return "" if all(same) else "Out of date: something else is chosen above than was measured."

    def _suit_labels(self, *_changed: object) -> None:
        """Guess what a layer's labels are, and say how large its pixels are."""
        layer = self.labels.layer
        if layer is None:
            return
        self.kind.setCurrentIndex(self.kind.findData(specs_of(layer.metadata) is not None))
        if self.image.layer is not None and not self._belongs(self.image.layer):
            self.image.setCurrentIndex(0)
        self.image.refresh()
        self._suit_size()

    def _suit_size(self, *_changed: object) -> None:
        sizes = []
        for layer in (self.labels.layer, self.image.layer):
            try:
                sizes.append(None if layer is None else micrograph_from_layer(layer).pixel_size_nm)
            except MatsegError:
                sizes.append(None)
        self.pixel_size.know(sizes[0] or sizes[1])

    def _belongs(self, image: Layer) -> bool:
        """Whether an image has the shape of the labels that are chosen."""
        layer = self.labels.layer
        return layer is not None and shape_of(image) == shape_of(layer)

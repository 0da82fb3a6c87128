"""Measure labels: every object, the distribution of their sizes, phases, grains; linked with the viewer."""

from __future__ import annotations

from collections.abc import Callable, Generator
from html import escape
from pathlib import Path
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import QSize
from qtpy.QtWidgets import QFileDialog, QPushButton, QTabWidget, QVBoxLayout, QWidget

from napari_matseg._napari.docks import Dock
from napari_matseg._napari.jobs import Job
from napari_matseg._napari.measure_form import MeasureForm
from napari_matseg._napari.measure_objects import ObjectsTab
from napari_matseg._napari.measure_phases import PhasesTab
from napari_matseg._napari.measure_result import Result, measure
from napari_matseg._napari.measure_sizes import SizesTab
from napari_matseg._napari.measure_spacing import Spacing, SpacingTab
from napari_matseg._napari.measure_watch import Watch
from napari_matseg._napari.parts import FLAG_COLOUR, Scroll, text_label
from napari_matseg._napari.prompt_places import plane_on_view
from napari_matseg._napari.recipes import RecipeBar, measure_recipe
from napari_matseg._napari.run_bar import RunBar
from napari_matseg.core.progress import Progress
from napari_matseg.errors import InputError, MatsegError
from napari_matseg.reporting import save_figures, save_measured, save_report
from napari_matseg.settings import Recipe

WIDTH, HEIGHT = 400, 760  # px
BY_HAND = "Filters, and what was corrected by hand, are not in it."
NO_LABELS = "There are no labels; segment an image, or open labels, and choose them here."
AGAIN = "These are the numbers of {}; press Measure again for those of the layer that is chosen."
Work = Generator[Progress, None, Any]


class MeasureWidget(Dock):
    """Measures a labels layer; rows of the table and objects in the viewer are selected together."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer
        self.result: Result | None = None
        self._then: Callable[[Any], None] | None = None
        self._job = Job(self)
        self._job.succeeded.connect(self._on_succeeded)
        self._job.ended.connect(self._on_ended)
        self._watch = Watch(napari_viewer, self)

        self.form = MeasureForm(napari_viewer)
        self.run_bar = RunBar(self._job, self.run, "Measure", "planes")
        self.stale = text_label()
        self.objects, self.sizes = ObjectsTab(napari_viewer), SizesTab()
        self.phases, self.spacing = PhasesTab(), SpacingTab()
        self.tabs = QTabWidget()
        self.save_button = QPushButton("Save report and tables…")
        self.save_button.setToolTip(
            "Into a folder: a page with image, overlay, tables and figures (HTML), tables (CSV), figures (SVG), and "
            "the record of what was done (JSON); of the objects that the filters keep."
        )
        self.recipe_bar = RecipeBar(self.recipe, BY_HAND)
        self._lay_out()
        self.form.changed.connect(self._judge)
        self._watch.changed.connect(self._on_edited)
        self.objects.filtered.connect(self._on_filtered)
        self.spacing.asked.connect(self.measure_spacing)
        self.save_button.clicked.connect(self._ask_and_save)
        for part in (self.objects, self.sizes.pane, self.phases.pane, self.spacing):
            part.said.connect(self.run_bar.say)
            part.failed.connect(self.run_bar.fail)

    def _lay_out(self) -> None:
        for title, tab in (
            ("Objects", self.objects),
            ("Sizes", self.sizes),
            ("Phases", self.phases),
            ("Spacing", self.spacing),
        ):
            self.tabs.addTab(tab, title)
        inner = QWidget()
        layout = QVBoxLayout(inner)
        for widget in (self.form, self.run_bar, self.stale):
            layout.addWidget(widget)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self.save_button)
        layout.addWidget(self.recipe_bar)
        layout.addStretch()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scroll(inner))
        for widget in (self.stale, self.tabs, self.save_button):
            widget.setVisible(False)

    def run(self) -> None:
        """Start measuring; the numbers come later, or an error is shown."""
        if self._job.running:
            return
        try:
            asked = self.form.asked()
        except MatsegError as error:
            self.run_bar.fail(str(error))
            return
        if asked is None:
            self.run_bar.fail(NO_LABELS)
            return
        self._watch.watch(asked.labels)
        shown = plane_on_view(asked.labels, self._viewer.dims.point)
        self._begin(measure(asked, shown), f"Measuring {asked.labels.name}", self._show)

    def measure_spacing(self) -> None:
        """Start to measure spacing and grain size of what has been measured."""
        if self._job.running or self.result is None:
            return
        if not self.objects.link.there:
            self.run_bar.fail("The labels are not there any more as they were measured; measure again.")
            return
        self._begin(self.spacing.work(), "Measuring spacing", self._show_spacing)

    def recipe(self) -> Recipe:
        """Give what made the labels, and how they are measured, as what is to be done to other micrographs, too.

        Raises
        ------
        MatsegError
            If there are no labels, or it is not known what made them.
        """
        asked = self.form.asked()
        if asked is None:
            raise InputError(NO_LABELS)
        settings, size = self.sizes.settings(asked.settings), asked.pixel_size_nm
        return measure_recipe(asked.labels, asked.image, settings, classes=asked.classes, pixel_size_nm=size)

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

    def on_closed(self) -> None:
        """Stop, and leave the viewer as it was."""
        self._job.cancel()
        for part in (self.form, self._watch, self.objects.link):
            part.forget()

    def sizeHint(self) -> QSize:
        """Wide enough for the table, which scrolls where the window is low."""
        return QSize(WIDTH, HEIGHT)

    def _begin(self, work: Work, title: str, then: Callable[[Any], None]) -> None:
        self._then = then
        self.form.setEnabled(False)
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
        self.run_bar.say(_summary(result))
        self._judge()

    def _show_spacing(self, spacing: Spacing) -> None:
        self.spacing.show_spacing(spacing)
        self.run_bar.say(_summary(self.result))

    def _on_filtered(self) -> None:
        self.sizes.show_result(self.result, self.objects.kept)

    def _on_edited(self) -> None:
        self._judge()
        self.objects.refresh()

    def _on_succeeded(self, outcome: Any) -> None:
        if self._then is not None and not self._closed:
            self._then(outcome)

    def _on_ended(self) -> None:
        self._then = None
        self.form.setEnabled(True)

    def _judge(self) -> None:
        """Say if the numbers on show are not those of what is chosen, as it is now."""
        reason = "" if self.result is None else self._reason(self.result)
        self.stale.setVisible(bool(reason))
        self.stale.setText(f'<span style="color: {FLAG_COLOUR}">{escape(reason)}</span>' if reason else "")
        self.run_bar.run_button.setText("Measure again" if reason else "Measure")

    def _reason(self, result: Result) -> str:
        layer = result.asked.labels
        if layer not in self._viewer.layers:
            return f"{result.name} is no longer there: these are its numbers as it was."
        if self.form.labels.layer != layer:
            return AGAIN.format(result.name)
        if self._watch.edited:
            return f"Out of date: {result.name} was changed after it was measured."
        try:
            same = self.form.asked() == result.asked
        except MatsegError as error:
            return str(error)
        return "" if same else "Out of date: something else is chosen above than was measured."

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


def _summary(result: Result) -> str:
    """Say in rich text what was found."""
    n = len(result.table)
    text = f"<b>{n:,} object{'s' * (n != 1)}</b> in {escape(result.name)}".replace(",", " ")
    if n:
        text += f", {int(result.table['touches_edge'].sum())} of them at the edge"
    return text if result.in_nm else f"{text}. The pixel size is not known: sizes are in pixels."

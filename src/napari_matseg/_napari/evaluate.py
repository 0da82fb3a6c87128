"""Evaluate a segmentation: the same numbers as `napari-matseg evaluate` gives for the same files, and what is wrong."""

from __future__ import annotations

from html import escape
from typing import Any

from napari.layers import Image, Labels
from napari.viewer import Viewer
from qtpy.QtWidgets import QCheckBox, QComboBox, QSizePolicy, QTabWidget, QVBoxLayout, QWidget

from napari_matseg._napari.docks import Dock
from napari_matseg._napari.evaluate_kind import look_like_objects
from napari_matseg._napari.evaluate_result import (
    Asked,
    Evaluation,
    Mistakes,
    evaluate_layers,
    find_on,
)
from napari_matseg._napari.evaluate_save import SaveBar
from napari_matseg._napari.evaluate_tabs import PictureTab, ScoresTab, SizesTab, headline
from napari_matseg._napari.evaluate_watch import Watch
from napari_matseg._napari.jobs import Job
from napari_matseg._napari.layers import record_of, specs_of
from napari_matseg._napari.mistakes import MistakesTab
from napari_matseg._napari.models import ModelChoice
from napari_matseg._napari.parts import FLAG_COLOUR, Form, LayerChoice, Scroll, shrink, text_label
from napari_matseg._napari.prompt_places import plane_on_view
from napari_matseg._napari.run_bar import RunBar
from napari_matseg.core.checkpoints import read_card
from napari_matseg.errors import MatsegError
from napari_matseg.settings import EvaluateSettings

LOWEST = 290  # px
AS_LAYERS_SAY = "as the layers say"


class EvaluateWidget(Dock):
    """Compares a labels layer with the truth, by classes or objects, and shows where they differ."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer
        self.evaluation: Evaluation | None = None
        self._due = False
        self._job, self._live = Job(self), Job(self)  # what was asked for, and what follows the brush
        self._watch = Watch(napari_viewer, self)

        self.prediction = LayerChoice(napari_viewer, [Labels], prefer=_looks_like_result)
        self.truth = LayerChoice(napari_viewer, [Labels, Image], prefer=_looks_like_truth)
        self.truth.setToolTip("What is right; or what another person has drawn, for the agreement of the two.")
        self.kind = shrink(QComboBox())
        self.kind.addItem("classes, pixel by pixel", False)
        self.kind.addItem("objects, one by one", True)
        self.classes = ModelChoice(first=AS_LAYERS_SAY)
        self.classes.setToolTip("Whose names and colours the classes have, if the layers do not say.")
        self.data_bar = QCheckBox("Leave the data bar out")
        self.data_bar.setToolTip("Rows that were not segmented do not count.")
        self.data_bar.setChecked(True)
        self.run_bar = RunBar(self._job, self.run, "Evaluate", "")
        self.stale = text_label()
        self.scores, self.sizes = ScoresTab(), SizesTab()
        self.pictures, self.mistakes = PictureTab(), MistakesTab(napari_viewer)
        self.table = self.scores.classes
        self.saving = SaveBar()
        self._lay_out()
        self._connect()
        self._forget_scores()
        self._guess()

    def _lay_out(self) -> None:
        self._form = Form()
        self._form.add("Prediction", self.prediction)
        self._form.add("Truth", self.truth)
        self._form.add("Compare", self.kind)
        self._form.add("Classes", shrink(self.classes))
        self._form.add("", self.data_bar)
        self.tabs = QTabWidget()
        # As high as there is room for, with scroll bars inside.
        self.tabs.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Ignored)
        self.tabs.setMinimumHeight(LOWEST)
        for page in (Scroll(self.scores), Scroll(self.sizes), Scroll(self.pictures), self.mistakes):
            self.tabs.addTab(page, "")
        inner = QWidget()
        layout = QVBoxLayout(inner)
        for widget in (self._form, self.run_bar, self.stale):
            layout.addWidget(widget)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self.saving)
        layout.addStretch()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scroll(inner))

    def _connect(self) -> None:
        for choice in (self.prediction, self.truth):
            choice.currentIndexChanged.connect(self._guess)
        for choice in (self.prediction, self.truth, self.classes, self.kind):
            choice.currentIndexChanged.connect(self._forget_scores)
        self.data_bar.toggled.connect(self._forget_scores)
        self._job.succeeded.connect(self._on_succeeded)
        self._job.ended.connect(self._on_ended)
        self._live.succeeded.connect(self._on_followed)
        self._live.failed.connect(self._on_not_followed)
        self._live.ended.connect(self._on_live_ended)
        self._watch.settled.connect(self._follow)
        for part in (self.sizes.pane, self.pictures.pane, self.mistakes, self.saving):
            part.said.connect(self.run_bar.say)
            part.failed.connect(self.run_bar.fail)

    def run(self) -> None:
        """Start comparing; the figures come later, or an error is shown."""
        if self._job.running:
            return
        self._forget_scores()
        try:
            asked = self._ask()
        except MatsegError as error:
            self.run_bar.fail(str(error))
            return
        if isinstance(asked, str):
            self.run_bar.fail(asked)
            return
        self._form.setEnabled(False)
        self.run_bar.begin()
        self._watch.watch(asked.prediction, asked.truth)
        self._job.start(evaluate_layers(asked, self._plane(asked)), f"Evaluating {asked.prediction.name}")

    def on_closed(self) -> None:
        """Stop, and leave the viewer as it was."""
        self._job.cancel()
        self._live.cancel()
        self.prediction.forget()
        self.truth.forget()
        self._watch.forget()
        self.mistakes.forget()

    def _ask(self) -> Asked | str:
        """Take what is chosen, or say what is not."""
        predicted, true = self.prediction.layer, self.truth.layer
        if predicted is None or true is None:
            return f"Choose a layer with the {'prediction' if predicted is None else 'truth'} first."
        if predicted == true:
            return "Prediction and truth are the same layer; choose two."
        model, objects = self.classes.model, bool(self.kind.currentData())
        classes = specs_of(predicted.metadata) or specs_of(true.metadata)
        if model is not None:
            classes = read_card(model).classes
        return Asked(predicted, true, classes, EvaluateSettings(objects=objects), self.data_bar.isChecked())

    def _plane(self, asked: Asked) -> int:
        return plane_on_view(asked.prediction, self._viewer.dims.point)

    def _show(self, evaluation: Evaluation, mistakes: Mistakes) -> None:
        self.evaluation = evaluation
        titles = ("Scores", "Sizes", "By IoU") if evaluation.objects else ("Scores", "Fractions", "Confusion")
        for place, (tab, title) in enumerate(zip((self.scores, self.sizes, self.pictures), titles, strict=True)):
            self.tabs.setTabText(place, title)
            tab.show_evaluation(evaluation)
        self._show_mistakes(evaluation, mistakes)
        self.tabs.setVisible(True)
        self.saving.show_evaluation(evaluation)
        self.run_bar.say("<br>".join([headline(evaluation), *map(escape, evaluation.notes)]))

    def _show_mistakes(self, evaluation: Evaluation, mistakes: Mistakes) -> None:
        self.tabs.setTabText(self.tabs.indexOf(self.mistakes), f"Mistakes ({len(mistakes.found)})")
        self.mistakes.show_mistakes(evaluation, mistakes)

    def _on_succeeded(self, found: tuple[Evaluation, Mistakes]) -> None:
        if not self._closed:
            self._show(*found)

    def _on_ended(self) -> None:
        self._form.setEnabled(True)
        self._follow()

    def _follow(self) -> None:
        """See to it that figures and mistakes are those of what is on view now."""
        evaluation, mistakes = self.evaluation, self.mistakes.mistakes
        if evaluation is None or mistakes is None or self._closed or self._job.running:
            return
        if self._live.running:
            self._due = True
            return
        current, plane = evaluation.holds(), self._plane(evaluation.asked)
        self._say_stale(not current and not evaluation.followed)
        if not current and evaluation.followed:
            self._live.start(evaluate_layers(evaluation.asked, plane), None)
        elif plane != mistakes.plane:
            self._live.start(find_on(evaluation, plane), None)

    def _on_followed(self, found: tuple[Evaluation, Mistakes]) -> None:
        now = self.evaluation
        if now is not None and found[0].asked is now.asked and not self._closed:
            (self._show_mistakes if found[0] is now else self._show)(*found)

    def _on_not_followed(self, text: str) -> None:
        self._say_stale(True)
        self.run_bar.fail(text)

    def _on_live_ended(self) -> None:
        if self._due:
            self._due = False
            self._follow()

    def _say_stale(self, stale: bool) -> None:
        text = "Numbers are out of date: the labels were changed after they were evaluated."
        self.stale.setText(f'<span style="color: {FLAG_COLOUR}">{text}</span>')
        self.stale.setVisible(stale)
        self.run_bar.run_button.setText("Evaluate again" if stale else "Evaluate")

    def _forget_scores(self) -> None:
        """Numbers stay on show only as long as the choices that they belong to."""
        self._live.cancel()
        self._watch.watch()
        self.evaluation = None
        self.scores.empty()
        self.mistakes.forget()
        self._say_stale(False)
        self.tabs.setVisible(False)
        self.saving.show_evaluation(None)
        self.classes.setEnabled(not self.kind.currentData())
        self.run_bar.say("")

    def _guess(self) -> None:
        """Guess what the layers hold."""
        layer = self.prediction.layer
        if layer is not None:
            self.kind.setCurrentIndex(self.kind.findData(look_like_objects(layer, self.truth.layer)))


def _looks_like_result(layer: Any) -> bool:
    return record_of(layer) is not None and specs_of(layer.metadata) is not None


def _looks_like_truth(layer: Any) -> bool:
    if isinstance(layer, Labels):
        return record_of(layer) is None
    return any(word in layer.name.lower() for word in ("truth", "mask", "label"))

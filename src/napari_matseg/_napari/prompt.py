"""Points to masks: one object for each point, all at once or click by click."""

from __future__ import annotations

from collections.abc import Callable, Generator
from html import escape
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import QSize, QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_matseg._napari.docks import Dock
from napari_matseg._napari.jobs import Job
from napari_matseg._napari.models import LoadedModels
from napari_matseg._napari.parts import Scroll
from napari_matseg._napari.prompt_bar import ClickBar, Keys
from napari_matseg._napari.prompt_clicking import Clicking
from napari_matseg._napari.prompt_form import PromptForm
from napari_matseg._napari.prompt_models import LoadedPromptable, ModelField
from napari_matseg._napari.prompt_objects import ObjectsPane
from napari_matseg._napari.prompt_run import BUTTONS, Runs
from napari_matseg._napari.prompt_search import Search
from napari_matseg._napari.prompt_sources import CENTRES, Sources
from napari_matseg._napari.recipes import RecipeBar, prompt_recipe
from napari_matseg._napari.run_bar import RunBar
from napari_matseg.core.progress import Progress
from napari_matseg.core.sam.zoo import fetch
from napari_matseg.errors import MatsegError, ModelError
from napari_matseg.settings import PromptSettings, PromptStep, Recipe

WIDTH, HEIGHT = 360, 640  # px
BY_HAND = "What is corrected by hand, boxes and labels to refine are not in it."
Work = Generator[Progress, None, Any]


class PromptWidget(Dock):
    """Makes one mask for each point, box or label, with the same id in labels, table and points.

    Segmenting adds a layer each time, and napari numbers names that are taken: nothing is ever overwritten. Clicking
    adds to the last one.
    """

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer
        self._models, self._segmenters = LoadedPromptable(), LoadedModels()
        for models in (self._models, self._segmenters):
            self.destroyed.connect(models.clear)
        self._then: Callable[[Any], None] | None = None
        self._next: tuple[Work, str] | None = None
        self._embedding = False
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._start_next)
        self._job = Job(self)
        self._job.succeeded.connect(self._on_succeeded)
        self._job.ended.connect(self._on_ended)

        self.sources, self.search = Sources(napari_viewer), Search(napari_viewer)
        self.model = ModelField(self.fetch)
        self.form = PromptForm()
        self.bar = ClickBar()
        self.run_bar = RunBar(self._job, self.run, "", "points")
        self.recipe_bar = RecipeBar(self.recipe, BY_HAND)
        self.objects = ObjectsPane(napari_viewer)
        self.clicking = Clicking(napari_viewer, self.sources, self.bar, self.settings, self._models, self)
        clicking = self.clicking
        self.runs = Runs(napari_viewer, self.sources, self.search, clicking, self._models, self._segmenters)
        self._lay_out()
        self._connect()
        self._keys = Keys(
            napari_viewer, self.bar, clicking.accept, clicking.drop, clicking.undo, self.objects.next_flagged
        )
        self._suit_image()
        self._on_what()

    def _lay_out(self) -> None:
        inner = QWidget()
        layout = QVBoxLayout(inner)
        self._parts = self.sources, self.search, self.model, self.form, self.bar
        for widget in (*self._parts, self.run_bar, self.recipe_bar):
            layout.addWidget(widget)
        layout.addWidget(self.objects, 1)
        layout.addStretch()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scroll(inner))

    def _connect(self) -> None:
        for part in (self.sources, self.clicking, self.objects):
            part.failed.connect(self.run_bar.fail)
        for part in (self.clicking, self.objects):
            part.said.connect(self.run_bar.say)
        self.clicking.to_embed.connect(self._on_to_embed)
        self.clicking.changed.connect(self._on_results)
        self.objects.visited.connect(self._on_visited)
        self.model.changed.connect(self.clicking.prepare)
        self.form.changed.connect(self.clicking.prepare)
        self.bar.switch.toggled.connect(self._on_switch)
        self.sources.changed.connect(self._on_what)
        self.sources.image.currentIndexChanged.connect(self._suit_image)
        self.sources.image.refreshed.connect(self._suit_image)

    def settings(self) -> PromptSettings:
        """Give what the widget is set to.

        Raises
        ------
        MatsegError
            If the model is not on this computer, or a value is impossible.
        """
        name = self.model.choice.model
        if self.model.choice.to_fetch:
            raise ModelError(f"{name}: is not on this computer yet; press Download, or choose another model.")
        return self.form.settings(name)

    def recipe(self) -> Recipe:
        """Give what the widget is set to as what is to be done to other micrographs, too.

        Raises
        ------
        MatsegError
            As of `settings`, or if a value of Detect centres is impossible.
        """
        prompt, find = self.settings(), self.sources.found_by
        centres = {"centres": self.search.centres(prompt)} if find == CENTRES else {}
        step = PromptStep(find=find, everything=self.search.everything(), prompt=prompt, **centres)
        return prompt_recipe(step, self.sources.image.layer)

    def run(self) -> None:
        """Start to segment what is asked for; the labels come later, or an error is shown."""
        if self._job.running:
            return
        try:
            work, title, show = self.runs.begin(self.settings())
        except MatsegError as error:
            self.run_bar.fail(str(error))
        else:
            self._begin(work, title, lambda outcome: self.run_bar.say(show(outcome)))

    def fetch(self) -> None:
        """Start to download the chosen model."""
        name = self.model.choice.model
        if not self._job.running:
            self._begin(fetch(name), f"Downloading {name}", lambda path: self._on_fetched(name), units="")

    def on_closed(self) -> None:
        """Stop, and give back what is held: the model's memory, and the viewer's events and keys."""
        self._next = None
        self._job.cancel()
        self.clicking.close()
        self.sources.forget()
        self._keys.forget()
        if not self._job.running:
            self._forget_models()

    def sizeHint(self) -> QSize:
        """Wide enough for the fields, which scroll where the window is low."""
        return QSize(WIDTH, HEIGHT)

    def _begin(
        self, work: Work, title: str, then: Callable[[Any], None], *, units: str = "points", embedding: bool = False
    ) -> None:
        self._then, self._embedding = then, embedding
        self.run_bar.units = units
        for part in self._parts:
            part.setEnabled(embedding)
        if not embedding:
            self.clicking.ahead.stop()
        self.run_bar.begin()
        self._job.start(work, title)

    def _on_to_embed(self, work: Work, title: str) -> None:
        if self._job.running:
            self._next = work, title
            if self._embedding:
                self._job.cancel()
        else:
            self._begin(work, title, self.clicking.embedded, units="", embedding=True)

    def _start_next(self) -> None:
        if self._next is not None:
            (work, title), self._next = self._next, None
            self._on_to_embed(work, title)

    def _on_fetched(self, name: str) -> None:
        self.model.choice.refresh()
        self.model.refresh()
        self.run_bar.say(f"{escape(name)} is here.")

    def _on_succeeded(self, outcome: Any) -> None:
        if self._then is not None:
            self._then(outcome)

    def _on_ended(self, cancelled: bool) -> None:
        embedding, self._embedding, self._then = self._embedding, False, None
        for part in self._parts:
            part.setEnabled(True)
        if self._closed:
            self._forget_models()
        elif self._next is not None:
            self._later.start()  # once the run bar has noticed that this has ended
        elif cancelled and embedding:
            self.bar.switch.setChecked(False)

    def _on_switch(self, on: bool) -> None:
        if not on:
            self._next = None
            if self._embedding:
                self._job.cancel()

    def _on_results(self) -> None:
        self.objects.show_rows(self.clicking.shown)

    def _on_visited(self, label: int) -> None:
        if self.clicking.clicks is not None:
            self.clicking.clicks.current = label

    def _suit_image(self) -> None:
        self.form.suit(self.sources.image.layer)

    def _on_what(self) -> None:
        self.search.show_what(self.sources.what)
        self.run_bar.run_button.setText(BUTTONS[self.sources.what])

    def _forget_models(self) -> None:
        self._models.clear()
        self._segmenters.clear()

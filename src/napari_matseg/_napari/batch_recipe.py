"""Which recipe a batch follows: a file, or what another widget is set to."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QVBoxLayout, QWidget

from napari_matseg._napari.batch_words import in_words
from napari_matseg._napari.parts import in_red, shrink, text_label
from napari_matseg.errors import MatsegError, SettingsError
from napari_matseg.settings import Recipe, read_recipe

BROWSE = "Browse for a recipe…"
HINT = "Choose a recipe file, which the other widgets write with Save recipe, or open one of them here beside."


class RecipeChoice(QWidget):
    """A recipe, with what it does in a sentence below."""

    changed = Signal()

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.choice = shrink(_Choice(self))
        self.choice.setPlaceholderText("choose a recipe")
        self.about = text_label()
        self._chosen: str | Path | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.choice)
        layout.addWidget(self.about)
        self.choice.activated.connect(self._on_activated)
        self.refresh()

    def recipe(self) -> Recipe:
        """Read what is chosen, as it is now.

        Raises
        ------
        SettingsError
            If there is none, or it cannot be read.
        """
        chosen = self._chosen
        if isinstance(chosen, Path):
            return read_recipe(chosen)
        make = self._widgets().get(chosen or "")
        if make is None:
            raise SettingsError("there is no recipe; choose one, or browse for a recipe file.")
        return make()

    def choose(self, chosen: str | Path) -> None:
        """Take a file, or the title of a widget that is open."""
        self._chosen = chosen
        self.refresh()

    def refresh(self) -> None:
        """List the widgets that are open anew, and say again what the recipe does."""
        files = {self.choice.itemData(i) for i in range(self.choice.count())}
        files = sorted(one for one in files | {self._chosen} if isinstance(one, Path))
        self.choice.clear()
        for title in self._widgets():
            self.choice.addItem(f"as set in {title} now", title)
        for file in files:
            self.choice.addItem(file.name, file)
        if self.choice.count():
            self.choice.insertSeparator(self.choice.count())
        self.choice.addItem(BROWSE, BROWSE)
        place = -1 if self._chosen is None else self._place(self._chosen)
        if place < 0:
            self._chosen = None
        self.choice.setCurrentIndex(place)
        self.describe()

    def describe(self) -> None:
        """Say what the recipe does, or what is wrong with it."""
        if self._chosen is None:
            self.about.setText(HINT)
            return
        try:
            self.about.setText(escape(in_words(self.recipe())))
        except MatsegError as error:
            self.about.setText(in_red(str(error)))

    def _place(self, chosen: str | Path) -> int:
        return next((i for i in range(self.choice.count()) if self.choice.itemData(i) == chosen), -1)

    def _widgets(self) -> dict[str, Callable[[], Recipe]]:
        """Open widgets that are set to something, by their titles."""
        window = getattr(self._viewer, "window", None)
        docked = {} if window is None else window.dock_widgets
        named = {title.partition(" (")[0]: getattr(widget, "recipe", None) for title, widget in docked.items()}
        return {title: make for title, make in named.items() if callable(make)}

    def _on_activated(self) -> None:
        chosen = self.choice.currentData()
        if chosen == BROWSE:
            file, _ = QFileDialog.getOpenFileName(self, "Recipe", "", "Recipes (*.yaml *.yml);;All files (*)")
            chosen = Path(file) if file else self._chosen
        self._chosen = chosen
        self.refresh()
        self.changed.emit()


class _Choice(QComboBox):
    def __init__(self, owner: RecipeChoice) -> None:
        super().__init__(owner)
        self._owner = owner

    def showPopup(self) -> None:
        self._owner.refresh()
        super().showPopup()

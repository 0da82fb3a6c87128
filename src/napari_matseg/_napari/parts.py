"""What the widgets are put together from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QGridLayout,
    QLabel,
    QScrollArea,
    QWidget,
)

from napari_matseg._napari.layers import KEY, OVERLAY
from napari_matseg.settings import ClassSpec

# These read well on napari's dark and light themes.
ERROR_COLOUR = "#e2574c"
FLAG_COLOUR = "#d9912b"


class LayerChoice(QComboBox):
    """A layer of the viewer, of some types; none that only shows something of another one.

    Parameters
    ----------
    viewer : napari.Viewer
    types : sequence of Layer types
    prefer : callable, optional
        Which layers to choose unasked, the topmost first; none, and the user has to choose.
    follow : bool
        Whether to choose the layer that is selected in the layer list, whenever it is of the types.
    none : str, optional
        An item before all layers, for none of them; once the user chooses it, no layer is chosen unasked.
    """

    refreshed = Signal()
    """The layers, or their names, may be others now."""

    def __init__(
        self,
        viewer: Viewer,
        types: Sequence[type[Layer]],
        *,
        prefer: Callable[[Layer], bool] = lambda layer: True,
        follow: bool = False,
        none: str | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._none = none
        self._types = tuple(types)
        self._prefer = prefer
        self._follow = follow
        self._declined = False
        self.activated.connect(self._on_activated)
        self.setPlaceholderText("choose a layer")
        shrink(self)
        events = viewer.layers.events
        self._watched: list[Any] = [events.inserted, events.removed, events.reordered, events.renamed]
        if follow:
            self._watched.append(viewer.layers.selection.events.active)
        for event in self._watched:
            event.connect(self.refresh)
        self.refresh()

    @property
    def layer(self) -> Layer | None:
        """The chosen layer; None if there is none."""
        layer: Layer | None = self.currentData()
        return layer

    @layer.setter
    def layer(self, layer: Layer) -> None:
        self.setCurrentIndex(self.findText(layer.name))

    def refresh(self, event: Any = None) -> None:
        """List the layers anew; the choice stays, if it can."""
        there = [layer for layer in reversed(self._viewer.layers) if isinstance(layer, self._types)]
        there = [layer for layer in there if layer.metadata.get(KEY, {}).get("kind") != OVERLAY]
        chosen = self.layer
        active = self._viewer.layers.selection.active
        if self._follow and active in there:
            chosen = active
        if chosen not in there:
            chosen = next((layer for layer in there if self._prefer(layer) and not self._declined), None)
        before = self.layer
        self.blockSignals(True)
        self.clear()
        if self._none is not None:
            self.addItem(self._none, None)
        for layer in there:
            self.addItem(layer.name, layer)
        first = self.count() - len(there)
        self.setCurrentIndex(first - 1 if chosen is None else first + there.index(chosen))
        self.blockSignals(False)
        if chosen != before:  # not "is": napari hands plugins a new proxy of a layer each time
            self.currentIndexChanged.emit(self.currentIndex())
        self.refreshed.emit()

    def _on_activated(self) -> None:
        self._declined = self.layer is None

    def forget(self) -> None:
        """Take no more notice of the viewer."""
        for event in self._watched:
            event.disconnect(self.refresh)
        self._watched = []


class Form(QWidget):
    """Rows of a title and a field; unlike in a QFormLayout, wrapped text takes no more height than it needs.

    Parameters
    ----------
    titles : int
        Least width of the titles in pixels, by which several forms have their fields below each other.
    """

    def __init__(self, titles: int = 0, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setColumnStretch(1, 1)
        self._grid.setColumnMinimumWidth(0, titles)

    def add(self, title: str, field: QWidget) -> None:
        """Add a row below the others."""
        row = self._grid.rowCount()
        if title:  # an empty one would keep its height where the field is hidden
            self._grid.addWidget(QLabel(title), row, 0)
        self._grid.addWidget(field, row, 1)


class Scroll(QScrollArea):
    """Scrolls what is too high for the window, but is as wide as it needs to be."""

    def __init__(self, content: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(content)
        content.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Notice that the content needs another width."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.setMinimumWidth(watched.minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width())
        return bool(super().eventFilter(watched, event))


def shrink(choice: QComboBox) -> QComboBox:
    """Let a choice be narrower than its longest item, which would widen the whole dock."""
    choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    choice.setMinimumContentsLength(12)
    return choice


def in_red(text: str) -> str:
    """Give an error, plain text, as rich text."""
    return f'<span style="color: {ERROR_COLOUR}">{escape(text)}</span>'


def text_label() -> QLabel:
    """Make a label of several lines that can be copied from."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def swatch(spec: ClassSpec) -> str:
    """Give the name of a class with a square of its colour, as rich text."""
    red, green, blue = spec.colour
    return f'<span style="color: rgb({red}, {green}, {blue})">■</span>&nbsp;{escape(spec.name)}'

"""Whether labels are still as they were measured."""

from __future__ import annotations

from typing import Any

from napari.layers import Labels
from napari.viewer import Viewer
from qtpy.QtCore import QObject, Signal


class Watch(QObject):
    """Notices when a layer is edited, moved to another scale, renamed or removed."""

    changed = Signal()

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layer: Labels | None = None
        self.edited = False
        self._undone = 0
        viewer.layers.events.removed.connect(self._on_removed)

    def watch(self, layer: Labels) -> None:
        """Take notice of this layer from now on, and of no other."""
        self._let_go()
        self._layer, self.edited = layer, False
        self._undone = _undone(layer)
        for event in self._events(layer):
            event.connect(self._on_edited)
        layer.events.set_data.connect(self._on_drawn)

    def forget(self) -> None:
        """Take no more notice."""
        self._let_go()
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    def _events(self, layer: Labels) -> tuple[Any, ...]:
        return layer.events.data, layer.events.paint, layer.events.scale, layer.events.units

    def _let_go(self) -> None:
        if self._layer is not None:
            for event in self._events(self._layer):
                event.disconnect(self._on_edited)
            self._layer.events.set_data.disconnect(self._on_drawn)
        self._layer = None

    def _on_edited(self, event: object = None) -> None:
        self.edited = True
        self.changed.emit()

    def _on_drawn(self, event: object = None) -> None:
        """Notice that something was undone or done again, of which napari tells only by drawing the layer."""
        if _undone(self._layer) != self._undone:
            self._undone = _undone(self._layer)
            self._on_edited()

    def _on_removed(self, event: Any) -> None:
        # Of other layers nothing is told: who shows more layers at that would never let the viewer close.
        if event.value == self._layer:
            self.changed.emit()


def _undone(layer: Labels) -> int:
    return len(getattr(layer, "_redo_history", ()))

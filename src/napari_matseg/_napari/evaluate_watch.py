"""Notices when layers that were compared are edited, without keeping the user waiting."""

from __future__ import annotations

from typing import Any

from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer, Signal

QUIET_MS = 500


class Watch(QObject):
    """Tells that some layers may have changed, or another plane may be on view, once it is quiet again.

    Undoing and redoing draw a layer anew and say no more than that: whether anything changed is for others to see.
    """

    settled = Signal()

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers: tuple[Layer, ...] = ()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(QUIET_MS)
        self._timer.timeout.connect(self.settled)
        viewer.dims.events.current_step.connect(self._on_touched)

    def watch(self, *layers: Layer) -> None:
        """Take notice of these layers from now on, and of no others."""
        for layer in self._layers:
            for event in _events(layer):
                event.disconnect(self._on_touched)
        self._layers = layers
        for layer in layers:
            for event in _events(layer):
                event.connect(self._on_touched)
        self._timer.stop()

    def forget(self) -> None:
        """Take no more notice."""
        self.watch()
        self._viewer.dims.events.current_step.disconnect(self._on_touched)

    def _on_touched(self, event: Any = None) -> None:
        if self._layers:
            self._timer.start()


def _events(layer: Layer) -> list[Any]:
    events = layer.events
    drawn = [events.paint, events.labels_update] if hasattr(events, "paint") else []
    return [events.set_data, events.data, events.scale, events.units, *drawn]

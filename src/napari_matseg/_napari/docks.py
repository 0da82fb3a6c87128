"""What all widgets in napari's docks have in common: they notice that they were closed."""

from __future__ import annotations

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QWidget


class Dock(QWidget):
    """A widget that napari puts into a dock. Subclasses say in `on_closed` what they stop and give back.

    Parameters
    ----------
    parent : QWidget, optional
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._closed = False

    def close_job(self) -> None:
        """Stop, and give back what is held; once."""
        if not self._closed:
            self._closed = True
            self.on_closed()

    def on_closed(self) -> None:
        """Stop, and give back what is held: long work, models, the viewer's events and keys."""
        raise NotImplementedError

    def event(self, event: QEvent) -> bool:
        """Notice that the dock was closed, of which napari tells only by taking the widget out."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.close_job()
        return bool(super().event(event))

"""Smaller copies of large micrographs, made while the viewer shows what there is of them."""

from __future__ import annotations

import time
from typing import Any

import napari
from napari.layers import Layer
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QApplication

from napari_matseg._napari.jobs import Job
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.progress import Progress
from napari_matseg.core.pyramid import Pyramid
from napari_matseg.core.pyramid_sample import Kind
from napari_matseg.settings import ViewSettings

PAUSE_S, SHARE = 0.4, 0.1
"""Between two looks at what was done since at least; and the share of the time that looking may take."""
PATIENCE_MS = 30_000
"""After this nobody will make a layer of what was read."""


def find_pyramid_of(micrograph: Micrograph, kind: Kind = "image") -> Pyramid | None:
    """Smaller copies for a micrograph that stays in its file, unless the file has enough of them."""
    settings = ViewSettings()
    coarsest = (micrograph.pixels, *micrograph.levels)[-1]
    n = len(micrograph.shape_planes)
    if micrograph.source is None or not isinstance(coarsest, LazyPixels):
        return None
    return (
        Pyramid(micrograph, settings.pyramid_bytes, kind)
        if max(coarsest.shape[n : n + 2]) > settings.pyramid_from
        else None
    )


def make_when_shown(pyramid: Pyramid) -> None:
    """Make the copies in the background once a layer of the viewer shows them; without a viewer nothing happens."""
    viewer = napari.current_viewer()
    if viewer is not None:
        Maker(viewer, pyramid)


class Maker(QObject):
    """Makes the copies of one layer. It ends with the layer, or the viewer, or when it is done.

    Parameters
    ----------
    viewer : napari.Viewer
        Which will have the layer soon.
    pyramid : Pyramid
    """

    def __init__(self, viewer: Any, pyramid: Pyramid) -> None:
        super().__init__(QApplication.instance())
        self._viewer = viewer
        self._pyramid = pyramid
        self._layer: Layer | None = None
        self._shown, self._took = time.monotonic(), 0.0
        self.job = Job(self)
        self.job.progressed.connect(self._on_progressed)
        self.job.ended.connect(self._on_ended)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.timeout.connect(self._forget)
        self._patience.start(PATIENCE_MS)

    def _on_inserted(self, event: Any) -> None:
        layer = event.value
        if self._layer is not None or not getattr(layer, "multiscale", False) or not self._is_shown_by(layer):
            return
        self._layer = layer
        self._patience.stop()
        layer.events.data.connect(self._on_data)
        self.job.start(self._pyramid.steps(), f"Smaller copies of {layer.name}")

    def _on_data(self, event: Any) -> None:
        """Notice that the layer shows something else."""
        if self._layer is not None and not self._is_shown_by(self._layer):
            self._give_up()

    def _is_shown_by(self, layer: Layer) -> bool:
        coarsest = layer.data[-1]
        return getattr(coarsest, "whole", coarsest) is self._pyramid.levels[-1]

    def _give_up(self) -> None:
        self._layer.events.data.disconnect(self._on_data)
        self._layer = None
        self.job.cancel()

    def _on_removed(self, event: Any) -> None:
        if self._layer is not None and event.value == self._layer:
            self._give_up()

    def _on_progressed(self, step: Progress) -> None:
        now = time.monotonic()
        if self._layer is not None and now - self._shown > max(PAUSE_S, self._took / SHARE):
            self._show()

    def _show(self) -> None:
        started = time.monotonic()
        self._layer.refresh(extent=False)
        self._shown = time.monotonic()
        self._took = self._shown - started

    def _on_ended(self, cancelled: bool) -> None:
        if self._layer is not None and not cancelled:
            self._show()
        self._forget()

    def _forget(self) -> None:
        if self._layer is not None:
            self._layer.events.data.disconnect(self._on_data)
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._layer = None
        self.deleteLater()

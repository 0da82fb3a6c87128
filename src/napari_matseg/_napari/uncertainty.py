"""Show where a model is unsure about an image, and where to label next."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_matseg._napari.jobs import Job
from napari_matseg._napari.layers import (
    KEY,
    OVERLAY,
    LayerData,
    as_read,
    file_of,
    full_resolution,
    micrograph_from_layer,
    placement,
)
from napari_matseg._napari.models import LoadedModels, load_torch
from napari_matseg._napari.parts import LayerChoice
from napari_matseg._napari.run_bar import RunBar
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.places import Place
from napari_matseg.core.progress import Progress
from napari_matseg.core.uncertainty_picture import COLOURS
from napari_matseg.errors import MatsegError
from napari_matseg.labelling import Uncertainty, uncertainty_steps
from napari_matseg.settings import SegmentSettings, UncertaintySettings

FRAME = "#5adcff"
SHOWN_PX = 4096  # longer sides get smaller copies for viewing
GAMMA = 0.8  # as little uncertainty is what most of it is
LETTERS = 14


@dataclass(frozen=True)
class _Target:
    """Where the result is to go, as it was when the run started."""

    layer: Layer
    shape: tuple[int, ...]
    place: dict[str, Any]


class UncertaintyBar(QWidget):
    """Button, progress and message: asks a model several times about an image, and shows where it is unsure.

    Parameters
    ----------
    viewer : napari.Viewer
    image : LayerChoice
        The image that is asked about.
    settings : callable
        Gives model, device and tiling, or raises a `MatsegError`.
    models : LoadedModels
    other : Job
        Of the widget that this is a part of; the two do not run at the same time.
    """

    busy = Signal(bool)
    """Whether it is at work now."""

    def __init__(
        self,
        viewer: Viewer,
        image: LayerChoice,
        settings: Callable[[], SegmentSettings],
        models: LoadedModels,
        other: Job,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._image, self._settings = viewer, image, settings
        self._models, self._other = models, other
        self._target: _Target | None = None
        self._closed = False
        self._job = Job(self)
        self._job.succeeded.connect(self._on_succeeded)
        self._job.ended.connect(self._on_ended)
        self.run_bar = RunBar(self._job, self.run, "Where to label next", units="")
        self.run_bar.run_button.setToolTip(
            "Asks the model eight times about the image, turned, magnified and in other contrasts.\n"
            "Where the answers differ or are undecided, it is likely to be wrong: label there, and train again."
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.run_bar)

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self._job.running

    def run(self) -> None:
        """Start asking; the map comes later, or an error is shown."""
        if self._job.running:
            return
        layer = self._image.layer
        if layer is None:
            self.run_bar.fail("There is no image; open one, or choose an image layer.")
            return
        if self._other.running:
            self.run_bar.fail("The model is at work; wait until it is done, or cancel that.")
            return
        try:
            settings = UncertaintySettings(segment=self._settings())
            micrograph = micrograph_from_layer(layer)
        except MatsegError as error:
            self.run_bar.fail(str(error))
            return
        self._target = _Target(layer, tuple(full_resolution(layer).shape), placement(layer))
        self.run_bar.begin()
        self.busy.emit(True)
        self._job.start(_ask(micrograph, file_of(layer), settings, self._models), f"Asking about {layer.name}")

    def close_job(self) -> None:
        """Stop; nothing is shown any more."""
        self._closed = True
        self._job.cancel()

    def _on_succeeded(self, result: Uncertainty) -> None:
        target = self._target
        if target is None or self._closed:
            return
        place = target.place
        there = target.layer in self._viewer.layers
        if there and tuple(full_resolution(target.layer).shape) == target.shape:
            place = placement(target.layer)  # it may have been moved meanwhile
        for data in (map_layer(result, target.layer.name, place), places_layer(result, target.layer.name, place)):
            self._viewer.add_layer(Layer.create(*data))
        if there:
            self._viewer.layers.selection.active = target.layer
        self.run_bar.say(_summary(result))

    def _on_ended(self) -> None:
        self._target = None
        self.busy.emit(False)
        if self._closed:
            self._models.clear()


def map_layer(result: Uncertainty, name: str, place: dict[str, Any]) -> LayerData:
    """Image layer of an uncertainty map, from 0, which is dark, to 1; of a large one with smaller copies."""
    levels = [result.map]
    while max(levels[-1].shape[-2:]) > SHOWN_PX:
        levels.append(levels[-1][..., ::2, ::2])
    kwargs = {
        "name": f"{name} uncertainty",
        "colormap": COLOURS,
        "blending": "additive",
        "contrast_limits": (0, 1),
        "gamma": GAMMA,
        "metadata": {KEY: {"kind": OVERLAY, "record": result.record}, "keeper": result.keeper},
        "multiscale": len(levels) > 1,
    }
    return levels if len(levels) > 1 else result.map, kwargs | place, "image"


def places_layer(result: Uncertainty, name: str, place: dict[str, Any]) -> LayerData:
    """Shapes layer of the squares to label next, numbered by rank."""
    shape_planes = result.map.shape[:-2]
    kwargs = {
        "name": f"{name} label next",
        "ndim": result.map.ndim,
        "shape_type": "rectangle",
        "face_color": "transparent",
        "edge_color": FRAME,
        "edge_width": max((max(one.height, one.width) for one in result.places), default=1) / 24,
        "features": {
            "rank": np.arange(1, len(result.places) + 1),
            "uncertainty": [one.uncertainty for one in result.places],
        },
        "metadata": {KEY: {"kind": OVERLAY}},
    }
    if result.places:
        kwargs["text"] = {"string": "{rank}", "size": LETTERS, "color": FRAME, "anchor": "upper_left"}
    return [_corners(one, shape_planes) for one in result.places], kwargs | place, "shapes"


def _corners(place: Place, shape_planes: tuple[int, ...]) -> np.ndarray:
    """Corners of a place; whole numbers are the middles of pixels."""
    plane = [int(i) for i in np.unravel_index(place.plane, shape_planes)] if shape_planes else []
    top, left = place.top - 0.5, place.left - 0.5
    bottom, right = top + place.height, left + place.width
    return np.array([[*plane, y, x] for y, x in ((top, left), (top, right), (bottom, right), (bottom, left))])


def _summary(result: Uncertainty) -> str:
    """Say in rich text what came out."""
    record = result.record
    n = len(result.places)
    squares = {0: "The model is sure everywhere.", 1: "Label square 1 next"}.get(n, f"Label squares 1 to {n} next")
    lines = [
        f"Mean uncertainty {result.mean:.3f} (0: sure, 1: all classes as likely), "
        f"{record['answers']} answers in {record['seconds']:.1f} s on {record['device']}.",
        f"{squares}, in this order: paint there in <i>Train</i>, and train again." if n else squares,
    ]
    return "<br>".join(lines)


def _ask(
    micrograph: Micrograph, file: Path | None, settings: UncertaintySettings, models: LoadedModels
) -> Generator[Progress, None, Uncertainty]:
    """`uncertainty_steps` with a model that may be in memory, on a layer as if our reader had read it."""
    yield Progress(0, 1, "loading the model")
    load_torch()
    model = models.get(settings.segment.model, settings.segment.device)
    return (yield from uncertainty_steps(as_read(micrograph, file), settings, loaded=[model]))

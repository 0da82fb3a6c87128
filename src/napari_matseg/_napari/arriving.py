"""A segmentation that is shown while it is made: a labels layer, filled tile by tile."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari.layers import Labels, Layer

from napari_matseg._napari.layers import KEY, OVERLAY, classes_layer, full_resolution, placement
from napari_matseg.core.pixels import Box, LazyPixels
from napari_matseg.core.progress import Arrived, Progress
from napari_matseg.settings import ClassSpec

PAUSE_S, SHARE = 0.3, 0.1
"""Between two looks at what has arrived at least; and the share of the time that looking may take."""
SMALLEST = 1024
"""Pixels on the longer side up to which no smaller copy is needed."""
STRIDE = 8
"""Every how manieth pixel of labels in files is kept in memory."""
KEPT = ("visible", "opacity", "blending", "contour", "name")
"""What the user may have set meanwhile."""


@dataclass(frozen=True)
class Preview:
    """What is there of a result, as a layer needs it.

    Attributes
    ----------
    specs : tuple of ClassSpec
    levels : tuple of arrays
        The classes and smaller copies, which fill while one looks at them.
    is_kept : bool
        Whether the parts lie in files, where the next run finds them.
    """

    specs: tuple[ClassSpec, ...]
    levels: tuple[Any, ...]
    is_kept: bool


def with_preview(work: Generator[Progress, None, Any], specs: tuple[ClassSpec, ...]) -> Generator[Progress, None, Any]:
    """Give what arrives as a `Preview`, the smaller copies of which are made here, in the worker's thread."""
    coarse: _Coarse | None = None
    preview, of = None, None
    _warm_up(specs)
    with closing(work):
        while True:
            try:
                step = next(work)
            except StopIteration as stop:
                return stop.value
            if isinstance(step, Arrived):
                if preview is None or of is not step.classes:
                    of = step.classes
                    coarse = None if isinstance(of, np.ndarray) else _Coarse(of)
                    levels = tuple(_strided(of)) if coarse is None else coarse.levels
                    preview = Preview(specs, levels, coarse is not None)
                if coarse is not None:
                    coarse.take(step)
                step = replace(step, classes=preview)
            yield step


class ArrivingLayer:
    """The layer that shows what has arrived. No other widget offers it, as it is not yet a result.

    Parameters
    ----------
    viewer : napari.Viewer
    image : Layer
        What is segmented.
    name : str
        Of the result.

    Attributes
    ----------
    name : str
    """

    def __init__(self, viewer: Any, image: Layer, name: str) -> None:
        self._viewer = viewer
        self.name = name
        self._image = image
        self._shape, self._place = tuple(full_resolution(image).shape), placement(image)
        self._preview: Preview | None = None
        self._layer: Labels | None = None
        self._shown, self._took = 0.0, 0.0

    @property
    def place(self) -> dict[str, Any]:
        """Arguments that put a layer on the image, which may have been moved meanwhile, or taken away."""
        is_there = self._image in self._viewer.layers and tuple(full_resolution(self._image).shape) == self._shape
        return placement(self._image) if is_there else self._place

    def describe_cancelled(self, step: Arrived) -> str:
        """Say what it means to cancel now."""
        more = "; the same run goes on from there" if step.classes.is_kept else ""
        return f"Cancelled after {step.done} of {step.total} tiles{more}. Your layers are as they were."

    def show(self, step: Arrived) -> None:
        """Show what has arrived, if it is time to, and there is more to come."""
        if step.done == step.total:
            return
        if step.classes is not self._preview:
            self.remove()
            self._preview = step.classes
            self._add()
            return
        if self._layer not in self._viewer.layers or not self._layer.visible:
            return
        started = time.monotonic()
        if started - self._shown < max(PAUSE_S, self._took / SHARE):
            return
        self._layer.refresh(extent=False)
        self._shown = time.monotonic()
        self._took = self._shown - started

    def replace_by(self, result: Layer) -> None:
        """Put the result where the layer is, or on top if the user took it away."""
        layer = self._layer
        if layer is None or layer not in self._viewer.layers:
            self._viewer.add_layer(result)
            return
        index = self._viewer.layers.index(layer)
        for what in KEPT:
            setattr(result, what, getattr(layer, what))
        self.remove()
        self._viewer.layers.insert(index, result)
        self._viewer.layers.selection.active = result

    def remove(self) -> None:
        """Take the layer away, if it is there."""
        if self._layer is not None and self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)
        self._layer = self._preview = None

    def _add(self) -> None:
        whole, *smaller = self._preview.levels
        data, kwargs, kind = classes_layer(whole, self._preview.specs, self.name, self.place, levels=tuple(smaller))
        kwargs["metadata"] = {KEY: {"kind": OVERLAY}}
        self._layer = self._viewer.add_layer(Layer.create(data, kwargs, kind))
        self._layer.editable = False
        self._shown = time.monotonic()


def _warm_up(specs: tuple[ClassSpec, ...]) -> None:
    """Let numba, if napari has it, compile for the colours here and not in the main thread: it takes seconds."""
    _, kwargs, _ = classes_layer(None, specs, "", {})
    kwargs["colormap"].map(np.zeros((2, 2), np.uint8))


def _strided(classes: np.ndarray) -> Iterator[np.ndarray]:
    """Give an array and smaller views of it: nothing is copied, so they fill with it."""
    yield classes
    while max(classes.shape[-2:]) > SMALLEST:
        classes = classes[..., ::2, ::2]
        yield classes


class _Coarse:
    """Smaller copies of labels in files: the first two are read when they are looked at, the others are in memory."""

    def __init__(self, classes: Any) -> None:
        self._classes = classes
        shape = classes.shape
        self._kept = np.zeros((*shape[:-2], *(-(-side // STRIDE) for side in shape[-2:])), classes.dtype)
        steps = [step for step in (2, 4) if max(shape[-2:]) > SMALLEST * step // 2]
        self.levels = (classes, *(self._level(step) for step in steps), *_strided(self._kept))

    def take(self, step: Arrived) -> None:
        """Copy every eighth pixel of what has arrived."""
        shape = self._classes.shape
        plane = tuple(int(i) for i in np.unravel_index(step.plane, shape[:-2])) if len(shape) > 2 else ()
        rows, columns = (slice(-(-part.start // STRIDE), -(-part.stop // STRIDE)) for part in (step.rows, step.columns))
        part = self._classes[(*plane, step.rows, step.columns)]
        first = -step.rows.start % STRIDE, -step.columns.start % STRIDE
        self._kept[(*plane, rows, columns)] = part[first[0] :: STRIDE, first[1] :: STRIDE]

    def _level(self, step: int) -> LazyPixels:
        shape = self._classes.shape

        def read(plane: int, box: Box) -> np.ndarray:
            where = np.unravel_index(plane, shape[:-2]) if len(shape) > 2 else ()
            spans = (slice(span.start * step, span.stop * step, step) for span in box)
            return np.asarray(self._classes[(*(int(i) for i in where), *spans)])

        return LazyPixels(
            (*shape[:-2], *(-(-side // step) for side in shape[-2:])), self._classes.dtype, len(shape) - 2, read
        )

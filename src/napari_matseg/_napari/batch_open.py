"""A micrograph of a batch and what came of it, as layers."""

from __future__ import annotations

import math
import re
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from napari.viewer import Viewer
from qtpy.QtCore import QObject, Signal

from napari_matseg._napari.batch_table import Entry
from napari_matseg._napari.jobs import Job
from napari_matseg._napari.layers import LayerData, classes_layer, image_layer, objects_layer, placement_of
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import Progress
from napari_matseg.core.read import read
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

OUTLINE = 2  # px
OBJECTS = "instances"
LABELS = re.compile(rf"labels(_\d+)?|{OBJECTS}")
"""Outputs that become layers over the image."""
MOST_PIXELS = 1 << 28
"""Of labels that are loaded as a whole."""


class Opener(QObject):
    """Shows one micrograph of a batch at a time, with its labels.

    The layers of the last one make room for those of the next, but for labels that were edited meanwhile.
    """

    failed = Signal(str)

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._next: Entry | None = None
        self._added: list[Layer] = []
        self._edited: set[Layer] = set()
        self.job = Job(self)
        self.job.succeeded.connect(self._show)
        self.job.failed.connect(self.failed)
        self.job.ended.connect(self._on_ended)

    def open(self, entry: Entry) -> None:
        """Show a micrograph as soon as it is read; only the last one that was asked for."""
        if self.job.running:
            self._next = entry
            self.job.cancel()
        else:
            self.job.start(read_result(entry), f"Opening {entry.source.path.name}")

    def close(self) -> None:
        """Show no more; the layers that are there stay."""
        self._next = None
        self.job.cancel()

    def _on_ended(self) -> None:
        entry, self._next = self._next, None
        if entry is not None:
            self.open(entry)

    def _show(self, layers: list[LayerData]) -> None:
        for layer in self._added:
            if layer in self._viewer.layers and layer not in self._edited:
                self._viewer.layers.remove(layer)
        self._added, self._edited = [], set()
        for data in layers:
            layer = self._viewer.add_layer(Layer.create(*data))
            self._added.append(layer)
            if isinstance(layer, Labels):
                if layer.name.endswith(" objects"):
                    layer.contour = OUTLINE
                layer.events.paint.connect(lambda _event, layer=layer: self._edited.add(layer))
        self._viewer.reset_view()


def read_result(entry: Entry) -> Generator[Progress, None, list[LayerData]]:
    """Read a micrograph and what came of it.

    Raises
    ------
    InputError
        If a file cannot be read, or the micrograph is no longer what it was.
    """
    yield Progress(0, 1, "reading")
    path, outcome = entry.source.path, entry.outcome
    micrograph, record, files = read(path), {}, {}
    if outcome is not None and outcome.files:
        record, files = outcome.record, outcome.files
        size = record["image"]["pixel_size_nm"]  # which may be from the recipe
        micrograph = replace(micrograph, pixel_size_nm=None if size is None else (float(size[0]), float(size[1])))
    layers = [image_layer(micrograph, path.stem)]
    for what, file in files.items():
        if LABELS.fullmatch(what):
            labels = read(file, find_bar=False)
            if (labels.shape_planes, labels.shape_yx) != (micrograph.shape_planes, micrograph.shape_yx):
                raise InputError(f"{path}: is of another size than when it was run; run it again.")
            layers.append(_labels_layer(labels, what, micrograph, record))
    return layers


def _labels_layer(labels: Micrograph, what: str, micrograph: Micrograph, record: dict[str, Any]) -> LayerData:
    many = math.prod(labels.pixels.shape) > MOST_PIXELS and labels.levels
    # Those of a pyramid cannot be painted on.
    pixels = [labels.pixels, *labels.levels] if many else np.asarray(labels.pixels)
    called = "objects" if what == OBJECTS else what.replace("_", " ")
    name, place = f"{Path(record['image']['path']).stem} {called}", placement_of(micrograph)
    kept = {"size_nm": micrograph.pixel_size_nm, "record": record["segmentation"]}
    specs = tuple(ClassSpec.model_validate(spec) for spec in record["model"].get("classes") or ())
    if what == "labels" and specs:
        data, kwargs, kind = classes_layer(pixels, specs, name, place, **kept)
    else:
        data, kwargs, kind = objects_layer(pixels, name, place, **kept)
    if what == OBJECTS:  # the classes below stay to be seen
        kwargs |= {"opacity": 1.0}
    return data, kwargs | {"multiscale": bool(many)}, kind

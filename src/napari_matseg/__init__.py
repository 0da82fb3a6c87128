"""Segment micrographs of materials: in napari, from the command line, from Python.

What is named here is loaded when it is first used, so that importing the package is quick.

Examples
--------
>>> import napari_matseg
>>> result = napari_matseg.segment("micrograph.tif", model="superalloy")  # doctest: +SKIP
>>> result.classes.shape  # doctest: +SKIP
(768, 1024)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_matseg._version import __version__ as __version__

if TYPE_CHECKING:
    from napari_matseg.core.checkpoints import available, load_model, read_card
    from napari_matseg.core.evaluate import evaluate
    from napari_matseg.core.metrics import Counts, Scores
    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.read import read
    from napari_matseg.errors import MatsegError
    from napari_matseg.pipeline import Segmentation, save, segment, segment_steps, train
    from napari_matseg.settings import ClassSpec, SegmentSettings, TrainSettings

_HOMES = {
    "available": "core.checkpoints",
    "load_model": "core.checkpoints",
    "read_card": "core.checkpoints",
    "Counts": "core.metrics",
    "Scores": "core.metrics",
    "Micrograph": "core.micrograph",
    "read": "core.read",
    "MatsegError": "errors",
    "Segmentation": "pipeline",
    "evaluate": "core.evaluate",
    "save": "pipeline",
    "segment": "pipeline",
    "segment_steps": "pipeline",
    "train": "pipeline",
    "ClassSpec": "settings",
    "SegmentSettings": "settings",
    "TrainSettings": "settings",
}

__all__ = [
    "ClassSpec",
    "Counts",
    "MatsegError",
    "Micrograph",
    "Scores",
    "SegmentSettings",
    "Segmentation",
    "TrainSettings",
    "available",
    "evaluate",
    "load_model",
    "read",
    "read_card",
    "save",
    "segment",
    "segment_steps",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'napari_matseg' has no attribute {name!r}")
    value = getattr(import_module(f"napari_matseg.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

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
    from napari_matseg.comparing import compare, compare_steps, save_comparison
    from napari_matseg.core.checkpoints import available, load_model, read_card
    from napari_matseg.core.encoders.sources import fetch_encoder
    from napari_matseg.core.evaluate import evaluate
    from napari_matseg.core.exporting.bioimage import export_bioimage
    from napari_matseg.core.exporting.onnx_write import export_onnx
    from napari_matseg.core.importing import import_model
    from napari_matseg.core.metrics import Counts, Scores
    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.prompt import PromptSession
    from napari_matseg.core.prompts import Prompt, make_prompts
    from napari_matseg.core.read import read
    from napari_matseg.core.recipes import write_recipe
    from napari_matseg.errors import MatsegError
    from napari_matseg.labelling import Uncertainty, label_next, save_uncertainty, uncertainty, uncertainty_steps
    from napari_matseg.measuring import Measured, measure, measure_steps, sizes_of
    from napari_matseg.pipeline import Segmentation, cross_validate, save, segment, segment_steps, train
    from napari_matseg.prompting import Objects, find_steps, prompt_steps, save_objects
    from napari_matseg.reporting import save_measured
    from napari_matseg.running import replay, run
    from napari_matseg.settings import (
        CentreSettings,
        ClassSpec,
        EvaluateSettings,
        MeasureSettings,
        PromptSettings,
        Recipe,
        SegmentSettings,
        TrainSettings,
        UncertaintySettings,
        read_recipe,
    )

_HOMES = {
    "available": "core.checkpoints",
    "load_model": "core.checkpoints",
    "read_card": "core.checkpoints",
    "Counts": "core.metrics",
    "Scores": "core.metrics",
    "Micrograph": "core.micrograph",
    "PromptSession": "core.prompt",
    "Prompt": "core.prompts",
    "make_prompts": "core.prompts",
    "read": "core.read",
    "write_recipe": "core.recipes",
    "MatsegError": "errors",
    "Segmentation": "pipeline",
    "evaluate": "core.evaluate",
    "fetch_encoder": "core.encoders.sources",
    "import_model": "core.importing",
    "export_bioimage": "core.exporting.bioimage",
    "export_onnx": "core.exporting.onnx_write",
    "save": "pipeline",
    "segment": "pipeline",
    "segment_steps": "pipeline",
    "train": "pipeline",
    "cross_validate": "pipeline",
    "Objects": "prompting",
    "find_steps": "prompting",
    "prompt_steps": "prompting",
    "save_objects": "prompting",
    "compare": "comparing",
    "compare_steps": "comparing",
    "save_comparison": "comparing",
    "Uncertainty": "labelling",
    "label_next": "labelling",
    "save_uncertainty": "labelling",
    "uncertainty": "labelling",
    "uncertainty_steps": "labelling",
    "Measured": "measuring",
    "measure": "measuring",
    "measure_steps": "measuring",
    "save_measured": "reporting",
    "replay": "running",
    "run": "running",
    "sizes_of": "measuring",
    "CentreSettings": "settings",
    "EvaluateSettings": "settings",
    "MeasureSettings": "settings",
    "ClassSpec": "settings",
    "PromptSettings": "settings",
    "Recipe": "settings",
    "SegmentSettings": "settings",
    "TrainSettings": "settings",
    "UncertaintySettings": "settings",
    "read_recipe": "settings",
}

__all__ = [
    "CentreSettings",
    "ClassSpec",
    "Counts",
    "EvaluateSettings",
    "MatsegError",
    "MeasureSettings",
    "Measured",
    "Micrograph",
    "Objects",
    "Prompt",
    "PromptSession",
    "PromptSettings",
    "Recipe",
    "Scores",
    "SegmentSettings",
    "Segmentation",
    "TrainSettings",
    "Uncertainty",
    "UncertaintySettings",
    "available",
    "compare",
    "compare_steps",
    "cross_validate",
    "evaluate",
    "export_bioimage",
    "export_onnx",
    "fetch_encoder",
    "find_steps",
    "import_model",
    "label_next",
    "load_model",
    "make_prompts",
    "measure",
    "measure_steps",
    "prompt_steps",
    "read",
    "read_card",
    "read_recipe",
    "replay",
    "run",
    "save",
    "save_comparison",
    "save_measured",
    "save_objects",
    "save_uncertainty",
    "segment",
    "segment_steps",
    "sizes_of",
    "train",
    "uncertainty",
    "uncertainty_steps",
    "write_recipe",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'napari_matseg' has no attribute {name!r}")
    value = getattr(import_module(f"napari_matseg.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The only home of defaults.

A settings object is at once what a widget edits, what the command line sets, the YAML recipe and the
record of what was done. All are frozen; unknown keys are errors.
"""

from napari_matseg.settings.base import (
    Classes,
    ClassSpec,
    Colour,
    Device,
    Fraction,
    NotNegative,
    Positive,
    Quantity,
    Range,
    Settings,
    explain,
    make_settings,
)
from napari_matseg.settings.files import load_recipe
from napari_matseg.settings.measure import EvaluateSettings, MeasureSettings
from napari_matseg.settings.network import (
    ENCODERS,
    UPSAMPLINGS,
    ArchitectureSettings,
    NormaliseSettings,
    Rate,
    Upsampling,
)
from napari_matseg.settings.prompt import CentreSettings, EverythingSettings, PromptSettings
from napari_matseg.settings.prompt_train import PromptSource, PromptStage, PromptTrainSettings
from napari_matseg.settings.segment import SegmentSettings
from napari_matseg.settings.train import AugmentSettings, DataSettings, LossTerm, TrainSettings

__all__ = [
    "ENCODERS",
    "UPSAMPLINGS",
    "ArchitectureSettings",
    "AugmentSettings",
    "CentreSettings",
    "ClassSpec",
    "Classes",
    "Colour",
    "DataSettings",
    "Device",
    "EvaluateSettings",
    "EverythingSettings",
    "Fraction",
    "LossTerm",
    "MeasureSettings",
    "NormaliseSettings",
    "NotNegative",
    "Positive",
    "PromptSettings",
    "PromptSource",
    "PromptStage",
    "PromptTrainSettings",
    "Quantity",
    "Range",
    "Rate",
    "SegmentSettings",
    "Settings",
    "TrainSettings",
    "Upsampling",
    "explain",
    "load_recipe",
    "make_settings",
]

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
from napari_matseg.settings.files import Training, load_recipe
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
from napari_matseg.settings.prompt_train import (
    PromptSource,
    PromptStage,
    PromptTrainSettings,
    RefineTrainSettings,
    TaughtByPrompts,
)
from napari_matseg.settings.recipe import CleanSettings, OutputSettings, PromptStep, ReadSettings, Recipe
from napari_matseg.settings.recipe_files import make_recipe, read_recipe, recipe_text
from napari_matseg.settings.segment import SegmentSettings
from napari_matseg.settings.train import AugmentSettings, ClassDataSettings, DataSettings, LossTerm, TrainSettings
from napari_matseg.settings.uncertainty import UncertaintySettings
from napari_matseg.settings.viewing import ViewSettings

__all__ = [
    "ENCODERS",
    "UPSAMPLINGS",
    "ArchitectureSettings",
    "AugmentSettings",
    "CentreSettings",
    "ClassDataSettings",
    "ClassSpec",
    "Classes",
    "CleanSettings",
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
    "OutputSettings",
    "Positive",
    "PromptSettings",
    "PromptSource",
    "PromptStage",
    "PromptStep",
    "PromptTrainSettings",
    "Quantity",
    "Range",
    "Rate",
    "ReadSettings",
    "Recipe",
    "RefineTrainSettings",
    "SegmentSettings",
    "Settings",
    "TaughtByPrompts",
    "TrainSettings",
    "Training",
    "UncertaintySettings",
    "Upsampling",
    "ViewSettings",
    "explain",
    "load_recipe",
    "make_recipe",
    "make_settings",
    "read_recipe",
    "recipe_text",
]

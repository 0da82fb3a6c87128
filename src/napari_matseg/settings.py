"""The only home of defaults.

A settings object is at once what a widget edits, what the command line sets, the YAML recipe and the
record of what was done. All are frozen; unknown keys are errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_matseg.errors import SettingsError

Colour = tuple[
    Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)]
]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
Fraction = Annotated[float, Field(ge=0, le=1)]

SAID_PLAINLY = {"extra_forbidden": "there is no such setting; correct its name", "missing": "is missing; give it"}


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] <= limits[1]:
        raise ValueError("must be two numbers above 0, the smaller first")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_rising)]


class Settings(BaseModel):
    """Base of all settings: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClassSpec(Settings):
    """One class of a segmentation; its id is its place in the list, 0 being background or matrix."""

    name: Annotated[str, Field(min_length=1)]
    colour: Colour


def _named_apart(classes: tuple[ClassSpec, ...]) -> tuple[ClassSpec, ...]:
    if len({spec.name for spec in classes}) < len(classes):
        raise ValueError("two classes have the same name; give each its own")
    return classes


Classes = Annotated[tuple[ClassSpec, ...], Field(min_length=2, max_length=255), AfterValidator(_named_apart)]


class ArchitectureSettings(Settings):
    """A network, by name and shape."""

    name: Literal["unet", "deeplabv3plus"] = "unet"
    encoder: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "resnet18"
    """One of segmentation-models-pytorch's; no colon or slash, with which timm would fetch it from elsewhere."""
    in_channels: Annotated[int, Field(ge=1)] = 1
    encoder_depth: Annotated[int, Field(ge=3, le=5)] = 5
    fold: Annotated[int, Field(ge=1, le=4)] = 1
    """Fold blocks of fold x fold pixels into channels before the network and unfold its maps after it: it then sees
    `fold` times as far at 1/fold**2 of the cost, at the full resolution of the result."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the network's constructor, such as `decoder_channels`."""


class NormaliseSettings(Settings):
    """How grey values become network input: two percentiles of the whole micrograph go to -1 and 1."""

    low: Annotated[float, Field(ge=0, lt=50)] = 1.0
    high: Annotated[float, Field(gt=50, le=100)] = 99.0
    limit: Annotated[float, Field(ge=1)] = 3.0
    """Values are clipped to +-limit, so that a hot pixel stays one pixel."""


class SegmentSettings(Settings):
    """How a micrograph is segmented."""

    model: str = "particles"
    """Name of a shipped or installed model, or path of a model file."""
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """"auto" is half precision on a GPU that has it, else float32."""
    tiling: Literal["auto", "exact", "blend", "whole"] = "auto"
    """"exact" cuts away a halo as wide as the network reaches; "auto" a narrower one that changes at most
    0.01 % of the pixels, or blends where the reach has no end; "whole" does not tile."""
    tile: Annotated[int, Field(ge=64)] | None = None
    """Side of the largest window that the network sees, in pixels; None: from the memory there is."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Tiles per pass; None: from the memory there is."""
    overlap: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of a tile that its neighbour covers too, where tiles are blended."""
    exclude_data_bar: bool = True
    """Leave the instrument's data bar out of statistics and results (it becomes class 0)."""
    instances: bool = False
    """Also give every object an id of its own."""
    probabilities: bool = False
    """Keep the probability of each class."""


class LossTerm(Settings):
    """One term of a weighted sum of losses."""

    name: Literal["cross_entropy", "jaccard", "dice", "focal"]
    weight: Annotated[float, Field(gt=0)] = 1.0
    smoothing: Annotated[float, Field(gt=0)] = 1.0
    """Epsilon of soft Jaccard and Dice; above 0, for without it a class that is nowhere gives 0/0."""
    gamma: Annotated[float, Field(ge=0)] = 2.0
    """Focusing exponent of the focal loss."""


class AugmentSettings(Settings):
    """Random changes to each training crop; a probability of 0 switches one off."""

    scale: Range = (0.5, 2.0)
    """Magnification, drawn log-uniformly."""
    aspect: Annotated[float, Field(ge=1)] = 1.2
    """Largest ratio between the magnifications along the two axes."""
    rotate: bool = True
    """Any angle; flips as well."""
    brightness: Annotated[float, Field(ge=0)] = 0.4
    contrast: Range = (0.5, 1.6)
    gamma: Range = (0.6, 1.6)
    invert: Fraction = 0.3
    shading: Fraction = 0.3
    blur: Fraction = 0.3
    noise: Fraction = 0.5
    burnt_in: Fraction = 0.0
    """Scale bars and lettering drawn over the image."""


class DataSettings(Settings):
    """Images with truth; paths are relative to the data folder that is given to the training."""

    images: Path
    truth: Path
    truth_suffix: str = ""
    """What the truth's name has more than the image's, before the extension."""
    train: tuple[str, ...] | Path
    """Names of the images, or a text file of them."""
    validation: tuple[str, ...] | Path | Annotated[float, Field(gt=0, lt=1)] = ()
    """Names, a text file of them, or the share of the training images to hold out; empty for none."""
    instances: bool = False
    """Whether the truth holds one id per object; each object is then of class 1."""


class TrainSettings(Settings):
    """A training, from data to model file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    licence: str = ""
    data_source: str = ""
    not_for: str = ""
    pixel_size_nm: Annotated[float, Field(gt=0)] | None = None
    classes: Classes
    distance: bool = False
    """Also learn how deep inside its object each pixel lies, which splits touching objects."""
    data: DataSettings
    architecture: ArchitectureSettings = ArchitectureSettings()
    normalise: NormaliseSettings = NormaliseSettings()
    losses: Annotated[tuple[LossTerm, ...], Field(min_length=1)] = (
        LossTerm(name="cross_entropy"),
        LossTerm(name="dice"),
    )
    augment: AugmentSettings = AugmentSettings()
    crop: Annotated[int, Field(ge=64)] = 256
    batch: Annotated[int, Field(ge=1)] = 8
    steps: Annotated[int, Field(ge=1)] = 2000
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    average: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay of the moving average of the weights, which is what is kept; 0 for none."""
    evaluate_every: Annotated[int, Field(ge=1)] = 200
    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop when so many evaluations brought nothing better; needs validation images."""
    synthetic: Fraction = 0.0
    """Share of the training crops that are synthetic micrographs."""
    seed: Annotated[int, Field(ge=0)] = 0
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Not float16, in which small gradients vanish."""

    @model_validator(mode="after")
    def _fit_together(self) -> TrainSettings:
        if self.patience is not None and self.data.validation == ():
            raise ValueError("patience needs validation images; name some, or leave patience out")
        if self.distance and not self.data.instances and not self.synthetic:
            raise ValueError("distance needs a truth with one id per object; set data.instances, or leave distance out")
        if self.synthetic and len(self.classes) > 3:
            raise ValueError("synthetic micrographs have two or three classes, not more; leave synthetic out")
        if self.architecture.name == "deeplabv3plus" and self.batch == 1:
            raise ValueError("batch must be 2 or more for deeplabv3plus, which normalises one value per image")
        return self


def load_recipe(path: Path) -> TrainSettings:
    """Read a training recipe.

    Parameters
    ----------
    path : Path
        A YAML file with the fields of `TrainSettings`.

    Raises
    ------
    SettingsError
        If the file is missing, is not YAML, or holds unknown keys or impossible values.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); check the path.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        first = str(error).splitlines()[0]
        raise SettingsError(f"{path}: is not YAML ({first}); see the recipes in the documentation.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: holds no settings; see the recipes in the documentation.")
    try:
        return TrainSettings.model_validate(content)
    except ValidationError as error:
        raise SettingsError(f"{path}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """One line from pydantic's report: each setting that is wrong, and why."""
    reasons = []
    for item in error.errors():
        # Where a setting may be one of several things, pydantic puts the name of each into its place.
        place = ".".join(str(part) for part in item["loc"] if isinstance(part, int) or part.isidentifier())
        reason = SAID_PLAINLY.get(item["type"], item["msg"].removeprefix("Value error, "))
        reasons.append(f"{place}: {reason}" if place else reason)
    return "; ".join(reasons)

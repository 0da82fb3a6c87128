"""The only home of defaults.

A settings object is at once what a widget edits, what the command line sets, the YAML recipe and the
record of what was done. All are frozen; unknown keys are errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_matseg.errors import SettingsError

Colour = tuple[
    Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)]
]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Quantity = Literal["diameter", "feret_max", "feret_min", "major_axis", "minor_axis", "perimeter", "area"]

SAID_PLAINLY = {"extra_forbidden": "there is no such setting; correct its name", "missing": "is missing; give it"}


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] <= limits[1]:
        raise ValueError("must be two numbers above 0, the smaller first")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_rising)]


class Settings(BaseModel):
    """Base of all settings: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


class ClassSpec(Settings):
    """One class of a segmentation; its id is its place in the list, 0 being background or matrix."""

    name: Annotated[str, Field(min_length=1)]
    colour: Colour


def _named_apart(classes: tuple[ClassSpec, ...]) -> tuple[ClassSpec, ...]:
    if len({spec.name for spec in classes}) < len(classes):
        raise ValueError("two classes have the same name; give each its own")
    return classes


Classes = Annotated[tuple[ClassSpec, ...], Field(min_length=2, max_length=255), AfterValidator(_named_apart)]


Rate = Annotated[int, Field(ge=1)]
Upsampling = Literal["nearest", "bilinear", "transposed"]

UPSAMPLINGS: dict[str, tuple[Upsampling, ...]] = {
    "unet": ("nearest", "bilinear", "transposed"),
    "deeplabv3": ("bilinear",),
    "deeplabv3plus": ("bilinear",),
    "hrnetv2": ("bilinear", "nearest", "transposed"),
    "segformer": ("bilinear",),
    "vit_adapter": ("bilinear", "nearest", "transposed"),
    "fcn": ("transposed", "bilinear", "nearest"),
    "fpn": ("nearest", "bilinear"),
}
"""Ways in which the maps of a network may be made larger; the first is that of its paper or library."""

ENCODERS = {"hrnetv2": "tu-hrnet_w18", "segformer": "mit_b0", "vit_adapter": "tu-vit_tiny_patch16_224"}
"""Encoders of the networks that do not take any."""


class ArchitectureSettings(Settings):
    """A network, by name and shape."""

    name: Literal["unet", "deeplabv3", "deeplabv3plus", "hrnetv2", "segformer", "vit_adapter", "fcn", "fpn"] = "unet"
    encoder: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "resnet18"
    """One of segmentation-models-pytorch's; no colon or slash, with which timm would fetch it from elsewhere. Where it
    is not said, networks that do not take any have that of `ENCODERS`."""
    in_channels: Annotated[int, Field(ge=1)] = 1
    encoder_depth: Annotated[int, Field(ge=3, le=5)] = 5
    fold: Annotated[int, Field(ge=1, le=4)] = 1
    """Fold blocks of fold x fold pixels into channels before the network and unfold its maps after it: it then sees
    `fold` times as far at 1/fold**2 of the cost, at the full resolution of the result."""
    upsampling: Upsampling | None = None
    """How the decoder makes maps larger, where it has a choice (`UPSAMPLINGS`); None: the first of those."""
    atrous_rates: tuple[Rate, Rate, Rate] | None = None
    """Dilations of DeepLab's three parallel convolutions, in cells of the encoder's last map; None: 12, 24, 36."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the network's constructor, such as `decoder_channels`."""

    @model_validator(mode="before")
    @classmethod
    def _with_encoder(cls, given: Any) -> Any:
        if isinstance(given, dict) and "encoder" not in given and given.get("name") in ENCODERS:
            return given | {"encoder": ENCODERS[given["name"]]}
        return given

    @model_validator(mode="after")
    def _fit_together(self) -> ArchitectureSettings:
        choices = UPSAMPLINGS[self.name]
        if self.upsampling and self.upsampling not in choices:
            raise ValueError(f"upsampling of {self.name} can be {' or '.join(choices)}; choose that, or leave it out")
        if self.atrous_rates and self.name not in ("deeplabv3", "deeplabv3plus"):
            raise ValueError(f"{self.name} has no dilations; leave atrous_rates out, or choose deeplabv3plus")
        if self.encoder_depth != 5 and self.name in ("hrnetv2", "segformer", "vit_adapter", "fcn"):
            raise ValueError(f"encoder_depth of {self.name} is always 5; leave it out")
        return self


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

    name: Literal["cross_entropy", "jaccard", "dice", "focal", "lovasz", "tversky", "boundary"]
    weight: Annotated[float, Field(gt=0)] = 1.0
    class_weights: tuple[NotNegative, ...] | Literal["balanced"] | None = None
    """How much each class counts; "balanced": the more, the rarer it is in the training's truth. None: all alike."""
    smoothing: Annotated[float, Field(gt=0)] = 1.0
    """Epsilon of soft Jaccard, Dice and Tversky; above 0, for without it a class that is nowhere gives 0/0."""
    gamma: Annotated[float, Field(ge=0)] = 2.0
    """Focusing exponent of the focal loss."""
    alpha: Positive = 0.3
    """Tversky: what a pixel costs that was found and is not there."""
    beta: Positive = 0.7
    """Tversky: what a pixel costs that is there and was not found."""
    power: Positive = 1.0
    """Tversky: exponent of the loss; 0.75 makes it the focal Tversky loss."""
    boundary_weight: NotNegative = 10.0
    """Boundary: how much more pixels at a boundary count than those far from any."""
    boundary_width_px: Annotated[float, Field(gt=0, le=50)] = 5.0
    """Boundary: how wide it is, as the standard deviation of a Gaussian."""

    @model_validator(mode="after")
    def _weighs_something(self) -> LossTerm:
        if isinstance(self.class_weights, tuple) and not any(self.class_weights):
            raise ValueError("class_weights: no class counts; give one of them more than 0")
        return self


class AugmentSettings(Settings):
    """Random changes to each training crop; a probability of 0 switches one off."""

    scale: Range = (0.5, 2.0)
    """Magnification, drawn log-uniformly."""
    aspect: Annotated[float, Field(ge=1)] = 1.2
    """Largest ratio between the magnifications along the two axes."""
    rotate: bool | Literal["quarter", "mirror"] = True
    """True: any angle, and mirrored or not; "quarter": by quarter turns, and mirrored or not; "mirror": left and right
    exchanged or not."""
    elastic: Fraction = 0.0
    """Smooth distortion, of image and truth alike."""
    brightness: Annotated[float, Field(ge=0)] = 0.4
    contrast: Range = (0.5, 1.6)
    gamma: Range = (0.6, 1.6)
    invert: Fraction = 0.3
    shading: Fraction = 0.3
    streaks: Fraction = 0.0
    """Bright and dark lines along the scan, as of charging."""
    blur: Fraction = 0.3
    defocus: Fraction = 0.0
    """Blur by a disc or, of an astigmatic lens, an ellipse."""
    shot_noise: Fraction = 0.0
    """Poisson noise of few electrons: where it is bright there is more."""
    noise: Fraction = 0.5
    readout_noise: Fraction = 0.0
    """Gaussian noise, the same everywhere."""
    burnt_in: Fraction = 0.0
    """Scale bars and lettering drawn over the image; the truth stays what it was beneath."""
    data_bar: Fraction = 0.0
    """A data bar pasted over the bottom or the top; it is of class 0 there, but what is ignored stays so."""


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
        if any(isinstance(t.class_weights, tuple) and len(t.class_weights) != len(self.classes) for t in self.losses):
            raise ValueError("class_weights must be one number for each class, or balanced; give as many as classes")
        if self.architecture.name in ("deeplabv3", "deeplabv3plus") and self.batch == 1:
            raise ValueError(
                f"batch must be 2 or more for {self.architecture.name}, which normalises one value per image"
            )
        return self


class PromptSettings(Settings):
    """How points and boxes become masks."""

    model: str = "compact"
    """Name of a promptable model that ships or was downloaded, or path of a checkpoint."""
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    choice: Literal["best", "part", "particle", "agglomerate"] = "best"
    """Which of the three masks that answer a single click: the one with the best predicted IoU, or the smallest, the
    middle or the largest of them. Prompts of more than one click, or with a box, have one answer."""
    area_nm2: Range | None = None
    """Smallest and largest area of an object; answers outside are passed over where another fits, else flagged."""
    area_px: Range | None = None
    """The same in pixels, for micrographs of unknown pixel size."""
    overlaps: Literal["score", "smaller", "separate"] = "score"
    """Whose pixels those of two objects are: "score", the object's with the higher score at the pixel, but an object
    that would lose most of itself keeps them; "smaller", the smaller object's; "separate", both keep theirs."""
    fill_holes_px: Annotated[int, Field(ge=0)] = 64
    """Holes of up to so many pixels are filled."""
    drop_specks_px: Annotated[int, Field(ge=0)] = 64
    """Pieces of up to so many pixels apart from an object's largest are removed."""
    one_piece: bool = True
    """Let the small model's objects hang together and fill the box that was drawn round them, which it does not know by
    itself; the answers of other models stay as they are."""
    min_stability: Fraction = 0.8
    """Objects whose area changes by more than this allows when the threshold moves are flagged for a look."""
    min_iou: Fraction = 0.5
    """Objects whose predicted IoU is lower are flagged."""
    scale: Annotated[float, Field(gt=0)] | None = None
    """Magnification at which the model sees the micrograph; None: so that the object fits."""
    exclude_data_bar: bool = True
    cache_gb: Annotated[float, Field(ge=0)] = 4.0
    """Room on disk for embeddings, shared by all sessions; 0 keeps none."""


class PromptSource(Settings):
    """Images with truth that a promptable model learns from."""

    data: DataSettings
    share: Fraction
    """Of the crops; what the shares of all sources leave is synthetic."""
    classes: Classes | None = None
    """Where the truth holds classes: their objects are the connected pieces. None: the truth holds objects."""


class PromptStage(Settings):
    """Some steps of a training, on crops of one size."""

    crop: Annotated[int, Field(ge=64, le=512, multiple_of=64)]
    """Side in pixels of the micrograph; the frame is 512."""
    batch: Annotated[int, Field(ge=1)]
    steps: Annotated[int, Field(ge=1)]


class PromptTrainSettings(Settings):
    """The training of a promptable model, from data to model file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    licence: str = ""
    data_source: str = ""
    not_for: str = ""
    sources: Annotated[tuple[PromptSource, ...], Field(min_length=1)]
    start: str | None = None
    """Model whose U-Net the image encoder starts from; None for random weights."""
    augment: AugmentSettings = AugmentSettings()
    boxes: Fraction = 0.35
    """Share of the crops whose objects are asked for by boxes instead of clicks."""
    corrections: Fraction = 0.3
    """Share of the steps that learn from a further click where the last answer was wrong."""
    stages: Annotated[tuple[PromptStage, ...], Field(min_length=1)] = (
        PromptStage(crop=128, batch=8, steps=1200),
        PromptStage(crop=256, batch=4, steps=2600),
        PromptStage(crop=512, batch=2, steps=400),
    )
    """Small crops first, on which many steps cost little; whole frames last."""
    prompts: Annotated[int, Field(ge=1)] = 8
    """Objects asked for in each crop."""
    learning_rate: Annotated[float, Field(gt=0)] = 6e-4
    encoder_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Learning rate of the image encoder."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Decay of the moving average of the weights, which is what is kept."""
    evaluate_every: Annotated[int, Field(ge=1)] = 400
    seed: Annotated[int, Field(ge=0)] = 0
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @model_validator(mode="after")
    def _can_be_changed_so(self) -> PromptTrainSettings:
        for name in ("elastic", "burnt_in", "data_bar"):
            if getattr(self.augment, name):
                raise ValueError(f"augment.{name} is for models that know classes; leave it out")
        return self

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage(self, step: int) -> PromptStage:
        """Stage that a step, counted from 0, belongs to."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]


class CentreSettings(Settings):
    """How the centres of particles are found."""

    method: Literal["model", "log", "doh"] = "model"
    """"model" takes a segmentation model's depth map, or the distance to the edge of what it segmented; "log" and
    "doh" look for blobs in the image itself, by the Laplacian of Gaussian or the determinant of the Hessian."""
    model: str = "particles"
    """Name of a shipped or installed model, or path of a model file; for method "model"."""
    depth: Fraction = 0.6
    """Model with a depth map: how deep inside its object the deepest pixel must lie, which is how sure the model is."""
    neck: Fraction = 0.5
    """Model: objects that touch are parted where the depth of the neck between them is less than this share of the
    shallower one's; without a depth map its cross-section, as of balls. 0 parts none."""
    polarity: Literal["bright", "dark", "either"] = "either"
    """Blobs: lighter or darker than what surrounds them; a model finds what it was trained on."""
    contrast: Fraction = 0.3
    """Blobs: the least difference from what surrounds them, as a share of the micrograph's grey range."""
    overlap: Fraction = 0.1
    """Blobs: of two that share more than this part of the smaller one's area, the stronger is kept."""
    min_diameter_px: Positive | None = None
    max_diameter_px: Positive | None = None
    min_diameter_nm: Positive | None = None
    max_diameter_nm: Positive | None = None
    """Of the disc of the same area, in pixels or in nanometres, which need the pixel size. None: from 6 px, below which
    most is noise; up to any size, for blobs the shorter side of the micrograph."""
    exclude_edge: bool = False
    """Leave out objects that reach the edge of the micrograph or its data bar."""
    exclude_data_bar: bool = True
    """Look for nothing in the instrument's data bar."""
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @model_validator(mode="after")
    def _one_range(self) -> CentreSettings:
        for bound in ("min", "max"):
            if getattr(self, f"{bound}_diameter_px") is not None and getattr(self, f"{bound}_diameter_nm") is not None:
                raise ValueError(f"{bound}_diameter is given in px and in nm; give one of the two")
        for unit in ("px", "nm"):
            low, high = getattr(self, f"min_diameter_{unit}"), getattr(self, f"max_diameter_{unit}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_diameter_{unit} must not be above max_diameter_{unit}")
        return self


class EverythingSettings(Settings):
    """How all objects are found where nobody points at them; the rest is in `PromptSettings`."""

    spacing: Positive | None = None
    """From one point of the grid to the next, in pixels; None: a 32nd of what the model sees at once."""
    min_iou: Fraction = 0.75
    """Answers whose predicted IoU is lower are no objects."""
    min_stability: Fraction = 0.75
    """Answers whose area changes by more than this allows when the threshold moves are no objects."""
    max_overlap: Fraction = 0.5
    """Of two answers with a greater IoU, the better is kept."""
    nested: Literal["smaller", "larger", "both"] = "smaller"
    """Which to keep where objects lie in another: "smaller", them, if together they cover more than half of it as the
    particles of an agglomerate do, and else what holds them; "larger", always what holds them; "both", all."""


class MeasureSettings(Settings):
    """How objects, phases and grains are measured."""

    edge: Literal["miles-lantuejoul", "guard", "drop", "keep"] = "miles-lantuejoul"
    """What is done about objects that the edge of the field cuts, of which more are large: "miles-lantuejoul" leaves
    them out and weighs each of the others by how seldom one of its size lies whole in the field; "guard" counts
    those with their centre in a frame inside the field; "drop" leaves them out, and "keep" keeps them,
    and neither makes up for it."""
    guard_px: Positive | None = None
    """From the edge of the field to the counting frame, in pixels; None: the extent of the largest object."""
    quantity: Quantity = "diameter"
    """Which size distributions are of; "diameter" is that of the disc of the same area."""
    weighting: Literal["number", "area"] = "number"
    """Whether an object counts as one, or as its area."""
    min_area_px: Annotated[int, Field(ge=0)] = 0
    """Objects with fewer pixels are no objects."""
    exclude_data_bar: bool = True
    """Take the field to end at the instrument's data bar."""


class EvaluateSettings(Settings):
    """How a segmentation is held against the truth."""

    objects: bool = False
    """Compare objects one by one, instead of classes pixel by pixel."""
    iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    """From which IoU on two objects are the same one, where errors are listed."""
    tolerance_px: Positive = 2.0
    """How far two boundaries may lie apart to be the same one."""
    bootstrap: Annotated[int, Field(ge=0)] = 2000
    """How often the images are drawn anew for the confidence intervals; 0 for none."""
    seed: Annotated[int, Field(ge=0)] = 0


def load_recipe(path: Path) -> TrainSettings | PromptTrainSettings:
    """Read a training recipe.

    Parameters
    ----------
    path : Path
        A YAML file with the fields of `TrainSettings`, or, where it names `sources`, of `PromptTrainSettings`.

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
        return (PromptTrainSettings if "sources" in content else TrainSettings).model_validate(content)
    except ValidationError as error:
        raise SettingsError(f"{path}: {explain(error)}") from error


def make_settings(kind: type[S], **given: Any) -> S:
    """Make settings of values that a user gave.

    Raises
    ------
    SettingsError
        If a value is impossible.
    """
    try:
        return kind(**given)
    except ValidationError as error:
        raise SettingsError(explain(error)) from error


def explain(error: ValidationError) -> str:
    """One line from pydantic's report: each setting that is wrong, and why."""
    reasons = []
    for item in error.errors():
        # Where a setting may be one of several things, pydantic puts the name of each into its place.
        place = ".".join(str(part) for part in item["loc"] if isinstance(part, int) or part.isidentifier())
        reason = SAID_PLAINLY.get(item["type"], item["msg"].removeprefix("Value error, "))
        reasons.append(f"{place}: {reason}" if place else reason)
    return "; ".join(reasons)

"""How a model is trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from napari_matseg.settings.base import Classes, Device, Fraction, NotNegative, Positive, Range, Settings
from napari_matseg.settings.network import ArchitectureSettings, NormaliseSettings


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


class ClassDataSettings(DataSettings):
    """Images with classes as truth, all of which need not be labelled."""

    unlabelled: Annotated[int, Field(ge=0, le=255)] | None = None
    """Value in the truth of pixels that nobody labelled: these count for nothing. If it is 0, as where a few strokes
    are painted, the first class is 1 in the truth, the second 2 and so on; else they begin at 0 as usual."""
    region: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """Share of each image's labels to hold out for validation, all that lie beyond a straight line; for where there is
    no image to spare."""
    test: tuple[str, ...] | Path = ()
    """Names, or a text file of them, of images that have no say in anything: the finished model is tried on them."""
    group: str | None = None
    """Regular expression of what the names of images have in common that belong together, such as pieces of the same
    micrograph: they are learnt from, held out or tested on together."""

    @model_validator(mode="after")
    def _fit_together(self) -> ClassDataSettings:
        if self.region is not None and self.validation != ():
            raise ValueError("region holds out a part of each image and validation whole images; leave one out")
        if self.unlabelled is not None and self.instances:
            raise ValueError("unlabelled is for a truth of classes; leave it out, or instances")
        if self.group is not None:
            try:
                re.compile(self.group)
            except re.error as error:
                raise ValueError(f"group: {self.group!r} is no regular expression ({error}); correct it") from error
        return self

    @property
    def validates(self) -> bool:
        """Whether anything is held out."""
        return self.region is not None or self.validation != ()


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
    data: ClassDataSettings
    start: str | None = None
    """Model to begin with, of the same architecture, by name or file: all its weights, or all but those of the last
    layer if its classes are others. None: random weights."""
    encoder_weights: str | None = None
    """What the encoder begins with: imagenet, micronet or imagenet-micronet (ImageNet, then MicroNet), which must have
    been fetched, or a file of torchvision, timm, segmentation-models-pytorch or MicroNet. None: random weights."""
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
    stop_after: Annotated[int, Field(ge=1)] | None = None
    """Stop so many steps into the `steps`, as when somebody pressed Stop there."""
    evaluate_every: Annotated[int, Field(ge=1)] = 200
    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop when so many evaluations brought nothing better; needs something to validate on."""
    measure_halo: bool = True
    """Of a network that cannot be tiled in stages: find out how narrow a halo tiles may have, which takes minutes on a
    CPU; else it is as wide as the network sees."""
    synthetic: Fraction = 0.0
    """Share of the training crops that are synthetic micrographs."""
    seed: Annotated[int, Field(ge=0)] = 0
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Not float16, in which small gradients vanish."""
    compile: bool = False
    """Compile the network, which takes minutes and makes each step of a long training on a GPU shorter."""

    @model_validator(mode="after")
    def _fit_together(self) -> TrainSettings:
        if self.patience is not None and not self.data.validates:
            raise ValueError("patience needs validation images; name some, or leave patience out")
        if self.start is not None and self.encoder_weights is not None:
            raise ValueError("start and encoder_weights both say what to begin with; leave one out")
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

"""Networks, and what goes into them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from napari_matseg.settings.base import Settings

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
        if self.encoder_depth != 5 and self.name in ("hrnetv2", "segformer", "vit_adapter", "fcn", "fpn"):
            raise ValueError(f"encoder_depth of {self.name} is always 5; leave it out")
        return self


PerChannel = tuple[float] | tuple[float, float, float]


class NormaliseSettings(Settings):
    """How grey values become network input: two percentiles of the whole micrograph go to -1 and 1.

    With `mean` and `std`, as of models that other programs trained, (grey - mean) / std goes in instead, where grey is
    from 0 to 1: of 8-bit micrographs as they are, of others from the low to the high percentile.
    """

    low: Annotated[float, Field(ge=0, lt=50)] = 1.0
    high: Annotated[float, Field(gt=50, le=100)] = 99.0
    limit: Annotated[float, Field(ge=1)] = 3.0
    """Values are clipped to +-limit, so that a hot pixel stays one pixel."""
    mean: PerChannel | None = None
    """Of one channel, or of red, green and blue; grey values from 0 to 1."""
    std: PerChannel | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> NormaliseSettings:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together; give both, or leave both out")
        if self.mean and self.std and (len(self.mean) != len(self.std) or min(self.std) <= 0):
            raise ValueError("mean and std must be as many, and std above 0; correct them")
        return self

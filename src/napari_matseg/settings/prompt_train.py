"""How a promptable model is trained."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from napari_matseg.settings.base import Classes, Device, Fraction, Settings
from napari_matseg.settings.train import AugmentSettings, DataSettings


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


class TaughtByPrompts(Settings):
    """What the trainings of promptable models and of their refiners have in common."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    licence: str = ""
    data_source: str = ""
    not_for: str = ""
    sources: Annotated[tuple[PromptSource, ...], Field(min_length=1)]
    augment: AugmentSettings = AugmentSettings()
    boxes: Fraction = 0.35
    """Share of what is asked for by boxes instead of clicks."""
    corrections: Fraction = 0.3
    """Share of the steps, or of a refiner's clicks, with a further click where the last answer was wrong."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Decay of the moving average of the weights, which is what is kept."""
    evaluate_every: Annotated[int, Field(ge=1)] = 400
    seed: Annotated[int, Field(ge=0)] = 0
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @model_validator(mode="after")
    def _can_be_changed_so(self) -> Self:
        for name in ("elastic", "burnt_in", "data_bar"):
            if getattr(self.augment, name):
                raise ValueError(f"augment.{name} is for models that know classes; leave it out")
        return self


class PromptTrainSettings(TaughtByPrompts):
    """The training of a promptable model, from data to model file."""

    start: str | None = None
    """Promptable model to go on from, or model whose U-Net the image encoder starts from; None for random weights."""
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


class RefineTrainSettings(TaughtByPrompts):
    """The training of a refiner, which draws the answers of a promptable model again, from data to model file."""

    refines: str
    """Promptable model whose answers it is given."""
    objects: Annotated[int, Field(ge=1)] = 40
    """Of each micrograph that are asked for, at most."""
    channels: Annotated[tuple[int, ...], Field(min_length=2, max_length=5)] = (24, 40, 72, 104)
    blocks: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2, max_length=5)] = (1, 2, 2, 1)
    decoder_channels: Annotated[tuple[int, ...], Field(min_length=1, max_length=4)] = (24, 32, 40)
    """Of the network; see `core.refine.network.Refiner`."""
    steps: Annotated[int, Field(ge=1)] = 6000
    batch: Annotated[int, Field(ge=1)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if not len(self.channels) == len(self.blocks) == len(self.decoder_channels) + 1:
            raise ValueError("blocks is as long as channels, and decoder_channels one shorter; correct them")
        return self

"""Sizes of trainings, and choices of losses and augmentations, for who does not want to set everything apart."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from napari_matseg.settings.base import Settings
from napari_matseg.settings.network import ENCODERS, ArchitectureSettings
from napari_matseg.settings.train import AugmentSettings, LossTerm

Size = Literal["fast", "balanced", "best"]
Name = Literal["unet", "deeplabv3", "deeplabv3plus", "hrnetv2", "segformer", "vit_adapter", "fcn", "fpn"]


class Budget(Settings):
    """What a training may cost."""

    crop: int
    steps: int
    width: int
    """Maps at the end of a U-Net's decoder; DeepLab's has four times as many."""
    encoder: str
    """Of networks that take any."""
    learning_rate: float
    average: Annotated[float, Field(ge=0, lt=1)]
    evaluate_every: int
    batch: int = 8
    warmup_steps: int = 20
    measure_halo: bool = False

    def fields(self, name: Name, encoder: str | None = None) -> dict[str, Any]:
        """Give the fields of `TrainSettings` that this stands for, with the network of that name.

        Parameters
        ----------
        name : str
            Of the network.
        encoder : str, optional
            Another one than the budget's.
        """
        fields = self.model_dump(exclude={"width", "encoder"})
        if name in ATTENTION:
            fields["learning_rate"] = min(fields["learning_rate"], SLOW)
        return fields | {"architecture": self.network(name, encoder)}

    def network(self, name: Name, encoder: str | None = None) -> ArchitectureSettings:
        """Give the network of that name, as wide as this allows."""
        given: dict[str, Any] = {"name": name, "encoder": encoder or ENCODERS.get(name, self.encoder)}
        if name == "unet":
            given |= {"encoder_depth": 4, "options": {"decoder_channels": [self.width * n for n in (8, 4, 2, 1)]}}
        elif name in ("deeplabv3", "deeplabv3plus"):
            given |= {"atrous_rates": tuple(self.crop // 64 * n for n in (1, 2, 3))}
            given |= {"options": {"decoder_channels": 4 * self.width}}
        return ArchitectureSettings(**given)


ATTENTION = ("segformer", "vit_adapter")
SLOW = 5e-4  # learning rate that networks with attention bear

BUDGETS: dict[Size, Budget] = {
    "fast": Budget(
        crop=192, steps=300, width=8, encoder="tu-resnet10t", learning_rate=3e-3, average=0.97, evaluate_every=25
    ),
    "balanced": Budget(
        crop=256, steps=1200, width=16, encoder="resnet18", learning_rate=2e-3, average=0.99, evaluate_every=50
    ),
    "best": Budget(
        crop=320,
        steps=4000,
        width=32,
        encoder="resnet34",
        learning_rate=1e-3,
        average=0.995,
        evaluate_every=100,
        warmup_steps=100,
        measure_halo=True,
    ),
}
RESTART = 0.3  # of the learning rate, where a training begins with another model's weights

LOSSES: dict[str, tuple[LossTerm, ...]] = {
    "cross-entropy + Dice": (LossTerm(name="cross_entropy"), LossTerm(name="dice")),
    "cross-entropy + Jaccard": (LossTerm(name="cross_entropy"), LossTerm(name="jaccard")),
    "cross-entropy + Lovász": (LossTerm(name="cross_entropy"), LossTerm(name="lovasz")),
    "cross-entropy, classes balanced": (LossTerm(name="cross_entropy", class_weights="balanced"),),
    "focal + Dice: few hard pixels": (LossTerm(name="focal"), LossTerm(name="dice")),
    "focal Tversky: cracks, none missed": (LossTerm(name="cross_entropy"), LossTerm(name="tversky", power=0.75)),
    "boundary + Dice: exact outlines": (LossTerm(name="boundary"), LossTerm(name="dice")),
}

AUGMENTATIONS: dict[str, AugmentSettings] = {
    "same microscope and settings": AugmentSettings(
        scale=(0.8, 1.25),
        aspect=1.1,
        brightness=0.2,
        contrast=(0.8, 1.25),
        gamma=(0.8, 1.25),
        invert=0,
        shading=0.2,
        blur=0.2,
        noise=0.3,
    ),
    "other days and magnifications": AugmentSettings(invert=0),
    "other instruments": AugmentSettings(
        elastic=0.2, invert=0.2, streaks=0.1, defocus=0.2, shot_noise=0.2, readout_noise=0.2, burnt_in=0.1, data_bar=0.1
    ),
}

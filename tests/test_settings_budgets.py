from __future__ import annotations

import pytest

from napari_matseg.settings import ENCODERS, TrainSettings, make_settings
from napari_matseg.settings.budgets import AUGMENTATIONS, BUDGETS, LOSSES, SLOW

NETWORKS = ("unet", "deeplabv3", "deeplabv3plus", "hrnetv2", "segformer", "vit_adapter", "fcn", "fpn")
GIVEN = {
    "name": "x",
    "classes": [{"name": "matrix", "colour": (0, 0, 0)}, {"name": "pore", "colour": (9, 0, 0)}],
    "data": {"images": "images", "truth": "truth", "train": ["a"]},
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", BUDGETS)
def test_each_size_fits_each_network(size: str, name: str) -> None:
    budget = BUDGETS[size]
    settings = make_settings(TrainSettings, **GIVEN, **budget.fields(name))
    assert settings.architecture.name == name
    assert settings.architecture.encoder == ENCODERS.get(name, budget.encoder)
    assert settings.crop % 64 == 0, "no multiple of every stride, with folding"
    assert settings.steps == budget.steps
    assert settings.steps % settings.evaluate_every == 0
    assert settings.learning_rate <= (SLOW if name in ("segformer", "vit_adapter") else 1)


def test_another_encoder() -> None:
    assert BUDGETS["fast"].network("unet", "resnet50").encoder == "resnet50"


def test_larger_sizes_cost_more() -> None:
    costs = [budget.steps * budget.batch * budget.crop**2 * budget.width for budget in BUDGETS.values()]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1] / 100


@pytest.mark.parametrize("losses", LOSSES.values(), ids=LOSSES)
def test_losses_are_settings(losses: tuple[object, ...]) -> None:
    assert make_settings(TrainSettings, **GIVEN, losses=losses).losses == losses


def test_augmentations_are_more_and_more() -> None:
    scales = [settings.scale[1] / settings.scale[0] for settings in AUGMENTATIONS.values()]
    assert scales == sorted(scales)

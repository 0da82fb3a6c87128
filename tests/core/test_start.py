from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_matseg.core.architectures import build_network
from napari_matseg.core.checkpoints import Model, load_model
from napari_matseg.core.start import start_from
from napari_matseg.errors import ModelError, SettingsError
from napari_matseg.settings import TrainSettings

SAME = ("matrix", "a", "b")


def settings(
    make_model: Callable[..., Model], names: tuple[str, ...], start: Path | None, **more: Any
) -> TrainSettings:
    architecture = make_model().card.architecture.model_dump() | more
    return TrainSettings.model_validate(
        {
            "name": "new",
            "classes": [{"name": name, "colour": (0, 0, 0)} for name in names],
            "data": {"images": "i", "truth": "t", "train": ["a"]},
            "architecture": architecture,
            "start": None if start is None else str(start),
        }
    )


def started(given: TrainSettings) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Weights of a network before and after it was given those of another."""
    torch.manual_seed(3)
    network = build_network(given.architecture, len(given.classes))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    start_from(network, given)
    return before, network.state_dict()


def test_all_weights_if_the_classes_are_the_same(make_model: Callable[..., Model], tiny_file: Path) -> None:
    _, after = started(settings(make_model, SAME, tiny_file))
    for name, tensor in load_model(tiny_file).network.state_dict().items():
        torch.testing.assert_close(after[name], tensor)


@pytest.mark.parametrize("names", [("matrix", "a", "crack"), ("matrix", "pore")])
def test_all_but_the_last_layer_if_they_are_others(
    make_model: Callable[..., Model], tiny_file: Path, names: tuple[str, ...]
) -> None:
    before, after = started(settings(make_model, names, tiny_file))
    head = {name for name in after if name.startswith("segmentation_head")}
    assert len(head) == 2
    for name, tensor in load_model(tiny_file).network.state_dict().items():
        torch.testing.assert_close(after[name], before[name] if name in head else tensor)


def test_without_a_start_nothing_changes(make_model: Callable[..., Model]) -> None:
    before, after = started(settings(make_model, SAME, None))
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())


def test_another_architecture(make_model: Callable[..., Model], tiny_file: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"^start: .*tiny\.safetensors is a unet .* take its architecture, or begin"
    ):
        started(settings(make_model, SAME, tiny_file, encoder="resnet18"))


def test_model_that_is_not_there(make_model: Callable[..., Model]) -> None:
    with pytest.raises(ModelError, match="nowhere: no such model"):
        started(settings(make_model, SAME, Path("nowhere")))

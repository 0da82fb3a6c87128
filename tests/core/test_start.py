from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from pydantic import ValidationError

from napari_matseg.core.architectures import build_network
from napari_matseg.core.checkpoints import Model, ModelCard, load_model, save_model
from napari_matseg.core.start import start_from
from napari_matseg.errors import ModelError, SettingsError
from napari_matseg.settings import TrainSettings

CHECKSUM = "0" * 64
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


@pytest.fixture(scope="session")
def encoder_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the tiny model's encoder, as timm writes them."""
    torch.manual_seed(4)
    path = tmp_path_factory.mktemp("weights") / "resnet10t.pth"
    torch.save(timm.create_model("resnet10t").state_dict(), path)
    return path


def test_encoder_weights(make_model: Callable[..., Model], encoder_file: Path) -> None:
    given = settings(make_model, SAME, None).model_copy(update={"encoder_weights": str(encoder_file)})
    torch.manual_seed(3)
    network = build_network(given.architecture, len(given.classes))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    record = start_from(network, given)
    after, weights = network.state_dict(), torch.load(encoder_file, weights_only=True)
    assert record is not None
    assert record.weights == "resnet10t.pth"
    torch.testing.assert_close(after["encoder.model.layer1.0.conv1.weight"], weights["layer1.0.conv1.weight"])
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items() if name.startswith("decoder."))


def test_what_another_model_began_with_is_said_again(make_model: Callable[..., Model], tmp_path: Path) -> None:
    tiny = make_model()
    began = {"encoder": "tu-resnet10t", "weights": "micronet", "source": "", "licence": "MIT", "sha256": CHECKSUM}
    card = ModelCard.model_validate(tiny.card.model_dump() | {"pretrained": began})
    save_model(tmp_path / "model.safetensors", tiny.network, card)
    given = settings(make_model, SAME, tmp_path / "model.safetensors")
    record = start_from(build_network(given.architecture, len(given.classes)), given)
    assert record is not None
    assert record.model_dump() == began
    assert "Encoder began with: micronet weights of tu-resnet10t" in card.to_markdown()


def test_two_beginnings(make_model: Callable[..., Model], encoder_file: Path) -> None:
    given = settings(make_model, SAME, encoder_file).model_dump() | {"encoder_weights": "micronet"}
    with pytest.raises(ValidationError, match="start and encoder_weights both say what to begin with"):
        TrainSettings.model_validate(given)

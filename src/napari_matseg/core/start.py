"""Weights of another model, to begin a training with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_matseg.core.architectures import build_network
from napari_matseg.core.checkpoints import load_model
from napari_matseg.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn

    from napari_matseg.settings import TrainSettings


def start_from(network: nn.Module, settings: TrainSettings) -> None:
    """Give a network the weights of the model that `settings.start` names.

    Those of the last layer, which gives a map for each class, stay as they are unless the classes are the same.

    Raises
    ------
    ModelError
        If there is no such model, or its file is damaged.
    SettingsError
        If its architecture is another.
    """
    if settings.start is None:
        return
    model = load_model(settings.start)
    if model.card.architecture != settings.architecture:
        raise SettingsError(
            f"start: {settings.start} is a {model.card.architecture.name} with encoder "
            f"{model.card.architecture.encoder}, and not the network of this training in all its settings; take its "
            "architecture, or begin without it."
        )
    weights = model.network.state_dict()
    same = [spec.name for spec in model.card.classes] == [spec.name for spec in settings.classes]
    if not same or model.card.distance != settings.distance:
        # What depends on the number of maps is the last layer.
        maps = len(settings.classes) + settings.distance
        own = network.state_dict()
        other = build_network(settings.architecture, maps + 1).state_dict()
        weights |= {name: own[name] for name, tensor in other.items() if tensor.shape != own[name].shape}
    network.load_state_dict(weights)

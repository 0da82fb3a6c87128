"""Weights of another model, or of a pretrained encoder, to begin a training with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_matseg.core.architectures import build_network
from napari_matseg.core.checkpoints import load_model
from napari_matseg.core.encoders.load import load_encoder
from napari_matseg.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn

    from napari_matseg.core.checkpoints import PretrainedEncoder
    from napari_matseg.settings import TrainSettings


def start_from(network: nn.Module, settings: TrainSettings) -> PretrainedEncoder | None:
    """Give a network the weights that `settings.start` or `settings.encoder_weights` names.

    Of a model, those of the last layer, which gives a map for each class, stay as they are unless the classes are the
    same. Of an encoder, those of the decoder stay.

    Returns
    -------
    PretrainedEncoder or None
        What the encoder was once pretrained by, for the card.

    Raises
    ------
    ModelError
        If there is no such model or encoder, or its file is damaged or of another network.
    SettingsError
        If its architecture is another.
    """
    if settings.encoder_weights is not None:
        return load_encoder(network, settings.architecture, settings.normalise, settings.encoder_weights)
    if settings.start is None:
        return None
    model = load_model(settings.start)
    if model.card.architecture != settings.architecture:
        raise SettingsError(
            f"start: {settings.start} is a {model.card.architecture.name} with encoder "
            f"{model.card.architecture.encoder}, and not the network of this training in all its settings; take its "
            "architecture, or begin without it."
        )
    weights = model.network.state_dict()
    if not weights:
        raise SettingsError(
            f"start: {settings.start} cannot be trained further; name the .safetensors file that it was exported from."
        )
    same = [spec.name for spec in model.card.classes] == [spec.name for spec in settings.classes]
    if not same or model.card.distance != settings.distance:
        # What depends on the number of maps is the last layer.
        maps = len(settings.classes) + settings.distance
        own = network.state_dict()
        other = build_network(settings.architecture, maps + 1).state_dict()
        weights |= {name: own[name] for name, tensor in other.items() if tensor.shape != own[name].shape}
    network.load_state_dict(weights)
    return model.card.pretrained

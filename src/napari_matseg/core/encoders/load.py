"""Weights of an encoder, as others wrote them, into a network of ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_matseg.core.checkpoints import PretrainedEncoder
from napari_matseg.core.download import hash_file
from napari_matseg.core.encoders.sources import PRETRAININGS, find_source, no_such, statistics_of
from napari_matseg.core.progress import finish
from napari_matseg.core.tensors import read_tensors, size_of, some_of
from napari_matseg.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_matseg.core.encoders.sources import EncoderSource
    from napari_matseg.settings import ArchitectureSettings, NormaliseSettings

WRAPPERS = ("module", "model", "backbone", "net")
"""What names begin with that were written from within something else."""
CLASSIFIERS = ("fc", "classifier", "last.linear", ".fc", "head")
"""What tells the classes of the pretraining apart, which an encoder does without."""
AGAIN = "an encoder's weights are a file of torchvision, timm, segmentation-models-pytorch or MicroNet: get it again"
EXPORT = "export the weights alone, by torch.save(network.state_dict(), FILE)"


def find_weights(encoder: str, weights: str) -> tuple[Path, EncoderSource | None]:
    """Find the file of weights, by `TrainSettings.encoder_weights`, and where it is from if that is known.

    Raises
    ------
    ModelError
        If there are none, or they are not here.
    """
    source = next((find_source(encoder, known) for known in PRETRAININGS if known == weights), None)
    if source is not None:
        if source.here:
            return source.path, source
        raise ModelError(f"{weights}: the weights of encoder {encoder} are not here; {source.how_to_get()}.")
    path = Path(weights)
    if weights in PRETRAININGS or not path.is_file():
        raise ModelError(no_such(encoder, weights))
    return path, None


def load_encoder(
    network: nn.Module, architecture: ArchitectureSettings, normalise: NormaliseSettings, weights: str
) -> PretrainedEncoder:
    """Give the encoder of a network the weights of a file.

    Parameters
    ----------
    network : torch.nn.Module
        As `build_network` makes it.
    architecture : ArchitectureSettings
    normalise : NormaliseSettings
        Of what goes into the network.
    weights : str
        As `TrainSettings.encoder_weights`.

    Returns
    -------
    PretrainedEncoder
        What they are, for the card.

    Raises
    ------
    ModelError
        If the weights are not here, damaged, or of another encoder.

    Notes
    -----
    The first layer is changed so that the encoder computes what it did from an image with three equal channels,
    normalised as in its pretraining. There, grey values v from 0 to 1 became (v - mean) / std in each of three
    channels; here one channel holds x = 2 v - 1. So the kernels of the three are divided by 2 std and summed, and what
    is left, kernel times (0.5 - mean) / std, is the same everywhere: it goes into the bias, or, with the other sign,
    into the running mean of the batch norm that follows. Only at the edge of an image, where zeros are put around it,
    does this differ, since 0 is not quite the same grey.
    """
    path, source = find_weights(architecture.encoder, weights)
    try:
        given = _named(read_tensors(path, AGAIN, EXPORT))
        encoder = _inner(network)
        _check(encoder, given, architecture.encoder)
        _fill(encoder, given, architecture, normalise)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    return PretrainedEncoder(
        encoder=architecture.encoder,
        weights=weights if source else path.name,
        source=source.address if source else "",
        licence=source.licence if source else "",
        sha256=finish(hash_file(path)),
    )


def _inner(network: nn.Module) -> nn.Module:
    """Give the part of a network that was pretrained: without what folds, adapts or wraps it."""
    parts: Any = network  # torch types the children of a module as tensors
    encoder = getattr(parts, "network", parts).encoder
    inner: nn.Module = getattr(encoder, "vit", getattr(encoder, "model", encoder))
    return inner


def _named(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by their names within the encoder, as `_plain` has them."""
    bare = {_bare(name): tensor for name, tensor in tensors.items()}
    of_encoder = {name.removeprefix("encoder."): tensor for name, tensor in bare.items() if name.startswith("encoder.")}
    return {_plain(_bare(name)): tensor for name, tensor in (of_encoder or bare).items()}


def _bare(name: str) -> str:
    """Drop wrappers at the beginning, and that of several GPUs wherever it is."""
    parts = [part for part in name.split(".") if part != "module"]
    while len(parts) > 1 and parts[0] in WRAPPERS:
        parts = parts[1:]
    return ".".join(parts)


def _plain(name: str) -> str:
    """Write a name as torchvision, timm and segmentation-models-pytorch have in common.

    Where timm gives maps of an encoder, it writes stages_0 for stages.0; DenseNet's norm.1 is norm1 in newer versions.
    """
    return re.sub(r"\b(norm|relu|conv)\.([12])\.", r"\1\2.", name).replace("_", ".")


def _check(encoder: nn.Module, given: dict[str, Tensor], name: str) -> None:
    """Compare names and shapes."""
    own = {_plain(key): tensor for key, tensor in encoder.state_dict().items()}
    wanted = {key for key in own if not key.endswith("num.batches.tracked")}
    remedy = f"take weights of {name}, or name the encoder that these are of"
    if missing := sorted(wanted - given.keys()):
        raise ModelError(f"lacks {len(missing)} of the {len(wanted)} weights of {name}: {some_of(missing)}; {remedy}.")
    unknown = sorted(key for key in given.keys() - _whole(encoder, name) if not key.startswith(CLASSIFIERS))
    if unknown:
        raise ModelError(f"holds {len(unknown)} weights that {name} does not have: {some_of(unknown)}; {remedy}.")
    first = _plain(_first(encoder)[0])
    other = [
        f"{key} is {size_of(given[key])} instead of {size_of(own[key])}"
        for key in sorted(wanted)
        if given[key].shape != own[key].shape and key != f"{first}.weight"
    ]
    if other:
        raise ModelError(f"is of another shape than {name}: {some_of(other)}; {remedy}.")


def _whole(encoder: nn.Module, name: str) -> set[str]:
    """Names of the weights of the whole encoder, of which what lies deeper than is asked for may have been cut off."""
    own = {_plain(key) for key in encoder.state_dict()}
    if not name.startswith("tu-"):
        return own
    import timm
    import torch

    with torch.device("meta"):
        return own | {_plain(key) for key in timm.create_model(name.removeprefix("tu-")).state_dict()}


def _first(encoder: nn.Module) -> tuple[str, nn.Conv2d, nn.BatchNorm2d | None]:
    """Layer that the image goes into, with its name; and the batch norm after it, if that is the next layer."""
    from torch import nn

    modules = list(encoder.named_modules())
    place, name, layer = next((i, name, part) for i, (name, part) in enumerate(modules) if isinstance(part, nn.Conv2d))
    after = (part for key, part in modules[place + 1 :] if not key.startswith(f"{name}."))
    following = next(after, None)
    return name, layer, following if isinstance(following, nn.BatchNorm2d) else None


def _fill(
    encoder: nn.Module, given: dict[str, Tensor], architecture: ArchitectureSettings, normalise: NormaliseSettings
) -> None:
    """Put the weights into the encoder, with the first layer for what comes into it."""
    import torch

    name, layer, norm = _first(encoder)
    own = encoder.state_dict()
    values = {key: given.get(_plain(key), tensor).to(tensor.dtype) for key, tensor in own.items()}
    kernel = values[f"{name}.weight"]
    if kernel.shape[1] == 3 and kernel.shape[0] == layer.out_channels:
        folded, offset = fold_kernel(kernel, architecture, normalise)
        values[f"{name}.weight"] = folded
    else:  # its maker's way with grey is not known
        offset = torch.zeros(layer.out_channels)
    if values[f"{name}.weight"].shape != own[f"{name}.weight"].shape:
        raise ModelError(
            f"its first layer {name} is {size_of(kernel)} instead of {size_of(own[f'{name}.weight'])}; take weights of "
            f"{architecture.encoder} that see three channels."
        )
    encoder.load_state_dict(values)
    with torch.no_grad():
        if layer.bias is not None:
            layer.bias.add_(offset)
        elif norm is not None and norm.running_mean is not None:
            norm.running_mean.sub_(offset)


def fold_kernel(
    kernel: Tensor, architecture: ArchitectureSettings, normalise: NormaliseSettings
) -> tuple[Tensor, Tensor]:
    """Change kernels for normalised colour to kernels for what comes into a network.

    Parameters
    ----------
    kernel : Tensor, shape (out_channels, 3, height, width)
    architecture : ArchitectureSettings
        Three channels are red, green and blue; any other number are greys, whose mean is taken for each of the three.
    normalise : NormaliseSettings

    Returns
    -------
    Tensor, shape (out_channels, in_channels * fold**2, height, width)
    Tensor, shape (out_channels,)
        What is to be added to the result.
    """
    mean, std = (kernel.new_tensor(values) for values in statistics_of(architecture.encoder))
    # A grey value from 0 to 1 is centre + spread times what comes into the network.
    centre = kernel.new_tensor(0.5 if normalise.mean is None else normalise.mean)
    spread = kernel.new_tensor(0.5 if normalise.std is None else normalise.std)
    scaled = kernel * (spread / std)[:, None, None]
    offset = (kernel.sum(dim=(2, 3)) * ((centre - mean) / std)).sum(dim=1)
    folds = architecture.fold**2
    if architecture.in_channels == 3:
        return scaled.repeat_interleave(folds, dim=1) / folds, offset
    channels = architecture.in_channels * folds
    return scaled.sum(dim=1, keepdim=True).expand(-1, channels, -1, -1) / channels, offset

"""Networks that other programs trained, into model files of ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_matseg.core.architectures import build_network
from napari_matseg.core.checkpoints import SUFFIX, ModelCard, save_model, user_folder
from napari_matseg.core.encoders.sources import IMAGENET_STATISTICS
from napari_matseg.core.export import make_folder
from napari_matseg.core.tensors import read_tensors, size_of, some_of
from napari_matseg.errors import ModelError, SettingsError
from napari_matseg.settings import ArchitectureSettings, ClassSpec, NormaliseSettings, make_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_matseg.settings import Colour

CONFIG, WEIGHTS = "config.json", "model.safetensors"
SMP = {
    "Unet": "unet",
    "FPN": "fpn",
    "DeepLabV3": "deeplabv3",
    "DeepLabV3Plus": "deeplabv3plus",
    "Segformer": "segformer",
}
"""Our names of the networks of segmentation-models-pytorch."""
MEANT = {
    "encoder_name": "encoder",
    "encoder_depth": "encoder_depth",
    "in_channels": "in_channels",
    "decoder_interpolation": "upsampling",
    "decoder_atrous_rates": "atrous_rates",
}
"""Our names of its settings that are not `options`."""
ONLY = {
    "aux_params": (None,),
    "encoder_output_stride": (8, 16),
    "upsampling": (None, 4, 8),
    "decoder_merge_policy": ("add",),
}
"""Values of its settings without which the network would be another one; they go without saying."""
FOR_ALL = ("_model_class", "encoder_weights", "classes", "activation")
SHIFTS = {"deeplabv3": 3.5, "deeplabv3plus": 1.5, "fpn": 1.5, "segformer": 1.5}
"""Pixels by which the last interpolation, done in our way, moves scores inwards at the edge of an image."""
COLOURS: tuple[Colour, ...] = (
    (0, 0, 0),
    *((0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0), (86, 180, 233), (204, 121, 167), (240, 228, 66)),
)
"""Of classes whose colour is not said; Okabe and Ito's, which people with any kind of colour vision tell apart."""
AGAIN = "a model to import is a state dict, a checkpoint of Lightning, or a folder that smp's save_pretrained wrote"
EXPORT = "where you trust it, export the weights alone, by torch.save(network.state_dict(), FILE)"
PARTS = re.compile(r"^(?:.*?\.)?((?:encoder|decoder|segmentation_head)\..+)$")


def import_model(
    path: str | Path,
    name: str,
    classes: Sequence[str | ClassSpec],
    normalise: NormaliseSettings | Literal["imagenet", "percentiles"],
    *,
    architecture: ArchitectureSettings | None = None,
    out: str | Path | None = None,
    **about: Any,
) -> Path:
    """Make a model file of a network that another program trained.

    Parameters
    ----------
    path : str or Path
        A state dict (.pth, .pt, .ckpt or .safetensors), or a folder that segmentation-models-pytorch's
        `save_pretrained` wrote.
    name : str
        Of the model to be.
    classes : sequence of str or ClassSpec
        In the order of the network's maps. Of a network with one map, which says how probable the second is, two.
    normalise : NormaliseSettings, "imagenet" or "percentiles"
        What was done to grey values before they went into the network: ImageNet's mean and standard deviation, or, as
        models of ours, two percentiles to -1 and 1. No file says it, and with another one the result is wrong.
    architecture : ArchitectureSettings, optional
        Needed unless there is a folder, whose settings say it.
    out : str or Path, optional
        Folder for the model file; else that of the user's models.
    **about
        Fields of the card: `description`, `licence`, `data_source`, `not_for`, `pixel_size_nm`.

    Returns
    -------
    Path
        The model file.

    Raises
    ------
    ModelError
        If the file cannot be used, holds more than weights, or is of another network.
    SettingsError
        If a field makes no sense.
    OutputError
        If the model file cannot be written.
    """
    path = Path(path)
    made, notes = _described(path) if architecture is None else (architecture, [])
    source = path / WEIGHTS if path.is_dir() else path
    if not source.is_file():
        raise ModelError(f"{source}: there is no such file; {AGAIN}: correct the path.")
    card = make_settings(
        ModelCard,
        name=name,
        classes=_specs(classes),
        architecture=made,
        normalise=_normalisation(normalise, made.in_channels),
        **about,
    )
    try:
        weights, left_out = _parts(read_tensors(source, AGAIN, EXPORT))
        weights, more = _two_maps(weights, card)
        network = build_network(made, card.out_channels)
        _check(network.state_dict(), weights, card)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    network.load_state_dict(weights)
    if left_out:
        notes.append(f"Left out: {some_of(left_out)}.")
    notes = [f"Imported from {path.name}.", *notes, *more, *_differences(card)]
    folder = user_folder() if out is None else Path(out)
    make_folder(folder)
    target = folder / f"{name}{SUFFIX}"
    if target.resolve() == source.resolve():
        raise SettingsError(f"{target}: would be replaced by the model; choose another name or folder.")
    save_model(target, network.eval(), card.model_copy(update={"notes": " ".join(notes)}))
    return target


def _described(path: Path) -> tuple[ArchitectureSettings, list[str]]:
    """Read the architecture from the settings that segmentation-models-pytorch writes, and what else is to be said."""
    config = (path if path.is_dir() else path.parent) / CONFIG
    if not config.is_file() or not (path.is_dir() or path.name == WEIGHTS):
        raise SettingsError(f"{path}: says nothing of its network; name the architecture and the encoder.")
    try:
        given = json.loads(config.read_text(encoding="utf-8"))
        name = SMP.get(given["_model_class"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{config}: is not what save_pretrained writes ({error}); get it again.") from error
    if name is None:
        raise ModelError(
            f"{config}: is of a {given['_model_class']}, which there is not here; there are {', '.join(SMP)}."
        )
    fields: dict[str, Any] = {"name": name}
    options: dict[str, Any] = {}
    for key, value in given.items():
        if key in ONLY and value not in ONLY[key]:
            raise ModelError(f"{config}: {key} is {value}, which there is not here; only {ONLY[key][-1]}.")
        if key in MEANT:
            fields[MEANT[key]] = value
        elif key == "decoder_segmentation_channels" and name == "segformer":
            options["decoder_channels"] = value
        elif key not in FOR_ALL and key not in ONLY:
            options[key] = value
    overlapping = str(given.get("activation")) == "sigmoid" and given.get("classes", 1) > 1
    notes = ["It was made for classes that overlap; here each pixel has the most probable."] if overlapping else []
    return make_settings(ArchitectureSettings, **fields, options=options), notes


def _specs(classes: Sequence[str | ClassSpec]) -> tuple[ClassSpec, ...]:
    return tuple(
        one if isinstance(one, ClassSpec) else ClassSpec(name=one, colour=COLOURS[i % len(COLOURS)])
        for i, one in enumerate(classes)
    )


def _normalisation(given: NormaliseSettings | str, channels: int) -> NormaliseSettings:
    """Find out what a name stands for."""
    if isinstance(given, NormaliseSettings):
        return given
    if given == "percentiles":
        return NormaliseSettings()
    if given != "imagenet":
        raise SettingsError(f"normalise: {given!r} is none that is known; there are imagenet and percentiles.")
    if channels == 3:
        return NormaliseSettings(mean=IMAGENET_STATISTICS[0], std=IMAGENET_STATISTICS[1])
    mean, std = (sum(values) / 3 for values in IMAGENET_STATISTICS)
    return NormaliseSettings(mean=(mean,), std=(std,))


def _parts(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Weights by their names within the network, and the names of what is not of it."""
    found = {name: PARTS.match(name) for name in tensors}
    named = [match[1] for match in found.values() if match]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise ModelError(f"holds two networks, both of which have {twice[0]}; export one of them alone.")
    weights = {match[1]: tensors[name] for name, match in found.items() if match}
    return weights, [name for name, match in found.items() if not match]


def _two_maps(weights: dict[str, Tensor], card: ModelCard) -> tuple[dict[str, Tensor], list[str]]:
    """Give a network with one map another one before it: softmax of 0 and s is the sigmoid of s."""
    import torch

    heads = {name: tensor for name, tensor in weights.items() if name.startswith("segmentation_head.0.")}
    if len(card.classes) != 2 or any(tensor.shape[0] != 1 for tensor in heads.values()):
        return weights, []
    doubled = {name: torch.cat([torch.zeros_like(tensor), tensor]) for name, tensor in heads.items()}
    return weights | doubled, [f"Its one map, of {card.classes[1].name}, was given another one of zeros before it."]


def _check(own: dict[str, Tensor], weights: dict[str, Tensor], card: ModelCard) -> None:
    """Compare names and shapes."""
    network = card.architecture
    what = f"a {network.name} with encoder {network.encoder}"
    remedy = "name the architecture, encoder and options that it was trained with"
    head = "segmentation_head.0.weight"
    if head in weights and head in own and weights[head].shape[0] != own[head].shape[0]:
        raise ModelError(
            f"gives {weights[head].shape[0]} map(s), and there are {len(card.classes)} classes; name one for each map, "
            "or two where there is one map."
        )
    if missing := sorted(own.keys() - weights.keys()):
        raise ModelError(f"lacks {len(missing)} of the {len(own)} weights of {what}: {some_of(missing)}; {remedy}.")
    if unknown := sorted(weights.keys() - own.keys()):
        raise ModelError(f"holds {len(unknown)} weights that {what} does not have: {some_of(unknown)}; {remedy}.")
    other = [
        f"{name} is {size_of(weights[name])} instead of {size_of(tensor)}"
        for name, tensor in own.items()
        if weights[name].shape != tensor.shape
    ]
    if other:
        raise ModelError(f"is of another shape than {what}: {some_of(other)}; {remedy}.")


def _differences(card: ModelCard) -> list[str]:
    """Say what this makes otherwise than the program that trained it."""
    notes = []
    if shift := SHIFTS.get(card.architecture.name):
        notes.append(
            "Maps are interpolated so that tiles fit together (align_corners=False, where segmentation-models-pytorch "
            "has True): at the edges of an image outlines can lie some pixels farther inside than it had them, "
            f"{shift:g} px by the last interpolation alone; in its middle they lie where they were."
        )
    if card.normalise.mean is not None:
        notes.append("Micrographs of other than 8 bits are first stretched between two percentiles.")
    return notes

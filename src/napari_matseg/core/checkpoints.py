"""Model files: safetensors weights with their card inside; reading one never runs code from it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from napari_matseg.core.architectures import build_network, measure_reach, stride_of
from napari_matseg.core.export import replacing
from napari_matseg.core.likeness import LearntFrom
from napari_matseg.errors import ModelError
from napari_matseg.settings import ArchitectureSettings, Classes, NormaliseSettings, Settings, explain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from napari_matseg.core.staged.layers import Layers

Card = TypeVar("Card", bound=Settings)
SUFFIX = ".safetensors"
ONNX_SUFFIX = ".onnx"
CARD_KEY = "napari_matseg_card"
LISTED = 20  # images that a description names before it says how many more there are
USES = {"train": "Learnt from", "validation": "Weights chosen by", "test": "Tested on"}


class UsedImage(Settings):
    """An image with its truth, by their names and contents."""

    name: str
    image_sha256: str
    truth_sha256: str


class PretrainedEncoder(Settings):
    """What the encoder of a model began with."""

    encoder: str
    weights: str
    """imagenet, micronet, imagenet-micronet, or the name of a file."""
    source: str
    """Where they are had; empty for a file of the user's."""
    licence: str
    """Of the weights; empty where unknown."""
    sha256: str
    """Of the file."""

    def to_text(self) -> str:
        """Say it in a line."""
        place = f"from {self.source}" if self.source else "a file of the trainer's"
        return (
            f"Encoder began with: {self.weights} weights of {self.encoder}, {place}; "
            f"licence: {self.licence or 'not said'}; sha256 {self.sha256}."
        )


class ModelCard(Settings):
    """What a user must know of a model, and what is needed to run it."""

    format: Literal[1] = 1
    name: str
    description: str = ""
    licence: str = ""
    data_source: str = ""
    not_for: str = ""
    classes: Classes
    distance: bool = False
    """Whether a last output map tells how deep inside its object each pixel lies, from 0 to 1."""
    architecture: ArchitectureSettings
    normalise: NormaliseSettings = NormaliseSettings()
    pixel_size_nm: Annotated[float, Field(gt=0)] | None = None
    """Pixel size of the micrographs it was trained on; None if mixed or unknown."""
    reach: int | None = None
    """Pixels that the output depends on in each direction; None for the whole image."""
    halo: int | None = None
    """Narrower halo at which no more than 0.01 % of the pixels change class; None: use the reach."""
    disagreement: float | None = None
    """Share of the pixels that change class at `halo`, or when blended, as measured on held-out images."""
    accuracy: dict[str, dict[str, Any]] = Field(default_factory=dict)
    images: dict[str, tuple[UsedImage, ...]] = Field(default_factory=dict)
    """What was learnt from (train), what the weights were chosen by (validation) and what had no say (test)."""
    start_sha256: str = ""
    """Weights of the model that the training began with, if it began with one."""
    pretrained: PretrainedEncoder | None = None
    """None: random weights."""
    notes: str = ""
    """What else to know, such as how a model of another program was changed."""
    learnt_from: LearntFrom | None = None
    """What the training images look like, by which it is told that another does not; None in earlier cards."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    created: str = ""
    weights_sha256: str = ""

    @property
    def out_channels(self) -> int:
        """Number of maps that the network gives."""
        return len(self.classes) + self.distance

    def to_markdown(self) -> str:
        """Describe the model for a reader."""
        network = self.architecture
        reach = "the whole image" if self.reach is None else f"{self.reach} px"
        halo = "" if self.halo is None else f"; a halo of {self.halo} px is enough for tiles"
        seams = "" if self.disagreement is None else f" ({self.disagreement:.4%} of the pixels change class)"
        size = "any, or unknown" if self.pixel_size_nm is None else f"{self.pixel_size_nm:g} nm"
        lines = [
            f"# {self.name}",
            self.description,
            "Classes: " + ", ".join(f"{i} {spec.name}" for i, spec in enumerate(self.classes)) + ".",
            f"Trained on: {self.data_source or 'not said'}",
            *(f"{USES[part]}: {_names(images)}." for part, images in self.images.items()),
            f"Pixel size of the training micrographs: {size}.",
            self.learnt_from.to_text() if self.learnt_from else "",
            f"Not for: {self.not_for or 'not said'}",
            *(_accuracy(split, figures) for split, figures in self.accuracy.items()),
            f"Network: {network.name}, encoder {network.encoder}, {network.in_channels} channel(s) in; "
            f"its output depends on {reach}{halo}{seams}.",
            self.pretrained.to_text() if self.pretrained else "",
            self.notes,
            f"Licence: {self.licence or 'not said'}. Written {self.created}. Weights: sha256 {self.weights_sha256}.",
        ]
        return "\n\n".join(line for line in lines if line) + "\n"


def _accuracy(split: str, figures: dict[str, Any]) -> str:
    """Make a table of the accuracy on one split."""
    dice, single = figures.get("dice", {}), figures.get("iou_per_image", {})
    rows = [
        f"| {name} | {_figure(value)} | {_figure(dice.get(name))} | {_figure(single.get(name))} |"
        for name, value in figures["iou"].items()
    ]
    return "\n".join(
        [
            f"Accuracy on {figures.get('on', split)}: pooled IoU {_figure(figures['pooled_iou'])}.",
            "",
            "| class | IoU | Dice | IoU, mean over images |",
            "| --- | --- | --- | --- |",
            *rows,
        ]
    )


def _names(images: Sequence[UsedImage]) -> str:
    """Say how many images, and which."""
    more = "" if len(images) <= LISTED else f" and {len(images) - LISTED} more"
    return f"{len(images)} image(s), {', '.join(image.name for image in images[:LISTED])}{more}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode with its card."""

    network: nn.Module
    card: ModelCard
    path: Path | None = None

    @cached_property
    def layers(self) -> Layers | str:
        """Layers of the network, for large images; or, in words, why it cannot be taken apart."""
        from napari_matseg.core.staged.reader import CannotStageError
        from napari_matseg.core.staged.trace import trace

        try:
            return trace(self.network, self.card.architecture.in_channels, stride_of(self.network))
        except CannotStageError as error:
            return str(error)


def user_folder() -> Path:
    """Folder of the user's own models: NAPARI_MATSEG_MODELS, or napari-matseg/models in the user's data folder."""
    override = os.environ.get("NAPARI_MATSEG_MODELS")
    if override:
        return Path(override)
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "napari-matseg" / "models"


def available() -> dict[str, Path]:
    """Names of the models that ship and that the user installed, with their files; the user's win."""
    shipped = Path(str(files("napari_matseg") / "models"))
    return {path.stem: path for folder in (shipped, user_folder()) for path in sorted(folder.glob(f"*{SUFFIX}"))}


def find(model: str | Path) -> Path:
    """File of a model, by name or path.

    Raises
    ------
    ModelError
        If there is neither such a model nor such a file.
    """
    named = available()
    if str(model) in named:
        return named[str(model)]
    with contextlib.suppress(OSError, RuntimeError):  # of names that can be no path, and of a ~ that is nobody's
        path = Path(model).expanduser()
        if path.is_file():
            return path
    raise ModelError(f"{model}: no such model or file; the models here are {', '.join(named) or 'none'}.")


def read_card(model: str | Path) -> ModelCard:
    """Card of a model, without loading its weights.

    Raises
    ------
    ModelError
        If there is no such model, or the file is damaged or not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    path = find(model)
    if path.suffix.lower() == ONNX_SUFFIX:
        from napari_matseg.core.exporting.onnx_read import read_onnx_card

        return read_onnx_card(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{path}: is not a model file or is damaged ({error}); a model is a .safetensors file written by "
            "napari-matseg train: get it again."
        ) from error
    if CARD_KEY not in metadata:
        raise ModelError(
            f"{path}: holds weights but no napari-matseg card, so what they are for is unknown; "
            "use a file written by napari-matseg train."
        )
    return validate_card(path, metadata[CARD_KEY])


def validate_card(path: Path, written: str) -> ModelCard:
    """Card from the JSON that a model file holds.

    Raises
    ------
    ModelError
        If it is not one that this version knows.
    """
    try:
        return ModelCard.model_validate_json(written)
    except ValidationError as error:
        raise ModelError(
            f"{path}: its card cannot be used ({explain(error)}); it may need a newer napari-matseg."
        ) from error


def load_model(model: str | Path, device: str = "cpu") -> Model:
    """Load a model in float32.

    Parameters
    ----------
    model : str or Path
        Name of a shipped or installed model, or path of a model file.
    device : str
        A torch device.

    Raises
    ------
    ModelError
        If there is no such model; if the file is damaged, was changed, or does not fit its card.
    """
    import torch
    from safetensors.torch import load_file

    path = find(model)
    if path.suffix.lower() == ONNX_SUFFIX:
        from napari_matseg.core.exporting.onnx_read import load_onnx

        return load_onnx(path, device)
    card = read_card(path)
    weights = load_file(path)
    if card.weights_sha256 and hash_weights(weights) != card.weights_sha256:
        raise ModelError(f"{path}: the weights are not those its card was written for (sha256); get the file again.")
    try:
        network = build_network(card.architecture, card.out_channels)
        network.load_state_dict(
            {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
        )
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except RuntimeError as error:
        raise ModelError(
            f"{path}: the weights do not fit the network that its card describes; get it again."
        ) from error
    network.requires_grad_(False)
    return Model(network.eval().to(device=torch.device(device)), card, path)


def save_model(path: Path, network: nn.Module, card: ModelCard) -> ModelCard:
    """Write a model file, whole or not at all; kernels are stored in half precision.

    Parameters
    ----------
    path : Path
        Its parent must exist.
    network : torch.nn.Module
        As `build_network` makes it from the card.
    card : ModelCard
        Reach, hash and date are filled in.

    Returns
    -------
    ModelCard
        The card as written.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    weights = {name: halve(tensor) for name, tensor in network.state_dict().items()}
    card = card.model_copy(update={"reach": measure_reach(network, card.architecture.in_channels)})
    return write_weights(path, weights, card, CARD_KEY)


def write_weights(path: Path, weights: dict[str, Tensor], card: Card, key: str) -> Card:
    """Write weights with a card of any kind, under its key; give the card with their hash and the date.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    from safetensors.torch import save

    created = datetime.now(UTC).isoformat(timespec="seconds")
    card = card.model_copy(update={"weights_sha256": hash_weights(weights), "created": created})
    content = save(weights, {key: card.model_dump_json()})
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return card


def hash_weights(weights: dict[str, Tensor]) -> str:
    """Sha256 over names, dtypes, shapes and values, in the order of the names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def halve(tensor: Tensor) -> Tensor:
    """Halve kernels only: the variances of batch norm span more than half precision holds."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor

"""A file -> a promptable network; reading one never runs code from it."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from napari_matseg.core.checkpoints import CARD_KEY, SUFFIX, halve, hash_weights, write_weights
from napari_matseg.core.sam import hugging_face
from napari_matseg.core.sam.networks import Layout, build_sam, recognise
from napari_matseg.core.sam.zoo import ZOO, how_to_get, promptable_folder
from napari_matseg.core.tensors import is_safetensors, read_tensors
from napari_matseg.errors import ModelError
from napari_matseg.settings import Settings, explain

if TYPE_CHECKING:
    from segment_anything.modeling import Sam
    from torch import Tensor

PROMPTABLE_KEY = "napari_matseg_promptable"
SUFFIXES = {SUFFIX, ".pth", ".pt"}
UNUSED = re.compile(r"^pixel_(mean|std)$|\.attention_bias_idxs$")
"""Constants that some files hold, too."""
GET_AGAIN = (
    "a promptable model is a checkpoint of segment-anything, MobileSAM or micro-sam, a Hugging Face folder of a sam "
    "model, or a file of ours: get it again"
)
EXPORT = "export the weights alone (micro-sam: micro_sam.util.export_custom_sam_model)"


class PromptableCard(Settings):
    """What a user must know of a promptable model of ours, and what is needed to run it."""

    format: Literal[1] = 1
    name: str
    description: str = ""
    licence: str = ""
    data_source: str = ""
    not_for: str = ""
    layout: Layout
    accuracy: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    """For each split and kind of prompt, the mean over all particles of the intersection over union."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    created: str = ""
    weights_sha256: str = ""

    def to_markdown(self) -> str:
        """Describe the model for a reader."""
        lines = [
            f"# {self.name}",
            self.description,
            f"Trained on: {self.data_source or 'not said'}",
            f"Not for: {self.not_for or 'not said'}",
            *(accuracy_table(split, figures) for split, figures in self.accuracy.items()),
            "These figures are without a refiner, which draws the answers again and has a card of its own."
            if self.accuracy and self.layout.encoder == "compact"
            else "",
            "Network: segment-anything's prompt encoder and mask decoder on the image encoder "
            f"{self.layout.encoder}, which takes frames of {self.layout.image_size} px.",
            f"Licence: {self.licence or 'not said'}. Written {self.created}. Weights: sha256 {self.weights_sha256}.",
        ]
        return "\n\n".join(line for line in lines if line) + "\n"


def accuracy_table(split: str, figures: dict[str, float | None]) -> str:
    """Make a table of the accuracy on one split."""
    rows = [f"| {kind} | {'-' if value is None else f'{value:.4f}'} |" for kind, value in figures.items()]
    return "\n".join([f"Accuracy on {split}:", "", "| prompt | mean IoU per particle |", "| --- | --- |", *rows])


@dataclass(frozen=True)
class PromptableModel:
    """A promptable network in evaluation mode.

    Attributes
    ----------
    sam : segment_anything.modeling.Sam
        In float32 on its device, without gradients.
    name : str
        By which it was asked for, or that of its file.
    sha256 : str
        Of its weights under segment-anything's names, as they are stored: its identity for caches and records.
    path : Path
        The file or folder it is from.
    licence : str
        Empty where unknown.
    """

    sam: Sam
    name: str
    sha256: str
    path: Path
    licence: str = ""


def available_promptable() -> dict[str, Path | None]:
    """Names of the promptable models that ship, that can be fetched (None: not here yet), and of the user's own.

    The user's own win over those that ship. One of the user's that is called like one that can be fetched, but is
    not that one, goes by its folder's name and its own.
    """
    shipped = Path(str(files("napari_matseg") / "models" / "promptable"))
    folder = promptable_folder()
    named: dict[str, Path | None] = {path.stem: path for path in sorted(shipped.glob(f"*{SUFFIX}"))}
    named |= dict.fromkeys(ZOO)
    for path in sorted(folder.glob("*")):
        if (path / hugging_face.WEIGHTS).is_file() or (path.is_file() and path.suffix in SUFFIXES):
            named[_name(path)] = path
    return named


def _name(path: Path) -> str:
    """Name of the model in a file or folder."""
    if path.name == hugging_face.WEIGHTS and (path.parent / hugging_face.CONFIG).is_file():
        path = path.parent
    for name, entry in ZOO.items():
        if path.name == entry.file:
            return name
    name = path.name if path.is_dir() else path.stem
    return f"{path.parent.name}/{path.name}" if name in ZOO else name


def find_promptable(model: str | Path) -> tuple[str, Path]:
    """Name of a promptable model, and where it lies.

    Raises
    ------
    ModelError
        If there is no such model, or it is not on this computer.
    """
    named = available_promptable()
    if str(model) in named:
        known = named[str(model)]
        if known is None:
            raise ModelError(f"{model}: is not on this computer; {how_to_get(str(model))}.")
        return str(model), known
    # Not of names that can be no path, nor of a ~ that is nobody's.
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        path = Path(model).expanduser()
        if str(model) and path.exists():
            return _name(path.resolve()), path
    here = [name for name, path in named.items() if path]
    raise ModelError(
        f"{model}: no such promptable model or file; the models here are {', '.join(here) or 'none'}, and "
        f"{', '.join(name for name in ZOO if name not in here) or 'no others'} can be fetched."
    )


def load_promptable(model: str | Path, device: str = "cpu") -> PromptableModel:
    """Load a promptable model in float32.

    Parameters
    ----------
    model : str or Path
        Name of a model that ships, of one in the user's folder or of one of the zoo; or path of a checkpoint of
        segment-anything, MobileSAM or micro-sam, of a safetensors file, or of a Hugging Face folder.
    device : str
        A torch device.

    Raises
    ------
    ModelError
        If there is no such model; if the file is damaged, was changed, is of another network, or holds more than
        weights.
    """
    import torch

    name, path = find_promptable(model)
    try:
        weights, card = _read(path)
        sha256 = hash_weights(weights)
        if card is not None and card.weights_sha256 != sha256:
            raise ModelError("the weights are not those its card was written for (sha256); get the file again.")
        sam = _fill(card.layout if card else recognise(weights), weights)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    licence = card.licence if card else ZOO[name].licence if name in ZOO else ""
    return PromptableModel(sam.to(torch.device(device)), name, sha256, path, licence)


def read_promptable_card(path: Path) -> PromptableCard | None:
    """Card of a promptable model, without loading its weights; None for a file that is not of ours.

    Raises
    ------
    ModelError
        If the card cannot be used, or the model is one that takes no prompts.
    """
    try:
        return _card(path)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _card(path: Path) -> PromptableCard | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError):
        return None
    if PROMPTABLE_KEY not in metadata:
        if CARD_KEY in metadata:
            raise ModelError("is a model that segments by itself, and takes no prompts; use a promptable model.")
        return None
    try:
        return PromptableCard.model_validate_json(metadata[PROMPTABLE_KEY])
    except ValidationError as error:
        raise ModelError(f"its card cannot be used ({explain(error)}); it may need a newer napari-matseg.") from error


def save_promptable(path: Path, sam: Sam, card: PromptableCard) -> PromptableCard:
    """Write a model file, whole or not at all; kernels are stored in half precision.

    Parameters
    ----------
    path : Path
        Its parent must exist.
    sam : segment_anything.modeling.Sam
        As `build_sam` makes it from the card's layout.
    card : PromptableCard
        Hash and date are filled in.

    Returns
    -------
    PromptableCard
        The card as written.

    Raises
    ------
    ModelError
        If the network is not of the card's layout.
    OutputError
        If the file cannot be written.
    """
    weights = {name: halve(weight) for name, weight in sam.state_dict().items()}
    _check_fit(_blank(card.layout), weights)
    return write_weights(path, weights, card, PROMPTABLE_KEY)


def _read(path: Path) -> tuple[dict[str, Tensor], PromptableCard | None]:
    """Weights under segment-anything's names, and the card of a file of ours."""
    if path.is_dir():
        path = path / hugging_face.WEIGHTS
        if not path.is_file():
            raise ModelError(f"holds no {hugging_face.WEIGHTS}; {GET_AGAIN}.")
    card = _card(path) if is_safetensors(path) else None
    weights = read_tensors(path, GET_AGAIN, EXPORT)
    weights = {name.removeprefix("sam."): weight for name, weight in weights.items()}
    if hugging_face.is_hugging_face(weights):
        config = path.parent / hugging_face.CONFIG
        if path.name == hugging_face.WEIGHTS and config.exists():
            hugging_face.check_config(config)
        weights = hugging_face.rename(weights)
    return {name: weight for name, weight in weights.items() if not UNUSED.search(name)}, card


def _fill(layout: Layout, weights: dict[str, Tensor]) -> Sam:
    """Network of a layout with these weights, in evaluation mode and without gradients."""
    import torch

    sam = _blank(layout)
    _check_fit(sam, weights)
    # Copies, since what was read may still lie in the file, which others may delete or write to.
    values = {
        name: weight.detach().to(torch.float32 if weight.is_floating_point() else weight.dtype, copy=True).contiguous()
        for name, weight in weights.items()
    }
    sam.load_state_dict(values, assign=True)
    return sam.eval().requires_grad_(False)


def _blank(layout: Layout) -> Sam:
    """Network of a layout, where possible without the memory that its weights will take."""
    import torch

    if layout.encoder == "compact":  # some of its constants are no part of its weights
        return build_sam(layout)
    with torch.device("meta"):
        return build_sam(layout)


def _check_fit(sam: Sam, weights: dict[str, Tensor]) -> None:
    """Compare names, shapes and kinds of numbers."""
    expected: dict[str, Tensor] = sam.state_dict()
    if missing := sorted(expected.keys() - weights.keys()):
        raise ModelError(
            f"lacks {len(missing)} of the {len(expected)} weights that its network has, such as {missing[0]}; "
            f"{GET_AGAIN}."
        )
    if unknown := sorted(weights.keys() - expected.keys()):
        raise ModelError(f"holds weights that its network does not have, such as {unknown[0]}; {GET_AGAIN}.")
    for name, weight in weights.items():
        if weight.shape != expected[name].shape:
            raise ModelError(
                f"its weight {name} has the shape {tuple(weight.shape)} instead of {tuple(expected[name].shape)}; "
                f"{GET_AGAIN}."
            )
        if weight.is_floating_point() != expected[name].is_floating_point():
            raise ModelError(f"its weight {name} holds {weight.dtype}, which cannot be used; {GET_AGAIN}.")

"""Model files: safetensors weights with their card inside; reading one never runs code from it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from napari_matseg.core.architectures import build_network, measure_reach
from napari_matseg.core.export import replacing
from napari_matseg.errors import ModelError
from napari_matseg.settings import ArchitectureSettings, ClassSpec, NormaliseSettings, Settings, explain

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIX = ".safetensors"
CARD_KEY = "napari_matseg_card"


class ModelCard(Settings):
    """What a user must know of a model, and what is needed to run it."""

    format: int = 1
    name: str
    description: str = ""
    licence: str = ""
    data_source: str = ""
    not_for: str = ""
    classes: tuple[ClassSpec, ...]
    distance: bool = False
    """Whether a last output map tells how deep inside its object each pixel lies, from 0 to 1."""
    architecture: ArchitectureSettings
    normalise: NormaliseSettings = NormaliseSettings()
    pixel_size_nm: float | None = None
    """Pixel size of the micrographs it was trained on; None if mixed or unknown."""
    reach: int | None = None
    """Pixels that the output depends on in each direction; None for the whole image."""
    halo: int | None = None
    """Narrower halo at which no more than 0.01 % of the pixels change class; None: use the reach."""
    disagreement: float | None = None
    """Share of the pixels that change class at `halo`, or when blended, as measured on held-out images."""
    accuracy: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)
    created: str = ""
    weights_sha256: str = ""

    @property
    def out_channels(self) -> int:
        """Number of maps that the network gives."""
        return len(self.classes) + self.distance

    def to_text(self) -> str:
        """Describe the model in lines for a reader."""
        reach = "the whole image" if self.reach is None else f"{self.reach} px"
        scored = self.accuracy.get("test") or self.accuracy.get("validation") or {}
        per_class = scored.get("iou", {})
        lines = [
            f"{self.name}: {self.description}",
            f"network       {self.architecture.name}, encoder {self.architecture.encoder}",
            f"classes       {', '.join(spec.name for spec in self.classes)}",
            f"reach         {reach}; halo {self.halo} px" if self.halo else f"reach         {reach}",
            f"trained on    {self.data_source}",
            f"pixel size    {'any' if self.pixel_size_nm is None else f'{self.pixel_size_nm} nm'}",
            *(f"IoU           {name} {value:.4f}" for name, value in per_class.items() if value is not None),
            f"not for       {self.not_for}",
            f"licence       {self.licence}",
            f"weights       sha256 {self.weights_sha256}",
        ]
        return "\n".join(line for line in lines if not line.endswith("  "))


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode with its card."""

    network: nn.Module
    card: ModelCard
    path: Path | None = None


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
    try:
        return ModelCard.model_validate_json(metadata[CARD_KEY])
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
    card = read_card(path)
    weights = load_file(path)
    if card.weights_sha256 and hash_weights(weights) != card.weights_sha256:
        raise ModelError(f"{path}: the weights are not those its card was written for (sha256); get the file again.")
    network = build_network(card.architecture, card.out_channels)
    try:
        network.load_state_dict(
            {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
        )
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
    from safetensors.torch import save

    weights = {name: _half(tensor) for name, tensor in network.state_dict().items()}
    card = card.model_copy(
        update={
            "reach": measure_reach(network, card.architecture.in_channels),
            "weights_sha256": hash_weights(weights),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    content = save(weights, {CARD_KEY: card.model_dump_json()})
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return card


def hash_weights(weights: dict[str, Tensor]) -> str:
    """Sha256 over names, dtypes, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _half(tensor: Tensor) -> Tensor:
    """Halve kernels only: the variances of batch norm span more than half precision holds."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor

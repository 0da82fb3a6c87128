"""Files of refiners: safetensors weights with their card inside; reading one never runs code from it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from napari_matseg.core.checkpoints import SUFFIX, halve, hash_weights, user_folder, write_weights
from napari_matseg.core.refine.crops import SIDE
from napari_matseg.core.sam.weights import accuracy_table
from napari_matseg.core.tensors import read_tensors
from napari_matseg.errors import ModelError
from napari_matseg.settings import Settings, explain

if TYPE_CHECKING:
    import torch

    from napari_matseg.core.refine.network import Refiner

CARD_KEY = "napari_matseg_refiner"
SHIPPED = "compact"
"""The refiner for models of compact's layout that have none of their own."""
AGAIN = "a refiner is a .safetensors file written by napari-matseg train: get it again"


class RefinerCard(Settings):
    """What a user must know of a refiner, and what is needed to run it."""

    format: Literal[1] = 1
    name: str
    description: str = ""
    licence: str = ""
    data_source: str = ""
    not_for: str = ""
    refines: str
    """Promptable model whose answers it was taught on."""
    refines_sha256: str = ""
    """Of that model's weights."""
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    decoder_channels: tuple[int, ...]
    accuracy: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    """For each split and kind of prompt, the mean over all particles of the intersection over union."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    created: str = ""
    weights_sha256: str = ""

    def build(self) -> Refiner:
        """Make its network with random weights.

        Raises
        ------
        ModelError
            If there can be no such network.
        """
        from napari_matseg.core.refine.network import Refiner

        try:
            return Refiner(self.channels, self.blocks, self.decoder_channels)
        except (IndexError, RuntimeError, ValueError) as error:
            raise ModelError(f"its card describes no network ({error}); {AGAIN}.") from error

    def to_markdown(self) -> str:
        """Describe the refiner for a reader."""
        lines = [
            f"# Refiner of {self.refines}",
            self.description,
            f"Trained on: {self.data_source or 'not said'}",
            f"Not for: {self.not_for or 'not said'}",
            *(accuracy_table(split, figures) for split, figures in self.accuracy.items()),
            f"Network: a U-Net of {', '.join(map(str, self.channels))} channels with residual blocks, which takes "
            f"{SIDE} x {SIDE} px round an object.",
            f"Taught on the answers of {self.refines}, weights sha256 {self.refines_sha256}.",
            f"Licence: {self.licence or 'not said'}. Written {self.created}. Weights: sha256 {self.weights_sha256}.",
        ]
        return "\n\n".join(line for line in lines if line) + "\n"


@dataclass(frozen=True, eq=False)
class LoadedRefiner:
    """A refiner in evaluation mode, in float32 on its device."""

    network: Refiner
    card: RefinerCard


def refiner_folder() -> Path:
    """Folder of the user's own refiners."""
    return user_folder() / "refiners"


def find_refiner(model: str) -> Path | None:
    """File of the refiner for a promptable model's answers: the user's, or one that ships.

    Models with no refiner of their own take `SHIPPED`; None if there is not even that.
    """
    shipped = Path(str(files("napari_matseg") / "models" / "refiners"))
    places = (folder / f"{name}{SUFFIX}" for name in (model, SHIPPED) for folder in (refiner_folder(), shipped))
    return next((path for path in places if path.is_file()), None)


def load_refiner(path: Path, device: torch.device) -> LoadedRefiner:
    """Load a refiner.

    Raises
    ------
    ModelError
        If the file is damaged, was changed, or is no refiner.
    """
    try:
        card = _card(path)
        weights = read_tensors(path, AGAIN, AGAIN)
        if card.weights_sha256 != hash_weights(weights):
            raise ModelError("the weights are not those its card was written for (sha256); get the file again.")
        network = card.build()
        try:
            network.load_state_dict({name: weight.float() for name, weight in weights.items()})
        except RuntimeError as error:
            raise ModelError(f"its weights do not fit its card; {AGAIN}.") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    return LoadedRefiner(network.to(device).eval().requires_grad_(False), card)


def save_refiner(path: Path, network: Refiner, card: RefinerCard) -> RefinerCard:
    """Write a refiner, whole or not at all; kernels are stored in half precision.

    Returns
    -------
    RefinerCard
        The card as written, with hash and date.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    weights = {name: halve(weight) for name, weight in network.state_dict().items()}
    return write_weights(path, weights, card, CARD_KEY)


def read_refiner_card(path: Path) -> RefinerCard:
    """Card of a refiner, without its weights.

    Raises
    ------
    ModelError
        If the file is damaged, or is no refiner.
    """
    try:
        return _card(path)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _card(path: Path) -> RefinerCard:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"is not a model file or is damaged ({error}); {AGAIN}.") from error
    if CARD_KEY not in metadata:
        raise ModelError(f"is no refiner; {AGAIN}.")
    try:
        return RefinerCard.model_validate_json(metadata[CARD_KEY])
    except ValidationError as error:
        raise ModelError(f"its card cannot be used ({explain(error)}); it may need a newer napari-matseg.") from error

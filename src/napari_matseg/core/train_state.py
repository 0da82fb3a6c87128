"""The state of a training in a file, with which it can go on."""

from __future__ import annotations

import os
import pickle
import warnings
from typing import TYPE_CHECKING, Any

from napari_matseg.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    import torch


def save_state(content: dict[str, Any], path: Path) -> None:
    """Write the state of a training, whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    import torch

    part = path.with_name(path.name + ".part")
    try:
        torch.save(content, part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:
        raise OutputError(f"{path}: the training's state cannot be written ({error}); free some space.") from error


def load_state(path: Path, settings: str, device: torch.device) -> dict[str, Any]:
    """Read what `save_state` wrote for a training of these settings.

    Raises
    ------
    SettingsError
        If the file is damaged, or belongs to other settings.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what other files hold, before it fails for it
            content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise SettingsError(
            f"{path}: is damaged or is not the state of a training; delete it, or train without resuming."
        ) from error
    if content["settings"] != settings:
        raise SettingsError(f"{path}: belongs to a training with other settings; delete it, or train without resuming.")
    return content

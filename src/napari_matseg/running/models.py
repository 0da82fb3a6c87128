"""Models in memory, each loaded once in a process however many files it works on."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING

from napari_matseg.core.checkpoints import find, load_model
from napari_matseg.core.devices import choose_device
from napari_matseg.core.prompt import PromptSession
from napari_matseg.running.keys import stat_of

if TYPE_CHECKING:
    from pathlib import Path

    from napari_matseg.core.checkpoints import Model
    from napari_matseg.core.sam.weights import PromptableModel
    from napari_matseg.settings import PromptSettings

KEPT = 2
"""A segmentation model that finds centres and the promptable one, or that of the recipe before."""

_loading = threading.Lock()
_own = threading.local()


def segmentation_model(model: str, device: str) -> Model:
    """Give a segmentation model, on a device as the settings name it.

    Raises
    ------
    ModelError, SettingsError
        If there is no such model or device.
    """
    path = find(model)
    with _loading:
        return _load(path, stat_of(path), str(choose_device(device)))


def prompt_session(settings: PromptSettings) -> PromptSession:
    """Give a session that holds its model; one for each thread, as a session works on one image at a time.

    Raises
    ------
    ModelError, SettingsError
        If there is no such model or device.
    """
    from napari_matseg.core.sam.weights import find_promptable

    path = find_promptable(settings.model)[1]
    key = (path, stat_of(path), settings)
    if getattr(_own, "key", None) != key:
        with _loading:
            loaded = _load_promptable(settings.model, stat_of(path), str(choose_device(settings.device)))
        _own.session, _own.key = PromptSession(settings, loaded=loaded), key
    session: PromptSession = _own.session
    return session


def forget_models() -> None:
    """Let go of all models, and of the memory of a GPU that they hold."""
    with _loading:
        _load.cache_clear()
        _load_promptable.cache_clear()
    _own.__dict__.clear()


@lru_cache(maxsize=KEPT)
def _load(path: Path, _stat: tuple[int, ...] | None, device: str) -> Model:
    return load_model(path, device)


@lru_cache(maxsize=KEPT)
def _load_promptable(model: str, _stat: tuple[int, ...] | None, device: str) -> PromptableModel:
    from napari_matseg.core.sam.weights import load_promptable

    return load_promptable(model, device)

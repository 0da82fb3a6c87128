"""The work of a training: data into files, steps that can be paused and stopped, and the model among the others."""

from __future__ import annotations

import gc
import shutil
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from napari_matseg._napari.models import load_torch
from napari_matseg._napari.train_data import Data
from napari_matseg.core.checkpoints import SUFFIX, ModelCard, read_card, user_folder
from napari_matseg.core.export import make_folder, replacing
from napari_matseg.core.progress import Progress
from napari_matseg.core.train import train_steps
from napari_matseg.settings import TrainSettings

POLL_S = 0.1


@dataclass(frozen=True, eq=False)
class Asked:
    """What is to be learnt, from what."""

    settings: TrainSettings
    data: Data

    def same(self, other: Asked) -> bool:
        """Whether that would become the same model."""
        return self.settings == other.settings and self.data.same(other.data)


@dataclass(frozen=True, eq=False)
class Control:
    """By which the window holds a training that goes on in another thread."""

    pause: Event = field(default_factory=Event)
    stop: Event = field(default_factory=Event)


@dataclass(frozen=True, eq=False)
class Trained:
    """What came of it."""

    asked: Asked
    card: ModelCard
    path: Path


def train(asked: Asked, control: Control) -> Generator[Progress, None, Trained]:
    """Train, and put the model among the user's own once it is complete; until then everything is in a folder apart."""
    settings = asked.settings
    with TemporaryDirectory(prefix="napari-matseg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        yield Progress(0, 1, "loading")
        load_torch()
        data = yield from asked.data.prepare(folder, settings.name, settings.classes)
        steps = train_steps(settings, data, folder / "out", resume=False, stop=control.stop)
        path = yield from _held(steps, control)
        make_folder(user_folder())
        target = user_folder() / f"{settings.name}{SUFFIX}"
        with replacing(target) as temporary:
            shutil.copyfile(path, temporary)
        return Trained(asked, read_card(target), target)


def give_back() -> None:
    """Give the memory of a training back, that of the GPU too."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _held(steps: Generator[Progress, None, Path], control: Control) -> Generator[Progress, None, Path]:
    """Go through the steps, but for as long as it is paused; closing this closes them."""
    try:
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                path: Path = stop.value
                return path
            yield step
            while control.pause.is_set() and not control.stop.is_set():
                yield step
                time.sleep(POLL_S)
    finally:
        steps.close()

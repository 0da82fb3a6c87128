"""The loop of the trainings that learn from prompts: crops made ahead, evaluations, and a state to go on from."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from napari_matseg.core.allocator import kept_memory
from napari_matseg.core.train import TrainProgress
from napari_matseg.core.train_state import load_state, save_state

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    import torch

    from napari_matseg.settings import PromptTrainSettings, RefineTrainSettings

Crop = TypeVar("Crop")


class Learns(Protocol[Crop]):
    """All that changes in a training."""

    device: torch.device
    step: int

    def advance(self, crops: list[Crop], /) -> float:
        """Learn from one batch; give its loss."""

    def state(self) -> dict[str, Any]:
        """Everything that a resumed training needs."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""


def learn_steps(
    trainer: Learns[Crop],
    settings: PromptTrainSettings | RefineTrainSettings,
    drawn: Callable[[int, ThreadPoolExecutor], list[Future[Crop]]],
    check: Callable[[], dict[str, float] | None],
    saved: Path,
    *,
    resume: bool,
) -> Generator[TrainProgress, None, dict[str, float] | None]:
    """Make the steps that are still to be made.

    Parameters
    ----------
    trainer : Learns
    settings : PromptTrainSettings or RefineTrainSettings
    drawn : callable
        Begins to make the crops of a step; none after the last.
    check : callable
        Gives the accuracy on what is held out.
    saved : Path
        Where the state lies, and is written after each evaluation.
    resume : bool
        Go on from it, if it is there.

    Returns
    -------
    dict or None
        The last accuracy.
    """
    if resume and saved.is_file():
        trainer.load(load_state(saved, settings.model_dump_json(), trainer.device))
    losses: deque[float] = deque(maxlen=settings.evaluate_every)
    accuracy: dict[str, float] | None = None
    with ThreadPoolExecutor(os.cpu_count()) as pool, kept_memory(wanted=trainer.device.type == "cpu"):
        waiting = drawn(trainer.step, pool)
        while trainer.step < settings.steps:
            batch, waiting = waiting, drawn(trainer.step + 1, pool)
            losses.append(trainer.advance([future.result() for future in batch]))
            seen = None
            if trainer.step == settings.steps or trainer.step % settings.evaluate_every == 0:
                seen = accuracy = check()
                save_state(trainer.state(), saved)
            note = ", ".join(f"{kind} {value:.4f}" for kind, value in (seen or {}).items()) or "training"
            yield TrainProgress(trainer.step, settings.steps, note, sum(losses) / len(losses), seen)
    return accuracy

"""The long work of a batch: finding the micrographs, and running the recipe on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from napari_matseg._napari.models import load_torch
from napari_matseg.core.progress import Progress
from napari_matseg.running import run_steps
from napari_matseg.running.inputs import find_inputs
from napari_matseg.running.states import RunProgress, Source, Summary
from napari_matseg.settings import Recipe

SOONEST = 0.05  # s


@dataclass(frozen=True)
class Found(Progress):
    """The micrographs that there are, and what is to be known of them."""

    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()


def find(inputs: Sequence[str], out: Path) -> Generator[Progress, None, Found]:
    """Find the micrographs.

    Raises
    ------
    InputError
        If there are none, or an input is not there.
    """
    yield Progress(0, 1, "looking for micrographs")
    sources, notes = find_inputs(inputs, out)
    return Found(0, max(1, len(sources)), sources=tuple(sources), notes=tuple(notes))


def run(
    recipe: Recipe, inputs: Sequence[str], out: Path, pause: threading.Event, *, retry_failed: bool
) -> Generator[Progress, None, Summary]:
    """Find the micrographs anew, since there may be more by now, and run the recipe on them.

    Raises
    ------
    MatsegError
        If there are none, the model cannot be loaded, or nothing can be written.
    """
    found = yield from find(inputs, out)
    yield found
    load_torch()
    with closing(run_steps(recipe, found.sources, out, pause=pause, retry_failed=retry_failed)) as work:
        return (yield from _seldom(work))


def _seldom(work: Generator[RunProgress, None, Summary]) -> Generator[RunProgress, None, Summary]:
    """Leave out steps that come sooner than anyone can see, which would keep the window busy."""
    last, shown = None, 0.0
    while True:
        try:
            step = next(work)
        except StopIteration as stop:
            summary: Summary = stop.value
            return summary
        now, about = time.monotonic(), (step.source, step.state)
        if step.outcome is not None or about != last or now - shown > SOONEST:
            last, shown = about, now
            yield step

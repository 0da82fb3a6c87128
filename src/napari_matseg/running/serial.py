"""A run: a recipe on many micrographs, in this process or by an executor."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_matseg.core.devices import choose_device
from napari_matseg.core.export import make_folder
from napari_matseg.errors import OutputError
from napari_matseg.running.commit import clean_up
from napari_matseg.running.keys import model_files
from napari_matseg.running.models import forget_models
from napari_matseg.running.one_file import PAUSE, attempt_steps, prepare
from napari_matseg.running.pace import Pace
from napari_matseg.running.states import Outcome, RunProgress, Source, Summary

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator, Sequence
    from concurrent.futures import Executor, Future

    from napari_matseg.running.one_file import Prepared
    from napari_matseg.settings import Recipe

PAUSED, OTHERS = "paused", "another run is at work on the rest"


def run_steps(
    recipe: Recipe,
    sources: Sequence[Source],
    out: Path,
    executor: Executor | None = None,
    *,
    pause: threading.Event | None = None,
    retry_failed: bool = True,
) -> Generator[RunProgress, None, Summary]:
    """Run a recipe on micrographs; outputs that are complete and would come out the same stay.

    Parameters
    ----------
    recipe : Recipe
    sources : sequence of Source
        As `running.inputs.find_inputs` gives them.
    out : Path
        Folder for the outputs, made if it is missing.
    executor : concurrent.futures.Executor, optional
        Works on several files at once, as may dask's ``Client``; without one they are worked on one after the other in
        this thread, while the next is read in another.
    pause : threading.Event, optional
        While it is set, no file is begun, and in this process none goes on.
    retry_failed : bool
        Whether files that failed before are tried again, though nothing has changed.

    Yields
    ------
    RunProgress
        Closing the generator cancels; what is complete stays. An executor's tasks that have begun come to their end.

    Returns
    -------
    Summary

    Raises
    ------
    MatsegError
        If the model or the device is not there, or nothing can be written into the folder. What is wrong with single
        files is told in their outcomes.
    """
    from napari_matseg.running.summary import write_summary

    out = Path(out).absolute()
    make_folder(out)
    model_files(recipe)
    clean_up(out)
    if executor is None:
        for device in _devices(recipe):
            choose_device(device)
        work = _one_after_the_other(recipe, sources, out, pause, retry_failed=retry_failed)
    else:
        from napari_matseg.running.pooled import by_executor

        work = by_executor(recipe, sources, out, executor, pause, retry_failed=retry_failed)
    with closing(work):
        outcomes = yield from work
    total = max(1, len(sources))
    yield RunProgress(len(sources), total, "writing the summary", seconds_left=0.0)
    in_order = tuple(outcomes[source.name] for source in sources)
    if not out.is_dir():  # nor made again, as it might come to lie where a lost drive was
        raise OutputError(f"{out}: is gone; look whether its drive is there, and run it again.")
    return Summary(in_order, write_summary(in_order, recipe, out))


def _devices(recipe: Recipe) -> list[str]:
    if recipe.prompt is None:
        return [] if recipe.segment is None else [recipe.segment.device]
    centres = [recipe.prompt.centres.device] if recipe.prompt.find == "centres" else []
    return [recipe.prompt.prompt.device, *centres]


def _one_after_the_other(
    recipe: Recipe, sources: Sequence[Source], out: Path, pause: threading.Event | None, *, retry_failed: bool
) -> Generator[RunProgress, None, dict[str, Outcome]]:
    outcomes: dict[str, Outcome] = {}
    pace = Pace(sources)
    waiting, busy = deque(sources), deque[Source]()
    total = max(1, len(sources))
    yield RunProgress(0, total, "beginning")
    with ExitStack() as stack:
        stack.callback(forget_models)
        reader = ThreadPoolExecutor(1, thread_name_prefix="reads-ahead")
        # Not waited for: it may hang at a drive that is gone.
        stack.callback(reader.shutdown, wait=False, cancel_futures=True)
        ahead: dict[str, Future[Prepared]] = {}
        while waiting or busy:
            if not waiting:  # what others work on is looked at again when all else is done
                yield RunProgress(len(outcomes), total, OTHERS)
                time.sleep(PAUSE)
                waiting, busy = busy, waiting
            source = waiting.popleft()
            ready = ahead.pop(source.name, None) or reader.submit(prepare, source, recipe, out)
            if waiting:
                following = waiting[0]
                ahead[following.name] = reader.submit(prepare, following, recipe, out)
            work = attempt_steps(source, recipe, out, ready.result, retry_failed=retry_failed)
            of_file = RunProgress(len(outcomes), total, source.name, source, "working")
            with closing(work):
                while True:
                    yield from _hold(pause, of_file)
                    try:
                        step = next(work)
                    except StopIteration as stop:
                        outcome: Outcome | None = stop.value
                        break
                    share = step.done / step.total
                    of_file = replace(
                        of_file,
                        note=f"{source.name}: {step.note}",
                        share=share,
                        seconds_left=pace.seconds_left(source, share),
                        file_seconds_left=pace.seconds_of(source, share),
                    )
                    yield of_file
            if outcome is None:
                busy.append(source)
                yield replace(of_file, state="waiting", note=f"{source.name}: another run is at work on it")
                continue
            outcomes[source.name] = outcome
            pace.add(outcome)
            yield ended(outcome, len(outcomes), total, pace)
    return outcomes


def ended(outcome: Outcome, done: int, total: int, pace: Pace) -> RunProgress:
    """Tell of a file that has ended."""
    source = outcome.source
    note = f"{source.name}: {outcome.reason or outcome.state}"
    return RunProgress(done, total, note, source, outcome.state, 1.0, pace.seconds_left(), 0.0, outcome)


def _hold(pause: threading.Event | None, of_file: RunProgress) -> Generator[RunProgress, None, None]:
    """Wait while a run is paused."""
    while pause is not None and pause.is_set():
        yield replace(of_file, note=PAUSED, seconds_left=None, file_seconds_left=None)
        time.sleep(PAUSE)

"""A run by an executor: several files at once, in whatever threads, processes or machines it has."""

from __future__ import annotations

import concurrent.futures
import time
from collections import deque
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_matseg.errors import MatsegError
from napari_matseg.running.cluster import ClusterError, prepared
from napari_matseg.running.failures import write_failure
from napari_matseg.running.one_file import PAUSE, attempt
from napari_matseg.running.order import largest_first
from napari_matseg.running.pace import Pace
from napari_matseg.running.serial import OTHERS, PAUSED, ended
from napari_matseg.running.states import Outcome, RunProgress, Source

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator, Sequence
    from concurrent.futures import Executor, Future
    from pathlib import Path

    from napari_matseg.settings import Recipe

AHEAD = 2
"""Tasks for each worker that are handed out at once: enough that none waits for its next."""
UNKNOWN = 64
"""Tasks that are handed out at once to an executor that does not tell how many workers it has."""


class LostWorkerError(MatsegError):
    """A file at which a worker process ended."""


def by_executor(
    recipe: Recipe,
    sources: Sequence[Source],
    out: Path,
    executor: Executor,
    pause: threading.Event | None,
    *,
    retry_failed: bool,
) -> Generator[RunProgress, None, dict[str, Outcome]]:
    """Do as `serial.run_steps`, whose parameters these are, and give the outcomes by the names of their sources."""
    yield RunProgress(0, max(1, len(sources)), "asking the workers")
    with prepared(executor, recipe, sources, out) as fit:
        run = _Run(recipe, sources, out, fit, pause, retry_failed)
        try:
            yield from run.steps()
        finally:
            run.take_back()
    return run.outcomes


class _Run:
    """Which files wait, are handed out, or have ended."""

    def __init__(
        self,
        recipe: Recipe,
        sources: Sequence[Source],
        out: Path,
        executor: Executor,
        pause: threading.Event | None,
        retry_failed: bool,
    ) -> None:
        self._recipe, self._out, self._executor, self._pause = recipe, out, executor, pause
        self._retry_failed = retry_failed
        self._waiting = deque(sources[place] for place in largest_first(sources))
        self._suspects: deque[Source] = deque()  # one of them ended its worker, and all that was handed out with it
        self._busy: deque[Source] = deque()  # another run is at work on them
        self._open: dict[Future[Outcome | None], Source] = {}
        self._begun: set[str] = set()
        self._lost: set[str] = set()
        self._broken: BrokenExecutor | None = None
        self._pace = Pace(sources)
        self._total = max(1, len(sources))
        self.outcomes: dict[str, Outcome] = {}

    def steps(self) -> Generator[RunProgress, None, None]:
        """Hand out and take in until all have ended."""
        while self._waiting or self._suspects or self._busy or self._open:
            paused = self._pause is not None and self._pause.is_set()
            if not paused:
                self._hand_out()
            if self._broken is not None and not self._open:
                yield from self._give_up(self._broken)
                return
            if not self._open:
                yield RunProgress(len(self.outcomes), self._total, PAUSED if paused else OTHERS)
                time.sleep(PAUSE)
                if not paused:
                    self._waiting, self._busy = self._busy, self._waiting
                continue
            done, _ = concurrent.futures.wait(self._open, timeout=PAUSE, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                yield from self._take_in(future)
            yield from self._tell_begun()
            if paused:
                yield RunProgress(len(self.outcomes), self._total, PAUSED)

    def take_back(self) -> None:
        """Cancel what has not begun."""
        for future in self._open:
            future.cancel()

    def _hand_out(self) -> None:
        # A suspect has nothing beside it, so that it shows whether it was that one.
        if any(source.name in self._lost for source in self._open.values()):
            return
        while self._broken is None:
            if self._suspects and not self._open:
                source = self._suspects.popleft()
            elif self._waiting and not self._suspects and len(self._open) < self._slots():
                source = self._waiting.popleft()
            else:
                return
            try:
                # On another machine a relative path would begin elsewhere.
                there = replace(source, path=source.path.absolute())
                future = self._executor.submit(attempt, there, self._recipe, self._out, self._retry_failed)
            except ClusterError:
                raise
            except BrokenExecutor as error:
                self._broken = error
                self._waiting.appendleft(source)
            else:
                self._open[future] = source
                if source.name in self._lost:
                    return

    def _slots(self) -> int:
        slots: int | None = getattr(self._executor, "slots", None)
        if slots is None:
            workers: int | None = getattr(self._executor, "_max_workers", None)
            slots = UNKNOWN if workers is None else AHEAD * workers
        return slots

    def _take_in(self, future: Future[Outcome | None]) -> Generator[RunProgress, None, None]:
        source = self._open.pop(future)
        self._begun.discard(source.name)
        try:
            outcome = future.result()
        except ClusterError:  # which no file is to blame for, and of which one line tells all
            raise
        except MatsegError as error:
            outcome = self._failed(source, error)
        except BrokenExecutor as error:
            if source.name not in self._lost:
                self._lost.add(source.name)
                self._suspects.append(source)
                return
            outcome = self._failed(source, _lost(source, error))
        except Exception as error:  # noqa: BLE001 - of the executor, as what cannot be sent; the others are not to suffer
            outcome = self._failed(source, error)
        if outcome is None:
            self._busy.append(source)
            yield RunProgress(len(self.outcomes), self._total, f"{source.name}: {OTHERS}", source, "waiting")
            return
        yield self._end(replace(outcome, source=source))

    def _end(self, outcome: Outcome) -> RunProgress:
        self.outcomes[outcome.source.name] = outcome
        self._pace.add(outcome)
        return ended(outcome, len(self.outcomes), self._total, self._pace)

    def _tell_begun(self) -> Generator[RunProgress, None, None]:
        for future, source in self._open.items():
            if future.running() and source.name not in self._begun:
                self._begun.add(source.name)
                yield RunProgress(
                    len(self.outcomes),
                    self._total,
                    source.name,
                    source,
                    "working",
                    seconds_left=self._pace.seconds_left(),
                    file_seconds_left=self._pace.seconds_of(source),
                )

    def _failed(self, source: Source, error: Exception) -> Outcome:
        return Outcome(source, "failed", write_failure(self._out, source, error, None))

    def _give_up(self, error: BrokenExecutor) -> Generator[RunProgress, None, None]:
        """Say of all that is left that there is nobody to work on it."""
        for source in [*self._suspects, *self._waiting, *self._busy]:
            reason = str(error) if isinstance(error, MatsegError) else "all workers ended before it was its turn"
            yield self._end(Outcome(source, "failed", f"{source.path}: {reason}; run it again to do what is left."))
        self._waiting.clear()


def _lost(source: Source, error: BrokenExecutor) -> LostWorkerError:
    said = " ".join(str(error).split())
    return LostWorkerError(
        f"{source.path}: its worker process was ended twice, often by the system for want of memory ({said}); "
        "give fewer workers, or smaller tiles."
    )

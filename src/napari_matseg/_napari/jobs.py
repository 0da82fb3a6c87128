"""The only place that makes workers: long work off the main thread, with progress, cancelling and errors."""

from __future__ import annotations

import logging
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from napari.qt.threading import create_worker
from napari.utils.notifications import notification_manager, show_error
from qtpy.QtCore import QObject, Signal

from napari_matseg.core.progress import Progress
from napari_matseg.errors import MatsegError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Returned:
    value: Any


@dataclass(frozen=True)
class _Raised:
    error: Exception


def _guarded(work: Generator[Progress, None, Any]) -> Generator[Progress, None, _Returned | _Raised]:
    """Let errors travel as results: superqt drops a generator's RuntimeError, and with it the end of the work."""
    try:
        return _Returned((yield from work))
    except Exception as error:  # noqa: BLE001
        return _Raised(error)


class Job(QObject):
    """The long work of one widget, one piece at a time.

    Work is a generator that yields `Progress`; cancelling closes it where it yields next. Slots run in the main
    thread, and no longer once the widget is gone, since the job is its child.
    """

    progressed = Signal(object)
    """A `Progress`."""
    succeeded = Signal(object)
    """What the work returned; not after `cancel`."""
    failed = Signal(str)
    """One line for the user."""
    ended = Signal(bool)
    """Comes last in any case; whether it was cancelled."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._work: Generator[Progress, None, Any] | None = None
        self._worker: Any = None
        self._cancelled = False

    @property
    def running(self) -> bool:
        """Whether there is work that has not ended."""
        return self._work is not None

    def start(self, work: Generator[Progress, None, Any], title: str | None) -> None:
        """Start work, whose title napari's activity list shows if it has one; there must be none running."""
        if self.running:
            raise RuntimeError("a job is started while one is running")
        self._work, self._cancelled = work, False
        shown = None if title is None else {"total": 0, "desc": title}
        self._worker = create_worker(_guarded, work, _progress=shown, _start_thread=False, _ignore_errors=True)
        self._worker.warned.connect(self._on_warned)
        self._worker.yielded.connect(self._on_yielded)
        self._worker.returned.connect(self._on_returned)
        self._worker.aborted.connect(self._on_aborted)
        self._worker.finished.connect(self._on_finished)
        self._worker.start()

    def cancel(self) -> None:
        """Stop where the work yields next; nothing happens if there is none."""
        if self._worker is not None:
            self._cancelled = True
            self._worker.quit()

    def _on_yielded(self, step: Progress) -> None:
        if self._cancelled or self._worker is None:
            return
        bar = getattr(self._worker, "pbar", None)
        self.progressed.emit(step)  # first: napari's bar lets later steps overtake
        if bar is not None:
            if bar.total != step.total:
                bar.total = step.total
            bar.update(step.done - bar.n)

    def _on_returned(self, outcome: _Returned | _Raised) -> None:
        if self._cancelled:
            return
        if isinstance(outcome, _Returned):
            self.succeeded.emit(outcome.value)
            return
        error = outcome.error
        if isinstance(error, MatsegError):
            show_error(str(error))
            self.failed.emit(str(error))
        else:
            notification_manager.receive_error(type(error), error, error.__traceback__)
            first = (str(error).splitlines() or [""])[0]
            self.failed.emit(f"This is a fault of the program: {type(error).__name__}: {first} (see the notification)")

    def _on_aborted(self) -> None:
        self._cancelled = True

    def _on_finished(self) -> None:
        # napari keeps the worker, and so would a cancelled generator keep its model and arrays.
        if self._work is not None:
            self._work.close()
        self._work = self._worker = None
        self.ended.emit(self._cancelled)

    def _on_warned(self, warned: tuple[Any, ...]) -> None:
        """Log what a library warns of: the user cannot act on it."""
        log.warning("%s", warned[0])

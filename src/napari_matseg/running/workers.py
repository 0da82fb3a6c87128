"""Worker processes of this machine that come again when they are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

T = TypeVar("T")


class Workers(Executor):
    """Some processes, each with its model and its share of the processor's cores.

    When one is killed, what was handed out fails, as with a ``ProcessPoolExecutor``, but what is handed out afterwards
    is worked on by new ones.

    Parameters
    ----------
    number : int
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._lock = threading.Lock()
        self._pool = self._start()

    @property
    def slots(self) -> int:
        """How many tasks should be handed out at once: one for each worker and one more, that it need not wait."""
        return 2 * self._number

    def submit(self, fn: Callable[..., T], /, *args: object, **kwargs: object) -> Future[T]:
        """Hand out a task; see ``concurrent.futures.Executor``."""
        with self._lock:
            try:
                return self._pool.submit(_do, fn, *args, **kwargs)
            except BrokenProcessPool:
                self._pool.shutdown(wait=False)
                self._pool = self._start()
                return self._pool.submit(_do, fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the processes end once what has begun has ended."""
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def _start(self) -> ProcessPoolExecutor:
        threads = max(1, len(_cores()) // self._number)
        # Spawned: neither torch's threads nor CUDA outlive a fork.
        return ProcessPoolExecutor(self._number, get_context("spawn"), initializer=_begin, initargs=(threads,))


def _cores() -> set[int]:
    """Cores that this process may use, which on a shared machine are not all."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _begin(threads: int) -> None:
    """Make a new worker ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Of those that load torch before its number of threads can be set, too.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    """End when the parent has, however it did: nobody would take the results, and a next run waits for the claim."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _do(fn: Callable[..., T], /, *args: object, **kwargs: object) -> T:
    """Do a task that Ctrl+C in the terminal ends at once; a worker that waits is left to its parent."""
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return fn(*args, **kwargs)
    finally:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.SIG_IGN)

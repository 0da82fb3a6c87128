"""Worker processes of this machine that come again when they are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

T = TypeVar("T")


class Workers(Executor):
    """Some processes, each with its model and its share of the processor's cores.

    When one is killed, the task that it had fails with ``BrokenProcessPool``, and another takes its place. Each has a
    pool of its own: one pool for all loses with one process what the others do, and up to Python 3.11 one that breaks
    while a task is handed out may never tell.

    Parameters
    ----------
    number : int
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._threads = ThreadPoolExecutor(number, "worker")
        self._own = threading.local()
        self._pools: list[ProcessPoolExecutor] = []

    @property
    def slots(self) -> int:
        """How many tasks should be handed out at once: one for each worker and one more, that it need not wait."""
        return 2 * self._number

    def submit(self, fn: Callable[..., T], /, *args: object, **kwargs: object) -> Future[T]:
        """Hand out a task; see ``concurrent.futures.Executor``."""
        return self._threads.submit(self._have_done, fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the processes end once what has begun has ended."""
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        for pool in list(self._pools):
            pool.shutdown(wait=wait)

    def _have_done(self, fn: Callable[..., T], /, *args: object, **kwargs: object) -> T:
        """Do a task in this thread's process."""
        pool: ProcessPoolExecutor | None = getattr(self._own, "pool", None)
        if pool is None:
            threads = max(1, len(_cores()) // self._number)
            # Spawned: neither torch's threads nor CUDA outlive a fork.
            pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_begin, initargs=(threads,))
            self._own.pool = pool
            self._pools.append(pool)
        try:
            return pool.submit(_do, fn, *args, **kwargs).result()
        except BrokenProcessPool:
            del self._own.pool
            self._pools.remove(pool)
            pool.shutdown(wait=False)
            raise


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

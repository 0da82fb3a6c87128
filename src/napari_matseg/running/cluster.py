"""A run on dask's workers: tasks that outlive their worker, and workers that are looked at before they are used."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import uuid4

from napari_matseg.core.export import make_folder
from napari_matseg.errors import MatsegError, SettingsError
from napari_matseg.running.keys import model_hash
from napari_matseg.running.worker import (
    CancelledTaskError,
    Needs,
    UnfitWorkerError,
    describe_versions,
    do_task,
    find_fault_aside,
    mark_folder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from pathlib import Path

    from distributed import Client

    from napari_matseg.running.states import Source
    from napari_matseg.settings import Recipe

T = TypeVar("T")
LOG = logging.getLogger(__name__)

AHEAD, AT_LEAST = 2, 8
"""Tasks per worker, and beyond that in all, that are with the scheduler at once: enough that no worker waits for the
next one and that a cluster which grows by demand sees some, few enough that a million do not weigh on it."""
COUNTED_EVERY = 2.0  # s between two looks at how many workers there are
TURNS = 2
"""How often a task is handed out anew once dask has given it up, as it does when four workers ended under it: they
need not have ended by its fault."""
RECONNECT_EVERY = 0.1  # s between two looks at whether the scheduler is back


class ClusterError(MatsegError, BrokenExecutor):
    """No task will end any more; what the workers have written is complete, and the same run goes on from there."""


class LostWorkersError(MatsegError):
    """A task was given up, since the workers that had it were lost."""


class ClusterExecutor(Executor):
    """Executor on dask's workers, for the tasks of one run.

    Parameters
    ----------
    client : distributed.Client
        Stays open.
    needs : Needs
        What the run needs of each worker.
    priority : int
        Tasks with a higher one come first.
    """

    def __init__(self, client: Client, needs: Needs, *, priority: int = 0) -> None:
        self._client, self._needs, self._priority = client, needs, priority
        self._open: set[Future[Any]] = set()
        scheduler: Any = client.scheduler
        self._address: str = scheduler.address
        self._n_workers, self._counted = 0, 0.0
        self._broken: ClusterError | None = None

    @property
    def slots(self) -> int:
        """How many tasks should be with the scheduler at once; grows with the workers."""
        if time.monotonic() - self._counted > COUNTED_EVERY:
            with contextlib.suppress(OSError, ValueError):  # the scheduler is away, of which `submit` tells
                self._n_workers = len(self._client.nthreads())
            self._counted = time.monotonic()
        return AHEAD * self._n_workers + AT_LEAST

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Hand out a task.

        Parameters
        ----------
        fn : callable
            Of a module that the workers have, too. Run more than once where a worker is lost at it.
        *args, **kwargs
            What it takes.

        Returns
        -------
        Future
            Cancelling it takes the task back. Besides the task's own exceptions it may have `LostWorkersError`, and
            `ClusterError` where no other task will end either.

        Raises
        ------
        ClusterError
            If the scheduler was lost, or there was no worker that is fit.
        """
        return self.start(self.do(fn, *args, **kwargs))

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine that awaits tasks, each by `do`.

        Raises
        ------
        ClusterError
            As `submit`.
        """
        if self._broken is not None:
            work.close()
            raise self._broken
        loop: Any = self._client.loop
        future = asyncio.run_coroutine_threadsafe(work, loop.asyncio_loop)
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        return future

    async def do(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Hand out a task, and wait until it has ended; see `submit`."""
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError, FuturesCancelledError

        turns = 0
        while True:
            # A key of its own: the same file may be done again after it has changed.
            key = f"{fn.__name__}-{uuid4().hex}"
            future = self._client.submit(
                do_task, self._needs, fn, args, kwargs, key=key, pure=False, priority=self._priority
            )
            try:
                result: T = await future
                return result
            except (FutureCancelledError, FuturesCancelledError, CancelledTaskError) as error:
                # Nobody else knows of these tasks, so the connection was lost; what was done will be found done.
                if not await self._is_back():
                    raise self._break(
                        f"{self._address}: the scheduler does not answer any more, but what was done "
                        "is complete; start a new scheduler, and the same run goes on from there."
                    ) from error
            except asyncio.CancelledError:
                await self._client.cancel([future], asynchronous=True)
                raise
            except KilledWorker as error:
                turns += 1
                if turns == TURNS:
                    raise LostWorkersError(
                        f"{turns * (error.allowed_failures + 1)} workers were lost while they had it, the last one "
                        f"{error.last_worker.address}; see what ended them (often the memory: ask for more)."
                    ) from error
            except UnfitWorkerError as error:
                await self._dismiss(error)
            finally:
                future.release()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take back the tasks that have not ended, or wait for them."""
        for future in list(self._open):
            if cancel_futures:
                future.cancel()
            elif wait:
                with contextlib.suppress(Exception):
                    future.exception()

    def check(self) -> None:
        """Look at the workers that there are by now; those that come later are looked at when they come.

        Raises
        ------
        SettingsError
            If one of them has other versions, or does not see the inputs, the folder of the results or the model.
        """
        # What takes nothing can be asked of any version.
        for address, answer in self._ask(describe_versions).items():
            if isinstance(answer, Exception):
                raise SettingsError(f"worker {address}: cannot run napari-matseg ({answer}); install it there, too.")
            if answer != self._needs.versions:
                there, here = (" and ".join(map(" ".join, each.items())) for each in (answer, self._needs.versions))
                raise SettingsError(
                    f"worker {address}: has {there}, but {self._needs.host} has {here}; "
                    "use the same environment on both."
                )
        for address, fault in self._ask(find_fault_aside, self._needs).items():
            if fault is not None:
                raise SettingsError(f"worker {address} on {fault}")

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        answers: dict[str, Any] = self._client.run(function, *arguments, on_error="return")
        return answers

    async def _is_back(self) -> bool:
        """Wait until the client has found the scheduler again, or has given it up."""
        while self._client.status == "connecting":
            await asyncio.sleep(RECONNECT_EVERY)
        return self._client.status == "running"

    async def _dismiss(self, error: UnfitWorkerError) -> None:
        """Send a worker away that would fail whatever it is given, and faster than the others can take it."""
        LOG.warning("worker %s was sent away; on %s", error.address, error.reason)
        await self._client.retire_workers([error.address], asynchronous=True)
        if not await self._client.nthreads(asynchronous=True):
            raise self._break(f"no worker is left, and the last one was sent away; on {error.reason}") from error

    def _break(self, reason: str) -> ClusterError:
        self._broken = ClusterError(reason)
        return self._broken


@contextlib.contextmanager
def prepared(executor: Executor | Client, recipe: Recipe, sources: Sequence[Source], out: Path) -> Iterator[Executor]:
    """Make an executor fit for a run, and look at its workers; only dask's need that.

    Parameters
    ----------
    executor : concurrent.futures.Executor or distributed.Client
        Of dask, a client or what its `get_executor` gives. Stays open.
    recipe : Recipe
    sources : sequence of Source
    out : Path
        Made if it is missing.

    Yields
    ------
    Executor
        The same one, or for dask's a `ClusterExecutor`, whose open tasks are taken back in the end.

    Raises
    ------
    ModelError, OutputError, SettingsError
        If there is no such model, the folder cannot be written to, or a worker is not fit.
    """
    client = _client_of(executor)
    if client is None:
        yield cast("Executor", executor)
        return
    make_folder(out)
    needs = Needs(
        run=uuid4().hex,
        host=socket.gethostname(),
        image=sources[0].path.absolute() if sources else None,
        out=out.absolute(),
        folder_id=mark_folder(out),
        recipe=recipe,
        model_hash=model_hash(recipe),
        versions=describe_versions(),
    )
    of_run = ClusterExecutor(client, needs)
    try:
        of_run.check()
        yield of_run
    finally:
        of_run.shutdown(cancel_futures=True)


def _client_of(executor: Executor | Client) -> Client | None:
    if type(executor).__module__.partition(".")[0] != "distributed":
        return None
    from distributed import Client

    return executor if isinstance(executor, Client) else vars(executor)["_client"]

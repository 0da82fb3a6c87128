"""Batches of crops, made beside the network where that keeps a GPU busy; and how long it waited for them."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    import torch
    from torch import Tensor

    from napari_matseg.core.dataset import Crops

    Batch = tuple[Tensor, Tensor, Tensor]

AHEAD = 2  # batches of a thread pool, or of each process, that wait for the network
LONGEST_S = 600  # for one batch; a process that takes longer is taken for dead
MOST_WORKERS = 8


def choose_workers(device: torch.device, processes: int) -> int:
    """How many processes to make crops with: none for a CPU, where the network needs all cores.

    Parameters
    ----------
    device : torch.device
    processes : int
        That learn on this machine.
    """
    if device.type == "cpu":
        return 0
    return min(MOST_WORKERS, (os.cpu_count() or 1) // processes - 1)


class Batches:
    """Batches of a training from one step on, to go through once.

    Parameters
    ----------
    crops : Crops
    steps : sequence of sequence of int
        Numbers of the crops of each step.
    device : torch.device
        Where they are put.
    workers : int
        Processes that make them; 0: threads do, which for a GPU work ahead, and on a CPU would only take turns with the
        network.

    Attributes
    ----------
    waited_s : float
        Seconds for which the next batch was not ready when it was asked for.
    """

    def __init__(self, crops: Crops, steps: Sequence[Sequence[int]], device: torch.device, workers: int = 0) -> None:
        self._crops = crops
        self._steps = steps
        self._device = device
        self._workers = workers
        self.waited_s = 0.0

    @contextmanager
    def open(self) -> Iterator[Iterator[Batch]]:
        """Start, and stop all that makes them in the end."""
        made = self._by_processes() if self._workers > 0 else self._by_threads()
        try:
            yield self._placed(made)
        finally:
            made.close()

    def _placed(self, made: Iterator[Batch]) -> Iterator[Batch]:
        """Put them on the device, and take the time."""
        while True:
            asked = time.perf_counter()
            batch = next(made, None)
            self.waited_s += time.perf_counter() - asked
            if batch is None:
                return
            image, classes, distance = (part.to(self._device, non_blocking=True) for part in batch)
            yield image, classes.long(), distance

    def _by_threads(self) -> Generator[Batch, None, None]:
        ahead = AHEAD if self._device.type != "cpu" else 0
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            waiting: list[list[Future[tuple[np.ndarray, np.ndarray, np.ndarray]]]] = []
            try:
                for step in range(len(self._steps)):
                    for numbers in self._steps[step + len(waiting) : step + ahead + 1]:
                        waiting.append([pool.submit(self._crops.crop, number) for number in numbers])
                    yield _stacked([future.result() for future in waiting.pop(0)])
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _by_processes(self) -> Generator[Batch, None, None]:
        from torch.utils.data import DataLoader

        numbered: Any = _Numbered(self._crops)  # as good as a Dataset, which is only to be derived from
        loader: DataLoader[Batch] = DataLoader(
            numbered,
            batch_size=None,
            sampler=self._steps,
            num_workers=self._workers,
            prefetch_factor=AHEAD,
            pin_memory=self._device.type == "cuda",
            timeout=LONGEST_S,
            multiprocessing_context="spawn",  # neither torch's threads nor CUDA outlive a fork
        )
        yield from loader


class _Numbered:
    """Crops as torch's loader asks for them."""

    def __init__(self, crops: Crops) -> None:
        self._crops = crops

    def __getitem__(self, numbers: Sequence[int]) -> Batch:
        return _stacked([self._crops.crop(number) for number in numbers])


def _stacked(made: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Batch:
    import torch

    image, classes, distance = (torch.from_numpy(np.stack(part)) for part in zip(*made, strict=True))
    return image, classes, distance

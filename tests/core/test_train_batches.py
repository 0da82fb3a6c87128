from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
import torch

from napari_matseg.core import train_batches
from napari_matseg.core.train_batches import Batches, choose_workers

CPU = torch.device("cpu")


class Counted:
    """Crops that show their number."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def crop(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        time.sleep(self.seconds)
        shown = np.full((2, 2), number)
        return shown[None].astype(np.float32), shown.astype(np.uint8), shown.astype(np.float32)


def numbers_of(batches: Batches) -> list[list[int]]:
    with batches.open() as opened:
        return [image[:, 0, 0, 0].int().tolist() for image, *_ in opened]


STEPS = [range(0, 2), range(2, 4), range(4, 6)]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_those_asked_for_in_their_order(workers: int) -> None:
    crops: Any = Counted()
    assert numbers_of(Batches(crops, STEPS, CPU, workers)) == [[0, 1], [2, 3], [4, 5]]


def test_types() -> None:
    crops: Any = Counted()
    with Batches(crops, STEPS, CPU).open() as opened:
        image, classes, distance = next(opened)
    assert (image.dtype, classes.dtype, distance.dtype) == (torch.float32, torch.int64, torch.float32)
    assert (image.shape, classes.shape) == ((2, 1, 2, 2), (2, 2, 2))


def test_a_gpu_gets_them_made_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    crops: Any = Counted(0.01)
    monkeypatch.setattr(Batches, "_placed", lambda _, made: made)  # there is no such device here
    batches = Batches(crops, STEPS, torch.device("cuda"))
    with batches.open() as opened:
        next(opened)
        start = time.perf_counter()
        time.sleep(0.2)
        assert len(list(opened)) == 2
        assert time.perf_counter() - start < 0.4


def test_it_says_how_long_it_waited() -> None:
    slow: Any = Counted(0.05)
    batches = Batches(slow, STEPS, CPU)
    numbers_of(batches)
    assert batches.waited_s >= 0.15


def test_nothing_goes_on_once_it_is_closed() -> None:
    crops: Any = Counted(0.01)
    before = threading.active_count()
    with Batches(crops, [range(i, i + 2) for i in range(100)], CPU).open() as opened:
        next(opened)
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_processes_are_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_batches.os, "cpu_count", lambda: 16)
    assert choose_workers(CPU, 1) == 0
    assert [choose_workers(torch.device("cuda"), n) for n in (1, 4)] == [8, 3]

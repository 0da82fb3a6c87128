"""Runs on a cluster of this machine whose workers are killed; the part of faults.py that --distributed asks for."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import dask
import psutil

from napari_matseg.running.queues import started
from napari_matseg.running.serial import run_steps
from napari_matseg.settings.cluster import ClusterSettings
from napari_matseg.settings.recipe_files import read_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from distributed import Client

    from napari_matseg.running.states import Source, Summary

WORKERS = 3


@contextmanager
def workers() -> Iterator[Client]:
    """Start a cluster whose workers are forked, where that can be done, and are back soon after a kill."""
    methods = multiprocessing.get_all_start_methods()
    settings = {
        "distributed.worker.multiprocessing-method": "forkserver" if "forkserver" in methods else "spawn",
        "distributed.deploy.lost-worker-timeout": "1s",
    }
    here = ClusterSettings(kind="local", jobs=WORKERS, arguments={"silence_logs": logging.CRITICAL})
    with dask.config.set(settings), started(here) as client:
        yield client


def run_with_kills(
    client: Client, recipe: Path, sources: list[Source], out: Path, rng: np.random.Generator, pause: float
) -> tuple[Summary, int]:
    """Run a recipe; also says how many workers were killed.

    Whenever a micrograph has ended, one of them is, after a time of up to `pause` seconds: more often, and they would
    do nothing but start.
    """
    client.wait_for_workers(WORKERS, timeout=120)
    work = run_steps(read_recipe(recipe), sources, out, client.get_executor())
    begun, killed = threading.Semaphore(1), 0  # the first need not wait for an end

    def kill() -> None:
        nonlocal killed
        while True:
            begun.acquire()
            if ended.wait(rng.uniform(0, pause)):
                return
            processes = list(client.run(os.getpid, on_error="ignore").values())
            with suppress(psutil.NoSuchProcess):
                if processes and not ended.is_set():
                    psutil.Process(processes[rng.integers(len(processes))]).kill()
                    killed += 1

    ended = threading.Event()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        while True:
            if next(work).outcome is not None:
                begun.release()
    except StopIteration as stop:
        return stop.value, killed
    finally:
        ended.set()
        begun.release()
        killer.join()

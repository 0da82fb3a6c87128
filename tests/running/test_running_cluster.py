from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numpy as np
import psutil
import pytest
import tifffile
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.utils import get_mp_context
from PIL import Image

from napari_matseg.core.progress import finish
from napari_matseg.errors import InputError, SettingsError
from napari_matseg.running import worker
from napari_matseg.running.cluster import ClusterError, ClusterExecutor, LostWorkersError, prepared
from napari_matseg.running.serial import run_steps
from napari_matseg.running.states import Source
from napari_matseg.settings import Recipe, SegmentSettings

THREADS = 2


@contextmanager
def two_processes() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=THREADS, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as one,
    ):
        yield one


@pytest.fixture(scope="module")
def quick_start() -> Iterator[None]:
    """Forked from one that has torch, processes of workers start in a second."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    method = "spawn" if sys.platform == "win32" else "forkserver"
    with dask.config.set({"distributed.worker.multiprocessing-method": method}):
        get_mp_context()  # which sets a preload of its own, the first time
        ours = [
            "napari_matseg.running.cluster",
            "napari_matseg.running.one_file",
            "napari_matseg.core.large.segmenting",
        ]
        multiprocessing.set_forkserver_preload(["distributed", "segmentation_models_pytorch", "torch.export", *ours])
        yield


@pytest.fixture(scope="module")
def client(quick_start: None) -> Iterator[Client]:
    """Two worker processes, for tests that leave them alive."""
    with two_processes() as one:
        yield one


@pytest.fixture
def mortal(quick_start: None) -> Iterator[Client]:
    """Two worker processes, for a test that kills some: dask does not always put others in their place."""
    with two_processes() as one:
        yield one


@pytest.fixture
def here() -> Iterator[Client]:
    """A worker in this process."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster.scheduler_address, timeout=1, set_as_default=False) as one,
    ):
        yield one


@pytest.fixture
def recipe(tiny_file: Path) -> Recipe:
    return Recipe(segment=SegmentSettings(model=str(tiny_file), device="cpu"), measure=None)


@pytest.fixture
def make_sources(tmp_path: Path) -> Callable[[int], list[Source]]:
    def make(n: int) -> list[Source]:
        rng = np.random.default_rng(0)
        (tmp_path / "in").mkdir(exist_ok=True)
        for i in range(n):
            shape = (48 + 16 * (i % 3), 64)
            path = tmp_path / f"in/{i}.tif"
            if not path.exists():
                tifffile.imwrite(path, rng.integers(0, 255, shape, dtype=np.uint8))
        return [Source(tmp_path / f"in/{i}.tif", str(i)) for i in range(n)]

    return make


def slow(seconds: float, number: int) -> tuple[int, int, int]:
    import threading

    import torch

    at_once = [thread for thread in threading.enumerate() if getattr(thread, "in_slow", False)]
    threading.current_thread().in_slow = True  # type: ignore[attr-defined]
    time.sleep(seconds)
    threading.current_thread().in_slow = False  # type: ignore[attr-defined]
    return number, len(at_once), torch.get_num_threads()


def fail() -> None:
    raise InputError("a.tif: is bad; get another.")


def die() -> None:
    psutil.Process().kill()


def test_each_process_does_one_at_a_time_with_all_threads_of_its_worker(
    client: Client, recipe: Recipe, make_sources: Callable[[int], list[Source]], tmp_path: Path
) -> None:
    with prepared(client.get_executor(), recipe, make_sources(1), tmp_path / "out") as executor:
        assert isinstance(executor, ClusterExecutor)
        assert executor.slots == 12
        results = [future.result() for future in [executor.submit(slow, 0.02, i) for i in range(12)]]
    assert results == [(i, 0, THREADS) for i in range(12)]


def test_tells_a_task_s_error_as_it_is(client: Client, recipe: Recipe, tmp_path: Path) -> None:
    with prepared(client, recipe, [], tmp_path) as executor, pytest.raises(InputError, match=r"a\.tif: is bad"):
        executor.submit(fail).result()


def test_a_task_is_done_again_when_its_worker_is_lost(mortal: Client, recipe: Recipe, tmp_path: Path) -> None:
    with prepared(mortal, recipe, [], tmp_path) as executor:
        futures = [executor.submit(slow, 0.2, i) for i in range(6)]
        time.sleep(0.3)
        psutil.Process(next(iter(mortal.run(os.getpid).values()))).kill()
        assert [future.result()[0] for future in futures] == list(range(6))


def test_gives_up_a_task_that_ends_its_workers(
    mortal: Client, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mortal.cluster.scheduler, "allowed_failures", 0)
    with (
        prepared(mortal, recipe, [], tmp_path) as executor,
        pytest.raises(LostWorkersError, match="2 workers were lost while they had it, the last one tcp://"),
    ):
        executor.submit(die).result()


def test_cancelling_takes_tasks_back(client: Client, recipe: Recipe, tmp_path: Path) -> None:
    with prepared(client, recipe, [], tmp_path) as executor:
        futures = [executor.submit(slow, 0.5, i) for i in range(8)]
        time.sleep(0.2)
        futures[-1].cancel()
        with pytest.raises(CancelledError):
            futures[-1].result()
    assert all(future.cancelled() for future in futures)
    deadline = time.monotonic() + 10
    while client.cluster.scheduler.tasks and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not client.cluster.scheduler.tasks


def test_waits_for_its_tasks_if_asked_to(here: Client, recipe: Recipe, tmp_path: Path) -> None:
    with prepared(here, recipe, [], tmp_path) as executor:
        future = executor.submit(slow, 0.1, 1)
        executor.shutdown()
        assert future.done()


@pytest.mark.parametrize("what", ["version", "image", "folder", "model"])
def test_looks_at_the_workers_first(
    client: Client,
    recipe: Recipe,
    make_sources: Callable[[int], list[Source]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    sources = make_sources(1)
    if what == "version":
        monkeypatch.setattr(worker, "__version__", "9.9")
        expected = r"worker tcp://\S+: has Python 3\S+ and napari-matseg \S+, but \S+ has .* 9\.9; use the same env"
    elif what == "image":
        sources[0].path.unlink()
        expected = r"worker tcp://\S+ on \S+: cannot read the input \S+0\.tif \(No such file or directory\); mount"
    elif what == "folder":
        monkeypatch.setattr("napari_matseg.running.cluster.mark_folder", lambda _: "another")
        expected = r"on \S+: \S+out is not the folder that \S+ has under this path; choose one on a file system"
    else:
        monkeypatch.setattr("napari_matseg.running.cluster.model_hash", lambda _: "another")
        expected = r"on \S+: the model is not the one that \S+ has under this name; copy that one there\."
    with (
        pytest.raises(SettingsError, match=expected),
        prepared(client, recipe, sources, tmp_path / "out"),
    ):
        pass


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"folder_id": "another"}, "is not the folder that"),
        ({"versions": {"Python": "2.7", "napari-matseg": "0"}}, r"has Python 3\S+, but \S+ has 2\.7; use the same"),
    ],
)
def test_sends_a_worker_away_that_came_late_and_is_not_fit(
    here: Client,
    recipe: Recipe,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, Any],
    reason: str,
) -> None:
    with prepared(here, recipe, [], tmp_path) as executor:
        assert isinstance(executor, ClusterExecutor)
        executor._needs = replace(executor._needs, run="late", **change)
        with pytest.raises(ClusterError, match=f"no worker is left, and the last one was sent away; on .*{reason}"):
            executor.submit(slow, 0, 1).result()
        assert "was sent away; on" in caplog.text
        with pytest.raises(ClusterError, match="no worker is left"):
            executor.submit(slow, 0, 1)


def test_a_lost_scheduler_ends_it(here: Client, recipe: Recipe, tmp_path: Path) -> None:
    cluster = LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0")
    with Client(cluster.scheduler_address, timeout=0.5, set_as_default=False) as client:
        with prepared(client, recipe, [], tmp_path) as executor:
            future = executor.submit(slow, 1, 1)
            time.sleep(0.1)
            cluster.close()
            with pytest.raises(ClusterError, match="the scheduler does not answer any more, but what was done is com"):
                future.result()
            with pytest.raises(ClusterError, match="the scheduler does not answer"):
                executor.submit(slow, 0, 1)


def test_leaves_other_executors_as_they_are(recipe: Recipe, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool, prepared(pool, recipe, [], tmp_path) as executor:
        assert executor is pool


def pixels(out: Path) -> dict[str, np.ndarray]:
    found = {path.name: tifffile.imread(path) for path in out.glob("*.tif")}
    return found | {path.name: np.asarray(Image.open(path)) for path in out.glob("*_overlay.png")}


def kill_one(client: Client) -> None:
    processes = client.run(os.getpid, on_error="ignore")
    if processes:
        psutil.Process(next(iter(processes.values()))).kill()


def test_a_run_whose_workers_are_killed_gives_what_a_serial_one_does(
    mortal: Client,
    recipe: Recipe,
    make_sources: Callable[[int], list[Source]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources = make_sources(8)
    sources[2].path.write_bytes(b"no image")
    serial = finish(run_steps(recipe, sources, tmp_path / "serial"))
    monkeypatch.chdir(tmp_path)  # where the workers are not
    sources = [Source(source.path.relative_to(tmp_path), source.name) for source in sources]
    work = run_steps(recipe, sources, Path("out"), mortal)
    while True:
        try:
            step = next(work)
        except StopIteration as stop:
            summary = stop.value
            break
        if step.outcome is not None and step.done in (1, 4):
            kill_one(mortal)
    assert [outcome.source for outcome in summary.outcomes] == sources
    states = [outcome.state for outcome in summary.outcomes]
    # A file whose worker was killed after it had written it is found done by the next.
    assert [state.replace("kept", "done") for state in states] == [outcome.state for outcome in serial.outcomes]
    assert summary.outcomes[2].reason == serial.outcomes[2].reason
    expected, found = pixels(tmp_path / "serial"), pixels(tmp_path / "out")
    assert len(expected) == 14
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    again = finish(run_steps(recipe, sources, tmp_path / "out", mortal.get_executor(), retry_failed=False))
    assert (again.done, again.kept, again.failed) == (0, 7, 1)


class Bands(SchedulerPlugin):
    """Which workers did bands."""

    def __init__(self) -> None:
        self.workers: list[str] = []

    def transition(self, key: str, start: str, finish: str, *_: object, **about: object) -> None:
        if key.startswith("do_band") and (start, finish) == ("processing", "memory"):
            self.workers.append(str(about["worker"]))


@pytest.mark.parametrize(("killed", "tiling"), [(None, "auto"), ("owner", "blend"), ("helper", "blend")])
def test_the_bands_of_a_large_micrograph_are_shared_out(
    mortal: Client, recipe: Recipe, tmp_path: Path, killed: str | None, tiling: str
) -> None:
    large = recipe.segment.model_copy(update={"large_px": 1, "tile": 64, "tiling": tiling, "instances": True})
    recipe = recipe.model_copy(update={"segment": large})
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, np.random.default_rng(1).integers(0, 255, (1600, 64), dtype=np.uint8))
    sources = [Source(path, "large")]
    finish(run_steps(recipe, sources, tmp_path / "serial"))
    scheduler, bands = mortal.cluster.scheduler, Bands()
    scheduler.add_plugin(bands, name="bands")
    for step in run_steps(recipe, sources, tmp_path / "out", mortal):
        assert step.state != "failed", step.note
        if killed is not None and len(bands.workers) > 1:
            owners = {
                address: any(task.key.startswith("attempt") for task in state.processing)
                for address, state in scheduler.workers.items()
            }
            for address, process in mortal.run(os.getpid, on_error="ignore").items():
                if owners.get(address) == (killed == "owner"):
                    psutil.Process(process).kill()
                    killed = None
    scheduler.remove_plugin("bands")
    expected, found = pixels(tmp_path / "serial"), pixels(tmp_path / "out")
    assert {"large_labels.tif", "large_instances.tif"} < expected.keys()
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    assert len(set(bands.workers)) >= 2
    assert not list((tmp_path / "out" / ".napari-matseg").glob(".large-*"))


def test_a_run_ends_when_its_scheduler_is_lost(
    recipe: Recipe, make_sources: Callable[[int], list[Source]], tmp_path: Path
) -> None:
    cluster = LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0")
    with Client(cluster.scheduler_address, timeout=0.5, set_as_default=False) as client:
        work = run_steps(recipe, make_sources(6), tmp_path / "out", client)
        while next(work).done < 2:
            pass
        cluster.close()
        with pytest.raises(ClusterError, match="the scheduler does not answer any more"):
            finish(work)
    done = len(list((tmp_path / "out").glob("*_labels.tif")))
    assert done >= 2
    assert not list((tmp_path / "out").glob("*_failed.txt"))
    summary = finish(run_steps(recipe, make_sources(6), tmp_path / "out"))
    assert (summary.kept, summary.failed) == (done, 0)

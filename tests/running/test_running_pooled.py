from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path

import pytest

from napari_matseg.core.progress import finish
from napari_matseg.running import pooled
from napari_matseg.running.commit import claim
from napari_matseg.running.inputs import find_inputs
from napari_matseg.running.serial import run_steps
from napari_matseg.running.states import Outcome, Source, Summary
from napari_matseg.running.workers import Workers


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def sources(write_image: Callable[..., Path], tmp_path: Path, out: Path) -> list[Source]:
    for seed, name in enumerate("abcd"):
        write_image(f"{name}.tif", seed, shape=(40 + 4 * seed, 48))
    (tmp_path / "in" / "e.tif").write_text("no image")
    return find_inputs([tmp_path / "in"], out)[0]


def hashes(summary: Summary) -> list[object]:
    return [outcome.record.get("pixels_sha256") for outcome in summary.outcomes]


def states(summary: Summary) -> dict[str, str]:
    return {outcome.source.name: outcome.state for outcome in summary.outcomes}


class Now(Executor):
    """Does tasks at once, as long as there is no accident."""

    def __init__(self, accidents: dict[str, int] | None = None, *, comes_again: bool = True) -> None:
        self.accidents = accidents or {}
        self.comes_again = comes_again
        self.is_broken = False
        self.handed_out: list[str] = []
        self.slots = 3

    def submit(self, fn, /, source, *args):  # type: ignore[no-untyped-def, override]
        if self.is_broken:
            raise BrokenProcessPool("the pool is not usable any more")
        self.handed_out.append(source.name)
        future: Future[Outcome] = Future()
        if self.accidents.get(source.name, 0) > 0:
            self.accidents[source.name] -= 1
            self.is_broken = not self.comes_again
            future.set_exception(BrokenProcessPool("a process was terminated abruptly"))
        else:
            future.set_result(fn(source, *args))
        return future


def test_threads_give_what_one_after_the_other_gives(tiny_recipe, sources, out, tmp_path):
    with ThreadPoolExecutor(2) as executor:
        summary = finish(run_steps(tiny_recipe, sources, out, executor))
    assert states(summary) == {"a": "done", "b": "done", "c": "done", "d": "done", "e": "failed"}
    assert [outcome.source.name for outcome in summary.outcomes] == list("abcde")
    assert hashes(summary) == hashes(finish(run_steps(tiny_recipe, sources, tmp_path / "other")))


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    executor = Workers(1)  # each takes seconds to begin
    yield executor
    executor.shutdown(cancel_futures=True)


def test_processes_give_what_one_after_the_other_gives(tiny_recipe, sources, out, tmp_path, workers):
    summary = finish(run_steps(tiny_recipe, sources, out, workers))
    assert states(summary) == {"a": "done", "b": "done", "c": "done", "d": "done", "e": "failed"}
    assert hashes(summary) == hashes(finish(run_steps(tiny_recipe, sources, tmp_path / "other")))
    assert set(states(finish(run_steps(tiny_recipe, sources, out, workers))).values()) == {"kept", "failed"}


def end(_: object = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_were_killed_come_again(workers):
    with pytest.raises(BrokenProcessPool):
        workers.submit(end).result()
    assert workers.submit(os.getpid).result() != os.getpid()


def test_largest_first(tiny_recipe, sources, out):
    executor = Now()
    finish(run_steps(tiny_recipe, sources, out, executor))
    assert executor.handed_out == list("dcbae")


def test_no_more_are_handed_out_than_have_room(tiny_recipe, sources, out):
    class Slow(Now):
        most = 0
        open_ones = 0

        def submit(self, fn, /, source, *args):  # type: ignore[no-untyped-def, override]
            self.open_ones += 1
            self.most = max(self.most, self.open_ones)
            future: Future[Outcome] = Future()

            def work() -> None:
                result = fn(source, *args)
                self.open_ones -= 1
                future.set_result(result)

            threading.Timer(0.02, work).start()
            return future

    executor = Slow()
    executor.slots = 2
    assert finish(run_steps(tiny_recipe, sources, out, executor)).done == 4
    assert executor.most == 2


def test_a_lost_worker_costs_no_file(tiny_recipe, sources, out):
    executor = Now({"c": 1, "b": 1})
    assert finish(run_steps(tiny_recipe, sources, out, executor)).done == 4
    assert sorted(executor.handed_out) == list("abbccde")


def test_a_file_that_ends_its_worker_twice_fails_alone(tiny_recipe, sources, out):
    summary = finish(run_steps(tiny_recipe, sources, out, Now({"c": 2, "b": 1})))
    assert states(summary) == {"a": "done", "b": "done", "c": "failed", "d": "done", "e": "failed"}
    reason = str(summary.outcomes[2].reason)
    assert reason.startswith(f"{sources[2].path}: its worker process was ended twice")
    assert (out / "c_failed.txt").read_text().startswith(reason)


def test_suspects_are_tried_with_nothing_beside_them(tiny_recipe, sources, out, monkeypatch):
    beside: list[int] = []
    real = pooled._Run._hand_out

    def handing(self):  # type: ignore[no-untyped-def]
        waiting = len(self._suspects)
        real(self)
        if waiting > len(self._suspects):
            beside.append(len(self._open) - 1)

    monkeypatch.setattr(pooled._Run, "_hand_out", handing)
    assert finish(run_steps(tiny_recipe, sources, out, Now({"d": 1, "c": 1, "b": 2}))).done == 3
    assert beside == [0, 0, 0]


def test_an_executor_that_does_not_come_again_is_told_of(tiny_recipe, sources, out):
    summary = finish(run_steps(tiny_recipe, sources, out, Now({"c": 1}, comes_again=False)))
    assert states(summary) == {"a": "failed", "b": "failed", "c": "failed", "d": "done", "e": "failed"}
    assert str(summary.outcomes[0].reason) == (
        f"{sources[0].path}: all workers ended before it was its turn; run it again to do what is left."
    )
    assert finish(run_steps(tiny_recipe, sources, out)).done == 3


def test_what_cannot_be_sent_is_told(tiny_recipe, sources, out):
    class Unable(Now):
        def submit(self, fn, /, source, *args):  # type: ignore[no-untyped-def, override]
            future: Future[Outcome] = Future()
            future.set_exception(TypeError("cannot pickle"))
            return future

    summary = finish(run_steps(tiny_recipe, sources, out, Unable()))
    assert summary.failed == 5
    assert "TypeError: cannot pickle" in str(summary.outcomes[0].reason)


def test_another_run_at_work(tiny_recipe, sources, out, monkeypatch):
    monkeypatch.setattr(pooled, "PAUSE", 0.01)
    out.mkdir()
    taken = claim(out, "b")
    assert taken.__enter__()
    seen: list[str] = []
    for step in run_steps(tiny_recipe, sources, out, Now()):
        if step.outcome is not None:
            seen.append(step.outcome.source.name)
            if len(seen) == 4:
                taken.__exit__(None, None, None)
    assert seen[-1] == "b"


def test_pausing(tiny_recipe, sources, out, monkeypatch):
    monkeypatch.setattr(pooled, "PAUSE", 0.01)
    pause = threading.Event()
    pause.set()
    executor = Now()
    work = run_steps(tiny_recipe, sources, out, executor, pause=pause)
    notes = [next(work).note for _ in range(4)]
    assert notes[1:] == ["paused"] * 3
    assert executor.handed_out == []
    pause.clear()
    assert finish(work).done == 4


def test_cancelling_takes_back_what_has_not_begun(tiny_recipe, sources, out):
    begun = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        blocker = executor.submit(begun.wait, 10)
        with closing(run_steps(tiny_recipe, sources, out, executor)) as work:
            next(work)
            threading.Timer(0.3, begun.set).start()
            time.sleep(0)
        blocker.result()
    assert list(out.glob("*_record.json")) == []


def test_begun_files_are_told(tiny_recipe, sources, out):
    with ThreadPoolExecutor(1) as executor:
        steps = list(run_steps(tiny_recipe, sources, out, executor))
    assert {step.state for step in steps} >= {"done", "failed"}
    assert all(step.seconds_left is not None for step in steps if step.state == "done")

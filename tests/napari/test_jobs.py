from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Generator
from typing import Any

import pytest
from qtpy.QtCore import QObject

from napari_matseg._napari.jobs import Job
from napari_matseg.core.progress import Progress
from napari_matseg.errors import InputError

Notified = Callable[[], list[str]]


class Watched:
    """A job with a list of what it told."""

    def __init__(self, qtbot: Any) -> None:
        self.parent = QObject()
        self.job = Job(self.parent)
        self.heard: list[Any] = []
        self.qtbot = qtbot
        self.job.progressed.connect(self.heard.append)
        self.job.succeeded.connect(lambda value: self.heard.append(("succeeded", value)))
        self.job.failed.connect(lambda text: self.heard.append(("failed", text)))
        self.job.ended.connect(lambda cancelled: self.heard.append(("ended", cancelled)))

    def wait(self) -> None:
        self.qtbot.waitUntil(lambda: not self.job.running, timeout=20_000)


@pytest.fixture
def watched(qtbot: Any) -> Watched:
    return Watched(qtbot)


def test_work_runs_off_the_main_thread_and_tells_how_far_it_is(watched: Watched) -> None:
    threads = []

    def work() -> Generator[Progress, None, str]:
        threads.append(threading.current_thread())
        yield Progress(0, 2, "first")
        yield Progress(1, 2, "second")
        return "result"

    watched.job.start(work(), "Working")
    watched.wait()
    assert watched.heard == [
        Progress(0, 2, "first"),
        Progress(1, 2, "second"),
        ("succeeded", "result"),
        ("ended", False),
    ]
    assert threads[0] is not threading.main_thread()


def test_a_users_mistake_is_one_line(watched: Watched, notified: Notified) -> None:
    def work() -> Generator[Progress, None, None]:
        yield Progress(0, 1)
        raise InputError("a.tif: is empty; copy it again.")

    watched.job.start(work(), "Working")
    watched.wait()
    assert watched.heard[1:] == [("failed", "a.tif: is empty; copy it again."), ("ended", False)]
    assert notified() == ["a.tif: is empty; copy it again."]


@pytest.mark.parametrize("error", [RuntimeError, ZeroDivisionError, MemoryError])
def test_a_bug_ends_the_work_and_keeps_its_traceback(watched: Watched, error: type[Exception]) -> None:
    from napari.utils.notifications import ErrorNotification, notification_manager

    def work() -> Generator[Progress, None, None]:
        yield Progress(0, 1)
        raise error("two\nlines")

    watched.job.start(work(), "Working")
    watched.wait()
    assert watched.heard[1:] == [
        ("failed", f"This is a fault of the program: {error.__name__}: two (see the notification)"),
        ("ended", False),
    ]
    last = notification_manager.records[-1]
    assert isinstance(last, ErrorNotification)
    assert last.exception.__traceback__ is not None
    notification_manager.records.remove(last)


def test_cancelling_acts_at_the_next_step_and_closes_the_work(watched: Watched, qtbot: Any) -> None:
    steps, gate, closed = [], threading.Event(), []

    def work() -> Generator[Progress, None, str]:
        try:
            for done in range(100):
                steps.append(done)
                yield Progress(done, 100)
                gate.wait(20)
        finally:
            closed.append(True)
        return "too late"

    watched.job.start(work(), "Working")
    qtbot.waitUntil(lambda: len(watched.heard) == 1, timeout=20_000)
    watched.job.cancel()
    gate.set()
    watched.wait()
    assert steps == [0, 1]
    assert closed == [True]
    assert watched.heard == [Progress(0, 100), ("ended", True)]


def test_a_cancelled_job_can_start_again(watched: Watched) -> None:
    def work(value: int) -> Generator[Progress, None, int]:
        yield Progress(0, 1)
        return value

    watched.job.start(work(1), "Working")
    watched.job.cancel()
    watched.wait()
    watched.job.start(work(2), "Working")
    watched.wait()
    assert watched.heard[-2:] == [("succeeded", 2), ("ended", False)]


def test_there_is_one_piece_of_work_at_a_time(watched: Watched) -> None:
    def work() -> Generator[Progress, None, None]:
        yield Progress(0, 1)

    watched.job.start(work(), "Working")
    with pytest.raises(RuntimeError, match="while one is running"):
        watched.job.start(work(), "Working")
    watched.wait()


def test_warnings_of_libraries_are_logged_and_not_shown(
    watched: Watched, notified: Notified, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> Generator[Progress, None, None]:
        yield Progress(0, 1)
        warnings.warn("invalid value in divide", RuntimeWarning, stacklevel=1)

    watched.job.start(work(), "Working")
    watched.wait()
    assert watched.heard[-1] == ("ended", False)
    assert notified() == []
    assert "invalid value in divide" in caplog.text


def test_nothing_is_told_to_a_widget_that_is_gone(watched: Watched, qtbot: Any) -> None:
    gate, ended = threading.Event(), threading.Event()

    def work() -> Generator[Progress, None, None]:
        yield Progress(0, 1)
        gate.wait(20)
        ended.set()
        yield Progress(1, 1)

    watched.job.start(work(), "Working")
    qtbot.waitUntil(lambda: len(watched.heard) == 1, timeout=20_000)
    watched.parent.deleteLater()
    qtbot.wait(10)
    gate.set()
    assert ended.wait(20)
    qtbot.wait(50)
    gc.collect()
    assert watched.heard == [Progress(0, 1)]

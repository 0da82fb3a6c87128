from __future__ import annotations

from collections.abc import Generator

import pytest

from napari_matseg.core.progress import Progress, finish


def work(steps: int) -> Generator[Progress, None, int]:
    for step in range(steps):
        yield Progress(step, steps, "working")
    return steps


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_finish_gives_what_the_work_returns(steps):
    assert finish(work(steps)) == steps


def test_finish_goes_on_from_where_the_work_is():
    started = work(3)
    assert next(started) == Progress(0, 3, "working")
    assert finish(started) == 3


def test_an_error_in_the_work_comes_through():
    def fail() -> Generator[Progress, None, None]:
        yield Progress(0, 1)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        finish(fail())


def test_progress_cannot_be_changed():
    with pytest.raises(AttributeError):
        Progress(0, 1).done = 1

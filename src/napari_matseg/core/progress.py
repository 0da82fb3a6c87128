"""Long work is a generator: it yields `Progress` and returns its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long piece of work has come.

    Attributes
    ----------
    done, total : int
        Units of work finished, and to be done in all; `total` is at least 1.
    note : str
        What is being done, in words for the user.
    """

    done: int
    total: int
    note: str = ""


def finish(work: Generator[object, None, T]) -> T:
    """Run a generator to its end and return what it returns.

    Examples
    --------
    >>> def work():
    ...     yield Progress(1, 1)
    ...     return "result"
    >>> finish(work())
    'result'
    """
    while True:
        try:
            next(work)
        except StopIteration as stop:
            result: T = stop.value
            return result


def of_planes(work: Generator[Progress, None, T], index: int, n_planes: int) -> Generator[Progress, None, T]:
    """Tell the progress on one plane of several as progress on all of them.

    Parameters
    ----------
    work : generator
        On one plane; what it returns is returned.
    index, n_planes : int
        Which plane, from 0, of how many.
    """
    while True:
        try:
            step = next(work)
        except StopIteration as stop:
            result: T = stop.value
            return result
        note = step.note if n_planes == 1 else f"{step.note} plane {index + 1} of {n_planes}"
        yield Progress(index * step.total + step.done, n_planes * step.total, note)

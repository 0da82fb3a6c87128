"""Long work is a generator: it yields `Progress` and returns its result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

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


@dataclass(frozen=True, slots=True)
class Arrived(Progress):
    """Progress by a part of the result, which can be shown before the rest is there.

    Attributes
    ----------
    plane : int
        Counted over the axes before height and width in C order.
    rows, columns : slice
        Where the part lies.
    classes : array, or None
        All planes, as they are so far: uint8, 0 where nothing is yet. It is filled as the work goes on, and is another
        one if the work begins anew. None where it is for the caller to say.
    """

    plane: int = 0
    rows: slice = field(kw_only=True)
    columns: slice = field(kw_only=True)
    classes: Any = None


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


def of_planes(
    work: Generator[Progress, None, T], index: int, n_planes: int, what: str = "plane"
) -> Generator[Progress, None, T]:
    """Tell the progress on one plane of several as progress on all of them.

    Parameters
    ----------
    work : generator
        On one plane; what it returns is returned.
    index, n_planes : int
        Which plane, from 0, of how many.
    what : str
        What to call it in the notes, where it is something else than a plane.
    """
    while True:
        try:
            step = next(work)
        except StopIteration as stop:
            result: T = stop.value
            return result
        note = step.note if n_planes == 1 else f"{step.note} {what} {index + 1} of {n_planes}"
        yield replace(step, done=index * step.total + step.done, total=n_planes * step.total, note=note)

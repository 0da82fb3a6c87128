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

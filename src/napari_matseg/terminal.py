"""What the commands say, and how."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_matseg.core.progress import Progress

T = TypeVar("T")


def show(work: Generator[Progress, None, T], name: str) -> T:
    """Run a generator to its end with a progress bar, where there is a terminal to show it on."""
    from tqdm import tqdm

    with tqdm(desc=name, disable=None, file=sys.stderr, leave=False, unit="step") as bar:
        while True:
            try:
                step = next(work)
            except StopIteration as stop:
                result: T = stop.value
                return result
            bar.total = step.total
            bar.set_postfix_str(step.note, refresh=False)
            bar.update(step.done - bar.n)


def one_line(message: object) -> str:
    """Message without line breaks."""
    return " ".join(str(message).split())


def warn(message: object) -> None:
    """Say something that is no result."""
    print(one_line(message), file=sys.stderr)

"""What the commands say, and how."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

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


def table_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lay rows out in columns: the first, and others of words, to the left, numbers to the right; nothing as a dash."""
    if not rows:
        return ["none"]
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    words = [any(isinstance(row.get(name), str) for row in rows) for name in names]
    return [
        "  ".join(
            cell.ljust(width) if word else cell.rjust(width)
            for cell, width, word in zip(line, widths, words, strict=True)
        ).rstrip()
        for line in (names, *cells)
    ]


def _cell(value: Any) -> str:
    if value is None or value != value:  # NaN
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1 else f"{value:.6g}"
    return str(value)


def one_line(message: object) -> str:
    """Message without line breaks."""
    return " ".join(str(message).split())


def warn(message: object) -> None:
    """Say something that is no result."""
    print(one_line(message), file=sys.stderr)

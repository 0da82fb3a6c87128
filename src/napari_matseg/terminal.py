"""What the commands say, and how."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from napari_matseg.core.progress import Progress

T = TypeVar("T")


WITHOUT_TIME_LEFT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


def show(work: Generator[Progress, None, T], name: str, *, bar_format: str | None = None) -> T:
    """Run a generator to its end with a progress bar, where there is a terminal to show it on."""
    from tqdm import tqdm

    # Drawn anew by time alone, as the note changes where the count does not.
    how: dict[str, Any] = {"disable": None, "leave": False, "unit": "step", "miniters": 0, "bar_format": bar_format}
    with tqdm(desc=name, file=sys.stderr, **how) as bar:
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


def time_of(seconds: float) -> str:
    """Say a time in words, roughly.

    Examples
    --------
    >>> [time_of(seconds) for seconds in (0.3, 80, 3000, 40_000)]
    ['1 s', '80 s', '50 min', '11.1 h']
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def one_line(message: object) -> str:
    """Message without line breaks."""
    return " ".join(str(message).split())


def warn(message: object) -> None:
    """Say something that is no result."""
    print(one_line(message), file=sys.stderr)

"""How long a run will take, from how long the pixels so far have taken."""

from __future__ import annotations

import time
from collections import defaultdict
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_matseg.running.states import Outcome, Source


class Pace:
    """Seconds per pixel of a run, and what they say of the files to come.

    How many pixels a file has is not known before it is read; its bytes tell, by how many pixels a byte of the files
    with its ending stood for so far.

    Parameters
    ----------
    sources : iterable of Source
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._started = time.monotonic()
        self._bytes = {source.name: _bytes(source) for source in sources}
        self._left: dict[str, int] = defaultdict(int)  # bytes that are to come, by the ending of the file
        for source in sources:
            self._left[_kind(source)] += self._bytes[source.name]
        self._done: dict[str, tuple[int, int]] = {}  # bytes and pixels that are done
        self._all = 0, 0
        self._seconds = 0.0

    def add(self, outcome: Outcome) -> None:
        """Take note of a file that has ended."""
        kind, n_bytes = _kind(outcome.source), self._bytes[outcome.source.name]
        self._left[kind] -= n_bytes
        if outcome.state != "done":  # which says nothing about how long the others take
            return
        image = outcome.record["image"]
        pixels = prod(image["shape_yx"]) * prod(image["shape_planes"])
        before = self._done.get(kind, (0, 0))
        self._done[kind] = before[0] + n_bytes, before[1] + pixels
        self._all = self._all[0] + n_bytes, self._all[1] + pixels
        self._seconds += outcome.seconds

    def seconds_of(self, source: Source, share: float = 0.0) -> float | None:
        """Give the time till the end of a file of which a share is done; None before any has been done."""
        return self._seconds_for(_kind(source), self._bytes[source.name] * (1 - share))

    def seconds_left(self, current: Source | None = None, share: float = 0.0) -> float | None:
        """Give the time till the end of the run, with a share of the current file done; None before any is done.

        Files that are worked on at once are taken to be as many as so far.
        """
        each = [self._seconds_for(kind, n_bytes) for kind, n_bytes in self._left.items()]
        known = [seconds for seconds in each if seconds is not None]
        if len(known) < len(each):
            return None
        begun = 0.0 if current is None else (self.seconds_of(current) or 0.0) * share
        at_once = self._seconds / max(time.monotonic() - self._started, 1e-9)
        return max(0.0, sum(known) - begun) / max(1.0, at_once)

    def _seconds_for(self, kind: str, n_bytes: float) -> float | None:
        done, pixels = self._done.get(kind, self._all)
        if not done or not self._all[1]:
            return None
        return n_bytes * pixels / done * self._seconds / self._all[1]


def _kind(source: Source) -> str:
    return source.path.suffix.lower()


def _bytes(source: Source) -> int:
    """Bytes of a file; of a folder, or what is not there, as many as count for nothing."""
    try:
        return max(1, source.path.stat().st_size)
    except OSError:
        return 1

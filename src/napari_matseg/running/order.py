"""In which order the files of a run are handed out to several workers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_matseg.running.states import Source

READERS = 16
"""Sizes asked for at once: a shared file system answers one in about a millisecond, but many at a time."""


def largest_first(sources: Sequence[Source]) -> list[int]:
    """Places of sources in the order of the sizes of their files, the largest first.

    Handed out so, the last ones to be worked on are the smallest, and no worker is left with a large one alone
    (Graham, Bounds on multiprocessing timing anomalies, 1969). Those of one size, and folders, keep their order.

    Returns
    -------
    list of int
        Each place of `sources` once. A file that is not there counts as empty.
    """
    with ThreadPoolExecutor(READERS) as pool:
        sizes = list(pool.map(_size, [source.path for source in sources]))
    return sorted(range(len(sources)), key=lambda index: -sizes[index])


def _size(path: Path) -> float:
    try:
        return float("inf") if path.is_dir() else path.stat().st_size  # a folder is a Zarr, and those are large
    except OSError:
        return 0

"""Rows of a micrograph that were decoded, kept for the tiles beside: strips can only be read as wide as the image."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_matseg.core.micrograph import PlaneView

ROWS = 256
MOST_BYTES = 512 * 2**20


class RowCache:
    """A plane of which the rows that were read last stay in memory.

    Parameters
    ----------
    view : PlaneView
        Only slices of it are read: rows of its whole width, as long as what is asked for fits into the bound.
    most_bytes : int
        The bound. What is kept is no more than what the largest part needed that was asked for, and a bit.
    """

    def __init__(self, view: PlaneView, most_bytes: int = MOST_BYTES) -> None:
        self._view = view
        self.shape = view.shape
        self.dtype = view.dtype
        channels, _, width = view.shape
        self._most = most_bytes // (ROWS * channels * width * view.dtype.itemsize)
        self._needed = 0
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        """Read a part; of the rows no step but 1 is taken."""
        channels, rows, columns = key
        first, stop, _ = rows.indices(self.shape[1])
        numbers = range(first // ROWS, -(-stop // ROWS))
        if len(numbers) > self._most:
            return self._view[channels, first:stop, columns]
        self._needed = max(self._needed, len(numbers))
        parts = []
        for number in numbers:
            top = number * ROWS
            inside = slice(max(first - top, 0), min(stop - top, ROWS))
            parts.append(self._rows(number)[channels, inside, columns])
        return np.concatenate(parts, axis=1) if parts else self._view[channels, first:stop, columns]

    def _rows(self, number: int) -> np.ndarray:
        if number not in self._kept:
            while len(self._kept) > min(self._needed, self._most - 1):  # one more than are asked for at once
                self._kept.popitem(last=False)
            self._kept[number] = self._view[:, number * ROWS : (number + 1) * ROWS, :]
        self._kept.move_to_end(number)
        return self._kept[number]

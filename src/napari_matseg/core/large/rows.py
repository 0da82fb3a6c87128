"""Rows that were decoded, kept for what comes next: strips can only be read as wide as the image."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.pixels import LazyPixels

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_matseg.core.micrograph import Micrograph, PlaneView
    from napari_matseg.core.pixels import Box

ROWS = 256
MOST_BYTES = 512 * 2**20
AHEAD_ROWS = 1024
"""Of the largest blocks that are common in files."""
AHEAD_BYTES = 256 * 2**20


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


class RowsOf:
    """Rows that are made where they are sliced; nothing is kept.

    Parameters
    ----------
    read : callable
        Gives some rows, shape (rows, width).
    shape : (int, int)
    dtype : numpy.dtype
    """

    def __init__(self, read: Callable[[slice], np.ndarray], shape: tuple[int, int], dtype: np.dtype) -> None:
        self._read, self.shape, self.dtype = read, shape, dtype

    def __getitem__(self, key: slice | tuple[slice, slice]) -> np.ndarray:
        """Read rows, and take columns of them."""
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        first, stop, _ = rows.indices(self.shape[0])
        return self._read(slice(first, stop))[:, columns]


class RowsAhead:
    """A plane that is looked at from top to bottom: its blocks are decoded once, however few rows are taken at a time.

    Parameters
    ----------
    plane : array, shape (height, width), or PlaneView of one channel
        Only slices of it are read.
    most_bytes : int
        Of the rows that stay in memory, at most; twice as many for a moment.
    """

    def __init__(self, plane: Any, most_bytes: int = AHEAD_BYTES) -> None:
        self._plane = plane
        self.shape: tuple[int, int] = plane.shape[-2:]
        self.dtype = np.dtype(plane.dtype)
        self.ndim = 2
        height, width = self.shape
        step = AHEAD_ROWS
        while step > 1 and step * width * self.dtype.itemsize > most_bytes:
            step //= 2  # so that blocks of the file, whose sides are mostly powers of 2, are met as a whole
        self._step = max(height, 1) if isinstance(getattr(plane, "pixels", plane), np.ndarray) else step
        self._top, self._kept = -1, np.empty((0, width), self.dtype)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Read rows, shape (rows, width); not to be written to."""
        first, stop, _ = rows.indices(self.shape[0])
        parts = [np.empty((0, self.shape[1]), self.dtype)]
        for top in range(first // self._step * self._step, stop, self._step):
            if top != self._top:
                self._top, self._kept = top, self._read(slice(top, min(top + self._step, self.shape[0])))
            parts.append(self._kept[max(first - top, 0) : stop - top])
        return parts[-1] if len(parts) <= 2 else np.concatenate(parts[1:])

    def _read(self, rows: slice) -> np.ndarray:
        everything = slice(None)
        if len(self._plane.shape) == 3:
            of_channel: np.ndarray = self._plane[everything, rows, everything][0]
            return of_channel
        return np.asarray(self._plane[rows, everything])


def plane_of(micrograph: Micrograph, index: int = 0) -> Any:
    """Give a plane as grey: in memory if all of it is, else as an array that is best read from above.

    Returns
    -------
    array or LazyPixels, shape (height, width)
    """
    view = micrograph.view(index)
    everything = slice(None)
    if isinstance(micrograph.pixels, np.ndarray):
        return view[everything, everything, everything][0]
    return in_blocks(view)


def in_blocks(plane: Any, most_bytes: int = AHEAD_BYTES) -> LazyPixels:
    """Give parts of a plane of which `RowsAhead` reads the rows.

    Parameters
    ----------
    plane, most_bytes
        As for `RowsAhead`.
    """
    ahead = RowsAhead(plane, most_bytes)

    def read(_plane: int, box: Box) -> np.ndarray:
        rows, columns = box
        return ahead[rows.start : rows.stop][:, columns.start : columns.stop]

    return LazyPixels(ahead.shape, ahead.dtype, 0, read)

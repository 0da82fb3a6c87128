"""Connected pieces of a plane that is seen strip by strip, from above: in memory are a strip and numbers for pieces."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_matseg.core.measure.runs import bands
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

    from napari_matseg.core.pixels import Box

BY_SIDES, BY_CORNERS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]), np.ones((3, 3), np.int64)
SMALL = 1 << 16  # values up to which counting is faster than sorting


class Joiner:
    """Takes strips of a plane, and tells which pieces in them are one.

    Parameters
    ----------
    corners : bool
        Whether pixels that share a corner alone are connected.
    """

    def __init__(self, *, corners: bool = True) -> None:
        self.corners = corners
        self.firsts = [0]
        """Pieces in all strips before each, and last the pieces in all."""
        self._values: list[NDArray[np.int64]] = []
        self._links: list[NDArray[np.int64]] = []
        self._before: tuple[NDArray[Any], NDArray[np.int64]] | None = None

    def add(self, values_yx: NDArray[Any]) -> NDArray[np.int32]:
        """Take the next strip.

        Parameters
        ----------
        values_yx : integer array, shape (height, width)
            Pixels of one value, not 0, may be of one piece.

        Returns
        -------
        int32 array, shape (height, width)
            Number of the piece of each pixel in this strip, from 1; 0 where the value is 0.
        """
        pieces_yx, values = label_pieces(values_yx, corners=self.corners)
        if len(pieces_yx):
            first = pieces_yx[0] + np.int64(self.firsts[-1])
            if self._before is not None:
                self._link(*self._before, values_yx[0], first)
            self._before = values_yx[-1].copy(), pieces_yx[-1] + np.int64(self.firsts[-1])
        self._values.append(values)
        self.firsts.append(self.firsts[-1] + len(values))
        return pieces_yx

    def settle(self) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Tell what is one.

        Returns
        -------
        component : uint32 array, shape (n_pieces,)
            Which component each piece is of, from 1, value by value in reading order, as `core.labels.label_objects`
            counts.
        values : int64 array, shape (n_components,)
            Of each component.
        """
        n = self.firsts[-1]
        if not n:
            return np.zeros(0, np.uint32), np.zeros(0, np.int64)
        links = np.concatenate([np.empty((2, 0), np.int64), *self._links], axis=1) - 1
        graph = coo_array((np.ones(links.shape[1], np.bool_), (links[0], links[1])), shape=(n, n))
        _, group = connected_components(graph, directed=False)
        values = np.concatenate(self._values)
        _, first = np.unique(group, return_index=True)
        order = np.lexsort((first, values[first]))
        number = np.empty(first.size, np.uint32)
        number[order] = np.arange(1, first.size + 1)
        return number[group], values[first][order]

    def _link(
        self, above: NDArray[Any], pieces_above: NDArray[np.int64], below: NDArray[Any], pieces: NDArray[np.int64]
    ) -> None:
        for shift in (0, -1, 1) if self.corners else (0,):
            here = slice(max(0, -shift), len(below) - max(0, shift))
            there = slice(max(0, shift), len(below) - max(0, -shift))
            same = (below[here] == above[there]) & (below[here] != 0)
            if same.any():
                self._links.append(np.unique([pieces_above[there][same], pieces[here][same]], axis=1))


class Components(LazyPixels):
    """Ids of connected pieces, which are found again where they are sliced.

    Parameters
    ----------
    read : callable
        Gives the values of some rows.
    shape : (int, int)
    rows : slice
        What a joiner was given, in `bands`; outside all is 0.
    joiner : Joiner
    """

    def __init__(
        self, read: Callable[[slice], NDArray[Any]], shape: tuple[int, int], rows: slice, joiner: Joiner
    ) -> None:
        component, self.values = joiner.settle()
        """Value of each component, from id 1."""
        # Apart, for an object that refers to itself would be deleted late, and so would files that it reads.
        strips = _Strips(read, shape, rows, joiner, component)
        self.strip = strips.ids
        """Gives the ids in a strip by its number, shape (rows, width); not to be written to."""
        super().__init__(shape, np.dtype(np.uint32), 0, strips.box)


class _Strips:
    def __init__(
        self,
        read: Callable[[slice], NDArray[Any]],
        shape: tuple[int, int],
        rows: slice,
        joiner: Joiner,
        component: NDArray[np.uint32],
    ) -> None:
        self._read, self._joiner, self._component = read, joiner, component
        self._strips = list(bands(rows.start, rows.stop, shape[1]))
        self._kept: tuple[int, NDArray[np.uint32]] | None = None
        self._lock = threading.Lock()

    def ids(self, number: int) -> NDArray[np.uint32]:
        with self._lock:
            if self._kept is None or self._kept[0] != number:
                pieces_yx, _ = label_pieces(self._read(self._strips[number]), corners=self._joiner.corners)
                first, stop = self._joiner.firsts[number : number + 2]
                self._kept = number, np.concatenate([[np.uint32(0)], self._component[first:stop]])[pieces_yx]
            return self._kept[1]

    def box(self, _plane: int, box: Box) -> NDArray[np.uint32]:
        rows, columns = box
        ids_yx = np.zeros((len(rows), len(columns)), np.uint32)
        for number, strip in enumerate(self._strips):
            first, stop = max(rows.start, strip.start), min(rows.stop, strip.stop)
            if first < stop:
                part = self.ids(number)[first - strip.start : stop - strip.start, columns.start : columns.stop]
                ids_yx[first - rows.start : stop - rows.start] = part
        return ids_yx


def label_pieces(values_yx: NDArray[Any], *, corners: bool = True) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Find the connected pieces of each value but 0.

    Returns
    -------
    pieces_yx : int32 array, shape (height, width)
        Number of the piece of each pixel, from 1, value by value in reading order.
    values : int64 array, shape (n_pieces,)
    """
    structure = BY_CORNERS if corners else BY_SIDES
    pieces_yx = np.zeros(values_yx.shape, np.int32)
    counts = [np.zeros(0, np.int64)]
    n = 0
    for value in _distinct(values_yx):
        inside = values_yx == value
        found, found_n = ndimage.label(inside, structure)
        if n:
            found[inside] += n
            pieces_yx += found
        else:
            pieces_yx = found
        n += found_n
        counts.append(np.full(found_n, value, np.int64))
    return pieces_yx, np.concatenate(counts)


def components_steps(
    read: Callable[[slice], NDArray[Any]], shape: tuple[int, int], rows: slice, *, corners: bool = True
) -> Generator[Progress, None, Components]:
    """Find the connected pieces of a plane.

    Parameters
    ----------
    read : callable
        Gives the values, shape (rows, width), of some rows; it is called twice for each, from above.
    shape : (int, int)
        Height and width of the plane.
    rows : slice
        Which are looked at.
    corners : bool
        Whether pixels that share a corner alone are connected.

    Yields
    ------
    Progress
        In rows.
    """
    joiner = Joiner(corners=corners)
    for strip in bands(rows.start, rows.stop, shape[1]):
        yield Progress(strip.start - rows.start, max(rows.stop - rows.start, 1), "finding the objects")
        joiner.add(read(strip))
    return Components(read, shape, rows, joiner)


def _distinct(values_yx: NDArray[Any]) -> list[int]:
    """Values that there are, ascending, without 0."""
    if not values_yx.size:
        return []
    if values_yx.dtype.kind == "b" or (values_yx.min() >= 0 and values_yx.max() < SMALL):
        found = np.flatnonzero(np.bincount(values_yx.ravel()))
    else:
        found = np.unique(values_yx)
    return [int(value) for value in found if value]

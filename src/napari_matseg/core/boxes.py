"""Rectangles of a plane, and which of many lie near another."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Region = tuple[slice, slice]
"""Rows and columns, each with a start and a stop, as they index an array."""

CELL = 64  # px; side of the squares by which boxes are looked up


class Boxes:
    """Boxes by id, found again by where they are.

    Putting one in or taking one out costs time in proportion to its area / 64**2, looking round it to what is there.
    """

    def __init__(self) -> None:
        self._boxes: dict[int, Region] = {}
        self._cells: dict[tuple[int, int], set[int]] = {}

    def put(self, id: int, box: Region) -> None:  # noqa: A002
        """Put a box in, under an id that is free."""
        self._boxes[id] = box
        for cell in squares(box, CELL):
            self._cells.setdefault(cell, set()).add(id)

    def drop(self, id: int) -> None:  # noqa: A002
        """Take a box out."""
        for cell in squares(self._boxes.pop(id), CELL):
            self._cells[cell].discard(id)

    def near(self, where: Region) -> list[int]:
        """Ids of the boxes that have pixels in common with a region, ascending."""
        ids: set[int] = set()
        for cell in squares(where, CELL):
            ids |= self._cells.get(cell, set())
        rows, columns = where
        near = []
        for id in ids:  # noqa: A001
            y, x = self._boxes[id]
            if y.start < rows.stop and y.stop > rows.start and x.start < columns.stop and x.stop > columns.start:
                near.append(id)
        return sorted(near)


def meet(one: Region, other: Region) -> Region:
    """Rows and columns that two regions have in common.

    Examples
    --------
    >>> meet((slice(0, 4), slice(0, 4)), (slice(2, 9), slice(7, 9)))
    (slice(2, 4, None), slice(7, 7, None))
    """
    starts = [max(a.start, b.start) for a, b in zip(one, other, strict=True)]
    stops = [min(a.stop, b.stop) for a, b in zip(one, other, strict=True)]
    return slice(starts[0], max(starts[0], stops[0])), slice(starts[1], max(starts[1], stops[1]))


def within(region: Region, frame: Region) -> Region:
    """Rows and columns of a region counted from the corner of another, which it does not begin before."""
    y, x = frame[0].start, frame[1].start
    return slice(region[0].start - y, region[0].stop - y), slice(region[1].start - x, region[1].stop - x)


def span(regions: Iterable[Region]) -> Region:
    """Rows and columns of the smallest rectangle that holds all regions; of no pixel, if there are none."""
    rows, columns = tuple(zip(*regions, strict=True)) or ((slice(0, 0),), (slice(0, 0),))
    return _hull(rows), _hull(columns)


def _hull(sides: tuple[slice, ...]) -> slice:
    return slice(min(side.start for side in sides), max(side.stop for side in sides))


def squares(where: Region, side: int) -> Iterator[tuple[int, int]]:
    """Squares of a grid, by row and column, that a region has pixels in."""
    rows, columns = (range(extent.start // side, (extent.stop - 1) // side + 1) for extent in where)
    return product(rows, columns)

"""Which rectangles of a plane become final together. Geometry alone.

A unit is what the network finishes at once: what a tile keeps, or some rows where tiles are blended. Parts are units,
cut up where they are large, so that whoever looks at one part has a bounded number of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_matseg.core.plan import Plan

SIDE = 2048
"""Pixels on the longer side of a part at most."""
STRIP = 6144
"""Pixels in the width of a strip, where the maps of a network wait over the whole width of what is computed."""
ROWS_PER_BAND = {"blend": 8, "staged": 4}
"""Rows of tiles in a band, where what lies above it has to be computed again for each band."""


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle in pixels of the plane that is segmented; `bottom` and `right` are exclusive."""

    top: int
    bottom: int
    left: int
    right: int
    unit: int

    @property
    def where(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True, slots=True)
class Band:
    """Units of a plane that are worked on together, from number `first` to below `stop`."""

    plane: int
    first: int
    stop: int


def in_strips(plan: Plan) -> Plan:
    """Put the tiles of a plan in an order that bounds the memory for a plane of any width: strip by strip.

    Each strip comes in reading order; so do all tiles of a plan that needs no strips.
    """
    if plan.strategy != "staged":
        return plan
    width = max(tile.x.keep_stop for tile in plan.tiles)
    n = -(-width // STRIP)
    tiles = sorted(plan.tiles, key=lambda tile: (tile.x.keep_start * n // width, tile.y.start, tile.x.start))
    return replace(plan, tiles=tiles)


def units_of(plan: Plan, shape: tuple[int, int]) -> list[Part]:
    """Rectangles that are final at once, in the order of the plan's tiles.

    Parameters
    ----------
    plan : Plan
        For a plane of that shape.
    shape : (int, int)
        Height and width in pixels.

    Returns
    -------
    list of Part
        They cover each pixel once; the unit of each is its own number.
    """
    height, width = shape
    if plan.strategy != "blend":
        return [
            Part(tile.y.keep_start, tile.y.keep_stop, tile.x.keep_start, tile.x.keep_stop, number)
            for number, tile in enumerate(plan.tiles)
        ]
    tops = sorted({tile.y.start for tile in plan.tiles if tile.y.start < height})
    return [Part(top, bottom, 0, width, number) for number, (top, bottom) in enumerate(pairwise([*tops, height]))]


def parts_of(units: list[Part]) -> list[Part]:
    """Cut units into parts of at most `SIDE`."""
    return [
        Part(top, bottom, left, right, unit.unit)
        for unit in units
        for top, bottom in _cut(unit.top, unit.bottom)
        for left, right in _cut(unit.left, unit.right)
    ]


def bands_of(plan: Plan, units: list[Part], plane: int) -> list[Band]:
    """Group units that share what has to be read or computed: those of the same rows, or of some rows, of a strip."""
    starts: list[int] = []
    rows = 0
    for number, unit in enumerate(units):
        if number and unit.top == units[number - 1].top:
            continue
        rows = 0 if number and unit.top < units[number - 1].top else rows
        if rows % ROWS_PER_BAND.get(plan.strategy, 1) == 0:
            starts.append(number)
        rows += 1
    return [Band(plane, first, stop) for first, stop in pairwise([*starts, len(units)])]


def _cut(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Cut a range into equal pieces of at most `SIDE`."""
    n = -(-(stop - start) // SIDE)
    return pairwise(start + (stop - start) * i // n for i in range(n + 1))

"""Geometry of tiling alone: where to look and what to keep. No pixels here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one axis: the window that is looked at, and the part of it that is kept.

    Attributes
    ----------
    start, stop : int
        The window, in pixels of the canvas; `stop` is exclusive.
    keep_start, keep_stop : int
        The part that is kept, in pixels of the canvas.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int


@dataclass(frozen=True, slots=True)
class Tile:
    """One window on the canvas with the part of it that is kept."""

    y: Span
    x: Span

    @property
    def window(self) -> tuple[slice, slice]:
        """The window, on the canvas."""
        return slice(self.y.start, self.y.stop), slice(self.x.start, self.x.stop)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the window."""
        return self.y.stop - self.y.start, self.x.stop - self.x.start

    @property
    def keep(self) -> tuple[slice, slice]:
        """The part that is kept, on the canvas."""
        return slice(self.y.keep_start, self.y.keep_stop), slice(self.x.keep_start, self.x.keep_stop)

    @property
    def inner(self) -> tuple[slice, slice]:
        """The part that is kept, within the window."""
        return (
            slice(self.y.keep_start - self.y.start, self.y.keep_stop - self.y.start),
            slice(self.x.keep_start - self.x.start, self.x.keep_stop - self.x.start),
        )


def ceil_to(value: int, stride: int) -> int:
    """Smallest multiple of `stride` that is not below `value`.

    Examples
    --------
    >>> ceil_to(513, 32)
    544
    """
    return -(-value // stride) * stride


def plan_tiles(shape: tuple[int, int], tile: int, halo: int, stride: int) -> list[Tile]:
    """Cover a micrograph with windows whose kept parts meet without gap or overlap.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the micrograph in pixels.
    tile : int
        Largest side of a window in pixels.
    halo : int
        Context in pixels that each window has beyond its kept part, wherever the canvas goes on.
    stride : int
        Of the network. The canvas is the micrograph padded at bottom and right to multiples of it; windows
        start and stop at multiples of it.

    Returns
    -------
    list of Tile
        In reading order. The kept parts cover each pixel of the micrograph exactly once; at the edges of the
        canvas windows end without a halo, as the whole image does.

    Raises
    ------
    ValueError
        If a number is not positive (halo: negative).

    Examples
    --------
    >>> [(t.x.start, t.x.stop, t.x.keep_start, t.x.keep_stop) for t in plan_tiles((32, 100), 64, 16, 8)]
    [(0, 64, 0, 48), (32, 96, 48, 80), (64, 104, 80, 100)]
    """
    if min(*shape, tile, stride) < 1 or halo < 0:
        raise ValueError(f"cannot tile {shape} with tile {tile}, halo {halo}, stride {stride}")
    rows, columns = (_plan_axis(length, tile, halo, stride) for length in shape)
    return [Tile(y, x) for y in rows for x in columns]


def _plan_axis(length: int, tile: int, halo: int, stride: int) -> list[Span]:
    canvas = ceil_to(length, stride)
    halo = ceil_to(halo, stride)
    # A window always keeps something, even where the halo is wider than the tile.
    tile = max(tile // stride * stride, 2 * halo + stride)
    if canvas <= tile:
        return [Span(0, canvas, 0, length)]
    spans = [Span(0, tile, 0, tile - halo)]
    while (kept := spans[-1].keep_stop) < length:
        start = kept - halo
        if start + tile >= canvas:
            spans.append(Span(start, canvas, kept, length))
        else:
            spans.append(Span(start, start + tile, kept, start + tile - halo))
    return spans


def plan_blend(shape: tuple[int, int], tile: int, overlap: float, stride: int) -> list[Tile]:
    """Cover a micrograph with equal windows that overlap, for results that are blended.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the micrograph in pixels.
    tile : int
        Side of a window in pixels.
    overlap : float
        Least share of a window that its neighbour covers too, above 0 and below 1.
    stride : int
        Of the network; see `plan_tiles`.

    Returns
    -------
    list of Tile
        In reading order, spread evenly; the whole window is kept.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    if min(*shape, tile, stride) < 1 or not 0 < overlap < 1:
        raise ValueError(f"cannot tile {shape} with tile {tile}, overlap {overlap}, stride {stride}")
    rows, columns = (_spread_axis(length, tile, overlap, stride) for length in shape)
    return [Tile(y, x) for y in rows for x in columns]


def _spread_axis(length: int, tile: int, overlap: float, stride: int) -> list[Span]:
    canvas = ceil_to(length, stride)
    tile = min(max(tile // stride * stride, stride), canvas)
    step = max(stride, int(tile * (1 - overlap)) // stride * stride)
    last = canvas - tile
    n = -(-last // step) + 1
    starts = [round(i * last / max(n - 1, 1) / stride) * stride for i in range(n)]
    return [Span(start, start + tile, start, start + tile) for start in starts]


def computed_pixels(tiles: Sequence[Tile]) -> int:
    """Pixels that the network sees, those seen twice counted twice."""
    return sum(tile.shape[0] * tile.shape[1] for tile in tiles)

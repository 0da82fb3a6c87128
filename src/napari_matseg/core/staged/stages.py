"""Which maps of a network are kept whole, so that hardly any cell is computed twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_matseg.core.staged.ops import Concatenate, Elementwise, Pair, Region, whole
from napari_matseg.core.staged.resizing import Enlarge, Stretch, Unfold
from napari_matseg.core.staged.totals import Total

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_matseg.core.staged.layers import Layers

MIN_CELLS = 32  # side of a chunk: with fewer, what a coarse map needs round its chunks would outweigh them
# What it costs to touch one value of a map, in floating-point operations of a convolution that take as long.
WRITE, READ, TOUCH = 250, 125, 60


@dataclass(frozen=True, eq=False)
class Stage:
    """What leads from maps that are kept to the next one.

    Attributes
    ----------
    target : int
        Step whose map it gives.
    members : tuple of int
        Steps that are computed, the target last.
    inputs : tuple of int
        Steps whose maps are taken as they were kept.
    """

    target: int
    members: tuple[int, ...]
    inputs: tuple[int, ...]

    def regions(self, layers: Layers, region: Region, sizes: Sequence[Pair]) -> dict[int, Region]:
        """Region of each member and input that a region of the target is made from."""
        needed = {self.target: region}
        for number in reversed(self.members):
            step = layers.steps[number]
            before = [sizes[i] for i in step.inputs]
            for i, need in zip(step.inputs, step.op.needs(needed[number], before), strict=True):  # type: ignore[union-attr]
                needed[i] = need if i not in needed else needed[i].join(need)
        return needed


def make_stage(layers: Layers, target: int, kept: frozenset[int] | set[int]) -> Stage:
    """Find what leads from kept maps to a target."""
    members: set[int] = set()
    inputs: set[int] = set()
    waiting = [target]
    while waiting:
        number = waiting.pop()
        if number in members:
            continue
        if number != target and number in kept:
            inputs.add(number)
            continue
        members.add(number)
        waiting.extend(layers.steps[number].inputs)
    return Stage(target, tuple(sorted(members)), tuple(sorted(inputs)))


def targets(layers: Layers, kept: Iterable[int]) -> list[int]:
    """Give the steps that are computed chunk by chunk: those kept, the inputs of totals, and the scores."""
    found = {i for i in kept if i and not isinstance(layers.steps[i].op, Total)}
    found |= {step.inputs[0] for step in layers.steps if isinstance(step.op, Total)} - {0}
    return sorted(found | {len(layers.steps) - 1})


def stride_of_map(canvas: Pair, size: Pair) -> int:
    """Pixels that a cell of a map stands for."""
    return max(1, round(canvas[0] / size[0]))


def chunk_side(tile: int, stride: int) -> int:
    """Cells along the side of a chunk of a map, for tiles of so many pixels."""
    return max(tile // stride, MIN_CELLS)


@dataclass(frozen=True, slots=True)
class Grid:
    """How an axis of a map is cut: the first chunk is longer by `offset` cells than the others.

    With offsets as wide as what a chunk needs beyond its end, each row of chunks needs none of the next row.
    """

    side: int
    offset: int

    def index(self, cell: int) -> int:
        """Give the number of the chunk that a cell lies in."""
        return max(0, (cell - self.offset) // self.side)

    def span(self, index: int, length: int) -> Pair:
        """First cell and end of a chunk, on an axis of so many cells."""
        first = index * self.side + self.offset if index else 0
        return first, min((index + 1) * self.side + self.offset, length)

    def count(self, length: int) -> int:
        """Count the chunks on an axis of so many cells."""
        return self.index(length - 1) + 1


def make_grids(layers: Layers, kept: frozenset[int], tile: int) -> dict[int, Grid]:
    """Lay out the chunks of each map that is kept or computed chunk by chunk, for tiles of so many pixels."""
    end = 4 * tile * MIN_CELLS * layers.stride  # a boundary of all maps
    canvas = (2 * end, 2 * end)
    sizes = layers.sizes(canvas)
    beyond: dict[int, int] = {}
    wanted = targets(layers, kept)
    for target in reversed(wanted):
        last = end * sizes[target][0] // canvas[0] + beyond.get(target, 0)
        stage = make_stage(layers, target, kept)
        needed = stage.regions(layers, Region(last - 1, last, last - 1, last), sizes)
        for i in stage.inputs:
            if sizes[i] != (1, 1):
                beyond[i] = max(beyond.get(i, 0), needed[i].bottom - end * sizes[i][0] // canvas[0])
    return {
        i: Grid(chunk_side(tile, stride_of_map(canvas, sizes[i])), beyond.get(i, 0))
        for i in {*wanted, *kept}
        if sizes[i] != (1, 1)
    }


def choose_kept(layers: Layers, tile: int, thrift: int = 1) -> frozenset[int]:
    """Choose the maps that are kept, from what it costs to keep them and what it costs to compute them again.

    All maps that several layers take, or that are taken at another resolution, are candidates; beginning with all,
    each is given up where that costs less.

    Parameters
    ----------
    layers : Layers
    tile : int
        Side of a tile of the result in pixels.
    thrift : int
        How many times as dear memory is than speed alone would have it; more keeps fewer and smaller maps.

    Returns
    -------
    frozenset of int
        Steps, with the image (0) and all totals.
    """
    always = {0} | {i for i, step in enumerate(layers.steps) if isinstance(step.op, Total)}
    side = max(tile, MIN_CELLS * layers.stride)
    canvas = (
        -(-16 * side // layers.stride) * layers.stride,
    ) * 2  # large enough for a chunk that is far from all edges
    sizes = layers.sizes(canvas)
    last = len(layers.steps) - 1
    users = Counter(i for step in layers.steps for i in step.inputs)
    resized = {i for n, step in enumerate(layers.steps) for i in step.inputs if sizes[i] != sizes[n]}
    kept = always | {
        i
        for i, step in enumerate(layers.steps)
        if i != last
        and (users[i] > 1 or i in resized)
        and sizes[i] != (1, 1)
        and not isinstance(step.op, Concatenate | Enlarge | Stretch | Unfold)
    }
    cells = canvas[0] * canvas[1]

    def cost(target: int, kept: set[int]) -> float:
        """For each pixel of the canvas."""
        stage = make_stage(layers, target, kept)
        stride = stride_of_map(canvas, sizes[target])
        length = chunk_side(tile, stride)
        start = sizes[target][0] // 2 // length * length
        region = Region(start, start + length, start, start + length)
        needed = stage.regions(layers, region, sizes)
        total = 0.0
        for number, where in needed.items():
            step = layers.steps[number]
            values = where.cells * step.channels
            if number in stage.inputs:
                total += thrift * READ * values
            elif step.op is not None:
                total += step.op.flops(where) + (TOUCH * values if isinstance(step.op, Elementwise) else 0)
        if target in kept:
            total += thrift * WRITE * region.cells * layers.steps[target].channels
        return total * (sizes[target][0] * sizes[target][1] / region.cells) / cells

    costs = {target: cost(target, kept) for target in targets(layers, kept)}
    for number in sorted(kept - always, key=lambda i: -sizes[i][0] * sizes[i][1] * layers.steps[i].channels):
        without = kept - {number}
        wanted = targets(layers, without)
        touched = [t for t in wanted if t == number or number in make_stage(layers, t, kept).inputs]
        changed = {target: cost(target, without) for target in touched}
        before = sum(costs[target] for target in touched if target != number) + costs[number]
        if sum(changed.values()) < before:
            kept = without
            costs = {t: c for t, c in costs.items() if t in wanted} | changed
    return frozenset(kept)


def shelf_bytes(layers: Layers, canvas: Pair, kept: frozenset[int], tile: int, itemsize: int) -> int:
    """Bytes of kept maps that wait at a time: some rows of chunks of each, or all where a total needs them all."""
    sizes, grids = layers.sizes(canvas), make_grids(layers, kept, tile)
    strides = {number: stride_of_map(canvas, sizes[number]) for number in grids}
    ahead = max(grid.side * strides[number] for number, grid in grids.items())  # px that the coarsest map is ahead
    needed = 0
    for number, grid in grids.items():
        if number in kept:
            height, width = sizes[number]
            rows = ahead // strides[number] + grid.side + grid.offset
            needed += (
                (height if layers.totals else min(height, rows)) * width * layers.steps[number].channels * itemsize
            )
    return needed


def flops_of(layers: Layers, canvas: Pair, kept: frozenset[int], tile: int) -> tuple[int, int]:
    """Floating-point operations of a canvas in stages, and of the same in one go; convolutions alone."""
    sizes = layers.sizes(canvas)
    grids = make_grids(layers, kept, tile)
    ops = [step.op for step in layers.steps]
    once = sum(op.flops(whole(size)) for op, size in zip(ops, sizes, strict=True) if op is not None)
    staged = 0
    for target in targets(layers, kept):
        stage = make_stage(layers, target, kept)
        for region in chunks(sizes[target], grids[target]):
            needed = stage.regions(layers, region, sizes)
            staged += sum(op.flops(needed[i]) for i in stage.members if (op := ops[i]) is not None)
    return staged, once


def chunks(size: Pair, grid: Grid) -> list[Region]:
    """Chunks of a map, in reading order."""
    rows, columns = ([grid.span(i, length) for i in range(grid.count(length))] for length in size)
    return [Region(*row, *column) for row in rows for column in columns]

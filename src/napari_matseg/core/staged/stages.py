"""Which maps of a network are kept whole, so that hardly any cell is computed twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_matseg.core.staged.ops import Concatenate, Elementwise, Enlarge, Pair, Region, Stretch, Total, Unfold, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_matseg.core.staged.trace import Layers

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
    """Steps that are computed chunk by chunk: those kept, the inputs of totals, and the scores."""
    found = {i for i in kept if i and not isinstance(layers.steps[i].op, Total)}
    found |= {step.inputs[0] for step in layers.steps if isinstance(step.op, Total)} - {0}
    return sorted(found | {len(layers.steps) - 1})


def stride_of_map(canvas: Pair, size: Pair) -> int:
    """Pixels that a cell of a map stands for."""
    return max(1, round(canvas[0] / size[0]))


def chunk_side(tile: int, stride: int) -> int:
    """Cells along the side of a chunk of a map, for tiles of so many pixels."""
    return max(tile // stride, MIN_CELLS)


def choose_kept(layers: Layers, tile: int) -> frozenset[int]:
    """Choose the maps that are kept, from what it costs to keep them and what it costs to compute them again.

    All maps that several layers take, or that are taken at another resolution, are candidates; beginning with all,
    each is given up where that costs less.

    Parameters
    ----------
    layers : Layers
    tile : int
        Side of a tile of the result in pixels.

    Returns
    -------
    frozenset of int
        Steps, with the image (0) and all totals.
    """
    always = {0} | {i for i, step in enumerate(layers.steps) if isinstance(step.op, Total)}
    side = max(tile, MIN_CELLS * layers.stride)
    canvas = (-(-16 * side // layers.stride) * layers.stride,) * 2  # large enough for a chunk that is far from all edges
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
                total += READ * values
            elif step.op is not None:
                total += step.op.flops(where) + (TOUCH * values if isinstance(step.op, Elementwise) else 0)
        if target in kept:
            total += WRITE * region.cells * layers.steps[target].channels
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


def flops_of(layers: Layers, sizes: Sequence[Pair], kept: frozenset[int], tile: int, canvas: Pair) -> tuple[int, int]:
    """Floating-point operations of a canvas in stages, and of the same in one go; convolutions alone."""
    once = sum(step.op.flops(whole(size)) for step, size in zip(layers.steps, sizes, strict=True) if step.op)
    staged = 0
    for target in targets(layers, kept):
        stage = make_stage(layers, target, kept)
        for region in chunks(sizes[target], chunk_side(tile, stride_of_map(canvas, sizes[target]))):
            needed = stage.regions(layers, region, sizes)
            staged += sum(layers.steps[i].op.flops(needed[i]) for i in stage.members)  # type: ignore[union-attr]
    return staged, once


def chunks(size: Pair, side: int) -> list[Region]:
    """Cut a map into squares of that side, in reading order; those at the lower and right edges may be smaller."""
    height, width = size
    return [
        Region(top, min(top + side, height), left, min(left + side, width))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]

"""A large image through the layers of a network: chunk by chunk of each map that is kept, each computed once."""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from napari_matseg.core.staged.ops import Part, Region, Total, whole
from napari_matseg.core.staged.shelf import Shelf, assemble
from napari_matseg.core.staged.stages import chunk_side, make_stage, stride_of_map, targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from napari_matseg.core.staged.ops import Pair
    from napari_matseg.core.staged.trace import Layers


class StagedRun:
    """One image on its way through a network.

    A region of the scores asks for what it needs of the maps that are kept, and these for theirs: whatever is missing
    is computed then, a chunk at a time. Chunks lie on a grid that begins at the image's corner, so that their values
    do not depend on what is asked for.

    Parameters
    ----------
    layers : Layers
        On `device`, in the type to compute in.
    kept : frozenset of int
        As `choose_kept` chooses them.
    canvas : (int, int)
        Height and width of the image, multiples of the network's stride.
    tile : int
        Side of a tile in pixels.
    read : callable
        Gives a region of the image as a tensor of shape (1, channels, height, width) in the memory of the CPU.
    room : int
        Bytes of maps that may be held in memory.
    """

    def __init__(
        self,
        layers: Layers,
        kept: frozenset[int],
        canvas: Pair,
        tile: int,
        *,
        read: Callable[[Region], Tensor],
        device: torch.device,
        dtype: torch.dtype,
        room: int,
    ) -> None:
        self._layers, self._kept, self._canvas = layers, kept, canvas
        self._read, self._device, self._dtype = read, device, dtype
        self._sizes = layers.sizes(canvas)
        self._last = len(layers.steps) - 1
        self._stages = {target: make_stage(layers, target, kept) for target in targets(layers, kept)}
        self._sides = {
            i: chunk_side(tile, stride_of_map(canvas, self._sizes[i])) for i in (*self._stages, *sorted(kept))
        }
        self._vectors: dict[int, Part] = {}
        self._pool = ThreadPoolExecutor(1)
        self._coming: dict[tuple[int, int], Future[Tensor]] = {}
        self.shelf = Shelf(room)

    def close(self) -> None:
        """Stop reading ahead, and let everything go."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.shelf.close()

    def scores(self, region: Region) -> Tensor:
        """Give the scores of a region of the image."""
        return self._compute(self._last, region)

    def pass_by(self, row: int) -> None:
        """Let go of all that no score from this row on is made from."""
        lowest = dict.fromkeys(self._kept, math.inf)  # first row of each map that is still read
        for target in sorted(self._stages, reverse=True):
            if target == self._last:
                first: float = row
            else:
                first = self._first_missing(target, lowest.get(target, math.inf))
                if self._is_input_of_total(target):
                    first = min(first, 0)
            size = self._sizes[target]
            if first >= size[0]:
                continue
            region = Region(int(first), size[0], 0, size[1])
            stage = self._stages[target]
            needed = stage.regions(self._layers, region, self._sizes)
            for i in stage.inputs:
                if i in lowest:
                    lowest[i] = min(lowest[i], needed[i].top)
        for number, first in lowest.items():
            side = self._sides[number]
            for chunk_row in [r for r in self.shelf.rows(number) if (r + 1) * side <= first]:
                self.shelf.drop(number, chunk_row)

    def _first_missing(self, target: int, row: float) -> float:
        """First row of a map, from a given one on, whose chunks are not all there."""
        height, width = self._sizes[target]
        if row >= height:
            return math.inf
        side = self._sides[target]
        there = self.shelf.rows(target)
        columns = -(-width // side)
        number = int(row) // side
        while number * side < height and len(there.get(number, ())) == columns:
            number += 1
        return number * side if number * side < height else math.inf

    def _is_input_of_total(self, target: int) -> bool:
        """Whether a vector that is still to be made is made from this map."""
        return any(
            isinstance(step.op, Total) and i not in self._vectors and step.inputs[0] == target
            for i, step in enumerate(self._layers.steps)
        )

    def _compute(self, target: int, region: Region) -> Tensor:
        """Make a region of a map from the maps that are kept."""
        stage, steps, sizes = self._stages[target], self._layers.steps, self._sizes
        needed = stage.regions(self._layers, region, sizes)
        parts = {i: self._fetch(i, needed[i]) for i in stage.inputs}
        waiting = {i: 0 for i in needed}
        for number in stage.members:
            for i in steps[number].inputs:
                waiting[i] += 1
        for number in stage.members:
            step = steps[number]
            inputs = [parts[i] for i in step.inputs]
            inplace = step.inplace and step.inputs[0] not in stage.inputs
            before = [sizes[i] for i in step.inputs]
            maps = step.op.run(inputs, needed[number], before, inplace=inplace)  # type: ignore[union-attr]
            parts[number] = Part(maps, needed[number])
            for i in step.inputs:
                waiting[i] -= 1
                if not waiting[i]:
                    del parts[i]
            del inputs
        return parts[target].maps

    def _fetch(self, number: int, region: Region) -> Part:
        """Give a region of a map that is kept."""
        if isinstance(self._layers.steps[number].op, Total):
            return self._vector(number)
        side = self._sides[number]
        keys = [
            (number, row, column)
            for row in range(region.top // side, -(-region.bottom // side))
            for column in range(region.left // side, -(-region.right // side))
        ]
        return Part(assemble([self._chunk(*key) for key in keys], region), region)

    def _chunk(self, number: int, row: int, column: int) -> Part:
        """Give a chunk, computing or reading it if it is not there."""
        part = self.shelf.get((number, row, column))
        if part is None:
            side, (height, width) = self._sides[number], self._sizes[number]
            top, left = row * side, column * side
            where = Region(top, min(top + side, height), left, min(left + side, width))
            maps = self._pixels(row, column, where) if number == 0 else self._compute(number, where)
            # What was cut out of something larger would keep all of it in memory.
            part = Part(maps.contiguous(memory_format=torch.channels_last), where)
            self.shelf.put((number, row, column), part)
        return part

    def _pixels(self, row: int, column: int, where: Region) -> Tensor:
        """Read a chunk of the image, and have the next one read meanwhile."""
        coming = self._coming.pop((row, column), None)
        maps = self._read(where) if coming is None else coming.result()
        height, width = self._canvas
        side = self._sides[0]
        following = (row, column + 1) if where.right < width else (row + 1, 0)
        top, left = following[0] * side, following[1] * side
        if top < height and following not in self._coming and self.shelf.get((0, *following)) is None:
            ahead = Region(top, min(top + side, height), left, min(left + side, width))
            self._coming = {following: self._pool.submit(self._read, ahead)}
        if self._device.type == "cuda":
            maps = maps.pin_memory()
        return maps.to(self._device, self._dtype, non_blocking=True)

    def _vector(self, number: int) -> Part:
        """Give what a total makes of the whole image."""
        if number not in self._vectors:
            step = self._layers.steps[number]
            source = step.inputs[0]
            size = self._sizes[source]
            sums: Tensor | float = 0.0
            for chunk in self._grid(source):
                keys = chunk[0] // self._sides[source], chunk[2] // self._sides[source]
                maps = self._chunk(source, *keys).maps if source in self._kept else self._compute(source, chunk)
                sums = sums + step.op.add(maps)  # type: ignore[union-attr]
            vector = step.op.finish(sums, size[0] * size[1])  # type: ignore[union-attr]
            self._vectors[number] = Part(vector.to(self._dtype), whole((1, 1)))
        return self._vectors[number]

    def _grid(self, number: int) -> Iterator[Region]:
        side, (height, width) = self._sides[number], self._sizes[number]
        for top in range(0, height, side):
            for left in range(0, width, side):
                yield Region(top, min(top + side, height), left, min(left + side, width))

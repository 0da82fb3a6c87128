"""A large image through the layers of a network: chunk by chunk of each map that is kept, each computed once."""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from napari_matseg.core.staged.ops import Part, Region, whole
from napari_matseg.core.staged.shelf import Shelf, assemble
from napari_matseg.core.staged.stages import choose_kept, chunks, make_grids, make_stage, targets
from napari_matseg.core.staged.totals import Total

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_matseg.core.staged.layers import Layers
    from napari_matseg.core.staged.ops import Pair


class StagedRun:
    """One image on its way through a network.

    A region of the scores asks for what it needs of the maps that are kept, and these for theirs: whatever is missing
    is computed then, a chunk at a time. Chunks lie on a grid that begins at the image's corner, so that their values
    do not depend on what is asked for.

    Parameters
    ----------
    layers : Layers
    canvas : (int, int)
        Height and width of the image, multiples of the network's stride.
    tile : int
        Side of a tile in pixels.
    thrift : int
        As in `choose_kept`.
    read : callable
        Gives a region of the image as a tensor of shape (1, channels, height, width) in the memory of the CPU.
    room : int
        Bytes of maps that may be held in memory; beyond, they go to a temporary file in half precision.
    """

    def __init__(
        self,
        layers: Layers,
        canvas: Pair,
        tile: int,
        thrift: int = 1,
        *,
        read: Callable[[Region], Tensor],
        device: torch.device,
        dtype: torch.dtype,
        room: int,
    ) -> None:
        self._layers, self._canvas = layers.to(device, dtype), canvas
        self._kept = kept = choose_kept(layers, tile, thrift)
        self._read, self._device, self._dtype = read, device, dtype
        self._sizes = layers.sizes(canvas)
        self._last = len(layers.steps) - 1
        self._stages = {target: make_stage(layers, target, kept) for target in targets(layers, kept)}
        self._grids = make_grids(layers, kept, tile)
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
            height = self._sizes[number][0]
            for chunk_row in [r for r in self.shelf.rows(number) if self._grids[number].span(r, height)[1] <= first]:
                self.shelf.drop(number, chunk_row)

    def _first_missing(self, target: int, row: float) -> float:
        """First row of a map, from a given one on, whose chunks are not all there."""
        height, width = self._sizes[target]
        grid, there = self._grids[target], self.shelf.rows(target)
        rows = range(grid.index(int(row)), grid.count(height)) if row < height else ()
        columns = grid.count(width)
        return next((grid.span(i, height)[0] for i in rows if len(there.get(i, ())) < columns), math.inf)

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
        waiting = dict.fromkeys(needed, 0)
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
        index = self._grids[number].index
        parts = [
            self._chunk(number, row, column)
            for row in range(index(region.top), index(region.bottom - 1) + 1)
            for column in range(index(region.left), index(region.right - 1) + 1)
        ]
        return Part(assemble(parts, region), region)

    def _chunk(self, number: int, row: int, column: int) -> Part:
        """Give a chunk, computing or reading it if it is not there."""
        part = self.shelf.get((number, row, column))
        if part is None:
            where = self._where(number, row, column)
            maps = self._pixels(row, column, where) if number == 0 else self._compute(number, where)
            # What was cut out of something larger would keep all of it in memory.
            part = Part(maps.contiguous(memory_format=torch.channels_last), where)
            self.shelf.put((number, row, column), part)
        return part

    def _pixels(self, row: int, column: int, where: Region) -> Tensor:
        """Read a chunk of the image, and have the next one read meanwhile."""
        coming = self._coming.pop((row, column), None)
        maps = self._read(where) if coming is None else coming.result()
        rows, columns = (self._grids[0].count(length) for length in self._canvas)
        following = (row, column + 1) if column + 1 < columns else (row + 1, 0)
        if following[0] < rows and following not in self._coming and self.shelf.get((0, *following)) is None:
            self._coming = {following: self._pool.submit(self._read, self._where(0, *following))}
        if self._device.type == "cuda":
            maps = maps.pin_memory()
        return maps.to(self._device, self._dtype, non_blocking=True)

    def _vector(self, number: int) -> Part:
        """Give what a total makes of the whole image."""
        if number not in self._vectors:
            step = self._layers.steps[number]
            source = step.inputs[0]
            size, index = self._sizes[source], self._grids[source].index
            sums: Tensor | float = 0.0
            for where in chunks(size, self._grids[source]):
                if source in self._kept:
                    maps = self._chunk(source, index(where.top), index(where.left)).maps
                else:
                    maps = self._compute(source, where)
                sums = sums + step.op.add(maps)  # type: ignore[union-attr]
            vector = step.op.finish(sums, size[0] * size[1])  # type: ignore[union-attr]
            self._vectors[number] = Part(vector.to(self._dtype), whole((1, 1)))
        return self._vectors[number]

    def _where(self, number: int, row: int, column: int) -> Region:
        grid, (height, width) = self._grids[number], self._sizes[number]
        return Region(*grid.span(row, height), *grid.span(column, width))

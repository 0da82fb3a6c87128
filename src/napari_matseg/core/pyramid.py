"""Smaller copies of a large micrograph, for viewing: those that were made before, or new ones.

While they are made they can be looked at all the same: what is done is shown, and the rest from few samples. A block of
the image gives its own part of every copy, so blocks can be done in any order, and one that somebody looks at is next.
"""

from __future__ import annotations

import threading
import time
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.large.stores import create_array, replacing_folder
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.progress import Progress
from napari_matseg.core.pyramid_cache import SUFFIX, find_pyramid, pyramid_folder, pyramid_key, shrink_folder
from napari_matseg.core.pyramid_sample import GRIDS, SAMPLE_S, Kind, halve, look, take_sample
from napari_matseg.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.pixels import Box

SMALLEST = 1024
"""Pixels on the longer side from which on no smaller copy is made."""
SIDE, CHUNK = 4096, 1024
"""Of the blocks that are read, and of the chunks of copies."""
BLOCK_BYTES = 1 << 26
"""Of a block, as far as a file that is read by whole rows allows."""
MEMORY_BYTES = 1 << 26
"""Of the smallest copies, which stay in memory until they are complete."""
REFINE_S = 5.0
"""Time for finer ones, before the copies are made."""
NEAR = 9
"""Blocks that one look can want; more are seen only where the whole is, for which samples do."""


class Pyramid:
    """Smaller copies of a micrograph that stays in its file.

    Parameters
    ----------
    micrograph : Micrograph
        With a source. Copies that the file has are gone on from.
    max_bytes : int
        Bound of all copies of all files in the user's cache folder.
    kind : "image" or "labels"
        What to make copies by.

    Attributes
    ----------
    levels : tuple of LazyPixels, the last an array in memory
        The largest first. They can be read at any time, by any thread.
    ready : bool
        Whether they are complete, as those are that were made before.
    sample : Sample
        Of the first plane.
    """

    def __init__(self, micrograph: Micrograph, max_bytes: int, kind: Kind = "image") -> None:
        if micrograph.source is None:
            raise ValueError("pixels of no file need no smaller copies")
        self._pixels: LazyPixels = (micrograph.pixels, *micrograph.levels)[-1]
        self._kind: Kind = kind
        self._colour = (3,) if micrograph.is_colour else ()
        self._planes = micrograph.shape_planes
        self._max_bytes = max_bytes
        height, width = self._pixels.shape[len(self._planes) :][:2]
        self._shapes = list(_shapes(height, width))
        self._lock = threading.Lock()
        self._wanted: list[tuple[int, int]] = []
        self._stored: list[Any] = []
        self._memory: list[np.ndarray] = []
        self._arrays: list[Any] = []
        about = [kind, list(self._pixels.shape), str(self._pixels.dtype)]
        self.path = pyramid_folder() / f"{pyramid_key(micrograph.source, about)}{SUFFIX}"
        self.sample = take_sample(self._pixels, (0,) * len(self._planes), micrograph.is_colour, kind)
        found = find_pyramid(self.path, [self._shape(level) for level in range(1, len(self._shapes) + 1)])
        self.ready = found is not None
        if found is not None:
            self._stored = [_reader(array, len(self._planes)) for array in found]
            smallest = np.asarray(found[-1][...])
        else:
            self._begin(height, width)
            smallest = self._memory[-1]
        larger = (
            LazyPixels(self._shape(level), self._pixels.dtype, len(self._planes), self._reader(level))
            for level in range(1, len(self._shapes))
        )
        # napari keeps what it once read of the smallest one: that has to be the array which is filled.
        self.levels: tuple[Any, ...] = (*larger, smallest)

    def steps(self) -> Generator[Progress, None, None]:
        """Make the copies, and keep them; closing the generator gives up.

        Yields
        ------
        Progress
            After each block. What is done is there in `levels` at once.

        Raises
        ------
        OutputError
            If they cannot be written.
        InputError
            If the file is damaged.
        """
        if self.ready:
            return
        total = len(self._done)
        yield Progress(0, total, "making smaller copies")
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shrink_folder(folder, self._max_bytes, self.path)
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be written ({error.strerror}), so no smaller copies are made."
            ) from error
        try:
            with replacing_folder(self.path) as temporary:
                arrays = [self._create(temporary, level) for level in range(1, self._first)]
                self._arrays = arrays
                yield from self._refine(total)
                for number in range(total):
                    self._fill(self._next(), arrays)
                    yield Progress(number + 1, total, "making smaller copies")
                for level, values in enumerate(self._memory, self._first):
                    array = self._create(temporary, level)
                    array[...] = values
                self._arrays = []  # as the folder is about to be renamed, the copies in memory stand in
        finally:
            self._arrays = []
        found = find_pyramid(self.path, [self._shape(level) for level in range(1, len(self._shapes) + 1)])
        if found is not None:
            self._stored = [_reader(array, len(self._planes)) for array in found]
            self._memory = []  # only now, as another thread may be reading
            self.ready = True

    def _begin(self, height: int, width: int) -> None:
        """Divide into blocks, and fill the copies in memory from the sample."""
        itemsize = prod(self._colour) * self._pixels.dtype.itemsize
        self._block = _block(height, width, itemsize, len(self._shapes), self._pixels.block_yx)
        n_planes = prod(self._planes)
        sizes = [n_planes * y * x * itemsize for y, x in self._shapes]
        self._first = next(
            (level for level in range(1, len(sizes)) if sum(sizes[level - 1 :]) <= MEMORY_BYTES), len(sizes)
        )
        self._memory = [np.empty(self._shape(level), self._pixels.dtype) for level in self._in_memory()]
        for values in self._memory:
            values[...] = self.sample.coarse[len(self.sample.coarse) // 2, 0]
        self._show(self.sample.coarse)
        self._grid = -(-height // self._block[0]), -(-width // self._block[1])
        self._done = np.zeros(n_planes * prod(self._grid), np.bool_)

    def _refine(self, total: int) -> Generator[Progress, None, None]:
        """Look at more of the first plane, so that much is seen soon."""
        took = SAMPLE_S / 5
        for n in GRIDS:
            if n <= len(self.sample.coarse) or 4 * took > REFINE_S:
                continue
            started = time.perf_counter()
            self._show(look(self._pixels, (0,) * len(self._planes), bool(self._colour), self._kind, n).coarse)
            took = time.perf_counter() - started
            yield Progress(0, total, "making smaller copies")

    def _show(self, coarse: np.ndarray) -> None:
        """Fill the first plane of the copies in memory from samples."""
        for values, shape in zip(self._memory, self._shapes[self._first - 1 :], strict=True):
            y, x = (np.arange(side) * len(coarse) // side for side in shape)
            shown: Any = values[(0,) * len(self._planes)] if self._planes else values
            shown[...] = coarse[y[:, None], x]

    def _in_memory(self) -> range:
        return range(self._first, len(self._shapes) + 1)

    def _shape(self, level: int) -> tuple[int, ...]:
        return (*self._planes, *self._shapes[level - 1], *self._colour)

    def _create(self, folder: Path, level: int) -> Any:
        chunk = (CHUNK, CHUNK)
        if level < self._first:  # no chunk belongs to two blocks
            chunk = (min(CHUNK, self._block[0] >> level), min(CHUNK, self._block[1] >> level))
        chunks = (*[1] * len(self._planes), *chunk, *self._colour)
        return create_array(folder / str(level), self._shape(level), chunks, self._pixels.dtype)

    def _next(self) -> int:
        """Choose the block that is to be done now: one that was looked at, or the first."""
        with self._lock:
            for plane, number in self._wanted:
                block = plane * prod(self._grid) + number
                if not self._done[block]:
                    return block
        return int(np.argmin(self._done))

    def _place(self, block: int) -> tuple[tuple[int, ...], int, int]:
        """Plane of a block, and its first row and column."""
        plane, number = divmod(block, prod(self._grid))
        row, column = divmod(number, self._grid[1])
        where = tuple(int(i) for i in np.unravel_index(plane, self._planes)) if self._planes else ()
        return where, row * self._block[0], column * self._block[1]

    def _fill(self, block: int, arrays: list[Any]) -> None:
        plane, top, left = self._place(block)
        where: Any
        part: Any = self._pixels[(*plane, slice(top, top + self._block[0]), slice(left, left + self._block[1]))]
        for level in range(1, len(self._shapes) + 1):
            part = halve(part, self._kind)
            y, x = top >> level, left >> level
            where = (*plane, slice(y, y + part.shape[0]), slice(x, x + part.shape[1]))
            if level < self._first:
                arrays[level - 1][where] = part
            else:
                self._memory[level - self._first][where] = part
        self._done[block] = True

    def _reader(self, level: int) -> Callable[[int, Box], np.ndarray]:
        def read(plane: int, box: Box) -> np.ndarray:
            memory = self._memory
            if self._stored:
                stored: np.ndarray = self._stored[level - 1](plane, box)
                return stored
            return self._now(memory, level, plane, box)

        return read

    def _now(self, memory: list[np.ndarray], level: int, plane: int, box: Box) -> np.ndarray:
        """Part of a copy as far as it is there; the rest from the finest in memory."""
        where = tuple(int(i) for i in np.unravel_index(plane, self._planes)) if self._planes else ()
        self._want(level, plane, box)
        if level >= self._first:
            in_memory: Any = memory[level - self._first]
            return np.array(in_memory[(*where, *(slice(span.start, span.stop) for span in box))])
        coarser: Any = memory[0]
        rows, columns = (np.arange(span.start, span.stop) >> (self._first - level) for span in box)
        values: np.ndarray = coarser[where][rows[:, None], columns]
        arrays = self._arrays
        if len(arrays) >= level:
            for number in self._blocks(level, box):
                if self._done[plane * prod(self._grid) + number]:
                    self._put(values, arrays[level - 1], level, where, number, box)
        return values

    def _put(self, values: np.ndarray, array: Any, level: int, plane: tuple[int, ...], number: int, box: Box) -> None:
        """Put what is done of a block into a part of a copy."""
        spans = []
        for place, side, span in zip(divmod(number, self._grid[1]), self._block, box, strict=True):
            first = (place * side) >> level
            spans.append((max(first, span.start), min(first + (side >> level), span.stop), span.start))
        part = array[(*plane, *(slice(first, stop) for first, stop, _ in spans))]
        values[tuple(slice(first - start, stop - start) for first, stop, start in spans)] = part

    def _blocks(self, level: int, box: Box) -> Iterator[int]:
        """Numbers of the blocks that a part of a copy needs."""
        rows, columns = (
            range((span.start << level) // side, -(-(span.stop << level) // side))
            for span, side in zip(box, self._block, strict=True)
        )
        for row, column in product(rows, columns):
            if row < self._grid[0] and column < self._grid[1]:
                yield row * self._grid[1] + column

    def _want(self, level: int, plane: int, box: Box) -> None:
        """Note what is looked at, unless it is the whole."""
        near = list(self._blocks(level, box))
        if len(near) <= NEAR:
            with self._lock:
                self._wanted = [(plane, number) for number in near]


def _shapes(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Heights and widths of the smaller copies."""
    while max(height, width) > SMALLEST:
        height, width = -(-height // 2), -(-width // 2)
        yield height, width


def _block(height: int, width: int, itemsize: int, n_levels: int, stored_yx: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the blocks, multiples of what becomes one pixel of the smallest copy."""
    grain = 1 << n_levels
    side = max(SIDE, grain)
    while side > max(grain, CHUNK) and side**2 * itemsize > BLOCK_BYTES:
        side //= 2
    if stored_yx is None or stored_yx[1] < width:
        return side, side
    # Whole rows, so that none is read twice; but not where they are too wide.
    rows = min(max(BLOCK_BYTES // (width * itemsize) // grain, 1) * grain, side)
    if rows * width * itemsize > 4 * BLOCK_BYTES:
        return side, side
    return rows, -(-width // grain) * grain


def _reader(array: Any, n_planes_axes: int) -> Callable[[int, Box], np.ndarray]:
    def read(plane: int, box: Box) -> np.ndarray:
        where = [int(i) for i in np.unravel_index(plane, array.shape[:n_planes_axes])] if n_planes_axes else []
        return np.asarray(array[(*where, *(slice(span.start, span.stop) for span in box))])

    return read

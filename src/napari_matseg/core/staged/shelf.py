"""Maps that wait for their use: in memory, and what does not fit there in a temporary file."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from typing import IO, TYPE_CHECKING

import torch

from napari_matseg.core.staged.ops import Part

if TYPE_CHECKING:
    from torch import Tensor

    from napari_matseg.core.staged.ops import Region

Key = tuple[int, int, int]


class Shelf:
    """Chunks of maps by step, row and column of chunks.

    Parameters
    ----------
    room : int
        Bytes that may be held in memory; what comes when it is full goes to a file, in half precision.

    Attributes
    ----------
    largest : int
        Most bytes that were held in memory at a time.
    written : int
        Bytes that went to the file.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._here: dict[Key, Part] = {}
        self._there: dict[Key, tuple[int, Region, torch.Size, torch.dtype, torch.device]] = {}
        self._rows: dict[int, dict[int, set[int]]] = defaultdict(dict)
        self._file: IO[bytes] | None = None
        self._held = 0
        self.largest = 0
        self.written = 0

    def put(self, key: Key, part: Part) -> None:
        """Keep a chunk."""
        step, row, column = key
        size = part.maps.nbytes
        if self._held + size <= self._room:
            self._here[key] = part
            self._held += size
            self.largest = max(self.largest, self._held)
        else:
            self._write(key, part)
        self._rows[step].setdefault(row, set()).add(column)

    def get(self, key: Key) -> Part | None:
        """Give a chunk, if it was kept and not dropped."""
        return self._here.get(key) or (self._read(key) if key in self._there else None)

    def rows(self, step: int) -> dict[int, set[int]]:
        """Give the columns of the chunks that are kept of a map, by row."""
        return self._rows[step]

    def drop(self, step: int, row: int) -> None:
        """Let a row of chunks go."""
        for column in self._rows[step].pop(row, ()):
            part = self._here.pop((step, row, column), None)
            self._held -= 0 if part is None else part.maps.nbytes
            self._there.pop((step, row, column), None)

    def close(self) -> None:
        """Let everything go."""
        self._here.clear()
        self._there.clear()
        if self._file is not None:
            self._file.close()

    def _write(self, key: Key, part: Part) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()
        maps = part.maps
        half = (maps.half() if maps.dtype == torch.float32 else maps).permute(0, 2, 3, 1).contiguous().cpu()
        place = self._file.seek(0, 2)
        self._file.write(half.flatten().view(torch.uint8).numpy().data)
        self.written += half.nbytes
        self._there[key] = (place, part.where, half.shape, maps.dtype, maps.device)

    def _read(self, key: Key) -> Part:
        place, where, shape, dtype, device = self._there[key]
        stored = torch.float16 if dtype == torch.float32 else dtype
        assert self._file is not None  # noqa: S101 - made when the chunk was written
        self._file.seek(place)
        raw = bytearray(self._file.read(shape.numel() * stored.itemsize))
        half = torch.frombuffer(raw, dtype=stored).reshape(shape).permute(0, 3, 1, 2)
        return Part(half.to(device, dtype), where)


def assemble(parts: list[Part], region: Region) -> Tensor:
    """Put a region together from parts that cover it."""
    if len(parts) == 1:
        return parts[0].cut(region)
    first = parts[0].maps
    maps = torch.empty(
        (1, first.shape[1], region.height, region.width),
        dtype=first.dtype,
        device=first.device,
        memory_format=torch.channels_last,
    )
    whole = Part(maps, region)
    for part in parts:
        shared = part.where.meet(region)
        whole.cut(shared).copy_(part.cut(shared))
    return maps

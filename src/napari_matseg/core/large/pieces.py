"""What was found in each part, in files: one for each part and map, written whole or not at all.

That a file is there says that its part is done: there is no other journal. So any process that sees the folder can
write pieces, in any order, and twice does no harm.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np

from napari_matseg.core.export import replacing
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from napari_matseg.core.large.parts import Part
    from napari_matseg.core.pixels import Box

DTYPES = {
    "classes": np.uint8,
    "depth": np.float32,
    "probabilities": np.float32,
    "roots": np.uint32,
    "objects": np.uint32,
}
LEVEL = 3  # of zstd
MOST_BYTES = 256 * 2**20
"""Of pieces that are kept in memory while they are read."""


class Pieces:
    """The pieces of all planes of a micrograph.

    Parameters
    ----------
    folder : Path
        Made when it is needed.
    parts : sequence of Part
        They cover a plane.
    """

    def __init__(self, folder: Path, parts: Sequence[Part]) -> None:
        self._folder = folder
        self.parts = parts
        edges = np.array([(part.top, part.bottom, part.left, part.right) for part in parts])
        self._top, self._bottom, self._left, self._right = edges.T
        self.shape_yx = int(self._bottom.max()), int(self._right.max())
        self._kept: OrderedDict[tuple[int, int, str], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, plane: int, number: int, kind: str, values: np.ndarray) -> None:
        """Write a piece.

        Parameters
        ----------
        plane, number : int
            Which plane, and which part of it.
        kind : str
            One of `DTYPES`.
        values : array, shape (..., height, width) of the part

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        path = self._path(plane, number, kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = np.ascontiguousarray(values, DTYPES[kind])
        with replacing(path) as temporary:
            temporary.write_bytes(imagecodecs.zstd_encode(data.tobytes(), LEVEL))

    def get(self, plane: int, number: int, kind: str) -> np.ndarray:
        """Read a piece, shape (..., height, width) of the part; it is not to be written to.

        Raises
        ------
        InputError
            If it is not there, or damaged.
        """
        key = plane, number, kind
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        path, part = self._path(plane, number, kind), self.parts[number]
        try:
            data = np.frombuffer(imagecodecs.zstd_decode(path.read_bytes()), DTYPES[kind])
            piece = data.reshape(-1, *part.shape) if kind == "probabilities" else data.reshape(part.shape)
        except (OSError, ValueError, imagecodecs.ZstdError) as error:
            raise InputError(f"{path}: is damaged ({error}); delete the folder it is in, and start again.") from error
        with self._lock:
            self._kept[key] = piece
            while sum(one.nbytes for one in self._kept.values()) > MOST_BYTES and len(self._kept) > 1:
                self._kept.popitem(last=False)
        return piece

    def done(self, plane: int, kind: str) -> set[int]:
        """Find the numbers of the parts of which there is a piece."""
        folder = self._path(plane, 0, kind).parent
        return {int(path.stem) for path in folder.glob(f"[0-9]*.{kind}")}

    def drop(self, kinds: Iterable[str]) -> None:
        """Delete all pieces of some kinds."""
        for kind in kinds:
            for path in self._folder.glob(f"*/[0-9]*.{kind}"):
                path.unlink(missing_ok=True)
        with self._lock:
            self._kept.clear()

    def lazy(self, kind: str, plane: int, *, fill: bool = False) -> LazyPixels:
        """Make an array, shape (height, width), of the pieces of a plane, which are read when they are sliced.

        Of probabilities the shape is (classes, height, width). With `fill`, pieces that are not there yet are 0.
        """
        if kind == "probabilities":
            n = len(self.get(plane, 0, kind))
            return LazyPixels(
                (n, *self.shape_yx), np.dtype(DTYPES[kind]), 1, lambda i, box: self._box(kind, plane, box, i)
            )
        return LazyPixels(
            self.shape_yx, np.dtype(DTYPES[kind]), 0, lambda _, box: self._box(kind, plane, box, fill=fill)
        )

    def _box(self, kind: str, plane: int, box: Box, channel: int | None = None, *, fill: bool = False) -> np.ndarray:
        rows, columns = box
        there = (self._top < rows.stop) & (self._bottom > rows.start)
        there &= (self._left < columns.stop) & (self._right > columns.start)
        result = np.zeros((len(rows), len(columns)), DTYPES[kind])
        for number in np.flatnonzero(there).tolist():
            part = self.parts[number]
            top, bottom = max(rows.start, part.top), min(rows.stop, part.bottom)
            left, right = max(columns.start, part.left), min(columns.stop, part.right)
            try:
                piece = self.get(plane, number, kind)
            except InputError:
                if fill:
                    continue
                raise
            piece_yx = piece if channel is None else piece[channel]
            from_yx = piece_yx[top - part.top : bottom - part.top, left - part.left : right - part.left]
            result[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start] = from_yx
        return result

    def _path(self, plane: int, number: int, kind: str) -> Path:
        return self._folder / f"plane-{plane}" / f"{number:06d}.{kind}"

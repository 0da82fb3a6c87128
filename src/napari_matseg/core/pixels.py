"""Pixels as they are meant to be seen: grey stays grey, and large images stay in their file.

Instruments write grey as a palette, as RGB with three equal channels, or with an alpha that hides nothing. The
functions here undo that. A palette or RGB image that has colour is true colour, red, green and blue.
"""

from __future__ import annotations

from itertools import product
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.micrograph import LUMINANCE

if TYPE_CHECKING:
    from collections.abc import Callable

Box = tuple[range, range]

LAZY_BYTES = 128 * 2**20
"""Images larger than this stay in their file."""


def native_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype in this machine's byte order; uint8 for bits, as 0 and 1 are the class ids of a mask."""
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def native(image: np.ndarray) -> np.ndarray:
    """Convert to `native_dtype`."""
    return image.astype(native_dtype(image.dtype), copy=False)


def invert(image: np.ndarray, bits: int) -> np.ndarray:
    """Turn an image in which the smallest value is white into one in which it is black.

    Parameters
    ----------
    image : array
        Unsigned or signed integers, or floats.
    bits : int
        Bits per pixel in the file, which say what the largest unsigned value is.
    """
    if image.dtype.kind == "u":
        inverted: np.ndarray = (2**bits - 1) - image
    else:
        inverted = ~image if image.dtype.kind == "i" else -image
    return inverted


def palette_table(colours: np.ndarray) -> np.ndarray:
    """Find what the indices of a palette image stand for.

    Parameters
    ----------
    colours : array of integers, shape (n, 3)
        Red, green and blue; of 8 bits, or 16 (where they have more than 8 bits, the dtype keeps them).

    Returns
    -------
    table : array of uint8 or uint16, shape (n,) for grey, (n, 3) for colour
        Grey if all entries are; or if all but an eighth are, of at least 64 levels: SEM software keeps some entries of
        its grey ramp for coloured marks. Those become their luminance.
    """
    colours = np.asarray(colours)
    if colours.size and colours.max() > 255:
        high = colours >> 8
        keeps = len(np.unique(high, axis=0)) == len(np.unique(colours, axis=0))
        colours = high.astype(np.uint8) if keeps else colours.astype(np.uint16)
    else:
        colours = colours.astype(np.uint8)
    distinct = np.unique(colours, axis=0)
    greys = np.count_nonzero((distinct == distinct[:, :1]).all(axis=1))
    is_grey = greys == len(distinct) or (greys >= 64 and greys >= 0.875 * len(distinct))
    return as_grey(colours) if is_grey else colours


def look_up(indices: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Values of the indices, black for those that the table lacks."""
    missing = int(indices.max(initial=0)) + 1 - len(table)
    if missing > 0:
        table = np.concatenate([table, np.zeros((missing, *table.shape[1:]), table.dtype)])
    values: np.ndarray = table[indices]
    return values


def has_equal_channels(image: np.ndarray) -> bool:
    """Whether red, green and blue (the last axis) agree in every pixel."""
    return bool((image[..., :1] == image[..., 1:]).all() if image.dtype.kind != "f" else _equal_floats(image))


def _equal_floats(image: np.ndarray) -> bool:
    return all(np.array_equal(image[..., 0], image[..., channel], equal_nan=True) for channel in (1, 2))


def as_grey(image: np.ndarray) -> np.ndarray:
    """One channel from three: as it is where they agree, else the luminance, in the same dtype."""
    grey = image[..., 0]
    if has_equal_channels(image):
        return np.ascontiguousarray(grey)
    luminance = image.astype(np.float64) @ LUMINANCE.astype(np.float64)
    if image.dtype.kind in "ui":
        luminance = np.rint(luminance)
    return np.where((image == image[..., :1]).all(axis=-1), grey, luminance).astype(image.dtype)


class LazyPixels:
    """Pixels that stay in their file; a slice reads what it needs, and is a numpy array.

    Takes integers, slices and an ellipsis, as dask and napari do; `np.asarray` reads all of it.

    Parameters
    ----------
    shape : tuple of int
        Of the planes axes, then height and width, then 3 if it is colour.
    dtype : numpy.dtype
        Of the pixels.
    n_planes_axes : int
        How many axes come before height and width.
    read : callable
        Gives a box of a plane, from the plane's number (over the planes axes in C order) and the rows and columns;
        shape (rows, columns) or (rows, columns, 3).
    block_yx : (int, int), optional
        Height and width of what the file has to be read by.

    Attributes
    ----------
    block_yx : (int, int) or None
        None where a part costs what it holds.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype,
        n_planes_axes: int,
        read: Callable[[int, Box], np.ndarray],
        block_yx: tuple[int, int] | None = None,
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.block_yx = block_yx
        self._n_planes_axes = n_planes_axes
        self._read = read

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        """Length of the first axis."""
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read everything."""
        if copy is False:
            raise ValueError("pixels that stay in their file cannot be had without a copy")
        return self[...].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read what a key of integers, slices and at most one ellipsis selects."""
        wanted = self._select(key)
        n = self._n_planes_axes
        # An integer selects as a range of one would, and its axis is dropped in the end.
        ranges = [range(item, item + 1) if isinstance(item, int) else item for item in wanted]
        boxed = [_ascending(item) for item in ranges[n : n + 2]]
        result = np.empty([len(item) for item in ranges], self.dtype)
        if result.size:
            rows, columns = (slice(None, None, item.step) for item in ranges[n : n + 2])
            part: Any = (rows, columns, *(list(item) for item in ranges[n + 2 :]))
            for target, plane in zip(np.ndindex(*result.shape[:n]), product(*ranges[:n]), strict=True):
                number = int(np.ravel_multi_index(plane, self.shape[:n])) if n else 0
                result[target] = self._read(number, (boxed[0], boxed[1]))[part]
        return result[tuple(0 if isinstance(item, int) else slice(None) for item in wanted)]

    def _select(self, key: Any) -> list[int | range]:
        """For each axis an index that is in bounds, or a range of indices."""
        keys = list(key) if isinstance(key, tuple) else [key]
        gaps = [place for place, item in enumerate(keys) if item is Ellipsis]
        if len(gaps) > 1 or len(keys) - len(gaps) > self.ndim:
            raise IndexError(f"too many indices for {self.ndim} axes")
        place = gaps[0] if gaps else len(keys)
        keys[place : place + 1] = [slice(None)] * (self.ndim - len(keys) + len(gaps))
        return [
            range(length)[item if isinstance(item, slice) else index(item)]
            for length, item in zip(self.shape, keys, strict=True)
        ]


def _ascending(indices: range) -> range:
    """Return the smallest run of consecutive numbers that holds these."""
    if not indices:
        return range(0)
    first, last = sorted((indices[0], indices[-1]))
    return range(first, last + 1)

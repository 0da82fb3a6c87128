"""What a large image looks like, from few parts of it, and at half the size."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from napari_matseg.core.pixels import LazyPixels

GRIDS, WINDOW = (8, 16, 32, 64), 16
"""Samples along a side, tried one after the other, and pixels along the side of one."""
SAMPLE_S = 0.6
"""Time for samples; the first grid is read in any case."""

Kind = Literal["image", "labels"]


class Sample(NamedTuple):
    """What few parts of a plane show.

    Attributes
    ----------
    coarse : array, shape (n, n) or (n, n, 3)
        One pixel for each cell of a grid.
    low, high : float
        Smallest and largest value that was met, of those that are finite.
    """

    coarse: np.ndarray
    low: float
    high: float


def halve(image: np.ndarray, kind: Kind = "image") -> np.ndarray:
    """Make an image of half the side: means of 2 x 2 pixels, or every second label.

    Parameters
    ----------
    image : array, shape (height, width) or (height, width, 3)
        Of any real dtype, which is kept. At odd ends the last row or column counts twice.
    kind : "image" or "labels"

    Examples
    --------
    >>> halve(np.array([[0, 1, 9], [2, 3, 9]], np.uint8))
    array([[2, 9]], dtype=uint8)
    """
    if kind == "labels":
        return np.ascontiguousarray(image[::2, ::2])
    odd = [(0, side % 2) for side in image.shape[:2]] + [(0, 0)] * (image.ndim - 2)
    if any(more for _, more in odd):
        image = np.pad(image, odd, mode="edge")
    whole = image.dtype.kind in "ui" and image.dtype.itemsize < 8
    wide = np.dtype(f"{image.dtype.kind}{2 * image.dtype.itemsize}") if whole else np.dtype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        rows = image[::2].astype(wide) + image[1::2]
        sums = rows[:, ::2] + rows[:, 1::2]
        if whole:
            mean = (sums + 2) >> 2
        else:
            mean = np.rint(sums / 4) if image.dtype.kind in "ui" else sums / 4
        half: np.ndarray = mean.astype(image.dtype)
    return half


def take_sample(pixels: LazyPixels, plane: tuple[int, ...], is_colour: bool, kind: Kind) -> Sample:
    """Look at few parts of a plane: as many as can be read in a fraction of a second.

    Parameters
    ----------
    pixels : LazyPixels
    plane : tuple of int
        Indices of the axes before height and width.
    is_colour : bool
    kind : "image" or "labels"
    """
    started = time.perf_counter()
    for n in GRIDS:
        sample = look(pixels, plane, is_colour, kind, n)
        if 5 * (time.perf_counter() - started) > SAMPLE_S:
            break  # the next grid would take four times as long
    return sample


def look(pixels: LazyPixels, plane: tuple[int, ...], is_colour: bool, kind: Kind, n: int) -> Sample:
    """Take n x n samples of a plane."""
    height, width = pixels.shape[-3:-1] if is_colour else pixels.shape[-2:]
    block_yx = pixels.block_yx or (1, 1)
    by_rows = block_yx[1] >= width
    rows, columns = (_places(side, n, block) for side, block in zip((height, width), block_yx, strict=True))
    values = []
    low, high = np.inf, -np.inf
    for y in rows:
        strip = pixels[(*plane, slice(y, y + WINDOW))] if by_rows else None
        for x in columns:
            where = (slice(y, y + WINDOW), slice(x, x + WINDOW))
            window = pixels[(*plane, *where)] if strip is None else strip[:, where[1]]
            known = window[np.isfinite(window)] if window.dtype.kind == "f" else window
            if known.size:
                low, high = min(low, float(known.min())), max(high, float(known.max()))
            with np.errstate(over="ignore", invalid="ignore"):
                values.append(window[0, 0] if kind == "labels" else window.mean(axis=(0, 1), dtype=np.float64))
    if not low < high:
        low, high = (low, low + 1) if np.isfinite(low) else (0.0, 1.0)
    return Sample(np.array(values).reshape(n, n, *([3] * is_colour)).astype(pixels.dtype), low, high)


def _places(side: int, n: int, block: int) -> list[int]:
    """Where windows begin along a side, each in the middle of a block of the file."""
    middles = [(2 * i + 1) * side // (2 * n) // block * block + block // 2 for i in range(n)]
    return [min(max(middle - WINDOW // 2, 0), max(side - WINDOW, 0)) for middle in middles]

"""Images made small enough to be looked at whole, whatever their size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

BAND = 1 << 24
"""Pixels of a large image that are in memory at a time."""


def shrink_image(image_yx: np.ndarray, longest: int) -> NDArray[np.float32]:
    """Shrink an image by averaging over the area of each new pixel.

    Parameters
    ----------
    image_yx : array, shape (height, width)
        Of any numeric type; lazily sliced arrays are read a band at a time.
    longest : int
        Pixels on the longer side at most; a smaller image stays as it is.

    Returns
    -------
    float32 array
        With the aspect of the image. NaN where any pixel in the area is.
    """
    height, width = image_yx.shape
    # Whole blocks first, down to less than twice the size, which needs no more memory than a band and the result.
    block = max(max(height, width) // longest, 1)
    columns = np.arange(0, width, block)
    rows = max(BAND // (width * block), 1) * block
    bands = []
    for top in range(0, height, rows):
        band = np.asarray(image_yx[top : top + rows], np.float32)
        if block > 1:
            starts = np.arange(0, len(band), block)
            pixels = np.outer(np.diff(starts, append=len(band)), np.diff(columns, append=width))
            sums = np.add.reduceat(np.add.reduceat(band, starts, axis=0, dtype=np.float64), columns, axis=1)
            band = (sums / pixels).astype(np.float32)
        bands.append(band)
    image = np.concatenate(bands)
    shape = shrunk_shape((height, width), longest)
    if image.shape == shape:
        return image
    # Blocks at the end may be cut, so that the image ends within its last row and column.
    box = (0.0, 0.0, width / block, height / block)
    resized = Image.fromarray(image).resize(shape[::-1], Image.Resampling.BOX, box=box)
    return np.asarray(resized, np.float32)


def shrink_labels(labels_yx: np.ndarray, longest: int) -> np.ndarray:
    """Shrink labels to the shape that `shrink_image` gives, by taking the one in the middle of each new pixel."""
    shape = shrunk_shape(labels_yx.shape, longest)
    rows, columns = (
        ((np.arange(new) + 0.5) * side / new).astype(np.intp) for new, side in zip(shape, labels_yx.shape, strict=True)
    )
    return np.stack([np.asarray(labels_yx[row])[columns] for row in rows])


def shrunk_shape(shape_yx: tuple[int, ...], longest: int) -> tuple[int, int]:
    """Height and width with the same aspect, the longer at most so long.

    Examples
    --------
    >>> shrunk_shape((2000, 1000), 900), shrunk_shape((20, 10), 900)
    ((900, 450), (20, 10))
    """
    height, width = shape_yx
    scale = min(longest / max(height, width), 1.0)
    return max(round(height * scale), 1), max(round(width * scale), 1)

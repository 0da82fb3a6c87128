"""Perimeters by Crofton's formula: from how often lines of four directions cross an outline.

The length of a curve is pi/2 times the mean, over directions, of the number of its crossings with parallel lines
times their distance. Of the directions there are four here, along the rows, the columns and both diagonals of the
pixels, each standing for the angles that are nearer to it than to the others: Ohser and Mücklich, Statistical
Analysis of Microstructures in Materials Science, Wiley 2000, and Legland, Kiêu and Devaux, Image Anal. Stereol. 26
(2007) 83, doi 10.5566/ias.v26.p83-92.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ABOVE = (0, -1, 1)  # columns from a pixel to its neighbours in the row above


def joined(
    band_yx: NDArray[Any], before: NDArray[Any] | None, start: NDArray[np.int64], length: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count in each run the pixels that have a neighbour of the same object above, above left and above right.

    Parameters
    ----------
    band_yx : integer array, shape (height, width)
        Ids of objects.
    before : integer array, shape (width,), or None
        The row above the band; None where there is none.
    start, length : int64 arrays, shape (n_runs,)
        Index of the first pixel of each run in the raveled band, and number of its pixels.

    Returns
    -------
    int64 array, shape (3, n_runs)
    """
    height, width = band_yx.shape
    counts = np.zeros((len(ABOVE), start.size), np.int64)
    for direction, shift in enumerate(ABOVE):
        here = slice(max(0, -shift), width - max(0, shift))
        there = slice(max(0, shift), width - max(0, -shift))
        equal = np.zeros(band_yx.shape, bool)
        np.equal(band_yx[1:, here], band_yx[:-1, there], out=equal[1:, here])
        if before is not None and height:
            np.equal(band_yx[0, here], before[there], out=equal[0, here])
        until = np.zeros(band_yx.size + 1, np.int32)
        np.cumsum(equal, out=until[1:])
        counts[direction] = until[start + length] - until[start]
    return counts


def perimeters(
    area: NDArray[np.int64], n_runs: NDArray[np.int64], above: NDArray[np.int64], pixel: tuple[float, float]
) -> NDArray[np.float64]:
    """Estimate the length of the outlines of objects, those of their holes included.

    A line crosses an outline between a pixel of the object and the next one, if that is none or lies outside the
    image: where the frame cuts an object, the cut counts as outline.

    Parameters
    ----------
    area, n_runs : int64 arrays, shape (n,)
        Pixels, and runs in rows, of each object.
    above : int64 array, shape (3, n)
        What `joined` counts, summed over the runs of each object.
    pixel : (float, float)
        Height and width of a pixel, in any unit; perimeters are in the same.

    Returns
    -------
    float64 array, shape (n,)

    Examples
    --------
    A single pixel has two ends in each of the directions:

    >>> perimeters(np.array([1]), np.array([1]), np.zeros((3, 1), int), (1.0, 1.0)).round(3)
    array([2.682])
    """
    height, width = pixel
    diagonal = float(np.hypot(height, width))
    slope = np.arctan2(height, width)
    # Of the half circle, a direction has the sector that ends halfway to its neighbours.
    along_rows, along_columns, along_diagonal = slope / np.pi, 0.5 - slope / np.pi, 0.25
    crossings = 2 * np.stack([n_runs, *(area - above)])
    weights = np.array(
        [
            along_rows * height,
            along_columns * width,
            *[along_diagonal * height * width / diagonal] * 2,
        ]
    )
    total: NDArray[np.float64] = np.pi / 2 * (weights @ crossings)
    return total

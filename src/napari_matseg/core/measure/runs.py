"""Labels as runs: what is measured along rows needs to look at each pixel once, and at few numbers after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

BAND = 1 << 22  # pixels that are looked at together


def bands(first: int, stop: int, width: int) -> Iterator[slice]:
    """Give the rows from `first` to below `stop` in bands of at most `BAND` pixels; a single empty one of no rows.

    Parameters
    ----------
    first, stop : int
    width : int
        Pixels in a row.

    Examples
    --------
    >>> list(bands(10, 12, 5))
    [slice(10, 12, None)]
    """
    step = max(1, BAND // max(width, 1))
    for top in range(first, max(stop, first + 1), step):
        yield slice(top, max(top, min(top + step, stop)))


def runs(
    labels_yx: NDArray[Any],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find the runs of equal pixels in each row that are not 0.

    Parameters
    ----------
    labels_yx : integer array, shape (height, width)
        Ids of objects, below 2**63; 0 is none.

    Returns
    -------
    labels, y, x, length : int64 arrays, shape (n_runs,)
        Id, row, first column and number of pixels of each run, row by row and from left to right.

    Examples
    --------
    >>> [column.tolist() for column in runs(np.array([[0, 7, 7], [7, 0, 2]]))]
    [[7, 7, 2], [0, 1, 1], [1, 0, 2], [2, 1, 1]]
    """
    begins = np.ones(labels_yx.shape, bool)
    np.not_equal(labels_yx[:, 1:], labels_yx[:, :-1], out=begins[:, 1:])
    start = np.flatnonzero(begins)
    length = np.diff(start, append=labels_yx.size)
    labels = labels_yx[begins]
    kept = labels > 0
    y, x = np.divmod(start[kept], labels_yx.shape[1])
    return labels[kept].astype(np.int64), y, x, length[kept]


def firsts(*keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find where each group of equal rows of sorted columns begins, for `numpy.ufunc.reduceat`.

    Parameters
    ----------
    *keys : int64 arrays of equal length
        Sorted, so that equal ones are neighbours.

    Examples
    --------
    >>> firsts(np.array([3, 3, 5, 5, 5])).tolist()
    [0, 2]
    """
    other = np.ones(keys[0].size, bool)
    for n, key in enumerate(keys):
        differ = key[1:] != key[:-1]
        other[1:] = differ if n == 0 else other[1:] | differ
    return np.flatnonzero(other)

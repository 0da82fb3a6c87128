"""Convex hulls of many objects at once, and what callipers measure on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.measure.runs import firsts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Chain = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def left_chain(k: NDArray[np.int64], y: NDArray[np.int64], x: NDArray[np.int64]) -> Chain:
    """Keep the points of objects that are the left side of their convex hulls, in exact integers.

    The right side is that of the points with -x.

    Parameters
    ----------
    k, y, x : int64 arrays, shape (n_points,)
        Index of the object, row and column of each point, by ascending object and, within it, row; several points
        of an object may lie in one row.

    Returns
    -------
    k, y, x : int64 arrays, shape (n_vertices,)
        Vertices of the hulls from the leftmost point of the first row to that of the last one, in the same order,
        without points within an edge.

    Examples
    --------
    >>> k = np.zeros(5, int)
    >>> [column.tolist() for column in left_chain(k, np.arange(5), np.array([2, 2, 1, 0, 2]))]
    [[0, 0, 0], [0, 3, 4], [2, 0, 2]]
    """
    start = firsts(k, y)
    points = np.stack([k[start], y[start], np.minimum.reduceat(x, start) if x.size else x])
    settled = []
    while points.size:
        k, y, x = points
        # What lies on or to the right of the line between two others is no vertex, whichever else is none: all such
        # points can go at once.
        inner = np.zeros(k.size, bool)
        inner[1:-1] = (k[:-2] == k[2:]) & (
            (x[1:-1] - x[:-2]) * (y[2:] - y[:-2]) >= (x[2:] - x[:-2]) * (y[1:-1] - y[:-2])
        )
        moving = np.zeros(k[-1] + 1, bool)
        moving[k[inner]] = True
        still = moving[k]
        settled.append(points[:, ~still])
        points = points[:, still & ~inner]
    chains = np.concatenate([points, *settled], axis=1)
    k, y, x = chains[:, np.lexsort((chains[1], chains[0]))]
    return k, y, x


def corners(k: NDArray[np.int64], y: NDArray[np.int64], x: NDArray[np.int64]) -> Chain:
    """Give the two rows of pixel corners, y and y + 1, for each row of pixels; the order of `left_chain` is kept."""
    return np.repeat(k, 2), np.stack([y, y + 1], axis=1).ravel(), np.repeat(x, 2)


def ferets(
    left: Chain, right: Chain, pixel: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Measure convex hulls with callipers, and their areas.

    The extremes over all directions are exact: the largest width of a convex polygon is the distance of two of its
    vertices, and at the smallest one jaw lies along an edge (Shamos 1978; Toussaint, Proc. IEEE MELECON 1983).

    Parameters
    ----------
    left, right : tuples of int64 arrays
        What `left_chain` gives for the points, and for those with -x; objects are numbered from 0 without gaps.
    pixel : (float, float)
        Height and width of a pixel, in any unit; lengths are in the same.

    Returns
    -------
    longest, shortest, area : float64 arrays, shape (n_objects,)
        Maximum and minimum Feret diameter, and area of the hull.
    """
    (k, y, x), side = (
        np.concatenate([left, (right[0], right[1], -right[2])], axis=1),
        np.repeat([0, 1], [left[0].size, right[0].size]),
    )
    # Down the left side and up the right one: the angles of the edges, seen on screen, grow from -pi to pi.
    order = np.lexsort((np.where(side, -y, y), side, k))
    k, y, x = k[order], y[order], x[order]
    start = firsts(k)
    if not start.size:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    following, preceding = np.arange(1, k.size + 1), np.arange(-1, k.size - 1)
    following[np.append(start[1:], k.size) - 1] = start
    preceding[start] = np.append(start[1:], k.size) - 1

    area = np.add.reduceat(y * x[following] - y[following] * x, start) * (0.5 * pixel[0] * pixel[1])
    # From a corner of the object itself, or the far side of a large image would cost digits.
    up, across = (y[start][k] - y) * pixel[0], (x - x[start][k]) * pixel[1]
    edge_up, edge_across = up[following] - up, across[following] - across
    turn = np.arctan2(edge_up, edge_across) / (2 * np.pi) + 0.5
    opposite = np.searchsorted(k + turn, k + np.where(turn > 0.5, turn - 0.5, turn + 0.5))
    longest, shortest = np.zeros(k.size), np.zeros(k.size)
    # The vertex opposite an edge is where the edges turn back; where two edges are parallel, rounding may have
    # found the one beside it.
    for vertex in (preceding[opposite], opposite, following[opposite]):
        there_up, there_across = up[vertex] - up, across[vertex] - across
        np.maximum(longest, np.hypot(there_up, there_across), out=longest)
        np.maximum(longest, np.hypot(there_up - edge_up, there_across - edge_across), out=longest)
        np.maximum(shortest, np.abs(edge_across * there_up - edge_up * there_across), out=shortest)
    shortest /= np.hypot(edge_up, edge_across)
    return np.maximum.reduceat(longest, start), np.minimum.reduceat(shortest, start), area

"""Drawn shapes as runs of pixels, and the painting of them.

Coordinates of shapes are those of pixel corners, as in ImageJ and COCO: the first pixel reaches from 0 to 1 both ways,
and its centre is at (0.5, 0.5). A pixel is inside where its centre is; a centre on the outline itself is inside if the
outline is the shape's upper or left side, so that shapes that share a side share no pixel and leave none out. The
square with corners (0, 0) and (10, 10) covers 10 x 10 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

FARTHEST = 1e7  # px; a coordinate beyond is no place in an image
MOST_RUNS = 2**25
MOST_CROSSINGS = 2**23  # of the sides of one shape with rows
MOST_LAYERS = 100  # times that shapes may cover the image, all of them together
CHUNK = 2**21  # pixels or crossings at a time


@dataclass(frozen=True, eq=False)
class Spans:
    """Runs of pixels in a plane, each of one shape.

    Attributes
    ----------
    owner : int64 array, shape (n_runs,)
        Number of the shape, from 0.
    start : int64 array, shape (n_runs,)
        First pixel, counted along the rows.
    length : int64 array, shape (n_runs,)
    step : int64 array, shape (n_runs,)
        From one pixel to the next: 1 along a row, the width of the plane down a column.
    """

    owner: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    step: NDArray[np.int64]

    @classmethod
    def join(cls, parts: Sequence[Spans]) -> Spans:
        """Put several together."""
        empty = np.zeros(0, dtype=np.int64)
        return cls(
            np.concatenate([empty, *(part.owner for part in parts)]),
            np.concatenate([empty, *(part.start for part in parts)]),
            np.concatenate([empty, *(part.length for part in parts)]),
            np.concatenate([empty, *(part.step for part in parts)]),
        )

    def areas(self, n_shapes: int) -> NDArray[np.int64]:
        """Pixels of each shape."""
        return np.bincount(self.owner, self.length, n_shapes).astype(np.int64)


def fill(
    rings: Sequence[NDArray[np.float64]],
    parts: Sequence[int],
    owners: Sequence[int],
    shape_yx: tuple[int, int],
    name: str = "outlines",
) -> Spans:
    """Find the pixels inside polygons.

    Parameters
    ----------
    rings : sequence of float arrays, shape (n, 2)
        x and y of the corners of each ring, which is closed from the last to the first.
    parts : sequence of int
        The part, counted from 0, that each ring is of: a pixel is inside a part if an odd number of its rings goes
        round it, so that a ring in a ring is a hole.
    owners : sequence of int
        The shape, counted from 0, that each part is of, in ascending order; it has the pixels of all its parts.
    shape_yx : (int, int)
        Height and width of the plane; what lies outside is cut off.
    name : str
        What to call the polygons in messages.

    Raises
    ------
    InputError
        If a coordinate is no place in an image, or the outlines are absurdly long.

    Notes
    -----
    Scan conversion: where the sides of each ring cross the line through the pixel centres of each row, taken in pairs.
    """
    height, width = shape_yx
    closed = [(part, ring) for part, ring in zip(parts, rings, strict=True) if len(ring) > 2]
    if not closed:
        return Spans.join([])
    lengths = np.array([len(ring) for _, ring in closed])
    part = np.repeat([part for part, _ in closed], lengths)
    points = np.concatenate([ring for _, ring in closed])
    following = np.arange(1, len(points) + 1)
    following[np.cumsum(lengths) - 1] -= lengths
    corners = np.hstack([points, points[following]])
    if not (np.abs(corners) <= FARTHEST).all():  # nor is NaN
        raise InputError(f"{name}: a corner is no place in an image; draw it again.")
    # Upwards or downwards, a side gives the same crossings: neighbours that share it agree.
    swap = corners[:, 1] > corners[:, 3]
    corners[swap] = corners[swap][:, [2, 3, 0, 1]]
    first, end = (np.clip(np.ceil(corners[:, i] - 0.5), 0, height).astype(np.int64) for i in (1, 3))
    n_rows = end - first
    owner_of = np.asarray(owners, dtype=np.int64)
    if n_rows.sum() > 2 * MOST_RUNS or np.bincount(owner_of[part], n_rows).max() > MOST_CROSSINGS:
        raise InputError(f"{name}: the outlines are absurdly long; draw fewer objects, or simpler ones.")
    spans = []
    for some in _batches(owner_of[part], n_rows):
        x0, y0, x1, y1 = corners[some].T
        side = np.repeat(np.arange(len(x0)), n_rows[some])
        row = first[some][side] + _count_up(n_rows[some])
        x = x0[side] + (row + 0.5 - y0[side]) * ((x1 - x0)[side] / (y1 - y0)[side])
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        crossings = np.sort((part[some][side] * height + row) * (width + 1) + column)
        line, begin = np.divmod(crossings[::2], width + 1)
        start = (owner_of[line // height] * height + line % height) * width + begin
        length = crossings[1::2] % (width + 1) - begin
        start, stop = _united(start[length > 0], (start + length)[length > 0])
        owner, start_in_plane = np.divmod(start, height * width)
        spans.append(Spans(owner, start_in_plane, stop - start, np.ones_like(start)))
    return Spans.join(spans)


def of_mask(mask_yx: NDArray[np.bool_], top: int, left: int, owner: int, shape_yx: tuple[int, int]) -> Spans:
    """Give the runs of a mask whose first pixel is at (top, left) of the plane, and which lies inside it."""
    change = np.diff(mask_yx.astype(np.int8), axis=1, prepend=0, append=0)
    y, begin = np.nonzero(change == 1)
    _, stop = np.nonzero(change == -1)
    start = (y + top) * shape_yx[1] + begin + left
    return Spans(np.full(len(y), owner), start, stop - begin, np.ones(len(y), dtype=np.int64))


def of_counts(counts: NDArray[np.int64], owner: int, shape_yx: tuple[int, int]) -> Spans:
    """Give the runs of a run-length code as COCO has it.

    Parameters
    ----------
    counts : int64 array
        How many pixels are outside, then inside, then outside the shape and so on, counted down the columns.
    owner : int
    shape_yx : (int, int)
        Of the plane, which the counts fill.
    """
    height, width = shape_yx
    stop = np.cumsum(counts)[1::2]
    begin = stop - counts[1::2]
    begin, stop = begin[stop > begin], stop[stop > begin]
    first = begin // height
    n_columns = (stop - 1) // height - first + 1
    run = np.repeat(np.arange(len(begin)), n_columns)
    column = first[run] + _count_up(n_columns)
    top = np.maximum(begin[run] - column * height, 0)
    bottom = np.minimum(stop[run] - column * height, height)
    return Spans(np.full(len(run), owner), top * width + column, bottom - top, np.full(len(run), width))


def paint(
    spans: Spans, order: NDArray[np.int64], shape_yx: tuple[int, int], name: str = "objects"
) -> NDArray[np.uint32]:
    """Paint shapes into a plane.

    Parameters
    ----------
    spans : Spans
    order : int64 array, shape (n_shapes,)
        Numbers of the shapes in the order of painting; what is painted later covers what is there.
    shape_yx : (int, int)
    name : str
        What to call the shapes in messages.

    Returns
    -------
    uint32 array, shape (height, width)
        Number of the shape and 1, or 0.

    Raises
    ------
    InputError
        If the shapes cover the plane absurdly often.
    """
    check_area(int(spans.length.sum()), shape_yx, name)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    runs = np.argsort(rank[spans.owner], kind="stable")
    plane = np.zeros(shape_yx, dtype=np.uint32)
    flat = plane.reshape(-1)
    for some in _batches(np.arange(len(runs)), spans.length[runs]):
        run = runs[some]
        length = spans.length[run]
        # Where a pixel comes up twice, numpy leaves the last value.
        pixel = np.repeat(spans.start[run], length) + np.repeat(spans.step[run], length) * _count_up(length)
        flat[pixel] = np.repeat((spans.owner[run] + 1).astype(np.uint32), length)
    return plane


def check_area(area: int, shape_yx: tuple[int, int], name: str) -> None:
    """Hold the pixels of all shapes together to what a person could have drawn, and a machine can hold.

    Raises
    ------
    InputError
        If they are absurdly many.
    """
    if area > max(MOST_LAYERS * shape_yx[0] * shape_yx[1], 2**24):
        raise InputError(
            f"{name}: the objects together have {area} pixels or more, many times those of the image; draw fewer, or "
            "give the image that they are of."
        )


def _batches(group: NDArray[np.int64], weight: NDArray[np.int64]) -> Iterator[slice]:
    """Cut a sequence between its groups, so that the weights of a piece come to no more than a chunk if they can."""
    end = np.flatnonzero(np.diff(group, append=-1)) + 1
    reached = np.cumsum(weight)[end - 1]
    begin = 0
    while begin < len(end):
        before = reached[begin - 1] if begin else 0
        stop = max(begin + 1, int(np.searchsorted(reached, before + CHUNK, side="right")))
        yield slice(end[begin - 1] if begin else 0, end[stop - 1])
        begin = stop


def _count_up(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, 2 and so on for each of the lengths, one after the other."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _united(start: NDArray[np.int64], stop: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Join intervals that overlap."""
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(stop[order])
    if not start.size:
        return start, reach
    new = np.flatnonzero(np.concatenate([[True], start[1:] >= reach[:-1]]))
    return start[new], reach[np.append(new[1:], len(start)) - 1]

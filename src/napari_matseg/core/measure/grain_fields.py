"""What the rules of ASTM E112 count in a field of grains, which is looked at strip by strip and may lie in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.large.components import components_steps
from napari_matseg.core.large.rows import RowsAhead, RowsOf
from napari_matseg.core.measure.runs import bands
from napari_matseg.core.progress import Progress
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

    Read = Callable[[slice], NDArray[Any]]

SPECK_PX = 25
TEST_LINES = 256  # in each direction of a field
MARGIN = 64  # rows above and below a strip in which the nearest grain is sought first
MOST_WIDE = 1 << 26  # pixels in which it is sought at most, beside those of a field that is no larger


@dataclass(frozen=True, eq=False)
class GrainField:
    """Counts of a field.

    Attributes
    ----------
    shape_yx : (int, int)
        Height and width in pixels.
    n_planar : float
        Grains, by what shows in the field and what its edge passes; see `grains.planimetric`.
    crossings, steps : float64 arrays, shape (4,)
        Boundaries crossed, and steps from pixel to pixel, by test lines along rows, columns and both diagonals.
    """

    shape_yx: tuple[int, int]
    n_planar: float
    crossings: NDArray[np.float64]
    steps: NDArray[np.float64]


def count_grains_steps(labels_yx: Any) -> Generator[Progress, None, GrainField]:
    """Count what there is in a field.

    Parameters
    ----------
    labels_yx : array of integers, one-channel PlaneView or RowsOf
        Grains, each in one piece; 0 where there is a boundary.

    Yields
    ------
    Progress
        In rows; closing the generator cancels.

    Raises
    ------
    InputError
        If boundaries are too wide for grains to be found around them part by part.
    """
    labels = labels_yx if isinstance(labels_yx, RowsOf) else RowsAhead(labels_yx)
    height, width = labels.shape
    edge = _Edge()
    lines = _Lines(height, width)
    grains = np.zeros(0, labels.dtype)
    widened = _Widened(labels.__getitem__, (height, width))
    for band in bands(0, height, width):
        yield Progress(band.start, height, "counting grains")
        part = labels[band]
        grains = np.union1d(grains, np.unique(part))
        edge.add(part)
        lines.add(widened[band])
    n_planar = int(np.count_nonzero(grains)) - edge.passed() / 2 - 1
    return GrainField((height, width), n_planar, lines.crossings, lines.steps)


def grains_in_steps(
    read: Read, shape: tuple[int, int], min_area_px: int = SPECK_PX
) -> Generator[Progress, None, Callable[[slice], NDArray[np.int32]]]:
    """Make labels of grains from boundaries; see `grains.grains_of`, which does it with an image in memory.

    Parameters
    ----------
    read : callable
        Gives some rows: a boolean array, shape (rows, width), True on boundaries.
    shape : (int, int)
        Of the field.
    min_area_px : int

    Returns
    -------
    callable
        Gives some rows of labels, int32; it should be asked from above, in bands.
    """
    pieces = yield from components_steps(lambda rows: ~read(rows), shape, slice(0, shape[0]), corners=False)
    areas = np.zeros(len(pieces.values) + 1, np.int64)
    for number, band in enumerate(bands(0, shape[0], shape[1])):
        yield Progress(band.start, shape[0], "looking for specks")
        areas += np.bincount(pieces.strip(number).ravel(), minlength=areas.size)
    kept = areas >= max(min_area_px, 1)
    kept[0] = False
    ids = (np.cumsum(kept) * kept).astype(np.int32)
    return _Widened(lambda rows: ids[pieces[rows]], shape).__getitem__


class _Widened:
    """Labels of which pixels of 0 go to the nearest grain."""

    def __init__(self, read: Read, shape: tuple[int, int]) -> None:
        self._read, self._shape = read, shape

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read rows."""
        from scipy import ndimage

        part = self._read(rows)
        height, width = self._shape
        margin = MARGIN
        while not part.all():
            first, stop = max(rows.start - margin, 0), min(rows.stop + margin, height)
            if (first, stop) != (0, height) and (stop - first) * width > max(MOST_WIDE, 3 * part.size):
                raise InputError(
                    f"labels of grains: a boundary is more than {margin // 2} px wide around row {rows.start}, too "
                    "wide to find the grains beside it in an image of this size; crop what is no grain away, or "
                    "measure smaller fields."
                )
            wide = self._read(slice(first, stop))
            inside = slice(rows.start - first, rows.stop - first)
            if not wide.any():
                if (first, stop) == (0, height):
                    return part
            else:
                away, nearest = ndimage.distance_transform_edt(wide == 0, return_indices=True)
                # What is nearer than any row that was not read is the nearest of all.
                y = np.arange(rows.start, rows.stop)[:, None]
                unread = np.minimum(
                    y - first + 1 if first > 0 else np.inf, stop - y if stop < height else np.inf
                )  # px to the nearest row beyond
                if (away[inside] < unread).all():
                    return np.asarray(wide[tuple(nearest[:, inside])])
            margin *= 2
        return part


class _Edge:
    """How often the edge of a field passes from one grain into another."""

    def __init__(self) -> None:
        self._left: list[NDArray[Any]] = []
        self._right: list[NDArray[Any]] = []
        self._top: NDArray[Any] | None = None
        self._bottom: NDArray[Any] | None = None

    def add(self, labels_yx: NDArray[Any]) -> None:
        if self._top is None:
            self._top = labels_yx[0].copy()
        self._bottom = labels_yx[-1].copy()
        self._left.append(labels_yx[:, 0].copy())
        self._right.append(labels_yx[:, -1].copy())

    def passed(self) -> int:
        if self._top is None or self._bottom is None:
            return 0
        left, right = np.concatenate(self._left), np.concatenate(self._right)
        edge = np.concatenate([self._top, right[1:-1], self._bottom[::-1], left[-2:0:-1]])
        edge = edge[edge > 0]
        return int(np.count_nonzero(edge != np.roll(edge, 1)))


class _Lines:
    """Test lines through a field: the grains that they meet, row after row."""

    def __init__(self, height: int, width: int) -> None:
        self.crossings, self.steps = np.zeros(4), np.zeros(4)
        self._rows, self._columns = _spread(0, height), _spread(0, width)
        # A diagonal is known by x - y; one that rises is one that falls in the image turned upside down.
        diagonals = _spread(1 - height, width)
        self._starts = [(diagonals, 1), (diagonals + height - 1, -1)]
        self._top = 0
        self._before: NDArray[Any] | None = None

    def add(self, labels_yx: NDArray[Any]) -> None:
        height, width = labels_yx.shape
        along = labels_yx[self._rows[(self._rows >= self._top) & (self._rows < self._top + height)] - self._top]
        self._count(0, along[:, 1:], along[:, :-1])
        whole = labels_yx if self._before is None else np.concatenate([self._before, labels_yx])
        down = whole[:, self._columns]
        self._count(1, down[1:], down[:-1])
        y = np.arange(1, len(whole))[:, None]
        of_image = y + (self._top + height - len(whole))
        for direction, (starts, step) in enumerate(self._starts, start=2):
            x = starts + step * of_image
            there = (x >= 0) & (x < width) & (x - step >= 0) & (x - step < width)
            at, now = np.nonzero(there)[0], x[there]
            self._count(direction, whole[at + 1, now], whole[at, now - step])
        self._top += height
        self._before = whole[-1:].copy()

    def _count(self, direction: int, here: NDArray[Any], before: NDArray[Any]) -> None:
        self.crossings[direction] += np.count_nonzero(here != before)
        self.steps[direction] += here.size


def _spread(start: int, stop: int) -> NDArray[np.intp]:
    """Places of test lines, evenly spaced and each in the middle of its share."""
    n = min(TEST_LINES, stop - start)
    return start + ((np.arange(n) + 0.5) * (stop - start) / n).astype(np.intp)

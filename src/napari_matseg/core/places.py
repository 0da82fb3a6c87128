"""Where to label next: the few squares in which a model is most unsure, far from each other."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

CELLS = 8  # along the side of a square: it can begin at each
APART = 1.5  # sides of a square between two centres, at least, along one axis
SIDE_SHARE, SIDES = 1 / 8, (32, 256)  # of the shorter side of the image, and its limits in px


@dataclass(frozen=True, slots=True)
class Place:
    """A square of a micrograph that is worth labelling.

    Attributes
    ----------
    plane : int
        Counted over the axes before YX.
    top, left, height, width : int
        In pixels; a square, unless the image is smaller.
    uncertainty : float
        Mean over its pixels.
    """

    plane: int
    top: int
    left: int
    height: int
    width: int
    uncertainty: float

    @property
    def centre_yx(self) -> tuple[float, float]:
        """Middle, in pixels."""
        return self.top + self.height / 2, self.left + self.width / 2

    def to_dict(self) -> dict[str, Any]:
        """Describe it in plain JSON types."""
        return asdict(self)


def find_places(map_yx: Any, n: int, side: int | None = None, *, top: int = 0, plane: int = 0) -> list[Place]:
    """Find the squares with the most uncertainty, one after the other, each away from those before.

    Parameters
    ----------
    map_yx : array, shape (height, width)
        May stay in a file: some rows are in memory at a time.
    n : int
        How many, at most.
    side : int, optional
        In pixels; None: an eighth of the shorter side of the image, from 32 to 256.
    top, plane : int
        What to add to the rows, and which plane to name.

    Returns
    -------
    list of Place
        The most uncertain first; none without any uncertainty.

    Examples
    --------
    >>> map_yx = np.zeros((64, 64), np.float32)
    >>> map_yx[40:56, 8:24] = 0.5
    >>> [(place.top, place.left, place.uncertainty) for place in find_places(map_yx, 5, 16)]
    [(40, 8, 0.5)]
    """
    height, width = map_yx.shape
    if side is None:
        side = min(max(round(min(height, width) * SIDE_SHARE), SIDES[0]), SIDES[1])
    cell = max(1, side // CELLS)
    sums = _cells(map_yx, cell)
    cells = tuple(min(max(1, side // cell), length) for length in sums.shape)
    above = np.pad(sums.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    rows, columns = cells
    boxes = above[rows:, columns:] - above[:-rows, columns:] - above[rows:, :-columns] + above[:-rows, :-columns]
    found: list[Place] = []
    apart = [APART * length for length in cells]
    y, x = np.ogrid[: boxes.shape[0], : boxes.shape[1]]
    while len(found) < n:
        row, column = (int(place) for place in np.unravel_index(boxes.argmax(), boxes.shape))
        if boxes[row, column] <= 0:
            break
        extent = min(rows * cell, height - row * cell), min(columns * cell, width - column * cell)
        mean = float(boxes[row, column]) / (extent[0] * extent[1])
        found.append(Place(plane, top + row * cell, column * cell, *extent, mean))
        boxes[(abs(y - row) < apart[0]) & (abs(x - column) < apart[1])] = 0
    return found


def most_uncertain(places: Sequence[Place], n: int) -> list[Place]:
    """Of the places of several planes, those with the most uncertainty."""
    return sorted(places, key=lambda place: -place.uncertainty)[:n]


def _cells(map_yx: Any, cell: int) -> np.ndarray:
    """Sum over cells, shape (height / cell, width / cell), rounded up."""
    height, width = map_yx.shape
    starts = np.arange(0, width, cell)
    return np.stack(
        [
            np.add.reduceat(np.asarray(map_yx[row : row + cell]).sum(axis=0, dtype=np.float64), starts)
            for row in range(0, height, cell)
        ]
    )

"""How far apart things lie: mean free path, chord lengths, nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.measure.grains import direction_weights
from napari_matseg.core.measure.runs import runs
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from pandas import DataFrame

DIRECTIONS = ("horizontal", "vertical", "falling", "rising")


@dataclass(frozen=True)
class FreePath:
    """Mean free path between the pieces of a phase, and what it comes from.

    Attributes
    ----------
    unit : str
        "nm" or "px".
    fraction : float
        Area fraction of the phase.
    per_length : tuple of float
        Pieces of the phase met per length of test line, along rows, along columns, and along the diagonals that fall
        and rise to the right; NaN in directions in which there is no second pixel.
    weights : tuple of float
        Share of all directions that each of the four stands for.
    """

    unit: str
    fraction: float
    per_length: tuple[float, float, float, float]
    weights: tuple[float, float, float, float]

    @property
    def pieces_per_length(self) -> float:
        """N_L, the mean over the directions that are there; NaN in a single pixel."""
        known = np.isfinite(self.per_length)
        weights = known * np.array(self.weights)
        return _over(float(weights[known] @ np.array(self.per_length)[known]), float(weights.sum()))

    @property
    def mean_free_path(self) -> float:
        """(1 - V_V) / N_L, the mean length of test line between two pieces (Underwood 1970, Quantitative Stereology).

        NaN where no test line meets the phase.
        """
        return _over(1 - self.fraction, self.pieces_per_length)

    @property
    def mean_chord(self) -> float:
        """V_V / N_L, the mean length of test line within a piece (Underwood 1970); NaN where none meets the phase."""
        return _over(self.fraction, self.pieces_per_length)

    def to_dict(self) -> dict[str, Any]:
        """Give a row for a table, its columns headed with the unit."""
        unit = self.unit
        along = {
            f"mean_free_path_{name}_{unit}": _over(1 - self.fraction, n)
            for name, n in zip(DIRECTIONS, self.per_length, strict=True)
        }
        return {
            f"mean_free_path_{unit}": self.mean_free_path,
            **along,
            f"mean_chord_{unit}": self.mean_chord,
            "fraction": self.fraction,
            f"pieces_per_{unit}": self.pieces_per_length,
        }


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Distances from objects to their nearest neighbours; those of several fields can be added up.

    Attributes
    ----------
    distances, weights : float64 arrays, shape (n,)
        Of the objects whose nearest neighbour is certain, and how many objects of the field each stands for, but for
        a factor.
    unit : str
        "nm" or "px".
    n_seen : int
        Objects in the field.
    field_area : float
        In nm² or px.
    between : str
        "centres" or "outlines".
    """

    distances: NDArray[np.float64]
    weights: NDArray[np.float64]
    unit: str
    n_seen: int
    field_area: float
    between: str = "centres"

    def __add__(self, other: Neighbours) -> Neighbours:
        """Put the distances in two fields together."""
        if (self.unit, self.between) != (other.unit, other.between):
            raise InputError(
                f"distances between {self.between} in {self.unit} and between {other.between} in {other.unit} cannot "
                "be put together; measure all fields alike, with the pixel size or without."
            )
        return Neighbours(
            np.concatenate([self.distances, other.distances]),
            np.concatenate([self.weights, other.weights]),
            self.unit,
            self.n_seen + other.n_seen,
            self.field_area + other.field_area,
            self.between,
        )

    @property
    def mean(self) -> float:
        """Mean distance; NaN where none is certain."""
        return _over(float((self.weights * self.distances).sum()), float(self.weights.sum()))

    @property
    def std(self) -> float:
        """Standard deviation of the distances, the weights taken as shares; NaN for fewer than two."""
        if self.distances.size < 2:
            return float("nan")
        share = self.weights / self.weights.sum()
        return float(np.sqrt((share * (self.distances - self.mean) ** 2).sum() / (1 - (share**2).sum())))

    @property
    def random_mean(self) -> float:
        """Mean distance of as many points strewn at random, 1 / (2 sqrt(N_A)) (Clark and Evans 1954).

        NaN for distances between outlines, of which it says nothing.
        """
        if self.between != "centres":
            return float("nan")
        return _over(0.5 * self.field_area**0.5, self.n_seen**0.5)

    @property
    def ratio(self) -> float:
        """Mean over `random_mean` (Clark and Evans 1954, doi 10.2307/1931034).

        Below 1 objects cluster, above 1 they keep apart, up to 2.149 on a triangular lattice.
        """
        return self.mean / self.random_mean

    def to_dict(self) -> dict[str, Any]:
        """Give a row for a table, its columns headed with the unit."""
        return {
            "between": self.between,
            f"nearest_neighbour_mean_{self.unit}": self.mean,
            f"nearest_neighbour_std_{self.unit}": self.std,
            f"random_mean_{self.unit}": self.random_mean,
            "clark_evans_ratio": self.ratio,
            "n": self.distances.size,
            "n_seen": self.n_seen,
        }


class PathCounts:
    """How often lines of pixels enter or leave phases, in a plane that is seen band by band, from above.

    Parameters
    ----------
    n_phases : int
    """

    def __init__(self, n_phases: int) -> None:
        self.pixels = np.zeros(n_phases, np.int64)
        """Of each phase."""
        self._changes = np.zeros((len(DIRECTIONS), n_phases), np.int64)
        self._steps = np.zeros(len(DIRECTIONS), np.int64)
        self._before: NDArray[Any] | None = None

    def add(self, phases_yx: NDArray[Any]) -> None:
        """Take the next rows.

        Parameters
        ----------
        phases_yx : integer or boolean array, shape (height, width)
            Phase of each pixel, 0 to `n_phases` - 1.
        """
        n = len(self.pixels)
        self.pixels += np.bincount(phases_yx.ravel(), minlength=n)
        whole = phases_yx if self._before is None else np.concatenate([self._before, phases_yx])
        pairs = [
            (phases_yx[:, 1:], phases_yx[:, :-1]),
            (whole[1:], whole[:-1]),
            (whole[1:, 1:], whole[:-1, :-1]),
            (whole[1:, :-1], whole[:-1, 1:]),
        ]
        for direction, sides in enumerate(pairs):
            self._steps[direction] += sides[0].size
            differ = sides[0] != sides[1]
            for side in sides:
                self._changes[direction] += np.bincount(side[differ], minlength=n)
        self._before = whole[-1:].copy()

    def path(self, phase: int | None, pixel_size_nm: tuple[float, float] | None = None) -> FreePath:
        """Give the path between pieces of a phase; None: of all phases but 0 together."""
        height, width = pixel_size_nm or (1.0, 1.0)
        diagonal = hypot(height, width)
        # What is all but 0 is entered and left where 0 is.
        changes = self._changes[:, phase or 0]
        along = [
            _over(n / 2, steps * length)
            for n, steps, length in zip(
                changes.tolist(), self._steps.tolist(), (width, height, diagonal, diagonal), strict=True
            )
        ]
        total = int(self.pixels.sum())
        pixels = total - int(self.pixels[0]) if phase is None else int(self.pixels[phase])
        return FreePath(
            "px" if pixel_size_nm is None else "nm",
            _over(pixels, total),
            (along[0], along[1], along[2], along[3]),
            direction_weights(height, width),
        )


def mean_free_path(phase_yx: ArrayLike, pixel_size_nm: tuple[float, float] | None = None) -> FreePath:
    """Measure the mean free path between pieces of a phase, along all rows, columns and diagonals of pixels.

    Where two neighbouring pixels of a line differ, it enters or leaves a piece; N_L, pieces met per length, is half of
    that. Directions are weighted with the angles that they stand for, which are equal for square pixels.

    Parameters
    ----------
    phase_yx : boolean array, shape (height, width)
        True on the phase.
    pixel_size_nm : (float, float), optional
        Height and width of a pixel; without it lengths are in pixels.

    Raises
    ------
    InputError
        If the phase is no boolean image.

    Examples
    --------
    >>> stripes = np.tile([True, False, False, False], (8, 8))
    >>> round(1 / mean_free_path(stripes).per_length[0], 1)  # one stripe in 4 pixels
    4.1
    """
    phase = np.asarray(phase_yx)
    if phase.dtype != np.bool_ or phase.ndim != 2 or phase.size == 0:
        raise InputError(
            f"the phase must be a boolean image of rows and columns, not {phase.dtype} of shape {phase.shape}; "
            "compare the class of each pixel with that of the phase."
        )
    counts = PathCounts(2)
    counts.add(phase)
    return counts.path(1, pixel_size_nm)


def nearest_neighbours(
    table: DataFrame,
    shape_yx: tuple[int, int],
    pixel_size_nm: tuple[float, float] | None = None,
    *,
    first_row: int = 0,
) -> Neighbours:
    """Measure the distance from the centre of mass of each object to the nearest other one.

    What lies beyond the field is not known: only objects that are nearer to their neighbour than to the edge of the
    field have it for certain. Near objects are more often among them, so each is weighed with the inverse of the area
    in which its centre can lie so far from the edge, 1 / ((H - 2 d)(W - 2 d)) (Hanisch 1984, Mathematische
    Operationsforschung und Statistik, Series Statistics 15, 409-412).

    Parameters
    ----------
    table : DataFrame
        As `shapes.measure_objects` gives it; the columns y and x count.
    shape_yx : (int, int)
        Height and width of the field in pixels.
    pixel_size_nm : (float, float), optional
        Height and width of a pixel; without it distances are in pixels.
    first_row : int
        Row of the image at which the field begins.

    Raises
    ------
    InputError
        If an object lies outside the field.
    """
    from scipy.spatial import KDTree

    pixel = np.array(pixel_size_nm or (1.0, 1.0))
    field = np.array(shape_yx) * pixel
    unit = "px" if pixel_size_nm is None else "nm"
    places = (table[["y", "x"]].to_numpy(np.float64) - (first_row, 0) + 0.5) * pixel
    if (places < 0).any() or (places > field).any():
        raise InputError(
            f"an object lies outside the field of {shape_yx[0]} x {shape_yx[1]} px; "
            "give the size of the field that the objects were measured in."
        )
    n, area = len(places), float(field.prod())
    if n < 2:
        return Neighbours(np.empty(0), np.empty(0), unit, n, area)
    distances = KDTree(places).query(places, k=2)[0][:, 1]
    to_edge = np.minimum(places, field - places).min(axis=1)
    distances = distances[distances < to_edge]
    weights = area / (field - 2 * distances[:, None]).prod(axis=1)
    return Neighbours(distances, weights, unit, n, area)


def nearest_gaps(labels_yx: ArrayLike, pixel_size_nm: tuple[float, float] | None = None) -> Neighbours:
    """Measure the distance from the outline of each object to the nearest outline of another.

    The middle of the shortest way between two neighbours is nearer to both than to any third, so it lies where the
    zones of pixels nearest to either meet. All pairs of pixels across such limits give the distance between the pixels
    of the objects that they are nearest to, pixels being rectangles; the least for an object is its gap, right to
    within a pixel and never too small. Objects that touch have none.

    Objects nearer to the edge of the field than to their neighbour are left out and the others weighed as in
    `nearest_neighbours`, with 1 / ((H - h - 2 d)(W - w - 2 d)) for an object of height h and width w.

    Parameters
    ----------
    labels_yx : integer array, shape (height, width)
        Ids of objects, below 2**63; 0 is none. Needs about 20 bytes of memory for each pixel.
    pixel_size_nm : (float, float), optional
        Height and width of a pixel; without it distances are in pixels.

    Raises
    ------
    InputError
        If the labels are no image of integers.
    """
    from scipy import ndimage

    labels = np.asarray(labels_yx)
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "bui":
        raise InputError(
            f"labels must be an image of integers, not {labels.dtype} of shape {labels.shape}; "
            "give one plane at a time."
        )
    pixel = np.array(pixel_size_nm or (1.0, 1.0))
    unit = "px" if pixel_size_nm is None else "nm"
    field = np.array(labels.shape) * pixel
    of_run, y, x, length = runs(labels)
    ids, k = np.unique(of_run, return_inverse=True)
    n, area = len(ids), float(field.prod())
    if n < 2:
        return Neighbours(np.empty(0), np.empty(0), unit, n, area, "outlines")
    first = np.full((n, 2), np.inf)
    last = np.zeros((n, 2))
    for axis, (start, end) in enumerate(((y, y + 1), (x, x + length))):
        np.minimum.at(first[:, axis], k, start)
        np.maximum.at(last[:, axis], k, end)

    near = ndimage.distance_transform_edt(labels == 0, pixel, return_distances=False, return_indices=True)
    zones = labels[tuple(near)]
    gaps = np.full(n, np.inf)
    for a, b in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1]),
                 (np.s_[1:, 1:], np.s_[:-1, :-1]), (np.s_[1:, :-1], np.s_[:-1, 1:])):  # fmt: skip
        meet = np.nonzero(zones[a] != zones[b])
        steps = np.stack([np.abs(side[a][meet] - side[b][meet]) for side in near], axis=1)
        way = np.hypot(*(np.maximum(steps - 1, 0) * pixel).T)
        for side in (a, b):
            np.minimum.at(gaps, np.searchsorted(ids, zones[side][meet].astype(np.int64)), way)

    to_edge = np.minimum(first * pixel, field - last * pixel).min(axis=1)
    certain = gaps < to_edge
    room = field - (last - first)[certain] * pixel - 2 * gaps[certain, None]
    return Neighbours(gaps[certain], area / room.prod(axis=1), unit, n, area, "outlines")


def _over(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")

"""Grain size after ASTM E112, from labels of grains.

The counting rules are those of the standard, said for labels. Pixels of 0 are boundaries between grains, which may have
any width or none; what is no grain is cropped away before. No grain size can be given without the pixel size.

Either procedure gives the G of its own formula. E112's constants make them equal for one shape of grains; for the cells
of nuclei strewn at random (Poisson-Voronoi), whose N_L is 4 / pi sqrt(N_A), the G of intercepts is 0.36 larger.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan2, degrees, hypot, log10, pi
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.measure.fractions import NORMAL_95, ratio_over_fields
from napari_matseg.core.measure.grain_fields import SPECK_PX, GrainField, count_grains_steps, grains_in_steps
from napari_matseg.core.progress import finish
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from napari_matseg.core.measure.fractions import Ratio

NM_IN_MM = 1e6
TINY = 1e-300  # above which everything lies that divides


@dataclass(frozen=True)
class GrainSize:
    """ASTM grain size number G, and what it comes from.

    Attributes
    ----------
    method : str
        "planimetric" or "intercept".
    g, ci95_low, ci95_high : float
        Grain size number and its 95 % confidence interval; NaN where they cannot be said.
    relative_accuracy_percent : float
        Half of the 95 % interval of `density` over `density`; E112 takes up to 10 % as acceptable.
    density : float
        Grains per mm² (planimetric), or boundaries crossed per mm of test line (intercept).
    counted : float
        Grains, halves included, or boundaries crossed, in all fields.
    extent : float
        Area of all fields in mm², or length of all test lines in mm.
    fields : int
        Number of fields.
    interval : str
        How the interval was found, in words.
    """

    method: str
    g: float
    ci95_low: float
    ci95_high: float
    relative_accuracy_percent: float
    density: float
    counted: float
    extent: float
    fields: int
    interval: str

    @property
    def mean_area_um2(self) -> float:
        """Mean area of a grain, 1 / N_A; NaN from intercepts."""
        return 1e6 / self.density if self.method == "planimetric" and self.density > 0 else float("nan")

    @property
    def mean_diameter_um(self) -> float:
        """Diameter of the disc of the mean area, sqrt(4 / (pi N_A)); NaN from intercepts."""
        return float((4 / pi * self.mean_area_um2) ** 0.5)

    @property
    def mean_intercept_um(self) -> float:
        """Mean lineal intercept, 1 / N_L; NaN from areas."""
        return 1e3 / self.density if self.method == "intercept" and self.density > 0 else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Give a row for a table, its columns headed with the unit; NaN in those of the other method."""
        planar = self.method == "planimetric"
        nan = float("nan")
        return {
            "method": self.method,
            "grain_size_g": self.g,
            "ci95_low": self.ci95_low,
            "ci95_high": self.ci95_high,
            "relative_accuracy_percent": self.relative_accuracy_percent,
            "grains_per_mm2": self.density if planar else nan,
            "crossings_per_mm": nan if planar else self.density,
            "mean_area_um2": self.mean_area_um2,
            "mean_diameter_um": self.mean_diameter_um,
            "mean_intercept_um": self.mean_intercept_um,
            "grains": self.counted if planar else nan,
            "crossings": nan if planar else self.counted,
            "area_mm2": self.extent if planar else nan,
            "length_mm": nan if planar else self.extent,
            "fields": self.fields,
            "interval": self.interval,
        }


def planimetric(fields: Sequence[ArrayLike | GrainField], pixel_size_nm: tuple[float, float] | None) -> GrainSize:
    """Grain size by Jeffries' planimetric procedure, the test figure being the whole rectangular field.

    Grains inside count 1, grains at the edge 1/2, and the grains at the four corners 1 together (Saltykov's rectangle,
    ASTM E112-13). This is said here as N = n - i / 2 - 1, n being the grains that show in the field and i the times
    that its edge passes from one grain into another: the same number where each corner has a grain of its own, and by
    Euler's formula right on average for any field, also of few grains or of grains that reach the edge twice.
    G = 3.321928 log10(N_A) - 2.954, N_A being grains per mm².

    From several fields the interval is that of E112, N_A +- t s / sqrt(n) (`fractions.ratio_over_fields` where their
    areas differ). From one field it is N +- 1.96 sqrt(N), as for grains that grew from nuclei strewn at random; those
    of most materials are more even, so it is rather too wide.

    Parameters
    ----------
    fields : sequence of integer array, shape (height, width), or GrainField
        Labels of grains, each grain in one piece; 0 where there is a boundary. Or what was counted in them.
    pixel_size_nm : (float, float)
        Height and width of a pixel.

    Raises
    ------
    InputError
        If there is no field, one is no image, or the pixel size is not known.
    """
    pixel_nm2 = np.prod(_pixel_size(pixel_size_nm))
    counted = _counted(fields)
    counts = np.array([field.n_planar for field in counted])
    areas = np.array([np.prod(field.shape_yx) * pixel_nm2 / NM_IN_MM**2 for field in counted])
    found = ratio_over_fields(counts, areas)
    interval = "95 %, t s / sqrt(n) over fields"
    if len(counted) == 1:
        found = found._replace(half_width=NORMAL_95 * max(counts[0], 0) ** 0.5 / areas[0])
        interval = "95 %, from the number of grains in one field"

    def g(density: float) -> float:
        return 3.321928 * log10(density) - 2.954 if density > 0 else float("nan")

    return _grain_size("planimetric", found, g, counts, areas, interval)


def intercept(fields: Sequence[ArrayLike | GrainField], pixel_size_nm: tuple[float, float] | None) -> GrainSize:
    """Grain size by Heyn's lineal intercept procedure, with test lines in four directions (ASTM E112-13).

    Pixels of 0 go to the nearest grain first, so that boundaries have no width. Test lines run through the centres of
    pixels along rows, columns and both diagonals, up to 256 in each direction, evenly spaced. Wherever a line comes
    from one grain into another counts 1. An end of a line in a grain counts 1/2 as an intercept of it, which makes
    intercepts and crossings the same number. The rule of 1 1/2 for triple points is not needed, for a line through
    pixels is in one grain at each of them. Chords shorter than a pixel are missed, 1.5 % of the crossings where grains
    measure 15 pixels across and fewer in larger ones. N_L is the mean over the directions, weighted with the angles
    that they stand for (equal for square pixels), and G = -6.643856 log10(l) - 3.288 with l = 1 / N_L in mm.

    From several fields the interval is that of E112, N_L +- t s / sqrt(n) (`fractions.ratio_over_fields` where the
    lengths differ). From one field with N grains by the planimetric count it is N_L (1 +- 1.96 / (2 sqrt(N))), for a
    length goes with the root of an area, and the crossings of lines through the same grains are not independent.

    Parameters
    ----------
    fields : sequence of integer array, shape (height, width), or GrainField
        Labels of grains; 0 where there is a boundary. Or what was counted in them.
    pixel_size_nm : (float, float)
        Height and width of a pixel.

    Raises
    ------
    InputError
        If there is no field, one is no image, or the pixel size is not known.
    """
    height, width = _pixel_size(pixel_size_nm)
    counted = _counted(fields)
    weights = np.array(direction_weights(height, width))
    steps = np.array([width, height, hypot(height, width), hypot(height, width)]) / NM_IN_MM
    crossings = np.array([field.crossings for field in counted])
    lengths = np.array([field.steps for field in counted]) * steps
    total = lengths.sum(axis=1)
    weights = weights * (lengths > 0)  # a single row has one direction only
    per_mm = (crossings / np.maximum(lengths, TINY) * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), TINY)
    found = ratio_over_fields(per_mm * total, total)
    interval = "95 %, t s / sqrt(n) over fields"
    if len(counted) == 1:
        grains = counted[0].n_planar
        half = NORMAL_95 / (2 * grains**0.5) * found.value if grains > 0 else float("nan")
        found = found._replace(half_width=half)
        interval = "95 %, from the number of grains in one field"

    def g(density: float) -> float:
        return -6.643856 * log10(1 / density) - 3.288 if density > 0 else float("nan")

    return _grain_size("intercept", found, g, crossings, total, interval)


def grains_of(boundary_yx: ArrayLike, *, min_area_px: int = SPECK_PX) -> NDArray[np.int32]:
    """Make labels of grains from a segmentation of their boundaries.

    Grains are what boundaries part: pieces of other pixels that hang together along rows and columns, so that a
    boundary may be as thin as a diagonal line. Pieces that are too small are specks of a broken or doubled boundary.
    Pixels of boundaries and specks go to the nearest grain.

    Parameters
    ----------
    boundary_yx : boolean array, shape (height, width)
        True on boundaries.
    min_area_px : int
        Pieces with fewer pixels are specks.

    Returns
    -------
    int32 array, shape (height, width)
        1, 2, ... for the grains; all 0 if there is none.

    Raises
    ------
    InputError
        If the boundaries are no boolean image.
    """
    boundary = np.asarray(boundary_yx)
    if boundary.dtype != np.bool_ or boundary.ndim != 2:
        raise InputError(
            f"boundaries must be a boolean image of rows and columns, not {boundary.dtype} of shape {boundary.shape}; "
            "compare the class of each pixel with that of boundaries."
        )
    height, width = boundary.shape
    read = finish(grains_in_steps(boundary.__getitem__, (height, width), min_area_px))
    return read(slice(0, height))


def direction_weights(height: float, width: float) -> tuple[float, float, float, float]:
    """Share of all directions that rows, columns and either diagonal of pixels stand for: those nearest in angle.

    Parameters
    ----------
    height, width : float
        Of a pixel.

    Examples
    --------
    >>> direction_weights(1.0, 1.0)
    (0.25, 0.25, 0.25, 0.25)
    """
    angle = degrees(atan2(height, width))
    return angle / 180, (90 - angle) / 180, 0.25, 0.25


def _grain_size(
    method: str, found: Ratio, g: Any, counted: NDArray[Any], extents: NDArray[np.float64], interval: str
) -> GrainSize:
    density, half = found.value, found.half_width
    return GrainSize(
        method=method,
        g=g(density),
        ci95_low=g(density - half),
        ci95_high=g(density + half),
        relative_accuracy_percent=100 * half / density if density > 0 else float("nan"),
        density=density,
        counted=float(counted.sum()),
        extent=float(extents.sum()),
        fields=len(extents),
        interval=interval,
    )


def _pixel_size(pixel_size_nm: tuple[float, float] | None) -> tuple[float, float]:
    if pixel_size_nm is None:
        raise InputError("grain size needs the pixel size, which is not known; set it.")
    return pixel_size_nm


def _counted(fields: Sequence[ArrayLike | GrainField]) -> list[GrainField]:
    if not fields:
        raise InputError("there is no field; give the labels of at least one.")
    return [field if isinstance(field, GrainField) else _count(np.asarray(field)) for field in fields]


def _count(labels: NDArray[Any]) -> GrainField:
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "bui":
        raise InputError(
            f"labels of grains must be an image of integers, not {labels.dtype} of shape {labels.shape}; "
            "give one plane at a time."
        )
    return finish(count_grains_steps(labels))

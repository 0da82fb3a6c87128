"""How the sizes of objects are distributed.

Each object counts with its weight, which makes up for those that the edge of the field cuts (`edges`); weighted by
area, with its weight times its area. With weights w in ascending order of size, the share that belongs to the i-th
size is (w_1 + ... + w_(i-1) + w_i / 2) / (w_1 + ... + w_n), that is, half an object lies on either side of its own
size; in between, sizes are interpolated linearly, and before the first and after the last they are the first and the
last. Where all weights are equal this is Hazen's rule (1914), and the D50 of an odd number of sizes is their median.

What cannot be said, such as the mean of no objects, is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, exp, log, log2
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from napari_matseg.core.measure.edges import describe, edge_weights
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray
    from pandas import DataFrame

    from napari_matseg.settings import MeasureSettings

Weighting = Literal["number", "area"]

MOST_BINS = 200
NM2_IN_UM2 = 1e6


@dataclass(frozen=True)
class LogNormal:
    """A log-normal distribution fitted to sizes.

    Attributes
    ----------
    median : float
        Which is also the geometric mean, in the unit of the sizes.
    geometric_std : float
        Geometric standard deviation, 1 or more, without a unit; NaN for fewer than two sizes.
    ks_distance : float
        Largest difference between the cumulative curves of the sizes and of the fit (Kolmogorov-Smirnov), 0 to 1.
    """

    median: float
    geometric_std: float
    ks_distance: float

    def cumulative(self, values: ArrayLike) -> NDArray[np.float64]:
        """Share of the distribution up to each of some values; NaN where the spread is."""
        from scipy.special import ndtr

        logs = np.log(np.asarray(values, np.float64) / self.median)
        if self.geometric_std == 1:
            return np.where(logs < 0, 0.0, 1.0)
        return np.asarray(ndtr(logs / log(self.geometric_std)))


@dataclass(frozen=True, eq=False)
class Sizes:
    """Sizes of objects, each with how many objects it stands for.

    Attributes
    ----------
    values : float64 array, shape (n,)
        Ascending.
    weights : float64 array, shape (n,)
        How many objects of the specimen each stands for, above 0; their sum is the number of objects in the field.
    areas : float64 array, shape (n,)
        Of each object, in nm² or px.
    quantity : str
        What the values are, such as "diameter".
    unit : str
        "nm", "nm2" or "px".
    edge : str
        What was done about objects at the edge of the field, in words.
    n_seen : int
        Objects in the field before any was left out.
    field_area : float
        Area of the field, or of all fields, in the unit of `areas`.

    Examples
    --------
    >>> sizes = Sizes(np.array([1.0, 2, 4]), np.ones(3), np.array([1.0, 4, 16]), "diameter", "nm", "", 3, 100.0)
    >>> sizes.quantile(0.5), round(sizes.mean(), 3), round(sizes.mean("area"), 3)
    (2.0, 2.333, 3.476)
    """

    values: NDArray[np.float64]
    weights: NDArray[np.float64]
    areas: NDArray[np.float64]
    quantity: str
    unit: str
    edge: str
    n_seen: int
    field_area: float

    @property
    def density(self) -> float:
        """Objects per area of the field, in the unit of `areas`."""
        return float(self.weights.sum()) / self.field_area if self.field_area > 0 else float("nan")

    def quantile(self, share: float, by: Weighting = "number") -> float:
        """Size that a share of the objects, or of their area, stays below; see the module for the rule.

        Parameters
        ----------
        share : float
            0 to 1; 0.5 for the D50.
        by : {"number", "area"}
            What the share is of.

        Raises
        ------
        InputError
            If the share is not from 0 to 1.
        """
        if not 0 <= share <= 1:
            raise InputError(f"share: must be from 0 to 1, not {share:g}; the D50 is at 0.5.")
        values, shares = self.cumulative(by)
        return float(np.interp(share, shares, values)) if values.size else float("nan")

    def cumulative(self, by: Weighting = "number") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Cumulative curve (ISO 9276-1), from which the D-values are read.

        Returns
        -------
        values, share : float64 arrays, shape (n,)
            Sizes, ascending, and the share below each, half of the object itself among it.
        """
        weights = self._weights(by)
        total = weights.sum()
        return self.values, (np.cumsum(weights) - weights / 2) / total if total > 0 else weights

    def histogram(
        self, bins: int | ArrayLike | None = None, by: Weighting = "number", *, log: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Share of the objects, or of their area, in each of some ranges of sizes.

        Parameters
        ----------
        bins : int or float array, shape (bins + 1,), optional
            How many ranges from the smallest to the largest size, or their limits, ascending. None: ranges of
            2 IQR / n^(1/3) (Freedman and Diaconis 1981, doi 10.1007/BF01025868), the interquartile range and n =
            (sum of weights)² / (sum of squared weights) being those of the weighted sizes (Kish 1965), or
            1 + log2(n) of them (Sturges 1926) where the quartiles are equal; 200 at most.
        by : {"number", "area"}
            What the shares are of.
        log : bool
            Make ranges of equal ratio of their limits, instead of equal difference.

        Returns
        -------
        edges : float64 array, shape (bins + 1,)
            0 and 1 where there are no objects and no limits are given.
        share : float64 array, shape (bins,)
            Of all, including what lies outside given limits; NaN where there are no objects. The last range includes
            its upper limit, the others do not.

        Raises
        ------
        InputError
            If there are no bins, or limits do not ascend.
        """
        weights = self._weights(by)
        if bins is None or isinstance(bins, (int, np.integer)):
            edges = self._equal_bins(None if bins is None else int(bins), weights, log)
        else:
            edges = np.asarray(bins, np.float64)
            if edges.ndim != 1 or edges.size < 2 or not (np.diff(edges) > 0).all():
                raise InputError("bins: limits must be two or more, each above the one before it; correct them.")
        counts, _ = np.histogram(self.values, edges, weights=weights)
        total = weights.sum()
        return edges, counts / total if total > 0 else np.full(edges.size - 1, np.nan)

    def mean(self, by: Weighting = "number") -> float:
        """Mean size; by area, each size counts as the area of its object."""
        weights = self._weights(by)
        return float(np.average(self.values, weights=weights)) if weights.size else float("nan")

    def std(self, by: Weighting = "number") -> float:
        """Give the standard deviation of the sizes; NaN for fewer than two objects.

        The sum of weighted squares over W (1 - sum of w² / W²) with W the sum of the weights w, which for equal
        weights is the usual one over n - 1.
        """
        weights = self._weights(by)
        if weights.size < 2:
            return float("nan")
        share = weights / weights.sum()
        squares = (share * (self.values - self.mean(by)) ** 2).sum()
        return float(np.sqrt(squares / (1 - (share**2).sum())))

    def span(self, by: Weighting = "number") -> float:
        """Width of the distribution, (D90 - D10) / D50."""
        return (self.quantile(0.9, by) - self.quantile(0.1, by)) / self.quantile(0.5, by)

    def lognormal(self, by: Weighting = "number") -> LogNormal:
        """Fit a log-normal distribution (ISO 9276-5) by maximum likelihood: mean and variance of the logarithms."""
        weights = self._weights(by)
        if weights.size < 2:
            return LogNormal(self.mean(), float("nan"), float("nan"))
        if self.values[0] == self.values[-1]:
            return LogNormal(float(self.values[0]), 1.0, 0.0)
        share = weights / weights.sum()
        logs = np.log(self.values)
        mean = float((share * logs).sum())
        variance = float((share * (logs - mean) ** 2).sum())
        fit = LogNormal(exp(mean), exp(variance**0.5), float("nan"))
        fitted, after = fit.cumulative(self.values), np.cumsum(share)
        # Equal sizes are one step of the curve: it counts before the first and after the last of them.
        first = np.searchsorted(self.values, self.values, "left")
        last = np.searchsorted(self.values, self.values, "right") - 1
        distance = np.maximum(after[last] - fitted, fitted - (after[first] - share[first]))
        return replace(fit, ks_distance=float(distance.max()))

    def summary(self, by: Weighting = "number") -> dict[str, Any]:
        """Give a row for a table, its columns headed with the unit.

        Returns
        -------
        dict
            `quantity`, `weighting`, `n` (objects that count), `n_seen`, mean, std, D10, D50 and D90 with the unit,
            `span`, median and geometric standard deviation of the log-normal fit and its Kolmogorov-Smirnov distance,
            the number of objects per area of the field, `edge`.
        """
        unit, fit = self.unit, self.lognormal(by)
        in_nm = unit != "px"
        return {
            "quantity": self.quantity,
            "weighting": by,
            "n": self.values.size,
            "n_seen": self.n_seen,
            f"mean_{unit}": self.mean(by),
            f"std_{unit}": self.std(by),
            **{f"d{percent}_{unit}": self.quantile(percent / 100, by) for percent in (10, 50, 90)},
            "span": self.span(by),
            f"lognormal_median_{unit}": fit.median,
            "lognormal_geometric_std": fit.geometric_std,
            "lognormal_ks_distance": fit.ks_distance,
            "density_per_um2" if in_nm else "density_per_px": self.density * (NM2_IN_UM2 if in_nm else 1),
            "edge": self.edge,
        }

    def _weights(self, by: Weighting) -> NDArray[np.float64]:
        if by not in get_args(Weighting):
            raise InputError(f'by: must be "number" or "area", not "{by}".')
        return self.weights if by == "number" else self.weights * self.areas

    def _equal_bins(self, bins: int | None, weights: NDArray[np.float64], log_scale: bool) -> NDArray[np.float64]:
        if bins is not None and bins < 1:
            raise InputError(f"bins: there must be at least 1, not {bins}.")
        if not self.values.size:
            return np.linspace(0.0, 1.0, (bins or 1) + 1)
        low, high = float(self.values[0]), float(self.values[-1])
        if low == high:
            low, high = 0.95 * low, 1.05 * high
        scaled = np.log(self.values) if log_scale else self.values
        if bins is None:
            n = weights.sum() ** 2 / (weights**2).sum()
            shares = (np.cumsum(weights) - weights / 2) / weights.sum()
            quartiles = np.interp([0.25, 0.75], shares, scaled)
            width = 2 * (quartiles[1] - quartiles[0]) / n ** (1 / 3)
            wanted = (scaled[-1] - scaled[0]) / width if width > 0 else 1 + log2(n)
            bins = min(max(ceil(wanted), 1), MOST_BINS)
        return np.geomspace(low, high, bins + 1) if log_scale else np.linspace(low, high, bins + 1)


def size_distribution(
    table: DataFrame,
    settings: MeasureSettings,
    shape_yx: tuple[int, int],
    pixel_size_nm: tuple[float, float] | None = None,
    *,
    first_row: int = 0,
) -> Sizes:
    """Take the sizes of the objects of one field from their table; `pool` those of several.

    Parameters
    ----------
    table : DataFrame
        As `shapes.measure_objects` gives it.
    settings : MeasureSettings
        Of which `edge`, `guard_px`, `quantity` and `min_area_px` count.
    shape_yx : (int, int)
        Height and width of the field in pixels, without the data bar.
    pixel_size_nm : (float, float), optional
        Height and width of a pixel, if the table was made with it.
    first_row : int
        Row of the image at which the field begins.

    Raises
    ------
    InputError
        If the table lacks a column, or the field does not suit the objects (see `edges.edge_weights`).
    """
    unit = "px" if pixel_size_nm is None else "nm"
    area = "area_px" if pixel_size_nm is None else "area_nm2"
    size = area if settings.quantity == "area" else f"{settings.quantity}_{unit}"
    missing = [name for name in ("y", "x", "area_px", area, size, f"height_{unit}", f"width_{unit}", "touches_edge")
               if name not in table.columns]  # fmt: skip
    if missing:
        raise InputError(
            f"the table has no column {missing[0]}; measure the objects "
            f"{'without a' if pixel_size_nm is None else 'with the'} pixel size, or give sizes in the unit it has."
        )
    table = table[table["area_px"] >= settings.min_area_px]
    pixel_height, pixel_width = pixel_size_nm or (1.0, 1.0)
    weights, words = edge_weights(
        table[["y", "x"]].to_numpy(np.float64) - (first_row, 0),
        table[[f"height_{unit}", f"width_{unit}"]].to_numpy(np.float64) / (pixel_height, pixel_width),
        table["touches_edge"].to_numpy(np.bool_),
        shape_yx,
        settings,
    )
    return Sizes(
        *_sorted(table[size].to_numpy(np.float64), weights, table[area].to_numpy(np.float64)),
        quantity=settings.quantity,
        unit="nm2" if size == "area_nm2" else unit,
        edge=words,
        n_seen=len(table),
        field_area=shape_yx[0] * pixel_height * shape_yx[1] * pixel_width,
    )


def pool(sizes: Sequence[Sizes]) -> Sizes:
    """Put the sizes of several fields together.

    Parameters
    ----------
    sizes : sequence of Sizes
        At least one.

    Raises
    ------
    InputError
        If there are none, or their quantities or units differ.
    """
    kinds = list(dict.fromkeys((each.quantity, each.unit) for each in sizes))
    if not kinds:
        raise InputError("there are no sizes to put together; give those of at least one field.")
    if len(kinds) > 1:
        raise InputError(
            f"sizes of {' and '.join(f'{quantity} in {unit}' for quantity, unit in kinds)} cannot be put together; "
            "measure all fields alike, with the pixel size or without."
        )
    return Sizes(
        *_sorted(*(np.concatenate([getattr(each, name) for each in sizes]) for name in ("values", "weights", "areas"))),
        quantity=kinds[0][0],
        unit=kinds[0][1],
        edge=describe([each.edge for each in sizes]),
        n_seen=sum(each.n_seen for each in sizes),
        field_area=sum(each.field_area for each in sizes),
    )


def _sorted(
    values: NDArray[np.float64], weights: NDArray[np.float64], areas: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Leave out what counts for nothing and sort the rest; equal sizes by weight, so that no order of fields shows."""
    order = np.lexsort((areas, weights, values))
    order = order[weights[order] > 0]
    return values[order], weights[order], areas[order]

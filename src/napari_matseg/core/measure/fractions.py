"""Area fractions of phases, and how sure they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray
    from pandas import DataFrame

MOST_BLOCKS = 1024  # along a side of the image whose covariance is taken
REACH = 3.0  # radii of the integral range, up to which the covariance is summed
NORMAL_95 = 1.959964  # 97.5 % quantile of the normal distribution


class Ratio(NamedTuple):
    """Ratio of two amounts over several fields.

    Attributes
    ----------
    value : float
        Sum of the one over the sum of the other.
    std : float
        Standard deviation between fields.
    half_width : float
        Of the 95 % confidence interval.
    """

    value: float
    std: float
    half_width: float


def ratio_over_fields(amounts: ArrayLike, extents: ArrayLike) -> Ratio:
    """Estimate an amount per extent, such as area per area of field, and its interval from how much fields differ.

    With the amounts a and extents e of n fields, the ratio is R = sum a / sum e, the standard deviation
    s = sqrt(sum (a - R e)² / (n - 1)) / mean e, and the interval R +- t s / sqrt(n), where t is the 97.5 % quantile
    of Student's distribution with n - 1 degrees of freedom. This is the ratio estimator (Cochran 1977, Sampling
    Techniques, chapter 6), so large fields weigh more. For fields of equal extent R is the mean over fields, s their
    standard deviation, and the interval that of ASTM E562 and of ASTM E112.

    Parameters
    ----------
    amounts, extents : arrays, shape (fields,)
        Fields without extent do not count.

    Returns
    -------
    Ratio
        NaN where it cannot be said: all of it without fields, the interval from a single one.

    Examples
    --------
    >>> [round(x, 3) for x in ratio_over_fields([10, 12, 14], [100, 100, 100])]
    [0.12, 0.02, 0.05]
    """
    from scipy.special import stdtrit

    a, e = np.asarray(amounts, np.float64), np.asarray(extents, np.float64)
    a, e = a[e > 0], e[e > 0]
    n = a.size
    if n == 0:
        return Ratio(float("nan"), float("nan"), float("nan"))
    ratio = float(a.sum() / e.sum())
    if n == 1:
        return Ratio(ratio, float("nan"), float("nan"))
    std = float(np.sqrt(((a - ratio * e) ** 2).sum() / (n - 1)) / e.mean())
    return Ratio(ratio, std, float(stdtrit(n - 1, 0.975)) * std / n**0.5)


def phase_fractions(pixels: ArrayLike, class_names: Sequence[str], one_field_std: ArrayLike | None = None) -> DataFrame:
    """Make a table of the area fraction of each phase with its 95 % confidence interval.

    By stereology the area fraction is also the volume fraction (Delesse 1847). From several fields the interval is
    that of ASTM E562-19, mean +- t s / sqrt(n), or for fields of unequal size that of `ratio_over_fields`, its ends
    kept within 0 and 1. From one field it is 1.96 times `one_field_std` to either side on the scale of
    ln(fraction / (1 - fraction)), on which the ends stay within 0 and 1 by themselves and small fractions, whose errors
    are skewed, are covered as often as others.

    Parameters
    ----------
    pixels : integer array, shape (fields, classes)
        Pixels of each class in each field. Fields without a pixel do not count.
    class_names : sequence of str
        A name for each class.
    one_field_std : array, shape (classes,), optional
        From the function of that name, for the interval where there is one field.

    Returns
    -------
    DataFrame
        A row for each class: `class`; `fraction`, 0 to 1; `std` between fields of this size; `ci95_low`, `ci95_high`;
        `relative_accuracy_percent`, t s / sqrt(n), or 1.96 times the std of one field, over the fraction; `fields`;
        `method`. The interval is NaN where it cannot be said: from one field without `one_field_std`, or for a class
        that is nowhere or everywhere.

    Raises
    ------
    InputError
        If the counts are no table with a column for each name, or negative.
    """
    import pandas as pd
    from scipy.special import expit, logit

    counts = np.asarray(pixels)
    names = list(class_names)
    if counts.ndim != 2 or counts.shape[1] != len(names):
        raise InputError(
            f"pixels: needs a row for each field and a column for each of {len(names)} classes, not the shape "
            f"{counts.shape}; give a count for each class."
        )
    if counts.size and counts.min() < 0:
        raise InputError(f"pixels: a count cannot be {counts.min()}; count again.")
    areas = counts.sum(axis=1)
    counts, areas = counts[areas > 0], areas[areas > 0]
    stds = np.full(len(names), np.nan) if one_field_std is None else np.asarray(one_field_std, np.float64)
    fields, equal = len(areas), bool((areas == areas[:1]).all())

    rows: list[dict[str, Any]] = []
    for i, name in enumerate(names):
        fraction, std, half = ratio_over_fields(counts[:, i], areas)
        method = "ASTM E562" if equal else "ASTM E562, fields weighted by area"
        if fields == 1:
            std, half = float(stds[i]), NORMAL_95 * float(stds[i])
            method = "one field, integral range" if np.isfinite(half) else "one field, no interval"
        if not 0 < fraction < 1:
            half = float("nan")
        low, high = np.maximum(fraction - half, 0), np.minimum(fraction + half, 1)
        if fields == 1 and np.isfinite(half):
            low, high = expit(logit(fraction) + np.array([-half, half]) / (fraction * (1 - fraction)))
        rows.append(
            {
                "class": name,
                "fraction": fraction,
                "std": std,
                "ci95_low": float(low),
                "ci95_high": float(high),
                "relative_accuracy_percent": 100 * half / fraction if fraction > 0 else float("nan"),
                "fields": fields,
                "method": method if fields else "no field",
            }
        )
    return pd.DataFrame(rows, columns=["class", "fraction", "std", "ci95_low", "ci95_high", "relative_accuracy_percent",
                                       "fields", "method"])  # fmt: skip


def one_field_std(classes_yx: ArrayLike, n_classes: int, mask: ArrayLike | None = None) -> NDArray[np.float64]:
    """Estimate from one field how much the area fraction of each class varies between such fields.

    The variance of the area fraction in a field of area A is the sum over all lags of the covariance of the phase times
    the number of pairs of pixels that lie so far apart in the field (its set covariogram), over A² (Matheron 1971;
    Lantuéjoul 1991, Journal of Microscopy 161, 387-403; Kanit et al. 2003, doi 10.1016/S0020-7683(03)00143-4).
    Written as fraction (1 - fraction) I / A, it has the integral range I, the area of an independent piece.

    Taken with the field's own fraction, the covariance sums to 0 over all lags. So it is summed up to a lag of three
    radii of a disc of area I, I being that up to the same lag (the self-consistent window of Madras and Sokal 1988,
    doi 10.1007/BF01022990), and divided by 1 - k, where k is the share of all pairs that lie within that lag, which is
    what the field's own fraction takes away.

    Parameters
    ----------
    classes_yx : integer array, shape (height, width)
        Class ids from 0. Sides of more than 1024 pixels are summed in blocks, which changes no variance but lets lags
        grow in steps of a block.
    n_classes : int
        Number of classes.
    mask : boolean array, shape (height, width), optional
        Pixels where it is False are no part of the field.

    Returns
    -------
    float64 array, shape (n_classes,)
        Standard error of the fraction of each class. NaN where one field cannot say: the class is nowhere or
        everywhere, or pairs within the lag are half of all, the structure being too coarse for the field.

    Raises
    ------
    InputError
        If the image is not two-dimensional, or the mask has another shape.
    """
    classes = np.asarray(classes_yx)
    if classes.ndim != 2 or classes.size == 0:
        raise InputError(
            f"classes: must be an image of rows and columns, not of shape {classes.shape}; give one plane."
        )
    field = None if mask is None else np.asarray(mask, np.bool_)
    if field is not None and field.shape != classes.shape:
        raise InputError(
            f"the mask has the shape {field.shape}, the classes {classes.shape}; they must show the same image."
        )
    blocks = FieldBlocks(classes.shape, n_classes)
    blocks.add(classes, field)
    return blocks.std()


class FieldBlocks:
    """Pixels of each class in blocks of a field, which is seen band by band, from above; for `one_field_std`.

    Parameters
    ----------
    shape_yx : (int, int)
        Height and width of the field.
    n_classes : int
    """

    def __init__(self, shape_yx: tuple[int, int], n_classes: int) -> None:
        self._block = -(-max(shape_yx) // MOST_BLOCKS)
        height, width = (-(-side // self._block) for side in shape_yx)
        self._inside = np.zeros((height, width), np.int64)
        self._there = np.zeros((n_classes, height, width), np.int64)
        self._rows = 0

    def add(self, classes_yx: NDArray[Any], mask_yx: NDArray[np.bool_] | None = None) -> None:
        """Take the next rows.

        Parameters
        ----------
        classes_yx : integer array, shape (height, width)
        mask_yx : boolean array, shape (height, width), optional
            Pixels where it is False are no part of the field.
        """
        if mask_yx is None:
            mask_yx = np.broadcast_to(np.True_, classes_yx.shape)
        self._add(mask_yx, self._inside)
        for i, there in enumerate(self._there):
            self._add((classes_yx == i) & mask_yx, there)
        self._rows += len(classes_yx)

    def std(self) -> NDArray[np.float64]:
        """Give what `one_field_std` gives for all rows."""
        from scipy import fft

        inside = self._inside.astype(np.float64)
        area = inside.sum()
        shape = [fft.next_fast_len(2 * side, real=True) for side in inside.shape]
        distances = [np.minimum(np.arange(side), side - np.arange(side)) for side in shape]
        lag = np.ceil(np.hypot(distances[0][:, None], distances[1])).astype(np.intp).ravel()

        def up_to_lag(values: NDArray[np.float64]) -> NDArray[np.float64]:
            spectrum = fft.rfft2(values, shape)
            products = fft.irfft2(spectrum.real**2 + spectrum.imag**2, shape) / area**2
            return np.asarray(np.cumsum(np.bincount(lag, products.ravel())), np.float64)

        stds = np.full(len(self._there), np.nan)
        pairs = up_to_lag(inside) if area else np.ones(1)
        pairs = pairs[: np.searchsorted(pairs, 0.5)]
        radii = np.arange(len(pairs)) * self._block
        for i, there in enumerate(self._there):
            fraction = there.sum() / area if area else 0.0
            if not 0 < fraction < 1:
                continue
            variances = up_to_lag(there - fraction * inside)[: len(pairs)] / (1 - pairs)
            ranges = area * np.maximum(variances, 0) / (fraction * (1 - fraction))
            enough = np.flatnonzero(radii >= np.maximum(REACH * np.sqrt(ranges / np.pi), 1))
            if enough.size and variances[enough[0]] > 0:
                stds[i] = variances[enough[0]] ** 0.5
        return stds

    def _add(self, values_yx: NDArray[np.bool_], sums: NDArray[np.int64]) -> None:
        """Add rows to the sums of the blocks that they lie in."""
        height, width = values_yx.shape
        if not height:
            return
        block = self._block
        starts = np.concatenate([[0], np.arange(-self._rows % block or block, height, block)])
        rows = np.add.reduceat(values_yx, starts, axis=0, dtype=np.int32)
        first = self._rows // block
        sums[first : first + len(rows)] += np.add.reduceat(rows, np.arange(0, width, block), axis=1)

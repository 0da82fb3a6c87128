"""What a segmentation does to the numbers that are published: sizes, count and phase fractions against the truth.

IoU weighs pixels, and large objects have most of them; a size distribution weighs objects. A segmentation that joins
neighbours, or loses the small ones, can have a high IoU and a wrong D50. So these are given beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.metrics import plain
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_matseg.core.measure.sizes import Sizes, Weighting
    from napari_matseg.core.metrics import Counts

D_VALUES = (10, 50, 90)
GOOD_IOU = 0.8  # a segmentation that most would call good,
WRONG_D50 = 0.05  # and a relative error of the D50 that it must not hide


def size_errors(predicted: Sizes, truth: Sizes, by: Weighting = "number") -> list[dict[str, Any]]:
    """Hold a predicted size distribution against the true one.

    Parameters
    ----------
    predicted, truth : Sizes
        Of the same quantity, in the same unit.
    by : {"number", "area"}
        Whether an object counts as one, or as its area.

    Returns
    -------
    list of dict
        `measure`, `unit`, `predicted`, `true`, `error` (predicted - true), `relative_error` (error / true); None where
        undefined. A row for each of:

        - "D10", "D50", "D90", "mean" of the quantity;
        - "count": objects in the fields, before any correction for the edge;
        - "Wasserstein distance": area between the two cumulative curves, which is how far sizes must be moved on
          average to make one distribution of the other (Vaserstein 1969, Problemy Peredachi Informatsii 5(3), 64-72);
          its relative error is its share of the true mean;
        - "Kolmogorov-Smirnov distance": the largest difference between the curves, from 0 to 1 (Smirnov 1948,
          doi 10.1214/aoms/1177730256).

        The distances stand under `error`, and have no predicted and true values. Both are of the weighted
        distributions, corrected for the edge as the sizes are.

    Raises
    ------
    InputError
        If quantities or units differ.
    """
    if (predicted.quantity, predicted.unit) != (truth.quantity, truth.unit):
        raise InputError(
            f"the prediction has sizes of {predicted.quantity} in {predicted.unit} and the truth of {truth.quantity} "
            f"in {truth.unit}; measure both alike, with the same pixel size."
        )
    unit = truth.unit
    rows = [
        _row(f"D{percent}", unit, predicted.quantile(percent / 100, by), truth.quantile(percent / 100, by))
        for percent in D_VALUES
    ]
    true_mean = truth.mean(by)
    rows += [
        _row("mean", unit, predicted.mean(by), true_mean),
        _row("count", "", predicted.n_seen, truth.n_seen),
    ]
    wasserstein, ks = _distances(predicted, truth, by)
    for measure, in_unit, distance, whole in (
        ("Wasserstein distance", unit, wasserstein, true_mean),
        ("Kolmogorov-Smirnov distance", "", ks, float("nan")),
    ):
        rows.append(
            {
                "measure": measure,
                "unit": in_unit,
                "predicted": None,
                "true": None,
                "error": plain(distance),
                "relative_error": plain(distance / whole),
            }
        )
    return rows


def fraction_errors(counts: Counts, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Hold predicted phase fractions against the true ones.

    Parameters
    ----------
    counts : Counts
        Pixels of each class that were taken for each class.
    class_names : sequence of str
        A name for each class.

    Returns
    -------
    list of dict
        `class`, `predicted`, `true` (shares of the pixels, 0 to 1), `error_points` (percentage points, predicted -
        true) and `relative_error` (error / true); None where undefined. One row for each class.

    Raises
    ------
    InputError
        If there is not one name for each class.
    """
    if len(class_names) != counts.n_classes:
        raise InputError(f"{counts.n_classes} classes need as many names, not {', '.join(class_names) or 'none'}.")
    pixels = int(counts.confusion.sum())
    rows = []
    for i, name in enumerate(class_names):
        predicted, true = (
            int(counts.confusion.sum(axis=axis)[i]) / pixels if pixels else float("nan") for axis in (0, 1)
        )
        row = _row(name, "", predicted, true)
        rows.append(
            {
                "class": name,
                "predicted": row["predicted"],
                "true": row["true"],
                "error_points": plain(100 * (predicted - true)),
                "relative_error": row["relative_error"],
            }
        )
    return rows


def say_size_errors(rows: Sequence[dict[str, Any]], iou: float | None = None) -> str:
    """Say in one line what `size_errors` found, and what a high IoU hides.

    Parameters
    ----------
    rows : sequence of dict
        As `size_errors` gives them.
    iou : float, optional
        IoU of the same segmentation.

    Examples
    --------
    >>> d50 = {"measure": "D50", "unit": "nm", "predicted": 12.0, "true": 10.0, "error": 2.0, "relative_error": 0.2}
    >>> count = {"measure": "count", "unit": "", "predicted": 70, "true": 80, "error": -10, "relative_error": -0.125}
    >>> print(say_size_errors([d50, count], iou=0.91))
    D50 12 nm, 20.0 % above the true 10 nm; 70 objects, 12.5 % below the true 80. The IoU of 0.91 does not show it.
    """
    of = {row["measure"]: row for row in rows}
    d50, count = of["D50"], of["count"]
    sizes = "D50 undefined" if d50["error"] is None else f"D50 {_against(d50)}"
    line = f"{sizes}; {count['predicted']:.6g} objects, {_against(count).partition(', ')[2]}."
    wrong = d50["relative_error"] is not None and abs(d50["relative_error"]) >= WRONG_D50
    if wrong and iou is not None and iou >= GOOD_IOU:
        line += f" The IoU of {iou:.2f} does not show it."
    return line


def _against(row: dict[str, Any]) -> str:
    unit = f" {row['unit']}" if row["unit"] else ""
    true = f"true {row['true']:.4g}{unit}"
    relative = row["relative_error"]
    if relative is None:
        error = f"against the {true}"
    elif row["error"] == 0:
        error = f"as the {true}"
    else:
        error = f"{abs(relative):.1%} {'above' if row['error'] > 0 else 'below'} the {true}".replace("%", " %", 1)
    return f"{row['predicted']:.4g}{unit}, {error}"


def _row(measure: str, unit: str, predicted: float, true: float) -> dict[str, Any]:
    error = predicted - true
    return {
        "measure": measure,
        "unit": unit,
        "predicted": plain(predicted),
        "true": plain(true),
        "error": plain(error),
        "relative_error": plain(error / true) if true else None,
    }


def _distances(predicted: Sizes, truth: Sizes, by: Weighting) -> tuple[float, float]:
    """Wasserstein and Kolmogorov-Smirnov distance of two weighted samples."""
    from scipy.stats import wasserstein_distance

    if not predicted.values.size or not truth.values.size:
        return float("nan"), float("nan")
    sides = [(sizes.values, sizes.weights * (sizes.areas if by == "area" else 1)) for sizes in (predicted, truth)]
    (u, u_weights), (v, v_weights) = sides
    every = np.concatenate([u, v])
    curves = [
        np.append(0, np.cumsum(weights) / weights.sum())[np.searchsorted(values, every, "right")]
        for values, weights in sides
    ]
    return (
        float(wasserstein_distance(u, v, u_weights, v_weights)),
        float(np.abs(curves[0] - curves[1]).max()),
    )

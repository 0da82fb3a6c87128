from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_matseg.core.agreement.size_errors import fraction_errors, say_size_errors, size_errors
from napari_matseg.core.measure.sizes import Sizes
from napari_matseg.core.metrics import Counts, Scores
from napari_matseg.errors import InputError


def sizes_of(values: object, weights: object = None, *, unit: str = "nm", quantity: str = "diameter") -> Sizes:
    values = np.asarray(values, np.float64)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    order = np.argsort(values, kind="stable")
    return Sizes(
        values[order],
        weights[order],
        math.pi / 4 * values[order] ** 2,
        quantity,
        unit,
        "not corrected",
        len(values),
        1e6,
    )


def by_measure(rows: list[dict]) -> dict[str, dict]:
    return {row["measure"]: row for row in rows}


some = st.lists(st.floats(1, 100), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(some, some, st.sampled_from(["number", "area"]))
def test_distances_agree_with_the_cumulative_curves(ours: list[float], theirs: list[float], by: str) -> None:
    predicted, truth = sizes_of(ours), sizes_of(theirs)
    of = by_measure(size_errors(predicted, truth, by))
    at = np.unique([*ours, *theirs])

    def curve(sizes: Sizes) -> np.ndarray:
        weights = sizes.areas if by == "area" else sizes.weights
        return np.array([weights[sizes.values <= value].sum() for value in at]) / weights.sum()

    apart = np.abs(curve(predicted) - curve(truth))
    assert of["Kolmogorov-Smirnov distance"]["error"] == pytest.approx(apart.max(), abs=1e-9)
    assert of["Wasserstein distance"]["error"] == pytest.approx((apart[:-1] * np.diff(at)).sum(), abs=1e-9)


def test_kolmogorov_smirnov_agrees_with_scipy() -> None:
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(1, 20, 50), rng.integers(3, 25, 40)
    row = by_measure(size_errors(sizes_of(ours), sizes_of(theirs)))["Kolmogorov-Smirnov distance"]
    assert row["error"] == pytest.approx(ks_2samp(ours, theirs).statistic)
    assert row["unit"] == ""
    assert row["relative_error"] is row["predicted"] is row["true"] is None


@pytest.mark.parametrize("by", ["number", "area"])
def test_scaled_sizes_are_wrong_by_the_scale(by: str) -> None:
    truth = np.random.default_rng(1).lognormal(3, 0.4, 101)
    rows = by_measure(size_errors(sizes_of(1.2 * truth), sizes_of(truth), by))
    for measure in ("D10", "D50", "D90", "mean", "Wasserstein distance"):
        assert rows[measure]["relative_error"] == pytest.approx(0.2)
        assert rows[measure]["unit"] == "nm"
    assert rows["D50"]["error"] == pytest.approx(rows["D50"]["predicted"] - rows["D50"]["true"])
    assert rows["count"]["error"] == rows["count"]["relative_error"] == 0
    assert rows["D50"]["true"] == pytest.approx(sizes_of(truth).quantile(0.5, by))


def test_the_weights_of_the_edge_correction_count() -> None:
    weighted, repeated = sizes_of([10, 20], [3, 1]), sizes_of([10, 10, 10, 20])
    rows = by_measure(size_errors(weighted, repeated))
    assert rows["Wasserstein distance"]["error"] == pytest.approx(0)
    assert rows["mean"]["error"] == pytest.approx(0)
    assert (rows["count"]["predicted"], rows["count"]["true"], rows["count"]["error"]) == (2, 4, -2)
    assert rows["count"]["relative_error"] == -0.5


def test_no_objects_leave_sizes_undefined_and_count_them() -> None:
    rows = size_errors(sizes_of([]), sizes_of([5.0, 6.0, 7.0]))
    of = by_measure(rows)
    assert of["D50"]["predicted"] is of["D50"]["error"] is of["Wasserstein distance"]["error"] is None
    assert of["D50"]["true"] == 6
    assert of["count"]["error"] == -3
    assert say_size_errors(rows, 0.0) == "D50 undefined; 0 objects, 100.0 % below the true 3."
    both = by_measure(size_errors(sizes_of([]), sizes_of([])))
    assert both["count"] == {
        "measure": "count",
        "unit": "",
        "predicted": 0,
        "true": 0,
        "error": 0,
        "relative_error": None,
    }
    assert say_size_errors([*both.values()]) == "D50 undefined; 0 objects, against the true 0."


def test_joined_neighbours_keep_the_iou_and_double_the_area() -> None:
    from napari_matseg.core.agreement.pairs import count_pairs

    truth = np.zeros((41, 100), np.uint8)
    for k in range(8):
        truth[5:35, 2 + 12 * k : 13 + 12 * k] = k + 1
    prediction = np.zeros_like(truth)
    for k in range(4):
        prediction[5:35, 2 + 24 * k : 25 + 24 * k] = k + 1
    iou = float(np.count_nonzero(truth) / np.count_nonzero(prediction))  # the prediction has all of the truth
    pairs = count_pairs(prediction, truth)
    diameters = [np.sqrt(4 / np.pi * areas) for areas in (pairs.predicted_areas, pairs.truth_areas)]
    text = say_size_errors(size_errors(*(sizes_of(each, unit="px") for each in diameters)), iou)
    assert iou > 0.95
    assert text.startswith("D50 29.64 px, 44.6 % above the true 20.5 px; 4 objects, 50.0 % below the true 8.")
    assert text.endswith("The IoU of 0.96 does not show it.")


def test_only_a_good_iou_hides_a_wrong_d50() -> None:
    truth = np.linspace(10, 30, 21)
    wrong, right = (size_errors(sizes_of(scale * truth), sizes_of(truth)) for scale in (1.2, 1.0))
    assert "does not show" in say_size_errors(wrong, 0.9)
    for rows, iou in ((wrong, 0.4), (wrong, None), (wrong, float("nan")), (right, 0.9)):
        assert "does not show" not in say_size_errors(rows, iou)
    assert say_size_errors(right) == "D50 20 nm, as the true 20 nm; 21 objects, as the true 21."


def test_sizes_of_different_things_are_not_compared() -> None:
    with pytest.raises(InputError, match="diameter in px and the truth of diameter in nm; measure both alike"):
        size_errors(sizes_of([1], unit="px"), sizes_of([1]))
    with pytest.raises(InputError, match="feret_max in nm and the truth of diameter"):
        size_errors(sizes_of([1], quantity="feret_max"), sizes_of([1]))


def test_phase_fractions_are_shares_of_the_pixels() -> None:
    counts = Counts(np.array([[60, 10, 0], [0, 20, 0], [5, 5, 0]]))
    rows = fraction_errors(counts, ["matrix", "pore", "crack"])
    assert [row["class"] for row in rows] == ["matrix", "pore", "crack"]
    assert rows[1]["predicted"] == 0.35
    assert rows[1]["true"] == 0.2
    assert rows[1]["error_points"] == pytest.approx(15)
    assert rows[1]["relative_error"] == pytest.approx(0.75)
    assert rows[2]["relative_error"] == -1
    assert sum(row["error_points"] for row in rows) == pytest.approx(0)
    shares = Scores(counts).pixels_prediction / counts.confusion.sum()
    np.testing.assert_allclose([row["predicted"] for row in rows], shares)


def test_fractions_of_nothing_are_undefined() -> None:
    assert fraction_errors(Counts.zero(1), ["matrix"]) == [
        {"class": "matrix", "predicted": None, "true": None, "error_points": None, "relative_error": None}
    ]
    never_there = fraction_errors(Counts(np.array([[3, 1], [0, 0]])), ["matrix", "pore"])[1]
    assert (never_there["error_points"], never_there["relative_error"]) == (25.0, None)
    with pytest.raises(InputError, match="2 classes need as many names, not matrix"):
        fraction_errors(Counts.zero(2), ["matrix"])

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_matseg.core.measure.shapes import measure_objects
from napari_matseg.core.measure.sizes import LogNormal, Sizes, pool, size_distribution
from napari_matseg.errors import InputError
from napari_matseg.settings import MeasureSettings

values = hnp.arrays(np.float64, st.integers(1, 30), elements=st.integers(1, 40).map(float))


def sizes(of: object, weights: object = None, areas: object = None, unit: str = "nm", **more: object) -> Sizes:
    v = np.array(of, np.float64)
    w = np.ones(v.size) if weights is None else np.array(weights, np.float64)
    a = np.ones(v.size) if areas is None else np.array(areas, np.float64)
    order = np.argsort(v, kind="stable")
    found = {"quantity": "diameter", "edge": "", "n_seen": v.size, "field_area": 1000.0} | more
    return Sizes(v[order], w[order], a[order], unit=unit, **found)


def table_of(boxes: list[tuple[int, int, int, int]], shape: tuple[int, int]) -> pd.DataFrame:
    """Make the columns of `measure_objects` that count here: rectangles of top, left, height, width."""
    top, left, height, width = np.array(boxes, np.int64).reshape(-1, 4).T
    return pd.DataFrame(
        {
            "y": top + (height - 1) / 2,
            "x": left + (width - 1) / 2,
            "area_px": height * width,
            "diameter_px": np.sqrt(4 / np.pi * height * width),
            "height_px": height.astype(float),
            "width_px": width.astype(float),
            "touches_edge": (top == 0) | (left == 0) | (top + height == shape[0]) | (left + width == shape[1]),
        }
    )


@given(values, st.floats(0, 1))
def test_equal_weights_are_hazens_rule(of: np.ndarray, share: float) -> None:
    assert sizes(of).quantile(share) == pytest.approx(np.quantile(of, share, method="hazen"), rel=1e-9)


@given(values.filter(lambda v: v.size % 2 == 1))
def test_d50_of_an_odd_number_is_the_median(of: np.ndarray) -> None:
    assert sizes(of).quantile(0.5) == pytest.approx(np.median(of))


@given(values, st.integers(0, 2**32 - 1))
def test_cumulative_curve_rises_and_holds_the_quantiles(of: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = sizes(of, rng.uniform(0.5, 4, of.size), rng.uniform(1, 50, of.size))
    for by in ("number", "area"):
        curve, share = found.cumulative(by)
        assert (np.diff(share) > 0).all()
        assert 0 < share[0] <= share[-1] < 1
        quantiles = [found.quantile(q, by) for q in (0, 0.1, 0.5, 0.9, 1)]
        assert (np.diff(quantiles) >= 0).all()
        assert (quantiles[0], quantiles[-1]) == (curve[0], curve[-1])


def test_area_weighting_multiplies_by_areas() -> None:
    plain, twice = sizes([1, 2, 4], weights=[1, 2, 3]), sizes([1, 2, 4], weights=[2, 1, 1.5], areas=[0.5, 2, 2])
    for name in ("mean", "std", "span", "lognormal"):
        assert getattr(plain, name)("number") == getattr(twice, name)("area")
    assert plain.mean() == pytest.approx((1 + 4 + 12) / 6)


def test_std_is_the_usual_one_for_equal_weights() -> None:
    of = [3.0, 1, 4, 1, 5]
    assert sizes(of).std() == pytest.approx(np.std(of, ddof=1))
    assert np.isnan(sizes([3.0]).std())


@given(values, st.booleans(), st.one_of(st.none(), st.integers(1, 20)))
def test_histogram_holds_everything(of: np.ndarray, log: bool, bins: int | None) -> None:
    edges, share = sizes(of, areas=of**2).histogram(bins, "area", log=log)
    assert share.sum() == pytest.approx(1)
    assert (np.diff(edges) > 0).all()
    if bins is not None:
        assert share.size == bins
    steps = np.diff(np.log(edges) if log else edges)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)


def test_automatic_bins_follow_freedman_and_diaconis() -> None:
    of = np.random.default_rng(0).lognormal(3, 0.4, 2000)
    edges, _ = sizes(of).histogram()
    assert edges.size == pytest.approx(np.histogram_bin_edges(of, "fd").size, abs=1)
    assert sizes([1, *[5.0] * 100, 9]).histogram()[1].size == 8  # Sturges, where the quartiles are equal
    assert sizes([*np.linspace(1, 1.1, 40), 1e6]).histogram()[1].size == 200


def test_histogram_with_given_limits_says_the_share_of_all() -> None:
    _, share = sizes([1, 2, 3, 4]).histogram([2, 3, 4])
    assert share.tolist() == [0.25, 0.5]


def test_lognormal_fit_agrees_with_scipy() -> None:
    from scipy import stats

    of = np.random.default_rng(1).lognormal(2, 0.5, 300)
    fit = sizes(of).lognormal()
    s, _, scale = stats.lognorm.fit(of, floc=0)
    assert fit.median == pytest.approx(scale)
    assert np.log(fit.geometric_std) == pytest.approx(s)
    assert fit.ks_distance == pytest.approx(stats.kstest(of, stats.lognorm(s, scale=scale).cdf).statistic)
    assert fit.cumulative(fit.median) == pytest.approx(0.5)


def test_area_weighting_shifts_a_lognormal_as_hatch_and_choate_say() -> None:
    of = np.exp(3 + 0.3 * _normal_scores(4000))
    found = sizes(of, areas=of**2)
    number, area = found.lognormal(), found.lognormal("area")
    assert area.median / number.median == pytest.approx(np.exp(2 * 0.3**2), rel=0.01)
    assert area.geometric_std == pytest.approx(number.geometric_std, rel=0.01)


def test_lognormal_of_equal_sizes_has_no_spread() -> None:
    fit = sizes([3.0, 3.0, 3.0]).lognormal()
    assert (fit.median, fit.geometric_std, fit.ks_distance) == (3.0, 1.0, 0.0)
    assert fit.cumulative([2, 3, 4]).tolist() == [0, 1, 1]
    one = sizes([3.0]).lognormal()
    assert one.median == 3.0
    assert np.isnan([one.geometric_std, one.ks_distance, one.cumulative(3.0)]).all()


def test_ties_count_as_one_step_of_the_curve() -> None:
    assert sizes([1, 1, 2, 2]).lognormal().ks_distance == pytest.approx(
        0.5 - LogNormal(1, np.e, 0).cumulative(np.exp(-1))
    )


def test_no_objects_give_nan_everywhere() -> None:
    empty = sizes([])
    for by in ("number", "area"):
        row = empty.summary(by)
        assert row["n"] == row["n_seen"] == 0
        assert all(np.isnan(v) for k, v in row.items() if isinstance(v, float) and k != "density_per_um2")
        assert row["density_per_um2"] == 0
    edges, share = empty.histogram()
    assert edges.tolist() == [0, 1]
    assert np.isnan(share).all()
    assert empty.cumulative()[0].size == 0


def test_summary_is_a_row_headed_with_units() -> None:
    row = sizes([1, 2, 3], areas=[1, 4, 9], edge="not corrected").summary()
    assert list(row) == [
        "quantity", "weighting", "n", "n_seen", "mean_nm", "std_nm", "d10_nm", "d50_nm", "d90_nm", "span",
        "lognormal_median_nm", "lognormal_geometric_std", "lognormal_ks_distance", "density_per_um2", "edge",
    ]  # fmt: skip
    assert row["density_per_um2"] == pytest.approx(3 / 1000 * 1e6)
    assert "density_per_px" in sizes([1], unit="px").summary()


@given(st.lists(values, min_size=1, max_size=4), st.randoms())
@settings(max_examples=20)
def test_pooling_is_putting_together(parts: list[np.ndarray], random: object) -> None:
    every = [sizes(part, areas=part**2) for part in parts]
    together = sizes(np.concatenate(parts), areas=np.concatenate(parts) ** 2, field_area=1000.0 * len(parts))
    random.shuffle(every)  # type: ignore[attr-defined]
    assert pool(every).summary("area") == pytest.approx(together.summary("area"), nan_ok=True)


def test_pooling_refuses_what_is_not_alike() -> None:
    with pytest.raises(InputError, match="diameter in nm and diameter in px cannot be put together"):
        pool([sizes([1]), sizes([1], unit="px")])
    with pytest.raises(InputError, match="at least one field"):
        pool([])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.quantile(50), "share: must be from 0 to 1, not 50"),
        (lambda s: s.mean("volume"), 'must be "number" or "area", not "volume"'),
        (lambda s: s.histogram(0), "at least 1, not 0"),
        (lambda s: s.histogram([1, 1]), "limits must be two or more"),
    ],
)
def test_wrong_questions_are_refused(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(sizes([1, 2]))  # type: ignore[operator]


def test_size_distribution_takes_the_quantity_and_the_unit() -> None:
    table = table_of([(10, 10, 4, 6), (30, 20, 2, 2), (0, 0, 5, 5)], (60, 80))
    found = size_distribution(table, MeasureSettings(edge="drop"), (60, 80))
    assert (found.quantity, found.unit, found.n_seen, found.field_area) == ("diameter", "px", 3, 4800.0)
    assert found.values == pytest.approx(np.sqrt(4 / np.pi * np.array([4, 24])))
    assert found.areas.tolist() == [4, 24]
    areas = size_distribution(table, MeasureSettings(edge="keep", quantity="area", min_area_px=5), (60, 80))
    assert (areas.values.tolist(), areas.unit, areas.n_seen) == ([24, 25], "px", 2)

    for name in ("diameter", "height", "width"):
        table[f"{name}_nm"] = 2.0 * table[f"{name}_px"]
    table["area_nm2"] = 4.0 * table["area_px"]
    in_px = size_distribution(table, MeasureSettings(), (60, 80))
    in_nm = size_distribution(table, MeasureSettings(), (60, 80), (2.0, 2.0))
    np.testing.assert_allclose(in_nm.values, 2 * in_px.values)
    np.testing.assert_allclose(in_nm.weights, in_px.weights)
    assert in_nm.density == pytest.approx(in_px.density / 4)
    assert size_distribution(table, MeasureSettings(quantity="area"), (60, 80), (2.0, 2.0)).unit == "nm2"


@pytest.mark.parametrize(
    "quantity", ["diameter", "feret_max", "feret_min", "major_axis", "minor_axis", "perimeter", "area"]
)
def test_size_distribution_takes_what_measure_objects_gives(quantity: str) -> None:
    labels = np.zeros((40, 50), np.int32)
    labels[22:30, 5:13], labels[18:21, 30:36], labels[12:14, 0:3], labels[:5] = 3, 9, 4, 7
    field = slice(10, 40)
    for pixel_size_nm, unit in ((None, "px"), ((2.0, 3.0), "nm")):
        table = measure_objects(labels, pixel_size_nm=pixel_size_nm, rows=field)
        found = size_distribution(table, MeasureSettings(quantity=quantity), (30, 50), pixel_size_nm, first_row=10)
        assert found.unit == ("nm2" if (quantity, unit) == ("area", "nm") else unit)
        assert (found.values.size, found.n_seen) == (2, 3)
        assert np.sort(found.weights) == pytest.approx([1500 / (26 * 43), 1500 / (21 * 41)])
        guarded = MeasureSettings(quantity=quantity, edge="guard")
        assert size_distribution(table, guarded, (30, 50), pixel_size_nm, first_row=10).values.size == 2


def test_size_distribution_of_an_empty_table() -> None:
    for edge in ("miles-lantuejoul", "guard", "drop", "keep"):
        found = size_distribution(table_of([], (60, 80)), MeasureSettings(edge=edge), (60, 80))
        assert (found.values.size, found.n_seen, found.density) == (0, 0, 0)


def test_a_table_in_the_other_unit_is_refused() -> None:
    with pytest.raises(InputError, match="no column area_nm2; measure the objects with the pixel size"):
        size_distribution(table_of([], (60, 80)), MeasureSettings(), (60, 80), (2.0, 2.0))


def _normal_scores(n: int) -> np.ndarray:
    from scipy.special import ndtri

    return ndtri((np.arange(n) + 0.5) / n)

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_hex

from napari_matseg.core.figures.plot import COLOURS, Plot, to_svg
from napari_matseg.core.figures.sizes import FEW, MOST_POINTS, size_comparison_figure, size_figure
from napari_matseg.core.measure.sizes import Sizes
from napari_matseg.errors import InputError


def make(n: int = 200, median: float = 20.0, spread: float = 1.3, *, seed: int = 0, unit: str = "nm") -> Sizes:
    rng = np.random.default_rng(seed)
    values = np.sort(median * spread ** rng.standard_normal(n))
    weights = rng.uniform(1, 2, n)
    return Sizes(values, weights, values**2, "diameter", unit, "Miles-Lantuéjoul weights", n, 1e6)


def rows(plot: Plot, curve: str, group: str | None = None):
    data = plot.data
    return data[(data["curve"] == curve) & ((data["group"] == group) if group else True)]


@pytest.mark.parametrize("by", ["number", "area"])
@pytest.mark.parametrize("log", [True, False])
def test_data_are_those_of_the_distribution(by, log):
    sizes = make()
    plot = size_figure([sizes], ["one.tif"], by=by, log=log)
    bins = rows(plot, "histogram")
    edges, share = sizes.histogram(np.r_[bins["diameter_nm"], bins["upper_nm"].iloc[-1]], by)
    assert np.allclose(bins["share"], share)
    assert bins["share"].sum() == pytest.approx(1)
    assert (edges[0], edges[-1]) == pytest.approx((sizes.values[0], sizes.values[-1]))
    steps = np.diff(np.log(edges) if log else edges)
    assert np.allclose(steps, steps[0])
    curve = rows(plot, "cumulative")
    assert np.array_equal(curve["diameter_nm"].iloc[1:-1], sizes.values)
    assert np.allclose(curve["share"].iloc[1:-1], sizes.cumulative(by)[1])
    assert curve["share"].iloc[[0, -1]].tolist() == [0, 1]
    for percent in (10, 50, 90):
        assert rows(plot, f"D{percent}")["diameter_nm"].item() == sizes.quantile(percent / 100, by)
    assert set(plot.data["weighting"]) == {by}
    assert set(plot.data["edge"]) == {"Miles-Lantuéjoul weights"}
    assert (plot.figure.axes[0].get_xscale() == "log") == log


@pytest.mark.parametrize("log", [True, False])
def test_the_fit_says_how_much_of_it_a_bin_would_hold(log):
    sizes = make()
    plot = size_figure([sizes], ["one"], log=log)
    bins, curve = rows(plot, "histogram"), rows(plot, "log-normal")
    low, high = bins["diameter_nm"].to_numpy(), bins["upper_nm"].to_numpy()
    middle = np.sqrt(low * high) if log else (low + high) / 2
    fit = sizes.lognormal()
    expected = fit.cumulative(high) - fit.cumulative(low)
    drawn = np.interp(middle, curve["diameter_nm"], curve["share"])
    assert np.allclose(drawn, expected, atol=0.002)


@pytest.mark.parametrize(("spread", "log"), [(1.2, False), (2.5, True)])
def test_axis_is_logarithmic_where_sizes_spread_far(spread, log):
    figure = size_figure([make(spread=spread)], ["one"]).figure
    assert (figure.axes[0].get_xscale() == "log") == log


def test_several_share_their_bins_and_are_told_apart():
    plot = size_figure([make(seed=0), make(seed=1, median=60.0)], ["a", "b"])
    assert np.array_equal(rows(plot, "histogram", "a")["upper_nm"], rows(plot, "histogram", "b")["upper_nm"])
    bars, curves = plot.figure.axes
    assert bars.get_ylabel() == "Share of objects (%)"
    assert {to_hex(line.get_color()) for line in curves.lines} == set(COLOURS[:2])
    words = [text.get_text() for text in plot.figure.legends[0].texts]
    assert words[0] == "name (objects): D10 | D50 | D90"
    assert words[1].startswith("a (200): ")
    assert words[-2:] == ["log-normal fits", "edge: Miles-Lantuéjoul weights"]


def test_bins_suit_the_single_distributions_where_these_lie_apart():
    alone = rows(size_figure([make()], ["a"], log=True), "histogram")
    both = rows(size_figure([make(), make(median=2000.0)], ["a", "b"], log=True), "histogram", "a")
    widths = [np.log(bins["upper_nm"] / bins["diameter_nm"]).iloc[0] for bins in (alone, both)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_many_are_not_fitted():
    several = [make(seed=i) for i in range(FEW + 1)]
    assert rows(size_figure(several, [str(i) for i in range(FEW + 1)]), "log-normal").empty
    assert rows(size_figure(several[:1], ["0"], fit=False), "log-normal").empty


def test_more_groups_than_colours_differ_in_their_lines():
    n = len(COLOURS) + 2
    curves = size_figure([make(20, seed=i) for i in range(n)], [str(i) for i in range(n)]).figure.axes[1]
    styles = {(line.get_color(), line.get_linestyle()) for line in curves.lines if len(line.get_xdata()) > 1}
    assert len(styles) == n


def test_single_figure_names_everything_in_its_legend():
    plot = size_figure([make()], ["a_micrograph_with_a_very_long_name_of_its_own_2024.tif"])
    words = [text.get_text() for text in plot.figure.legends[0].texts]
    assert words[0] == "a_micrograph_with_a_…of_its_own_2024.tif: 200 objects"
    assert words[1].startswith("cumulative: D10 | D50 | D90 = ")
    assert words[2].startswith("log-normal: median ")
    assert words[3] == "edge: Miles-Lantuéjoul weights"
    assert set(plot.data["group"]) == {"a_micrograph_with_a_very_long_name_of_its_own_2024.tif"}


@pytest.mark.parametrize(
    ("quantity", "unit", "median", "label"),
    [
        ("diameter", "nm", 20.0, "Equivalent circle diameter (nm)"),
        ("diameter", "nm", 5000.0, "Equivalent circle diameter (µm)"),
        ("diameter", "px", 5000.0, "Equivalent circle diameter (px)"),
        ("area", "nm2", 200.0, "Area (nm²)"),
        ("area", "nm2", 5e6, "Area (µm²)"),
        ("feret_max", "nm", 20.0, "Largest Feret diameter (nm)"),
    ],
)
def test_axis_is_in_a_unit_that_suits_it_and_data_in_their_own(quantity, unit, median, label):
    sizes = dataclasses.replace(make(median=median, unit=unit), quantity=quantity)
    plot = size_figure([sizes], ["one"])
    assert plot.figure.axes[0].get_xlabel() == label
    assert rows(plot, "D50")[f"{quantity}_{unit}"].item() == sizes.quantile(0.5)


@pytest.mark.parametrize(("n", "log"), [(0, True), (0, "auto"), (1, True), (1, False), (2, "auto")])
def test_few_objects_or_none_are_drawn_too(n, log):
    few = make(n)
    for plot in (
        size_figure([few], ["one"], log=log),
        size_figure([few, make(0)], ["one", "none"], log=log),
        size_comparison_figure(few, make(0), log=log),
        size_comparison_figure(few, make(5), log=log),
    ):
        assert b"</svg>" in to_svg(plot)
    assert len(rows(size_figure([few], ["one"], log=log), "cumulative")) == (n + 2 if n else 0)


def test_few_large_objects_beside_many_small_ones_call_for_a_log_axis():
    small, large = make(2000, median=10), make(5, median=300)
    assert size_figure([small], ["small"]).figure.axes[0].get_xscale() == "linear"
    assert size_figure([small, large], ["small", "large"]).figure.axes[0].get_xscale() == "log"


def test_equal_sizes_have_no_fit():
    values = np.full(5, 3.0)
    plot = size_figure([Sizes(values, np.ones(5), values, "diameter", "px", "", 5, 100.0)], ["one"], log=True)
    assert rows(plot, "log-normal").empty
    assert b"</svg>" in to_svg(plot)


def test_a_curve_of_many_objects_is_drawn_with_fewer_points():
    sizes = make(20_000)
    plot = size_figure([sizes], ["one"])
    curve = rows(plot, "cumulative")
    assert len(curve) == MOST_POINTS + 2
    drawn = np.interp(sizes.values, curve["diameter_nm"], curve["share"])
    assert np.abs(drawn - sizes.cumulative()[1]).max() < 0.002


def test_comparison_holds_both_curves():
    predicted, truth = make(seed=1), make(seed=2)
    plot = size_comparison_figure(predicted, truth, by="area")
    assert rows(plot, "D90", "predicted")["diameter_nm"].item() == predicted.quantile(0.9, "area")
    assert rows(plot, "D90", "truth")["diameter_nm"].item() == truth.quantile(0.9, "area")
    assert rows(plot, "histogram").empty


def test_different_corrections_are_all_named():
    other = dataclasses.replace(make(), edge="not corrected: objects at the edge left out")
    words = [text.get_text() for text in size_comparison_figure(make(), other).figure.legends[0].texts]
    expected = "edge: not corrected: objects at the edge left out; Miles-Lantuéjoul weights"
    assert words[-1].replace("\n", " ") == expected


def test_names_and_units_must_fit():
    with pytest.raises(InputError, match="there are 2 names for 1 size distributions; give each its own"):
        size_figure([make()], ["a", "b"])
    with pytest.raises(InputError, match="there are no sizes"):
        size_figure([], [])
    with pytest.raises(InputError, match="diameter in px and diameter in nm"):
        size_comparison_figure(make(), make(unit="px"))

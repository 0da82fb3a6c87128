"""Figures of size distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_matseg.core.figures.plot import (
    COLOURS,
    DASHES,
    SMALL,
    finish,
    legend_below,
    new_figure,
    no_handle,
    number,
    shortened,
    spare_box,
    styled,
    wrapped,
)
from napari_matseg.core.measure.edges import describe
from napari_matseg.core.measure.sizes import MOST_BINS, pool
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from pandas import DataFrame

    from napari_matseg.core.figures.plot import Plot
    from napari_matseg.core.measure.sizes import Sizes, Weighting

LOG_FROM = 5.0
"""D90 / D10 from which sizes are drawn on a log axis, if that is left open."""
MOST_POINTS = 1000
"""Of a cumulative curve: more would show nothing and make a heavy SVG."""
PERCENTILES = (10, 50, 90)
D_VALUES = " | ".join(f"D{percent}" for percent in PERCENTILES)
HEAD = f"name (objects): {D_VALUES}"
FEW = 4
"""Distributions, more of which hide each other: their histograms are not filled, and not fitted."""
QUANTITIES = {
    "diameter": "Equivalent circle diameter",
    "feret_max": "Largest Feret diameter",
    "feret_min": "Smallest Feret diameter",
    "major_axis": "Major axis",
    "minor_axis": "Minor axis",
    "perimeter": "Perimeter",
    "area": "Area",
}
LARGE_UNITS = {"nm": ("µm", 1e3), "nm2": ("µm²", 1e6)}
"""What sizes are drawn in where the D50 is 1 or more of it."""


def size_figure(
    sizes: Sequence[Sizes],
    names: Sequence[str],
    *,
    by: Weighting = "number",
    log: bool | Literal["auto"] = "auto",
    fit: bool = True,
) -> Plot:
    """Draw size distributions: histogram, cumulative curve with D10, D50 and D90, and log-normal fit.

    One distribution has its cumulative curve on a second axis; several, of files or classes, have a panel for
    histograms and one for cumulative curves, and no fits if they are more than four. All have the same bins.

    Parameters
    ----------
    sizes : sequence of Sizes
        At least one; all of the same quantity and unit.
    names : sequence of str
        One for each.
    by : {"number", "area"}
        What shares are of.
    log : bool or "auto"
        Whether sizes have a logarithmic axis; "auto" from the largest D90 = 5 times the smallest D10 on.
    fit : bool
        Draw the log-normal distribution (ISO 9276-5).

    Returns
    -------
    Plot
        Its data have a row for each point: `group`; `curve`, which is "histogram", "cumulative", "log-normal" or
        "D10", "D50", "D90"; the size, which for the histogram is the lower limit of a bin; `upper`, its upper limit;
        `share`, 0 to 1, for "log-normal" that of a bin around the size; `weighting` and `edge`, the edge correction.

    Raises
    ------
    InputError
        If there is nothing to draw, names are too few or many, or quantities or units differ.
    """
    drawn = _Drawn(sizes, names, by, log)
    single, few = len(sizes) == 1, len(sizes) <= FEW
    edges = drawn.bins()
    with styled():
        figure = new_figure(2.1 if single else 3.3)
        bars, curves = _panels(figure, single)
        entries: list[tuple[Any, str]] = [] if single else [(no_handle(), HEAD)]
        fits: list[tuple[Any, str]] = []
        for i in range(len(sizes)):
            colour = COLOURS[i % len(COLOURS)]
            patch = drawn.bars(bars, i, edges, colour, 0.45 if single else 0.15 * few)
            line = drawn.cumulative(curves, i, "black" if single else colour, named=single)
            if single:
                entries += [(patch, drawn.count(i)), (line, f"cumulative: {D_VALUES} = {drawn.percentiles(i)}")]
            else:
                entries.append((line, drawn.row(i)))
            if fit and few and drawn.fits[i].geometric_std > 1 + 1e-9:
                curve = drawn.lognormal(bars, i, edges, COLOURS[1] if single else colour)
                fits.append((curve, drawn.fit_words(i) if single else "log-normal fits"))
        bars.set_ylabel(f"Share of {'objects' if by == 'number' else 'area'} (%)")
        bars.set_ylim(bottom=0)
        drawn.scales(curves)
        bars.set_xlabel(drawn.label if single else "")
        legend_below(figure, [*entries, *fits[:1], *drawn.edge_entry()])
        return finish(figure, drawn.data())


def size_comparison_figure(
    predicted: Sizes, truth: Sizes, *, by: Weighting = "number", log: bool | Literal["auto"] = "auto"
) -> Plot:
    """Draw the cumulative curve of predicted sizes over that of the true ones, each with D10, D50 and D90.

    Parameters
    ----------
    predicted, truth : Sizes
        Of the same quantity and unit.
    by, log
        As of `size_figure`.

    Returns
    -------
    Plot
        Its data are as of `size_figure`; the groups are "truth" and "predicted".

    Raises
    ------
    InputError
        If quantities or units differ.
    """
    drawn = _Drawn((truth, predicted), ("truth", "predicted"), by, log)
    with styled():
        figure = new_figure(2.1)
        axes = figure.subplots()
        spare_box(axes)
        rows = [(drawn.cumulative(axes, i, colour), drawn.row(i)) for i, colour in enumerate(("black", COLOURS[1]))]
        drawn.scales(axes)
        legend_below(figure, [(no_handle(), HEAD), *rows, *drawn.edge_entry()])
        return finish(figure, drawn.data())


def _panels(figure: Figure, single: bool) -> tuple[Axes, Axes]:
    """Axes of histograms and of cumulative curves: over each other, or one below the other."""
    if single:
        axes = figure.subplots()
        return axes, axes.twinx()
    bars, curves = figure.subplots(2, 1, sharex=True)
    spare_box(bars)
    spare_box(curves)
    return bars, curves


class _Drawn:
    """Distributions on their way to the paper: what is asked of all of them, and the table of what is drawn."""

    def __init__(
        self, sizes: Sequence[Sizes], names: Sequence[str], by: Weighting, log: bool | Literal["auto"]
    ) -> None:
        if len(names) != len(sizes):
            raise InputError(f"there are {len(names)} names for {len(sizes)} size distributions; give each its own.")
        self.sizes, self.names, self.by = sizes, names, by
        self.pooled = pool(sizes)
        self.columns = (f"{self.pooled.quantity}_{self.pooled.unit}", f"upper_{self.pooled.unit}")
        # By each one, for the many small objects of one would hide the few large ones of another.
        ends = [[one.quantile(share, by) for one in sizes if one.values.size] or [np.nan] for share in (0.1, 0.9)]
        spread = max(ends[1]) / min(ends[0])
        self.log = bool(spread >= LOG_FROM) if log == "auto" else log
        unit, scale = LARGE_UNITS.get(self.pooled.unit, (self.pooled.unit, 1.0))
        if not self.pooled.quantile(0.5, by) >= scale:
            unit, scale = self.pooled.unit.replace("2", "²"), 1.0
        self.unit, self.scale = unit, scale
        name = QUANTITIES.get(self.pooled.quantity, self.pooled.quantity)
        self.label = f"{name} ({unit})"
        self.fits = [each.lognormal(by) for each in sizes]
        self.parts: list[DataFrame] = []

    def bins(self) -> NDArray[np.float64]:
        """Limits of bins over all sizes, as wide as those that suit the single distributions in the median.

        Bins that suit all sizes together are too wide where distributions lie apart.
        """
        pooled = self.pooled.histogram(None, self.by, log=self.log)[0]
        own = [each.histogram(None, self.by, log=self.log)[0] for each in self.sizes if each.values.size > 1]
        widths = [float(np.log(edges[1] / edges[0]) if self.log else edges[1] - edges[0]) for edges in own]
        if not widths:
            return pooled
        extent = np.log(pooled[-1] / pooled[0]) if self.log else pooled[-1] - pooled[0]
        bins = min(max(round(extent / float(np.median(widths))), 1), MOST_BINS)
        return self.pooled.histogram(bins, self.by, log=self.log)[0]

    def add(
        self, i: int, curve: str, sizes: NDArray[np.float64], share: NDArray[np.float64], upper: Any = np.nan
    ) -> None:
        import pandas as pd

        lower, above = self.columns
        self.parts.append(
            pd.DataFrame(
                {
                    "group": self.names[i],
                    "curve": curve,
                    lower: sizes,
                    above: upper,
                    "share": share,
                    "weighting": self.by,
                    "edge": self.sizes[i].edge,
                }
            )
        )

    def data(self) -> DataFrame:
        import pandas as pd

        if self.parts:
            return pd.concat(self.parts, ignore_index=True)
        return pd.DataFrame(columns=["group", "curve", *self.columns, "share", "weighting", "edge"])

    def bars(self, axes: Axes, i: int, edges: NDArray[np.float64], colour: str, alpha: float) -> Any:
        """Draw a histogram, filled in a paler colour; without objects, nothing."""
        if not self.sizes[i].values.size:
            return no_handle()
        shares = self.sizes[i].histogram(edges, self.by)[1]
        self.add(i, "histogram", edges[:-1], shares, edges[1:])
        axes.stairs(100 * shares, edges / self.scale, edgecolor=colour, linestyle=self.dash(i), linewidth=0.8)
        return axes.stairs(100 * shares, edges / self.scale, fill=True, facecolor=colour, alpha=alpha)

    def cumulative(self, axes: Axes, i: int, colour: str, *, named: bool = False) -> Any:
        """Draw a cumulative curve with its D-values; without objects, nothing."""
        values, shares = self.sizes[i].cumulative(self.by)
        if not values.size:
            return no_handle()
        if values.size > MOST_POINTS:
            kept = np.linspace(0, values.size - 1, MOST_POINTS).astype(np.intp)
            values, shares = values[kept], shares[kept]
        values, shares = np.r_[values[0], values, values[-1]], np.r_[0.0, shares, 1.0]
        self.add(i, "cumulative", values, shares)
        (line,) = axes.plot(values / self.scale, 100 * shares, color=colour, linestyle=self.dash(i))
        for percent in PERCENTILES:
            value = self.sizes[i].quantile(percent / 100, self.by)
            self.add(i, f"D{percent}", np.array([value]), np.array([percent / 100]))
            axes.plot(value / self.scale, percent, "o", color=colour, markeredgecolor="white", markeredgewidth=0.4)
            if named:
                axes.annotate(
                    f"D{percent}", (value / self.scale, percent), (-4, 2), textcoords="offset points", ha="right",
                    fontsize=SMALL,
                )  # fmt: skip
        return line

    def lognormal(self, axes: Axes, i: int, edges: NDArray[np.float64], colour: str) -> Any:
        """Draw how much of the fitted distribution a bin around each size would hold."""
        if self.log:
            sizes, half = np.geomspace(edges[0], edges[-1], 200), np.sqrt(edges[1] / edges[0])
            lower, upper = sizes / half, sizes * half
        else:
            sizes, half = np.linspace(edges[0], edges[-1], 200), (edges[1] - edges[0]) / 2
            lower, upper = np.maximum(sizes - half, np.finfo(float).tiny), sizes + half
        shares = self.fits[i].cumulative(upper) - self.fits[i].cumulative(lower)
        self.add(i, "log-normal", sizes, shares)
        (line,) = axes.plot(sizes / self.scale, 100 * shares, color=colour, linestyle=(0, (4, 2)), linewidth=0.8)
        return line

    @staticmethod
    def dash(i: int) -> str:
        """Line of a distribution whose colour another has too."""
        return DASHES[i // len(COLOURS) % len(DASHES)]

    def scales(self, axes: Axes) -> None:
        """Label the axis of sizes, and that of a cumulative curve."""
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        axes.set_ylabel("Cumulative share (%)")
        axes.set_ylim(0, 100)
        axes.set_xlabel(self.label)
        if self.log:
            axes.set_xscale("log")
            low, high = (self.pooled.values[[0, -1]] if self.pooled.values.size else np.array([1.0, 10.0])) / self.scale
            few = (1, 1.5, 2, 3, 4, 5, 7) if high / low < 5 else (1, 2, 5)
            axes.xaxis.set_major_locator(LogLocator(subs=few if high / low < 1000 else (1,)))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))

    def count(self, i: int) -> str:
        """Name a distribution in the legend."""
        n = self.sizes[i].values.size
        return f"{shortened(self.names[i], 40)}: {n} object{'' if n == 1 else 's'}"

    def percentiles(self, i: int) -> str:
        """Give D10, D50 and D90 in the legend."""
        values = (number(self.sizes[i].quantile(percent / 100, self.by) / self.scale) for percent in PERCENTILES)
        return f"{' | '.join(values)} {self.unit}"

    def row(self, i: int) -> str:
        """Give name, number and D-values in one line of the legend."""
        return f"{shortened(self.names[i], 26)} ({self.sizes[i].values.size}): {self.percentiles(i)}"

    def fit_words(self, i: int) -> str:
        """Give the fit in the legend."""
        fit = self.fits[i]
        words = (
            f"log-normal: median {number(fit.median / self.scale)} {self.unit}, "
            f"geometric std {number(fit.geometric_std)}, KS {number(fit.ks_distance)}"
        )
        return wrapped(words)

    def edge_entry(self) -> list[tuple[Any, str]]:
        """Name the edge correction in the legend."""
        words = describe([each.edge for each in self.sizes if each.edge])
        return [(no_handle(), wrapped(f"edge: {words}"))] if words else []

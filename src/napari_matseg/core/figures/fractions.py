"""Figure of phase fractions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.figures.plot import (
    COLUMN_IN,
    LETTER_IN,
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
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pandas import DataFrame

    from napari_matseg.core.figures.plot import Plot
    from napari_matseg.settings import ClassSpec

GREY = (0.6, 0.6, 0.6)
NUMBERS_IN = 1.4
"""Width that fraction and interval in numbers need to the right of their bar, in inches."""


def fractions_figure(fractions: DataFrame, classes: Sequence[ClassSpec] = ()) -> Plot:
    """Draw phase fractions as bars in the colours of their classes, with 95 % intervals.

    Parameters
    ----------
    fractions : DataFrame
        As `core.measure.fractions.phase_fractions` gives it, a row for each class; where an interval is NaN none is
        drawn.
    classes : sequence of ClassSpec
        Whose colours are taken, by name; other classes are grey.

    Returns
    -------
    Plot
        Its data are the frame itself.

    Raises
    ------
    InputError
        If there are no classes.
    """
    if fractions.empty:
        raise InputError("there are no phase fractions to draw; give those of at least one class.")
    colours = {spec.name: tuple(value / 255 for value in spec.colour) for spec in classes}
    names = [str(name) for name in fractions["class"]]
    labels = [shortened(name, 20) for name in names]
    share, low, high = (100 * fractions[name].to_numpy(np.float64) for name in ("fraction", "ci95_low", "ci95_high"))
    places = np.arange(len(names))
    known = np.isfinite(low) & np.isfinite(high)
    fields = int(fractions["fields"].max())
    words = [str(method) for method in dict.fromkeys(fractions["method"])]
    note = f"95 % intervals: {'; '.join(words)}" + (f", {fields} fields" if fields > 1 else "")
    with styled():
        figure = new_figure(0.75 + 0.26 * len(names))
        axes = figure.subplots()
        spare_box(axes)
        axes.barh(
            places,
            share,
            height=0.7,
            color=[colours.get(name, GREY) for name in names],
            edgecolor="black",
            linewidth=0.5,
        )
        spread = np.array([share - low, high - share])[:, known]
        # A white line under the black one shows on bars of any colour.
        for colour, width, cap in (("white", 1.8, 2.6), ("black", 0.8, 2.2)):
            axes.errorbar(
                share[known], places[known], xerr=spread, fmt="none", ecolor=colour, elinewidth=width, capsize=cap,
                capthick=width,
            )  # fmt: skip
        for place in places:
            text = f"{number(share[place])} %"
            if known[place]:
                text += f" ({number(low[place])} to {number(high[place])})"
            right = np.nanmax([share[place], high[place], 0.0])
            axes.annotate(text, (right, place), (5, 0), textcoords="offset points", va="center", fontsize=SMALL)
        axes.set_yticks(places, labels)
        axes.invert_yaxis()
        room = COLUMN_IN - LETTER_IN * max(map(len, labels))
        right = room / (room - NUMBERS_IN) * max(float(np.nanmax(np.r_[share, high, 0.0])), 1e-9)
        axes.set_xlim(0, right)
        axes.spines["bottom"].set_bounds(0, min(100, right))
        axes.set_xticks([tick for tick in axes.get_xticks() if tick <= min(100, right)])
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("Area fraction (%)")
        legend_below(figure, [(no_handle(), wrapped(note))])
        return finish(figure, fractions)

"""Figures of how a segmentation agrees with the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.figures.plot import (
    COLOURS,
    COLUMN_IN,
    LETTER_IN,
    PAGE_IN,
    finish,
    legend_below,
    new_figure,
    no_handle,
    number,
    shortened,
    spare_box,
    styled,
)
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_matseg.core.agreement.instances import InstanceScores
    from napari_matseg.core.figures.plot import Plot
    from napari_matseg.core.metrics import Counts

CELL_IN = 0.46
"""Side of a cell of a confusion matrix that holds two numbers, in inches."""
LARGEST_CELL_IN = 0.8
WRITTEN = 14
"""Classes up to which there is room for numbers in the cells."""
DARK = 0.55
"""Share from which a cell is so dark that its letters are white."""
NAME = 20  # letters of a class


def confusion_figure(counts: Counts, class_names: Sequence[str]) -> Plot:
    """Draw a confusion matrix: of each true class, which share was taken for which class, and how many pixels.

    Parameters
    ----------
    counts : Counts
    class_names : sequence of str
        One for each class. More than 14 classes are drawn in colours alone.

    Returns
    -------
    Plot
        Its data have a row for each cell: `truth`, `prediction`, `pixels`, and `share` of the true class, NaN if
        that has no pixels.

    Raises
    ------
    InputError
        If there is not one name for each class.
    """
    import pandas as pd

    n, names = counts.n_classes, list(class_names)
    if len(names) != n:
        raise InputError(f"{n} classes need as many names, not {len(names)}.")
    pixels = counts.confusion
    totals = np.broadcast_to(pixels.sum(axis=1, keepdims=True), pixels.shape)
    share = np.full(pixels.shape, np.nan)
    np.divide(pixels, totals, out=share, where=totals > 0)
    data = pd.DataFrame(
        {"truth": np.repeat(names, n), "prediction": names * n, "pixels": pixels.ravel(), "share": share.ravel()}
    )
    labels = [shortened(name, NAME) for name in names]
    longest = LETTER_IN * max(map(len, labels))
    beside = 0.45 + longest  # what names and the label of the axis need
    cell = min(max(CELL_IN, (COLUMN_IN - beside) / n), LARGEST_CELL_IN, (PAGE_IN - beside) / n)
    upright = longest > cell
    with styled():
        figure = new_figure((beside if upright else 0.55) + cell * n, max(COLUMN_IN, beside + cell * n))
        axes = figure.subplots()
        axes.set_facecolor("0.85")  # of classes that the truth does not have
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(share if n <= WRITTEN else np.empty((0, 0))):
            text = _percent(value)
            colour = "white" if value >= DARK else "black"
            axes.text(column, row - 0.13, text, ha="center", va="center", color=colour, fontsize=6.5)
            axes.text(
                column,
                row + 0.2,
                _short(int(pixels[row, column])),
                ha="center",
                va="center",
                color=colour,
                fontsize=5.5,
            )
        axes.set_xticks(range(n), labels, rotation=90 if upright else 0)
        axes.set_yticks(range(n), labels)
        axes.set_xlabel("Prediction")
        axes.set_ylabel("Truth")
        # White lines between the cells.
        axes.set_xticks(np.arange(n - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(n - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        plot = finish(figure, data)
        axes.tick_params(which="both", length=0)
        return plot


def _percent(share: float) -> str:
    """Write a share with one decimal.

    Examples
    --------
    >>> _percent(0.5), _percent(0.0), _percent(1e-5), _percent(float("nan"))
    ('50.0 %', '0.0 %', '<0.1 %', '-')
    """
    if share != share:
        return "-"
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def _short(pixels: int) -> str:
    """Write a number of pixels with three digits at most before its letter.

    Examples
    --------
    >>> _short(950), _short(12345), _short(9_876_543)
    ('950', '12.3k', '9.88M')
    """
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if pixels >= size * 0.9995:
            return number(pixels / size) + letter
    return str(pixels)


def agreement_figure(scores: InstanceScores) -> Plot:
    """Draw the agreement of objects against the IoU from which on two are taken to be the same.

    Parameters
    ----------
    scores : InstanceScores

    Returns
    -------
    Plot
        Its data are the table of ``scores.rows()``.
    """
    import pandas as pd

    counts = scores.counts
    with styled():
        figure = new_figure(2.1)
        axes = figure.subplots()
        spare_box(axes)
        entries = []
        curves = (
            (f"average precision TP / (TP + FP + FN), mean {number(scores.mean_ap)}", scores.ap, "o-"),
            ("F1", scores.f1, "s--"),
            ("panoptic quality", scores.panoptic_quality, "^:"),
        )
        for (name, values, style), colour in zip(curves, COLOURS, strict=False):
            (line,) = axes.plot(counts.thresholds, values, style, color=colour, clip_on=False)
            entries.append((line, name))
        axes.set_ylim(0, 1)
        axes.set_xlabel("IoU from which on objects are the same")
        axes.set_ylabel("Agreement of objects")
        words = f"{counts.n_truth} true and {counts.n_predicted} predicted objects"
        entries.append((no_handle(), f"{words}; {counts.n_split} split, {counts.n_merged} merged"))
        legend_below(figure, entries)
        return finish(figure, pd.DataFrame(scores.rows()))

"""Curves of a training, drawn while it goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_matseg.core.figures.plot import COLOURS, Plot, finish, new_figure, spare_box, styled

if TYPE_CHECKING:
    from pandas import DataFrame

HEIGHT_IN = 2.6
COLUMNS = ("step", "loss", "mean_iou", "mean_dice")


def plot_learning(history: DataFrame, steps: int) -> Plot:
    """Draw the loss, and mean IoU and Dice of the validation, against the steps.

    Parameters
    ----------
    history : DataFrame
        Columns `step`, `loss`, `mean_iou` and `mean_dice`, the last two NaN where nothing was validated.
    steps : int
        Length of the whole training.
    """
    with styled():
        figure = new_figure(HEIGHT_IN)
        above, below = figure.subplots(2, 1, sharex=True)
        above.plot([], [], color=COLOURS[0])
        above.set_ylabel("loss")
        below.plot([], [], "o-", color=COLOURS[1], label="mean IoU")
        below.plot([], [], "o-", color=COLOURS[2], label="mean Dice")
        below.set_ylabel("held-out part")
        below.set_xlabel("step")
        below.legend(loc="lower right")
        below.set_xlim(0, steps)
        below.set_ylim(0, 1)
        for axes in (above, below):
            spare_box(axes)
        plot = finish(figure, history)
    return redraw_learning(plot, history)


def redraw_learning(plot: Plot, history: DataFrame) -> Plot:
    """Let the curves of a figure go on; the figure stays the same."""
    above, below = plot.figure.axes
    seen = history.dropna(subset="mean_iou")
    above.lines[0].set_data(history["step"], history["loss"])
    for line, column in zip(below.lines, COLUMNS[2:], strict=True):
        line.set_data(seen["step"], seen[column])
    if len(history):
        above.set_ylim(0, 1.05 * history["loss"].max() or 1)
    return replace(plot, data=history)

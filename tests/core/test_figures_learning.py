from __future__ import annotations

import math

import numpy as np
import pandas as pd

from napari_matseg.core.figures.learning import COLUMNS, plot_learning, redraw_learning


def history(*rows: tuple[float, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(COLUMNS), dtype=float)


def test_curves_go_on_in_the_same_figure() -> None:
    plot = plot_learning(history(), 100)
    above, below = plot.figure.axes
    assert below.get_xlim() == (0, 100)
    more = history((1, 2.0, math.nan, math.nan), (2, 1.5, 0.5, 0.6), (3, 1.2, math.nan, math.nan))
    later = redraw_learning(plot, more)
    assert later.figure is plot.figure
    assert later.data is more
    np.testing.assert_array_equal(above.lines[0].get_xydata(), [(1, 2.0), (2, 1.5), (3, 1.2)])
    np.testing.assert_array_equal(below.lines[0].get_xydata(), [(2, 0.5)])
    np.testing.assert_array_equal(below.lines[1].get_xydata(), [(2, 0.6)])
    assert above.get_ylim()[0] == 0
    assert above.get_ylim()[1] > 2

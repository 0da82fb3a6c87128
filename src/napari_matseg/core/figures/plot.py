"""What all figures share: their style, and how they are saved.

Figures are matplotlib's `Figure`, without pyplot, so they belong to nobody until a canvas takes them. They are one
column of a journal wide and look the same whatever the user's own matplotlib settings are.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

from napari_matseg.core.export import replacing
from napari_matseg.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from pandas import DataFrame

COLUMN_IN = 3.5
"""Width of a column of a journal in inches (89 mm)."""
PAGE_IN = 7.2
"""Width of two columns (183 mm)."""
SMALL = 7.0
"""Points of tick labels and legends; other letters have 8."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Told apart by colour-blind people too: Okabe and Ito (2008), Color Universal Design, without its yellow."""
DASHES = ("-", "--", "-.", ":")
DPI = 300
LINE = 60
"""Letters of `SMALL` that a line below the axes holds."""
LINE_IN = 0.13
LETTER_IN = 0.055
"""Height of a line and about the width of a letter of `SMALL` in inches."""
STYLE: dict[str, Any] = {
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.titlesize": 8,
    "font.size": 8,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "lines.markersize": 3,
    "pdf.fonttype": 42,  # letters that an editor can change, as in SVG
    "svg.fonttype": "none",
    "svg.hashsalt": "napari-matseg",  # else ids are drawn by chance
    "text.parse_math": False,  # a name may hold two dollar signs
}
METADATA: dict[str, dict[str, str | None]] = {
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
    ".png": {"Software": None},
}


@dataclass(frozen=True, eq=False)
class Plot:
    """A figure and what it shows.

    Attributes
    ----------
    figure : Figure
    data : DataFrame
        The numbers that are drawn.
    size_in : (float, float)
        Width and height in inches at which it is saved; a canvas on a screen changes those of the figure.
    """

    figure: Figure
    data: DataFrame
    size_in: tuple[float, float]


def save_plot(plot: Plot, path: Path) -> tuple[Path, Path]:
    """Write a figure, and its data as CSV beside it; both or neither, and the same bytes each time.

    Parameters
    ----------
    plot : Plot
    path : Path
        Ends in .svg, .pdf (letters stay letters in both) or .png (300 dpi).

    Returns
    -------
    (Path, Path)
        The figure and the table, which differ in their ending only.

    Raises
    ------
    OutputError
        If the ending is another, or a file cannot be written.
    """
    kind = path.suffix.lower()
    if kind not in METADATA:
        raise OutputError(f"{path}: figures are saved as .svg, .png or .pdf; end the name in one of these.")
    table = path.with_suffix(".csv")
    with replacing(path) as drawn, replacing(table) as written:
        plot.data.to_csv(written, index=False, lineterminator="\n")
        _draw(plot, drawn, kind)
    return path, table


def to_svg(plot: Plot) -> bytes:
    """Draw a figure as SVG, as `save_plot` does."""
    from io import BytesIO

    drawn = BytesIO()
    _draw(plot, drawn, ".svg")
    return drawn.getvalue()


def _draw(plot: Plot, to: Any, kind: str) -> None:
    width, height = plot.figure.get_size_inches()
    plot.figure.set_size_inches(plot.size_in, forward=False)
    try:
        with styled():
            plot.figure.savefig(to, format=kind[1:], dpi=DPI, metadata=METADATA[kind])
    finally:
        plot.figure.set_size_inches(width, height, forward=False)


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the style of all figures, whatever the user's own; no setting of matplotlib's stays changed."""
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]):
        yield


def new_figure(height_in: float, width_in: float = COLUMN_IN) -> Figure:
    """Make an empty figure, whose axes find their own places."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def finish(figure: Figure, data: DataFrame) -> Plot:
    """Tidy the axes of a figure that is drawn, and put it together with its data."""
    for axes in figure.axes:
        # Said to the axes, because ticks that are made later, on a screen, would else look as the user's own.
        axes.tick_params(which="both", direction="in", labelsize=SMALL, colors="black", width=0.6)
    width, height = figure.get_size_inches()
    return Plot(figure, data, (float(width), float(height)))


def legend_below(figure: Figure, entries: Sequence[tuple[Any, str]]) -> None:
    """Explain what is drawn in lines below the axes, where they hide nothing; the figure grows by as much."""
    handles, labels = zip(*entries, strict=True)
    lines = sum(label.count("\n") + 1 for label in labels)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + LINE_IN * lines + 0.1)
    figure.legend(handles, labels, loc="outside lower center", handlelength=1.8, borderaxespad=0.2, labelspacing=0.25)


def no_handle() -> Line2D:
    """Stand for a line of a legend that explains no curve."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none")


def shortened(name: str, most: int) -> str:
    """Leave out the middle of a name that is too long.

    Examples
    --------
    >>> shortened("particles_of_sample_17.tif", 16)
    'particle…_17.tif'
    """
    if len(name) <= most:
        return name
    tail = (most - 1) // 2
    return f"{name[: most - 1 - tail]}…{name[len(name) - tail :]}"


def wrapped(text: str) -> str:
    """Break a line of a legend that is wider than the figure."""
    return fill(text, LINE, break_on_hyphens=False)


def number(value: float) -> str:
    """Write a number with three significant digits, or all before the point.

    Examples
    --------
    >>> number(12.345), number(20.0), number(109.2), number(12345.6), number(float("nan"))
    ('12.3', '20.0', '109', '12346', '-')
    """
    if value != value:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def spare_box(axes: Axes) -> None:
    """Leave out the upper and right line of the box, where no scale is."""
    axes.spines[["top", "right"]].set_visible(False)

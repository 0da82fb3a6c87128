"""The instrument's data bar, found in the picture where no record tells of it.

A bar is a strip along the whole bottom or top: one flat grey with letters, ticks and lines on it, and a straight end
where the texture of the image begins, or a line across the image. Letters burnt into the image are no bar, as the
image goes on around them; nor is a frame without letters, or a flat region of the image, which has no straight end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_matseg.core.micrograph import LUMINANCE
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.pixels import Box

FEWEST_ROWS, MOST_ROWS = 10, 1024
SHORTEST, TALLEST = 0.02, 0.25
"""Of the height of the image."""
TOLERANCES = (0.04, 0.01, 0.0)
"""How far the ground may be from one value, as shares of the range of the strip: of JPEG, then of what is lossless but
has a range much larger than the image's, as letters of 65535 in 16 bits give."""
FAR, SAME = 0.25, 0.03
"""Share of the range by which letters and lines differ from the ground at least; and two rows of a line at most."""
WINDOWS, WINDOW = 4, 1024
"""Of a wider image so many parts of so many columns are looked at, from end to end."""
MOST_ENDS = 8
"""Of rows where a bar could end, so many are tried: a grating has hundreds."""
BLOCKS = 16
"""Parts of a row that are looked at one by one for the image's texture."""


class _Strip(NamedTuple):
    """Rows from the edge inwards, at one tolerance."""

    ground: np.ndarray
    """Share of pixels in each row that have the value of the ground."""
    blocks: np.ndarray
    """The same in each part of the rows, shape (rows, BLOCKS)."""
    level: np.ndarray
    """Median of each row, from the ground's value and in shares of the range."""
    is_line: np.ndarray
    """Rows of one other value."""
    ink: np.ndarray
    """Pixels far from the ground, shape (rows, width)."""

    def depth(self, rest: int) -> int:
        """How many rows from the edge can belong to a bar, where the first ones may be anything."""
        of_bar = (self.ground >= 0.2) | self.is_line
        of_bar[:rest] = True
        return len(of_bar) if of_bar.all() else int(of_bar.argmin())


@np.errstate(over="ignore", invalid="ignore")
def find_data_bar(image_yx: Any) -> tuple[int, int] | None:
    """Find the data bar at the bottom of an image, or else at its top.

    Parameters
    ----------
    image_yx : array, shape (height, width) or (height, width, 3)
        Grey or true colour of any real dtype; numpy, or anything that slices like it. Rows near the two edges are
        read: few where there is no bar, at most a quarter of the height and some 1024 at each; in a wide one, of four
        parts of 1024 columns.

    Returns
    -------
    (int, int) or None
        First row and end (exclusive) of the bar, which reaches to the edge; None if there is none.

    Examples
    --------
    >>> find_data_bar(np.zeros((100, 100)))
    """
    height, width = image_yx.shape[:2]
    most = min(int(TALLEST * height), MOST_ROWS)
    fewest = max(FEWEST_ROWS, round(SHORTEST * min(height, 2 * MOST_ROWS)))
    if most < fewest or width < 2 * BLOCKS:
        return None
    rows = _rows_of_bar(lambda count: _grey(image_yx, slice(height - count, height))[::-1], fewest, most)
    if rows:
        return height - rows, height
    rows = _rows_of_bar(lambda count: _grey(image_yx, slice(0, count)), fewest, most)
    return (0, rows) if rows else None


def with_data_bar(micrograph: Micrograph) -> Micrograph:
    """Look for the data bar in the first plane of a micrograph, unless it is known, and keep its rows."""
    if micrograph.data_bar is not None:
        return micrograph
    first = (0,) * len(micrograph.shape_planes)

    def read(_plane: int, box: Box) -> np.ndarray:
        part: np.ndarray = micrograph.pixels[(*first, *(slice(lines.start, lines.stop) for lines in box))]
        return np.asarray(part)

    plane = LazyPixels(tuple(micrograph.pixels.shape[len(first) :]), np.dtype(micrograph.pixels.dtype), 0, read)
    try:
        found = find_data_bar(plane)
    except InputError:  # a damaged part, which whoever wants it will be told of
        return micrograph
    return micrograph if found is None else replace(micrograph, data_bar=found, data_bar_from="picture")


def _grey(image_yx: Any, rows: slice) -> np.ndarray:
    """Luminance of rows, in a wide image of some columns, as float32, with the smallest value for what is not finite.

    Nothing is read of the other columns: in small chunks or tiles it would cost more than all the rest.
    """
    width = image_yx.shape[1]
    if width > WINDOWS * WINDOW:
        starts = np.linspace(0, width - WINDOW, WINDOWS).astype(int)
        grey = np.concatenate([image_yx[rows, start : start + WINDOW] for start in starts], axis=1)
    else:
        grey = np.asarray(image_yx[rows])
    grey = grey.astype(np.float32) if grey.ndim == 2 else grey.astype(np.float32) @ LUMINANCE
    finite = np.isfinite(grey)
    return grey if finite.all() else np.where(finite, grey, grey[finite].min() if finite.any() else 0)


def _rows_of_bar(read: Callable[[int], np.ndarray], fewest: int, most: int) -> int:
    """Height of the bar at an edge, from a function that reads so many rows from the edge inwards; 0 for none."""
    # A crop may have left some rows of a frame, or of the image, beyond the bar.
    rest, beyond = fewest // 2, max(8, fewest // 2)
    count = 2 * fewest + beyond
    while True:
        count = min(count, most + beyond)
        grey = read(count)
        span = float(np.ptp(grey))
        if not 0 < span < np.inf:
            return 0
        values, times = np.unique(grey[:fewest, :: max(1, grey.shape[1] // WINDOW)], return_counts=True)
        value = values[times.argmax()]
        strip = _strip(grey, value, span, TOLERANCES[0])
        depth = strip.depth(rest)
        if depth < fewest or strip.ground[: rest + fewest].max() < 0.6:
            return 0
        if depth < count - beyond or count == most + beyond:
            break
        count *= 2
    best, end = -1.2, 0
    for tolerance in TOLERANCES:
        strip = _strip(grey, value, span, tolerance)
        for step, rows in _ends(strip, fewest, min(strip.depth(rest), count - beyond), beyond)[:MOST_ENDS]:
            if step <= best + 0.2:  # a tighter one takes the rows that JPEG or scaling blurred for image
                break
            if _has_letters(strip, rows):
                best, end = step, rows + _line_after(strip, rows)
    return end


def _strip(grey: np.ndarray, value: float, span: float, tolerance: float) -> _Strip:
    away = np.abs(grey - value)
    near = away <= tolerance * span
    width = grey.shape[1] // BLOCKS * BLOCKS
    middle = np.median(grey[:, :: max(1, width // 256)], axis=1)
    is_flat = np.mean(np.abs(grey - middle[:, None]) <= max(tolerance, 0.01) * span, axis=1) >= 0.8
    level = (middle - value) / span
    return _Strip(
        ground=near.mean(axis=1),
        blocks=near[:, :width].reshape(len(grey), BLOCKS, -1).mean(axis=2),
        level=level,
        is_line=is_flat & (np.abs(level) > FAR),
        ink=away > FAR * span,
    )


def _ends(strip: _Strip, fewest: int, most: int, beyond: int) -> list[tuple[float, int]]:
    """Find where a bar could end: ground, with or without a line, then texture all across.

    How clear each end is and its height, the clearest first.
    """
    rows = np.arange(most, fewest - 1, -1)
    index = np.arange(len(strip.is_line))
    lines = rows - 1 - np.maximum.accumulate(np.where(strip.is_line, -1, index))[rows - 1]
    total = np.concatenate((np.zeros((1, BLOCKS)), np.cumsum(strip.blocks, axis=0)))
    outside = (total[rows + beyond] - total[rows]) / beyond
    is_line_whole = (lines > 0) & (lines <= np.maximum(3, rows // 20))
    is_line_whole &= ~strip.is_line[rows] | (np.abs(strip.level[rows] - strip.level[rows - 1]) > SAME)
    last = np.maximum(rows - lines, 2) - np.array([[1], [2]])
    blankest, inside = strip.ground[last].min(axis=0), strip.blocks[last].mean(axis=0)
    is_blank = (blankest >= 0.75) & (np.mean(inside >= 0.5, axis=1) >= 0.85)
    is_texture = np.mean(outside <= 0.6, axis=1) >= 0.7
    is_other = outside.max(axis=1) <= 0.1  # letters may go up to the end
    is_end = (lines == 0) | is_line_whole
    is_end &= is_blank & (is_texture | is_line_whole) | (blankest >= 0.5) & is_other
    step = strip.ground[last[0]] - outside.mean(axis=1)
    order = np.flatnonzero(is_end)[np.argsort(-step[is_end], kind="stable")]
    return list(zip(step[order].tolist(), rows[order].tolist(), strict=True))


def _line_after(strip: _Strip, rows: int) -> int:
    """Thickness of the line that closes the bar, 0 if there is none."""
    soft = int(strip.is_line[rows + 1] and not strip.is_line[rows])  # the first row of a line that was scaled
    level, is_line = strip.level[rows + soft :], strip.is_line[rows + soft :]
    for same in (is_line, is_line & (np.abs(level - level[0]) <= SAME)):  # what follows a line may be as flat
        thickness = len(same) if same.all() else int(same.argmin())
        is_thin = 0 < thickness <= max(3, rows // 20) and thickness < len(same)
        if is_thin and abs(level[thickness] - level[0]) > 3 * SAME:
            return soft + thickness
    return 0


def _has_letters(strip: _Strip, rows: int) -> bool:
    """Whether there is writing on the ground: many short strokes, and ground in between."""
    ink = strip.ink[:rows][~strip.is_line[:rows]]
    if not 0.003 <= ink.mean() <= 0.5:
        return False
    edges = np.diff(ink, axis=1, prepend=False, append=False)
    columns = np.nonzero(edges)[1]
    lengths = columns[1::2] - columns[::2]
    return len(lengths) >= 20 and float(np.median(lengths)) <= rows / 4

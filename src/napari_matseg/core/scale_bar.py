"""The scale bar drawn into a picture: where it ends, and the pixel size that it stands for."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_matseg.core.vendor_record import length_nm
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_matseg.core.micrograph import Micrograph

SEARCHED = 0.3
"""Share of the height, from below, that is searched where there is no data bar."""
SHORTEST, FEWEST_PX, LONGEST = 0.03, 12, 0.6
"""Of a bar: shares of the width, and a number of pixels."""
STEP, FLAT = 0.12, 0.12
"""Shares of the range of grey: by which a bar differs from what is around it at least, and within itself at most."""
NOISE = 2.5
"""Standard deviations of the grey beside a bar, by which that differs at least."""
SOFT = 2
"""Pixels at each end of a stroke that may have a grey in between."""
SLACK = 3
"""Pixels by which the rows of one bar may end apart, as JPEG and scaling leave them."""
MOST_COLUMNS = 16384
"""Wider pictures are not searched."""
_LENGTH = re.compile(r"([-+]?(?:\d[\d ]*[.,]?\d*|[.,]\d+)(?:[eE][-+]?\d+)?)\s*(\S*)")


class ScaleBar(NamedTuple):
    """Where a scale bar lies, in pixels; coordinates are those of the corners of pixels, so `x1 - x0` is its length.

    Attributes
    ----------
    y : float
        Its middle.
    x0, x1 : float
        Its ends.
    """

    y: float
    x0: float
    x1: float


class _Run(NamedTuple):
    first: int
    last: int
    x0: int
    x1: int
    level: float


def find_scale_bar(micrograph: Micrograph, plane: int = 0) -> ScaleBar | None:
    """Look for a scale bar: a level stroke of one grey, clear of what is above, below and beside it.

    One that is broken by its own text, and one with ticks at its ends, are found too. It is a proposal: particles with
    straight edges can look like one.

    Parameters
    ----------
    micrograph : Micrograph
        Its data bar is searched first, then the lower part of the image; other rows are not read.
    plane : int
        Which of its planes.

    Returns
    -------
    ScaleBar or None
        The longest one; None if there is none.

    Raises
    ------
    InputError
        If there is no such plane, or it is damaged.
    """
    height, width = micrograph.shape_yx
    if width > MOST_COLUMNS:
        return None
    lower, end = max(8, round(SEARCHED * height)), height
    if micrograph.data_bar is not None:
        start, stop = micrograph.data_bar
        found = _find(micrograph, plane, start, stop, in_bar=True)
        if found is not None:
            return found
        end = start if start > 0 else height
    return _find(micrograph, plane, end - lower, end, in_bar=False)


def _find(micrograph: Micrograph, plane: int, first: int, stop: int, *, in_bar: bool) -> ScaleBar | None:
    """Look for it in some rows."""
    first = max(first, 0)
    if stop - first < 3:
        return None
    grey = np.asarray(micrograph.view(plane)[:, first:stop, :][0]).astype(np.float32)
    grey = np.nan_to_num(grey, nan=0, posinf=0, neginf=0)
    span = float(np.ptp(grey))
    if not 0 < span < np.inf:
        return None
    grey = (grey - grey.min()) / span
    strokes = [run for run in _strokes(grey) if _is_clear(grey, run, in_bar=in_bar)]
    bars = [*strokes, *_broken(strokes)]
    if not bars:
        return None
    best = max(bars, key=lambda run: (run.x1 - run.x0, run.last - run.first))
    profile = grey[best.first : best.last + 1].mean(axis=0)
    return ScaleBar(first + (best.first + best.last + 1) / 2, _end(profile, best, -1), _end(profile, best, 1))


def _end(profile: np.ndarray, run: _Run, towards: int) -> float:
    """Where the grey is half way between a bar's and that beyond its end, to a fraction of a pixel."""
    x = run.x0 if towards < 0 else run.x1 - 1
    inside, outside = x - towards * SOFT, x + towards * (SOFT + 1)
    if not 0 <= outside < len(profile):
        return float(run.x0 if towards < 0 else run.x1)
    half = (run.level + float(profile[outside])) / 2
    last = inside
    while last != outside and (profile[last + towards] - half) * (run.level - half) > 0:
        last += towards
    a, b = float(profile[last]), float(profile[min(max(last + towards, 0), len(profile) - 1)])
    part = (a - half) / (a - b) if a != b else 0.5
    return last + 0.5 + towards * part


def _strokes(grey: np.ndarray) -> list[_Run]:
    """Level strokes: runs of one grey in consecutive rows that begin and end alike."""
    width = grey.shape[1]
    least, most = max(FEWEST_PX, SHORTEST * width), LONGEST * width
    done: list[_Run] = []
    going: list[_Run] = []
    for row in range(grey.shape[0]):
        still: list[_Run] = []
        for x0, x1, level in _runs(grey[row], least, most):
            before = next((run for run in going if _alike(run, x0, x1, level)), None)
            if before is None:
                still.append(_Run(row, row, x0, x1, level))
            else:
                going.remove(before)
                still.append(before._replace(last=row))
        done += going
        going = still
    return done + going


def _runs(line: np.ndarray, least: float, most: float) -> Iterator[tuple[int, int, float]]:
    """Parts of a row between two steps of grey that are flat in themselves; none that reaches an end of the row."""
    steps = np.flatnonzero(np.abs(np.diff(line)) > STEP) + 1
    for x0, x1 in zip(steps[:-1].tolist(), steps[1:].tolist(), strict=True):
        if not least <= x1 - x0 <= most:
            continue
        inner = np.sort(line[x0 + SOFT : x1 - SOFT] if x1 - x0 > 4 * SOFT else line[x0:x1])
        few = len(inner) // 20
        if inner[len(inner) - 1 - few] - inner[few] <= FLAT:
            yield x0, x1, float(inner[len(inner) // 2])


def _alike(run: _Run, x0: int, x1: int, level: float) -> bool:
    return abs(run.x0 - x0) <= SLACK and abs(run.x1 - x1) <= SLACK and abs(run.level - level) <= FLAT


def _is_clear(grey: np.ndarray, run: _Run, *, in_bar: bool) -> bool:
    """Whether a stroke is longer than thick, has another grey above and below, and is no part of a frame."""
    inner = slice(run.x0 + 1, run.x1 - 1)
    if run.last - run.first + 1 > 0.5 * (run.x1 - run.x0):
        return False
    for outside in (run.first - 1, run.last + 1), (run.first - 2, run.last + 2):
        inside = [row for row in outside if 0 <= row < len(grey)]
        if len(inside) == 2 and all(_differs(grey[row, inner], run.level) for row in inside):
            break
    else:
        return False
    if not in_bar:
        return True
    # The lines of a table end in lines that go all the way up or down; the ticks of a scale bar do not.
    ends = [grey[:, max(0, x - 1) : x + 2] for x in (run.x0, run.x1 - 1)]
    return all(np.mean(np.abs(end - run.level).min(axis=1) <= FLAT) < 0.8 for end in ends)


def _differs(row: np.ndarray, level: float) -> bool:
    """Whether a row beside a stroke has another grey, and not by its noise alone."""
    away = row - level
    return bool(np.mean(np.abs(away) > STEP) >= 0.8 and abs(away.mean()) > NOISE * row.std())


def _broken(strokes: Sequence[_Run]) -> Iterator[_Run]:
    """Bars of two strokes of about the same length, with text between them."""
    for left in strokes:
        for right in strokes:
            lengths = sorted((left.x1 - left.x0, right.x1 - right.x0))
            gap = right.x0 - left.x1
            level = abs(left.first - right.first) <= SLACK and abs(left.last - right.last) <= SLACK
            if level and 0 < gap <= 3 * lengths[1] and lengths[0] >= 0.7 * lengths[1]:
                yield left._replace(x1=right.x1)


def parse_length_nm(text: str) -> float:
    """Length that a user typed, in nanometres.

    Parameters
    ----------
    text : str
        A number and nm, µm (um), mm or Å (A), among others; a decimal comma counts as a point.

    Raises
    ------
    InputError
        If it is no length above 0.

    Examples
    --------
    >>> parse_length_nm("500 nm"), parse_length_nm("2,5 µm"), parse_length_nm("40 Å")
    (500.0, 2500.0, 4.0)
    """
    match = _LENGTH.fullmatch(text.strip())
    length = None if match is None else length_nm(match[1].replace(" ", ""), match[2])
    if length is None or not (math.isfinite(length) and length > 0):
        raise InputError(f"{text!r} is no length; give a number and its unit, such as 500 nm, 2 µm, 0.1 mm or 40 Å.")
    return float(f"{length:.12g}")


def size_by_line(
    start_yx: Sequence[float], end_yx: Sequence[float], length_nm: float, shape_of_pixel: float = 1.0
) -> tuple[float, float]:
    """Pixel size by a line of known length.

    Parameters
    ----------
    start_yx, end_yx : (float, float)
        Ends of the line in pixels.
    length_nm : float
        What it stands for, in nanometres.
    shape_of_pixel : float
        Height of a pixel over its width.

    Returns
    -------
    (float, float)
        Height and width of a pixel in nanometres.

    Raises
    ------
    InputError
        If the line is shorter than two pixels.

    Examples
    --------
    >>> size_by_line((10, 20), (10, 120), 500.0)
    (5.0, 5.0)
    """
    length_px = math.hypot((end_yx[0] - start_yx[0]) * shape_of_pixel, end_yx[1] - start_yx[1])
    if not length_px >= 2:
        raise InputError(f"the line is {length_px:.1f} px long, too short to measure by; draw it along the scale bar.")
    width_nm = length_nm / length_px
    return shape_of_pixel * width_nm, width_nm

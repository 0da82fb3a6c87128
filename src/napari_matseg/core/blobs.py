"""Blobs of any size in an image: extrema of a differential operator over place and scale.

This is the costly part; `core.overlaps` and `core.centres` choose among what it found.
"""

from __future__ import annotations

import math
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

from napari_matseg.core.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from concurrent.futures import Future

    from napari_matseg.core.normalise import GreyScale

Operator = Literal["log", "doh"]

PER_OCTAVE = 3
"""Scales for each doubling of the diameter; what lies between is interpolated."""
SIGMA_OF_DIAMETER = 1 / math.sqrt(8)
"""A disc of diameter d answers most at this sigma / d."""
ANSWER_OF_DISC = 4 / math.e
"""What it then answers where its grey is 1 and that of its surroundings -1."""
SMALLEST = 2.0
"""Diameter in pixels below which no blob is told from a pixel."""
FAINTEST = 0.01
"""Contrast below which nothing is kept."""
SHAPELESS = 0.6
"""Determinant of the Hessian over that of a round blob of the same trace, below which an extremum is the crest of an
edge or of a line (after Lowe 2004, doi 10.1023/B:VISI.0000029664.99615.94, who cuts at 0.33 and wants corners)."""
HALVE_FROM = 3.2
"""Sigma in pixels from which every other pixel in each direction says it all."""
TRUNCATE = 4.0
"""Where Gaussians end, in units of their sigma."""
STRIP = 1 << 20
"""Pixels taken at once, so that the memory for them does not grow with the image."""
NEIGHBOURS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]


@dataclass(frozen=True, eq=False)
class Extrema:
    """Blobs before any is left out.

    Attributes
    ----------
    points_yx : array, shape (n, 2), float64
        In pixels of the image, the centre of the first being (0, 0).
    diameter_px : array, shape (n,), float64
        Of the disc that would answer alike.
    contrast : array, shape (n,), float64
        What that disc has over its surroundings, as a share of the grey range; negative where it is darker.
    """

    points_yx: np.ndarray
    diameter_px: np.ndarray
    contrast: np.ndarray

    def __len__(self) -> int:
        """Give the number of blobs."""
        return len(self.contrast)

    def __getitem__(self, which: np.ndarray) -> Extrema:
        """Give some of them, by index or mask."""
        return Extrema(self.points_yx[which], self.diameter_px[which], self.contrast[which])


@dataclass(frozen=True)
class _Octave:
    """What is done at one resolution: `sigmas` and the `blur` that there is already, in its pixels."""

    step: int  # pixels of the image to one of its own
    blur: float
    sigmas: tuple[float, ...]
    halo: int


def find_extrema(
    image_yx: np.ndarray, scale: GreyScale, smallest: float, largest: float, operator: Operator = "log"
) -> Generator[Progress, None, Extrema]:
    """Find the extrema of a scale-normalised operator (Lindeberg 1998, doi 10.1023/A:1008045108935).

    Larger scales are computed on images of a quarter, a sixteenth ... of the pixels.

    Parameters
    ----------
    image_yx : array, shape (height, width), any real dtype
    scale : GreyScale
        Of its one channel; -1 to 1 is the grey range.
    smallest, largest : float
        Diameters in pixels; held between 2 and the shorter side of the image.
    operator : "log" or "doh"
        Laplacian of Gaussian, or the determinant of the Hessian, which passes over edges and lines.

    Yields
    ------
    Progress
        Closing the generator cancels.

    Returns
    -------
    Extrema
        In no particular order. The image is mirrored at its edges, so that half a disc there has its centre there; none
        lies outside.
    """
    octaves = _plan(max(smallest, SMALLEST), min(largest, float(min(image_yx.shape))))
    total = sum(-(-image_yx.shape[0] // octave.step) for octave in octaves) or 1
    done = 0
    found = [np.empty((0, 4))]
    source, below = image_yx, None
    for octave in octaves:
        half = -(-source.shape[0] // 2), -(-source.shape[1] // 2)
        further = octave is not octaves[-1]
        coarser = np.empty(half if further else (0, 0), dtype=np.float32)
        answers = np.empty(coarser.shape, dtype=np.float32) if len(octave.sigmas) > 1 else None
        for rows, strip in _through(source, below, scale if octave.step == 1 else None, octave, operator):
            found.append(strip.table * [octave.step, octave.step, octave.step, 1])
            if further:
                coarser[rows.start // 2 : -(-rows.stop // 2)] = strip.smooth_yx[::2, ::2]
                if answers is not None and strip.below_yx is not None:
                    answers[rows.start // 2 : -(-rows.stop // 2)] = strip.below_yx[::2, ::2]
            done += rows.stop - rows.start
            yield Progress(done, total, "looking for blobs")
        source, below = coarser, answers
    table = np.concatenate(found)
    table = table[(table[:, 2] >= smallest) & (table[:, 2] <= largest)]
    points = table[:, :2].clip(0, np.array(image_yx.shape) - 1)
    return Extrema(points, table[:, 2], table[:, 3])


def _plan(smallest: float, largest: float) -> list[_Octave]:
    """Scales from one below the smallest diameter to one above the largest, by the resolution that they need."""
    if smallest > largest:
        return []
    ratio = 2 ** (1 / PER_OCTAVE)
    n = math.ceil(math.log2(largest / smallest) * PER_OCTAVE)
    ladder = [smallest * SIGMA_OF_DIAMETER * ratio**k for k in range(-1, n + 2)]
    octaves: list[_Octave] = []
    step, blur = 1, 0.0
    while len(ladder) > 1:
        last = next((k for k, sigma in enumerate(ladder) if sigma >= HALVE_FROM * step), len(ladder) - 1)
        # Where even the first scale needs fewer pixels, this resolution is only passed through.
        sigmas = tuple(sigma / step for sigma in ladder[: last + 1]) if last else (HALVE_FROM / 2,)
        blurs = (blur, *sigmas)
        radii = (_radius(_further(a, b)) for a, b in pairwise(blurs))
        octaves.append(_Octave(step, blur, sigmas, 2 * (sum(radii) // 2 + 2)))
        step, blur, ladder = 2 * step, sigmas[-1] / 2, ladder[last:]
    return octaves


def _further(blur: float, sigma: float) -> float:
    """Sigma that takes one blur to another."""
    return math.sqrt(max(0.0, sigma**2 - blur**2))


def _radius(sigma: float) -> int:
    return int(TRUNCATE * sigma + 0.5)


@dataclass(frozen=True, eq=False)
class _Strip:
    table: np.ndarray  # (n, 4): y, x, diameter, contrast
    smooth_yx: np.ndarray  # at the last sigma
    below_yx: np.ndarray | None  # answers at the one before


def _through(
    source: np.ndarray, below: np.ndarray | None, scale: GreyScale | None, octave: _Octave, operator: Operator
) -> Iterator[tuple[slice, _Strip]]:
    """One resolution in strips, which begin at even rows; a few are worked on at once."""
    height, width = source.shape
    rows = max(STRIP // width, 4 * octave.halo)
    rows += rows % 2

    def work(start: int) -> tuple[slice, _Strip]:
        inner = slice(start, min(start + rows, height))
        window = slice(max(0, start - octave.halo), min(height, inner.stop + octave.halo))
        pixels = source[window] if scale is None else scale.apply(np.asarray(source[window])[None])[0]
        inside = slice(inner.start - window.start, inner.stop - window.start)
        strip = _search(pixels, None if below is None else below[window], octave, inside, operator)
        strip.table[:, 0] += inner.start
        return inner, strip

    workers = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        coming: deque[Future[tuple[slice, _Strip]]] = deque()
        try:
            for start in range(0, height, rows):
                coming.append(pool.submit(work, start))
                if len(coming) > workers:  # so that what is done does not pile up
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for strip in coming:
                strip.cancel()


def _search(pixels: np.ndarray, below: np.ndarray | None, octave: _Octave, inside: slice, operator: Operator) -> _Strip:
    """Hold each scale against the one below and the one above it."""
    found = [np.empty((0, 4))]
    answers = [] if below is None else [below]
    smooth, blur = pixels, octave.blur
    for sigma in octave.sigmas:
        before, blur_before = smooth, blur
        if _further(blur, sigma) > 0:
            smooth = ndimage.gaussian_filter(smooth, _further(blur, sigma), truncate=TRUNCATE)
        blur = sigma
        if len(octave.sigmas) > 1:
            answers = [*answers[-2:], _answer(smooth, sigma, operator)]
        if len(answers) == 3:
            for sign in (1, -1):
                found.append(_extrema([sign * answer for answer in answers], before, blur_before, sign, inside))
    return _Strip(np.concatenate(found), smooth[inside], answers[-2][inside] if len(answers) > 1 else None)


def _answer(smooth_yx: np.ndarray, sigma: float, operator: Operator) -> np.ndarray:
    """Answer of the operator, such that a disc at its own scale answers its contrast, with its sign."""
    padded = np.pad(smooth_yx, 1, mode="symmetric")
    twice = 2 * smooth_yx
    yy = padded[:-2, 1:-1] + padded[2:, 1:-1]
    yy -= twice
    xx = padded[1:-1, :-2] + padded[1:-1, 2:]
    xx -= twice
    factor = np.float32(-(sigma**2) / ANSWER_OF_DISC)
    trace: np.ndarray = yy + xx
    if operator == "log":
        trace *= factor
        return trace
    xy = padded[2:, 2:] + padded[:-2, :-2]
    xy -= padded[2:, :-2]
    xy -= padded[:-2, 2:]
    xy *= np.float32(0.25)
    determinant = yy * xx - xy * xy
    # Twice its root is the trace where both curvatures are equal.
    answer: np.ndarray = np.copysign(2 * factor * np.sqrt(determinant.clip(min=0)), -trace)
    return answer


def _extrema(answers: list[np.ndarray], smooth_yx: np.ndarray, sigma: float, sign: int, inside: slice) -> np.ndarray:
    """Maxima of the middle one among its 26 neighbours, as rows of y, x, diameter and contrast."""
    below, at, above = answers
    inner = at[inside]
    top = inner > FAINTEST
    top[:, 1:] &= inner[:, 1:] >= inner[:, :-1]
    top[:, :-1] &= inner[:, :-1] >= inner[:, 1:]
    y, x = np.nonzero(top)
    y += inside.start
    last = at.shape[0] - 1, at.shape[1] - 1

    def near(values: np.ndarray, dy: int, dx: int) -> np.ndarray:
        around: np.ndarray = values[np.clip(y + dy, 0, last[0]), np.clip(x + dx, 0, last[1])]
        return around

    for dy, dx in NEIGHBOURS:
        for scale in (at, below, above):
            highest = at[y, x] >= near(scale, dy, dx)
            y, x = y[highest], x[highest]

    middle = smooth_yx[y, x]
    yy = near(smooth_yx, -1, 0) + near(smooth_yx, 1, 0) - 2 * middle
    xx = near(smooth_yx, 0, -1) + near(smooth_yx, 0, 1) - 2 * middle
    xy = (near(smooth_yx, 1, 1) + near(smooth_yx, -1, -1) - near(smooth_yx, 1, -1) - near(smooth_yx, -1, 1)) / 4
    round_enough = 4 * (yy * xx - xy * xy) >= SHAPELESS * (yy + xx) ** 2
    y, x = y[round_enough], x[round_enough]

    peak = at[y, x].astype(np.float64)
    beside = [
        (near(at, -1, 0), near(at, 1, 0)),
        (near(at, 0, -1), near(at, 0, 1)),
        (below[y, x], above[y, x]),
    ]
    (dy, dx, ds), gains = zip(*(_vertex(low, peak, high) for low, high in beside), strict=True)
    diameter = sigma / SIGMA_OF_DIAMETER * 2 ** (ds / PER_OCTAVE)
    table: np.ndarray = np.stack([y - inside.start + dy, x + dx, diameter, sign * (peak + sum(gains))], axis=1)
    return table


def _vertex(low: np.ndarray, peak: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place of the vertex of a parabola through three values, and what it has over the middle one."""
    bend = low - 2 * peak + high
    slope = (high - low) / 2
    offset = np.divide(-slope, bend, out=np.zeros_like(peak), where=bend < 0).clip(-0.5, 0.5)
    return offset, slope * offset / 2

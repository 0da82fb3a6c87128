"""Which window of the micrograph, at which scale, answers which prompt. Geometry alone; no pixels here."""

from __future__ import annotations

import math
from dataclasses import dataclass

CELL = 4
"""Pixels of the frame for one cell of the decoder's masks."""
SPARE = 1.5
"""A scale is left out where the whole micrograph is less than so many times as long as a window."""
STEP = 0.5
"""From one window to the next of its scale, at most; in sides of a window."""
LARGEST = 1 / 2
"""Share of the window's side that an object of known extent should take at most."""
EDGE = 1 / 64
"""An answer that comes so near to a border across which the micrograph goes on is cut by it; in sides of a window."""

Box = tuple[float, float, float, float]
"""(y0, x0, y1, x1) in pixels, from edge to edge of the pixels; the centre of the first pixel is at (0, 0)."""


@dataclass(frozen=True, slots=True)
class Look:
    """How closely a model should look.

    Attributes
    ----------
    magnify : float
        Pixels of the frame for one of the micrograph, at the finest scale that is chosen without being asked for.
    least : float
        Share of the window's side that an object of known extent should take at least.
    again : bool
        Whether an object that turns out to be smaller, or larger than half of the window, is asked for again.
    shrink : int
        The whole micrograph may take as little as one part in so many of the frame's side, for objects that fill it.
    """

    magnify: float = 2.0
    least: float = 1 / 16
    again: bool = False
    shrink: int = 1


ONCE = Look()
"""For models that embed slowly, and were trained on objects of all sizes."""
CLOSELY = Look(8.0, 1 / 9, again=True, shrink=2)
"""For models that embed quickly, and were trained on objects that fill a good part of what they see."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the micrograph that is seen at once.

    Attributes
    ----------
    top, left, height, width : int
        In pixels of the micrograph.
    frame : int
        Side of the square that the model takes; the longer side of the window is scaled to it.
    shrink : int
        Or to one part in so many of it.
    """

    top: int
    left: int
    height: int
    width: int
    frame: int
    shrink: int = 1

    @property
    def side(self) -> int:
        """What is scaled to the frame, in pixels of the micrograph: the longer side, unless it is shrunk."""
        return max(self.height, self.width) * self.shrink

    @property
    def scale(self) -> float:
        """Pixels of the frame for one of the micrograph."""
        return self.frame / self.side

    @property
    def input_shape(self) -> tuple[int, int]:
        """Height and width in pixels of the frame, as segment-anything rounds them; the rest of it is padding."""
        height, width = (max(1, int(length * self.scale + 0.5)) for length in (self.height, self.width))
        return height, width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the micrograph."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def to_frame(self, y: float, x: float) -> tuple[float, float]:
        """Where a point of the micrograph lies in the frame, as segment-anything has it (without half pixels)."""
        height, width = self.input_shape
        return (y - self.top) * (height / self.height), (x - self.left) * (width / self.width)


@dataclass(frozen=True, slots=True)
class Aim:
    """What a window has to show.

    Attributes
    ----------
    box : (float, float, float, float)
        What is known to belong to the object.
    least, most : float
        Bounds of the object's longer side in pixels.
    """

    box: Box
    least: float = 0.0
    most: float = math.inf

    @classmethod
    def at(cls, box: Box, *, whole: bool, area_px: tuple[float, float] | None = None) -> Aim:
        """Aim at a box.

        Parameters
        ----------
        box : (float, float, float, float)
        whole : bool
            Whether the box holds the whole object, or just the clicks that were made on it.
        area_px : (float, float), optional
            What the object's area lies between; used where the box does not say it better.
        """
        side = max(box[2] - box[0], box[3] - box[1])
        if whole:
            return cls(box, side, side)
        if area_px is None:
            return cls(box, side)
        # No object has a shorter longer side than the square; few are more than four times as long as wide.
        return cls(box, max(side, math.sqrt(area_px[0])), max(side, 2 * math.sqrt(area_px[1])))


class Windows:
    """All windows that a micrograph may be seen through.

    At each scale they lie on a lattice of their own, so that neighbouring prompts share them. The scales differ by
    factors of 2, up to the window that holds the whole micrograph.

    Parameters
    ----------
    shape_yx : (int, int)
        Height and width of the micrograph in pixels.
    frame : int
        Side of the square that the model takes, in pixels.
    scale : float, optional
        Pixels of the frame for one of the micrograph, to begin with and at the finest. None: what suits the object,
        and where that is unknown, the whole micrograph if it fits the frame about, else 1.
    look : Look

    Attributes
    ----------
    sides : tuple of int
        Of the windows of each scale, in pixels of the micrograph, ascending; the last is the micrograph's longer one,
        or where it may be shrunk, a multiple of it.
    """

    def __init__(self, shape_yx: tuple[int, int], frame: int, scale: float | None = None, look: Look = ONCE) -> None:
        self.shape_yx = shape_yx
        self.frame = frame
        longest = max(shape_yx)
        side = max(1, round(frame / (scale or look.magnify)))
        sides: list[int] = []
        while side * SPARE <= longest or (scale is not None and not sides and side < longest):
            sides.append(side)
            side *= 2
        shrunk = range(2, look.shrink + 1) if scale is None else ()
        self.sides = (*sides, longest, *(longest * by for by in shrunk))
        begin = 0 if scale is not None else frame
        self._start = min(
            next((rung for rung, length in enumerate(self.sides) if length >= begin), len(sides)), len(sides)
        )
        self._refine = scale is None
        self._look = look

    def first(self, aim: Aim) -> Window:
        """Window that a prompt is asked in first."""
        rung = self._start
        while rung > 0 and self._refine and aim.most < self._look.least * self.sides[rung]:
            rung -= 1
        return self._nearest(self._coarsened(rung, aim.least), aim.box)

    def ahead(self, most: int) -> list[Window]:
        """Windows that objects may be asked for again in, of as many scales as makes no more than `most`."""
        if not (self._look.again and self._refine):
            return []
        found: list[Window] = []
        for side in reversed(self.sides[: self._start]):
            spans = [_spans(length, side) for length in self.shape_yx]
            if len(found) + len(spans[0]) * len(spans[1]) > most:
                break
            found += [Window(y, x, height, width, self.frame) for y, height in spans[0] for x, width in spans[1]]
        return found

    def next(self, window: Window, aim: Aim, found: Box, *, again: bool = False) -> Window | None:
        """Window that a prompt is asked in next, given what was found in one.

        Parameters
        ----------
        window : Window
            Where it was asked.
        aim : Aim
            What for.
        found : (float, float, float, float)
            Box of the answer.
        again : bool
            Whether it had been asked elsewhere before.

        Returns
        -------
        Window or None
            At a coarser scale where the answer is cut by the window's border; at a finer one where it is small and the
            model should look again. None if the answer is good.
        """
        rung = self.sides.index(window.side)
        extent = max(found[2] - found[0], found[3] - found[1])
        if self._is_cut(window, found):
            both = tuple(pick(a, b) for pick, a, b in zip((min, min, max, max), found, aim.box, strict=True))
            return self._nearest(self._coarsened(rung + 1, extent), both)  # type: ignore[arg-type]
        if not (self._look.again and self._refine) or again or not math.isinf(aim.most):
            return None
        coarser = self._coarsened(rung, extent)
        if coarser > rung:
            return self._nearest(coarser, found)
        finer = rung
        while finer and extent < self._look.least * self.sides[finer]:
            finer -= 1
        return self._nearest(finer, found) if finer < rung else None

    def _coarsened(self, rung: int, extent: float) -> int:
        """First scale from this one on at which an object fits."""
        while rung + 1 < len(self.sides) and extent > LARGEST * self.sides[rung]:
            rung += 1
        return rung

    def _is_cut(self, window: Window, found: Box) -> bool:
        margin = EDGE * window.side
        bottom, right = window.top + window.height, window.left + window.width
        height, width = self.shape_yx
        return (
            (window.top > 0 and found[0] + 0.5 < window.top + margin)
            or (window.left > 0 and found[1] + 0.5 < window.left + margin)
            or (bottom < height and found[2] + 0.5 > bottom - margin)
            or (right < width and found[3] + 0.5 > right - margin)
        )

    def _nearest(self, rung: int, box: Box) -> Window:
        """Window of a scale in whose middle a box lies most nearly."""
        side = self.sides[rung]
        (top, height), (left, width) = (
            _nearest_span(length, side, (low + high + 1) / 2)
            for length, low, high in zip(self.shape_yx, box[:2], box[2:], strict=True)
        )
        return Window(top, left, height, width, self.frame, max(1, side // max(self.shape_yx)))


def _spans(length: int, side: int) -> list[tuple[int, int]]:
    """Spread stretches evenly over an axis; give their starts and lengths."""
    room = length - side
    if room <= 0:
        return [(0, length)]
    steps = math.ceil(room / max(1, int(side * STEP)))
    return [(round(k * room / steps), side) for k in range(steps + 1)]


def _nearest_span(length: int, side: int, middle: float) -> tuple[int, int]:
    """Start and length of the stretch whose middle is nearest."""
    spans = _spans(length, side)
    steps = len(spans) - 1
    nearest = 0 if steps == 0 else min(max(round((middle - side / 2) / (length - side) * steps), 0), steps)
    return spans[nearest]

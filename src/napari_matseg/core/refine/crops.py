"""What the refiner sees of an object: a square round it, its prompts as maps, and the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_matseg.core.prompt_image import BLANK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_matseg.core.objects import ObjectMask
    from napari_matseg.core.windows import Box

SIDE = 128
"""Pixels of the refiner's input, along each axis."""
CONTEXT = 1.8
"""Side of the square, in longer sides of the object."""
SMALLEST = 5.0
"""px; an object is taken to be that long at least."""
RADIUS = 3.0
"""Of the disc that stands for a click, in pixels of the input."""
SURE = 12.0
"""Largest score of an earlier answer, and minus that outside its crop."""


@dataclass(frozen=True, slots=True)
class Square:
    """Part of the plane that is seen; it may reach beyond it.

    Attributes
    ----------
    top, left, side : int
        In pixels of the plane.
    """

    top: int
    left: int
    side: int

    @classmethod
    def round(cls, box: Box) -> Square:
        """Lay one round an object, or what is known of it."""
        y0, x0, y1, x1 = box
        side = max(2, math.ceil(CONTEXT * max(y1 - y0, x1 - x0, SMALLEST)))
        top, left = (round((low + high + 1 - side) / 2) for low, high in ((y0, y1), (x0, x1)))
        return cls(top, left, side)

    def inside(self, shape_yx: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the plane that it covers; they may be none."""
        rows, columns = (
            slice(min(max(start, 0), length), min(max(start + self.side, 0), length))
            for start, length in zip((self.top, self.left), shape_yx, strict=True)
        )
        return rows, columns

    def to_input(self, y: float, x: float, to: int = SIDE) -> tuple[float, float]:
        """Where a point of the plane lies in the refiner's input."""
        scale = to / self.side
        return (y - self.top + 0.5) * scale - 0.5, (x - self.left + 0.5) * scale - 0.5


def stack_maps(
    grey_yx: np.ndarray,
    inside_yx: np.ndarray,
    box: Box | None,
    positive: Sequence[tuple[float, float]],
    negative: Sequence[tuple[float, float]],
    scores_yx: np.ndarray | None,
) -> np.ndarray:
    """Put together what the refiner takes.

    Parameters
    ----------
    grey_yx : array, shape (side, side), float
        From -1.25 to 1.25.
    inside_yx : array, shape (side, side), bool
        Where there is a micrograph.
    box : (float, float, float, float), optional
        That the user drew; its edges, here and below in pixels of the input.
    positive, negative : sequence of (y, x)
        Clicks.
    scores_yx : array, shape (side, side), float, optional
        Logits of an earlier answer.

    Returns
    -------
    array, shape (6, side, side), float32
        Grey; where there is a micrograph; the box; clicks in the object; clicks beside it; the earlier answer from -1
        to 1, which is 0 everywhere if there is none.
    """
    maps = np.zeros((6, *grey_yx.shape), dtype=np.float32)
    maps[0] = np.where(inside_yx, grey_yx, BLANK)
    maps[1] = inside_yx
    if box is not None:
        rows, columns = (
            (at >= low) & (at <= high)
            for at, low, high in zip(map(np.arange, grey_yx.shape), box[:2], box[2:], strict=True)
        )
        maps[2] = rows[:, None] & columns
    for number, clicks in ((3, positive), (4, negative)):
        for y, x in clicks:
            _draw_disc(maps[number], y, x)
    if scores_yx is not None:
        maps[5] = np.tanh(np.clip(scores_yx, -SURE, SURE) / 2)
    return maps


def _draw_disc(map_yx: np.ndarray, y: float, x: float) -> None:
    top, left = (max(0, math.ceil(at - RADIUS)) for at in (y, x))
    crop = map_yx[top : max(0, math.floor(y + RADIUS) + 1), left : max(0, math.floor(x + RADIUS) + 1)]
    rows, columns = (np.arange(n) + start for n, start in zip(crop.shape, (top, left), strict=True))
    crop[(rows[:, None] - y) ** 2 + (columns - x) ** 2 <= RADIUS**2] = 1


def seen_inside(square: Square, shape_yx: tuple[int, int], to: int = SIDE) -> np.ndarray:
    """Pixels of the input that lie in the plane: shape (to, to), bool."""
    rows, columns = (
        (at >= 0) & (at <= length)
        for at, length in (
            (start + (np.arange(to) + 0.5) * square.side / to, length)
            for start, length in zip((square.top, square.left), shape_yx, strict=True)
        )
    )
    seen: np.ndarray = rows[:, None] & columns
    return seen


def earlier_scores(found: ObjectMask, square: Square, to: int = SIDE) -> np.ndarray | None:
    """Scores of an answer as the refiner sees them: shape (to, to), float64; None if nothing was found."""
    if not found.scores_yx.size:
        return None
    step = square.side / to
    first = np.array([square.top, square.left]) + (step - 1) / 2
    return take(found, np.eye(2) * step, first, to)


def take(found: ObjectMask, matrix: np.ndarray, offset: np.ndarray, to: int) -> np.ndarray:
    """Sample the scores of an answer, linearly.

    Parameters
    ----------
    found : ObjectMask
    matrix : array, shape (2, 2)
        From pixels of the sample to those of the plane.
    offset : array, shape (2,)
        Where the sample's first pixel lies in the plane.
    to : int
        Side of the sample.
    """
    scores = np.pad(np.clip(found.scores_yx.astype(np.float32), -SURE, SURE), 1, constant_values=-SURE)
    start = offset - np.array([found.top, found.left]) + 1
    taken: np.ndarray = ndimage.affine_transform(scores, matrix, start, (to, to), order=1, cval=-SURE)
    return taken


def back_to_plane(scores_yx: np.ndarray, square: Square, shape_yx: tuple[int, int]) -> tuple[int, int, np.ndarray]:
    """Resize what the refiner drew to pixels of the plane.

    Parameters
    ----------
    scores_yx : array, shape (side, side), float32
    square : Square
    shape_yx : (int, int)
        Of the plane.

    Returns
    -------
    top, left : int
    scores_yx : array, float32
        Of the part of the square that lies in the plane.
    """
    from PIL import Image

    to = scores_yx.shape[0]
    inside = seen_inside(square, shape_yx, to)
    y, x = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    beyond = (y[0], to - 1 - y[-1]), (x[0], to - 1 - x[-1])
    # What is drawn beyond the plane means nothing, and must not be mixed with what is at its edge.
    scores_yx = np.pad(scores_yx[y[0] : y[-1] + 1, x[0] : x[-1] + 1], beyond, mode="edge")
    rows, columns = square.inside(shape_yx)
    scale = to / square.side
    box = (
        (columns.start - square.left) * scale,
        (rows.start - square.top) * scale,
        (columns.stop - square.left) * scale,
        (rows.stop - square.top) * scale,
    )
    size = columns.stop - columns.start, rows.stop - rows.start
    resized = Image.fromarray(scores_yx).resize(size, Image.Resampling.BILINEAR, box)
    return rows.start, columns.start, np.asarray(resized)

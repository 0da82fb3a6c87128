"""A micrograph as it would look turned, magnified or in another contrast, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.normalise import GreyScale

if TYPE_CHECKING:
    from collections.abc import Sequence

TURNS = (
    (False, False, False),
    (True, True, False),
    (False, False, True),
    (False, True, True),
    (True, False, True),
    (False, True, False),
    (True, False, False),
    (True, True, True),
)
"""Axes exchanged, then rows and columns reversed: the eight ways to lay a square on itself, the identity first."""
ZOOMS = (0, 0, 1, -1, 0, 0, -1, 1)
CONTRASTS = (0, 1, 0, 0, -1, 1, 0, -1)
"""Exponents of zoom and contrast, so that the first views of few differ in all."""

Where = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class View:
    """One way to look at a micrograph.

    Attributes
    ----------
    transpose : bool
        Exchange the axes; then reverse
    flip_y, flip_x : bool
        rows and columns.
    zoom, contrast : float
        1 is as it is.
    """

    transpose: bool = False
    flip_y: bool = False
    flip_x: bool = False
    zoom: float = 1.0
    contrast: float = 1.0

    def see(self, image_cyx: Any) -> SeenPlane:
        """Plane as it looks, of which only what is sliced is read."""
        return SeenPlane(image_cyx, self)

    def scale(self, scale: GreyScale) -> GreyScale:
        """Grey scale that gives the contrast: pairs about the same middle, closer for more of it."""
        low, high = np.array(scale.low), np.array(scale.high)
        middle, half = (low + high) / 2, (high - low) / 2 / self.contrast
        return GreyScale(tuple((middle - half).tolist()), tuple((middle + half).tolist()), scale.limit)

    def zoomed(self, shape_yx: Sequence[int]) -> tuple[int, int]:
        """Height and width after magnifying, before turning."""
        return max(1, round(shape_yx[0] * self.zoom)), max(1, round(shape_yx[1] * self.zoom))

    def back(self, where: Where, maps: np.ndarray, shape_yx: tuple[int, int]) -> tuple[Where, np.ndarray]:
        """Turn a rectangle of a result back, and say where in the image it lies.

        Parameters
        ----------
        where : (slice, slice)
            Rows and columns of the plane as it was seen.
        maps : array, shape (..., height, width) of that rectangle
        shape_yx : (int, int)
            Height and width of the image in pixels.

        Returns
        -------
        where : (slice, slice)
            Rows and columns of the image; rectangles that cover what was seen cover each pixel once.
        maps : array, shape (..., height, width) of that rectangle
            Of the nearest pixel where the view was magnified.
        """
        spans = self._unturned(where, self.zoomed(shape_yx))
        maps = maps[..., :: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        if self.transpose:
            maps = maps.swapaxes(-1, -2)
        if self.zoom == 1:
            return (slice(*spans[0]), slice(*spans[1])), maps
        (rows, in_rows), (columns, in_columns) = (
            _nearest(span, seen, length)
            for span, seen, length in zip(spans, self.zoomed(shape_yx), shape_yx, strict=True)
        )
        return (rows, columns), maps[..., in_rows[:, None], in_columns]

    def _unturned(self, where: Where, zoomed: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Find the ends of rows and columns before turning, from those after."""
        lengths = zoomed[::-1] if self.transpose else zoomed
        (rows, columns) = (
            (length - stop, length - start) if flip else (start, stop)
            for (start, stop, _), length, flip in (
                (part.indices(length), length, flip)
                for part, length, flip in zip(where, lengths, (self.flip_y, self.flip_x), strict=True)
            )
        )
        return (columns, rows) if self.transpose else (rows, columns)


class SeenPlane:
    """A plane as a view shows it, shape (channels, height, width), which is read where it is sliced, without steps."""

    def __init__(self, image_cyx: Any, view: View) -> None:
        self._image, self._view = image_cyx, view
        self._shape_yx: tuple[int, int] = (int(image_cyx.shape[1]), int(image_cyx.shape[2]))
        zoomed = view.zoomed(self._shape_yx)
        self.shape = (int(image_cyx.shape[0]), *(zoomed[::-1] if view.transpose else zoomed))
        wide = image_cyx.dtype.itemsize > 2
        self.dtype = np.dtype(image_cyx.dtype if view.zoom == 1 else np.float64 if wide else np.float32)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        """Read a part."""
        channels, rows, columns = key
        view = self._view
        spans = view._unturned((rows, columns), view.zoomed(self._shape_yx))  # noqa: SLF001
        part = self._read(channels, spans)
        if view.transpose:
            part = part.swapaxes(-1, -2)
        return part[:, :: -1 if view.flip_y else 1, :: -1 if view.flip_x else 1]

    def _read(self, channels: slice, spans: Sequence[tuple[int, int]]) -> np.ndarray:
        """Pixels before turning, interpolated linearly where magnified."""
        if self._view.zoom == 1:
            return np.asarray(self._image[channels, slice(*spans[0]), slice(*spans[1])])
        lengths = zip(spans, self._view.zoomed(self._shape_yx), self._shape_yx, strict=True)
        (top, bottom, down), (left, right, across) = (_between(span, seen, length) for span, seen, length in lengths)
        rows, columns = slice(top[0], bottom[-1] + 1), slice(left[0], right[-1] + 1)
        part = np.asarray(self._image[channels, rows, columns]).astype(self.dtype)
        down, across = down.astype(self.dtype)[:, None], across.astype(self.dtype)
        mixed: np.ndarray = part[:, top - top[0]] * (1 - down) + part[:, bottom - top[0]] * down
        mixed = mixed[..., left - left[0]] * (1 - across) + mixed[..., right - left[0]] * across
        return mixed


def make_views(n: int, zoom: float, contrast: float, *, turns: bool = True) -> list[View]:
    """Ways to look at a micrograph, the first of which leaves it as it is.

    Parameters
    ----------
    n : int
        How many, 1 to 8.
    zoom, contrast : float
        By how much some are magnified or richer in contrast, and others the other way round.
    turns : bool
        Without, rows stay rows, which of a large image can be read one after the other; by quarter turns they do not.

    Examples
    --------
    >>> make_views(2, 1.0, 1.5)
    [View(transpose=False, flip_y=False, flip_x=False, zoom=1.0, contrast=1.0), \
View(transpose=True, flip_y=True, flip_x=False, zoom=1.0, contrast=1.5)]
    """
    return [
        View(turn[0] and turns, turn[1], turn[2], zoom**magnify, contrast**enrich)
        for turn, magnify, enrich in list(zip(TURNS, ZOOMS, CONTRASTS, strict=True))[:n]
    ]


def _between(span: tuple[int, int], seen: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of pixels of a magnified axis: the two of the image that each lies between, and the share of the second."""
    places = np.clip((np.arange(*span) + 0.5) * length / seen - 0.5, 0, length - 1)
    below = np.floor(places).astype(np.int64)
    return below, np.minimum(below + 1, length - 1), places - below


def _nearest(span: tuple[int, int], seen: int, length: int) -> tuple[slice, np.ndarray]:
    """Pixels of the image that lie in a part of a magnified axis, and which of its pixels each takes."""
    places = ((np.arange(length) + 0.5) * seen / length).astype(np.int64)
    start, stop = np.searchsorted(places, span)
    return slice(int(start), int(stop)), places[start:stop] - span[0]

"""Put overlapping tiles together by a weighted mean."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_matseg.core.tile import Tile

FLOOR = 1e-3  # weight at the border of a tile, so that no pixel is without


@lru_cache(maxsize=16)
def window_weights(shape: tuple[int, int]) -> np.ndarray:
    """Weights that fall from the middle of a tile to its border as a raised cosine (Hann).

    Parameters
    ----------
    shape : (int, int)
        Height and width of the tile in pixels.

    Returns
    -------
    array, shape (height, width), float32, from `FLOOR` to 1
    """
    rows, columns = (0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n) for n in shape)
    weights = np.maximum(np.outer(rows, columns), FLOOR).astype(np.float32)
    weights.flags.writeable = False
    return weights


class Blender:
    """Weighted mean of maps on a canvas, holding only the rows that later tiles can still change.

    Parameters
    ----------
    channels : int
        Maps per pixel.
    canvas : (int, int)
        Height and width in pixels.

    Notes
    -----
    Tiles come in reading order: once one starts lower, the rows above it are final.
    """

    def __init__(self, channels: int, canvas: tuple[int, int]) -> None:
        self._canvas = canvas
        self._first = 0
        self._sum = np.zeros((channels, 0, canvas[1]), dtype=np.float32)
        self._weight = np.zeros((0, canvas[1]), dtype=np.float32)

    def add(self, tile: Tile, maps_cyx: np.ndarray) -> tuple[int, np.ndarray] | None:
        """Add a tile.

        Parameters
        ----------
        tile : Tile
        maps_cyx : array, shape (channels, height, width) of the tile's window, float32

        Returns
        -------
        (int, array) or None
            First row and means, shape (channels, rows, width), of the rows that became final by this tile.
        """
        final = self._flush(tile.y.start) if tile.y.start > self._first else None
        missing = tile.y.stop - self._first - self._weight.shape[0]
        if missing > 0:
            self._sum = np.pad(self._sum, ((0, 0), (0, missing), (0, 0)))
            self._weight = np.pad(self._weight, ((0, missing), (0, 0)))
        where = slice(tile.y.start - self._first, tile.y.stop - self._first), slice(tile.x.start, tile.x.stop)
        weights = window_weights(tile.shape)
        self._sum[:, *where] += maps_cyx * weights
        self._weight[where] += weights
        return final

    def rest(self) -> tuple[int, np.ndarray]:
        """First row and means of the rows that are left, after the last tile."""
        return self._flush(self._first + self._weight.shape[0])

    def _flush(self, stop: int) -> tuple[int, np.ndarray]:
        first, rows = self._first, stop - self._first
        means = self._sum[:, :rows] / self._weight[:rows]
        self._sum, self._weight = self._sum[:, rows:].copy(), self._weight[rows:].copy()
        self._first = stop
        return first, means

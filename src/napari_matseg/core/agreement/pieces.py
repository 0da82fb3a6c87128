"""Connected pieces of some of the pixels of an image, in memory and time that go with these pixels.

Pixels are given by their flat places, ascending, each with its owner: pixels of different owners are never of one
piece, though they touch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places = NDArray[np.int64]

SIDE = 3  # pixels; what holds no square of this side is thin
REACH = SIDE - 1  # pixels from one whose thickness is asked, to the farthest that has a say in it


@dataclass(eq=False)
class Extents:
    """Size and place of groups of pixels, added up from runs of them.

    Attributes
    ----------
    area, sum_y, sum_x : float64 arrays, shape (n,)
        Pixels of each group, and the sums of their rows and columns.
    top, left, bottom, right : int64 arrays, shape (n,)
        First row and column of each, and those after the last.
    """

    area: NDArray[np.float64]
    sum_y: NDArray[np.float64]
    sum_x: NDArray[np.float64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    bottom: NDArray[np.int64]
    right: NDArray[np.int64]

    @classmethod
    def none(cls, n: int) -> Extents:
        """Of `n` groups without any pixel yet."""
        sums, limit = np.zeros((3, n)), np.iinfo(np.int64).max
        return cls(*sums, *(np.full(n, start, np.int64) for start in (limit, limit, 0, 0)))

    def add(self, group: Places, y: Places, x: Places, length: Places) -> None:
        """Add runs of pixels.

        Parameters
        ----------
        group, y, x, length : int64 arrays of equal length
            The group of each run, its row, first column and number of pixels.
        """
        n = len(self.area)
        self.area += np.bincount(group, length, n)
        self.sum_y += np.bincount(group, y * length, n)
        self.sum_x += np.bincount(group, (x + (length - 1) / 2) * length, n)
        np.minimum.at(self.top, group, y)
        np.minimum.at(self.left, group, x)
        np.maximum.at(self.bottom, group, y + 1)
        np.maximum.at(self.right, group, x + length)


@dataclass(frozen=True, eq=False)
class Pieces:
    """Connected pieces.

    Attributes
    ----------
    piece : int64 array, shape (n_places,)
        Which piece, from 0, each of the places given is of.
    owner : int64 array, shape (n_pieces,)
        Owner of each piece.
    extents : Extents
        Size and place of each.
    """

    piece: Places
    owner: NDArray[np.int64]
    extents: Extents


def connect(places: Places, owners: NDArray[np.int64], width: int) -> Pieces:
    """Put pixels of one owner that are neighbours, by four, together.

    Parameters
    ----------
    places, owners : int64 arrays, shape (n_places,)
        Ascending flat places in an image of the given width, and the owner of each.
    width : int
        Of the image.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    begins = np.ones(len(places), bool)
    begins[1:] = (np.diff(places) > 1) | (owners[1:] != owners[:-1]) | (places[1:] % width == 0)
    first = np.flatnonzero(begins)
    start, owner = places[first], owners[first]
    length = np.diff(first, append=len(places))
    # Runs that overlap one in the next row: those that neither end before it begins nor begin after it ends.
    from_ = np.searchsorted(start + length, start + width, "right")
    n_below = np.searchsorted(start, start + width + length, "left") - from_
    above = np.repeat(np.arange(len(start)), n_below)
    below = np.arange(len(above)) + np.repeat(from_ - np.cumsum(n_below) + n_below, n_below)
    same = owner[above] == owner[below]
    links = coo_array((np.ones(np.count_nonzero(same), bool), (above[same], below[same])), shape=(len(start),) * 2)
    n, piece = connected_components(links, directed=False)
    piece = piece.astype(np.int64)
    extents = Extents.none(n)
    extents.add(piece, *np.divmod(start, width), length)
    owner_of_piece = np.empty(n, np.int64)
    owner_of_piece[piece] = owner
    return Pieces(np.repeat(piece, length), owner_of_piece, extents)


def thick(owners_yx: NDArray[Any]) -> tuple[Places, NDArray[np.int64]]:
    """Find the pixels that lie in a square of 3 x 3 pixels of one owner (a morphological opening).

    Parameters
    ----------
    owners_yx : integer array, shape (height, width)
        Owner of each pixel, from 1; 0 where it has none.

    Returns
    -------
    places, owners : int64 arrays
        Ascending flat places of the pixels, and the owner of each.
    """
    width = owners_yx.shape[1]
    owned = owners_yx > 0
    across = owned[:, :-2] & owned[:, 1:-1] & owned[:, 2:]
    y, x = np.nonzero(across[:-2] & across[1:-1] & across[2:])
    middle = (y + 1) * width + x + 1
    owners = owners_yx.reshape(-1)
    around = [dy * width + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    for step in around:
        middle = middle[owners[middle] == owners[middle + step]]
    opened = np.zeros(owners.size, bool)
    for step in (0, *around):
        opened[middle + step] = True
    places = np.flatnonzero(opened)
    return places, owners[places].astype(np.int64)

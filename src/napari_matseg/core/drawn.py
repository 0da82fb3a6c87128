"""Objects as outlines and run-length codes give them, before they are painted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.spans import paint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_matseg.core.spans import Spans


@dataclass(frozen=True, eq=False)
class Drawn:
    """Objects of a plane, in the order of their file.

    Attributes
    ----------
    name : str
        What to call the objects in messages: their file.
    shape_yx : (int, int)
        Height and width of the plane.
    spans : Spans
        Pixels of each object, which may overlap.
    names : tuple of str
        Of each object's class; empty where it has none.
    numbers : int64 array, shape (n,)
        The category of each object as COCO counts them, or ImageJ's group; 0 for none.
    crowd : bool array, shape (n,)
        Whether it is many objects that nobody drew one by one.
    """

    name: str
    shape_yx: tuple[int, int]
    spans: Spans
    names: tuple[str, ...]
    numbers: NDArray[np.int64]
    crowd: NDArray[np.bool_]

    def paint(self) -> tuple[NDArray[np.uint32], list[str]]:
        """Give each pixel to one object.

        Where objects overlap, the pixel is the smaller one's, and of two that are as large the later one's: an object
        inside another stays whole. Crowds have what is left.

        Returns
        -------
        ids_yx : uint32 array
            Place of the object in the file, from 1; 0 is none.
        notes : list of str
            What happened to objects that overlap or lie outside.

        Raises
        ------
        InputError
            If the objects are absurdly many.
        """
        n = len(self.names)
        areas = self.spans.areas(n)
        ids = paint(self.spans, np.lexsort((np.arange(n), -areas, ~self.crowd)), self.shape_yx, self.name)
        left = areas
        if areas.sum() > np.count_nonzero(ids):
            left = np.bincount(ids[ids > 0], minlength=n + 1)[1:]
        notes = []
        if outside := np.count_nonzero(areas == 0):
            notes.append(f"objects outside the image or without a pixel, left out: {outside}")
        if covered := np.count_nonzero((left < areas) & ~self.crowd):
            notes.append(f"objects that overlap smaller ones, which have the pixels of both: {covered}")
        if lost := np.count_nonzero((left == 0) & (areas > 0) & ~self.crowd):
            notes.append(f"objects that lie under others entirely, left out: {lost}")
        return ids, notes

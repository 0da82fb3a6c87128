"""A plane of a micrograph as a promptable model sees it: 8 bits of one scale of grey, cut and resized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.normalise import GreyScale, grey_scale
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.windows import Window

LIMIT = 1.25
"""Of normalised grey; what lies outside is black or white."""
HALF_RANGE = 255 / 2 / LIMIT
"""Grey values of 255 for one unit of normalised grey."""
BAND = 1 << 22
"""Pixels that are normalised at once."""


@dataclass(frozen=True, eq=False)
class PromptImage:
    """A plane without the data bar, whose pixels are read when they are needed.

    Attributes
    ----------
    micrograph : Micrograph
    plane : int
    rows : slice
        Of the plane, that prompts may lie in.
    scale : GreyScale
        One for all channels.
    """

    micrograph: Micrograph
    plane: int
    rows: slice
    scale: GreyScale

    @classmethod
    def of(cls, micrograph: Micrograph, plane: int = 0, *, exclude_data_bar: bool = True) -> PromptImage:
        """Measure the grey scale of a plane.

        Raises
        ------
        InputError
            If there is no such plane, or it is all data bar.
        """
        if not 0 <= plane < micrograph.n_planes:
            raise InputError(
                f"{micrograph.name}: there is no plane {plane}; it has planes 0 to {micrograph.n_planes - 1}."
            )
        rows = micrograph.content_rows if exclude_data_bar else slice(0, micrograph.shape_yx[0])
        return cls(micrograph, plane, rows, grey_scale(micrograph.view(plane, rows=rows)))

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width without the data bar, in pixels."""
        return self.rows.stop - self.rows.start, self.micrograph.shape_yx[1]

    def read(self, window: Window) -> np.ndarray:
        """Cut a window out and resize it to the frame.

        Parameters
        ----------
        window : Window
            Of the rows without the data bar.

        Returns
        -------
        array, shape (height, width) for grey or (height, width, 3) for true colour, uint8
            Of the window's `input_shape`, resized as segment-anything does it: linearly, with antialiasing.
        """
        from PIL import Image

        rows, columns = window.slices
        shape = (window.height, window.width, *((3,) if self.micrograph.is_colour else ()))
        image = np.empty(shape, dtype=np.uint8)
        step = max(1, BAND // window.width)
        for start in range(0, window.height, step):
            stop = min(start + step, window.height)
            band = slice(self.rows.start + rows.start + start, self.rows.start + rows.start + stop)
            image[start:stop] = self._to_bytes(_read(self.micrograph, self.plane, band, columns))
        height, width = window.input_shape
        return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))

    def _to_bytes(self, pixels: np.ndarray) -> np.ndarray:
        """Normalise grey values, of any shape."""
        grey = self.scale.apply(pixels.reshape(1, len(pixels), -1)).reshape(pixels.shape)
        np.clip(grey, -LIMIT, LIMIT, out=grey)
        grey *= HALF_RANGE
        grey += 255 / 2
        levels: np.ndarray = np.rint(grey, out=grey).astype(np.uint8)
        return levels


def _read(micrograph: Micrograph, plane: int, rows: slice, columns: slice) -> np.ndarray:
    where = np.unravel_index(plane, micrograph.shape_planes) if micrograph.shape_planes else ()
    return np.asarray(micrograph.pixels[(*(int(i) for i in where), rows, columns)])

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
LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Of red, green and blue: ITU-R BT.709."""
BLANK = -0.1
"""Normalised grey of what lies outside the micrograph: that of segment-anything's padding."""
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

        image = self._read_bytes(*window.slices)
        height, width = window.input_shape
        return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))

    def grey_of(self, top: int, left: int, side: int, to: int) -> np.ndarray:
        """Cut a square out, resize it, and take colours for the grey that they look like.

        Parameters
        ----------
        top, left, side : int
            In pixels of the rows without the data bar; part of the square must lie in them, and the last pixels are
            repeated for the rest.
        to : int
            Side in pixels that it is resized to, linearly, with antialiasing.

        Returns
        -------
        array, shape (to, to), float32
            From -1.25 for black to 1.25 for white.
        """
        from PIL import Image

        spans, missing = [], []
        for start, length in zip((top, left), self.shape_yx, strict=True):
            first, stop = max(start, 0), min(start + side, length)
            spans.append(slice(first, stop))
            missing.append((first - start, start + side - stop))
        levels = self._read_bytes(*spans)
        padded = np.pad(levels, [*missing, *[(0, 0)] * (levels.ndim - 2)], mode="edge")
        resized = np.asarray(Image.fromarray(padded).resize((to, to), Image.Resampling.BILINEAR), dtype=np.float32)
        grey = resized if resized.ndim == 2 else resized @ np.array(LUMINANCE, dtype=np.float32)
        return (grey - np.float32(255 / 2)) / np.float32(HALF_RANGE)

    def _read_bytes(self, rows: slice, columns: slice) -> np.ndarray:
        """Read part of the rows without the data bar, band by band, as 8 bits of grey or colour."""
        height, width = rows.stop - rows.start, columns.stop - columns.start
        image = np.empty((height, width, *((3,) if self.micrograph.is_colour else ())), dtype=np.uint8)
        step = max(1, BAND // width)
        for start in range(0, height, step):
            stop = min(start + step, height)
            band = slice(self.rows.start + rows.start + start, self.rows.start + rows.start + stop)
            image[start:stop] = self._to_bytes(_read(self.micrograph, self.plane, band, columns))
        return image

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

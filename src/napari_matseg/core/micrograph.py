"""Micrograph: pixels with what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # ITU-R BT.709


@dataclass(frozen=True)
class Micrograph:
    """One image or stack, as the instrument meant it.

    Attributes
    ----------
    pixels : array
        Array with one axis for each letter of `axes`; numpy, or anything that slices like it.
    axes : str
        Letters for the axes of `pixels`, ending in "YX" (grey) or "YXS" (true colour, S of 3).
        Those before, such as "Z" or "T", are planes.
    pixel_size_nm : (float, float) or None
        Height and width of a pixel in nanometres, as (y, x); None where the file states none.
    data_bar : (int, int) or None
        First row and end (exclusive) of the instrument's data bar; None where there is none.
    data_bar_from : "record", "picture", "user" or None
        What told of the data bar: the instrument's record, the picture itself, or the user; None where none did.
    source : Path or None
        The file it came from.
    vendor : str or None
        The maker of the instrument or program that wrote the file.
    metadata : dict
        What the instrument recorded, in plain JSON types.
    pixel_size_from : str or None
        What told of the pixel size, for a reader, such as a tag of the file; None where nothing did.
    levels : tuple of arrays
        Smaller copies of the pixels that the file has, the largest first; only for viewing.
    """

    pixels: Any
    axes: str = "YX"
    pixel_size_nm: tuple[float, float] | None = None
    data_bar: tuple[int, int] | None = None
    source: Path | None = None
    vendor: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    levels: tuple[Any, ...] = ()
    data_bar_from: Literal["record", "picture", "user"] | None = None
    pixel_size_from: str | None = None

    def __post_init__(self) -> None:
        """Hold the axes to the pixels."""
        if len(self.axes) != len(self.pixels.shape):
            raise InputError(
                f"{self.name}: axes {self.axes!r} do not fit pixels of shape {tuple(self.pixels.shape)}; "
                "give one letter per axis."
            )
        if not self.axes.endswith(("YX", "YXS")):
            raise InputError(f"{self.name}: axes must end in YX or YXS, not {self.axes!r}; move the axes first.")
        if self.is_colour and self.pixels.shape[-1] != 3:
            raise InputError(
                f"{self.name}: true colour has 3 channels (red, green, blue), not {self.pixels.shape[-1]}; "
                "give it these three."
            )
        if np.dtype(self.pixels.dtype).kind not in "buif":
            raise InputError(
                f"{self.name}: pixels must be integers or real numbers, not {self.pixels.dtype}; convert them first."
            )
        if 0 in self.pixels.shape:
            raise InputError(f"{self.name}: the image holds no pixels (shape {tuple(self.pixels.shape)}).")

    @property
    def name(self) -> str:
        """Name to call it by in messages."""
        return str(self.source) if self.source is not None else "image"

    @property
    def is_colour(self) -> bool:
        """Whether the last axis is red, green, blue."""
        return self.axes.endswith("S")

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width in pixels."""
        shape = self.pixels.shape[-3:-1] if self.is_colour else self.pixels.shape[-2:]
        return int(shape[0]), int(shape[1])

    @property
    def shape_planes(self) -> tuple[int, ...]:
        """Lengths of the axes before YX; empty for a single image."""
        return tuple(int(n) for n in self.pixels.shape[: len(self.axes.removesuffix("S")) - 2])

    @property
    def n_planes(self) -> int:
        """Number of planes; 1 for a single image."""
        return int(np.prod(self.shape_planes, dtype=np.int64))

    @property
    def content_rows(self) -> slice:
        """Rows without the data bar: the larger part beside it.

        Raises
        ------
        InputError
            If the data bar covers the whole image.
        """
        height = self.shape_yx[0]
        if self.data_bar is None:
            return slice(0, height)
        start, stop = self.data_bar
        rows = slice(0, start) if start >= height - stop else slice(stop, height)
        if rows.stop <= rows.start:
            raise InputError(f"{self.name}: the data bar covers the whole image; keep the data bar.")
        return rows

    def describe(self) -> dict[str, Any]:
        """Give its extent and what is known of it, but for the instrument's record, in plain JSON types."""
        return {
            "shape": [int(n) for n in self.pixels.shape],
            "axes": self.axes,
            "dtype": str(self.pixels.dtype),
            "pixel_size_nm": None if self.pixel_size_nm is None else list(self.pixel_size_nm),
            "pixel_size_from": self.pixel_size_from,
            "data_bar_rows": None if self.data_bar is None else list(self.data_bar),
            "data_bar_from": self.data_bar_from,
        }

    def content_mask(self) -> np.ndarray:
        """Pixels outside the data bar.

        Returns
        -------
        array of bool, shape (..., height, width)
            With the planes of the micrograph; a view of few bytes, not to be written to.
        """
        column = np.zeros((self.shape_yx[0], 1), dtype=bool)
        column[self.content_rows] = True
        return np.broadcast_to(column, (*self.shape_planes, *self.shape_yx))

    def plane(self, index: int = 0, channels: int = 1) -> np.ndarray:
        """One plane, read into memory, with the channels that a network takes.

        Parameters
        ----------
        index : int
            Which plane, counted over the axes before YX in C order.
        channels : int
            1 gives grey (true colour becomes its luminance, ITU-R BT.709);
            3 gives red, green, blue (grey is repeated).

        Returns
        -------
        image_cyx : array, shape (channels, height, width)
            In the dtype of the file, except that luminance is float32.

        Raises
        ------
        InputError
            If there is no such plane, or the channels cannot be made from what there is.
        """
        return self.view(index, channels)[:, :, :]

    def view(self, index: int = 0, channels: int = 1, rows: slice | None = None) -> PlaneView:
        """One plane as `plane` gives it, of which only what is sliced is read.

        Parameters
        ----------
        index, channels : int
            As for `plane`.
        rows : slice, optional
            Those that it has, without a step; None: all.

        Raises
        ------
        InputError
            As for `plane`.
        """
        if not 0 <= index < self.n_planes:
            raise InputError(f"{self.name}: there is no plane {index}; it has planes 0 to {self.n_planes - 1}.")
        if channels not in (1, 3):
            have = 3 if self.is_colour else 1
            raise InputError(
                f"{self.name}: the model takes {channels} channels, the image has {have}; choose another model."
            )
        where = np.unravel_index(index, self.shape_planes) if self.shape_planes else ()
        first, stop, _ = (rows or slice(None)).indices(self.shape_yx[0])
        return PlaneView(self, tuple(int(i) for i in where), channels, range(first, stop))


class PlaneView:
    """A plane of a micrograph, shape (channels, height, width), which is read where it is sliced.

    It takes three slices, and gives what the same slices of `Micrograph.plane` would, to the last bit.
    """

    def __init__(self, micrograph: Micrograph, plane: tuple[int, ...], channels: int, rows: range) -> None:
        self._pixels = micrograph.pixels
        self._plane = plane
        self._rows = rows
        self._is_colour = micrograph.is_colour
        self.shape = (channels, len(rows), micrograph.shape_yx[1])
        weighted = micrograph.is_colour and channels == 1
        self.dtype = np.dtype(np.float32 if weighted else micrograph.pixels.dtype)

    @property
    def pixels(self) -> Any:
        """All that it is a plane of, as the micrograph has it."""
        return self._pixels

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        """Read a part."""
        of_channels, of_rows, columns = key
        rows = self._rows[of_rows]
        # A range that runs down to 0 would stop at -1, which a slice takes for the last; steps here are forward.
        pixels = np.asarray(self._pixels[(*self._plane, slice(rows.start, rows.stop, rows.step), columns)])
        if not self._is_colour:
            n = len(range(self.shape[0])[of_channels])
            return pixels[None] if n == 1 else np.repeat(pixels[None], n, axis=0)
        if self.shape[0] == 1:
            # One channel after the other: a product of matrices would round by how large the part is.
            red, green, blue = (pixels[..., i].astype(np.float32) * LUMINANCE[i] for i in range(3))
            grey: np.ndarray = red + green + blue
            return grey[None][of_channels]
        return np.moveaxis(pixels, -1, 0)[of_channels]

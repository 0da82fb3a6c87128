"""Where the planes of a TIFF are, and how to read a part of one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.pixels import Box, invert, look_up, native, native_dtype, palette_table
from napari_matseg.core.tiff_damage import damage_as_error
from napari_matseg.core.tiff_orientation import Orientation
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tifffile import TiffPage, TiffPageSeries

MOST_BYTES_PER_BLOCK = 2 * 2**30
"""A strip or tile has to be decoded as a whole; larger ones are refused."""

MOST_BYTES_OF_LITTLE = 256 * 2**20
MOST_PER_BYTE = 2048
"""Decoded bytes that a byte of a larger block may stand for: deflate reaches 1032. Zstandard and LZMA reach any number,
with nothing but zeros."""

MINISWHITE, MINISBLACK, RGB, PALETTE, MASK, YCBCR = 0, 1, 2, 3, 4, 6  # PhotometricInterpretation, as in TIFF 6.0
SEPARATE = 2  # PlanarConfiguration
UNCOMPRESSED = 1  # Compression
ALPHA = (1, 2)  # ExtraSamples
JPEG = (6, 7, 34892)  # Compression; its decoder turns YCbCr into RGB

Place = int | tuple["Sequence[int]", "Sequence[int]"]


@dataclass(frozen=True)
class TiffPlanes:
    """The pages of one series, all of one kind.

    The file is opened anew for each part that is read, and parts are copied: nothing holds the file.

    Attributes
    ----------
    path : Path
        The file.
    key : tifffile.TiffPage
        Stands for all pages: their shape, coding and colours are the same.
    stored : numpy.dtype
        Of the samples, in the byte order of the file.
    places : list
        For each page the offset of its first byte, if it lies in one piece and uncompressed; else the offsets and
        lengths of its strips or tiles.
    channels : int
        Samples per pixel that are no alpha: 1 for grey, 3 for colour, else as many planes per page.
    table : array or None
        What the indices of a palette image stand for.
    decode : callable
        tifffile's decoder of a strip or tile, which has to be made while the file is open.
    orientation : Orientation
        How the image is to be turned.
    """

    path: Path
    key: TiffPage
    stored: np.dtype
    places: list[Place]
    channels: int
    table: np.ndarray | None
    decode: Callable[..., Any]
    orientation: Orientation

    @classmethod
    def of(cls, path: Path, series: TiffPageSeries) -> TiffPlanes:
        """Locate the pages of a series.

        Raises
        ------
        InputError
            If they are of a kind that is no grey or colour image, or the file does not hold all of them.
        """
        key = series.keyframe
        _check_kind(path, key)
        if series.dataoffset is not None:
            places: list[Place] = [
                series.dataoffset + number * key.nbytes for number in range(series.size // prod(key.shape))
            ]
        else:
            places = [_place(page, key) for page in series if page is not None]
        if key.photometric in (RGB, YCBCR) and key.samplesperpixel >= 3:
            channels = 3
        else:
            channels = max(1, key.samplesperpixel - sum(extra in ALPHA for extra in _as_tuple(key.extrasamples)))
        colormap = getattr(key, "colormap", None) if key.photometric == PALETTE and channels == 1 else None
        planes = cls(
            path=path,
            key=key,
            stored=np.dtype(key.dtype).newbyteorder(key.parent.byteorder),
            places=places,
            channels=channels,
            table=None if colormap is None else palette_table(colormap.T),
            decode=key.decode,
            orientation=Orientation.of(key),
        )
        planes._check_extent(path.stat().st_size)
        return planes

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.stored_yx
        return (width, height) if self.orientation.swaps else (height, width)

    @property
    def stored_yx(self) -> tuple[int, int]:
        """Height and width before it is turned."""
        return self.key.imagelength, self.key.imagewidth

    @property
    def is_colour(self) -> bool:
        """Whether a plane is read as red, green and blue."""
        if self.table is not None:
            return self.table.ndim == 2
        return self.channels == 3 and self.key.photometric in (RGB, YCBCR)

    @property
    def dtype(self) -> np.dtype:
        """Of the values that are read."""
        return native_dtype(self.stored) if self.table is None else self.table.dtype

    @property
    def per_page(self) -> int:
        """Planes in a page: 1, or the number of channels that are no colours."""
        return 1 if self.is_colour else self.channels

    @property
    def is_one_block(self) -> bool:
        """Whether nothing can be read but all of it at once."""
        tall, wide = self._block_yx
        blocks = [place for place in self.places if not isinstance(place, int)]
        return len(self.places) == len(blocks) == 1 and tall >= self.stored_yx[0] and wide >= self.stored_yx[1]

    @property
    def block_yx(self) -> tuple[int, int]:
        """Height and width of what is read at once: a strip or tile, or a row where the page is in one piece."""
        in_one_piece = all(isinstance(place, int) for place in self.places)
        tall, wide = (1, self.stored_yx[1]) if in_one_piece else self._block_yx
        return (wide, tall) if self.orientation.swaps else (tall, wide)

    @property
    def _block_yx(self) -> tuple[int, int]:
        """Height and width of a strip or tile."""
        key = self.key
        return (key.tilelength, key.tilewidth) if key.is_tiled else (key.rowsperstrip, key.imagewidth)

    @property
    def _is_inverted(self) -> bool:
        """Whether the smallest value is white."""
        # tifffile, and scikit-image with it, say so of every mask that they write, and do not mean it.
        is_mask = self.key.bitspersample == 1 and self.key.software.startswith("tifffile")
        return self.key.photometric == MINISWHITE and not is_mask

    @property
    def _layers(self) -> int:
        """How many times the grid of blocks is repeated, once for each channel if these are stored apart."""
        return self.key.samplesperpixel if self.key.planarconfig == SEPARATE else 1

    def read(self, plane: int, box: Box) -> np.ndarray:
        """Part of a plane as it is meant to be seen.

        Parameters
        ----------
        plane : int
            Counted over the pages, and over the channels of a page.
        box : (range, range)
            Rows and columns, neither empty.

        Returns
        -------
        image : array, shape (rows, columns), or (rows, columns, 3) of colour

        Raises
        ------
        InputError
            If this part of the file is damaged.
        """
        place, channel = self.places[plane // self.per_page], plane % self.per_page
        stored = self.orientation.box(box, self.stored_yx)
        with damage_as_error(self.path):
            image = self._in_one_piece(place, stored) if isinstance(place, int) else self._in_blocks(place, stored)
        image = self.orientation.turn(native(image))
        if self.table is not None:
            return look_up(image[..., 0], self.table)
        image = image[..., :3] if self.is_colour else image[..., channel]
        return invert(image, self.key.bitspersample) if self._is_inverted else image

    def _in_one_piece(self, start: int, box: Box) -> np.ndarray:
        """Part of a page that lies in one piece, shape (rows, columns, samples)."""
        shape = (self._layers, *self.stored_yx, self.key.samplesperpixel // self._layers)
        stored = np.memmap(self.path, self.stored, "r", start, shape)
        part = stored[:, box[0].start : box[0].stop, box[1].start : box[1].stop]
        # One of the outer axes is the samples, the other has length 1.
        return np.array(part[0] if self._layers == 1 else np.moveaxis(part[..., 0], 0, -1))

    def _in_blocks(self, place: tuple[Sequence[int], Sequence[int]], box: Box) -> np.ndarray:
        """Part of a page that lies in strips or tiles, shape (rows, columns, samples)."""
        key, (offsets, lengths), (rows, columns) = self.key, place, box
        (height, width), (tall, wide) = self.stored_yx, self._block_yx
        down, across = -(-height // tall), -(-width // wide)
        image = np.full((len(rows), len(columns), key.samplesperpixel), key.nodata, native_dtype(self.stored))
        with self.path.open("rb") as file:
            for layer, j, i in product(
                range(self._layers),
                range(rows.start // tall, -(-rows.stop // tall)),
                range(columns.start // wide, -(-columns.stop // wide)),
            ):
                number = (layer * down + j) * across + i
                if not lengths[number]:  # left out by the writer, as it holds nothing but `nodata`
                    continue
                file.seek(offsets[number])
                data = file.read(lengths[number])
                block = self.decode(data, number, jpegtables=key.jpegtables, jpegheader=key.jpegheader)[0][0]
                to_y, from_y = _overlap(rows, j * tall, block.shape[0])
                to_x, from_x = _overlap(columns, i * wide, block.shape[1])
                samples = slice(None) if self._layers == 1 else slice(layer, layer + 1)
                image[to_y, to_x, samples] = block[from_y, from_x]
        return image

    def _check_extent(self, file_bytes: int) -> None:
        """Refuse pages that the file is too short to hold, and blocks that no memory would."""
        key, (height, width), (tall, wide) = self.key, self.stored_yx, self._block_yx
        claim = f"{self.path}: the TIFF claims {width} x {height} pixels"
        if min(tall, wide) < 1:
            raise InputError(f"{claim} in blocks of {wide} x {tall}; save it again from its source.")
        needed = -(-height // tall) * -(-width // wide) * self._layers
        end = 0
        for place in self.places:
            if isinstance(place, int):
                end = max(end, place + key.nbytes)
            elif min(len(place[0]), len(place[1])) < needed:
                raise InputError(f"{claim} in {needed} blocks, but lists {len(place[0])}; save it again.")
            else:
                end = max(end, *(int(start) + int(length) for start, length in zip(*place, strict=False)))
                if key.compression == UNCOMPRESSED and 0 not in place[1]:
                    end = max(end, prod(key.shape) * key.bitspersample // 8)
        if end > file_bytes:
            raise InputError(f"{claim}, but is truncated at {file_bytes} bytes; copy it again from its source.")
        block_bytes = tall * wide * key.samplesperpixel // self._layers * self.stored.itemsize
        blocks = [place for place in self.places if not isinstance(place, int)]
        if block_bytes > MOST_BYTES_PER_BLOCK and blocks:
            raise InputError(f"{claim} in blocks of {block_bytes / 2**30:.0f} GiB; save it as a tiled TIFF.")
        if block_bytes > MOST_BYTES_OF_LITTLE and any(
            block_bytes > MOST_PER_BYTE * int(length) for _, lengths in blocks for length in lengths if length
        ):
            raise InputError(
                f"{claim} in blocks of {block_bytes / 2**20:.0f} MiB, of which a few bytes are stored; "
                "save it as a tiled TIFF."
            )


def _check_kind(path: Path, key: TiffPage) -> None:
    """Refuse what is no image of grey or colour."""
    if 0 in key.shape or not key.shape:
        raise InputError(f"{path}: the image holds no pixels (shape {key.shape}); save it again from its source.")
    unsupported = None
    if key.dtype is None or not isinstance(key.bitspersample, int):
        unsupported = f"samples of {key.bitspersample} bits"
    elif key.dtype.kind == "c":
        unsupported = "complex values"
    elif key.imagedepth != 1:
        unsupported = "volumes in one page"
    elif key.photometric not in (MINISWHITE, MINISBLACK, RGB, PALETTE, MASK, YCBCR) or (
        key.photometric == YCBCR and key.compression not in JPEG
    ):
        unsupported = f"colours of the kind {getattr(key.photometric, 'name', key.photometric)}"
    if unsupported:
        raise InputError(f"{path}: {unsupported} are not supported; save the image as grey or RGB.")


def _place(page: Any, key: TiffPage) -> Place:
    """Offset of a page that lies in one piece and uncompressed; else offsets and lengths of its blocks."""
    offsets, lengths = page.dataoffsets, page.databytecounts
    follow = (start + length == after for start, length, after in zip(offsets, lengths, offsets[1:], strict=False))
    return int(offsets[0]) if key.is_final and len(offsets) and all(follow) else (offsets, lengths)


def _overlap(wanted: range, start: int, length: int) -> tuple[slice, slice]:
    """Where a block lies in the wanted range, and which part of the block that is."""
    first, last = max(wanted.start, start), min(wanted.stop, start + length)
    return slice(first - wanted.start, last - wanted.start), slice(first - start, last - start)


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)

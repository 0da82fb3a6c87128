"""Read an image file, whatever it is, as the microscope meant it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.data_bar import with_data_bar
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from napari_matseg.core.tiff_orientation import Orientation

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PNG_START, JPEG_START, BMP_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM"

MOST_BYTES = 2 * 2**30
"""Of a PNG, JPEG or BMP, which have to be decoded as a whole."""
MOST_PER_BYTE = 2048
"""Decoded bytes that a byte of file can stand for: 1032 in PNG (deflate), 1536 in JPEG (a bit per block of 8 x 8)."""

MOST_SCANS = 1000
"""Of a JPEG, each of which takes the time of a whole image; a progressive one has about ten."""


def read(path: str | Path, *, find_bar: bool = True, pixel_size_nm: float | None = None) -> Micrograph:
    """Read an image, with what the instrument recorded.

    Grey that was written as a palette, as RGB with equal channels or with an alpha comes back as grey. An alpha is
    dropped whatever it holds, and the colours stay as stored: blending them with a background would invent values.
    Values are those that are seen (a TIFF whose smallest value is white is inverted); one-bit images have 0 and 1.

    Parameters
    ----------
    path : str or Path
        A TIFF, PNG, JPEG, BMP, DM3, DM4, EMD, SER or MRC file, or the folder of an OME-Zarr, known by its content and
        not by its name.
    find_bar : bool
        Whether a data bar of which no record tells is looked for in the picture (in the first plane of a stack).
        For labels there is none to be found.
    pixel_size_nm : float, optional
        Side of a pixel in nanometres, whatever the file says.

    Returns
    -------
    micrograph : Micrograph
        Where there are more than 128 MiB, most formats leave the pixels in the file until they are sliced.

    Raises
    ------
    InputError
        If there is no such file, or it is empty, damaged, truncated, too large or no image.

    Notes
    -----
    Whether a file that is not read at once is grey written as RGB is judged by patches of it; where a pixel has colour
    all the same, it is given its luminance.
    """
    micrograph = _read(Path(path))
    if pixel_size_nm is not None:
        micrograph = replace(micrograph, pixel_size_nm=(pixel_size_nm, pixel_size_nm), pixel_size_from="user")
    elif micrograph.pixel_size_nm is not None and micrograph.pixel_size_from is None:
        micrograph = replace(micrograph, pixel_size_from="calibration of the axes")
    if micrograph.data_bar_from == "picture" and not find_bar:  # as it was when the file was converted
        return replace(micrograph, data_bar=None, data_bar_from=None)
    if micrograph.data_bar is not None:
        return micrograph if micrograph.data_bar_from else replace(micrograph, data_bar_from="record")
    found = with_data_bar(micrograph) if find_bar else micrograph
    # A class at the edge of labels looks like a bar.
    return micrograph if found.data_bar is not None and _are_labels(micrograph.source) else found


def _are_labels(path: Path | None) -> bool:
    from napari_matseg.core.label_files import find_labels_info

    return find_labels_info(path) != (None, None)


def _read(path: Path) -> Micrograph:
    # All readers are slow to import, and many a run needs none but one.
    if path.is_dir():
        from napari_matseg.core.read_zarr import is_zarr, read_zarr

        if is_zarr(path):
            return read_zarr(path)
    start = first_bytes(path)
    if start.startswith(TIFF_STARTS):
        from napari_matseg.core.read_tiff import read_tiff

        return read_tiff(path)
    if start.startswith((PNG_START, JPEG_START, BMP_START)):
        return _read_picture(path, start)
    from napari_matseg.core.read_formats import format_of, read_format
    from napari_matseg.core.read_mrc import is_mrc, read_mrc

    if (kind := format_of(start)) is not None:
        return read_format(path, kind)
    if is_mrc(start, path.suffix):
        return read_mrc(path, start)
    raise InputError(f"{path}: is not an image that can be read; convert it to TIFF, PNG, JPEG or BMP.")


def as_micrograph(image: str | Path | np.ndarray | Micrograph, *, find_bar: bool = True) -> Micrograph:
    """Take an image in any form that has one meaning.

    Parameters
    ----------
    image : path, array or Micrograph
        An array is (height, width), or (height, width, 3) or (height, width, 4) for true colour, of which an alpha is
        dropped. It may be any that slices like numpy's; what is in a file stays there.
    find_bar : bool
        Of a file: as for `read`.

    Raises
    ------
    InputError
        If it cannot be read, or an array has other axes.
    """
    if isinstance(image, Micrograph):
        return image
    if isinstance(image, str | Path):
        return read(image, find_bar=find_bar)
    array = image if hasattr(image, "dtype") and hasattr(image, "shape") else np.asarray(image)
    if len(array.shape) == 3 and array.shape[-1] in (3, 4):
        return Micrograph(array if array.shape[-1] == 3 else array[..., :3], "YXS")
    if len(array.shape) != 2:
        raise InputError(
            f"an array of shape {tuple(array.shape)} could be many things; give a Micrograph with its axes instead."
        )
    return Micrograph(array, "YX")


def first_bytes(path: Path) -> bytes:
    """Read the first bytes of a file, enough to tell its kind.

    Raises
    ------
    InputError
        If there is no such file, or it is empty or cannot be read.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; name an image file in it.")
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: is not a regular file; name an image file.")
        with path.open("rb") as file:
            start = file.read(1024)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file; check the path.") from error
    except PermissionError as error:
        raise InputError(f"{path}: may not be read; ask for the permission, or copy it.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); check the path and the drive.") from error
    if not start:
        raise InputError(f"{path}: is empty (0 bytes); copy it again from its source.")
    return start


def _read_picture(path: Path, start: bytes) -> Micrograph:
    """Read a PNG, JPEG or BMP file."""
    from napari_matseg.core.pixels import as_grey, has_equal_channels
    from napari_matseg.core.vendor import read_vendor

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, which is not used
            image = _decode(path, start)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path}: does not fit into the memory; save it as a tiled TIFF.") from error
    except Exception as error:
        detail = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"{path}: the image is damaged ({detail}); copy it again from its source.") from error
    if image.ndim == 3 and has_equal_channels(image):
        image = as_grey(image)
    record = read_vendor(path, (image.shape[0], image.shape[1]))
    return Micrograph(
        pixels=image,
        axes="YXS" if image.ndim == 3 else "YX",
        pixel_size_nm=record.pixel_size_nm,
        pixel_size_from=record.pixel_size_from,
        data_bar=record.data_bar,
        source=path,
        vendor=record.vendor,
        metadata=record.metadata,
    )


def _decode(path: Path, start: bytes) -> np.ndarray:
    """Pixels of a PNG, JPEG or BMP, shape (height, width) or (height, width, 3)."""
    # Opened by class and not by Image.open, whose limit on pixels is one for the whole process and too low here.
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    kinds: dict[bytes, Callable[..., Image]] = {
        PNG_START: PngImageFile,
        JPEG_START: JpegImageFile,
        BMP_START: BmpImageFile,
    }
    kind = next(kind for signature, kind in kinds.items() if start.startswith(signature))
    with path.open("rb") as file, kind(file) as picture:
        is_deep = start.startswith(PNG_START) and start[24] == 16
        claimed = picture.width * picture.height * len(picture.getbands()) * (2 if is_deep else 1)
        if claimed > path.stat().st_size * MOST_PER_BYTE:
            raise InputError(
                f"{path}: claims {picture.width} x {picture.height} pixels, more than a file of its length can hold; "
                "copy it again from its source."
            )
        if claimed > MOST_BYTES:
            raise InputError(
                f"{path}: {picture.width} x {picture.height} pixels are too many for this format; "
                "save it as a tiled TIFF."
            )
        # Within compressed data the mark of a scan cannot occur.
        if start.startswith(JPEG_START) and path.read_bytes().count(b"\xff\xda") > MOST_SCANS:
            raise InputError(f"{path}: has more than {MOST_SCANS} scans of one image; save it again as PNG or TIFF.")
        if is_deep and len(picture.getbands()) > 1:
            image = _decode_deep_png(path)
        else:
            picture.load()
            image = _channels(path, picture)
        return _orientation(picture).turn(image)


def _orientation(picture: Image) -> Orientation:
    """How a picture is to be turned, as cameras note it; as it is where the note is damaged."""
    from napari_matseg.core.tiff_orientation import ORIENTATION, Orientation

    try:
        return Orientation.numbered(picture.getexif().get(ORIENTATION))
    except Exception:  # noqa: BLE001
        return Orientation()


def _decode_deep_png(path: Path) -> np.ndarray:
    """Decode a PNG of 16 bits per channel and several channels, which Pillow cuts down to 8."""
    import imagecodecs

    image: np.ndarray = imagecodecs.png_decode(path.read_bytes())
    return image[..., :3] if image.shape[-1] >= 3 else image[..., 0]


def _channels(path: Path, picture: Image) -> np.ndarray:
    """Grey or red, green and blue of a picture of any mode."""
    from napari_matseg.core.pixels import look_up, native, palette_table

    if picture.mode in ("P", "PA"):
        colours = np.array(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        indices = np.asarray(picture if picture.mode == "P" else picture.getchannel(0))
        return look_up(indices, palette_table(colours))
    image = native(np.asarray(picture))
    if picture.mode in ("1", "L", "I", "F") or picture.mode.startswith("I;16"):
        return image
    if picture.mode == "LA":
        return image[..., 0]
    if picture.mode in ("RGB", "RGBA", "RGBX"):
        return image[..., :3]
    raise InputError(f"{path}: colours of the kind {picture.mode} are not supported; save the image as grey or RGB.")

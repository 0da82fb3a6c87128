"""TIFF files: which of the images in one is the image, and whether it is loaded or left in the file."""

from __future__ import annotations

import json
from itertools import product
from math import inf, prod
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

import tifffile

from napari_matseg.core.axes import plane_letters
from napari_matseg.core.converted import restored
from napari_matseg.core.export import NAMESPACE
from napari_matseg.core.label_files import annotation_of
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.pixels import LAZY_BYTES, LazyPixels, as_grey, has_equal_channels
from napari_matseg.core.tiff_damage import check_chain, check_counts, damage_as_error
from napari_matseg.core.tiff_planes import TiffPlanes
from napari_matseg.core.vendor import read_vendor
from napari_matseg.core.vendor_record import has_dtd, number, xml_root
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

    from napari_matseg.core.pixels import Box

MOST_LEVELS = 32
MOST_PLANES = 2**20
"""That OME-XML may list; tifffile makes room for all of them."""


def read_tiff(path: Path) -> Micrograph:
    """Read a TIFF file: classic or BigTIFF, striped or tiled, of any compression that imagecodecs knows.

    Reduced copies are no planes: those of a pyramid are the levels of an image that stays in the file. Other files that
    this one names are not opened.

    Parameters
    ----------
    path : Path
        A file that starts as a TIFF does.

    Raises
    ------
    InputError
        If it is damaged, truncated, or holds no image of grey or colour.
    """
    with damage_as_error(path):
        check_chain(path)
        with tifffile.TiffFile(path, _multifile=False, is_mmstack=False, is_ndtiff=False) as tif:
            if not len(tif.pages):
                raise InputError(f"{path}: the TIFF holds no image; save it again from its source.")
            if has_dtd(tif.pages.first.description) or _planes_claimed(tif.pages.first.description) > MOST_PLANES:
                tif.pages.first.description = ""  # which tifffile would parse for the axes
            check_counts(path, tif.pages.first)
            series = max(tif.series, key=_rank)
            planes = TiffPlanes.of(path, series)
            smaller = _smaller(path, series)
            record = planes.orientation.record(read_vendor(path, planes.stored_yx, tif, planes.key), planes.stored_yx)
            kept = _kept(tif.pages.first.description)
        axes_before = _planes_axes(series, planes)
        pixels, axes = _pixels(planes, axes_before)
        levels = _levels(smaller, pixels, axes_before) if isinstance(pixels, LazyPixels) else ()
    micrograph = Micrograph(
        pixels=pixels,
        axes=axes,
        pixel_size_nm=record.pixel_size_nm,
        pixel_size_from=record.pixel_size_from,
        data_bar=record.data_bar,
        source=path,
        vendor=record.vendor,
        metadata=record.metadata,
        levels=levels,
    )
    return micrograph if kept is None else restored(micrograph, kept)


def _kept(description: str) -> Any:
    """Find the record of a file that was converted by us; None in any other."""
    if NAMESPACE not in description or "<OME" not in description:
        return None
    try:
        return json.loads(annotation_of(description)["micrograph"])
    except (KeyError, TypeError, ValueError, AttributeError, ParseError):
        return None


def _planes_claimed(description: str) -> float:
    """How many planes of an image OME-XML lists, or how many it says lie in one row; no end where it is damaged."""
    if not description.rstrip(" \r\n\t\x00").endswith("OME>"):
        return 0
    root = xml_root(description)
    if root is None:
        return inf
    listed = root.iterfind("{*}Image/{*}Pixels")
    sizes = [prod(abs(number(one.get(f"Size{axis}")) or 1) for axis in "ZCT") for one in listed]
    rows = root.iterfind("{*}Image/{*}Pixels/{*}TiffData")
    return max([*sizes, *(number(one.get("PlaneCount")) or 0 for one in rows)], default=0)


def _rank(series: tifffile.TiffPageSeries) -> tuple[bool, int, bool]:
    """Prefer what is no reduced copy, then the largest, then what has the instrument's record (Olympus previews)."""
    key = series.keyframe
    return not key.is_reduced, key.imagelength * key.imagewidth, key.is_sis


def _planes_axes(series: tifffile.TiffPageSeries, planes: TiffPlanes) -> dict[str, int]:
    """Lengths of the axes before YX by letter: Z, T and C as the file says, and others for what it leaves open."""
    found = [(letter, length) for letter, length in zip(series.axes, series.shape, strict=True) if letter not in "YXS"]
    if prod(length for _, length in found) != len(planes.places):
        found = [("Z", len(planes.places))] if len(planes.places) > 1 else []
    if planes.per_page > 1:
        found.append(("C", planes.per_page))
    letters = plane_letters([letter for letter, _ in found])
    return dict(zip(letters, (length for _, length in found), strict=True))


def _pixels(planes: TiffPlanes, planes_axes: dict[str, int]) -> tuple[Any, str]:
    """Array of all planes, loaded if it is small or one block, and its axes."""
    shape = (*planes_axes.values(), *planes.shape_yx)
    axes = "".join(planes_axes) + "YX"
    n = len(planes_axes)
    planes.read(0, (range(1), range(1)))  # so that a coding that cannot be read is known now
    colour = LazyPixels((*shape, 3), planes.dtype, n, planes.read, planes.block_yx)
    grey = LazyPixels(shape, planes.dtype, n, _grey_of(planes), planes.block_yx)
    as_stored = colour if planes.is_colour else LazyPixels(shape, planes.dtype, n, planes.read, planes.block_yx)

    if planes.is_one_block or as_stored.size * as_stored.dtype.itemsize <= LAZY_BYTES:
        image = as_stored[...]
        if not planes.is_colour:
            return image, axes
        return (as_grey(image), axes) if has_equal_channels(image) else (image, axes + "S")
    if not planes.is_colour:
        return as_stored, axes
    return (grey, axes) if _looks_grey(planes) else (colour, axes + "S")


def _smaller(path: Path, series: tifffile.TiffPageSeries) -> list[TiffPlanes]:
    """Find the smaller copies of a series, as many as can be read."""
    found: list[TiffPlanes] = []
    try:
        with damage_as_error(path):
            for level in series.levels[1 : 1 + MOST_LEVELS]:
                found.append(TiffPlanes.of(path, level))
                found[-1].read(0, (range(1), range(1)))
    except InputError:  # the full resolution is all there all the same
        del found[-1:]
    return found


def _levels(smaller: list[TiffPlanes], pixels: LazyPixels, before: dict[str, int]) -> tuple[Any, ...]:
    """Smaller copies of pixels that stay in their file, down to the first that is not one of these."""
    levels: list[LazyPixels] = []
    colour = pixels.shape[len(before) + 2 :]
    for planes in smaller:
        shape = (*before.values(), *planes.shape_yx, *colour)
        n_planes = len(planes.places) * planes.per_page
        alike = (n_planes, planes.dtype) == (prod(before.values()), pixels.dtype) and planes.is_colour >= bool(colour)
        if not alike or prod(shape) >= (levels or [pixels])[-1].size:
            break
        # Colour that turned out to be grey is grey in the copies, too.
        read = _grey_of(planes) if planes.is_colour and not colour else planes.read
        levels.append(LazyPixels(shape, planes.dtype, len(before), read, planes.block_yx))
    return tuple(levels)


def _grey_of(planes: TiffPlanes) -> Callable[[int, Box], np.ndarray]:
    return lambda plane, box: as_grey(planes.read(plane, box))


def _looks_grey(planes: TiffPlanes) -> bool:
    """Whether patches all over the first, middle and last plane have no colour; reading all would take too long."""
    height, width = planes.shape_yx
    corners = list(product(range(0, height, max(1, height // 4)), range(0, width, max(1, width // 4))))
    return all(
        has_equal_channels(planes.read(plane, (range(y, min(y + 64, height)), range(x, min(x + 64, width)))))
        for plane in {0, len(planes.places) // 2, len(planes.places) - 1}
        for y, x in corners
    )

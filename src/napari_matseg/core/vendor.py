"""Pixel size, data bar and settings as the instrument or program that wrote an image recorded them.

The readers, one per vendor, are in `vendor_tags.py` and `vendor_sidecars.py`; a new one is entered in `READERS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_matseg.core import vendor_sidecars, vendor_tags
from napari_matseg.core.vendor_record import Source, VendorRecord, known, when

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tifffile import TiffFile, TiffPage

READERS: tuple[Callable[[Source], VendorRecord | None], ...] = (
    vendor_tags.fei,
    vendor_tags.fei_xml,
    vendor_tags.zeiss,
    vendor_tags.tescan,
    vendor_tags.tvips,
    vendor_tags.olympus,
    vendor_tags.jeol_tem,
    vendor_tags.fibics,
    vendor_tags.gatan,
    vendor_tags.imagej,
    vendor_tags.ome,
    vendor_sidecars.jeol_sem,
    vendor_sidecars.hitachi,
)
"""In order: the first that knows the file has the word, so instruments come before the programs after them."""


def read_vendor(
    path: Path, shape_yx: tuple[int, int], tif: TiffFile | None = None, page: TiffPage | None = None
) -> VendorRecord:
    """Read what is known of an image from its tags and from the files beside it.

    Parameters
    ----------
    path : Path
        The image file.
    shape_yx : (int, int)
        Height and width of the image in pixels.
    tif : tifffile.TiffFile, optional
        The open file, if it is a TIFF.
    page : tifffile.TiffPage, optional
        The page that holds the image; the first by default.

    Returns
    -------
    record : VendorRecord
        Empty where nothing is known; never an error, whatever the file holds.
    """
    source = Source(path, shape_yx, tif, tif.pages.first if tif is not None and page is None else page)
    for reader in READERS:
        record = reader(source)
        if record is not None:
            return record
    size = vendor_tags.resolution(source)
    return VendorRecord(
        pixel_size_nm=size,
        metadata=known(
            instrument=f"{source.text(vendor_tags.MAKE)} {source.text(vendor_tags.MODEL)}".strip(),
            date=when(source.text(vendor_tags.DATE_TIME), "%Y:%m:%d %H:%M:%S"),
            pixel_size_from="TIFF resolution" if size else None,
        ),
    )

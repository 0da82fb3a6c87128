"""Pixel size, data bar and settings as the instrument or program that wrote an image recorded them.

The readers, one per vendor, are in `vendor_tags.py` and `vendor_sidecars.py`; a new one is entered in `READERS`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_matseg.core import vendor_sidecars, vendor_tags
from napari_matseg.core.vendor_record import Source, VendorRecord, known, when

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tifffile import TiffFile, TiffPage

READERS: dict[Callable[[Source], VendorRecord | None], str] = {
    vendor_tags.fei: "tag 34680 or 34682",
    vendor_tags.fei_xml: "tag 34683, 34682 or 34680",
    vendor_tags.zeiss: "tag 34118",
    vendor_tags.tescan: "tag 50431 or 51004, or the .hdr file",
    vendor_tags.tvips: "tag 37706",
    vendor_tags.olympus: "tag 33560",
    vendor_tags.jeol_tem: "image description and TIFF resolution",
    vendor_tags.fibics: "tag 51023",
    vendor_tags.hamamatsu: "",
    vendor_tags.gatan: "tags 65003 to 65010",
    vendor_tags.imagej: "image description and TIFF resolution",
    vendor_tags.ome: "OME-XML",
    vendor_sidecars.jeol_sem: ".txt file beside the image",
    vendor_sidecars.hitachi: ".txt file beside the image",
}
"""Each with where it finds the pixel size. In order: the first that knows the file has the word, so instruments come
before the programs after them."""


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
    for reader, where in READERS.items():
        record = reader(source)
        if record is not None:
            return record if record.pixel_size_nm is None else replace(record, pixel_size_from=where)
    size = vendor_tags.resolution(source)
    return VendorRecord(
        pixel_size_nm=size,
        metadata=known(
            instrument=f"{source.text(vendor_tags.MAKE)} {source.text(vendor_tags.MODEL)}".strip(),
            date=when(source.text(vendor_tags.DATE_TIME), "%Y:%m:%d %H:%M:%S"),
        ),
        pixel_size_from="TIFF resolution" if size else None,
    )

"""How an image in a TIFF is to be turned, by the tag of that name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from tifffile import TiffPage

    from napari_matseg.core.pixels import Box
    from napari_matseg.core.vendor_record import VendorRecord

ORIENTATION = 274


@dataclass(frozen=True)
class Orientation:
    """From rows and columns in the file to those that are seen.

    Attributes
    ----------
    flips_y, flips_x : bool
        Whether rows and columns run the other way in the file.
    swaps : bool
        Whether rows become columns, after that.
    """

    flips_y: bool = False
    flips_x: bool = False
    swaps: bool = False

    @classmethod
    def of(cls, page: TiffPage) -> Orientation:
        """Orientation of a page; as it is where the tag is missing or makes no sense."""
        tag = page.tags.get(ORIENTATION)
        return cls.numbered(tag.value if tag is not None else 1)

    @classmethod
    def numbered(cls, value: object) -> Orientation:
        """Orientation by its number in TIFF 6.0, 1 to 8; as it is for anything else."""
        return cls(value in (3, 4, 6, 7), value in (2, 3, 7, 8), value in (5, 6, 7, 8))

    def box(self, box: Box, stored_yx: tuple[int, int]) -> Box:
        """Rows and columns in the file for those of the image that is seen.

        Parameters
        ----------
        box : (range, range)
        stored_yx : (int, int)
            Height and width in the file.
        """
        rows, columns = box[::-1] if self.swaps else box
        height, width = stored_yx
        return (
            _mirrored(rows, height) if self.flips_y else rows,
            _mirrored(columns, width) if self.flips_x else columns,
        )

    def turn(self, image: np.ndarray) -> np.ndarray:
        """Turn a part as it is in the file, shape (rows, columns, ...)."""
        turned = image[:: -1 if self.flips_y else 1, :: -1 if self.flips_x else 1]
        return turned.swapaxes(0, 1) if self.swaps else turned

    def record(self, record: VendorRecord, stored_yx: tuple[int, int]) -> VendorRecord:
        """Turn pixel size and data bar, too; a bar that becomes a column is none."""
        bar, size = record.data_bar, record.pixel_size_nm
        if bar is not None and self.flips_y:
            bar = stored_yx[0] - bar[1], stored_yx[0] - bar[0]
        if self.swaps:
            bar, size = None, None if size is None else size[::-1]
        return replace(record, data_bar=bar, pixel_size_nm=size)


def _mirrored(part: range, length: int) -> range:
    return range(length - part.stop, length - part.start)

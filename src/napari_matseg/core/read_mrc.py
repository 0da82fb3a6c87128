"""MRC, the format of electron tomography: a header of 1024 bytes, then the planes as they are.

MRC2014 (Cheng et al., J. Struct. Biol. 192 (2015) 146) and what FEI and IMOD made of it before.
"""

from __future__ import annotations

import struct
from math import isclose, prod
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.axes import Key, arrange
from napari_matseg.core.file_damage import damage_as_error, damaged
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.vendor_record import decode, known, number, pixel_size
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

KIND = "MRC file"
SUFFIXES = (".mrc", ".mrcs", ".rec", ".st", ".ali", ".preali", ".map")
HEADER_BYTES = 1024
DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
UNSUPPORTED = {3: "complex values", 4: "complex values", 16: "colours of MRC", 101: "samples of 4 bits"}
FEI_BYTES = 128 * 1024  # of the extended header: 1024 planes of 128 bytes


def is_mrc(start: bytes, suffix: str) -> bool:
    """Whether a file is MRC by its first kilobyte; files from before the format had a mark go by their name, too."""
    if len(start) < HEADER_BYTES:
        return False
    if start[208:211] == b"MAP":
        return True
    return suffix.lower() in SUFFIXES and _order(start) is not None


def read_mrc(path: Path, start: bytes) -> Micrograph:
    """Read an image or stack.

    Parameters
    ----------
    path : Path
        The file.
    start : bytes
        Its first kilobyte, of which `is_mrc` holds.

    Returns
    -------
    micrograph : Micrograph
        Rows in the order of the file. Its pixel size is unknown where the header has none, or 1 Å exactly, which is
        what programs write who do not know it. Bytes count as signed if the header's statistics or its version say so.

    Raises
    ------
    InputError
        If it is truncated, or holds no image of real numbers.
    """
    order = _order(start)
    if order is None:
        raise damaged(path, KIND, "its header makes no sense")
    columns, rows, sections, mode = struct.unpack_from(f"{order}4i", start)
    if mode not in DTYPES:
        what = UNSUPPORTED.get(mode, f"values of mode {mode}")
        raise InputError(f"{path}: {what} are not supported; save the image as grey.")
    dtype = np.dtype("u1" if mode == 0 and not _is_signed(start, order) else order + DTYPES[mode])
    extended = struct.unpack_from(f"{order}i", start, 92)[0]
    shape, offset = (sections, rows, columns), HEADER_BYTES + max(extended, 0)
    if min(shape) < 1 or offset + prod(shape) * dtype.itemsize > path.stat().st_size:
        raise InputError(
            f"{path}: the MRC file claims {columns} x {rows} x {sections} pixels, but has {path.stat().st_size} bytes; "
            "copy it again from its source."
        )

    def fetch(key: Key) -> np.ndarray:
        with damage_as_error(path, KIND):
            part = np.array(np.memmap(path, dtype, "r", offset, shape)[key])
        # Means and sums of 16-bit floats soon overflow.
        return part.astype(np.float32) if mode == 12 else part

    pixels, axes = arrange(
        fetch, shape, np.dtype(np.float32) if mode == 12 else dtype, ("z", "y", "x"), blocks=(1, 1, columns)
    )
    fei = _fei(path, order) if extended == FEI_BYTES else {}
    return Micrograph(
        pixels=pixels,
        axes=axes,
        pixel_size_nm=_fei_size(fei) or _size(start, order),
        source=path,
        vendor="FEI/Thermo Fisher" if fei else None,
        metadata=known(
            magnification=number(fei.get("magnification")) or None,
            title=decode(start[224:304]).strip() or None,
        ),
    )


def _order(start: bytes) -> str | None:
    """Byte order by the machine stamp, or else the one in which mode and size make sense."""
    stamps = {b"\x44\x44": "<", b"\x44\x41": "<", b"\x11\x11": ">"}
    orders = [stamps[start[212:214]]] if start[212:214] in stamps else ["<", ">"]
    for order in orders:
        columns, rows, sections, mode = struct.unpack_from(f"{order}4i", start)
        if (mode in DTYPES or mode in UNSUPPORTED) and min(columns, rows, sections) > 0:
            return order
    return None


def _is_signed(start: bytes, order: str) -> bool:
    """Whether bytes are signed, as MRC2014 says; before, they were not, except in IMOD's files that say so."""
    low, high = struct.unpack_from(f"{order}2f", start, 76)
    if low <= high and (low, high) != (0, 0) and (low < 0 or high > 127):
        return bool(low < 0)
    if struct.unpack_from(f"{order}i", start, 152)[0] == 1146047817:  # IMOD's mark
        return bool(struct.unpack_from(f"{order}i", start, 156)[0] & 1)
    return bool(struct.unpack_from(f"{order}i", start, 108)[0] in (20140, 20141))


def _size(start: bytes, order: str) -> tuple[float, float] | None:
    """Pixel size by the cell in angstroms and the intervals that it is divided into."""
    intervals_x, intervals_y = struct.unpack_from(f"{order}2i", start, 28)
    cell_x, cell_y = struct.unpack_from(f"{order}2f", start, 40)
    if intervals_x < 1 or intervals_y < 1 or not (cell_x > 0 and cell_y > 0):
        return None
    y, x = cell_y / intervals_y, cell_x / intervals_x
    if isclose(y, 1, rel_tol=1e-6) and isclose(x, 1, rel_tol=1e-6):
        return None
    return pixel_size(float(f"{y / 10:.7g}"), float(f"{x / 10:.7g}"))


def _fei(path: Path, order: str) -> dict[str, float]:
    """Of FEI's record of the first plane: pixel size in metres, and magnification."""
    with damage_as_error(path, KIND), path.open("rb") as file:
        file.seek(HEADER_BYTES + 44)
        size, magnification = struct.unpack(f"{order}2f", file.read(8))
    return {"pixel_size": size, "magnification": magnification}


def _fei_size(fei: dict[str, float]) -> tuple[float, float] | None:
    size = number(fei.get("pixel_size"))
    nm = None if size is None else float(f"{size * 1e9:.7g}")
    return pixel_size(nm, nm)

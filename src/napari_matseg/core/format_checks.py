"""Checks of files before a library reads them that would take for ever, or all memory, on a damaged one.

The libraries believe what a file claims. Each check walks through the file as the library would, without its data.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import IO, Literal

from napari_matseg.core.file_damage import damaged
from napari_matseg.errors import InputError

MOST_VALUES = 2**23
"""Of a DM file outside of its images, which are decoded one by one."""
MOST_COPIES = 10**7
"""Tags times images of a DM file; the tags are copied for each image."""

MOST_PER_BYTE = 2048
"""Decoded bytes that a byte of an EMD file can stand for: deflate reaches 1032."""
MOST_CHUNKS = 2**20
PROBE_SECONDS = 60
"""For looking through the records of an EMD file; some damage sends the HDF5 library round in circles."""

_DM_BYTES = {2: 2, 3: 4, 4: 2, 5: 4, 6: 4, 7: 8, 8: 1, 9: 1, 10: 1, 11: 8, 12: 8}
_DM_STRUCT, _DM_TEXT, _DM_ARRAY = 15, 18, 20
_DM_GROUP, _DM_TAG = 20, 21

_SER_BYTES = {1: 1, 2: 2, 3: 4, 4: 1, 5: 2, 6: 4, 7: 4, 8: 8}
_SER_IMAGES = 0x4122


class _DmWalk:
    """Goes through all tags of a DigitalMicrograph file; the format is described by C. Boothroyd and in EMAN2."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        self._end = path.stat().st_size
        self._values = self._tags = self._images = 0
        self._pixels = 1
        version = self._number(4)
        self._is_4 = version == 4
        self._word = 8 if self._is_4 else 4
        self._number(self._word)
        self._order: Literal["little", "big"] = "little" if self._number(4) else "big"

    def check(self) -> None:
        """Walk through it; groups that are open are on a stack, with the number of their tags that are left."""
        stack = [(self._group(is_root=True), "")]
        while stack:
            left, group = stack.pop()
            if not left:
                continue
            stack.append((left - 1, group))
            self._tags += 1
            self._images += group == "ImageList"
            kind = self._number(1)
            name = self._bytes(self._number(2)).decode("latin-1")
            if kind == _DM_GROUP:
                self._pixels = 1
                stack.append((self._group(), name))
            elif kind == _DM_TAG:
                self._tag(is_image=group == "ImageData" and name == "Data", is_length=group == "Dimensions")
            else:
                raise self._damaged(f"a tag of the kind {kind}")
            if self._values > MOST_VALUES or self._tags * self._images > MOST_COPIES or len(stack) > 200:
                raise self._damaged("it has too many tags")

    def _group(self, *, is_root: bool = False) -> int:
        self._bytes(2)
        if self._is_4 and not is_root:
            self._bytes(8)
        return self._number(self._word)

    def _tag(self, *, is_image: bool, is_length: bool) -> None:
        if self._is_4:
            self._bytes(8)
        if self._bytes(4) != b"%%%%":
            raise self._damaged("a tag without its mark")
        length = self._number(self._word)
        kind = self._number(self._word)
        count = 1
        if length == 2 and kind == _DM_TEXT:
            size, count = 1, self._number(self._word)
        elif length == 3 and kind == _DM_ARRAY:
            size, count = self._size(self._number(self._word)), self._number(self._word)
        elif length > 3 and kind == _DM_STRUCT:
            size = self._structure()
        elif length > 3 and kind == _DM_ARRAY and self._number(self._word) == _DM_STRUCT:
            size, count = self._structure(), self._number(self._word)
        else:
            size = self._size(kind)
        if count * size > self._end - self._file.tell():
            raise self._damaged("it is truncated")
        self._values += 0 if is_image else count
        if is_length and length == 1:
            self._pixels *= int.from_bytes(self._bytes(size), self._order)
            if self._pixels > self._end:
                raise self._damaged(f"{self._pixels} pixels that it does not hold")
        else:
            self._file.seek(count * size, 1)

    def _structure(self) -> int:
        """Bytes of a structure."""
        self._number(self._word)
        size = 0
        for _ in range(self._number(self._word)):
            self._number(self._word)
            size += self._size(self._number(self._word))
        if not size:
            raise self._damaged("a structure of nothing")
        return size

    def _size(self, kind: int) -> int:
        if kind not in _DM_BYTES:
            raise self._damaged(f"values of the kind {kind}")
        return _DM_BYTES[kind]

    def _number(self, n_bytes: int) -> int:
        return int.from_bytes(self._bytes(n_bytes), "big")

    def _bytes(self, count: int) -> bytes:
        raw = self._file.read(count)
        if len(raw) < count:
            raise self._damaged("it is truncated")
        return raw

    def _damaged(self, detail: str) -> InputError:
        return damaged(self._path, "DM3/DM4 file", detail)


def check_dm(path: Path) -> None:
    """Walk through the tags of a DM3 or DM4 file.

    Raises
    ------
    InputError
        If it is truncated, or its tags make no sense or are too many.
    """
    with path.open("rb") as file:
        _DmWalk(path, file).check()


def check_ser(path: Path) -> None:
    """Follow the header of a SER file to all its images.

    The format as C. Boothroyd describes it: counts and offsets, then one dimension after the other; an image has its
    calibration, the type of its values and its size before it.

    Raises
    ------
    InputError
        If it is truncated, holds spectra or complex values, or images that differ in size.
    """
    end = path.stat().st_size

    def numbers(kind: str, at: int) -> tuple[int, ...]:
        file.seek(at)
        raw = file.read(struct.calcsize("<" + kind))
        if len(raw) < struct.calcsize("<" + kind):
            raise damaged(path, "SER file", "it is truncated")
        return struct.unpack("<" + kind, raw)

    with path.open("rb") as file:
        version, what, _, _, count = numbers("HIIII", 4)
        wide = "Q" if version > 528 else "I"
        if what != _SER_IMAGES:
            raise InputError(f"{path}: the SER file holds spectra and no image; name a file of images.")
        offset, n_dimensions = numbers(wide + "I", 22)
        at = 22 + struct.calcsize("<" + wide + "I")
        if not count or n_dimensions > 16 or count * struct.calcsize(wide) > end:
            raise damaged(path, "SER file", f"{count} images in {n_dimensions} dimensions")
        for _ in range(n_dimensions):
            for skipped in (24, 0):  # of the description and of the unit
                (length,) = numbers("I", at + skipped)
                at += skipped + 4 + length
        if at > end:
            raise damaged(path, "SER file", "it is truncated")
        kinds = set()
        for start in numbers(f"{count}{wide}", offset):
            kinds.add(numbers("HII", start + 40))
            kind, columns, rows = next(iter(kinds))
            needed = columns * rows * _SER_BYTES.get(kind, 8)
            if kind in (9, 10):
                raise InputError(f"{path}: complex values are not supported; save the image as grey.")
            if len(kinds) > 1 or kind not in _SER_BYTES or not needed or max(count * needed, start + 50 + needed) > end:
                raise damaged(path, "SER file", f"{columns} x {rows} pixels that it does not hold")


def check_emd(path: Path) -> int:
    """Look through an HDF5 file in another process, which may hang or crash.

    Returns
    -------
    n_bytes : int
        Of all that it holds, decoded.

    Raises
    ------
    InputError
        If it is damaged; names other files, which are not opened; or claims to hold more than it can.
    ImportError
        If the HDF5 library is not installed.
    """
    import h5py  # noqa: F401  # that the other process needs

    program = Path(__file__).with_name("hdf5_probe.py")
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-P", str(program), str(path.absolute())],
            capture_output=True,
            check=False,
            timeout=PROBE_SECONDS,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except subprocess.TimeoutExpired as error:
        raise damaged(path, "EMD file", "its records lead nowhere") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise damaged(path, "EMD file", lines[-1] if lines else "its records cannot be followed")
    found = json.loads(done.stdout)
    if found["outside"]:
        raise InputError(
            f"{path}: {found['outside'][0]} is in another file, which is not opened; export the image as TIFF."
        )
    for one in found["datasets"]:
        if one["bytes"] > path.stat().st_size * MOST_PER_BYTE or one["chunks"] > MOST_CHUNKS:
            raise InputError(
                f"{path}: claims {' x '.join(map(str, one['shape']))} values in {one['chunks']} chunks, more than a "
                "file of its length can hold; copy it again from its source."
            )
    return sum(one["bytes"] for one in found["datasets"])

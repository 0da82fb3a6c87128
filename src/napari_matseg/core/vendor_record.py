"""What an instrument's record comes to, and the tools to read one: text, numbers, lengths, XML.

Everything here meets text that nobody checked: whatever makes no sense becomes None, never an error.
"""

from __future__ import annotations

import math
import re
import struct
import unicodedata
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from pathlib import Path

    from tifffile import TiffFile, TiffPage

DAMAGED = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError, struct.error)
"""What tifffile raises on tags that make no sense."""

MOST_BYTES = 16 * 2**20  # of one tag or sidecar; the longest real ones have a few hundred kilobytes

NM_PER = {
    "m": 1e9, "cm": 1e7, "mm": 1e6, "um": 1e3, "nm": 1.0, "pm": 1e-3, "inch": 2.54e7, "in": 2.54e7, "mil": 2.54e4,
    "micron": 1e3, "micrometer": 1e3, "nanometer": 1.0, "millimeter": 1e6, "centimeter": 1e7, "meter": 1e9,
    "picometer": 1e-3, "a": 0.1, "å": 0.1, "angstrom": 0.1, "ångstrom": 0.1, "angström": 0.1, "ångström": 0.1,
}  # fmt: skip

_NUMBER = r"[-+]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][-+]?\d+)?"
_PER_PIXEL = re.compile(r"\s*(/|per )\s*(pixel|pix|px)$")
_QUANTITY = re.compile(rf"({_NUMBER})\s*([^\s\d.,;:]*)")


@dataclass(frozen=True)
class VendorRecord:
    """What is known of an image from the one who wrote it.

    Attributes
    ----------
    vendor : str or None
        Maker of the instrument or program; None where the file names none that is known.
    pixel_size_nm : (float, float) or None
        Height and width of a pixel in nanometres, as (y, x); None where it is not stated as a length.
    data_bar : (int, int) or None
        First row and end (exclusive) of the data bar, where the record states it.
    metadata : dict
        Plain JSON types under readable names: `detector`, `voltage_kV`, `magnification`,
        `working_distance_mm`, `date`, `instrument`; those that are known.
    pixel_size_from : str or None
        Where the pixel size stands, for a reader.
    """

    vendor: str | None = None
    pixel_size_nm: tuple[float, float] | None = None
    data_bar: tuple[int, int] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    pixel_size_from: str | None = None


@dataclass(frozen=True)
class Source:
    """The image whose record is sought.

    Attributes
    ----------
    path : Path
        The image file; sidecars lie beside it.
    shape_yx : (int, int)
        Height and width of the image in pixels.
    tif : tifffile.TiffFile or None
        The open file, if it is a TIFF.
    page : tifffile.TiffPage or None
        The page that holds the image.
    """

    path: Path
    shape_yx: tuple[int, int]
    tif: TiffFile | None = None
    page: TiffPage | None = None

    def text(self, code: int) -> str:
        """Text of a tag in whatever encoding it has; empty where there is none."""
        tag = self.page.tags.get(code) if self.page is not None else None
        if tag is None or self.tif is None:
            return ""
        try:
            self.tif.filehandle.seek(tag.valueoffset)
            return decode(self.tif.filehandle.read(min(tag.valuebytecount, MOST_BYTES)))
        except DAMAGED:
            return ""

    def first_text(self, code: int) -> str:
        """Text of a tag of the first page, or else of the page that holds the image."""
        first = replace(self, page=self.tif.pages.first) if self.tif is not None else self
        return first.text(code) or self.text(code)

    def value(self, code: int) -> Any:
        """Value of a tag as tifffile understands it; None where there is none, or it is damaged."""
        tag = self.page.tags.get(code) if self.page is not None else None
        try:
            return None if tag is None else tag.value
        except DAMAGED:
            return None

    def sidecar(self, *endings: str) -> str:
        """Text of the first file beside the image with its stem and one of these endings; empty for none."""
        for ending in endings:
            for name in (ending, ending.upper(), ending.title()):
                try:
                    path = self.path.with_name(self.path.stem + name)
                    if path.is_file():  # a pipe would never end
                        with path.open("rb") as file:
                            return decode(file.read(MOST_BYTES))
                except (OSError, ValueError):
                    continue
        return ""

    def is_resampled(self, recorded_yx: tuple[int, int] | None) -> bool:
        """Whether the image is a smaller or larger copy of the one recorded, so that its pixel size no longer holds.

        A copy has the recorded proportions; any other shape is a crop, or has a data bar, and keeps the pixel size.
        """
        if recorded_yx is None or self.shape_yx[1] == recorded_yx[1]:
            return False
        (height, width), (old_height, old_width) = self.shape_yx, recorded_yx
        return math.isclose(height / width, old_height / old_width, rel_tol=0.01)

    def rows_below(self, recorded_yx: tuple[int, int] | None) -> tuple[int, int] | None:
        """Rows that the image has beyond the recorded ones: the data bar."""
        if recorded_yx is None or recorded_yx[1] != self.shape_yx[1] or not 0 < recorded_yx[0] < self.shape_yx[0]:
            return None
        return recorded_yx[0], self.shape_yx[0]

    def last_rows(self, count: float | None) -> tuple[int, int] | None:
        """So many rows at the foot of the image, if they leave most of it."""
        height = self.shape_yx[0]
        return (height - int(count), height) if count is not None and 1 <= count < height / 2 else None


def decode(raw: bytes) -> str:
    """Text from bytes of unknown encoding: UTF-16 with a mark, UTF-8, else Windows Latin; NULs are dropped."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", "replace")
    raw = raw.replace(b"\0", b"").removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def ini(text: str) -> dict[str, dict[str, str]]:
    r"""Sections of `key=value` lines; what comes before the first section is under "".

    Examples
    --------
    >>> ini("[Scan]\nPixelWidth=3e-9\n")
    {'': {}, 'Scan': {'PixelWidth': '3e-9'}}
    """
    sections: dict[str, dict[str, str]] = {"": {}}
    section = sections[""]
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = sections.setdefault(line[1:-1], {})
        elif "=" in line:
            key, value = line.split("=", 1)
            section[key.strip()] = value.strip()
    return sections


def has_dtd(text: str) -> bool:
    """Whether XML declares entities or external references, which no instrument does and attackers do."""
    return "<!DOCTYPE" in text or "<!ENTITY" in text


def xml_root(text: str) -> ElementTree.Element | None:
    """Root of an XML text; None if it is not well-formed, or declares entities or external references."""
    text = text.strip(" \r\n\t\x00\x01\ufeff")
    if not text.startswith("<") or has_dtd(text):
        return None
    try:
        return ElementTree.fromstring(text)  # noqa: S314  # unsafe with a DTD only
    except (ElementTree.ParseError, ValueError):
        return None


def number(value: Any) -> float | None:
    """Finite number from a number or a text that starts with one; a decimal comma counts as a point.

    Examples
    --------
    >>> number("5,2 mm"), number("nan"), number("")
    (5.2, None, None)
    """
    if isinstance(value, str):
        match = re.match(_NUMBER, value.strip())
        value = match.group().replace(",", ".") if match else None
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def length_nm(value: Any, unit: Any) -> float | None:
    """Length in nanometres; None if the unit is not one of length (as of diffraction patterns and spectra).

    Examples
    --------
    >>> length_nm(0.5, "µm"), length_nm("2", "1/nm"), length_nm(3, "s")
    (500.0, None, None)
    """
    if isinstance(unit, bytes):
        unit = decode(unit)
    amount = number(value)
    if amount is None or not isinstance(unit, str):
        return None
    unit = re.sub(r"\\u([0-9a-fA-F]{4})", lambda escaped: chr(int(escaped[1], 16)), unit)  # as ImageJ writes µ
    unit = _PER_PIXEL.sub("", unicodedata.normalize("NFKC", unit).strip().lower()).replace("μ", "u")
    if len(unit) > 2:  # "microns", "nanometres"
        unit = unit.removesuffix("s").replace("metre", "meter")
    return amount * NM_PER[unit] if unit in NM_PER else None


def lengths_nm(text: str, unit: str = "") -> list[float | None]:
    """All quantities in a text as nanometres, with `unit` for those that have none of their own.

    Examples
    --------
    >>> lengths_nm("12.5nm 0.1um"), lengths_nm("8100 um"), lengths_nm("9.9", "nm")
    ([12.5, 100.0], [8100000.0], [9.9])
    """
    return [length_nm(amount, own or unit) for amount, own in _QUANTITY.findall(text)]


def pixel_size(y_nm: float | None, x_nm: float | None) -> tuple[float, float] | None:
    """(y, x), or None unless both are lengths that a microscope can have (0.1 pm to 10 mm, at most 100 : 1)."""
    if y_nm is None or x_nm is None or not all(1e-4 <= size <= 1e7 for size in (y_nm, x_nm)):
        return None
    return (y_nm, x_nm) if 0.01 <= y_nm / x_nm <= 100 else None


def times(value: Any, factor: float) -> float | None:
    """Multiply what is a number, without the noise in the last digits that a change of unit brings."""
    amount = number(value)
    return None if amount is None else float(f"{amount * factor:.12g}")


def known(**details: Any) -> dict[str, Any]:
    """Those details that are there."""
    return {name: value for name, value in details.items() if value not in (None, "")}


def when(text: str | None, *formats: str) -> str | None:
    """Date and time as ISO 8601 if the text has one of the formats, else the text as it stands."""
    for pattern in formats:
        try:
            return datetime.strptime((text or "").strip(), pattern).isoformat()
        except ValueError:
            continue
    return text.strip() if text else None

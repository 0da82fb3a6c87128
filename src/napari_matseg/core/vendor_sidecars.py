"""What instruments write into a text file beside the image: one function for each.

Each takes a `Source` and returns its `VendorRecord`, or None where there is no such file.
"""

from __future__ import annotations

import re

from napari_matseg.core.vendor_record import (
    Source,
    VendorRecord,
    ini,
    known,
    lengths_nm,
    number,
    pixel_size,
    times,
    when,
)


def jeol_sem(source: Source) -> VendorRecord | None:
    """JEOL SEM: lines such as `$CM_MAG 5000` and `$$SM_MICRON_BAR 180`.

    The pixel size stands there itself (newer software), or follows from the field of view, or from the length of the
    scale bar in pixels and what it stands for.
    """
    fields = dict(re.findall(r"^\$+(\w+)[ \t]+(.*?)\s*$", source.sidecar(".txt"), re.MULTILINE))
    if not fields.keys() & {"SM_MICRON_BAR", "SM_MICRON_MARKER", "CM_PIXEL_SIZE", "CM_FIELD_OF_VIEW"}:
        return None
    recorded = _columns_rows(fields.get("CM_IMAGE_SIZE") or fields.get("CM_FULL_SIZE") or "")

    def both(name: str) -> tuple[float | None, float | None]:
        # The micro sign of a Japanese Windows (code page 932), read as a western one.
        found = lengths_nm(fields.get(name, "").replace("ƒÊ", "µ")) or [None]
        return found[-1], found[0]

    sizes = [pixel_size(*both("CM_PIXEL_SIZE"))]
    if recorded:
        height, width = both("CM_FIELD_OF_VIEW")
        sizes.append(pixel_size(height and height / recorded[0], width and width / recorded[1]))
    bar, marker = number(fields.get("SM_MICRON_BAR")), both("SM_MICRON_MARKER")[0]
    if bar and marker:
        sizes.append(pixel_size(marker / bar, marker / bar))
    return VendorRecord(
        vendor="JEOL",
        pixel_size_nm=None if source.is_resampled(recorded) else next(filter(None, sizes), None),
        data_bar=source.rows_below(recorded),
        metadata=known(
            instrument=fields.get("CM_INSTRUMENT"),
            detector=fields.get("CM_DETECTOR_NAME") or fields.get("SM_DETECTOR") or fields.get("CM_SIGNAL"),
            voltage_kV=number(fields.get("CM_ACCEL_VOLT")),
            magnification=number(fields.get("CM_MAG")),
            working_distance_mm=number(fields.get("SM_WD")),
            date=when(f"{fields.get('CM_DATE', '')} {fields.get('CM_TIME', '')}", "%Y/%m/%d %H:%M:%S"),
        ),
    )


def hitachi(source: Source) -> VendorRecord | None:
    """Hitachi: an INI text whose [SemImageFile], or [TemImageFile], has the pixel size in nanometres."""
    sections = ini(source.sidecar(".txt"))
    fields = sections.get("SemImageFile", sections.get("TemImageFile"))
    if fields is None:
        return None

    def length(name: str, unit: str) -> float | None:
        return next(iter(lengths_nm(fields.get(name, ""), unit)), None)

    recorded = _columns_rows(fields.get("DataSize", ""))
    size = length("PixelSize", "nm")
    return VendorRecord(
        vendor="Hitachi",
        pixel_size_nm=None if source.is_resampled(recorded) else pixel_size(size, size),
        data_bar=source.rows_below(recorded),
        metadata=known(
            instrument=fields.get("InstructName") or fields.get("InstrumentName"),
            detector=fields.get("SignalName"),
            voltage_kV=times(fields.get("AcceleratingVoltage"), 1e-3),
            magnification=number(fields.get("Magnification")),
            working_distance_mm=times(length("WorkingDistance", "um"), 1e-6),
            date=when(f"{fields.get('Date', '')} {fields.get('Time', '')}", "%Y/%m/%d %H:%M:%S", "%m/%d/%Y %H:%M:%S"),
        ),
    )


def _columns_rows(text: str) -> tuple[int, int] | None:
    """(rows, columns) from "1280 960" or "1280x960"."""
    match = re.match(r"(\d{1,7})\s*[x ]\s*(\d{1,7})", text)
    return (int(match[2]), int(match[1])) if match and int(match[1]) and int(match[2]) else None

"""What is known of a micrograph, for a reader: a table of titles and values with their units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_matseg.core.micrograph import Micrograph

UNKNOWN = "unknown"
TITLES = {
    "instrument": ("Instrument", ""),
    "detector": ("Detector", ""),
    "voltage_kV": ("Voltage", " kV"),
    "magnification": ("Magnification", " x"),
    "working_distance_mm": ("Working distance", " mm"),
    "date": ("Date", ""),
}
"""Of what instruments record: what it is called, and its unit."""
_LENGTHS = ((1e6, "mm"), (1e3, "µm"), (1.0, "nm"), (0.0, "pm"))


def facts(micrograph: Micrograph) -> list[tuple[str, str]]:
    """Say what is known of a micrograph.

    Parameters
    ----------
    micrograph : Micrograph

    Returns
    -------
    list of (str, str)
        Title and value: extent, pixel size and what told of it, data bar, then what the instrument recorded. What an
        instrument always knows but this file does not say is "unknown".
    """
    height, width = micrograph.shape_yx
    rows = [("Size", f"{width} x {height} px"), ("Pixel type", str(micrograph.pixels.dtype))]
    if micrograph.shape_planes:
        axes = zip(micrograph.axes, micrograph.shape_planes, strict=False)
        rows.append(("Planes", ", ".join(f"{length} along {letter}" for letter, length in axes)))
    if micrograph.is_colour:
        rows.append(("Colour", "red, green, blue"))
    rows.append(("Pixel size", size_text(micrograph.pixel_size_nm)))
    if micrograph.pixel_size_nm is not None:
        rows.append(("Pixel size from", micrograph.pixel_size_from or UNKNOWN))
        rows.append(("Field of view", f"{_length(width * micrograph.pixel_size_nm[1])} wide"))
    rows.append(("Data bar", bar_text(micrograph)))
    rows.append(("Written by", micrograph.vendor or UNKNOWN))
    recorded = micrograph.metadata
    rows += [(title, _value(recorded.get(key), unit)) for key, (title, unit) in TITLES.items()]
    rows += [
        (key.replace("_", " ").capitalize(), _value(value, "")) for key, value in recorded.items() if key not in TITLES
    ]
    return rows


def size_text(size_nm: tuple[float, float] | None) -> str:
    """Write a pixel size, to five digits.

    Examples
    --------
    >>> size_text((2.0, 2.0)), size_text((3372.4, 3372.4)), size_text((1.0, 2.0)), size_text(None)
    ('2 nm', '3.3724 µm', '1 nm high, 2 nm wide', 'unknown')
    """
    if size_nm is None:
        return UNKNOWN
    y, x = (_length(side) for side in size_nm)
    return y if y == x else f"{y} high, {x} wide"


def bar_text(micrograph: Micrograph) -> str:
    """Say where the data bar is, and who says so."""
    by = {"record": "the instrument's record", "picture": "the picture", "user": "you"}.get(
        micrograph.data_bar_from or "", ""
    )
    if micrograph.data_bar is None:
        return "none, as you said" if micrograph.data_bar_from == "user" else "none found"
    start, stop = micrograph.data_bar
    return f"rows {start} to {stop - 1}" + (f", from {by}" if by else "")


def _length(nm: float) -> str:
    size, unit = next((size, unit) for size, unit in _LENGTHS if nm >= size)
    return f"{nm / size if size else nm * 1000:.5g} {unit}"


def _value(value: Any, unit: str) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, float | int) and not isinstance(value, bool):
        return (
            f"{value:,.4g}".replace(",", " ") + unit if abs(value) < 1e4 else f"{value:,.0f}".replace(",", " ") + unit
        )
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).replace("T", " ", 1) if _is_moment(value) else str(value)


def _is_moment(value: Any) -> bool:
    """Whether a text begins as ISO 8601 writes date and time."""
    return isinstance(value, str) and len(value) >= 19 and value[10] == "T" and value[4] == value[7] == "-"

"""Instrument and settings as the files of DigitalMicrograph, Velox, TIA and others in EMD have them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_matseg.core.vendor_record import decode, known, number, when, xml_root

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 64 * 2**20  # of an EMI file, which has the images' thumbnails, too
_FIELDS = {"beam_energy": "voltage_kV", "magnification": "magnification", "microscope": "instrument"}


@dataclass(frozen=True)
class FormatRecord:
    """What is known of an image but for its axes.

    Attributes
    ----------
    vendor : str or None
        Maker of the instrument or program.
    metadata : dict
        As in `VendorRecord`.
    is_diffraction : bool
        Whether the record says so; then the pixels are angles, whatever their unit.
    """

    vendor: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    is_diffraction: bool = False


def record_of(kind: str, path: Path, found: dict[str, Any]) -> FormatRecord:
    """Record of one dataset.

    Parameters
    ----------
    kind : str
        "DM3/DM4 file", "EMD file" or "SER file".
    path : Path
        The file.
    found : dict
        The dataset as RosettaSciIO describes it.
    """
    if kind.startswith("SER"):
        return _tia(path)
    original = found["original_metadata"]
    mapped = _mapped(found)
    general = found["metadata"].get("General", {})
    detector = None
    if kind.startswith("DM"):
        vendor: str | None = "Gatan"
        tags = "ImageList.TagGroup0.ImageTags."

        def first(*places: str) -> str | None:
            texts = (_text(_at(original, tags + place)) for place in places)
            return next((text for text in texts if text and text != "[]"), None)

        detector = first("DataBar.Signal Name", "Acquisition.Device.Name", "DataBar.Device Name")
        mapped["microscope"] = first("Session Info.Microscope", "Microscope Info.Name", "Microscope Info.Microscope")
        is_diffraction = str(_at(original, tags + "Microscope Info.Imaging Mode")).upper() == "DIFFRACTION"
        is_diffraction &= not str(_at(original, tags + "Microscope Info.Illumination Mode")).upper().startswith("STEM")
    elif "BinaryResult" in original:
        vendor, is_diffraction = "FEI/Thermo Fisher", False
        detector = str(general.get("title") or "").replace("Unrecognized_image_signal", "")
    else:
        vendor, is_diffraction = None, False
        volts = _at(original, "microscope.voltage")
        mapped.setdefault("beam_energy", None if number(volts) is None else _kilovolts(number(volts) or 0))
        mapped.setdefault("microscope", _at(original, "microscope.name"))
    date, time = (mapped.get(key) or general.get(key) for key in ("date", "time"))
    return FormatRecord(
        vendor=vendor,
        metadata=known(
            instrument=_text(mapped.get("microscope")),
            detector=_text(detector),
            voltage_kV=number(mapped.get("beam_energy")) or None,
            magnification=number(mapped.get("magnification")) or None,
            date="T".join(str(part)[:40] for part in (date, time) if part) or None,
        ),
        is_diffraction=is_diffraction,
    )


def _mapped(found: dict[str, Any]) -> dict[str, Any]:
    """Values by the last part of the name that RosettaSciIO would give them; those that it cannot convert are left."""
    values: dict[str, Any] = {}
    for place, (name, convert) in found.get("mapping", {}).items():
        value = _at(found["original_metadata"], place)
        if value is None or name.rpartition(".")[2] not in {*_FIELDS, "date", "time"}:
            continue
        try:
            values[name.rpartition(".")[2]] = value if convert is None else convert(value)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            continue
    return values


def _at(tree: Any, place: str) -> Any:
    """Value at a place such as "a.b.c" of nested dictionaries; None where there is none."""
    for part in place.split("."):
        if not isinstance(tree, dict):
            return None
        tree = tree.get(part, tree.get(part.replace("_", " ")))
    return tree


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = decode(value)
    return value.strip()[:200] if isinstance(value, str) else None


def _kilovolts(volts: float) -> float:
    return volts / 1e3 if volts > 1e3 else volts


def _tia(path: Path) -> FormatRecord:
    """TIA: XML in the EMI file beside `name_1.ser`, `name_2.ser`..., one object for each of them."""
    numbered = re.fullmatch(r"(.+)_(\d{1,4})", path.stem)
    texts: list[str] = []
    try:
        with path.with_name(f"{numbered[1] if numbered else path.stem}.emi").open("rb") as file:
            raw = file.read(MOST_BYTES)
        texts = [decode(text) for text in re.findall(rb"<ObjectInfo>.*?</ObjectInfo>", raw, re.DOTALL)]
    except (OSError, ValueError):
        pass
    index = int(numbered[2]) - 1 if numbered else 0
    root = xml_root(texts[index]) if 0 <= index < len(texts) else None
    if root is None:
        return FormatRecord("FEI/Thermo Fisher")
    fields = {
        data.findtext("Label", ""): data.findtext("Value", "")
        for data in root.iterfind("ExperimentalDescription/Root/Data")
    }
    mode = fields.get("Mode", "")
    camera = root.findtext("AcquireInfo/CameraNamePath")
    # A camera in STEM sees what the beam makes of one place.
    is_diffraction = camera is not None if "STEM" in mode else "Diffraction" in mode
    return FormatRecord(
        vendor="FEI/Thermo Fisher",
        metadata=known(
            instrument=fields.get("Microscope", "").removeprefix("Microscope ").strip(),
            detector=_text(camera),
            voltage_kV=number(fields.get("High tension")) or None,
            magnification=number(fields.get("Magnification")) or None,
            date=when(root.findtext("AcquireDate"), "%a %b %d %H:%M:%S %Y"),
        ),
        is_diffraction=is_diffraction,
    )

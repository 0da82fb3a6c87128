"""What instruments and programs write into the tags of a TIFF: one function for each.

Each takes a `Source` and returns its `VendorRecord`, or None where the file is not of its making. To add an
instrument, write such a function and enter it in the table of `vendor.py`.
"""

from __future__ import annotations

import math
import re

from napari_matseg.core.vendor_record import (
    NM_PER,
    Source,
    VendorRecord,
    ini,
    known,
    length_nm,
    lengths_nm,
    number,
    pixel_size,
    times,
    when,
    xml_root,
)

MAKE, MODEL, DESCRIPTION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, DATE_TIME = 271, 272, 270, 282, 283, 296, 306
SOFTWARE, ARTIST = 305, 315
FEI = (34680, 34682, 34683)


def fei(source: Source) -> VendorRecord | None:
    """FEI and Thermo Fisher: an INI text in tag 34680 or 34682, all of it in SI units."""
    sections = ini("\n".join(source.text(code) for code in FEI))
    if not sections.keys() & {"Scan", "Beam", "System", "Image"}:
        return None

    def get(section: str, key: str) -> str | None:
        return sections.get(section, {}).get(key)

    beam = get("Beam", "Beam") or "EBeam"
    columns, rows = number(get("Image", "ResolutionX")), number(get("Image", "ResolutionY"))
    recorded = (int(rows), int(columns)) if rows and columns and min(rows, columns) >= 1 else None
    size = None
    for scan in ("Scan", get("Beam", "Scan") or "EScan"):
        size = size or pixel_size(length_nm(get(scan, "PixelHeight"), "m"), length_nm(get(scan, "PixelWidth"), "m"))
    if size is None and recorded:  # navigation cameras state only the width of the field
        width, height = length_nm(get(beam, "HFW"), "m"), length_nm(get(beam, "VFW"), "m")
        size = pixel_size(height and height / recorded[0], width and width / recorded[1])
    bar = source.rows_below(recorded) if recorded else source.last_rows(number(get("PrivateFei", "DatabarHeight")))
    field, canvas = number(get("Scan", "HorFieldsize")), number(get("Image", "MagCanvasRealWidth"))
    day = get("User", "Date")
    created = get("PrivateFei", "TimeOfCreation")  # its order of day and month is fixed, that of User.Date is not
    return VendorRecord(
        vendor="FEI/Thermo Fisher",
        pixel_size_nm=None if source.is_resampled(recorded) else size,
        data_bar=bar,
        metadata=known(
            instrument=get("System", "SystemType"),
            detector=get("Detectors", "Name"),
            voltage_kV=times(get(beam, "HV") or get("Beam", "HV"), 1e-3),
            magnification=round(canvas / field) if canvas and field else None,
            working_distance_mm=times(get(beam, "WD") or get("Stage", "WorkingDistance"), 1e3),
            date=when(created, "%d.%m.%Y %H:%M:%S") or f"{day or ''} {get('User', 'Time') or ''}".strip(),
        ),
    )


def fei_xml(source: Source) -> VendorRecord | None:
    """FEI and Thermo Fisher, newer and Phenom: an XML text in tag 34683, or another of theirs, of one of two kinds."""
    root = next((root for code in reversed(FEI) if (root := xml_root(source.text(code))) is not None), None)
    if root is None:
        return None

    def get(path: str) -> str | None:
        return root.findtext("/".join("{*}" + part for part in path.split("/")))

    def length(path: str, default_unit: str) -> float | None:
        element = root.find("/".join("{*}" + part for part in path.split("/")))
        return None if element is None else length_nm(element.text, element.get("unit", default_unit))

    if root.tag.endswith("FeiImage"):
        voltage = root.find("acquisition/scan/highVoltage")  # negative, as it is at the cathode
        per_kilovolt = 1e-3 if voltage is not None and voltage.get("unit") == "V" else 1.0
        return VendorRecord(
            vendor="FEI/Thermo Fisher",
            pixel_size_nm=pixel_size(length("pixelHeight", ""), length("pixelWidth", "")),
            data_bar=source.last_rows(number(get("databarHeight"))),
            metadata=known(
                instrument=get("instrument/type"),
                detector=get("acquisition/scan/detector"),
                voltage_kV=abs(times(get("acquisition/scan/highVoltage"), per_kilovolt) or 0) or None,
                working_distance_mm=times(length("workingDistance", "mm"), 1e-6),
            ),
        )
    return VendorRecord(
        vendor="FEI/Thermo Fisher",
        pixel_size_nm=pixel_size(length("BinaryResult/PixelSize/Y", "m"), length("BinaryResult/PixelSize/X", "m")),
        metadata=known(
            instrument=get("Instrument/InstrumentClass"),
            detector=get("BinaryResult/Detector"),
            voltage_kV=times(get("Optics/AccelerationVoltage"), 1e-3),
            magnification=number(get("Optics/NominalMagnification")),
            working_distance_mm=times(get("Optics/WorkingDistance"), 1e3),
            date=get("Acquisition/AcquisitionStartDatetime"),
        ),
    )


def zeiss(source: Source) -> VendorRecord | None:
    """Zeiss: a text in tag 34118 (or 34119), whose first lines are bare numbers in SI units.

    The pixel size of the image stands under AP_IMAGE_PIXEL_SIZE, rounded to four digits. AP_PIXEL_SIZE, and the
    fourth bare number in more digits, are those of a screen 1024 pixels wide that shows the whole image.
    """
    bare, fields = _zeiss_fields(source.text(34118) or source.text(34119))
    if not fields:
        return None

    def length(*keys: str) -> float | None:
        text = next((fields[key] for key in keys if key in fields), "")
        return next(iter(lengths_nm(text)), None)

    width = source.shape_yx[1]
    exact = length_nm(bare[3], "m") if len(bare) > 3 else None
    exact = exact and exact * 1024 / width
    rounded = length("AP_IMAGE_PIXEL_SIZE", "Image Pixel Size")
    field, screen = length("AP_WIDTH"), length("AP_PIXEL_SIZE")
    rounded = rounded or (field and field / width) or (screen and screen * 1024 / width)
    size = exact if rounded is None or (exact and math.isclose(rounded, exact, rel_tol=1e-3)) else rounded
    magnification = fields.get("AP_MAG", "")
    day = f"{fields.get('AP_DATE', '')} {fields.get('AP_TIME', '')}".strip()
    return VendorRecord(
        vendor="Zeiss",
        pixel_size_nm=pixel_size(size, size),
        metadata=known(
            instrument=fields.get("DP_SEM") or fields.get("SV_SERIAL_NUMBER"),
            detector=fields.get("DP_DETECTOR_TYPE") or fields.get("DP_DETECTOR_CHANNEL"),
            voltage_kV=number(fields.get("AP_ACTUALKV") or fields.get("AP_MANUALKV")),
            magnification=times(magnification, 1000 if "K" in magnification.upper() else 1),
            working_distance_mm=times(length("AP_WD"), 1e-6),
            date=when(day, "%d %b %Y %H:%M:%S"),
        ),
    )


def _zeiss_fields(text: str) -> tuple[list[str], dict[str, str]]:
    """Bare lines at the start; and values by the key on the line before them, or by their own label."""
    bare: list[str] = []
    fields: dict[str, str] = {}
    key = ""
    for line in text.splitlines():
        if re.fullmatch(r"(AP|DP|SV)_\w+", line.strip(), re.IGNORECASE):
            key = line.strip().upper()
        elif match := re.match(r"([^=:]+)[=:]\s*(.*)", line):
            fields[key or match[1].strip()] = match[2].strip()
            key = ""
        elif not key and not fields:
            bare.append(line)
    return bare, fields


def tescan(source: Source) -> VendorRecord | None:
    """Tescan: `key=value` lines in tag 50431 or 51004, after a binary preview, or in a `.hdr` beside the image."""
    suffix = source.path.suffix.lstrip(".").lower()
    texts = (source.text(50431), source.text(51004), source.sidecar(f"-{suffix}.hdr", ".hdr"))
    text = next((text for text in texts if re.search(r"PixelSizeX\s*=", text)), "")
    if not text:
        return None

    def get(key: str) -> str | None:
        match = re.search(rf"(?<![A-Za-z]){key}[ \t]*=([^\r\n\x00-\x1f]*)", text)
        return match[1].strip() if match else None

    return VendorRecord(
        vendor="Tescan",
        pixel_size_nm=pixel_size(length_nm(get("PixelSizeY"), "m"), length_nm(get("PixelSizeX"), "m")),
        data_bar=source.last_rows(number(get("ImageStripSize"))),
        metadata=known(
            instrument=get("DeviceModel") or get("Device"),
            detector=get("Detector") or get("Detector0"),
            voltage_kV=times(get("HV"), 1e-3),
            magnification=number(get("Magnification")),
            working_distance_mm=times(get("WD"), 1e3),
            date=when(f"{get('Date') or ''} {get('Time') or ''}", "%Y-%m-%d %H:%M:%S"),
        ),
    )


def tvips(source: Source) -> VendorRecord | None:
    """TVIPS EM-MENU: a binary structure at tag 37706, whose second version has the pixel size in nanometres."""
    record = source.value(37706)
    if not isinstance(record, dict):
        return None
    size = pixel_size(number(record.get("PixelSizeY")), number(record.get("PixelSizeX")))
    is_image = record.get("TemMode") not in (2, 3)  # else the pixels are angles
    return VendorRecord(
        vendor="TVIPS",
        pixel_size_nm=(size or resolution(source)) if is_image else None,
        metadata=known(
            instrument=record.get("TemType"),
            detector=record.get("CameraType"),
            voltage_kV=times(record.get("TemHighTension"), 1e-3),
            magnification=number(record.get("TemMagnification")) or None,
        ),
    )


def olympus(source: Source) -> VendorRecord | None:
    """Olympus Soft Imaging: a binary structure at tag 33560, with the pixel size in metres."""
    record = source.value(33560)
    if not isinstance(record, dict):
        return None
    return VendorRecord(
        vendor="Olympus SIS",
        pixel_size_nm=pixel_size(length_nm(record.get("pixelsizey"), "m"), length_nm(record.get("pixelsizex"), "m")),
        metadata=known(
            instrument=source.text(MODEL).strip(),
            detector=record.get("cameraname"),
            magnification=number(record.get("magnification")),
            date=when(source.text(DATE_TIME), "%Y:%m:%d %H:%M:%S"),
        ),
    )


def jeol_tem(source: Source) -> VendorRecord | None:
    """JEOL SightX: an XML report as the description; the resolution is that of the camera, before magnification."""
    if not source.text(MAKE).startswith("JEOL"):
        return None
    root = xml_root(source.text(DESCRIPTION))
    if root is None or not root.tag.endswith("TemReporter"):
        return None
    get = root.findtext
    magnification = number(get("ImageFormingSystem/SelectorValue"))
    is_image = get("Eos/EosMode") == "eosTEM" and get("ImageFormingSystem/SelectorUnitString") == "X"
    size = None
    if is_image and magnification:
        camera = _resolution_nm(source)
        size = pixel_size(camera[0] and camera[0] / magnification, camera[1] and camera[1] / magnification)
    return VendorRecord(
        vendor="JEOL",
        pixel_size_nm=size,
        metadata=known(
            instrument=get("Instruments"),
            detector=get("ImageSourceDetector"),
            voltage_kV=times(get("ElectronGun/AccelerationVoltage"), 1e-3),
            magnification=magnification if is_image else None,
            date=get("DateTime"),
        ),
    )


def fibics(source: Source) -> VendorRecord | None:
    """Fibics and Zeiss Atlas: an XML text in tag 51023 with the scan's steps along x (U) and y (V) in micrometres."""
    root = xml_root(source.text(51023))
    if root is None or not root.tag.endswith("Fibics"):
        return None

    def step(axis: str) -> float | None:
        x, y = (number(root.findtext(f"Scan/{axis}{part}")) for part in "xy")
        return None if x is None or y is None else length_nm(math.hypot(x, y), "um")

    rows, columns = number(root.findtext("Image/Height")), number(root.findtext("Image/Width"))
    recorded = (int(rows), int(columns)) if rows and columns and min(rows, columns) >= 1 else None
    size = None if source.is_resampled(recorded) else pixel_size(step("V"), step("U"))
    return VendorRecord(vendor="Fibics/Zeiss Atlas", pixel_size_nm=size)


def gatan(source: Source) -> VendorRecord | None:
    """Gatan DigitalMicrograph: units of x and y as texts in tags 65003 and 65004, their scales in 65009 and 65010."""
    scale_x, scale_y = source.value(65009), source.value(65010)
    if not isinstance(scale_x, float) or not isinstance(scale_y, float):  # EPICS writes texts into the same tags
        return None
    size = pixel_size(length_nm(scale_y, source.text(65004)), length_nm(scale_x, source.text(65003)))
    return VendorRecord(vendor="Gatan", pixel_size_nm=size)


def imagej(source: Source) -> VendorRecord | None:
    """ImageJ: `unit=` in the description; the resolution is in pixels per unit. Without a unit it says nothing."""
    text = source.text(DESCRIPTION)
    if not text.startswith("ImageJ="):
        return None
    fields = ini(text)[""]
    unit = fields.get("unit", "")
    if unit.lower() in ("inch", "in", "cm"):  # how ImageJ shows the dots per inch of a printer
        size = resolution(source, NM_PER[unit.lower()])
    else:
        y, x = (_per_pixel(source.value(code)) for code in (Y_RESOLUTION, X_RESOLUTION))
        size = pixel_size(length_nm(y, fields.get("yunit", unit)), length_nm(x, unit))
    return VendorRecord(vendor="ImageJ", pixel_size_nm=size) if size else None


def ome(source: Source) -> VendorRecord | None:
    """OME-XML in the description of the first page: PhysicalSizeX and Y, in micrometres unless it says otherwise."""
    text = source.first_text(DESCRIPTION)
    root = xml_root(text) if text.rstrip(" \r\n\t\x00").endswith("OME>") else None
    listed = root.findall("{*}Image/{*}Pixels") if root is not None else []
    if not listed:
        return None
    here = tuple(str(length) for length in source.shape_yx)
    pixels = next((one for one in listed if (one.get("SizeY"), one.get("SizeX")) == here), listed[0])
    y, x = (length_nm(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "YX")
    size = pixel_size(y, x)
    return VendorRecord(vendor="OME", pixel_size_nm=size) if size else None


def hamamatsu(source: Source) -> VendorRecord | None:
    """Streak cameras of Hamamatsu, whose axes are wavelength and time."""
    is_streak = source.text(ARTIST).startswith("Copyright Hamamatsu") and source.text(SOFTWARE).startswith("HPD-TA")
    return VendorRecord(vendor="Hamamatsu") if is_streak else None


def resolution(source: Source, unit_nm: float | None = None) -> tuple[float, float] | None:
    """Pixel size from the resolution tags, where it can be no printer's or screen's.

    Such are whole numbers of dots, per inch or per centimetre, up to 4800 dpi; and pixels of 100 um or more.

    Parameters
    ----------
    source : Source
        The image.
    unit_nm : float, optional
        Nanometres in the unit that the resolution refers to; by default what the file says.
    """
    y, x = _resolution_nm(source, unit_nm)
    for size in (y, x):
        if size is None or not 0 < size < 1e5:
            return None
        per_inch, per_cm = 2.54e7 / size, 1e7 / size
        if per_inch < 4801 and any(abs(dots - round(dots)) < 0.02 for dots in (per_inch, per_cm)):
            return None
    return pixel_size(y, x)


def _resolution_nm(source: Source, unit_nm: float | None = None) -> tuple[float | None, float | None]:
    """Height and width of a pixel from the resolution tags, in nanometres; None without a unit."""
    unit = unit_nm or {2: 2.54e7, 3: 1e7}.get(int(number(source.value(RESOLUTION_UNIT)) or 0))
    y, x = (_per_pixel(source.value(code)) for code in (Y_RESOLUTION, X_RESOLUTION))
    return (y * unit if y and unit else None), (x * unit if x and unit else None)


def _per_pixel(rational: object) -> float | None:
    """Units per pixel from a resolution tag, which has pixels per unit as (numerator, denominator)."""
    if not isinstance(rational, tuple) or len(rational) != 2 or not rational[0]:
        return None
    return number(rational[1] / rational[0])

"""The records of instruments in the spellings of other models and versions of their software."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_matseg.core.read import read
from napari_matseg.core.vendor_record import length_nm

GREY = np.random.default_rng(0).integers(0, 255, (70, 100), dtype=np.uint8)


def size_of(path: Path, *tags: tuple[int, str | bytes], encoding: str = "cp1252", shape=(70, 100), **options):
    """Pixel size of a file with such tags."""
    raw = [(code, text if isinstance(text, bytes) else text.encode(encoding)) for code, text in tags]
    extratags = [(code, 1, len(text), text, True) for code, text in raw]
    tifffile.imwrite(path / "image.tif", np.zeros(shape, "u1"), extratags=extratags, metadata=None, **options)
    return read(path / "image.tif", find_bar=False).pixel_size_nm


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "utf-16-le"])
@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("Image Pixel Size = 558.2 pm", 0.5582),
        ("Image Pixel Size =   1.164 nm", 1.164),
        ("Image Pixel Size=1,164 nm", 1.164),
        ("Image Pixel Size : 1.164 \xb5m", 1164),
        ("IMAGE PIXEL SIZE = 2.5 um", 2500),
        ("Image Pixel Size = 0.012 mm", 12000),
    ],
)
@pytest.mark.parametrize("key", ["AP_IMAGE_PIXEL_SIZE", "ap_image_pixel_size"])
def test_zeiss(tmp_path, key, line, size, encoding):
    text = f"0\r\n0\r\n{key}\r\n{line}\r\nAP_PIXEL_SIZE\r\nPixel Size = 77 nm\r\n"
    assert size_of(tmp_path, (34118, text), encoding=encoding) == pytest.approx((size, size), rel=1e-9)


FEI = "[User]\r\nDate=1\r\n[Beam]\r\nBeam={0}Beam\r\nScan={0}Scan\r\n[{0}Beam]\r\nHFW=1e-6\r\nVFW=7e-7\r\n"


@pytest.mark.parametrize("column", ["E", "I"])
@pytest.mark.parametrize("code", [34680, 34682])
def test_fei_scan_of_either_column(tmp_path, column, code):
    text = FEI.format(column) + "[{}Scan]\r\nPixelWidth=1.25e-008\r\nPixelHeight=1.5E-8\r\n"
    other = "I" if column == "E" else "E"
    text = text.format(column) + f"[{other}Scan]\r\nPixelWidth=5e-7\r\nPixelHeight=5e-7\r\n"
    assert size_of(tmp_path, (code, text)) == pytest.approx((15, 12.5))


def test_fei_with_empty_or_bogus_values(tmp_path):
    text = (
        FEI.format("E")
        + "[Image]\r\nResolutionX=100\r\nResolutionY=70\r\n[Scan]\r\nPixelWidth=\r\nPixelHeight=-1.#IND\r\n"
    )
    assert size_of(tmp_path, (34682, text)) == pytest.approx((10, 10))
    assert size_of(tmp_path, (34682, text.replace("HFW", "H").replace("VFW", "V"))) is None


@pytest.mark.parametrize("code", [34680, 34682, 34683])
def test_fei_xml_in_any_of_its_tags(tmp_path, code):
    xml = (
        '<?xml version="1.0" encoding="utf-8"?><Metadata>'
        "<Instrument><InstrumentClass>Titan</InstrumentClass></Instrument>"
        '<BinaryResult><PixelSize><X unit="nm">0.25</X><Y unit="nm">0.5</Y></PixelSize></BinaryResult></Metadata>'
    )
    assert size_of(tmp_path, (code, xml)) == pytest.approx((0.5, 0.25))


@pytest.mark.parametrize(
    "text", ["PixelSizeX = 4.1e-008\nPixelSizeY = 4.2e-008\n", "PixelSizeX=4.1E-8\r\nPixelSizeY=4.2E-8"]
)
def test_tescan(tmp_path, text):
    assert size_of(tmp_path, (50431, b"\xff\xd8\0" + text.encode())) == pytest.approx((42, 41))
    tifffile.imwrite(tmp_path / "b.png", GREY)
    (tmp_path / "b-png.hdr").write_text("[MAIN]\n" + text)
    assert read(tmp_path / "b.png").pixel_size_nm == pytest.approx((42, 41))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "cp932", "utf-8"])
@pytest.mark.parametrize("section", ["SemImageFile", "TemImageFile"])
@pytest.mark.parametrize(("value", "size"), [("12.40234", 12.40234), ("12.5 nm", 12.5), ("0.5 um", 500), ("1,5", 1.5)])
def test_hitachi(tmp_path, section, value, size, encoding):
    text = f"[{section}]\r\nInstructName=S-4800\r\nPixelSize={value}\r\nComment=\u8a66\u6599\r\n"
    (tmp_path / "image.txt").write_bytes(text.encode(encoding))
    assert size_of(tmp_path) == pytest.approx((size, size))


@pytest.mark.parametrize(
    ("marker", "nm"), [("1um", 1000), ("1\xb5m", 1000), ("500 nm", 500), ("0.1mm", 1e5), ("10 \u03bcm", 1e4)]
)
def test_jeol_micron_bar(tmp_path, marker, nm):
    text = f"$SEM_DATA_VERSION 1\r\n$CM_FULL_SIZE 100 70\r\n$$SM_MICRON_BAR 80\r\n$$SM_MICRON_MARKER {marker}\r\n"
    (tmp_path / "image.txt").write_bytes(text.encode("utf-8"))
    assert size_of(tmp_path) == pytest.approx((nm / 80,) * 2)


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        *(("\\u00B5m", 1e3), ("\\u00b5m", 1e3), ("\\u03BCm", 1e3), ("um", 1e3), ("micron", 1e3), ("microns", 1e3)),
        *(
            ("micrometres", 1e3),
            ("\\u00C5", 0.1),
            ("\\u212B", 0.1),
            ("Angstroms", 0.1),
            ("nanometers", 1.0),
            ("pm", 1e-3),
        ),
        *(("1/nm", None), ("nm^-1", None), ("mrad", None), ("sec", None), ("pixels", None), ("gray value", None)),
    ],
)
def test_imagej(tmp_path, unit, nm):
    text = f"ImageJ=1.53t\nimages=1\nunit={unit}\nmin=0\n"
    found = size_of(tmp_path, description=text, resolution=(2, 4), resolutionunit="NONE")
    assert found == (None if nm is None else pytest.approx((nm / 4, nm / 2)))


def test_imagej_with_another_unit_along_y(tmp_path):
    text = "ImageJ=1.53t\nunit=nm\nyunit=\\u00B5m\n"
    assert size_of(tmp_path, description=text, resolution=(1, 100), resolutionunit="NONE") == pytest.approx((10, 1))
    text = "ImageJ=1.53t\nunit=nm\nyunit=sec\n"
    assert size_of(tmp_path, description=text, resolution=(1, 100), resolutionunit="NONE") is None


@pytest.mark.parametrize(
    ("unit", "nm"),
    [("nm", 1), ("\xb5m", 1e3), ("\u03bcm", 1e3), ("mm", 1e6), ("\xc5", 0.1), ("pm", 1e-3), ("pixel", None)],
)
def test_ome_units(tmp_path, unit, nm):
    metadata = {"PhysicalSizeX": 2.0, "PhysicalSizeXUnit": unit, "PhysicalSizeY": 4.0, "PhysicalSizeYUnit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", GREY, metadata={"axes": "YX"} | metadata)
    xml = tifffile.tiffcomment(tmp_path / "a.ome.tif")
    tifffile.tiffcomment(tmp_path / "a.ome.tif", xml.encode())
    assert read(tmp_path / "a.ome.tif").pixel_size_nm == (None if nm is None else pytest.approx((4 * nm, 2 * nm)))


def test_ome_size_is_that_of_the_image_that_is_read(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(GREY[:20, :30], metadata={"axes": "YX", "PhysicalSizeX": 9.0, "PhysicalSizeY": 9.0})
        tif.write(GREY, metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25})
    micrograph = read(tmp_path / "a.ome.tif")
    assert micrograph.shape_yx == GREY.shape
    assert micrograph.pixel_size_nm == pytest.approx((250, 500))


def test_gatan_with_pixels_far_from_square(tmp_path):
    extratags = [(65003, 2, 3, b"nm\0", True), (65004, 2, 3, b"nm\0", True)]
    extratags += [(65009, 11, 1, 0.16867, True), (65010, 11, 1, 1.68674, True)]
    tifffile.imwrite(tmp_path / "a.tif", GREY, extratags=extratags, metadata=None)
    assert read(tmp_path / "a.tif").pixel_size_nm == pytest.approx((1.68674, 0.16867), rel=1e-6)


def test_wavelength_and_time_are_no_lengths(tmp_path):
    extratags = [(315, 2, 30, "Copyright Hamamatsu Photonics", True)]
    tifffile.imwrite(
        tmp_path / "a.tif", GREY, extratags=extratags, software="HPD-TA 9.3", resolution=(1e5, 1e5), resolutionunit=3
    )
    micrograph = read(tmp_path / "a.tif")
    assert (micrograph.vendor, micrograph.pixel_size_nm) == ("Hamamatsu", None)


def test_without_a_unit_the_resolution_says_nothing(tmp_path):
    assert size_of(tmp_path, resolution=(2e5, 2e5), resolutionunit="NONE") is None


@pytest.mark.skipif(os.name == "nt", reason="no pipes")
def test_a_pipe_beside_an_image_is_no_record(tmp_path):
    os.mkfifo(tmp_path / "image.txt")
    assert size_of(tmp_path) is None


@pytest.mark.parametrize("unit", ["nm/px", "nm / pixel", "NM per pixel", "nanometre", "nm "])
def test_units_of_a_pixel_are_units(unit):
    assert length_nm("2.5", unit) == 2.5

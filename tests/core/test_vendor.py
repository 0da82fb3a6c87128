from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.vendor import READERS, read_vendor
from napari_matseg.core.vendor_record import VendorRecord, decode, length_nm, lengths_nm, number, pixel_size, xml_root

SHAPE = (70, 100)


def written(
    folder: Path, *tags: tuple[int, str | bytes], shape=SHAPE, suffix=".tif", sidecars=(), **options
) -> VendorRecord:
    """Record of a file with such tags and such files beside it."""
    path = folder / f"image{suffix}"
    extratags = [(code, 1, len(raw), raw, True) for code, text in tags for raw in [as_bytes(text)]]
    tifffile.imwrite(path, np.zeros(shape, np.uint8), extratags=extratags, metadata=None, **options)
    for name, content in sidecars:
        (folder / name).write_bytes(as_bytes(content))
    with tifffile.TiffFile(path) as tif:
        record = read_vendor(path, shape[:2], tif)
    json.dumps(record.metadata, allow_nan=False)
    return record


def as_bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("cp1252")


FEI = """[User]\r\nDate=03/12/2019\r\nTime=10:22:13 AM\r
[System]\r\nSystemType=Helios G4 UX\r
[Beam]\r\nHV=5000\r\nBeam=EBeam\r\nScan=EScan\r
[EBeam]\r\nHV=5000\r\nWD=0.00412\r\nHFW=4e-07\r\nVFW=2.4e-07\r
[Scan]\r\nPixelWidth=2.0345e-009\r\nPixelHeight=2.1e-009\r\nHorFieldsize=2.0345e-07\r
[Image]\r\nResolutionX=100\r\nResolutionY=60\r\nMagCanvasRealWidth=0.2072\r
[Detectors]\r\nNumber=1\r\nName=TLD\r\nMode=SE\r
[PrivateFei]\r\nDatabarHeight=10\r\nTimeOfCreation=12.03.2019 10:22:13\r\n"""


@pytest.mark.parametrize("code", [34680, 34682])
def test_fei(tmp_path, code):
    record = written(tmp_path, (code, FEI))
    assert record.vendor == "FEI/Thermo Fisher"
    assert record.pixel_size_nm == pytest.approx((2.1, 2.0345))
    assert record.data_bar == (60, 70)
    assert record.metadata == {
        "instrument": "Helios G4 UX",
        "detector": "TLD",
        "voltage_kV": 5.0,
        "magnification": 1018432,
        "working_distance_mm": 4.12,
        "date": "2019-03-12T10:22:13",
    }


def test_fei_beside_its_own_base64(tmp_path):
    assert written(tmp_path, (34680, b"PE1lbWVudG8="), (34682, FEI)).pixel_size_nm == pytest.approx((2.1, 2.0345))


def test_fei_field_of_view(tmp_path):
    text = FEI.replace("PixelWidth", "Nothing").replace("PixelHeight", "Nought")
    assert written(tmp_path, (34682, text)).pixel_size_nm == pytest.approx((4, 4))


def test_fei_without_a_data_bar(tmp_path):
    text = FEI.replace("ResolutionY=60", "ResolutionY=70")
    assert written(tmp_path, (34682, text)).data_bar is None


def test_fei_with_the_height_of_the_data_bar_alone(tmp_path):
    text = FEI.replace("ResolutionX=100\r\nResolutionY=60", "")
    assert written(tmp_path, (34682, text)).data_bar == (60, 70)


def test_a_resampled_copy_has_lost_its_pixel_size(tmp_path):
    text = FEI.replace("ResolutionX=100\r\nResolutionY=60", "ResolutionX=200\r\nResolutionY=140")
    record = written(tmp_path, (34682, text))
    assert record.pixel_size_nm is None
    assert record.data_bar is None


def test_a_crop_keeps_its_pixel_size(tmp_path):
    text = FEI.replace("ResolutionX=100\r\nResolutionY=60", "ResolutionX=1024\r\nResolutionY=884")
    record = written(tmp_path, (34682, text))
    assert record.pixel_size_nm == pytest.approx((2.1, 2.0345))
    assert record.data_bar is None


def test_fei_xml(tmp_path):
    xml = """<?xml version="1.0"?><Metadata xmlns="http://schemas.fei.com/Metadata/v1/2013/07">
    <Instrument><InstrumentClass>Apreo</InstrumentClass></Instrument>
    <Optics><AccelerationVoltage>2000</AccelerationVoltage><WorkingDistance>0.0101</WorkingDistance></Optics>
    <BinaryResult><Detector>T1</Detector><PixelSize><X unit="m">1.5e-9</X><Y unit="m">1.6e-9</Y></PixelSize>
    </BinaryResult></Metadata>"""
    record = written(tmp_path, (34683, xml))
    assert record.pixel_size_nm == pytest.approx((1.6, 1.5))
    assert record.metadata == {"instrument": "Apreo", "detector": "T1", "voltage_kV": 2.0, "working_distance_mm": 10.1}
    assert written(tmp_path, (34683, xml.replace('unit="m"', 'unit="1/m"'))).pixel_size_nm is None


def test_phenom(tmp_path):
    xml = """<?xml version="1.0"?><FeiImage><databarHeight>12</databarHeight><pixelWidth unit="um">0.694952</pixelWidth>
    <pixelHeight unit="um">0.694952</pixelHeight><workingDistance unit="mm">5.2</workingDistance>
    <instrument><type>Phenom</type></instrument>
    <acquisition><scan><detector>All</detector><highVoltage unit="kV">-15</highVoltage></scan></acquisition>
    </FeiImage>"""
    record = written(tmp_path, (34683, xml))
    assert record.pixel_size_nm == pytest.approx((694.952, 694.952))
    assert record.data_bar == (58, 70)
    assert record.metadata == {
        "instrument": "Phenom",
        "detector": "All",
        "voltage_kV": 15.0,
        "working_distance_mm": 5.2,
    }


ZEISS = """0\r\n0\r\n0\r\n5.824988e-009\r\n5.0e+004\r
DP_DETECTOR_TYPE\r\nDetector = SE2\r\nDP_SEM\r\nSem = Merlin\r
AP_PIXEL_SIZE\r\nPixel Size = 5.825 nm\r\nAP_WIDTH\r\nWidth = 5.965 \xb5m\r
AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 59.65 nm\r
AP_ACTUALKV\r\nEHT = 5.00 kV\r\nAP_MAG\r\nMag = 50.00 K X\r\nAP_WD\r\nWD = 3.9 mm\r
AP_DATE\r\nDate :25 Sep 2018\r\nAP_TIME\r\nTime :8:20:42\r\n"""


def test_zeiss(tmp_path):
    record = written(tmp_path, (34118, ZEISS))
    assert record.vendor == "Zeiss"
    assert record.pixel_size_nm == pytest.approx((59.64788, 59.64788), rel=1e-7)
    assert record.metadata == {
        "instrument": "Merlin",
        "detector": "SE2",
        "voltage_kV": 5.0,
        "magnification": 50000.0,
        "working_distance_mm": 3.9,
        "date": "2018-09-25T08:20:42",
    }


@pytest.mark.parametrize(
    ("old", "new", "size"),
    [
        ("59.65 nm", "61.00 nm", 61.0),  # the image's own size has the word where the screen's contradicts it
        ("5.824988e-009", "0", 59.65),
        ("0\r\n0\r\n0\r\n5.824988e-009\r\n5.0e+004\r\n", "", 59.65),
        ("Image Pixel Size = 59.65 nm", "Image Pixel Size = 0.05965 \xb5m", 59.64788),
        ("AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 59.65 nm\r\n", "", 59.64788),
    ],
)
def test_zeiss_image_and_screen(tmp_path, old, new, size):
    assert old in ZEISS
    assert written(tmp_path, (34118, ZEISS.replace(old, new))).pixel_size_nm == pytest.approx((size, size), rel=1e-6)


def test_zeiss_screen_alone(tmp_path):
    record = written(tmp_path, (34118, "AP_PIXEL_SIZE\r\nPixel Size = 10.00 nm\r\n"), shape=(8, 512))
    assert record.pixel_size_nm == pytest.approx((20, 20))


def test_zeiss_labels_without_keys(tmp_path):
    text = "Image Pixel Size = 5.0 nm\r\n".encode("utf-16-le")
    assert written(tmp_path, (34119, text)).pixel_size_nm == (5.0, 5.0)


TESCAN = (
    "AccFrames=1\r\nCompany=TESCAN\r\nDate=2019-03-12\r\nTime=10:22:13\r\nDevice=MIRA3\r\nImageStripSize=8\r\n"
    "Magnification=5000.0\r\nPixelSizeX=4.1e-008\r\nPixelSizeY=4.2e-008\r\nDetector=SE\r\nHV=15000.0\r\nWD=0.0100\r\n"
)


@pytest.mark.parametrize("code", [50431, 51004])
def test_tescan(tmp_path, code):
    preview = struct.pack("<IH", 8, 1) + b"\xff\xd8\xff\xd9\0\0" + struct.pack("<IH", len(TESCAN) + 2, 2)
    check_tescan(written(tmp_path, (code, preview + TESCAN.encode())))


@pytest.mark.parametrize("name", ["image-tif.hdr", "image.hdr", "image.HDR"])
def test_tescan_sidecar(tmp_path, name):
    check_tescan(written(tmp_path, sidecars=[(name, "[MAIN]\r\n" + TESCAN.replace("Detector", "[SEM]\r\nDetector"))]))


def check_tescan(record: VendorRecord) -> None:
    assert record.vendor == "Tescan"
    assert record.pixel_size_nm == pytest.approx((42, 41))
    assert record.data_bar == (62, 70)
    assert record.metadata == {
        "instrument": "MIRA3",
        "detector": "SE",
        "voltage_kV": 15.0,
        "magnification": 5000.0,
        "working_distance_mm": 10.0,
        "date": "2019-03-12T10:22:13",
    }


HITACHI = (
    "[SemImageFile]\r\nInstructName=SU8230\r\nSignalName=SE(U)\r\nAcceleratingVoltage=15000 Volt\r\n"
    "Magnification=10000\r\nWorkingDistance=8100 um\r\nPixelSize=9.921875\r\nDate=2019/03/12\r\nTime=10:22:13\r\n"
    "DataSize=100x64\r\n"
)


@pytest.mark.parametrize("encoding", ["ascii", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("name", ["image.txt", "image.TXT", "image.Txt"])
def test_hitachi(tmp_path, encoding, name):
    record = written(tmp_path, sidecars=[(name, HITACHI.encode(encoding))])
    assert record.vendor == "Hitachi"
    assert record.pixel_size_nm == (9.921875, 9.921875)
    assert record.data_bar == (64, 70)
    assert record.metadata == {
        "instrument": "SU8230",
        "detector": "SE(U)",
        "voltage_kV": 15.0,
        "magnification": 10000.0,
        "working_distance_mm": 8.1,
        "date": "2019-03-12T10:22:13",
    }


def test_a_sidecar_of_a_larger_image_does_not_hold(tmp_path):
    text = HITACHI.replace("100x64", "1000x700")
    assert written(tmp_path, sidecars=[("image.txt", text)]).pixel_size_nm is None


JEOL = (
    "$CM_FORMAT JEOL/SEM\n$CM_INSTRUMENT JSM-7800F\n$CM_SIGNAL SEI\n$CM_MAG 5000\n$CM_ACCEL_VOLT 15.00\n"
    "$CM_DATE 2019/03/12\n$CM_TIME 10:21:55\n$CM_FULL_SIZE 100 60\n$$SM_MICRON_BAR 180\n$$SM_MICRON_MARKER 5um\n"
    "$$SM_WD 10.0\n"
)


def test_jeol_sem(tmp_path):
    record = written(tmp_path, sidecars=[("image.txt", JEOL)])
    assert record.vendor == "JEOL"
    assert record.pixel_size_nm == pytest.approx((5000 / 180, 5000 / 180))
    assert record.data_bar == (60, 70)
    assert record.metadata == {
        "instrument": "JSM-7800F",
        "detector": "SEI",
        "voltage_kV": 15.0,
        "magnification": 5000.0,
        "working_distance_mm": 10.0,
        "date": "2019-03-12T10:21:55",
    }


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("$CM_PIXEL_SIZE 27.5nm 27.6nm", (27.6, 27.5)),
        ("$CM_FIELD_OF_VIEW 2.75µm 1.65µm", (27.5, 27.5)),
        ("$CM_PIXEL_SIZE 1nm 1s", (5000 / 180, 5000 / 180)),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "cp932"])
def test_newer_jeol_states_the_size(tmp_path, line, size, encoding):
    text = (JEOL.replace("$$", "$") + line + "\n").replace("µ", "μ" if encoding == "cp932" else "µ")
    assert written(tmp_path, sidecars=[("image.txt", text.encode(encoding))]).pixel_size_nm == pytest.approx(size)


JEOL_TEM = """<?xml version="1.0"?>\r\n<TemReporter><Instruments>JEM-ARM200F</Instruments>
<DateTime>2019-11-27T16:11:26</DateTime><ElectronGun><AccelerationVoltage>200000</AccelerationVoltage></ElectronGun>
<Eos><EosMode>eosTEM</EosMode></Eos><ImageFormingSystem><ModeString>MAG</ModeString>
<SelectorValue>150000</SelectorValue><SelectorUnitString>X</SelectorUnitString></ImageFormingSystem>
<ImageSourceDetector>screenCamera</ImageSourceDetector></TemReporter>\r\n\x01"""


def test_jeol_tem(tmp_path):
    options = {"description": JEOL_TEM, "resolution": (93, 93), "resolutionunit": "INCH"}
    record = written(tmp_path, (271, "JEOL Ltd."), **options)
    assert record.pixel_size_nm == pytest.approx((2.54e7 / 93 / 150000,) * 2)
    assert record.metadata == {
        "instrument": "JEM-ARM200F",
        "detector": "screenCamera",
        "voltage_kV": 200.0,
        "magnification": 150000.0,
        "date": "2019-11-27T16:11:26",
    }
    options["description"] = JEOL_TEM.replace("<SelectorUnitString>X", "<SelectorUnitString>cm")
    diffraction = written(tmp_path, (271, "JEOL Ltd."), **options)
    assert diffraction.vendor == "JEOL"
    assert diffraction.pixel_size_nm is None
    assert "magnification" not in diffraction.metadata


def tvips_tag(**changes: float) -> bytes:
    """A structure as TVIPS EM-MENU writes it, version 2."""
    first = np.zeros(1, tifffile.TIFF.TVIPS_HEADER_V1)
    second = np.zeros(1, tifffile.TIFF.TVIPS_HEADER_V2)
    first["Version"], second["Magic"] = 2, 0xAAAAAAAA
    values = {"PixelSizeX": 1.5, "PixelSizeY": 1.25, "TemHighTension": 99000, "TemMagnification": 32000, **changes}
    for name, value in values.items():
        second[name] = value
    second["CameraType"] = np.void("F416".encode("utf-16-le").ljust(second["CameraType"].dtype.itemsize, b"\0"))
    return first.tobytes() + second.tobytes()


def test_tvips(tmp_path):
    record = written(tmp_path, (37706, tvips_tag()))
    assert record.vendor == "TVIPS"
    assert record.pixel_size_nm == (1.25, 1.5)
    assert record.metadata == {"detector": "F416", "voltage_kV": 99.0, "magnification": 32000.0}
    options = {"resolution": (8e6, 8e6), "resolutionunit": "CENTIMETER"}
    assert written(tmp_path, (37706, tvips_tag(PixelSizeX=0)), **options).pixel_size_nm == pytest.approx((1.25, 1.25))
    assert written(tmp_path, (37706, tvips_tag(TemMode=3))).pixel_size_nm is None


def test_olympus(tmp_path):
    # Places within the structure are places within the file, where the tag's value is found first.
    def tag(start: int) -> bytes:
        head = struct.pack("<4s6xhhhhh6x32sH", b"SIS0", 42, 19, 15, 10, 118, b"", 1)
        body = struct.pack("<10xhdd8xd2x34s32s", -9, 0.5, 0.25, 6e5, b"Quemesa", b"")
        return head + struct.pack("<hhI", 1, 1, start + len(head) + 8) + body

    written(tmp_path, (33560, tag(0)), datetime="2018:11:15 19:42:31")
    with tifffile.TiffFile(tmp_path / "image.tif") as tif:
        start = tif.pages.first.tags[33560].valueoffset
    record = written(tmp_path, (33560, tag(start)), datetime="2018:11:15 19:42:31")
    assert record.vendor == "Olympus SIS"
    assert record.pixel_size_nm == pytest.approx((0.25, 0.5))
    assert record.metadata == {"detector": "Quemesa", "magnification": 6e5, "date": "2018-11-15T19:42:31"}


FIBICS = """<?xml version="1.0"?>\r\n<Fibics version="1.2"><Application><Version>Atlas 5</Version></Application>
<Image><Width>100</Width><Height>70</Height></Image><Scan><ScanRot units="deg">30</ScanRot>
<Ux>0.0043</Ux><Uy>0.0025</Uy><Vx>0.003</Vx><Vy>-0.004</Vy></Scan></Fibics>"""


def test_fibics_steps_are_vectors(tmp_path):
    record = written(tmp_path, (51023, FIBICS))
    assert record.pixel_size_nm == pytest.approx((5, np.hypot(4.3, 2.5)))
    assert written(tmp_path, (51023, FIBICS.replace("100<", "200<").replace("70<", "140<"))).pixel_size_nm is None


def gatan(folder: Path, unit_x: bytes, unit_y: bytes, **options) -> VendorRecord:
    path = folder / "image.tif"
    extratags = [(65003, 2, len(unit_x), unit_x, True), (65004, 2, len(unit_y), unit_y, True)]
    extratags += [(65009, 12, 1, 0.5, True), (65010, 12, 1, 0.25, True)]
    tifffile.imwrite(path, np.zeros(SHAPE, np.uint8), extratags=extratags, metadata=None, **options)
    with tifffile.TiffFile(path) as tif:
        return read_vendor(path, SHAPE, tif)


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        (b"nm", (0.25, 0.5)),
        ("µm".encode(), (250, 500)),
        ("µm".encode("cp1252"), (250, 500)),
        ("Å".encode("cp1252"), (0.025, 0.05)),
        (b"1/nm", None),
        (b"s", None),
        (b"", None),
        (b"\xff\xfe\x81", None),
    ],
)
def test_gatan(tmp_path, unit, size):
    record = gatan(tmp_path, unit, unit)
    assert record.vendor == "Gatan"
    assert record.pixel_size_nm == (None if size is None else pytest.approx(size))


def test_a_time_axis_is_no_length(tmp_path):
    assert gatan(tmp_path, b"nm", b"s").pixel_size_nm is None


def test_a_unit_that_is_no_length_is_not_overruled_by_the_resolution(tmp_path):
    assert gatan(tmp_path, b"1/nm", b"1/nm", resolution=(8e6, 8e6), resolutionunit=3).pixel_size_nm is None


def test_the_texts_of_epics_are_not_gatan(tmp_path):
    assert written(tmp_path, (65003, "nm"), (65009, "Mode:0"), (65010, "Ring:1")).vendor is None


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("micron", (2000, 1000)),
        ("um", (2000, 1000)),
        ("\\u00B5m", (2000, 1000)),
        ("\xb5m", (2000, 1000)),
        ("nm", (2, 1)),
        ("mm", (2e6, 1e6)),
        ("pixel", None),
        ("", None),
        ("1/nm", None),
        ("sec", None),
    ],
)
def test_imagej(tmp_path, unit, size):
    description = f"ImageJ=1.54f\nimages=1\nunit={unit}\n".encode("cp1252")
    record = written(tmp_path, (270, description), resolution=(1, 0.5), resolutionunit="NONE")
    assert record.pixel_size_nm == (None if size is None else pytest.approx(size))
    assert record.vendor == (None if size is None else "ImageJ")


def test_imagej_shows_dots_per_inch_as_a_unit(tmp_path):
    for unit, dots in (("inch", 300), ("inch", 72), ("cm", 118)):
        record = written(tmp_path, description=f"ImageJ=1.54f\nunit={unit}\n", resolution=(dots, dots))
        assert record.pixel_size_nm is None
    record = written(tmp_path, description="ImageJ=1.54f\nunit=cm\n", resolution=(5e4, 2e4))
    assert record.pixel_size_nm == pytest.approx((500, 200))


OME = """<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
<Image ID="Image:0"><Pixels PhysicalSizeX="0.5" PhysicalSizeY="250" PhysicalSizeYUnit="{}"/></Image></OME>"""


def test_ome(tmp_path):
    assert written(tmp_path, (270, OME.format("nm"))).pixel_size_nm == (250.0, 500.0)
    assert written(tmp_path, (270, OME.format("nm"))).vendor == "OME"
    for unit in ("pixel", "reference frame", "s"):
        assert written(tmp_path, (270, OME.format(unit))).pixel_size_nm is None


@pytest.mark.parametrize(
    ("unit", "per_unit", "size"),
    [
        ("CENTIMETER", 2e4, 500),
        ("CENTIMETER", 7038270, 1.42080),
        ("INCH", 25400000, 1),
        ("INCH", 1234.56, 20574.13),
        ("INCH", 72, None),
        ("INCH", 96, None),
        ("INCH", 93, None),
        ("INCH", 150, None),
        ("INCH", 299.9994, None),
        ("INCH", 314, None),
        ("INCH", 1200, None),
        ("CENTIMETER", 118, None),
        ("CENTIMETER", 118.11, None),
        ("CENTIMETER", 28, None),
        ("CENTIMETER", 50, None),
        ("NONE", 2e4, None),
    ],
)
def test_resolution_is_the_last_resort_and_no_printers(tmp_path, unit, per_unit, size):
    record = written(tmp_path, resolution=(per_unit, per_unit), resolutionunit=unit)
    assert record.vendor is None
    if size is None:
        assert record.pixel_size_nm is None
        assert record.pixel_size_from is None
    else:
        assert record.pixel_size_nm == pytest.approx((size, size), rel=1e-4)
        assert record.pixel_size_from == "TIFF resolution"


def test_resolution_has_x_first(tmp_path):
    assert written(tmp_path, resolution=(1e5, 2e5), resolutionunit=3).pixel_size_nm == pytest.approx((50, 100))


def test_an_instrument_without_a_size_is_not_given_that_of_a_printer(tmp_path):
    text = FEI.replace("PixelWidth", "Nothing").replace("ResolutionX", "Nothing")
    record = written(tmp_path, (34682, text), resolution=(8e6, 8e6), resolutionunit=3)
    assert record.vendor == "FEI/Thermo Fisher"
    assert record.pixel_size_nm is None


def test_a_file_that_says_nothing(tmp_path):
    assert written(tmp_path) == VendorRecord()
    assert read_vendor(tmp_path / "image.png", SHAPE) == VendorRecord()


def test_make_model_and_date_of_an_unknown_instrument(tmp_path):
    record = written(tmp_path, (271, "Acme"), (272, "M 1"), datetime="2020:01:02 03:04:05")
    assert record.metadata == {"instrument": "Acme M 1", "date": "2020-01-02T03:04:05"}


def test_any_text_beside_an_image_is_not_a_record(tmp_path):
    assert written(tmp_path, sidecars=[("image.txt", "PixelSize=5 nm\nmy notes")]) == VendorRecord()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "0", "-1e-9", "1e300", "1e-40", "", "abc", "1e999"])
def test_absurd_sizes_are_none(tmp_path, value):
    fei = FEI.replace("2.0345e-009", value).replace("HFW", "Nothing")
    assert written(tmp_path, (34682, fei)).pixel_size_nm is None
    assert written(tmp_path, (50431, TESCAN.replace("4.1e-008", value))).pixel_size_nm is None
    assert written(tmp_path, sidecars=[("image.txt", HITACHI.replace("9.921875", value))]).pixel_size_nm is None


@pytest.mark.parametrize("code", [34680, 34682, 34118, 34119, 50431, 51004, 51023, 34683, 270, 271])
@pytest.mark.parametrize(
    "raw", [b"\xff\xfe", b"\x81\x8d\x8f\x90\x9d", bytes(range(256)), b"[", b"<a", b"=\n=:", b"\0" * 9]
)
def test_no_bytes_are_an_error(tmp_path, code, raw):
    assert written(tmp_path, (code, raw)).pixel_size_nm is None


@pytest.mark.parametrize("code", [37706, 33560, 33471])
def test_no_structure_is_an_error(tmp_path, code):
    for raw in (b"SIS0" + bytes(80), b"\xff" * 4000, b"ab"):
        assert written(tmp_path, (code, raw)).pixel_size_nm is None


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "bb">]><Fibics><Scan>&b;</Scan></Fibics>',
        '<!DOCTYPE a SYSTEM "http://example.org/a.dtd"><Fibics/>',
        "<Fibics>",
        "Fibics",
        "",
        '<?xml version="1.0" encoding="nonsense"?><Fibics/',
    ],
)
def test_xml_that_is_not_well_formed_or_not_safe_is_not_parsed(text):
    assert xml_root(text) is None


def test_the_first_in_the_table_has_the_word(tmp_path):
    record = written(tmp_path, (34682, FEI), description="ImageJ=1.54f\nunit=nm\n", resolution=(1, 1))
    assert record.vendor == "FEI/Thermo Fisher"
    assert len(set(READERS)) == len(READERS)


@given(st.binary(max_size=60))
def test_any_bytes_become_text(raw):
    assert isinstance(decode(raw), str)


@given(st.floats(1e-3, 1e6), st.sampled_from(["nm", "µm", "um", "mm", "Å", "micron"]))
def test_numbers_survive_their_text(value, unit):
    assert number(f"{value!r} {unit}") == value
    assert lengths_nm(f"{value!r} {unit}") == [length_nm(value, unit)]


@given(st.floats() | st.none(), st.floats() | st.none())
def test_a_pixel_size_is_finite_and_positive_or_none(y, x):
    size = pixel_size(y, x)
    assert size is None or all(0 < value < 1e8 for value in size)

"""DM3, DM4, EMD and SER; the smallest valid files of each are written here."""

from __future__ import annotations

import json
import logging
import os
import struct
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from napari_matseg.core import axes, format_checks, read_formats
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.read import read
from napari_matseg.errors import InputError

GREY = np.random.default_rng(0).integers(0, 200, (5, 7)).astype(np.uint16)
STACK = np.stack([GREY, GREY + 1, GREY + 2])
MUTANTS = int(os.environ.get("MATSEG_MUTANTS", "40"))
"""Of each format; more by night."""

DM_TYPES = {"i2": 1, "f4": 2, "c8": 3, "u1": 6, "i4": 7, "i1": 9, "u2": 10, "u4": 11, "f8": 12}
DM_CODES = {"i2": 2, "i4": 3, "u2": 4, "u4": 5, "f4": 6, "f8": 7, "i1": 9, "u1": 10, "c8": 7}
SER_TYPES = {"u1": 1, "u2": 2, "u4": 3, "i1": 4, "i2": 5, "i4": 6, "f4": 7, "f8": 8, "c8": 9}


def dm_tree(
    image: np.ndarray,
    *,
    scale: float = 0.5,
    unit: str = "nm",
    name: str = "image",
    tags: dict[str, Any] | None = None,
    rgb: bool = False,
) -> dict[str, Any]:
    """Tags of one image in a DM file."""
    shape = image.shape[:2] if rgb else image.shape
    units = [unit] * 2 + ["s"] * (len(shape) - 2)
    kind = image.dtype.str[1:]
    data = np.append(image[..., ::-1], np.zeros((*shape, 1), "u1"), axis=-1).view("<u4") if rgb else image
    return {
        "Name": name,
        "ImageData": {
            "Calibrations": {
                "Brightness": {"Origin": 0.0, "Scale": 1.0, "Units": ""},
                "Dimension": [{"Origin": 0.0, "Scale": scale, "Units": one} for one in units],
            },
            "Data": data,
            "DataType": 23 if rgb else DM_TYPES[kind],
            "Dimensions": [int(length) for length in shape[::-1]],
            "PixelDepth": 4 if rgb else image.itemsize,
        },
        "ImageTags": tags or {},
    }


def dm_file(path: Path, *images: dict[str, Any], version: int = 3) -> Path:
    """Write a DM3 or DM4 file, all numbers little-endian."""
    word = ">q" if version == 4 else ">i"

    def number(value: int) -> bytes:
        return struct.pack(word, value)

    def text(value: str) -> tuple[list[int], bytes]:
        return [20, 4, len(value)], value.encode("utf-16-le")

    def entry(name: str, value: Any) -> bytes:
        encoded = name.encode()
        if isinstance(value, dict | list):
            start, body = b"\x14", group(value)
            body = body[:2] + (number(0) if version == 4 else b"") + body[2:]
        else:
            if isinstance(value, str):
                info, raw = text(value)
            elif isinstance(value, np.ndarray):
                data = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"))
                code = DM_CODES[data.dtype.str[1:]]
                info, raw = [20, code, data.nbytes // 8 if code == 7 else data.size], data.tobytes()
            elif isinstance(value, float):
                info, raw = [7], struct.pack("<d", value)
            else:
                info, raw = [5], struct.pack("<I", value)
            start = b"\x15"
            body = (number(0) if version == 4 else b"") + b"%%%%" + number(len(info))
            body += b"".join(map(number, info)) + raw
        return start + struct.pack(">h", len(encoded)) + encoded + body

    def group(values: Any) -> bytes:
        pairs = list(values.items()) if isinstance(values, dict) else [("", value) for value in values]
        return b"\0\0" + number(len(pairs)) + b"".join(entry(*pair) for pair in pairs)

    body = group({"ImageList": list(images)})
    path.write_bytes(struct.pack(">i", version) + number(len(body)) + struct.pack(">i", 1) + body)
    return path


def ser_file(path: Path, images: np.ndarray, *, step_m: float = 2e-9, kind: int = 0x4122) -> Path:
    """Write a SER file, version 528, with images of shape (n, height, width)."""
    count, height, width = images.shape
    head = struct.pack("<HHHIIIIII", 0x4949, 0x0197, 528, kind, 0x4152, count, count, 0, 1)
    head += struct.pack("<IddII", count, 0.0, 1.0, 0, 6) + b"Number" + struct.pack("<I", 0)
    tables = len(head)
    offsets, body = [], b""
    at = tables + 8 * count
    for image in images:
        offsets.append(at + len(body))
        body += struct.pack("<ddIddI", 0.0, step_m, 0, 0.0, step_m, 0)
        body += struct.pack("<HII", SER_TYPES[images.dtype.str[1:]], width, height)
        body += image[::-1].astype(images.dtype.newbyteorder("<")).tobytes()
        body += struct.pack("<HHI", 0x4152, 0, 0)
    head = head[:22] + struct.pack("<I", tables) + head[26:]
    path.write_bytes(head + struct.pack(f"<{2 * count}I", *offsets, *[offset - 8 for offset in offsets]) + body)
    return path


def emi_file(path: Path, mode: str = "TEM BF", *, camera: bool = True) -> Path:
    """Write the EMI file that belongs to SER files."""
    rows = {
        "Microscope": ("Microscope Titan 300 kV", ""),
        "High tension": ("300", "kV"),
        "Magnification": ("115000", "x"),
        "Mode": (mode, ""),
    }
    data = "".join(
        f"<Data><Label>{label}</Label><Value>{value}</Value><Unit>{unit}</Unit></Data>"
        for label, (value, unit) in rows.items()
    )
    name = "<CameraNamePath>BM-Ceta</CameraNamePath>" if camera else ""
    xml = (
        f"<ObjectInfo><AcquireDate>Wed Nov 16 15:01:54 2016</AcquireDate><AcquireInfo>{name}</AcquireInfo>"
        f"<ExperimentalDescription><Root>{data}</Root></ExperimentalDescription></ObjectInfo>"
    )
    path.write_bytes(b"JJ\0\0junk\xff" + xml.encode() + b"\0tail")
    return path


def velox_file(
    path: Path, image: np.ndarray, *, unit: str = "m", step: float = 1.5e-10, spectrum: bool = False
) -> Path:
    """Write an EMD file as Velox does, with frames of shape (n, height, width)."""

    def text(value: Any) -> np.ndarray:
        return np.array([json.dumps(value)], dtype="O")

    metadata = {
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1508762321"}},
        "BinaryResult": {
            "PixelSize": {"width": str(step), "height": str(step)},
            "Offset": {"x": "0", "y": "0"},
            "PixelUnitX": unit,
            "PixelUnitY": unit,
            "DetectorIndex": "0",
        },
        "CustomProperties": {"StemMagnification": {"type": "double", "value": "640000"}},
        "Detectors": {"Detector-0": {"DetectorName": "HAADF"}},
        "Instrument": {"InstrumentClass": "Talos"},
        "Optics": {"AccelerationVoltage": "200000"},
        "Scan": {"FrameTime": "0.5"},
    }
    string = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        file.create_dataset("Version", data=text({"format": "Velox", "version": "11"}), dtype=string)
        group = file.create_group("Data/Image/0123456789abcdef")
        frames = np.moveaxis(image, 0, -1)
        group.create_dataset("Data", data=frames, chunks=(*frames.shape[:2], 1), compression="gzip")
        raw = np.frombuffer(json.dumps(metadata).encode().ljust(4096, b"\0"), "u1")
        group.create_dataset("Metadata", data=np.repeat(raw[:, None], len(image), axis=1))
        if spectrum:
            file.create_group("Data/SpectrumImage/0123")
            data = {"dataPath": "/Data/Image/0123456789abcdef"}
            file.create_dataset("Reference", data=text(data), dtype=string)
            display = text({"data": "/Reference", "id": "HAADF"})
            file.create_dataset("Displays/ImageDisplay/abc", data=display, dtype=string)
    return path


def berkeley_file(path: Path, datasets: dict[str, np.ndarray], *, unit: str = "[n_m]", step: float = 0.25) -> Path:
    """Write an EMD file as Berkeley describes it; axes in the file are those of the array the other way round."""
    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        file.create_group("microscope").attrs.update({"voltage": 80.0, "name": "TEAM I"})
        for name, image in datasets.items():
            group = file.create_group(f"signals/{name}")
            group.attrs["emd_group_type"] = 1
            group.create_dataset("data", data=image.T)
            for number, axis in enumerate("xyz"[: image.ndim], start=1):
                dim = group.create_dataset(f"dim{number}", data=np.arange(image.T.shape[number - 1]) * step)
                dim.attrs["name"], dim.attrs["units"] = axis, unit
    return path


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image is a large one."""
    monkeypatch.setattr(read_formats, "LAZY_BYTES", 0)
    monkeypatch.setattr(axes, "LAZY_BYTES", 0)


MICROSCOPE = {
    "Microscope Info": {
        "Voltage": 200000.0,
        "Indicated Magnification": 5000.0,
        "Illumination Mode": "TEM",
        "Imaging Mode": "MAG1",
        "Name": "F20",
    },
    "DataBar": {"Acquisition Date": "2/14/2019", "Acquisition Time": "11:02:03 AM"},
    "Acquisition": {"Device": {"Name": "OneView"}},
    "Session Info": {"Microscope": "F20"},
}


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
def test_dm_of_any_number(tmp_path, version, dtype):
    image = (GREY.astype(float) - (100 if dtype[0] != "u" else 0)).astype(dtype)
    path = dm_file(tmp_path / f"a.dm{version}", dm_tree(image), version=version)
    micrograph = read(path)
    assert (micrograph.axes, micrograph.pixel_size_nm) == ("YX", (0.5, 0.5))
    assert (micrograph.vendor, micrograph.source) == ("Gatan", path)
    assert micrograph.pixels.dtype == dtype
    np.testing.assert_array_equal(micrograph.pixels, image)


def test_dm_tells_of_the_instrument(tmp_path):
    assert read(dm_file(tmp_path / "a.dm3", dm_tree(GREY, tags=MICROSCOPE))).metadata == {
        "instrument": "F20",
        "detector": "OneView",
        "voltage_kV": 200,
        "magnification": 5000,
        "date": "2019-02-14T11:02:03",
    }


@pytest.mark.parametrize(
    ("unit", "size"),
    [("nm", 0.5), ("µm", 500), ("um", 500), ("1/nm", None), ("mrad", None), ("", None), ("s", None), ("deg", None)],
)
def test_dm_units_that_are_no_lengths_give_no_pixel_size(tmp_path, unit, size):
    micrograph = read(dm_file(tmp_path / "a.dm3", dm_tree(GREY, unit=unit)))
    assert micrograph.pixel_size_nm == (None if size is None else (size, size))


def test_diffraction_has_no_pixel_size_whatever_its_unit(tmp_path):
    diffraction = {"Microscope Info": {**MICROSCOPE["Microscope Info"], "Imaging Mode": "DIFFRACTION"}}
    micrograph = read(dm_file(tmp_path / "a.dm3", dm_tree(GREY, tags=diffraction)))
    assert micrograph.pixel_size_nm is None
    assert "magnification" not in micrograph.metadata


def test_dm_stack_over_time(tmp_path):
    micrograph = read(dm_file(tmp_path / "a.dm4", dm_tree(STACK), version=4))
    assert micrograph.axes == "TYX"
    np.testing.assert_array_equal(micrograph.pixels, STACK)


def test_dm_in_colour(tmp_path):
    rgb = np.random.default_rng(1).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    micrograph = read(dm_file(tmp_path / "a.dm3", dm_tree(rgb, rgb=True)))
    assert micrograph.axes == "YXS"
    np.testing.assert_array_equal(micrograph.pixels, rgb)


def test_the_first_image_is_taken_and_the_others_are_named(tmp_path):
    fourier = dm_tree(GREY.astype(np.complex64), name="FFT")
    spectrum = dm_tree(GREY, name="EELS", unit="eV")
    path = dm_file(tmp_path / "a.dm3", spectrum, fourier, dm_tree(STACK, name="frames"), dm_tree(GREY, name="HAADF"))
    micrograph = read(path)
    assert micrograph.axes == "YX"
    assert micrograph.metadata["left_out"] == ["EELS (5 x 7, spectra)", "FFT (5 x 7, complex)", "frames (3 x 5 x 7)"]


def test_what_is_no_image_is_refused_by_what_it_is(tmp_path):
    path = dm_file(tmp_path / "a.dm3", dm_tree(GREY.astype(np.complex64), name="FFT"))
    with pytest.raises(InputError, match=r"holds no image of grey or colour, but FFT \(5 x 7, complex\); export one"):
        read(path)


@pytest.mark.usefixtures("lazy")
def test_large_files_stay_where_they_are(tmp_path):
    dm = read(dm_file(tmp_path / "a.dm4", dm_tree(STACK), version=4))
    velox = read(velox_file(tmp_path / "a.emd", STACK))
    berkeley = read(berkeley_file(tmp_path / "b.emd", {"a": STACK}))
    for micrograph in (dm, velox, berkeley):
        assert isinstance(micrograph.pixels, LazyPixels)
        np.testing.assert_array_equal(micrograph.pixels, STACK)
        np.testing.assert_array_equal(micrograph.pixels[1:, 4:1:-1, ::3], STACK[1:, 4:1:-1, ::3])
        np.testing.assert_array_equal(micrograph.plane(2)[0], STACK[2])


@pytest.mark.usefixtures("lazy")
def test_damage_that_shows_later_is_said_in_one_line_too(tmp_path):
    path = dm_file(tmp_path / "a.dm4", dm_tree(STACK), version=4)
    micrograph = read(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"a\.dm4: the DM3/DM4 file is damaged"):
        micrograph.plane(2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists what is open")
@pytest.mark.parametrize("write", [velox_file, lambda path, image: berkeley_file(path, {"a": image})])
def test_a_file_that_was_loaded_is_closed(tmp_path, write):
    path = write(tmp_path / "a.emd", STACK)
    read(path)
    opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert str(path.resolve()) not in opened


def test_ser(tmp_path):
    micrograph = read(ser_file(tmp_path / "a_1.ser", GREY[None].astype(np.float32)))
    assert (micrograph.axes, micrograph.pixel_size_nm) == ("YX", (2.0, 2.0))
    assert (micrograph.vendor, micrograph.metadata) == ("FEI/Thermo Fisher", {})
    np.testing.assert_array_equal(micrograph.pixels, GREY)
    stack = read(ser_file(tmp_path / "b_1.ser", STACK))
    assert stack.axes == "ZYX"
    np.testing.assert_array_equal(stack.pixels, STACK)


def test_ser_has_the_record_beside_it(tmp_path):
    path = ser_file(tmp_path / "a_1.ser", GREY[None])
    emi_file(tmp_path / "a.emi")
    micrograph = read(path)
    assert micrograph.pixel_size_nm == (2.0, 2.0)
    assert micrograph.metadata == {
        "instrument": "Titan 300 kV",
        "detector": "BM-Ceta",
        "voltage_kV": 300,
        "magnification": 115000,
        "date": "2016-11-16T15:01:54",
    }


@pytest.mark.parametrize(
    ("mode", "camera", "is_image"),
    [("TEM BF", True, True), ("TEM Diffraction", True, False), ("STEM nP", False, True), ("STEM nP", True, False)],
)
def test_the_record_tells_diffraction_from_images(tmp_path, mode, camera, is_image):
    path = ser_file(tmp_path / "a_1.ser", GREY[None])
    emi_file(tmp_path / "a.emi", mode, camera=camera)
    assert (read(path).pixel_size_nm is not None) is is_image


def test_a_record_of_other_images_or_with_entities_is_not_used(tmp_path):
    path = ser_file(tmp_path / "a_2.ser", GREY[None])
    emi_file(tmp_path / "a.emi")
    assert read(path).metadata == {}
    path = ser_file(tmp_path / "b.ser", GREY[None])
    text = b'<ObjectInfo><!ENTITY a "b"><AcquireDate>&a;</AcquireDate></ObjectInfo>'
    (tmp_path / "b.emi").write_bytes(text)
    assert read(path).metadata == {}


def test_velox(tmp_path):
    micrograph = read(velox_file(tmp_path / "a.emd", GREY[None]))
    assert (micrograph.axes, micrograph.pixel_size_nm) == ("YX", (0.15, 0.15))
    assert micrograph.vendor == "FEI/Thermo Fisher"
    assert micrograph.metadata.pop("date").startswith("2017-10-2")  # in the time zone of the machine
    assert micrograph.metadata == {
        "instrument": "Talos",
        "detector": "HAADF",
        "voltage_kV": 200,
        "magnification": 640000,
    }
    np.testing.assert_array_equal(micrograph.pixels, GREY)


def test_velox_frames_diffraction_and_images_beside_spectra(tmp_path):
    assert read(velox_file(tmp_path / "a.emd", STACK)).axes == "TYX"
    assert read(velox_file(tmp_path / "b.emd", GREY[None], unit="1/m", step=1e8)).pixel_size_nm is None
    assert read(velox_file(tmp_path / "c.emd", GREY[None], unit="")).pixel_size_nm is None
    np.testing.assert_array_equal(read(velox_file(tmp_path / "d.emd", GREY[None], spectrum=True)).pixels, GREY)


def test_berkeley(tmp_path):
    micrograph = read(berkeley_file(tmp_path / "a.emd", {"a": STACK, "ab": GREY}))
    assert (micrograph.axes, micrograph.pixel_size_nm, micrograph.vendor) == ("YX", (0.25, 0.25), None)
    assert micrograph.metadata == {"instrument": "TEAM I", "voltage_kV": 80, "left_out": ["a (3 x 5 x 7)"]}
    np.testing.assert_array_equal(micrograph.pixels, GREY)
    assert read(berkeley_file(tmp_path / "b.emd", {"a": STACK})).axes == "ZYX"
    assert read(berkeley_file(tmp_path / "c.emd", {"a": GREY}, unit="[n_m_^-1]")).pixel_size_nm is None


def test_the_content_counts_and_not_the_name(tmp_path):
    path = dm_file(tmp_path / "image.tif", dm_tree(GREY))
    np.testing.assert_array_equal(read(path).pixels, GREY)


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rsciio", None)
    for path in (dm_file(tmp_path / "a.dm3", dm_tree(GREY)), velox_file(tmp_path / "a.emd", GREY[None])):
        with pytest.raises(InputError, match=r'needs more packages .*; pip install "napari-matseg\[formats\]" brings'):
            read(path)


def test_the_library_is_as_talkative_afterwards_as_before(tmp_path):
    before = logging.getLogger("rsciio").level
    read(dm_file(tmp_path / "a.dm3", dm_tree(GREY)))
    assert logging.getLogger("rsciio").level == before


def refused(path: Path, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [3, 4])
def test_dm_that_is_cut_off_or_lies(tmp_path, version):
    path = dm_file(tmp_path / "a.dm", dm_tree(GREY), version=version)
    good = path.read_bytes()
    for end in (16, 40, 200, len(good) - 30):
        path.write_bytes(good[:end])
        refused(path, "damaged")
    path.write_bytes(good.replace(b"%%%%", b"%%!%"))
    refused(path, "a tag without its mark")
    word = ">q" if version == 4 else ">i"
    path.write_bytes(good.replace(struct.pack(word, GREY.size), struct.pack(word, 2**31 - 1)))
    refused(path, "truncated")
    path.write_bytes(good.replace(struct.pack(">i", 5) + struct.pack("<I", 7), struct.pack(">i", 5) + b"\0\0\0\x80"))
    refused(path, "2147483648 pixels that it does not hold")


def test_dm_that_would_take_for_ever(tmp_path, monkeypatch):
    nothing = dm_tree(GREY, tags={"Text": "abc"})
    path = dm_file(tmp_path / "a.dm3", nothing)
    good = path.read_bytes()
    text = struct.pack(">4i", 3, 20, 4, 3)  # as an array of 2**31 structures of nothing
    structures = struct.pack(">6i", 4, 20, 15, 0, 0, 2**31 - 1)
    assert good.count(text) == 1
    path.write_bytes(good.replace(text, structures))
    refused(path, "a structure of nothing")
    path.write_bytes(good)
    monkeypatch.setattr(format_checks, "MOST_VALUES", 10)
    refused(path, "too many tags")


def test_ser_that_is_cut_off_or_lies(tmp_path):
    path = ser_file(tmp_path / "a.ser", STACK)
    good = path.read_bytes()
    for end in (20, 30, 60, 100, len(good) - 40):
        path.write_bytes(good[:end])
        refused(path, "truncated|does not hold")
    path.write_bytes(good[:18] + struct.pack("<I", 2**31) + good[22:])
    refused(path, "2147483648 images")
    path.write_bytes(good.replace(struct.pack("<HII", 2, 7, 5), struct.pack("<HII", 2, 2**20, 2**20)))
    refused(path, "pixels that it does not hold")
    ser_file(path, STACK.astype(np.complex64))
    refused(path, "complex values are not supported")
    ser_file(path, STACK, kind=0x4120)
    refused(path, "holds spectra and no image")


def test_emd_that_is_cut_off_or_something_else(tmp_path):
    path = velox_file(tmp_path / "a.emd", GREY[None])
    path.write_bytes(path.read_bytes()[:2000])
    refused(path, "the EMD file is damaged")
    with h5py.File(path, "w") as file:
        file["data"] = GREY
    refused(path, "not a supported EMD file")


def test_emd_whose_records_go_round_in_circles(tmp_path, monkeypatch):
    monkeypatch.setattr(format_checks, "PROBE_SECONDS", 0.01)
    refused(velox_file(tmp_path / "a.emd", GREY[None]), "its records lead nowhere")


def test_emd_does_not_lead_to_other_files(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(100))
    with h5py.File(tmp_path / "external.emd", "w") as file:
        file.create_dataset("data", (5, 7), "u1", external=[(str(tmp_path / "secret"), 0, 35)])
    with h5py.File(tmp_path / "link.emd", "w") as file:
        file["data"] = h5py.ExternalLink("secret.h5", "/data")
    layout = h5py.VirtualLayout((5, 7), "u1")
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "data", (5, 7))
    with h5py.File(tmp_path / "virtual.emd", "w") as file:
        file.create_virtual_dataset("data", layout)
    for name in ("external", "link", "virtual"):
        refused(tmp_path / f"{name}.emd", "data is in another file, which is not opened")


def test_emd_that_claims_more_than_any_memory(tmp_path):
    with h5py.File(tmp_path / "a.emd", "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        group = file.create_group("signals/a")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", (2**20, 2**20), "f8", chunks=(64, 64))
        for number in (1, 2):
            group[f"dim{number}"] = [0.0, 1.0]
    refused(tmp_path / "a.emd", "claims 1048576 x 1048576 values in 268435456 chunks, more than a file of its length")


@pytest.mark.parametrize("kind", ["dm3", "dm4", "ser", "velox", "berkeley"])
def test_any_damage_ends_in_an_image_or_an_error(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(format_checks, "PROBE_SECONDS", 10)
    path = tmp_path / "a.ser"
    {
        "dm3": lambda: dm_file(path, dm_tree(STACK, tags=MICROSCOPE)),
        "dm4": lambda: dm_file(path, dm_tree(STACK, tags=MICROSCOPE), version=4),
        "ser": lambda: ser_file(path, STACK),
        "velox": lambda: velox_file(path, STACK),
        "berkeley": lambda: berkeley_file(path, {"a": STACK}),
    }[kind]()
    good = path.read_bytes()
    messages: list[str] = []
    random = np.random.default_rng(0)
    for _ in range(MUTANTS // 10 if kind in ("velox", "berkeley") else MUTANTS):  # EMD takes a process each
        bad = np.frombuffer(good, np.uint8).copy()
        where = random.integers(0, len(bad), random.integers(1, 8))
        bad[where] = random.choice([0, 1, 127, 128, 255, random.integers(256)], len(where))
        path.write_bytes(bad[: random.integers(1, len(bad)) if random.random() < 0.2 else None].tobytes())
        try:
            micrograph = read(path, find_bar=False)
            if np.prod(micrograph.pixels.shape) < 2**20:
                micrograph.plane(micrograph.n_planes - 1)
        except InputError as error:
            messages.append(str(error))
    assert messages
    assert not any("\n" in message for message in messages)

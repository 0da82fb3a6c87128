"""Smallest valid files of DigitalMicrograph, TIA, Velox and Berkeley's EMD, for tests."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np

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

"""Mutants of each kind of file: a good one, and what is done to it."""

from __future__ import annotations

import importlib.util
import io
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import fuzz_tiff
import fuzz_zarr
import numpy as np
from fuzz_bytes import damaged, json_damaged, patched, words
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

TESTS = Path(__file__).parents[1] / "tests" / "core"
GREY = np.random.default_rng(0).integers(0, 200, (24, 32)).astype(np.uint8)
STACK = np.stack([GREY, GREY + 1, GREY + 2])


@dataclass(frozen=True)
class Case:
    """A file to be read.

    Attributes
    ----------
    folder, path : Path
        Where it lies, and what is read.
    what : str
        What was done to it.
    rule : str
        "any" if it may be an error or an image, "error" or "image" if it has to be that.
    expected : array, optional
        What an image has to be, if it is one.
    """

    folder: Path
    path: Path
    what: str
    rule: Literal["any", "error", "image"] = "any"
    expected: np.ndarray | None = None


@dataclass(frozen=True)
class Kind:
    """How mutants are made: `make` writes files into a folder, and gives what `Case` has beside the folder."""

    name: str
    make: Callable[[Path, Random], tuple[Any, ...]]
    weight: float = 1.0


def make(kind: str, folder: Path, chance: Random) -> Case:
    """Write a mutant into an empty folder."""
    return Case(folder, *KINDS[kind].make(folder, chance))


def _png(folder: Path, chance: Random) -> tuple[Any, ...]:
    raw, what = _png_bytes(chance)
    return _written(folder / "image.png", raw), what


def _png_bytes(chance: Random) -> tuple[bytes, str]:
    """PNG with damage within its chunks, whose checksums are right all the same."""
    modes = ("L", "RGB", "P", "LA", "1", "I;16", "RGBA")
    raw = _picture("PNG", chance.choice(modes))
    chunks, at = [], 8
    while at < len(raw):
        length, name = struct.unpack_from(">I4s", raw, at)
        chunks.append((name, raw[at + 8 : at + 8 + length]))
        at += 12 + length
    what = chance.choice(("header", "data", "order", "bomb", "text", "bytes"))
    header = bytearray(chunks[0][1])
    if what == "header":
        at, size = chance.choice(((0, 4), (4, 4), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1)))
        header[at : at + size] = struct.pack(">I", chance.choice(words(len(raw))) % 2**32)[-size:]
        chunks[0] = (b"IHDR", bytes(header))
    elif what == "data":
        at = chance.randrange(len(chunks))
        chunks[at] = (chunks[at][0], damaged(chunks[at][1], chance))
    elif what == "order":
        chance.shuffle(chunks)
    elif what == "bomb":
        side = chance.choice((64, 4096, 30000, 2**31 - 1))
        struct.pack_into(">II", header, 0, side, side)
        chunks = [(b"IHDR", bytes(header)), (b"IDAT", fuzz_tiff.zeros("deflate", 2**26)), (b"IEND", b"")]
    elif what == "text":
        name = chance.choice((b"zTXt", b"iTXt", b"iCCP", b"eXIf"))
        start = b"a\0\1\0\0\0" if name == b"iTXt" else b"a\0\0"
        chunks.insert(1, (name, start + chance.choice((fuzz_tiff.zeros("deflate", 2**26), chance.randbytes(40)))))
    body = b"".join(
        struct.pack(">I", len(one)) + name + one + struct.pack(">I", zlib.crc32(name + one)) for name, one in chunks
    )
    return (damaged(raw, chance) if what == "bytes" else raw[:8] + body), what


def _jpeg(folder: Path, chance: Random) -> tuple[Any, ...]:
    raw = _picture("JPEG", chance.choice(("L", "RGB", "CMYK")), progressive=chance.random() < 0.5)
    what = chance.choice(("bytes", "size", "scans", "exif"))
    frame = max(raw.find(b"\xff\xc0"), raw.find(b"\xff\xc2"))
    if what == "size":
        sides = [chance.choice((0, 1, 65535, 30000)) for _ in range(2)]
        raw = patched(raw, frame + 5, struct.pack(">HH", *sides))
    elif what == "scans":
        scan = raw[raw.rfind(b"\xff\xda") : -2]
        raw = raw[:-2] + scan * 3000 + raw[-2:]
        raw = patched(raw, frame + 5, struct.pack(">HH", 4000, 4000)) if chance.random() < 0.5 else raw
    elif what == "exif":
        segment = b"Exif\0\0" + damaged(fuzz_tiff.plain(), chance)[:60000]
        raw = raw[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + raw[2:]
    else:
        raw = damaged(raw, chance)
    return _written(folder / "image.jpg", raw), what


def _bmp(folder: Path, chance: Random) -> tuple[Any, ...]:
    raw = _picture("BMP", chance.choice(("L", "RGB", "P", "1")))
    if chance.random() < 0.6:
        at, size = chance.choice(((10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4)))
        value = chance.choice(words(len(raw))) % 2 ** (8 * size)
        return _written(folder / "image.bmp", patched(raw, at, value.to_bytes(size, "little"))), f"header at {at}"
    return _written(folder / "image.bmp", damaged(raw, chance)), "bytes"


def _picture(kind: str, mode: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(GREY.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(GREY).convert(mode)
    image.save(file, kind, **options)
    return file.getvalue()


def _mrc(folder: Path, chance: Random) -> tuple[Any, ...]:
    kind = chance.choice(("i1", "i2", "u2", "f2", "f4"))
    path = _helper("test_read_mrc").mrc_file(folder / "a.mrc", STACK.astype(kind), order=chance.choice("<>"))
    return _damage(path, chance, 256)


def _dm(folder: Path, chance: Random) -> tuple[Any, ...]:
    formats = _helper("test_read_formats")
    tree = formats.dm_tree(STACK.astype("u2"), tags=formats.MICROSCOPE)
    return _damage(formats.dm_file(folder / "a.dm4", tree, version=chance.choice((3, 4))), chance)


def _ser(folder: Path, chance: Random) -> tuple[Any, ...]:
    formats = _helper("test_read_formats")
    path = formats.ser_file(folder / "a_1.ser", STACK.astype("u2"))
    emi = formats.emi_file(folder / "a.emi")
    if chance.random() < 0.3:
        hostile = chance.choice(fuzz_tiff.XML_TRICKS).replace("OME", "ObjectInfo")
        emi.write_bytes(damaged(emi.read_bytes(), chance) if chance.random() < 0.5 else hostile.encode())
        return path, "its EMI file", "image", STACK.astype("u2")
    return _damage(path, chance, 120)


def _emd(folder: Path, chance: Random) -> tuple[Any, ...]:
    formats = _helper("test_read_formats")
    if chance.random() < 0.5:
        return _damage(formats.velox_file(folder / "a.emd", STACK), chance)
    return _damage(formats.berkeley_file(folder / "a.emd", {"a": STACK}), chance)


def _damage(path: Path, chance: Random, head: int = 0) -> tuple[Any, ...]:
    path.write_bytes(damaged(path.read_bytes(), chance, head))
    return path, "bytes"


@cache
def _helper(name: str) -> Any:
    """Load a module of tests, which can write the smallest valid files of formats that only instruments write."""
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_SIDECARS = {
    "image.txt": (
        b"[SemImageFile]\r\nInstructName=SU8230\r\nPixelSize=9.92\r\nDataSize=32x20\r\n",
        b"$CM_FORMAT JEOL/SEM\n$CM_FULL_SIZE 32 20\n$$SM_MICRON_BAR 180\n$$SM_MICRON_MARKER 5um\n",
    ),
    "image.hdr": (b"[MAIN]\nDevice=MIRA\nPixelSizeX=4e-8\nPixelSizeY=4e-8\nImageStripSize=4\n[SEM]\nHV=15000\n",),
}


def _sidecar(folder: Path, chance: Random) -> tuple[Any, ...]:
    name = chance.choice(list(_SIDECARS))
    text = chance.choice(_SIDECARS[name])
    if chance.random() < 0.5:
        text = text.decode().encode("utf-16")
    text = damaged(text, chance) if chance.random() < 0.7 else text.replace(b"4", b"9" * 100_000)
    (folder / name).write_bytes(text)
    return _written(folder / "image.bmp", _picture("BMP", "L")), name, "image", GREY


def _any_bytes(folder: Path, chance: Random) -> tuple[Any, ...]:
    starts = (
        b"",
        b"II*\0",
        b"MM\0+",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"BM",
        b"\x89HDF\r\n\x1a\n",
        b"II\x97\x01",
    )
    raw = chance.choice((*starts, b"\0\0\0\3", b"\0\0\0\4")) + chance.randbytes(chance.randrange(3000))
    return _written(folder / chance.choice(("a.tif", "a.mrc", "a.png", "a")), raw), "noise"


def _store_json(folder: Path, chance: Random) -> tuple[Any, ...]:
    path = fuzz_zarr.write(folder, chance, GREY)
    one = chance.choice(sorted(name for name in path.rglob("*") if name.name.startswith((".z", "zarr"))))
    one.write_bytes(json_damaged(one.read_bytes(), chance))
    return path, f"{one.name} in {one.parent.name}"


def _store_hostile(folder: Path, chance: Random) -> tuple[Any, ...]:
    return fuzz_zarr.hostile(folder, chance, GREY)


def _written(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


KINDS = {
    "tiff-bytes": Kind("TIFF: any bytes", fuzz_tiff.any_bytes, 3),
    "tiff-tags": Kind("TIFF: tags", fuzz_tiff.tags, 3),
    "tiff-cut": Kind("TIFF: cut off", fuzz_tiff.cut),
    "tiff-size": Kind("TIFF: absurd dimensions", fuzz_tiff.dimensions, 2),
    "tiff-chain": Kind("TIFF: chains and circles of pages", fuzz_tiff.chains, 1.5),
    "tiff-bomb": Kind("TIFF: decompression bombs", fuzz_tiff.bombs, 1.5),
    "tiff-record": Kind("TIFF: records of instruments", fuzz_tiff.records, 2.5),
    "tiff-xml": Kind("TIFF: XML with entities, references, depth", fuzz_tiff.xml, 2),
    "zarr-json": Kind("OME-Zarr: metadata", _store_json, 2.5),
    "zarr-hostile": Kind("OME-Zarr: bombs, sizes, names that lead out", _store_hostile, 1.5),
    "png": Kind("PNG", _png, 2),
    "jpeg": Kind("JPEG", _jpeg, 1.5),
    "bmp": Kind("BMP", _bmp),
    "mrc": Kind("MRC", _mrc),
    "dm": Kind("DM3 and DM4", _dm, 1.5),
    "ser": Kind("SER and EMI", _ser),
    "emd": Kind("EMD", _emd, 0.5),
    "sidecar": Kind("text beside a picture", _sidecar),
    "noise": Kind("noise", _any_bytes, 0.5),
}

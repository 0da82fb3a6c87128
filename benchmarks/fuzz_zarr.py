"""Mutants of OME-Zarr, whose good ones are written here, as the library would start threads."""

from __future__ import annotations

import json
import os
from functools import cache
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
from fuzz_bytes import damaged

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

CHUNK = 16
CODECS = {
    "blosc": numcodecs.Blosc("zstd"),
    "zstd": numcodecs.Zstd(3),
    "gzip": numcodecs.GZip(5),
    "zlib": numcodecs.Zlib(5),
    "lz4": numcodecs.LZ4(),
    "bz2": numcodecs.BZ2(9),
    "lzma": numcodecs.LZMA(),
}
OUTSIDE = ("..", "../..", "/etc", "0/../../secret", "file:///etc", "http://127.0.0.1:9/a", "a\\..\\..", "C:\\x", "~")


def write(folder: Path, chance: Random, image: np.ndarray, codec: str | None = None) -> Path:
    """Write an image, with a smaller copy, as OME-Zarr 0.4 or 0.5."""
    path = folder / "a.zarr"
    is_new = chance.random() < 0.5
    codec = codec or chance.choice(["zstd", "gzip", "blosc"] if is_new else list(CODECS))
    is_new = is_new and codec in ("zstd", "gzip", "blosc")
    levels = [image, image[::2, ::2]]
    listed = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": [2.0**i] * 2}]} for i in range(2)
    ]
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "yx"]
    multiscales = [{"version": "0.4", "axes": axes, "datasets": listed}]
    for number, level in enumerate(levels):
        _array(path / str(number), level, codec, is_new)
    if is_new:
        group = {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": {"ome": {"version": "0.5", "multiscales": multiscales}},
        }
        _json(path / "zarr.json", group)
    else:
        _json(path / ".zgroup", {"zarr_format": 2})
        _json(path / ".zattrs", {"multiscales": multiscales})
    return path


def hostile(folder: Path, chance: Random, image: np.ndarray) -> tuple[Any, ...]:
    """Write a store that was made to do harm."""
    what = chance.choice(("chunk", "bomb", "bomb", "bombs in bombs", "shape", "chunk size", "name", "name", "link"))
    codec = chance.choice(list(CODECS))
    path = write(folder, chance, image, codec)
    chunks = sorted(one for one in path.rglob("*") if one.is_file() and not one.name.startswith((".z", "zarr")))
    chunk = chance.choice(chunks)
    if what == "chunk":
        chunk.write_bytes(damaged(chunk.read_bytes(), chance))
    elif what == "bomb":
        chunk.write_bytes(_zeros(codec))
    elif what == "bombs in bombs":
        _change(path, "compressor", {"id": codec})
        _change(path, "filters", [{"id": "zlib"}, {"id": "bz2"}])
        chunk.write_bytes(_zeros("zlib", "bz2", codec))
    elif what == "shape":
        _change(path, "shape", [chance.choice((0, 1, 2**20, 2**40, 2**63, -5)) for _ in range(2)])
    elif what == "chunk size":
        side = chance.choice((1, 20_000, 40_000, 2**31, 0, -1))
        _change(path, "chunks", [side, side])
        _change(path, "chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [side, side]}})
    elif what == "link":
        chunk.unlink()
        chunk.symlink_to(chance.choice(("/dev/zero", "/dev/tty", ".", chunk.name)))
        if chance.random() < 0.3:
            chunk.unlink()
            os.mkfifo(chunk)
    else:
        (folder / "secret").mkdir()
        _array(folder / "secret" / "0", image, "zlib", False)
        name = chance.choice(OUTSIDE)
        for one in (path / ".zattrs", path / "zarr.json"):
            if one.exists():
                one.write_text(one.read_text().replace('"path": "0"', f'"path": {json.dumps(name)}'), encoding="utf-8")
        return path, f"name {name}", "error"
    return path, f"{what}, {codec}"


@cache
def _zeros(*codecs: str) -> bytes:
    """64 MiB of zeros, compressed by one codec after the other."""
    raw = np.zeros(2**26, "u1")
    for codec in codecs:
        raw = np.frombuffer(bytes(CODECS[codec].encode(raw)), "u1")
    return raw.tobytes()


def _array(path: Path, image: np.ndarray, codec: str, is_new: bool) -> None:
    chunk = [CHUNK, CHUNK]
    metadata: dict[str, Any] = {"shape": list(image.shape), "fill_value": 0}
    if is_new:
        configuration = {"zstd": {"level": 3, "checksum": False}, "gzip": {"level": 5}}
        configuration["blosc"] = {"cname": "zstd", "clevel": 5, "shuffle": "shuffle", "typesize": 1, "blocksize": 0}
        codecs = [{"name": "bytes"}, {"name": codec, "configuration": configuration[codec]}]
        metadata |= {"zarr_format": 3, "node_type": "array", "data_type": "uint8", "attributes": {}, "codecs": codecs}
        metadata |= {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}}}
        metadata |= {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}}}
    else:
        metadata |= {"zarr_format": 2, "chunks": chunk, "dtype": "|u1", "order": "C", "filters": None}
        metadata |= {"compressor": CODECS[codec].get_config(), "dimension_separator": "/"}
    _json(path / ("zarr.json" if is_new else ".zarray"), metadata)
    for y in range(-(-image.shape[0] // CHUNK)):
        for x in range(-(-image.shape[1] // CHUNK)):
            part = np.zeros(chunk, np.uint8)
            values = image[y * CHUNK : (y + 1) * CHUNK, x * CHUNK : (x + 1) * CHUNK]
            part[: values.shape[0], : values.shape[1]] = values
            file = path / "c" / str(y) / str(x) if is_new else path / str(y) / str(x)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bytes(CODECS[codec].encode(part)))


def _change(path: Path, key: str, value: Any) -> None:
    """Change a key of the full resolution's metadata, if it has it."""
    for name in (".zarray", "zarr.json"):
        file = path / "0" / name
        if file.exists():
            metadata = json.loads(file.read_text())
            if key in metadata:
                _json(file, metadata | {key: value})


def _json(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")

"""The files of a Zarr store, which hold no more than they claim: no pipes or devices, no decompression bombs."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.abc.store import RangeByteRequest
from zarr.codecs import ShardingCodec
from zarr.storage import LocalStore

from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

COMPRESSORS = {"blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma"}
METADATA = (".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json")
DEFLATE = 1032
"""Bytes that a byte of gzip or zlib can become."""
PIECE = 2**20
MOST_CHUNKS, CHECKSUM = 2**20, 4
"""Chunks of a shard at most, and bytes of the checksum after its index."""
_ZSTD, _SIZES = b"\x28\xb5\x2f\xfd", (0, 2, 4, 8)
_STREAMS: dict[str, Any] = {
    "bz2": bz2.BZ2Decompressor,
    "lzma": lzma.LZMADecompressor,
    "gzip": lambda: zlib.decompressobj(47),
    "zlib": lambda: zlib.decompressobj(47),
}


@dataclass(frozen=True)
class Shards:
    """Where the chunks in a shard lie: its index says it, of which each entry is a place and a length, 8 bytes each.

    Attributes
    ----------
    n_chunks : int
        Chunks of a shard.
    at_start : bool
        Whether the index comes first, not last.
    checksum : int
        Bytes after the index.
    """

    n_chunks: int
    at_start: bool
    checksum: int

    @classmethod
    def of(cls, array: Any, path: Path) -> Shards | None:
        """Take what a Zarr array says; None where it has no shards. Errors name the path.

        Raises
        ------
        InputError
            If its shards are of a kind that cannot be looked at before they are decoded.
        """
        codecs: tuple[Any, ...] = getattr(array.metadata, "codecs", ())
        if not any(isinstance(codec, ShardingCodec) for codec in codecs):
            return None
        only = codecs[0]
        index = [type(codec).__name__ for codec in getattr(only, "index_codecs", ())]
        nested = any(isinstance(codec, ShardingCodec) for codec in getattr(only, "codecs", ()))
        if len(codecs) > 1 or nested or index not in (["BytesCodec", "Crc32cCodec"], ["BytesCodec"]):
            raise InputError(f"{path}: shards of this kind are not read; save it without shards.")
        n_chunks = prod(whole // part for whole, part in zip(array.shards, array.chunks, strict=True))
        if n_chunks > MOST_CHUNKS:
            raise InputError(f"{path}: has {n_chunks} chunks in a shard; save it with smaller shards.")
        return cls(n_chunks, only.index_location.value == "start", CHECKSUM * (len(index) - 1))

    def chunks(self, raw: bytes, byte_range: Any) -> list[bytes]:
        """Find the chunks in what was read of a shard."""
        if byte_range is not None:
            of_chunk = isinstance(byte_range, RangeByteRequest) and not (self.at_start and byte_range.start == 0)
            return [raw] if of_chunk else []
        size = 16 * self.n_chunks
        if len(raw) < size + self.checksum:
            return []  # of which the decoder will tell
        index = raw[:size] if self.at_start else raw[len(raw) - size - self.checksum :][:size]
        places = np.frombuffer(index, "<u8").reshape(-1, 2)
        present = places[places[:, 0] < len(raw)].tolist()
        return [raw[place : place + length] for place, length in present]


class BoundedStore(LocalStore):
    """Store whose chunks are looked at before they are decoded.

    Parameters
    ----------
    root : Path
        Of an array.
    compressor : str or None
        What its chunks are compressed by; None if they are not.
    most : int
        Bytes that a chunk may become.
    shards : Shards, optional
        If the chunks lie in shards.
    """

    def __init__(self, root: Path, compressor: str | None, most: int, shards: Shards | None = None) -> None:
        super().__init__(root, read_only=True)
        self._compressor = compressor
        self._most = most
        self._shards = shards

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """Read a file of the store.

        Raises
        ------
        InputError
            If it is no regular file, or a chunk that becomes more than there is room for.
        """
        path = self.root / key
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{path}: is not a regular file; copy the store again from its source.")
        found = await super().get(key, prototype, byte_range)
        if found is not None and self._compressor and not key.endswith(METADATA):
            raw = found.to_bytes()
            for chunk in [raw] if self._shards is None else self._shards.chunks(raw, byte_range):
                if decoded_bytes(chunk, self._compressor, self._most) > self._most:
                    raise InputError(
                        f"{path}: a chunk of {len(chunk)} bytes becomes more than its store says; copy it again."
                    )
        return found


def decoded_bytes(raw: bytes, compressor: str, most: int) -> int:
    """How many bytes a chunk becomes, as it says itself or as counting shows; 0 where its own decoder has to tell.

    Parameters
    ----------
    raw : bytes
        The chunk.
    compressor : str
        One of `COMPRESSORS`.
    most : int
        Where counting may stop.
    """
    if compressor == "blosc":
        return int(struct.unpack_from("<I", raw, 4)[0]) if len(raw) >= 16 else 0
    if compressor == "lz4":
        return int(struct.unpack_from("<I", raw)[0]) if len(raw) >= 4 else 0
    if compressor == "zstd":
        size = _zstd_bytes(raw)
        return _zstd_counted(raw, most) if size is None else size
    if compressor in ("gzip", "zlib") and len(raw) * DEFLATE <= most:
        return 0
    return _counted(raw, compressor, most)


def _counted(raw: bytes, compressor: str, most: int) -> int:
    """Decode piece by piece, and keep none."""
    count = 0
    try:
        while raw and count <= most:
            stream = _STREAMS[compressor]()
            piece = stream.decompress(raw, PIECE)
            while piece and count <= most:
                count += len(piece)
                piece = b"" if stream.eof else stream.decompress(getattr(stream, "unconsumed_tail", b""), PIECE)
            raw = stream.unused_data
    except (EOFError, OSError, lzma.LZMAError, zlib.error):  # of which the decoder will tell
        pass
    return count


def _zstd_bytes(raw: bytes) -> int | None:
    """Read what the head of a Zstandard frame says (RFC 8878); None if it says nothing."""
    if raw[:4] != _ZSTD or len(raw) < 18:
        return 0 if raw[:4] != _ZSTD else None
    descriptor = raw[4]
    is_single = bool(descriptor & 32)
    size = _SIZES[descriptor >> 6] or int(is_single)
    at = 5 + (not is_single) + (0, 1, 2, 4)[descriptor & 3]
    return int.from_bytes(raw[at : at + size], "little") + (256 if size == 2 else 0) if size else None


def _zstd_counted(raw: bytes, most: int) -> int:
    import imagecodecs

    try:
        return len(imagecodecs.zstd_decode(raw, out=most))
    except Exception:  # noqa: BLE001  # more than there is room for, or damaged: both end here
        return most + 1

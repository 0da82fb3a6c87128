from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import zlib
from pathlib import Path

import imagecodecs
import numcodecs
import numpy as np
import pytest
import zarr

from napari_matseg.core.read import read
from napari_matseg.core.zarr_store import decoded_bytes
from napari_matseg.errors import InputError

GREY = np.random.default_rng(0).integers(0, 99, (40, 50)).astype(np.uint8)
CODECS = {
    "blosc": numcodecs.Blosc("zstd"),
    "zstd": numcodecs.Zstd(3),
    "gzip": numcodecs.GZip(5),
    "zlib": numcodecs.Zlib(5),
    "lz4": numcodecs.LZ4(),
    "bz2": numcodecs.BZ2(9),
    "lzma": numcodecs.LZMA(),
}


def store(path: Path, codec: str) -> Path:
    array = zarr.create_array(
        path, shape=GREY.shape, chunks=GREY.shape, dtype="u1", zarr_format=2, compressors=CODECS[codec]
    )
    array[...] = GREY
    return path


@pytest.mark.parametrize("codec", CODECS)
def test_chunks_are_what_they_were(tmp_path, codec):
    np.testing.assert_array_equal(read(store(tmp_path / "a.zarr", codec)).pixels, GREY)


@pytest.mark.parametrize("codec", sorted(set(CODECS) - {"gzip", "zlib"}))
def test_a_chunk_that_becomes_more_than_its_store_says_is_refused(tmp_path, codec):
    path = store(tmp_path / "a.zarr", codec)
    (path / "0.0").write_bytes(bytes(CODECS[codec].encode(np.zeros(10**6, "u1"))))
    with pytest.raises(InputError, match=r"0\.0: a chunk of \d+ bytes becomes more than its store says; copy it again"):
        read(path)


@pytest.mark.parametrize(
    ("codec", "encode"),
    [("gzip", gzip.compress), ("zlib", zlib.compress), ("bz2", bz2.compress), ("lzma", lzma.compress)],
)
def test_streams_are_counted_and_one_after_the_other(codec, encode):
    one = encode(bytes(3 * 10**6))
    assert decoded_bytes(one, codec, 10**5) > 10**5
    assert decoded_bytes(encode(bytes(10**6)) * 4, codec, 3 * 10**6) > 3 * 10**6
    assert decoded_bytes(b"\1\2\3" + one, codec, 100) == 0
    assert decoded_bytes(b"", codec, 100) == 0


@pytest.mark.parametrize("length", [0, 1, 200, 255, 256, 300, 65791, 65792, 10**6])
def test_zstandard_says_how_much_it_becomes(length):
    assert decoded_bytes(imagecodecs.zstd_encode(bytes(length)), "zstd", 10) in (length, 11 if length > 10 else length)


def test_two_compressors_in_a_row_are_refused(tmp_path):
    path = store(tmp_path / "a.zarr", "zstd")
    metadata = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(metadata | {"filters": [{"id": "bz2", "level": 1}]}))
    with pytest.raises(InputError, match="chunks coded by bz2 and zstd are not decoded; convert the store"):
        read(path)


@pytest.mark.skipif(os.name == "nt", reason="no pipes")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_chunk_that_is_no_file_is_refused(tmp_path, kind):
    path = store(tmp_path / "a.zarr", "zstd")
    (path / "0.0").unlink()
    if kind == "pipe":
        os.mkfifo(path / "0.0")
    else:
        (path / "0.0").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"0\.0: is not a regular file; copy the store again"):
        read(path)

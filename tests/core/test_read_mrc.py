from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from napari_matseg.core import axes
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.read import read
from napari_matseg.errors import InputError

GREY = np.random.default_rng(0).integers(0, 100, (5, 7))
STACK = np.stack([GREY, GREY + 1, GREY + 2])
MODES = {"i1": 0, "u1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12, "c8": 4}


def mrc_file(
    path: Path,
    image: np.ndarray,
    *,
    order: str = "<",
    step: float = 4.0,
    statistics: tuple[float, float] = (0, 0),
    version: int = 20140,
    extended: bytes = b"",
    mark: bytes = b"MAP ",
    mode: int | None = None,
) -> Path:
    """Write an MRC file; `step` is in angstroms."""
    depth, height, width = image.shape if image.ndim == 3 else (1, *image.shape)
    header = bytearray(1024)
    mode = MODES[image.dtype.str[1:]] if mode is None else mode
    struct.pack_into(f"{order}4i", header, 0, width, height, depth, mode)
    struct.pack_into(f"{order}3i", header, 28, width, height, depth)
    struct.pack_into(f"{order}3f", header, 40, width * step, height * step, depth * step)
    struct.pack_into(f"{order}2f", header, 76, *statistics)
    struct.pack_into(f"{order}i", header, 92, len(extended))
    struct.pack_into(f"{order}i", header, 108, version)
    header[208:212] = mark
    header[212:214] = b"\x44\x44" if order == "<" else b"\x11\x11"
    header[224:231] = b"a title"
    path.write_bytes(bytes(header) + extended + image.astype(image.dtype.newbyteorder(order)).tobytes())
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f2", "f4"])
def test_any_number(tmp_path, order, dtype):
    path = mrc_file(tmp_path / "a.mrc", GREY.astype(dtype), order=order)
    micrograph = read(path)
    assert (micrograph.axes, micrograph.pixel_size_nm, micrograph.source) == ("YX", (0.4, 0.4), path)
    assert micrograph.metadata == {"title": "a title"}
    assert micrograph.pixels.dtype == ("f4" if dtype == "f2" else dtype)
    np.testing.assert_array_equal(micrograph.pixels, GREY)


@pytest.mark.parametrize("limit", [0, 2**20])
def test_a_stack(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(axes, "LAZY_BYTES", limit)
    micrograph = read(mrc_file(tmp_path / "a.mrc", STACK.astype("f4")))
    assert isinstance(micrograph.pixels, LazyPixels) is (limit == 0)
    assert micrograph.axes == "ZYX"
    np.testing.assert_array_equal(micrograph.pixels, STACK)


@pytest.mark.parametrize(
    ("statistics", "version", "value"),
    [((0, 200), 20140, 200), ((-56, 3), 0, -56), ((0, 0), 20140, -56), ((0, 0), 0, 200)],
)
def test_bytes_are_signed_by_their_statistics_or_else_by_the_version(tmp_path, statistics, version, value):
    image = np.full((5, 7), 200, "u1")
    assert read(mrc_file(tmp_path / "a.mrc", image, statistics=statistics, version=version)).pixels[0, 0] == value


def test_imod_says_whether_bytes_are_signed(tmp_path):
    path = mrc_file(tmp_path / "a.mrc", np.full((5, 7), 200, "u1"))
    raw = bytearray(path.read_bytes())
    for flags, value in ((0, 200), (1, -56)):
        struct.pack_into("<2i", raw, 152, 1146047817, flags)
        path.write_bytes(raw)
        assert read(path).pixels[0, 0] == value


@pytest.mark.parametrize("step", [0.0, 1.0, -3.0, float("nan"), float("inf")])
def test_a_pixel_size_that_says_nothing_is_unknown(tmp_path, step):
    assert read(mrc_file(tmp_path / "a.mrc", GREY.astype("i2"), step=step)).pixel_size_nm is None


def test_fei_keeps_the_pixel_size_in_a_header_of_its_own(tmp_path):
    extended = bytearray(128 * 1024)
    struct.pack_into("<2f", extended, 44, 2.5e-9, 5000)
    micrograph = read(mrc_file(tmp_path / "a.mrc", GREY.astype("i2"), step=0, extended=bytes(extended)))
    assert micrograph.pixel_size_nm == (2.5, 2.5)
    assert micrograph.vendor == "FEI/Thermo Fisher"
    assert micrograph.metadata["magnification"] == 5000
    np.testing.assert_array_equal(micrograph.pixels, GREY)


def test_files_without_a_mark_go_by_their_name(tmp_path):
    path = mrc_file(tmp_path / "a.st", GREY.astype("i2"), mark=bytes(4))
    np.testing.assert_array_equal(read(path).pixels, GREY)
    with pytest.raises(InputError, match="is not an image that can be read"):
        read(path.rename(tmp_path / "a.dat"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"mode": 3}, "complex values are not supported"),
        ({"mode": 4}, "complex values are not supported"),
        ({"mode": 101}, "samples of 4 bits are not supported"),
        ({"mode": 77}, "header makes no sense"),
        ({"mode": 2}, r"claims 7 x 5 x 1 pixels, but has \d+ bytes; copy it again"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, change, problem):
    path = mrc_file(tmp_path / "a.mrc", GREY.astype("i2"), **change)
    with pytest.raises(InputError, match=problem) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_any_damage_ends_in_an_image_or_an_error(tmp_path):
    path = mrc_file(tmp_path / "a.mrc", STACK.astype("i2"))
    good = path.read_bytes()
    random = np.random.default_rng(0)
    messages = []
    for _ in range(300):
        bad = np.frombuffer(good, np.uint8).copy()
        where = random.integers(0, 256, random.integers(1, 6))
        bad[where] = random.integers(0, 256, len(where))
        path.write_bytes(bad[: random.integers(1, len(bad)) if random.random() < 0.2 else None].tobytes())
        try:
            read(path, find_bar=False).plane()
        except InputError as error:
            messages.append(str(error))
    assert messages
    assert not any("\n" in message for message in messages)

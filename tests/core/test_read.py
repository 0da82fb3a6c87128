from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_matseg.core import read as module
from napari_matseg.core.read import read
from napari_matseg.errors import InputError

GREY = np.random.default_rng(0).integers(0, 255, (31, 47), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 255, (31, 47, 3), dtype=np.uint8)


def png(width: int, height: int, depth: int = 8, kind: int = 0, data: bytes = b"") -> bytes:
    """A PNG that claims a size and holds `data`."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
def test_pictures_come_back_as_they_are(tmp_path, suffix, image):
    path = tmp_path / f"image{suffix}"
    Image.fromarray(image).save(path)
    micrograph = read(path)
    np.testing.assert_array_equal(micrograph.pixels, image)
    assert micrograph.axes == ("YX" if image.ndim == 2 else "YXS")
    assert micrograph.source == path
    assert micrograph.pixel_size_nm is None
    assert micrograph.vendor is None


def test_a_path_may_be_a_string(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "image.png")
    assert read(str(tmp_path / "image.png")).shape_yx == (31, 47)


def test_jpeg(tmp_path):
    smooth = np.add.outer(np.arange(64), np.arange(80)).astype(np.uint8)
    for image in (smooth, np.stack([smooth] * 3, axis=-1)):
        Image.fromarray(image).save(tmp_path / "image.jpg", quality=95)
        micrograph = read(tmp_path / "image.jpg")
        assert micrograph.axes == "YX"
        assert np.abs(micrograph.pixels.astype(int) - smooth).max() < 8


def test_the_content_counts_and_not_the_name(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "image.tif", format="PNG")
    tifffile.imwrite(tmp_path / "image.png", GREY)
    for name in ("image.tif", "image.png"):
        np.testing.assert_array_equal(read(tmp_path / name).pixels, GREY)


@pytest.mark.parametrize(
    ("mode", "image"),
    [
        ("RGB", np.stack([GREY] * 3, axis=-1)),
        ("RGBA", np.stack([GREY, GREY, GREY, np.full_like(GREY, 255)], axis=-1)),
        ("LA", np.stack([GREY, np.full_like(GREY, 255)], axis=-1)),
        ("LA", np.stack([GREY, GREY], axis=-1)),
    ],
    ids=["equal channels", "opaque alpha", "grey and opaque alpha", "grey and alpha"],
)
def test_grey_stays_grey(tmp_path, mode, image):
    Image.fromarray(image, mode).save(tmp_path / "image.png")
    micrograph = read(tmp_path / "image.png")
    assert micrograph.axes == "YX"
    np.testing.assert_array_equal(micrograph.pixels, GREY)


def test_an_alpha_goes_and_the_colours_stay(tmp_path):
    rgba = np.concatenate([COLOUR, GREY[..., None]], axis=-1)
    Image.fromarray(rgba, "RGBA").save(tmp_path / "image.png")
    np.testing.assert_array_equal(read(tmp_path / "image.png").pixels, COLOUR)


def test_a_grey_palette_is_grey_and_a_colour_map_is_colour(tmp_path):
    image = Image.fromarray(GREY).convert("P")
    image.putpalette([255 - value // 3 for value in range(768)])
    image.save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read(tmp_path / "grey.png").pixels, 255 - GREY)
    image.putpalette([level for value in range(256) for level in (value, 0, 255 - value)])
    image.save(tmp_path / "colour.png")
    micrograph = read(tmp_path / "colour.png")
    assert micrograph.axes == "YXS"
    np.testing.assert_array_equal(micrograph.pixels[..., 0], GREY)
    np.testing.assert_array_equal(micrograph.pixels[..., 2], 255 - GREY)


def test_one_bit_is_0_and_1(tmp_path):
    Image.fromarray(GREY > 100).save(tmp_path / "mask.png")
    mask = read(tmp_path / "mask.png").pixels
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, GREY > 100)


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_png_keeps_16_bits(tmp_path, samples):
    deep = np.random.default_rng(2).integers(0, 65535, (9, 11, samples), dtype=np.uint16)
    (tmp_path / "image.png").write_bytes(imagecodecs.png_encode(deep[..., 0] if samples == 1 else deep))
    pixels = read(tmp_path / "image.png").pixels
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, deep[..., :3] if samples > 2 else deep[..., 0])


def test_a_picture_has_the_record_beside_it(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "image.png")
    (tmp_path / "image.txt").write_text("[SemImageFile]\nPixelSize=24.8\nDataSize=47x25\n")
    micrograph = read(tmp_path / "image.png")
    assert micrograph.pixel_size_nm == (24.8, 24.8)
    assert micrograph.data_bar == (25, 31)
    assert micrograph.vendor == "Hitachi"


def broken(folder: Path, name: str) -> Path:
    """A file that is broken in the way that its name says."""
    path = folder / name
    Image.fromarray(GREY).save(folder / "good.png")
    good = (folder / "good.png").read_bytes()
    Image.fromarray(COLOUR).save(folder / "good.jpg", quality=95)
    Image.fromarray(COLOUR).save(folder / "good.bmp")
    contents = {
        "empty": b"",
        "text": b"a text, and no image at all",
        "short": b"II",
        "truncated.png": good[: len(good) // 2],
        "damaged.png": good.replace(b"IDAT", b"IDAX"),
        "truncated.jpg": (folder / "good.jpg").read_bytes()[:900],
        "truncated.bmp": (folder / "good.bmp").read_bytes()[:900],
        "header only.png": good[:20],
        "bomb.png": png(60000, 60000, data=b"\0" * 100_000),
        "false.png": png(2**31 - 1, 2**31 - 1),
        "empty.png": png(0, 5),
    }
    if name == "folder":
        path.mkdir()
    elif name == "pipe":
        os.mkfifo(path)
    elif name == "cmyk.jpg":
        Image.fromarray(COLOUR).convert("CMYK").save(path)
    elif name in contents:
        path.write_bytes(contents[name])
    return path


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing.tif", "there is no such file; check the path"),
        ("folder", "is a folder; name an image file"),
        ("empty", "is empty"),
        ("text", "is not an image that can be read; convert it"),
        ("short", "is not an image that can be read"),
        ("truncated.png", "damaged .*truncated.*; copy it again"),
        ("damaged.png", "damaged"),
        ("truncated.jpg", "damaged .*truncated"),
        ("truncated.bmp", "damaged .*truncated"),
        ("header only.png", "damaged"),
        ("bomb.png", "claims 60000 x 60000 pixels, more than a file of its length can hold"),
        ("false.png", "claims 2147483647 x 2147483647"),
        ("empty.png", "damaged|no pixels"),
        ("cmyk.jpg", "colours of the kind CMYK are not supported; save the image as grey or RGB"),
        ("nul\0.tif", "cannot be read"),
        pytest.param("pipe", "not a regular file", marks=pytest.mark.skipif(os.name == "nt", reason="no pipes")),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, name, problem):
    path = broken(tmp_path, name)
    with pytest.raises(InputError, match=problem) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ".replace("\0", "\\x00"))
    assert message.isprintable()


def test_permission_is_named(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "image.tif").write_bytes(b"II*\0")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match="may not be read; ask for the permission"):
        read(tmp_path / "image.tif")


def test_a_picture_too_large_to_be_decoded_as_a_whole_is_refused(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "image.png")
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match=r"47 x 31 pixels are too many.*save it as a tiled TIFF"):
        read(tmp_path / "image.png")


def test_a_jpeg_of_endless_scans_is_refused(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "image.jpg", progressive=True)
    raw = (tmp_path / "image.jpg").read_bytes()
    scan = raw[raw.rfind(b"\xff\xda") : -2]
    (tmp_path / "image.jpg").write_bytes(raw[:-2] + scan * 1001 + raw[-2:])
    with pytest.raises(InputError, match="has more than 1000 scans of one image; save it again as PNG or TIFF"):
        read(tmp_path / "image.jpg")


def test_memory_that_ends_is_named(tmp_path, monkeypatch):
    def fail(path, start):
        raise MemoryError

    Image.fromarray(GREY).save(tmp_path / "image.png")
    monkeypatch.setattr(module, "_decode", fail)
    with pytest.raises(InputError, match="does not fit into the memory"):
        read(tmp_path / "image.png")

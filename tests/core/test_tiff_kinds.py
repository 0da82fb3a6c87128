"""Kinds of TIFF that few programs write, value for value; those that tifffile does not write are put together here."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_matseg.core import read_tiff
from napari_matseg.core.read import read
from napari_matseg.errors import InputError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 255, (61, 83), dtype=np.uint8)
COLOUR = RNG.integers(0, 255, (61, 83, 3), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(64), 2 * np.arange(80)).astype(np.uint8)


@pytest.fixture(params=["loaded", "lazy"], autouse=True)
def place(request, monkeypatch):
    """Read each file both ways: into memory, and left where it is."""
    if request.param == "lazy":
        monkeypatch.setattr(read_tiff, "LAZY_BYTES", 0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image.tif"


def check(path: Path, image: np.ndarray, axes: str = "YX") -> None:
    micrograph = read(path, find_bar=False)
    assert (micrograph.axes, micrograph.pixels.shape) == (axes, image.shape)
    assert micrograph.pixels.dtype == image.dtype
    np.testing.assert_array_equal(np.asarray(micrograph.pixels), image)


def write(path: Path, data: bytes, shape: tuple[int, int], bits: int, **more: Any) -> None:
    """Write a classic TIFF of one grey strip; `more` are tags by name, such as FillOrder=2."""
    numbers = {256: shape[1], 257: shape[0], 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: shape[0], 279: len(data)}
    numbers |= {tifffile.TIFF.TAGS[name]: value for name, value in more.items()}
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in sorted(numbers.items()))
    path.write_bytes(
        b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(numbers)) + entries + bytes(4)
    )


@pytest.mark.parametrize("bits", [2, 4, 6, 10, 12, 14])
@pytest.mark.parametrize("inverted", [False, True])
def test_packed_bits(path, bits, inverted):
    dtype = np.uint8 if bits <= 8 else np.uint16
    image = RNG.integers(0, 2**bits, (31, 57)).astype(dtype)
    data = imagecodecs.packints_encode(image, bits, runlen=57)
    write(path, bytes(data), image.shape, bits, PhotometricInterpretation=0 if inverted else 1)
    check(path, (2**bits - 1) - image if inverted else image)


@pytest.mark.parametrize("bits", [1, 8])
def test_the_other_order_of_bits(path, bits):
    image = GREY if bits == 8 else (GREY > 100).astype(np.uint8)
    raw = image.tobytes() if bits == 8 else np.packbits(image, axis=1).tobytes()
    write(path, bytes(imagecodecs.bitorder_encode(raw)), image.shape, bits, FillOrder=2)
    check(path, image)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
@pytest.mark.parametrize("compression", ["lzw", "zstd"])
@pytest.mark.parametrize("blocks", [{"tile": (16, 32)}, {"rowsperstrip": 7}])
@pytest.mark.parametrize("colour", [False, True])
def test_predictors(path, dtype, compression, blocks, colour):
    image = (COLOUR if colour else GREY).astype(dtype)
    options: dict[str, Any] = {"photometric": "rgb" if colour else "minisblack"}
    tifffile.imwrite(path, image, compression=compression, predictor=True, **options, **blocks)
    check(path, image, "YXS" if colour else "YX")


def test_not_a_number_survives_a_predictor(path):
    image = np.array([[np.nan, np.inf, -np.inf, -0.0], [1e-45, 3e38, 0, np.nan]], np.float32)
    tifffile.imwrite(path, image, compression="deflate", predictor=True)
    check(path, image)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"compression": "zstd", "rowsperstrip": 9}])
def test_channels_stored_apart_with_alpha(path, options, alpha):
    image = np.dstack([COLOUR, GREY]) if alpha else COLOUR
    extra = {"extrasamples": ["unassalpha"]} if alpha else {}
    tifffile.imwrite(path, np.moveaxis(image, -1, 0), photometric="rgb", planarconfig="separate", **extra, **options)
    check(path, COLOUR, "YXS")


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_colour_of_8_and_16_bits_and_tiles_that_stick_out(path, dtype):
    image = COLOUR.astype(dtype) * (1 if dtype == "u1" else 257)
    tifffile.imwrite(path, image, photometric="rgb", tile=(48, 48), compression="lzw")
    check(path, image, "YXS")


@pytest.mark.parametrize("options", [{}, {"subsampling": (2, 2)}, {"subsampling": (1, 1)}])
def test_jpeg_in_colour(path, options):
    image = np.stack([SMOOTH, SMOOTH[::-1], 255 - SMOOTH], axis=-1)
    coding = {"compression": "jpeg", "compressionargs": {"level": 95}, "photometric": "rgb"}
    tifffile.imwrite(path, image, tile=(32, 32), **coding, **options)
    micrograph = read(path, find_bar=False)
    assert micrograph.axes == "YXS"
    assert np.abs(np.asarray(micrograph.pixels).astype(int) - image).mean() < 3


def test_luminance_and_colour_differences_are_not_taken_for_red_green_and_blue(path):
    tifffile.imwrite(path, COLOUR, photometric="rgb")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags["PhotometricInterpretation"].overwrite(6)
    with pytest.raises(InputError, match="colours of the kind YCBCR are not supported; save the image as grey or RGB"):
        read(path)


@pytest.mark.parametrize("dtype", ["i1", "i2", "f4"])
def test_the_smallest_value_is_white(path, dtype):
    image = (GREY.astype(np.int16) - 128).astype(dtype)
    tifffile.imwrite(path, image, photometric="miniswhite")
    check(path, ~image if dtype[0] == "i" else -image)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (2, 0, 5)])
def test_an_image_of_no_size_is_refused(path, shape):
    with pytest.warns(UserWarning, match="zero-size"):
        tifffile.imwrite(path, np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match=r"holds no pixels|holds no image|damaged|claims"):
        read(path)


def test_a_stack_over_several_files_is_read_file_by_file(tmp_path):
    stack = np.stack([GREY, GREY // 2, GREY // 3])
    names = [f"s_Z{number}.ome.tif" for number in range(3)]
    ids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{number}" for number in range(3)]
    data = "".join(
        f'<TiffData FirstZ="{number}" IFD="0" PlaneCount="1"><UUID FileName="{name}">{uuid}</UUID></TiffData>'
        for number, (name, uuid) in enumerate(zip(names, ids, strict=True))
    )
    for name, uuid, plane in zip(names, ids, stack, strict=True):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuid}"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="83" SizeY="61" SizeZ="3" SizeC="1" '
            f'SizeT="1" PhysicalSizeX="2" PhysicalSizeY="2" PhysicalSizeXUnit="nm" PhysicalSizeYUnit="nm">{data}'
            "</Pixels></Image></OME>"
        )
        tifffile.imwrite(tmp_path / name, plane, description=xml, metadata=None)
    for name, plane in zip(names, stack, strict=True):
        check(tmp_path / name, plane)
        assert read(tmp_path / name).pixel_size_nm == (2, 2)


@pytest.mark.parametrize("coding", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "group3", "group4", None])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16", "F"])
def test_what_another_library_writes(path, mode, coding):
    if coding in ("group3", "group4") and mode != "1":
        return
    values = {"I;16": GREY.astype(np.uint16) * 200, "F": GREY.astype(np.float32) / 3}.get(mode, GREY)
    picture = Image.fromarray(values if mode in ("I;16", "F") else COLOUR if mode == "RGB" else GREY)
    picture = picture if picture.mode == mode else picture.convert(mode)
    picture.save(path, compression=coding)
    expected = {"1": np.asarray(picture).astype(np.uint8), "RGB": COLOUR}.get(mode, values)
    check(path, expected, "YXS" if mode == "RGB" else "YX")

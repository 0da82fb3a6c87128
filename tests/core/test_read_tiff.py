from __future__ import annotations

import io
import logging
import random
import struct
import threading
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_matseg.core import read_tiff, tiff_planes
from napari_matseg.core.read import read
from napari_matseg.errors import InputError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 255, (61, 83), dtype=np.uint8)
COLOUR = RNG.integers(0, 255, (61, 83, 3), dtype=np.uint8)
STACK = RNG.integers(0, 255, (5, 61, 83), dtype=np.uint8)
RAMP = np.stack([np.arange(256) * 257] * 3).astype(np.uint16)


@pytest.fixture(params=["loaded", "lazy"])
def place(request, monkeypatch):
    """Read each file both ways: into memory, and left where it is."""
    if request.param == "lazy":
        monkeypatch.setattr(read_tiff, "LAZY_BYTES", 0)
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image.tif"


def check(path, image, axes):
    micrograph = read(path)
    assert micrograph.axes == axes
    assert micrograph.pixels.shape == image.shape
    assert micrograph.pixels.dtype == image.dtype.newbyteorder("=")
    np.testing.assert_array_equal(np.asarray(micrograph.pixels), image)
    middle = (..., slice(7, 50), slice(33, 34), *[slice(None)] * axes.count("S"))
    np.testing.assert_array_equal(micrograph.pixels[middle], image[middle])


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "zstd", "packbits"])
@pytest.mark.parametrize("blocks", [{"rowsperstrip": 8}, {"tile": (32, 16)}, {}], ids=["strips", "tiles", "one"])
@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
def test_codings(path, place, compression, blocks, image):
    photometric = "rgb" if image.ndim == 3 else "minisblack"
    tifffile.imwrite(path, image, compression=compression, photometric=photometric, **blocks)
    check(path, image, "YXS" if image.ndim == 3 else "YX")


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_types_are_kept(path, place, dtype, byteorder, compression):
    image = (RNG.random((31, 57)) * 100 - (50 if dtype[0] != "u" else 0)).astype(dtype)
    tifffile.imwrite(
        path, image, byteorder=byteorder, compression=compression, predictor=bool(compression) and dtype != "u8"
    )
    check(path, image, "YX")
    assert read(path).pixels.dtype.isnative


def test_bigtiff(path, place):
    tifffile.imwrite(path, GREY, bigtiff=True, tile=(16, 16))
    check(path, GREY, "YX")


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"compression": "lzw", "rowsperstrip": 9}])
def test_channels_stored_apart(path, place, options):
    tifffile.imwrite(path, np.moveaxis(COLOUR, -1, 0), photometric="rgb", planarconfig="separate", **options)
    check(path, COLOUR, "YXS")


def test_jpeg_within_a_tiff(path, place):
    smooth = np.add.outer(np.arange(64), np.arange(80)).astype(np.uint8)
    tifffile.imwrite(path, smooth, compression="jpeg", tile=(32, 32))
    assert np.abs(np.asarray(read(path).pixels).astype(int) - smooth).max() < 8


@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (5000, 3), (1, 7), (7, 1), (2, 2)])
def test_odd_shapes(path, place, shape):
    image = RNG.integers(0, 255, shape, dtype=np.uint8)
    tifffile.imwrite(path, image)
    assert read(path).axes == "YX"
    np.testing.assert_array_equal(np.asarray(read(path).pixels), image)


def test_not_a_number_is_kept(path):
    image = np.array([[np.nan, np.inf], [-np.inf, 1]], np.float32)
    tifffile.imwrite(path, image)
    np.testing.assert_array_equal(read(path).pixels, image)


@pytest.mark.parametrize("compression", [None, "packbits"])
@pytest.mark.parametrize("photometric", [None, "minisblack"])
def test_a_mask_is_0_and_1(path, place, compression, photometric):
    tifffile.imwrite(path, GREY > 100, compression=compression, photometric=photometric)
    check(path, (GREY > 100).astype(np.uint8), "YX")


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_white_zero_is_turned_to_what_is_seen(path, place, compression):
    tifffile.imwrite(path, GREY, photometric="miniswhite", compression=compression)
    check(path, 255 - GREY, "YX")
    tifffile.imwrite(path, GREY > 100, photometric="miniswhite", compression=compression, software="scanner")
    check(path, (GREY <= 100).astype(np.uint8), "YX")


def test_pages_are_planes(path, place):
    with tifffile.TiffWriter(path) as writer:
        for page in STACK:
            writer.write(page, metadata=None, compression="lzw")
    check(path, STACK, "ZYX")


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "CYX"])
def test_imagej_stacks_keep_their_axes(path, place, axes):
    tifffile.imwrite(path, STACK, imagej=True, metadata={"axes": axes})
    check(path, STACK, axes)


def test_ome_stacks_keep_their_axes(path, place):
    stack = RNG.integers(0, 255, (2, 3, 4, 61, 83), dtype=np.uint16)
    metadata = {"axes": "TCZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    tifffile.imwrite(path, stack, ome=True, metadata=metadata, photometric="minisblack", compression="deflate")
    check(path, stack, "TCZYX")
    assert read(path).pixel_size_nm == (250.0, 500.0)


def test_unknown_axes_get_letters_of_their_own(path, place):
    stack = RNG.integers(0, 255, (2, 3, 61, 83), dtype=np.uint8)
    tifffile.imwrite(path, stack, photometric="minisblack")
    axes = read(path).axes
    assert axes.endswith("YX")
    assert len(set(axes)) == 4
    np.testing.assert_array_equal(np.asarray(read(path).pixels), stack)


def test_samples_that_are_no_colours_are_channels(path, place):
    samples = RNG.integers(0, 255, (61, 83, 5), dtype=np.uint8)
    tifffile.imwrite(path, samples, photometric="minisblack", planarconfig="contig")
    check(path, np.moveaxis(samples, -1, 0), "CYX")


def test_a_stack_of_colour(path, place):
    stack = RNG.integers(0, 255, (4, 61, 83, 3), dtype=np.uint8)
    tifffile.imwrite(path, stack, photometric="rgb", imagej=True, metadata={"axes": "ZYXS"})
    check(path, stack, "ZYXS")


@pytest.mark.parametrize("subifds", [0, 2], ids=["pages", "sub-pages"])
def test_the_levels_of_a_pyramid_are_no_planes(path, place, subifds):
    image = RNG.integers(0, 255, (256, 320), dtype=np.uint8)
    with tifffile.TiffWriter(path) as writer:
        writer.write(image, tile=(32, 32), subifds=subifds, metadata=None)
        writer.write(image[::2, ::2], tile=(32, 32), subfiletype=1, metadata=None)
        writer.write(image[::4, ::4], tile=(32, 32), subfiletype=1, metadata=None)
    check(path, image, "YX")


def test_a_thumbnail_before_the_image_is_not_the_image(path):
    with tifffile.TiffWriter(path) as writer:
        writer.write(COLOUR[::8, ::8], photometric="rgb", metadata=None)
        writer.write(GREY, metadata=None)
    check(path, GREY, "YX")


def test_a_grey_palette_is_grey(path, place):
    tifffile.imwrite(path, GREY, photometric="palette", colormap=RAMP)
    check(path, GREY, "YX")


def test_a_palette_with_marks_is_grey(path, place):
    marked = RAMP.copy()
    marked[:, 9::9] = np.array([[0], [65535], [0]])
    tifffile.imwrite(path, GREY, photometric="palette", colormap=marked, compression="lzw")
    check(path, np.where((GREY % 9 == 0) & (GREY > 0), 182, GREY).astype(np.uint8), "YX")


def test_a_colour_map_is_colour(path, place):
    colours = np.stack([np.arange(256), np.zeros(256), np.arange(256)[::-1]]).astype(np.uint16) * 257
    tifffile.imwrite(path, GREY, photometric="palette", colormap=colours)
    check(path, np.stack([GREY, GREY * 0, 255 - GREY], axis=-1), "YXS")


@pytest.mark.parametrize("alpha", [None, 255, 7], ids=["no alpha", "opaque", "not opaque"])
def test_equal_channels_are_grey(path, place, alpha):
    image = np.stack([GREY] * 3 + ([np.full_like(GREY, alpha)] if alpha else []), axis=-1)
    tifffile.imwrite(path, image, photometric="rgb", extrasamples=["unassalpha"] if alpha else None)
    check(path, GREY, "YX")


def test_an_alpha_goes_and_the_colours_stay(path, place):
    tifffile.imwrite(path, np.dstack([COLOUR, GREY]), photometric="rgb", extrasamples=["assocalpha"])
    check(path, COLOUR, "YXS")
    tifffile.imwrite(path, np.dstack([GREY, GREY]), photometric="minisblack", extrasamples=["unassalpha"])
    check(path, GREY, "YX")


def test_a_mark_that_no_patch_shows_becomes_its_luminance(path, monkeypatch):
    image = np.full((500, 500, 3), 90, np.uint8)
    image[100, 100] = (255, 0, 0)
    tifffile.imwrite(path, image, photometric="rgb")
    assert read(path).axes == "YXS"
    monkeypatch.setattr(read_tiff, "LAZY_BYTES", 0)
    micrograph = read(path)
    assert micrograph.axes == "YX"
    assert micrograph.pixels[100, 100] == 54
    assert micrograph.pixels[100, 101] == 90


def test_a_large_file_is_not_loaded(path):
    side = 32768
    tiles = iter([zlib.compress(bytes(256**2))] * 128**2)
    tifffile.imwrite(path, tiles, shape=(side, side), dtype=np.uint8, tile=(256, 256), compression="deflate")
    tracemalloc.start()
    micrograph = read(path)
    corner = micrograph.pixels[-100:, -100:]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert micrograph.pixels.shape == (side, side)
    assert corner.shape == (100, 100)
    assert peak < 20e6


def test_a_part_is_decoded_from_its_own_blocks_only(path, monkeypatch):
    monkeypatch.setattr(read_tiff, "LAZY_BYTES", 0)
    image = RNG.integers(0, 255, (256, 256), dtype=np.uint8)
    tifffile.imwrite(path, image, tile=(32, 32), compression="deflate")
    decoded = []
    overlap = tiff_planes._overlap
    monkeypatch.setattr(tiff_planes, "_overlap", lambda *args: decoded.append(args) or overlap(*args))
    np.testing.assert_array_equal(read(path, find_bar=False).pixels[40:50, 100:140], image[40:50, 100:140])
    assert len(decoded) == 2 * (1 + 2)  # of each block rows and columns: one block to try it, then two


def test_planes_read_in_threads_are_right(path, monkeypatch):
    monkeypatch.setattr(read_tiff, "LAZY_BYTES", 0)
    tifffile.imwrite(path, STACK, compression="zstd", rowsperstrip=4, photometric="minisblack")
    pixels = read(path).pixels
    wrong = []

    def work(plane):
        wrong.extend(plane for _ in range(20) if not np.array_equal(pixels[plane], STACK[plane]))

    threads = [threading.Thread(target=work, args=(plane,)) for plane in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_file_is_not_held_open(path, place):
    tifffile.imwrite(path, GREY)
    micrograph = read(path)
    path.rename(path.with_name("other.tif"))
    if place == "lazy":
        with pytest.raises(InputError, match="No such file"):
            micrograph.pixels[0]


def test_an_instrument_record_comes_with_the_image(path):
    text = b"[Scan]\nPixelWidth=2e-9\nPixelHeight=3e-9\n[Image]\nResolutionX=83\nResolutionY=50\n"
    tifffile.imwrite(path, GREY, extratags=[(34682, 2, len(text), text, True)])
    micrograph = read(path)
    assert micrograph.pixel_size_nm == (3.0, 2.0)
    assert micrograph.data_bar == (50, 61)
    assert micrograph.vendor == "FEI/Thermo Fisher"


def refused(path: Path, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        np.asarray(read(path).pixels)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}, {"tile": (16, 16)}, {"rowsperstrip": 4}])
def test_a_truncated_file_is_refused(path, options):
    tifffile.imwrite(path, np.stack([STACK] * 3), photometric="minisblack", **options)
    whole = path.read_bytes()
    for share in (0.02, 0.5, 0.97):
        path.write_bytes(whole[: int(len(whole) * share)])
        refused(path, "truncated")


def patched(path: Path, code: int, value: int) -> None:
    """Set a tag of the first page, in place, to what it should not be."""
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags[code].overwrite(value)


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"rowsperstrip": 4}, {"compression": "deflate"}])
def test_absurd_dimensions_are_refused(path, options):
    tifffile.imwrite(path, GREY, **options)
    patched(path, 256, 2**31 - 1)
    patched(path, 257, 2**31 - 1)
    refused(path, "claims|damaged")


def test_much_out_of_a_few_bytes_is_refused(path):
    tifffile.imwrite(path, GREY * 0, compression="zstd")
    for code in (256, 257, 278):
        patched(path, code, 20_000)
    refused(
        path, "claims 20000 x 20000 pixels in blocks of 381 MiB, of which a few bytes are stored; save it as a tiled"
    )


def test_a_strip_that_no_memory_holds_is_refused(path, monkeypatch):
    monkeypatch.setattr(tiff_planes, "MOST_BYTES_PER_BLOCK", 1000)
    tifffile.imwrite(path, GREY, compression="deflate")
    refused(path, "save it as a tiled TIFF")


@pytest.mark.parametrize(
    ("code", "value", "problem"),
    [
        (256, 0, "no pixels|damaged"),
        (258, 7777, "samples of 7777 bits"),
        (259, 50002, "damaged or of an unsupported kind"),
        (262, 8, "colours of the kind CIELAB are not supported; save the image as grey or RGB"),
        (278, 0, "damaged"),
    ],
)
def test_what_makes_no_image_is_refused(path, code, value, problem):
    tifffile.imwrite(path, GREY, compression="lzw", rowsperstrip=8)
    patched(path, code, value)
    refused(path, problem)


def test_complex_values_are_refused(path):
    tifffile.imwrite(path, GREY.astype(np.complex64))
    refused(path, "complex values are not supported")


def test_cmyk_is_refused(path):
    tifffile.imwrite(path, RNG.integers(0, 255, (9, 9, 4), dtype=np.uint8), photometric="separated")
    refused(path, "colours of the kind SEPARATED")


def test_a_damaged_block_is_found_when_it_is_read(path, monkeypatch):
    monkeypatch.setattr(read_tiff, "LAZY_BYTES", 0)
    tifffile.imwrite(path, GREY, tile=(16, 16), compression="zstd")
    with tifffile.TiffFile(path) as tif:
        start, length = tif.pages.first.dataoffsets[-1], tif.pages.first.databytecounts[-1]
    raw = bytearray(path.read_bytes())
    raw[start : start + length] = b"\xff" * length
    path.write_bytes(raw)
    micrograph = read(path)
    np.testing.assert_array_equal(micrograph.pixels[:48, :48], GREY[:48, :48])
    with pytest.raises(InputError, match=f"{path}: the TIFF is damaged"):
        micrograph.pixels[...]


def test_a_lost_tag_of_the_geometry_is_damage(path):
    tifffile.imwrite(path, GREY)
    raw = path.read_bytes()
    entry = raw.index(struct.pack("<HHI", 258, 3, 1))  # BitsPerSample, which would then be taken for 1
    path.write_bytes(raw[: entry + 2] + b"\xee\xee" + raw[entry + 4 :])
    refused(path, "damaged.*258")


@pytest.mark.parametrize("pages", [2, 150])
def test_pages_in_a_circle_are_refused(path, pages):
    with tifffile.TiffWriter(path) as writer:
        for _ in range(pages):
            writer.write(GREY[:4, :4], metadata=None)
    with tifffile.TiffFile(path) as tif:
        first, end = tif.pages.first.offset, tif.pages.next_page_offset
    raw = bytearray(path.read_bytes())
    raw[end : end + 4] = struct.pack("<I", first)
    path.write_bytes(raw)
    refused(path, "circle")


def test_a_page_beyond_the_end_is_damage(path):
    tifffile.imwrite(path, GREY)
    with tifffile.TiffFile(path) as tif:
        end = tif.pages.next_page_offset
    raw = bytearray(path.read_bytes())
    raw[end : end + 4] = struct.pack("<I", len(raw) + 1000)
    path.write_bytes(raw)
    refused(path, "truncated")


def test_a_file_without_pages_is_refused(path):
    path.write_bytes(b"II*\0" + bytes(12))
    refused(path, "holds no image")


def test_xml_with_entities_is_not_parsed(path):
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b SYSTEM "file:///etc/passwd">]><OME>&b;</OME>'
    tifffile.imwrite(path, GREY, description=bomb, metadata=None)
    check(path, GREY, "YX")
    assert read(path).metadata == {}


@pytest.mark.parametrize("before", ["", "\ufeff", "<"])
@pytest.mark.parametrize("claim", ['SizeZ="1000000000"', 'SizeT="1000000" SizeC="5000"', 'PlaneCount="387420489"'])
def test_planes_that_are_only_claimed_cost_nothing(path, claim, before):
    in_data = claim if claim.startswith("Plane") else ""
    sizes = "".join(f' Size{axis}="1"' for axis in "ZCT" if f"Size{axis}" not in claim)
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        f'DimensionOrder="XYZCT" Type="uint8" SizeX="83" SizeY="61" {claim if not in_data else ""}{sizes} '
        f'PhysicalSizeX="2" PhysicalSizeY="2"><TiffData IFD="0" {in_data}/></Pixels></Image></OME>'
    )
    tifffile.imwrite(path, GREY, description=(before + xml).encode(), metadata=None)
    tracemalloc.start()
    check(path, GREY, "YX")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert read(path).pixel_size_nm == (None if before == "<" else (2000, 2000))


def test_files_that_a_file_names_are_not_opened(tmp_path):
    tifffile.imwrite(tmp_path / "other.tif", GREY)
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYZCT" Type="uint8" SizeX="83" SizeY="61" SizeZ="2" SizeC="1" SizeT="1">'
        '<TiffData IFD="0" FirstZ="0"><UUID FileName="image.ome.tif">urn:uuid:1</UUID></TiffData>'
        '<TiffData IFD="0" FirstZ="1"><UUID FileName="other.tif">urn:uuid:2</UUID></TiffData></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "image.ome.tif", GREY, description=xml, metadata=None)
    check(tmp_path / "image.ome.tif", GREY, "YX")


def test_tifffile_logs_nothing_here_and_as_ever_for_others(path, caplog):
    tifffile.imwrite(path, GREY, extratags=[(34682, 2, 4, b"a\x81\x8d\x9d", True), (37706, 4, 1, 7, True)])
    caplog.set_level(logging.DEBUG)
    read(path)
    assert not [record for record in caplog.records if record.name == "tifffile"]
    logging.getLogger("tifffile").warning("for others")
    assert "for others" in caplog.text


def seeds() -> list[bytes]:
    """Small files of each kind, to be damaged."""
    files = []
    options = [{"compression": kind, "rowsperstrip": 8} for kind in (None, "lzw", "deflate", "zstd", "packbits")]
    for option in [*options, {"tile": (16, 16)}, {"bigtiff": True}, {"photometric": "palette", "colormap": RAMP}]:
        files.append(io.BytesIO())
        tifffile.imwrite(files[-1], GREY[:32, :48], **option)
    for option in ({"imagej": True}, {"ome": True}, {"metadata": None}):
        files.append(io.BytesIO())
        tifffile.imwrite(files[-1], STACK[:, :16, :16], photometric="minisblack", **option)
    return [file.getvalue() for file in files]


@pytest.mark.parametrize("seed", range(6))
def test_damage_ends_in_an_image_or_in_a_clear_error(path, seed):
    chance = random.Random(seed)  # noqa: S311
    good = seeds()
    for _ in range(50):
        raw = bytearray(chance.choice(good))
        for _ in range(chance.choice((1, 2, 5))):
            place = chance.choice((chance.randrange(len(raw)), chance.randrange(min(len(raw), 400))))
            raw[place : place + chance.choice((1, 4))] = chance.choice((b"\xff" * 4, bytes(4), chance.randbytes(4)))
        path.write_bytes(raw[: chance.choice((len(raw), len(raw), chance.randrange(4, len(raw))))])
        try:
            micrograph = read(path)
            assert micrograph.pixels[..., :64, :64].size
        except InputError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017


def write_pyramid(path: Path, image: np.ndarray, n: int, **kind: Any) -> None:
    """A TIFF with every second, fourth ... pixel in SubIFDs."""
    with tifffile.TiffWriter(path) as tif:
        for level in range(n + 1):
            more = {"subfiletype": 1} if level else {"subifds": n}
            colour = image.ndim == 3 and image.shape[-1] == 3
            part = image[:: 2**level, :: 2**level] if colour else image[..., :: 2**level, :: 2**level]
            tif.write(part, tile=(32, 32), photometric="rgb" if colour else "minisblack", **more, **kind)


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (np.random.default_rng(0).integers(0, 99, (200, 150)).astype(np.uint8), False),
        (np.random.default_rng(0).integers(0, 99, (3, 100, 150)).astype(np.uint16), False),
        (np.random.default_rng(0).integers(0, 99, (200, 150, 3)).astype(np.uint8), True),
        (np.random.default_rng(0).integers(0, 99, (200, 150, 1)).astype(np.uint8).repeat(3, axis=2), False),
    ],
)
def test_the_copies_of_a_pyramid_are_levels_of_what_stays_in_the_file(tmp_path, monkeypatch, image, colour):
    monkeypatch.setattr(read_tiff, "LAZY_BYTES", 0)
    write_pyramid(tmp_path / "a.tif", image, 2, compression="zlib")
    micrograph = read(tmp_path / "a.tif")
    grey = image[..., 0] if image.shape[-1] == 3 and not colour else image
    assert micrograph.is_colour == colour
    np.testing.assert_array_equal(micrograph.pixels[...], grey)
    assert len(micrograph.levels) == 2
    for n, level in enumerate(micrograph.levels, 1):
        step = slice(None, None, 2**n)
        expected = grey[step, step] if colour or grey.ndim == 2 else grey[:, step, step]
        np.testing.assert_array_equal(level[...], expected)


def test_copies_that_are_none_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(read_tiff, "LAZY_BYTES", 0)
    image = np.random.default_rng(0).integers(0, 99, (200, 150)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(image, tile=(32, 32), subifds=3)
        tif.write(image[::2, ::2], subfiletype=1)
        tif.write(image[::4, ::4].astype(np.uint16), subfiletype=1)
        tif.write(image[::8, ::8], subfiletype=1)
    assert [level.shape for level in read(tmp_path / "a.tif").levels] == [(100, 75)]


@pytest.mark.parametrize("text", [b"[Dimension]\nBand=99999999999\n[Band]\nLUT1=1\n", b"[ASD]\nCount = 1000000\n"])
def test_a_record_that_counts_too_many_bands_is_refused(path, text):
    tifffile.imwrite(path, GREY, extratags=[(33471, 2, len(text), text, True)])
    refused(path, "33471 counts too many bands")

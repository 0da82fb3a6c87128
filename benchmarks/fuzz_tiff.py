"""Mutants of TIFF files."""

from __future__ import annotations

import io
import struct
from functools import cache
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import tifffile
from fuzz_bytes import damaged, patched, words

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

GREY = np.random.default_rng(0).integers(0, 200, (24, 32)).astype(np.uint8)
STACK = np.stack([GREY, GREY + 1, GREY + 2])
COLOUR = np.moveaxis(STACK, 0, -1)
RAMP = np.stack([np.arange(256) * 257] * 3).astype(np.uint16)
CODECS = {"deflate": 8, "lzw": 5, "packbits": 32773, "zstd": 50000, "lzma": 34925}
RECORDS = (270, 271, 306, 33471, 33560, 34118, 34119, 34361, 34362, 34680, 34682, 34683, 37706, 50431, 50838)
RECORDS += (50839, 51004, 51023, 65003, 65009, 65010, 33628, 33629, 33630, 33631, 34412, 33445, 42112, 65420, 50288)

_HOLE = '<!ENTITY a SYSTEM "file:///etc/hostname">'
_LAUGH = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
_OME = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{}</OME>'
_PIXELS = (
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="32" SizeY="24" '
    'SizeZ="{}" SizeC="{}" SizeT="{}" PhysicalSizeX="{}" PhysicalSizeY="1">{}</Pixels></Image>'
)
_FAR = '<TiffData IFD="0" FirstZ="0"><UUID FileName="{}">urn:uuid:1</UUID></TiffData>'
_NAMES = ("/etc/hostname", "../image.tif", "http://127.0.0.1:9/a.tif", "image.tif", "//server/share/a.tif", "\u202e")
XML_TRICKS = (
    *(f"<!DOCTYPE OME [{_HOLE}]>" + _OME.format("&a;"), '<!DOCTYPE OME SYSTEM "http://127.0.0.1:9/a.dtd"><OME/>'),
    f'<!DOCTYPE OME [<!ENTITY l0 "ha">{_LAUGH}]>' + _OME.format("&l9;"),
    *(_OME.format("<a>" * depth + "</a>" * depth) for depth in (100, 5000, 200_000)),
    *(_OME.format(_PIXELS.format(*many, "1", "")) for many in ((10**9, 1, 1), (1, 10**12, 1), (-1, 1, "x"), (3, 3, 3))),
    *(_OME.format(_PIXELS.format(1, 1, 1, size, "")) for size in ("nan", "1e400", "-5", "9" * 5000, "1" * 400 + "x")),
    *(_OME.format(_PIXELS.format(1, 1, 1, "1", _FAR.format(name))) for name in _NAMES),
    *(
        _OME.format(_PIXELS.format(1, 1, 1, "1", f'<TiffData IFD="{i}" PlaneCount="{n}"/>'))
        for i in (-1, 9)
        for n in (0, 9**9)
    ),
    _OME.format("<BinaryOnly MetadataFile='/etc/hostname' UUID='urn:uuid:1'/>"),
    _OME.format('<a b="' + "x" * 1_000_000 + '"/>'),
    _OME.format("".join(f"<a{i}/>" for i in range(50_000))),
    '<?xml version="1.0" encoding="UTF-7"?>' + _OME.format(""),
    '<?xml-stylesheet href="file:///etc/hostname"?>' + _OME.format('<xi:include href="/etc/hostname"/>'),
    _OME.format("]]><![CDATA[" * 1000),
)
TEXTS = (
    *("ImageJ=1.54f\nimages={0}\nslices={0}\nunit=nm\n", "ImageJ=1.54f\nchannels={0}\nhyperstack=true\nmode={0}\n"),
    *(
        '{{"shape": [{0}, 24, 32]}}',
        "shape=({0}, 24, 32)",
        "SCANIMAGE.SI.VERSION_MAJOR={0}",
        "Aperio Image {0}\n|MPP={0}|",
    ),
    *(
        "[Scan]\nPixelWidth={0}e-9\nPixelHeight={0}\n[Image]\nResolutionX={0}\nResolutionY={0}\n",
        "PixelSizeX={0}\n" * 9,
    ),
    *(
        "0\n0\n0\n{0}\nAP_IMAGE_PIXEL_SIZE\nImage Pixel Size = {0} nm\n",
        "AP_{0}\n" * 50,
        "StackFile {0}",
        "MMstack {0}",
    ),
    *("<FeiImage><pixelWidth unit='{0}'>{0}</pixelWidth></FeiImage>", "Leica\n{0}", "=\n" * 5000, "{0}" * 500),
    *("[Dimension]\nBand={0}\nZ={0}\n[Band]\nLUT1=1\n", "[ASD]\nCount={0}\n"),
)


@cache
def zeros(codec: str, length: int) -> bytes:
    """Nothing but zeros, compressed."""
    if codec == "packbits":
        return b"\x81\0" * -(-length // 128)
    encode = {"deflate": imagecodecs.zlib_encode, "lzma": imagecodecs.lzma_encode, "lzw": imagecodecs.lzw_encode}
    return bytes(encode.get(codec, imagecodecs.zstd_encode)(bytes(length)))


@cache
def plain() -> bytes:
    """Write a TIFF as simple as one can be."""
    return written(GREY, metadata=None)


def written(image: np.ndarray, **options: Any) -> bytes:
    """Content of a TIFF."""
    file = io.BytesIO()
    photometric = "rgb" if image.ndim == 3 and image.shape[-1] == 3 else "minisblack"
    tifffile.imwrite(file, image, **{"photometric": photometric, **options})
    return file.getvalue()


@cache
def _seeds() -> list[tuple[bytes, np.ndarray]]:
    """Files of many kinds, with what they hold."""
    blocks: list[dict[str, Any]] = [{}, {"rowsperstrip": 5}, {"tile": (16, 16)}]
    seeds = [
        (written(image, compression=codec, **block), image)
        for codec in (None, "lzw", "deflate", "zstd", "packbits", "lzma")
        for block, image in zip(blocks, (GREY, COLOUR, STACK), strict=True)
    ]
    several: list[dict[str, Any]] = [{"bigtiff": True}, {"byteorder": ">"}, {"imagej": True}, {"ome": True}]
    seeds += [(written(STACK, **options), STACK) for options in several]
    seeds.append((written(GREY, photometric="palette", colormap=RAMP), GREY))
    seeds.append((written(GREY > 100, photometric="minisblack"), (GREY > 100).astype(np.uint8)))
    for dtype in ("i2", "u4", "f4", "f8"):
        image = GREY.astype(dtype)
        seeds.append((written(image, compression="deflate", predictor=dtype != "f8"), image))
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tif:
        tif.write(GREY, subifds=1, tile=(16, 16))
        tif.write(GREY[::2, ::2], subfiletype=1, tile=(16, 16))
    seeds.append((file.getvalue(), GREY))
    return seeds


def any_bytes(folder: Path, chance: Random) -> tuple[Any, ...]:
    """Damage anywhere."""
    return _file(folder, damaged(chance.choice(_seeds())[0], chance, 400)), "bytes"


def cut(folder: Path, chance: Random) -> tuple[Any, ...]:
    """Cut off the end."""
    raw, image = chance.choice(_seeds())
    return _file(folder, raw[: chance.randrange(len(raw))]), "cut off", "any", image


def tags(folder: Path, chance: Random) -> tuple[Any, ...]:
    """Wrong code, type, count or value of some tags."""
    raw = chance.choice(_seeds())[0]
    entries = _entries(raw)
    for _ in range(chance.choice((1, 1, 2, 3))):
        at, order, is_big = chance.choice(entries)
        wide = "Q" if is_big else "I"
        value = chance.choice([*words(len(raw)), *[other for other, *_ in entries]])
        part = chance.randrange(4)
        if part == 0:
            raw = patched(
                raw, at, struct.pack(order + "H", chance.choice((*RECORDS, 254, 256, 273, 330, 34665, 34853)))
            )
        elif part == 1:
            raw = patched(raw, at + 2, struct.pack(order + "H", chance.choice((*range(20), 65535))))
        elif part == 2:
            raw = patched(raw, at + 4, struct.pack(order + wide, value % 256 ** (8 if is_big else 4)))
        else:
            raw = patched(
                raw, at + (12 if is_big else 8), struct.pack(order + wide, value % 256 ** (8 if is_big else 4))
            )
    return _file(folder, raw), "tags"


def dimensions(folder: Path, chance: Random) -> tuple[Any, ...]:
    """Sizes that no file holds."""
    raw = chance.choice(_seeds())[0]
    kinds = [256, 257, 258, 277, 278, 322, 323, 259, 262, 284, 317, 339, 32997, 32998]
    for code in chance.sample(kinds, chance.choice((1, 1, 2, 4))):
        for at, order, is_big in _entries(raw):
            if struct.unpack_from(order + "H", raw, at)[0] == code:
                value = chance.choice((0, 1, 3, 17, 1000, 65535, 65536, 46340, 2**20, 2**31 - 1, 2**31, 2**32 - 1))
                kind = 4 if value > 65535 else 3
                count = struct.pack(order + ("Q" if is_big else "I"), 1)
                new = (
                    struct.pack(order + "HH", code, kind)
                    + count
                    + struct.pack(order + "I" if kind == 4 else order + "HH", *([value] if kind == 4 else [value, 0]))
                )
                raw = patched(raw, at, new)
    return _file(folder, raw), "dimensions"


def chains(folder: Path, chance: Random) -> tuple[Any, ...]:
    """Pages that follow themselves, each other, or nothing; and pages within pages."""
    pages = chance.choice((1, 2, 3, 300))
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tif:
        for _ in range(pages):
            tif.write(GREY, metadata=None, subifds=1, contiguous=False)
            tif.write(GREY[::2, ::2], metadata=None, subfiletype=1)
    raw = file.getvalue()
    starts = [tif_page.offset for tif_page in tifffile.TiffFile(io.BytesIO(raw)).pages]
    start = chance.choice(starts)
    target = chance.choice((*starts, start, start + 2, 0, 1, 8, len(raw) - 1, len(raw), 2**32 - 1))
    count = struct.unpack_from("<H", raw, start)[0]
    what = chance.choice(("next", "inner", "exif", "many"))
    if what == "next":
        raw = patched(raw, start + 2 + 12 * count, struct.pack("<I", target))
    elif what == "many":
        raw = patched(raw, start, struct.pack("<H", 65535))
    else:
        for at, _, _ in _entries(raw):
            if struct.unpack_from("<H", raw, at)[0] == (330 if what == "inner" else 305):
                code = 330 if what == "inner" else chance.choice((34665, 34853, 40965))
                raw = patched(raw, at, struct.pack("<HHII", code, 13, 1, target))
    return _file(folder, raw), f"{what} page at {target}"


def bombs(folder: Path, chance: Random) -> tuple[Any, ...]:
    """Write a few bytes that become many, as the header says or not."""
    codec = chance.choice(list(CODECS))
    data = zeros(codec, chance.choice((1, 1000, 2**20, 2**26)))
    side = chance.choice((16, 64, 1024, 8192, 46000, 2**20, 2**31 - 1))
    tile = chance.choice((None, 16, 4096, 65536))
    samples, bits = chance.choice(((1, 8), (1, 16), (3, 8), (1, 64)))
    grid = 1 if tile is None else min(-((-side // tile) ** 2), 4096)
    n_blocks = 1 if tile is None else (-(-side // tile)) ** 2
    n_blocks = min(n_blocks, grid)
    values: dict[int, list[int]] = {256: [side], 257: [side], 258: [bits] * samples, 259: [CODECS[codec]]}
    values |= {262: [2 if samples == 3 else 1], 277: [samples]}
    at = 8
    where, lengths = [at] * n_blocks, [len(data)] * n_blocks
    values |= (
        {273: where, 278: [side], 279: lengths}
        if tile is None
        else {322: [tile], 323: [tile], 324: where, 325: lengths}
    )
    return _file(folder, _raw_tiff(data, values)), f"{codec} of {len(data)} bytes for {side} x {side} in {tile}"


def records(folder: Path, chance: Random) -> tuple[Any, ...]:
    """Tags of instruments and programs that hold something else."""
    number = chance.choice(("5", "-1", "1e999", "nan", "9" * 4000, "\xb5", "1000000000", "{", "0x", "\x1b[31m"))
    text = chance.choice(TEXTS).format(number).encode("latin-1")
    for encoding in ("utf-16",) if chance.random() < 0.15 else ():
        text = text.decode("latin-1").encode(encoding)
    text = damaged(text, chance) if chance.random() < 0.5 else text
    text = chance.choice((text, text, text, chance.randbytes(300), b"", b"\xff" * 5000, b"\0" * 5000)) or b"\0"
    code = 33471 if text.startswith((b"[Dim", b"[ASD")) else chance.choice(RECORDS)
    kind = chance.choice((1, 2, 7))
    extra = [(code, kind, len(text), text, True)]
    if chance.random() < 0.3:
        extra = [(code, chance.choice((3, 4, 11, 12)), 1, chance.choice((0, 1, 65535)), True)]
    raw = written(GREY, metadata=None, extratags=extra)
    return _file(folder, raw), f"tag {code}"


def xml(folder: Path, chance: Random) -> tuple[Any, ...]:
    """Write what XML can do to its reader; the image is there all the same."""
    text = chance.choice(XML_TRICKS)
    code = chance.choice((270, 270, 270, 34683, 34682, 51023))
    if code != 270:
        text = text.replace("OME", chance.choice(("FeiImage", "Metadata", "Fibics")))
    raw = text.encode(chance.choice(("utf-8", "utf-8", "utf-16", "utf-16-le", "utf-8-sig")), "replace") + b"\0"
    if chance.random() < 0.2:
        raw = damaged(raw, chance)
    extra = [(code, 2, len(raw), raw, True)]
    if code != 270 and chance.random() < 0.5:
        extra.append((271, 2, 10, b"JEOL Ltd.\0", True))
    return (
        _file(folder, written(GREY, metadata=None, extratags=extra)),
        f"XML in tag {code}: {text[:60]!r}",
        "any",
        None,
    )


def _entries(raw: bytes) -> list[tuple[int, str, bool]]:
    """Where the entries of the pages are, with the byte order and whether it is BigTIFF."""
    order = "<" if raw[:2] == b"II" else ">"
    is_big = raw[2:4] in (b"+\0", b"\0+")
    found = []
    (offset,) = struct.unpack_from(order + ("Q" if is_big else "I"), raw, 8 if is_big else 4)
    while offset and len(found) < 3000:
        (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), raw, offset)
        start, step = offset + (8 if is_big else 2), 20 if is_big else 12
        found += [(start + i * step, order, is_big) for i in range(count)]
        (offset,) = struct.unpack_from(order + ("Q" if is_big else "I"), raw, start + count * step)
    return found


def _raw_tiff(data: bytes, values: dict[int, list[int]]) -> bytes:
    """Classic TIFF of one page with these numbers in its tags."""
    body, entries = bytearray(data), b""
    for code, numbers in sorted(values.items()):
        raw = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(raw) > 4:
            raw, at = b"", 8 + len(body)
            body += struct.pack(f"<{len(numbers)}I", *numbers)
            raw = struct.pack("<I", at)
        entries += struct.pack("<HHI", code, 4, len(numbers)) + raw
    page = struct.pack("<H", len(values)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + bytes(body) + page


def _file(folder: Path, raw: bytes) -> Path:
    path = folder / "image.tif"
    path.write_bytes(raw)
    return path

"""Micrographs that are slow to look at, as files that are not: tiled, compressed, and with smaller copies."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from queue import Full, Queue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from napari_matseg.core.converted import record_of
from napari_matseg.core.export import NAMESPACE, replacing, to_json, write_json
from napari_matseg.core.label_files import CLASSIC_LIMIT, NM_PER_CM, find_labels_info, ome_axes
from napari_matseg.core.large.stores import KINDS, VERSION, create_array, replacing_folder
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.progress import Progress
from napari_matseg.core.pyramid_sample import halve
from napari_matseg.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from concurrent.futures import Future

    from napari_matseg.core.micrograph import Micrograph

TILE, SMALLEST = 512, 1024
"""Side of the tiles, and pixels on the longer side from which on no smaller copy is made."""
BAND_BYTES = 1 << 28
"""Of a file's own strips that are higher than a tile, so much is read at once rather than any of it twice."""
VIEW = 1024
"""Height and width of the view that costs are told for."""
OME_TYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
NOTE = "converting"
WAIT_S = 0.1
COLOURS = ("FF0000", "00FF00", "0000FF")


def view_bytes(pixels: Any) -> int:
    """Bytes that have to be read, and decoded, for a view of 1024 x 1024 pixels at full resolution.

    Parameters
    ----------
    pixels : array
        Of a micrograph; what is in memory costs nothing.
    """
    if not isinstance(pixels, LazyPixels) or pixels.block_yx is None:
        return 0
    colour = pixels.shape[-1] == 3 and len(pixels.shape) > 2
    shape = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    # A view seldom begins where a block does.
    sides = [
        min((-(-VIEW // block) + (block > 1)) * block, side) for side, block in zip(shape, pixels.block_yx, strict=True)
    ]
    return prod(sides) * pixels.dtype.itemsize * (3 if colour else 1)


def describe_cost(micrograph: Micrograph) -> str:
    """Say what a view of a file costs.

    Examples
    --------
    >>> from napari_matseg.core.micrograph import Micrograph
    >>> describe_cost(Micrograph(np.zeros((9, 9))))
    'each view reads what it shows'
    """
    cost, block = view_bytes(micrograph.pixels), getattr(micrograph.pixels, "block_yx", None)
    if not cost or block is None:
        return "each view reads what it shows"
    kind = "striped" if block[1] >= micrograph.shape_yx[1] else f"stored in blocks of {block[1]} x {block[0]} pixels"
    return f"this file is {kind}: each view of {VIEW} x {VIEW} pixels reads up to {max(cost / 1e6, 1):.0f} MB"


def convert_steps(micrograph: Micrograph, path: Path) -> Generator[Progress, None, Path]:
    """Write a micrograph as tiled OME-TIFF or OME-Zarr, compressed without loss and with smaller copies.

    Parameters
    ----------
    micrograph : Micrograph
        Read with `core.read.read`; of what stays in its file a band of rows is in memory at a time.
    path : Path
        Ends in ``.tif`` or ``.tiff``, else in ``.zarr``. Written whole or not at all; one that is there is replaced.

    Yields
    ------
    Progress
        After each band of rows; closing the generator cancels, and leaves nothing.

    Returns
    -------
    Path
        The file. `core.read.read` gives the same micrograph of it, but for `source` and `levels`.

    Raises
    ------
    InputError
        If the file is damaged, holds labels, or has values that the format does not know.
    OutputError
        If the file cannot be written, or is the one that is read.
    """
    is_tiff = path.suffix.lower() in (".tif", ".tiff")
    if not is_tiff and path.suffix.lower() != ".zarr":
        raise OutputError(f"{path}: is neither TIFF nor OME-Zarr by its name; let it end in .tif or .ome.zarr.")
    if micrograph.source is not None and micrograph.source.resolve() == path.resolve():
        raise OutputError(f"{path}: is the file that is read; give another name.")
    if find_labels_info(micrograph.source) != (None, None):
        raise InputError(f"{micrograph.name}: holds labels, which are tiled where they are large; convert the image.")
    write = _write_tiff if is_tiff else _write_zarr
    yield Progress(0, 1, NOTE)
    yield from write(micrograph, path)
    return path


def _folder(path: Path) -> Path:
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}; create it first.")
    return path.parent


def _shapes(micrograph: Micrograph) -> list[tuple[int, ...]]:
    """Shapes of the full resolution and the smaller copies."""
    shapes = [micrograph.shape_yx]
    while max(shapes[-1]) > SMALLEST:
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    colour = (3,) if micrograph.is_colour else ()
    return [(*micrograph.shape_planes, *shape, *colour) for shape in shapes]


def _bands(
    micrograph: Micrograph, shapes: list[tuple[int, ...]], scratch: Path
) -> Iterator[tuple[int, tuple[int, ...], int, np.ndarray]]:
    """All levels from top to bottom, each made of the one before: level, plane, first row, and rows of it.

    But for the last of a plane, bands have a multiple of so many rows as a tile.
    """
    n = len(micrograph.shape_planes)
    pixels, dtype = micrograph.pixels, np.dtype(micrograph.pixels.dtype)
    for level, shape in enumerate(shapes):
        smaller = scratch / str(level + 1)
        rows = _rows(micrograph, shapes, level)
        # Appended to and not mapped: a full disk is an error then, and not the end of the process.
        with smaller.open("wb") as file:
            for plane in np.ndindex(*shape[:n]):
                for top in range(0, shape[n], rows):
                    band = np.asarray(pixels[(*plane, slice(top, top + rows))])
                    if level + 1 < len(shapes):
                        file.write(halve(band).tobytes())
                    yield level, plane, top, band
        if level + 1 < len(shapes):
            pixels = np.memmap(smaller, dtype, "r", shape=shapes[level + 1])
            (scratch / str(level)).unlink(missing_ok=True)


def _rows(micrograph: Micrograph, shapes: list[tuple[int, ...]], level: int) -> int:
    """Rows of a band: those of a tile, or as many as have to be read at once."""
    shape = shapes[0][len(micrograph.shape_planes) :]
    tall = (getattr(micrograph.pixels, "block_yx", None) or (1, 1))[0]
    rows = -(-min(tall, shape[0]) // TILE) * TILE
    row_bytes = prod(shape[1:]) * micrograph.pixels.dtype.itemsize
    return TILE if level or rows * row_bytes > BAND_BYTES else rows


def _n_bands(micrograph: Micrograph, shapes: list[tuple[int, ...]]) -> list[int]:
    """How many bands each level has, in all planes."""
    n = len(micrograph.shape_planes)
    each = [-(-shape[n] // _rows(micrograph, shapes, level)) for level, shape in enumerate(shapes)]
    return [micrograph.n_planes * one for one in each]


def _write_zarr(micrograph: Micrograph, path: Path) -> Generator[Progress, None, None]:
    shapes, n = _shapes(micrograph), len(micrograph.shape_planes)
    total = sum(_n_bands(micrograph, shapes))
    planes = ome_axes(micrograph.axes.removesuffix("S"))[:-2]
    size = micrograph.pixel_size_nm or (1.0, 1.0)
    unit = {} if micrograph.pixel_size_nm is None else {"unit": "nanometer"}
    colour = [{"name": "c", "type": "channel"}] if micrograph.is_colour else []
    names = [{"name": letter.lower(), "type": KINDS[letter]} for letter in planes]
    axes = [*names, *({"name": name, "type": "space", **unit} for name in "yx")]
    if colour and "C" in planes:
        raise InputError(f"{micrograph.name}: channels of true colour have no place in OME-Zarr; convert it to TIFF.")
    # OME-Zarr wants the axis of channels before those of space.
    axes[n:n] = colour
    with (
        replacing_folder(path) as temporary,
        tempfile.TemporaryDirectory(dir=_folder(path), prefix=".", ignore_cleanup_errors=True) as scratch,
    ):
        arrays: list[Any] = []
        for level, shape in enumerate(shapes):
            shape_cyx = (*shape[:n], *([3] if colour else []), *shape[n : n + 2])
            chunks = (*[1] * (len(shape_cyx) - 2), TILE, TILE)
            arrays.append(create_array(temporary / str(level), shape_cyx, chunks, micrograph.pixels.dtype))
        for done, (level, plane, top, band) in enumerate(_bands(micrograph, shapes, Path(scratch)), 1):
            rows = slice(top, top + len(band))
            if colour:
                arrays[level][(*plane, slice(None), rows)] = np.moveaxis(band, -1, 0)
            else:
                arrays[level][(*plane, rows)] = band
            yield Progress(done, total, NOTE)
        write_json(temporary / ".zgroup", {"zarr_format": 2})
        attributes: dict[str, Any] = {
            "multiscales": [
                {
                    "version": VERSION,
                    "name": path.name.split(".", maxsplit=1)[0],
                    "axes": axes,
                    "datasets": [
                        {
                            "path": str(level),
                            "coordinateTransformations": [
                                {
                                    "type": "scale",
                                    "scale": [*[1.0] * (len(axes) - 2), *(float(one) * 2**level for one in size)],
                                }
                            ],
                        }
                        for level in range(len(shapes))
                    ],
                    "type": "mean",
                }
            ],
            NAMESPACE: {"micrograph": record_of(micrograph)},
        }
        if colour:
            channels = [{"label": name, "color": code} for name, code in zip("RGB", COLOURS, strict=True)]
            attributes["omero"] = {"channels": channels}
        write_json(temporary / ".zattrs", attributes)


def _write_tiff(micrograph: Micrograph, path: Path) -> Generator[Progress, None, None]:
    import tifffile

    dtype = np.dtype(micrograph.pixels.dtype)
    if dtype.name not in OME_TYPES:
        raise InputError(f"{micrograph.name}: values of type {dtype} are not known to OME-TIFF; convert to .ome.zarr.")
    shapes = _shapes(micrograph)
    n_bands = _n_bands(micrograph, shapes)
    metadata: dict[str, Any] = {
        "axes": ome_axes(micrograph.axes.removesuffix("S")) + ("S" if micrograph.is_colour else ""),
        "UUID": str(uuid4()),  # tifffile's own would hold the address of the machine
        "Creator": NAMESPACE,
        "Name": path.stem,
        "MapAnnotation": {"Namespace": NAMESPACE, "micrograph": to_json(record_of(micrograph), None)},
    }
    resolution: dict[str, Any] = {}
    if micrograph.pixel_size_nm is not None:
        y, x = (float(size) for size in micrograph.pixel_size_nm)
        metadata |= {"PhysicalSizeX": x, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": y, "PhysicalSizeYUnit": "nm"}
        if all(1 <= NM_PER_CM / size < 2**32 for size in (y, x)):  # what the tag can hold
            resolution = {"resolution": (NM_PER_CM / x, NM_PER_CM / y), "resolutionunit": "CENTIMETER"}
    kind: dict[str, Any] = {
        "photometric": "rgb" if micrograph.is_colour else "minisblack",
        "tile": (TILE, TILE),
        "dtype": dtype,
        "compression": "zlib",
        "predictor": True,
        "software": NAMESPACE,
    }
    bigtiff = sum(map(prod, shapes)) * dtype.itemsize > CLASSIC_LIMIT
    with (
        tempfile.TemporaryDirectory(dir=_folder(path), prefix=".", ignore_cleanup_errors=True) as scratch,
        replacing(path) as temporary,
        tifffile.TiffWriter(temporary, ome=True, bigtiff=bigtiff) as tif,
        ThreadPoolExecutor(1) as pool,
    ):
        bands, done = _bands(micrograph, shapes, Path(scratch)), 0
        for level, shape in enumerate(shapes):
            first: dict[str, Any] = {"subifds": len(shapes) - 1 or None, "metadata": metadata, **resolution}
            about = {"subfiletype": 1, "metadata": None} if level else first
            tiles = _Tiles()
            writing = pool.submit(tif.write, iter(tiles), shape=shape, **kind, **about)
            try:
                for _ in range(n_bands[level]):
                    _, _, _, band = next(bands)
                    tiles.put(band, writing)
                    done += 1
                    yield Progress(done, sum(n_bands), NOTE)
                tiles.end()
                writing.result()
            except BaseException:
                tiles.stop()
                raise


class _StoppedError(Exception):
    """Nobody wants the rest."""


class _Tiles:
    """Tiles for tifffile, which takes them in a thread of its own, out of bands that come one by one."""

    def __init__(self) -> None:
        self._bands: Queue[np.ndarray | None] = Queue(1)
        self._stopped = False

    def put(self, band: np.ndarray, writing: Future[Any]) -> None:
        """Hand on a band, as soon as the one before is taken."""
        while True:
            try:
                self._bands.put(band, timeout=WAIT_S)
            except Full:
                if writing.done():
                    writing.result()
                    raise RuntimeError("tifffile took fewer tiles than there are") from None
            else:
                return

    def end(self) -> None:
        """Say that no more bands come."""
        self._bands.put(None)

    def stop(self) -> None:
        """Let the writing fail."""
        self._stopped = True
        while not self._bands.empty():
            self._bands.get_nowait()
        self._bands.put(None)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Cut bands into tiles, in reading order; those at the ends are filled up with 0."""
        while (band := self._bands.get()) is not None:
            if self._stopped:
                break
            for y in range(0, band.shape[0], TILE):
                for x in range(0, band.shape[1], TILE):
                    part = band[y : y + TILE, x : x + TILE]
                    if part.shape[:2] != (TILE, TILE):
                        missing = [(0, TILE - side) for side in part.shape[:2]] + [(0, 0)] * (part.ndim - 2)
                        part = np.pad(part, missing)
                    yield np.ascontiguousarray(part)
        if self._stopped:
            raise _StoppedError

"""Results as files: written whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import tifffile
from PIL import Image
from pydantic import BaseModel

from napari_matseg.core.annotate import draw_scale_bar, legend_rgb, letter_height
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.errors import InputError, OutputError
from napari_matseg.settings import ClassSpec

NAMESPACE = "napari-matseg"
TILED_FROM = 2048
"""Longer sides are written as tiles, so that a viewer need not read whole rows."""
TILE = 512
LARGE_TILE = 1024
"""As large as the chunks of stored labels, so that each is read once."""
CLASSIC_LIMIT = 2**32 - 2**25
"""Bytes of labels from which BigTIFF is written; compressed they might fit, but nobody knows beforehand."""
NM_PER_CM = 1e7
OBJECT_COLOURS = np.array(
    [(0, 180, 255), (255, 170, 0), (60, 200, 60), (255, 80, 160), (160, 110, 255), (230, 230, 60), (0, 210, 180)],
    np.float32,
)
BAND = 1 << 24  # pixels of a lazy array that are read at once
OVERLAY_LIMIT = 4096
"""Pixels on the longer side of an overlay at most."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file in the same folder, which takes the place of `path` if all goes well.

    Parameters
    ----------
    path : Path
        File to write; one of that name is kept until the new one is complete.

    Yields
    ------
    Path
        Temporary file to write to; gone afterwards in any case.

    Raises
    ------
    OutputError
        If anything cannot be written.
    """
    temporary = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: {explain(path, error)}") from error
    finally:
        with contextlib.suppress(OSError):  # where it could not even be created
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder, with those it lies in, unless it is there already.

    Raises
    ------
    OutputError
        If it cannot be made, or not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose another folder.") from error
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder}: may not be written to; choose another folder.")


def check_labels(path: Path, labels: Any, axes: str, pixel_size_nm: tuple[float, float] | None) -> None:
    """Hold labels to what can be kept.

    Raises
    ------
    InputError
        If they are of another type than uint8, 16 or 32, do not fit the axes, or the pixel size is none.
    """
    if labels.dtype.name not in ("uint8", "uint16", "uint32"):
        raise InputError(f"{path}: labels of type {labels.dtype} cannot be kept; convert them to uint8, 16 or 32.")
    if not axes.endswith("YX") or labels.ndim != len(axes) or labels.ndim > 5 or labels.size == 0:
        raise InputError(
            f"{path}: labels of shape {labels.shape} do not fit axes {axes!r}; give one letter per axis, "
            "five at most, ending in YX."
        )
    if pixel_size_nm is not None and not all(math.isfinite(size) and size > 0 for size in pixel_size_nm):
        y, x = (float(size) for size in pixel_size_nm)
        raise InputError(f"{path}: a pixel of {y} nm by {x} nm cannot be; give sizes above 0.")


def write_labels(
    path: Path,
    labels: Any,
    *,
    pixel_size_nm: tuple[float, float] | None = None,
    classes: Sequence[ClassSpec] = (),
    axes: str = "YX",
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write class or instance labels as a compressed OME-TIFF.

    Parameters
    ----------
    path : Path
        File to write.
    labels : array or StoredLabels, uint8, uint16 or uint32
        One axis for each letter of `axes`. Stored labels are read a tile at a time, and their smaller copies are
        written, too.
    pixel_size_nm : (float, float) or None
        Height and width of a pixel in nanometres.
    classes : sequence of ClassSpec
        Names and colours of the classes, kept in the file.
    axes : str
        Ends in "YX"; up to three letters for planes before. OME knows Z, C and T; others become one of these.
    record : mapping or None
        Where the labels came from, kept in the file as JSON.

    Raises
    ------
    InputError
        If the labels are of another type or do not fit the axes, or the pixel size is none.
    OutputError
        If the file cannot be written.
    """
    check_labels(path, labels, axes, pixel_size_nm)
    annotation: dict[str, str] = {"Namespace": NAMESPACE}
    if classes:
        annotation["classes"] = _json([spec.model_dump() for spec in classes])
    if record is not None:
        annotation["record"] = _json(record)
    metadata: dict[str, Any] = {
        "axes": ome_axes(axes),
        "UUID": str(uuid4()),  # tifffile's own would hold the address of the machine
        "Creator": NAMESPACE,
        "Name": path.stem,
    }
    if len(annotation) > 1:
        metadata["MapAnnotation"] = annotation
    resolution: dict[str, Any] = {}
    if pixel_size_nm is not None:
        y, x = (float(size) for size in pixel_size_nm)
        metadata |= {"PhysicalSizeX": x, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": y, "PhysicalSizeYUnit": "nm"}
        if all(1 <= NM_PER_CM / size < 2**32 for size in (y, x)):  # what the tag can hold
            # For programs that do not read OME-XML.
            resolution = {"resolution": (NM_PER_CM / x, NM_PER_CM / y), "resolutionunit": "CENTIMETER"}
    bigtiff = labels.size * labels.dtype.itemsize > CLASSIC_LIMIT
    levels = getattr(labels, "levels", ())
    kind: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib", "predictor": False}
    with replacing(path) as temporary, tifffile.TiffWriter(temporary, ome=True, bigtiff=bigtiff) as tif:
        if not isinstance(labels, LazyPixels):
            tile = (TILE, TILE) if max(labels.shape[-2:]) > TILED_FROM else None
            tif.write(labels, tile=tile, software=NAMESPACE, metadata=metadata, **kind, **resolution)
            return
        for level, smaller in enumerate((labels, *levels)):
            first: dict[str, Any] = {"subifds": len(levels) or None, "metadata": metadata, **resolution}
            tif.write(
                _tiles(smaller),
                shape=smaller.shape,
                dtype=smaller.dtype,
                tile=(LARGE_TILE, LARGE_TILE),
                software=NAMESPACE,
                **({"subfiletype": 1, "metadata": None} if level else first),
                **kind,
            )


def read_labels_info(path: Path) -> tuple[tuple[ClassSpec, ...] | None, dict[str, Any] | None]:
    """Classes and record of labels that `write_labels` or `core.large.stores.write_labels_zarr` wrote.

    Returns
    -------
    classes : tuple of ClassSpec, or None where the file holds none
    record : dict, or None where the file holds none

    Raises
    ------
    InputError
        If the file is no TIFF that can be read.
    """
    try:
        if path.is_dir():
            kept = _attributes(path)
        else:
            with tifffile.TiffFile(path) as tif:
                xml = tif.ome_metadata
            kept = _annotation(xml) if xml else {}
    except (OSError, tifffile.TiffFileError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read as TIFF ({reason}); check the path.") from error
    try:
        listed, record = (
            json.loads(kept[name]) if isinstance(kept.get(name), str) else kept.get(name)
            for name in ("classes", "record")
        )
        classes = None if listed is None else tuple(ClassSpec.model_validate(spec) for spec in listed)
    except ValueError as error:  # of json and of pydantic alike
        raise InputError(f"{path}: its classes or record are damaged; write the labels again.") from error
    return classes, record


def find_labels_info(path: Path | None) -> tuple[tuple[ClassSpec, ...] | None, dict[str, Any] | None]:
    """Look for classes and record of labels that may come from anywhere: `read_labels_info` of what may have them.

    Returns
    -------
    classes, record
        None, None where there is no file, or it is neither a folder nor named as TIFF.
    """
    if path is None or not (path.is_dir() or path.suffix.lower() in (".tif", ".tiff")):
        return None, None
    return read_labels_info(path)


def write_json(path: Path, obj: object) -> None:
    """Write JSON; numbers that JSON does not know (NaN and infinities) become null.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    _write_text(path, to_json(obj) + "\n")


def to_json(obj: object) -> str:
    """Text of what `write_json` writes."""
    return _json(obj, indent=2)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write a table with one column for each key, in the order in which the keys first come.

    Parameters
    ----------
    path : Path
        File to write.
    rows : sequence of mappings
        Keys that a row lacks, None and NaN are left empty.
    columns : sequence of str, optional
        Columns that come first, and are there even if no row has them.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, names, restval="", lineterminator="\n")
    if names:
        table.writeheader()
    table.writerows({name: "" if _is_nan(value) else value for name, value in row.items()} for row in rows)
    _write_text(path, text.getvalue())


def write_png(path: Path, rgb_yxs: np.ndarray) -> None:
    """Write a picture.

    Parameters
    ----------
    path : Path
        File to write.
    rgb_yxs : array, shape (height, width, 3) or (height, width), uint8

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with replacing(path) as temporary:
        Image.fromarray(rgb_yxs).save(temporary, format="PNG")


def overlay_rgb(
    image_yx: Any,
    labels_yx: Any,
    classes: Sequence[ClassSpec] | None = None,
    *,
    pixel_size_nm: tuple[float, float] | None = None,
    data_bar: tuple[int, int] | None = None,
    opacity: float = 0.4,
) -> np.ndarray:
    """Picture of a segmentation: grey image, tinted and outlined classes, legend and scale bar.

    Parameters
    ----------
    image_yx : array, shape (height, width)
        Grey values of any numeric type; the 0.5th and 99.5th percentiles become black and white. Of this and of the
        labels, if they are lazy, a band of rows is in memory at a time.
    labels_yx : array, shape (height, width), integer
        Class labels, or the ids of objects; 0 stays grey.
    classes : sequence of ClassSpec, optional
        One for each label, that of 0 too. Without it the labels are ids, told apart by colour and not named.
    pixel_size_nm : (float, float) or None
        Height and width of a pixel in nanometres; without it there is no scale bar.
    data_bar : (int, int) or None
        First row and end (exclusive) of the data bar, which has no say in black and white.
    opacity : float
        Of the tint, 0 to 1.

    Returns
    -------
    array, shape (height + legend, width, 3), uint8
        With every n-th pixel, where the longer side would have more than 4096.

    Raises
    ------
    InputError
        If the shapes differ, or a label has no class.
    """
    if image_yx.shape != labels_yx.shape or image_yx.ndim != 2 or image_yx.size == 0:
        raise InputError(
            f"An image of shape {image_yx.shape} and labels of shape {labels_yx.shape} do not make an overlay; "
            "give one plane of each, of the same shape."
        )
    steps = [min(math.ceil(max(image_yx.shape) / OVERLAY_LIMIT), side) for side in image_yx.shape]
    labels = _every(labels_yx, steps)
    highest = int(labels.max())
    if classes is not None and (highest >= len(classes) or labels.min() < 0):
        raise InputError(f"Label {highest} is none of the {len(classes)} classes; name all classes, that of 0 too.")
    rows = np.arange(0, image_yx.shape[0], steps[0])
    first, end = data_bar or (0, 0)
    grey = _grey(_every(image_yx, steps), (rows < first) | (rows >= end))
    rgb = np.repeat(grey[..., None], 3, axis=2)
    if classes is None:
        colours, index = OBJECT_COLOURS, labels % len(OBJECT_COLOURS)
    else:
        colours, index = np.array([spec.colour for spec in classes], np.float32), labels
    tinted = labels > 0
    rgb[tinted] += opacity * (colours[index[tinted]] - rgb[tinted])
    outline = tinted & _borders(labels)
    rgb[outline] = colours[index[outline]]
    canvas = Image.fromarray(np.rint(rgb).astype(np.uint8))
    if pixel_size_nm is not None:
        bottom = first // steps[0] if end >= image_yx.shape[0] else canvas.height
        draw_scale_bar(canvas, pixel_size_nm[1] * steps[1], bottom)
    if classes is None:
        return np.asarray(canvas)
    return np.concatenate((np.asarray(canvas), legend_rgb(classes[1:], canvas.width, letter_height(canvas))))


def _every(array_yx: Any, steps: Sequence[int]) -> np.ndarray:
    """Every n-th pixel."""
    if isinstance(array_yx, np.ndarray):
        return array_yx[:: steps[0], :: steps[1]]
    height, width = array_yx.shape
    rows = max(BAND // (width * steps[0]), 1) * steps[0]
    bands = (np.asarray(array_yx[y : y + rows, :]) for y in range(0, height, rows))
    return np.concatenate([band[:: steps[0], :: steps[1]] for band in bands])


def _grey(image_yx: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Grey values from 0 to 255, float32, stretched by those rows.

    What is not finite becomes black, and a constant image grey.
    """
    image = image_yx.astype(np.float32)
    finite = np.isfinite(image)
    known = image[rows][finite[rows]]
    if not known.size:
        return np.zeros_like(image)
    low, high = np.percentile(known, (0.5, 99.5))
    if high <= low:
        low, high = float(known.min()), float(known.max())
    if high <= low:
        return np.where(finite, np.float32(127), np.float32(0))
    image[~finite] = low
    stretched: np.ndarray = np.clip((image - np.float32(low)) * np.float32(255 / (high - low)), 0, 255)
    return stretched


def _borders(labels_yx: np.ndarray) -> np.ndarray:
    """Pixels that have a neighbour with another label."""
    border = np.zeros(labels_yx.shape, bool)
    for axis in (0, 1):
        differ = np.diff(labels_yx, axis=axis) != 0
        before = [slice(None), slice(None)]
        after = [slice(None), slice(None)]
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        border[tuple(before)] |= differ
        border[tuple(after)] |= differ
    return border


def ome_axes(axes: str) -> str:
    """Axes that OME knows: a letter other than Z, C and T becomes the first of T, Z and C that is free."""
    known = ""
    for letter in axes[:-2]:
        free = [name for name in "TZC" if name not in axes[:-2] and name not in known]
        known += letter if letter in "TZC" and letter not in known else free[0]
    return known + "YX"


def _annotation(xml: str) -> dict[str, str]:
    """Keys and values that `write_labels` left in the OME-XML."""
    found = tifffile.xml2dict(xml).get("OME", {}).get("StructuredAnnotations", {}).get("MapAnnotation", ())
    for annotation in found if isinstance(found, list | tuple) else [found]:
        if annotation.get("Namespace") == NAMESPACE:
            entries = annotation["Value"]["M"]
            return {entry["K"]: str(entry["value"]) for entry in (entries if isinstance(entries, list) else [entries])}
    return {}


def _tiles(labels: LazyPixels) -> Iterator[np.ndarray]:
    """Tiles of all planes in reading order, those at the end filled up with 0."""
    height, width = labels.shape[-2:]
    for plane in np.ndindex(*labels.shape[:-2]):
        for y in range(0, height, LARGE_TILE):
            for x in range(0, width, LARGE_TILE):
                part = labels[(*plane, slice(y, y + LARGE_TILE), slice(x, x + LARGE_TILE))]
                tile = np.zeros((LARGE_TILE, LARGE_TILE), labels.dtype)
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile


def _attributes(folder: Path) -> dict[str, Any]:
    """Give what `write_labels_zarr` left in the attributes of a store; nothing where there are none."""
    try:
        found = json.loads((folder / ".zattrs").read_text(encoding="utf-8")).get(NAMESPACE, {})
    except (FileNotFoundError, ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_nan(value: object) -> bool:
    return isinstance(value, float | np.floating) and math.isnan(value)


def _plain(value: Any) -> Any:
    """Turn a value into the types that JSON knows."""
    if isinstance(value, BaseModel):
        return _plain(value.model_dump())
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _json(value: object, indent: int | None = None) -> str:
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def explain(path: Path, error: OSError, *, folder: bool = False) -> str:
    """Say why a file, or a folder, cannot be written and what to do about it."""
    if path.is_dir() and not folder:
        return "is a folder; give the name of a file in it."
    if not path.parent.is_dir():
        return f"cannot be written, since there is no folder {path.parent}; create it first."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "cannot be written, since the disk is full; free some space and try again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"cannot be written ({error.strerror}); choose a folder that you may write to."
    return f"cannot be written ({error.strerror or error}); check the disk and the path."

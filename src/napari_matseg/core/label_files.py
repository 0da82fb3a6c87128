"""Labels as OME-TIFF, and what is kept with them."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import tifffile

from napari_matseg.core.export import NAMESPACE, replacing, to_json
from napari_matseg.core.pixels import LAZY_BYTES, LazyPixels
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

TILE = 512
LARGE_TILE = 1024
"""As large as the chunks of stored labels, so that each is read once."""
CLASSIC_LIMIT = 2**32 - 2**25
"""Bytes of labels from which BigTIFF is written; compressed they might fit, but nobody knows beforehand."""
NM_PER_CM = 1e7


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
        annotation["classes"] = to_json([spec.model_dump() for spec in classes], indent=None)
    if record is not None:
        annotation["record"] = to_json(record, indent=None)
    metadata: dict[str, Any] = {
        "axes": ome_axes(axes),
        "UUID": str(uuid4()),  # tifffile's own would hold the address of the machine
        "Creator": NAMESPACE,
        "Name": "".join(letter for letter in path.stem if letter.isprintable()),  # XML allows no others
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
            # ImageJ reads no tiles without Bio-Formats; what stays in its file when it is read is better off with them.
            tile = (TILE, TILE) if labels.nbytes > LAZY_BYTES else None
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
            kept = annotation_of(xml) if xml else {}
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


def ome_axes(axes: str) -> str:
    """Axes that OME knows: a letter other than Z, C and T becomes the first of T, Z and C that is free."""
    known = ""
    for letter in axes[:-2]:
        free = [name for name in "TZC" if name not in axes[:-2] and name not in known]
        known += letter if letter in "TZC" and letter not in known else free[0]
    return known + "YX"


def annotation_of(xml: str) -> dict[str, str]:
    """Look up the keys and values that we left in the OME-XML; none where there are none."""
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

"""OME-Zarr, a folder with an image in chunks, mostly at several resolutions: https://ngff.openmicroscopy.org.

Versions 0.1 to 0.5 of the metadata, so both formats of Zarr, 2 and 3. Other folders of the store, such as labels, are
not looked at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.axes import Key, arrange
from napari_matseg.core.converted import restored
from napari_matseg.core.export import NAMESPACE
from napari_matseg.core.file_damage import damage_as_error
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.vendor_record import known, length_nm, pixel_size
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import zarr

KIND = "Zarr store"
SIGNS = ("zarr.json", ".zgroup", ".zarray")
MOST_BYTES_PER_CHUNK = 512 * 2**20
"""A chunk has to be decoded as a whole; larger ones are refused."""
MOST_PER_SIDE = 2**24
"""Pixels along an axis; a store costs nothing to claim any number."""
MOST_LEVELS = 32
SLACK = 65536
"""Bytes that a chunk may have beyond twice its values, for what other codecs than the compressor put into it."""

CODECS = {
    *("bytes", "endian", "transpose", "sharding_indexed", "blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma"),
    *("shuffle", "delta", "bitround", "quantize", "fixedscaleoffset", "astype", "packbits"),
    *("crc32", "crc32c", "adler32", "fletcher32"),
}
"""What may decode a chunk. Others are not for images, and one of them, pickle, runs what it decodes."""

RGB = ("FF0000", "00FF00", "0000FF")


@dataclass(frozen=True)
class _Axis:
    """An axis as the metadata have it: its name in lower case, and the unit of its steps."""

    name: str
    unit: str | None = None


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return any((path / sign).is_file() for sign in SIGNS)


def read_zarr(path: Path) -> Micrograph:
    """Read an OME-Zarr image, or a Zarr array of two axes or more.

    Of several images in one store the first is taken; `metadata["left_out"]` names the others.

    Parameters
    ----------
    path : Path
        A folder that `is_zarr`: the store, or an image in one.

    Returns
    -------
    micrograph : Micrograph
        The full resolution, with the smaller ones as levels. Small images are loaded, others stay in their chunks.
        Chunks that are not there have the store's fill value, as Zarr says.

    Raises
    ------
    InputError
        If it is damaged, or holds no image of grey or colour.
    """
    import zarr

    with damage_as_error(path, KIND):
        if not _is_group(path):
            return _bare_array(path, _open(path))
        return _image(path, zarr.open_group(path, mode="r", use_consolidated=False))


def _is_group(path: Path) -> bool:
    if (path / "zarr.json").is_file():
        return bool(json.loads((path / "zarr.json").read_bytes())["node_type"] == "group")
    return (path / ".zgroup").is_file()


def _bare_array(path: Path, array: zarr.Array[Any]) -> Micrograph:
    """Micrograph of an array without metadata: the last two axes are height and width, or colour follows them."""
    colour = array.ndim - 1 if array.ndim >= 3 and array.shape[-1] in (3, 4) else None
    n_planes = array.ndim - (2 if colour is None else 3)
    if n_planes < 0:
        raise InputError(f"{path}: the Zarr array has {array.ndim} axis; name an image, of height and width.")
    given = [*(getattr(array.metadata, "dimension_names", None) or ()), *[None] * array.ndim][:n_planes]
    names = [str(name or "") for name in given] + ["y", "x"] + ([] if colour is None else ["c"])
    pixels, axes = arrange(
        lambda key: _fetch(path, array, key), array.shape, array.dtype, names, colour=colour, blocks=array.chunks
    )
    return Micrograph(pixels, axes, source=path)


def _image(path: Path, group: zarr.Group, left_out: tuple[str, ...] = ()) -> Micrograph:
    attributes: Any = dict(group.attrs)
    attributes = attributes.get("ome", attributes)
    several = attributes.get("multiscales")
    if not several:
        return _first_inner(path, group, attributes)
    multiscale = several[0]
    listed = multiscale["datasets"][:MOST_LEVELS]
    array = _open(path, group.path, _inside(path, listed[0]))
    axes = _axes(multiscale, array.ndim)
    names = [axis.name for axis in axes]
    if len(axes) != array.ndim or names.count("y") != 1 or names.count("x") != 1:
        raise InputError(
            f"{path}: the axes {names} do not fit an image of shape {array.shape}; give it one named y and one named x."
        )
    channels = _channels(attributes)
    colour = names.index("c") if "c" in names and [colour for _, colour in channels] == list(RGB) else None
    pixels, letters = arrange(
        lambda key: _fetch(path, array, key), array.shape, array.dtype, names, colour=colour, blocks=array.chunks
    )
    steps = _steps(multiscale, listed[0], array.ndim)
    y, x = names.index("y"), names.index("x")
    size = pixel_size(length_nm(steps[y], axes[y].unit), length_nm(steps[x], axes[x].unit))
    left_out += tuple(f"image {one.get('name') or number}" for number, one in enumerate(several[1:], start=1))
    micrograph = Micrograph(
        pixels=pixels,
        axes=letters,
        pixel_size_nm=size,
        source=path,
        vendor="OME",
        metadata=known(
            channels=[label for label, _ in channels] or None if "C" in letters else None,
            left_out=list(left_out) or None,
        ),
        levels=_levels(path, group, listed[1:], pixels, names, colour),
    )
    kept = attributes.get(NAMESPACE)
    return restored(micrograph, kept.get("micrograph") if isinstance(kept, dict) else None)


def _first_inner(path: Path, group: zarr.Group, attributes: dict[str, Any]) -> Micrograph:
    """Image of a store that has several side by side, as bioformats2raw writes them: folders 0, 1, ..."""
    if "plate" in attributes or "well" in attributes:
        raise InputError(f"{path}: is a plate of many images; name the folder of one, such as {path.name}/A/1/0.")
    images = sorted((name for name in group.group_keys() if name.isdecimal()), key=int)
    if "bioformats2raw.layout" not in attributes or not images:
        raise InputError(f"{path}: the Zarr store has no image that its metadata tell of; name an image in it.")
    inner = group[images[0]]
    if not {"multiscales", "ome"} & dict(inner.attrs).keys():
        raise InputError(f"{path}: the first image, {images[0]}, has no metadata; name another folder in it.")
    return _image(path, inner, tuple(f"image {name}" for name in images[1:]))  # type: ignore[arg-type]


def _levels(
    path: Path, group: zarr.Group, listed: list[Any], pixels: Any, names: list[str], colour: int | None
) -> tuple[Any, ...]:
    """Smaller copies, as many as can be read, for pixels that stay in their chunks."""
    levels: list[Any] = []
    if not isinstance(pixels, LazyPixels):
        return ()
    for dataset in listed:
        try:
            array = _open(path, group.path, _inside(path, dataset))
            with damage_as_error(path, KIND):
                level, _ = arrange(
                    lambda key, array=array: _fetch(path, array, key),  # type: ignore[misc]
                    array.shape,
                    array.dtype,
                    names,
                    colour=colour,
                    stays=True,
                    blocks=array.chunks,
                )
        except InputError:
            break
        if level.ndim != pixels.ndim or prod(level.shape) >= prod((levels or [pixels])[-1].shape):
            break
        levels.append(level)
    return tuple(levels)


def _open(path: Path, *inner: str) -> zarr.Array[Any]:
    """Open an array of real numbers whose chunks can be decoded safely; by its own metadata, never consolidated ones.

    Raises
    ------
    InputError
        If it is of another kind.
    """
    import zarr

    from napari_matseg.core.zarr_store import COMPRESSORS, BoundedStore, Shards

    with damage_as_error(path, KIND):
        array = zarr.open_array(path.joinpath(*inner), mode="r")
        codecs = _codecs(array.metadata.to_dict())
        unknown = codecs - CODECS
        if unknown:
            names = ", ".join(sorted(unknown))
            raise InputError(f"{path}: chunks coded by {names} are not decoded; convert the store.")
        kind = "complex values" if array.dtype.kind == "c" else f"values of the kind {array.dtype}"
        if array.dtype.kind not in "buif":
            raise InputError(f"{path}: {kind} are not supported; save the image as grey or RGB.")
        if 0 in array.shape or not array.shape:
            raise InputError(f"{path}: the image holds no pixels (shape {array.shape}); save it again from its source.")
        if max(array.shape) > MOST_PER_SIDE:
            raise InputError(f"{path}: claims to be of shape {array.shape}; copy it again from its source.")
        chunk_bytes = prod(array.chunks) * array.dtype.itemsize
        if chunk_bytes > MOST_BYTES_PER_CHUNK:
            raise InputError(f"{path}: has chunks of {chunk_bytes / 2**30:.1f} GiB; save it with smaller ones.")
        compressors = sorted(codecs & COMPRESSORS)
        if len(compressors) > 1:
            raise InputError(f"{path}: chunks coded by {' and '.join(compressors)} are not decoded; convert the store.")
        store = BoundedStore(
            path.joinpath(*inner),
            compressors[0] if compressors else None,
            2 * chunk_bytes + SLACK,
            Shards.of(array, path),
        )
        return zarr.open_array(store, mode="r")


def _codecs(metadata: Any) -> set[str]:
    """Names of all codecs in the metadata of an array, of a shard's parts as well."""
    names: set[str] = set()
    todo: list[Any] = [metadata.get(key) for key in ("compressor", "filters", "codecs", "index_codecs")]
    while todo:
        entry = todo.pop()
        if isinstance(entry, list | tuple):
            todo += entry
        elif isinstance(entry, dict):
            names.add(str(entry.get("name") or entry.get("id")).removeprefix("numcodecs."))
            inner = entry.get("configuration")
            if isinstance(inner, dict):
                todo += [inner.get("codecs"), inner.get("index_codecs")]
        elif entry is not None:
            names.add(str(getattr(entry, "codec_id", type(entry).__name__)))
    return names


def _fetch(path: Path, array: zarr.Array[Any], key: Key) -> np.ndarray:
    with damage_as_error(path, KIND):
        return np.asarray(array[key])


def _inside(path: Path, dataset: Any) -> str:
    """Path of a level, which has to be in the store."""
    inner = PurePosixPath(str(dataset["path"]))
    if inner.is_absolute() or ".." in inner.parts or "\\" in str(inner) or ":" in str(inner):
        raise InputError(f"{path}: the metadata name {str(inner)[:80]}, outside the store; copy it again.")
    return str(inner)


def _axes(multiscale: Any, ndim: int) -> list[_Axis]:
    """Axes in order; versions before 0.3 have always the same five."""
    listed = multiscale.get("axes") or list("tczyx")[-ndim:]
    return [
        _Axis(axis.lower()) if isinstance(axis, str) else _Axis(str(axis["name"]).lower(), axis.get("unit"))
        for axis in listed
    ]


def _steps(multiscale: Any, dataset: Any, ndim: int) -> list[float]:
    """Length of a step along each axis: the scale of the level, times that of all."""
    steps = [1.0] * ndim
    for transformation in [
        *(dataset.get("coordinateTransformations") or ()),
        *(multiscale.get("coordinateTransformations") or ()),
    ]:
        if transformation.get("type") == "scale" and "scale" in transformation:
            scale = transformation["scale"]
            steps = [step * abs(float(factor)) for step, factor in zip(steps, scale, strict=True)]
    return steps


def _channels(attributes: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and colour of each channel, where the metadata say how to show them."""
    listed = (attributes.get("omero") or {}).get("channels") or ()
    return [(str(one.get("label", "")), str(one.get("color", "")).upper()) for one in listed]

"""Labels as OME-Zarr: in chunks, compressed, with smaller copies for viewing: https://ngff.openmicroscopy.org/0.4."""

from __future__ import annotations

import contextlib
import os
import shutil
from itertools import product
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from napari_matseg.core.export import NAMESPACE, explain, write_json
from napari_matseg.core.label_files import check_labels, ome_axes
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.progress import Progress, finish
from napari_matseg.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    import zarr

    from napari_matseg.core.pixels import Box
    from napari_matseg.settings import ClassSpec

VERSION = "0.4"
CHUNK = 1024
SMALLEST = 1024
"""Pixels on the longer side from which on no smaller copy is made."""
LEVEL = 3  # of zstd
KINDS = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}


class StoredLabels(LazyPixels):
    """Labels in a store, which are read when they are sliced.

    Parameters
    ----------
    path : Path
        Of the store.
    keeper : object, optional
        What has to live as long as these labels do, such as the workspace that the store lies in.

    Attributes
    ----------
    path : Path
    levels : tuple of LazyPixels
        Smaller copies: every second pixel, every fourth, and so on.
    """

    def __init__(self, path: Path, keeper: object = None) -> None:
        import zarr

        self.path = path
        self.keeper = keeper
        arrays = [zarr.open_array(path / "0", mode="r")]
        arrays += [zarr.open_array(path / str(level), mode="r") for level in range(1, _n_levels(arrays[0].shape))]
        super().__init__(arrays[0].shape, arrays[0].dtype, arrays[0].ndim - 2, _reader(arrays[0]))
        self.levels = tuple(LazyPixels(array.shape, self.dtype, array.ndim - 2, _reader(array)) for array in arrays[1:])


def write_labels_zarr(
    path: Path,
    labels: Any,
    *,
    pixel_size_nm: tuple[float, float] | None = None,
    classes: Sequence[ClassSpec] = (),
    axes: str = "YX",
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write class or instance labels as OME-Zarr 0.4, as `core.label_files.write_labels` writes them as TIFF.

    Parameters
    ----------
    path : Path
        Folder to write, whole or not at all; what is there is replaced.
    labels : array or StoredLabels, uint8, uint16 or uint32
        One axis for each letter of `axes`.
    pixel_size_nm, classes, axes, record
        As for `write_labels`.

    Raises
    ------
    InputError
        If the labels are of another type or do not fit the axes, or the pixel size is none.
    OutputError
        If the folder cannot be written.
    """
    check_labels(path, labels, axes, pixel_size_nm)
    letters = ome_axes(axes)
    size = pixel_size_nm or (1.0, 1.0)
    unit = {} if pixel_size_nm is None else {"unit": "nanometer"}
    described: list[dict[str, Any]] = [
        {"name": letter.lower(), "type": KINDS[letter], **(unit if letter in "YX" else {})} for letter in letters
    ]
    scales = [
        [*[1.0] * (len(letters) - 2), *(float(one) * 2**level for one in size)]
        for level in range(_n_levels(labels.shape))
    ]
    multiscale = {
        "version": VERSION,
        "name": path.name.split(".", maxsplit=1)[0],
        "axes": described,
        "datasets": [
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
            for level, scale in enumerate(scales)
        ],
        "type": "nearest",
    }
    label = {
        "version": VERSION,
        "colors": [{"label-value": i, "rgba": [*spec.colour, 255 if i else 0]} for i, spec in enumerate(classes)],
        "properties": [{"label-value": i, "class": spec.name} for i, spec in enumerate(classes)],
    }
    ours = {"classes": list(classes) or None, "record": record}
    with replacing_folder(path) as temporary:
        if isinstance(labels, StoredLabels):
            for level in range(len(scales)):
                shutil.copytree(labels.path / str(level), temporary / str(level))
        else:
            planes = np.asarray(labels).reshape(-1, *labels.shape[-2:])
            finish(_write(temporary, list(planes), labels.shape, labels.dtype, 0, 0))
        write_json(temporary / ".zgroup", {"zarr_format": 2})
        write_json(
            temporary / ".zattrs",
            {
                "multiscales": [multiscale],
                "image-label": {key: value for key, value in label.items() if value},
                NAMESPACE: {key: value for key, value in ours.items() if value is not None},
            },
        )


def store_steps(
    path: Path, planes: Sequence[Any], shape: tuple[int, ...], dtype: np.dtype, top: int, n_classes: int = 0
) -> Generator[Progress, None, np.ndarray]:
    """Put planes into a store, with smaller copies and without metadata, for `StoredLabels`.

    Parameters
    ----------
    path : Path
        Folder to write, whole or not at all.
    planes : sequence of array, shape (rows, width)
        They may be lazy: about one chunk of them is in memory at a time.
    shape : tuple of int
        Of the store, ending in height and width.
    dtype : numpy.dtype
    top : int
        Row of the store at which planes begin; what is above and below them is 0.
    n_classes : int
        Of which the pixels in planes are counted.

    Yields
    ------
    Progress

    Returns
    -------
    int64 array, shape (n_classes,)
        How many pixels of the planes are of each class.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with replacing_folder(path) as temporary:
        return (yield from _write(temporary, planes, shape, dtype, top, n_classes))


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`, which takes its place if all goes well; see `core.export.replacing`.

    Raises
    ------
    OutputError
        If anything cannot be written.
    """
    temporary = path.with_name(f".{uuid4().hex}{path.suffix}")
    old = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb+") as written:
                    os.fsync(written.fileno())
        if path.exists():
            path.rename(old)
        try:
            temporary.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    except OSError as error:
        raise OutputError(f"{path}: {explain(path, error, folder=True)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def _write(
    folder: Path, planes: Sequence[Any], shape: tuple[int, ...], dtype: np.dtype, top: int, n_classes: int
) -> Generator[Progress, None, np.ndarray]:
    shapes = [(*shape[:-2], *(-(-side // 2**level) for side in shape[-2:])) for level in range(_n_levels(shape))]
    chunks = (*[1] * (len(shape) - 2), CHUNK, CHUNK)
    arrays = [create_array(folder / str(level), one, chunks, dtype) for level, one in enumerate(shapes)]
    total = len(planes) * sum(-(-one[-2] // CHUNK) for one in shapes)
    done = 0
    counts = np.zeros(n_classes, np.int64)
    for level, (array, one) in enumerate(zip(arrays, shapes, strict=True)):
        for plane, place in enumerate(np.ndindex(*shape[:-2])):
            for y, x in product(range(0, one[-2], CHUNK), range(0, one[-1], CHUNK)):
                bottom, right = min(y + CHUNK, one[-2]), min(x + CHUNK, one[-1])
                if level:
                    finer: Any = arrays[level - 1][(*place, slice(2 * y, 2 * bottom), slice(2 * x, 2 * right))]
                    values = finer[::2, ::2]
                else:
                    rows = slice(max(y - top, 0), max(bottom - top, 0))
                    part = np.asarray(planes[plane][rows, x:right])
                    if n_classes:
                        counts += np.bincount(part.ravel(), minlength=n_classes)
                    above = max(top - y, 0)
                    values = np.zeros((bottom - y, right - x), dtype)
                    values[above : above + len(part)] = part
                array[(*place, slice(y, bottom), slice(x, right))] = values
                if right == one[-1]:
                    done += 1
                    yield Progress(done, total, "writing")
    return counts


def create_array(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype) -> zarr.Array[Any]:
    """Make an array of Zarr 2, compressed, with nothing in it but 0."""
    import numcodecs  # type: ignore[import-untyped]
    import zarr

    return zarr.create_array(
        path,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        compressors=numcodecs.Zstd(LEVEL),
        fill_value=0,
        zarr_format=2,
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )


def _n_levels(shape: tuple[int, ...]) -> int:
    """How many levels there are, the full resolution too."""
    side, n = max(shape[-2:]), 1
    while side > SMALLEST:
        side, n = -(-side // 2), n + 1
    return n


def _reader(array: zarr.Array[Any]) -> Any:
    def read(plane: int, box: Box) -> np.ndarray:
        where: list[int | slice] = [int(i) for i in np.unravel_index(plane, array.shape[:-2])] if array.ndim > 2 else []
        return np.asarray(array[(*where, *(slice(span.start, span.stop) for span in box))])

    return read

"""What was found in one micrograph, as files and as a record; and labels that are there already, read again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.export import write_png
from napari_matseg.core.label_files import write_labels
from napari_matseg.core.large.stores import write_labels_zarr
from napari_matseg.core.overlay import overlay_rgb
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.provenance import hash_file
from napari_matseg.core.read import read
from napari_matseg.core.write_probabilities import write_probabilities
from napari_matseg.measuring import sizes_of
from napari_matseg.running.index_page import write_thumbnail
from napari_matseg.running.summary import SUFFIXES
from napari_matseg.running.tables import write_table
from napari_matseg.running.totals import describe_fields
from napari_matseg.running.work import Found, table_of
from napari_matseg.settings import ClassSpec, CleanSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.pixels import Box
    from napari_matseg.measuring import Measured
    from napari_matseg.running.commit import Commit
    from napari_matseg.settings import MeasureSettings, Recipe

UNCLEANED = "uncleaned_"
"""Begins what the networks gave before it was cleaned, kept so that it can be cleaned in another way."""
AT_ONCE = 1 << 24
"""Pixels that are looked at together."""
ENDINGS = {"tiff": ".tif", "zarr": ".ome.zarr"}


def files_of(out: Path, name: str, record: Mapping[str, Any]) -> dict[str, Path]:
    """Files of a complete set of outputs, by what they hold, with the record itself."""
    place = out / f"{name}_record.json"
    return {what: place.with_name(about["file"]) for what, about in record["outputs"].items()} | {"record": place}


def load_found(out: Path, name: str, record: Mapping[str, Any]) -> Found | None:
    """Read what the networks gave, as it was before it was cleaned.

    Returns
    -------
    Found or None
        None where a file is not what the record says.

    Raises
    ------
    InputError
        If a file cannot be read.
    """
    files = files_of(out, name, record)
    start = UNCLEANED if f"{UNCLEANED}labels" in files else ""

    def load(what: str) -> np.ndarray | None:
        path = files[start + what]
        if hash_file(path) != record["outputs"][start + what]["sha256"]:
            return None
        pixels = read(path, find_bar=False).pixels
        shape = (*record["image"]["shape_planes"], *record["image"]["shape_yx"])
        return pixels if tuple(pixels.shape) == shape else np.asarray(pixels).reshape(shape)

    layers = [load(what) for what in _layer_names(files, start)]
    parted = f"{start}instances" in files
    instances = load("instances") if parted else None
    if not layers or any(layer is None for layer in layers) or (parted and instances is None):
        return None
    specs = tuple(ClassSpec.model_validate(spec) for spec in record["model"].get("classes") or ())
    return Found(
        tuple(layer for layer in layers if layer is not None),
        specs,
        slice(*record["image"]["segmented_rows"]),
        record["segmentation"],
        instances,
        table=tuple(record.get("prompted") or ()),
    )


def write_outputs(
    one: Commit,
    found: Found,
    cleaned: Found,
    measured: Measured | None,
    micrograph: Micrograph,
    recipe: Recipe,
    old: Mapping[str, Any] | None,
) -> None:
    """Write what the recipe asks for.

    Parameters
    ----------
    one : Commit
    found, cleaned : Found
        Before and after cleaning.
    measured : Measured or None
    micrograph : Micrograph
    recipe : Recipe
    old : mapping or None
        The record that is there, if `found` was read from its files; those that would be the same stay.
    """
    image = describe_shape(micrograph, found)
    stays = old is not None and old["image"]["pixel_size_nm"] == image["pixel_size_nm"]
    if recipe.clean != CleanSettings():
        _write_layers(one, found, micrograph, recipe, UNCLEANED, old if stays else None)
    stays = stays and old is not None and old["recipe"]["clean"] == recipe.clean.model_dump(mode="json")
    _write_layers(one, cleaned, micrograph, recipe, "", old if stays else None)
    if recipe.outputs.probabilities:
        if found.probabilities is None:
            one.keep("probabilities")
        else:
            path = one.path("probabilities", ".tif")
            write_probabilities(path, found.probabilities, found.specs, micrograph.pixel_size_nm)
    picture = _overlay(cleaned, micrograph)
    write_thumbnail(one.path("thumbnail", ".jpg"), picture)
    if recipe.outputs.overlay:
        write_png(one.path("overlay", ".png"), picture)
    if measured is not None:
        table = table_of(cleaned, measured)
        for kind in recipe.outputs.tables:
            write_table(one.path(f"objects{SUFFIXES[kind]}", f".{kind}"), table)


def describe_shape(micrograph: Micrograph, found: Found) -> dict[str, Any]:
    """Say what a micrograph is, and which rows of it were looked at, in plain JSON types."""
    return {
        **micrograph.describe(),
        "shape_planes": list(micrograph.shape_planes),
        "shape_yx": list(micrograph.shape_yx),
        "segmented_rows": [found.rows.start, found.rows.stop],
    }


def describe_result(found: Found, measured: Measured | None, settings: MeasureSettings | None) -> dict[str, Any]:
    """Say what was found after cleaning: pixels and fractions of classes, fields, objects; in plain JSON types."""
    about: dict[str, Any] = {"pixels_sha256": {what: hash_pixels(pixels) for what, pixels in _labels(found).items()}}
    if found.specs:
        counts = _count(found.layers[0], found.rows, len(found.specs))
        about["pixels"] = {spec.name: n for spec, n in zip(found.specs, counts, strict=True)}
        about["fractions"] = {name: n / sum(counts) for name, n in about["pixels"].items()}
    if measured is not None and settings is not None:
        n = sum(len(field.table) for field in measured.fields)
        about["fields"] = describe_fields(measured)
        about["objects"] = sizes_of(measured, settings)["all"].summary(settings.weighting) | {"n": n}
    if not found.specs:
        about["prompted"] = list(found.table)
        about.setdefault("objects", {"n": len(found.table)})
    return about


def hash_pixels(labels: np.ndarray) -> str:
    """Sha256 of labels: of their type, shape and values."""
    digest = hashlib.sha256(f"{np.dtype(labels.dtype).str} {tuple(labels.shape)} ".encode())
    for band in _bands(labels, slice(0, labels.shape[-2])):
        digest.update(np.ascontiguousarray(band).data)
    return digest.hexdigest()


def _count(classes: np.ndarray, rows: slice, n_classes: int) -> list[int]:
    """How many pixels of some rows are of each class."""
    counts = np.zeros(n_classes, np.int64)
    for band in _bands(classes, rows):
        counts += np.bincount(band.ravel(), minlength=n_classes)
    return [int(n) for n in counts]


def _bands(labels: np.ndarray, rows: slice) -> Iterator[np.ndarray]:
    """Give some rows at a time, plane by plane: the labels of a large micrograph stay in their file."""
    step = max(1, AT_ONCE // labels.shape[-1])
    for plane in np.ndindex(*labels.shape[:-2]):
        for top in range(rows.start, rows.stop, step):
            yield np.asarray(labels[(*plane, slice(top, min(top + step, rows.stop)))])


def _labels(found: Found) -> dict[str, np.ndarray]:
    """Layers and instances, by what they are called."""
    named = {"labels" if number == 1 else f"labels_{number}": layer for number, layer in enumerate(found.layers, 1)}
    return named if found.instances is None else named | {"instances": found.instances}


def _layer_names(files: Mapping[str, Path], start: str) -> list[str]:
    names = [f"labels_{number}" for number in range(2, len(files) + 1) if f"{start}labels_{number}" in files]
    return ["labels", *names]


def _write_layers(
    one: Commit, found: Found, micrograph: Micrograph, recipe: Recipe, start: str, old: Mapping[str, Any] | None
) -> None:
    ending = ENDINGS[recipe.outputs.labels]
    write = write_labels if recipe.outputs.labels == "tiff" else write_labels_zarr
    for what, pixels in _labels(found).items():
        there = (old or {}).get("outputs", {}).get(start + what)
        if there is not None and there["file"].endswith(ending):
            one.keep(start + what)
            continue
        write(
            one.path(start + what, ending),
            pixels,
            pixel_size_nm=micrograph.pixel_size_nm,
            classes=found.specs if what == "labels" else (),
            axes=micrograph.axes.removesuffix("S"),
            record=found.record,
        )


def _overlay(found: Found, micrograph: Micrograph) -> np.ndarray:
    """Picture of the first plane; of a large one only what is shown is read."""
    seen, first = micrograph.view(), (0,) * len(micrograph.shape_planes)
    layer: Any = found.layers[0]

    def lazy(take: Callable[[slice, slice], np.ndarray]) -> LazyPixels:
        def box(_plane: int, where: Box) -> np.ndarray:
            return take(*(slice(side.start, side.stop) for side in where))

        return LazyPixels(micrograph.shape_yx, take(slice(1), slice(1)).dtype, 0, box)

    return overlay_rgb(
        lazy(lambda rows, columns: seen[:, rows, columns][0]),
        lazy(lambda rows, columns: layer[(*first, rows, columns)]),
        found.specs or None,
        pixel_size_nm=micrograph.pixel_size_nm,
        data_bar=micrograph.data_bar,
    )

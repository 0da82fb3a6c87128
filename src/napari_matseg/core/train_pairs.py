"""What is painted over micrographs as pairs of files that a training reads, and the recipe beside them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.export import NAMESPACE, make_folder, replacing
from napari_matseg.core.image_pairs import without_suffix
from napari_matseg.core.label_files import write_labels
from napari_matseg.core.progress import Progress
from napari_matseg.core.truth import IGNORE
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Sequence
    from pathlib import Path

    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.settings import TrainSettings

IMAGES, LABELS = "images", "labels"
NOTHING = ClassSpec(name="not labelled", colour=(0, 0, 0))
"""What 0 is in files of painted labels."""


@dataclass(frozen=True, eq=False)
class Painted:
    """A micrograph with what is painted over it.

    Attributes
    ----------
    name : str
    micrograph : Micrograph
    labels : integer array, shape (..., height, width)
        With the planes of the micrograph.
    """

    name: str
    micrograph: Micrograph
    labels: np.ndarray


def save_pairs(
    painted: Sequence[Painted], values: Sequence[int], classes: Sequence[ClassSpec], folder: Path
) -> Generator[Progress, None, None]:
    """Write each plane on which there is anything as an image and its labels, without the data bar.

    Parameters
    ----------
    painted : sequence of Painted
        Their names are those of `file_names`.
    values : sequence of int
        Value of each class in the labels. If 0 is none of them it is what is not labelled, and the files count the
        classes from 1; else from 0.
    classes : sequence of ClassSpec
    folder : Path
        For the folders `images` and `labels`.

    Yields
    ------
    Progress

    Raises
    ------
    InputError
        If labels and image differ in shape, or there are labels of no class.
    OutputError
        If something cannot be written.
    """
    first = int(0 not in values)
    named = (NOTHING, *classes) if first else tuple(classes)
    for part in (IMAGES, LABELS):
        make_folder(folder / part)
    for number, one in enumerate(painted):
        yield Progress(number, len(painted), f"saving {one.name}")
        shape = (*one.micrograph.shape_planes, *one.micrograph.shape_yx)
        if one.labels.shape != shape:
            raise InputError(f"{one.name}: image of shape {shape} and labels of shape {one.labels.shape} do not match.")
        planes = one.labels.reshape(-1, *one.micrograph.shape_yx)
        rows = one.micrograph.content_rows
        for plane in _planes(one, values):
            stem = name_of_plane(one, plane)
            _write_image(folder / IMAGES / f"{stem}.tif", one.micrograph, plane)
            ids_yx = _renumbered(planes[plane][rows], values, one.name) + np.uint8(first)
            write_labels(
                folder / LABELS / f"{stem}.tif", ids_yx, pixel_size_nm=one.micrograph.pixel_size_nm, classes=named
            )


def names_of(painted: Painted, values: Collection[int]) -> tuple[str, ...]:
    """Names of the files that `save_pairs` makes."""
    return tuple(name_of_plane(painted, plane) for plane in _planes(painted, values))


def name_of_plane(painted: Painted, plane: int) -> str:
    """Name of the files of a plane, counted from 0."""
    return painted.name if painted.micrograph.n_planes == 1 else f"{painted.name} plane {plane}"


def file_names(names: Sequence[str]) -> list[str]:
    """Make names into those of files, all different whatever the system makes of capitals.

    Examples
    --------
    >>> file_names(["a/b", "A:b", "spot.5kV.tif"])
    ['a-b', 'A-b 2', 'spot.5kV']
    """
    made: list[str] = []
    for name in names:
        stem = re.sub(r"[^\w .()+-]", "-", without_suffix(name)).strip(" .") or "image"
        number, unique = 1, stem
        while unique.casefold() in {other.casefold() for other in made}:
            number += 1
            unique = f"{stem} {number}"
        made.append(unique)
    return made


def write_training(settings: TrainSettings, path: Path) -> None:
    """Write a recipe that `load_recipe` reads, with every value, so that a later default changes nothing.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    import yaml

    text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    with replacing(path) as temporary:
        temporary.write_text(f"# napari-matseg train {path.name}\n{text}", encoding="utf-8")


def _planes(painted: Painted, values: Collection[int]) -> list[int]:
    """Planes with anything on them, from 0; all of them if 0 is a class."""
    planes = painted.labels.reshape(-1, painted.labels.shape[-2] * painted.labels.shape[-1])
    return [i for i, plane in enumerate(planes) if 0 in values or plane.any()]


def _renumbered(labels_yx: np.ndarray, values: Sequence[int], name: str) -> np.ndarray:
    """Place in the list of each value, and `IGNORE` for 0 if it is none of them."""
    table = {value: place for place, value in enumerate(values)}
    found, inverse = np.unique(labels_yx, return_inverse=True)
    strange = [int(value) for value in found if int(value) not in table and value]
    if strange:
        raise InputError(f"{name}: label {strange[0]} is of no class; name it, or take it out.")
    places = np.array([table.get(int(value), IGNORE) for value in found], dtype=np.uint8)
    ids_yx: np.ndarray = places[inverse].reshape(labels_yx.shape)
    return ids_yx


def _write_image(path: Path, micrograph: Micrograph, plane: int) -> None:
    import tifffile

    where = np.unravel_index(plane, micrograph.shape_planes) if micrograph.shape_planes else ()
    pixels = np.asarray(micrograph.pixels[tuple(int(i) for i in where)])[micrograph.content_rows]
    pixels = pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels
    metadata: dict[str, Any] = {"axes": "YXS" if micrograph.is_colour else "YX", "Creator": NAMESPACE}
    if micrograph.pixel_size_nm is not None:
        y, x = micrograph.pixel_size_nm
        metadata |= {"PhysicalSizeY": y, "PhysicalSizeYUnit": "nm", "PhysicalSizeX": x, "PhysicalSizeXUnit": "nm"}
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            pixels,
            ome=True,
            photometric="rgb" if micrograph.is_colour else "minisblack",
            compression="zlib",
            software=NAMESPACE,
            metadata=metadata,
        )

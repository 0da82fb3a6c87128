"""From labels to tables, size distributions and phase fractions; `reporting` writes them to files.

Plane by plane, each of which is a field: what several fields give is put together last, so that the correction for the
edge is each field's own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.export import find_labels_info
from napari_matseg.core.labels import label_objects
from napari_matseg.core.measure.fractions import one_field_std, phase_fractions
from napari_matseg.core.measure.grains import grains_of
from napari_matseg.core.measure.shapes import measure_objects
from napari_matseg.core.measure.sizes import Sizes, pool, size_distribution
from napari_matseg.core.measure.spacing import mean_free_path, nearest_neighbours
from napari_matseg.core.progress import Progress, finish
from napari_matseg.core.provenance import describe_image, describe_run
from napari_matseg.core.read import as_micrograph
from napari_matseg.errors import InputError
from napari_matseg.settings import MeasureSettings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path
    from typing import Literal

    from numpy.typing import NDArray
    from pandas import DataFrame

    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.settings import ClassSpec


@dataclass(frozen=True, eq=False)
class Field:
    """What one plane of labels came to.

    Attributes
    ----------
    name : str
        Of the file or the image, with the plane if there are several.
    table : DataFrame
        One row for each object, as `core.measure.shapes.measure_objects` gives it.
    shape_yx : (int, int)
        Height and width of what was measured, in pixels.
    first_row : int
        Row of the plane at which it begins.
    pixel_size_nm : (float, float) or None
        Height and width of a pixel.
    classes : tuple of ClassSpec
        Empty where the labels are objects without classes.
    pixels : int64 array, shape (classes,), or None
        Of each class.
    std : float64 array, shape (classes,), or None
        Standard error of each class's area fraction, from this field alone.
    spacing : tuple of dict
        Mean free path and nearest neighbours of each class but 0, or of all objects: rows of a table.
    """

    name: str
    table: DataFrame
    shape_yx: tuple[int, int]
    first_row: int
    pixel_size_nm: tuple[float, float] | None
    classes: tuple[ClassSpec, ...] = ()
    pixels: NDArray[np.int64] | None = None
    std: NDArray[np.float64] | None = None
    spacing: tuple[dict[str, Any], ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(spec.name for spec in self.classes)


@dataclass(frozen=True, eq=False)
class Measured:
    """What the fields of one or several images came to.

    Attributes
    ----------
    fields : tuple of Field
    record : dict
        What was measured how, in plain JSON types.
    """

    fields: tuple[Field, ...]
    record: dict[str, Any]

    @property
    def table(self) -> DataFrame:
        """All objects, with the field that each is in as the first column, `file`."""
        import pandas as pd

        tables = [field.table.assign(file=field.name) for field in self.fields]
        # An empty table has columns, but no types that should count.
        table = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
        return table[["file", *(name for name in table.columns if name != "file")]]

    def fractions(self) -> DataFrame | None:
        """Area fraction of each class with its confidence interval; None where the labels have no classes.

        Raises
        ------
        InputError
            If the fields have different classes.
        """
        counted = [field for field in self.fields if field.pixels is not None]
        if not counted:
            return None
        names = counted[0].class_names
        other = next((field for field in counted if field.class_names != names), None)
        if other is not None:
            raise InputError(
                f"{other.name}: has other classes than {counted[0].name}; measure fractions of the two apart."
            )
        std = counted[0].std if len(counted) == 1 else None
        return phase_fractions(np.array([field.pixels for field in counted]), names, std)


def measure(
    labels: str | Path | np.ndarray | Micrograph,
    image: str | Path | np.ndarray | Micrograph | None = None,
    settings: MeasureSettings | None = None,
    *,
    classes: Sequence[ClassSpec] | None = None,
    pixel_size_nm: tuple[float, float] | None = None,
) -> Measured:
    """Measure the objects and phases in labels; see `measure_steps`, of which this is the quiet form.

    Examples
    --------
    >>> labels = np.zeros((40, 40), np.uint16)
    >>> labels[10:20, 5:25] = 1
    >>> measured = measure(labels, pixel_size_nm=(2.0, 2.0))
    >>> measured.table[["label", "area_nm2", "feret_min_nm"]].to_dict("records")
    [{'label': 1, 'area_nm2': 800.0, 'feret_min_nm': 20.0}]
    """
    return finish(measure_steps(labels, image, settings, classes=classes, pixel_size_nm=pixel_size_nm))


def measure_steps(
    labels: str | Path | np.ndarray | Micrograph,
    image: str | Path | np.ndarray | Micrograph | None = None,
    settings: MeasureSettings | None = None,
    *,
    classes: Sequence[ClassSpec] | None = None,
    pixel_size_nm: tuple[float, float] | None = None,
    instances: np.ndarray | Micrograph | None = None,
) -> Generator[Progress, None, Measured]:
    """Measure the objects and phases in labels, as a generator: it yields `Progress` after each plane.

    Parameters
    ----------
    labels : path, array or Micrograph
        Ids of objects, or of classes, of which the connected pixels of all but class 0 are objects.
    image : path, array or Micrograph, optional
        The micrograph that the labels are of, for intensities; and for the pixel size and the data bar, where the
        labels do not tell.
    settings : MeasureSettings, optional
    classes : sequence of ClassSpec, optional
        What the labels are classes of; empty for objects. None: what the file of labels says.
    pixel_size_nm : (float, float), optional
        Height and width of a pixel, where neither file states it or both are wrong.
    instances : array or Micrograph, optional
        Of labels of classes: ids of objects, of the shape of the labels, where connected pixels are not what they are.

    Returns
    -------
    Measured

    Raises
    ------
    InputError
        If labels or image cannot be read, or do not belong together.
    """
    settings = settings or MeasureSettings()
    started = time.perf_counter()
    yield Progress(0, 1, "reading")
    drawn = as_micrograph(labels, find_bar=False)
    seen = None if image is None else as_micrograph(image)
    if drawn.is_colour or np.dtype(drawn.pixels.dtype).kind not in "bui":
        raise InputError(f"{drawn.name}: labels must be whole numbers without colour; give labels, not the image.")
    if seen is not None and (seen.n_planes, seen.shape_yx) != (drawn.n_planes, drawn.shape_yx):
        raise InputError(
            f"{seen.name}: has shape {(*seen.shape_planes, *seen.shape_yx)}, and the labels "
            f"{(*drawn.shape_planes, *drawn.shape_yx)}; give the image that the labels were made of."
        )
    parted = None if instances is None else as_micrograph(instances)
    named, made = find_labels_info(drawn.source)
    specs = tuple(named or ()) if classes is None else tuple(classes)
    size = pixel_size_nm or drawn.pixel_size_nm or (None if seen is None else seen.pixel_size_nm)
    rows = _rows(drawn, seen, made) if settings.exclude_data_bar else slice(0, drawn.shape_yx[0])
    fields = []
    for plane in range(drawn.n_planes):
        yield Progress(plane, drawn.n_planes, "measuring")
        image_yx = None if seen is None else seen.plane(plane)[0]
        ids_yx = None if parted is None else parted.plane(plane)[0]
        fields.append(_field(drawn, plane, image_yx, specs, rows, size, ids_yx))
    record = {
        "format": 1,
        "job": "measure",
        "labels": describe_image(drawn),
        "image": None if seen is None else describe_image(seen),
        "pixel_size_nm": None if size is None else list(size),
        "measured_rows": [rows.start, rows.stop],
        "settings": settings.model_dump(mode="json"),
        "made_by": made,
        "seconds": round(time.perf_counter() - started, 3),
        **describe_run(),
    }
    return Measured(tuple(fields), record)


def sizes_of(
    measured: Measured,
    settings: MeasureSettings | None = None,
    by: Literal["all", "file", "class"] = "all",
    kept: NDArray[np.bool_] | None = None,
) -> dict[str, Sizes]:
    """Distribution of the sizes of objects, in groups.

    Parameters
    ----------
    measured : Measured
    settings : MeasureSettings, optional
    by : {"all", "file", "class"}
        What the groups are of; the name of the only one of "all" is "all".
    kept : boolean array, shape (objects,), optional
        Which rows of ``measured.table`` count.

    Raises
    ------
    InputError
        If sizes of different units would come together.
    """
    settings = settings or MeasureSettings()
    groups: dict[str, list[Sizes]] = {}
    first = 0
    for field in measured.fields:
        table = field.table
        if kept is not None:
            table = table[kept[first : first + len(table)]]
        first += len(field.table)
        for name, part in _groups(field, table, by):
            groups.setdefault(name, []).append(
                size_distribution(part, settings, field.shape_yx, field.pixel_size_nm, first_row=field.first_row)
            )
    return {name: pool(sizes) for name, sizes in groups.items()}


def size_rows(measured: Measured, settings: MeasureSettings | None = None) -> list[dict[str, Any]]:
    """Table of size distributions: a row for each file, each class, and all together, where they differ."""
    settings = settings or MeasureSettings()
    rows: list[dict[str, Any]] = []
    units = {field.pixel_size_nm is None for field in measured.fields}
    kinds = ("file",) if len(units) > 1 else ("file", "class", "all")
    for kind in kinds:
        groups = sizes_of(measured, settings, kind)  # type: ignore[arg-type]
        if kind == "file" or len(groups) > 1 or (kind == "all" and len(measured.fields) > 1):
            rows += [{"of": kind, "name": name, **sizes.summary(settings.weighting)} for name, sizes in groups.items()]
    return rows


def put_together(measured: Sequence[Measured]) -> Measured:
    """Take the fields of several images as those of one specimen."""
    record = {"format": 1, "job": "measure", "images": [one.record for one in measured]}
    return Measured(tuple(field for one in measured for field in one.fields), record)


def read_grains(
    labels: Sequence[str | Path],
    boundary: str | None = None,
    pixel_size_nm: tuple[float, float] | None = None,
) -> tuple[list[np.ndarray], tuple[float, float] | None]:
    """Read fields of grains.

    Parameters
    ----------
    labels : sequence of path
        Labels of grains; or of classes, of which one is the boundary between grains. Each plane is a field.
    boundary : str, optional
        Name or number of that class.
    pixel_size_nm : (float, float), optional
        Where the files do not state it or are wrong.

    Returns
    -------
    fields : list of array, shape (height, width)
        Labels of grains, for `core.measure.grains`.
    pixel_size_nm : (float, float) or None

    Raises
    ------
    InputError
        If a file cannot be read, has no such class, or the pixel sizes of files differ.
    """
    fields: list[np.ndarray] = []
    sizes: dict[tuple[float, float] | None, str] = {}
    for path in labels:
        drawn = as_micrograph(path, find_bar=False)
        named, made = find_labels_info(drawn.source)
        rows = _rows(drawn, None, made)
        sizes.setdefault(pixel_size_nm or drawn.pixel_size_nm, drawn.name)
        if boundary is None and named is not None:
            raise InputError(
                f"{drawn.name}: holds classes ({', '.join(spec.name for spec in named)}), not grains; say which of "
                "them is the boundary between grains."
            )
        for plane in range(drawn.n_planes):
            labels_yx = drawn.plane(plane)[0][rows]
            if boundary is not None:
                labels_yx = grains_of(labels_yx == _class_id(boundary, named, drawn.name))
            fields.append(labels_yx)
    if len(sizes) > 1:
        one, other = list(sizes.items())[:2]
        raise InputError(
            f"{one[1]} has pixels of {_say(one[0])} and {other[1]} of {_say(other[0])}; "
            "give fields of one magnification, or the pixel size."
        )
    return fields, next(iter(sizes), None)


def _class_id(wanted: str, classes: Sequence[ClassSpec] | None, name: str) -> int:
    names = [spec.name for spec in classes or ()]
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal() and (not names or int(wanted) < len(names)):
        return int(wanted)
    known = f"its classes are {', '.join(names)}" if names else "its classes have no names, so give a number"
    raise InputError(f"{name}: there is no class {wanted}; {known}.")


def _say(pixel_size_nm: tuple[float, float] | None) -> str:
    return "unknown size" if pixel_size_nm is None else f"{pixel_size_nm[0]:g} x {pixel_size_nm[1]:g} nm"


def _groups(field: Field, table: DataFrame, by: str) -> Iterator[tuple[str, DataFrame]]:
    if by == "class" and field.class_names:
        # A class without objects has been looked for all the same.
        for name in field.class_names[1:]:
            yield name, table[table["class"] == name]
    else:
        yield (field.name if by == "file" else "all"), table


def _rows(labels: Micrograph, image: Micrograph | None, made: dict[str, Any] | None) -> slice:
    """Rows that were segmented, as far as labels or image know."""
    if made is not None and made.get("segmented_rows"):
        return slice(*made["segmented_rows"])
    if labels.data_bar is None and image is not None:
        return image.content_rows
    return labels.content_rows


def _field(
    labels: Micrograph,
    plane: int,
    image_yx: np.ndarray | None,
    specs: tuple[ClassSpec, ...],
    rows: slice,
    size: tuple[float, float] | None,
    ids_yx: np.ndarray | None,
) -> Field:
    labels_yx = labels.plane(plane)[0]
    if labels_yx.dtype.kind == "i" and labels_yx.min() < 0:
        raise InputError(f"{labels.name}: holds negative ids; make them positive, with 0 for what is no object.")
    names = tuple(spec.name for spec in specs)
    classes_yx, pixels, std = None, None, None
    if names:
        classes_yx = labels_yx
        if int(classes_yx.max()) >= len(names):
            raise InputError(
                f"{labels.name}: has values up to {classes_yx.max()}, but the classes are 0 to {len(names) - 1} "
                f"({', '.join(names)}); say that the labels are objects, or name the model that they are from."
            )
        inside = np.zeros_like(classes_yx)
        inside[rows] = classes_yx[rows]
        labels_yx = label_objects(inside) if ids_yx is None else ids_yx
        pixels = np.bincount(classes_yx[rows].ravel(), minlength=len(names)).astype(np.int64)
        std = one_field_std(classes_yx[rows], len(names))
    table = measure_objects(
        labels_yx, image_yx, pixel_size_nm=size, classes_yx=classes_yx, class_names=names, rows=rows, plane=plane
    )
    name = labels.name if labels.source is None else labels.source.name
    if labels.n_planes > 1:
        name = f"{name}, plane {plane}"
    shape = rows.stop - rows.start, labels.shape_yx[1]
    phases = {"all objects": (labels_yx[rows] > 0, table)}
    if classes_yx is not None:
        phases = {
            class_name: (classes_yx[rows] == i, table[table["class"] == class_name])
            for i, class_name in enumerate(names[1:], start=1)
        }
    spacing = tuple(
        {
            "file": name,
            "of": what,
            **mean_free_path(phase_yx, size).to_dict(),
            **nearest_neighbours(objects, shape, size, first_row=rows.start).to_dict(),
        }
        for what, (phase_yx, objects) in phases.items()
    )
    return Field(name, table, shape, rows.start, size, specs, pixels, std, spacing)

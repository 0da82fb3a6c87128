"""From labels to tables, size distributions and phase fractions; `reporting` writes them to files.

Plane by plane, each of which is a field (`core.measure.field`): what several fields give is put together last, so that
the correction for the edge is each field's own.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.label_files import find_labels_info
from napari_matseg.core.measure.field import Field, field_steps, measured_rows
from napari_matseg.core.measure.fractions import phase_fractions
from napari_matseg.core.measure.sizes import Sizes, pool, size_distribution
from napari_matseg.core.progress import Progress, finish, of_planes
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
    """Measure the objects and phases in labels, as a generator that yields `Progress`; closing it cancels.

    What lies in files stays there: some rows are read at a time, so that labels may be larger than the memory.

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
    if parted is not None and tuple(parted.pixels.shape) != tuple(drawn.pixels.shape):
        raise InputError(
            f"{parted.name}: has shape {tuple(parted.pixels.shape)}, and the classes {tuple(drawn.pixels.shape)}; "
            "give the objects of the same image."
        )
    named, made = find_labels_info(drawn.source)
    specs = tuple(named or ()) if classes is None else tuple(classes)
    size = pixel_size_nm or drawn.pixel_size_nm or (None if seen is None else seen.pixel_size_nm)
    rows = measured_rows(drawn, seen, made) if settings.exclude_data_bar else slice(0, drawn.shape_yx[0])
    fields = []
    for plane in range(drawn.n_planes):
        name = drawn.name if drawn.source is None else drawn.source.name
        work = field_steps(
            drawn.view(plane),
            name if drawn.n_planes == 1 else f"{name}, plane {plane}",
            image_yx=None if seen is None else seen.view(plane),
            ids_yx=None if parted is None else parted.view(plane),
            specs=specs,
            rows=rows,
            pixel_size_nm=size,
            plane=plane,
            source=drawn.name,
        )
        with closing(work):
            fields.append((yield from of_planes(work, plane, drawn.n_planes)))
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


def _groups(field: Field, table: DataFrame, by: str) -> Iterator[tuple[str, DataFrame]]:
    if by == "class" and field.class_names:
        # A class without objects has been looked for all the same.
        for name in field.class_names[1:]:
            yield name, table[table["class"] == name]
    else:
        yield (field.name if by == "file" else "all"), table

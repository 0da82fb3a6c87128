"""What was measured of a layer, and where its objects are."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from numpy.typing import NDArray
from pandas import DataFrame

from napari_matseg._napari.layers import (
    as_read,
    counted_rows,
    file_of,
    full_resolution,
    micrograph_from_layer,
    record_of,
    specs_of,
)
from napari_matseg.core.labels import label_objects
from napari_matseg.core.large.rows import RowsAhead
from napari_matseg.core.measure.runs import bands
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import Progress
from napari_matseg.errors import InputError
from napari_matseg.measuring import Measured, measure_steps
from napari_matseg.settings import ClassSpec, MeasureSettings

MOST_CLASSES = 255
"""Larger values are ids of objects."""
MOST_READ = 1 << 24
"""Pixels of labels in a file that are read to be shown, which takes a part of a second."""


@dataclass(frozen=True)
class Asked:
    """A layer to measure, and how."""

    labels: Labels
    image: Layer | None
    classes: bool
    """Whether the values are classes, not objects."""
    settings: MeasureSettings
    pixel_size_nm: tuple[float, float] | None = None
    """Instead of what the layers say."""


@dataclass(eq=False)
class Result:
    """Numbers of a layer's objects, in the order of ``measured.table``, and their pixels."""

    asked: Asked
    name: str
    measured: Measured
    specs: tuple[ClassSpec, ...]
    drawn: Micrograph
    seen: Micrograph | None
    table: DataFrame = field(init=False)
    _shape: tuple[int, ...] = field(init=False)
    _pieces: tuple[int, np.ndarray] | None = None

    def __post_init__(self) -> None:
        """Keep what is asked for often."""
        self.table = self.measured.table
        self._shape = tuple(full_resolution(self.asked.labels).shape)

    @property
    def in_nm(self) -> bool:
        """Whether sizes are in nanometres."""
        return self.measured.fields[0].pixel_size_nm is not None

    @property
    def fits(self) -> bool:
        """Whether the layer still has the pixels' places that it was measured with."""
        return tuple(full_resolution(self.asked.labels).shape) == self._shape

    @property
    def n_planes(self) -> int:
        """Number of planes."""
        return len(self.measured.fields)

    def planes(self, plane: int) -> list[int]:
        """Index of a plane, one for each axis before height and width."""
        shape = self._shape[:-2]
        return [int(i) for i in np.unravel_index(plane, shape)] if shape else []

    def values(self, plane: int) -> Any:
        """Labels of a plane: an array, or what slices like one, of shape (height, width)."""
        return full_resolution(self.asked.labels)[tuple(self.planes(plane))]

    def objects(self, plane: int) -> Any:
        """Ids of the objects of a plane, as in the table; those of labels in a file are read where they are sliced."""
        if not self.asked.classes:
            return self.values(plane)
        if not isinstance(full_resolution(self.asked.labels), np.ndarray):
            return self.measured.fields[plane].ids
        if self._pieces is None or self._pieces[0] != plane:
            part = self.measured.fields[plane]
            rows = slice(part.first_row, part.first_row + part.shape_yx[0])
            classes = np.asarray(self.values(plane))  # which may have been drawn on since it was measured
            inside = np.zeros_like(classes)
            inside[rows] = classes[rows]
            self._pieces = plane, label_objects(inside)
        return self._pieces[1]

    def sample(self, plane: int, frame: tuple[slice, slice], step: int) -> NDArray[np.uint32] | None:
        """Ids in the middle of squares of `step` pixels; None where too much would have to be read for it."""
        objects = self.objects(plane)
        sides = [range(*side.indices(length)) for side, length in zip(frame, objects.shape, strict=True)]
        rows, columns = (np.arange(side.start + step // 2, side.stop, step) for side in sides)
        if isinstance(objects, np.ndarray):
            return objects[np.ix_(rows, columns)]
        factor, layer = 1, self.asked.labels
        if not self.asked.classes and layer.multiscale:
            for level in layer.data:
                finer = round(self._shape[-2] / level.shape[-2])
                if factor < finer <= step:
                    factor, objects = finer, level[tuple(self.planes(plane))]
        where = [np.minimum(places // factor, length - 1)
                 for places, length in zip((rows, columns), objects.shape, strict=True)]  # fmt: skip
        if not rows.size or not columns.size:
            return np.zeros((rows.size, columns.size), np.uint32)
        first = [int(places[0]) for places in where]
        box = tuple(slice(start, int(places[-1]) + 1) for start, places in zip(first, where, strict=True))
        if np.prod([side.stop - side.start for side in box]) > MOST_READ:
            return None
        return np.asarray(objects[box])[np.ix_(*(places - start for places, start in zip(where, first, strict=True)))]

    def only(self, kept: NDArray[np.bool_], why: dict[str, Any]) -> Measured:
        """Take these rows of the table as all that was measured, and say in the record why."""
        parts = np.split(kept, np.cumsum([len(one.table) for one in self.measured.fields])[:-1])
        fields = (replace(one, table=one.table[part]) for one, part in zip(self.measured.fields, parts, strict=True))
        return Measured(tuple(fields), self.measured.record | {"filters": why})

    def frames(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """Find where objects lie.

        Returns
        -------
        int64 array, shape (4, n)
            First row and column of each, and those after the last: not the closest, but an object's centre of mass
            lies within its bounding box, so that all of its pixels are there.
        """
        unit, size = ("nm", self.measured.fields[0].pixel_size_nm) if self.in_nm else ("px", (1.0, 1.0))
        table = self.table.iloc[rows]
        centres = table[["y", "x"]].to_numpy(np.float64).T
        reach = table[[f"height_{unit}", f"width_{unit}"]].to_numpy(np.float64).T / np.array(size)[:, None]
        first = np.maximum(np.floor(centres - reach), 0)
        after = np.minimum(np.ceil(centres + reach) + 1, np.array(self._shape[-2:])[:, None])
        return np.concatenate([first, after]).astype(np.int64)


def measure(asked: Asked, shown: int) -> Generator[Progress, None, Result]:
    """Measure a layer, and find the objects of the plane that is shown.

    Raises
    ------
    InputError
        If the layers cannot be measured.
    """
    yield Progress(0, 1, "reading")
    labels = micrograph_from_layer(asked.labels)
    record = record_of(asked.labels) or {}
    height = labels.shape_yx[0]
    start, stop = counted_rows(asked.labels) or (0, height)
    if (start, stop) != (0, height) and 0 <= start < stop <= height:
        labels = replace(labels, data_bar=(stop, height) if start == 0 else (0, start))
    image = None
    if asked.image is not None:
        image = as_read(micrograph_from_layer(asked.image), file_of(asked.image))
    specs = (yield from _specs(asked.labels, labels)) if asked.classes else ()
    measured = yield from measure_steps(labels, image, asked.settings, classes=specs, pixel_size_nm=asked.pixel_size_nm)
    name = asked.labels.name
    named = (replace(one, name=name if len(measured.fields) == 1 else f"{name}, plane {i}")
             for i, one in enumerate(measured.fields))  # fmt: skip
    about = {"layer": name, "made_by": record or None}
    result = Result(asked, name, Measured(tuple(named), measured.record | about), specs, labels, image)
    yield Progress(1, 1, "finding the objects")
    result.objects(shown)
    return result


def _specs(layer: Labels, labels: Micrograph) -> Generator[Progress, None, tuple[ClassSpec, ...]]:
    """Classes that a layer names, or one for each value that it has."""
    named = specs_of(layer.metadata)
    if named is not None:
        return named
    highest = 0
    for plane in range(labels.n_planes):
        values = RowsAhead(labels.view(plane))
        for band in bands(0, *values.shape):
            yield Progress(band.start, values.shape[0], "looking for classes")
            highest = max(highest, int(values[band].max()))
    if highest >= MOST_CLASSES:
        raise InputError(
            f"{layer.name}: has values up to {highest}, too many to be classes; say that they are objects."
        )
    colours = [layer.get_color(value) for value in range(max(2, highest + 1))]
    return tuple(ClassSpec(name=str(value), colour=_rgb(colour)) for value, colour in enumerate(colours))


def _rgb(colour: Sequence[float] | None) -> tuple[int, int, int]:
    red, green, blue = (0, 0, 0) if colour is None else (round(float(part) * 255) for part in colour[:3])
    return red, green, blue

"""One plane of labels measured band by band, so that it may lie in a file and be as large as it likes.

In memory are some rows, two numbers for each connected piece where classes are measured, and a row of the table for
each object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_matseg.core.large.components import Components, Joiner
from napari_matseg.core.large.rows import RowsAhead
from napari_matseg.core.measure.fractions import FieldBlocks
from napari_matseg.core.measure.runs import bands
from napari_matseg.core.measure.shapes import ObjectSums
from napari_matseg.core.measure.spacing import PathCounts, nearest_neighbours
from napari_matseg.core.progress import Progress
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from pandas import DataFrame

    from napari_matseg.core.measure.spacing import FreePath
    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.settings import ClassSpec

ALL_OBJECTS = "all objects"


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
    paths : dict of FreePath
        Of "all objects", and of each class but 0 by its name.
    ids : array, shape (height, width), or None
        Of labels of classes: ids of the objects as in the table, which are found again where they are sliced.
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
    paths: dict[str, FreePath] = field(default_factory=dict)
    ids: Any = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(spec.name for spec in self.classes)


def field_steps(
    labels_yx: Any,
    name: str,
    *,
    image_yx: Any = None,
    ids_yx: Any = None,
    specs: tuple[ClassSpec, ...] = (),
    rows: slice,
    pixel_size_nm: tuple[float, float] | None = None,
    plane: int = 0,
    source: str = "labels",
) -> Generator[Progress, None, Field]:
    """Measure a plane of labels.

    Parameters
    ----------
    labels_yx : array of integers, or one-channel PlaneView
        Ids of objects; or of classes, if `specs` name them. Of this and the others only some rows are read at a time.
    name : str
        Of the field.
    image_yx, ids_yx : array or PlaneView, optional
        Grey values; and of labels of classes the ids of the objects, where connected pixels are not what they are.
    specs : tuple of ClassSpec
    rows : slice
        Those that show the specimen.
    pixel_size_nm : (float, float), optional
    plane : int
        Number of the plane, for the table.
    source : str
        What messages call the labels.

    Yields
    ------
    Progress
        In rows; closing the generator cancels.

    Raises
    ------
    InputError
        If an id is negative, or no class.
    """
    labels = RowsAhead(labels_yx)
    if labels.dtype.kind not in "ui":
        raise InputError(
            f"{source}: ids must be integers, not {labels.dtype}; give each object an id of its own, as in "
            "skimage.measure.label(mask)."
        )
    image = None if image_yx is None else RowsAhead(image_yx)
    ids: RowsAhead | Components | None = None if ids_yx is None else RowsAhead(ids_yx)
    width = labels.shape[1]
    n_rows, done = max(rows.stop - rows.start, 1), 0
    finding = bool(specs) and ids is None
    total = n_rows * (2 if finding else 1)
    check = _Check(source, specs)
    if finding:
        joiner = Joiner()
        for band in bands(rows.start, rows.stop, width):
            yield Progress(band.start - rows.start, total, "finding the objects")
            values_yx = labels[band]
            if check.accepts(values_yx):
                joiner.add(values_yx)
        check.finish()
        ids = Components(labels.__getitem__, labels.shape, rows, joiner)
        done = n_rows

    names = tuple(spec.name for spec in specs)
    shape = rows.stop - rows.start, width
    sums = ObjectSums((rows.start, rows.stop, width), pixel_size_nm, names if specs else None, plane)
    paths = PathCounts(max(len(names), 2))
    blocks = FieldBlocks(shape, len(names)) if specs else None
    for again in (False, True):
        if again and not sums.came_back.size:
            break
        for number, band in enumerate(bands(rows.start, rows.stop, width)):
            note = "measuring objects in several pieces" if again else "measuring"
            yield Progress(done + band.start - rows.start, total, note)
            values_yx = labels[band]
            if not check.accepts(values_yx):
                continue
            objects_yx = values_yx
            if isinstance(ids, Components):
                objects_yx = ids.strip(number)
            elif ids is not None:
                objects_yx = ids[band]
            if not again:
                paths.add(values_yx if specs else values_yx > 0)
                if blocks is not None:
                    blocks.add(values_yx)
            sums.add(objects_yx, None if image is None else image[band], values_yx if specs else None)
        check.finish()
    table = sums.table()
    free = {ALL_OBJECTS: paths.path(None, pixel_size_nm)}
    free |= {phase: paths.path(i, pixel_size_nm) for i, phase in enumerate(names) if i}
    spacing = tuple(
        {
            "file": name,
            "of": phase,
            **path.to_dict(),
            **nearest_neighbours(
                table if phase == ALL_OBJECTS else table[table["class"] == phase],
                shape,
                pixel_size_nm,
                first_row=rows.start,
            ).to_dict(),
        }
        for phase, path in list(free.items())[1 if specs else 0 :]
    )
    return Field(
        name,
        table,
        shape,
        rows.start,
        pixel_size_nm,
        specs,
        paths.pixels[: len(names)] if specs else None,
        None if blocks is None else blocks.std(),
        spacing,
        free,
        ids if finding else None,
    )


def measured_rows(labels: Micrograph, image: Micrograph | None, made: Mapping[str, Any] | None) -> slice:
    """Rows that were segmented, as far as labels or image know."""
    if made is not None and made.get("segmented_rows"):
        return slice(*made["segmented_rows"])
    if labels.data_bar is None and image is not None:
        return image.content_rows
    return labels.content_rows


class _Check:
    """Sees whether values are ids; of those that are no class it finds the highest before it complains."""

    def __init__(self, source: str, specs: tuple[ClassSpec, ...]) -> None:
        self._source, self._names, self._highest = source, [spec.name for spec in specs], 0

    def accepts(self, values_yx: NDArray[Any]) -> bool:
        if values_yx.dtype.kind == "i" and values_yx.size and values_yx.min() < 0:
            raise InputError(f"{self._source}: holds negative ids; make them positive, with 0 for what is no object.")
        if self._names:
            self._highest = max(self._highest, int(values_yx.max(initial=0)))
        return not self._names or self._highest < len(self._names)

    def finish(self) -> None:
        if self._names and self._highest >= len(self._names):
            raise InputError(
                f"{self._source}: has values up to {self._highest}, but the classes are 0 to {len(self._names) - 1} "
                f"({', '.join(self._names)}); say that the labels are objects, or name the model that they are from."
            )

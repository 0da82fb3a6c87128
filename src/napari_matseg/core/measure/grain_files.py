"""Files of labels, each plane of which is a field of grains."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.label_files import find_labels_info
from napari_matseg.core.large.rows import RowsAhead, RowsOf
from napari_matseg.core.measure.field import measured_rows
from napari_matseg.core.measure.grain_fields import GrainField, count_grains_steps, grains_in_steps
from napari_matseg.core.progress import Progress, of_planes
from napari_matseg.core.read import as_micrograph
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_matseg.settings import ClassSpec


def read_grains_steps(
    labels: Sequence[str | Path],
    boundary: str | None = None,
    pixel_size_nm: tuple[float, float] | None = None,
) -> Generator[Progress, None, tuple[list[GrainField], tuple[float, float] | None]]:
    """Read fields of grains, some rows at a time.

    Parameters
    ----------
    labels : sequence of path
        Labels of grains; or of classes, of which one is the boundary between grains. Each plane is a field.
    boundary : str, optional
        Name or number of that class.
    pixel_size_nm : (float, float), optional
        Where the files do not state it or are wrong.

    Yields
    ------
    Progress
        Closing the generator cancels.

    Returns
    -------
    fields : list of GrainField
        For `core.measure.grains`.
    pixel_size_nm : (float, float) or None

    Raises
    ------
    InputError
        If a file cannot be read, has no such class, or the pixel sizes of files differ.
    """
    fields: list[GrainField] = []
    sizes: dict[tuple[float, float] | None, str] = {}
    for number, path in enumerate(labels):
        drawn = as_micrograph(path, find_bar=False)
        if drawn.is_colour or np.dtype(drawn.pixels.dtype).kind not in "ui":
            raise InputError(f"{drawn.name}: labels of grains must be whole numbers without colour; give labels.")
        named, made = find_labels_info(drawn.source)
        rows = measured_rows(drawn, None, made)
        sizes.setdefault(pixel_size_nm or drawn.pixel_size_nm, drawn.name)
        if boundary is None and named is not None:
            raise InputError(
                f"{drawn.name}: holds classes ({', '.join(spec.name for spec in named)}), not grains; say which of "
                "them is the boundary between grains."
            )
        class_id = None if boundary is None else _class_id(boundary, named, drawn.name)
        for plane in range(drawn.n_planes):
            work = count_plane_steps(drawn.view(plane, rows=rows), class_id)
            with closing(work):
                counted = yield from of_planes(work, plane, drawn.n_planes)
            fields.append(counted)
        yield Progress(number + 1, len(labels), "counting grains")
    if len(sizes) > 1:
        one, other = list(sizes.items())[:2]
        raise InputError(
            f"{one[1]} has pixels of {_say(one[0])} and {other[1]} of {_say(other[0])}; "
            "give fields of one magnification, or the pixel size."
        )
    return fields, next(iter(sizes), None)


def count_plane_steps(plane_yx: Any, boundary: int | None) -> Generator[Progress, None, GrainField]:
    """Count the grains of a plane.

    Parameters
    ----------
    plane_yx : array of integers, shape (height, width), or one-channel PlaneView
        Labels of grains; or of classes, of which `boundary` parts the grains.
    boundary : int or None

    Yields
    ------
    Progress
        Closing the generator cancels.
    """
    labels: Any = plane_yx
    if boundary is not None:
        ahead = RowsAhead(plane_yx)
        read = yield from grains_in_steps(lambda rows: ahead[rows] == boundary, ahead.shape)
        labels = RowsOf(read, ahead.shape, np.dtype(np.int32))
    return (yield from count_grains_steps(labels))


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

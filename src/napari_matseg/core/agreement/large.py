"""Labels in files held against truth in files, band by band: counts of bands add up to those of the image.

What needs all of an image at once is left out, and a note says so: the Hausdorff distance, and the search for outlines
and coloured objects in the truth.
"""

from __future__ import annotations

import math
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.agreement.boundaries import BoundaryCounts, count_near
from napari_matseg.core.agreement.comparisons import ClassComparison, sum_of
from napari_matseg.core.label_files import find_labels_info
from napari_matseg.core.large.components import components_steps
from napari_matseg.core.large.rows import RowsAhead, RowsOf
from napari_matseg.core.measure.runs import bands
from napari_matseg.core.metrics import Counts, count
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.progress import Progress, of_planes
from napari_matseg.core.truth import IGNORE, to_classes
from napari_matseg.core.truth_drawn import kind_of
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.settings import ClassSpec, Colour, EvaluateSettings

MOST_AT_ONCE = 1 << 28
"""Pixels of labels that may be compared in memory, where they cannot be band by band."""
NO_HAUSDORFF = "{}: is compared part by part; the Hausdorff distance, which needs all boundaries at once, is left out"


def in_parts(drawn: Micrograph, prediction: Path, truth: Path) -> bool:
    """Whether labels are so large that they are compared band by band with their truth.

    Parameters
    ----------
    drawn : Micrograph
        The prediction.
    prediction, truth : Path
        Files of both.

    Raises
    ------
    InputError
        If they are too large for memory, and the truth cannot be read band by band.
    """
    from napari_matseg.core.read import read

    if not isinstance(drawn.pixels, LazyPixels):
        return False
    grey = kind_of(truth) is None and not drawn.is_colour and not read(truth, find_bar=False).is_colour
    if not grey and drawn.pixels.size > MOST_AT_ONCE:
        raise InputError(
            f"{prediction}: has {drawn.pixels.size} pixels, too many to be compared at once, and only truth that is an "
            f"image of numbers can be read part by part, which {truth} is not; paint it as class ids or ids of "
            "objects, or compare crops."
        )
    return grey


def compare_large_classes_steps(
    prediction: Micrograph,
    truth: Micrograph,
    classes: Sequence[ClassSpec],
    settings: EvaluateSettings,
    *,
    mapping: Mapping[int | Colour, int] | None = None,
    rows: slice | None = None,
    pixel_size_nm: tuple[float, float] | None = None,
) -> Generator[Progress, None, ClassComparison]:
    """Compare classes as `comparisons.compare_classes` does, with some rows of each in memory.

    Parameters
    ----------
    prediction, truth : Micrograph
        Of one shape, without colour.
    classes : sequence of ClassSpec
    settings : EvaluateSettings
    mapping : mapping, optional
        What values of the truth mean; see `core.truth.to_classes`.
    rows : slice, optional
        Those that were segmented.
    pixel_size_nm : (float, float), optional

    Yields
    ------
    Progress
        Closing the generator cancels.

    Raises
    ------
    InputError
        If the two differ in shape, or hold values that are no class.
    """
    _same_shape(prediction, truth)
    names = tuple(spec.name for spec in classes)
    first, stop, _ = (rows or slice(None)).indices(prediction.shape_yx[0])
    width = prediction.shape_yx[1]
    margin = math.ceil(settings.tolerance_px) + 1
    meanings, notes = [], []
    for image, given in ((prediction, None), (truth, mapping)):
        meaning = yield from _meaning_steps(image, classes, given)
        meanings.append(meaning[:2])
        notes += [meaning[2]] if meaning[2] else []
    counts, boundaries = Counts.zero(len(classes)), []
    for plane in range(prediction.n_planes):
        ahead = [RowsAhead(image.view(plane)) for image in (prediction, truth)]
        near = np.zeros((4, len(classes)), np.int64)
        for band in bands(first, stop, width):
            yield Progress(
                plane * (stop - first) + band.start - first, prediction.n_planes * (stop - first), "comparing"
            )
            top, bottom = max(band.start - margin, first), min(band.stop + margin, stop)
            predicted, true = (
                ids[np.searchsorted(values, labels[top:bottom])]
                for (values, ids), labels in zip(meanings, ahead, strict=True)
            )
            inside = slice(band.start - top, band.stop - top)
            counts = counts + count(predicted[inside], true[inside], len(classes), ignore=IGNORE)
            near += count_near(
                predicted, true, len(classes), tolerance_px=settings.tolerance_px, ignore=IGNORE, rows=inside
            )
        has_predicted, has_true = near[0] > 0, near[2] > 0
        both, one_sided = has_predicted & has_true, has_predicted != has_true
        unknown = np.full(len(classes), np.nan)
        boundaries.append(
            BoundaryCounts(
                settings.tolerance_px,
                *(near[0], near[1], near[2], near[3]),
                unknown,
                unknown,
                both.astype(np.int64),
                one_sided.astype(np.int64),
            )
        )
    notes.append(NO_HAUSDORFF.format(prediction.name))
    return ClassComparison((prediction.name,), names, (counts,), (sum_of(boundaries),), settings, tuple(notes))


def large_objects_steps(
    labels: Micrograph, rows: slice, *, truth: bool
) -> Generator[Progress, None, tuple[list[RowsOf], str | None]]:
    """Take what a file holds as objects, read where they are sliced.

    Parameters
    ----------
    labels : Micrograph
        Whole numbers without colour.
    rows : slice
        Those that are compared.
    truth : bool
        Whether it is what people drew, of which a note says what was not looked for.

    Yields
    ------
    Progress
        Closing the generator cancels.

    Returns
    -------
    planes : list of RowsOf
        The rows that are compared.
    note : str or None
        How they were read, where that is not plain.

    Raises
    ------
    InputError
        If they hold what is no object.
    """
    named, _ = find_labels_info(labels.source)
    if np.dtype(labels.pixels.dtype).kind not in "ui":
        raise InputError(f"{labels.name}: objects must be whole numbers, not {labels.pixels.dtype}; save their ids.")
    alone = named is None and (yield from _one_value_steps(labels))
    planes = []
    for plane in range(labels.n_planes):
        ahead = RowsAhead(labels.view(plane))
        if named is None and not alone:
            planes.append(_part(ahead, ahead.dtype, rows))
            continue
        with closing(components_steps(ahead.__getitem__, ahead.shape, slice(0, ahead.shape[0]))) as finding:
            pieces = yield from of_planes(finding, plane, labels.n_planes)
        planes.append(_part(pieces, pieces.dtype, rows))
    note = None
    if alone:
        note = f"{labels.name}: has one value alone; its connected pieces read as objects"
    elif truth and named is None:
        note = f"{labels.name}: each value read as an object; in an image of this size no outlines are looked for"
    return planes, note


def _same_shape(prediction: Micrograph, truth: Micrograph) -> None:
    one, other = ((*image.shape_planes, *image.shape_yx) for image in (prediction, truth))
    if one != other:
        raise InputError(
            f"{truth.name}: has shape {other} and the prediction {one}; "
            "give the truth of the same image, neither cropped nor scaled."
        )


def _meaning_steps(
    image: Micrograph, classes: Sequence[ClassSpec], mapping: Mapping[int | Colour, int] | None
) -> Generator[Progress, None, tuple[NDArray[Any], NDArray[np.uint8], str | None]]:
    """Find the values that there are, the class of each, and how they were read."""
    found = np.zeros(0, image.pixels.dtype)
    for plane in range(image.n_planes):
        ahead = RowsAhead(image.view(plane))
        for band in bands(0, *ahead.shape):
            yield Progress(band.start, ahead.shape[0], "reading classes")
            found = np.union1d(found, np.unique(ahead[band]))
    try:
        read = to_classes(found[None], classes, mapping, image.name, colour=False)
    except InputError as error:
        listed = ", ".join(str(value) for value in found[:8]) + (" and more" if found.size > 8 else "")
        raise InputError(
            f"{image.name}: its values, {listed}, are not all of a class ({', '.join(c.name for c in classes)}); "
            "give a mapping that says what they mean."
        ) from error
    return found, read.labels_yx[0], read.note


def _one_value_steps(labels: Micrograph) -> Generator[Progress, None, bool]:
    """Whether there is one value alone beside 0; the first band with two ends the search."""
    only = 0
    for plane in range(labels.n_planes):
        ahead = RowsAhead(labels.view(plane))
        for band in bands(0, *ahead.shape):
            yield Progress(band.start, ahead.shape[0], "reading objects")
            values = ahead[band]
            highest = int(values.max(initial=0))
            only = only or highest
            if highest not in (0, only) or not ((values == 0) | (values == only)).all():
                return False
    return only > 0


def _part(labels: Any, dtype: np.dtype, rows: slice) -> RowsOf:
    height, width = labels.shape
    first, stop, _ = rows.indices(height)
    return RowsOf(lambda some: labels[first + some.start : first + some.stop], (stop - first, width), dtype)

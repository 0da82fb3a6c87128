"""Files of predictions held against the truth: classes pixel by pixel, or objects one by one."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.agreement.comparisons import (
    ClassComparison,
    ObjectComparison,
    compare_classes,
    compare_objects,
    planes_of,
    predicted_objects,
    sum_of,
)
from napari_matseg.core.agreement.large import compare_large_classes_steps, in_parts, large_objects_steps
from napari_matseg.core.evaluate import classes_of, read_pair, segmented_rows
from napari_matseg.core.export import make_folder, write_csv, write_json
from napari_matseg.core.label_files import find_labels_info
from napari_matseg.core.progress import Progress, finish, of_planes
from napari_matseg.core.provenance import describe_run
from napari_matseg.core.read import read
from napari_matseg.core.truth_drawn import kind_of
from napari_matseg.core.truth_objects import read_objects
from napari_matseg.errors import InputError
from napari_matseg.settings import EvaluateSettings, MeasureSettings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.settings import ClassSpec, Colour

ObjectPlane = tuple[Any, Any, "np.ndarray | None"]
"""Labels predicted and true, shape (height, width), and the pixels that count."""
__all__ = ["ClassComparison", "ObjectComparison", "compare", "compare_steps", "save_comparison"]


def compare(
    pairs: Sequence[tuple[str | Path, str | Path]],
    settings: EvaluateSettings | None = None,
    *,
    classes: Sequence[ClassSpec] | None = None,
    mapping: Mapping[int | Colour, int] | None = None,
    measure: MeasureSettings | None = None,
    pixel_size_nm: tuple[float, float] | None = None,
) -> ClassComparison | ObjectComparison:
    """Compare predictions with their truths; see `compare_steps`, of which this is the quiet form."""
    return finish(
        compare_steps(pairs, settings, classes=classes, mapping=mapping, measure=measure, pixel_size_nm=pixel_size_nm)
    )


def compare_steps(
    pairs: Sequence[tuple[str | Path, str | Path]],
    settings: EvaluateSettings | None = None,
    *,
    classes: Sequence[ClassSpec] | None = None,
    mapping: Mapping[int | Colour, int] | None = None,
    measure: MeasureSettings | None = None,
    pixel_size_nm: tuple[float, float] | None = None,
) -> Generator[Progress, None, ClassComparison | ObjectComparison]:
    """Compare predictions with their truths, as a generator: it yields `Progress` after each image.

    Parameters
    ----------
    pairs : sequence of (prediction, truth)
        Files; `core.image_pairs.match_files` finds them in folders.
    settings : EvaluateSettings, optional
        Whether classes are compared, or objects.
    classes : sequence of ClassSpec, optional
        What the values mean, where classes are compared; else as `core.evaluate.classes_of` finds them.
    mapping : mapping, optional
        From pixel values or colours of the truth to class ids.
    measure : MeasureSettings, optional
        Which sizes are compared, and how the edge is corrected for.
    pixel_size_nm : (float, float), optional
        Where the predictions do not state it or are wrong.

    Returns
    -------
    ClassComparison or ObjectComparison

    Raises
    ------
    InputError
        If there is nothing to compare, a file cannot be read, or two do not belong together.
    """
    settings = settings or EvaluateSettings()
    if not pairs:
        raise InputError("there is nothing to compare; give a prediction and its truth.")
    files = [(Path(prediction), Path(truth)) for prediction, truth in pairs]
    if settings.objects:
        return (yield from _compare_objects(files, settings, measure or MeasureSettings(), pixel_size_nm))
    return (yield from _compare_classes(files, settings, classes, mapping, pixel_size_nm))


def save_comparison(compared: ClassComparison | ObjectComparison, folder: str | Path, stem: str) -> dict[str, Path]:
    """Write the tables as CSV, and all of it as JSON.

    Returns
    -------
    dict
        Files by what they hold: the names of the tables, and `record`.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    folder = Path(folder)
    make_folder(folder)
    files: dict[str, Path] = {}
    for what, rows in compared.tables().items():
        files[what] = folder / f"{stem}_{what}.csv"
        write_csv(files[what], rows)
    files["record"] = folder / f"{stem}_comparison.json"
    record = {
        "format": 1,
        "job": "evaluate",
        "images": list(compared.images),
        "settings": compared.settings.model_dump(mode="json"),
        "notes": list(compared.notes),
        **describe_run(),
    }
    write_json(files["record"], record | {"result": compared.to_dict()})
    return files


def _compare_classes(
    pairs: Sequence[tuple[Path, Path]],
    settings: EvaluateSettings,
    classes: Sequence[ClassSpec] | None,
    mapping: Mapping[int | Colour, int] | None,
    pixel_size_nm: tuple[float, float] | None,
) -> Generator[Progress, None, ClassComparison]:
    if classes is None:
        found = [classes_of(prediction, truth, mapping=mapping) for prediction, truth in pairs]
        classes = max(found, key=len)  # numbers instead of names may not all occur in each image
    names = [spec.name for spec in classes]
    images = []
    for done, (prediction, truth) in enumerate(pairs):
        yield Progress(done, len(pairs), prediction.name)
        drawn = read(prediction, find_bar=False)
        size = pixel_size_nm or drawn.pixel_size_nm
        if size is None and kind_of(truth) is None:
            size = read(truth, find_bar=False).pixel_size_nm
        if in_parts(drawn, prediction, truth):
            true = read(truth, find_bar=False)
            rows = segmented_rows(prediction)
            work = compare_large_classes_steps(
                drawn, true, classes, settings, mapping=mapping, rows=rows, pixel_size_nm=size
            )
            with closing(work):
                images.append((yield from of_planes(work, done, len(pairs), "image")))
            continue
        pair = read_pair(prediction, truth, classes, mapping=mapping)
        images.append(compare_classes(pair, names, settings, name=str(prediction), pixel_size_nm=size))
    together: ClassComparison = sum_of(images)
    return together


def _compare_objects(
    pairs: Sequence[tuple[Path, Path]],
    settings: EvaluateSettings,
    measure: MeasureSettings,
    pixel_size_nm: tuple[float, float] | None,
) -> Generator[Progress, None, ObjectComparison]:
    images: list[ObjectComparison] = []
    notes: list[str] = []
    for done, (prediction, truth) in enumerate(pairs):
        yield Progress(done, len(pairs), prediction.name)
        drawn = read(prediction, find_bar=False)
        planes: Iterable[ObjectPlane]
        if in_parts(drawn, prediction, truth):
            work = _large_planes(drawn, prediction, truth, measure, notes)
            with closing(work):
                planes = yield from of_planes(work, done, len(pairs), "image")
        else:
            planes = _object_planes(drawn, prediction, truth, measure, notes)
        size = pixel_size_nm or drawn.pixel_size_nm
        images.append(compare_objects(planes, settings, measure, name=str(prediction), pixel_size_nm=size))
    together: ObjectComparison = sum_of(images)
    return replace(together, notes=tuple(dict.fromkeys(notes)))


def _large_planes(
    drawn: Micrograph, prediction: Path, truth: Path, measure: MeasureSettings, notes: list[str]
) -> Generator[Progress, None, list[ObjectPlane]]:
    """Take objects plane by plane from files, of which some rows are read at a time, and note how."""
    rows = (segmented_rows(prediction) if measure.exclude_data_bar else None) or slice(0, drawn.shape_yx[0])
    true = read(truth, find_bar=False)
    if true.pixels.shape != drawn.pixels.shape:
        raise InputError(
            f"{truth}: shape {true.pixels.shape} is not that of {prediction}, {drawn.pixels.shape}; "
            "give the truth of this image, neither cropped nor scaled."
        )
    sides = []
    for labels, is_truth in ((drawn, False), (true, True)):
        planes, note = yield from large_objects_steps(labels, rows, truth=is_truth)
        sides.append(planes)
        notes += [note] if note else []
    return [(predicted, of, None) for predicted, of in zip(*sides, strict=True)]


def _object_planes(
    drawn: Micrograph, prediction: Path, truth: Path, measure: MeasureSettings, notes: list[str]
) -> Iterator[ObjectPlane]:
    """Read objects plane by plane as `compare_objects` takes them, and note how."""
    pixels = np.asarray(drawn.pixels)
    if drawn.is_colour or pixels.dtype.kind not in "bui":
        raise InputError(f"{prediction}: a prediction must be whole numbers without colour, one for each object.")
    classes, record = find_labels_info(prediction)
    labels, note = predicted_objects(planes_of(pixels), str(prediction), classes=classes is not None)
    notes += [note] if note else []
    segmented = None if record is None or not measure.exclude_data_bar else record.get("segmented_rows")
    rows = slice(None) if segmented is None else slice(*segmented)
    for plane, predicted_yx in enumerate(labels):
        true = read_objects(truth, shape_yx=predicted_yx.shape, image=prediction, plane=plane)
        notes += [true.note] if true.note else []
        counted_yx = None if true.ignore_yx is None else ~true.ignore_yx[rows]
        yield predicted_yx[rows], true.labels_yx[rows], counted_yx

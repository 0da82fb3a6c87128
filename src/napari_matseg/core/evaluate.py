"""A prediction held against the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.checkpoints import read_card
from napari_matseg.core.label_files import find_labels_info
from napari_matseg.core.large.rows import RowsAhead
from napari_matseg.core.measure.runs import bands
from napari_matseg.core.metrics import Scores, count
from napari_matseg.core.read import read
from napari_matseg.core.truth import IGNORE, read_truth, to_classes
from napari_matseg.core.truth_drawn import kind_of
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.settings import Colour

MAX_CLASSES = 64  # more different values than this are objects, not classes


@dataclass(frozen=True, eq=False)
class ClassPair:
    """Class ids of a prediction and of the truth, ready to be compared.

    Attributes
    ----------
    predicted, true : uint8 array, shape (..., height, width)
    mask : bool array of that shape, or None
        Pixels that count; None for all.
    notes : list of str
        How the values were read, where that was not plain.
    """

    predicted: np.ndarray
    true: np.ndarray
    mask: np.ndarray | None
    notes: list[str]


def evaluate(
    prediction: str | Path | np.ndarray,
    truth: str | Path | np.ndarray,
    classes: Sequence[ClassSpec] | None = None,
    *,
    mapping: Mapping[int | Colour, int] | None = None,
    mask: np.ndarray | None = None,
) -> tuple[Scores, list[str]]:
    """Compare a prediction with the truth.

    Parameters
    ----------
    prediction : path, or integer array of any shape
        Class ids, or anything that `core.truth` makes class ids of.
    truth : path, or array
        The same, of the same shape; or ImageJ's regions or COCO's JSON, in which the image has the prediction's name.
    classes : sequence of ClassSpec, optional
        Name and colour of each class; else as `classes_of` finds them.
    mapping : mapping, optional
        From pixel values or colours of the truth to class ids.
    mask : array of bool, optional
        Pixels that count; else all but the data bar that was left out of the prediction.

    Returns
    -------
    scores : Scores
        IoU, Dice and the rest; ``scores.counts`` of several images can be added up.
    notes : list of str
        How the values were read, where that was not plain.

    Raises
    ------
    InputError
        If the two differ in shape, or hold values that are no class.
    """
    if classes is None:
        classes = classes_of(prediction, truth, mapping=mapping)
    pair = read_pair(prediction, truth, classes, mapping=mapping, mask=mask)
    return Scores(count(pair.predicted, pair.true, len(classes), ignore=IGNORE, mask=pair.mask)), pair.notes


def read_pair(
    prediction: str | Path | np.ndarray,
    truth: str | Path | np.ndarray,
    classes: Sequence[ClassSpec],
    *,
    mapping: Mapping[int | Colour, int] | None = None,
    mask: np.ndarray | None = None,
) -> ClassPair:
    """Read a prediction and its truth as class ids; parameters and errors are those of `evaluate`."""
    if mask is None and not isinstance(prediction, np.ndarray):
        mask = content_mask(Path(prediction))
    if isinstance(prediction, np.ndarray):
        predicted = to_classes(prediction, classes, None, "prediction", colour=False)
    else:
        predicted = read_truth(Path(prediction), classes)
    if isinstance(truth, np.ndarray):
        in_colour = _in_colour(truth, predicted.labels_yx)
        true = to_classes(truth, classes, mapping, "truth", colour=in_colour)
    else:
        image = None if isinstance(prediction, np.ndarray) else prediction
        true = read_truth(Path(truth), classes, mapping, shape=predicted.labels_yx.shape, image=image)
    if predicted.labels_yx.shape != true.labels_yx.shape:
        raise InputError(
            f"{_name(truth, 'truth')}: has shape {true.labels_yx.shape} and the prediction "
            f"{predicted.labels_yx.shape}; give the truth of the same image, neither cropped nor scaled."
        )
    notes = [note for note in (predicted.note, true.note) if note]
    return ClassPair(predicted.labels_yx, true.labels_yx, mask, notes)


def classes_of(
    prediction: str | Path | np.ndarray,
    truth: str | Path | np.ndarray,
    model: str | Path | None = None,
    *,
    mapping: Mapping[int | Colour, int] | None = None,
) -> tuple[ClassSpec, ...]:
    """Find what classes labels hold.

    Parameters
    ----------
    prediction, truth : path or array
    model : str or Path, optional
        Name or file of the model whose classes these are.
    mapping : mapping, optional
        From pixel values or colours of the truth to class ids, which then count instead of its values.

    Returns
    -------
    tuple of ClassSpec
        The model's; else those that the prediction's file names, or the truth's; else "0", "1" and so on up to the
        largest value in either, where a mask of 0 and one value from 64 on is of "0" and "1".

    Raises
    ------
    InputError
        If nothing names the classes, and the values are too many to be classes, or colours.
    """
    if model is not None:
        return read_card(model).classes
    for labels in (prediction, truth):
        named, _ = find_labels_info(None if isinstance(labels, np.ndarray) else Path(labels))
        if named:
            return named
    highest = _highest(prediction, "prediction", in_colour=False)
    if mapping is None and (isinstance(truth, np.ndarray) or kind_of(Path(truth)) is None):
        highest = max(highest, _highest(truth, "truth", in_colour=_in_colour(truth, prediction)))
    elif mapping is not None:
        highest = max(highest, *(class_id for class_id in mapping.values() if class_id != IGNORE), 0)
    return tuple(ClassSpec(name=str(i), colour=(0, 0, 0)) for i in range(max(2, highest + 1)))


def _in_colour(truth: str | Path | np.ndarray, prediction: str | Path | np.ndarray) -> bool:
    """Whether truth is an array in colour; one of the prediction's own shape is a stack, however narrow."""
    if not isinstance(truth, np.ndarray) or truth.ndim < 3:
        return False
    return truth.shape[-1] in (3, 4) and not (isinstance(prediction, np.ndarray) and prediction.shape == truth.shape)


def _highest(labels: str | Path | np.ndarray, role: str, *, in_colour: bool) -> int:
    if isinstance(labels, np.ndarray):
        parts, name = iter([labels]), role
    elif kind_of(Path(labels)) is not None:
        return 1
    else:
        micrograph = read(labels, find_bar=False)
        parts, in_colour, name = _bands(micrograph), micrograph.is_colour, micrograph.name
    if in_colour:
        raise InputError(f"{name}: is in colour, and nothing says which classes the colours are; name the model.")
    highest, least = 0.0, np.inf  # the largest value, and the smallest that is not 0
    for part in parts:
        highest = np.maximum(highest, part.max(initial=0))
        others = part[part != 0]
        least = np.minimum(least, others.min()) if others.size else least
    if not np.isfinite(highest):
        return 0  # not class ids, as reading them will tell
    if highest >= MAX_CLASSES and highest == least:
        return 1
    if highest >= MAX_CLASSES:
        raise InputError(
            f"{name}: values up to {highest:.0f} are too many to be classes, and nothing names them; "
            "name the model that they belong to."
        )
    return int(highest)


def _bands(micrograph: Micrograph) -> Iterator[np.ndarray]:
    """Give all of what is in a file, some rows at a time."""
    for plane in range(micrograph.n_planes):
        rows = RowsAhead(micrograph.view(plane))
        yield from (rows[band] for band in bands(0, *rows.shape))


def segmented_rows(prediction: Path) -> slice | None:
    """Rows that were segmented, by the record in the file; None for all of them."""
    _, record = find_labels_info(prediction)
    rows = None if record is None else record.get("segmented_rows")
    return None if rows is None else slice(*rows)


def content_mask(prediction: Path) -> np.ndarray | None:
    """Pixels that were segmented, by the record in the file; None for all of them."""
    rows = segmented_rows(prediction)
    if rows is None:
        return None
    micrograph = read(prediction)
    column = np.zeros((micrograph.shape_yx[0], 1), dtype=bool)
    column[rows] = True
    return np.broadcast_to(column, (*micrograph.shape_planes, *micrograph.shape_yx))


def _name(labels: str | Path | np.ndarray, role: str) -> str:
    return role if isinstance(labels, np.ndarray) else str(labels)

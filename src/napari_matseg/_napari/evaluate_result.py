"""What the evaluate widget compares, and what came out."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from napari.layers import Labels, Layer

from napari_matseg._napari.evaluate_kind import kind_of
from napari_matseg._napari.layers import as_read, counted_rows, full_resolution, micrograph_from_layer, specs_of
from napari_matseg.core.agreement.class_mistakes import find_class_mistakes
from napari_matseg.core.agreement.comparisons import (
    ClassComparison,
    ObjectComparison,
    Rows,
    compare_classes,
    compare_objects,
    planes_of,
    predicted_objects,
)
from napari_matseg.core.agreement.instances import InstanceScores
from napari_matseg.core.agreement.mistakes import Mistake, find_mistakes
from napari_matseg.core.evaluate import classes_of, read_pair
from napari_matseg.core.metrics import Scores
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import Progress
from napari_matseg.core.truth import IGNORE
from napari_matseg.core.truth_pictures import objects_in
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec, EvaluateSettings, MeasureSettings

STEPS = 3
FOLLOWED = 4_200_000
"""Pixels up to which the figures follow the brush by themselves."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Two layers to compare, and how."""

    prediction: Labels
    truth: Layer
    classes: tuple[ClassSpec, ...] | None
    """What the values mean, where classes are compared and something says it."""
    settings: EvaluateSettings
    exclude_data_bar: bool = True


@dataclass(frozen=True, eq=False)
class Mistakes:
    """What is wrong on one plane."""

    plane: int
    overlay_yx: np.ndarray
    found: list[Mistake]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures, with what they are figures of."""

    asked: Asked
    name: str
    compared: ClassComparison | ObjectComparison
    tables: dict[str, Rows]
    classes: tuple[ClassSpec, ...]
    predicted: np.ndarray
    """As compared: class ids, or ids of objects; shape (planes, height, width)."""
    true: np.ndarray
    mask: np.ndarray | None
    """Pixels that count, of the same shape; None for all."""
    seen: tuple[np.ndarray, np.ndarray]
    """Pixels of the two layers, as they were."""
    pixel_size_nm: tuple[float, float] | None
    iou: float
    """Of all pixels: of classes pooled, of objects against no object."""

    @property
    def objects(self) -> bool:
        """Whether objects were compared, not classes."""
        return isinstance(self.compared, ObjectComparison)

    @property
    def scores(self) -> Scores | InstanceScores:
        """Scores of all planes."""
        return self.compared.scores

    def rows(self) -> Rows:
        """Give the table of classes, or of thresholds of objects."""
        return self.tables["objects" if self.objects else "classes"]

    @property
    def notes(self) -> tuple[str, ...]:
        """How values were read, where that was not plain."""
        return self.compared.notes

    @cached_property
    def plain(self) -> bool:
        """Whether the prediction was compared with the very values that its layer has, and these can be painted."""
        layer = self.asked.prediction
        return (
            not layer.multiscale
            and isinstance(layer.data, np.ndarray)
            and bool(layer.data.flags.writeable)
            and np.array_equal(planes_of(self.seen[0]), self.predicted)
        )

    @property
    def followed(self) -> bool:
        """Whether it is quickly done again."""
        return self.predicted.size <= FOLLOWED

    def planes(self, plane: int) -> list[int]:
        """Index of a plane, one for each axis before height and width."""
        shape = self.seen[0].shape[:-2]
        return [int(i) for i in np.unravel_index(plane, shape)] if shape else []

    def holds(self) -> bool:
        """Whether both layers are as they were; of those that are not in memory, whether their shapes are."""
        for layer, before in zip((self.asked.prediction, self.asked.truth), self.seen, strict=True):
            now = full_resolution(layer)
            if isinstance(now, np.ndarray) and not getattr(layer, "rgb", False):
                if not np.array_equal(now, before):
                    return False
            elif tuple(now.shape)[: before.ndim - 1] != before.shape[:-1]:
                return False
        return _pixel_size(*_micrographs(self.asked)) == self.pixel_size_nm

    def find(self, plane: int) -> Mistakes:
        """Find what is wrong on a plane."""
        predicted, true = self.predicted[plane], self.true[plane]
        mask = None if self.mask is None else self.mask[plane]
        if isinstance(self.compared, ClassComparison):
            names = self.compared.class_names
            return Mistakes(plane, *find_class_mistakes(predicted, true, names, ignore=IGNORE, mask=mask))
        return Mistakes(plane, *find_mistakes(predicted, true, self.compared.settings.iou, mask=mask))


def evaluate_layers(asked: Asked, shown: int) -> Generator[Progress, None, tuple[Evaluation, Mistakes]]:
    """Compare two layers, and find what is wrong on the plane that is shown.

    Raises
    ------
    InputError
        If the two do not belong together, or hold what cannot be compared.
    """
    yield Progress(0, STEPS, "reading")
    predicted, true = _micrographs(asked)
    size = _pixel_size(predicted, true)
    # Copies, for the user may paint meanwhile.
    predicted, true = (replace(one, pixels=np.array(one.pixels)) for one in (predicted, true))
    seen = predicted.pixels, true.pixels
    true = as_read(true)
    yield Progress(1, STEPS, "comparing")
    compare = _compare_objects if asked.settings.objects else _compare_classes
    evaluation = compare(asked, predicted, true, seen, size)
    yield Progress(2, STEPS, "finding mistakes")
    return evaluation, evaluation.find(min(shown, len(evaluation.predicted) - 1))


def find_on(evaluation: Evaluation, plane: int) -> Generator[Progress, None, tuple[Evaluation, Mistakes]]:
    """Find what is wrong on another plane."""
    yield Progress(0, 1, "finding mistakes")
    return evaluation, evaluation.find(plane)


def _compare_classes(
    asked: Asked, predicted: Micrograph, true: Micrograph, seen: tuple[Any, Any], size: tuple[float, float] | None
) -> Evaluation:
    prediction, truth = np.asarray(predicted.pixels), np.asarray(true.pixels)
    specs = asked.classes if asked.classes is not None else classes_of(prediction, truth)
    rows = _segmented_rows(asked, predicted)
    mask = None
    if rows is not None:
        mask = np.zeros((prediction.shape[-2], 1), dtype=bool)
        mask[rows] = True
        mask = np.broadcast_to(mask, prediction.shape)
    pair = read_pair(prediction, truth, specs, mask=mask)
    names = [spec.name for spec in specs]
    compared = compare_classes(pair, names, asked.settings, name=asked.prediction.name, pixel_size_nm=size)
    ids = planes_of(pair.predicted), planes_of(pair.true), None if mask is None else planes_of(mask)
    iou = compared.scores.pooled_iou
    return Evaluation(asked, asked.prediction.name, compared, compared.tables(), tuple(specs), *ids, seen, size, iou)


def _compare_objects(
    asked: Asked, predicted: Micrograph, true: Micrograph, seen: tuple[Any, Any], size: tuple[float, float] | None
) -> Evaluation:
    name = asked.prediction.name
    shape = *predicted.shape_planes, *predicted.shape_yx
    if (*true.shape_planes, *true.shape_yx) != shape:
        raise InputError(
            f"{asked.truth.name}: has shape {(*true.shape_planes, *true.shape_yx)} and the prediction {shape}; "
            "give the truth of the same image, neither cropped nor scaled."
        )
    classes = specs_of(asked.prediction.metadata) is not None
    labels, note = predicted_objects(planes_of(np.asarray(predicted.pixels)), name, classes=classes)
    notes = [note] if note else []
    pictures = np.asarray(true.pixels).reshape(-1, *true.shape_yx, *([3] if true.is_colour else []))
    painted = [objects_in(picture, kind_of(asked.truth), asked.truth.name) for picture in pictures]
    notes += [one.note for one in painted if one.note]
    truth = np.stack([one.labels_yx for one in painted])
    rows = _segmented_rows(asked, predicted) or slice(None)
    pairs = [(a[rows], b[rows], None) for a, b in zip(labels, truth, strict=True)]
    measure = MeasureSettings(exclude_data_bar=asked.exclude_data_bar)
    compared = compare_objects(pairs, asked.settings, measure, name=name, pixel_size_nm=size)
    compared = replace(compared, notes=tuple(dict.fromkeys(notes)))
    mask = None
    if rows != slice(None):
        mask = np.zeros((1, labels.shape[1], 1), dtype=bool)
        mask[:, rows] = True
        mask = np.broadcast_to(mask, labels.shape)
    either = int(np.count_nonzero((labels[:, rows] > 0) | (truth[:, rows] > 0)))
    iou = np.count_nonzero((labels[:, rows] > 0) & (truth[:, rows] > 0)) / either if either else float("nan")
    return Evaluation(asked, name, compared, compared.tables(), (), labels, truth, mask, seen, size, iou)


def _segmented_rows(asked: Asked, predicted: Micrograph) -> slice | None:
    """Rows that were segmented; None for all of them."""
    rows = counted_rows(asked.prediction) if asked.exclude_data_bar else None
    if rows is None or tuple(rows) == (0, predicted.shape_yx[0]):
        return None
    return slice(*rows)


def _micrographs(asked: Asked) -> tuple[Micrograph, Micrograph]:
    return micrograph_from_layer(asked.prediction), micrograph_from_layer(asked.truth)


def _pixel_size(predicted: Micrograph, true: Micrograph) -> tuple[float, float] | None:
    return predicted.pixel_size_nm or true.pixel_size_nm

"""Predictions held against the truth: classes pixel by pixel, or objects one by one; one image or a folder of them."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.agreement.bootstrap import interval
from napari_matseg.core.agreement.boundaries import BoundaryCounts, BoundaryScores, count_boundaries
from napari_matseg.core.agreement.instances import InstanceCounts, InstanceScores, count_instances
from napari_matseg.core.agreement.pairs import count_pairs
from napari_matseg.core.agreement.size_errors import fraction_errors, size_errors
from napari_matseg.core.evaluate import classes_of, content_mask, read_pair
from napari_matseg.core.export import make_folder, read_labels_info, write_csv, write_json
from napari_matseg.core.labels import label_objects
from napari_matseg.core.measure.shapes import measure_objects
from napari_matseg.core.measure.sizes import pool, size_distribution
from napari_matseg.core.metrics import Counts, Scores, count
from napari_matseg.core.progress import Progress
from napari_matseg.core.provenance import describe_run
from napari_matseg.core.read import read
from napari_matseg.core.truth import IGNORE
from napari_matseg.core.truth_objects import read_objects
from napari_matseg.errors import InputError
from napari_matseg.settings import EvaluateSettings, MeasureSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from napari_matseg.core.measure.sizes import Sizes
    from napari_matseg.settings import ClassSpec, Colour

Rows = list[dict[str, Any]]
AT = (0.5, 0.75)  # IoU at which the figures of single images are given


@dataclass(frozen=True, eq=False)
class ClassComparison:
    """Classes of images held against the truth.

    Attributes
    ----------
    images : tuple of str
    class_names : tuple of str
    counts : tuple of Counts
        Of each image.
    boundaries : tuple of BoundaryCounts
        Of each image.
    settings : EvaluateSettings
    notes : tuple of str
        How values were read, where that was not plain.
    """

    images: tuple[str, ...]
    class_names: tuple[str, ...]
    counts: tuple[Counts, ...]
    boundaries: tuple[BoundaryCounts, ...]
    settings: EvaluateSettings
    notes: tuple[str, ...] = ()

    @property
    def scores(self) -> Scores:
        """Of all images together."""
        return Scores(_sum(self.counts))

    def tables(self) -> dict[str, Rows]:
        """Give all figures as tables.

        Returns
        -------
        dict
            `classes`: a row for each class and one for their means, pooled over the images, with the boundaries'
            figures and, from two images on, 95 % confidence intervals (`iou_low`, `iou_high`...); `overall`: what is
            not of one class; `confusion`: pixels of each class of the truth by what they were taken for;
            `fractions`: area fractions, predicted and true; `images`: a row for each image.
        """
        scores = self.scores
        outlines = BoundaryScores(_sum(self.boundaries))
        classes: Rows = list(scores.rows(self.class_names))
        for row, drawn in zip(classes, outlines.rows(self.class_names), strict=False):  # the last is of the means
            row |= drawn
        classes[-1]["boundary_f1"] = _plain(outlines.mean_f1)
        for name in ("iou", "dice"):
            bounds = self._interval(attrgetter(name))
            for bound, values in zip(("low", "high"), bounds, strict=True):
                for row, value in zip(classes, values, strict=False):
                    row[f"{name}_{bound}"] = _plain(value)
        overall: Rows = []
        for name in ("pooled_iou", "mean_iou", "mean_dice", "accuracy", "frequency_weighted_iou"):
            low, high = map(_plain, self._interval(attrgetter(name)))
            overall.append({"figure": name, "value": _plain(getattr(scores, name)), "low": low, "high": high})
        confusion = [
            {"truth": name, **{other: int(n) for other, n in zip(self.class_names, row, strict=True)}}
            for name, row in zip(self.class_names, scores.counts.confusion, strict=True)
        ]
        return {
            "classes": classes,
            "overall": overall,
            "confusion": confusion,
            "fractions": fraction_errors(scores.counts, self.class_names),
            "images": [self._image(i) for i in range(len(self.images))],
        }

    def to_dict(self) -> dict[str, Any]:
        """Give all of it in plain types, ready for JSON: `Scores.to_dict`, and the tables under their names."""
        return {**self.scores.to_dict(self.class_names), **self.tables()}

    def _image(self, i: int) -> dict[str, Any]:
        scores, outlines = Scores(self.counts[i]), BoundaryScores(self.boundaries[i])
        return {
            "file": self.images[i],
            "pooled_iou": _plain(scores.pooled_iou),
            "mean_iou": _plain(scores.mean_iou),
            "accuracy": _plain(scores.accuracy),
            "mean_boundary_f1": _plain(outlines.mean_f1),
            **{f"iou {name}": _plain(value) for name, value in zip(self.class_names, scores.iou, strict=True)},
        }

    def _interval(self, score: Callable[[Scores], Any]) -> tuple[Any, Any]:
        return interval(self.counts, lambda total: score(Scores(total)), self.settings)


@dataclass(frozen=True, eq=False)
class ObjectComparison:
    """Objects of images held against the truth.

    Attributes
    ----------
    images : tuple of str
    counts : tuple of InstanceCounts
        Of each image.
    predicted, true : tuple of Sizes
        Of each image.
    settings : EvaluateSettings
    measure : MeasureSettings
    notes : tuple of str
        How objects were read, where that was not plain.
    """

    images: tuple[str, ...]
    counts: tuple[InstanceCounts, ...]
    predicted: tuple[Sizes, ...]
    true: tuple[Sizes, ...]
    settings: EvaluateSettings
    measure: MeasureSettings
    notes: tuple[str, ...] = ()

    @property
    def scores(self) -> InstanceScores:
        """Of all images together."""
        return InstanceScores(_sum(self.counts))

    def tables(self) -> dict[str, Rows]:
        """Give all figures as tables.

        Returns
        -------
        dict
            `objects`: a row for each IoU from which on two objects are the same, pooled over the images, from two
            images on with 95 % confidence intervals (`ap_low`, `ap_high`...); `overall`: numbers of objects, splits
            and merges, and what knows no threshold; `sizes`: errors of the size distribution and the count, where all
            images have sizes in one unit; `images`: a row for each image.
        """
        scores = self.scores
        objects: Rows = list(scores.rows())
        for name in ("ap", "f1", "panoptic_quality"):
            bounds = self._interval(attrgetter(name))
            for bound, values in zip(("low", "high"), bounds, strict=True):
                for row, value in zip(objects, values, strict=True):
                    row[f"{name}_{bound}"] = _plain(value)
        counts = scores.counts
        overall: Rows = [
            {"figure": "images", "value": counts.n_images},
            {"figure": "objects in the truth", "value": counts.n_truth},
            {"figure": "objects predicted", "value": counts.n_predicted},
            {"figure": "truth objects split", "value": counts.n_split},
            {"figure": "predicted objects that merge several", "value": counts.n_merged},
        ]
        for name in ("mean_ap", "mean_best_iou"):
            low, high = map(_plain, self._interval(attrgetter(name)))
            overall.append({"figure": name, "value": _plain(getattr(scores, name)), "low": low, "high": high})
        pooled = self.pooled_sizes()
        return {
            "objects": objects,
            "overall": overall,
            "sizes": [] if pooled is None else size_errors(*pooled, self.measure.weighting),
            "images": [self._image(i) for i in range(len(self.images))],
        }

    def pooled_sizes(self) -> tuple[Sizes, Sizes] | None:
        """Give sizes predicted and true of all images together; None where their units differ."""
        if len({sizes.unit for sizes in self.true}) > 1:
            return None
        return pool(self.predicted), pool(self.true)

    def to_dict(self) -> dict[str, Any]:
        """Give all of it in plain types, ready for JSON: `InstanceScores.to_dict`, and the tables under their names."""
        return {**self.scores.to_dict(), **self.tables()}

    def _image(self, i: int) -> dict[str, Any]:
        scores, counts = InstanceScores(self.counts[i]), self.counts[i]
        predicted, true, by = self.predicted[i], self.true[i], self.measure.weighting
        row: dict[str, Any] = {"file": self.images[i], "truth": counts.n_truth, "predicted": counts.n_predicted}
        for iou in AT:
            at = next(k for k, threshold in enumerate(counts.thresholds) if np.isclose(threshold, iou))
            row |= {f"ap_{100 * iou:.0f}": _plain(scores.ap[at]), f"f1_{100 * iou:.0f}": _plain(scores.f1[at])}
        d50 = predicted.quantile(0.5, by), true.quantile(0.5, by)
        return row | {
            "panoptic_quality": _plain(scores.panoptic_quality[0]),
            "mean_best_iou": _plain(scores.mean_best_iou),
            "splits": counts.n_split,
            "merges": counts.n_merged,
            f"d50_{true.unit}": _plain(d50[0]),
            f"true_d50_{true.unit}": _plain(d50[1]),
        }

    def _interval(self, score: Callable[[InstanceScores], Any]) -> tuple[Any, Any]:
        return interval(self.counts, lambda total: score(InstanceScores(total)), self.settings)


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
    names = tuple(spec.name for spec in classes)
    counts, boundaries, notes = [], [], []
    for done, (prediction, truth) in enumerate(pairs):
        yield Progress(done, len(pairs), prediction.name)
        pair = read_pair(prediction, truth, classes, mapping=mapping)
        notes += pair.notes
        counts.append(count(pair.predicted, pair.true, len(names), ignore=IGNORE, mask=pair.mask))
        size = pixel_size_nm or read(prediction).pixel_size_nm or read(truth).pixel_size_nm
        planes = [
            count_boundaries(
                predicted_yx,
                true_yx,
                len(names),
                tolerance_px=settings.tolerance_px,
                pixel_size_nm=size,
                ignore=IGNORE,
                mask=mask_yx,
            )
            for predicted_yx, true_yx, mask_yx in zip(
                _planes(pair.predicted),
                _planes(pair.true),
                [None] * len(_planes(pair.true)) if pair.mask is None else _planes(pair.mask),
                strict=True,
            )
        ]
        boundaries.append(_sum(planes))
    images = tuple(str(prediction) for prediction, _ in pairs)
    return ClassComparison(images, names, tuple(counts), tuple(boundaries), settings, tuple(dict.fromkeys(notes)))


def _compare_objects(
    pairs: Sequence[tuple[Path, Path]],
    settings: EvaluateSettings,
    measure: MeasureSettings,
    pixel_size_nm: tuple[float, float] | None,
) -> Generator[Progress, None, ObjectComparison]:
    counts, predicted_sizes, true_sizes, notes = [], [], [], []
    for done, (prediction, truth) in enumerate(pairs):
        yield Progress(done, len(pairs), prediction.name)
        labels = _predicted_objects(prediction)
        size = pixel_size_nm or read(prediction).pixel_size_nm
        rows = _segmented_rows(prediction) if measure.exclude_data_bar else slice(0, labels.shape[1])
        fields = []
        for plane, predicted_yx in enumerate(labels):
            true = read_objects(truth, shape_yx=predicted_yx.shape, image=prediction, plane=plane)
            if true.labels_yx.shape != predicted_yx.shape:
                raise InputError(
                    f"{truth}: has shape {true.labels_yx.shape} and {prediction} {predicted_yx.shape}; "
                    "give the truth of the same image, neither cropped nor scaled."
                )
            notes += [true.note] if true.note else []
            counted = None if true.ignore_yx is None else ~true.ignore_yx[rows]
            seen = predicted_yx[rows], true.labels_yx[rows]
            sizes = [
                size_distribution(measure_objects(labels_yx, pixel_size_nm=size), measure, labels_yx.shape, size)
                for labels_yx in seen
            ]
            fields.append((count_instances(count_pairs(*seen, mask=counted)), *sizes))
        of_plane, of_predicted, of_true = zip(*fields, strict=True)
        counts.append(_sum(of_plane))
        predicted_sizes.append(pool(of_predicted))
        true_sizes.append(pool(of_true))
    return ObjectComparison(
        tuple(str(prediction) for prediction, _ in pairs),
        tuple(counts),
        tuple(predicted_sizes),
        tuple(true_sizes),
        settings,
        measure,
        tuple(dict.fromkeys(notes)),
    )


def _segmented_rows(path: Path) -> slice:
    """Rows that were segmented, by the record in the file."""
    mask = content_mask(path)
    if mask is None:
        return slice(None)
    inside = np.flatnonzero(_planes(mask)[0][:, 0])
    return slice(int(inside[0]), int(inside[-1]) + 1)


def _predicted_objects(path: Path) -> np.ndarray:
    """Ids of objects, shape (planes, height, width); of labels with classes, the connected pieces of each."""
    drawn = read(path)
    labels = np.asarray(drawn.pixels)
    if drawn.is_colour or labels.dtype.kind not in "bui":
        raise InputError(f"{path}: a prediction must be whole numbers without colour, one for each object.")
    if path.suffix.lower() in (".tif", ".tiff") and read_labels_info(path)[0] is not None:
        return np.stack([label_objects(classes_yx) for classes_yx in _planes(labels)])
    return _planes(labels)


def _planes(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(-1, *pixels.shape[-2:])


def _sum(counts: Sequence[Any]) -> Any:
    total = counts[0]
    for other in counts[1:]:
        total = total + other
    return total


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)

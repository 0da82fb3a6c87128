"""Predictions held against the truth, as arrays: the figures of one image or of several, as tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.agreement.bootstrap import interval
from napari_matseg.core.agreement.boundaries import BoundaryCounts, BoundaryScores, count_boundaries
from napari_matseg.core.agreement.instances import InstanceCounts, InstanceScores, count_instances
from napari_matseg.core.agreement.pairs import count_pairs
from napari_matseg.core.agreement.size_errors import fraction_errors, size_errors
from napari_matseg.core.labels import label_objects
from napari_matseg.core.measure.shapes import measure_objects
from napari_matseg.core.measure.sizes import pool, size_distribution
from napari_matseg.core.metrics import Counts, Scores, count, plain
from napari_matseg.core.truth import IGNORE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from napari_matseg.core.evaluate import ClassPair
    from napari_matseg.core.measure.sizes import Sizes
    from napari_matseg.settings import EvaluateSettings, MeasureSettings

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

    def __add__(self, other: ClassComparison) -> ClassComparison:
        """Images of both, compared alike."""
        return replace(
            self,
            images=self.images + other.images,
            counts=self.counts + other.counts,
            boundaries=self.boundaries + other.boundaries,
            notes=tuple(dict.fromkeys(self.notes + other.notes)),
        )

    @property
    def scores(self) -> Scores:
        """Of all images together."""
        return Scores(sum_of(self.counts))

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
        outlines = BoundaryScores(sum_of(self.boundaries))
        classes: Rows = list(scores.rows(self.class_names))
        for row, drawn in zip(classes, outlines.rows(self.class_names), strict=False):  # the last is of the means
            row |= drawn
        classes[-1]["boundary_f1"] = plain(outlines.mean_f1)
        for name in ("iou", "dice"):
            bounds = self._interval(attrgetter(name))
            for bound, values in zip(("low", "high"), bounds, strict=True):
                for row, value in zip(classes, values, strict=False):
                    row[f"{name}_{bound}"] = plain(value)
        overall: Rows = []
        for name in ("pooled_iou", "mean_iou", "mean_dice", "accuracy", "frequency_weighted_iou"):
            low, high = map(plain, self._interval(attrgetter(name)))
            overall.append({"figure": name, "value": plain(getattr(scores, name)), "low": low, "high": high})
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
        """Give all of it in plain types, ready for JSON: `Scores.to_dict`, and all `tables`."""
        return {**self.scores.to_dict(self.class_names), "tables": self.tables()}

    def _image(self, i: int) -> dict[str, Any]:
        scores, outlines = Scores(self.counts[i]), BoundaryScores(self.boundaries[i])
        return {
            "file": self.images[i],
            "pooled_iou": plain(scores.pooled_iou),
            "mean_iou": plain(scores.mean_iou),
            "accuracy": plain(scores.accuracy),
            "mean_boundary_f1": plain(outlines.mean_f1),
            **{f"iou {name}": plain(value) for name, value in zip(self.class_names, scores.iou, strict=True)},
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

    def __add__(self, other: ObjectComparison) -> ObjectComparison:
        """Images of both, compared alike."""
        return replace(
            self,
            images=self.images + other.images,
            counts=self.counts + other.counts,
            predicted=self.predicted + other.predicted,
            true=self.true + other.true,
            notes=tuple(dict.fromkeys(self.notes + other.notes)),
        )

    @property
    def scores(self) -> InstanceScores:
        """Of all images together."""
        return InstanceScores(sum_of(self.counts))

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
                    row[f"{name}_{bound}"] = plain(value)
        counts = scores.counts
        overall: Rows = [
            {"figure": "images", "value": counts.n_images},
            {"figure": "objects in the truth", "value": counts.n_truth},
            {"figure": "objects predicted", "value": counts.n_predicted},
            {"figure": "truth objects split", "value": counts.n_split},
            {"figure": "predicted objects that merge several", "value": counts.n_merged},
        ]
        for name in ("mean_ap", "mean_best_iou"):
            low, high = map(plain, self._interval(attrgetter(name)))
            overall.append({"figure": name, "value": plain(getattr(scores, name)), "low": low, "high": high})
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
        """Give all of it in plain types, ready for JSON: `InstanceScores.to_dict`, and all `tables`."""
        return {**self.scores.to_dict(), "tables": self.tables()}

    def _image(self, i: int) -> dict[str, Any]:
        scores, counts = InstanceScores(self.counts[i]), self.counts[i]
        predicted, true, by = self.predicted[i], self.true[i], self.measure.weighting
        row: dict[str, Any] = {"file": self.images[i], "truth": counts.n_truth, "predicted": counts.n_predicted}
        for iou in AT:
            at = next(k for k, threshold in enumerate(counts.thresholds) if np.isclose(threshold, iou))
            row |= {f"ap_{100 * iou:.0f}": plain(scores.ap[at]), f"f1_{100 * iou:.0f}": plain(scores.f1[at])}
        d50 = predicted.quantile(0.5, by), true.quantile(0.5, by)
        return row | {
            "panoptic_quality": plain(scores.panoptic_quality[0]),
            "mean_best_iou": plain(scores.mean_best_iou),
            "splits": counts.n_split,
            "merges": counts.n_merged,
            f"d50_{true.unit}": plain(d50[0]),
            f"true_d50_{true.unit}": plain(d50[1]),
        }

    def _interval(self, score: Callable[[InstanceScores], Any]) -> tuple[Any, Any]:
        return interval(self.counts, lambda total: score(InstanceScores(total)), self.settings)


def compare_classes(
    pair: ClassPair,
    class_names: Sequence[str],
    settings: EvaluateSettings,
    *,
    name: str = "",
    pixel_size_nm: tuple[float, float] | None = None,
) -> ClassComparison:
    """Compare the classes of an image, or of all planes of a stack together.

    Parameters
    ----------
    pair : ClassPair
    class_names : sequence of str
        A name for each class.
    settings : EvaluateSettings
    name : str
        What tables call the image.
    pixel_size_nm : (float, float), optional
        Height and width of a pixel, for distances in nm.

    Raises
    ------
    InputError
        If the arrays hold what is no class.
    """
    counts = count(pair.predicted, pair.true, len(class_names), ignore=IGNORE, mask=pair.mask)
    kept = [None] * len(planes_of(pair.true)) if pair.mask is None else planes_of(pair.mask)
    boundaries = [
        count_boundaries(
            predicted_yx,
            true_yx,
            len(class_names),
            tolerance_px=settings.tolerance_px,
            pixel_size_nm=pixel_size_nm,
            ignore=IGNORE,
            mask=mask_yx,
        )
        for predicted_yx, true_yx, mask_yx in zip(planes_of(pair.predicted), planes_of(pair.true), kept, strict=True)
    ]
    notes = tuple(dict.fromkeys(pair.notes))
    return ClassComparison((name,), tuple(class_names), (counts,), (sum_of(boundaries),), settings, notes)


def compare_objects(
    planes: Iterable[tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_] | None]],
    settings: EvaluateSettings,
    measure: MeasureSettings,
    *,
    name: str = "",
    pixel_size_nm: tuple[float, float] | None = None,
) -> ObjectComparison:
    """Compare the objects of an image, or of all planes of a stack together.

    Parameters
    ----------
    planes : iterable of (labels, labels, bool array or None), shape (height, width)
        Predicted objects and true ones of at least one plane, without rows that were not segmented, and the pixels that
        count where objects are matched; None for all of them.
    settings : EvaluateSettings
    measure : MeasureSettings
        Which sizes are compared, and how the edge is corrected for.
    name : str
        What tables call the image.
    pixel_size_nm : (float, float), optional
        Height and width of a pixel, for sizes in nm.

    Raises
    ------
    InputError
        If the arrays hold what is no object.
    """
    fields = []
    for predicted_yx, true_yx, counted_yx in planes:
        sizes = [
            size_distribution(
                measure_objects(labels_yx, pixel_size_nm=pixel_size_nm), measure, labels_yx.shape, pixel_size_nm
            )
            for labels_yx in (predicted_yx, true_yx)
        ]
        fields.append((count_instances(count_pairs(predicted_yx, true_yx, mask=counted_yx)), *sizes))
    counts, predicted, true = zip(*fields, strict=True)
    return ObjectComparison((name,), (sum_of(counts),), (pool(predicted),), (pool(true),), settings, measure)


def predicted_objects(labels: NDArray[Any], name: str, *, classes: bool) -> tuple[NDArray[Any], str | None]:
    """Take what a prediction holds as objects.

    Parameters
    ----------
    labels : integer array, shape (planes, height, width)
    name : str
        What the note calls them.
    classes : bool
        Whether the values are said to be classes, and not ids of objects.

    Returns
    -------
    labels : integer array of that shape
        An id for each object: the values; of classes, and of a mask with one value alone, the connected pieces.
    note : str or None
        How they were read, where that is not plain.
    """
    highest = labels.max(initial=0)
    is_mask = not classes and highest > 0 and bool(((labels == 0) | (labels == highest)).all())
    if not classes and not is_mask:
        return labels, None
    pieces = np.stack([label_objects(plane_yx) for plane_yx in labels])
    n = int(pieces.reshape(len(pieces), -1).max(axis=1).sum())
    if classes:
        return pieces, None
    if n <= len(pieces):
        return labels, None
    return pieces, f"{name}: has one value alone; its {n} connected pieces read as objects"


def planes_of(pixels: NDArray[Any]) -> NDArray[Any]:
    """Put all axes before height and width into one."""
    return pixels.reshape(-1, *pixels.shape[-2:])


def sum_of(counts: Sequence[Any]) -> Any:
    """Add up counts, or comparisons, of at least one image."""
    total = counts[0]
    for other in counts[1:]:
        total = total + other
    return total

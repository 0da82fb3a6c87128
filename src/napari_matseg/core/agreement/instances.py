"""How well the objects of two label images agree, one by one: counts, then ratios.

A truth object and a predicted one are the same if they are matched one to one and their IoU is at least a threshold.
Images each give `InstanceCounts`, which are added; `InstanceScores` are taken once, from the sum. What is 0/0 is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.agreement.matching import match, merge_pairs, split_pairs
from napari_matseg.core.metrics import plain, ratio_of
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_matseg.core.agreement.pairs import Pairs

# Written so that each is the float next to its decimal: an IoU of exactly 7/10 then is at least 0.7.
THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))


@dataclass(frozen=True, eq=False)
class InstanceCounts:
    """What agreement of objects is computed from; of several images, `a + b`.

    Attributes
    ----------
    thresholds : tuple of float
        IoU from which on two objects are the same.
    matched : int64 array, shape (n_thresholds,)
        Objects that are in both (true positives).
    iou_sum : float64 array, shape (n_thresholds,)
        Sum of the IoU of those.
    n_truth, n_predicted : int
        Objects in either.
    best_iou_sum : float
        Sum over the truth objects of the largest IoU with any predicted one.
    n_split, n_merged : int
        Truth objects that were split, and predicted ones that merge several: see `split_pairs` and `merge_pairs`.
    n_images : int
        Pairs of images.
    """

    thresholds: tuple[float, ...]
    matched: NDArray[np.int64]
    iou_sum: NDArray[np.float64]
    n_truth: int
    n_predicted: int
    best_iou_sum: float
    n_split: int
    n_merged: int
    n_images: int

    @classmethod
    def zero(cls, thresholds: Sequence[float] = THRESHOLDS) -> InstanceCounts:
        """No image yet: where a sum starts."""
        n = len(thresholds)
        return cls(tuple(thresholds), np.zeros(n, np.int64), np.zeros(n), 0, 0, 0.0, 0, 0, 0)

    def __add__(self, other: InstanceCounts) -> InstanceCounts:
        """Count the objects of both."""
        if self.thresholds != other.thresholds:
            raise InputError(
                f"counts at IoU {_listed(self.thresholds)} and at {_listed(other.thresholds)} cannot be added; "
                "count both at the same thresholds."
            )
        return InstanceCounts(
            self.thresholds,
            self.matched + other.matched,
            self.iou_sum + other.iou_sum,
            self.n_truth + other.n_truth,
            self.n_predicted + other.n_predicted,
            self.best_iou_sum + other.best_iou_sum,
            self.n_split + other.n_split,
            self.n_merged + other.n_merged,
            self.n_images + other.n_images,
        )


def count_instances(pairs: Pairs, thresholds: Sequence[float] = THRESHOLDS) -> InstanceCounts:
    """Count the objects of one image that agree, at each threshold.

    Parameters
    ----------
    pairs : Pairs
    thresholds : sequence of float
        IoU from which on two objects are the same, each more than 0 and at most 1.

    Raises
    ------
    InputError
        If there is no threshold, or one is no IoU.

    Examples
    --------
    >>> from napari_matseg.core.agreement.pairs import count_pairs
    >>> pairs = count_pairs([[0, 7, 7, 7], [0, 0, 9, 9]], [[1, 1, 1, 1], [0, 0, 2, 0]])
    >>> scores = InstanceScores(count_instances(pairs, [0.5, 0.75]))
    >>> scores.ap.round(3), scores.panoptic_quality, scores.mean_true_iou
    (array([1.   , 0.333]), array([0.625, 0.375]), array([0.625, 0.375]))
    """
    if not len(thresholds):
        raise InputError("objects are compared at one IoU or more, not at none; give such as 0.5.")
    matches = [match(pairs, threshold) for threshold in thresholds]
    n_truth, n_predicted = len(pairs.truth_ids), len(pairs.predicted_ids)
    best = np.zeros(n_truth)
    np.maximum.at(best, pairs.truth_index, pairs.iou)
    return InstanceCounts(
        thresholds=tuple(thresholds),
        matched=np.array([len(found.iou) for found in matches], dtype=np.int64),
        iou_sum=np.array([found.iou.sum() for found in matches]),
        n_truth=n_truth,
        n_predicted=n_predicted,
        best_iou_sum=float(best.sum()),
        n_split=len(np.unique(pairs.truth_index[split_pairs(pairs)])),
        n_merged=len(np.unique(pairs.predicted_index[merge_pairs(pairs)])),
        n_images=1,
    )


@dataclass(frozen=True, eq=False)
class InstanceScores:
    """Ratios of agreement of objects, from counts.

    TP are the objects that are in both, FP the predicted ones that are not in the truth, FN the truth's that were not
    predicted. Arrays have one value per threshold, from 0 to 1; what is 0/0 is NaN.

    Attributes
    ----------
    counts : InstanceCounts
        What the ratios are taken from.
    """

    counts: InstanceCounts

    @property
    def missed(self) -> NDArray[np.int64]:
        """Truth objects without a match, FN; also those that were found, but too badly for the threshold."""
        return self.counts.n_truth - self.counts.matched

    @property
    def false(self) -> NDArray[np.int64]:
        """Predicted objects without a match, FP."""
        return self.counts.n_predicted - self.counts.matched

    @property
    def ap(self) -> NDArray[np.float64]:
        """TP / (TP + FP + FN).

        "Average precision" as the 2018 Data Science Bowl has it (Caicedo et al. 2019, Nature Methods 16, 1247-1253,
        doi 10.1038/s41592-019-0612-7), and "accuracy" in StarDist. It is not that of COCO, an area under a curve,
        which needs a confidence for each object.
        """
        return ratio_of(self.counts.matched, self.counts.n_truth + self.false)

    @property
    def mean_ap(self) -> float:
        """Mean of `ap` over the thresholds."""
        return float(self.ap.mean())

    @property
    def precision(self) -> NDArray[np.float64]:
        """TP / (TP + FP): how many of the predicted objects are there."""
        return ratio_of(self.counts.matched, self.counts.n_predicted)

    @property
    def recall(self) -> NDArray[np.float64]:
        """TP / (TP + FN): how many of the objects that are there were predicted."""
        return ratio_of(self.counts.matched, self.counts.n_truth)

    @property
    def f1(self) -> NDArray[np.float64]:
        """2 TP / (2 TP + FP + FN), called recognition quality by Kirillov et al. (2019)."""
        return ratio_of(2 * self.counts.matched, self.counts.n_truth + self.counts.n_predicted)

    @property
    def mean_matched_iou(self) -> NDArray[np.float64]:
        """Mean IoU of the objects that are in both, called segmentation quality by Kirillov et al. (2019)."""
        return ratio_of(self.counts.iou_sum, self.counts.matched)

    @property
    def panoptic_quality(self) -> NDArray[np.float64]:
        """Sum of the IoU of TP / (TP + FP / 2 + FN / 2), which is `mean_matched_iou` times `f1`.

        Equation 1 of Kirillov et al. (2019), CVPR, doi 10.1109/CVPR.2019.00963, who define it at an IoU of more than
        0.5; here, as in StarDist, it is given at each threshold.
        """
        return ratio_of(2 * self.counts.iou_sum, self.counts.n_truth + self.counts.n_predicted)

    @property
    def mean_true_iou(self) -> NDArray[np.float64]:
        """Mean over all truth objects of the IoU with their match, 0 without one."""
        return ratio_of(self.counts.iou_sum, self.counts.n_truth)

    @property
    def mean_best_iou(self) -> float:
        """Mean over all truth objects of the largest IoU with any predicted object; knows no threshold."""
        return float(ratio_of(self.counts.best_iou_sum, self.counts.n_truth))

    def rows(self) -> list[dict[str, float | None]]:
        """Make a table with a row for each threshold.

        Returns
        -------
        list of dict
            `threshold`, `ap`, `f1`, `precision`, `recall`, `panoptic_quality`, `mean_matched_iou`, `mean_true_iou`,
            and as numbers of objects `matched`, `missed`, `false`; None where undefined.
        """
        ratios = {
            "ap": self.ap,
            "f1": self.f1,
            "precision": self.precision,
            "recall": self.recall,
            "panoptic_quality": self.panoptic_quality,
            "mean_matched_iou": self.mean_matched_iou,
            "mean_true_iou": self.mean_true_iou,
        }
        objects = {"matched": self.counts.matched, "missed": self.missed, "false": self.false}
        return [
            {
                "threshold": float(threshold),
                **{column: plain(values[i]) for column, values in ratios.items()},
                **{column: int(n[i]) for column, n in objects.items()},
            }
            for i, threshold in enumerate(self.counts.thresholds)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Give all of it in plain types, ready for JSON.

        Returns
        -------
        dict
            `images`, `truth`, `predicted`, `splits`, `merges` (numbers of images and of objects), `mean_ap`,
            `mean_best_iou`, and `thresholds`, the table of `rows`. NaN becomes None, for JSON has none.
        """
        counts = self.counts
        return {
            "images": counts.n_images,
            "truth": counts.n_truth,
            "predicted": counts.n_predicted,
            "splits": counts.n_split,
            "merges": counts.n_merged,
            "mean_ap": plain(self.mean_ap),
            "mean_best_iou": plain(self.mean_best_iou),
            "thresholds": self.rows(),
        }


def _listed(thresholds: Sequence[float]) -> str:
    return ", ".join(f"{threshold:g}" for threshold in thresholds)

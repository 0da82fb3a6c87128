"""How well the outlines of classes agree: boundary F1 and the 95th percentile of the Hausdorff distance.

A pixel lies on the boundary of its class if one of its four neighbours is of another class. The frame of the image is
no boundary. Pixels that are left out, by a mask or by what truth says, are neither boundary nor neighbours.

- **Boundary F1** (Csurka, Larlus and Perronnin 2013, BMVC, doi 10.5244/C.27.32): precision is the share of the
  predicted boundary pixels of a class that have one of the truth within the tolerance; recall the other way round; F1
  is their harmonic mean. Pixels of several images are added before the ratios are taken, where Csurka et al. average
  the ratios of the images.
- **Hausdorff 95** (Maier-Hein et al. 2024, doi 10.1038/s41592-023-02151-z): the 95th percentile of the distances from
  the predicted boundary pixels of a class to the nearest of the truth, or that from the truth to the prediction, the
  larger of the two (not the percentile of both together). It is one number for each image, and the mean over images
  is given: in a pool of distances the image with the longest boundaries would decide. Thus parts of an image do not
  add up to it, and an image must be counted whole.

Where a class has a boundary in neither, both are NaN. Where it has one in the truth or in the prediction alone, F1 is 0
and there is no distance: the image is left out of the mean and counted in `BoundaryCounts.one_sided`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.metrics import list_values, ratio_of
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

PERCENTILE = 95


@dataclass(frozen=True, eq=False)
class BoundaryCounts:
    """Boundary pixels of each class, of images that can be added.

    Attributes
    ----------
    tolerance_px : float
        How far two boundaries may lie apart, in pixels.
    predicted, predicted_near : int64 array, shape (n_classes,)
        Boundary pixels of the prediction, and those of them within the tolerance of the truth's boundary.
    truth, truth_near : int64 array, shape (n_classes,)
        The same of the truth.
    hausdorff_px, hausdorff_nm : float64 array, shape (n_classes,)
        Sums of the images' Hausdorff 95; NaN in nm where an image has no pixel size.
    images : int64 array, shape (n_classes,)
        How many images these are sums of: those in which truth and prediction have a boundary of the class.
    one_sided : int64 array, shape (n_classes,)
        Images in which only one of them has.
    """

    tolerance_px: float
    predicted: NDArray[np.int64]
    predicted_near: NDArray[np.int64]
    truth: NDArray[np.int64]
    truth_near: NDArray[np.int64]
    hausdorff_px: NDArray[np.float64]
    hausdorff_nm: NDArray[np.float64]
    images: NDArray[np.int64]
    one_sided: NDArray[np.int64]

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.predicted)

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        """Count the boundaries of both."""
        if (self.n_classes, self.tolerance_px) != (other.n_classes, other.tolerance_px):
            raise InputError(
                f"boundaries of {self.n_classes} classes within {self.tolerance_px:g} px and of {other.n_classes} "
                f"classes within {other.tolerance_px:g} px cannot be added; count both alike."
            )
        return BoundaryCounts(
            self.tolerance_px,
            self.predicted + other.predicted,
            self.predicted_near + other.predicted_near,
            self.truth + other.truth,
            self.truth_near + other.truth_near,
            self.hausdorff_px + other.hausdorff_px,
            self.hausdorff_nm + other.hausdorff_nm,
            self.images + other.images,
            self.one_sided + other.one_sided,
        )


@dataclass(frozen=True, eq=False)
class BoundaryScores:
    """Agreement of outlines, from counts; see the module for the definitions.

    Arrays have one float64 per class; what is 0/0 is NaN.

    Attributes
    ----------
    counts : BoundaryCounts
        What the scores are taken from.

    Examples
    --------
    >>> truth = np.zeros((9, 9), int)
    >>> truth[2:6, 2:6] = 1
    >>> scores = BoundaryScores(count_boundaries(np.roll(truth, 1, axis=1), truth, 2, tolerance_px=0.5))
    >>> scores.f1.round(3)
    array([0.375, 0.5  ])
    >>> scores.hausdorff95
    array([1., 1.])
    """

    counts: BoundaryCounts

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the predicted boundary that is near the true one."""
        return ratio_of(self.counts.predicted_near, self.counts.predicted)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of the true boundary that is near the predicted one."""
        return ratio_of(self.counts.truth_near, self.counts.truth)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall; 0 for a boundary in only one of truth and prediction."""
        product = self.counts.predicted_near.astype(float) * self.counts.truth_near
        crossed = self.counts.predicted_near.astype(float) * self.counts.truth + (
            self.counts.truth_near.astype(float) * self.counts.predicted
        )
        f1 = ratio_of(2 * product, crossed)
        f1[(crossed == 0) & (self.counts.predicted + self.counts.truth > 0)] = 0
        return f1

    @property
    def hausdorff95(self) -> NDArray[np.float64]:
        """Mean over images of the 95th percentile of the Hausdorff distance, in pixels."""
        return ratio_of(self.counts.hausdorff_px, self.counts.images)

    @property
    def hausdorff95_nm(self) -> NDArray[np.float64]:
        """The same in nm; NaN where an image has no pixel size."""
        return ratio_of(self.counts.hausdorff_nm, self.counts.images)

    @property
    def mean_f1(self) -> float:
        """Mean of `f1` over the classes with a boundary in truth or prediction."""
        f1 = self.f1
        defined = f1[~np.isnan(f1)]
        return float(defined.mean()) if defined.size else float("nan")

    def rows(self, class_names: Sequence[str]) -> list[dict[str, str | float | None]]:
        """Make a table with a row for each class.

        Parameters
        ----------
        class_names : sequence of str
            A name for each class.

        Returns
        -------
        list of dict
            `class`, `boundary_f1`, `boundary_precision`, `boundary_recall`, `hausdorff95_px`, `hausdorff95_nm`,
            `hausdorff95_images`, `one_sided_images`; None where undefined.

        Raises
        ------
        InputError
            If there is not one name for each class.
        """
        if len(class_names) != self.counts.n_classes:
            raise InputError(
                f"{self.counts.n_classes} classes need as many names, not {', '.join(class_names) or 'none'}."
            )
        ratios = {
            "boundary_f1": self.f1,
            "boundary_precision": self.precision,
            "boundary_recall": self.recall,
            "hausdorff95_px": self.hausdorff95,
            "hausdorff95_nm": self.hausdorff95_nm,
        }
        return [
            {
                "class": name,
                **{column: None if np.isnan(values[i]) else float(values[i]) for column, values in ratios.items()},
                "hausdorff95_images": int(self.counts.images[i]),
                "one_sided_images": int(self.counts.one_sided[i]),
            }
            for i, name in enumerate(class_names)
        ]


def count_boundaries(
    prediction_yx: ArrayLike,
    truth_yx: ArrayLike,
    n_classes: int,
    *,
    tolerance_px: float = 2.0,
    pixel_size_nm: tuple[float, float] | None = None,
    ignore: int | None = None,
    mask: ArrayLike | None = None,
) -> BoundaryCounts:
    """Hold the boundaries of each class against those of the truth.

    Parameters
    ----------
    prediction_yx, truth_yx : integer or boolean arrays, shape (height, width)
        Class ids, 0 to `n_classes` - 1, of a whole image.
    n_classes : int
        Number of classes.
    tolerance_px : float
        How far two boundaries may lie apart to be the same one, in pixels.
    pixel_size_nm : (float, float), optional
        Height and width of a pixel, for distances in nm.
    ignore : int, optional
        Pixels whose truth has this value are left out.
    mask : boolean array, shape (height, width), optional
        Pixels where it is False are left out.

    Raises
    ------
    InputError
        If the arrays are not two-dimensional integers of one shape, or a value that is not left out is no class.
    """
    prediction, truth = np.asarray(prediction_yx), np.asarray(truth_yx)
    kept = _kept(prediction, truth, n_classes, ignore, mask)
    on_boundary = [_boundary(classes, kept) for classes in (prediction, truth)]
    places = [_by_class(classes, on, n_classes) for classes, on in zip((prediction, truth), on_boundary, strict=True)]
    shape = truth.shape
    totals = np.zeros((6, n_classes), np.int64)
    hausdorff = np.zeros((2, n_classes))
    for k in range(n_classes):
        predicted, true = places[0][k], places[1][k]
        totals[0, k], totals[2, k] = len(predicted), len(true)
        if not len(predicted) or not len(true):
            totals[5, k] = len(predicted) + len(true) > 0
            continue
        totals[4, k] = 1
        distances = _distances(predicted, true, shape, (1.0, 1.0))
        totals[1, k], totals[3, k] = (np.count_nonzero(d <= tolerance_px) for d in distances)
        hausdorff[0, k] = _percentile(distances)
        if pixel_size_nm is None:
            hausdorff[1, k] = np.nan
        elif pixel_size_nm[0] == pixel_size_nm[1]:
            hausdorff[1, k] = hausdorff[0, k] * pixel_size_nm[0]
        else:
            hausdorff[1, k] = _percentile(_distances(predicted, true, shape, pixel_size_nm))
    return BoundaryCounts(tolerance_px, *totals[:4], *hausdorff, *totals[4:])


def count_near(
    prediction_yx: ArrayLike,
    truth_yx: ArrayLike,
    n_classes: int,
    *,
    tolerance_px: float,
    ignore: int | None = None,
    rows: slice = slice(None),
) -> NDArray[np.int64]:
    """Count the boundary pixels of some rows of an image, of which counts add up to those of `count_boundaries`.

    Parameters
    ----------
    prediction_yx, truth_yx, n_classes, tolerance_px, ignore
        As for `count_boundaries`.
    rows : slice
        Those that are counted. The arrays have to go on above and below them by the tolerance and a pixel, or to where
        the image ends.

    Returns
    -------
    int64 array, shape (4, n_classes)
        Boundary pixels of the prediction, those of them within the tolerance of the truth's boundary, and the same of
        the truth.
    """
    prediction, truth = np.asarray(prediction_yx), np.asarray(truth_yx)
    kept = _kept(prediction, truth, n_classes, ignore, None)
    first, stop, _ = rows.indices(truth.shape[0])
    width = truth.shape[1]
    predicted, true = (_by_class(classes, _boundary(classes, kept), n_classes) for classes in (prediction, truth))
    totals = np.zeros((4, n_classes), np.int64)
    for k in range(n_classes):
        both = predicted[k], true[k]
        counted = [(places >= first * width) & (places < stop * width) for places in both]
        totals[::2, k] = [np.count_nonzero(inside) for inside in counted]
        if not all(map(len, both)):
            continue
        distances = _distances(*both, truth.shape, (1.0, 1.0))
        totals[1::2, k] = [
            np.count_nonzero(away[inside] <= tolerance_px) for away, inside in zip(distances, counted, strict=True)
        ]
    return totals


def _kept(
    prediction: NDArray[Any], truth: NDArray[Any], n_classes: int, ignore: int | None, mask: ArrayLike | None
) -> NDArray[np.bool_] | None:
    """Tell which pixels count, None being all of them, after checking the arrays."""
    for array, name in ((prediction, "prediction"), (truth, "truth")):
        if array.dtype.kind not in "bui" or array.ndim != 2:
            raise InputError(
                f"{name}: must be class ids in an image of two axes, not {array.dtype} of shape {array.shape}; "
                "give one plane, with the class of each pixel."
            )
    kept = None if ignore is None else truth != ignore
    if mask is not None:
        given = np.asarray(mask)
        if given.dtype != np.bool_ or given.shape != truth.shape:
            raise InputError(
                f"mask: must be boolean and of shape {truth.shape}, not {given.dtype} of shape {given.shape}; "
                "compare it with a value first, as in mask > 0."
            )
        kept = given if kept is None else kept & given
    if prediction.shape != truth.shape:
        raise InputError(
            f"prediction and truth differ in shape, {prediction.shape} and {truth.shape}; "
            "they must show the same image, neither cropped nor scaled."
        )
    for array, name in ((prediction, "prediction"), (truth, "truth")):
        strange = (array < 0) | (array >= n_classes)
        if kept is not None:
            strange &= kept
        if strange.any():
            listed = list_values(*np.unique(array[strange], return_counts=True))
            raise InputError(
                f"{name}: class ids go from 0 to {n_classes - 1}, but there are {listed}; map them to classes."
            )
    return kept


def _boundary(classes: NDArray[Any], kept: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    on = np.zeros(classes.shape, bool)
    for one, other in (
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        differ = classes[one] != classes[other]
        if kept is not None:
            differ &= kept[one]
            differ &= kept[other]
        on[one] |= differ
        on[other] |= differ
    return on


def _by_class(classes: NDArray[Any], on_boundary: NDArray[np.bool_], n_classes: int) -> list[NDArray[np.int64]]:
    """Give the flat places of the boundary pixels of each class."""
    places = np.flatnonzero(on_boundary)
    classes = classes.ravel()[places]
    order = np.argsort(classes, kind="stable")
    return np.split(places[order], np.cumsum(np.bincount(classes, minlength=n_classes))[:-1])


def _distances(
    predicted: NDArray[np.int64], true: NDArray[np.int64], shape: tuple[int, ...], pixel: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure from each place to the nearest of the others, both ways.

    A tree of the few boundary pixels takes a quarter of the time of a distance transform of the whole image, and has
    no need of its memory. Places that both have are at distance 0, and not asked for.
    """
    from scipy.spatial import KDTree

    points = [np.column_stack(np.divmod(places, shape[1])) * np.asarray(pixel) for places in (predicted, true)]
    distances = []
    for here, places, there, others in ((0, predicted, 1, true), (1, true, 0, predicted)):
        apart = ~np.isin(places, others, assume_unique=True)
        measured = np.zeros(len(places))
        if apart.any():
            tree = KDTree(points[there], compact_nodes=False, balanced_tree=False)
            measured[apart] = tree.query(points[here][apart])[0]
        distances.append(measured)
    return distances[0], distances[1]


def _percentile(distances: tuple[NDArray[np.float64], NDArray[np.float64]]) -> float:
    return max(float(np.percentile(directed, PERCENTILE)) for directed in distances)

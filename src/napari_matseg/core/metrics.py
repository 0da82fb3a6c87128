"""How well a prediction agrees with the truth: counts, then ratios.

Tiles, files and workers each give `Counts`, which are added; `Scores` are taken once, from the sum.
Ratios of parts are never averaged, for that would weigh a small tile as much as a large one.

Where a ratio is 0/0 it is NaN. A mean over classes is taken over those for which the ratio is defined:
for IoU and Dice these are the classes that occur in the truth or in the prediction, for precision those
that were predicted, for recall those in the truth. It is NaN where there are none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

CHUNK = 2**16  # pixels; two chunks and their codes stay in a core's own cache
LISTED = 5  # values that a message names before it says "and more"


@dataclass(frozen=True, eq=False)
class Counts:
    """How many pixels of each class were taken for which class.

    Attributes
    ----------
    confusion : int64 array, shape (n_classes, n_classes)
        Pixels; rows are the truth, columns the prediction.

    Examples
    --------
    >>> tile, next_tile = count([0, 1], [0, 1], n_classes=2), count([1, 1], [0, 1], n_classes=2)
    >>> (tile + next_tile).confusion
    array([[1, 1],
           [0, 2]])
    """

    confusion: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Hold the matrix to being square."""
        shape = self.confusion.shape
        if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
            raise InputError(f"counts need a square matrix with a row for each class, not one of shape {shape}.")

    @classmethod
    def zero(cls, n_classes: int) -> Counts:
        """No pixels yet: where a sum starts."""
        return cls(np.zeros((n_classes, n_classes), dtype=np.int64))

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.confusion.shape[0])

    def __add__(self, other: Counts) -> Counts:
        """Count the pixels of both."""
        if self.n_classes != other.n_classes:
            raise InputError(
                f"counts of {self.n_classes} and of {other.n_classes} classes cannot be added; "
                "count both with the same classes."
            )
        return Counts(self.confusion + other.confusion)


def count(
    prediction: ArrayLike, truth: ArrayLike, n_classes: int, ignore: int | None = None, mask: ArrayLike | None = None
) -> Counts:
    """Count how many pixels of each class were taken for which class.

    Works through the arrays in chunks, so that memory-mapped ones are never copied whole.

    Parameters
    ----------
    prediction, truth : integer or boolean arrays of equal shape
        Class ids, 0 to `n_classes` - 1.
    n_classes : int
        Number of classes.
    ignore : int, optional
        Pixels whose truth has this value are left out, whatever was predicted there. Best a value that is
        no class, such as 255: a class that is ignored still has its predictions elsewhere counted against it.
    mask : boolean array of the same shape, optional
        Pixels where it is False are left out.

    Raises
    ------
    InputError
        If shapes differ, values are no integers, or a value that is not left out is no class.

    Examples
    --------
    >>> count([0, 1, 1, 0], [0, 1, 2, 255], n_classes=3, ignore=255).confusion
    array([[1, 0, 0],
           [0, 1, 0],
           [0, 1, 0]])
    """
    arrays = [_class_ids(prediction, "prediction"), _class_ids(truth, "truth")]
    _same_shape(arrays[0], arrays[1], "truth")
    if mask is not None:
        kept = np.asarray(mask)
        if kept.dtype != np.bool_:
            raise InputError(f"mask: must be boolean, not {kept.dtype}; compare it with a value first, as in mask > 0.")
        _same_shape(arrays[0], kept, "mask")
        arrays.append(kept)

    counts = Counts.zero(n_classes)
    bins = n_classes * n_classes
    # The smallest type that holds truth * n_classes + prediction: there is no faster way through memory.
    code_type = np.min_scalar_type(bins - 1)
    total = np.zeros(bins, dtype=np.int64)
    for some_prediction, some_truth, left_out in _chunks(arrays, ignore):
        if not (_all_classes(some_prediction, n_classes) and _all_classes(some_truth, n_classes)):
            raise _no_class(arrays, n_classes, ignore)
        code = np.multiply(some_truth, n_classes, dtype=code_type, casting="unsafe")
        np.add(code, some_prediction, out=code, casting="unsafe")
        total += np.bincount(code, minlength=bins)
        total[0] -= left_out
    return counts + Counts(total.reshape(n_classes, n_classes))


@dataclass(frozen=True, eq=False)
class Scores:
    """Ratios of agreement, from counts.

    TP, FP and FN are the true positive, false positive and false negative pixels of a class. Arrays have
    one float64 per class, from 0 to 1; what is 0/0 is NaN (see the module for the rule of the means).

    Attributes
    ----------
    counts : Counts
        What the ratios are taken from.

    Examples
    --------
    >>> scores = Scores(count([0, 0, 1, 1], [0, 0, 0, 1], n_classes=3))
    >>> scores.iou.round(3)
    array([0.667, 0.5  ,   nan])
    >>> round(scores.mean_iou, 3), round(scores.pooled_iou, 3), scores.accuracy
    (0.583, 0.6, 0.75)
    """

    counts: Counts

    @property
    def pixels_truth(self) -> NDArray[np.int64]:
        """Pixels of each class in the truth, TP + FN."""
        return np.asarray(self.counts.confusion.sum(axis=1))

    @property
    def pixels_prediction(self) -> NDArray[np.int64]:
        """Pixels of each class in the prediction, TP + FP."""
        return np.asarray(self.counts.confusion.sum(axis=0))

    @property
    def _hits(self) -> NDArray[np.int64]:
        return self.counts.confusion.diagonal()

    @property
    def _union(self) -> NDArray[np.int64]:
        return self.pixels_truth + self.pixels_prediction - self._hits

    @property
    def _pixels(self) -> int:
        return int(self.counts.confusion.sum())

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union, TP / (TP + FP + FN).

        The coefficient of community of Jaccard (1912), New Phytologist 11, 37-50,
        doi 10.1111/j.1469-8137.1912.tb05611.x.
        """
        return ratio_of(self._hits, self._union)

    @property
    def dice(self) -> NDArray[np.float64]:
        """2 TP / (2 TP + FP + FN), which is also the F1 score.

        The coincidence index of Dice (1945), Ecology 26, 297-302, doi 10.2307/1932409.
        """
        return ratio_of(2 * self._hits, self.pixels_truth + self.pixels_prediction)

    @property
    def precision(self) -> NDArray[np.float64]:
        """TP / (TP + FP): how much of what was predicted is so.

        The pertinency factor of Kent et al. (1955), American Documentation 6, 93-101.
        """
        return ratio_of(self._hits, self.pixels_prediction)

    @property
    def recall(self) -> NDArray[np.float64]:
        """TP / (TP + FN): how much of what is there was predicted.

        The recall factor of Kent et al. (1955), American Documentation 6, 93-101.
        """
        return ratio_of(self._hits, self.pixels_truth)

    @property
    def class_accuracy(self) -> NDArray[np.float64]:
        """(TP + TN) / pixels: how often "of this class, or not" is right."""
        return 1 - ratio_of(self._union - self._hits, np.full_like(self._union, self._pixels))

    @property
    def mean_iou(self) -> float:
        """Mean of `iou` over the classes that occur in truth or prediction."""
        return _mean(self.iou)

    @property
    def mean_dice(self) -> float:
        """Mean of `dice` over the classes that occur in truth or prediction."""
        return _mean(self.dice)

    @property
    def pooled_iou(self) -> float:
        """Sum of TP over the sum of TP + FP + FN, over all classes ("micro" average).

        Background is a class like the others. A wrong pixel counts twice, as FN of one class and FP of another.
        """
        return float(ratio_of(self._hits.sum(), self._union.sum()))

    @property
    def accuracy(self) -> float:
        """Share of the pixels that are right."""
        return float(ratio_of(self._hits.sum(), self._pixels))

    @property
    def frequency_weighted_iou(self) -> float:
        """Mean of `iou`, each class weighed with its share of the truth.

        As in Long, Shelhamer and Darrell (2015), doi 10.1109/CVPR.2015.7298965.
        """
        occurs = self.pixels_truth > 0
        return float(ratio_of((self.pixels_truth[occurs] * self.iou[occurs]).sum(), self._pixels))

    def to_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Give all of it in plain types, ready for JSON.

        Parameters
        ----------
        class_names : sequence of str
            A name for each class.

        Returns
        -------
        dict
            `iou`, `dice`, `precision`, `recall` (each class name -> ratio), `pixels` (class name -> `truth`
            and `prediction`), `mean_iou`, `mean_dice`, `pooled_iou`, `accuracy`, `frequency_weighted_iou`.
            NaN becomes None, for JSON has none.

        Raises
        ------
        InputError
            If there is not one name, all different, for each class.
        """
        names = self._names(class_names)
        pixels = {"truth": self.pixels_truth, "prediction": self.pixels_prediction}
        return {
            **{ratio: dict(zip(names, map(plain, values), strict=True)) for ratio, values in self._by_class.items()},
            "pixels": {name: {side: int(n[i]) for side, n in pixels.items()} for i, name in enumerate(names)},
            "mean_iou": plain(self.mean_iou),
            "mean_dice": plain(self.mean_dice),
            "pooled_iou": plain(self.pooled_iou),
            "accuracy": plain(self.accuracy),
            "frequency_weighted_iou": plain(self.frequency_weighted_iou),
        }

    def rows(self, class_names: Sequence[str]) -> list[dict[str, str | float | None]]:
        """Make a table with a row for each class and one, "mean", for the means.

        Parameters
        ----------
        class_names : sequence of str
            A name for each class.

        Returns
        -------
        list of dict
            `class`, `iou`, `dice`, `precision`, `recall`, `pixels_truth`, `pixels_prediction`; None where
            undefined. The last row has no pixels, for their mean says nothing.

        Raises
        ------
        InputError
            If there is not one name, all different, for each class.
        """
        ratios = self._by_class
        pixels = {"pixels_truth": self.pixels_truth, "pixels_prediction": self.pixels_prediction}
        rows: list[dict[str, str | float | None]] = [
            {
                "class": name,
                **{column: plain(values[i]) for column, values in ratios.items()},
                **{column: int(n[i]) for column, n in pixels.items()},
            }
            for i, name in enumerate(self._names(class_names))
        ]
        means = {column: plain(_mean(values)) for column, values in ratios.items()}
        return [*rows, {"class": "mean", **means, **dict.fromkeys(pixels)}]

    @property
    def _by_class(self) -> dict[str, NDArray[np.float64]]:
        return {"iou": self.iou, "dice": self.dice, "precision": self.precision, "recall": self.recall}

    def _names(self, class_names: Sequence[str]) -> list[str]:
        names = list(class_names)
        if len(names) != self.counts.n_classes or len(set(names)) != len(names):
            raise InputError(
                f"{self.counts.n_classes} classes need as many different names, not {', '.join(names) or 'none'}."
            )
        return names


def list_values(values: NDArray[Any], pixels: NDArray[Any], write: Callable[[Any], str] = str) -> str:
    """Name the most frequent values with their numbers of pixels, and say how many more there are.

    Examples
    --------
    >>> list_values(np.array([7, 255]), np.array([1, 1200]))
    '255 (1200 pixels), 7 (1 pixel)'
    """
    first = np.argsort(-pixels, kind="stable")[:LISTED]
    named = [f"{write(values[i])} ({pixels[i]} pixel{'s' if pixels[i] != 1 else ''})" for i in first]
    more = len(values) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _class_ids(values: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind not in "bui":
        raise InputError(f"{name}: class ids must be integers, not {array.dtype}; take the class of each pixel first.")
    return array


def _same_shape(prediction: NDArray[Any], other: NDArray[Any], name: str) -> None:
    if prediction.shape != other.shape:
        raise InputError(
            f"prediction and {name} differ in shape, {prediction.shape} and {other.shape}; "
            "they must show the same image, neither cropped nor scaled."
        )


def _chunks(arrays: list[NDArray[Any]], ignore: int | None) -> Iterator[tuple[NDArray[Any], NDArray[Any], int]]:
    """Give some pixels at a time: prediction, truth, and how many are left out, which are 0 in both.

    To set them to 0 and take them off again costs half the time of picking out the others.
    """
    parts = np.nditer(arrays, flags=["external_loop", "buffered", "zerosize_ok"], buffersize=CHUNK)
    for prediction, truth, *mask in parts:
        kept = mask[0] if mask else None
        if ignore is not None:
            kept = truth != ignore if kept is None else kept & (truth != ignore)
        if kept is None:
            yield prediction, truth, 0
        else:
            yield prediction * kept, truth * kept, kept.size - int(np.count_nonzero(kept))


def _all_classes(values: NDArray[Any], n_classes: int) -> bool:
    return values.size == 0 or bool(values.min() >= 0 and values.max() < n_classes)


def _no_class(arrays: list[NDArray[Any]], n_classes: int, ignore: int | None) -> InputError:
    """Look through all pixels for values that are no class, for the message."""
    found: dict[str, Counter[int]] = {"prediction": Counter(), "truth": Counter()}
    for *chunk, _ in _chunks(arrays, ignore):
        for name, values in zip(found, chunk, strict=True):
            strange, pixels = np.unique(values[(values < 0) | (values >= n_classes)], return_counts=True)
            found[name].update(dict(zip(strange.tolist(), pixels.tolist(), strict=True)))
    name = "prediction" if found["prediction"] else "truth"
    listed = list_values(np.array([*found[name]]), np.array([*found[name].values()]))
    return InputError(
        f"{name}: class ids go from 0 to {n_classes - 1}, but there are {listed}; "
        f"map them to classes{', or ignore them' if name == 'truth' else ''}."
    )


def ratio_of(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """Divide counts; what is 0/0 is NaN.

    Examples
    --------
    >>> ratio_of([1, 0], [2, 0])
    array([0.5, nan])
    """
    part, whole = np.broadcast_arrays(part, whole)
    ratio = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def plain(value: float) -> float | None:
    """Give a number as JSON knows it: None instead of NaN, and no numpy."""
    if np.isnan(value):
        return None
    return value if isinstance(value, int) else float(value)

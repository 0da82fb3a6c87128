"""Which objects of two label images overlap, and by how many pixels.

Everything about objects is counted from these overlaps, of which there are about as many as objects: never a table
of all objects against all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.progress import Progress, finish
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import ArrayLike, NDArray

    Codes = tuple[NDArray[np.uint64], NDArray[np.int64]]  # pairs of ids, 0 for none, and the pixels of each

BAND = 1 << 24  # pixels that are read together
CHUNK = 1 << 18  # pixels that are looked at together; with what is made of them they stay in a core's own cache
PENDING = 1 << 20  # overlaps of chunks that are kept before they are added up
SHIFT = np.uint64(32)  # a pair of ids is one number, the truth's in the upper half
LARGEST = (1 << 32) - 1
NONE: Codes = (np.empty(0, np.uint64), np.empty(0, np.int64))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Objects of two label images of the same plane, and which of them overlap.

    `a + b` is of both where they are of different pixels of the same plane, such as its tiles.

    Attributes
    ----------
    truth_ids, predicted_ids : int64 arrays, shape (n_truth,) and (n_predicted,)
        Labels of the objects, ascending, without 0.
    truth_areas, predicted_areas : int64 arrays, shape (n_truth,) and (n_predicted,)
        Pixels of each.
    truth_index, predicted_index : int64 arrays, shape (n_pairs,)
        Where in `truth_ids` and in `predicted_ids` the objects of a pair are; ascending, the truth's first.
    overlaps : int64 array, shape (n_pairs,)
        Pixels that the two objects of a pair have in common, at least 1.
    """

    truth_ids: NDArray[np.int64]
    truth_areas: NDArray[np.int64]
    predicted_ids: NDArray[np.int64]
    predicted_areas: NDArray[np.int64]
    truth_index: NDArray[np.int64]
    predicted_index: NDArray[np.int64]
    overlaps: NDArray[np.int64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair (Jaccard 1912, doi 10.1111/j.1469-8137.1912.tb05611.x)."""
        both = self.truth_areas[self.truth_index] + self.predicted_areas[self.predicted_index]
        return self.overlaps / (both - self.overlaps)

    def __add__(self, other: Pairs) -> Pairs:
        """Count the pixels of both."""
        return _decoded(*_sum_of([self._coded(), other._coded()]))

    def _coded(self) -> Codes:
        """Pairs as `_decoded` takes them, with what of each object overlaps none."""
        truth, predicted = self.truth_ids.astype(np.uint64) << SHIFT, self.predicted_ids.astype(np.uint64)
        alone = [
            areas - np.bincount(index, self.overlaps, len(areas)).astype(np.int64)
            for areas, index in ((self.truth_areas, self.truth_index), (self.predicted_areas, self.predicted_index))
        ]
        codes = np.concatenate([truth[self.truth_index] | predicted[self.predicted_index], truth, predicted])
        pixels = np.concatenate([self.overlaps, *alone])
        return codes[pixels > 0], pixels[pixels > 0]


def count_pairs(prediction_yx: ArrayLike, truth_yx: ArrayLike, *, mask: ArrayLike | None = None) -> Pairs:
    """Count the overlaps of the objects in two label images.

    See `count_pairs_steps`, which this runs to its end.

    Examples
    --------
    >>> pairs = count_pairs([[0, 7, 7, 7], [0, 0, 9, 9]], [[1, 1, 1, 1], [0, 0, 2, 0]])
    >>> pairs.truth_ids, pairs.truth_areas, pairs.predicted_ids, pairs.predicted_areas
    (array([1, 2]), array([4, 1]), array([7, 9]), array([3, 2]))
    >>> pairs.truth_index, pairs.predicted_index, pairs.overlaps, pairs.iou
    (array([0, 1]), array([0, 1]), array([3, 1]), array([0.75, 0.5 ]))
    """
    return finish(count_pairs_steps(prediction_yx, truth_yx, mask=mask))


def count_pairs_steps(
    prediction_yx: ArrayLike, truth_yx: ArrayLike, *, mask: ArrayLike | None = None
) -> Generator[Progress, None, Pairs]:
    """Count the overlaps of the objects in two label images, some rows at a time.

    Memory goes with the number of pairs, not with the number of pixels: arrays that stay in their file are read by
    slices of rows and never whole.

    Parameters
    ----------
    prediction_yx, truth_yx : integer or boolean arrays of equal shape, (height, width)
        Labels from 0, which is no object, to 2**32 - 1. All pixels of one value are one object, connected or not.
    mask : boolean array, optional
        Of the same shape, or one that broadcasts to it. Where it is False, pixels are left out of areas and overlaps,
        and objects that lie wholly there do not exist.

    Yields
    ------
    Progress
        After each band of rows.

    Returns
    -------
    Pairs

    Raises
    ------
    InputError
        If an array is not of one plane, shapes differ, a value is no label, or the mask is not boolean.
    """
    prediction, truth = _labels(prediction_yx, "prediction"), _labels(truth_yx, "truth")
    if prediction.shape != truth.shape:
        raise InputError(
            f"prediction and truth differ in shape, {prediction.shape} and {truth.shape}; "
            "they must show the same image, neither cropped nor scaled."
        )
    counted = None if mask is None else _counted(mask, truth.shape)
    height, width = truth.shape
    rows = max(1, BAND // max(1, width))
    total = max(1, -(-height // rows))
    found, pending = [NONE], 0
    for done in range(total):
        band = slice(done * rows, (done + 1) * rows)
        arrays = [np.asarray(array[band]).reshape(-1) for array in (prediction, truth, counted) if array is not None]
        for start in range(0, arrays[0].size, CHUNK):
            found.append(_overlaps(*(array[start : start + CHUNK] for array in arrays)))
            pending += len(found[-1][0])
        # No sooner than the sum has doubled, or a sum of many would be sorted again for each band.
        if pending > PENDING + len(found[0][0]):
            found, pending = [_sum_of(found)], 0
        yield Progress(done + 1, total, "comparing objects")
    return _decoded(*_sum_of(found))


def _labels(values: ArrayLike, name: str) -> Any:
    array: Any = values if hasattr(values, "shape") and hasattr(values, "dtype") else np.asarray(values)
    if len(array.shape) != 2:
        raise InputError(
            f"{name}: objects are compared in one plane (height, width), not in an array of shape {array.shape}; "
            "take the planes of a stack one by one."
        )
    if array.dtype.kind not in "bui":
        raise InputError(f"{name}: labels must be integers, not {array.dtype}; give every object its own number.")
    return array


def _counted(mask: ArrayLike, shape: tuple[int, int]) -> Any:
    array: Any = mask if hasattr(mask, "shape") and hasattr(mask, "dtype") else np.asarray(mask)
    if array.dtype.kind != "b":
        raise InputError(f"mask: must be boolean, not {array.dtype}; compare it with a value first, as in mask > 0.")
    if array.shape == shape:
        return array
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise InputError(
            f"mask: has shape {array.shape}, which does not fit labels of shape {shape}; make it of the same image."
        ) from None


def _overlaps(prediction: NDArray[Any], truth: NDArray[Any], counted: NDArray[np.bool_] | None = None) -> Codes:
    """Codes of the pairs that occur in some pixels, ascending, and how many pixels each has.

    Labels change seldom along a row, so runs are sorted and not pixels; that a run may go on from the end of a row
    to the next does no harm.
    """
    begins = np.ones(truth.size, dtype=np.bool_)
    np.not_equal(truth[1:], truth[:-1], out=begins[1:])
    for other in (prediction,) if counted is None else (prediction, counted):
        begins[1:] |= other[1:] != other[:-1]
    start = np.flatnonzero(begins)
    length = np.diff(start, append=truth.size)
    if counted is not None:
        start, length = start[counted[start]], length[counted[start]]
    codes = _ids(truth[start], "truth") << SHIFT | _ids(prediction[start], "prediction")
    objects = np.flatnonzero(codes)
    return _summed(codes[objects], length[objects])


def _ids(labels: NDArray[Any], name: str) -> NDArray[np.uint64]:
    lowest, highest = labels.min(initial=0), labels.max(initial=0)
    if lowest < 0 or highest > LARGEST:
        raise InputError(
            f"{name}: labels go from 0 to {LARGEST}, but there is {lowest if lowest < 0 else highest}; "
            "number the objects anew."
        )
    return labels.astype(np.uint64)


def _summed(codes: NDArray[np.uint64], pixels: NDArray[np.int64]) -> Codes:
    """Add up the pixels of equal codes; codes come out ascending."""
    order = np.argsort(codes)
    codes, pixels = codes[order], pixels[order]
    first = np.flatnonzero(np.diff(codes, prepend=~codes[:1]))
    return codes[first], np.add.reduceat(pixels, first)


def _sum_of(found: list[Codes]) -> Codes:
    codes, pixels = zip(*found, strict=True)
    return _summed(np.concatenate(codes), np.concatenate(pixels))


def _decoded(codes: NDArray[np.uint64], pixels: NDArray[np.int64]) -> Pairs:
    """Take pairs of ids, with 0 for none, apart."""
    sides = []
    for ids in (codes >> SHIFT, codes & np.uint64(LARGEST)):
        objects, index = np.unique(ids, return_inverse=True)
        areas = np.bincount(index, pixels, len(objects)).astype(np.int64)
        background = int(np.count_nonzero(objects[:1] == 0))
        sides.append((objects[background:].astype(np.int64), areas[background:], index - background))
    (truth_ids, truth_areas, truth_index), (predicted_ids, predicted_areas, predicted_index) = sides
    both = (truth_index >= 0) & (predicted_index >= 0)
    return Pairs(
        truth_ids=truth_ids,
        truth_areas=truth_areas,
        predicted_ids=predicted_ids,
        predicted_areas=predicted_areas,
        truth_index=truth_index[both],
        predicted_index=predicted_index[both],
        overlaps=pixels[both],
    )

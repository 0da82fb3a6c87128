"""Which objects of two label images are the same, and which were split or merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_matseg.core.agreement.pairs import Pairs

SPECK = 0.1
"""Share of the largest piece of an object from which on another is a piece too, and not a speck."""

BATCH = 1000  # pairs that are assigned together: the time goes with their square


@dataclass(frozen=True, eq=False)
class Matches:
    """Objects that are the same, one to one.

    Attributes
    ----------
    truth_index, predicted_index : int64 arrays, shape (n,)
        Where they are in the ids of the `Pairs`; ascending by the truth's.
    iou : float64 array, shape (n,)
        Of each two.
    """

    truth_index: NDArray[np.int64]
    predicted_index: NDArray[np.int64]
    iou: NDArray[np.float64]


def match(pairs: Pairs, iou: float = 0.5) -> Matches:
    """Match objects one to one.

    Optimal: as many as can be, and of these choices one with the largest sum of IoU. Above an IoU of 0.5 there is no
    choice, for no two predicted objects can each have more than half in common with a truth object and leave each
    other room (Kirillov et al. 2019, doi 10.1109/CVPR.2019.00963, section 4.1). At lower thresholds the assignment
    problem is solved by the algorithm of Jonker and Volgenant (1987), doi 10.1007/BF02278710, in each group of
    objects that hang together: fast but where, as below 0.05 in mosaics, many thousands of objects form one group.

    Parameters
    ----------
    pairs : Pairs
    iou : float
        From which IoU on two objects may be the same, more than 0 and at most 1.

    Raises
    ------
    InputError
        If the threshold is no IoU.

    Examples
    --------
    >>> from napari_matseg.core.agreement.pairs import count_pairs
    >>> match(count_pairs([[0, 7, 7, 7], [0, 0, 9, 9]], [[1, 1, 1, 1], [0, 0, 2, 0]]), iou=0.6)
    Matches(truth_index=array([0]), predicted_index=array([0]), iou=array([0.75]))
    """
    if not 0 < iou <= 1:
        raise InputError(f"an IoU of {iou} cannot be asked of two objects; give one above 0 and up to 1, such as 0.5.")
    every = pairs.iou
    able = np.flatnonzero(every >= iou)
    truth, predicted = pairs.truth_index[able], pairs.predicted_index[able]
    n_choices = np.maximum(np.bincount(truth)[truth], np.bincount(predicted)[predicted])
    open_still = able[n_choices > 1]
    settled = [_assign(batch, pairs, every) for batch in _batches(open_still, pairs)]
    kept = np.sort(np.concatenate([able[n_choices == 1], *settled]))
    return Matches(pairs.truth_index[kept], pairs.predicted_index[kept], every[kept])


def split_pairs(pairs: Pairs) -> NDArray[np.bool_]:
    """Mark truth objects that were taken apart.

    A predicted object is a piece of a truth object if more than half of it lies there; but a speck, of less than a
    tenth of the pixels that the largest piece has there, is none. A truth object with two pieces or more is split.
    That holds at any threshold: an object may be split, and matched with its largest piece as well.

    Returns
    -------
    bool array, shape (n_pairs,)
        True for a split truth object together with each of its pieces.
    """
    return _pieces(pairs.truth_index, pairs.overlaps, pairs.predicted_areas[pairs.predicted_index])


def merge_pairs(pairs: Pairs) -> NDArray[np.bool_]:
    """Mark predicted objects that took several truth objects for one.

    The rule of `split_pairs` with the two images exchanged: a predicted object is a merger if in it lies more than
    half of each of at least two truth objects, specks aside.

    Returns
    -------
    bool array, shape (n_pairs,)
        True for a merger together with each truth object that it swallowed.
    """
    return _pieces(pairs.predicted_index, pairs.overlaps, pairs.truth_areas[pairs.truth_index])


def _batches(able: NDArray[np.int64], pairs: Pairs) -> list[NDArray[np.int64]]:
    """Deal pairs out so that those of one group, linked by objects that they share, stay together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not able.size:
        return []
    truth, predicted = pairs.truth_index[able], pairs.predicted_index[able] + len(pairs.truth_ids)
    n_objects = len(pairs.truth_ids) + len(pairs.predicted_ids)
    links = coo_array((np.ones(able.size, np.int8), (truth, predicted)), shape=(n_objects, n_objects))
    group = connected_components(links, directed=False)[1][truth]
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], group[order])  # of the group
    return np.split(able[order], np.flatnonzero(np.diff(first // BATCH)) + 1)


def _assign(able: NDArray[np.int64], pairs: Pairs, iou: NDArray[np.float64]) -> NDArray[np.int64]:
    """Choose from pairs those that match most objects, then those of the largest sum of IoU.

    Each truth object may also take a stand-in of its own, so that there always is a way to serve all; a stand-in
    costs more than all else together, so that there are no more of them than need be.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    rows, row = np.unique(pairs.truth_index[able], return_inverse=True)
    columns, column = np.unique(pairs.predicted_index[able], return_inverse=True)
    n, each = len(rows), np.arange(len(rows))
    costs = np.concatenate([2 - iou[able], np.full(n, 2.0 * n + 2)])  # 2 -, because a cost of 0 would be no edge
    edges = np.concatenate([row, each]), np.concatenate([column, len(columns) + each])
    chosen_row, chosen_column = min_weight_full_bipartite_matching(csr_array((costs, edges)))
    partner = np.empty(n, dtype=np.int64)
    partner[chosen_row] = chosen_column
    chosen: NDArray[np.int64] = able[partner[row] == column]
    return chosen


def _pieces(whole: NDArray[np.int64], overlaps: NDArray[np.int64], part_areas: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark pairs of a whole with the parts that lie in it, where there are at least two."""
    n_wholes = int(whole.max(initial=-1)) + 1
    inside = 2 * overlaps > part_areas
    largest = np.zeros(n_wholes, dtype=np.int64)
    np.maximum.at(largest, whole[inside], overlaps[inside])
    inside &= overlaps >= SPECK * largest[whole]
    return inside & (np.bincount(whole[inside], minlength=n_wholes)[whole] > 1)

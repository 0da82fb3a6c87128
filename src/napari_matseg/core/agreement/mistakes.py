"""Where predicted objects are wrong: a picture of the errors, and a list of them, largest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.agreement.matching import match, merge_pairs, split_pairs
from napari_matseg.core.agreement.pairs import count_pairs
from napari_matseg.core.agreement.pieces import REACH, Extents, Pieces, connect, thick
from napari_matseg.core.measure.runs import BAND

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    from napari_matseg.core.agreement.pairs import Pairs

KINDS = ("right", "false positive", "false negative", "split", "merge")
"""What a pixel of the overlay, and a mistake, can be; the overlay holds their places in this, from 1."""

RIGHT, FALSE_POSITIVE, FALSE_NEGATIVE, SPLIT, MERGE, TOO_MUCH, TOO_LITTLE = range(1, 8)
LISTED = 5  # objects that a text names before it says "and more"


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong.

    Attributes
    ----------
    kind : str
        One of `KINDS`, but for "right".
    truth_labels, predicted_labels : tuple of int
        Objects of the truth and of the prediction that it is about; of classes, the class of each.
    y, x : float
        Centre of mass of its pixels, for a split or merge of the object's; that of the first pixel is (0, 0).
    area_px : int
        Pixels that are wrong.
    top, left, bottom, right : int
        First row and column, and those after the last, of the same pixels as the centre.
    iou : float
        Largest IoU of the object, or of the whole of which it is a piece, with one of the other image; of a wrong
        outline, that of the two objects. NaN for classes.
    text : str
        What is wrong, in words.
    """

    kind: str
    truth_labels: tuple[int, ...]
    predicted_labels: tuple[int, ...]
    y: float
    x: float
    area_px: int
    top: int
    left: int
    bottom: int
    right: int
    iou: float
    text: str


def find_mistakes(
    prediction_yx: ArrayLike, truth_yx: ArrayLike, iou: float = 0.5, *, mask: ArrayLike | None = None
) -> tuple[NDArray[np.uint8], list[Mistake]]:
    """Find what is wrong with predicted objects.

    Objects are matched one to one (`matching.match`) and splits and merges found by the rules of
    `matching.split_pairs` and `matching.merge_pairs`. Each of these is one mistake:

    - "false negative": a truth object that has no match and is neither split nor swallowed by a merger; all its pixels
      are wrong.
    - "false positive": a predicted object that has no match, and is neither a piece of a split object nor a merger.
    - "split" and "merge": wrong are the pixels that the pieces share with the whole, but for a piece that is matched.
    - "false positive" or "false negative" again, for a wrong outline of objects that are matched: pixels that the
      prediction has beyond the truth or lacks of it, in connected pieces, where these are at least 3 px thick (hold a
      square of 3 x 3). What is thinner is the rim that any two outlines differ by, and is only in the overlay.

    Parameters
    ----------
    prediction_yx, truth_yx : integer arrays, shape (height, width)
        Labels from 0, which is no object, to 2**32 - 1.
    iou : float
        From which IoU on two objects are the same.
    mask : boolean array, shape (height, width), optional
        Pixels where it is False are left out.

    Returns
    -------
    overlay_yx : uint8 array, shape (height, width)
        For each pixel its place in `KINDS` + 1: 1 where two matched objects meet, 4 where a piece of a split object
        meets it, 5 where a merger meets a part; else 3 where the truth has an object, 2 where only the prediction has;
        0 where neither has, and where the mask is False.
    mistakes : list of Mistake
        Largest `area_px` first.

    Raises
    ------
    InputError
        As `pairs.count_pairs` does, and if the threshold is no IoU.

    Examples
    --------
    >>> overlay, mistakes = find_mistakes([[0, 7, 7, 0, 0, 4]], [[1, 1, 1, 0, 2, 0]])
    >>> overlay
    array([[3, 1, 1, 0, 3, 2]], dtype=uint8)
    >>> [mistake.text for mistake in mistakes]
    ['missed: object 2', 'spurious: object 4']
    """
    prediction, truth = np.asarray(prediction_yx), np.asarray(truth_yx)
    pairs = count_pairs(prediction, truth, mask=mask)
    objects = _Objects.of(pairs, iou)
    kept = None if mask is None else np.broadcast_to(np.asarray(mask), truth.shape)
    overlay, extents, outlines = _paint(prediction, truth, kept, objects)
    return overlay, largest_first([*objects.mistakes(*extents), *objects.outline_mistakes(outlines)])


@dataclass(frozen=True, eq=False)
class _Objects:
    """What became of each object; index 0 is none of them, and k + 1 is that of index k in `pairs`."""

    pairs: Pairs
    split: NDArray[np.bool_]  # pairs of a split object and its piece
    merged: NDArray[np.bool_]  # pairs of a merger and its part
    matched: NDArray[np.bool_]
    partner: NDArray[np.int64]  # for each truth object, the predicted one that it is matched with
    whole: NDArray[np.int64]  # for each predicted object, the split truth object that it is a piece of
    merger: NDArray[np.int64]  # for each truth object, the predicted one that swallowed it
    has_partner: tuple[NDArray[np.bool_], NDArray[np.bool_]]  # for truth and predicted objects
    listed: tuple[NDArray[np.bool_], NDArray[np.bool_]]  # truth objects: missed or split; predicted: spurious, mergers
    best_iou: tuple[NDArray[np.float64], NDArray[np.float64]]

    @classmethod
    def of(cls, pairs: Pairs, iou: float) -> _Objects:
        matches = match(pairs, iou)
        split, merged = split_pairs(pairs), merge_pairs(pairs)
        t, p = pairs.truth_index + 1, pairs.predicted_index + 1
        n_t, n_p = len(pairs.truth_ids) + 1, len(pairs.predicted_ids) + 1
        partner, whole, merger = np.zeros(n_t, np.int64), np.zeros(n_p, np.int64), np.zeros(n_t, np.int64)
        partner[matches.truth_index + 1] = matches.predicted_index + 1
        whole[p[split]] = t[split]
        merger[t[merged]] = p[merged]
        has_t, has_p = partner > 0, np.zeros(n_p, bool)
        has_p[partner[has_t]] = True
        is_split, is_merger = np.zeros(n_t, bool), np.zeros(n_p, bool)
        is_split[t[split]] = True
        is_merger[p[merged]] = True
        listed_t = is_split | ~(has_t | (merger > 0))
        listed_p = is_merger | ~(has_p | (whole > 0))
        listed_t[0] = listed_p[0] = False
        best = np.zeros(n_t), np.zeros(n_p)
        np.maximum.at(best[0], t, pairs.iou)
        np.maximum.at(best[1], p, pairs.iou)
        return cls(
            pairs, split, merged, partner[t] == p, partner, whole, merger, (has_t, has_p), (listed_t, listed_p), best
        )

    def codes(self, t: NDArray[np.int64], p: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Say what pixels are where truth objects `t` and predicted ones `p` are, 0 being none."""
        both = (t > 0) & (p > 0)
        return np.select(
            [
                both & (self.partner[t] == p),
                both & (self.whole[p] == t),
                both & (self.merger[t] == p),
                self.has_partner[0][t],
                t > 0,
                self.has_partner[1][p],
                p > 0,
            ],
            [np.uint8(code) for code in (RIGHT, SPLIT, MERGE, TOO_LITTLE, FALSE_NEGATIVE, TOO_MUCH, FALSE_POSITIVE)],
            np.uint8(0),
        )

    def mistakes(self, truth: Extents, predicted: Extents) -> Iterable[Mistake]:
        """Whole objects that are wrong."""
        pairs = self.pairs
        for extents, side, whole_index, part_index, in_pair, kind in (
            (truth, 0, pairs.truth_index, pairs.predicted_index, self.split, SPLIT),
            (predicted, 1, pairs.predicted_index, pairs.truth_index, self.merged, MERGE),
        ):
            ids, part_ids = (pairs.truth_ids, pairs.predicted_ids)[:: -1 if side else 1]
            wrong = in_pair & ~self.matched
            areas = np.bincount(whole_index[wrong], pairs.overlaps[wrong], len(ids))
            chosen = np.flatnonzero(in_pair)
            chosen = chosen[np.argsort(whole_index[chosen], kind="stable")]
            first = np.searchsorted(whole_index[chosen], np.arange(len(ids) + 1))
            for k in np.flatnonzero(self.listed[side]).tolist():
                label = int(ids[k - 1])
                parts = tuple(part_ids[part_index[chosen[first[k - 1] : first[k]]]].tolist())
                if not parts:
                    text = f"{'spurious' if side else 'missed'}: object {label}"
                elif side:
                    text = f"merge: objects {_some(parts)} into {label}"
                else:
                    text = f"split: object {label} into {_some(parts)}"
                yield Mistake(
                    KINDS[(kind if parts else (FALSE_NEGATIVE, FALSE_POSITIVE)[side]) - 1],
                    parts if side else (label,),
                    (label,) if side else parts,
                    **place(extents, k, int(areas[k - 1]) if parts else None),
                    iou=float(self.best_iou[side][k]),
                    text=text,
                )

    def outline_mistakes(self, pieces: Pieces) -> Iterable[Mistake]:
        """Thick pieces of wrong outline of matched objects."""
        pairs, iou = self.pairs, self.pairs.iou
        matched = np.flatnonzero(self.matched)
        pair_of = tuple(np.zeros(len(has), np.int64) for has in self.has_partner)
        pair_of[0][pairs.truth_index[matched] + 1] = matched
        pair_of[1][pairs.predicted_index[matched] + 1] = matched
        for k, owner in enumerate(pieces.owner.tolist()):
            index, beyond = divmod(owner, 2)
            pair = pair_of[beyond][index]
            t, p = int(pairs.truth_ids[pairs.truth_index[pair]]), int(pairs.predicted_ids[pairs.predicted_index[pair]])
            where = place(pieces.extents, k)
            what = "has {} px beyond" if beyond else "lacks {} px of"
            yield Mistake(
                KINDS[(FALSE_POSITIVE if beyond else FALSE_NEGATIVE) - 1],
                (t,),
                (p,),
                **where,
                iou=float(iou[pair]),
                text=f"outline: object {p} {what.format(where['area_px'])} object {t}",
            )


def _paint(
    prediction: NDArray[Any], truth: NDArray[Any], kept: NDArray[np.bool_] | None, objects: _Objects
) -> tuple[NDArray[np.uint8], tuple[Extents, Extents], Pieces]:
    """Make the overlay, measure the objects that are listed, and find wrong outlines, along runs of equal pixels.

    The owner of a piece of outline is twice the place of its object in the ids, from 1, and 1 more for a predicted one.
    """
    pairs = objects.pairs
    height, width = truth.shape
    overlay = np.empty(truth.shape, np.uint8)
    extents = Extents.none(len(pairs.truth_ids) + 1), Extents.none(len(pairs.predicted_ids) + 1)
    outlines = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    step = max(1, BAND // max(1, width))
    for top in range(0, height, step):
        bottom = min(top + step, height)
        band = slice(max(top - REACH, 0), bottom + REACH)
        sides = [
            labels[band] if kept is None else np.where(kept[band], labels[band], 0) for labels in (truth, prediction)
        ]
        begins = np.ones(sides[0].shape, bool)
        begins[:, 1:] = (sides[0][:, 1:] != sides[0][:, :-1]) | (sides[1][:, 1:] != sides[1][:, :-1])
        start = np.flatnonzero(begins)
        length = np.diff(start, append=begins.size)
        t, p = (
            _index(ids, labels[begins].astype(np.int64))
            for ids, labels in zip((pairs.truth_ids, pairs.predicted_ids), sides, strict=True)
        )
        codes = objects.codes(t, p)
        inside = slice(top - band.start, bottom - band.start)
        painted = np.where(codes == TOO_MUCH, FALSE_POSITIVE, np.where(codes == TOO_LITTLE, FALSE_NEGATIVE, codes))
        overlay[top:bottom] = np.repeat(painted.astype(np.uint8), length).reshape(begins.shape)[inside]
        y, x = np.divmod(start, width)
        here = (y >= inside.start) & (y < inside.stop)
        for index, listed, extent in zip((t, p), objects.listed, extents, strict=True):
            some = listed[index] & here
            extent.add(index[some], y[some] + band.start, x[some], length[some])
        owners = np.where(codes == TOO_MUCH, 2 * p + 1, np.where(codes == TOO_LITTLE, 2 * t, 0)).astype(np.int32)
        places, owner = thick(np.repeat(owners, length).reshape(begins.shape))
        here = (places >= inside.start * width) & (places < inside.stop * width)
        outlines.append((places[here] + band.start * width, owner[here]))
    places, owner = (np.concatenate(parts) for parts in zip(*outlines, strict=True))
    return overlay, extents, connect(places, owner, width)


def _index(ids: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the place of labels among the ids, from 1; that of 0 is 0."""
    places: NDArray[np.int64] = np.searchsorted(ids, labels) + 1
    places[labels == 0] = 0
    return places


def place(extents: Extents, k: int, area_px: int | None = None) -> dict[str, Any]:
    """Give the fields of a `Mistake` that say where group `k` is, and how large unless that is given."""
    area = float(extents.area[k])
    return {
        "y": float(extents.sum_y[k]) / area,
        "x": float(extents.sum_x[k]) / area,
        "area_px": int(area) if area_px is None else area_px,
        "top": int(extents.top[k]),
        "left": int(extents.left[k]),
        "bottom": int(extents.bottom[k]),
        "right": int(extents.right[k]),
    }


def _some(labels: tuple[int, ...]) -> str:
    named = ", ".join(map(str, labels[:LISTED]))
    return named + (f" and {len(labels) - LISTED} more" if len(labels) > LISTED else "")


def largest_first(mistakes: list[Mistake]) -> list[Mistake]:
    """Sort by area, from top to bottom where equal."""
    return sorted(mistakes, key=lambda mistake: (-mistake.area_px, mistake.top, mistake.left))

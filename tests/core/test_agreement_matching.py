from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_matseg.core.agreement import matching
from napari_matseg.core.agreement.matching import Matches, match, merge_pairs, split_pairs
from napari_matseg.core.agreement.pairs import Pairs, count_pairs
from napari_matseg.errors import InputError

images = st.tuples(*[hnp.arrays(np.uint8, (4, 6), elements=st.integers(0, 4), fill=st.nothing())] * 2)


def best_by_trial(pairs: Pairs, threshold: float) -> tuple[int, float]:
    """Number and sum of IoU of the best of all ways to match."""
    iou = np.zeros((len(pairs.truth_ids), len(pairs.predicted_ids)))
    iou[pairs.truth_index, pairs.predicted_index] = pairs.iou
    if iou.shape[0] > iou.shape[1]:
        iou = iou.T
    taken = [
        [value for row, column in enumerate(columns) if (value := iou[row, column]) >= threshold]
        for columns in permutations(range(iou.shape[1]), iou.shape[0])
    ]
    return max(((len(values), sum(values)) for values in taken), default=(0, 0.0))


def in_pairs(pairs: Pairs, matches: Matches) -> bool:
    known = set(zip(pairs.truth_index.tolist(), pairs.predicted_index.tolist(), pairs.iou.tolist(), strict=True))
    matched = zip(matches.truth_index.tolist(), matches.predicted_index.tolist(), matches.iou.tolist(), strict=True)
    return set(matched) <= known


@given(images, st.sampled_from([0.001, 0.1, 0.2, 1 / 3, 0.5, 0.6, 1.0]), st.sampled_from([1, 1000]))
@settings(max_examples=80, deadline=None)
def test_no_way_to_match_is_better(pair: tuple[np.ndarray, np.ndarray], threshold: float, batch: int) -> None:
    pairs = count_pairs(*pair)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "BATCH", batch)
        matches = match(pairs, threshold)
    number, total = best_by_trial(pairs, threshold)
    assert (len(matches.iou), pytest.approx(matches.iou.sum())) == (number, total)
    assert in_pairs(pairs, matches)
    assert (np.diff(matches.truth_index) > 0).all()
    assert len(np.unique(matches.predicted_index)) == number
    assert (matches.iou >= threshold).all()


def test_more_matches_are_worth_more_than_a_better_one() -> None:
    truth = np.array([[1] * 10 + [2] * 10])
    prediction = np.array([[1] * 4 + [2] * 8 + [0] * 8])
    # 1 has 4/10 with 1 and 6/12 with 2; 2 has 2/16 with 2 alone.
    matches = match(count_pairs(prediction, truth), 0.1)
    np.testing.assert_allclose(matches.iou, [4 / 10, 2 / 16])
    assert match(count_pairs(prediction, truth), 0.5).iou.tolist() == [0.5]


def test_two_halves_at_exactly_half() -> None:
    pairs = count_pairs(np.array([[1, 1, 2, 2]]), np.array([[9, 9, 9, 9]]))
    assert match(pairs, 0.5).iou.tolist() == [0.5]
    assert match(pairs, 0.51).iou.size == 0


def test_a_long_chain_is_one_group() -> None:
    n = 1500
    truth = np.repeat(np.arange(1, n + 1), 4)[None]
    prediction = np.roll(truth, 2)
    prediction[0, :2] = 0  # each predicted object lies half in one of the truth and half in the next
    pairs = count_pairs(prediction, truth)
    matches = match(pairs, 0.2)
    assert len(pairs.overlaps) > matching.BATCH
    assert len(matches.iou) == n  # of two choices each has to take the one that leaves the next its own
    np.testing.assert_allclose(np.sort(matches.iou)[:-1], 1 / 3)


@pytest.mark.parametrize("iou", [0, -0.5, 1.01, float("nan")])
def test_what_is_no_iou(iou: float) -> None:
    pairs = count_pairs(np.ones((2, 2), int), np.ones((2, 2), int))
    with pytest.raises(InputError, match=r"an IoU of .* cannot be asked .*such as 0\.5"):
        match(pairs, iou)


def split_ids(prediction: list[int], truth: list[int]) -> list[tuple[int, int]]:
    pairs = count_pairs(np.array([prediction]), np.array([truth]))
    split = split_pairs(pairs)
    return list(
        zip(
            pairs.truth_ids[pairs.truth_index[split]].tolist(),
            pairs.predicted_ids[pairs.predicted_index[split]].tolist(),
            strict=True,
        )
    )


def test_splits() -> None:
    truth = [1] * 20 + [0] * 4 + [2] * 6
    assert split_ids([5] * 12 + [6] * 8 + [0] * 4 + [7] * 6, truth) == [(1, 5), (1, 6)]
    assert split_ids([5] * 20 + [0] * 4 + [7] * 6, truth) == []
    # 6 lies in it by half of its pixels only, 8 by more
    assert split_ids([5] * 16 + [6] * 8 + [7] * 6, truth) == []
    assert split_ids([5] * 16 + [8] * 7 + [0] + [7] * 6, truth) == [(1, 5), (1, 8)]
    # a speck is of less than a tenth of the largest piece
    assert split_ids([5] * 19 + [6] + [0] * 4 + [7] * 6, truth) == []
    assert split_ids([5] * 10 + [6] + [0] * 13 + [7] * 6, truth) == [(1, 5), (1, 6)]
    # twenty pieces of a pixel are no specks
    assert len(split_ids([*range(1, 21)] + [0] * 10, truth)) == 20
    assert split_ids([0] * 30, truth) == []


@given(images)
@settings(max_examples=60)
def test_a_merge_is_a_split_in_the_mirror(pair: tuple[np.ndarray, np.ndarray]) -> None:
    pairs, mirrored = count_pairs(*pair), count_pairs(*pair[::-1])
    merged, split = merge_pairs(pairs), split_pairs(mirrored)
    assert set(zip(pairs.truth_index[merged], pairs.predicted_index[merged], strict=True)) == set(
        zip(mirrored.predicted_index[split], mirrored.truth_index[split], strict=True)
    )
    assert (np.bincount(pairs.predicted_index[merged])[pairs.predicted_index[merged]] >= 2).all()
    assert len(np.unique(pairs.truth_index[merged])) == merged.sum()  # no object is part of two mergers

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_matseg.core.agreement.boundaries import BoundaryCounts, BoundaryScores, count_boundaries
from napari_matseg.errors import InputError

N_CLASSES = 3
IGNORE = 255

shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=7)


def images(*elements: st.SearchStrategy) -> st.SearchStrategy:
    return shapes.flatmap(lambda shape: st.tuples(*(hnp.arrays(np.uint8, shape, elements=some) for some in elements)))


classes = st.integers(0, N_CLASSES - 1)


def square(shape: tuple[int, int], top: int, left: int, side: int) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[top : top + side, left : left + side] = 1
    return labels


def slow_boundary(labels: np.ndarray, kept: np.ndarray, k: int) -> list[tuple[int, int]]:
    height, width = labels.shape
    found = []
    for y, x in zip(*np.nonzero((labels == k) & kept), strict=True):
        near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [(j, i) for j, i in near if 0 <= j < height and 0 <= i < width and kept[j, i]]
        if any(labels[place] != k for place in inside):
            found.append((int(y), int(x)))
    return found


@settings(max_examples=40, deadline=None)
@given(images(classes, st.sampled_from([*range(N_CLASSES), IGNORE]), st.booleans()))
def test_agrees_with_the_definition_taken_word_by_word(given_images: tuple[np.ndarray, ...]) -> None:
    prediction, truth, mask = given_images
    mask = mask.astype(bool)
    pixel = (2.0, 3.0)
    counts = count_boundaries(
        prediction, truth, N_CLASSES, tolerance_px=1.5, pixel_size_nm=pixel, ignore=IGNORE, mask=mask
    )

    kept = mask & (truth != IGNORE)
    for k in range(N_CLASSES):
        ours, theirs = (np.array(slow_boundary(labels, kept, k)).reshape(-1, 2) for labels in (prediction, truth))
        assert (counts.predicted[k], counts.truth[k]) == (len(ours), len(theirs))
        if not len(ours) or not len(theirs):
            assert counts.one_sided[k] == (len(ours) + len(theirs) > 0)
            assert counts.predicted_near[k] == counts.truth_near[k] == counts.images[k] == counts.hausdorff_nm[k] == 0
            continue
        apart = np.linalg.norm(ours[:, None] - theirs[None], axis=2)
        assert counts.predicted_near[k] == (apart.min(axis=1) <= 1.5).sum()
        assert counts.truth_near[k] == (apart.min(axis=0) <= 1.5).sum()
        for sum_, scale in ((counts.hausdorff_px, (1, 1)), (counts.hausdorff_nm, pixel)):
            apart = np.linalg.norm((ours[:, None] - theirs[None]) * scale, axis=2)
            directed = [np.percentile(apart.min(axis=axis), 95) for axis in (0, 1)]
            assert sum_[k] == pytest.approx(max(directed))
        assert counts.images[k] == 1


def test_a_shifted_half_plane_is_as_far_off_as_the_shift() -> None:
    truth = np.repeat([0, 1], 16)[None].repeat(20, axis=0)
    for shift in (1, 2, 3, 5):
        counts = count_boundaries(np.roll(truth, shift, 1)[:, 6:26], truth[:, 6:26], 2, pixel_size_nm=(7.0, 2.5))
        scores = BoundaryScores(counts)
        np.testing.assert_array_equal(scores.hausdorff95, shift)
        np.testing.assert_array_equal(scores.hausdorff95_nm, 2.5 * shift)
        np.testing.assert_array_equal(scores.f1, float(shift <= 2))
        assert scores.mean_f1 == float(shift <= 2)


def test_equal_images_agree_and_the_frame_is_no_boundary() -> None:
    labels = square((20, 30), 0, 0, 10)
    scores = BoundaryScores(count_boundaries(labels, labels, 2))
    assert scores.counts.truth.tolist() == [20, 19]
    np.testing.assert_array_equal(scores.f1, 1)
    np.testing.assert_array_equal(scores.hausdorff95, 0)
    filled = BoundaryScores(count_boundaries(np.ones((5, 5), int), np.ones((5, 5), int), 2))
    assert np.isnan(filled.f1).all()
    assert np.isnan(filled.hausdorff95).all()
    assert np.isnan(filled.mean_f1)


def test_a_class_in_only_one_image_has_f1_0_and_no_distance() -> None:
    truth = square((12, 12), 4, 4, 4)
    for prediction, precision, recall in ((np.zeros_like(truth), np.nan, 0.0), (truth * 2, np.nan, 0.0)):
        scores = BoundaryScores(count_boundaries(prediction, truth, 3))
        assert scores.f1[1] == 0
        np.testing.assert_equal((scores.precision[1], scores.recall[1]), (precision, recall))
        assert np.isnan(scores.hausdorff95[1])
        assert (scores.counts.one_sided[1], scores.counts.images[1]) == (1, 0)


def test_without_pixel_size_there_are_no_nm() -> None:
    labels = square((12, 12), 4, 4, 4)
    known = count_boundaries(labels, labels, 2, pixel_size_nm=(1.0, 1.0))
    unknown = count_boundaries(labels, labels, 2)
    empty = count_boundaries(0 * labels, 0 * labels, 2)
    assert np.isnan(BoundaryScores(known + unknown).hausdorff95_nm).all()
    np.testing.assert_array_equal(BoundaryScores(known + empty).hausdorff95_nm, 0)


def test_images_add_up_to_sums_of_pixels_and_a_mean_of_distances() -> None:
    truth = square((30, 30), 8, 8, 12)
    parts = [count_boundaries(np.roll(truth, shift, 0), truth, 2) for shift in (0, 2, 4)]
    scores = BoundaryScores(reduce(add, parts))
    means = np.mean([BoundaryScores(part).hausdorff95 for part in parts], axis=0)
    np.testing.assert_allclose(scores.hausdorff95, means)
    assert scores.counts.truth[1] == 3 * parts[0].truth[1]
    hits, pixels = sum(part.truth_near[1] for part in parts), sum(part.truth[1] for part in parts)
    assert scores.recall[1] == hits / pixels


def test_rows_name_classes_and_leave_undefined_empty() -> None:
    truth = square((12, 12), 4, 4, 4)
    row = BoundaryScores(count_boundaries(truth, truth, 3)).rows(["matrix", "pore", "crack"])
    assert row[1] == {
        "class": "pore",
        "boundary_f1": 1.0,
        "boundary_precision": 1.0,
        "boundary_recall": 1.0,
        "hausdorff95_px": 0.0,
        "hausdorff95_nm": None,
        "hausdorff95_images": 1,
        "one_sided_images": 0,
    }
    assert row[2]["boundary_f1"] is None
    assert isinstance(row[1]["boundary_f1"], float)


def test_what_is_left_out_is_no_neighbour_either() -> None:
    truth = np.array([[1, 1, 0, 0]])
    mask = np.array([[True, True, False, True]])
    assert count_boundaries(truth, truth, 2, mask=mask).truth.tolist() == [0, 0]
    assert count_boundaries(truth, np.array([[1, 1, 9, 0]]), 2, ignore=9).truth.tolist() == [0, 0]


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1)])
def test_images_of_nothing(shape: tuple[int, int]) -> None:
    counts = count_boundaries(np.zeros(shape, int), np.zeros(shape, int), 2)
    assert np.isnan(BoundaryScores(counts).f1).all()


def test_what_cannot_be_used_is_told() -> None:
    labels = np.zeros((4, 4), int)
    with pytest.raises(InputError, match=r"prediction: must be class ids .* not float64"):
        count_boundaries(labels * 1.0, labels, 2)
    with pytest.raises(InputError, match=r"truth: must be class ids .* shape \(2, 4, 4\)"):
        count_boundaries(labels, np.stack([labels, labels]), 2)
    with pytest.raises(InputError, match=r"differ in shape, \(4, 4\) and \(3, 4\)"):
        count_boundaries(labels, labels[1:], 2)
    with pytest.raises(InputError, match="mask: must be boolean"):
        count_boundaries(labels, labels, 2, mask=labels)
    with pytest.raises(InputError, match=r"truth: class ids go from 0 to 1, but there are 7 \(16 pixels\)"):
        count_boundaries(labels, labels + 7, 2)
    with pytest.raises(InputError, match="2 classes within 2 px and of 2 classes within 3 px cannot be added"):
        count_boundaries(labels, labels, 2) + count_boundaries(labels, labels, 2, tolerance_px=3)
    with pytest.raises(InputError, match="2 classes need as many names, not pore"):
        BoundaryScores(count_boundaries(labels, labels, 2)).rows(["pore"])


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    zeros = np.zeros(1)
    counts = BoundaryCounts(2.0, *(np.array([n]) for n in (10, 5, 40, 30)), zeros, zeros, np.ones(1), zeros)
    scores = BoundaryScores(counts)
    assert scores.f1[0] == pytest.approx(2 * 0.5 * 0.75 / (0.5 + 0.75))

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from napari_matseg.core.labels import label_objects

shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=16)


def discs(shape: tuple[int, int], centres: list[tuple[int, int]], radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes of discs, and their depth: relative distance to the edge of the nearest disc."""
    rows, columns = np.indices(shape)
    depth = np.max([1 - np.hypot(rows - y, columns - x) / radius for y, x in centres], axis=0)
    return (depth > 0).astype(np.uint8), depth.clip(0, 1).astype(np.float32)


@given(hnp.arrays(np.uint8, shapes, elements=st.integers(0, 3)), st.booleans())
def test_ids_are_consecutive_and_each_is_one_connected_region_of_one_class(classes, with_depth):
    depth = np.random.default_rng(0).random(classes.shape, dtype=np.float32) if with_depth else None
    labels = label_objects(classes, depth)
    assert labels.dtype == np.uint32
    assert labels.shape == classes.shape
    assert not labels[classes == 0].any()
    assert with_depth or labels[classes > 0].all()
    assert np.unique(labels[labels > 0]).tolist() == list(range(1, int(labels.max()) + 1))
    for label in range(1, int(labels.max()) + 1):
        inside = labels == label
        assert np.unique(classes[inside]).size == 1
        assert ndimage.label(inside, structure=np.ones((3, 3)))[1] == 1


@given(hnp.arrays(np.uint8, shapes, elements=st.integers(0, 1)))
def test_without_depth_objects_are_what_hangs_together(classes):
    expected, n = ndimage.label(classes, structure=np.ones((3, 3)))
    labels = label_objects(classes)
    assert labels.max(initial=0) == n
    np.testing.assert_array_equal(labels, expected)


@given(hnp.arrays(np.uint8, shapes, elements=st.integers(0, 2)))
def test_flat_depth_parts_nothing(classes):
    np.testing.assert_array_equal(label_objects(classes, np.ones(classes.shape, np.float32)), label_objects(classes))
    assert not label_objects(classes, np.zeros(classes.shape, np.float32)).any()


def test_depth_splits_discs_that_touch():
    classes, depth = discs((40, 90), [(20, 16), (20, 44), (20, 72)], 15)
    assert label_objects(classes).max() == 1
    labels = label_objects(classes, depth)
    assert labels.max() == 3
    assert labels[20, [16, 44, 72]].tolist() == [1, 2, 3]
    # The cuts run where the discs meet.
    assert (labels[:, :30][classes[:, :30] > 0] == 1).all()
    assert (labels[:, 31:58][classes[:, 31:58] > 0] == 2).all()


def test_what_is_shallow_all_over_is_no_object():
    classes, depth = discs((30, 80), [(15, 15), (15, 40), (15, 65)], 10)
    depth[:, 30:52] *= 0.3
    labels = label_objects(classes, depth)
    assert labels[15, [15, 40, 65]].tolist() == [1, 0, 2]
    assert (labels[:, :28] > 0).tolist() == (classes[:, :28] > 0).tolist()


def test_what_is_shallow_beside_an_object_belongs_to_it():
    classes, depth = discs((30, 60), [(15, 15), (15, 33)], 10)
    depth[:, 24:] *= 0.4
    labels = label_objects(classes, depth)
    np.testing.assert_array_equal(labels, classes)


def test_objects_of_different_class_that_touch_stay_apart():
    classes = np.array([[1, 1, 2, 2]], dtype=np.uint8)
    depth = np.ones(classes.shape, dtype=np.float32)
    assert label_objects(classes).tolist() == [[1, 1, 2, 2]]
    assert label_objects(classes, depth).tolist() == [[1, 1, 2, 2]]


def test_corners_connect():
    assert label_objects(np.eye(4, dtype=np.uint8)).max() == 1


@pytest.mark.parametrize("depth", [None, np.ones((5, 5), np.float32)])
def test_no_object_gives_no_ids(depth):
    assert not label_objects(np.zeros((5, 5), np.uint8), depth).any()

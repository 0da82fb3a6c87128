from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction

from napari_matseg.core.summits import Landscape, join, survey

CONNECTED = np.ones((3, 3))
shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=14)


def objects(land: Landscape, share: float) -> np.ndarray:
    """Object of each summit, counted from 0."""
    return np.unique(join(land.heights, land.passes, land.pass_heights, share), return_inverse=True)[1]


@given(hnp.arrays(np.uint8, shapes, elements=st.integers(0, 2)), st.booleans(), st.integers(0, 2**32 - 1))
def test_grounds_part_the_objects_among_their_summits(classes, given_depth, seed):
    depth = np.random.default_rng(seed).random(classes.shape, dtype=np.float32) if given_depth else None
    land = survey(classes, depth)
    assert land.relative == given_depth
    np.testing.assert_array_equal(land.ground_yx >= 0, classes > 0)
    n = len(land.heights)
    np.testing.assert_array_equal(land.areas, np.bincount(land.ground_yx[classes > 0], minlength=n))
    assert (np.diff(land.heights) <= 0).all()
    assert (np.diff(land.pass_heights) <= 0).all()
    rows, columns = np.indices(classes.shape)
    for k, (y, x) in enumerate(land.points_yx):
        ground = land.ground_yx == k
        assert ground[y, x]
        assert ndimage.label(ground, structure=CONNECTED)[1] == 1
        assert np.unique(classes[ground]).size == 1
        border = ground[[0, -1]].any() or ground[:, [0, -1]].any()
        assert land.at_edge[k] == border
        if depth is not None:
            assert land.heights[k] == depth[ground].max()
            np.testing.assert_allclose(land.weights[k], depth[ground].sum(), rtol=1e-5)
            moment = [(depth * rows)[ground].sum(), (depth * columns)[ground].sum()]
            np.testing.assert_allclose(land.sums_yx[k], moment, rtol=1e-5, atol=1e-5)


@given(hnp.arrays(np.uint8, shapes, elements=st.integers(0, 2)), st.booleans())
def test_where_none_are_parted_objects_are_what_hangs_together(classes, given_depth):
    depth = np.random.default_rng(0).random(classes.shape, dtype=np.float32) if given_depth else None
    land = survey(classes, depth)
    expected = sum(ndimage.label(classes == value, structure=CONNECTED)[1] for value in (1, 2))
    assert objects(land, 0).max(initial=-1) + 1 == expected


@given(shapes, st.floats(0.05, 0.9), st.integers(0, 2**32 - 1))
def test_summits_are_those_of_a_relative_h_maxima_transform(shape, share, seed):
    depth = np.random.default_rng(seed).random(shape).astype(np.float32) + np.float32(0.01)
    land = survey(np.ones(shape, np.uint8), depth)
    depth = np.pad(depth, 1)  # for scikit-image, an image of one height has no maximum
    filled = reconstruction(np.float32(share) * depth, depth, footprint=CONNECTED)
    expected = ndimage.label(local_maxima(filled, connectivity=2), structure=CONNECTED)[1]
    assert objects(land, share).max() + 1 == expected


def test_touching_discs_are_two_by_their_distance_alone():
    y, x = np.indices((60, 90))
    classes = ((np.hypot(y - 30, x - 30) < 15) | (np.hypot(y - 30, x - 55) < 13)).astype(np.uint8)
    land = survey(classes)
    assert not land.relative
    assert objects(land, 0.5).max() == 1
    assert objects(land, 0.1).max() == 0
    np.testing.assert_allclose(np.sqrt(land.heights), [15, 13], atol=1)


def test_a_rod_is_one():
    y, x = np.indices((50, 120))
    rod = (np.abs(0.2 * x + 10 - y) < 6) & (x > 10) & (x < 110)
    assert objects(survey(rod.astype(np.uint8)), 0.5).max() == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 6)])
def test_an_image_that_is_all_object_is_one(shape):
    land = survey(np.ones(shape, np.uint8))
    assert len(land.heights) == 1
    assert land.at_edge.all()


def test_no_object_is_no_summit():
    land = survey(np.zeros((4, 5), np.uint8))
    assert len(land.heights) == len(land.passes) == 0
    assert len(objects(land, 0.5)) == 0

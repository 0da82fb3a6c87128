from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_matseg.core.agreement.pieces import Extents, connect, thick

owners = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 2))


def connected(owners_yx: np.ndarray) -> tuple[np.ndarray, object]:
    places = np.flatnonzero(owners_yx)
    pieces = connect(places, owners_yx.reshape(-1)[places].astype(np.int64), owners_yx.shape[1])
    labels = np.zeros(owners_yx.size, np.int64)
    labels[places] = pieces.piece + 1
    return labels.reshape(owners_yx.shape), pieces


@settings(max_examples=80, deadline=None)
@given(owners)
def test_pieces_agree_with_scikit_image(owners_yx: np.ndarray) -> None:
    from skimage.measure import label, regionprops

    ours, pieces = connected(owners_yx)
    theirs = label(owners_yx, connectivity=1)
    assert len(np.unique(np.stack([ours, theirs]).reshape(2, -1), axis=1).T) == len(np.unique(theirs))
    assert len(np.unique(ours)) == len(np.unique(theirs))
    for region in regionprops(ours):
        k, extents = region.label - 1, pieces.extents
        assert extents.area[k] == region.area
        np.testing.assert_allclose((extents.sum_y[k] / region.area, extents.sum_x[k] / region.area), region.centroid)
        assert (extents.top[k], extents.left[k], extents.bottom[k], extents.right[k]) == region.bbox
        assert pieces.owner[k] == owners_yx[tuple(region.coords[0])]


@settings(max_examples=80, deadline=None)
@given(owners)
def test_thick_is_an_opening_of_each_owner(owners_yx: np.ndarray) -> None:
    from scipy.ndimage import binary_opening

    places, found = thick(owners_yx)
    ours = np.zeros(owners_yx.size, np.uint8)
    ours[places] = found
    theirs = sum(k * binary_opening(owners_yx == k, np.ones((3, 3))) for k in (1, 2))
    np.testing.assert_array_equal(ours.reshape(owners_yx.shape), theirs)


def test_a_spiral_is_one_piece_and_the_end_of_a_row_does_not_touch_the_next() -> None:
    spiral = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 1, 0, 1], [1, 0, 1, 1, 1]])
    assert len(connected(spiral)[1].owner) == 1
    assert len(connected(np.array([[0, 0, 1], [1, 0, 0]]))[1].owner) == 2


def test_nothing_has_no_pieces() -> None:
    nothing = np.empty(0, np.int64)
    pieces = connect(nothing, nothing, 5)
    assert len(pieces.piece) == len(pieces.owner) == len(pieces.extents.area) == 0
    assert len(Extents.none(0).area) == 0

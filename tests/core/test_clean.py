from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from napari_matseg.core.clean import clean_classes, clean_objects
from napari_matseg.settings import CleanSettings

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
SETTINGS = st.builds(
    CleanSettings, min_area_px=st.integers(0, 6), fill_holes_px=st.integers(0, 6), exclude_edge=st.booleans()
)


def picture(text: str) -> np.ndarray:
    return np.array([[int(value) for value in row.split()] for row in text.strip().splitlines()], np.uint32)


def test_a_hole_is_what_one_object_encloses():
    ids = picture("""
        1 1 1 0 2 2 2
        1 0 1 0 2 0 0
        1 1 1 0 2 2 2
        0 0 0 3 3 0 0
        4 4 4 5 5 5 0
        4 0 0 0 0 5 0
        4 4 4 5 5 5 0
    """)
    cleaned = clean_objects(ids, CleanSettings(fill_holes_px=4))
    ids[1, 1] = 1
    np.testing.assert_array_equal(cleaned, ids)


def test_a_hole_stays_that_is_too_large_or_ends_at_the_frame():
    ids = np.ones((6, 9), np.uint32)
    ids[1:3, 1:3] = 0
    ids[5, 5] = 0
    assert clean_objects(ids, CleanSettings(fill_holes_px=3)).tolist() == ids.tolist()
    ids[1:3, 1:3] = 1
    full = ids.copy()
    full[1:3, 1:3] = 0
    assert clean_objects(full, CleanSettings(fill_holes_px=4)).tolist() == ids.tolist()


def test_a_corner_is_no_way_out_of_a_hole():
    ids = picture("""
        0 1 1 1
        1 0 0 1
        1 1 1 0
    """)
    assert clean_objects(ids, CleanSettings(fill_holes_px=2))[1].tolist() == [1, 1, 1, 1]


def test_small_objects_go_after_their_holes_are_filled():
    ids = picture("""
        7 7 7 0 0
        7 0 7 0 9
        7 7 7 0 9
    """)
    cleaned = clean_objects(ids, CleanSettings(min_area_px=9, fill_holes_px=1))
    assert set(np.unique(cleaned)) == {0, 7}
    assert not clean_objects(ids, CleanSettings(min_area_px=9)).any()


def test_the_edge_is_that_of_the_rows_that_show_the_specimen():
    ids = np.zeros((10, 10), np.uint32)
    ids[1:3, 4] = 1
    ids[6:8, 4] = 2
    ids[4, 4] = 3
    ids[4, 9] = 4
    edge = CleanSettings(exclude_edge=True)
    assert set(np.unique(clean_objects(ids, edge))) == {0, 1, 2, 3}
    assert set(np.unique(clean_objects(ids, edge, slice(0, 8)))) == {0, 1, 3}


def test_ids_may_be_as_large_as_they_like():
    ids = np.zeros((5, 5), np.uint32)
    ids[0, 0], ids[2:4, 2:4] = 2**32 - 1, 2**32 - 2
    assert set(np.unique(clean_objects(ids, CleanSettings(min_area_px=2)))) == {0, 2**32 - 2}


def test_classes_go_by_their_pieces():
    classes = picture("""
        1 1 1 0 2
        1 0 1 0 2
        1 1 1 0 0
        0 0 0 0 1
    """).astype(np.uint8)
    cleaned, instances = clean_classes(classes, None, CleanSettings(min_area_px=2, fill_holes_px=1))
    assert instances is None
    assert cleaned.tolist() == [[1, 1, 1, 0, 2], [1, 1, 1, 0, 2], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]


def test_classes_and_instances_lose_the_same():
    classes = np.zeros((8, 8), np.uint8)
    instances = np.zeros((8, 8), np.uint32)
    classes[:4, :4], instances[:4, :2], instances[:4, 2:4] = 1, 1, 2  # one piece, two objects
    classes[6, 6] = 2  # of a class, but of no object
    cleaned, ids = clean_classes(classes, instances, CleanSettings(min_area_px=2))
    assert ids is not None
    assert cleaned[6, 6] == 0
    assert set(np.unique(ids)) == {0, 1, 2}
    instances[3, 3] = 0
    cleaned, ids = clean_classes(classes, instances, CleanSettings(min_area_px=8))
    assert ids is not None
    assert set(np.unique(ids)) == {0, 1}
    assert cleaned[:4].tolist() == [[1, 1, 0, 0, 0, 0, 0, 0]] * 4


def test_what_lies_outside_the_rows_stays():
    classes = np.zeros((6, 6), np.uint8)
    classes[1, 1] = classes[5, 1] = 1
    cleaned, _ = clean_classes(classes, None, CleanSettings(min_area_px=5), slice(0, 4))
    assert not cleaned[:4].any()
    assert cleaned[5, 1] == 1


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_nothing_to_clean(shape):
    settings = CleanSettings(min_area_px=3, fill_holes_px=3, exclude_edge=True)
    assert clean_objects(np.zeros(shape, np.uint32), settings).shape == shape


@given(SHAPES.flatmap(lambda shape: arrays(np.uint32, shape, elements=st.integers(0, 3))), SETTINGS)
def test_laws(ids, settings):
    before = ids.copy()
    cleaned = clean_objects(ids, settings)
    np.testing.assert_array_equal(ids, before)
    assert set(np.unique(cleaned)) <= set(np.unique(ids)) | {0}
    for number in set(np.unique(cleaned)) - {0}:
        mask = cleaned == number
        assert mask.sum() >= settings.min_area_px
        assert (mask | (ids != number)).all()  # an object that stays loses nothing
        added = mask & (ids != number)
        assert not (added & ~ndimage.binary_fill_holes(ids == number)).any()
        if settings.exclude_edge:
            assert not any(side.any() for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))


@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 2))), SETTINGS)
def test_classes_agree_with_the_objects_they_are_made_of(classes, settings):
    from napari_matseg.core.labels import label_objects

    ids = label_objects(classes)
    alone, _ = clean_classes(classes, None, settings)
    together, kept = clean_classes(classes, ids, settings)
    np.testing.assert_array_equal(alone, together)
    assert kept is not None
    np.testing.assert_array_equal(kept > 0, together > 0)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from napari_matseg.core.objects import ObjectMask, clean, from_label
from napari_matseg.errors import InputError
from napari_matseg.settings import PromptSettings

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))
EIGHT = np.ones((3, 3))


def make(mask, top=0, left=0, score=3.0):
    """Object from rows of text, # being inside, or from a mask."""
    if isinstance(mask, str):
        mask = np.array([list(row) for row in mask.split()]) == "#"
    return ObjectMask(1, top, left, np.where(mask, score, -score).astype(np.float16), iou=0.9, stability=0.95)


def drawn(found):
    return " ".join("".join(".#"[int(inside)] for inside in row) for row in found.mask_yx)


def test_mask_is_where_scores_are_above_zero():
    scores = np.array([[-1, 0, 6e-8, 5, np.nan]], np.float16)
    found = ObjectMask(7, 3, 4, scores, iou=0.5, stability=0.5)
    assert found.mask_yx.tolist() == [[False, False, True, True, False]]
    assert found.where == (slice(3, 4), slice(4, 9))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("### #.# ###", "### ### ###"),
        ("##.# #.## ####", "##.# #### ####"),  # cut off by corners that touch
        ("#.# #.# ###", "#.# #.# ###"),  # a bay, open to the edge of the crop
        ("#### #..# #..# ####", "#### #..# #..# ####"),  # larger than the limit
        ("##... ##..# .....", "##... ##... ....."),
        ("##. ##. ..#", "##. ##. ..#"),  # touches by a corner, so it is no speck
        ("##### #...# #.#.# #...# #####", "##### #...# #...# #...# #####"),  # a speck in a hole that is too large
        ("#..#", "#..."),  # one of two that are alike stays
        ("....", "...."),
    ],
)
def test_cleaning(before, after):
    assert drawn(clean(make(before), PromptSettings(fill_holes_px=3, drop_specks_px=3))) == after


def test_a_hole_with_a_speck_in_it_is_filled_whole():
    settings = PromptSettings(fill_holes_px=9, drop_specks_px=1)
    assert clean(make("##### #...# #.#.# #...# #####"), settings).mask_yx.all()


def test_nothing_is_cleaned_where_limits_are_zero():
    found = make("###. #.#. ###. ...#")
    assert clean(found, PromptSettings(fill_holes_px=0, drop_specks_px=0)) is found


def test_nothing_found_stays_nothing():
    found = ObjectMask(1, 0, 0, np.zeros((0, 0), np.float16), iou=0.0, stability=0.0)
    assert clean(found, PromptSettings()) is found
    assert found.mask_yx.shape == (0, 0)


def test_cleaning_keeps_everything_but_the_scores_of_changed_pixels():
    found = make("#### #.#. #### ...# #...", top=5, left=6)
    cleaned = clean(found, PromptSettings(fill_holes_px=1, drop_specks_px=0))
    assert (cleaned.id, cleaned.top, cleaned.left, cleaned.iou, cleaned.stability) == (1, 5, 6, 0.9, 0.95)
    assert cleaned.scores_yx.dtype == np.float16
    assert cleaned.scores_yx[0, 0] == 3
    assert 0 < cleaned.scores_yx[1, 1] < 0.01
    assert found.scores_yx[1, 1] == -3


@given(MASKS, st.integers(0, 12), st.integers(0, 12))
def test_what_cleaning_leaves(mask, holes, specks):
    settings = PromptSettings(fill_holes_px=holes, drop_specks_px=specks)
    found = make(mask)
    cleaned = clean(found, settings)
    assert clean(cleaned, settings) is cleaned
    assert cleaned.mask_yx.any() == mask.any()
    pieces, n = ndimage.label(cleaned.mask_yx, EIGHT)
    areas = np.bincount(pieces.ravel())[1:]
    assert n < 2 or np.sort(areas)[-2] > specks
    outside = np.pad(~cleaned.mask_yx, 1, constant_values=True)
    gaps, _ = ndimage.label(outside)
    assert all(area > holes for area in np.bincount(gaps.ravel())[2:])
    changed = cleaned.mask_yx != mask
    np.testing.assert_array_equal(cleaned.scores_yx[~changed], found.scores_yx[~changed])


@given(MASKS, st.integers(0, 4), st.integers(0, 4))
def test_a_label_becomes_the_object_that_it_shows(mask, below, right):
    labels = np.pad(mask * 7, ((2, below), (1, right)))
    if not mask.any():
        with pytest.raises(InputError, match="Label 7 is nowhere"):
            from_label(labels, 7)
        return
    found = from_label(labels, 7, plane=3)
    again = np.zeros_like(labels)
    again[found.where][found.mask_yx] = 7
    np.testing.assert_array_equal(again, labels)
    assert (found.id, found.plane, found.iou, found.stability) == (7, 3, 1, 1)
    assert found.scores_yx.dtype == np.float16


def test_the_crop_of_a_label_is_a_pixel_wider_where_the_plane_goes_on():
    labels = np.zeros((5, 6), np.uint32)
    labels[0, 2] = 4
    assert from_label(labels, 4).where == (slice(0, 2), slice(1, 4))

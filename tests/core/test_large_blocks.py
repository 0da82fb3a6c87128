from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_matseg.core.labels import label_objects
from napari_matseg.core.large.blocks import survey_part
from napari_matseg.core.large.merging import merge
from napari_matseg.core.large.parts import Part


def in_parts(classes: np.ndarray, depth: np.ndarray | None, rows: list[int], columns: list[int]) -> np.ndarray:
    """Objects of the whole, from parts that end at these rows and columns."""
    parts = [Part(top, bottom, left, right, 0) for top, bottom in pairwise(rows) for left, right in pairwise(columns)]
    slots, blocks = [], []
    for part in parts:
        where = slice(part.top, part.bottom + 2), slice(part.left, part.right + 2)
        of_depth = None if depth is None else np.pad(depth, 1)[where]
        slots_yx, block = survey_part(np.pad(classes, 1)[where], of_depth, part, classes.shape[1])
        slots.append(slots_yx)
        blocks.append(block)
    ids, n = merge(blocks, by_depth=depth is not None)
    result = np.zeros(classes.shape, np.uint32)
    for part, slots_yx, of_slot in zip(parts, slots, ids, strict=True):
        result[part.where] = of_slot[slots_yx]
    assert n == result.max()
    return result


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray | None, list[int], list[int]]:
    """Classes and depth, from noise to smooth, with plateaus and passes of equal height; and cuts."""
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def field() -> np.ndarray:
        made: np.ndarray = ndimage.gaussian_filter(rng.normal(size=shape), draw(st.sampled_from([0.01, 0.7, 1.5, 3])))
        return made

    ground = field()
    ends = draw(st.floats(0, 0.6)), draw(st.floats(0.6, 1))
    classes = np.digitize(ground, np.quantile(ground, ends)).astype(np.uint8)
    depth = None
    if draw(st.booleans()):
        depth = field()
        depth = (depth - depth.min()) / (np.ptp(depth) + 1e-9) * draw(st.floats(0.8, 1.3))
        steps = draw(st.sampled_from([3, 10, 10**6]))
        depth = (np.round(depth * steps) / steps).clip(0, 1).astype(np.float32)
    rows, columns = (sorted({0, side, *draw(st.lists(st.integers(0, side), max_size=3))}) for side in shape)
    return classes, depth, rows, columns


@given(scenes())
@settings(max_examples=200)
def test_objects_and_their_ids_are_those_of_the_whole_image(scene):
    classes, depth, rows, columns = scene
    np.testing.assert_array_equal(in_parts(classes, depth, rows, columns), label_objects(classes, depth))


def test_a_spiral_through_all_parts_is_one_object():
    spiral = np.zeros((21, 21), np.uint8)
    for ring in range(0, 10, 2):
        spiral[ring, max(ring - 2, 0) : 21 - ring] = 1
        spiral[ring : 21 - ring, 20 - ring] = 1
        spiral[20 - ring, ring : 21 - ring] = 1
        spiral[ring + 2 : 21 - ring, ring] = 1
    assert label_objects(spiral).max() == 1
    cuts = list(range(22))
    np.testing.assert_array_equal(in_parts(spiral, None, cuts, cuts), label_objects(spiral))


def test_an_ascent_may_lead_through_many_parts():
    depth = np.linspace(0.7, 1, 60, dtype=np.float32)[None].repeat(3, axis=0)
    depth[1, ::2] += 0.001
    classes = np.ones(depth.shape, np.uint8)
    cuts = list(range(0, 61, 4))
    np.testing.assert_array_equal(in_parts(classes, depth, [0, 1, 3], cuts), label_objects(classes, depth))


@pytest.mark.parametrize("depth", [None, np.full((9, 9), 0.3, np.float32)])
def test_nothing_and_what_is_too_shallow_have_no_id(depth):
    classes = np.zeros((9, 9), np.uint8)
    if depth is not None:
        classes[2:7, 2:7] = 1
    assert not in_parts(classes, depth, [0, 4, 9], [0, 5, 9]).any()

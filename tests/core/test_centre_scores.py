from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_matseg.core.centre_scores import CentreCounts, score_centres

counts = st.builds(CentreCounts, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))


@given(
    hnp.arrays(np.uint16, (7, 9), elements=st.integers(0, 4)),
    hnp.arrays(np.float64, st.tuples(st.integers(0, 8), st.just(2)), elements=st.floats(-3, 12)),
)
def test_a_hit_is_a_particle_with_one_centre(truth, points):
    found = score_centres(points, truth)
    inside = [tuple(np.floor(point + 0.5).astype(int)) for point in points]
    fell = [int(truth[y, x]) for y, x in inside if 0 <= y < 7 and 0 <= x < 9]
    assert found.hits == sum(fell.count(value) == 1 for value in np.unique(truth) if value)
    assert found.centres == len(points)
    assert found.particles == len(set(np.unique(truth)) - {0})


@given(counts, counts)
def test_counts_of_images_add_up(one, other):
    both = one + other
    assert (both.hits, both.centres) == (one.hits + other.hits, one.centres + other.centres)
    assert one + CentreCounts() == one
    assert both == other + one


def test_what_is_not_there_has_no_share():
    empty = score_centres(np.empty((0, 2)), np.zeros((3, 3), int))
    assert empty == CentreCounts(0, 0, 0)
    assert math.isnan(empty.recall)
    assert math.isnan(empty.precision)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from napari_matseg.core.measure.feret import corners, ferets, left_chain

POINTS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=30)


def measure(objects, pixel=(1.0, 1.0)):
    """Of pixels (y, x) of several objects."""
    k = np.repeat(np.arange(len(objects)), [len(points) for points in objects])
    y, x = np.concatenate(objects).T
    sides = []
    for edge in (x, -x - 1):
        order = np.lexsort((edge, y, k))
        sides.append(left_chain(*in_rows(*corners(k[order], y[order], edge[order]))))
    return ferets(*sides, pixel)


def in_rows(k, y, x):
    order = np.lexsort((y, k))
    return k[order], y[order], x[order]


def brute(points, pixel):
    """All pairs of corners; all edges of a hull found by another library."""
    cells = np.array(points)[:, None] + [(0, 0), (0, 1), (1, 0), (1, 1)]
    hull = ConvexHull(cells.reshape(-1, 2) * pixel)
    vertices = hull.points[hull.vertices]
    shortest = np.ptp(vertices @ hull.equations[:, :2].T, axis=0).min()
    return pdist(hull.points).max(), shortest, hull.volume


@given(
    objects=st.lists(POINTS, min_size=1, max_size=4),
    pixel=st.sampled_from([(1.0, 1.0), (2.0, 1.0), (0.3, 7.0)]),
)
def test_callipers_agree_with_brute_force(objects, pixel):
    found = np.transpose(measure([np.array(points) for points in objects], pixel))
    assert found == pytest.approx(np.array([brute(points, pixel) for points in objects]), rel=1e-9)


def test_no_object_has_no_size():
    nothing = (np.zeros(0, np.int64),) * 3
    assert [column.size for column in ferets(left_chain(*nothing), left_chain(*nothing), (1.0, 1.0))] == [0, 0, 0]


def test_a_hull_that_loses_its_vertices_one_after_the_other():
    x = np.arange(40) ** 2
    k, y, x = left_chain(np.zeros(41, int), np.arange(41), np.append(x, -(10**6)))
    assert (k.tolist(), y.tolist(), x.tolist()) == ([0, 0], [0, 40], [0, -(10**6)])


def test_chains_of_neighbouring_objects_keep_apart():
    k, y, x = left_chain(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 1, 5]), np.array([5, 0, 5, 3, 3]))
    assert [k.tolist(), y.tolist(), x.tolist()] == [[0, 0, 0, 1, 1], [0, 1, 2, 1, 5], [5, 0, 5, 3, 3]]


def test_far_from_the_origin_no_digits_are_lost():
    near = np.argwhere(np.tri(7, dtype=bool))
    far = np.transpose(measure([near + 10**6, near], (1e-3, 2e-3)))
    assert far[0] == pytest.approx(far[1], rel=1e-12)

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_matseg.core.measure.runs import firsts, runs

SHAPES = st.tuples(st.integers(0, 7), st.integers(0, 9))


@given(labels=arrays(np.uint32, SHAPES, elements=st.sampled_from([0, 0, 1, 2, 2**32 - 1])))
def test_runs_draw_the_labels_again(labels):
    drawn = np.zeros(labels.shape, np.int64)
    before = (-1, -1)
    for label, y, x, length in zip(*runs(labels), strict=True):
        assert label > 0
        assert length > 0
        assert (y, x) > before, "row by row, from left to right"
        assert x + length == labels.shape[1] or labels[y, x + length] != label, "as long as can be"
        drawn[y, x : x + length] += label
        before = (y, x + length - 1)
    assert np.array_equal(drawn, labels)


def test_a_run_ends_with_its_row():
    label, y, x, length = runs(np.ones((2, 3), bool))
    assert [label.tolist(), y.tolist(), x.tolist(), length.tolist()] == [[1, 1], [0, 1], [0, 0], [3, 3]]


def test_ids_of_any_integer_type_come_out_the_same():
    for dtype in (np.uint8, np.int16, np.uint32, np.int64):
        assert runs(np.array([[0, 9, 9]], dtype))[0].tolist() == [9]
    assert runs(np.array([[2**32 - 1]], np.uint32))[0].dtype == np.int64


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))).map(sorted))
def test_firsts_are_where_neighbours_differ(rows):
    a, b = np.array(rows, np.int64).reshape(-1, 2).T
    assert firsts(a, b).tolist() == [n for n in range(len(rows)) if n == 0 or rows[n] != rows[n - 1]]

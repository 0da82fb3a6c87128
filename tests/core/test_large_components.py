from __future__ import annotations

import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from napari_matseg.core.labels import label_objects
from napari_matseg.core.large.components import Components, components_steps
from napari_matseg.core.measure import runs
from napari_matseg.core.progress import finish

IMAGES = st.tuples(st.integers(1, 20), st.integers(1, 12)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 1, 7]))
)


def components(values: np.ndarray, rows: slice, *, corners: bool = True) -> Components:
    return finish(components_steps(values.__getitem__, values.shape, rows, corners=corners))


@given(IMAGES, st.integers(1, 40))
def test_objects_have_the_ids_of_the_whole(values: np.ndarray, band: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "BAND", band)
        found = components(values, slice(0, len(values)))
        expected = label_objects(values)
        np.testing.assert_array_equal(found[...], expected)
        np.testing.assert_array_equal(found[2:9, 1:5], expected[2:9, 1:5])
    for label, value in enumerate(found.values, start=1):
        assert set(values[expected == label]) == {value}


@given(IMAGES, st.integers(1, 40))
def test_pieces_by_sides_are_those_of_the_whole(values: np.ndarray, band: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "BAND", band)
        found = components(values > 0, slice(0, len(values)), corners=False)
        np.testing.assert_array_equal(found[...], ndimage.label(values > 0)[0])


def test_outside_the_rows_there_is_nothing() -> None:
    values = np.ones((6, 3), np.uint8)
    assert components(values, slice(2, 4))[...].any(axis=1).tolist() == [False, False, True, True, False, False]
    assert not components(values, slice(3, 3))[...].any()


def test_values_may_be_large_or_negative() -> None:
    values = np.array([[2**40, 0, -5], [2**40, 0, -5]])
    assert components(values, slice(0, 2))[...].tolist() == [[2, 0, 1], [2, 0, 1]]


def test_what_it_reads_goes_with_it() -> None:
    class Values:
        def __call__(self, rows: slice) -> np.ndarray:
            return np.ones((4, 4), np.uint8)[rows]

    values = Values()
    alive = weakref.ref(values)
    found = finish(components_steps(values, (4, 4), slice(0, 4)))
    del values
    assert found[...].all()
    assert alive() is not None
    del found
    assert alive() is None

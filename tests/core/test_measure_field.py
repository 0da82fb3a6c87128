from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_matseg.core.labels import label_objects
from napari_matseg.core.large import rows as rows_module
from napari_matseg.core.measure import fractions, runs
from napari_matseg.core.measure.field import Field, field_steps
from napari_matseg.core.measure.fractions import one_field_std
from napari_matseg.core.measure.shapes import measure_objects
from napari_matseg.core.measure.spacing import mean_free_path
from napari_matseg.core.progress import finish
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

NAMES = "matrix", "carbide", "pore"
SPECS = tuple(ClassSpec(name=name, colour=(0, 0, 0)) for name in NAMES)
SHAPES = st.tuples(st.integers(1, 30), st.integers(1, 12))
SMALL = {"band": st.integers(1, 60), "ahead": st.sampled_from([1, 2, 8]), "blocks": st.sampled_from([3, 1024])}


class Lazy:
    """Stands for a file; remembers the largest part that was read."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self.shape, self.dtype, self.most = array, array.shape, array.dtype, 0

    def __getitem__(self, key: Any) -> np.ndarray:
        part = self._array[key]
        self.most = max(self.most, part.size)
        return part


def measured(patch: pytest.MonkeyPatch, band: int, ahead: int, blocks: int, *arrays: Any, **how: Any) -> Field:
    patch.setattr(runs, "BAND", band)
    patch.setattr(rows_module, "AHEAD_ROWS", ahead)
    patch.setattr(fractions, "MOST_BLOCKS", blocks)
    return finish(field_steps(*map(Lazy, arrays), "field", **how))


@given(
    SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 1, 2]))),
    st.fixed_dictionaries(SMALL),
    st.integers(0, 3),
)
def test_classes_in_bands_are_those_of_the_whole(classes: np.ndarray, small: dict[str, int], cut: int) -> None:
    rows = slice(min(cut, len(classes) - 1), len(classes))
    image = np.sqrt(np.arange(classes.size, dtype=np.float64)).reshape(classes.shape)
    with pytest.MonkeyPatch.context() as patch:
        found = measured(
            patch, *small.values(), classes, image_yx=Lazy(image), specs=SPECS, rows=rows, pixel_size_nm=(2.0, 3.0)
        )
        inside = classes[rows]
        std = one_field_std(inside, 3)
    objects = np.zeros(classes.shape, np.uint32)
    objects[rows] = label_objects(inside)
    np.testing.assert_array_equal(found.ids[...], objects)
    table = measure_objects(objects, image, pixel_size_nm=(2.0, 3.0), classes_yx=classes, class_names=NAMES, rows=rows)
    pd.testing.assert_frame_equal(found.table, table, rtol=1e-9, atol=1e-9)
    exact = ["label", "class", "area_px", "touches_edge"]
    pd.testing.assert_frame_equal(found.table[exact], table[exact], check_exact=True)
    assert found.pixels is not None
    assert found.pixels.tolist() == np.bincount(inside.ravel(), minlength=3).tolist()
    np.testing.assert_array_equal(found.std, std)
    assert [row["of"] for row in found.spacing] == ["carbide", "pore"]
    for name, phase in (("all objects", inside > 0), ("carbide", inside == 1), ("pore", inside == 2)):
        assert repr(found.paths[name]) == repr(mean_free_path(phase, (2.0, 3.0)))


@given(
    SHAPES.flatmap(lambda shape: arrays(np.uint32, shape, elements=st.sampled_from([0, 0, 1, 2, 70_000]))),
    st.fixed_dictionaries(SMALL),
)
def test_ids_in_bands_are_those_of_the_whole(ids: np.ndarray, small: dict[str, int]) -> None:
    rows = slice(0, len(ids))
    table = measure_objects(ids, rows=rows)
    with pytest.MonkeyPatch.context() as patch:
        found = measured(patch, *small.values(), ids, rows=rows)
        classes = (ids > 0).astype(np.uint8)
        parted = measured(patch, *small.values(), classes, ids_yx=Lazy(ids), specs=SPECS[:2], rows=rows)
    pd.testing.assert_frame_equal(found.table, table, rtol=1e-9, atol=1e-9)
    pd.testing.assert_frame_equal(parted.table.drop(columns="class"), table, rtol=1e-9, atol=1e-9)
    assert set(parted.table["class"]) <= {"carbide"}
    assert found.ids is parted.ids is None
    assert repr(found.paths["all objects"]) == repr(mean_free_path(ids > 0))


def test_few_rows_are_in_memory_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = np.zeros((400, 10), np.uint8)
    classes[5:395, 3:6] = 1
    lazy = Lazy(classes)
    monkeypatch.setattr(runs, "BAND", 50)
    monkeypatch.setattr(rows_module, "AHEAD_ROWS", 16)
    found = finish(field_steps(lazy, "field", specs=SPECS, rows=slice(0, 400)))
    assert found.table["area_px"].tolist() == [390 * 3]
    assert lazy.most == 160
    assert found.ids[200, 2:7].tolist() == [0, 1, 1, 1, 0]
    assert lazy.most == 160


def test_the_highest_value_that_is_no_class_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "BAND", 4)
    classes = np.zeros((6, 4), np.uint32)
    classes[1, 1], classes[4, 2] = 3, 4_000_000_000
    for ids in (None, classes):
        with pytest.raises(InputError, match="labels: has values up to 4000000000, but the classes are 0 to 2"):
            finish(field_steps(classes, "field", ids_yx=ids, specs=SPECS, rows=slice(0, 6)))


def test_a_mask_is_no_ids() -> None:
    with pytest.raises(InputError, match="labels: ids must be integers, not bool; give each object an id of its own"):
        finish(field_steps(np.ones((2, 2), bool), "field", rows=slice(0, 2)))

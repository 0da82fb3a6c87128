from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_matseg.core.clean import Cleaner, clean_classes, clean_objects
from napari_matseg.core.labels import label_objects
from napari_matseg.core.large import rows as rows_module
from napari_matseg.core.large.cleaning import clean_large_steps
from napari_matseg.core.measure import runs
from napari_matseg.core.progress import finish
from napari_matseg.settings import CleanSettings

SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 9))
SETTINGS = st.builds(
    CleanSettings, min_area_px=st.integers(0, 6), fill_holes_px=st.integers(0, 6), exclude_edge=st.booleans()
)


@given(
    SHAPES.flatmap(lambda shape: arrays(np.uint32, shape, elements=st.sampled_from([0, 0, 1, 1, 2**32 - 1]))),
    SETTINGS,
    st.integers(1, 60),
)
def test_strips_are_cleaned_as_the_whole(ids: np.ndarray, how: CleanSettings, band: int) -> None:
    cleaner = Cleaner(how)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "BAND", band)
        strips = [ids[rows] for rows in runs.bands(0, *ids.shape)]
    for strip in strips:
        cleaner.add(strip)
    cleaner.settle()
    found = np.concatenate([cleaner.apply(strip, number) for number, strip in enumerate(strips)])
    np.testing.assert_array_equal(found, clean_objects(ids, how))


@given(
    SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 1, 2]))),
    SETTINGS,
    st.integers(1, 60),
    st.sampled_from(["none", "all", "some"]),
    st.integers(0, 3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_labels_in_files_are_cleaned_as_in_memory(
    tmp_path: Path, classes: np.ndarray, how: CleanSettings, band: int, which: str, cut: int
) -> None:
    rows = slice(min(cut, len(classes) - 1), len(classes))
    ids = None if which == "none" else label_objects(classes)
    if which == "some" and ids is not None:
        ids[ids % 2 == 0] = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "BAND", band)
        patch.setattr(rows_module, "AHEAD_ROWS", 4)
        found, objects = finish(clean_large_steps(classes, ids, how, rows, tmp_path))
    expected, expected_ids = clean_classes(classes, ids, how, rows)
    np.testing.assert_array_equal(found[...], expected)
    assert found.dtype == np.uint8
    assert (objects is None) == (expected_ids is None)
    if objects is not None:
        np.testing.assert_array_equal(objects[...], expected_ids)
        assert objects.dtype == np.uint32


def test_planes_are_cleaned_each_and_the_files_go_with_the_labels(tmp_path: Path) -> None:
    classes = np.zeros((2, 8, 8), np.uint8)
    classes[0, 1, 1] = classes[1, 2:5, 2:5] = 1
    found, _ = finish(clean_large_steps(classes, None, CleanSettings(min_area_px=2), slice(0, 8), tmp_path))
    assert found[...].sum(axis=(1, 2)).tolist() == [0, 9]
    assert list(tmp_path.glob(".large-*"))
    del found, _
    assert not list(tmp_path.glob(".large-*"))


def test_cancelling_leaves_nothing(tmp_path: Path) -> None:
    classes: Any = np.ones((8, 8), np.uint8)
    work = clean_large_steps(classes, None, CleanSettings(min_area_px=2), slice(0, 8), tmp_path)
    assert any(step.note == "writing" for step in iter(lambda: next(work), None) if step.note == "writing")
    work.close()
    assert not list(tmp_path.glob(".large-*"))

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from napari_matseg.core.measure.fractions import phase_fractions
from napari_matseg.measuring import Field, Measured, sizes_of
from napari_matseg.running.states import Outcome
from napari_matseg.running.tables import read_table
from napari_matseg.running.totals import ALL, pool_fractions, pool_sizes
from napari_matseg.settings import ClassSpec, MeasureSettings

Make = Callable[..., Outcome]


def tables(outcomes: list[Outcome], kind: str = "objects") -> dict:
    return {outcome.source.name: outcome.files[kind] for outcome in outcomes}


def test_fractions_are_those_of_all_fields(make_outcome: Make):
    outcomes = [make_outcome("a", [5, 8]), make_outcome("b", [10], [3, 3])]
    (found,) = pool_fractions(outcomes)
    pixels = [[4800 - n, n] for n in (25 + 64, 100, 18)]
    pd.testing.assert_frame_equal(found.table, phase_fractions(pixels, ["matrix", "particle"]))
    assert found.pixels.tolist() == np.sum(pixels, axis=0).tolist()
    assert [spec.colour for spec in found.classes] == [(0, 0, 0), (230, 159, 0)]


def test_a_single_field_has_its_own_interval(make_outcome: Make):
    (found,) = pool_fractions([make_outcome("a", [5, 8, 4, 6, 5, 7])])
    assert found.table["method"].tolist() == ["one field, integral range"] * 2
    assert found.table["ci95_low"].notna().all()


def test_fractions_of_what_was_not_measured_count_each_file(make_outcome: Make):
    outcomes = [make_outcome("a", [5, 8]), make_outcome("b", [10], [3, 3])]
    for outcome in outcomes:
        del outcome.record["fields"]
    (found,) = pool_fractions(outcomes)
    assert found.table["fields"].tolist() == [2, 2]
    assert found.pixels.tolist() == [3 * 4800 - 207, 207]


def test_different_classes_stay_apart_and_those_of_most_fields_come_first(make_outcome: Make):
    other = make_outcome("c", [5], classes=("matrix", "pore", "carbide"))
    del other.record["model"]["classes"]  # whose colours are not known then
    found = pool_fractions([other, make_outcome("a", [5]), make_outcome("b", [6])])
    assert [one.table["class"].tolist() for one in found] == [["matrix", "particle"], ["matrix", "pore", "carbide"]]
    assert found[1].classes[1] == ClassSpec(name="pore", colour=(150, 150, 150))


def test_of_objects_without_classes_there_are_no_fractions(make_outcome: Make):
    assert pool_fractions([make_outcome("a", [5], classes=())]) == []


@pytest.mark.parametrize("kind", ["objects", "objects parquet"])
@pytest.mark.parametrize("edge", ["miles-lantuejoul", "guard", "keep"])
def test_sizes_are_pooled_with_each_fields_own_correction(make_outcome: Make, edge: str, kind: str):
    settings = MeasureSettings(edge=edge, guard_px=4 if edge == "guard" else None, min_area_px=10)
    outcomes = [make_outcome("a", [5, 18, 3]), make_outcome("s/b", [10], [4, 4, 12], pixel_nm=5.0)]
    found = pool_sizes(outcomes, tables(outcomes, kind), settings)
    fields = []
    for outcome in outcomes:
        table = read_table(outcome.files["objects"])
        for plane, about in enumerate(outcome.record["fields"]):
            size = tuple(about["pixel_size_nm"])
            fields.append(Field(f"{plane}", table[table["plane"] == plane], (60, 80), 0, size))
    expected = sizes_of(Measured(tuple(fields), {}), settings)["all"]
    assert list(found.groups) == ["nm"]
    assert list(found.groups["nm"]) == [ALL]
    assert found.groups["nm"][ALL].summary() == pytest.approx(expected.summary())
    assert list(found.of_field) == [("a", 0), ("s/b", 0), ("s/b", 1)]
    alone = sizes_of(Measured((fields[2],), {}), settings)["all"].summary()
    assert found.of_field["s/b", 1] == pytest.approx(alone, nan_ok=True)
    assert found.notes == ()


def test_units_and_classes_stay_apart(make_outcome: Make):
    classes = ("matrix", "NA", "1")  # which a table may take for something else than names
    outcomes = [make_outcome("a", [5, 8], classes=classes), make_outcome("b", [10], classes=classes, pixel_nm=None)]
    found = pool_sizes(outcomes, tables(outcomes), MeasureSettings(edge="keep"))
    assert {unit: list(groups) for unit, groups in found.groups.items()} == {
        "nm": [ALL, "NA", "1"],
        "px": [ALL, "NA", "1"],
    }
    assert [one.values.size for one in found.groups["nm"].values()] == [2, 1, 1]
    assert [one.values.size for one in found.groups["px"].values()] == [1, 1, 0]
    assert len(found.notes) == 1
    assert found.notes[0].startswith("1 image has no pixel size")


def test_no_objects_are_no_sizes_but_count_as_looked_for(make_outcome: Make):
    outcomes = [make_outcome("a"), make_outcome("b", [6, 6])]
    found = pool_sizes(outcomes, tables(outcomes), MeasureSettings(edge="keep"))
    sizes = found.groups["nm"][ALL]
    assert sizes.values.size == 2
    assert sizes.field_area == 2 * 4800 * 4
    assert found.of_field["a", 0]["n"] == 0


def test_a_file_that_does_not_work_out_is_left_out_and_said(make_outcome: Make):
    good, gone = make_outcome("good", [6]), make_outcome("gone", [6])
    gone.files["objects"].unlink()
    wrong = make_outcome("wrong", [6])
    wrong.record["fields"][0]["pixel_size_nm"] = None
    other = make_outcome("other", [6])
    unmeasured = replace(other, record={})
    outcomes = [gone, good, wrong, unmeasured]
    found = pool_sizes(outcomes, tables(outcomes), MeasureSettings())
    assert [note.split(":")[0] for note in found.notes] == ["gone", "wrong"]
    assert list(found.of_field) == [("good", 0)]


def test_of_nothing_there_is_nothing(make_outcome: Make):
    assert pool_fractions([]) == []
    assert pool_sizes([], {}, MeasureSettings()).groups == {}

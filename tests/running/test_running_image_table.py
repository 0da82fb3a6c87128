from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from napari_matseg.running.image_table import image_table, sides_of
from napari_matseg.running.states import Outcome, Source

Make = Callable[..., Outcome]


def test_each_plane_and_each_failure_has_a_row(make_outcome: Make, failed: Outcome):
    sizes = {("s", 1): {"d10_nm": 1.0, "d50_nm": 2.0, "d90_nm": 3.0, "edge": "kept", "n": 9}}
    table = image_table([make_outcome("a", [5]), failed, make_outcome("s", [5], [6, 6], state="kept")], sizes)
    assert table["file"].tolist() == ["a", "bad", "s", "s"]
    assert table["state"].tolist() == ["done", "failed", "kept", "kept"]
    assert table["plane"].tolist() == [0, pd.NA, 0, 1]
    assert table["planes"].tolist() == [1, pd.NA, 2, 2]
    assert table["objects"].tolist() == [1, pd.NA, 1, 2]
    assert table["pixels_particle"].tolist() == [25, pd.NA, 25, 72]
    assert table["fraction_particle"].tolist()[3] == 72 / 4800
    assert table["d50_nm"].fillna(0).tolist() == [0, 0, 0, 2]
    assert table["height_px"].tolist() == [60, pd.NA, 60, 60]
    assert table["pixel_width_nm"].fillna(0).tolist() == [2, 0, 2, 2]
    assert table["seconds"].fillna(-1).tolist() == [1.5, 0, 1.5, -1]
    assert table["reason"].fillna("").tolist() == ["", failed.reason, "", ""]
    assert table["image"].tolist()[1] == str(Path("/micrographs/bad.tif"))
    assert table["model"].fillna("").tolist() == ["squares", "", "squares", "squares"]


def test_what_was_not_measured_has_a_row_for_the_file(make_outcome: Make):
    outcome = make_outcome("s", [5], [6], pixel_nm=None)
    del outcome.record["fields"], outcome.record["objects"]
    (row,) = image_table([outcome], {}).to_dict("records")
    assert row["planes"] == 2
    assert pd.isna([row["plane"], row["objects"]]).all()
    assert row["pixels_particle"] == 61
    assert pd.isna(row["pixel_height_nm"])


def test_all_failed_or_none_there_is_a_table_with_columns(failed: Outcome):
    for outcomes in ([], [failed]):
        table = image_table(outcomes, {})
        assert len(table) == len(outcomes)
        assert {"file", "state", "reason", "objects", "seconds"} <= set(table.columns)


def test_columns_of_one_kind_stay_together(make_outcome: Make):
    outcomes = [make_outcome("a", [5], classes=("m", "b")), make_outcome("c", [5], classes=("m", "d"))]
    names = image_table(outcomes, {}).columns.tolist()
    assert names[10:16] == ["fraction_m", "fraction_b", "fraction_d", "pixels_m", "pixels_b", "pixels_d"]


def test_bytes_that_are_no_text_can_be_written(failed: Outcome, tmp_path: Path):
    odd = replace(failed, source=Source(Path("/x/\udce9.tif"), "\udce9"), reason="\udce9: no.")
    image_table([odd], {}).to_csv(tmp_path / "a.csv", encoding="utf-8")
    assert "\\udce9: no." in (tmp_path / "a.csv").read_text(encoding="utf-8")


def test_sides_of_colour_and_of_what_is_not_known():
    assert sides_of({"image": {"shape": [4, 5, 3], "axes": "YXS"}}) == (4, 5, 1)
    assert sides_of({"image": {"shape": [2, 3, 4, 5], "axes": "TZYX"}}) == (4, 5, 6)
    assert sides_of({}) == (None, None, 1)

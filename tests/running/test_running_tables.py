from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_matseg.errors import InputError, OutputError
from napari_matseg.running import tables
from napari_matseg.running.tables import join_tables, read_table, write_table, write_tables

KINDS = ["csv", "parquet"]
FRAME = pd.DataFrame(
    {
        "label": [1, 2],
        "class": ["NA", 'a "b", c\n'],
        "diameter_nm": [0.1 + 0.2, np.nan],
        "touches_edge": [True, False],
    }
)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_again(tmp_path: Path, kind: str):
    files = write_tables(tmp_path / "sample 1.2", FRAME, [kind])
    assert files == {kind: tmp_path / f"sample 1.2.{kind}"}
    pd.testing.assert_frame_equal(read_table(files[kind]), FRAME, check_dtype=False)


def test_numbers_that_are_names_of_classes_stay_text(tmp_path: Path):
    write_table(tmp_path / "a.csv", pd.DataFrame({"class": ["1", "2"]}))
    assert read_table(tmp_path / "a.csv")["class"].tolist() == ["1", "2"]


def test_a_table_that_cannot_be_read_or_written_says_so(tmp_path: Path):
    for kind in KINDS:
        with pytest.raises(InputError, match=f"gone.{kind}: cannot be read as a table .*run the recipe again"):
            read_table(tmp_path / f"gone.{kind}")
        (tmp_path / f"bad.{kind}").write_bytes(b"\xff\xfe\xff")
        with pytest.raises(InputError, match=f"bad.{kind}: cannot be read as a table"):
            read_table(tmp_path / f"bad.{kind}")
        with pytest.raises(OutputError, match="there is no folder"):
            write_table(tmp_path / "no" / f"a.{kind}", FRAME)


def joined(folder: Path, frames: dict[str, pd.DataFrame], kind: str) -> pd.DataFrame:
    parts = {}
    for i, (name, frame) in enumerate(frames.items()):
        parts[name] = write_tables(folder / str(i), frame, [kind])[kind]
    path = folder / f"all.{kind}"
    assert join_tables(parts, path) == []
    return read_table(path)


@pytest.mark.parametrize("kind", KINDS)
def test_joined_tables_have_all_rows_with_the_names_of_their_files(tmp_path: Path, kind: str):
    plain = pd.DataFrame({"label": [1, 2], "diameter_nm": [0.1 + 0.2, 4.0]})
    frames = {
        "a, b": plain,
        "none": plain[:0],
        "c": pd.DataFrame({"label": [7], "diameter_px": [1.5]}),
        "d": plain.assign(file="other", **{"class": "x"}),
    }
    table = joined(tmp_path, frames, kind)
    assert table.columns.tolist() == ["file", "label", "diameter_nm", "diameter_px", "class"]
    assert table["file"].tolist() == ["a, b", "a, b", "c", "d", "d"]
    assert table["label"].tolist() == [1, 2, 7, 1, 2]
    assert table["diameter_nm"].tolist()[:2] == [0.1 + 0.2, 4.0]
    assert table["diameter_nm"].isna().tolist() == [False, False, True, False, False]
    assert table["class"].fillna("").tolist() == ["", "", "", "x", "x"]


@settings(max_examples=25)
@given(
    names=st.lists(st.text("ab,\"'\n\r\u2028\u00b5\udce9", min_size=1), max_size=4, unique=True), quoted=st.booleans()
)
def test_any_name_and_any_text_comes_back_from_csv(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], quoted: bool
):
    folder = tmp_path_factory.mktemp("join")
    frame = pd.DataFrame({"label": [1, 2], "class": ["a\u2028b", 'c "d"\r\n' if quoted else "e"]})
    joined(folder, dict.fromkeys(names, frame), "csv")
    with (folder / "all.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines))
    texts = [tables.printable(name) for name in names]
    assert rows[1:] == [[name, str(label), text] for name in texts for label, text in zip(*frame.values.T, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_of_no_table_there_is_one_with_the_column_of_files(tmp_path: Path, kind: str):
    assert joined(tmp_path, {}, kind).columns.tolist() == ["file"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_read_is_left_out_and_said(tmp_path: Path, kind: str):
    good = write_tables(tmp_path / "good", FRAME, [kind])[kind]
    bad = tmp_path / f"bad.{kind}"
    bad.write_bytes(b"label\n\xff\xfe")
    path = tmp_path / f"all.{kind}"
    notes = join_tables({"gone": tmp_path / f"gone.{kind}", "bad": bad, "good": good}, path)
    assert [note.split(":")[0] for note in notes] == ["gone", "bad"]
    assert all("its objects are left out" in note for note in notes)
    assert read_table(path)["file"].tolist() == ["good", "good"]


def test_parquet_of_columns_that_do_not_go_together_is_left_out(tmp_path: Path):
    parts = {}
    for name, value in (("a", 1.5), ("b", "text")):
        parts[name] = write_tables(tmp_path / name, pd.DataFrame({"label": [value]}), ["parquet"])["parquet"]
    notes = join_tables(parts, tmp_path / "all.parquet")
    assert len(notes) == 1
    assert notes[0].startswith("b: its objects are left out")
    assert read_table(tmp_path / "all.parquet")["label"].tolist() == [1.5]


def test_parquet_of_many_small_files_has_few_groups_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import pyarrow.parquet as pq

    monkeypatch.setattr(tables, "AT_ONCE", 4)
    assert len(joined(tmp_path, dict.fromkeys("abcde", FRAME), "parquet")) == 10
    assert pq.ParquetFile(tmp_path / "all.parquet").metadata.num_row_groups == 3


def test_a_full_disk_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    part = write_tables(tmp_path / "a", FRAME, ["csv"])["csv"]
    path = tmp_path / "all.csv"
    path.write_text("old")

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tables, "_line", full)
    with pytest.raises(OutputError, match="the disk is full"):
        join_tables({"a": part}, path)
    assert path.read_text() == "old"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.csv", "all.csv"]

from __future__ import annotations

import csv
import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_matseg.core.export import make_folder, replacing, write_csv, write_json, write_png
from napari_matseg.core.label_files import write_labels
from napari_matseg.errors import OutputError
from napari_matseg.settings import SegmentSettings

WRITERS = {
    "labels.tif": lambda path: write_labels(path, np.ones((4, 4), np.uint8)),
    "picture.png": lambda path: write_png(path, np.zeros((4, 4, 3), np.uint8)),
    "record.json": lambda path: write_json(path, {"a": 1}),
    "table.csv": lambda path: write_csv(path, [{"a": 1}]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_written_file_replaces_the_old_one_and_leaves_nothing_else(tmp_path, name):
    (tmp_path / name).write_bytes(b"old")
    WRITERS[name](tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() not in (b"old", b"")


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_folder_is_named(tmp_path, name):
    with pytest.raises(OutputError, match=r"cannot be written, since there is no folder .*missing; create it"):
        WRITERS[name](tmp_path / "missing" / name)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_in_place_of_the_folder_is_named(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="there is no folder"):
        WRITERS[name](tmp_path / "file" / name)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_in_place_of_the_file_is_named(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match="is a folder; give the name of a file"):
        WRITERS[name](tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "disk is full; free some space"), (errno.EIO, "Input/output error.*check the disk")],
)
@pytest.mark.parametrize("name", WRITERS)
def test_a_failing_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, name, code, words):
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    (tmp_path / name).write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=words) as caught:
        WRITERS[name](tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"old"


def test_a_folder_that_is_not_ours_is_named(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "touch", fail)
    with pytest.raises(OutputError, match=r"Permission denied.*choose a folder that you may write to"):
        write_json(tmp_path / "record.json", {})


def test_a_fault_of_ours_stays_one_and_leaves_nothing(tmp_path):
    def work() -> None:
        with replacing(tmp_path / "file.txt") as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert not list(tmp_path.iterdir())


def test_long_names_are_no_trouble(tmp_path):
    path = tmp_path / ("n" * 250 + ".json")
    write_json(path, 1)
    assert path.exists()


def test_json_knows_no_nan(tmp_path):
    content = {
        "nan": math.nan,
        "infinite": [math.inf, -np.inf, np.float32("nan")],
        "array": np.array([[1.5, np.nan]]),
        "number": np.int64(3),
        "path": Path("a"),
        "settings": SegmentSettings(tile=512),
        "text": "µm",
        7: (True, None),
    }
    write_json(tmp_path / "a.json", content)
    back = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert back["nan"] is None
    assert back["infinite"] == [None, None, None]
    assert back["array"] == [[1.5, None]]
    assert back["number"] == 3
    assert back["path"] == "a"
    assert back["settings"]["tile"] == 512
    assert back["text"] == "µm"
    assert back["7"] == [True, None]


@given(
    st.lists(st.fixed_dictionaries({"a": st.integers(), "b": st.text("x,\"'\n µ", max_size=5)}), min_size=1, max_size=5)
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tables_come_back_as_they_were_written(tmp_path, rows):
    write_csv(tmp_path / "table.csv", rows)
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [{"a": str(row["a"]), "b": row["b"]} for row in rows]


def test_tables_have_all_columns_and_leave_empty_what_is_missing(tmp_path):
    write_csv(tmp_path / "t.csv", [{"a": 1, "b": math.nan}, {"c": np.float32("nan"), "a": None}, {"b": np.int8(2)}])
    assert (tmp_path / "t.csv").read_bytes() == b"a,b,c\n1,,\n,,\n,2,\n"


def test_an_empty_table_is_an_empty_file(tmp_path):
    write_csv(tmp_path / "t.csv", [])
    assert (tmp_path / "t.csv").read_bytes() == b""


def test_pictures_come_back(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    write_png(tmp_path / "a.png", rgb)
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array_equal(np.asarray(picture), rgb)


def test_a_folder_is_made_with_those_it_lies_in(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "b"):
        with pytest.raises(OutputError, match="file"):
            make_folder(folder)

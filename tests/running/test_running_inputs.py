from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import pytest

from napari_matseg.core.read_mrc import HEADER_BYTES
from napari_matseg.errors import InputError
from napari_matseg.running import inputs
from napari_matseg.running.inputs import find_inputs
from napari_matseg.running.names import natural

links = pytest.mark.skipif(os.name == "nt", reason="links need a right there")


def make(folder: Path, *files: str) -> Path:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(
        tmp_path / "data", "b10.tif", "b9.PNG", "s 1/c.mrc", "s 1/deep/d.jpeg", "notes.md", ".hidden/e.tif", ".f.tif"
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def found(given: object, out: Path) -> list[str]:
    sources, _ = find_inputs(given if isinstance(given, list) else [given], out)
    return [source.name for source in sources]


def test_a_folder_with_its_folders(data: Path, out: Path) -> None:
    sources, notes = find_inputs([data], out)
    assert [source.name for source in sources] == ["b9", "b10", "s 1/c", "s 1/deep/d"]
    assert sources[2].path == data / "s 1" / "c.mrc"
    assert notes == []


def test_text_or_path_with_or_without_dots(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data / "s 1")
    assert found("..", out) == ["b9", "b10", "s 1/c", "s 1/deep/d"]
    assert found(".", out) == found("", out) == ["c", "deep/d"]
    assert found([".", "../b10.tif"], out) == ["b10", "s 1/c", "s 1/deep/d"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", ["b9", "b10", "s 1/c", "s 1/deep/d"]),
        ("*.tif", ["b10"]),
        ("b?.PNG", ["b9"]),
        ("**/*.mrc", ["s 1/c"]),
        ("s*/deep", ["s 1/deep/d"]),
        ("**/*", ["b9", "b10", "s 1/c", "s 1/deep/d"]),
    ],
)
def test_patterns(data: Path, out: Path, pattern: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(data / pattern, out) == names
    monkeypatch.chdir(data)
    assert found(pattern, out) == names


def test_a_file_that_looks_like_a_pattern(tmp_path: Path, out: Path) -> None:
    data = make(tmp_path / "d", "a[1].tif", "a1.tif")
    assert found(data / "a[1].tif", out) == ["a[1]"]
    (data / "a[1].tif").unlink()
    assert found(data / "a[1].tif", out) == ["a1"]


def test_files_of_any_name(tmp_path: Path, out: Path) -> None:
    data = make(tmp_path / "d", "scan", "1.5kV", ".hidden.tif")
    assert found([data / "scan", data / "1.5kV", str(data / ".hidden.tif")], out) == ["1.5kV", "_hidden", "scan"]


@pytest.mark.parametrize("mark", ["", "@"])
def test_lists(data: Path, out: Path, mark: str) -> None:
    there = make(out.parent / "elsewhere", "b10.tif", "z/y.tif")
    lines = [
        "\ufeff# the good ones",
        "",
        "s 1/c.mrc",
        ' "b9.PNG" ',
        "b*.tif",
        "gone/a.tif",
        str(there / "z"),
        str(there / "b10.tif"),
    ]
    (data / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    sources, _ = find_inputs([f"{mark}{data / 'list.txt'}"], out)
    names = ["b9", "data/b10", "elsewhere/b10", "gone/a", "s 1/c", "z/y"]
    assert [source.name for source in sources] == names
    assert sources[3].path == data / "gone" / "a.tif"  # which is to fail, and not to be forgotten


def test_a_mixture(data: Path, out: Path) -> None:
    other = make(out.parent / "other", "b9.tif")
    given = [data, other, data / "s 1" / "*.mrc", data / "b10.tif"]
    names = ["data/b9", "data/b10", "data/s 1/c", "data/s 1/deep/d", "other/b9"]
    assert found(given, out) == names
    assert found(given[::-1], out) == names


def test_zarr_is_one_input(tmp_path: Path, out: Path) -> None:
    data = make(tmp_path / "d", "a.ome.zarr/.zgroup", "a.ome.zarr/0/.zarray", "b/zarr.json", "b/x.tif", "c.zarr/c.tif")
    assert found(data, out) == found(data / "*", out) == found(data / "**/*", out) == ["a", "b", "c"]
    assert found(data / "b", out) == ["b"]


def test_mrc_of_doubtful_names_by_content(tmp_path: Path, out: Path) -> None:
    data = make(tmp_path / "d", "a.map", "b.tif")
    head = bytearray(HEADER_BYTES)
    head[208:211] = b"MAP"
    (data / "c.st").write_bytes(head)
    assert found(data, out) == ["b", "c"]


def test_the_folder_of_the_run_is_left_out(data: Path) -> None:
    out = make(data / "results", "b10_labels.tif", "b10_record.json")
    assert found(data, out) == found(data / "*", out) == ["b9", "b10", "s 1/c", "s 1/deep/d"]


def test_folders_of_other_runs_are_left_out(data: Path, out: Path) -> None:
    make(data / "old", "half_labels.tif", ".napari-matseg/x")
    sources, notes = find_inputs([data], out)
    assert [source.name for source in sources] == ["b9", "b10", "s 1/c", "s 1/deep/d"]
    assert notes == [f"{data / 'old'}: holds results of a run; left out"]
    assert found(data / "**/*.tif", out) == ["b10"]
    assert found(data / "old", out) == ["half_labels"]  # if asked for


def test_results_beside_micrographs_are_left_out(tmp_path: Path, out: Path) -> None:
    results = ("a_labels.tif", "a_overlay.png", "a_uncleaned_labels_2.tif", "a_instances.ome.zarr/.zgroup")
    data = make(tmp_path / "d", "a.tif", "a_record.json", *results)
    assert found(data, out) == ["a"]
    assert found(data / "*.tif", out) == ["a"]
    (data / "a_record.json").unlink()  # then they may be anything, such as truth
    assert len(found(data, out)) == 5


@links
def test_links_lead_somewhere_but_not_in_circles(data: Path, out: Path) -> None:
    (data / "loop").symlink_to(data)
    (data / "s 1" / "up").symlink_to("..")
    (data / "self").symlink_to("self")
    (data / "a link.tif").symlink_to(data / "b10.tif")
    make(out.parent / "elsewhere", "k.tif", "more/l.tif")
    (data / "0").symlink_to(out.parent / "elsewhere")
    (data / "1").symlink_to(data / "s 1")
    (data / "gone.tif").symlink_to("nowhere")
    names = ["0/k", "0/more/l", "b9", "b10", "gone", "s 1/c", "s 1/deep/d"]
    assert found(data, out) == names
    assert found([data / "a link.tif"], out) == ["a link"]


@links
def test_many_links_to_each_other(tmp_path: Path, out: Path) -> None:
    data = make(tmp_path / "d", *(f"{i}/x.tif" for i in range(12)))
    for i in range(12):
        for k in range(12):
            (data / str(i) / f"to{k}").symlink_to(data / str(k))
    assert found(data, out) == [f"{i}/x" for i in range(12)]


@links
def test_results_behind_a_link_are_left_out(data: Path, out: Path) -> None:
    make(out, "x_labels.tif")
    (data / "results").symlink_to(out)
    assert found(data, out) == found(data / "*", out) == ["b9", "b10", "s 1/c", "s 1/deep/d"]


def test_twins(tmp_path: Path, out: Path) -> None:
    data = make(tmp_path / "d", "a.tif", "a.png", unicodedata.normalize("NFC", "é.tif"), "s/a.tif")
    make(data, unicodedata.normalize("NFD", "é.tif"))
    names = found(data, out)
    assert names[:3] == ["a_png", "a_tif", "s/a"]
    assert all(re.fullmatch("é-[0-9a-f]{12}", name) for name in names[3:])


def test_where_capitals_make_no_difference(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(data, "B10.tif")
    assert len(found([data / "b10.tif", data / "B10.tif"], out)) == 2
    monkeypatch.setattr(os.path, "samefile", lambda *_: True)
    assert len(found([data / "b10.tif", data / "B10.tif"], out)) == 1


def test_folders_that_cannot_be_read(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "s 1":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(inputs.os, "scandir", refuse)
    sources, notes = find_inputs([data], out)
    assert [source.name for source in sources] == ["b9", "b10"]
    assert notes == [f"{data / 's 1'}: cannot be looked through (Permission denied); left out"]


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_no_text(tmp_path: Path, out: Path) -> None:
    data = make(tmp_path / "d", os.fsdecode(b"a\xff.tif"))
    assert found(data, out) == ["a_"]


def test_nothing_is_found(tmp_path: Path, out: Path) -> None:
    data = make(tmp_path / "d", "a.txt2")
    with pytest.raises(InputError, match=r"d: holds no micrograph \(\.tif .*name a folder, pattern or file"):
        find_inputs([data], out)
    with pytest.raises(InputError, match="nothing was named"):
        find_inputs([], out)
    with pytest.raises(InputError, match=r"\*\.tif: holds no micrograph"):
        find_inputs([data / "*.tif"], out)
    _, notes = find_inputs([data / "*.tif", make(tmp_path / "e", "a.tif")], out)
    assert notes == [f"{data / '*.tif'}: matches nothing"]


def test_what_is_not_there(data: Path, out: Path) -> None:
    with pytest.raises(InputError, match="gone: there is no such file or folder; check the path"):
        find_inputs([data, data / "gone"], out)
    with pytest.raises(InputError, match=r"gone\.txt: the list cannot be read"):
        find_inputs([data / "gone.txt"], out)
    with pytest.raises(InputError, match="gone: the list cannot be read"):
        find_inputs([f"@{data / 'gone'}"], out)
    (data / "list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is no list of files as UTF-8 text; save it as such"):
        find_inputs([data / "list.txt"], out)


def test_results_among_inputs(data: Path) -> None:
    with pytest.raises(InputError, match=r"data: holds micrographs, .*choose another folder .*results"):
        find_inputs([data], data)
    with pytest.raises(InputError, match="s 1: holds micrographs"):
        find_inputs([data / "s 1" / "*.mrc"], data / "s 1")
    assert found(data / "s 1", data.parent) == ["c", "deep/d"]


def test_many_files_are_found_quickly_and_in_order(tmp_path: Path, out: Path) -> None:
    data = make(tmp_path / "d", *(f"s{i % 7}/img_{i}.tif" for i in range(1000)))
    names = found(data, out)
    assert len(names) == 1000
    assert names == sorted(names, key=natural)

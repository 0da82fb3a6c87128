from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from napari_matseg.core.progress import finish
from napari_matseg.core.unpack import unpack
from napari_matseg.errors import InputError, OutputError

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write an archive of files by name."""

    def make_(files: dict[str, bytes], comment: bytes = b"") -> Path:
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.comment = comment
            for name, content in files.items():
                info = zipfile.ZipInfo(name)
                info.compress_type = zipfile.ZIP_DEFLATED
                zipped.writestr(info, content)
        return path

    return make_


def everything(path: PurePosixPath) -> PurePosixPath:
    return path


def take(archive: Path, most: int = 10_000, comment: bytes | None = None, place: Callable = everything) -> Path:
    folder = archive.with_name("out")
    return finish(unpack(archive, folder, place=place, most_bytes=most, comment=comment))


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_files_are_put_where_they_belong(make: Make) -> None:
    archive = make({"top/images/a #1.png": b"one", "top/notes.txt": b"two", "top/b/": b""}, comment=b"abc")
    folder = take(
        archive, comment=b"abc", place=lambda path: None if path.suffix == ".txt" else PurePosixPath(*path.parts[1:])
    )
    assert names(folder) == ["images/a #1.png"]
    assert (folder / "images" / "a #1.png").read_bytes() == b"one"


@pytest.mark.parametrize(
    "name",
    ["../a", "a/../../b", "/etc/passwd", "C:/a", "a\\..\\b", "./a", "a//b", "a\nb", "a/..", "c:a"],
)
def test_names_that_lie_outside(make: Make, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="may lie outside; this is no archive to trust"):
        take(make({"good.png": b"x", name: b"evil"}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_links_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match="is a link"):
        take(tmp_path / "a.zip")


def test_a_bomb_stops_at_its_bound_and_leaves_nothing(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unpacks to more than 5 MB"):
        take(make({"a": bytes(4_000_000), "b": bytes(4_000_000)}), most=5_000_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_two_files_of_one_name(make: Make) -> None:
    with pytest.raises(InputError, match="has 'A' twice"):
        take(make({"a": b"1", "A": b"2"}))


def test_nothing_of_what_is_expected(make: Make) -> None:
    with pytest.raises(InputError, match="holds 0 of the files expected"):
        take(make({"a": b"1"}), place=lambda path: None)


def test_another_archive(make: Make) -> None:
    with pytest.raises(InputError, match="is not the archive expected"):
        take(make({"a": b"1"}, comment=b"x"), comment=b"y")


@pytest.mark.parametrize("damage", ["no zip", "cut", "flipped"])
def test_a_damaged_archive(make: Make, tmp_path: Path, damage: str) -> None:
    archive = make({"a": bytes(range(256)) * 20})
    raw = archive.read_bytes()
    cut = raw[: len(raw) // 2] if damage == "cut" else raw[:60] + bytes([raw[60] ^ 255]) + raw[61:]
    archive.write_bytes(b"nothing" if damage == "no zip" else cut)
    with pytest.raises(InputError, match="the archive is damaged"):
        take(archive)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_stays(make: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="is there already"):
        take(make({"a": b"1"}))
    assert names(tmp_path / "out") == []


def test_cancelling_leaves_nothing(make: Make, tmp_path: Path) -> None:
    work = unpack(make({"a": b"1", "b": b"2"}), tmp_path / "out", place=everything, most_bytes=99)
    next(work)
    next(work)
    work.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]

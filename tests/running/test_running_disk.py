from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from napari_matseg.errors import InputError, OutputError
from napari_matseg.running.disk import describe, make_below, reason, size
from napari_matseg.running.failures import write_failure
from napari_matseg.running.serial import run_steps
from napari_matseg.running.states import Source
from napari_matseg.settings import Recipe


def test_folders_are_made_below_one_that_is_there(tmp_path: Path) -> None:
    make_below(tmp_path, tmp_path / "a" / "b")
    make_below(tmp_path, tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    for folder in ("gone", "gone/a/b"):
        with pytest.raises(FileNotFoundError):
            make_below(tmp_path / "gone", tmp_path / folder / "x")
    assert not (tmp_path / "gone").exists()


def test_nothing_is_written_where_a_lost_drive_was(tmp_path: Path, recipe: Recipe) -> None:
    out = tmp_path / "drive" / "out"
    work = run_steps(recipe, [], out)
    next(work)
    shutil.rmtree(out)
    said = write_failure(out, Source(tmp_path / "a.tif", "s/a"), InputError("a.tif: is bad; mend it."), None)
    assert said == "a.tif: is bad; mend it."
    with pytest.raises(OutputError, match="out: is gone; look whether its drive is there, and run it again"):
        list(work)
    assert not out.exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk is full; free some space"),
        (errno.EROFS, "close it elsewhere, or get the permission"),
        (errno.ENOENT, "the folder is gone; look whether its drive is there"),
        (errno.EIO, "check the drive, and run it again"),
    ],
)
def test_why_something_could_not_be_written(number: int, words: str) -> None:
    assert words in reason(OSError(number, "so it is"))


def test_sizes_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "1").write_text("1")
    (tmp_path / "a" / "b" / "2").write_text("22")
    assert (size(tmp_path / "a"), size(tmp_path / "a" / "1"), size(tmp_path / "gone")) == (3, 1, None)
    before = describe(tmp_path / "a")
    assert (before["file"], before["bytes"]) == ("a", 3)
    (tmp_path / "a" / "b" / "2").rename(tmp_path / "a" / "b" / "3")
    assert describe(tmp_path / "a")["sha256"] != before["sha256"]

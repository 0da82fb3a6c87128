from __future__ import annotations

import gc
import os
import time
from pathlib import Path

import pytest

from napari_matseg.core.large import workspace
from napari_matseg.core.large.workspace import claim
from napari_matseg.errors import OutputError


def aged(folder: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(folder, (then, then))


def test_the_folder_goes_with_the_object(tmp_path):
    mine = claim(tmp_path / "work", "image", "key")
    (mine.folder / "piece").write_bytes(b"1")
    assert mine.folder.parent == tmp_path / "work"
    del mine
    gc.collect()
    assert not list((tmp_path / "work").iterdir())


def test_what_is_left_is_found_again(tmp_path):
    mine = claim(tmp_path, "image", "key")
    (mine.folder / "piece").write_bytes(b"1")
    mine.leave()
    again = claim(tmp_path, "image", "key")
    assert again.folder == mine.folder
    assert (again.folder / "piece").exists()
    again.delete()
    assert not list(tmp_path.iterdir())
    again.delete()
    mine.leave()


def test_what_is_in_use_is_neither_shared_nor_deleted(tmp_path):
    one = claim(tmp_path, "image", "key")
    aged(one.folder, workspace.FORGOTTEN_S + 60)
    two = claim(tmp_path, "image", "key")
    other = claim(tmp_path, "image", "another key")
    assert len({one.folder, two.folder, other.folder}) == 3
    assert one.folder.is_dir()


@pytest.mark.parametrize(
    ("image", "age", "stays"), [("image", 3600, True), ("image", 90_000, False), ("x", 90_000, True)]
)
def test_what_nobody_will_go_on_with_is_deleted(tmp_path, image, age, stays):
    old = claim(tmp_path, image, "old key")
    old.leave()
    aged(old.folder, age)
    claim(tmp_path, "image", "key")
    assert old.folder.exists() == stays


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        claim(tmp_path / "file" / "work", "image", "key")

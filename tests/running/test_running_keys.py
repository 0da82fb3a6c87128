from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_matseg.core.provenance import hash_file
from napari_matseg.errors import InputError, ModelError
from napari_matseg.running import keys
from napari_matseg.running.keys import fingerprint, keys_of, model_files, model_hash
from napari_matseg.settings import Recipe


def make(**parts: object) -> Recipe:
    return Recipe.model_validate({"segment": {}} | parts)


def changed(one: Recipe, other: Recipe) -> set[str]:
    a, b = (keys_of(recipe, "image", None, "models") for recipe in (one, other))
    return {part for part in a if a[part] != b[part]}


ALL = {"segment", "measure", "outputs"}


@pytest.mark.parametrize(
    ("parts", "touched"),
    [
        ({}, set()),
        ({"name": "other"}, set()),
        ({"segment": {"device": "cuda", "batch": 3}}, set()),
        ({"segment": {"model": "a copy elsewhere"}}, set()),
        ({"segment": {"tiling": "exact"}}, ALL),
        ({"segment": {"instances": True}}, ALL),
        ({"read": {"channel": "red"}}, ALL),
        ({"read": {"pixel_size_nm": [2, 2]}}, {"measure", "outputs"}),
        ({"clean": {"min_area_px": 5}}, {"measure", "outputs"}),
        ({"measure": {"edge": "drop"}}, {"measure", "outputs"}),
        ({"measure": None}, {"measure", "outputs"}),
        ({"outputs": {"overlay": False}}, {"outputs"}),
        ({"outputs": {"probabilities": True}}, {"outputs"}),
        ({"outputs": {"tables": ["csv", "parquet"]}}, {"outputs"}),
    ],
)
def test_a_change_touches_what_follows_from_it(parts, touched):
    assert changed(make(), make(**parts)) == touched


@pytest.mark.parametrize(
    ("before", "after", "touched"),
    [
        ({}, {"prompt": {"device": "cuda", "cache_gb": 0}}, set()),
        ({}, {"everything": {"min_iou": 0.9}}, set()),
        ({"find": "everything"}, {"find": "everything", "everything": {"min_iou": 0.9}}, ALL),
        ({"find": "everything"}, {"find": "everything", "centres": {"depth": 0.1}}, set()),
        ({}, {"centres": {"depth": 0.1}}, ALL),
        ({}, {"prompt": {"choice": "part"}}, ALL),
    ],
)
def test_prompts(before, after, touched):
    one, other = (Recipe.model_validate({"prompt": prompt}) for prompt in (before, after))
    assert changed(one, other) == touched


def test_prompts_see_the_pixel_size():
    one, other = ({"prompt": {}, "read": {"pixel_size_nm": size}} for size in (None, [1, 1]))
    assert changed(Recipe.model_validate(one), Recipe.model_validate(other)) == ALL


def test_image_points_and_models_touch_everything():
    first = keys_of(make(), "a", None, "m")
    for others in (("b", None, "m"), ("a", "p", "m"), ("a", None, "n")):
        found = keys_of(make(), *others)
        assert all(found[part] != first[part] for part in found)


def test_models(tiny_file, tmp_path):
    recipe = make(segment={"model": str(tiny_file)})
    assert model_files(recipe) == [tiny_file]
    copy = tmp_path / "copy.safetensors"
    shutil.copy(tiny_file, copy)
    elsewhere = make(segment={"model": str(copy)})
    assert model_hash(elsewhere) == model_hash(recipe)
    copy.write_bytes(copy.read_bytes() + b" ")
    assert model_hash(elsewhere) != model_hash(recipe)
    names = [path.stem for path in model_files(Recipe.model_validate({"prompt": {}}))]
    assert names == ["compact", "particles"]
    blobs = Recipe.model_validate({"prompt": {"centres": {"method": "log"}}})
    assert [path.stem for path in model_files(blobs)] == ["compact"]
    with pytest.raises(ModelError, match="no such model"):
        model_hash(make(segment={"model": "gone"}))


def age(path: Path) -> None:
    """Make a file look as old as it would be."""
    before = time.time() - 3600
    os.utime(path, (before, before))


@pytest.fixture
def old_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what has just been written count as settled."""
    monkeypatch.setattr(keys, "YOUNG_NS", -1)


def test_a_file_that_was_not_touched_is_not_read(tmp_path, old_clock, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    seen = fingerprint(path)
    assert (seen.sha256, seen.is_settled) == (hash_file(path), True)
    known = {"sha256": seen.sha256, "stat": list(seen.stat)}
    monkeypatch.setattr(keys, "hash_file", pytest.fail)
    assert fingerprint(path, known) == seen


def change_content(path: Path) -> None:
    path.write_bytes(b"two")


def change_times_back(path: Path) -> None:
    """Put other content of the same length there, with the old times, as copying tools do."""
    found = path.stat()
    time.sleep(0.02)
    path.write_bytes(b"two")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def change_file(path: Path) -> None:
    found = path.stat()
    other = path.with_name("b")
    other.write_bytes(b"two")
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [change_content, change_times_back, change_file])
def test_a_changed_file_is_noticed(tmp_path, old_clock, change: Callable[[Path], None]):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    age(path)
    seen = fingerprint(path)
    change(path)
    found = fingerprint(path, {"sha256": seen.sha256, "stat": list(seen.stat or ())})
    assert found.sha256 == hash_file(path) != seen.sha256


def test_what_has_just_been_written_is_not_settled(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    assert not fingerprint(path).is_settled


def test_a_folder_goes_by_its_content(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a").write_bytes(b"one")
    first = fingerprint(tmp_path / "store")
    assert first.stat is None
    (tmp_path / "store" / "a").write_bytes(b"two")
    assert fingerprint(tmp_path / "store", {"sha256": first.sha256, "stat": None}).sha256 != first.sha256


def test_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        fingerprint(tmp_path / "gone.tif")

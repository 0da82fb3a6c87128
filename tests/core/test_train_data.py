from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_matseg.core import train_data
from napari_matseg.core.splits import Split
from napari_matseg.core.train_data import load_data, portable
from napari_matseg.errors import InputError
from napari_matseg.settings import TrainSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images and their truths."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("images", "truth"):
        (folder / name).mkdir()
    for number, name in enumerate("abcde"):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64)).astype(np.uint8)
        tifffile.imwrite(folder / "images" / f"{name}.tif", pixels)
        tifffile.imwrite(folder / "truth" / f"{name}.tif", pixels % 2)
    return folder


def recipe(data: dict[str, Any] | None = None, **changes: Any) -> TrainSettings:
    given = {"images": "images", "truth": "truth", "train": ("a", "b"), "validation": ("c",), "test": ("d",)}
    classes = [{"name": name, "colour": (0, 0, i)} for i, name in enumerate(("even", "odd"))]
    settings = {"name": "parity", "classes": classes, "data": given | (data or {})}
    return TrainSettings.model_validate(settings | changes)


def test_images_by_what_they_are_for(folder: Path) -> None:
    data = load_data(recipe(), folder)
    assert [[one.name for one in some] for some in (data.train, data.validation, data.test)] == [
        ["a", "b"],
        ["c"],
        ["d"],
    ]
    assert data.shown.name == "c"
    assert set(data.files) == {"train", "validation", "test"}
    (image,) = data.files["test"]
    assert image.name == "d"
    for part, sha256 in (("images", image.image_sha256), ("truth", image.truth_sha256)):
        assert sha256 == hashlib.sha256((folder / part / "d.tif").read_bytes()).hexdigest()


def test_copy_of_a_test_image(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    shutil.copy(folder / "images" / "d.tif", tmp_path / "data" / "images" / "a.tif")
    with pytest.raises(InputError, match=r"^d in test is the same image as a in train; leave one of them out"):
        load_data(recipe(), tmp_path / "data")


class TestPortable:
    def test_of_relative_paths_nothing_changes(self, folder: Path) -> None:
        settings = recipe()
        assert portable(settings, load_data(settings, folder).split, folder) == settings.model_dump(mode="json")

    @pytest.mark.parametrize("inside", [True, False])
    def test_folders_of_the_users_machine(self, folder: Path, tmp_path: Path, inside: bool) -> None:
        settings = recipe({"images": folder / "images", "truth": folder / "truth", "validation": 0.5, "test": ()})
        base = folder.parent if inside else tmp_path / "elsewhere"
        split = load_data(settings, base).split
        made = portable(settings, split, base)
        assert str(folder) not in json.dumps(made)
        assert made["data"]["images"] == (f"{folder.name}/images" if inside else "images")
        again = TrainSettings.model_validate(made)
        assert load_data(again, base if inside else folder).split == split

    def test_images_and_truths_in_one_folder(self, folder: Path) -> None:
        settings = recipe({"images": folder / "images", "truth": folder / "images"})
        assert portable(settings, Split(("a",)), Path("elsewhere"))["data"]["truth"] == "."

    def test_folders_that_have_nothing_in_common(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def apart(paths: object) -> str:
            raise ValueError("Paths don't have the same drive")

        monkeypatch.setattr(train_data.os.path, "commonpath", apart)
        settings = recipe({"images": folder / "images", "truth": folder / "truth"})
        made = portable(settings, Split(("a",)), Path("elsewhere"))
        assert (made["data"]["images"], made["data"]["truth"]) == ("images", "truth")

    def test_lists_in_files_become_names(self, folder: Path) -> None:
        (folder / "train.txt").write_text("a.tif\nb.tif\n")
        settings = recipe({"train": folder / "train.txt"})
        made = portable(settings, load_data(settings, folder).split, folder)
        assert made["data"]["train"] == ["a.tif", "b.tif"]

    def test_model_to_begin_with(self, folder: Path) -> None:
        split = Split(("a",))
        assert portable(recipe(start=str(folder / "m.safetensors")), split, folder)["start"] == "m.safetensors"
        assert portable(recipe(start="superalloy"), split, folder)["start"] == "superalloy"

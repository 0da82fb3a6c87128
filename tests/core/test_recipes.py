from __future__ import annotations

from pathlib import Path

import pytest

import napari_matseg
from napari_matseg.core.recipes import write_recipe
from napari_matseg.errors import OutputError
from napari_matseg.settings import CentreSettings, PromptSettings, PromptStep, Recipe, SegmentSettings, read_recipe


def test_written_is_read_as_the_same(tmp_path: Path) -> None:
    path = tmp_path / "Stähle 日本.yaml"
    recipe = Recipe(name="a: # b\n日本", segment=SegmentSettings(model="superalloy", instances=True))
    write_recipe(recipe, path)
    assert read_recipe(path) == recipe
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert b"\r" not in path.read_bytes()
    assert napari_matseg.read_recipe(path) == napari_matseg.Recipe(**dict(recipe))


def test_recipe_moves_with_the_models_in_its_folder(tmp_path: Path) -> None:
    here, there, elsewhere = (tmp_path / name for name in ("here", "there", "elsewhere.safetensors"))
    (here / "models").mkdir(parents=True)
    (here / "models" / "a.safetensors").touch()
    step = PromptStep(
        centres=CentreSettings(model=str(here / "models" / "a.safetensors")),
        prompt=PromptSettings(model=str(elsewhere)),
    )
    write_recipe(Recipe(prompt=step), here / "recipe.yaml")
    assert read_recipe(here / "recipe.yaml") == Recipe(prompt=step)
    here.rename(there)
    moved = read_recipe(there / "recipe.yaml").prompt
    assert moved is not None
    assert moved.centres.model == str(there / "models" / "a.safetensors")
    assert moved.prompt.model == str(elsewhere)


def test_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recipe.yaml"
    write_recipe(Recipe(segment=SegmentSettings()), path)
    before = path.read_bytes()

    def full(*_given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_matseg.core.export.os.fsync", full)
    with pytest.raises(OutputError, match=r"recipe\.yaml: "):
        write_recipe(Recipe(prompt=PromptStep()), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["recipe.yaml"]


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"recipe\.yaml: "):
        write_recipe(Recipe(segment=SegmentSettings()), tmp_path / "gone" / "recipe.yaml")


def test_path_of_a_model_from_elsewhere_is_written_as_it_is(tmp_path: Path) -> None:
    recipe = Recipe(segment=SegmentSettings(model="relative/a.safetensors"))
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == recipe

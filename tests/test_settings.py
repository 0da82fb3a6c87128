from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from napari_matseg.errors import SettingsError
from napari_matseg.settings import (
    AugmentSettings,
    PromptTrainSettings,
    SegmentSettings,
    Settings,
    TrainSettings,
    explain,
    load_recipe,
)

RECIPES = sorted((Path(__file__).parents[1] / "recipes").rglob("*.yaml"))
CLASSES = [{"name": "matrix", "colour": [0, 0, 0]}, {"name": "pore", "colour": [255, 0, 0]}]
DATA = {"images": "images", "truth": "truth", "train": ["a"]}
RECIPE: dict[str, Any] = {"name": "test", "classes": CLASSES, "data": DATA}


def reason(**changes: Any) -> str:
    """One line that says what is wrong with a recipe."""
    with pytest.raises(ValidationError) as caught:
        TrainSettings.model_validate(RECIPE | changes)
    return explain(caught.value)


def every_kind(of: type[Settings] = Settings) -> list[type[Settings]]:
    return [kind for child in of.__subclasses__() for kind in (child, *every_kind(child))]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recipes_in_the_repository_are_valid(path: Path) -> None:
    assert load_recipe(path).name == path.stem


def test_there_are_recipes_for_the_models_that_ship() -> None:
    assert {path.stem for path in RECIPES} >= {"compact", "particles", "superalloy"}


@pytest.mark.parametrize("kind", every_kind(), ids=lambda kind: kind.__name__)
def test_all_settings_are_frozen_and_strict_about_names(kind: type[Settings]) -> None:
    assert kind.model_config["frozen"]
    assert kind.model_config["extra"] == "forbid"


def test_settings_cannot_be_changed() -> None:
    settings = SegmentSettings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.model = "other"  # type: ignore[misc]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_settings_are_their_own_record(path: Path) -> None:
    settings = load_recipe(path)
    assert type(settings).model_validate_json(settings.model_dump_json()) == settings
    assert type(settings).model_validate(settings.model_dump(mode="json")) == settings
    assert SegmentSettings.model_validate_json(SegmentSettings(tile=512).model_dump_json()) == SegmentSettings(tile=512)


def test_lists_shares_and_files_of_names() -> None:
    for validation, kept in ((["b"], ("b",)), (0.25, 0.25), ("b.txt", Path("b.txt")), ([], ())):
        settings = TrainSettings.model_validate(RECIPE | {"data": DATA | {"validation": validation}})
        assert settings.data.validation == kept


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nonsense": 1}, "nonsense: there is no such setting; correct its name"),
        ({"augment": {"blurr": 1}}, "augment.blurr: there is no such setting; correct its name"),
        ({"data": {"images": "images", "truth": "truth"}}, "data.train: is missing; give it"),
        ({"crop": 10}, "crop: Input should be greater than or equal to 64"),
        ({"batch": "many"}, "batch: Input should be a valid integer"),
        ({"learning_rate": float("nan")}, "learning_rate: Input should be a finite number"),
        ({"losses": [{"name": "hinge"}]}, "losses.0.name: Input should be 'cross_entropy', 'jaccard', 'dice'"),
        ({"losses": [{"name": "dice", "class_weights": [1]}]}, "^class_weights must be one number for each class, or"),
        (
            {"losses": [{"name": "dice", "class_weights": [0, 0]}]},
            r"^losses\.0: class_weights: no class counts; give one",
        ),
        (
            {"losses": [{"name": "dice", "class_weights": [1, -1]}]},
            r"losses\.0\.class_weights.*greater than or equal to 0",
        ),
        ({"augment": {"rotate": "half"}}, "augment.rotate: .*'quarter' or 'mirror'"),
        ({"augment": {"elastic": 2}}, "augment.elastic: Input should be less than or equal to 1"),
        ({"losses": [{"name": "dice", "smoothing": 0}]}, "losses.0.smoothing: Input should be greater than 0"),
        ({"losses": []}, "losses: .* at least 1"),
        ({"augment": {"scale": [2, 1]}}, "augment.scale: must be two numbers above 0, the smaller first"),
        ({"augment": {"gamma": [0, 1]}}, "augment.gamma: must be two numbers above 0, the smaller first"),
        ({"augment": {"invert": 1.5}}, "augment.invert: Input should be less than or equal to 1"),
        ({"augment": {"brightness": -1}}, "augment.brightness: Input should be greater than or equal to 0"),
        ({"classes": CLASSES[:1]}, "classes: .* at least 2"),
        ({"classes": [*CLASSES, CLASSES[0]]}, "classes: two classes have the same name; give each its own"),
        ({"classes": [{"name": "a", "colour": [0, 0, 256]}] * 2}, "classes.0.colour.2: .* less than or equal to 255"),
        ({"name": "../elsewhere"}, "name: String should match pattern"),
        ({"device": "gpu"}, "device: String should match pattern"),
        ({"precision": "float16"}, "precision: Input should be 'auto', 'float32' or 'bfloat16'"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"pixel_size_nm": 0}, "pixel_size_nm: Input should be greater than 0"),
        ({"architecture": {"name": "unet++"}}, "architecture.name: Input should be 'unet', 'deeplabv3', .*"),
        ({"data": DATA | {"validation": 1.5}}, r"data\.validation: .*data\.validation: Input should be less than 1$"),
        ({"patience": 3}, "^patience needs validation images; name some"),
        ({"data": DATA | {"region": 0.6}}, r"data\.region: Input should be less than or equal to 0\.5"),
        ({"data": DATA | {"region": 0.2, "validation": 0.2}}, "^data: region holds out a part of each image and valid"),
        ({"data": DATA | {"unlabelled": 0, "instances": True}}, "^data: unlabelled is for a truth of classes; leave"),
        ({"distance": True}, "^distance needs a truth with one id per object; set data.instances"),
        (
            {"synthetic": 0.5, "classes": [{"name": name, "colour": [0, 0, 0]} for name in "abcd"]},
            "^synthetic micrographs have two or three classes",
        ),
        ({"architecture": {"name": "deeplabv3plus"}, "batch": 1}, "^batch must be 2 or more for deeplabv3plus"),
        ({"architecture": {"name": "deeplabv3"}, "batch": 1}, "^batch must be 2 or more for deeplabv3,"),
        ({"architecture": {"name": "segformer", "upsampling": "nearest"}}, "upsampling of segformer can be bilinear"),
        ({"architecture": {"name": "unet", "atrous_rates": [1, 2, 3]}}, "unet has no dilations; leave atrous_rates"),
        ({"architecture": {"name": "fcn", "encoder_depth": 4}}, "encoder_depth of fcn is always 5; leave it out"),
    ],
)
def test_errors_name_the_setting_and_what_to_do(changes: dict[str, Any], said: str) -> None:
    found = reason(**changes)
    assert "\n" not in found
    with pytest.raises(SettingsError, match=said):
        raise SettingsError(found)


@pytest.mark.parametrize("name", ["elastic", "burnt_in", "data_bar"])
def test_promptable_models_are_not_trained_on_what_their_crops_cannot_show(name: str) -> None:
    recipe = {"name": "test", "sources": [{"data": DATA | {"instances": True}, "share": 1}], "augment": {name: 0.1}}
    with pytest.raises(ValidationError) as caught:
        PromptTrainSettings.model_validate(recipe)
    assert explain(caught.value) == f"augment.{name} is for models that know classes; leave it out"


def test_augmentation_of_recipes_from_before_is_as_it_was() -> None:
    before = {"scale", "aspect", "rotate", "brightness", "contrast", "gamma", "invert", "shading", "blur", "noise"}
    assert not any(value for name, value in AugmentSettings() if name not in before)
    assert AugmentSettings(rotate=True).model_dump()["rotate"] is True
    assert AugmentSettings.model_validate({"rotate": False}).rotate is False


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert reason(crop=1, nonsense=2).count(";") == 2


class TestRecipe:
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"name: [", "is not YAML"),
            (b"\xff\xfe\x00", "is not YAML"),
            (b"", "holds no settings"),
            (b"- a\n- b\n", "holds no settings"),
            (b"just words", "holds no settings"),
            (b"name: a", "classes: is missing; give it; data: is missing; give it"),
            (b"!!python/object/apply:os.getcwd []", "is not YAML"),
        ],
    )
    def test_content_that_cannot_be_used(self, tmp_path: Path, content: bytes, said: str) -> None:
        path = tmp_path / "recipe.yaml"
        path.write_bytes(content)
        with pytest.raises(SettingsError, match=rf"recipe\.yaml: {said}") as caught:
            load_recipe(path)
        assert "\n" not in str(caught.value)

    def test_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"recipe\.yaml: cannot be read .*; check the path"):
            load_recipe(tmp_path / "recipe.yaml")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="cannot be read"):
            load_recipe(tmp_path)

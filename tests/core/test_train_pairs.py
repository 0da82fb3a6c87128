from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_matseg.core.dataset import load_examples
from napari_matseg.core.label_files import read_labels_info
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import finish
from napari_matseg.core.read import read
from napari_matseg.core.train_pairs import NOTHING, Painted, file_names, names_of, save_pairs, write_training
from napari_matseg.core.truth import IGNORE
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec, TrainSettings, load_recipe

SPECS = (ClassSpec(name="matrix", colour=(9, 9, 9)), ClassSpec(name="pore", colour=(255, 0, 0)))
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 60_000, (50, 60)).astype(np.uint16)


def painted(labels: np.ndarray, **known: Any) -> Painted:
    pixels = known.pop("pixels", GREY)
    return Painted("steel", Micrograph(pixels, **known), labels)


def recipe(names: tuple[str, ...], **data: Any) -> TrainSettings:
    return TrainSettings.model_validate(
        {
            "name": "x",
            "classes": SPECS,
            "data": {"images": "images", "truth": "labels", "train": names} | data,
        }
    )


def test_strokes_come_back_as_classes_and_the_rest_as_ignored(tmp_path: Path) -> None:
    labels = np.zeros(GREY.shape, np.int64)
    labels[5:8, 5:20], labels[20:23, 5:20] = 2, 7  # the values need not follow each other
    one = painted(labels, pixel_size_nm=(3.0, 4.0))
    finish(save_pairs([one], (2, 7), SPECS, tmp_path))
    assert names_of(one, (2, 7)) == ("steel",)
    (example,) = load_examples(recipe(("steel",), unlabelled=0), ["steel"], tmp_path)
    np.testing.assert_array_equal(example.image_cyx[0], GREY)
    np.testing.assert_array_equal(example.classes_yx, np.select([labels == 2, labels == 7], [0, 1], IGNORE))
    assert read_labels_info(tmp_path / "labels" / "steel.tif")[0] == (NOTHING, *SPECS)
    assert read(tmp_path / "images" / "steel.tif").pixel_size_nm == (3.0, 4.0)


def test_where_0_is_a_class_everything_is_labelled(tmp_path: Path) -> None:
    labels = (GREY > 30_000).astype(np.uint8) * 3
    finish(save_pairs([painted(labels)], (0, 3), SPECS, tmp_path))
    (example,) = load_examples(recipe(("steel",)), ["steel"], tmp_path)
    np.testing.assert_array_equal(example.classes_yx, labels // 3)


def test_planes_with_nothing_on_them_are_left_out(tmp_path: Path) -> None:
    labels = np.zeros((3, *GREY.shape), np.uint8)
    labels[0, 3, 4], labels[2, 9, 9] = 1, 2
    one = painted(labels, pixels=np.stack([GREY, GREY + 1, GREY + 2]), axes="ZYX")
    assert names_of(one, (1, 2)) == ("steel plane 0", "steel plane 2")
    finish(save_pairs([one], (1, 2), SPECS, tmp_path))
    assert sorted(path.stem for path in (tmp_path / "images").iterdir()) == ["steel plane 0", "steel plane 2"]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "images" / "steel plane 2.tif"), GREY + 2)


def test_data_bar_is_left_out(tmp_path: Path) -> None:
    labels = np.ones(GREY.shape, np.uint8)
    finish(save_pairs([painted(labels, data_bar=(40, 50))], (1, 2), SPECS, tmp_path))
    assert tifffile.imread(tmp_path / "images" / "steel.tif").shape == (40, 60)
    assert tifffile.imread(tmp_path / "labels" / "steel.tif").shape == (40, 60)


@pytest.mark.parametrize("kind", ["colour", "bool", "float"])
def test_other_kinds_of_images(tmp_path: Path, kind: str) -> None:
    pixels = {
        "colour": RNG.integers(0, 255, (50, 60, 3)).astype(np.uint8),
        "bool": GREY > 30_000,
        "float": GREY.astype(np.float32),
    }[kind]
    one = painted(np.ones(GREY.shape, np.uint8), pixels=pixels, axes="YXS" if kind == "colour" else "YX")
    finish(save_pairs([one], (1, 2), SPECS, tmp_path))
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "images" / "steel.tif").pixels), pixels)


def test_labels_of_another_shape(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^steel: image of shape \(50, 60\) and labels of shape \(60, 50\)"):
        finish(save_pairs([painted(np.ones((60, 50), np.uint8))], (1, 2), SPECS, tmp_path))


def test_label_of_no_class(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^steel: label 3 is of no class; name it, or take it out"):
        finish(save_pairs([painted(np.full(GREY.shape, 3, np.uint8))], (1, 2), SPECS, tmp_path))


def test_names_are_those_of_files() -> None:
    assert file_names(["a", "A", "a 2", "?", "..", "x/y.tif", "µm"]) == ["a", "A 2", "a 2 2", "-", "image", "x-y", "µm"]


def test_recipe_is_read_as_it_was_written(tmp_path: Path) -> None:
    settings = recipe(("a", "µ b"), unlabelled=0, region=0.25)
    write_training(settings, tmp_path / "x.yaml")
    assert load_recipe(tmp_path / "x.yaml") == settings
    assert (tmp_path / "x.yaml").read_text(encoding="utf-8").startswith("# napari-matseg train x.yaml\n")

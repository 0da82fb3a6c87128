from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_matseg import cross_validate
from napari_matseg.core import folds as core_folds
from napari_matseg.core.checkpoints import read_card
from napari_matseg.core.folds import CrossValidation, fold_steps
from napari_matseg.core.metrics import Counts
from napari_matseg.core.progress import finish
from napari_matseg.core.train import TrainProgress
from napari_matseg.errors import InputError, SettingsError
from napari_matseg.settings import TrainSettings

NAMES = ("a1", "a2", "b1", "c1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five micrographs of a bright half, four to learn from and one that nothing may see."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("images", "truth"):
        (folder / name).mkdir()
    for name in (*NAMES, "t"):
        truth = np.zeros((64, 72), np.uint8)
        truth[:, int(rng.integers(20, 50)) :] = 1
        grey = 60 + 120 * truth + rng.normal(0, 10, truth.shape)
        tifffile.imwrite(folder / "images" / f"{name}.tif", grey.clip(0, 255).astype(np.uint8))
        tifffile.imwrite(folder / "truth" / f"{name}.tif", truth)
    return folder


def recipe(**changes: Any) -> TrainSettings:
    settings: dict[str, Any] = {
        "name": "halves",
        "classes": [{"name": "dark", "colour": (0, 0, 0)}, {"name": "bright", "colour": (255, 0, 0)}],
        "data": {
            "images": "images",
            "truth": "truth",
            "train": NAMES[:3],
            "validation": NAMES[3:],
            "test": ("t",),
            "group": "^.",
        },
        "architecture": {"encoder": "tu-resnet10t", "encoder_depth": 3, "options": {"decoder_channels": [16, 8, 8]}},
        "crop": 64,
        "batch": 1,
        "steps": 2,
        "evaluate_every": 1,
        "patience": 1,
        "device": "cpu",
    }
    return TrainSettings.model_validate(settings | changes)


def follow(settings: TrainSettings, data: Path, out: Path, folds: int, **options: Any) -> tuple[Any, list[Any]]:
    reports: list[TrainProgress] = []
    work = fold_steps(settings, data, out, folds, **options)
    while True:
        try:
            reports.append(next(work))
        except StopIteration as stop:
            return stop.value, reports


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CrossValidation, list[TrainProgress]]:
    """Two folds and the final model."""
    return follow(recipe(), data, tmp_path_factory.mktemp("out"), 2, final=True)


Done = tuple[CrossValidation, list[TrainProgress]]


class TestCrossValidation:
    def test_every_image_is_validated_once_by_a_model_that_did_not_see_it(self, done: Done) -> None:
        found, _ = done
        assert sorted(name for fold in found.folds for name in fold) == sorted(NAMES)
        assert set(found.counts) == set(NAMES)
        for number, fold in enumerate(found.folds, start=1):
            images = read_card(found.folder / f"fold-{number}.safetensors").images
            names = {part: {image.name for image in some} for part, some in images.items()}
            assert names == {"train": set(NAMES) - set(fold), "test": set(fold)}
            for name in fold:
                assert found.counts[name].confusion.sum() == 64 * 72

    def test_a_group_is_in_one_fold(self, done: Done) -> None:
        assert any({"a1", "a2"} <= set(fold) for fold in done[0].folds)

    def test_progress_is_that_of_all_trainings(self, done: Done) -> None:
        _, reports = done
        steps = [report.done for report in reports if "training" in report.note]
        assert steps == [1, 2, 3, 4, 5, 6]
        assert {report.total for report in reports} == {6}
        assert [reports[0].note, reports[-1].note] == [
            "fold 1 of 2: training",
            "all images: trying the model on the test images",
        ]

    def test_nothing_is_chosen_by_what_is_held_out(self, done: Done) -> None:
        found, reports = done
        assert {report.accuracy for report in reports} == {None}
        assert set(read_card(found.folder / "fold-1.safetensors").accuracy) == {"test"}

    def test_the_report_says_which_images_were_what(self, done: Done) -> None:
        found, _ = done
        report = json.loads(found.report.read_text())
        assert report["test images, not seen"] == ["t"]
        for fold, made in zip(report["folds"], found.folds, strict=True):
            assert fold["validated on"] == list(made)
            assert sorted(fold["learnt from"] + fold["validated on"]) == sorted(NAMES)
        assert set(report["images"]) == set(NAMES)
        assert {one["fold"] for one in report["images"].values()} == {1, 2}
        assert report["recipe"]["data"]["test"] == ["t"]

    def test_the_final_model_learnt_from_all_and_its_card_says_how_good_the_folds_were(self, done: Done) -> None:
        found, _ = done
        assert found.final is not None
        card = read_card(found.final)
        assert sorted(image.name for image in card.images["train"]) == sorted(NAMES)
        assert [image.name for image in card.images["test"]] == ["t"]
        figures = card.accuracy["cross-validation"]
        assert figures["iou"]["bright"] == found.rows()[1]["iou"]
        assert "Accuracy on 2 folds of whole images" in card.to_markdown()
        assert card.to_markdown().count("Learnt from: 4 image(s), ") == 1

    def test_folds_that_are_done_are_not_made_again(self, done: Done, data: Path, tmp_path: Path) -> None:
        found, _ = done
        shutil.copytree(found.folder, tmp_path / found.folder.name)
        again, reports = follow(recipe(), data, tmp_path, 2)
        assert not reports
        assert again.to_dict() == found.to_dict()
        with pytest.raises(SettingsError, match=r"fold-1\.safetensors: was made with other settings, images or truths"):
            follow(recipe(steps=3), data, tmp_path, 2)
        assert next(fold_steps(recipe(), data, tmp_path, 2, resume=False)).done == 1


def counts(right: int, wrong: int) -> Counts:
    return Counts(np.array([[right, wrong], [0, 0]]))


class TestFigures:
    def test_mean_and_spread_are_over_folds(self) -> None:
        folds = (("a", "b"), ("c",))
        images = {"a": counts(50, 50), "b": counts(100, 0), "c": counts(25, 75)}
        rows = CrossValidation(("x", "y"), folds, images, (), Path()).rows()
        assert [row["class"] for row in rows] == ["x", "y", "mean", "pooled"]
        assert rows[0]["iou"] == pytest.approx((0.75 + 0.25) / 2)
        assert rows[0]["iou_sd"] == pytest.approx(0.5 / np.sqrt(2))
        assert rows[0]["dice"] == pytest.approx((1.5 / 1.75 + 0.5 / 1.25) / 2)
        assert rows[1]["iou"] == 0
        pooled_dice = [2 * right / (2 * right + 2 * wrong) for right, wrong in ((150, 50), (25, 75))]
        assert rows[3]["dice"] == pytest.approx(np.mean(pooled_dice))

    def test_class_that_a_fold_has_not(self) -> None:
        images = {"a": counts(9, 1), "b": counts(10, 0)}
        rows = CrossValidation(("x", "y"), (("a",), ("b",)), images, (), Path()).rows()
        assert (rows[1]["iou"], rows[1]["iou_sd"], rows[1]["folds"]) == (0, None, 1)


class TestMistakes:
    def test_copies_in_two_folds(self, data: Path, tmp_path: Path) -> None:
        shutil.copytree(data, tmp_path / "data")
        shutil.copy(data / "images" / "a1.tif", tmp_path / "data" / "images" / "b1.tif")
        with pytest.raises(InputError, match=r"^\w+ in fold 2 is the same image as \w+ in fold 1; leave one of them"):
            next(fold_steps(recipe(), tmp_path / "data", tmp_path / "out", 2))
        assert not (tmp_path / "out").exists()

    def test_more_folds_than_groups(self, data: Path, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="4 folds cannot be made of 3 groups of images"):
            cross_validate(recipe(), data, tmp_path, 4)

    def test_in_several_processes(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(core_folds.Ranks, "here", lambda: core_folds.Ranks(0, 2, 0))
        with pytest.raises(SettingsError, match="folds are trained by one process; start napari-matseg without"):
            finish(fold_steps(recipe(), data, tmp_path, 2))

    def test_of_a_promptable_model(self, tmp_path: Path) -> None:
        import napari_matseg

        compact = Path(napari_matseg.__file__).parents[2] / "recipes" / "compact.yaml"
        with pytest.raises(SettingsError, match="folds are for models that know classes"):
            cross_validate(compact, tmp_path, tmp_path, 2)

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import yaml
import zarr
from PIL import Image

from napari_matseg import __version__, pipeline
from napari_matseg.core import checkpoints, synthetic
from napari_matseg.core import train as training
from napari_matseg.core.checkpoints import load_model, read_card
from napari_matseg.core.data_bar import find_data_bar
from napari_matseg.core.evaluate import evaluate
from napari_matseg.core.label_files import write_labels
from napari_matseg.core.refine import train as refine_train
from napari_matseg.core.refine.files import find_refiner
from napari_matseg.core.sam.weights import available_promptable
from napari_matseg.core.synthetic import write_demo
from napari_matseg.core.train import TrainProgress, train_steps
from napari_matseg.settings import ClassSpec, load_recipe

COMMANDS = ("demo", "segment", "evaluate", "measure", "grains", "train", "models", "info")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folder to be in, with no models of one's own."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("NAPARI_MATSEG_MODELS", str(tmp_path / "models"))
    return here


@pytest.fixture
def segment(run: Run, tiny_file: Path) -> Run:
    """Segment with the tiny model."""
    return partial(run, "segment", "--model", tiny_file, "--device", "cpu")


def put(name: str, seed: int = 0, shape: tuple[int, ...] = (48, 64)) -> Path:
    """Write a micrograph."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels)
    return path


def put_truth(name: str, seed: int = 0, shape: tuple[int, ...] = (48, 64)) -> Path:
    """Write class ids from 0 to 2."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.random.default_rng(100 + seed).integers(0, 3, shape).astype(np.uint8)
    if path.suffix == ".png":
        Image.fromarray(ids).save(path)
    else:
        tifffile.imwrite(path, ids, photometric="minisblack")
    return path


def everything() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


class TestHelp:
    @pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=str)
    def test_every_command_answers(self, run: Run, command: tuple[str, ...]) -> None:
        status, out, err = run(*command, "--help")
        assert (status, err) == (0, "")
        assert f"Usage: napari-matseg {' '.join(command)}".strip() in out

    @pytest.mark.parametrize("arguments", [("--help",), ()])
    def test_all_commands_are_named(self, run: Run, arguments: tuple[str, ...]) -> None:
        status, out, err = run(*arguments)
        assert (status, err) == (0, "")
        assert all(name in out for name in COMMANDS)

    def test_version(self, run: Run) -> None:
        assert run("--version") == (0, f"{__version__}\n", "")


class TestSegment:
    def test_writes_labels_overlay_and_record(self, segment: Run) -> None:
        image = put("data/a.tif")
        status, out, err = segment(image, "-o", "out/deep")
        assert (status, err) == (0, "")
        assert everything() - {"data", "data/a.tif", "out", "out/deep"} == {
            f"out/deep/a_{ending}" for ending in ("labels.tif", "overlay.png", "record.json")
        }
        labels = tifffile.imread("out/deep/a_labels.tif")
        assert labels.shape == (48, 64)
        assert labels.dtype == np.uint8
        assert labels.max() <= 2
        with Image.open("out/deep/a_overlay.png") as overlay:
            assert overlay.width == 64
        record = json.loads(Path("out/deep/a_record.json").read_text())
        assert record["image"]["path"] == "data/a.tif"
        assert record["model"]["name"] == "tiny"
        assert record["pixels"] == {name: int((labels == i).sum()) for i, name in enumerate(record["fractions"])}
        assert out.startswith("data/a.tif -> out/deep/a_labels.tif: matrix ")

    def test_a_folder_that_is_an_image(self, segment: Run) -> None:
        pixels = tifffile.imread(put("a.tif"))
        zarr.save_array("b.zarr", pixels)
        assert segment("a.tif", "b.zarr")[0] == 0
        np.testing.assert_array_equal(tifffile.imread("b_labels.tif"), tifffile.imread("a_labels.tif"))
        assert len(json.loads(Path("b_record.json").read_text())["image"]["sha256"]) == 64

    def test_results_go_here_unless_told_otherwise(self, segment: Run) -> None:
        put("a.tif")
        assert segment("a.tif")[0] == 0
        assert Path("a_labels.tif").is_file()

    def test_a_second_time_replaces_the_results(self, segment: Run) -> None:
        put("a.tif")
        segment("a.tif", "--tiling", "whole")
        before = tifffile.imread("a_labels.tif")
        assert segment("a.tif", "--tiling", "exact", "--tile", 64)[0] == 0
        np.testing.assert_array_equal(tifffile.imread("a_labels.tif"), before)
        assert json.loads(Path("a_record.json").read_text())["settings"]["tiling"] == "exact"

    def test_objects(self, segment: Run) -> None:
        put("a.tif")
        status, out, _ = segment("a.tif", "--instances", "--json")
        assert status == 0
        assert tifffile.imread("a_instances.tif").dtype == np.uint32
        assert json.loads(out)["images"]["a.tif"]["files"]["instances"] == "a_instances.tif"

    def test_several_images(self, segment: Run) -> None:
        put("a.tif")
        put("b.png", 1, (50, 40))
        status, out, err = segment("a.tif", "b.png", "-o", "out")
        assert (status, err) == (0, "")
        assert [line.split(" -> ")[0] for line in out.splitlines()] == ["a.tif", "b.png"]
        assert tifffile.imread("out/b_labels.tif").shape == (50, 40)

    def test_stack(self, segment: Run) -> None:
        tifffile.imwrite("a.tif", np.zeros((3, 40, 48), np.uint8), metadata={"axes": "ZYX"}, ome=True)
        truth = put_truth("t.tif", shape=(3, 40, 48))
        status, out, _ = segment("a.tif", "--truth", truth, "--json")
        assert status == 0
        assert sum(side["truth"] for side in json.loads(out)["pixels"].values()) == 3 * 40 * 48

    def test_one_bad_image_stops_nothing(self, segment: Run) -> None:
        put("a.tif")
        Path("bad.tif").write_text("no image")
        put("c.tif", 1)
        status, out, err = segment("a.tif", "bad.tif", "missing.tif", "c.tif", "-o", "out")
        assert status == 2
        assert {path.name for path in Path("out").glob("*_labels.tif")} == {"a_labels.tif", "c_labels.tif"}
        assert len(out.splitlines()) == 2
        bad, missing, summary = err.splitlines()
        assert bad.startswith("bad.tif: ")
        assert missing.startswith("missing.tif: ")
        assert summary.startswith("2 of 4 images failed, for the reasons above; the others are done.")

    def test_when_all_are_bad_there_is_nothing_to_print(self, segment: Run) -> None:
        status, out, err = segment("a.tif", "b.tif", "-o", "out", "--json")
        assert (status, out) == (2, "")
        assert len(err.splitlines()) == 3
        assert not Path("out").exists()


class TestTruth:
    def test_table(self, segment: Run) -> None:
        put("a.tif")
        put_truth("t.tif")
        status, out, err = segment("a.tif", "--truth", "t.tif", "-o", "out")
        assert (status, err) == (0, "")
        lines = out.splitlines()
        assert lines[:3] == ["out/a_labels.tif", "out/a_overlay.png", "out/a_record.json"]
        assert lines[3].split() == ["class", "iou", "dice", "precision", "recall", "pixels_truth", "pixels_prediction"]
        assert [line.split()[0] for line in lines[4:8]] == ["matrix", "a", "b", "mean"]
        assert re.fullmatch(r"pooled IoU 0\.\d{4}, pixel accuracy 0\.\d{4}", lines[8])

    def test_one_json_object(self, segment: Run) -> None:
        put("a.tif")
        put_truth("t.tif")
        status, out, err = segment("a.tif", "--truth", "t.tif", "--json")
        assert (status, err) == (0, "")
        found = json.loads(out)
        assert set(found) >= {"iou", "dice", "mean_iou", "pooled_iou"}
        assert set(found["iou"]) == set(found["dice"]) == {"matrix", "a", "b"}
        scores, _ = evaluate("a_labels.tif", "t.tif")
        assert list(found["iou"].values()) == scores.iou.tolist()
        assert list(found["dice"].values()) == scores.dice.tolist()
        assert (found["mean_iou"], found["pooled_iou"]) == (scores.mean_iou, scores.pooled_iou)
        assert found["images"]["a.tif"]["iou"] == found["iou_per_image"] == found["iou"]

    def test_several_images_are_pooled(self, segment: Run) -> None:
        pairs = [(put(f"{name}.tif", i), put_truth(f"t/{name}.tif", i)) for i, name in enumerate("ab")]
        images, truths = zip(*pairs, strict=True)
        options = [part for truth in truths for part in ("--truth", truth)]
        status, out, _ = segment(*images, *options, "-o", "out", "--json")
        assert status == 0
        found = json.loads(out)
        single = [evaluate(f"out/{name}_labels.tif", f"t/{name}.tif")[0] for name in "ab"]
        confusion = sum(scores.counts.confusion for scores in single)
        union = confusion.sum(axis=0) + confusion.sum(axis=1) - confusion.diagonal()
        assert list(found["iou"].values()) == pytest.approx(confusion.diagonal() / union)
        assert found["pooled_iou"] == pytest.approx(confusion.trace() / union.sum())
        assert list(found["iou_per_image"].values()) == pytest.approx(np.mean([one.iou for one in single], axis=0))
        _, table, _ = segment(*images, *options, "-o", "out")
        assert "IoU of a, mean over the images: 0." in table

    @pytest.mark.parametrize("options", [(), ("--keep-data-bar",)], ids=["data bar out", "data bar in"])
    def test_evaluate_finds_the_same_as_segment(self, run: Run, segment: Run, options: tuple[str, ...]) -> None:
        image, truth = write_demo(Path("a.tif"), "superalloy", shape=(96, 128))
        _, segmented, _ = segment(image, "--truth", truth, "--json", "-o", "out", *options)
        status, evaluated, err = run("evaluate", "out/a_labels.tif", truth, "--json")
        assert (status, err) == (0, "")
        expected = json.loads(segmented)
        found = json.loads(evaluated)
        found.pop("tables")
        assert {key: expected[key] for key in found} == found
        rows = 96 + (64 if options else 0)
        assert sum(side["truth"] for side in found["pixels"].values()) == rows * 128

    def test_folder(self, segment: Run) -> None:
        put("images/a.tif")
        put("images/b.tif", 1)
        put_truth("truth/a.png")
        put_truth("truth/b_mask.tif", 1)
        Path("truth/a.txt").write_text("a note")
        Path("truth/b").mkdir()
        status, out, _ = segment("images/a.tif", "images/b.tif", "--truth", "truth", "-o", "out", "--json")
        assert status == 0
        images = json.loads(out)["images"]
        assert images["images/a.tif"]["truth"] == "truth/a.png"
        assert images["images/b.tif"]["truth"] == "truth/b_mask.tif"

    def test_values_that_are_mapped_and_ignored(self, segment: Run) -> None:
        put("a.tif")
        truth = np.full((48, 64), 10, np.uint8)
        truth[:8], truth[8:16] = 20, 99
        tifffile.imwrite("t.tif", truth)
        status, out, err = segment("a.tif", "--truth", "t.tif", "--truth-map", "10=matrix,20=b,99=ignore", "--json")
        assert status == 0
        assert "10 = matrix, 20 = b, 99 = ignore" in err
        pixels = {name: side["truth"] for name, side in json.loads(out)["pixels"].items()}
        assert pixels == {"matrix": 32 * 64, "a": 0, "b": 8 * 64}

    def test_bad_truth_of_one_image(self, segment: Run) -> None:
        for i, name in enumerate("ab"):
            put(f"{name}.tif", i)
        put_truth("t/a.tif")
        put_truth("t/b.tif", shape=(48, 65))
        status, out, err = segment("a.tif", "b.tif", "--truth", "t", "-o", "out", "--json")
        assert status == 2
        assert list(json.loads(out)["images"]) == ["a.tif"]
        assert err.startswith("t/b.tif: shape (48, 65) is not that of b.tif, (48, 64)")
        assert not Path("out/b_labels.tif").exists()


class TestEvaluate:
    @pytest.fixture
    def labels(self) -> tuple[Path, Path]:
        prediction, truth = np.zeros((4, 10), np.uint8), np.zeros((4, 10), np.uint8)
        prediction[:, :4], truth[:, 2:6] = 1, 1
        tifffile.imwrite("p.tif", prediction)
        tifffile.imwrite("t.tif", truth)
        return Path("p.tif"), Path("t.tif")

    def test_json(self, run: Run, labels: tuple[Path, Path]) -> None:
        status, out, err = run("evaluate", *labels, "--json")
        assert (status, err) == (0, "")
        found = json.loads(out)
        assert found["iou"] == {"0": pytest.approx(16 / 32), "1": pytest.approx(8 / 24)}
        assert found["dice"]["1"] == pytest.approx(16 / 32)
        assert found["pooled_iou"] == pytest.approx(24 / 56)

    def test_table(self, run: Run, labels: tuple[Path, Path]) -> None:
        status, out, _ = run("evaluate", *labels)
        assert status == 0
        assert "pooled IoU 0.4286, pixel accuracy 0.6000" in out.splitlines()
        assert "boundary_f1" in out

    def test_csv(self, run: Run, labels: tuple[Path, Path]) -> None:
        assert run("evaluate", *labels, "--csv", "table.csv")[0] == 0
        with Path("table.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["class"] for row in rows] == ["0", "1", "mean"]
        assert float(rows[1]["iou"]) == 8 / 24
        assert rows[2]["pixels_truth"] == ""

    def test_classes_of_a_model(self, run: Run, labels: tuple[Path, Path], tiny_file: Path) -> None:
        _, out, _ = run("evaluate", *labels, "--model", tiny_file, "--json")
        found = json.loads(out)
        assert set(found["iou"]) == {"matrix", "a", "b"}
        assert found["iou"]["b"] is None

    def test_values_that_are_mapped(self, run: Run, labels: tuple[Path, Path]) -> None:
        Image.fromarray(tifffile.imread("t.tif") * 255).save("white.png")
        status, out, err = run("evaluate", "p.tif", "white.png", "--model", "particles", "--json")
        assert status == 0
        assert err == "white.png: 255 read as 'particle'\n"
        assert json.loads(out)["iou"]["particle"] == pytest.approx(8 / 24)
        mapped = run("evaluate", "p.tif", "white.png", "-m", "particles", "--truth-map", "0=0,255=particle", "--json")
        assert mapped[1] == out

    def test_table_that_cannot_be_written(self, run: Run, labels: tuple[Path, Path]) -> None:
        status, out, err = run("evaluate", *labels, "--csv", "missing/table.csv")
        assert (status, out) == (2, "")
        assert "there is no folder missing" in err


class TestModels:
    @pytest.fixture
    def own(self, tmp_path: Path, tiny_file: Path) -> Path:
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "mine.safetensors").write_bytes(tiny_file.read_bytes())
        return tmp_path / "models"

    def test_list(self, run: Run, own: Path) -> None:
        status, out, err = run("models")
        assert (status, err) == (0, "")
        names = [line.split()[0] for line in out.splitlines()]
        assert {"mine", "particles", "superalloy"} <= set(names)
        assert str(own) in out.splitlines()[-1]

    def test_list_as_json(self, run: Run, own: Path) -> None:
        _, out, _ = run("models", "--json")
        found = json.loads(out)
        assert found["mine"]["name"] == "tiny"
        assert found["superalloy"]["classes"][0]["name"] == "matrix"

    def test_a_damaged_file_hides_no_other(self, run: Run, own: Path) -> None:
        (own / "broken.safetensors").write_bytes(b"\0" * 100)
        status, out, err = run("models")
        assert status == 0
        assert "mine" in out
        assert len(err.splitlines()) == 1
        assert "broken.safetensors: is not a model file or is damaged" in err

    @pytest.mark.parametrize("name", ["mine", "superalloy", "particles"])
    def test_one(self, run: Run, own: Path, name: str) -> None:
        status, out, err = run("models", name)
        assert (status, err) == (0, "")
        assert out.startswith(f"# {'tiny' if name == 'mine' else name}\n")
        _, out, _ = run("models", name, "--json")
        assert json.loads(out) == read_card(name).model_dump(mode="json")

    def test_tiling_of_one(self, run: Run, own: Path) -> None:
        _, out, _ = run("models", "mine", "--tiling", "--json")
        described = json.loads(out)
        assert described["strategy"] == "staged"
        assert 0 <= described["extra_flops"] < 0.1
        assert described["why_not_staged"] is None
        assert described["kept"]
        _, out, _ = run("models", "mine", "--tiling", "--size", "64")
        assert "64 x 64 px are taken in 1 tiles" in out
        assert "strategy      whole" in out
        assert run("models", "--tiling")[0] == 2


class TestInfo:
    def test_pixel_size_and_data_bar(self, run: Run) -> None:
        image, _ = write_demo(Path("a.tif"), shape=(96, 128))
        status, out, err = run("info", image, "--json")
        assert (status, err) == (0, "")
        found = json.loads(out)
        assert found["pixel_size_nm"] == pytest.approx([2.0, 2.0])
        assert found["data_bar_rows"] == [96, 160]
        assert found["shape"] == [160, 128]
        assert found["dtype"] == "uint8"

    def test_nothing_known(self, run: Run) -> None:
        put("a.png")
        _, out, _ = run("info", "a.png", "--json")
        found = json.loads(out)
        assert found["pixel_size_nm"] is None
        assert found["data_bar_rows"] is None

    def test_a_class_at_the_edge_of_labels_is_no_data_bar(self, run: Run) -> None:
        rng = np.random.default_rng(0)
        labels = (rng.random((224, 300)) < 0.5).astype(np.uint8)
        labels[200:] = 0
        labels[208:216, 10:250:6] = labels[208:216, 11:250:6] = 1
        assert find_data_bar(labels) == (200, 224)
        write_labels(Path("a.tif"), labels, classes=[ClassSpec(name=name, colour=(0, 0, 0)) for name in ("a", "b")])
        assert json.loads(run("info", "a.tif", "--json")[1])["data_bar_rows"] is None

    def test_in_words(self, run: Run) -> None:
        put("a.png")
        status, out, _ = run("info", "a.png")
        assert status == 0
        assert re.search(r"^Pixel size +unknown$", out, re.MULTILINE)


class TestTrain:
    @pytest.fixture
    def recipe(self) -> Path:
        for i, name in enumerate("ab"):
            put(f"data/images/{name}.tif", i, (70, 80))
            put_truth(f"data/truth/{name}.tif", i, (70, 80))
        settings = {
            "name": "noise",
            "classes": [{"name": name, "colour": [i, 0, 0]} for i, name in enumerate(("matrix", "a", "b"))],
            "data": {"images": "images", "truth": "truth", "train": ["a"], "validation": ["b"]},
            "architecture": {
                "encoder": "tu-resnet10t",
                "encoder_depth": 3,
                "options": {"decoder_channels": [16, 8, 8]},
            },
            "crop": 64,
            "batch": 1,
            "steps": 2,
            "evaluate_every": 1,
            "device": "cpu",
        }
        Path("data/recipe.yaml").write_text(yaml.safe_dump(settings))
        return Path("data/recipe.yaml")

    def test_writes_a_model_that_segments(self, run: Run, recipe: Path) -> None:
        status, out, err = run("train", recipe, "-o", "out")
        assert (status, err) == (0, "")
        assert out == "out/noise.safetensors: segment with --model out/noise.safetensors\n"
        assert run("segment", "data/images/b.tif", "--model", "out/noise.safetensors", "-o", "out")[0] == 0

    def test_model_goes_to_ones_own(self, run: Run, recipe: Path, tmp_path: Path) -> None:
        recipe.rename("recipe.yaml")
        status, out, _ = run("train", "recipe.yaml", "--data", "data")
        assert status == 0
        assert out.endswith("segment with --model noise\n")
        assert load_model("noise").path == tmp_path / "models" / "noise.safetensors"

    def test_promptable_model_goes_to_those_that_take_prompts(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("mine.yaml").write_text(
            "name: mine\nstart: compact\nsources:\n"
            "- {share: 1.0, data: {images: a, truth: b, train: [c], instances: true}}\n"
        )

        def train(settings: Any, data: Path, out: Path, **_: Any) -> Generator[TrainProgress, None, Path]:
            out.mkdir(parents=True)
            shutil.copy(available_promptable()["compact"] or "", out / "mine.safetensors")
            yield TrainProgress(1, 1, "training", 0.0)
            return out / "mine.safetensors"

        monkeypatch.setattr(pipeline, "train_steps", train)
        status, out, _ = run("train", "mine.yaml")
        assert status == 0
        assert out.endswith("prompt with --model mine\n")
        assert available_promptable()["mine"] == tmp_path / "models" / "promptable" / "mine.safetensors"
        assert "mine" not in checkpoints.available()

    def test_refiner_goes_to_the_refiners(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("mine.yaml").write_text(
            "name: mine\nrefines: mine\nsources:\n"
            "- {share: 1.0, data: {images: a, truth: b, train: [c], instances: true}}\n"
        )

        def train(settings: Any, data: Path, out: Path, **_: Any) -> Generator[TrainProgress, None, Path]:
            out.mkdir(parents=True)
            shutil.copy(find_refiner("compact") or "", out / "mine.safetensors")
            yield TrainProgress(1, 1, "training", 0.0)
            return out / "mine.safetensors"

        monkeypatch.setattr(refine_train, "refine_train_steps", train)
        status, out, _ = run("train", "mine.yaml")
        assert status == 0
        assert "draws the answers of the promptable model mine again" in out
        assert find_refiner("mine") == tmp_path / "models" / "refiners" / "mine.safetensors"

    def test_promptable_model_is_described_with_its_refiner(self, run: Run) -> None:
        _, out, _ = run("models", "compact")
        assert "# compact" in out
        assert "# Refiner of compact" in out
        _, out, _ = run("models", "compact", "--json")
        assert json.loads(out)["refiner"]["refines"] == "compact"

    @pytest.mark.parametrize(("options", "first"), [((), 2), (("--fresh",), 1)])
    def test_goes_on_where_it_was(
        self, run: Run, recipe: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], first: int
    ) -> None:
        work = train_steps(load_recipe(recipe), Path("data"), Path("out"))
        next(work)
        work.close()
        done: list[int] = []
        advance = training.TrainState.advance

        def watched(state: Any, *batch: torch.Tensor) -> float:
            done.append(state.step + 1)
            return advance(state, *batch)

        monkeypatch.setattr(training.TrainState, "advance", watched)
        assert run("train", recipe, "-o", "out", *options)[0] == 0
        assert done == list(range(first, 3))

    def test_folds(self, run: Run, recipe: Path) -> None:
        status, out, err = run("train", recipe, "-o", "out", "--folds", "2", "--final")
        assert (status, err) == (0, "")
        lines = out.splitlines()
        assert sorted(lines[:2]) == ["fold 1, validated on: a", "fold 2, validated on: b"] or sorted(lines[:2]) == [
            "fold 1, validated on: b",
            "fold 2, validated on: a",
        ]
        assert lines[3].split() == ["class", "iou", "iou_sd", "dice", "dice_sd", "folds"]
        assert [line.split()[0] for line in lines[4:9]] == ["matrix", "a", "b", "mean", "pooled"]
        assert lines[-2:] == ["out/noise-folds/report.json", "out/noise.safetensors: learnt from all of them"]
        status, out, _ = run("train", recipe, "-o", "out", "--folds", "2", "--json")
        assert json.loads(out) == {
            name: value
            for name, value in json.loads(Path("out/noise-folds/report.json").read_text()).items()
            if name not in ("name", "recipe")
        }

    def test_final_alone(self, run: Run, recipe: Path) -> None:
        status, _, err = run("train", recipe, "-o", "out", "--final")
        assert (status, err) == (2, "--final goes with --folds; give both, or neither.\n")


class TestDemo:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_file: Path) -> None:
        monkeypatch.setattr(synthetic, "write_demo", partial(write_demo, shape=(96, 128)))
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "superalloy.safetensors").write_bytes(tiny_file.read_bytes())

    def test_prints_figures_and_writes_all(self, run: Run) -> None:
        status, out, err = run("demo", "--model", "superalloy")
        assert (status, err) == (0, "")
        assert "pooled IoU" in out
        assert {path.name for path in Path("napari-matseg-demo").iterdir()} == {
            f"superalloy{ending}" for ending in (".tif", "_truth.tif", "_labels.tif", "_overlay.png", "_record.json")
        }

    def test_as_json(self, run: Run) -> None:
        _, out, _ = run("demo", "--model", "superalloy", "-o", "out", "--json", "--seed", 3)
        found = json.loads(out)
        assert sum(side["truth"] for side in found["pixels"].values()) == 96 * 128  # without the data bar


MISTAKES = {
    "no such image": (["segment", "missing.tif", "-m", "MODEL"], r"missing\.tif: there is no such file"),
    "empty image": (["segment", "empty.tif", "-m", "MODEL"], r"empty\.tif: is empty"),
    "text as image": (["segment", "text.tif", "-m", "MODEL"], r"text\.tif: is not an image"),
    "folder as image": (["segment", "folder", "-m", "MODEL"], "folder: is a folder"),
    "truncated image": (["segment", "half.tif", "-m", "MODEL"], r"half\.tif: "),
    "no truth": (["segment", "a.tif", "-m", "MODEL", "--truth", "missing.tif"], r"missing\.tif: there is no such file"),
    "truth of another shape": (
        ["segment", "a.tif", "-m", "MODEL", "--truth", "wide.tif"],
        r"wide\.tif: shape \(48, 65\) is not that of a\.tif, \(48, 64\)",
    ),
    "truth with unknown values": (
        ["segment", "a.tif", "-m", "MODEL", "--truth", "b.tif"],
        r"b\.tif: the class ids are 0 to 2 .* give a mapping",
    ),
    "truth map that is none": (
        ["segment", "a.tif", "-m", "MODEL", "--truth", "t.tif", "--truth-map", "0:matrix"],
        "mapping '0:matrix': must be a pixel value",
    ),
    "too few truths": (
        ["segment", "a.tif", "b.tif", "-m", "MODEL", "--truth", "t.tif"],
        "there are 2 images but 1 truths; give --truth once per image, or a folder",
    ),
    "folder without truth": (
        ["segment", "a.tif", "-m", "MODEL", "--truth", "folder"],
        r"folder: holds no truth for a\.tif; it should be named a or a_mask",
    ),
    "two images of one name": (
        ["segment", "a.tif", "a.png", "-m", "MODEL"],
        r"a\.tif and a\.png would both give a_labels\.tif; segment them into different folders",
    ),
    "truth that would be replaced": (
        ["segment", "a.tif", "-m", "MODEL", "--truth", "a_labels.tif"],
        r"a_labels\.tif would be replaced by a result; choose another folder with --out",
    ),
    "no such model": (["segment", "a.tif", "-m", "nonsense"], "nonsense: no such model or file; the models here are"),
    "damaged model": (["segment", "a.tif", "-m", "text.tif"], r"text\.tif: is not a model file or is damaged"),
    "file for a folder": (["segment", "a.tif", "-m", "MODEL", "-o", "text.tif"], r"text\.tif: cannot be made"),
    "tiling": (["segment", "a.tif", "-m", "MODEL", "--tiling", "nonsense"], "tiling: Input should be 'auto', 'exact'"),
    "tile": (["segment", "a.tif", "-m", "MODEL", "--tile", "-5"], "tile: .* greater than or equal to 64"),
    "tile in words": (["segment", "a.tif", "-m", "MODEL", "--tile", "large"], "'--tile'"),
    "batch": (["segment", "a.tif", "-m", "MODEL", "--batch", "0"], "batch: .* greater than or equal to 1"),
    "device": (["segment", "a.tif", "-m", "MODEL", "--device", "gpu"], "device: "),
    "device that is not there": (
        ["segment", "a.tif", "-m", "MODEL", "--device", "cuda"],
        "device 'cuda' is not on this machine; choose auto or cpu",
    ),
    "precision": (["segment", "a.tif", "-m", "MODEL", "--precision", "half"], "precision: Input should be 'auto'"),
    "no image": (["segment"], "Missing argument 'IMAGE'"),
    "unknown command": (["segmnt", "a.tif"], "No such command 'segmnt'"),
    "unknown option": (["segment", "a.tif", "--modle", "x"], "No such option: --modle"),
    "option without value": (["segment", "a.tif", "-o", "out", "--model"], "--model"),
    "no prediction": (["evaluate", "missing.tif", "t.tif"], r"missing\.tif: "),
    "prediction alone": (["evaluate", "t.tif"], "Missing argument 'TRUTH'"),
    "prediction of another shape": (["evaluate", "t.tif", "wide.tif"], r"wide\.tif: has shape \(48, 65\)"),
    "too many classes": (["evaluate", "t.tif", "b.tif"], "values up to .* are too many to be classes"),
    "no recipe": (["train", "missing.yaml"], r"missing\.yaml: cannot be read"),
    "recipe that is none": (["train", "text.tif"], r"text\.tif: holds no settings"),
    "no such model to describe": (["models", "nonsense"], "nonsense: no such model"),
    "nothing to tell about": (["info", "missing.tif"], r"missing\.tif: there is no such file"),
    "no such demo": (["demo", "-m", "nonsense"], "there is a demo for particles and for superalloy, not for nonsense"),
    "seed": (["demo", "--seed", "-1"], "'--seed'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_give_one_line_and_nothing_else(
    run: Run, tiny_file: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    put("a.tif")
    put("a.png")
    put("b.tif", 1)
    put_truth("t.tif")
    put_truth("a_labels.tif")
    put_truth("wide.tif", shape=(48, 65))
    Path("empty.tif").touch()
    Path("text.tif").write_text("no image and no model\n" * 100)
    Path("half.tif").write_bytes(Path("a.tif").read_bytes()[:1000])
    Path("folder").mkdir()
    arguments, message = MISTAKES[name]
    if arguments[0] == "segment" and "-o" not in arguments and name != "truth that would be replaced":
        arguments = [*arguments, "-o", "out"]
    before = everything()
    content = Path("a_labels.tif").read_bytes()
    status, out, err = run(*(tiny_file if argument == "MODEL" else argument for argument in arguments))
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert re.search(message, err), err
    assert everything() == before
    assert Path("a_labels.tif").read_bytes() == content


def test_stopping_by_hand(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "available", stop)
    assert run("models") == (130, "", "stopped.\n")


def test_bugs_keep_their_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(checkpoints, "available", fail)
    with pytest.raises(ZeroDivisionError):
        run("models")


COMMAND = [sys.executable, "-c", "from napari_matseg.cli import main; main()"]


def test_in_a_process_of_its_own() -> None:
    done = subprocess.run([*COMMAND, "info", "missing.tif"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "missing.tif: there is no such file; check the path.\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_reader_that_has_seen_enough(monkeypatch: pytest.MonkeyPatch, unbuffered: str) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, "--version"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")

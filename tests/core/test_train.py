from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import tifffile
import timm
import torch
from scipy import ndimage

from napari_matseg import segment
from napari_matseg.core import allocator, halo, train
from napari_matseg.core.augment import crop_map
from napari_matseg.core.checkpoints import Model, load_model, read_card
from napari_matseg.core.dataset import Example
from napari_matseg.core.held_out import hold_out_regions
from napari_matseg.core.metrics import Scores, count
from napari_matseg.core.progress import finish
from napari_matseg.core.train import TrainProgress, train_steps
from napari_matseg.core.train_check import evaluate_examples
from napari_matseg.core.train_data import count_pixels, load_data
from napari_matseg.core.train_state import schedule
from napari_matseg.errors import InputError, OutputError, SettingsError
from napari_matseg.settings import TrainSettings

CLASSES = [{"name": "background", "colour": (0, 0, 0)}, {"name": "particle", "colour": (255, 0, 0)}]
UNET = {"encoder": "tu-resnet10t", "encoder_depth": 3, "options": {"decoder_channels": [16, 8, 8]}}
DEEPLAB = {
    "name": "deeplabv3plus",
    "encoder": "tu-resnet10t",
    "encoder_depth": 3,
    "options": {"decoder_channels": 8, "decoder_atrous_rates": [1, 2, 3]},
}
EASY = {"invert": 0, "scale": (0.9, 1.1), "noise": 0, "shading": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four micrographs of bright discs, with classes and objects as truth."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("images", "truth", "objects"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    y, x = np.ogrid[:80, :96]
    for number in range(4):
        objects = np.zeros((80, 96), np.uint16)
        for i, (cy, cx) in enumerate(rng.uniform((10, 10), (70, 86), (5, 2)), start=1):
            objects[np.hypot(y - cy, x - cx) < rng.uniform(8, 16)] = i
        grey = 60 + 120 * (objects > 0) + rng.normal(0, 10, objects.shape)
        tifffile.imwrite(folder / "images" / f"{number}.tif", grey.clip(0, 255).astype(np.uint8))
        tifffile.imwrite(folder / "truth" / f"{number}.tif", (objects > 0).astype(np.uint8))
        tifffile.imwrite(folder / "objects" / f"{number}.tif", objects)
    return folder


def recipe(data: dict[str, Any] | None = None, **changes: Any) -> TrainSettings:
    names = {"images": "images", "truth": "truth", "train": ("0", "1", "2"), "validation": ("3",)}
    settings: dict[str, Any] = {
        "name": "discs",
        "classes": CLASSES,
        "data": names | (data or {}),
        "architecture": UNET,
        "augment": EASY,
        "crop": 64,
        "batch": 2,
        "steps": 8,
        "evaluate_every": 4,
        "warmup_steps": 2,
        "learning_rate": 0.01,
        "average": 0.5,
        "device": "cpu",
    }
    return TrainSettings.model_validate(settings | changes)


def follow(settings: TrainSettings, data: Path, out: Path, **options: Any) -> tuple[Path, list[TrainProgress]]:
    """Train to the end; give the model file and all that was reported."""
    reports = []

    def kept() -> Iterator[Path]:
        path = yield from steps()
        yield path

    def steps() -> Any:
        work = train_steps(settings, data, out, **options)
        while True:
            try:
                reports.append(next(work))
            except StopIteration as stop:
                return stop.value
            yield reports[-1]

    *_, path = kept()
    return path, reports


def test_memory_is_kept_between_steps_and_given_back_when_they_end(data, tmp_path):
    with closing(train_steps(recipe(steps=2), data, tmp_path)) as work:
        next(work)
        assert len(allocator._holders) == 1
    assert not allocator._holders


def interrupt(settings: TrainSettings, data: Path, out: Path, after: int) -> list[TrainProgress]:
    """Train for some steps, then close the generator, as Cancel does."""
    with closing(train_steps(settings, data, out)) as work:
        return [next(work) for _ in range(after)]


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrainProgress]]:
    """A whole training."""
    settings = recipe(steps=20, evaluate_every=5, description="Discs", pixel_size_nm=3.0, average=0.8)
    return follow(settings, data, tmp_path_factory.mktemp("out"))


class TestTraining:
    def test_the_loss_falls(self, trained: tuple[Path, list[TrainProgress]]) -> None:
        _, reports = trained
        assert [report.done for report in reports] == list(range(1, 21))
        assert {report.total for report in reports} == {20}
        assert reports[-1].loss < 0.7 * reports[4].loss

    def test_it_says_how_long_it_waited_for_data(self, trained: tuple[Path, list[TrainProgress]]) -> None:
        assert all(0 < report.waiting < 1 for report in trained[1])

    @pytest.mark.parametrize("name", ["cross_entropy", "focal", "boundary", "jaccard", "dice", "tversky", "lovasz"])
    def test_each_loss_can_be_trained_with(self, data: Path, tmp_path: Path, name: str) -> None:
        term = {"name": name, "class_weights": "balanced", "boundary_width_px": 2}
        settings = recipe({"validation": ()}, losses=[term], steps=3, warmup_steps=0)
        reports = interrupt(settings, data, tmp_path, 3)
        assert all(math.isfinite(report.loss) for report in reports)
        assert min(report.loss for report in reports) > 0

    def test_balanced_weights_are_of_the_pixels_that_count(self) -> None:
        classes = np.array([[0, 0, 0, 1], [255, 255, 2, 2]], np.uint8)
        settings = recipe(classes=[{"name": name, "colour": (0, 0, 0)} for name in "abc"])
        assert count_pixels([Example("a", classes[None], classes)] * 2, settings) == [6, 2, 4]

    def test_accuracy_is_measured_when_asked(self, trained: tuple[Path, list[TrainProgress]]) -> None:
        _, reports = trained
        measured = [report for report in reports if report.accuracy is not None]
        assert [report.done for report in measured] == [5, 10, 15, 20]
        assert all(report.note.startswith("validation: mean IoU 0.") for report in measured)
        for report in measured:
            assert report.accuracy is not None
            assert set(report.accuracy["iou"]) == set(report.accuracy["iou_per_image"]) == {"background", "particle"}

    def test_card_says_what_was_done(self, trained: tuple[Path, list[TrainProgress]]) -> None:
        path, reports = trained
        card = read_card(path)
        assert (card.name, card.description, card.pixel_size_nm) == ("discs", "Discs", 3.0)
        assert TrainSettings.model_validate(card.recipe).steps == 20
        assert card.recipe["seed"] == 0
        assert (card.reach, card.halo, card.disagreement) == (47, None, None)
        best = max((report.accuracy for report in reports if report.accuracy), key=lambda one: one["mean_iou"])
        assert card.accuracy == {"validation": best | {"on": "held-out images (3)"}}

    def test_model_segments(self, trained: tuple[Path, list[TrainProgress]], data: Path) -> None:
        path, _ = trained
        result = segment(data / "images" / "3.tif", model=str(path), device="cpu")
        truth = tifffile.imread(data / "truth" / "3.tif")
        scores = Scores(count(result.classes, truth, 2))
        assert scores.iou[1] > 0.7
        validation = read_card(path).accuracy["validation"]
        assert scores.pooled_iou == pytest.approx(validation["pooled_iou"], abs=0.01)  # weights are rounded

    def test_nothing_else_is_left(self, trained: tuple[Path, list[TrainProgress]]) -> None:
        path, _ = trained
        assert [file.name for file in path.parent.iterdir()] == ["discs.safetensors"]


RESUMABLE = recipe(evaluate_every=1)


class TestResuming:
    @pytest.mark.parametrize("architecture", [UNET, DEEPLAB], ids=["unet", "deeplabv3plus"])
    def test_an_interrupted_training_ends_as_if_it_had_not_been(
        self, data: Path, tmp_path: Path, architecture: dict[str, Any]
    ) -> None:
        settings = recipe(architecture=architecture, steps=4, evaluate_every=2)
        straight, reports = follow(settings, data, tmp_path / "straight")
        interrupt(settings, data, tmp_path / "resumed", after=3)
        assert [file.name for file in (tmp_path / "resumed").iterdir()] == ["discs.resume"]
        resumed, rest = follow(settings, data, tmp_path / "resumed")
        assert [report.done for report in rest] == [3, 4]
        ones, others = load_model(straight).network.state_dict(), load_model(resumed).network.state_dict()
        assert all(torch.equal(tensor, others[name]) for name, tensor in ones.items())
        assert read_card(straight).weights_sha256 == read_card(resumed).weights_sha256
        assert [report.accuracy for report in rest] == [report.accuracy for report in reports[-2:]]

    def test_before_the_first_evaluation_it_begins_anew(self, data: Path, tmp_path: Path) -> None:
        interrupt(recipe(), data, tmp_path, after=2)
        assert not list(tmp_path.iterdir())
        assert interrupt(recipe(), data, tmp_path, after=1)[0].done == 1

    def test_interrupted_at_the_very_end(self, data: Path, tmp_path: Path) -> None:
        interrupt(recipe(steps=2), data, tmp_path, after=2)
        path, reports = follow(recipe(steps=2), data, tmp_path)
        assert not reports
        assert path.is_file()

    def test_afresh(self, data: Path, tmp_path: Path) -> None:
        interrupt(RESUMABLE, data, tmp_path, after=1)
        with closing(train_steps(RESUMABLE, data, tmp_path, resume=False)) as work:
            assert next(work).done == 1

    def test_with_other_settings(self, data: Path, tmp_path: Path) -> None:
        interrupt(RESUMABLE, data, tmp_path, after=1)
        with pytest.raises(SettingsError, match=r"discs\.resume: belongs to a training with other settings; delete it"):
            interrupt(recipe(evaluate_every=1, learning_rate=0.1), data, tmp_path, after=1)

    def test_from_a_damaged_file(self, data: Path, tmp_path: Path) -> None:
        interrupt(RESUMABLE, data, tmp_path, after=1)
        saved = tmp_path / "discs.resume"
        content = saved.read_bytes()
        for damaged in (b"", b"x" * 100, content[: len(content) // 2]):
            saved.write_bytes(damaged)
            with pytest.raises(SettingsError, match=r"discs\.resume: is damaged .*; delete it, or train without"):
                interrupt(RESUMABLE, data, tmp_path, after=1)

    def test_never_runs_code_from_the_file(self, data: Path, tmp_path: Path) -> None:
        class Exploit:
            def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
                return os.mkdir, (str(tmp_path / "trace"),)

        for content in (pickle.dumps(Exploit()), None):
            saved = tmp_path / "discs.resume"
            if content is None:
                torch.save({"settings": Exploit()}, saved)
            else:
                saved.write_bytes(content)
            with pytest.raises(SettingsError, match=r"discs\.resume: is damaged"):
                interrupt(recipe(), data, tmp_path, after=1)
        assert not (tmp_path / "trace").exists()

    def test_state_that_cannot_be_written(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError("No space left on device")

        monkeypatch.setattr(torch, "save", full)
        with pytest.raises(OutputError, match=r"discs\.resume: .* cannot be written .*free some space"):
            interrupt(RESUMABLE, data, tmp_path, after=1)


class TestStopping:
    def test_early_when_nothing_gets_better(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        always = {"mean_iou": 0.5, "pooled_iou": 0.5, "iou": {}}
        monkeypatch.setattr(train, "evaluate_examples", lambda *_: always)
        _, reports = follow(recipe(steps=40, evaluate_every=2, patience=2), data, tmp_path)
        assert reports[-1].done == 6  # the first is the best, two bring nothing

    def test_the_best_weights_are_kept(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[dict[str, torch.Tensor]] = []

        def worse_each_time(network: torch.nn.Module, *_: object) -> dict[str, Any]:
            seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
            return {"mean_iou": 1 / len(seen), "pooled_iou": 0.0, "iou": {}}

        monkeypatch.setattr(train, "evaluate_examples", worse_each_time)
        path, _ = follow(recipe(steps=2, evaluate_every=1), data, tmp_path)
        assert len(seen) == 2
        kept = load_model(path).network.state_dict()
        for name, tensor in seen[0].items():
            torch.testing.assert_close(kept[name], tensor, rtol=1e-3, atol=1e-4)
        assert read_card(path).accuracy["validation"]["mean_iou"] == 1

    def test_without_validation_the_last_weights_are_kept(self, data: Path, tmp_path: Path) -> None:
        path, reports = follow(recipe({"validation": ()}, steps=2), data, tmp_path)
        assert {report.accuracy for report in reports} == {None}
        assert read_card(path).accuracy == {}


class TestHalo:
    def test_of_a_network_that_cannot_be_staged_is_measured(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(halo, "KEPT", 32)
        monkeypatch.setattr(Model, "layers", "it looks at all of the image at once")
        path, reports = follow(recipe(steps=1), data, tmp_path)
        card = read_card(path)
        assert reports[-1].note == "measuring the halo that tiles need"
        assert card.halo is not None
        assert card.halo % 8 == 0
        assert card.disagreement is not None
        assert card.disagreement <= halo.TOLERANCE

    def test_is_not_measured_if_not_wanted(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Model, "layers", "it looks at all of the image at once")
        assert read_card(follow(recipe(steps=1, measure_halo=False), data, tmp_path)[0]).halo is None


def test_learns_how_deep_a_pixel_lies(data: Path, tmp_path: Path) -> None:
    settings = recipe({"truth": "objects", "instances": True}, distance=True, steps=2)
    path, reports = follow(settings, data, tmp_path)
    assert all(math.isfinite(report.loss) for report in reports[:2])
    model = load_model(path)
    assert model.card.distance
    result = segment(data / "images" / "3.tif", loaded=model, instances=True, device="cpu")
    assert result.instances is not None


class TestEvaluation:
    def test_pooled_and_per_image(self, make_threshold: Callable[..., Model]) -> None:
        grey = np.zeros((1, 30, 45), np.uint8)
        grey[:, :, 20:] = 200
        right = (grey[0] > 0).astype(np.uint8)
        shifted = np.roll(right, 5, axis=1)
        examples = [Example("right", grey, right), Example("shifted", grey, shifted)]
        found = evaluate_examples(make_threshold().network, examples, recipe(), torch.device("cpu"))
        # 30 x 25 px are bright, of which 30 x 20 px are bright in the shifted truth too.
        assert found["iou"]["particle"] == pytest.approx((750 + 600) / (750 + 900))
        assert found["iou_per_image"]["particle"] == pytest.approx((1 + 600 / 900) / 2)

    def test_class_that_is_nowhere_is_undefined(self, make_threshold: Callable[..., Model]) -> None:
        flat = Example("flat", np.full((1, 16, 16), 7, np.uint8), np.zeros((16, 16), np.uint8))
        found = evaluate_examples(make_threshold().network, [flat], recipe(), torch.device("cpu"))
        assert found["iou"] == found["iou_per_image"] == {"background": 1.0, "particle": None}

    def test_what_is_ignored_does_not_count(self, make_threshold: Callable[..., Model]) -> None:
        grey = np.tile(np.array([0, 200], np.uint8), (16, 8))[None]
        truth = (grey[0] > 0).astype(np.uint8)
        truth[:4] = 255
        examples = [Example("a", grey, truth)]
        found = evaluate_examples(make_threshold().network, examples, recipe(), torch.device("cpu"))
        assert found["accuracy"] == 1
        assert found["pixels"]["particle"]["truth"] == 12 * 8


@pytest.mark.parametrize("losses", [["focal"], ["jaccard", "dice"]])
def test_all_losses_train(data: Path, tmp_path: Path, losses: list[str]) -> None:
    settings = recipe(losses=[{"name": name} for name in losses], steps=2)
    reports = interrupt(settings, data, tmp_path, after=2)
    assert all(math.isfinite(report.loss) for report in reports)


def test_half_precision(data: Path, tmp_path: Path) -> None:
    (report, *_) = interrupt(recipe(precision="bfloat16"), data, tmp_path, after=1)
    (exact, *_) = interrupt(recipe(), data, tmp_path, after=1)
    assert report.loss == pytest.approx(exact.loss, rel=0.05)
    assert report.loss != exact.loss


def test_schedule_rises_in_a_line_and_falls_in_a_half_cosine() -> None:
    settings = recipe(steps=110, warmup_steps=10)
    rate = [schedule(step, settings) for step in range(111)]
    assert rate[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rate[10] == 1
    assert rate[60] == pytest.approx(0.5)
    assert rate[110] == pytest.approx(0)
    assert rate[10:] == sorted(rate[10:], reverse=True)


def test_schedule_that_is_all_warming_up() -> None:
    settings = recipe(steps=5, warmup_steps=10)
    assert [schedule(step, settings) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def two_phases(shape: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey image of two phases of unlike grey, and which is where."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal(shape), 6)
    truth = (field > 0).astype(np.uint8)
    return (100 + 60 * truth + rng.normal(0, 12, shape)).clip(0, 255).astype(np.uint8), truth


def strokes(truth: np.ndarray, n: int, seed: int) -> np.ndarray:
    """A few dots of 3 x 3 px well inside each phase: 1 for the first, 2 for the second, 0 elsewhere."""
    rng = np.random.default_rng(seed)
    painted = np.zeros_like(truth)
    for phase in (0, 1):
        inside = np.argwhere(ndimage.binary_erosion(truth == phase, iterations=3, border_value=0))
        for y, x in rng.choice(inside, n):
            painted[y - 1 : y + 2, x - 1 : x + 2] = phase + 1
    return painted


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """Folder of an image with 1 % of its pixels painted; the image, and its whole truth."""
    folder = tmp_path_factory.mktemp("painted")
    grey, truth = two_phases((128, 160), 0)
    labels = strokes(truth, 12, 1)
    assert 0.008 < (labels > 0).mean() < 0.012
    for name in ("images", "truth", "other"):
        (folder / name).mkdir()
    tifffile.imwrite(folder / "images" / "a.tif", grey)
    tifffile.imwrite(folder / "truth" / "a.tif", labels)
    tifffile.imwrite(folder / "other" / "a.tif", np.where(labels > 0, labels - 1, 255).astype(np.uint8))
    return folder, grey, truth


SPARSE = {"train": ("a",), "validation": (), "unlabelled": 0}


class TestSparseLabels:
    def test_a_percent_of_the_pixels_is_enough(
        self, painted: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path
    ) -> None:
        folder, grey, truth = painted
        settings = recipe(SPARSE | {"region": 0.3}, steps=50, evaluate_every=25, average=0.8, measure_halo=False)
        path, reports = follow(settings, folder, tmp_path)
        card = read_card(path)
        assert card.halo is None
        assert card.accuracy["validation"]["on"] == "held-out regions of the images learnt from (a), where labelled"
        result = segment(grey, model=str(path), device="cpu")
        assert Scores(count(result.classes, truth, 2)).mean_iou > 0.85
        looks = [report.look for report in reports if report.look is not None]
        assert len(looks) == 2
        assert looks[-1].name == "a"
        assert looks[-1].image_yx.shape == looks[-1].truth_yx.shape == looks[-1].predicted_yx.shape == (128, 160)
        learnt, held_out = hold_out_regions(load_data(settings, folder).train, 0.3)
        assert ((held_out[0].classes_yx == 255) | (learnt[0].classes_yx == 255)).all()

    def test_what_is_not_labelled_has_no_say(
        self, painted: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path
    ) -> None:
        folder, *_ = painted
        one, _ = follow(recipe(SPARSE, steps=2, measure_halo=False), folder, tmp_path / "one")
        other = recipe(SPARSE | {"unlabelled": 255, "truth": "other"}, steps=2, measure_halo=False)
        two, _ = follow(other, folder, tmp_path / "two")
        assert read_card(one).weights_sha256 == read_card(two).weights_sha256

    def test_crops_reach_no_farther_than_what_is_kept(self) -> None:
        settings = recipe(crop=64, augment={"scale": (0.5, 2.0), "aspect": 1.2})
        reach = train._reach(settings)
        assert 181 < reach < 220
        corners = np.array([[0, 0], [0, 63], [63, 0], [63, 63]], float)
        for seed in range(200):
            rng = np.random.default_rng(seed)
            near = np.array([500.0, 500.0])
            matrix, offset = crop_map((1000, 1000), 64, settings.augment, rng, near)
            assert np.abs(corners @ matrix.T + offset - near).max() < reach

    def test_of_weights_that_strokes_do_not_tell_apart_the_last_are_kept(
        self, painted: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scores = iter([0.7, 1.0, 0.99, 0.9])

        def evaluate(*_: object) -> dict[str, Any]:
            return {"mean_iou": next(scores), "pooled_iou": 0.0, "iou": {}}

        monkeypatch.setattr(train, "evaluate_examples", evaluate)
        settings = recipe(SPARSE | {"region": 0.3}, steps=4, evaluate_every=1, measure_halo=False)
        path, _ = follow(settings, painted[0], tmp_path)
        assert read_card(path).accuracy["validation"]["mean_iou"] == 0.99

    def test_class_without_pixels(self, painted: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
        classes = [*CLASSES, {"name": "crack", "colour": (0, 0, 9)}]
        with pytest.raises(InputError, match=r"class 'crack' has no pixel in what is to be learnt from .*label some"):
            next(train_steps(recipe(SPARSE, classes=classes), painted[0], tmp_path))

    def test_no_line_with_each_class_on_both_sides(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        (tmp_path / "truth").mkdir()
        tifffile.imwrite(tmp_path / "images" / "b.tif", np.zeros((70, 70), np.uint8))
        labels = np.zeros((70, 70), np.uint8)
        labels[30, 30], labels[40, 40] = 1, 2
        tifffile.imwrite(tmp_path / "truth" / "b.tif", labels)
        settings = recipe(SPARSE | {"train": ("b",), "region": 0.25})
        with pytest.raises(
            InputError, match=r"^b: no straight line .*; label each class in two places, or hold nothing"
        ):
            next(train_steps(settings, tmp_path, tmp_path / "out"))


class TestStoppingByHand:
    def test_the_best_so_far_is_kept_and_can_be_made_again(self, data: Path, tmp_path: Path) -> None:
        settings = recipe(steps=40, evaluate_every=20, measure_halo=False)
        stop = Event()
        work = train_steps(settings, data, tmp_path / "one", stop=stop)
        assert [next(work).done for _ in range(3)] == [1, 2, 3]
        stop.set()
        last = next(work)
        assert (last.done, last.total) == (4, 40)
        assert last.accuracy is not None
        path = finish(work)
        card = read_card(path)
        assert card.recipe == settings.model_dump(mode="json") | {"stop_after": 4}
        again, reports = follow(TrainSettings.model_validate(card.recipe), data, tmp_path / "two")
        assert [report.done for report in reports] == [1, 2, 3, 4]
        assert read_card(again).weights_sha256 == card.weights_sha256


class TestMemory:
    @pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")])
    def test_too_little(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def full(*_: object) -> None:
            raise error

        monkeypatch.setattr(train.TrainState, "advance", full)
        with pytest.raises(SettingsError, match=r"^discs: the memory is too small .* 2 crops of 64 x 64 px .*smaller"):
            next(train_steps(recipe(), data, tmp_path))

    def test_other_faults_stay_what_they_are(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("shapes differ")

        monkeypatch.setattr(train.TrainState, "advance", broken)
        with pytest.raises(RuntimeError, match="shapes differ"):
            next(train_steps(recipe(), data, tmp_path))


class TestMistakes:
    def test_no_images(self, data: Path, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="no image to train on"):
            finish(train_steps(recipe({"train": ()}), data, tmp_path / "out"))
        assert not (tmp_path / "out").exists()

    def test_image_that_is_not_there(self, data: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"images.9: there is no such image"):
            finish(train_steps(recipe({"train": ("9",)}), data, tmp_path / "out"))
        assert not (tmp_path / "out").exists()

    def test_folder_that_cannot_be_made(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="file: cannot be made"):
            finish(train_steps(recipe(), data, tmp_path / "file"))

    def test_folder_that_may_not_be_written_to(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(OutputError, match="may not be written to; choose another folder"):
            next(train_steps(recipe(), data, tmp_path))

    def test_crop_that_the_network_cannot_take(self, data: Path, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="crop: 100 is no multiple of 8, the stride of the network"):
            next(train_steps(recipe(crop=100), data, tmp_path))


def test_pretrained_encoder_is_in_the_card(data: Path, tmp_path: Path) -> None:
    weights = timm.create_model("resnet10t").state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    more = {
        "learning_rate": 1e-6,
        "average": 0,
        "measure_halo": False,
        "encoder_weights": str(tmp_path / "weights.pth"),
    }
    settings = recipe(steps=1, **more)
    path, _ = follow(settings, data, tmp_path)
    model = load_model(path)
    assert model.card.pretrained is not None
    assert model.card.pretrained.weights == "weights.pth"
    assert "Encoder began with: weights.pth weights of tu-resnet10t" in model.card.to_markdown()
    kept = model.network.state_dict()["encoder.model.layer1.0.conv1.weight"]
    torch.testing.assert_close(kept, weights["layer1.0.conv1.weight"], rtol=0, atol=1e-3)

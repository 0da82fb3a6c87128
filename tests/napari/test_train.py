from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_matseg._napari import train_job
from napari_matseg._napari.layers import classes_layer
from napari_matseg._napari.segment import SegmentWidget
from napari_matseg._napari.train import TrainWidget
from napari_matseg._napari.train_preview import AugmentPreview
from napari_matseg.core import train as core_train
from napari_matseg.core.checkpoints import available, read_card
from napari_matseg.core.progress import Progress
from napari_matseg.pipeline import train
from napari_matseg.settings import ClassSpec, load_recipe
from napari_matseg.settings.budgets import BUDGETS, Budget

Wait = Callable[[Any], None]
Open = Callable[..., TrainWidget]
RNG = np.random.default_rng(0)
TRUTH = (np.indices((96, 128)).sum(0) % 40 < 20).astype(np.uint8)
GREY = (60 + 90 * TRUTH + RNG.normal(0, 8, TRUTH.shape)).astype(np.uint8)


def strokes() -> np.ndarray:
    """Some of the pixels of both classes, all over the image: 1 and 2."""
    painted = np.zeros_like(TRUTH)
    painted[4::12] = TRUTH[4::12] + 1
    return painted


@pytest.fixture
def folder(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the user's models, with one that is called "tiny"."""
    own = tmp_path / "models"
    shutil.copytree(models, own)
    monkeypatch.setenv("NAPARI_MATSEG_MODELS", str(own))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return own


@pytest.fixture
def quick(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a size that is soon done."""
    size = Budget(
        crop=64,
        steps=4,
        width=4,
        batch=2,
        encoder="tu-resnet10t",
        learning_rate=3e-3,
        average=0.5,
        evaluate_every=2,
        warmup_steps=1,
    )
    monkeypatch.setitem(BUDGETS, "fast", size)


@pytest.fixture
def open_widget(qtbot: Any, quick: None) -> Iterator[Open]:
    """Open the widget over these layers, without the window, which takes longer than most tests."""
    opened: list[TrainWidget] = []

    def open_(*layers: Layer) -> TrainWidget:
        viewer = ViewerModel()
        for layer in layers:
            viewer.add_layer(layer)
        widget = TrainWidget(viewer)
        qtbot.addWidget(widget)
        widget.form.device.setCurrentIndex(widget.form.device.findData("cpu"))
        opened.append(widget)
        return widget

    yield open_
    for widget in opened:
        widget.close_job()


def painted_layers() -> tuple[Layer, Layer]:
    return Image(GREY, name="steel", scale=(4, 4), units=("nm", "nm")), Labels(strokes(), name="mine")


@pytest.fixture
def painted(open_widget: Open) -> TrainWidget:
    widget = open_widget(*painted_layers())
    widget.form.name.setText("mine")
    return widget


@pytest.fixture
def docked(make_napari_viewer: Any, quick: None) -> TrainWidget:
    """Open the widget in the window of a viewer."""
    viewer = make_napari_viewer()
    for layer in painted_layers():
        viewer.add_layer(layer)
    _, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Train")
    assert isinstance(widget, TrainWidget)
    widget.form.name.setText("mine")
    return widget


def set_steps(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    monkeypatch.setitem(BUDGETS, "fast", BUDGETS["fast"].model_copy(update={"steps": steps, "evaluate_every": steps}))


def said(widget: TrainWidget) -> str:
    return widget.run_bar.message.text()


def test_from_painting_to_a_model_in_the_list(docked: TrainWidget, wait_for: Wait, folder: Path) -> None:
    _, segment = docked._viewer.window.add_plugin_dock_widget("napari-matseg", "Segment micrograph")
    assert segment.model.findData("mine") < 0
    docked.classes.rename(1, "matrix")
    docked.classes.rename(2, "pore")
    docked.run_bar.run_button.click()
    assert not docked._fields.isVisibleTo(docked)
    wait_for(docked)
    card = read_card("mine")
    assert [spec.name for spec in card.classes] == ["matrix", "pore"]
    colours = [tuple(round(255 * float(c)) for c in docked._viewer.layers["mine"].get_color(i)[:3]) for i in (1, 2)]
    assert [spec.colour for spec in card.classes] == colours
    assert card.pixel_size_nm == 4
    assert card.recipe["data"]["unlabelled"] == 0
    assert "held-out regions of the images learnt from (steel)" in said(docked)
    assert [row[0] for row in docked.live.history] == [1, 2, 3, 4]
    assert docked.live.picture.pixmap().width() > 300
    assert segment.model.findData("mine") >= 0
    assert docked._fields.isVisibleTo(docked)
    assert sorted(path.name for path in folder.iterdir()) == ["mine.safetensors", "tiny.safetensors"]
    docked.segment_button.click()
    assert isinstance(segment, SegmentWidget)
    assert segment.model.model == "mine"
    assert not [path for path in folder.parent.iterdir() if path.name.startswith("napari-matseg-")]


@pytest.fixture
def alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings compute alike in all threads: what other tests and libraries set in one changes the last bits."""
    import torch

    plain = core_train._train

    def counted(*arguments: Any) -> Generator[core_train.TrainProgress, None, Path]:
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        return (yield from plain(*arguments))

    monkeypatch.setattr(core_train, "_train", counted)


@pytest.mark.usefixtures("alike")
def test_recipe_makes_the_same_model(painted: TrainWidget, wait_for: Wait, tmp_path: Path) -> None:
    painted.run_bar.run_button.click()
    wait_for(painted)
    out = tmp_path / "recipe"
    out.mkdir()
    path = painted.save(out)
    assert sorted(file.relative_to(out).as_posix() for file in out.rglob("*.*")) == [
        "mine.yaml",
        "mine_data/images/steel.tif",
        "mine_data/labels/steel.tif",
    ]
    with ThreadPoolExecutor(1) as pool:  # in a thread of its own, as the widget does
        again = pool.submit(train, path, out, tmp_path / "again").result()
    assert read_card(again).weights_sha256 == read_card("mine").weights_sha256


def test_recipe_of_what_has_not_been_trained(
    painted: TrainWidget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    painted.form.size.setCurrentIndex(1)
    painted.recipe_button.click()
    assert "napari-matseg train" in said(painted)
    settings = load_recipe(tmp_path / "mine.yaml")
    assert settings.steps == BUDGETS["balanced"].steps
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    painted.form.name.setText("other")
    painted.recipe_button.click()
    assert not (tmp_path / "other.yaml").exists()


def test_stop_keeps_the_best_and_its_recipe_says_where(
    painted: TrainWidget, wait_for: Wait, qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_steps(monkeypatch, 500)
    painted.run_bar.run_button.click()
    qtbot.waitUntil(lambda: len(painted.live.history) > 2, timeout=120_000)
    painted.run_bar.stop_button.click()
    assert not painted.run_bar.pause_button.isEnabled()
    wait_for(painted)
    steps = read_card("mine").recipe["stop_after"]
    assert 2 < steps < 500
    assert painted.live.history[-1][0] == steps
    assert load_recipe(painted.save(tmp_path)).stop_after == steps


def test_pause_and_cancel(
    painted: TrainWidget, wait_for: Wait, qtbot: Any, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    set_steps(monkeypatch, 500)
    painted.run_bar.run_button.click()
    qtbot.waitUntil(lambda: len(painted.live.history) > 0, timeout=120_000)
    painted.run_bar.pause_button.click()
    qtbot.waitUntil(lambda: "paused" in painted.run_bar.note.text(), timeout=20_000)
    qtbot.wait(300)
    before = len(painted.live.history)
    qtbot.wait(400)
    assert len(painted.live.history) == before
    assert painted.run_bar.pause_button.text() == "Resume"
    painted.run_bar.pause_button.click()
    qtbot.waitUntil(lambda: len(painted.live.history) > before + 3, timeout=60_000)
    assert "s each: " in painted.run_bar.note.text()
    painted.run_bar.pause_button.click()
    painted.run_bar.cancel_button.click()
    wait_for(painted)
    assert said(painted) == "Cancelled; nothing was changed."
    assert [path.name for path in folder.iterdir()] == ["tiny.safetensors"]
    assert not [path for path in folder.parent.iterdir() if path.name.startswith("napari-matseg-")]


def test_closing_the_dock_ends_the_training(
    docked: TrainWidget, qtbot: Any, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    closed = []

    def endless(*_: Any, **__: Any) -> Generator[Progress, None, Path]:
        try:
            while True:
                time.sleep(0.01)
                yield core_train.TrainProgress(1, 9, "", 1.0)
        finally:
            closed.append(True)

    monkeypatch.setattr(train_job, "train_steps", endless)
    docked.run_bar.run_button.click()
    qtbot.waitUntil(lambda: len(docked.live.history) > 0, timeout=120_000)
    docked._viewer.window.remove_dock_widget(docked)
    qtbot.waitUntil(lambda: not docked._job.running, timeout=20_000)
    assert closed
    assert [path.name for path in folder.iterdir()] == ["tiny.safetensors"]


def test_too_little_memory_is_a_sentence(painted: TrainWidget, wait_for: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(core_train.TrainState, "advance", full)
    painted.run_bar.run_button.click()
    wait_for(painted)
    assert "the memory is too small to learn from 2 crops of 64 x 64 px" in said(painted)
    assert painted._fields.isVisibleTo(painted)


def test_begin_with_another_model(painted: TrainWidget, wait_for: Wait) -> None:
    painted.form.start.model = "tiny"
    assert not painted.form.network.isEnabled()
    assert "U-Net with tu-resnet10t, decoder 16-8-8" in painted.form.about.text()
    painted.run_bar.run_button.click()
    wait_for(painted)
    card = read_card("mine")
    assert card.recipe["start"] == "tiny"
    assert card.architecture == read_card("tiny").architecture


class TestLayers:
    def test_new_layer_lies_on_the_image(self, open_widget: Open) -> None:
        widget = open_widget(Image(GREY, name="steel", scale=(4, 5), translate=(7, 8), units=("nm", "nm")))
        assert widget.layers.layers == []
        widget.layers.new_button.click()
        layer = widget._viewer.layers["steel painted"]
        np.testing.assert_array_equal(layer.scale, (4, 5))
        np.testing.assert_array_equal(layer.translate, (7, 8))
        assert (layer.mode, layer.data.shape) == ("paint", (96, 128))
        assert widget.layers.layers == [layer]

    def test_without_images_there_is_nothing_to_paint_over(self, open_widget: Open) -> None:
        widget = open_widget()
        widget.layers.new_button.click()
        assert not widget._viewer.layers

    def test_classes_follow_the_brush(self, painted: TrainWidget, qtbot: Any) -> None:
        assert list(painted.classes.classes()) == [1, 2]
        painted.classes.rename(2, "pore")
        layer = painted._viewer.layers["mine"]
        layer.brush_size, layer.selected_label = 5, 4
        layer.paint((40, 40), 4)
        qtbot.waitUntil(lambda: len(painted.classes.classes()) == 3, timeout=5_000)
        assert [spec.name for spec in painted.classes.classes().values()] == ["class 1", "pore", "class 4"]
        painted._viewer.layers.remove("mine")
        assert painted.classes.classes() == {}

    def test_all_of_a_truth(self, open_widget: Open, wait_for: Wait) -> None:
        specs = (ClassSpec(name="matrix", colour=(1, 2, 3)), ClassSpec(name="pore", colour=(255, 0, 0)))
        data, kwargs, _ = classes_layer(TRUTH, specs, "truth", {})
        widget = open_widget(Image(GREY, name="steel"), Labels(data, **kwargs))
        assert not widget.layers.sparse
        assert tuple(widget.classes.classes().values()) == specs
        settings = widget.asked().settings
        assert settings.classes == specs
        assert settings.data.unlabelled is None

    def test_results_are_not_learnt_from_unasked(self, open_widget: Open) -> None:
        specs = (ClassSpec(name="matrix", colour=(1, 2, 3)), ClassSpec(name="pore", colour=(255, 0, 0)))
        data, kwargs, _ = classes_layer(TRUTH, specs, "result", {}, record={"job": "segment"})
        widget = open_widget(Image(GREY), Labels(data, **kwargs))
        assert widget.layers.layers == []

    def test_whole_images_are_held_out(self, open_widget: Open) -> None:
        layers = [Image(GREY, name="a"), Image(GREY[::-1], name="b")]
        widget = open_widget(*layers, Labels(strokes(), name="on a"), Labels(strokes()[::-1].copy(), name="on b"))
        rows = widget.layers._rows
        rows[0].image.layer, rows[1].image.layer = layers[0], layers[1]
        assert "a region of each image" in widget.form.held_out.text()
        rows[1].hold_out.setChecked(True)
        assert "Judged by 1 of 2 images" in widget.form.held_out.text()
        data = widget.asked().settings.data
        assert (data.train, data.validation, data.region) == (("a",), ("b",), None)
        widget.form.hold_out.setChecked(False)
        data = widget.asked().settings.data
        assert (data.train, data.validation, data.region) == (("a", "b"), (), None)
        assert "Nothing is held out" in widget.form.held_out.text()

    def test_planes_of_a_stack(self, open_widget: Open) -> None:
        labels = np.stack([strokes(), 0 * strokes(), strokes()])
        widget = open_widget(Image(np.stack([GREY] * 3), name="stack"), Labels(labels))
        assert widget.asked().settings.data.train == ("stack plane 0", "stack plane 2")


class TestMistakes:
    def test_nothing_is_there(self, open_widget: Open) -> None:
        widget = open_widget()
        widget.run_bar.run_button.click()
        assert "there is nothing to learn from; tick a labels layer, or add one and paint in it." in said(widget)
        widget.sources.setCurrentWidget(widget.folders)
        widget.run_bar.run_button.click()
        assert "choose a folder of images and one of their truths" in said(widget)

    @pytest.mark.parametrize(("name", "words"), [("tiny", "there is a model of that name"), ("a b", "only letters")])
    def test_name(self, painted: TrainWidget, name: str, words: str) -> None:
        painted.form.name.setText(name)
        painted.run_bar.run_button.click()
        assert words in said(painted)

    def test_one_class(self, open_widget: Open) -> None:
        widget = open_widget(Image(GREY), Labels(TRUTH))
        widget.run_bar.run_button.click()
        assert "a model needs two classes or more, and there is class 1; paint another one, too." in said(widget)

    def test_two_classes_of_the_same_name(self, painted: TrainWidget) -> None:
        painted.classes.rename(1, "pore")
        painted.classes.rename(2, "pore")
        painted.run_bar.run_button.click()
        assert "two classes have the same name; give each its own" in said(painted)

    def test_image_of_another_shape(self, open_widget: Open) -> None:
        widget = open_widget(Image(GREY[:50]), Labels(strokes(), name="mine"))
        widget.layers._rows[0].use.setChecked(True)
        widget.run_bar.run_button.click()
        assert "mine: choose the image that it is painted over, of the same shape." in said(widget)

    def test_image_that_is_painted_over_twice(self, open_widget: Open) -> None:
        widget = open_widget(Image(GREY, name="steel"), Labels(strokes()), Labels(strokes()))
        widget.run_bar.run_button.click()
        assert "steel: two ticked layers are painted over it; untick one." in said(widget)

    def test_objects_are_no_classes(self, open_widget: Open) -> None:
        widget = open_widget(Image(GREY), Labels(np.arange(GREY.size).reshape(GREY.shape), name="ids"))
        assert "these are objects; untick it" in widget.form.held_out.text()

    def test_nothing_left_to_learn_from(self, open_widget: Open) -> None:
        widget = open_widget(Image(GREY), Image(GREY), Labels(strokes()), Labels(strokes()))
        for row, image in zip(widget.layers._rows, ("GREY", "GREY [1]"), strict=True):
            row.image.layer = widget._viewer.layers[0 if image == "GREY" else 1]
            row.hold_out.setChecked(True)
        widget.run_bar.run_button.click()
        assert "every image is held out; let one be learnt from." in said(widget)


class TestFolders:
    @pytest.fixture
    def files(self, tmp_path: Path) -> Path:
        for name in ("images", "truth"):
            (tmp_path / name).mkdir()
        for number in range(4):
            tifffile.imwrite(tmp_path / "images" / f"{number}.tif", np.roll(GREY, number, 1))
            tifffile.imwrite(tmp_path / "truth" / f"{number}_mask.tif", np.roll(TRUTH, number, 1) * 255)
        return tmp_path

    def test_are_matched_and_learnt_from(self, open_widget: Open, files: Path, qtbot: Any, wait_for: Wait) -> None:
        widget = open_widget()
        widget.sources.setCurrentWidget(widget.folders)
        widget.folders.images.path = files / "images"
        widget.folders.truth.path = files / "truth"
        qtbot.waitUntil(lambda: widget.folders.found is not None, timeout=20_000)
        assert "4 image(s) with a truth" in widget.folders.note.text()
        assert "Judged by 1 of 4 images" in widget.form.held_out.text()
        widget.classes.rename(1, "pore")
        widget.form.name.setText("mine")
        data = widget.asked().settings.data
        assert data.train == ("0.tif", "1.tif", "2.tif", "3.tif")
        assert (data.validation, data.truth_suffix, data.unlabelled) == (0.25, "_mask", None)
        widget.run_bar.run_button.click()
        wait_for(widget)
        assert [spec.name for spec in read_card("mine").classes] == ["background", "pore"]
        widget.folders.sparse.setChecked(True)
        widget.run_bar.run_button.click()
        assert "a model needs two classes or more" in said(widget)

    def test_that_do_not_match(self, open_widget: Open, files: Path, qtbot: Any) -> None:
        (files / "truth" / "2_mask.tif").unlink()
        widget = open_widget()
        widget.sources.setCurrentWidget(widget.folders)
        widget.folders.images.path = files / "images"
        widget.folders.truth.path = files / "truth"
        qtbot.waitUntil(lambda: "no truth for 2.tif" in widget.folders.note.text(), timeout=20_000)
        assert widget.classes.classes() == {}


def test_preview_shows_crops(painted: TrainWidget) -> None:
    painted.form.preview_button.click()
    (dialogue,) = (w for w in QApplication.topLevelWidgets() if isinstance(w, AugmentPreview))
    first = [axes.images[0].get_array() for axes in dialogue._figure.axes]
    assert len(first) == 8
    dialogue._others()
    assert not np.array_equal(first[0], dialogue._figure.axes[0].images[0].get_array())
    dialogue.close()


def test_sizes_say_what_they_stand_for(painted: TrainWidget) -> None:
    painted.form.size.setCurrentIndex(painted.form.size.findData("balanced"))
    assert "1200 steps of 8 crops of 256 x 256 px; U-Net with resnet18" in painted.form.about.text()
    painted.form.network.setCurrentIndex(painted.form.network.findData("segformer"))
    assert "SegFormer with mit_b0" in painted.form.about.text()
    painted.form.encoder.setCurrentText("mit_b1")
    assert painted.asked().settings.architecture.encoder == "mit_b1"


def test_names_that_are_offered_are_free(painted: TrainWidget) -> None:
    painted.form.suggest("tiny")
    assert painted.form.name.placeholderText() == "tiny-2"
    assert "tiny-2" not in available()

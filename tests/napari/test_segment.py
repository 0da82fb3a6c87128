from __future__ import annotations

import gc
import json
import threading
import weakref
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image, Labels, Layer
from qtpy.QtWidgets import QFileDialog

from napari_matseg._napari import models as skin_models
from napari_matseg._napari import segment as module
from napari_matseg._napari.layers import KEY, image_layer
from napari_matseg._napari.models import BROWSE, LoadedModels
from napari_matseg._napari.segment import SegmentWidget
from napari_matseg._napari.summary import summarise
from napari_matseg.core.checkpoints import read_card
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import Progress
from napari_matseg.core.synthetic import write_demo
from napari_matseg.pipeline import Segmentation, segment, segment_steps
from napari_matseg.settings import ClassSpec

Wait = Callable[[Any], None]
Notified = Callable[[], list[str]]
Open = Callable[..., SegmentWidget]


@pytest.fixture
def open_widget(make_napari_viewer: Any, tiny: str) -> Open:
    """Open the widget in a viewer with these layers, with the tiny model on the CPU."""

    def open_(*layers: Layer) -> SegmentWidget:
        viewer = make_napari_viewer()
        for layer in layers:
            viewer.add_layer(layer)
        _, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Segment micrograph")
        assert isinstance(widget, SegmentWidget)
        widget.model.model = tiny
        widget.device.setCurrentIndex(widget.device.findData("cpu"))
        return widget

    return open_


class Gate:
    """Holds segmentations after their first tile, and counts how many tiles they did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tiles = 0
        self.open = threading.Event()
        self.closed = threading.Event()
        monkeypatch.setattr(module, "segment_steps", self._steps)

    def _steps(self, *args: Any, **kwargs: Any) -> Generator[Progress, None, Segmentation]:
        inner = segment_steps(*args, **kwargs)
        try:
            while True:
                try:
                    step = next(inner)
                except StopIteration as stop:
                    return stop.value
                self.tiles += step.done > 0
                yield step
                if self.tiles:
                    assert self.open.wait(60)
        finally:
            inner.close()
            self.closed.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


def test_result_lies_on_the_image_with_names_colours_and_record(
    open_widget: Open, wait_for: Wait, noise: np.ndarray
) -> None:
    image = Image(
        noise,
        name="steel",
        scale=(4.0, 5.0),
        translate=(100, -50),
        rotate=30,
        shear=[0.2],
        affine=[[0, 2, 7], [-1, 0, 8], [0, 0, 1]],
        units=("nm", "nm"),
        axis_labels=("y", "x"),
    )
    widget = open_widget(image)
    assert widget.result_name.placeholderText() == "steel tiny"
    widget.run_bar.run_button.click()
    wait_for(widget)
    result = widget._viewer.layers["steel tiny"]
    assert isinstance(result, Labels)
    expected = segment(noise, model="tiny", device="cpu")
    assert len(np.unique(expected.classes)) > 1, "a model that finds nothing shows nothing"
    np.testing.assert_array_equal(result.data, expected.classes)
    for corner in ((0, 0), (95, 0), (0, 159), (95, 159)):
        np.testing.assert_allclose(result.data_to_world(corner), image.data_to_world(corner), rtol=0, atol=1e-9)
    assert result.units == image.units
    assert result.axis_labels == image.axis_labels
    np.testing.assert_array_equal(result.get_color(1), (1, 0, 0, 1))
    assert list(result.features["class"]) == ["matrix", "pore", "crack"]
    known = result.metadata[KEY]
    assert json.loads(json.dumps(known)) == known
    assert known["record"]["image"]["pixel_size_nm"] == [4.0, 5.0]
    assert known["record"]["model"]["weights_sha256"] == read_card("tiny").weights_sha256
    assert known["pixel_size_nm"] == [4.0, 5.0]


def test_summary_says_what_came_out(open_widget: Open, wait_for: Wait, noise: np.ndarray) -> None:
    widget = open_widget(Image(noise))
    widget.run_bar.run_button.click()
    assert not widget.run_bar.run_button.isEnabled()
    assert widget.run_bar.cancel_button.isEnabled()
    wait_for(widget)
    text = widget.run_bar.message.text()
    assert "pore" in text
    assert "%" in text
    assert "160 x 96 px in" in text
    assert "1 tile)" in text
    assert widget.run_bar.run_button.isEnabled()
    assert not widget.run_bar.cancel_button.isEnabled()


IMAGES: dict[str, Callable[[np.ndarray], tuple[Image, Micrograph]]] = {
    "rgb": lambda g: (lambda d: (Image(d), Micrograph(d, "YXS")))(np.stack([g, g[::-1], g], axis=-1)),
    "rgba": lambda g: (lambda d: (Image(d), Micrograph(d[..., :3], "YXS")))(np.stack([g, g[::-1], g, g], axis=-1)),
    "stack": lambda g: (lambda d: (Image(d), Micrograph(d, "ZYX")))(np.stack([g, g[::-1], 255 - g])),
    "dask": lambda g: (Image(da.from_array(g, chunks=50)), Micrograph(g)),
    "pyramid": lambda g: (Image([g, g[::2, ::2]], multiscale=True), Micrograph(g)),
    "float with gaps": lambda g: (lambda d: (Image(d), Micrograph(d)))(np.where(g > 250, np.nan, g / 255)),
    "16 bit": lambda g: (lambda d: (Image(d), Micrograph(d)))(g.astype(np.uint16) * 200),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_kinds_of_images(open_widget: Open, wait_for: Wait, noise: np.ndarray, kind: str) -> None:
    image, micrograph = IMAGES[kind](noise)
    widget = open_widget(image)
    widget.run()
    wait_for(widget)
    assert len(widget._viewer.layers) == 2, widget.run_bar.message.text()
    np.testing.assert_array_equal(
        widget._viewer.layers[-1].data, segment(micrograph, model="tiny", device="cpu").classes
    )


def test_cancel_acts_within_one_tile_and_changes_nothing(
    open_widget: Open, wait_for: Wait, qtbot: Any, gate: Gate, noise: np.ndarray
) -> None:
    widget = open_widget(Image(noise))
    widget.tiling.setCurrentIndex(widget.tiling.findData("blend"))
    widget.tile.setValue(64)
    widget.run_bar.run_button.click()
    qtbot.waitUntil(lambda: gate.tiles == 1, timeout=120_000)
    qtbot.waitUntil(lambda: "1 of" in widget.run_bar.note.text(), timeout=5000)
    widget.run_bar.cancel_button.click()
    gate.open.set()
    wait_for(widget)
    assert gate.tiles <= 2
    assert gate.closed.is_set()
    assert len(widget._viewer.layers) == 1
    assert "Cancelled" in widget.run_bar.message.text()
    widget.run()
    wait_for(widget)
    assert len(widget._viewer.layers) == 2


def test_image_removed_while_running(
    open_widget: Open, wait_for: Wait, qtbot: Any, gate: Gate, noise: np.ndarray
) -> None:
    widget = open_widget(Image(noise, name="gone", scale=(2, 2)))
    widget.run()
    qtbot.waitUntil(lambda: gate.tiles == 1, timeout=120_000)
    widget._viewer.layers.clear()
    gate.open.set()
    wait_for(widget)
    (result,) = widget._viewer.layers
    assert result.name == "gone tiny"
    np.testing.assert_array_equal(result.scale, (2, 2))


def test_image_moved_while_running(
    open_widget: Open, wait_for: Wait, qtbot: Any, gate: Gate, noise: np.ndarray
) -> None:
    widget = open_widget(Image(noise))
    widget.run()
    qtbot.waitUntil(lambda: gate.tiles == 1, timeout=120_000)
    widget._viewer.layers[0].translate = (10, 20)
    gate.open.set()
    wait_for(widget)
    np.testing.assert_array_equal(widget._viewer.layers[-1].translate, (10, 20))


def test_image_replaced_while_running(
    open_widget: Open, wait_for: Wait, qtbot: Any, gate: Gate, noise: np.ndarray
) -> None:
    widget = open_widget(Image(noise, scale=(2, 2)))
    widget.run()
    qtbot.waitUntil(lambda: gate.tiles == 1, timeout=120_000)
    layer = widget._viewer.layers[0]
    layer.data, layer.scale = noise[:50], (3, 3)
    gate.open.set()
    wait_for(widget)
    result = widget._viewer.layers[-1]
    assert result.data.shape == noise.shape
    np.testing.assert_array_equal(result.scale, (2, 2))


def test_dock_closed_while_running(
    open_widget: Open, wait_for: Wait, qtbot: Any, gate: Gate, noise: np.ndarray
) -> None:
    widget = open_widget(Image(noise))
    viewer = widget._viewer
    widget.run()
    qtbot.waitUntil(lambda: gate.tiles == 1, timeout=120_000)
    viewer.window.remove_dock_widget(widget)
    gate.open.set()
    wait_for(widget)
    assert len(viewer.layers) == 1
    assert len(widget._models._models) == 0
    viewer.add_image(noise)  # the closed widget takes no notice
    assert widget.image.count() == 1
    widget.deleteLater()


def test_closed_dock_is_forgotten(open_widget: Open, wait_for: Wait, noise: np.ndarray) -> None:
    widget = open_widget(Image(noise))
    viewer = widget._viewer
    widget.run()
    wait_for(widget)
    gone = weakref.ref(widget)
    viewer.window.remove_dock_widget(widget)
    del widget
    gc.collect()
    assert gone() is None


def test_data_bar_is_found_where_napari_read_the_file(open_widget: Open, wait_for: Wait, tmp_path: Path) -> None:
    path, _ = write_demo(tmp_path / "demo.tif", shape=(64, 96))
    widget = open_widget()
    widget._viewer.open(path, plugin="napari")
    widget.run()
    wait_for(widget)
    assert "rows 64 to 127" in widget.run_bar.message.text()
    assert widget._viewer.layers[-1].metadata[KEY]["record"]["image"]["path"] == str(path)
    np.testing.assert_array_equal(widget._viewer.layers[-1].data, segment(path, model="tiny", device="cpu").classes)


def test_viewer_closed_while_running(open_widget: Open, qtbot: Any, gate: Gate, noise: np.ndarray) -> None:
    widget = open_widget(Image(noise))
    widget.run()
    qtbot.waitUntil(lambda: gate.tiles == 1, timeout=120_000)
    widget._viewer.close()
    gate.open.set()
    qtbot.wait(200)


def test_model_is_kept_between_runs(
    open_widget: Open, wait_for: Wait, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = skin_models.load_model
    monkeypatch.setattr(skin_models, "load_model", lambda *args: loads.append(args) or load(*args))
    widget = open_widget(Image(noise))
    for _ in range(2):
        widget.run()
        wait_for(widget)
    assert len(loads) == 1
    widget._viewer.window.remove_dock_widget(widget)
    assert len(widget._models._models) == 0
    widget.deleteLater()


def test_only_the_last_models_are_kept(models: Path, tmp_path: Path) -> None:
    content = (models / "tiny.safetensors").read_bytes()
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path in paths:
        path.write_bytes(content)
    loaded = LoadedModels(most=2)
    first = loaded.get(str(paths[0]), "cpu")
    loaded.get(str(paths[1]), "cpu")
    assert loaded.get(str(paths[0]), "cpu") is first
    loaded.get(str(paths[2]), "cpu")
    assert loaded.get(str(paths[0]), "cpu") is first
    assert len(loaded._models) == 2
    paths[0].touch()
    assert loaded.get(str(paths[0]), "cpu") is not first


def test_nothing_is_ever_overwritten(open_widget: Open, wait_for: Wait, noise: np.ndarray) -> None:
    mine = Labels(np.ones((96, 160), np.uint8), name="steel tiny")
    widget = open_widget(Image(noise, name="steel"), mine)
    for _ in range(2):
        widget.run()
        wait_for(widget)
    assert [layer.name for layer in widget._viewer.layers] == [
        "steel",
        "steel tiny",
        "steel tiny [1]",
        "steel tiny [2]",
    ]
    assert widget._viewer.layers["steel tiny"] == mine
    assert mine.data.all()


def test_name_that_the_user_gives(open_widget: Open, wait_for: Wait, noise: np.ndarray) -> None:
    widget = open_widget(Image(noise))
    widget.result_name.setText(" pores ")
    widget.run()
    wait_for(widget)
    assert "pores" in widget._viewer.layers


def test_objects_become_a_layer_too(open_widget: Open, wait_for: Wait, noise: np.ndarray) -> None:
    stack = np.stack([noise, noise[::-1]])
    widget = open_widget(Image(stack, name="steel"))
    widget.objects.setChecked(True)
    widget.run()
    wait_for(widget)
    objects = widget._viewer.layers["steel tiny objects"]
    expected = segment(Micrograph(stack, "ZYX"), model="tiny", device="cpu", instances=True).instances
    assert expected is not None
    np.testing.assert_array_equal(objects.data, expected)
    assert f"{expected[0].max() + expected[1].max()} objects" in widget.run_bar.message.text()
    assert objects.metadata[KEY]["kind"] == "objects"
    assert objects.contour > 0


def test_data_bar_is_left_out_unless_it_is_wanted(open_widget: Open, wait_for: Wait, noise: np.ndarray) -> None:
    micrograph = Micrograph(noise, data_bar=(80, 96))
    widget = open_widget(Layer.create(*image_layer(micrograph, "sem")))
    widget.run()
    wait_for(widget)
    result = widget._viewer.layers["sem tiny"].data
    np.testing.assert_array_equal(result, segment(micrograph, model="tiny", device="cpu").classes)
    assert not result[80:].any()
    assert "rows 80 to 95" in widget.run_bar.message.text()
    widget.data_bar.setChecked(False)
    widget.run()
    wait_for(widget)
    assert widget._viewer.layers["sem tiny [1]"].data[80:].any()
    assert "data bar" not in widget.run_bar.message.text()


def test_no_image(open_widget: Open) -> None:
    widget = open_widget(Labels(np.zeros((4, 4), np.uint8)))
    widget.run_bar.run_button.click()
    assert "There is no image" in widget.run_bar.message.text()
    assert widget.run_bar.run_button.isEnabled()


def test_image_that_cannot_be_segmented(open_widget: Open) -> None:
    widget = open_widget(Image(np.zeros((1, 1, 1, 1, 1, 4, 4), np.uint8), name="hyper"))
    widget.run_bar.run_button.click()
    assert "hyper: has 7 axes" in widget.run_bar.message.text()


def test_tile_that_is_too_small(open_widget: Open, noise: np.ndarray) -> None:
    widget = open_widget(Image(noise))
    widget.tile.setValue(10)
    widget.run_bar.run_button.click()
    assert "tile" in widget.run_bar.message.text()


def test_damaged_model(
    open_widget: Open, wait_for: Wait, notified: Notified, noise: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "a<b.safetensors"
    path.write_bytes(b"not a model")
    widget = open_widget(Image(noise))
    widget.model.model = str(path)
    assert "is not a model file or is damaged" in widget.about.text()
    widget.run_bar.run_button.click()
    wait_for(widget)
    assert "a&lt;b.safetensors: is not a model file" in widget.run_bar.message.text()
    assert any("a<b.safetensors: is not a model file" in message for message in notified())
    assert widget.run_bar.run_button.isEnabled()


def test_device_that_is_not_there(open_widget: Open, wait_for: Wait, noise: np.ndarray) -> None:
    widget = open_widget(Image(noise))
    widget.device.addItem("cuda:99", "cuda:99")
    widget.device.setCurrentIndex(widget.device.count() - 1)
    widget.run()
    wait_for(widget)
    assert "device &#x27;cuda:99&#x27; is not on this machine" in widget.run_bar.message.text()


def test_model_is_described(open_widget: Open) -> None:
    widget = open_widget()
    assert "A test &amp; nothing more." in widget.about.text()
    assert "pore" in widget.about.text()
    assert "resnet10t" in widget.about.toolTip()


def test_browsing_for_a_model(open_widget: Open, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes((models / "tiny.safetensors").read_bytes())
    chosen = ["", str(path)]
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *args: (chosen.pop(0), ""))
    widget = open_widget()

    def browse() -> None:
        widget.model.setCurrentIndex(widget.model.findData(BROWSE))
        widget.model.activated.emit(widget.model.currentIndex())

    browse()
    assert widget.model.model == "tiny"  # the dialog was cancelled
    browse()
    assert widget.model.model == str(path)
    assert widget.model.currentText() == "mine.safetensors"
    widget.model.refresh()
    assert widget.model.model == str(path)


def test_image_that_is_selected_is_the_one_to_segment(open_widget: Open, noise: np.ndarray) -> None:
    widget = open_widget(Image(noise, name="a"), Image(noise, name="b"))
    viewer = widget._viewer
    assert widget.image.layer == viewer.layers["b"]
    viewer.layers.selection.active = viewer.layers["a"]
    assert widget.image.layer == viewer.layers["a"]
    assert widget.result_name.placeholderText() == "a tiny"
    labels = viewer.add_labels(np.zeros((4, 4), np.uint8))
    assert viewer.layers.selection.active == labels
    assert widget.image.layer == viewer.layers["a"]
    viewer.layers["a"].name = "c"
    assert widget.image.currentText() == "c"
    assert widget.result_name.placeholderText() == "c tiny"
    viewer.layers.remove("c")
    assert widget.image.layer == viewer.layers["b"]


def test_devices_are_listed_when_the_list_is_opened(open_widget: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    widget = open_widget()
    for _ in range(2):
        widget.device.showPopup()
        widget.device.hidePopup()
    assert [widget.device.itemData(i) for i in range(widget.device.count())] == ["auto", "cpu", "cuda:0", "cuda:1"]


def summary(strategy: str = "halo", tiles: int = 12, disagreement: float | None = None, planes: int = 1) -> str:
    """Summary of made-up results."""
    specs = (ClassSpec(name="matrix", colour=(0, 0, 0)), ClassSpec(name="a<b", colour=(1, 2, 3)))
    record = {
        "fractions": {"matrix": 0.75, "a<b": 0.25},
        "planes": [{"tiling": {"strategy": strategy, "tiles": tiles, "halo": 64}}] * planes,
        "seconds": 3.21,
        "device": "cpu",
        "segmented_rows": [8, 64],
    }
    classes = np.zeros((planes, 64, 96) if planes > 1 else (64, 96), np.uint8)
    card = read_card("tiny").model_copy(update={"reach": None, "disagreement": disagreement})
    return summarise(Segmentation(classes, specs, record), card)


def test_summary_of_tiles_planes_and_blending(tiny: str) -> None:
    assert tiny
    assert "a&lt;b&nbsp;25.0%" in summary()
    assert "96 x 64 px in 3.2 s on cpu (12 tiles, halo 64 px)." in summary()
    assert "rows 0 to 7" in summary()
    assert "blended" not in summary()
    assert "x 3 in" in summary(planes=3)
    assert "36 tiles" in summary(planes=3)
    assert "(1 tile)" in summary("whole", 1)
    assert "12 tiles, blended" in summary("blend", disagreement=0.0004)
    assert "0.04%" in summary("blend", disagreement=0.0004)
    assert "unknown share" in summary("blend")

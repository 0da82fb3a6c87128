from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_matseg._napari import arriving as module
from napari_matseg._napari import segment as segment_module
from napari_matseg._napari.arriving import with_preview
from napari_matseg._napari.layers import KEY, full_resolution
from napari_matseg._napari.segment import SegmentWidget
from napari_matseg.core.large import parts
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.progress import Arrived, Progress
from napari_matseg.pipeline import Segmentation, segment, segment_steps
from napari_matseg.settings import ClassSpec

SPECS = (ClassSpec(name="matrix", colour=(0, 0, 0)), ClassSpec(name="pore", colour=(255, 0, 0)))
IMAGE = np.random.default_rng(0).integers(0, 255, (192, 256), dtype=np.uint8)


class Gate:
    """Holds a segmentation after so many parts have arrived."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.arrived = 0
        self.open = threading.Event()
        self._after = after
        self.changes: dict[str, Any] = {}
        monkeypatch.setattr(segment_module, "segment_steps", self._steps)

    def _steps(self, *args: Any, **kwargs: Any) -> Generator[Progress, None, Segmentation]:
        inner = segment_steps(*args, **kwargs | self.changes)
        try:
            while True:
                try:
                    step = next(inner)
                except StopIteration as stop:
                    return stop.value
                yield step
                self.arrived += isinstance(step, Arrived)
                if self.arrived >= self._after:
                    assert self.open.wait(60)
        finally:
            inner.close()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    monkeypatch.setattr(module, "PAUSE_S", 0)
    return Gate(monkeypatch, 4)


@pytest.fixture
def open_widget(make_napari_viewer: Any, tiny: str) -> Callable[..., SegmentWidget]:
    def open_(data: np.ndarray = IMAGE) -> SegmentWidget:
        viewer = make_napari_viewer()
        viewer.add_image(data, name="steel", scale=(2.0,) * data.ndim)
        viewer.add_labels(np.zeros((5, 5), np.uint8), name="steel tiny")
        _, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Segment micrograph")
        widget.model.model = tiny
        widget.device.setCurrentIndex(widget.device.findData("cpu"))
        widget.tiling.setCurrentIndex(widget.tiling.findData("exact"))
        widget.tile.setValue(64)
        return widget

    return open_


def start(widget: SegmentWidget, gate: Gate, qtbot: Any) -> Labels:
    """Segment until the gate holds it; give the layer that shows what has arrived."""
    widget.image.layer = widget._viewer.layers["steel"]
    widget.run_bar.run_button.click()
    qtbot.waitUntil(lambda: gate.arrived >= 4 and len(widget._viewer.layers) == 3, timeout=60_000)
    qtbot.waitUntil(lambda: "4 of" in widget.run_bar.note.text(), timeout=60_000)
    return widget._viewer.layers[-1]


def test_the_result_appears_tile_by_tile(open_widget, gate, qtbot, wait_for):
    widget = open_widget()
    layer = start(widget, gate, qtbot)
    assert layer.name == "steel tiny [1]"
    assert layer.metadata[KEY]["kind"] == "overlay", "not yet offered as a result"
    assert not layer.editable
    np.testing.assert_array_equal(layer.scale, (2, 2))
    np.testing.assert_array_equal(layer.get_color(1), (1, 0, 0, 1))
    expected = segment(IMAGE, model="tiny", device="cpu", tiling="exact", tile=64).classes
    so_far = np.asarray(full_resolution(layer))
    assert np.any(so_far)
    assert np.all((so_far == expected) | (so_far == 0))
    assert not np.array_equal(so_far, expected)
    layer.opacity, layer.name = 0.9, "mine"
    gate.open.set()
    wait_for(widget)
    assert [one.name for one in widget._viewer.layers] == ["steel", "steel tiny", "mine"]
    result = widget._viewer.layers["mine"]
    assert result.opacity == 0.9
    assert result.editable
    assert result.metadata[KEY]["kind"] == "classes"
    np.testing.assert_array_equal(result.data, expected)


def test_cancelled_half_way_all_layers_are_as_they_were(open_widget, gate, qtbot, wait_for):
    widget = open_widget()
    layer = start(widget, gate, qtbot)
    before = [one for one in widget._viewer.layers if one != layer]
    widget.run_bar.cancel_button.click()
    gate.open.set()
    wait_for(widget)
    assert list(widget._viewer.layers) == before
    text = widget.run_bar.message.text()
    assert text.startswith("Cancelled after 4 of ")
    assert "Your layers are as they were." in text


def test_who_takes_the_layer_away_gets_the_result_all_the_same(open_widget, gate, qtbot, wait_for):
    widget = open_widget()
    widget._viewer.layers.remove(start(widget, gate, qtbot))
    gate.open.set()
    wait_for(widget)
    assert [one.name for one in widget._viewer.layers] == ["steel", "steel tiny", "steel tiny [1]"]


@pytest.mark.parametrize("cancel", [False, True])
def test_a_large_one_appears_out_of_its_files(open_widget, gate, qtbot, wait_for, monkeypatch, tmp_path, cancel):
    monkeypatch.setenv("NAPARI_MATSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(parts, "SIDE", 64)
    monkeypatch.setattr(module, "SMALLEST", 16)
    gate.changes = {"large_px": 1}
    widget = open_widget()
    layer = start(widget, gate, qtbot)
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [(192, 256), (96, 128), (48, 64), (24, 32), (12, 16)]
    expected = segment(IMAGE, model="tiny", device="cpu", tiling="exact", tile=64).classes
    for level, step in zip(layer.data, (1, 2, 4, 8, 16), strict=True):
        so_far = np.asarray(level)
        assert np.any(so_far)
        assert np.all((so_far == expected[::step, ::step]) | (so_far == 0))
    if cancel:
        widget.run_bar.cancel_button.click()
    gate.open.set()
    wait_for(widget)
    if cancel:
        assert len(widget._viewer.layers) == 2
        assert "the same run goes on from there" in widget.run_bar.message.text()
    else:
        np.testing.assert_array_equal(np.asarray(full_resolution(widget._viewer.layers[-1])), expected)


def test_a_stack_appears_plane_by_plane(open_widget, gate, qtbot, wait_for):
    stack = np.stack([IMAGE, IMAGE[::-1]])
    widget = open_widget(stack)
    layer = start(widget, gate, qtbot)
    so_far = np.asarray(full_resolution(layer))
    assert np.any(so_far[0])
    assert not np.any(so_far[1])
    gate.open.set()
    wait_for(widget)


def test_arrivals_are_of_the_whole_micrograph():
    """With the data bar left out, rows are still those of the image."""
    from napari_matseg.core.micrograph import Micrograph

    work = segment_steps(Micrograph(IMAGE, data_bar=(0, 30)), model="particles", tile=64, tiling="exact", device="cpu")
    last = None
    covered = np.zeros(IMAGE.shape, int)
    try:
        while True:
            step = next(work)
            if isinstance(step, Arrived):
                covered[step.rows, step.columns] += 1
                last = step
    except StopIteration as stop:
        result = stop.value
    np.testing.assert_array_equal(covered[30:], 1)
    assert not covered[:30].any()
    assert np.array_equal(last.classes, result.classes)


def test_previews_of_arrays_cost_nothing_and_fill():
    classes = np.zeros((3000, 2000), np.uint8)

    def work() -> Generator[Progress, None, str]:
        yield Progress(0, 2)
        yield Arrived(1, 2, classes=classes, rows=slice(0, 10), columns=slice(0, 10))
        return "result"

    steps = with_preview(work(), SPECS)
    assert next(steps) == Progress(0, 2)
    preview = next(steps).classes
    assert [level.shape for level in preview.levels] == [(3000, 2000), (1500, 1000), (750, 500)]
    assert all(np.shares_memory(level, classes) for level in preview.levels)
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value == "result"


def test_another_try_begins_with_another_preview():
    first, second = np.zeros((9, 9), np.uint8), np.ones((9, 9), np.uint8)

    def work() -> Generator[Progress, None, None]:
        for classes in (first, second):
            yield Arrived(1, 2, classes=classes, rows=slice(0, 9), columns=slice(0, 9))

    previews = [step.classes for step in with_preview(work(), SPECS)]
    assert [preview.levels[0] is classes for preview, classes in zip(previews, (first, second), strict=True)]
    assert previews[0] is not previews[1]


def test_copies_of_labels_in_files_at_odd_places():
    whole = np.random.default_rng(0).integers(1, 3, (1100, 1301)).astype(np.uint8)
    lazy = LazyPixels(
        whole.shape, whole.dtype, 0, lambda _, box: whole[box[0].start : box[0].stop, box[1].start : box[1].stop]
    )

    def work() -> Generator[Progress, None, None]:
        for rows in (slice(0, 333), slice(333, 1100)):
            for columns in (slice(0, 701), slice(701, 1301)):
                yield Arrived(1, 2, classes=lazy, rows=rows, columns=columns)

    *_, last = with_preview(work(), SPECS)
    assert last.classes.is_kept
    for level, step in zip(last.classes.levels, (1, 2, 8), strict=True):
        np.testing.assert_array_equal(np.asarray(level[...]), whole[::step, ::step])


def test_image_of_one_tile_shows_no_preview(open_widget, wait_for):
    widget = open_widget(IMAGE[:64, :64])
    widget.image.layer = widget._viewer.layers["steel"]
    inserted: list[str] = []
    widget._viewer.layers.events.inserted.connect(lambda event: inserted.append(event.value.name))
    widget.run_bar.run_button.click()
    wait_for(widget)
    assert len(inserted) == 1
    assert isinstance(widget._viewer.layers["steel"], Image)

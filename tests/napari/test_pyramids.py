from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from qtpy import compat
from qtpy.QtWidgets import QFileDialog

from napari_matseg._napari import convert as convert_module
from napari_matseg._napari import pyramids as module
from napari_matseg._napari.convert import ConvertBar
from napari_matseg._napari.layers import KEY, LazyStack, full_resolution, micrograph_from_layer
from napari_matseg._napari.reader import read_layers
from napari_matseg.core import convert, pyramid, pyramid_sample
from napari_matseg.core.large.stores import write_labels_zarr
from napari_matseg.core.pyramid_sample import halve
from napari_matseg.settings import ViewSettings

PLUGIN = "napari-matseg"
IMAGE = np.random.default_rng(0).integers(100, 900, (150, 200)).astype(np.uint16)


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """Images of a few thousand pixels are large ones."""
    monkeypatch.setenv("NAPARI_MATSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("napari_matseg.core.read_tiff.LAZY_BYTES", 100)
    for name, value in {"SMALLEST": 40, "SIDE": 64, "CHUNK": 32, "MEMORY_BYTES": 2000, "GRIDS": (4,)}.items():
        monkeypatch.setattr(pyramid, name, value)
    monkeypatch.setattr(pyramid_sample, "GRIDS", (4,))
    for name, value in {"VIEW": 64, "TILE": 32, "SMALLEST": 40}.items():
        monkeypatch.setattr(convert, name, value)
    for one in (module, convert_module):
        monkeypatch.setattr(one, "ViewSettings", lambda: ViewSettings(pyramid_from=100, costly_bytes=20_000))
    monkeypatch.setattr(module, "PAUSE_S", 0)


@pytest.fixture
def tiled(tmp_path) -> Path:
    tifffile.imwrite(
        tmp_path / "map.tif", IMAGE, tile=(32, 32), resolution=(2e6, 1e6), resolutionunit=3, photometric="minisblack"
    )
    return tmp_path / "map.tif"


@pytest.fixture
def striped(tmp_path) -> Path:
    tifffile.imwrite(tmp_path / "strips.tif", IMAGE, rowsperstrip=30, compression="zlib")
    return tmp_path / "strips.tif"


@pytest.fixture
def makers(monkeypatch) -> list[module.Maker]:
    """All makers there are."""
    made: list[module.Maker] = []
    inner = module.Maker.__init__

    def init(self: module.Maker, *arguments: Any) -> None:
        inner(self, *arguments)
        made.append(self)

    monkeypatch.setattr(module.Maker, "__init__", init)
    return made


@pytest.fixture
def gate(monkeypatch) -> threading.Event:
    """Holds the making of copies after its first block until it is set."""
    opened = threading.Event()
    inner = pyramid.Pyramid.steps

    def steps(self):
        for step in inner(self):
            yield step
            if step.done:
                assert opened.wait(60)

    monkeypatch.setattr(pyramid.Pyramid, "steps", steps)
    return opened


def wait(qtbot: Any, maker: module.Maker) -> None:
    """Wait until the copies are made, or given up; what made them is gone then."""
    qtbot.waitUntil(lambda: not compat.isalive(maker) or not maker.job.running, timeout=60_000)


def test_a_large_file_is_shown_at_once_and_then_as_it_is(make_napari_viewer, qtbot, tiled, makers, gate):
    viewer = make_napari_viewer()
    (layer,) = viewer.open(tiled, plugin=PLUGIN)
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [(150, 200), (75, 100), (38, 50), (19, 25)]
    coarse = np.array(layer.data[-1])
    assert np.ptp(coarse) > 0, "something is seen"
    limits = layer.contrast_limits
    assert 100 <= limits[0] < limits[1] < 900
    before = (layer.name, tuple(layer.scale), layer.units, list(limits))
    (maker,) = makers
    gate.set()
    wait(qtbot, maker)
    expected = halve(IMAGE)
    np.testing.assert_array_equal(layer.data[1][...], expected)
    np.testing.assert_array_equal(layer.data[-1], halve(halve(expected)))
    assert (layer.name, tuple(layer.scale), layer.units, list(layer.contrast_limits)) == before
    assert before[1] == (10.0, 5.0)
    np.testing.assert_array_equal(micrograph_from_layer(layer).plane()[0], IMAGE)
    assert micrograph_from_layer(layer).source == tiled

    viewer.layers.clear()
    (again,) = viewer.open(tiled, plugin=PLUGIN)
    assert len(makers) == 1, "they were kept"
    np.testing.assert_array_equal(again.data[1][...], expected)


def test_taking_the_layer_away_stops_the_work(make_napari_viewer, qtbot, tiled, makers, gate, tmp_path):
    viewer = make_napari_viewer()
    (layer,) = viewer.open(tiled, plugin=PLUGIN)
    (maker,) = makers
    qtbot.waitUntil(lambda: any((tmp_path / "cache" / "pyramids").glob(".*")), timeout=60_000)
    with qtbot.waitSignal(maker.job.ended, timeout=60_000) as ended:
        viewer.layers.remove(layer)
        gate.set()
    assert ended.args == [True]
    assert list((tmp_path / "cache" / "pyramids").iterdir()) == []


def test_what_is_read_without_a_viewer_is_coarse_and_no_error(tiled):
    (layer,) = ViewerModel().open(tiled, plugin=PLUGIN)
    assert layer.multiscale
    np.testing.assert_array_equal(full_resolution(layer)[...], IMAGE)


def test_what_nobody_shows_is_forgotten(make_napari_viewer, qtbot, tiled, makers, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_MS", 10)
    viewer = make_napari_viewer()
    read_layers(str(tiled))
    (maker,) = makers
    with qtbot.waitSignal(maker.destroyed, timeout=60_000):
        pass
    viewer.add_image(IMAGE)


def test_stacks_are_read_plane_by_plane(tmp_path, make_napari_viewer, qtbot, makers, monkeypatch):
    stack = np.stack([IMAGE, IMAGE // 2, IMAGE // 3])
    tifffile.imwrite(tmp_path / "a.tif", stack, tile=(32, 32), photometric="minisblack")
    viewer = make_napari_viewer()
    (layer,) = viewer.open(tmp_path / "a.tif", plugin=PLUGIN)
    wait(qtbot, makers[0])
    assert isinstance(layer.data[0], LazyStack)
    whole = full_resolution(layer)
    planes: list[int] = []
    inner = whole._read
    monkeypatch.setattr(whole, "_read", lambda plane, box: (planes.append(plane), inner(plane, box))[1])
    np.testing.assert_array_equal(np.asarray(layer.data[0][:, 3:9, 4:8][1]), stack[1, 3:9, 4:8])
    assert planes == [1]
    np.testing.assert_array_equal(layer.data[1][2], halve(stack[2]))


def test_a_lazy_stack_slices_as_numpy_does():
    array = np.arange(2 * 5 * 6).reshape(2, 5, 6)
    stack = LazyStack(array, 1)
    for key in [1, (1, 2), (slice(None), slice(1, 3)), (0, slice(2, 4), 3), (slice(None), 2), ..., (..., 0)]:
        np.testing.assert_array_equal(np.asarray(stack[key]), array[key])
    part = stack[:, 1:4, 2:5]
    assert (part.shape, part.ndim, part.size) == ((2, 3, 3), 3, 18)
    for key in [1, (1, slice(None), slice(None)), (slice(None), 1, 1), (0, 1), (slice(None), slice(0, 2), slice(0, 1))]:
        np.testing.assert_array_equal(np.asarray(part[key]), array[:, 1:4, 2:5][key])
    with pytest.raises(ValueError, match="without a copy"):
        np.array(stack, copy=False)


def test_labels_without_copies_get_them_unmixed(tmp_path, make_napari_viewer, qtbot, makers, monkeypatch):
    labels = (IMAGE % 3).astype(np.uint8)
    monkeypatch.setattr("napari_matseg.core.axes.LAZY_BYTES", 100)
    write_labels_zarr(tmp_path / "a.ome.zarr", labels, record={"job": "segment"})
    viewer = make_napari_viewer()
    (layer,) = viewer.open(tmp_path / "a.ome.zarr", plugin=PLUGIN)
    wait(qtbot, makers[0])
    np.testing.assert_array_equal(layer.data[1][...], labels[::2, ::2])


def test_a_file_that_is_damaged_inside_says_so_and_stays_coarse(make_napari_viewer, qtbot, tiled, makers, monkeypatch):
    from napari_matseg.errors import InputError

    def broken(self, *_):
        raise InputError("map.tif: is damaged; copy it again.")

    monkeypatch.setattr(pyramid.Pyramid, "_fill", broken)
    viewer = make_napari_viewer()
    viewer.open(tiled, plugin=PLUGIN)
    wait(qtbot, makers[0])
    assert "damaged" in notification_manager.records[-1].message


def offers() -> list[Any]:
    return [record for record in notification_manager.records if "A tiled copy is shown faster" in record.message]


def test_a_striped_file_says_what_it_costs_and_is_converted(
    make_napari_viewer, qtbot, striped, makers, monkeypatch, tmp_path
):
    before = len(offers())
    viewer = make_napari_viewer()
    (layer,) = viewer.open(striped, plugin=PLUGIN)
    layer.name, layer.contrast_limits = "mine", (200, 300)
    (offer,) = offers()[before:]
    assert offer.message.startswith("strips.tif: this file is striped: each view of 64 x 64 pixels reads up to 1 MB")
    ((title, press),) = offer.actions
    assert title == "Convert..."
    out = tmp_path / "new.ome.tif"
    proposed: list[str] = []

    def choose(_parent: Any, _title: str, name: str, _filter: str) -> tuple[str, str]:
        proposed.append(name)
        return str(out), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    bars: list[ConvertBar] = []
    inner = ConvertBar.open.__func__
    monkeypatch.setattr(ConvertBar, "open", classmethod(lambda *a: bars.append(inner(*a))))
    press(None)
    (bar,) = bars
    qtbot.waitUntil(lambda: not bar.job.running, timeout=60_000)
    assert proposed == [str(tmp_path / "strips_tiled.ome.tif")]
    assert "The layer shows it now" in bar.run_bar.message.text()
    assert micrograph_from_layer(layer).source == out
    assert layer.metadata[KEY]["source"] == str(out)
    assert (layer.name, list(layer.contrast_limits)) == ("mine", [200, 300])
    np.testing.assert_array_equal(full_resolution(layer)[...], IMAGE)
    for maker in makers:
        wait(qtbot, maker)


def test_a_tiled_file_makes_no_offer(make_napari_viewer, qtbot, tiled, makers):
    before = len(offers())
    make_napari_viewer().open(tiled, plugin=PLUGIN)
    assert len(offers()) == before
    wait(qtbot, makers[0])


def test_no_name_no_conversion_and_cancelling_writes_nothing(make_napari_viewer, qtbot, striped, monkeypatch, tmp_path):
    from napari_matseg.core.read import read

    viewer = make_napari_viewer()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: ("", ""))
    bar = ConvertBar.open(viewer, read(striped))
    assert not bar.job.running
    held = threading.Event()

    def slow(micrograph: Any, path: Path) -> Any:
        for step in convert.convert_steps(micrograph, path):
            yield step
            assert held.wait(60)

    monkeypatch.setattr(convert_module, "convert_steps", slow)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "b.tif"), ""))
    bar.run_bar.run_button.click()
    bar.run_bar.cancel_button.click()
    held.set()
    qtbot.waitUntil(lambda: not bar.job.running, timeout=60_000)
    assert bar.run_bar.message.text() == convert_module.CANCELLED
    assert not (tmp_path / "b.tif").exists()

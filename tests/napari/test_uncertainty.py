from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Layer, Shapes

from napari_matseg._napari import uncertainty as module
from napari_matseg._napari.layers import KEY, OVERLAY
from napari_matseg._napari.segment import SegmentWidget
from napari_matseg._napari.uncertainty import map_layer, places_layer
from napari_matseg.core.places import Place
from napari_matseg.labelling import Uncertainty
from napari_matseg.settings import UncertaintySettings


def _found(shape: tuple[int, ...] = (96, 160), *places: Place) -> Uncertainty:
    record = {"answers": 8, "seconds": 1.0, "device": "cpu"}
    return Uncertainty(np.zeros(shape, np.float32), np.zeros(shape, np.uint8), places, 0.1, record)


def test_the_map_and_the_places_lie_on_the_image(
    make_napari_viewer: Any, tiny: str, noise: np.ndarray, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "UncertaintySettings", lambda segment: UncertaintySettings(segment=segment, views=2, places=2)
    )
    viewer = make_napari_viewer()
    layer = viewer.add_image(noise, name="a", scale=(3, 2), translate=(10, 20), units=("nm", "nm"))
    _, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Segment micrograph")
    assert isinstance(widget, SegmentWidget)
    widget.model.model = tiny
    widget.device.setCurrentIndex(widget.device.findData("cpu"))
    widget.unsure.run_bar.run_button.click()
    assert not widget.run_bar.isEnabled()
    qtbot.waitUntil(lambda: not widget.unsure.running, timeout=120_000)
    assert widget.run_bar.isEnabled()
    _, shown, places = viewer.layers
    assert (shown.name, places.name) == ("a uncertainty", "a label next")
    assert isinstance(shown, Image)
    assert isinstance(places, Shapes)
    for one in (shown, places):
        np.testing.assert_array_equal(one.scale, layer.scale)
        np.testing.assert_array_equal(one.translate, layer.translate)
        assert one.units == layer.units
        assert one.metadata[KEY]["kind"] == OVERLAY
    assert shown.data.shape == noise.shape
    assert shown.contrast_limits == [0, 1]
    assert list(places.features["rank"]) == [1, 2]
    assert viewer.layers.selection.active == layer
    assert widget.image.layer == layer  # what only shows something is no image to choose
    assert widget.image.count() == 1
    assert "Label squares 1 to 2 next" in widget.unsure.run_bar.message.text()


def test_without_an_image_it_says_so(make_napari_viewer: Any, tiny: str) -> None:
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Segment micrograph")
    widget.unsure.run()
    assert "There is no image" in widget.unsure.run_bar.message.text()
    viewer.add_image(np.zeros((8, 8), np.uint8))
    widget.unsure._other = SimpleNamespace(running=True)
    widget.unsure.run()
    assert "The model is at work" in widget.unsure.run_bar.message.text()


def test_places_are_squares_around_their_pixels() -> None:
    data, kwargs, kind = places_layer(_found((3, 96, 160), Place(2, 8, 16, 32, 24, 0.5)), "a", {})
    assert kind == "shapes"
    np.testing.assert_array_equal(data[0], [[2, 7.5, 15.5], [2, 7.5, 39.5], [2, 39.5, 39.5], [2, 39.5, 15.5]])
    layer = Layer.create(data, kwargs, kind)
    assert layer.ndim == 3
    empty = Layer.create(*places_layer(_found(), "a", {}))
    assert len(empty.data) == 0


def test_a_large_map_has_smaller_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHOWN_PX", 50)
    data, kwargs, _ = map_layer(_found(), "a", {})
    assert kwargs["multiscale"]
    assert [level.shape for level in data] == [(96, 160), (48, 80), (24, 40)]


@pytest.mark.parametrize(
    ("places", "said"), [(0, "sure everywhere"), (1, "Label square 1 next"), (3, "Label squares 1 to 3 next")]
)
def test_the_message_counts(places: int, said: str) -> None:
    found = _found((96, 160), *[Place(0, 0, 0, 8, 8, 0.5)] * places)
    assert said in module._summary(found)

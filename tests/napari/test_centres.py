from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Points
from scipy import ndimage

from napari_matseg._napari.centres import CentresWidget


@pytest.fixture
def blobs() -> np.ndarray:
    y, x = np.indices((120, 160))
    image = np.full((120, 160), 20.0)
    for k, place in enumerate(((30, 30), (60, 110), (95, 60))):
        image[np.hypot(y - place[0], x - place[1]) < 6 + 3 * k] = 200 - 40 * k
    return ndimage.gaussian_filter(image, 1).astype(np.uint8)


@pytest.fixture
def widget(make_napari_viewer, blobs):
    viewer = make_napari_viewer()
    viewer.add_image(blobs, name="micrograph", scale=(2, 2))
    widget = CentresWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Detect centres")
    widget.method.setCurrentIndex(widget.method.findData("log"))
    yield widget
    widget.close_job()


def detect(widget, qtbot) -> Points:
    widget.run()
    qtbot.waitUntil(lambda: not widget._job.running, timeout=20_000)
    return widget._viewer.layers[-1]


def test_points_lie_on_the_particles(widget, qtbot):
    points = detect(widget, qtbot)
    assert isinstance(points, Points)
    assert points.name == "micrograph centres"
    assert points.scale.tolist() == [2, 2]
    assert sorted(points.data.round().astype(int).tolist()) == [[30, 30], [60, 110], [95, 60]]
    assert points.features["object"].tolist() == [1, 2, 3]
    assert set(points.features["polarity"]) == {"positive"}
    assert "3 centres" in widget.found.text()


def test_points_follow_the_fields(widget, qtbot):
    points = detect(widget, qtbot)
    widget.smallest.setValue(15)
    assert len(points.data) == 2
    assert widget._viewer.layers[-1] is points
    widget.largest.setValue(20)
    assert points.data.round().astype(int).tolist() == [[60, 110]]
    widget.largest.setValue(3)
    assert "above the largest" in widget.run_bar.message.text()
    widget.smallest.setValue(0)
    widget.largest.setValue(0)
    assert len(points.data) == 3
    widget.smallest.setValue(100)
    assert len(points.data) == 0
    assert "0 centres" in widget.found.text()


def test_other_settings_ask_for_another_look(widget, qtbot):
    points = detect(widget, qtbot)
    widget.method.setCurrentIndex(widget.method.findData("doh"))
    widget.sure.setValue(0.2)
    assert "again" in widget.found.text()
    assert len(points.data) == 3


def test_a_removed_image_is_no_error(widget, qtbot):
    detect(widget, qtbot)
    widget._viewer.layers.remove("micrograph")
    widget.sure.setValue(0.1)
    widget.run()
    assert "There is no image" in widget.run_bar.message.text()

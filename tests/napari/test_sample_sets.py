from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_matseg._napari.layers import specs_of
from napari_matseg._napari.sample_sets import WIDGET, SampleSetsWidget, set_layers
from napari_matseg.core.progress import finish
from napari_matseg.core.samples import fetch_set, pairs

PLUGIN = "napari-matseg"


def test_a_set_is_fetched_from_the_menu_and_opened(
    make_napari_viewer: Any, public_sets: Path, wait_for: Any, qtbot: Any
) -> None:
    viewer = make_napari_viewer()
    viewer.open_sample(PLUGIN, "emps")
    widget = viewer.window.dock_widgets[WIDGET]
    assert isinstance(widget, SampleSetsWidget)
    assert not public_sets.exists()  # nothing is fetched before the button is pressed
    assert "Licence: MIT" in widget.about.text()
    assert "states no checksum" in widget.about.text()
    qtbot.waitUntil(lambda: len(viewer.layers) == 0, timeout=5000)
    widget.run()
    wait_for(widget)
    assert "2 images with truth; licence MIT" in widget.run_bar.message.text()
    assert "sha256 of what came" in widget.about.text()
    assert widget.images.count() == 2
    widget.images.setCurrentRow(1)
    widget.open_button.click()
    assert [layer.name for layer in viewer.layers] == ["0113230c21", "0113230c21 truth"]
    viewer.open_sample(PLUGIN, "emps")
    assert viewer.layers[2].name == "00655d9628"
    widget.choose("nasa")
    assert widget.images.count() == 0


def test_offline_is_said(
    make_napari_viewer: Any, public_sets: Path, wait_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from napari_matseg.core.samples import PUBLIC

    monkeypatch.setitem(PUBLIC, "emps", replace(PUBLIC["emps"], address="http://matseg.invalid/emps.zip"))
    viewer = make_napari_viewer()
    widget = SampleSetsWidget(viewer)
    viewer.window.add_dock_widget(widget)
    widget.run()
    wait_for(widget)
    assert "get it with a browser and save it as emps.zip" in widget.run_bar.message.text()


def test_truth_of_nasa_is_classes(public_sets: Path) -> None:
    folder = finish(fetch_set("nasa"))
    viewer = ViewerModel()
    for image, truth in pairs("nasa", folder):
        for data, kwargs, kind in set_layers("nasa", image, truth):
            getattr(viewer, f"add_{kind}")(data, **kwargs)
    _, coating, _, alloy = viewer.layers
    assert isinstance(alloy, Labels)
    assert [spec.name for spec in specs_of(alloy.metadata) or ()] == ["matrix", "secondary", "tertiary"]
    assert (alloy.data[3, 4], alloy.data[12, 4], alloy.data[20, 0]) == (1, 2, 0)
    assert [spec.name for spec in specs_of(coating.metadata) or ()][1:] == ["oxide", "crack"]
    np.testing.assert_array_equal(np.unique(coating.data), (0, 1))


def test_without_a_window_the_command_is_named(public_sets: Path) -> None:
    from napari_matseg._napari.sample_data import nasa
    from napari_matseg.errors import InputError

    with pytest.raises(InputError, match="get it with napari-matseg samples nasa -o"):
        nasa()

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_matseg.cli import app
from napari_matseg.core.read import read


@pytest.mark.parametrize("reader", ["napari-matseg", "napari"])
def test_widgets_and_command_line_agree_to_the_last_pixel(
    make_napari_viewer: Any, qtbot: Any, real_data: Path, tmp_path: Path, reader: str
) -> None:
    name = json.loads((real_data / "superalloy" / "splits.json").read_text())["super1"]["test"][0]
    image = real_data / "superalloy" / "images" / name
    truth = real_data / "superalloy" / "masks" / f"{image.stem}_mask.tif"

    def press(title: str, **choices: str) -> Any:
        _, widget = viewer.window.add_plugin_dock_widget("napari-matseg", title)
        for choice, text in choices.items():
            combo = getattr(widget, choice)
            combo.setCurrentIndex(combo.findText(text))
        widget.run_bar.run_button.click()
        qtbot.waitUntil(widget.run_bar.run_button.isEnabled, timeout=120_000)
        return widget

    viewer = make_napari_viewer()
    viewer.open(image, plugin=reader)
    press("Segment micrograph", model="superalloy")
    result = viewer.layers[-1]
    viewer.open(truth, plugin=reader)
    widget = press("Evaluate segmentation", prediction=result.name, truth=truth.stem)

    options = ["--model", "superalloy", "--truth", str(truth), "-o", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, ["segment", str(image), *options])
    expected = json.loads(done.stdout)
    np.testing.assert_array_equal(result.data, read(tmp_path / f"{image.stem}_labels.tif").pixels)
    scores = widget.evaluation.scores.to_dict([spec.name for spec in widget.evaluation.classes])
    assert scores == {key: expected[key] for key in scores}
    assert scores["pooled_iou"] > 0.94

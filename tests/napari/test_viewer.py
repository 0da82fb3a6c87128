"""What a user sees: menus, and the demo."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_matseg._napari.demo import EVALUATE, open_viewer
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.pipeline import segment

MANIFEST = Path(__file__).parents[2] / "src" / "napari_matseg" / "napari.yaml"


def test_manifest_is_valid() -> None:
    done = subprocess.run([sys.executable, "-m", "npe2", "validate", str(MANIFEST)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("menu", "command"),
    [("napari/layers/segment", "napari-matseg.segment"), ("napari/layers/measure", "napari-matseg.evaluate")],
)
def test_widgets_are_in_the_layers_menu(make_napari_viewer: Any, menu: str, command: str) -> None:
    from napari._app_model import get_app_model

    viewer = make_napari_viewer()
    app = get_app_model()
    assert command in {item.command.id for item in app.menus.get_menu(menu) if hasattr(item, "command")}
    app.commands.execute_command(command).result()
    assert len(viewer.window.dock_widgets) == 1


TORCH_AFTER_CANVAS = """
import napari
import numpy as np
from napari_matseg._napari.models import load_torch
viewer = napari.Viewer(show_welcome_screen=False)
viewer.add_image(np.zeros((8, 8), np.uint8))
viewer.screenshot(canvas_only=True, flash=False)
load_torch()
print("torch is loaded")
viewer.close()
"""


def test_torch_can_be_loaded_after_the_first_canvas(qapp: object, tmp_path: Path) -> None:
    """In a process of its own, as the conftest has loaded triton here."""
    environment = os.environ | {"NAPARI_CONFIG": str(tmp_path / "settings.yaml")}
    command = [sys.executable, "-c", TORCH_AFTER_CANVAS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert "torch is loaded" in done.stdout, done.stderr


def test_demo_shows_result_truth_scale_bar_and_scores(
    make_napari_viewer: Any, tiny: str, noise: np.ndarray, wait_for: Callable[[Any], None]
) -> None:
    micrograph = Micrograph(noise, pixel_size_nm=(2.0, 2.0), data_bar=(80, 96), source=Path("steel.tif"))
    result = segment(micrograph, model=tiny, device="cpu")
    viewer = open_viewer(micrograph, result, result.classes, viewer=make_napari_viewer())
    widget = viewer.window.dock_widgets[EVALUATE]
    wait_for(widget)
    assert [layer.name for layer in viewer.layers] == ["steel", "steel truth", "steel tiny", "mistakes"]
    assert [layer.visible for layer in viewer.layers] == [True, False, True, True]
    assert {tuple(layer.scale) for layer in viewer.layers[:3]} == {(2.0, 2.0)}
    assert viewer.canvas.overlays.scale_bar.visible
    assert (widget.prediction.currentText(), widget.truth.currentText()) == ("steel tiny", "steel truth")
    assert widget.evaluation.scores.pooled_iou == 1
    assert widget.evaluation.scores.counts.confusion.sum() == 80 * 160


def test_demo_without_truth_has_no_scores(make_napari_viewer: Any, tiny: str, noise: np.ndarray) -> None:
    micrograph = Micrograph(noise)
    viewer = open_viewer(micrograph, segment(micrograph, model=tiny, device="cpu"), viewer=make_napari_viewer())
    assert len(viewer.layers) == 2
    assert not viewer.window.dock_widgets


def test_classes_are_seen_in_their_colours(make_napari_viewer: Any) -> None:
    from napari.layers import Layer

    from napari_matseg._napari.layers import classes_layer
    from napari_matseg.settings import ClassSpec

    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.zeros((64, 64), np.uint8))
    classes = np.zeros((64, 64), np.uint8)
    classes[:, 32:] = 1
    specs = (ClassSpec(name="matrix", colour=(0, 255, 0)), ClassSpec(name="pore", colour=(255, 0, 0)))
    layer = viewer.add_layer(Layer.create(*classes_layer(classes, specs, "a", {})))
    layer.opacity = 1
    viewer.reset_view()
    shot = viewer.screenshot(canvas_only=True, flash=False)
    height, width = shot.shape[:2]
    np.testing.assert_array_equal(shot[height // 2, width // 2 + 20, :3], (255, 0, 0))
    np.testing.assert_array_equal(shot[height // 2, width // 2 - 20, :3], (0, 0, 0))

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_matseg.core.checkpoints import ModelCard, save_model
from napari_matseg.settings import ArchitectureSettings, ClassSpec

CLASSES = (
    ClassSpec(name="matrix", colour=(0, 0, 0)),
    ClassSpec(name="pore", colour=(255, 0, 0)),
    ClassSpec(name="crack", colour=(0, 0, 255)),
)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny model with random weights, called "tiny"; it finds all of its classes in noise."""
    import torch

    from napari_matseg.core.architectures import build_network

    folder = tmp_path_factory.mktemp("models")
    architecture = ArchitectureSettings(
        encoder="tu-resnet10t", encoder_depth=3, options={"decoder_channels": [16, 8, 8]}
    )
    torch.manual_seed(0)
    network = build_network(architecture, len(CLASSES)).eval()
    card = ModelCard(name="tiny", description="A test & nothing more.", classes=CLASSES, architecture=architecture)
    save_model(folder / "tiny.safetensors", network, card)
    return folder


@pytest.fixture
def tiny(models: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of the tiny model, which is the only one there is besides those that ship."""
    monkeypatch.setenv("NAPARI_MATSEG_MODELS", str(models))
    return "tiny"


@pytest.fixture
def noise() -> np.ndarray:
    """Grey image of 96 x 160 pixels."""
    return np.random.default_rng(0).integers(0, 255, (96, 160), dtype=np.uint8)


@pytest.fixture
def notified() -> Callable[[], list[str]]:
    """Give the messages that napari was told to show since the test began."""
    from napari.utils.notifications import notification_manager

    before = len(notification_manager.records)
    return lambda: [record.message for record in notification_manager.records[before:]]


@pytest.fixture
def wait_for(qtbot: Any) -> Callable[[Any], None]:
    """Wait until a widget's job has ended; long, because a busy machine loads torch slowly."""

    def wait(widget: Any) -> None:
        qtbot.waitUntil(lambda: not widget._job.running, timeout=120_000)

    return wait


@pytest.fixture(scope="session", autouse=True)
def plugins() -> None:
    """Let napari know its plugins, which it otherwise learns only from its first window."""
    from npe2 import PluginManager

    PluginManager.instance().discover()

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QFileDialog

from napari_matseg._napari.models import BROWSE, NONE
from napari_matseg._napari.train import TrainWidget
from napari_matseg._napari.train_encoder import COST, EncoderWeights
from napari_matseg._napari.train_form import TrainForm
from napari_matseg.core.encoders import sources
from napari_matseg.core.encoders.sources import MICRONET, encoder_folder
from napari_matseg.settings import ClassSpec

CLASSES = (ClassSpec(name="a", colour=(0, 0, 0)), ClassSpec(name="b", colour=(0, 0, 1)))


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_MATSEG_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def field(qtbot: Any) -> Iterator[EncoderWeights]:
    field = EncoderWeights()
    qtbot.addWidget(field)
    field.suit("resnet18")
    yield field
    field.close_job()


def choose(field: EncoderWeights, weights: str) -> None:
    """Choose as a user does, from the opened list."""
    field.choice.showPopup()
    field.choice.hidePopup()
    field.choice.setCurrentIndex(field.choice.findData(weights))
    field.choice.activated.emit(field.choice.currentIndex())


def offered(field: EncoderWeights) -> list[str]:
    field.choice.showPopup()
    field.choice.hidePopup()
    return [field.choice.itemText(i) for i in range(field.choice.count()) if field.choice.itemData(i)]


def test_from_scratch_until_something_is_chosen(field: EncoderWeights) -> None:
    assert field.weights is None
    assert field.about.text() == COST
    assert field.fetch_button.isHidden()
    assert offered(field) == ["ImageNet", "MicroNet", "ImageNet, then MicroNet", BROWSE]


def test_what_is_said_of_weights(field: EncoderWeights) -> None:
    choose(field, "imagenet")
    assert field.weights == "imagenet"
    assert "Licence: BSD-3-Clause" in field.about.text()
    assert "Not on this computer yet" in field.about.text()
    assert field.fetch_button.text() == "Download (45 MB)"
    assert not field.fetch_button.isHidden()
    choose(field, NONE)
    assert field.weights is None


def test_another_encoder_that_has_none(field: EncoderWeights) -> None:
    choose(field, "micronet")
    field.suit("vgg19")
    assert field.about.text().startswith("micronet: no such weights are known of encoder vgg19")
    assert field.fetch_button.isHidden()
    assert offered(field) == ["ImageNet", "MicroNet", BROWSE]  # what is chosen stays until another is


def test_a_file(field: EncoderWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer, weights in (("", None), ("/data/mine.pth", "/data/mine.pth")):
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, answer=answer: (answer, ""))
        choose(field, BROWSE)
        assert field.weights == weights
    assert field.choice.currentText() == "mine.pth"
    assert "A file of yours" in field.about.text()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder of what is at NASA's address."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        monkeypatch.setattr(sources, "NASA", f"http://127.0.0.1:{running.server_address[1]}")
        yield folder
        running.shutdown()
        thread.join(10)


def test_download(field: EncoderWeights, server: Path, wait_for: Any) -> None:
    file = MICRONET["micronet"]["resnet18"]
    (server / file).write_bytes(b"weights")
    choose(field, "micronet")
    field.fetch_button.click()
    wait_for(field)
    assert (encoder_folder() / file).read_bytes() == b"weights"
    assert "On this computer" in field.about.text()
    assert field.fetch_button.isHidden()
    assert field.cancel_button.isHidden()


def test_download_that_fails(field: EncoderWeights, server: Path, wait_for: Any) -> None:
    choose(field, "micronet")
    field.fetch_button.click()
    wait_for(field)
    assert "the server says 404" in field.about.text()
    assert "save it as resnet18_pretrained" in field.about.text()
    assert not field.fetch_button.isHidden()
    assert field.fetch_button.isEnabled()


@pytest.fixture
def data() -> Any:
    """Stand in for what is learnt from."""
    return SimpleNamespace(
        objects=False,
        pixel_size_nm=lambda: None,
        settings=lambda *_, **__: {"images": "i", "truth": "t", "train": ["a.tif"]},
    )


@pytest.fixture
def form(qtbot: Any) -> TrainForm:
    form = TrainForm()
    qtbot.addWidget(form)
    return form


def test_weights_are_of_the_encoder_of_the_form(form: TrainForm) -> None:
    form.weights.weights = "micronet"
    form.size.setCurrentIndex(form.size.findData("balanced"))
    assert form.weights.source is not None
    assert form.weights.source.encoder == "resnet18"
    form.encoder.setCurrentText("resnet50")
    assert form.weights.source is not None
    assert form.weights.source.encoder == "resnet50"


def test_weights_go_into_the_settings(form: TrainForm, data: Any) -> None:
    form.weights.weights = "micronet"
    form.encoder.setCurrentText("resnet34")
    settings = form.settings("mine", data, CLASSES)
    assert settings.encoder_weights == "micronet"
    assert settings.architecture.encoder == "resnet34"


def test_another_model_brings_its_own_encoder(form: TrainForm, data: Any) -> None:
    form.weights.weights = "micronet"
    form.start.model = "superalloy"
    assert not form.weights.isEnabled()
    settings = form.settings("mine", data, CLASSES)
    assert (settings.start, settings.encoder_weights) == ("superalloy", None)


def test_closing_ends_a_download(qtbot: Any, server: Path, wait_for: Any) -> None:
    widget = TrainWidget(ViewerModel())
    qtbot.addWidget(widget)
    widget.form.weights.suit("resnet18")
    widget.form.weights.weights = "micronet"
    widget.form.weights.fetch()
    widget.close_job()
    wait_for(widget.form.weights)

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch

from napari_matseg.core.checkpoints import read_card
from napari_matseg.core.encoders import sources

Run = Callable[..., tuple[int, str, str]]
OPTIONS = '{"decoder_channels": [16, 8, 8]}'


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_MATSEG_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_list(run: Run, own_models: Path) -> None:
    source = sources.find_source("resnet50", "micronet")
    assert source is not None
    source.path.parent.mkdir(parents=True)
    source.path.write_bytes(b"")
    status, out, _ = run("encoders")
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert status == 0
    assert lines["encoder"] == ["imagenet", "micronet", "imagenet-micronet"]
    assert lines["resnet50"] == ["98", "MB", "here", "to", "get"]
    assert lines["dpn107"][0] == "-"
    assert str(own_models / "encoders") in out


def test_one(run: Run) -> None:
    status, out, _ = run("encoders", "resnet34")
    assert status == 0
    assert [line for line in out.splitlines() if line.startswith("# ")] == [
        "# imagenet/resnet34",
        "# micronet/resnet34",
        "# imagenet-micronet/resnet34",
    ]
    status, out, _ = run("encoders", "resnet34", "--json")
    first = json.loads(out)[0]
    assert (first["name"], first["here"], first["sha256_begins"]) == ("imagenet/resnet34", None, "b627a593")


def test_get(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    source = sources.find_source("resnet18", "micronet")
    assert source is not None
    source.path.parent.mkdir(parents=True)
    source.path.write_bytes(b"")
    status, out, _ = run("encoders", "--get", "micronet/resnet18")
    assert (status, out) == (0, f"{source.path}: train with encoder_weights: micronet\n")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--get", "micronet"), "--get: micronet is not of the form PRETRAINING/ENCODER"),
        (("--get", "moon/resnet18"), "--get: moon/resnet18 is not of the form PRETRAINING/ENCODER"),
        (("--get", "micronet/vgg19"), "micronet: no such weights are known of encoder vgg19"),
        (("nothing",), "nothing: no pretrained weights are known"),
    ],
)
def test_what_cannot_be_had(run: Run, given: tuple[str, ...], message: str) -> None:
    status, _, err = run("encoders", *given)
    assert status == 2
    assert err.startswith(message)
    assert err.count("\n") == 1


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = smp.Unet("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(16, 8, 8), classes=1)
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    return path


def given(path: Path, **changes: str) -> list[str]:
    options = {
        "name": "mine",
        "classes": "matrix, pore",
        "normalise": "0.5:0.1",
        "architecture": "unet",
        "encoder": "resnet18",
        "depth": "3",
        "options": OPTIONS,
    } | changes
    return ["import-model", str(path), *(part for key, value in options.items() for part in (f"--{key}", value))]


def test_import(run: Run, weights: Path, own_models: Path) -> None:
    status, out, err = run(*given(weights, licence="MIT", **{"not-for": "Fibres."}))
    assert (status, out, err) == (0, f"{own_models / 'mine.safetensors'}: segment with --model mine\n", "")
    card = read_card("mine")
    assert [spec.name for spec in card.classes] == ["matrix", "pore"]
    assert (card.normalise.mean, card.normalise.std) == ((0.5,), (0.1,))
    assert card.normalise.limit == pytest.approx(5)
    assert (card.licence, card.not_for) == ("MIT", "Fibres.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": "{"}, "--options: { is not JSON"),
        ({"options": "[1]"}, '--options: [1] is not of the form {"NAME": VALUE}'),
        ({"normalise": "a:b"}, "--normalise: a:b is not MEAN:STD, such as 0.5:0.25"),
        ({"normalise": "0.5:0"}, "mean and std must be as many, and std above 0"),
        ({"normalise": "raw"}, "normalise: 'raw' is none that is known"),
        ({"architecture": "linknet"}, "name: Input should be 'unet'"),
    ],
)
def test_import_of_what_makes_no_sense(run: Run, weights: Path, changes: dict[str, str], message: str) -> None:
    status, _, err = run(*given(weights, **changes))
    assert status == 2
    assert message in err
    assert err.count("\n") == 1

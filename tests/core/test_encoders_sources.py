from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torchvision

from napari_matseg.core.encoders import sources
from napari_matseg.core.encoders.sources import (
    BOTH,
    HALF,
    IMAGENET,
    IMAGENET_STATISTICS,
    MICRONET,
    encoder_folder,
    fetch_encoder,
    fetch_encoder_steps,
    find_source,
    no_such,
    sources_of,
    statistics_of,
)
from napari_matseg.errors import ModelError


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_MATSEG_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a folder `served`."""
    (tmp_path / "served").mkdir()
    handler = partial(Quiet, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join(10)


@pytest.mark.parametrize("encoder", IMAGENET)
def test_torchvision_s_files(encoder: str) -> None:
    weights = torchvision.models.get_model_weights(encoder)["IMAGENET1K_V1"]
    source = find_source(encoder, "imagenet")
    assert source is not None
    assert source.address == weights.url
    assert source.sha256 == weights.url.rpartition("-")[2].removesuffix(".pth")
    assert source.megabytes == round(weights.meta["_file_size"])


def test_micronet_s_files() -> None:
    base = "https://nasa-public-data.s3.amazonaws.com/microscopy_segmentation_models/"
    addresses = {
        (encoder, pretraining): source.address.removeprefix(base)
        for encoder in BOTH
        for pretraining in ("micronet", "imagenet-micronet")
        if (source := find_source(encoder, pretraining))
    }
    assert len(addresses) == 2 * len(BOTH)
    assert addresses["resnet34", "micronet"] == "resnet34_pretrained_microscopynet_v1.0.pth.tar"
    assert addresses["resnet50", "micronet"] == "resnet50_pretrained_microscopynet_v1.1.pth.tar"
    assert addresses["resnet50", "imagenet-micronet"] == "resnet50_pretrained_imagenet-microscopynet_v1.0.pth.tar"
    assert find_source("resnext101_32x8d", "imagenet-micronet") is None
    assert {*MICRONET["micronet"], *MICRONET["imagenet-micronet"]} <= set(smp.encoders.get_encoder_names())


@pytest.mark.parametrize(
    ("encoder", "file", "stated", "licence"),
    [
        ("tu-resnet10t", "resnet10t_176_c3-f3215ab1.pth", "f3215ab1", "apache-2.0"),
        ("tu-hrnet_w18", "timm_hrnet_w18.ms_aug_in1k.safetensors", None, "mit"),
        (
            "tu-vit_tiny_patch16_224",
            "timm_vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors",
            None,
            "apache-2.0",
        ),
        ("mit_b0", "smp-hub_mit_b0.imagenet.safetensors", None, "NVIDIA"),
        ("se_resnet50", "smp-hub_se_resnet50.imagenet.safetensors", None, "see https://huggingface.co/smp-hub/se_resn"),
    ],
)
def test_files_of_the_libraries(encoder: str, file: str, stated: str | None, licence: str) -> None:
    source = find_source(encoder, "imagenet")
    assert source is not None
    assert (source.file, source.sha256) == (file, stated)
    assert licence in source.licence
    assert source.address.startswith("https://")
    assert sources_of(encoder)[0] == source


@pytest.mark.parametrize("encoder", ["tu-nothing", "nothing", "dpn107"])
def test_encoders_without(encoder: str) -> None:
    assert find_source(encoder, "imagenet") is None


def test_statistics() -> None:
    assert statistics_of("resnet18") == statistics_of("tu-resnet10t") == IMAGENET_STATISTICS
    assert statistics_of("tu-nothing") == IMAGENET_STATISTICS
    assert statistics_of("xception") == statistics_of("tu-vit_tiny_patch16_224") == HALF
    assert statistics_of("dpn68") not in (HALF, IMAGENET_STATISTICS)


def test_fetching(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"weights" * 1000
    digest = hashlib.sha256(content).hexdigest()
    file = f"resnet18-{digest[:8]}.pth"
    (tmp_path / "served" / file).write_bytes(content)
    monkeypatch.setattr(sources, "TORCHVISION", server)
    monkeypatch.setitem(IMAGENET, "resnet18", (file, 1))
    steps = list(fetch_encoder_steps("resnet18", "imagenet"))
    assert steps[-1].note.endswith(
        f"sha256 {digest}, as expected in its first 8 digits, which are all that its makers state"
    )
    assert fetch_encoder("resnet18", "imagenet") == encoder_folder() / file
    source = find_source("resnet18", "imagenet")
    assert source is not None
    assert source.here
    assert "It is here: " in source.describe()
    assert source.path.read_bytes() == content


def test_another_file_than_its_name_says(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "served" / IMAGENET["resnet18"][0]).write_bytes(b"something else")
    monkeypatch.setattr(sources, "TORCHVISION", server)
    with pytest.raises(
        ModelError, match=r"gave another file than expected \(sha256 [0-9a-f]{64} instead of f37072fd\)"
    ):
        fetch_encoder("resnet18", "imagenet")
    assert not list(encoder_folder().glob("*.pth"))


def test_one_that_cannot_be_checked(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "served" / MICRONET["micronet"]["resnet18"]).write_bytes(b"weights")
    monkeypatch.setattr(sources, "NASA", server)
    steps = list(fetch_encoder_steps("resnet18", "micronet"))
    assert steps[-1].note.endswith("not checked, since its source gives none to compare with")


def test_a_file_put_there_by_hand_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "NASA", "http://127.0.0.1:1")
    path = encoder_folder() / MICRONET["micronet"]["resnet18"]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"by hand")
    assert fetch_encoder("resnet18", "micronet") == path


def test_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "download", partial(sources.download, attempts=1))
    monkeypatch.setattr(sources, "NASA", "http://127.0.0.1:1")
    with pytest.raises(ModelError, match=r"cannot be fetched .* save it as resnet18_pretrained_micro\S+ in .*encoders"):
        fetch_encoder("resnet18", "micronet")


def test_what_is_said_of_them() -> None:
    source = find_source("resnet18", "imagenet")
    assert source is not None
    text = source.describe()
    assert text.startswith("# imagenet/resnet18\n\nEncoder resnet18, pretrained on ImageNet")
    assert "sha256 begins with f37072fd" in text
    assert "get it with napari-matseg encoders --get imagenet/resnet18 (45 MB), or save https://download" in text
    other = find_source("resnet18", "micronet")
    assert other is not None
    assert "no sha256 of it is known here" in other.describe()
    assert (
        replace(other, megabytes=3)
        .how_to_get()
        .startswith("get it with napari-matseg encoders --get micronet/resnet18 (3")
    )


def test_what_there_is_instead() -> None:
    assert no_such("vgg19", "micronet") == (
        "micronet: no such weights are known of encoder vgg19, nor is it a file; take imagenet, a file of your own, or "
        "none."
    )
    assert no_such("nothing", "micronet").endswith("take another encoder, a file, or none.")
    with pytest.raises(ModelError, match="micronet: no such weights are known of encoder vgg19"):
        fetch_encoder("vgg19", "micronet")

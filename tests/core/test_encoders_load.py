from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_matseg.core.architectures import build_network
from napari_matseg.core.encoders.load import _plain, fold_kernel, load_encoder
from napari_matseg.core.encoders.sources import (
    IMAGENET_STATISTICS,
    encoder_folder,
    find_source,
    statistics_of,
)
from napari_matseg.core.mix_transformer import MixTransformer
from napari_matseg.errors import ModelError
from napari_matseg.settings import ArchitectureSettings, NormaliseSettings

GREY = NormaliseSettings()
SMALL = {"decoder_channels": [16, 8, 8]}


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_MATSEG_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def stir(network: nn.Module) -> nn.Module:
    """Give batch norms statistics as if it had learnt."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.3, 0.3)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    return network.eval()


def unet(encoder: str, **more: Any) -> ArchitectureSettings:
    return ArchitectureSettings(encoder=encoder, **({"encoder_depth": 3, "options": SMALL} | more))


@pytest.fixture(scope="session")
def resnet() -> nn.Module:
    """Stands in for what torchvision's file is of; not to be changed."""
    torch.manual_seed(1)
    return stir(torchvision.models.resnet18())


@pytest.fixture
def resnet_file(resnet: nn.Module, tmp_path: Path) -> Path:
    path = tmp_path / "resnet18.pth"
    torch.save(resnet.state_dict(), path)
    return path


def loaded(architecture: ArchitectureSettings, path: Path | str, normalise: NormaliseSettings = GREY) -> Any:
    torch.manual_seed(2)
    network = build_network(architecture, 2)
    load_encoder(network, architecture, normalise, str(path))
    return network.eval()


def compare(ours: nn.Module, theirs: nn.Module, encoder: str, layers: int = 1) -> None:
    """Maps of a grey image and of the same one in three channels, normalised as in the pretraining, agree."""
    grey = torch.rand(1, 1, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in statistics_of(encoder))
    with torch.no_grad():
        found, expected = ours(2 * grey - 1)[layers], theirs((grey - mean) / std)[layers]
    assert expected.std() > 0.01
    # Zeros around the image are of another grey.
    edge = 3 if layers == 1 else 6
    inner = (..., slice(edge, -edge), slice(edge, -edge))
    torch.testing.assert_close(found[inner], expected[inner], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet-b0", "mobilenet_v2", "tu-resnet10t", "xception"])
def test_grey_gives_the_maps_of_three_equal_channels(encoder: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = stir(smp.encoders.get_encoder(encoder, weights=None, depth=3))
    path = tmp_path / "weights.pth"
    torch.save({f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}, path)
    compare(loaded(unet(encoder), path).encoder, theirs, encoder)


def test_deeper_maps_agree_too_but_at_the_edge(resnet: nn.Module, resnet_file: Path) -> None:
    network = loaded(unet("resnet18"), resnet_file)
    theirs = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu)
    compare(network.encoder, lambda image: [image, theirs(image)], "resnet18")
    for name, tensor in resnet.layer4.state_dict().items():
        torch.testing.assert_close(network.encoder.layer4.state_dict()[name], tensor)


def test_the_decoder_stays_random(resnet_file: Path) -> None:
    torch.manual_seed(2)
    before = build_network(unet("resnet18"), 2).decoder.state_dict()
    after = loaded(unet("resnet18"), resnet_file).decoder.state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())


def test_attention_encoders(tmp_path: Path) -> None:
    path = tmp_path / "mit.safetensors"
    torch.manual_seed(1)
    theirs = MixTransformer("mit_b0", 3).eval()
    save_file(theirs.state_dict() | {"head.weight": torch.zeros(10, 256), "head.bias": torch.zeros(10)}, path)
    network = loaded(ArchitectureSettings(name="segformer", options={"decoder_channels": 16}), path)
    grey = torch.rand(1, 1, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET_STATISTICS)
    with torch.no_grad():
        ours = network.encoder.patch_embed1.proj(2 * grey - 1)
        expected = theirs.patch_embed1.proj((grey - mean) / std)
    torch.testing.assert_close(ours[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(network.encoder.block4[1].mlp.fc1.weight, theirs.block4[1].mlp.fc1.weight)


def test_vision_transformer(tmp_path: Path) -> None:
    torch.manual_seed(1)
    vit = timm.create_model("vit_tiny_patch16_224", depth=2).eval()
    nn.init.normal_(vit.patch_embed.proj.bias)
    path = tmp_path / "vit.safetensors"
    save_file(vit.state_dict(), path)
    architecture = ArchitectureSettings(
        name="vit_adapter", options={"depth": 2, "interactions": 1, "prior_channels": 8, "decoder_channels": 8}
    )
    network = loaded(architecture, path)
    grey = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        ours = network.encoder.vit.patch_embed.proj(2 * grey - 1)
        expected = vit.patch_embed.proj(((grey - 0.5) / 0.5).repeat(1, 3, 1, 1))
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(network.encoder.vit.pos_embed, vit.pos_embed)


def test_hrnet_without_its_classifier(tmp_path: Path) -> None:
    with torch.device("meta"):
        theirs = timm.create_model("hrnet_w18_small")
    weights = {name: torch.ones(tensor.shape, dtype=tensor.dtype) for name, tensor in theirs.state_dict().items()}
    path = tmp_path / "hrnet.safetensors"
    save_file(weights, path)
    network = loaded(ArchitectureSettings(name="hrnetv2", encoder="tu-hrnet_w18_small"), path)
    assert all((part.weight == 1).all() for part in network.encoder.model.layer1.modules() if hasattr(part, "weight"))


@pytest.mark.parametrize("folds", [1, 2])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_folded_image_is_seen_as_its_mean(channels: int, folds: int) -> None:
    architecture = ArchitectureSettings(in_channels=channels, fold=folds)
    kernel = torch.randn(4, 3, 3, 3)
    folded, offset = fold_kernel(kernel, architecture, GREY)
    assert folded.shape == (4, channels * folds**2, 3, 3)
    grey = torch.rand(1, 1, 16, 16)
    larger = grey.repeat_interleave(folds, 2).repeat_interleave(folds, 3).repeat(1, channels, 1, 1)
    unshuffled = nn.functional.pixel_unshuffle(2 * larger - 1, folds)
    found = nn.functional.conv2d(unshuffled, folded) + offset[:, None, None]
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET_STATISTICS)
    torch.testing.assert_close(found, nn.functional.conv2d((grey - mean) / std, kernel), rtol=1e-4, atol=1e-4)


def test_colour_keeps_its_channels() -> None:
    kernel = torch.randn(4, 3, 3, 3)
    folded, offset = fold_kernel(kernel, ArchitectureSettings(in_channels=3), GREY)
    colour = torch.rand(1, 3, 8, 8)
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET_STATISTICS)
    found = nn.functional.conv2d(2 * colour - 1, folded) + offset[:, None, None]
    torch.testing.assert_close(found, nn.functional.conv2d((colour - mean) / std, kernel), rtol=1e-4, atol=1e-4)


def test_nothing_is_folded_where_the_normalisation_is_that_of_the_pretraining() -> None:
    kernel = torch.randn(4, 3, 3, 3)
    same = NormaliseSettings(mean=IMAGENET_STATISTICS[0], std=IMAGENET_STATISTICS[1])
    folded, offset = fold_kernel(kernel, ArchitectureSettings(in_channels=3), same)
    torch.testing.assert_close(folded, kernel)
    torch.testing.assert_close(offset, torch.zeros(4))


def test_folded_network(resnet: nn.Module, resnet_file: Path) -> None:
    network = loaded(unet("resnet18", fold=2), resnet_file)
    torch.testing.assert_close(
        network.network.encoder.layer1[0].conv1.weight, resnet.state_dict()["layer1.0.conv1.weight"]
    )


def layouts(weights: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Ways in which others write the same weights."""
    bare = {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}
    return {
        "torchvision": weights,
        "smp": bare,
        "of two GPUs": {f"module.{name}": tensor for name, tensor in weights.items()},
        "without counts": {name: tensor for name, tensor in weights.items() if "num_batches" not in name},
        "with figures": {"state_dict": weights, "best_acc1": np.float64(76.6), "epoch": 3},
        "of a whole model": {f"model.encoder.{name}": tensor for name, tensor in bare.items()}
        | {"model.decoder.blocks.0.conv1.0.weight": torch.zeros(3)},
    }


@pytest.mark.parametrize("layout", layouts({}))
def test_layouts(resnet: nn.Module, tmp_path: Path, layout: str) -> None:
    path = tmp_path / "weights.pth.tar"
    torch.save(layouts(resnet.state_dict())[layout], path)
    network = loaded(unet("resnet18"), path)
    for name in ("layer1.0.conv1.weight", "layer2.0.downsample.1.running_var"):
        torch.testing.assert_close(network.encoder.state_dict()[name], resnet.state_dict()[name])


def test_legacy_file_and_features_of_several_gpus(tmp_path: Path) -> None:
    theirs = smp.encoders.get_encoder("mobilenet_v2", weights=None)
    weights = {name.replace("features.", "features.module."): tensor for name, tensor in theirs.state_dict().items()}
    path = tmp_path / "mobilenet.pth.tar"
    torch.save(weights | {"classifier.0.weight": torch.zeros(3, 2)}, path, _use_new_zipfile_serialization=False)
    network = loaded(unet("mobilenet_v2"), path)
    torch.testing.assert_close(network.encoder.features[18][0].weight, theirs.features[18][0].weight)


def test_densenet_of_older_torchvision(tmp_path: Path) -> None:
    theirs = smp.encoders.get_encoder("densenet121", weights=None)
    weights = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): tensor
        for name, tensor in theirs.state_dict().items()
    }
    assert any(".norm.1." in name for name in weights)
    path = tmp_path / "densenet.pth"
    torch.save(weights, path)
    network = loaded(unet("densenet121"), path)
    last = "features.denseblock4.denselayer16.conv2.weight"
    torch.testing.assert_close(network.encoder.state_dict()[last], theirs.state_dict()[last])


@pytest.mark.parametrize(
    "encoder", ["densenet201", "dpn107", "efficientnet-b5", "inceptionresnetv2", "senet154", "vgg16_bn"]
)
def test_names_stay_apart(encoder: str) -> None:
    with torch.device("meta"):
        names = list(smp.encoders.get_encoder(encoder, weights=None).state_dict())
    assert len({_plain(name) for name in names}) == len(names)


def test_what_is_recorded(resnet_file: Path, own_models: Path) -> None:
    torch.manual_seed(0)
    architecture = unet("resnet18")
    network = build_network(architecture, 2)
    record = load_encoder(network, architecture, GREY, str(resnet_file))
    assert (record.weights, record.source, record.licence, record.encoder) == ("resnet18.pth", "", "", "resnet18")
    source = find_source("resnet18", "micronet")
    assert source is not None
    encoder_folder().mkdir(parents=True)
    source.path.write_bytes(resnet_file.read_bytes())
    fetched = load_encoder(network, architecture, GREY, "micronet")
    assert (fetched.weights, fetched.source, fetched.sha256) == ("micronet", source.address, record.sha256)
    assert "MIT" in fetched.licence
    assert fetched.to_text().startswith("Encoder began with: micronet weights of resnet18, from https://nasa-public")


def fails(match: str, architecture: ArchitectureSettings, path: Path | str) -> None:
    with pytest.raises(ModelError, match=match):
        loaded(architecture, path)


def test_weights_of_another_encoder(resnet_file: Path, tmp_path: Path) -> None:
    fails(
        r"resnet18\.pth: lacks \d+ of the \d+ weights of resnet34: layer1\.2\.bn1\.bias, .* and \d+ more; take weights "
        "of resnet34, or name the encoder that these are of",
        unet("resnet34"),
        resnet_file,
    )
    larger = tmp_path / "resnet34.pth"
    torch.save(torchvision.models.resnet34().state_dict(), larger)
    fails(r"resnet34\.pth: holds \d+ weights that resnet18 does not have: layer1\.2\.", unet("resnet18"), larger)


def test_weights_of_another_shape(resnet: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    torch.save(resnet.state_dict() | {"bn1.weight": torch.ones(32)}, path)
    fails(r"is of another shape than resnet18: bn1\.weight is 32 instead of 64; take weights", unet("resnet18"), path)
    torch.save(resnet.state_dict() | {"conv1.weight": torch.ones(64, 4, 7, 7)}, path)
    fails(r"first layer conv1 is 64 x 4 x 7 x 7 instead of 64 x 1 x 7 x 7; take weights of", unet("resnet18"), path)


def test_a_file_that_saw_grey_is_taken_as_it_is(resnet: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "grey.pth"
    torch.save(resnet.state_dict() | {"conv1.weight": torch.ones(64, 1, 7, 7)}, path)
    network = loaded(unet("resnet18"), path)
    assert (network.encoder.conv1.weight == 1).all()
    torch.testing.assert_close(network.encoder.bn1.running_mean, resnet.state_dict()["bn1.running_mean"])


def test_what_is_not_here() -> None:
    fails(
        r"micronet: the weights of encoder resnet18 are not here; get it with napari-matseg encoders --get "
        r"micronet/resnet18, or save https://nasa-public-data\S+ as resnet18_pretrained_micro\S+ in",
        unet("resnet18"),
        "micronet",
    )
    fails("micronet: no such weights are known of encoder tu-resnet10t", unet("tu-resnet10t"), "micronet")
    fails("nowhere.pth: no such weights .*, nor is it a file; take imagenet or", unet("resnet18"), "nowhere.pth")


def test_damaged_and_dangerous_files(tmp_path: Path, write_pickle: Callable[[Path], None]) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"no weights")
    fails(r"weights\.pth: is not a checkpoint or is damaged; an encoder's weights are", unet("resnet18"), path)
    write_pickle(path)
    fails(r"holds more than weights \(.*mkdir.*\), .* never is; export the weights alone", unet("resnet18"), path)
    assert not (tmp_path / "made").exists()


@pytest.fixture
def write_pickle(tmp_path: Path) -> Callable[[Path], None]:
    """Write a file that would make a folder if it were unpickled."""
    import os

    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "made"),)

    return lambda path: torch.save({"a": Harmful()}, path)

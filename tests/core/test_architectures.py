from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from napari_matseg.core.architectures import build_network, measure_reach, stride_of
from napari_matseg.errors import ModelError
from napari_matseg.settings import ArchitectureSettings

TINY = {"encoder": "tu-resnet10t", "encoder_depth": 3, "options": {"decoder_channels": [16, 8, 8]}}
TINY_DEEPLAB = {"name": "deeplabv3plus", "encoder": "tu-resnet10t", "options": {"decoder_channels": 8}}


def build(classes: int = 2, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_network(ArchitectureSettings(**settings), classes).eval()


@pytest.mark.parametrize(
    "settings",
    [
        TINY,
        TINY | {"in_channels": 2, "fold": 2},
        TINY_DEEPLAB,
        {"encoder": "vgg11", "in_channels": 2, "encoder_depth": 3, "options": {"decoder_channels": (16, 8, 8)}},
        {"encoder": "mit_b0", "in_channels": 3},
        {"encoder": "efficientnet-b0", "in_channels": 5},
        {"encoder": "tu-convnext_atto", "encoder_depth": 4, "options": {"decoder_channels": [16, 8, 8, 8]}},
        {"name": "deeplabv3plus", "encoder": "mobilenet_v2", "in_channels": 5},
    ],
    ids=lambda settings: "-".join(str(settings[key]) for key in settings if key != "options"),
)
def test_scores_have_the_size_of_the_image(settings: dict[str, Any]) -> None:
    network = build(classes=3, **settings)
    assert 128 % stride_of(network) == 0
    image = torch.zeros(2, settings.get("in_channels", 1), 128, 64)
    assert network(image).shape == (2, 3, 128, 64)


@pytest.mark.parametrize(
    ("settings", "stride"), [(TINY, 8), (TINY | {"fold": 2}, 16), ({}, 32), ({"name": "deeplabv3plus"}, 16)]
)
def test_stride(settings: dict[str, Any], stride: int) -> None:
    assert stride_of(build(**settings)) == stride


# Measured once by letting NaN spread through networks of this kind by hand.
@pytest.mark.parametrize(("encoder", "reach"), [("resnet18", 287), ("mobilenet_v2", 319)])
def test_reach_of_known_networks(encoder: str, reach: int) -> None:
    assert measure_reach(build(encoder=encoder), 1) == reach


def test_folding_doubles_the_reach() -> None:
    reach = measure_reach(build(**TINY), 1)
    assert reach
    assert measure_reach(build(**TINY, fold=2), 1) == 2 * reach


SQUEEZING = TINY | {"options": {"decoder_channels": [32, 16, 16], "decoder_attention_type": "scse"}}


@pytest.mark.parametrize("settings", [TINY_DEEPLAB, SQUEEZING], ids=["deeplabv3plus", "scse"])
def test_image_pooling_and_squeeze_and_excitation_reach_everywhere(settings: dict[str, Any]) -> None:
    assert measure_reach(build(**settings), 1) is None


def test_reach_is_as_far_as_a_change_of_the_input_shows() -> None:
    network = build(**TINY).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # timm begins with residual branches that count for nothing
    reach = measure_reach(network, 1)
    assert reach is not None
    half = 64
    image = torch.randn(1, 1, 2 * half, 2 * half, dtype=torch.float64)
    changed = image.clone()
    changed[..., :half] = 10 * torch.randn(2 * half, half, dtype=torch.float64)
    found = []
    for turn in range(4):
        with torch.inference_mode():
            before, after = (network(one.rot90(turn, (2, 3))).rot90(-turn, (2, 3)) for one in (image, changed))
        touched = (before != after).any(dim=1).any(dim=1)[0]
        found.append(int(touched[half:].nonzero().max()) + 1)
    assert max(found) <= reach < max(found) + stride_of(network)


def test_measuring_leaves_the_network_as_it_is() -> None:
    network = build(**TINY).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    measure_reach(network, 1)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("encoder", ["nonsense", "tu-nonsense"])
def test_unknown_encoder(encoder: str) -> None:
    with pytest.raises(ModelError, match=f"encoder '{encoder}' is unknown; use .* resnet18"):
        build(encoder=encoder)


def test_unknown_variant_of_an_encoder() -> None:
    with pytest.raises(ModelError, match=r"Invalid pretrained tag .*nonsense.*; correct the architecture"):
        build(encoder="tu-resnet18d.nonsense")


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet10t"])
def test_unknown_option(encoder: str) -> None:
    with pytest.raises(ModelError, match=r"'decoder_chanels'.*; correct"):
        build(encoder=encoder, options={"decoder_chanels": [16, 8, 8, 8, 8]})


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"options": {"decoder_channels": [16, 8]}}, "depth is 5, but you provide"),
        ({"options": {"decoder_channels": 7}}, "has no len"),
        ({"options": {"encoder_weights": "imagenet"}}, "multiple values"),
        ({"encoder": "tu-resnet10t", "options": {"pretrained": True}}, "multiple values"),
        ({"name": "deeplabv3plus", "encoder": "vgg11"}, "VGG.*dilated"),
        ({"encoder": "tu-swin_tiny_patch4_window7_224"}, "Input height"),
    ],
)
def test_what_cannot_be_built(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=rf"cannot be built \(.*{reason}.*\); correct the architecture"):
        build(**settings)


@pytest.mark.parametrize("option", ["checkpoint_path", "pretrained_cfg", "aux_params", "activation"])
def test_options_that_read_files_or_change_the_kind_of_output_are_refused(option: str) -> None:
    with pytest.raises(ModelError, match=f"option '{option}' cannot be used here; leave it out"):
        build(encoder="tu-resnet10t", options={option: "elsewhere"})


@pytest.mark.parametrize("encoder", ["tu-hf-hub:someone/network", "tu-local-dir:folder", "someone/network", ""])
def test_encoders_come_from_nowhere_else(encoder: str) -> None:
    with pytest.raises(ValidationError, match="encoder"):
        ArchitectureSettings(encoder=encoder)

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from napari_matseg.core.architectures import build_network, measure_reach, stride_of
from napari_matseg.core.checkpoints import Model, ModelCard, load_model, save_model
from napari_matseg.core.normalise import grey_scale
from napari_matseg.core.plan import make_plan
from napari_matseg.core.predict import predict
from napari_matseg.errors import ModelError
from napari_matseg.settings import UPSAMPLINGS, ArchitectureSettings, ClassSpec, SegmentSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TINY = {"encoder": "tu-resnet10t", "encoder_depth": 3, "options": {"decoder_channels": [16, 8, 8]}}
TINY_DEEPLAB = {"name": "deeplabv3plus", "encoder": "tu-resnet10t", "options": {"decoder_channels": 16}}

ENCODER = "tu-resnet10t"
NETWORKS: dict[str, tuple[dict[str, Any], bool]] = {
    "unet": (TINY, True),
    "unet, transposed": (TINY | {"upsampling": "transposed"}, True),
    "unet, folded": (TINY | {"upsampling": "bilinear", "fold": 2}, True),
    "deeplabv3": (TINY_DEEPLAB | {"name": "deeplabv3", "atrous_rates": (1, 2, 3)}, False),
    "deeplabv3plus": (TINY_DEEPLAB, False),
    "hrnetv2": ({"name": "hrnetv2", "encoder": "tu-hrnet_w18_small"}, True),
    "hrnetv2, transposed": ({"name": "hrnetv2", "encoder": "tu-hrnet_w18_small", "upsampling": "transposed"}, True),
    "segformer": ({"name": "segformer", "options": {"decoder_channels": 16}}, False),
    "vit_adapter": (
        {
            "name": "vit_adapter",
            "options": {"depth": 4, "embed_dim": 32, "num_heads": 2, "prior_channels": 8, "decoder_channels": 16},
        },
        False,
    ),
    "fcn": ({"name": "fcn", "encoder": ENCODER}, True),
    "fcn, bilinear": ({"name": "fcn", "encoder": ENCODER, "upsampling": "bilinear"}, True),
    "fpn": (
        {
            "name": "fpn",
            "encoder": ENCODER,
            "options": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
        },
        False,
    ),
}
"""Settings of a small network of each kind, and whether its reach is bounded."""

each_network = pytest.mark.parametrize("which", NETWORKS)


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


class TestEveryNetwork:
    """What holds for all of them."""

    @each_network
    @pytest.mark.parametrize("in_channels", [1, 3])
    def test_takes_images_of_any_size(self, which: str, in_channels: int) -> None:
        network = build(classes=3, **NETWORKS[which][0], in_channels=in_channels)
        for shape in ((1, 1), (2, 67), (64, 33)):
            with torch.inference_mode():
                scores = network(torch.randn(2, in_channels, *shape))
            assert scores.shape == (2, 3, *shape)
            assert scores.isfinite().all()

    @each_network
    def test_sees_an_image_mirrored_at_its_edge(self, which: str) -> None:
        network = build(**NETWORKS[which][0])
        image = torch.randn(1, 1, 41, 50)
        below, right = (-length % stride_of(network) for length in (41, 50))
        whole = functional.pad(image, (0, right, 0, below), mode="reflect")
        with torch.inference_mode():
            assert torch.equal(network(image), network(whole)[..., :41, :50])

    @each_network
    def test_learns(self, which: str) -> None:
        network = build(**NETWORKS[which][0]).train()
        image, truth = discs()
        optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
        losses = []
        for _ in range(12):
            loss = functional.cross_entropy(network(image), truth)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[-1] < 0.6 * losses[0]

    @each_network
    def test_every_weight_has_a_gradient(self, which: str) -> None:
        network = build(**NETWORKS[which][0]).train()
        network(torch.randn(2, 1, 64, 64)).square().mean().backward()
        assert not [name for name, weight in network.named_parameters() if weight.grad is None]

    @each_network
    def test_written_and_read_it_is_the_same(self, which: str, saved: Callable[[str], Model], tmp_path: Path) -> None:
        model = saved(which)
        again = save_model(tmp_path / "again.safetensors", model.network, model.card)
        image = torch.randn(1, 1, 64, 64)
        with torch.inference_mode():
            expected = model.network(image)
            assert torch.equal(load_model(tmp_path / "again.safetensors").network(image), expected)
            assert torch.allclose(build_like(which)(image), expected, atol=0.02 * expected.abs().max().item())
        assert again.weights_sha256 == model.card.weights_sha256
        assert again.architecture == ArchitectureSettings(**NETWORKS[which][0])

    @each_network
    def test_tiles_in_stages_or_is_blended(self, which: str, saved: Callable[[str], Model]) -> None:
        model = saved(which)
        bounded = NETWORKS[which][1]
        assert (model.card.reach is not None) == bounded
        side = 2 * (model.card.reach or 64) + 200
        image = np.random.default_rng(0).normal(size=(1, 64, side)).astype(np.float32)
        plan = make_plan(model, (64, side), SegmentSettings(tile=(side * 7 // 8) // 64 * 64), torch.device("cpu"))
        staged = not which.startswith(("segformer", "vit_adapter"))
        assert plan.to_dict()["strategy"] == ("staged" if staged else "blend")
        assert len(plan.tiles) > 1
        whole = make_plan(model, (64, side), SegmentSettings(tiling="whole"), torch.device("cpu"))
        tiled, expected = probabilities(model, image, plan), probabilities(model, image, whole)
        assert np.isfinite(tiled).all()
        if staged:
            np.testing.assert_allclose(tiled, expected, rtol=0, atol=1e-4)
            assert expected.std() > 0.005  # it is not everywhere the same

    @each_network
    def test_no_sampling_depends_on_the_size_of_the_image(self, which: str) -> None:
        modules = build(**NETWORKS[which][0]).modules()
        assert not [module for module in modules if getattr(module, "align_corners", False)]


def discs() -> tuple[torch.Tensor, torch.Tensor]:
    """Bright discs in noise, shape (2, 1, 64, 64), and where they are."""
    draw = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    truth = torch.stack([(y - 20) ** 2 + (x - 40) ** 2 < 200, (y - 40) ** 2 + (x - 24) ** 2 < 300]).long()
    return (2 * truth + 0.3 * torch.randn(2, 64, 64, generator=draw))[:, None], truth


@cache
def build_like(which: str) -> nn.Module:
    """Build a network whose every branch counts."""
    network = build(**NETWORKS[which][0])
    for name, weight in network.named_parameters():
        if name.endswith((".gamma", "bn2.weight", "bn3.weight")):
            nn.init.ones_(weight)  # residual branches of timm's, and injectors, begin by counting for nothing
    return network


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """Write a network and read it."""
    folder = tmp_path_factory.mktemp("networks")

    @cache
    def save(which: str) -> Model:
        classes = (ClassSpec(name="matrix", colour=(0, 0, 0)), ClassSpec(name="disc", colour=(255, 0, 0)))
        card = ModelCard(name="tiny", classes=classes, architecture=ArchitectureSettings(**NETWORKS[which][0]))
        save_model(folder / f"{which}.safetensors", build_like(which), card)
        return load_model(folder / f"{which}.safetensors")

    return save


def probabilities(model: Model, image: np.ndarray, plan: Any) -> np.ndarray:
    found = np.full((2, *image.shape[1:]), np.nan, dtype=np.float32)
    scale = grey_scale(image, model.card.normalise)
    pieces = predict(model, image, scale, plan, device=torch.device("cpu"), dtype=torch.float32, probabilities=True)
    for _, piece in pieces:
        if piece is not None:
            found[:, *piece.where] = piece.probabilities_cyx
    return found


class TestChoices:
    @pytest.mark.parametrize(("name", "mode"), [(name, mode) for name, modes in UPSAMPLINGS.items() for mode in modes])
    def test_upsampling(self, name: str, mode: str) -> None:
        settings = NETWORKS[name][0] | {"name": name}
        network = build(**settings, upsampling=mode)
        assert network(torch.randn(1, 1, 64, 64)).shape == (1, 2, 64, 64)
        transposed = [module for module in network.modules() if isinstance(module, nn.ConvTranspose2d)]
        assert len(transposed) - (name == "vit_adapter") == (
            {"unet": 3, "hrnetv2": 3, "vit_adapter": 3, "fcn": 3}[name] if mode == "transposed" else 0
        )

    def test_the_first_choice_is_what_is_left_unsaid(self) -> None:
        image = torch.randn(1, 1, 64, 64)
        for name, (first, *_) in UPSAMPLINGS.items():
            settings = NETWORKS[name][0] | {"name": name}
            assert torch.equal(build(**settings)(image), build(**settings, upsampling=first)(image)), name

    @pytest.mark.parametrize("name", ["deeplabv3", "deeplabv3plus"])
    def test_dilations(self, name: str) -> None:
        network = build(**TINY_DEEPLAB | {"name": name}, atrous_rates=(2, 3, 5))
        parts: Any = network
        found = {module.dilation[0] for module in parts.decoder.modules() if isinstance(module, nn.Conv2d)}
        assert found == {1, 2, 3, 5}

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"name": "segformer", "upsampling": "nearest"}, "upsampling of segformer can be bilinear; choose that"),
            ({"name": "fpn", "upsampling": "transposed"}, "upsampling of fpn can be nearest or bilinear; choose"),
            ({"name": "unet", "atrous_rates": (1, 2, 3)}, "unet has no dilations; leave atrous_rates out"),
            ({"name": "deeplabv3", "atrous_rates": (1, 2, 0)}, "greater than or equal to 1"),
            ({"name": "deeplabv3", "atrous_rates": (1, 2)}, "atrous_rates.2"),
            ({"name": "fcn", "encoder_depth": 4}, "encoder_depth of fcn is always 5; leave it out"),
        ],
    )
    def test_choices_that_there_are_not(self, settings: dict[str, Any], said: str) -> None:
        with pytest.raises(ValidationError, match=said):
            ArchitectureSettings(**settings)

    @pytest.mark.parametrize(
        ("name", "encoder", "said"),
        [
            ("segformer", "resnet18", "takes the encoders mit_b0, mit_b1, mit_b2, mit_b3, mit_b4, mit_b5"),
            ("hrnetv2", "resnet18", "takes the encoders tu-hrnet_w18, tu-hrnet_w32"),
            ("vit_adapter", "resnet18", "takes the plain ViTs"),
            ("vit_adapter", "tu-vit_small_patch14_dinov2", "patches of 14 px do not divide 32 px"),
        ],
    )
    def test_encoders_that_do_not_fit(self, name: str, encoder: str, said: str) -> None:
        with pytest.raises(ModelError, match=rf"cannot be built \(.*{said}.*\); correct the architecture"):
            build(name=name, encoder=encoder)

    def test_networks_with_encoders_of_their_own_need_not_be_told_which(self) -> None:
        found = {name: ArchitectureSettings(name=name).encoder for name in UPSAMPLINGS}  # type: ignore[arg-type]
        assert found["segformer"] == "mit_b0"
        assert found["hrnetv2"] == "tu-hrnet_w18"
        assert found["vit_adapter"].startswith("tu-vit_")
        assert {found[name] for name in ("unet", "deeplabv3", "deeplabv3plus", "fcn", "fpn")} == {"resnet18"}

    @pytest.mark.parametrize("name", ["deeplabv3plus", "fpn"])
    def test_the_size_of_the_scores_is_no_option(self, name: str) -> None:
        with pytest.raises(ModelError, match="option 'upsampling' cannot be used here"):
            build(name=name, options={"upsampling": 2})

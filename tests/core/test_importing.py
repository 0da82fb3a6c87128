from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from napari_matseg.core.checkpoints import ModelCard, load_model
from napari_matseg.core.importing import import_model
from napari_matseg.core.normalise import grey_scale
from napari_matseg.errors import ModelError, SettingsError
from napari_matseg.settings import ArchitectureSettings, ClassSpec, NormaliseSettings

ABOUT = {"encoder_name": "resnet18", "encoder_weights": None, "encoder_depth": 3}
UNET = ABOUT | {"decoder_channels": (16, 8, 8)}
OURS = ArchitectureSettings(
    encoder="resnet18", encoder_depth=3, in_channels=3, options={"decoder_channels": [16, 8, 8]}
)
TWO = ("matrix", "pore")
MEAN, STD = (np.array(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@pytest.fixture(scope="session")
def unet() -> nn.Module:
    """Two classes, as segmentation-models-pytorch has them; not to be changed."""
    torch.manual_seed(1)
    network = smp.Unet(**UNET, classes=2)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.3, 0.3)
    return network.eval()


@pytest.fixture
def weights(unet: nn.Module, tmp_path: Path) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(unet.state_dict(), path)
    return path


def scores(network: nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = network(torch.from_numpy(image.astype(np.float32))[None])[0].numpy()
    return found


def same(theirs: nn.Module, path: Path) -> ModelCard:
    """The imported model gives the scores of the other program for the same 8-bit grey micrograph."""
    model = load_model(path)
    grey = np.random.default_rng(0).integers(0, 256, (1, 64, 64), dtype=np.uint8)
    rgb = np.repeat(grey, 3, axis=0)
    expected = scores(theirs, (rgb / 255 - MEAN) / STD)
    found = scores(model.network, grey_scale(rgb, model.card.normalise).apply(rgb))
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected, atol=2e-2 * expected.std() + 1e-3)  # kernels are kept in 16 bits
    return model.card


def test_state_dict(unet: nn.Module, weights: Path, tmp_path: Path) -> None:
    path = import_model(weights, "mine", TWO, "imagenet", architecture=OURS, out=tmp_path / "out", licence="MIT")
    assert path == tmp_path / "out" / "mine.safetensors"
    card = same(unet, path)
    assert [spec.name for spec in card.classes] == list(TWO)
    assert card.classes[0].colour != card.classes[1].colour
    assert card.licence == "MIT"
    assert card.notes.startswith("Imported from weights.pth.")
    assert card.notes in card.to_markdown()
    assert "align_corners" not in card.notes


@pytest.mark.parametrize("layout", ["lightning", "of two GPUs", "older numpy"])
def test_checkpoints_of_others(unet: nn.Module, tmp_path: Path, layout: str) -> None:
    plain = unet.state_dict()
    written = {
        "lightning": {
            "state_dict": {f"model.{name}": tensor for name, tensor in plain.items()} | {"std": torch.ones(1, 3, 1, 1)},
            "epoch": 3,
            "hyper_parameters": {"arch": "Unet"},
        },
        "of two GPUs": {f"module.{name}": tensor for name, tensor in plain.items()},
        "older numpy": {"state_dict": plain, "architecture": "Unet", "train_loss": [np.float64(0.3), np.float32(0.2)]},
    }
    path = tmp_path / "last.ckpt"
    torch.save(written[layout], path)
    card = same(unet, import_model(path, "mine", TWO, "imagenet", architecture=OURS, out=tmp_path / "out"))
    assert ("Left out: std." in card.notes) == (layout == "lightning")


@pytest.mark.parametrize(
    ("kind", "given", "name"),
    [
        (smp.Unet, UNET | {"decoder_interpolation": "bilinear"}, "unet"),
        (
            smp.FPN,
            ABOUT | {"encoder_depth": 5, "decoder_pyramid_channels": 16, "decoder_segmentation_channels": 32},
            "fpn",
        ),
        (
            smp.DeepLabV3Plus,
            ABOUT | {"encoder_depth": 4, "decoder_channels": 8, "decoder_atrous_rates": (1, 2, 3)},
            "deeplabv3plus",
        ),
        (
            smp.Segformer,
            {"encoder_name": "mit_b0", "encoder_weights": None, "decoder_segmentation_channels": 16},
            "segformer",
        ),
    ],
)
def test_folders_of_save_pretrained(kind: type[nn.Module], given: dict[str, Any], name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = kind(**given, classes=2).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    path = import_model(tmp_path / "theirs", "mine", TWO, "imagenet", out=tmp_path)
    card = load_model(path).card
    assert card.architecture.name == name
    assert ("align_corners=False" in card.notes) == (name != "unet")
    for module in theirs.modules():
        if isinstance(module, nn.Upsample) and module.align_corners:
            module.align_corners = False
    same(theirs, path)
    if name == "unet":
        assert card.architecture.upsampling == "bilinear"
        again = import_model(tmp_path / "theirs" / "model.safetensors", "again", TWO, "percentiles", out=tmp_path)
        assert load_model(again).card.normalise == NormaliseSettings()


def test_interpolation_moves_scores_as_the_card_says() -> None:
    """A step near the edge lies farther inside by (f - 1) / 2 px at most."""
    steps = torch.zeros(1, 1, 1, 32)
    steps[..., 1:] = 1
    for factor, shift in ((4, 1.5), (8, 3.5)):
        theirs, ours = (
            nn.functional.interpolate(steps, scale_factor=(1, factor), mode="bilinear", align_corners=aligned)[0, 0, 0]
            for aligned in (True, False)
        )
        places = [float(np.interp(0.5, line.numpy(), np.arange(len(line)))) for line in (theirs, ours)]
        assert shift - 0.5 < places[1] - places[0] <= shift


def test_one_map_becomes_two(tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = smp.Unet(**UNET, classes=1).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    path = import_model(tmp_path / "theirs", "mine", TWO, "imagenet", out=tmp_path)
    model = load_model(path)
    assert "Its one map, of pore," in model.card.notes
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected, found = torch.sigmoid(theirs(image)), torch.softmax(model.network(image), dim=1)[:, 1:]
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)


def test_classes_that_overlap(tmp_path: Path) -> None:
    smp.Unet(**UNET, classes=2, activation="sigmoid").save_pretrained(tmp_path / "theirs")
    path = import_model(tmp_path / "theirs", "mine", TWO, "imagenet", out=tmp_path)
    assert "each pixel has the most probable" in load_model(path).card.notes


def test_grey_network(tmp_path: Path) -> None:
    smp.Unet(**UNET, classes=2, in_channels=1).save_pretrained(tmp_path / "theirs")
    specs = [ClassSpec(name=name, colour=(1, 2, 3)) for name in TWO]
    card = load_model(import_model(tmp_path / "theirs", "mine", specs, "imagenet", out=tmp_path)).card
    assert card.normalise.mean is not None
    assert len(card.normalise.mean) == card.architecture.in_channels == 1
    assert card.classes == tuple(specs)


def refused(match: str, error: type[Exception], *given: Any, **more: Any) -> None:
    with pytest.raises(error, match=match):
        import_model(*given, **more)


def test_what_does_not_fit(weights: Path, tmp_path: Path) -> None:
    more = {"out": tmp_path}
    refused(
        r"weights\.pth: gives 2 map\(s\), and there are 3 classes; name one for each map",
        ModelError,
        weights,
        "mine",
        ("a", "b", "c"),
        "imagenet",
        architecture=OURS,
        **more,
    )
    other = OURS.model_copy(update={"encoder": "resnet34"})
    refused(
        r"lacks \d+ of the \d+ weights of a unet with encoder resnet34: encoder\.layer1\.2\.bn1\.bias, .* and \d+ "
        "more; name the architecture",
        ModelError,
        weights,
        "mine",
        TWO,
        "imagenet",
        architecture=other,
        **more,
    )
    wider = OURS.model_copy(update={"options": {"decoder_channels": [32, 8, 8]}})
    refused(
        r"is of another shape than a unet .*: decoder\.\S+ is \d+( x \d+)* instead of \d+",
        ModelError,
        weights,
        "mine",
        TWO,
        "imagenet",
        architecture=wider,
        **more,
    )
    assert not (tmp_path / "mine.safetensors").exists()


def test_more_weights_than_the_network_has(unet: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "more.pth"
    torch.save(unet.state_dict() | {"decoder.extra.weight": torch.ones(2)}, path)
    more = {"architecture": OURS, "out": tmp_path}
    refused(
        r"holds 1 weights that a unet .* does not have: decoder\.extra", ModelError, path, "m", TWO, "imagenet", **more
    )
    twice = {f"{which}.{name}": tensor for which in ("model", "ema") for name, tensor in unet.state_dict().items()}
    torch.save(twice, path)
    refused("holds two networks, both of which have", ModelError, path, "m", TWO, "imagenet", **more)


def test_what_is_not_said(weights: Path, tmp_path: Path) -> None:
    refused("weights.pth: says nothing of its network; name the arch", SettingsError, weights, "m", TWO, "imagenet")
    refused(
        "normalise: 'raw' is none that is known",
        SettingsError,
        weights,
        "m",
        TWO,
        "raw",
        architecture=OURS,
        out=tmp_path,
    )
    refused("there is no such file", ModelError, tmp_path / "no.pth", "m", TWO, "imagenet", architecture=OURS)
    refused("classes: ", SettingsError, weights, "m", ("one",), "imagenet", architecture=OURS, out=tmp_path)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"_model_class": "UnetPlusPlus"}, "is of a UnetPlusPlus, which there is not here; there are Unet, FPN"),
        (
            {"_model_class": "FPN", "decoder_merge_policy": "cat"},
            "decoder_merge_policy is cat, which there is not here",
        ),
        ({"architecture": "Unet"}, "is not what save_pretrained writes"),
        ([], "is not what save_pretrained writes"),
    ],
)
def test_settings_that_cannot_be_used(config: object, match: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    refused(match, ModelError, tmp_path, "m", TWO, "imagenet")


def test_a_file_is_not_replaced_by_its_model(tmp_path: Path) -> None:
    torch.manual_seed(1)
    smp.Unet(**UNET, classes=2).save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    refused("would be replaced", SettingsError, tmp_path, "model", TWO, "imagenet", out=tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before

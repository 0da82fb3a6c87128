from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from timm.layers import DropPath

from napari_matseg.core.mix_transformer import DEPTHS, MixTransformer


@pytest.mark.parametrize("name", ["mit_b0", "mit_b2"])
def test_weights_and_maps_are_those_of_another_implementation(name: str) -> None:
    torch.manual_seed(0)
    ours = MixTransformer(name, 2).eval()
    theirs = smp.encoders.get_encoder(name, in_channels=2, depth=5, weights=None).eval()
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(2, 2, 64, 32)
    with torch.inference_mode():
        for found, expected in zip(ours(image), theirs(image), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert list(ours.out_channels) == list(theirs.out_channels)


@pytest.mark.parametrize(("name", "millions"), [*zip(DEPTHS, (3.4, 13.1, 24.2, 44.0, 60.8, 81.4), strict=True)])
def test_sizes_are_those_of_the_paper(name: str, millions: float) -> None:
    with torch.device("meta"):
        encoder = MixTransformer(name, 3)
    assert sum(weight.numel() for weight in encoder.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_later_blocks_are_left_out_more_often() -> None:
    encoder = MixTransformer("mit_b0", 1)
    rates = [part.drop_prob for part in encoder.modules() if isinstance(part, DropPath)]
    assert rates == pytest.approx([0.1 * i / 7 for i in range(8)])

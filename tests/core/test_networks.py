from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from napari_matseg.core.networks import FCN, HRNetV2, SegFormer, make_upsampling


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_transposed_convolution_begins_as_bilinear(factor: int) -> None:
    maps = torch.randn(2, 3, 5, 6)
    with torch.inference_mode():
        found = make_upsampling("transposed", 3, factor)(maps)
        expected = make_upsampling("bilinear", 3, factor)(maps)
    inner = slice(factor, -factor)  # beyond the edge one takes 0, the other the edge itself
    torch.testing.assert_close(found[..., inner, inner], expected[..., inner, inner])
    assert found.shape == expected.shape


def test_nearest() -> None:
    maps = torch.randn(1, 2, 3, 4)
    expected = maps.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    assert torch.equal(make_upsampling("nearest", 2, 4)(maps), expected)


def test_fcn_adds_the_scores_of_three_maps() -> None:
    torch.manual_seed(0)
    network = FCN(encoder_name="tu-resnet10t", in_channels=1, classes=2, upsampling="nearest").eval()
    image = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        maps = network.encoder(image)[-3:]
        scores = [score(one) for score, one in zip(network.decoder.score, maps, strict=True)]
        expected = sum(functional.interpolate(one, size=64, mode="nearest") for one in scores)
        torch.testing.assert_close(network(image), expected)


def test_hrnet_puts_the_maps_of_its_last_stage_side_by_side() -> None:
    network = HRNetV2(encoder_name="tu-hrnet_w18_small", in_channels=1, classes=2, upsampling="bilinear").eval()
    assert network.segmentation_head[0].in_channels == 16 + 32 + 64 + 128
    seen: list[torch.Tensor] = []
    network.decoder.fuse.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(torch.zeros(1, 1, 64, 96))
    assert seen[0].shape == (1, 240, 16, 24)


@pytest.mark.parametrize(("encoder", "width"), [("mit_b0", 256), ("mit_b1", 256), ("mit_b2", 768)])
def test_head_of_segformer_is_as_wide_as_in_the_paper(encoder: str, width: int) -> None:
    network = SegFormer(encoder_name=encoder, in_channels=1, classes=2)
    assert network.segmentation_head[0].in_channels == width

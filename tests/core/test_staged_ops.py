"""Each layer, region by region, against the same layer on the whole map."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from napari_matseg.core.staged.ops import VECTOR, Concatenate, Elementwise, Op, Pair, Part, Region, Window, whole
from napari_matseg.core.staged.resizing import Enlarge, Fold, Pad, Stretch, Transposed, Unfold
from napari_matseg.core.staged.totals import Mean, Moments, normalise

FLOAT, CPU = torch.float32, torch.device("cpu")
generator = torch.Generator().manual_seed(0)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator)


KERNEL = random(5, 4, 3, 3)
POINT = random(5, 4, 1, 1)
EACH = random(4, 1, 3, 3)
WIDE = random(5, 4, 3, 5)
UP = random(4, 5, 4, 4)
UP_EACH = random(4, 1, 2, 2)
BIAS = random(5)

LAYERS: dict[str, tuple[Op, Any]] = {
    "convolution": (
        Window("convolution", (3, 3), (1, 1), (1, 1), (1, 1), KERNEL, BIAS),
        lambda x: functional.conv2d(x, KERNEL, BIAS, padding=1),
    ),
    "with a stride": (
        Window("convolution", (3, 3), (2, 2), (1, 1), (1, 1), KERNEL),
        lambda x: functional.conv2d(x, KERNEL, stride=2, padding=1),
    ),
    "dilated": (
        Window("convolution", (3, 3), (1, 1), (6, 6), (6, 6), KERNEL),
        lambda x: functional.conv2d(x, KERNEL, padding=6, dilation=6),
    ),
    "of each channel": (
        Window("convolution", (3, 3), (1, 1), (1, 1), (1, 1), EACH, None, 4),
        lambda x: functional.conv2d(x, EACH, padding=1, groups=4),
    ),
    "of points": (
        Window("convolution", (1, 1), (2, 2), (0, 0), (1, 1), POINT),
        lambda x: functional.conv2d(x, POINT, stride=2),
    ),
    "not square": (
        Window("convolution", (3, 5), (1, 2), (1, 2), (1, 1), WIDE),
        lambda x: functional.conv2d(x, WIDE, padding=(1, 2), stride=(1, 2)),
    ),
    "maximum": (Window("max", (3, 3), (2, 2), (1, 1)), lambda x: functional.max_pool2d(x, 3, 2, 1)),
    "maximum, rounded up": (
        Window("max", (3, 3), (2, 2), (0, 0), ceil=True),
        lambda x: functional.max_pool2d(x, 3, 2, ceil_mode=True),
    ),
    "mean": (Window("mean", (2, 2), (2, 2), (0, 0)), lambda x: functional.avg_pool2d(x, 2)),
    "mean, rounded up": (
        Window("mean", (2, 2), (2, 2), (0, 0), ceil=True),
        lambda x: functional.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False),
    ),
    "mean, padded": (Window("mean", (3, 3), (2, 2), (1, 1)), lambda x: functional.avg_pool2d(x, 3, 2, 1)),
    "transposed": (
        Transposed((4, 4), (2, 2), (1, 1), UP, BIAS, 1),
        lambda x: functional.conv_transpose2d(x, UP, BIAS, 2, 1),
    ),
    "transposed, of each channel": (
        Transposed((2, 2), (2, 2), (0, 0), UP_EACH, None, 4),
        lambda x: functional.conv_transpose2d(x, UP_EACH, None, 2, groups=4),
    ),
    "nearest": (Enlarge((2, 2), "nearest"), lambda x: functional.interpolate(x, scale_factor=2)),
    "bilinear": (
        Enlarge((4, 4), "bilinear"),
        lambda x: functional.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False),
    ),
    "corners": (
        Stretch((2, 2)),
        lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
    ),
    "fold": (Fold(2), lambda x: functional.pixel_unshuffle(x[..., : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2], 2)),
    "unfold": (Unfold(2), lambda x: functional.pixel_shuffle(x, 2)),
    "pad": (Pad((1, 0), (2, 3), 0.5), lambda x: functional.pad(x, (0, 3, 1, 2), value=0.5)),
}
sides = st.integers(6, 40)


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=15)
@given(height=sides, width=sides, data=st.data())
def test_any_region_is_that_of_the_whole(name, height, width, data):
    op, layer = LAYERS[name]
    maps = random(1, 4, height, width)
    expected = layer(maps)
    size = op.size([(height, width)])
    assert size == tuple(expected.shape[2:])
    top = data.draw(st.integers(0, size[0] - 1))
    left = data.draw(st.integers(0, size[1] - 1))
    region = Region(top, data.draw(st.integers(top + 1, size[0])), left, data.draw(st.integers(left + 1, size[1])))
    (need,) = op.needs(region, [(height, width)])
    assert need.meet(whole((height, width))) == need
    larger = Region(
        max(need.top - 1, 0), need.bottom, max(need.left - 2, 0), need.right
    )  # as another layer may ask for
    for where in (need, larger):
        part = Part(maps[..., where.top : where.bottom, where.left : where.right], where)
        found = op.to(CPU, FLOAT).run([part], region, [(height, width)], inplace=False)
        torch.testing.assert_close(found, expected[..., region.top : region.bottom, region.left : region.right])


def test_flops_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    for name, (op, layer) in LAYERS.items():
        counter = FlopCounterMode(display=False)
        with counter:
            layer(random(1, 4, 12, 16))
        if "convolution" in name or "transposed" in name or name in ("with a stride", "dilated", "of each channel"):
            assert op.flops(whole(op.size([(12, 16)]))) == counter.get_total_flops() > 0
        else:
            assert op.flops(whole(op.size([(12, 16)]))) in (0, counter.get_total_flops())


def test_vectors_are_spread_over_maps():
    maps, vector = random(1, 4, 8, 9), random(1, 2, 1, 1)
    sizes: list[Pair] = [(8, 9), VECTOR]
    region = Region(2, 5, 1, 9)
    both = Concatenate()
    assert both.size(sizes) == (8, 9)
    assert both.needs(region, sizes) == [region, whole(VECTOR)]
    parts = [Part(maps, whole((8, 9))), Part(vector, whole(VECTOR))]
    found = both.run(parts, region, sizes, inplace=False)
    torch.testing.assert_close(found[:, :4], maps[..., 2:5, 1:9])
    torch.testing.assert_close(found[:, 4:], vector.expand(1, 2, 3, 8))
    product = Elementwise(torch.mul).run([Part(maps[:, :2], whole((8, 9))), parts[1]], region, sizes, inplace=False)
    torch.testing.assert_close(product, maps[:, :2, 2:5, 1:9] * vector)


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_totals_are_added_up_from_regions(cut):
    maps = random(1, 6, 20, 11) + 3
    pieces = [maps[:, :, :cut], maps[:, :, cut:]]
    mean = Mean()
    sums = sum(mean.add(piece) for piece in pieces)
    torch.testing.assert_close(mean.finish(sums, 220), functional.adaptive_avg_pool2d(maps, 1))
    moments = Moments(3, 1e-5)
    found = moments.finish(sum(moments.add(piece) for piece in pieces), 220)
    weight, bias = random(6), random(6)
    expected = functional.group_norm(maps, 3, weight, bias, 1e-5)
    weight, bias = weight[None, :, None, None], bias[None, :, None, None]
    torch.testing.assert_close(normalise(maps, found, weight, bias), expected, atol=1e-5, rtol=1e-5)

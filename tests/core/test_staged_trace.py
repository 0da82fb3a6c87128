"""Networks taken apart."""

import pytest
import torch
from torch import nn

from napari_matseg.core.architectures import build_network, stride_of
from napari_matseg.core.staged.layers import run_whole
from napari_matseg.core.staged.reader import CannotStageError
from napari_matseg.core.staged.trace import trace
from napari_matseg.settings import ArchitectureSettings


class Plain(nn.Module):
    """A network of whatever layers."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(image)
        return result


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.function(image)


@pytest.mark.parametrize(
    "architecture",
    [
        {},
        {
            "encoder": "tu-resnet10t",
            "encoder_depth": 3,
            "upsampling": "transposed",
            "fold": 2,
            "options": {"decoder_channels": [16, 8, 8]},
        },
        {"encoder": "timm-mobilenetv3_small_minimal_100", "upsampling": "bilinear"},
        {"encoder": "efficientnet-b0", "encoder_depth": 4, "options": {"decoder_channels": [16, 16, 8, 8]}},
        {"name": "deeplabv3plus"},
        {"name": "deeplabv3"},
        {"name": "fpn"},
        {"name": "fcn"},
    ],
    ids=lambda given: f"{given.get('name', 'unet')} {given.get('encoder', '')}",
)
def test_the_layers_together_are_the_network(architecture):
    torch.manual_seed(0)
    network = build_network(ArchitectureSettings(**architecture), 3).eval()
    stride = stride_of(network)
    layers = trace(network, 1, stride)
    assert layers.steps[0].op is None
    assert layers.steps[-1].channels == 3
    assert layers.sizes((5 * stride, 3 * stride))[-1] == (5 * stride, 3 * stride)
    image = torch.randn(1, 1, 5 * stride, 3 * stride)
    with torch.inference_mode():
        torch.testing.assert_close(run_whole(layers, image), network(image), atol=1e-3, rtol=1e-3)


def test_batch_norms_are_folded_into_convolutions():
    network = Plain(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)
    ).eval()
    for norm in (network.layers[1], network.layers[3]):
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    layers = trace(network, 1, 4)
    assert [type(step.op).__name__ for step in layers.steps] == [
        *("NoneType", "Window", "Elementwise", "Elementwise", "Window")
    ]
    assert [step.inplace for step in layers.steps] == [False, False, True, False, False]


def test_what_another_layer_needs_is_not_written_over():
    def twice(image: torch.Tensor) -> torch.Tensor:
        doubled = image * 2
        return torch.relu(doubled) + doubled

    layers = trace(Plain(nn.Conv2d(1, 2, 1), Function(twice)).eval(), 1, 4)
    image = torch.randn(1, 1, 8, 8)
    weight = layers.steps[1].op.weight
    shifted = nn.functional.conv2d(image, weight, layers.steps[1].op.bias) * 2
    torch.testing.assert_close(run_whole(layers, image), shifted.relu() + shifted)
    assert not layers.steps[3].inplace


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (8, 12))), "a layer 'view'"),
        (Function(lambda x: x.mean(dim=2, keepdim=True) + x), "a mean over other axes"),
        (nn.AdaptiveAvgPool2d(2), "pools the whole image to more than one value"),
        (nn.ReflectionPad2d(1), "pads maps by what they hold"),
        (Function(lambda x: nn.functional.interpolate(x, size=(9, 13))), "enlarges a map by a fraction"),
        (Function(lambda x: (x, x)[:2]), "more than one map"),
        (Function(lambda x: x.sum(dim=1, keepdim=True)), "a sum over an axis"),
        (Function(lambda x: torch.cat([x, x], dim=2)), "another axis than the channels"),
        (Function(lambda x: torch.stack([x, x], dim=0)[0]), "stacks maps"),
        (Function(lambda x: x if x.sum() > 0 else -x), "cannot be traced"),
    ],
)
def test_what_cannot_be_taken_apart_is_said(layer, why):
    with pytest.raises(CannotStageError, match=why):
        trace(Plain(nn.Conv2d(1, 2, 1), layer).eval(), 1, 4)


@pytest.mark.parametrize("name", ["segformer", "vit_adapter"])
def test_attention_is_not_taken_apart(name):
    network = build_network(ArchitectureSettings(name=name), 2).eval()
    with pytest.raises(CannotStageError, match="sees more than its surroundings"):
        trace(network, 1, stride_of(network))


class Joined(nn.Module):
    """A map enlarged, put together with others, and convolved."""

    def __init__(self, factor: int, kernel: int, padding: int, plain: int, *, bias: bool = True) -> None:
        super().__init__()
        self.shrink = nn.Conv2d(1, 3, factor, factor)
        self.others = nn.ModuleList(nn.Conv2d(1, 2, 1) for _ in range(plain))
        self.last = nn.Conv2d(3 + 2 * plain, 2, kernel, padding=padding, bias=bias)
        self.enlarge = nn.Upsample(scale_factor=factor)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        maps = [other(image) for other in self.others] + [self.enlarge(self.shrink(image))]
        result: torch.Tensor = self.last(torch.cat(maps, dim=1) if self.others else maps[0])
        return result


@pytest.mark.parametrize("plain", [0, 1, 2])
@pytest.mark.parametrize(("factor", "kernel", "padding"), [(2, 3, 1), (2, 1, 0), (3, 5, 2), (4, 3, 0), (2, 2, 1)])
def test_copies_of_enlarged_maps_are_not_convolved(factor, kernel, padding, plain):
    torch.manual_seed(0)
    network = Joined(factor, kernel, padding, plain, bias=plain != 1).eval()
    layers = trace(network, 1, 12)
    names = [type(step.op).__name__ for step in layers.steps]
    assert names == ["NoneType", *["Window"] * (2 * plain + 1), "Transposed", *["Elementwise"] * plain] or plain == 2
    assert "Enlarge" not in names
    assert "Concatenate" not in names
    assert names.count("Transposed") == 1
    image = torch.randn(1, 1, 24, 36)
    with torch.inference_mode():
        torch.testing.assert_close(run_whole(layers, image), network(image), atol=1e-5, rtol=1e-5)


def test_sums_of_merged_convolutions_are_written_over():
    layers = trace(Joined(2, 3, 1, 2).eval(), 1, 4)
    assert [step.inplace for step in layers.steps if type(step.op).__name__ == "Elementwise"] == [True, True]


def test_an_enlarged_map_that_is_taken_twice_is_made():
    class Again(Joined):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            large = self.enlarge(self.shrink(image))
            result: torch.Tensor = self.last(large) + self.last(torch.relu(large))
            return result

    network = Again(2, 3, 1, 0).eval()
    assert "Enlarge" in [type(step.op).__name__ for step in trace(network, 1, 4).steps]

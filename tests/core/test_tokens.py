from __future__ import annotations

import torch
from torch import nn

from napari_matseg.core.tokens import initialise, to_maps, to_tokens


def test_tokens_are_cells_in_reading_order_and_back() -> None:
    maps = torch.arange(24.0).view(1, 2, 3, 4)
    tokens = to_tokens(maps)
    assert tokens.shape == (1, 12, 2)
    assert tokens[0, 5].tolist() == maps[0, :, 1, 1].tolist()
    assert torch.equal(to_maps(tokens, (3, 4)), maps)
    assert to_maps(tokens, (3, 4)).is_contiguous()


def test_weights_are_narrow_and_biases_zero() -> None:
    torch.manual_seed(0)
    linear, convolution = nn.Linear(64, 256), nn.Conv2d(64, 64, 3)
    for layer in (linear, convolution, nn.Linear(4, 4, bias=False), nn.ReLU()):
        initialise(layer)
    assert abs(linear.weight.std().item() - 0.02) < 0.001
    assert abs(convolution.weight.std().item() - (2 / 576) ** 0.5) < 0.002
    assert not linear.bias.any()
    assert not convolution.bias.any()

"""Maps of a network as lists of tokens, and how layers between tokens begin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


def to_tokens(maps: Tensor) -> Tensor:
    """(batch, channels, height, width) -> (batch, height x width, channels)."""
    return maps.flatten(2).transpose(1, 2)


def to_maps(tokens: Tensor, shape: tuple[int, int]) -> Tensor:
    """(batch, height x width, channels) -> (batch, channels, height, width), contiguous."""
    maps: Tensor = tokens.transpose(1, 2).unflatten(2, shape)
    return maps.contiguous()


def initialise(module: nn.Module) -> None:
    """Draw the weights of a linear layer from a narrow normal distribution, of a convolution by its outputs.

    As vision transformers begin; for `torch.nn.Module.apply`.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        outputs = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / outputs))
        if module.bias is not None:
            nn.init.zeros_(module.bias)

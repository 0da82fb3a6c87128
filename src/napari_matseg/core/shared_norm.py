"""Batch normalisation over the crops of several processes, as if one process had them all.

torch's own SyncBatchNorm does the same for its own layers on GPUs; this also serves timm's, which drop out and activate
in the same layer, and CPUs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """Sum over the processes; the gradient of a sum is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total


def share_norms(network: nn.Module) -> None:
    """Let each batch norm of a network use the statistics of all processes while it learns.

    Parameters
    ----------
    network : torch.nn.Module
        It is changed. All processes must have as many values for each layer.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = partial(_normalised, module, module.forward)  # type: ignore[method-assign]


def _normalised(layer: nn.BatchNorm2d, alone: Any, x: Tensor) -> Tensor:
    """Do what the layer does; `alone` is what it does by itself, as it should once it has learnt."""
    if not layer.training:
        output: Tensor = alone(x)
        return output
    size = torch.distributed.get_world_size()
    values = x.float()
    # Of means first and of spreads about the common mean then: of sums of squares, rounding would leave little.
    own_variance, own_mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
    mean = _Sum.apply(own_mean) / size
    variance = _Sum.apply(own_variance + (own_mean - mean) ** 2) / size
    if layer.running_mean is not None and layer.running_var is not None and layer.num_batches_tracked is not None:
        with torch.no_grad():
            n = size * x.numel() // x.shape[1]
            layer.num_batches_tracked.add_(1)
            momentum = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
            layer.running_mean.lerp_(mean, momentum)
            layer.running_var.lerp_(variance * n / max(1, n - 1), momentum)
    normalised = (values - mean[:, None, None]) * torch.rsqrt(variance + layer.eps)[:, None, None]
    if layer.affine:
        normalised = normalised * layer.weight[:, None, None] + layer.bias[:, None, None]
    result: Tensor = normalised.to(x.dtype)
    for after in ("drop", "act"):  # of timm's layers that do these, too
        if hasattr(layer, after):
            result = getattr(layer, after)(result)
    return result

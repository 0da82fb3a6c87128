"""Layers that take in the whole image at once: means, and the moments of group norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from typing_extensions import override

from napari_matseg.core.staged.ops import VECTOR, Op, Pair, Region, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class Total(Op):
    """A vector from the whole map: sums over regions are added up, and the vector is made of them."""

    @override
    def size(self, sizes: Sequence[Pair]) -> Pair:
        del sizes
        return VECTOR

    @override
    def needs(self, region: Region, sizes: Sequence[Pair]) -> list[Region]:
        del region
        return [whole(sizes[0])]

    def add(self, maps: Tensor) -> Tensor:
        """Sum over a region, in float64; what the regions of a map give is added up."""
        raise NotImplementedError

    def finish(self, sums: Tensor, cells: int) -> Tensor:
        """Make the vector, float32 of shape (1, channels, 1, 1), from the sums over so many cells."""
        raise NotImplementedError


class Mean(Total):
    """Mean of each channel."""

    @override
    def add(self, maps: Tensor) -> Tensor:
        return maps.sum(dim=(2, 3), dtype=torch.float64)

    @override
    def finish(self, sums: Tensor, cells: int) -> Tensor:
        return (sums / cells).float()[:, :, None, None]


@dataclass(frozen=True, eq=False)
class Moments(Total):
    """What group norm takes off and divides by, for each channel."""

    groups: int
    epsilon: float

    @override
    def add(self, maps: Tensor) -> Tensor:
        maps = maps.double()
        return torch.stack([maps.sum(dim=(2, 3)), maps.square().sum(dim=(2, 3))])

    @override
    def finish(self, sums: Tensor, cells: int) -> Tensor:
        channels = sums.shape[-1]
        each = channels // self.groups
        mean, square = sums.reshape(2, self.groups, each).mean(dim=2) / cells
        scale = torch.rsqrt(square - mean.square() + self.epsilon)
        both = torch.cat([one.repeat_interleave(each) for one in (mean, scale)])
        return both.float()[None, :, None, None]


def normalise(maps: Tensor, moments: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply group norm with moments that are known."""
    mean, scale = moments.chunk(2, dim=1)
    scale = scale * weight
    shift: Any = bias - mean * scale
    normalised: Tensor = maps * scale.to(maps.dtype) + shift.to(maps.dtype)
    return normalised

"""Layers that make a map larger, or arrange its cells anew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.nn import functional
from typing_extensions import override

from napari_matseg.core.staged.ops import Op, Pair, Part, Region, padded, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Transposed(Op):
    """A transposed convolution."""

    kernel: Pair
    stride: Pair
    padding: Pair
    weight: Tensor
    bias: Tensor | None
    groups: int

    @override
    def size(self, sizes: Sequence[Pair]) -> Pair:
        height, width = (
            (n - 1) * s - 2 * p + k for n, k, s, p in zip(sizes[0], self.kernel, self.stride, self.padding, strict=True)
        )
        return height, width

    @override
    def needs(self, region: Region, sizes: Sequence[Pair]) -> list[Region]:
        spans = [
            (-(-(first + p - k + 1) // s), (end - 1 + p) // s + 1)
            for first, end, k, s, p in zip(
                (region.top, region.left),
                (region.bottom, region.right),
                self.kernel,
                self.stride,
                self.padding,
                strict=True,
            )
        ]
        return [Region(*spans[0], *spans[1]).meet(whole(sizes[0]))]

    @override
    def run(self, parts: Sequence[Part], region: Region, sizes: Sequence[Pair], *, inplace: bool) -> Tensor:
        del inplace
        need = self.needs(region, sizes)[0]
        maps = functional.conv_transpose2d(parts[0].cut(need), self.weight, self.bias, self.stride, groups=self.groups)
        top = need.top * self.stride[0] - self.padding[0]
        left = need.left * self.stride[1] - self.padding[1]
        return Part(maps, Region(top, top + maps.shape[2], left, left + maps.shape[3])).cut(region)

    @override
    def flops(self, region: Region) -> int:
        return 2 * region.cells * self.weight.numel() // (self.stride[0] * self.stride[1])

    @override
    def to(self, device: torch.device, dtype: torch.dtype) -> Op:
        bias = None if self.bias is None else self.bias.to(device, dtype)
        weight = self.weight.to(device, dtype, memory_format=torch.channels_last)
        return replace(self, weight=weight, bias=bias)


@dataclass(frozen=True, eq=False)
class Enlarge(Op):
    """Interpolation by a whole factor; bilinear with pixels that have an area (corners not aligned)."""

    factor: Pair
    mode: str

    fresh = False

    @override
    def size(self, sizes: Sequence[Pair]) -> Pair:
        return sizes[0][0] * self.factor[0], sizes[0][1] * self.factor[1]

    @override
    def needs(self, region: Region, sizes: Sequence[Pair]) -> list[Region]:
        spans = []
        for first, end, f in zip((region.top, region.left), (region.bottom, region.right), self.factor, strict=True):
            if self.mode == "nearest":
                spans.append((first // f, (end - 1) // f + 1))
            else:  # cell o lies at (o + 1/2) / f - 1/2, between two cells of the input
                spans.append(((2 * first + 1 - f) // (2 * f), (2 * end - 1 - f) // (2 * f) + 2))
        return [Region(*spans[0], *spans[1]).meet(whole(sizes[0]))]

    @override
    def run(self, parts: Sequence[Part], region: Region, sizes: Sequence[Pair], *, inplace: bool) -> Tensor:
        del inplace
        need = self.needs(region, sizes)[0]
        corners = None if self.mode == "nearest" else False
        factor = tuple(float(f) for f in self.factor)
        maps = functional.interpolate(parts[0].cut(need), scale_factor=factor, mode=self.mode, align_corners=corners)
        top, left = need.top * self.factor[0], need.left * self.factor[1]
        return Part(maps, Region(top, top + maps.shape[2], left, left + maps.shape[3])).cut(region)


@dataclass(frozen=True, eq=False)
class Stretch(Op):
    """Bilinear interpolation with corner pixels on corner pixels, which depends on the size of the whole map."""

    factor: Pair

    @override
    def size(self, sizes: Sequence[Pair]) -> Pair:
        return sizes[0][0] * self.factor[0], sizes[0][1] * self.factor[1]

    def _samples(self, first: int, end: int, n: int, factor: int) -> tuple[int, int, Tensor]:
        """First cell and end of what is sampled, and where, in cells from the first."""
        places = torch.arange(first, end, dtype=torch.float64) * ((n - 1) / max(n * factor - 1, 1))
        start, stop = int(places[0]), min(int(places[-1]) + 2, n)
        return start, stop, places - start

    @override
    def needs(self, region: Region, sizes: Sequence[Pair]) -> list[Region]:
        (height, width), (fy, fx) = sizes[0], self.factor
        top, bottom, _ = self._samples(region.top, region.bottom, height, fy)
        left, right, _ = self._samples(region.left, region.right, width, fx)
        return [Region(top, bottom, left, right)]

    @override
    def run(self, parts: Sequence[Part], region: Region, sizes: Sequence[Pair], *, inplace: bool) -> Tensor:
        del inplace
        maps = parts[0].cut(self.needs(region, sizes)[0])
        spans = ((region.top, region.bottom), (region.left, region.right))
        for axis, span, n, factor in zip((2, 3), spans, sizes[0], self.factor, strict=True):
            _, _, places = self._samples(*span, n, factor)
            lower = places.long().clamp(max=maps.shape[axis] - 1)
            upper = (lower + 1).clamp(max=maps.shape[axis] - 1)
            weight = (places - lower).to(maps.dtype)
            weight = (weight[:, None] if axis == 2 else weight).to(maps.device)
            lower, upper = lower.to(maps.device), upper.to(maps.device)
            maps = torch.lerp(maps.index_select(axis, lower), maps.index_select(axis, upper), weight)
        return maps


@dataclass(frozen=True, eq=False)
class Fold(Op):
    """Blocks of pixels into channels (Shi et al. 2016)."""

    factor: int

    @override
    def size(self, sizes: Sequence[Pair]) -> Pair:
        return sizes[0][0] // self.factor, sizes[0][1] // self.factor

    @override
    def needs(self, region: Region, sizes: Sequence[Pair]) -> list[Region]:
        del sizes
        return [Region(*(end * self.factor for end in region))]

    @override
    def run(self, parts: Sequence[Part], region: Region, sizes: Sequence[Pair], *, inplace: bool) -> Tensor:
        del inplace
        return functional.pixel_unshuffle(parts[0].cut(self.needs(region, sizes)[0]), self.factor)


@dataclass(frozen=True, eq=False)
class Unfold(Op):
    """Channels into blocks of pixels."""

    factor: int

    fresh = False

    @override
    def size(self, sizes: Sequence[Pair]) -> Pair:
        return sizes[0][0] * self.factor, sizes[0][1] * self.factor

    @override
    def needs(self, region: Region, sizes: Sequence[Pair]) -> list[Region]:
        del sizes
        f = self.factor
        return [Region(region.top // f, -(-region.bottom // f), region.left // f, -(-region.right // f))]

    @override
    def run(self, parts: Sequence[Part], region: Region, sizes: Sequence[Pair], *, inplace: bool) -> Tensor:
        del inplace
        need = self.needs(region, sizes)[0]
        maps = functional.pixel_shuffle(parts[0].cut(need), self.factor)
        return Part(maps, Region(*(end * self.factor for end in need))).cut(region)


@dataclass(frozen=True, eq=False)
class Pad(Op):
    """Cells of one value round the map."""

    before: Pair
    after: Pair
    value: float

    @override
    def size(self, sizes: Sequence[Pair]) -> Pair:
        height, width = (b + n + a for n, b, a in zip(sizes[0], self.before, self.after, strict=True))
        return height, width

    def _shifted(self, region: Region) -> Region:
        (dy, dx) = self.before
        return Region(region.top - dy, region.bottom - dy, region.left - dx, region.right - dx)

    @override
    def needs(self, region: Region, sizes: Sequence[Pair]) -> list[Region]:
        top, bottom, left, right = self._shifted(region)
        height, width = sizes[0]
        # At least one cell, also of a region that lies beside the map.
        return [
            Region(
                min(max(top, 0), height - 1),
                max(min(bottom, height), 1),
                min(max(left, 0), width - 1),
                max(min(right, width), 1),
            )
        ]

    @override
    def run(self, parts: Sequence[Part], region: Region, sizes: Sequence[Pair], *, inplace: bool) -> Tensor:
        del inplace
        wanted = self._shifted(region)
        inside = wanted.meet(whole(sizes[0]))
        if inside.height < 1 or inside.width < 1:
            maps = parts[0].maps
            return maps.new_full((1, maps.shape[1], region.height, region.width), self.value)
        missing = (
            *(inside.top - wanted.top, wanted.bottom - inside.bottom),
            *(inside.left - wanted.left, wanted.right - inside.right),
        )
        return padded(parts[0].cut(inside), missing, self.value)

"""What a layer needs of its input to give one region of its output, and how it gives it.

All rows and columns are cells of the map in question, from 0 at its top left; a region's ends are exclusive. A vector
is a map of one cell that holds for the whole image; where it meets a map it is spread over it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

Pair = tuple[int, int]

VECTOR: Pair = (1, 1)


class Region(NamedTuple):
    """Rows and columns of a map."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left

    @property
    def cells(self) -> int:
        """Number of cells."""
        return self.height * self.width

    def join(self, other: Region) -> Region:
        """Smallest region that holds both."""
        return Region(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )

    def meet(self, other: Region) -> Region:
        """Give what both have in common; of no height or width if they have nothing."""
        return Region(
            max(self.top, other.top),
            min(self.bottom, other.bottom),
            max(self.left, other.left),
            min(self.right, other.right),
        )


def whole(size: Pair) -> Region:
    """Give the region that is all of a map."""
    return Region(0, size[0], 0, size[1])


@dataclass(frozen=True, eq=False)
class Part:
    """A region of a map: a tensor of shape (1, channels, height, width)."""

    maps: Tensor
    where: Region

    def cut(self, region: Region) -> Tensor:
        """Give the values of a region inside, without copying."""
        if region == self.where:
            return self.maps
        top, left = self.where.top, self.where.left
        return self.maps[..., region.top - top : region.bottom - top, region.left - left : region.right - left]


def padded(maps: Tensor, widths: tuple[int, int, int, int], value: float) -> Tensor:
    """Put cells of one value above, below, left and right of a map; quicker than torch's, which fills all first."""
    top, bottom, left, right = widths
    height, width = maps.shape[2:]
    out = torch.empty(
        (1, maps.shape[1], top + height + bottom, left + width + right),
        dtype=maps.dtype,
        device=maps.device,
        memory_format=torch.channels_last,
    )
    out[:, :, top : top + height, left : left + width] = maps
    out[:, :, :top] = value
    out[:, :, top + height :] = value
    out[:, :, :, :left] = value
    out[:, :, :, left + width :] = value
    return out


class Op:
    """One layer. `sizes` are height and width of its input maps."""

    fresh = True
    """Whether the result is a tensor of its own, which the next layer may write over."""

    def size(self, sizes: Sequence[Pair]) -> Pair:
        """Height and width of the output."""
        raise NotImplementedError

    def needs(self, region: Region, sizes: Sequence[Pair]) -> list[Region]:
        """Region of each input that a region of the output is made from."""
        raise NotImplementedError

    def run(self, parts: Sequence[Part], region: Region, sizes: Sequence[Pair], *, inplace: bool) -> Tensor:
        """Make a region of the output from those of the inputs, which may be written over if `inplace`."""
        raise NotImplementedError

    def flops(self, region: Region) -> int:
        """Floating-point operations for a region, counted as torch's FLOP counter does: convolutions alone."""
        del region
        return 0

    def to(self, device: torch.device, dtype: torch.dtype) -> Op:
        """Give the layer with its weights there and in that type."""
        del device, dtype
        return self


class _Cellwise(Op):
    """Each cell from the same cell of the inputs; vectors are spread."""

    @override
    def size(self, sizes: Sequence[Pair]) -> Pair:
        return max(sizes)

    @override
    def needs(self, region: Region, sizes: Sequence[Pair]) -> list[Region]:
        return [whole(VECTOR) if size == VECTOR else region for size in sizes]

    def _cut(self, parts: Sequence[Part], region: Region, sizes: Sequence[Pair]) -> list[Tensor]:
        return [part.cut(need) for part, need in zip(parts, self.needs(region, sizes), strict=True)]


@dataclass(frozen=True, eq=False)
class Elementwise(_Cellwise):
    """A function of each cell, such as a sum or an activation."""

    apply: Callable[..., Tensor]
    apply_inplace: Callable[..., Tensor] | None = None
    constants: tuple[Tensor, ...] = ()
    """Vectors that follow the inputs, such as the scale and shift of a batch norm."""

    @override
    def run(self, parts: Sequence[Part], region: Region, sizes: Sequence[Pair], *, inplace: bool) -> Tensor:
        apply = self.apply_inplace if inplace and self.apply_inplace is not None else self.apply
        return apply(*self._cut(parts, region, sizes), *self.constants)

    @override
    def to(self, device: torch.device, dtype: torch.dtype) -> Op:
        return replace(self, constants=tuple(one.to(device, dtype) for one in self.constants))


class Concatenate(_Cellwise):
    """The channels of several maps one after the other."""

    @override
    def run(self, parts: Sequence[Part], region: Region, sizes: Sequence[Pair], *, inplace: bool) -> Tensor:
        del inplace
        maps = self._cut(parts, region, sizes)
        return torch.cat([one.expand(-1, -1, region.height, region.width) for one in maps], dim=1)


@dataclass(frozen=True, eq=False)
class Window(Op):
    """A convolution or pooling: each cell from a window of the input, which is padded at the edges of the map.

    Attributes
    ----------
    kind : "convolution", "max" or "mean"
    kernel, stride, padding, dilation : (int, int)
        Vertical and horizontal.
    weight, bias : tensor or None
        Of a convolution.
    groups : int
    """

    kind: str
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair = (1, 1)
    weight: Tensor | None = None
    bias: Tensor | None = None
    groups: int = 1
    ceil: bool = False
    """Whether a pooling's last window may begin in the map and end beyond it."""

    @override
    def size(self, sizes: Sequence[Pair]) -> Pair:
        height, width = (
            (n + 2 * p - d * (k - 1) - 1 + (s - 1 if self.ceil else 0)) // s + 1
            for n, k, s, p, d in zip(sizes[0], self.kernel, self.stride, self.padding, self.dilation, strict=True)
        )
        return height, width

    def _window(self, region: Region) -> Region:
        """Cells that a region is made from, those beyond the edges of the map counted in."""
        spans = [
            (first * s - p, (end - 1) * s - p + d * (k - 1) + 1)
            for first, end, k, s, p, d in zip(
                (region.top, region.left),
                (region.bottom, region.right),
                self.kernel,
                self.stride,
                self.padding,
                self.dilation,
                strict=True,
            )
        ]
        return Region(*spans[0], *spans[1])

    @override
    def needs(self, region: Region, sizes: Sequence[Pair]) -> list[Region]:
        return [self._window(region).meet(whole(sizes[0]))]

    @override
    def run(self, parts: Sequence[Part], region: Region, sizes: Sequence[Pair], *, inplace: bool) -> Tensor:
        del inplace
        window = self._window(region)
        inside = window.meet(whole(sizes[0]))
        maps = parts[0].cut(inside)
        top, bottom = inside.top - window.top, window.bottom - inside.bottom
        left, right = inside.left - window.left, window.right - inside.right
        if self.kind == "convolution":
            if top != bottom or left != right:
                maps, top, left = padded(maps, (top, bottom, left, right), 0.0), 0, 0
            return functional.conv2d(
                maps,
                self.weight,  # type: ignore[arg-type]
                self.bias,
                self.stride,
                (top, left),
                self.dilation,
                self.groups,
            )
        if self.kind == "mean" and self.padding == (
            0,
            0,
        ):  # a window that ends beyond the map is the mean of what is in it
            return functional.avg_pool2d(maps, self.kernel, self.stride, ceil_mode=self.ceil)
        if top or bottom or left or right:
            maps = padded(maps, (top, bottom, left, right), -torch.inf if self.kind == "max" else 0.0)
        if self.kind == "max":
            return functional.max_pool2d(maps, self.kernel, self.stride, 0, self.dilation)
        return functional.avg_pool2d(maps, self.kernel, self.stride)

    @override
    def flops(self, region: Region) -> int:
        return 0 if self.weight is None else 2 * region.cells * self.weight.numel()

    @override
    def to(self, device: torch.device, dtype: torch.dtype) -> Op:
        if self.weight is None:
            return self
        weight = self.weight.to(device, dtype, memory_format=torch.channels_last)
        bias = None if self.bias is None else self.bias.to(device, dtype)
        return replace(self, weight=weight, bias=bias)

"""ViT-Adapter: a plain vision transformer that gives the maps of a pyramid.

Chen et al. 2023, "Vision Transformer Adapter for Dense Predictions", ICLR, arXiv 2205.08534, with the attention of Zhu
et al. 2021, "Deformable DETR", ICLR, arXiv 2010.04159. Written from the papers. What differs: places are looked up by
`torch.nn.functional.grid_sample`, where the authors have a CUDA kernel for the same sum; class and register tokens stay
with the transformer, whose blocks see them, and neither injectors nor extractors do; the transformer's last
normalisation is kept; batch norm is of one device.

Words: *tokens* are the transformer's, one per patch; *cells* are those of the spatial maps at 1/8, 1/16 and 1/32 of the
resolution, one list of all three, finest first.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional

from napari_matseg.core.tokens import initialise, to_maps, to_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    Shape = tuple[int, int]

STRIDES = (8, 16, 32)  # of the cells
PERCEPTRON = 0.25  # hidden channels per channel, in extractors


class VitAdapter(nn.Module):
    """A timm ViT with a spatial prior, injectors and extractors around groups of its blocks.

    Parameters
    ----------
    name : str
        A plain ViT of timm's, with patches of 8, 16 or 32 px.
    in_channels : int
    interactions : int
        Groups that the transformer's blocks are divided into.
    points : int
        Places that each head looks at in each map.
    prior_channels : int
        Channels of the spatial prior's first layers.
    **vit_options
        Further arguments of the ViT, such as `depth`, `embed_dim` and `num_heads`.

    Attributes
    ----------
    out_channels : list of int
        Channels of what `forward` gives.
    output_stride : int
        What height and width of an image are multiples of.

    Raises
    ------
    ValueError
        If the network is no plain ViT, its patches do not fit, or it has fewer blocks than `interactions`.
    """

    output_stride = STRIDES[-1]

    def __init__(
        self,
        name: str,
        in_channels: int,
        *,
        interactions: int = 4,
        points: int = 4,
        prior_channels: int = 64,
        **vit_options: Any,
    ) -> None:
        super().__init__()
        vit: Any = timm.create_model(
            name,
            pretrained=False,
            in_chans=in_channels,
            num_classes=0,
            global_pool="",
            dynamic_img_size=True,
            **vit_options,
        )
        if not isinstance(vit, VisionTransformer):
            raise ValueError(f"{name} is not a plain ViT")
        self.patch = int(vit.patch_embed.patch_size[0])
        if STRIDES[-1] % self.patch:
            raise ValueError(f"patches of {self.patch} px do not divide {STRIDES[-1]} px")
        blocks: Any = vit.blocks
        depth = len(blocks)
        if not 1 <= interactions <= depth:
            raise ValueError(f"{depth} blocks cannot be divided into {interactions} groups")
        width, heads = int(vit.embed_dim), int(blocks[0].attn.num_heads)
        self.vit = vit
        self.groups = list(pairwise(round(depth * i / interactions) for i in range(interactions + 1)))
        self.out_channels = [width] * 4
        self.prior = SpatialPrior(in_channels, prior_channels, width)
        self.levels = nn.Parameter(torch.zeros(len(STRIDES), width))
        nn.init.normal_(self.levels)
        self.injectors = nn.ModuleList(Injector(width, heads, points) for _ in self.groups)
        # After the last group three extractors instead of one, as the authors do.
        counts = [1] * (interactions - 1) + [3]
        self.extractors = nn.ModuleList(
            nn.ModuleList(Extractor(width, heads, points) for _ in range(count)) for count in counts
        )
        self.up = nn.ConvTranspose2d(width, width, 2, 2)
        initialise(self.up)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(4))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Make the maps of a pyramid.

        Parameters
        ----------
        image : Tensor, shape (batch, in_channels, height, width)
            Height and width are multiples of 32.

        Returns
        -------
        list of Tensor, shape (batch, width, height / s, width / s) for s of 4, 8, 16, 32
        """
        fine, *coarser = self.prior(image)
        shapes: list[Shape] = [(maps.shape[2], maps.shape[3]) for maps in coarser]
        grid = image.shape[2] // self.patch, image.shape[3] // self.patch
        cells = torch.cat([to_tokens(maps) + level for maps, level in zip(coarser, self.levels, strict=True)], dim=1)
        # Interpolates the position embedding; class and register tokens, if there are any, come first.
        all_tokens = self.vit.norm_pre(self.vit.patch_drop(self.vit._pos_embed(self.vit.patch_embed(image))))  # noqa: SLF001
        extra = self.vit.num_prefix_tokens
        at_tokens = centres([grid], image)
        at_cells = centres(shapes, image)
        for (first, last), injector, extractors in zip(self.groups, self.injectors, self.extractors, strict=True):
            tokens = injector(all_tokens[:, extra:], cells, at_tokens, shapes)
            all_tokens = torch.cat([all_tokens[:, :extra], tokens], dim=1)
            for block in self.vit.blocks[first:last]:
                all_tokens = block(all_tokens)
            for extractor in extractors:  # type: ignore[attr-defined]  # torch types the parts of a list as modules
                cells = extractor(cells, all_tokens[:, extra:], at_cells, shapes, grid)
        parts = cells.split([height * width for height, width in shapes], dim=1)
        spatial = [to_maps(part, shape) for part, shape in zip(parts, shapes, strict=True)]
        spatial = [fine + self.up(spatial[0]), *spatial]
        seen = to_maps(self.vit.norm(all_tokens)[:, extra:], grid)
        return [
            norm(maps + functional.interpolate(seen, size=maps.shape[2:], mode="bilinear", align_corners=False))
            for norm, maps in zip(self.norms, spatial, strict=True)
        ]


class SpatialPrior(nn.Module):
    """Convolutions that see what patches are too coarse for.

    Parameters
    ----------
    in_channels : int
    channels : int
        Of the stem; the maps at 1/8 have twice, those at 1/16 and 1/32 four times as many before they are projected.
    width : int
        Channels of all maps that are given.
    """

    def __init__(self, in_channels: int, channels: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _convolution(in_channels, channels, 2),
            _convolution(channels, channels, 1),
            _convolution(channels, channels, 1),
            nn.MaxPool2d(3, 2, 1),
        )
        steps = (channels, 2 * channels, 4 * channels, 4 * channels)
        self.down = nn.ModuleList(_convolution(before, after, 2) for before, after in pairwise(steps))
        self.project = nn.ModuleList(nn.Conv2d(step, width, 1) for step in steps)
        self.apply(initialise)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(batch, in_channels, h, w) -> four of (batch, width, h / s, w / s), s of 4, 8, 16, 32."""
        maps = [self.stem(image)]
        for down in self.down:
            maps.append(down(maps[-1]))
        return [project(one) for project, one in zip(self.project, maps, strict=True)]


def _convolution(before: int, after: int, stride: int) -> nn.Sequential:
    """3 x 3 convolution with batch norm."""
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


class DeformableAttention(nn.Module):
    """Each query looks at a few places around its own in each of several maps; where, and how much, it says itself.

    Parameters
    ----------
    width : int
        Channels of queries, values and results.
    heads : int
        Divides `width`.
    levels, points : int
        Maps, and places that each head looks at in each of them.
    """

    def __init__(self, width: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.offsets = nn.Linear(width, heads * levels * points * 2)
        self.weights = nn.Linear(width, heads * levels * points)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        # At the start each head looks in a direction of its own, to 1, 2, ... cells' distance.
        angles = torch.arange(heads) * (2 * math.pi / heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        steps = torch.arange(1, points + 1)[:, None] * directions[:, None, None]
        with torch.no_grad():
            self.offsets.bias.copy_(steps.expand(heads, levels, points, 2).flatten())

    def forward(self, queries: Tensor, places: Tensor, values: Tensor, shapes: Sequence[Shape]) -> Tensor:
        """Look.

        Parameters
        ----------
        queries : Tensor, shape (batch, n, width)
        places : Tensor, shape (n, 2)
            (x, y) of each query as shares of the image, 0 at its left and top edge, 1 at its right and bottom edge.
        values : Tensor, shape (batch, cells of all maps, width)
        shapes : sequence of (int, int)
            Height and width of each map.

        Returns
        -------
        Tensor, shape (batch, n, width)
        """
        batch, n, width = queries.shape
        per = (batch, n, self.heads, self.levels, self.points)
        offsets = self.offsets(queries).view(*per, 2).float()
        weights = self.weights(queries).view(batch, n, self.heads, -1).float().softmax(-1).view(per)
        parts = self.value(values).split([height * columns for height, columns in shapes], dim=1)
        found = torch.zeros(batch * self.heads, width // self.heads, n, device=queries.device)
        for level, (part, (height, columns)) in enumerate(zip(parts, shapes, strict=True)):
            maps = to_maps(part, (height, columns)).unflatten(1, (self.heads, -1)).flatten(0, 1).float()
            size = torch.tensor([columns, height], device=queries.device)
            looked = places[:, None, None] + offsets[:, :, :, level] / size  # (batch, n, heads, points, 2)
            grid = (2 * looked - 1).transpose(1, 2).flatten(0, 1)
            seen = functional.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
            found = found + (seen * weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]).sum(-1)
        joined = found.unflatten(0, (batch, self.heads)).flatten(1, 2).transpose(1, 2)
        out: Tensor = self.out(joined.to(queries.dtype))
        return out


def centres(shapes: Sequence[Shape], like: Tensor) -> Tensor:
    """Centres of the cells of maps, in reading order, map after map.

    Returns
    -------
    Tensor, shape (cells, 2)
        (x, y) as shares of the image, float32, on the device of `like`.
    """
    found = []
    for height, width in shapes:
        y = (torch.arange(height, device=like.device) + 0.5) / height
        x = (torch.arange(width, device=like.device) + 0.5) / width
        found.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1))
    return torch.cat(found)


class Injector(nn.Module):
    """The transformer's tokens look at the spatial cells; at the start it changes nothing.

    Parameters
    ----------
    width, heads, points : int
        As for `DeformableAttention`.
    """

    def __init__(self, width: int, heads: int, points: int) -> None:
        super().__init__()
        self.norm_tokens, self.norm_cells = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = DeformableAttention(width, heads, len(STRIDES), points)
        self.gamma = nn.Parameter(torch.zeros(width))  # so that what a ViT learnt before is not disturbed

    def forward(self, tokens: Tensor, cells: Tensor, places: Tensor, shapes: Sequence[Shape]) -> Tensor:
        """Give changed tokens.

        Parameters
        ----------
        tokens : Tensor, shape (batch, tokens, width)
        cells : Tensor, shape (batch, cells, width)
        places : Tensor, shape (tokens, 2)
        shapes : sequence of three (int, int)
            Of the maps that the cells are.
        """
        found = self.attention(self.norm_tokens(tokens), places, self.norm_cells(cells), shapes)
        changed: Tensor = tokens + self.gamma * found
        return changed


class Extractor(nn.Module):
    """The spatial cells look at the transformer's tokens; then a perceptron with a convolution in each map.

    Parameters
    ----------
    width, heads, points : int
        As for `DeformableAttention`.
    """

    def __init__(self, width: int, heads: int, points: int) -> None:
        super().__init__()
        self.norm_cells, self.norm_tokens = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = DeformableAttention(width, heads, 1, points)
        hidden = max(1, int(PERCEPTRON * width))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.first = nn.Linear(width, hidden)
        self.convolution = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.second = nn.Linear(hidden, width)
        for layer in (self.first, self.convolution, self.second):
            initialise(layer)

    def forward(self, cells: Tensor, tokens: Tensor, places: Tensor, shapes: Sequence[Shape], grid: Shape) -> Tensor:
        """Give changed cells.

        Parameters
        ----------
        cells : Tensor, shape (batch, cells, width)
        tokens : Tensor, shape (batch, tokens, width)
        places : Tensor, shape (cells, 2)
        shapes : sequence of three (int, int)
            Of the maps that the cells are.
        grid : (int, int)
            Rows and columns of the tokens.
        """
        cells = cells + self.attention(self.norm_cells(cells), places, self.norm_tokens(tokens), [grid])
        hidden = self.first(self.norm(cells)).split([height * width for height, width in shapes], dim=1)
        mixed = [to_tokens(self.convolution(to_maps(part, shape))) for part, shape in zip(hidden, shapes, strict=True)]
        changed: Tensor = cells + self.second(functional.gelu(torch.cat(mixed, dim=1)))
        return changed

"""MobileSAM's image encoder: convolutions first, then attention within windows, ever wider and coarser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPANSION = 4
"""Hidden channels per channel, of the convolution blocks and of the perceptrons."""
CLASSES = 1000
"""Outputs of the classifier that the encoder was first trained with."""


class TinyVit(nn.Module):
    """TinyViT without the last of its down-samplings, and with segment-anything's neck.

    The defaults are those of MobileSAM. Names and shapes of the weights are those of its checkpoint, in which the
    classifier of the first training is still present; nothing here uses it.

    Parameters
    ----------
    img_size : int
        Side of the frame, in pixels; a multiple of 16.
    widths : sequence of int
        Channels of the four stages.
    depths : sequence of int
        Blocks of the four stages.
    heads, windows : sequence of int
        Attention heads, and sides of the windows in cells, of the last three stages.
    out_channels : int
        Channels of the embedding.

    Notes
    -----
    TinyViT: Wu et al. 2022, doi 10.1007/978-3-031-19803-8_5. MobileSAM: Zhang et al. 2023, arXiv 2306.14289.
    """

    def __init__(
        self,
        img_size: int = 1024,
        widths: Sequence[int] = (64, 128, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (4, 5, 10),
        windows: Sequence[int] = (7, 14, 7),
        out_channels: int = 256,
    ) -> None:
        super().__init__()
        self.img_size = img_size
        self.patch_embed = _Stem(widths[0])
        first = [_ConvBlock(widths[0]) for _ in range(depths[0])]
        stages = [_Stage(first, _Shrink(widths[0], widths[1], stride=2))]
        for index, (n_heads, window) in enumerate(zip(heads, windows, strict=True), start=1):
            blocks = [_AttentionBlock(widths[index], n_heads, window) for _ in range(depths[index])]
            # The last stage keeps the size, so that the embedding has a cell for every 16 pixels.
            stride = 2 if index < len(widths) - 2 else 1
            shrink = _Shrink(widths[index], widths[index + 1], stride) if index < len(widths) - 1 else None
            stages.append(_Stage(blocks, shrink))
        self.layers = nn.ModuleList(stages)
        self.norm_head = nn.LayerNorm(widths[-1])
        self.head = nn.Linear(widths[-1], CLASSES)
        self.neck = nn.Sequential(
            nn.Conv2d(widths[-1], out_channels, 1, bias=False),
            LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            LayerNorm2d(out_channels),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Embed images.

        Parameters
        ----------
        image : Tensor, shape (batch, 3, img_size, img_size), float
            As `Sam.preprocess` gives them.

        Returns
        -------
        Tensor, shape (batch, out_channels, img_size / 16, img_size / 16)
        """
        maps = self.patch_embed(image)
        for stage in self.layers:
            maps = stage(maps)
        embedding: Tensor = self.neck(maps)
        return embedding


class _ConvNorm(nn.Module):
    """Convolution and batch norm."""

    def __init__(self, inside: int, outside: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outside)

    def forward(self, maps: Tensor) -> Tensor:
        normed: Tensor = self.bn(self.c(maps))
        return normed


class _Stem(nn.Module):
    """Image to maps of a quarter of its side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = _ConvNorm(3, width // 2, 3, stride=2)
        self.seq = nn.Sequential(half, nn.GELU(), _ConvNorm(width // 2, width, 3, stride=2))

    def forward(self, image: Tensor) -> Tensor:
        maps: Tensor = self.seq(image)
        return maps


class _ConvBlock(nn.Module):
    """Inverted bottleneck (Sandler et al. 2018, doi 10.1109/CVPR.2018.00474)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = EXPANSION * width
        self.conv1 = _ConvNorm(width, hidden)
        self.conv2 = _ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = _ConvNorm(hidden, width)

    def forward(self, maps: Tensor) -> Tensor:
        hidden = functional.gelu(self.conv2(functional.gelu(self.conv1(maps))))
        return functional.gelu(maps + self.conv3(hidden))


class _Shrink(nn.Module):
    """To the width, and with a stride of 2 to half the size, of the next stage."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(inside, outside)
        self.conv2 = _ConvNorm(outside, outside, 3, stride, groups=outside)
        self.conv3 = _ConvNorm(outside, outside)

    def forward(self, maps: Tensor) -> Tensor:
        shrunk: Tensor = self.conv3(functional.gelu(self.conv2(functional.gelu(self.conv1(maps)))))
        return shrunk


class _Stage(nn.Module):
    """Blocks of one width, and the way to the next stage."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, maps: Tensor) -> Tensor:
        for block in self.blocks:
            maps = block(maps)
        return maps if self.downsample is None else self.downsample(maps)


class _Attention(nn.Module):
    """Attention within a window, with one learnt bias for each distance between two cells."""

    attention_bias_idxs: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window**2))
        cells = np.indices((window, window)).reshape(2, -1)
        rows, columns = np.abs(cells[:, :, None] - cells[:, None, :])
        # By way of numpy, so that it holds its values where the network is made on torch's meta device.
        self.register_buffer("attention_bias_idxs", torch.from_numpy(rows * window + columns), persistent=False)

    def forward(self, cells: Tensor) -> Tensor:
        """Attend; shape (windows, cells, width) in and out."""
        count, length, width = cells.shape
        qkv = self.qkv(self.norm(cells)).view(count, length, self.heads, -1)
        query, key, value = (part.transpose(1, 2) for part in qkv.chunk(3, dim=-1))
        biases = self.attention_biases[:, self.attention_bias_idxs].to(query.dtype)
        answers = functional.scaled_dot_product_attention(query, key, value, attn_mask=biases)
        attended: Tensor = self.proj(answers.transpose(1, 2).reshape(count, length, width))
        return attended


class _Perceptron(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, EXPANSION * width)
        self.fc2 = nn.Linear(EXPANSION * width, width)

    def forward(self, cells: Tensor) -> Tensor:
        changed: Tensor = self.fc2(functional.gelu(self.fc1(self.norm(cells))))
        return changed


class _AttentionBlock(nn.Module):
    """Attention within windows, a convolution across their borders, a perceptron."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = _Attention(width, heads, window)
        self.local_conv = _ConvNorm(width, width, 3, groups=width)
        self.mlp = _Perceptron(width)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.local_conv(maps + self._attend(maps))
        changed: Tensor = self.mlp(maps.permute(0, 2, 3, 1))
        return maps + changed.permute(0, 3, 1, 2)

    def _attend(self, maps: Tensor) -> Tensor:
        count, width, height, length = maps.shape
        side = self.window
        # The network was trained with zeros beyond the edge that take part in the attention.
        padded = functional.pad(maps, (0, -length % side, 0, -height % side))
        rows, columns = padded.shape[2] // side, padded.shape[3] // side
        windows = padded.view(count, width, rows, side, columns, side).permute(0, 2, 4, 3, 5, 1)
        attended: Tensor = self.attn(windows.reshape(-1, side * side, width))
        whole = attended.view(count, rows, columns, side, side, width).permute(0, 5, 1, 3, 2, 4)
        return whole.reshape(count, width, rows * side, columns * side)[:, :, :height, :length]

"""Mix Transformer, the encoder of SegFormer, written from the paper.

Xie et al. 2021, arXiv 2105.15203. The encoders of this name in segmentation-models-pytorch are NVIDIA's code, whose
licence allows no commercial use; nothing of it is here. Names and shapes of the weights are those of its checkpoints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from timm.layers.drop import DropPath
from torch import nn
from torch.nn import functional

from napari_matseg.core.tokens import initialise, to_maps, to_tokens

if TYPE_CHECKING:
    from torch import Tensor

WIDTHS = {"mit_b0": (32, 64, 160, 256)}
"""Channels of the four stages; `WIDER` for all sizes that are not here."""
WIDER = (64, 128, 320, 512)
DEPTHS = {
    "mit_b0": (2, 2, 2, 2),
    "mit_b1": (2, 2, 2, 2),
    "mit_b2": (3, 4, 6, 3),
    "mit_b3": (3, 4, 18, 3),
    "mit_b4": (3, 8, 27, 3),
    "mit_b5": (3, 6, 40, 3),
}
"""Blocks of the four stages, by name."""
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
"""Cells along each side that are merged into one before they are looked at."""
EXPANSION = 4
DROP_PATH = 0.1
"""Chance that the last block is left out in training; it rises evenly from 0 at the first."""


class MixTransformer(nn.Module):
    """Four stages of attention at 1/4, 1/8, 1/16 and 1/32 of the resolution, without position embedding.

    Parameters
    ----------
    name : str
        A key of `DEPTHS`.
    in_channels : int

    Attributes
    ----------
    out_channels : list of int
        Channels of what `forward` gives.
    output_stride : int
        What height and width of an image are multiples of.
    """

    output_stride = 32

    def __init__(self, name: str, in_channels: int) -> None:
        super().__init__()
        widths, depths = WIDTHS.get(name, WIDER), DEPTHS[name]
        self.out_channels = [in_channels, 0, *widths]
        rates = (DROP_PATH * i / (sum(depths) - 1) for i in range(sum(depths)))
        before = (in_channels, *widths[:-1])
        for i, (width, depth, heads, reduction) in enumerate(zip(widths, depths, HEADS, REDUCTIONS, strict=True)):
            self.add_module(f"patch_embed{i + 1}", _Patches(before[i], width, *((7, 4) if i == 0 else (3, 2))))
            blocks = (_Block(width, heads, reduction, next(rates)) for _ in range(depth))
            self.add_module(f"block{i + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{i + 1}", nn.LayerNorm(width, eps=1e-6))
        self.apply(initialise)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Make maps as segmentation-models-pytorch's decoders take them.

        Parameters
        ----------
        image : Tensor, shape (batch, in_channels, height, width)
            Height and width are multiples of 32.

        Returns
        -------
        list of Tensor
            The image; a map without channels at 1/2 of the resolution; maps of shape (batch, width, height / s,
            width / s) for s of 4, 8, 16, 32.
        """
        batch, _, height, width = image.shape
        given = [image, image.new_empty(batch, 0, height // 2, width // 2)]
        maps = image
        for i in range(1, 5):
            maps = self.get_submodule(f"patch_embed{i}")(maps)
            shape = (maps.shape[2], maps.shape[3])
            tokens = self.get_submodule(f"patch_embed{i}.norm")(to_tokens(maps))
            for block in self.get_submodule(f"block{i}").children():
                tokens = block(tokens, shape)
            maps = to_maps(self.get_submodule(f"norm{i}")(tokens), shape)
            given.append(maps)
        return given


class _Patches(nn.Module):
    """Overlapping patches become cells; their `norm` is applied to them as tokens."""

    def __init__(self, channels: int, width: int, side: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, side, stride, side // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, channels, h, w) -> (batch, width, h / stride, w / stride)."""
        cells: Tensor = self.proj(maps)
        return cells


class _Block(nn.Module):
    """Attention, then the perceptron, each added to what went in; (batch, cells, width) in and out."""

    def __init__(self, width: int, heads: int, reduction: int, rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _ReducedAttention(width, heads, reduction)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _Perceptron(width)
        self.drop_path = DropPath(rate)

    def forward(self, tokens: Tensor, shape: tuple[int, int]) -> Tensor:
        """`shape` is the height and width of the map that the tokens are."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), shape))
        changed: Tensor = tokens + self.drop_path(self.mlp(self.norm2(tokens), shape))
        return changed


class _ReducedAttention(nn.Module):
    """Each cell looks at all the others, of which blocks of `reduction` x `reduction` are merged into one."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.reduced = reduction > 1
        if self.reduced:
            self.sr = nn.Conv2d(width, width, reduction, reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, shape: tuple[int, int]) -> Tensor:
        """(batch, cells, width) in and out."""
        seen = self.norm(to_tokens(self.sr(to_maps(tokens, shape)))) if self.reduced else tokens
        keys, values = self.kv(seen).chunk(2, dim=-1)
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q(tokens), keys, values)
        )
        found = functional.scaled_dot_product_attention(queries, keys, values)
        out: Tensor = self.proj(found.transpose(1, 2).flatten(2))
        return out


class _Perceptron(nn.Module):
    """Two linear layers with a 3 x 3 convolution between them, by whose padding cells learn where they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, EXPANSION * width)
        convolution = nn.Conv2d(EXPANSION * width, EXPANSION * width, 3, padding=1, groups=EXPANSION * width)
        self.dwconv = nn.ModuleDict({"dwconv": convolution})
        self.fc2 = nn.Linear(EXPANSION * width, width)

    def forward(self, tokens: Tensor, shape: tuple[int, int]) -> Tensor:
        """(batch, cells, width) in and out."""
        maps = self.dwconv["dwconv"](to_maps(self.fc1(tokens), shape))
        out: Tensor = self.fc2(functional.gelu(to_tokens(maps)))
        return out

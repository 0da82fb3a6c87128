"""Layers of segment-anything's mask decoder that touch the image, with projections moved to the tokens.

With few tokens and many cells it is cheaper to project the tokens: q . (W x) is (W^T q) . x, and a sum of a_i (W x_i)
is W (the sum of a_i x_i). Cells come as a list of groups of prompts, each of shape (group, cells, channels): what is
as large as the image is done group by group, which on a CPU are single prompts, so that they stay in its cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_matseg.core.sam.products import product

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """What of the decoder depends on the image alone; made by `FastDecoder.prepare`.

    Attributes
    ----------
    embedding : Tensor, shape (1, cells, channels), float32
    source : Tensor, shape (1, cells, channels)
        The embedding as a prompt without a mask sees it.
    keys, values : Tensor, shape (1, heads, cells, channels of a head)
        For the tokens' first look at the image.
    queries : Tensor, shape (1, heads, channels of a head, cells)
        For the image's first look at the tokens.
    """

    embedding: Tensor
    source: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor


def to_cells(maps: Tensor) -> Tensor:
    """(batch, channels, h, w) -> (batch, h x w, channels)."""
    return maps.flatten(2).transpose(1, 2).contiguous()


class Cross:
    """Attention between tokens and cells; weights split into heads."""

    def __init__(self, attention: Any, dtype: torch.dtype) -> None:
        self.attention = attention
        self.dtype = dtype
        self.heads: int = attention.num_heads
        self.scale = (attention.internal_dim // self.heads) ** -0.5

    def split(self, x: Tensor) -> Tensor:
        """(batch, n, heads x c) -> (batch, heads, n, c)."""
        parts: Tensor = x.unflatten(-1, (self.heads, -1))
        return parts.transpose(1, 2)

    def of_heads(self, weight: Tensor) -> Tensor:
        """(heads x c, channels) -> (heads, c, channels)."""
        parts: Tensor = weight.unflatten(0, (self.heads, -1))
        return parts


class Gather(Cross):
    """Tokens look at the image."""

    def __init__(self, attention: Any, dtype: torch.dtype) -> None:
        super().__init__(attention, dtype)
        self.key = self.of_heads(attention.k_proj.weight)
        self.value = self.of_heads(attention.v_proj.weight).transpose(1, 2)

    def __call__(self, tokens: Tensor, cells: list[Tensor], positions: Tensor) -> Tensor:
        """Look at each prompt's own cells; tokens of shape (prompts, tokens, channels)."""
        import torch

        queries = self.split(self.attention.q_proj(tokens)) * self.scale
        # The bias of the keys adds the same to all scores of a token, which the softmax takes away again.
        folded = (queries @ self.key).flatten(1, 2).to(self.dtype).split(len(cells[0]))
        mixed = torch.cat(
            [
                product(product(query, cell + positions).softmax(-1), cell.transpose(1, 2)).float()
                for query, cell in zip(folded, cells, strict=True)
            ]
        )
        found = (mixed.unflatten(1, (self.heads, -1)) @ self.value).transpose(1, 2).flatten(2)
        return self._out(found + self.attention.v_proj.bias)

    def from_shared(self, tokens: Tensor, image: PreparedImage) -> Tensor:
        """Look at the image before any prompt has changed it."""
        from torch.nn import functional

        queries = self.split(self.attention.q_proj(tokens).flatten(0, 1)[None]).to(self.dtype)
        found = functional.scaled_dot_product_attention(queries, image.keys, image.values)
        return self._out(found[0].transpose(0, 1).reshape(*tokens.shape[:2], -1).float())

    def _out(self, found: Tensor) -> Tensor:
        out: Tensor = self.attention.out_proj(found)
        return out


class Spread(Cross):
    """The image looks at the tokens, with the normalisation behind it."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        attention = layer.cross_attn_image_to_token
        super().__init__(attention, dtype)
        self.query = self.of_heads(attention.q_proj.weight)
        self.query_bias = self.of_heads(attention.q_proj.bias)[..., None]
        self.out = self.of_heads(attention.out_proj.weight.T)
        self.out_bias = attention.out_proj.bias / self.heads  # the weights of each head sum up to 1
        self.norm = Norm(layer.norm4, dtype)

    def __call__(self, placed: Tensor, tokens: Tensor, cells: list[Tensor], positions: Tensor) -> None:
        """Change each prompt's own cells, in their list; `placed` are the tokens with their positions."""
        keys = self.split(self.attention.k_proj(placed)) * self.scale
        folded = (keys @ self.query).flatten(1, 2).to(self.dtype).split(len(cells[0]))
        biases = (keys @ self.query_bias).flatten(1, 2).to(self.dtype).split(len(cells[0]))
        values = self._values(tokens).split(len(cells[0]))
        for i, (key, bias, value) in enumerate(zip(folded, biases, values, strict=True)):
            cells[i] = self._add(product(key, cells[i] + positions).add_(bias), value, cells[i])

    def to_shared(self, placed: Tensor, tokens: Tensor, image: PreparedImage, groups: int) -> list[Tensor]:
        """Look at the tokens before any prompt has changed the image."""
        keys = (self.split(self.attention.k_proj(placed)) * self.scale).to(self.dtype).split(groups)
        values = self._values(tokens).split(groups)
        return [
            self._add((key @ image.queries).flatten(1, 2), value, image.source)
            for key, value in zip(keys, values, strict=True)
        ]

    def _values(self, tokens: Tensor) -> Tensor:
        values = self.split(self.attention.v_proj(tokens))
        folded: Tensor = (values @ self.out + self.out_bias).flatten(1, 2)
        return folded.transpose(1, 2).to(self.dtype).contiguous()

    def _add(self, scores: Tensor, values: Tensor, cells: Tensor) -> Tensor:
        # Tokens before cells in memory: a softmax over so few neighbours would be done one number at a time.
        weights = scores.unflatten(1, (self.heads, -1)).softmax(-2).flatten(1, 2)
        return self.norm(product(weights.transpose(1, 2), values).add_(cells))


class MaskHeads:
    """From the last tokens and cells to scores."""

    def __init__(self, decoder: Any, dtype: torch.dtype) -> None:
        import torch

        self.dtype = dtype
        first, norm, _, second, _ = decoder.output_upscaling
        self.first = (first.weight.to(dtype), first.bias.to(dtype))
        self.second = (second.weight.to(dtype), second.bias.to(dtype))
        self.norm = Norm(norm, dtype)
        layers = zip(*(mlp.layers for mlp in decoder.output_hypernetworks_mlps), strict=True)
        self.layers = [
            (torch.stack([part.weight.T for part in same]), torch.stack([part.bias for part in same])[:, None])
            for same in layers
        ]

    def __call__(self, tokens: Tensor, cells: list[Tensor], scores: Tensor) -> None:
        """Write scores of shape (prompts, outputs, 4 h, 4 w)."""
        import torch
        from torch.nn import functional

        x = tokens[:, : len(self.layers[0][0])].transpose(0, 1)
        for i, (weight, bias) in enumerate(self.layers):
            x = torch.baddbmm(bias, x.relu() if i else x, weight)
        height, width = scores.shape[2] // 4, scores.shape[3] // 4
        mixes = x.transpose(0, 1).to(self.dtype).split(len(cells[0]))
        for part, cell, mix in zip(scores.split(len(cells[0])), cells, mixes, strict=True):
            fine = cell.unflatten(1, (height, width)).permute(0, 3, 1, 2)
            fine = functional.conv_transpose2d(fine, *self.first, stride=2)
            fine = functional.gelu(self.norm(fine.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
            fine = functional.conv_transpose2d(fine, *self.second, stride=2)
            fine = torch.ops.aten.gelu_(fine).permute(0, 2, 3, 1).flatten(1, 2)
            # One matrix is multiplied much faster than a batch of one.
            found = (mix[0] @ fine[0].T)[None] if len(mix) == 1 else mix @ fine.transpose(1, 2)
            part.copy_(found.view_as(part))


class Norm:
    """Normalisation over channels, which are last in memory."""

    def __init__(self, norm: Any, dtype: torch.dtype) -> None:
        self.weight, self.bias, self.eps = norm.weight.to(dtype), norm.bias.to(dtype), norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise (..., channels)."""
        from torch.nn import functional

        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

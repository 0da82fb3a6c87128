"""Image -> embedding: segment-anything's image encoder made fast, with the weights as they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from napari_matseg.core.allocator import kept_memory
from napari_matseg.core.architectures import load_triton_apart
from napari_matseg.core.devices import autocast
from napari_matseg.core.sam.folded import Norm
from napari_matseg.core.sam.products import linear, product
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    import torch
    from segment_anything.modeling import Sam
    from torch import Tensor

SCORES_BYTES = 4 << 20
"""Of attention scores at once on a CPU, so that they stay in its cache."""
MLP_ROWS = 1024
"""Cells that go through an MLP at once."""


class FastEncoder:
    """Image encoder of a promptable model.

    Segment-anything's own (a ViT after Li et al. 2022, doi 10.1007/978-3-031-20077-9_17) is run in another way: what
    pads the windows is not computed but is known, scores of attention never exist as a whole, and on a GPU the
    relative positions (Li et al. 2022, doi 10.1109/CVPR52688.2022.00476) are appended to queries and keys, so that
    its fused attention takes them. Any other encoder is run as it is.

    Parameters
    ----------
    sam : Sam
        On its device.
    dtype : torch.dtype, optional
        What matrices are multiplied in; float32 by default. In a smaller one a copy of the weights is made.
    """

    def __init__(self, sam: Sam, dtype: torch.dtype | None = None) -> None:
        load_triton_apart()
        import torch
        from segment_anything.modeling import ImageEncoderViT

        self._sam = sam
        self._encoder: Any = sam.image_encoder
        self._dtype = dtype or torch.float32
        self._blocks: list[_Block] | None = None
        own = isinstance(self._encoder, ImageEncoderViT)
        if own and all(block.attn.use_rel_pos for block in self._encoder.blocks):
            cells = self._encoder.img_size // self._encoder.patch_embed.proj.kernel_size[0]
            with torch.inference_mode():
                self._blocks = [_Block(block, cells, self._dtype) for block in self._encoder.blocks]
                projection, first_norm, convolution, last_norm = self._encoder.neck
                self._projection = projection.weight.flatten(1).to(self._dtype)
                self._convolution = convolution.weight.to(self._dtype)
                self._norms = Norm(first_norm, torch.float32), Norm(last_norm, torch.float32)

    def encode(self, image_cyx: Tensor) -> Tensor:
        """Embed an image.

        Parameters
        ----------
        image_cyx : Tensor, shape (3, height, width), uint8 or float
            Red, green and blue, 0 to 255, with neither side longer than the model's frame (`img_size`); what it does
            not fill of the frame is padded.

        Returns
        -------
        Tensor, shape (1, channels, img_size / 16, img_size / 16), float32

        Raises
        ------
        InputError
            If the image has another number of channels or is larger than the frame.
        """
        import torch

        side = self._encoder.img_size
        if image_cyx.ndim != 3 or len(image_cyx) != 3 or max(image_cyx.shape[1:]) > side:
            raise InputError(
                f"image has shape {tuple(image_cyx.shape)}, the model takes (3, {side}, {side}) at most; resize it."
            )
        on_cpu = self._sam.device.type == "cpu"
        with torch.inference_mode(), kept_memory(wanted=on_cpu):
            frame = self._sam.preprocess(image_cyx.to(self._sam.device, torch.float32))[None]
            if self._blocks is not None:
                return self._run(frame, self._blocks)
            with autocast(self._sam.device, self._dtype):
                embedding: Tensor = self._encoder(frame)
        return embedding.float()

    def _run(self, frame: Tensor, blocks: list[_Block]) -> Tensor:
        from torch.nn import functional

        patches = self._encoder.patch_embed.proj
        x = functional.conv2d(
            frame.to(self._dtype), patches.weight.to(self._dtype), patches.bias.to(self._dtype), patches.stride
        )
        x = x[0].permute(1, 2, 0).float()
        if self._encoder.pos_embed is not None:
            x = x + self._encoder.pos_embed[0]
        for block in blocks:
            x = block(x)
        x = self._norms[0](linear(x.to(self._dtype), self._projection).float())
        x = functional.conv2d(x[None].permute(0, 3, 1, 2).to(self._dtype), self._convolution, padding=1)
        return self._norms[1](x.permute(0, 2, 3, 1).float()).permute(0, 3, 1, 2).contiguous()


class _Block:
    """One block of the transformer, on cells of shape (height, width, channels), float32."""

    def __init__(self, block: Any, cells: int, dtype: torch.dtype) -> None:
        import torch
        from segment_anything.modeling.image_encoder import get_rel_pos

        attention = block.attn
        self.dtype = dtype
        self.window: int = block.window_size or cells
        self.heads: int = attention.num_heads
        self.scale: float = attention.scale
        self.norms = Norm(block.norm1, torch.float32), Norm(block.norm2, torch.float32)
        parts = (attention.qkv, attention.proj, block.mlp.lin1, block.mlp.lin2)
        self.qkv, self.out, self.wide, self.narrow = (
            (part.weight.to(dtype), None if part.bias is None else part.bias.to(dtype)) for part in parts
        )
        # (queries, keys, channels of a head) along one axis
        self.down, self.across = (
            get_rel_pos(self.window, self.window, table).to(dtype)
            for table in (attention.rel_pos_h, attention.rel_pos_w)
        )

    def __call__(self, x: Tensor) -> Tensor:
        import torch

        x = x + linear(self._attend(self.norms[0](x).to(self.dtype)), *self.out)
        normed = self.norms[1](x).to(self.dtype).flatten(0, 1)
        changes = [linear(linear(part, *self.wide, gelu=True), *self.narrow) for part in normed.split(MLP_ROWS)]
        return x + torch.cat(changes).view(x.shape)

    def _attend(self, x: Tensor) -> Tensor:
        height, width, channels = x.shape
        side = self.window
        down, across = -(-height // side), -(-width // side)
        qkv = linear(x, *self.qkv)
        if (down * side, across * side) != (height, width):
            # A window is padded with zeros before the projection, which makes its bias of them.
            padded = qkv.new_empty(down * side, across * side, 3 * channels)
            padded[:height, :width] = qkv
            padded[height:] = padded[:, width:] = 0 if self.qkv[1] is None else self.qkv[1]
            qkv = padded
        qkv = qkv.view(down, side, across, side, 3, self.heads, -1).permute(4, 0, 2, 5, 1, 3, 6)
        q, k, v = qkv.reshape(3, -1, side, side, channels // self.heads).contiguous()
        rows = q @ self.down.transpose(1, 2)
        columns = (q.transpose(1, 2) @ self.across.transpose(1, 2)).transpose(1, 2)
        found = _attention((q * self.scale).flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), rows, columns)
        found = found.view(down, across, self.heads, side, side, -1).permute(0, 3, 1, 4, 2, 5)
        return found.reshape(down * side, across * side, channels)[:height, :width].contiguous()


def _attention(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Attention with relative positions.

    Parameters
    ----------
    q, k, v : Tensor, shape (batch, side x side, channels)
    rows, columns : Tensor, shape (batch, side, side, side)
        What is added to the scores of a query, which stands in a row and in a column, for the row and for the column
        of a key.

    Returns
    -------
    Tensor, shape (batch, side x side, channels)
    """
    on_cpu = q.device.type == "cpu"
    if on_cpu and q.element_size() == 4:  # to add is cheaper than to multiply, but slow in half precision
        return _attend_in_parts(q, k, v, (rows, columns))
    places = _places(rows.shape[1]).to(k)
    q = _join(q, rows.flatten(1, 2), columns.flatten(1, 2))
    k = _join(k, places.expand(len(k), -1, -1))
    if on_cpu:
        return _attend_in_parts(q, k, v)
    return _attend_fused(q, k, v)


def _attend_fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    from torch.nn import functional

    wide = functional.pad(v, (0, q.shape[-1] - v.shape[-1]))  # the fastest kernels ask for one width of all three
    found = functional.scaled_dot_product_attention(q[None], k[None], wide[None], scale=1)
    return found[0, ..., : v.shape[-1]].contiguous()


def _attend_in_parts(q: Tensor, k: Tensor, v: Tensor, added: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Attention on a CPU, with scores in parts that stay in its cache."""
    import torch

    cells = k.shape[1]
    batch = max(1, SCORES_BYTES // (cells * cells * q.element_size()))
    side = math.isqrt(cells)
    lines = min(side, max(1, SCORES_BYTES // (side * cells * q.element_size())))
    values = v.transpose(1, 2).contiguous()
    found = torch.empty_like(v)
    for start in range(0, len(q), batch):
        these = slice(start, start + batch)
        for line in range(0, side, lines):
            some, part = slice(line, line + lines), slice(line * side, (line + lines) * side)
            scores = product(q[these, part], k[these])
            if added is not None:
                by_place = scores.view(len(scores), -1, side, side, side)
                by_place.add_(added[0][these, some, :, :, None]).add_(added[1][these, some, :, None, :])
            found[these, part] = product(scores.softmax(-1), values[these])
    return found


def _places(side: int) -> Tensor:
    """Row and column of each cell, one-hot: (side x side, 2 side)."""
    import torch

    one = torch.eye(side)
    return torch.cat([one.repeat_interleave(side, 0), one.repeat(side, 1)], dim=1)


def _join(*parts: Tensor) -> Tensor:
    """Concatenate channels, to a multiple of 8 as fused attention wants them."""
    import torch
    from torch.nn import functional

    joined = torch.cat(parts, dim=-1)
    return functional.pad(joined, (0, -joined.shape[-1] % 8))

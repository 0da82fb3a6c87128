"""Layout -> promptable network, and weights -> the layout that they are of."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from napari_matseg.core.architectures import load_triton_apart
from napari_matseg.errors import ModelError
from napari_matseg.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from segment_anything.modeling import Sam
    from torch import Tensor, nn

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
"""Mean and standard deviation of red, green and blue, from 0 to 255, that segment-anything normalises with."""

DECODER_HEADS = 8
"""Attention heads of segment-anything's mask decoder, which leave no trace in the shapes of its weights."""


class Layout(Settings):
    """What is needed to make a promptable network, but for the values of its weights."""

    encoder: Literal["vit", "tiny_vit", "compact"]
    """Segment-anything's, MobileSAM's, or the one that ships."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The encoder's own dimensions: arguments of `TinyVit` or `CompactEncoder`, or for "vit" `embed_dim`, `depth`,
    `num_heads`, `mlp_dim`, `window_size` and `global_attn_indexes`."""
    image_size: Annotated[int, Field(ge=16, le=8192)] = 1024
    """Side of the frame that the encoder takes, in pixels."""
    patch: Annotated[int, Field(ge=1)] = 16
    """Pixels of the frame for one cell of the embedding, along each axis."""
    prompt_dim: Annotated[int, Field(ge=16, multiple_of=16)] = 256
    """Channels of the embedding."""


def _official(width: int, depth: int, heads: int, every: int) -> Layout:
    options = {
        "embed_dim": width,
        "depth": depth,
        "num_heads": heads,
        "mlp_dim": 4 * width,
        "window_size": 14,
        "global_attn_indexes": list(range(every - 1, depth, every)),
    }
    return Layout(encoder="vit", options=options)


LAYOUTS = {
    "vit_b": _official(768, 12, 12, 3),
    "vit_l": _official(1024, 24, 16, 6),
    "vit_h": _official(1280, 32, 16, 8),
    "vit_t": Layout(
        encoder="tiny_vit",
        options={
            "widths": [64, 128, 160, 320],
            "depths": [2, 2, 6, 2],
            "heads": [4, 5, 10],
            "windows": [7, 14, 7],
        },
    ),
}
"""Layouts of segment-anything's three networks and of MobileSAM's."""


def build_sam(layout: Layout) -> Sam:
    """Make a promptable network with random weights.

    Parameters
    ----------
    layout : Layout

    Returns
    -------
    segment_anything.modeling.Sam
        In training mode. Its `image_encoder` takes float tensors of shape (batch, 3, image_size, image_size) from
        `Sam.preprocess` and gives embeddings of shape (batch, prompt_dim, image_size / patch, image_size / patch).

    Raises
    ------
    ModelError
        If no network can be made of the layout.

    Notes
    -----
    Kirillov et al. 2023, doi 10.1109/ICCV51070.2023.00371.
    """
    load_triton_apart()
    from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    if layout.image_size % layout.patch:
        raise ModelError(f"image_size {layout.image_size} is no multiple of patch {layout.patch}; correct the layout.")
    side, cells = layout.image_size, layout.image_size // layout.patch
    try:
        encoder = _build_encoder(layout)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"encoder {layout.encoder} with options {layout.options} cannot be built ({first}); correct the layout."
        ) from error
    dim = layout.prompt_dim
    return Sam(
        encoder,
        PromptEncoder(
            embed_dim=dim, image_embedding_size=(cells, cells), input_image_size=(side, side), mask_in_chans=16
        ),
        MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=dim, mlp_dim=2048, num_heads=DECODER_HEADS),
            transformer_dim=dim,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
        list(PIXEL_MEAN),
        list(PIXEL_STD),
    )


def _build_encoder(layout: Layout) -> nn.Module:
    encoder: nn.Module
    if layout.encoder == "vit":
        return _build_vit(layout, **layout.options)
    if layout.encoder == "tiny_vit":
        from napari_matseg.core.sam.tiny_vit import TinyVit

        encoder = TinyVit(layout.image_size, out_channels=layout.prompt_dim, **layout.options)
    else:
        from napari_matseg.core.sam.compact import CompactEncoder

        encoder = CompactEncoder(img_size=layout.image_size, out_channels=layout.prompt_dim, **layout.options)
    return encoder


def _build_vit(
    layout: Layout,
    *,
    embed_dim: int,
    depth: int,
    num_heads: int,
    mlp_dim: int,
    window_size: int,
    global_attn_indexes: Sequence[int],
) -> nn.Module:
    from segment_anything.modeling import ImageEncoderViT
    from torch import nn

    encoder: nn.Module = ImageEncoderViT(
        img_size=layout.image_size,
        patch_size=layout.patch,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=(mlp_dim + 0.5) / embed_dim,  # it is multiplied and cut to a whole number there
        out_chans=layout.prompt_dim,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=window_size,
        global_attn_indexes=tuple(global_attn_indexes),
    )
    return encoder


def recognise(weights: Mapping[str, Tensor]) -> Layout:
    """Find the layout that weights are of, from names and shapes alone.

    Parameters
    ----------
    weights : mapping of str to Tensor
        By the names that segment-anything or MobileSAM gives them.

    Raises
    ------
    ModelError
        If they are not of one of the two.
    """
    try:
        if "image_encoder.pos_embed" in weights:
            return _recognise_vit(weights)
        if "image_encoder.patch_embed.seq.2.c.weight" in weights:
            return _recognise_tiny_vit(weights)
    except (ArithmeticError, LookupError, ValueError) as error:
        raise ModelError("lacks parts of its image encoder; get it again.") from error
    raise ModelError(
        "holds no image encoder of segment-anything or MobileSAM, and no card that says what it is; use another file."
    )


def _recognise_vit(weights: Mapping[str, Tensor]) -> Layout:
    cells = weights["image_encoder.pos_embed"].shape[1]
    width, _, patch, _ = weights["image_encoder.patch_embed.proj.weight"].shape
    depth = _count(weights, "image_encoder.blocks.{}.norm1.weight")
    lengths = [weights[f"image_encoder.blocks.{block}.attn.rel_pos_h"].shape[0] for block in range(depth)]
    everywhere = [block for block, length in enumerate(lengths) if length == 2 * cells - 1]
    within = [length for length in lengths if length != 2 * cells - 1]
    return Layout(
        encoder="vit",
        options={
            "embed_dim": width,
            "depth": depth,
            "num_heads": width // weights["image_encoder.blocks.0.attn.rel_pos_h"].shape[1],
            "mlp_dim": weights["image_encoder.blocks.0.mlp.lin1.weight"].shape[0],
            "window_size": (within[0] + 1) // 2 if within else 0,
            "global_attn_indexes": everywhere,
        },
        image_size=cells * patch,
        patch=patch,
        prompt_dim=weights["image_encoder.neck.0.weight"].shape[0],
    )


def _recognise_tiny_vit(weights: Mapping[str, Tensor]) -> Layout:
    """Recognise MobileSAM; nothing in its weights tells the side of the frame, which is 1024 for all."""
    stages = _count(weights, "image_encoder.layers.{}.blocks.0.local_conv.c.weight", start=1) + 1
    first = "image_encoder.layers.{}.blocks.0.attn.attention_biases"
    biases = [weights[first.format(stage)].shape for stage in range(1, stages)]
    shrinks = [weights[f"image_encoder.layers.{i}.downsample.conv1.c.weight"].shape[0] for i in range(stages - 1)]
    return Layout(
        encoder="tiny_vit",
        options={
            "widths": [weights["image_encoder.patch_embed.seq.2.c.weight"].shape[0], *shrinks],
            "depths": [
                _count(weights, "image_encoder.layers.0.blocks.{}.conv1.c.weight"),
                *(
                    _count(weights, f"image_encoder.layers.{stage}.blocks.{{}}.local_conv.c.weight")
                    for stage in range(1, stages)
                ),
            ],
            "heads": [heads for heads, _ in biases],
            "windows": [math.isqrt(distances) for _, distances in biases],
        },
        prompt_dim=weights["image_encoder.neck.0.weight"].shape[0],
    )


def _count(weights: Mapping[str, Tensor], name: str, start: int = 0) -> int:
    number = start
    while name.format(number) in weights:
        number += 1
    return number - start

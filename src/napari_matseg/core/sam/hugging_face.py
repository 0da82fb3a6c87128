"""Segment-anything's weights under the names that Hugging Face's transformers gives them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from napari_matseg.core.sam.networks import DECODER_HEADS
from napari_matseg.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
SHARED = "shared_image_embedding.positional_embedding"
SHARED_AGAIN = "prompt_encoder.shared_embedding.positional_embedding"
"""Two names of one tensor, of which a file may hold either or both."""

_MLP = r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d+))"
_RENAMED = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"^{SHARED}$", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
        (r"^vision_encoder\.patch_embed\.projection\.", "image_encoder.patch_embed.proj."),
        (r"^vision_encoder\.layers\.(\d+)\.layer_norm", r"image_encoder.blocks.\1.norm"),
        (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
        (r"^vision_encoder\.neck\.conv1\.", "image_encoder.neck.0."),
        (r"^vision_encoder\.neck\.layer_norm1\.", "image_encoder.neck.1."),
        (r"^vision_encoder\.neck\.conv2\.", "image_encoder.neck.2."),
        (r"^vision_encoder\.neck\.layer_norm2\.", "image_encoder.neck.3."),
        (r"^vision_encoder\.", "image_encoder."),
        (r"^prompt_encoder\.mask_embed\.conv1\.", "prompt_encoder.mask_downscaling.0."),
        (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "prompt_encoder.mask_downscaling.1."),
        (r"^prompt_encoder\.mask_embed\.conv2\.", "prompt_encoder.mask_downscaling.3."),
        (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "prompt_encoder.mask_downscaling.4."),
        (r"^prompt_encoder\.mask_embed\.conv3\.", "prompt_encoder.mask_downscaling.6."),
        (r"^prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
        (r"^mask_decoder\.transformer\.layers\.(\d+)\.layer_norm", r"mask_decoder.transformer.layers.\1.norm"),
        (r"^mask_decoder\.transformer\.layer_norm_final_attn\.", "mask_decoder.transformer.norm_final_attn."),
        (r"^mask_decoder\.upscale_conv1\.", "mask_decoder.output_upscaling.0."),
        (r"^mask_decoder\.upscale_layer_norm\.", "mask_decoder.output_upscaling.1."),
        (r"^mask_decoder\.upscale_conv2\.", "mask_decoder.output_upscaling.3."),
        (_MLP + r"\.proj_in\.", r"\1.layers.0."),
        (_MLP + r"\.layers\.0\.", r"\1.layers.1."),
        (_MLP + r"\.proj_out\.", r"\1.layers.2."),
    )
]


def is_hugging_face(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights have the names that transformers' `SamModel` gives them."""
    return any(name.startswith("vision_encoder.") for name in weights)


def rename(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give weights the names that segment-anything has for them; those it does not know keep theirs."""
    shared = {SHARED: weights[SHARED_AGAIN]} if SHARED_AGAIN in weights else {}
    return {_renamed(name): weight for name, weight in {**shared, **weights}.items() if name != SHARED_AGAIN}


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        if pattern.match(name):
            return pattern.sub(replacement, name)
    return name


def check_config(path: Path) -> None:
    """See to it that a configuration is of segment-anything's first generation, with its decoder.

    Parameters
    ----------
    path : Path
        A config.json.

    Raises
    ------
    ModelError
        If it is of another model, or cannot be read.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind = config.get("model_type")
        heads = (config.get("mask_decoder_config") or {}).get("num_attention_heads", DECODER_HEADS)
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: is not a model's configuration or is damaged; get it again.") from error
    if kind != "sam":
        raise ModelError(
            f"{path}: is of a model of type {kind!r}; only 'sam' can be used (facebook/sam-vit-base and its kin)."
        )
    if heads != DECODER_HEADS:
        raise ModelError(f"{path}: its mask decoder has {heads} attention heads; only {DECODER_HEADS} can be used.")

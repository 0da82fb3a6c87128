"""segment-anything's prompt encoder and mask decoder, made fast for many prompts on one image.

The mathematics is theirs (Kirillov et al. 2023, arXiv 2304.02643, appendix A) in another order: what depends on the
image alone is computed once, and what stands next to each other is multiplied into one (`folded`). Which of the masks
is wanted is decided at low resolution, and only that one is brought to the image's (`upscale`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from napari_matseg.core.sam.folded import Gather, MaskHeads, PreparedImage, Spread, to_cells
from napari_matseg.core.sam.products import linear
from napari_matseg.core.sam.upscale import upscale
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    import torch
    from segment_anything.modeling import Sam
    from torch import Tensor

__all__ = ["Choice", "Decoded", "FastDecoder", "PreparedImage", "PromptBatch", "choose", "upscale"]

Choice = Literal["best", "part", "particle", "agglomerate"]

CHUNK_BYTES = {"cpu": 16 << 20, "cuda": 128 << 20}
"""Of the image's cells, one copy for each prompt of a chunk; a few times this is needed at once."""
MOST_IN_CHUNK = 256
STABILITY_OFFSET = 1.0  # logits; as segment-anything's automatic mask generator


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """Prompts of one kind, answered together; coordinates are px of the model's frame, as `predict_torch` takes them.

    As in segment-anything padding is a token that others attend to: a prompt is answered as alone only beside prompts
    with as many points.

    Attributes
    ----------
    points_xy : Tensor, shape (prompts, n, 2), float32
    polarity : Tensor, shape (prompts, n), int
        1 for a positive point, 0 for a negative one, -1 for padding.
    boxes_xyxy : Tensor, shape (prompts, 4), float32
    masks : Tensor, shape (prompts, 1, 4 h, 4 w), float32
        Scores (logits) of an earlier answer, for an embedding of h x w cells.
    """

    points_xy: Tensor | None = None
    polarity: Tensor | None = None
    boxes_xyxy: Tensor | None = None
    masks: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        if (self.points_xy is None) != (self.polarity is None):
            raise InputError("prompts have points without polarity or polarity without points; give both or neither.")
        if not self._parts():
            raise InputError("prompts have neither points nor boxes nor masks; give one of them.")
        if len({len(part) for part in self._parts()}) != 1:
            raise InputError("prompts differ in number between points, polarity, boxes and masks; give one of each.")

    def __len__(self) -> int:
        """Give the number of prompts."""
        return len(self._parts()[0])

    def __getitem__(self, chosen: slice) -> PromptBatch:
        """Give some of the prompts."""
        parts = (self.points_xy, self.polarity, self.boxes_xyxy, self.masks)
        return PromptBatch(*(None if part is None else part[chosen] for part in parts))

    def _parts(self) -> list[Tensor]:
        parts = (self.points_xy, self.polarity, self.boxes_xyxy, self.masks)
        return [part for part in parts if part is not None]


@dataclass(frozen=True, eq=False)
class Decoded:
    """Answers to prompts: output 0 is segment-anything's single mask, 1 to 3 are its three.

    Attributes
    ----------
    scores : Tensor, shape (prompts, 4, 4 h, 4 w), float32
        Logits for an embedding of h x w cells.
    iou : Tensor, shape (prompts, 4), float32
        IoU that the model predicts for its masks.
    area : Tensor, shape (prompts, 4), float32
        Number of positive scores in the part of the frame that the image fills.
    stability : Tensor, shape (prompts, 4), float32
        IoU between the masks at thresholds 1 and -1 in that part (segment-anything's stability score); 0 for nothing.
    """

    scores: Tensor
    iou: Tensor
    area: Tensor
    stability: Tensor


def choose(
    decoded: Decoded,
    choice: Choice = "best",
    single: Tensor | bool = False,
    area_limits: tuple[Tensor | float, Tensor | float] | None = None,
) -> Tensor:
    """Choose one output for each prompt.

    Parameters
    ----------
    decoded : Decoded
    choice : {"best", "part", "particle", "agglomerate"}
        Of the three masks, as far as they are not empty: the one with the highest predicted IoU, the smallest, the
        middle one (the larger of two), the largest.
    single : bool or Tensor of bool, shape (prompts,)
        Take segment-anything's single mask, which is better where a prompt leaves nothing open (a box, several
        points).
    area_limits : tuple of float or Tensor of shape (prompts,), optional
        Smallest and largest area, in units of `decoded.area`. Of the masks within, the one next to the choice in the
        order of areas is taken; of two as near, the one with the higher predicted IoU. Where none lies within, the
        limits do not count: what to make of such an object is the caller's.

    Returns
    -------
    Tensor, shape (prompts,), int64
        Index of the output.
    """
    import torch

    area, device = decoded.area, decoded.area.device
    alone = torch.as_tensor(single, device=device).expand(len(area))[:, None]
    asked = torch.where(torch.arange(area.shape[1], device=device) == 0, alone, ~alone)
    there = _if_any(asked & (area > 0), asked)
    fits = there
    if area_limits is not None:
        least, most = (torch.as_tensor(limit, device=device).expand(len(area))[:, None] for limit in area_limits)
        fits = _if_any(there & (area >= least) & (area <= most), there)
    merit = decoded.iou
    if choice != "best":
        rank = torch.where(there, area, torch.inf).argsort(dim=1, stable=True).argsort(dim=1)
        count = there.sum(dim=1, keepdim=True)
        wanted = {"part": torch.zeros_like(count), "particle": count // 2, "agglomerate": count - 1}[choice]
        # A step in the order of areas counts for more than any predicted IoU, which is about 0 to 1.
        merit = merit.clamp(-1, 2) - 4 * (rank - wanted).abs()
    return torch.where(fits, merit, -torch.inf).argmax(dim=1)


def _if_any(narrow: Tensor, wide: Tensor) -> Tensor:
    """Row by row the narrower of two choices, unless it leaves nothing."""
    import torch

    return torch.where(narrow.any(dim=1, keepdim=True), narrow, wide)


class FastDecoder:
    """Decoder for many prompts on one image.

    Parameters
    ----------
    sam : Sam
        Its prompt encoder and mask decoder are used; on their device.
    dtype : torch.dtype, optional
        For all that is as large as the image; float32 by default. Tokens are always float32. bfloat16 is faster on
        processors that multiply it, and good for scores within about a hundredth of their range.
    """

    def __init__(self, sam: Sam, dtype: torch.dtype | None = None) -> None:
        import torch

        decoder: Any = sam.mask_decoder
        self.dtype = dtype or torch.float32
        self.device = sam.device
        self._prompt_encoder = sam.prompt_encoder
        self._layers: Any = decoder.transformer.layers
        self._final_norm = decoder.transformer.norm_final_attn
        self._iou_head = decoder.iou_prediction_head
        with torch.inference_mode():
            self._gathers = [Gather(layer.cross_attn_token_to_image, self.dtype) for layer in self._layers]
            self._gathers.append(Gather(decoder.transformer.final_attn_token_to_image, self.dtype))
            self._spreads = [Spread(layer, self.dtype) for layer in self._layers]
            self._heads = MaskHeads(decoder, self.dtype)
            self._own_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])[None]
            self._positions32 = to_cells(sam.prompt_encoder.get_dense_pe())
            self._positions = self._positions32.to(self.dtype)
        size = self._positions.numel() * self._positions.element_size()
        budget = CHUNK_BYTES["cpu" if self.device.type == "cpu" else "cuda"]
        self.chunk = min(max(budget // size, 1), MOST_IN_CHUNK)

    def prepare(self, embedding: Tensor) -> PreparedImage:
        """Compute what depends on the image alone.

        Parameters
        ----------
        embedding : Tensor, shape (1, channels, h, w), float32
            From `sam.image_encoder`.

        Raises
        ------
        InputError
            If the embedding has another shape than the model's.
        """
        import torch

        height, width = self._prompt_encoder.image_embedding_size
        expected = (1, self._positions.shape[2], height, width)
        if embedding.shape != expected:
            raise InputError(
                f"embedding has shape {tuple(embedding.shape)}, the model's have {expected}; embed the image with it."
            )
        with torch.inference_mode():
            cells = to_cells(embedding.to(self.device, torch.float32))
            source = cells + self._prompt_encoder.no_mask_embed.weight
            seen = source + self._positions32
            gather, spread = self._gathers[0], self._spreads[0]
            return PreparedImage(
                embedding=cells,
                source=source.to(self.dtype),
                keys=gather.split(gather.attention.k_proj(seen)).to(self.dtype).contiguous(),
                values=gather.split(gather.attention.v_proj(source)).to(self.dtype).contiguous(),
                queries=spread.split(spread.attention.q_proj(seen)).transpose(2, 3).to(self.dtype).contiguous(),
            )

    def decode(self, image: PreparedImage, batch: PromptBatch, input_hw: tuple[int, int]) -> Decoded:
        """Answer prompts.

        Parameters
        ----------
        image : PreparedImage
        batch : PromptBatch
            Any number of prompts; the answers alone take 1 MB each for an embedding of 64 x 64. `self.chunk` is the
            number to give at a time where memory counts.
        input_hw : tuple of int
            Height and width in px of the part of the frame that the image fills (`SamPredictor.input_size`).

        Returns
        -------
        Decoded
        """
        import torch

        height, width = (4 * side for side in self._prompt_encoder.image_embedding_size)
        outputs = self._own_tokens.shape[1] - 1
        scores = torch.empty((len(batch), outputs, height, width), device=self.device)
        iou = torch.empty((len(batch), outputs), device=self.device)
        with torch.inference_mode():
            for start in range(0, len(batch), self.chunk):
                part = slice(start, start + self.chunk)
                iou[part] = self._decode_chunk(image, batch[part], scores[part])
            return self.describe(scores, iou, input_hw)

    def describe(self, scores: Tensor, iou: Tensor, input_hw: tuple[int, int]) -> Decoded:
        """Add to scores what they say in the part of the frame that the image fills; for `decode`, and means of it."""
        frame = self._prompt_encoder.input_image_size
        rows, columns = (
            -(-length * cells // side) for length, cells, side in zip(input_hw, scores.shape[-2:], frame, strict=True)
        )
        area, stability = _statistics(scores[..., :rows, :columns])
        return Decoded(scores, iou, area, stability)

    def _decode_chunk(self, image: PreparedImage, batch: PromptBatch, scores: Tensor) -> Tensor:
        """Write the scores of some prompts, and return the predicted IoU."""
        import torch

        positions = self._own_tokens.expand(len(batch), -1, -1)
        if batch.points_xy is not None or batch.boxes_xyxy is not None:
            points = None if batch.points_xy is None else (batch.points_xy, batch.polarity)
            sparse, _ = self._prompt_encoder(points, batch.boxes_xyxy, None)
            positions = torch.cat([positions, sparse], dim=1)
        groups = 1 if self.device.type == "cpu" else len(batch)
        shared = image if batch.masks is None else None
        cells: list[Tensor] = []
        if batch.masks is not None:
            cells = [self._with_masks(image, part) for part in batch.masks.split(groups)]

        tokens = positions
        for i, layer in enumerate(self._layers):
            if layer.skip_first_layer_pe:
                tokens = layer.norm1(layer.self_attn(tokens, tokens, tokens))
            else:
                placed = tokens + positions
                tokens = layer.norm1(tokens + layer.self_attn(placed, placed, tokens))
            gather, spread = self._gathers[i], self._spreads[i]
            if i == 0 and shared is not None:
                found = gather.from_shared(tokens + positions, shared)
            else:
                found = gather(tokens + positions, cells, self._positions)
            tokens = layer.norm2(tokens + found)
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            if i == 0 and shared is not None:
                cells = spread.to_shared(tokens + positions, tokens, shared, groups)
            else:
                spread(tokens + positions, tokens, cells, self._positions)
        tokens = self._final_norm(tokens + self._gathers[-1](tokens + positions, cells, self._positions))
        self._heads(tokens[:, 1:], cells, scores)
        found_iou: Tensor = self._iou_head(tokens[:, 0])
        return found_iou

    def _with_masks(self, image: PreparedImage, masks: Tensor) -> Tensor:
        """Cells as prompts with masks see them."""
        *layers, last = self._prompt_encoder.mask_downscaling
        for layer in layers:
            masks = layer(masks)
        return linear(to_cells(masks), last.weight.flatten(1), last.bias).add_(image.embedding).to(self.dtype)


def _statistics(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Area and stability of (prompts, outputs, h, w)."""
    import torch

    above = torch.empty(scores.shape, device=scores.device)  # sums of float are quicker than of bool
    area, inner, outer = (
        torch.gt(scores, limit, out=above).sum((-2, -1)) for limit in (0, STABILITY_OFFSET, -STABILITY_OFFSET)
    )
    return area, inner / outer.clamp(min=1)

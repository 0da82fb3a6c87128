from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.sam import products
from napari_matseg.core.sam.decoder import Decoded, FastDecoder, PromptBatch, choose, upscale
from napari_matseg.core.sam.networks import Layout, build_sam
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

OPTIONS = {
    "embed_dim": 16,
    "depth": 1,
    "num_heads": 2,
    "mlp_dim": 16,
    "window_size": 0,
    "global_attn_indexes": [0],
}
LAYOUT = Layout(encoder="vit", options=OPTIONS, image_size=128, patch=16, prompt_dim=32)
FRAME, CELLS = 128, 8


@cache
def small_sam() -> Sam:
    torch.manual_seed(0)
    sam = build_sam(LAYOUT).eval().requires_grad_(False)
    for name, values in sam.named_parameters():
        if "norm" in name or "bias" in name:  # as made they are 0 and 1, behind which mistakes would hide
            values.normal_(1.0 if values.mean() > 0.5 else 0.0, 0.3)
    return sam


@cache
def embedding() -> torch.Tensor:
    return torch.randn(1, 32, CELLS, CELLS, generator=torch.Generator().manual_seed(1))


def prompts(kind: str, number: int = 5) -> PromptBatch:
    random = torch.Generator().manual_seed(2)
    points = FRAME * torch.rand(number, 3, 2, generator=random)
    corners = FRAME * torch.rand(number, 2, 2, generator=random)
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    masks = 5 * torch.randn(number, 1, 4 * CELLS, 4 * CELLS, generator=random)
    point = PromptBatch(points[:, :1], torch.ones(number, 1, dtype=torch.int))
    return {
        "point": point,
        "points": PromptBatch(points, torch.tensor([[1, 0, -1]], dtype=torch.int).expand(number, 3)),
        "box": PromptBatch(boxes_xyxy=boxes),
        "point and box": replace(point, boxes_xyxy=boxes),
        "mask": PromptBatch(masks=masks),
        "everything": PromptBatch(points, torch.tensor([[1, 1, 0]], dtype=torch.int).expand(number, 3), boxes, masks),
    }[kind]


KINDS = ["point", "points", "box", "point and box", "mask", "everything"]


def official(sam: Sam, embedding: torch.Tensor, batch: PromptBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and predicted IoU of segment-anything's own modules."""
    points = None if batch.points_xy is None else (batch.points_xy, batch.polarity)
    with torch.no_grad():
        sparse, dense = sam.prompt_encoder(points, batch.boxes_xyxy, batch.masks)
        found: tuple[torch.Tensor, torch.Tensor] = sam.mask_decoder.predict_masks(
            embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense
        )
    return found


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


class TestFastDecoder:
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_gives_the_numbers_of_segment_anything(self, kind: str) -> None:
        decoder = FastDecoder(small_sam())
        scores, iou = official(small_sam(), embedding(), prompts(kind))
        found = decoder.decode(decoder.prepare(embedding()), prompts(kind), (FRAME, FRAME))
        assert scores.std() > 0.05
        assert distance(found.scores, scores) < 1e-5
        assert distance(found.iou, iou) < 1e-5

    @pytest.mark.parametrize("kind", KINDS)
    def test_bfloat16_is_near(self, kind: str) -> None:
        decoder = FastDecoder(small_sam(), torch.bfloat16)
        scores, iou = official(small_sam(), embedding(), prompts(kind))
        found = decoder.decode(decoder.prepare(embedding()), prompts(kind), (FRAME, FRAME))
        assert found.scores.dtype == found.iou.dtype == torch.float32
        assert distance(found.scores, scores) < 0.05
        assert distance(found.iou, iou) < 0.05

    @pytest.mark.parametrize("kind", ["points", "everything"])
    @pytest.mark.parametrize("chunk", [1, 2, 5, 100])
    def test_the_chunk_changes_nothing(self, kind: str, chunk: int) -> None:
        decoder = FastDecoder(small_sam())
        image = decoder.prepare(embedding())
        whole = decoder.decode(image, prompts(kind), (FRAME, FRAME))
        decoder.chunk = chunk
        found = decoder.decode(image, prompts(kind), (FRAME, FRAME))
        assert distance(found.scores, whole.scores) < 1e-5
        assert torch.equal(found.area, whole.area)

    def test_it_works_without_onednn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(products, "_has_onednn", lambda: False)
        decoder = FastDecoder(small_sam())
        scores, _ = official(small_sam(), embedding(), prompts("points"))
        found = decoder.decode(decoder.prepare(embedding()), prompts("points"), (FRAME, FRAME))
        assert distance(found.scores, scores) < 1e-5

    def test_prompts_do_not_mix(self) -> None:
        decoder = FastDecoder(small_sam())
        image = decoder.prepare(embedding())
        batch = prompts("everything")
        together = decoder.decode(image, batch, (FRAME, FRAME))
        alone = decoder.decode(image, batch[3:4], (FRAME, FRAME))
        assert distance(alone.scores, together.scores[3:4]) < 1e-5

    def test_the_memory_of_a_chunk_is_bounded(self) -> None:
        layout = LAYOUT.model_copy(update={"image_size": 1024, "prompt_dim": 256})
        sam = build_sam(layout).eval()
        assert FastDecoder(sam).chunk * 64 * 64 * 256 * 4 <= 16 << 20
        assert FastDecoder(sam, torch.bfloat16).chunk == 2 * FastDecoder(sam).chunk

    def test_area_and_stability_count_the_image_alone(self) -> None:
        decoder = FastDecoder(small_sam())
        found = decoder.decode(decoder.prepare(embedding()), prompts("point"), (FRAME, 81))
        seen = found.scores[..., :21]  # of a cell that is partly filled all of it
        assert torch.equal(found.area, (seen > 0).sum((-2, -1)).float())
        expected = (seen > 1).sum((-2, -1)) / (seen > -1).sum((-2, -1)).clamp(min=1)
        torch.testing.assert_close(found.stability, expected)

    def test_stability_is_that_of_segment_anything(self) -> None:
        from segment_anything.utils.amg import calculate_stability_score

        decoder = FastDecoder(small_sam())
        found = decoder.decode(decoder.prepare(embedding()), prompts("box"), (FRAME, FRAME))
        expected = calculate_stability_score(found.scores.flatten(0, 1), 0.0, 1.0).view(found.iou.shape)
        torch.testing.assert_close(found.stability[found.area > 0], expected[found.area > 0])

    def test_another_models_embedding_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"embedding has shape \(1, 32, 4, 8\).*embed the image"):
            FastDecoder(small_sam()).prepare(torch.zeros(1, 32, 4, 8))

    @pytest.mark.gpu
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_gpu_gives_the_same(self, kind: str) -> None:
        sam = build_sam(LAYOUT).eval().requires_grad_(False)
        sam.load_state_dict(small_sam().state_dict())
        decoder = FastDecoder(sam.cuda())
        batch = prompts(kind)
        parts = (batch.points_xy, batch.polarity, batch.boxes_xyxy, batch.masks)
        moved = PromptBatch(*(None if part is None else part.cuda() for part in parts))
        found = decoder.decode(decoder.prepare(embedding().cuda()), moved, (FRAME, FRAME))
        scores, _ = official(small_sam(), embedding(), batch)
        assert distance(found.scores.cpu(), scores) < 1e-3


class TestPromptBatch:
    def test_slices_are_prompts(self) -> None:
        batch = prompts("everything")
        part = batch[1:3]
        assert (len(batch), len(part), len(batch[5:])) == (5, 2, 0)
        assert torch.equal(part.masks, batch.masks[1:3])

    def test_points_need_polarity(self) -> None:
        with pytest.raises(InputError, match="points without polarity"):
            PromptBatch(points_xy=torch.zeros(1, 1, 2))

    def test_parts_are_of_one_length(self) -> None:
        with pytest.raises(InputError, match="differ in number"):
            PromptBatch(torch.zeros(2, 1, 2), torch.ones(2, 1), torch.zeros(3, 4))

    def test_there_must_be_something(self) -> None:
        with pytest.raises(InputError, match="neither points nor boxes nor masks"):
            PromptBatch()


def answers(area: list[float], iou: list[float]) -> Decoded:
    return Decoded(torch.empty(0), torch.tensor([iou]), torch.tensor([area]), torch.empty(0))


class TestChoose:
    @pytest.mark.parametrize(("choice", "expected"), [("best", 3), ("part", 2), ("particle", 1), ("agglomerate", 3)])
    def test_each_choice(self, choice: str, expected: int) -> None:
        assert choose(answers([99, 20, 10, 30], [1.0, 0.5, 0.6, 0.7]), choice).tolist() == [expected]

    @pytest.mark.parametrize("choice", ["best", "part", "particle", "agglomerate"])
    def test_the_single_mask_where_asked_for(self, choice: str) -> None:
        one = answers([99, 20, 10, 30], [0.1, 0.5, 0.6, 0.7])
        both = Decoded(one.scores, one.iou.repeat(2, 1), one.area.repeat(2, 1), one.stability)
        found = choose(both, choice, torch.tensor([True, False]))
        assert found[0] == 0
        assert found[1] == choose(one, choice)[0]
        assert choose(both, choice, True).tolist() == [0, 0]

    @pytest.mark.parametrize(
        ("choice", "limits", "expected"),
        [
            ("best", (0, 25), 2),
            ("particle", (15, 40), 1),
            ("particle", (5, 25), 1),
            ("particle", (25, 99), 3),
            ("part", (15, 40), 1),
            ("agglomerate", (0, 25), 1),
            ("particle", (100, 200), 1),
            ("best", (100, 200), 3),
        ],
    )
    def test_limits_of_area(self, choice: str, limits: tuple[float, float], expected: int) -> None:
        assert choose(answers([99, 20, 10, 30], [1.0, 0.5, 0.6, 0.7]), choice, False, limits).tolist() == [expected]

    def test_limits_for_each_prompt(self) -> None:
        one = answers([99, 20, 10, 30], [1.0, 0.5, 0.6, 0.7])
        both = Decoded(one.scores, one.iou.repeat(2, 1), one.area.repeat(2, 1), one.stability)
        assert choose(both, "best", False, (torch.tensor([0, 25]), torch.tensor([15, 40]))).tolist() == [2, 3]

    @pytest.mark.parametrize(("choice", "expected"), [("best", 1), ("part", 1), ("particle", 3), ("agglomerate", 3)])
    def test_empty_masks_come_last(self, choice: str, expected: int) -> None:
        assert choose(answers([9, 10, 0, 20], [0.0, 0.6, 0.9, 0.5]), choice).tolist() == [expected]

    def test_nothing_but_empty_masks(self) -> None:
        assert choose(answers([9, 0, 0, 0], [1.0, 0.1, 0.3, 0.2]), "best").tolist() == [2]
        assert choose(answers([0, 9, 9, 9], [0.1, 1.0, 1.0, 1.0]), "part", True).tolist() == [0]


def official_masks(sam: Sam, scores: torch.Tensor, input_hw: tuple[int, int], hw: tuple[int, int]) -> np.ndarray:
    whole: np.ndarray = sam.postprocess_masks(scores[None, None], input_hw, hw)[0, 0].numpy()
    return whole


@st.composite
def frames(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int]]:
    """What the image fills of the frame, and its size: one side fills it, as after ResizeLongestSide."""
    short, long, tall = draw(st.integers(1, FRAME)), draw(st.integers(1, 500)), draw(st.booleans())
    other = max(1, round(long * short / FRAME))
    return ((FRAME, short), (long, other)) if tall else ((short, FRAME), (other, long))


class TestUpscale:
    @given(sizes=frames(), top=st.integers(0, 31), left=st.integers(0, 31), side=st.integers(1, 32))
    def test_it_is_postprocess_masks_cut_out(
        self, sizes: tuple[tuple[int, int], tuple[int, int]], top: int, left: int, side: int
    ) -> None:
        input_hw, hw = sizes
        scores = torch.randn(32, 32, generator=torch.Generator().manual_seed(side)) - 9
        scores[top : top + side, left : left + side] += 12
        whole = official_masks(small_sam(), scores, input_hw, hw)
        crop, y, x = upscale(scores, input_hw, hw, FRAME)
        height, width = crop.shape
        np.testing.assert_allclose(crop, whole[y : y + height, x : x + width], atol=2e-4)
        rest = whole.copy()
        rest[y : y + height, x : x + width] = -1
        assert (rest <= 0).all()

    def test_there_is_a_rim(self) -> None:
        scores = torch.full((32, 32), -1.0)
        scores[10:13, 20:24] = 1
        crop, top, left = upscale(scores, (FRAME, FRAME), (300, 300), FRAME)
        rows, columns = np.nonzero(crop.numpy() > 0)
        assert 0 < top + rows.min() < top + crop.shape[0] < 300
        assert (rows.min(), columns.min()) >= (1, 1)
        assert (rows.max(), columns.max()) < (crop.shape[0] - 1, crop.shape[1] - 1)
        assert left > 0

    def test_the_crop_is_as_large_as_the_object(self) -> None:
        scores = torch.full((32, 32), -1.0)
        scores[10:13, 20:24] = 1
        crop, *_ = upscale(scores, (FRAME, FRAME), (3000, 3000), FRAME)
        assert crop.shape[0] < 3000 * 6 / 32
        assert crop.shape[1] < 3000 * 7 / 32

    def test_nothing(self) -> None:
        assert upscale(torch.zeros(32, 32), (FRAME, FRAME), (300, 300), FRAME)[0].shape == (0, 0)

    def test_nothing_inside_the_image(self) -> None:
        scores = torch.full((32, 32), -1.0)
        scores[20:, :] = 1
        assert upscale(scores, (60, FRAME), (150, 320), FRAME)[0].shape == (0, 0)


@pytest.mark.parametrize("hw", [(96, 128), (200, 90), (700, 700)])
@pytest.mark.parametrize("kind", ["point", "points", "box", "everything"])
def test_masks_are_those_of_sam_predictor(kind: str, hw: tuple[int, int]) -> None:
    from segment_anything import SamPredictor

    sam = small_sam()
    predictor = SamPredictor(sam)
    predictor.set_image(np.random.default_rng(0).integers(0, 256, (*hw, 3), dtype=np.uint8))
    batch = prompts(kind)
    multiple = kind == "point"
    masks, iou, _ = predictor.predict_torch(
        batch.points_xy, batch.polarity, batch.boxes_xyxy, batch.masks, multimask_output=multiple
    )

    decoder = FastDecoder(sam)
    found = decoder.decode(decoder.prepare(predictor.features), batch, predictor.input_size)
    for k, index in enumerate(choose(found, "best", not multiple)):
        expected = masks[k, iou[k].argmax()].numpy()
        crop, top, left = upscale(found.scores[k, index], predictor.input_size, hw, FRAME)
        mask = np.zeros(hw, bool)
        mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop > 0
        assert expected.any()
        assert (mask & expected).sum() >= 0.999 * (mask | expected).sum()

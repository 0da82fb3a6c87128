from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_matseg.core.sam import encoder as module
from napari_matseg.core.sam import products
from napari_matseg.core.sam.encoder import FastEncoder
from napari_matseg.core.sam.networks import Layout, build_sam
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

FRAME = 96
OPTIONS = {
    "embed_dim": 32,
    "depth": 3,
    "num_heads": 2,
    "mlp_dim": 64,
    "window_size": 4,  # of 6 cells: windows are padded
    "global_attn_indexes": [1],
}
LAYOUT = Layout(encoder="vit", options=OPTIONS, image_size=FRAME, patch=16, prompt_dim=16)


@cache
def small_sam(window: int = 4, patch: int = 16) -> Sam:
    torch.manual_seed(0)
    options = OPTIONS | {"window_size": window}
    sam = build_sam(LAYOUT.model_copy(update={"options": options, "patch": patch})).eval().requires_grad_(False)
    for name, values in sam.image_encoder.named_parameters():
        if "norm" in name or "bias" in name or "pos" in name:  # as made they are 0 and 1
            values.normal_(1.0 if values.mean() > 0.5 else 0.0, 0.3)
    return sam


def picture(height: int = FRAME, width: int = FRAME) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8))


def official(sam: Sam, image_cyx: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = sam.image_encoder(sam.preprocess(image_cyx.float())[None])
    return found


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(("height", "width"), [(96, 96), (96, 50), (7, 96)])
@pytest.mark.parametrize("window", [0, 3, 4, 14])
def test_the_embedding_is_that_of_segment_anything(window: int, height: int, width: int) -> None:
    sam = small_sam(window)
    found = FastEncoder(sam).encode(picture(height, width))
    assert found.shape == (1, 16, 6, 6)
    assert distance(found, official(sam, picture(height, width))) < 1e-5


@pytest.mark.parametrize("limit", [1, 1000, 10_000])
def test_parts_of_attention_change_nothing(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sam = small_sam(4, 8)
    expected = official(sam, picture())
    monkeypatch.setattr(module, "SCORES_BYTES", limit)
    monkeypatch.setattr(module, "MLP_ROWS", 7)
    assert distance(FastEncoder(sam).encode(picture()), expected) < 1e-5


@pytest.mark.parametrize("window", [0, 4])
def test_the_attention_of_gpus_gives_the_same(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def appended(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
    ) -> object:
        places = module._places(rows.shape[1]).expand(len(k), -1, -1)
        return module._attend_fused(
            module._join(q, rows.flatten(1, 2), columns.flatten(1, 2)), module._join(k, places), v
        )

    monkeypatch.setattr(module, "_attention", appended)
    sam = small_sam(window)
    assert distance(FastEncoder(sam).encode(picture()), official(sam, picture())) < 1e-5


def test_it_works_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_has_onednn", lambda: False)
    assert distance(FastEncoder(small_sam()).encode(picture()), official(small_sam(), picture())) < 1e-5


def test_bfloat16_is_near() -> None:
    found = FastEncoder(small_sam(), torch.bfloat16).encode(picture())
    expected = official(small_sam(), picture())
    assert found.dtype == torch.float32
    assert float((found - expected).std() / expected.std()) < 0.02


def test_floats_are_taken_as_integers_are() -> None:
    fast = FastEncoder(small_sam())
    assert torch.equal(fast.encode(picture()), fast.encode(picture().float()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_encoders_are_run_as_they_are(dtype: torch.dtype) -> None:
    class Other(torch.nn.Module):
        img_size = 64

        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(3, 16, 16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.convolution(x)

    sam = build_sam(LAYOUT.model_copy(update={"image_size": 64}))
    sam.image_encoder = Other()
    found = FastEncoder(sam, dtype).encode(picture(64, 40))
    assert found.dtype == torch.float32
    assert distance(found, official(sam, picture(64, 40))) < (1e-6 if dtype == torch.float32 else 0.02)


@pytest.mark.parametrize("shape", [(3, 97, 10), (1, 96, 96), (96, 96)])
def test_other_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"the model takes \(3, 96, 96\) at most; resize it"):
        FastEncoder(small_sam()).encode(torch.zeros(shape))


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-3), (torch.bfloat16, 0.05)])
def test_a_gpu_gives_the_same(dtype: torch.dtype, limit: float) -> None:
    sam = build_sam(LAYOUT).eval().requires_grad_(False)
    sam.load_state_dict(small_sam().state_dict())
    found = FastEncoder(sam.cuda(), dtype).encode(picture().cuda()).cpu()
    assert distance(found, official(small_sam(), picture())) < limit

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_matseg.core.embeddings import EmbeddingStore
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.prompt import PromptSession
from napari_matseg.core.prompt_image import PromptImage
from napari_matseg.core.prompt_model import PromptModel
from napari_matseg.core.prompts import Prompt
from napari_matseg.core.sam.decoder import PromptBatch
from napari_matseg.core.sam.views import VIEWS, mirror_pixels, mirror_prompts, mirror_scores
from napari_matseg.core.sam.weights import load_promptable
from napari_matseg.core.windows import Window
from napari_matseg.errors import SettingsError
from napari_matseg.settings import PromptSettings

each_view = pytest.mark.parametrize("view", VIEWS)


def disc(shape: tuple[int, int], y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    inside: np.ndarray = np.hypot(rows - y, columns - x) < radius
    return inside


@each_view
@pytest.mark.parametrize("shape", [(48, 64), (41, 70), (33, 33, 3)])
def test_prompts_move_with_the_pixels(view, shape):
    pixels = np.zeros(shape, np.uint8)
    pixels[7, 21] = 255
    mirrored = mirror_pixels(pixels, view)
    assert view == (False, False) or all(side % 16 == 0 for side in mirrored.shape[:2])
    batch = PromptBatch(torch.tensor([[[21.0, 7.0]]]), torch.ones(1, 1), torch.tensor([[20.5, 6.5, 21.5, 7.5]]))
    moved = mirror_prompts(batch, shape[:2], view)
    assert moved.points_xy is not None
    assert moved.boxes_xyxy is not None
    x, y = moved.points_xy[0, 0].tolist()
    assert mirrored[int(y), int(x)].max() == 255
    assert moved.boxes_xyxy[0].tolist() == [x - 0.5, y - 0.5, x + 0.5, y + 0.5]


@each_view
def test_scores_move_with_the_cells_and_back(view):
    scores = torch.zeros(2, 1, 32, 32)
    scores[0, 0, 3, 5] = 1.0
    mirrored = mirror_scores(scores, (41, 70), view)
    assert torch.equal(mirror_scores(mirrored, (41, 70), view), scores)
    rows, columns = 48 // 4, 80 // 4
    place = (rows - 1 - 3 if view[0] else 3, columns - 1 - 5 if view[1] else 5)
    assert mirrored[0, 0][place] == 1


@each_view
def test_earlier_answers_move_too(view):
    masks = torch.rand(1, 1, 32, 32)
    moved = mirror_prompts(PromptBatch(masks=masks), (128, 96), view).masks
    assert moved is not None
    assert torch.equal(moved, mirror_scores(masks, (128, 96), view))


@pytest.mark.parametrize("flip", [(1, -1), (-1, 1), (-1, -1)])
def test_with_all_views_a_mirrored_image_has_mirrored_answers(flip, tmp_path):
    rng = np.random.default_rng(0)
    image = (60 + 120 * disc((256, 256), 90.0, 140.0, 30) + rng.normal(0, 10, (256, 256))).clip(0, 255).astype(np.uint8)
    store = EmbeddingStore(tmp_path, 0)
    model = PromptModel(load_promptable("compact"), torch.device("cpu"), torch.float32, store, views=4)
    window = Window(0, 0, 256, 256, model.frame)
    settings = PromptSettings(one_piece=False, refine=False, device="cpu")

    def answer(pixels: np.ndarray, y: float, x: float) -> np.ndarray:
        prepared = model.prepare(PromptImage.of(Micrograph(pixels)), window)
        (found,) = model.answer(prepared, window, [Prompt(1, np.array([[y, x]]), np.array([True]))], settings)
        mask = np.zeros(pixels.shape, bool)
        mask[found.where] = found.mask_yx
        return mask

    straight = answer(image, 88, 139)
    mirrored = answer(
        np.ascontiguousarray(image[:: flip[0], :: flip[1]]),
        *(place if step > 0 else 255 - place for place, step in zip((88, 139), flip, strict=True)),
    )
    assert straight.sum() > 1000
    assert np.count_nonzero(mirrored[:: flip[0], :: flip[1]] != straight) <= 0.02 * straight.sum()


@pytest.mark.parametrize("views", [1, 2, 4])
@pytest.mark.parametrize("shape", [(150, 211), (211, 150)])
def test_views_lie_on_each_other(views, shape, monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_MATSEG_CACHE", str(tmp_path))
    truth = disc(shape, 70.0, 80.0, 25)
    noise = np.random.default_rng(1).normal(0, 8, shape)
    session = PromptSession(views=views, device="cpu")
    session.set_image((60 + 120 * truth + noise).clip(0, 255).astype(np.uint8))
    clicked = session.predict(Prompt(1, np.array([[72.0, 78.0]]), np.array([True])))
    boxed = session.predict(Prompt(1, np.zeros((0, 2)), np.zeros(0, bool), (44.5, 54.5, 95.5, 105.5)))
    for found in (clicked, boxed):
        mask = np.zeros(shape, bool)
        mask[found.where] = found.mask_yx
        assert (mask & truth).sum() / (mask | truth).sum() > 0.93
    assert session.settings.views == views


def test_each_view_is_kept_once(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_MATSEG_CACHE", str(tmp_path))
    image = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    for views, kept in ((2, 2), (4, 4), (1, 4)):
        PromptSession(views=views, device="cpu").set_image(image)
        assert len(list(tmp_path.rglob("*.embedding"))) == kept


def test_views_are_those_of_the_session():
    session = PromptSession(views=2)
    with pytest.raises(SettingsError, match="views cannot change in a session"):
        session.settings = PromptSettings(views=4)
    with pytest.raises(SettingsError, match="views"):
        PromptSession(views=3)

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core import allocator
from napari_matseg.core import prompt_train as module
from napari_matseg.core.progress import finish
from napari_matseg.core.prompt_data import PromptCrops, bounding_box, deepest_pixel
from napari_matseg.core.prompt_examples import PromptExample, load_sources
from napari_matseg.core.prompt_losses import extent_loss, mask_iou, mask_loss
from napari_matseg.core.prompt_train import PromptTrainer, prompt_train_steps, schedule
from napari_matseg.core.sam.drawn import CLICKED, INSIDE, OUTSIDE, draw_prompts
from napari_matseg.core.sam.networks import Layout, build_sam
from napari_matseg.core.sam.weights import PromptableCard, load_promptable, read_promptable_card
from napari_matseg.errors import SettingsError
from napari_matseg.settings import PromptTrainSettings, load_recipe

SMALL = Layout(
    encoder="compact",
    options={"encoder": "tu-resnet10t", "channels": [8, 8, 16, 16], "decoder_channels": [16, 16, 8, 8, 4]},
    prompt_dim=32,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three micrographs with discs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:160, :200]
    for number in range(3):
        labels = np.zeros((160, 200), np.uint16)
        for one in range(1, 6):
            labels[np.hypot(y - rng.uniform(20, 140), x - rng.uniform(20, 180)) < rng.uniform(6, 16)] = one
        image = (60 + 100 * (labels > 0) + rng.normal(0, 8, labels.shape)).clip(0, 255).astype(np.uint8)
        for folder, array in (("images", image), ("labels", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / folder / f"{number}.tif", array)
    return tmp_path


def make_settings(**changes: object) -> PromptTrainSettings:
    source = {"data": {"images": "images", "truth": "labels", "train": ["0", "1"], "validation": ["2"]}, "share": 1.0}
    source["data"]["instances"] = True  # type: ignore[index]
    plain = {
        "name": "tiny",
        "sources": [source],
        "stages": [{"crop": 64, "batch": 2, "steps": 2}, {"crop": 128, "batch": 1, "steps": 1}],
        "prompts": 2,
        "evaluate_every": 2,
        "warmup_steps": 1,
        "device": "cpu",
    }
    return PromptTrainSettings.model_validate(plain | changes)


def test_training_writes_a_model_that_answers(data, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LAYOUT", SMALL)
    monkeypatch.setattr(module, "evaluate", lambda sam, examples: {"single": 0.5, "box": 0.75})
    steps = prompt_train_steps(make_settings(), data, tmp_path / "out")
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            path = stop.value
            break
    assert [step.done for step in seen] == [1, 2, 3]
    assert all(np.isfinite(step.loss) for step in seen)
    assert [step.accuracy is not None for step in seen] == [False, True, True]
    card = read_promptable_card(path)
    assert card is not None
    assert card.accuracy == {"validation": {"single": 0.5, "box": 0.75}}
    assert card.layout == SMALL
    assert not (tmp_path / "out" / "tiny.resume").exists()
    assert hasattr(load_promptable(path).sam.image_encoder, "guess_boxes")


def test_training_goes_on_where_it_was_stopped(data, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LAYOUT", SMALL)
    monkeypatch.setattr(module, "evaluate", lambda sam, examples: {"single": 0.5})
    whole = finish(prompt_train_steps(make_settings(), data, tmp_path / "whole"))
    broken = prompt_train_steps(make_settings(), data, tmp_path / "broken")
    for step in broken:
        assert len(allocator._holders) == 1
        if step.done == 2:
            broken.close()
    assert not allocator._holders
    again = prompt_train_steps(make_settings(), data, tmp_path / "broken")
    assert next(again).done == 3
    path = finish(again)
    one, other = read_promptable_card(whole), read_promptable_card(path)
    assert one is not None
    assert other is not None
    assert one.weights_sha256 == other.weights_sha256
    steps = prompt_train_steps(make_settings(), data, tmp_path / "else")
    next(steps)
    next(steps)
    steps.close()
    with pytest.raises(SettingsError, match="other settings"):
        finish(prompt_train_steps(make_settings(seed=1), data, tmp_path / "else"))


def test_it_starts_where_another_promptable_model_ended(data, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LAYOUT", SMALL)
    monkeypatch.setattr(module, "evaluate", lambda sam, examples: {"single": 0.5})
    first = finish(prompt_train_steps(make_settings(), data, tmp_path / "first"))
    monkeypatch.setattr(module, "LAYOUT", Layout(encoder="compact"))  # a file's own layout counts
    slow = make_settings(name="slow", start=str(first), learning_rate=1e-12, encoder_rate=1e-12)
    second = finish(prompt_train_steps(slow, data, tmp_path / "second"))
    for name, value in load_promptable(first).sam.state_dict().items():
        torch.testing.assert_close(load_promptable(second).sam.state_dict()[name], value, atol=1e-6, rtol=1e-5)
    card = read_promptable_card(second)
    assert card is not None
    assert card.layout == SMALL


def test_it_does_not_start_from_another_encoder(data, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_promptable_card", lambda _: PromptableCard(name="vit", layout=Layout(encoder="vit")))
    with pytest.raises(SettingsError, match="has the image encoder vit, and only compact is trained"):
        finish(prompt_train_steps(make_settings(start="vit"), data, tmp_path / "out"))


def test_it_learns_what_a_box_means(data):
    torch.manual_seed(0)
    stages = [{"crop": 64, "batch": 2, "steps": 100}]
    settings = make_settings(
        boxes=1.0, corrections=0.0, learning_rate=3e-3, encoder_rate=3e-3, prompts=4, stages=stages
    )
    crops = PromptCrops(load_sources(settings, data)[0], settings)
    trainer = PromptTrainer(build_sam(SMALL), settings, pretrained=False)
    batch = [crops.crop(number, 64, 512) for number in range(2)]
    losses = []
    for _ in range(30):
        trainer.advance(batch)
        losses.append(trainer.parts["mask"])
    assert losses[-1] < 0.7 * losses[0]


def test_an_empty_source_is_said(data):
    for path in (data / "labels").iterdir():
        tifffile.imwrite(path, np.zeros((160, 200), np.uint16))
    with pytest.raises(SettingsError, match="no image has an object"):
        load_sources(make_settings(), data)


def test_classes_become_objects_by_connection(tmp_path):
    from napari_matseg.core.prompt_examples import _pieces

    classes = np.zeros((20, 40), np.uint8)
    classes[2:8, 2:8] = 1
    classes[2:8, 8:14] = 2  # touches the first, but is of another class
    classes[12:18, 20:30] = 1
    classes[0, 39] = 2  # a slip
    objects = _pieces(classes, 3)
    assert sorted(np.unique(objects)) == [0, 1, 2, 3]
    assert objects[0, 39] == 0
    assert len({objects[4, 4], objects[4, 10], objects[14, 24]}) == 3


class TestCrops:
    @pytest.fixture
    def crops(self) -> PromptCrops:
        objects = np.zeros((100, 140), np.int32)
        objects[20:40, 30:60], objects[40:70, 30:60], objects[80:90, 100:120] = 1, 2, 3
        example = PromptExample.of(np.where(objects > 0, 200, 50).astype(np.uint8), objects)
        return PromptCrops([(1.0, [example])], make_settings(boxes=0.5))

    def test_prompts_are_for_the_objects_shown(self, crops):
        kinds = set()
        for number in range(12):
            crop = crops.crop(number, 64, 512)
            assert crop.image_yx.shape == (64, 64)
            assert np.abs(crop.image_yx).max() <= 1.25
            assert (crop.masks_kyx <= crop.clusters_kyx).all()
            kinds.add((crop.points_xy is not None, crop.boxes_xyxy is not None))
            if crop.points_xy is not None:
                for mask, ((x, y),) in zip(crop.masks_kyx, crop.points_xy, strict=True):
                    assert mask[round(float(y)), round(float(x))]
            if crop.boxes_xyxy is not None:
                for mask, box in zip(crop.masks_kyx, crop.boxes_xyxy, strict=True):
                    y0, x0, y1, x1 = bounding_box(mask)
                    assert np.abs(np.array([x0, y0, x1, y1]) - box).max() <= 10.5
        assert len(kinds) > 1

    def test_extent_leads_to_the_edges_of_the_objects(self, crops):
        crop = crops.crop(3, 64, 512)
        known = np.isfinite(crop.extent_kyx[0])
        assert known.any()
        assert (crop.extent_kyx[:, known] > 0).all()
        assert np.nanmax(crop.extent_kyx) <= 64 / 8

    def test_the_same_number_gives_the_same_crop(self, crops):
        one, other = crops.crop(5, 64, 512), crops.crop(5, 64, 512)
        np.testing.assert_array_equal(one.image_yx, other.image_yx)
        assert one.place_yx == other.place_yx


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 20), st.integers(1, 20))
def test_deepest_pixel_of_a_rectangle_is_in_its_middle(top, left, height, width):
    mask = np.zeros((60, 60), bool)
    mask[top : top + height, left : left + width] = True
    y, x = deepest_pixel(mask)
    depth = min(y - top, top + height - 1 - y, x - left, left + width - 1 - x)
    assert depth == (min(height, width) - 1) // 2
    assert bounding_box(mask) == (top, left, top + height - 1, left + width - 1)


class TestLosses:
    def test_masks(self):
        truth = torch.zeros(1, 1, 16, 16)
        truth[..., 4:12, 4:12] = 1
        right, wrong = (truth * 40 - 20), -(truth * 40 - 20)
        losses = mask_loss(torch.cat([right, wrong], dim=1), truth)
        assert losses[0, 0] < 1e-3
        # Every pixel is 20 off: 256 * 20 over 4 * 64 + 512, and Dice 1 - 1 / (192 + 64 + 1).
        assert losses[0, 1] == pytest.approx(256 * 20 / 768 + 1 - 1 / 257, rel=1e-3)
        assert mask_iou(torch.cat([right, wrong], dim=1), truth).tolist() == [[1.0, 0.0]]

    def test_boxes(self):
        truth = torch.full((1, 4, 2, 2), torch.nan)
        truth[..., 0, 0] = 2.0
        guess = torch.zeros(1, 4, 2, 2)  # distances of 1: a quarter of the area
        assert extent_loss(guess, truth) == pytest.approx(np.log(4))
        assert extent_loss(guess, torch.full_like(truth, torch.nan)) == 0


def test_schedule_rises_and_falls():
    settings = make_settings(warmup_steps=2, stages=[{"crop": 64, "batch": 1, "steps": 10}])
    shares = [schedule(step, settings) for step in range(10)]
    assert shares[:2] == [0.5, 1.0]
    assert shares[2:] == sorted(shares[2:], reverse=True)
    assert shares[-1] > 0


class TestDrawing:
    def test_clicks_and_boxes(self):
        points = torch.tensor([[[40.0, 20.0], [100.0, 60.0]]])
        drawn = draw_prompts((32, 32), points, torch.tensor([[1, 0]]), None)[0, 0]
        assert drawn[5, 10] == CLICKED
        assert drawn[15, 25] == -CLICKED
        assert drawn[0, 0] == 0
        boxed = draw_prompts((32, 32), None, None, torch.tensor([[16.0, 32.0, 63.0, 95.0]]))[0, 0]
        assert (boxed[8:24, 4:16] == INSIDE).all()
        assert (boxed[:8] == OUTSIDE).all()
        assert int((boxed == INSIDE).sum()) == 16 * 12

    def test_a_guess_counts_less_than_what_was_drawn(self):
        point, kind = torch.tensor([[[64.0, 64.0]]]), torch.tensor([[1]])
        guess = torch.tensor([[32.0, 32.0, 95.0, 95.0]])
        drawn = draw_prompts((32, 32), point, kind, None, None, guess)[0, 0]
        assert 0 < drawn[10, 10] < INSIDE
        assert OUTSIDE < drawn[0, 0] < 0
        prior = torch.full((1, 1, 32, 32), -50.0)
        drawn = draw_prompts((32, 32), point, kind, None, prior, guess)[0, 0]
        assert drawn[10, 10] == drawn[0, 0] == OUTSIDE
        assert drawn[16, 16] == CLICKED

    def test_padding_draws_nothing(self):
        drawn = draw_prompts((8, 8), torch.tensor([[[4.0, 4.0]]]), torch.tensor([[-1]]), None)
        assert not drawn.any()


def test_a_part_of_the_frame_is_embedded_as_part_of_the_whole():
    """Corners are told in the frame: a part that is moved has another embedding, and the same extent."""
    encoder = build_sam(SMALL).image_encoder.eval()
    grey = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        here, extent = encoder.embed_grey(grey)
        there, same = encoder.embed_grey(grey, torch.tensor([[64.0, 128.0]]))
        assert torch.equal(extent, same)
        assert not torch.allclose(here, there)
        box = encoder.guess_boxes(here, torch.tensor([[50.0, 70.0]]))
    assert box.shape == (1, 4)
    assert box[0, 0] < 50 + 4 < box[0, 2] + 8


def test_the_recipe_that_ships_is_for_points():
    recipe = load_recipe(Path(__file__).parents[2] / "recipes" / "compact.yaml")
    assert isinstance(recipe, PromptTrainSettings)
    splits = json.dumps(recipe.model_dump(mode="json"))
    assert "test" not in splits.replace("latest", "")

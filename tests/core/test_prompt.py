from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_matseg.core import prompt as module
from napari_matseg.core import synthetic
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.normalise import grey_scale
from napari_matseg.core.objects import ObjectMask, from_label
from napari_matseg.core.progress import finish
from napari_matseg.core.prompt import PromptSession
from napari_matseg.core.prompt_image import PromptImage
from napari_matseg.core.prompt_model import PromptModel, mask_scores
from napari_matseg.core.prompts import Prompt
from napari_matseg.core.sam.decoder import FastDecoder, PromptBatch
from napari_matseg.core.sam.drawn import with_drawing
from napari_matseg.core.sam.networks import Layout, build_sam
from napari_matseg.core.sam.weights import PromptableModel
from napari_matseg.core.windows import CLOSELY, ONCE, Window
from napari_matseg.errors import InputError, SettingsError

FRAME = 128
AS_IT_IS = {"one_piece": False, "refine": False, "fill_holes_px": 0, "drop_specks_px": 0, "device": "cpu"}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("NAPARI_MATSEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tiny() -> PromptableModel:
    """Segment-anything's networks, tiny and with random weights."""
    options = {
        "embed_dim": 32,
        "depth": 1,
        "num_heads": 2,
        "mlp_dim": 64,
        "window_size": 0,
        "global_attn_indexes": [0],
    }
    with torch.random.fork_rng():
        torch.manual_seed(3)
        sam = build_sam(Layout(encoder="vit", options=options, image_size=FRAME, prompt_dim=32)).eval()
    sam.requires_grad_(False)
    sam.mask_decoder.output_upscaling[3].weight.mul_(8)  # masks that are neither empty nor all of the frame
    return PromptableModel(sam, "tiny", "0" * 64, Path("tiny"))


def picture(shape: tuple[int, ...] = (100, 128), dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), (4, 4, 0)[: len(shape)])
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    top = {"uint8": 255, "uint16": 9000, "float32": 1e-3}[dtype]
    return (smooth * top).astype(dtype)


def bytes_of(image: np.ndarray) -> np.ndarray:
    """What SamPredictor is given: 8 bits of one scale for all channels."""
    grey = image if image.ndim == 2 else image.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    scale = grey_scale(grey[None])
    scaled = scale.apply(image.reshape(1, len(image), -1)).reshape(image.shape)
    values = np.rint(np.clip(scaled, -1.25, 1.25) * 102 + 127.5).astype(np.uint8)
    return values if image.ndim == 3 else np.repeat(values[..., None], 3, axis=2)


def click(*points: tuple[float, float], id: int = 1, positive: Any = True, **more: Any) -> Prompt:  # noqa: A002
    yx = np.array(points, dtype=np.float64).reshape(-1, 2)
    return Prompt(id, yx, np.broadcast_to(positive, len(yx)).astype(bool), **more)


def pasted(found: ObjectMask, shape: tuple[int, ...]) -> np.ndarray:
    whole = np.zeros(shape[:2], dtype=bool)
    height, width = found.scores_yx.shape
    whole[found.top : found.top + height, found.left : found.left + width] = found.mask_yx
    assert whole.sum() == found.mask_yx.sum()
    return whole


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return 1.0 if not (a | b).any() else float((a & b).sum() / (a | b).sum())


def same(a: ObjectMask, b: ObjectMask) -> bool:
    return (a.id, a.top, a.left, a.iou) == (b.id, b.top, b.left, b.iou) and np.array_equal(a.scores_yx, b.scores_yx)


DISC = np.hypot(*(np.indices((100, 128)) - np.array([50, 60])[:, None, None])) < 25
KINDS: dict[str, tuple[Prompt, dict[str, Any]]] = {
    "point": (click((40, 70)), {"point_coords": [[70, 40]], "point_labels": [1]}),
    "point between pixels": (click((40.3, 70.8)), {"point_coords": [[70.8, 40.3]], "point_labels": [1]}),
    "points": (
        click((40, 70), (60, 50), (10, 10), positive=[True, True, False]),
        {"point_coords": [[70, 40], [50, 60], [10, 10]], "point_labels": [1, 1, 0]},
    ),
    "box": (click(box_yx=(19.5, 29.5, 70.5, 90.5)), {"box": [29.5, 19.5, 90.5, 70.5]}),
    "box and points": (
        click((40, 70), (55, 35), positive=[True, False], box_yx=(19.5, 29.5, 70.5, 90.5)),
        {"point_coords": [[70, 40], [35, 55]], "point_labels": [1, 0], "box": [29.5, 19.5, 90.5, 70.5]},
    ),
    "label": (click(mask=from_label(DISC.astype(int), 1)), {"box": [35.5, 25.5, 84.5, 74.5], "mask_input": DISC}),
    "label and a click beyond it": (
        click((90, 100), mask=from_label(DISC.astype(int), 1)),
        {"point_coords": [[100, 90]], "point_labels": [1], "mask_input": DISC},
    ),
}


def drawing(loaded: PromptableModel, predictor: Any, asked: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """What the compact model is given besides."""
    points, box, mask = (asked.get(name) for name in ("point_coords", "box", "mask_input"))
    batch = PromptBatch(
        None if points is None else torch.tensor(predictor.transform.apply_coords(points, shape)).float()[None],
        None if points is None else torch.tensor(asked["point_labels"])[None],
        None if box is None else torch.tensor(predictor.transform.apply_boxes(box, shape)).float(),
        None if mask is None else torch.tensor(mask)[None],
    )
    prepared = FastDecoder(loaded.sam).prepare(predictor.features)
    masks = with_drawing(loaded.sam.image_encoder, prepared, batch).masks
    assert masks is not None
    return masks[0].numpy()


def held_to_sam_predictor(loaded: PromptableModel, image: np.ndarray, prompt: Prompt, asked: dict[str, Any]) -> None:
    from segment_anything import SamPredictor

    whole = loaded.sam.image_encoder.img_size / max(image.shape[:2])  # no closer look
    session = PromptSession(loaded=loaded, scale=whole, **AS_IT_IS)
    session.set_image(image)
    found = session.predict(prompt)
    predictor = SamPredictor(loaded.sam)
    predictor.set_image(bytes_of(image))
    asked = {key: np.asarray(value) for key, value in asked.items()}
    if "mask_input" in asked:
        window = Window(0, 0, *image.shape[:2], loaded.sam.image_encoder.img_size)
        asked["mask_input"] = mask_scores(from_label(asked["mask_input"].astype(int), 1), window)[None]
    ambiguous = len(asked.get("point_labels", [])) == 1 and not {"box", "mask_input"} & asked.keys()
    if hasattr(loaded.sam.image_encoder, "guess_boxes"):
        asked["mask_input"] = drawing(loaded, predictor, asked, image.shape[:2])
        ambiguous = False
    masks, predicted, _ = predictor.predict(**asked, multimask_output=ambiguous)
    best = int(predicted.argmax())
    assert masks[best].any()
    assert iou(pasted(found, image.shape), masks[best]) >= 0.999
    assert found.iou == pytest.approx(predicted[best], abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_sam_predictors(tiny, kind):
    held_to_sam_predictor(tiny, picture(), *KINDS[kind])


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((150, 130), "uint16"), ((100, 120), "float32"), ((110, 140, 3), "uint8"), ((128, 128), "uint8")],
)
def test_masks_are_sam_predictors_whatever_the_image(tiny, shape, dtype):
    held_to_sam_predictor(tiny, picture(shape, dtype), *KINDS["points"])


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_the_shipped_model_are_sam_predictors(kind):
    from napari_matseg.core.sam.weights import load_promptable

    sample = synthetic.particles((100, 128), np.random.default_rng(1))
    held_to_sam_predictor(load_promptable("compact"), sample.image_yx, *KINDS[kind])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 1), np.uint8),
        picture((5, 700)),
        picture((700, 3)),
        np.full((40, 50), 7, np.uint16),
        np.full((40, 50), np.nan, np.float32),
        picture((40, 50)) > 100,
        np.where(picture((40, 50)) > 200, np.nan, picture((40, 50), "float32")),
        picture((40, 50)).astype(np.int32) - 2**30,
        picture((40, 50, 3), "uint16"),
    ],
    ids=["pixel", "wide", "high", "constant", "nothing", "bool", "holes", "negative", "colour"],
)
def test_odd_images(tiny, image):
    session = PromptSession(loaded=tiny, **AS_IT_IS)
    session.set_image(image)
    y, x = image.shape[0] // 2, image.shape[1] - 1
    found = session.predict(click((y, x)))
    assert found.scores_yx.dtype == np.float16
    pasted(found, image.shape)


def test_eight_bits_are_those_of_one_scale_for_all_windows():
    image = picture((90, 70), "uint16")
    window = Window(20, 4, 64, 64, 64)
    read = PromptImage.of(Micrograph(image)).read(window)
    np.testing.assert_array_equal(read, bytes_of(image)[20:84, 4:68, 0])
    colour = picture((90, 70, 3))
    read = PromptImage.of(Micrograph(colour, "YXS")).read(window)
    np.testing.assert_array_equal(read, bytes_of(colour)[20:84, 4:68])


@pytest.mark.parametrize("shape", [(90, 70), (64, 300), (30, 20)])
@pytest.mark.parametrize("colour", [False, True])
def test_resizing_is_segment_anythings(monkeypatch, shape, colour):
    from segment_anything.utils.transforms import ResizeLongestSide

    from napari_matseg.core import prompt_image

    monkeypatch.setattr(prompt_image, "BAND", 1000)
    image = picture((*shape, 3) if colour else shape)
    read = PromptImage.of(Micrograph(image, "YXS" if colour else "YX")).read(Window(0, 0, *shape, 64))
    expected = ResizeLongestSide(64).apply_image(bytes_of(image))
    np.testing.assert_array_equal(read, expected if colour else expected[..., 0])


class Slices:
    """Pixels that tell which were read."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.shape, self.dtype = pixels, pixels.shape, pixels.dtype
        self.sizes: list[int] = []

    def __getitem__(self, key: Any) -> np.ndarray:
        self.sizes.append(self.pixels[key].size)
        return self.pixels[key]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_of_large_micrographs_windows_alone_are_read(tiny, monkeypatch, dtype):
    from napari_matseg.core import normalise, prompt_image

    for each in (normalise, prompt_image):
        monkeypatch.setattr(each, "BAND", 2000)
    pixels = Slices(np.stack([picture((300, 400), dtype), picture((300, 400), dtype, seed=1)]))
    session = PromptSession(loaded=tiny, **AS_IT_IS)
    session.set_image(Micrograph(pixels, "ZYX"), plane=1)
    session.predict(click((200, 300), plane=1))
    assert max(pixels.sizes) <= 2000
    whole = PromptSession(loaded=tiny, **AS_IT_IS)
    whole.set_image(pixels.pixels[1])
    assert same(replace(whole.predict(click((200, 300))), plane=1), session.predict(click((200, 300), plane=1)))


class Threshold:
    """A model that knows the truth, as far as its window goes: the bright object at the first point."""

    frame, batch, note, look = 64, 3, "", ONCE
    stability = 0.9

    def __init__(self) -> None:
        self.prepared: list[Window] = []
        self.embedded: list[Window] = []
        self.batches: list[int] = []
        self.redrawn: list[int] = []

    def prepare(self, image: PromptImage, window: Window) -> tuple[PromptImage, Window]:
        self.prepared.append(window)
        return image, window

    def embed(self, image: PromptImage, window: Window) -> None:
        self.embedded.append(window)

    def answer(
        self, prepared: Any, window: Window, prompts: list[Prompt], settings: Any, area_px: Any
    ) -> list[ObjectMask]:
        image, embedded = prepared
        assert embedded == window
        self.batches.append(len(prompts))
        rows, columns = window.slices
        pixels = np.asarray(image.micrograph.pixels)[image.rows][rows, columns] > 128
        objects, _ = ndimage.label(pixels)
        answers = []
        for prompt in prompts:
            y, x = np.rint(prompt.points_yx[0]).astype(int) - [window.top, window.left]
            scores = np.where((objects == objects[y, x]) & pixels, np.float16(3), np.float16(-3))
            scores = scores if pixels[y, x] else np.zeros((0, 0), np.float16)
            answers.append(ObjectMask(prompt.id, window.top, window.left, scores, 0.9, self.stability, prompt.plane))
        return answers

    def redraw(
        self, image: PromptImage, prompts: list[Prompt], answers: list[ObjectMask], settings: Any
    ) -> list[ObjectMask]:
        self.redrawn += [prompt.id for prompt in prompts]
        return [replace(answer, iou=0.95) for answer in answers]


@pytest.fixture
def knows(monkeypatch) -> Iterator[Callable[..., tuple[PromptSession, Threshold]]]:
    def make(**changes: Any) -> tuple[PromptSession, Threshold]:
        model = Threshold()
        monkeypatch.setattr(PromptModel, "load", lambda settings, loaded: model)
        return PromptSession(**AS_IT_IS | changes), model

    return make


def bright_discs(shape: tuple[int, int], discs: list[tuple[int, int, int]]) -> np.ndarray:
    y, x = np.indices(shape)
    return np.max([255 * (np.hypot(y - cy, x - cx) < r) for cy, cx, r in discs], axis=0).astype(np.uint8)


def test_masks_do_not_end_at_the_borders_of_windows(knows):
    discs = [(16 + 32 * i, 16 + 32 * j, 12) for i in range(8) for j in range(8)]
    image = bright_discs((512, 512), [*discs, (380, 380, 110), (100, 400, 40), (470, 60, 3)])
    objects, count = ndimage.label(image > 128)
    session, model = knows()
    session.set_image(image)
    rng = np.random.default_rng(0)
    for label in range(1, count + 1):
        inside = np.argwhere(objects == label)
        for y, x in inside[rng.integers(len(inside), size=4)]:
            np.testing.assert_array_equal(pasted(session.predict(click((y, x))), image.shape), objects == label)
    assert {window.side for window in model.prepared} == {64, 128, 256}


def test_in_bulk_each_window_is_embedded_once_and_answers_are_those_given_alone(knows):
    image = bright_discs((512, 512), [(16 + 40 * i, 16 + 40 * j, 6 + i + j) for i in range(12) for j in range(12)])
    rng = np.random.default_rng(0)
    prompts = [click(yx, id=i + 1) for i, yx in enumerate(rng.uniform(0, 511, (100, 2)))]
    prompts += [click((16, 16), (20, 16), id=101), click((56, 56), (0, 0), id=102, positive=[True, False])]
    session, model = knows()
    session.set_image(image)
    model.prepared.clear()
    steps = session.predict_steps(prompts)
    seen, found = [], {}
    try:
        while True:
            step = next(steps)
            assert step.total == len(prompts)
            seen.append(step.done)
            assert not found.keys() & {one.id for one in step.found}
            found |= {one.id: one for one in step.found}
            assert step.done == len(found)
    except StopIteration as stop:
        answers = stop.value
    assert seen == sorted(seen)
    assert seen[-1] == len(prompts)
    assert [one.id for one in answers] == [prompt.id for prompt in prompts]
    assert all(found[one.id] is one for one in answers)
    assert len(model.prepared) == len(set(model.prepared))
    assert max(model.batches) == model.batch
    alone, _ = knows()
    alone.set_image(image)
    assert all(same(alone.predict(prompt), answer) for prompt, answer in zip(prompts, answers, strict=True))


def test_in_bulk_masks_are_those_of_each_prompt_alone(tiny):
    image = picture((200, 260))
    rng = np.random.default_rng(0)
    prompts = [click(*rng.uniform(60, 190, (1 + i % 3, 2)), id=i + 1) for i in range(8)]
    prompts += [replace(prompt, id=9 + i, box_yx=(50.0, 60.0, 150.0, 190.0 + i)) for i, prompt in enumerate(prompts)]
    session = PromptSession(loaded=tiny, **AS_IT_IS)
    session.set_image(image)
    together = finish(session.predict_steps(prompts))
    for prompt, answer in zip(prompts, together, strict=True):
        alone = session.predict(prompt)
        assert iou(pasted(alone, image.shape), pasted(answer, image.shape)) >= 0.999
        assert alone.iou == pytest.approx(answer.iou, abs=1e-5)


def test_unstable_answers_are_asked_for_again_only_where_that_is_wanted(knows):
    image = bright_discs((64, 64), [(20, 20, 3)])
    for stability, wanted, windows in ((0.9, 0.3, 2), (0.2, 0.3, 1), (0.2, 0.0, 2)):
        session, model = knows()
        model.look, model.stability = CLOSELY, stability
        session.set_image(image)
        (found,) = finish(session.predict_steps([click((20, 20))], least_stability=wanted))
        np.testing.assert_array_equal(pasted(found, image.shape), image > 128)
        assert len(model.prepared) == windows


def test_details_are_embedded_ahead(knows):
    session, model = knows()
    with pytest.raises(InputError, match="no image"):
        finish(session.ahead_steps())
    model.look = CLOSELY
    session.set_image(np.zeros((64, 80), np.uint8))
    steps = list(session.ahead_steps())
    assert [step.done for step in steps] == list(range(steps[-1].total + 1))
    assert 1 < len(model.embedded) <= module.AHEAD
    assert set(model.embedded) == set(session.windows.ahead(module.AHEAD))
    assert len(model.prepared) == 1  # what is in memory stays there


def test_details_of_an_image_that_was_replaced_are_left(knows):
    session, model = knows()
    model.look = CLOSELY
    session.set_image(np.zeros((64, 80), np.uint8))
    steps = session.ahead_steps()
    next(steps)
    next(steps)
    session.set_image(np.ones((64, 80), np.uint8))
    assert list(steps) == []
    assert len(model.embedded) == 1


def test_nothing_is_embedded_ahead_that_would_not_be_kept_or_asked_for(knows):
    for changes, look in (({"cache_gb": 0}, CLOSELY), ({}, ONCE)):
        session, model = knows(**changes)
        model.look = look
        session.set_image(np.zeros((64, 80), np.uint8))
        assert [step.done for step in session.ahead_steps()] == [1]
        assert model.embedded == []


def test_no_prompts_no_objects(knows):
    session, _ = knows()
    session.set_image(np.zeros((9, 9), np.uint8))
    assert finish(session.predict_steps([])) == []


def test_nothing_found_is_an_object_without_pixels(knows):
    session, _ = knows()
    session.set_image(np.eye(9, dtype=np.uint8) * 255)
    found = session.predict(click((0, 5), id=7))
    assert found.id == 7
    assert found.scores_yx.shape == (0, 0)


@pytest.mark.parametrize("bar", [(0, 40), (160, 200)])
def test_the_data_bar_is_left_out_and_coordinates_stay(knows, bar):
    image = bright_discs((200, 300), [(100, 150, 20), (bar[0] + 20, 150, 70)])
    image[slice(*bar)] = 255
    session, model = knows()
    session.set_image(Micrograph(image, data_bar=bar))
    expected = image > 128
    expected[slice(*bar)] = False
    objects, _ = ndimage.label(expected)
    y = 110 if bar[0] == 0 else 105
    np.testing.assert_array_equal(pasted(session.predict(click((y, 150))), image.shape), objects == objects[y, 150])
    with pytest.raises(InputError, match=r"^image: object 1 lies outside the image, or in its data bar \(all but rows"):
        session.predict(click((bar[0] + 5, 5)))
    kept, _ = knows(exclude_data_bar=False)
    kept.set_image(Micrograph(image, data_bar=bar))
    assert kept.predict(click((bar[0] + 5, 5))).mask_yx.any()
    assert model.prepared


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (click((50, 200)), "image: object 1 lies outside the image; leave it out, or move it."),
        (click((-0.6, 5)), "image: object 1 lies outside the image; leave it out, or move it."),
        (click((float("nan"), 5)), "image: object 1 lies outside the image; leave it out, or move it."),
        (click((5, 5), (500, 5)), "image: object 1 lies outside the image; leave it out, or move it."),
        (click(box_yx=(200.0, 0.0, 220.0, 9.0)), "image: object 1 lies outside the image; leave it out, or move it."),
        (click(), "image: object 1 has no point, no box and no label; give it one."),
        (click((5, 5), plane=2), "image: object 1 is on plane 2; set the image to that plane, this is 0."),
    ],
)
def test_prompts_that_cannot_be_answered(knows, prompt, says):
    session, model = knows()
    session.set_image(picture())
    model.prepared.clear()
    with pytest.raises(InputError) as caught:
        finish(session.predict_steps([click((5, 5), id=3), prompt]))
    assert str(caught.value) == says
    assert model.prepared == []


def test_what_a_window_does_not_show_does_not_count(tiny):
    session = PromptSession(loaded=tiny, **AS_IT_IS)
    session.set_image(picture((600, 600)))
    far = click((50, 50), (590, 590), positive=[True, False])
    near = click((50, 50), (70, 70), positive=[True, False])
    assert not same(session.predict(far), session.predict(near))
    assert same(session.predict(far), session.predict(click((50, 50), (580, 20), positive=[True, False])))


def test_without_an_image_there_is_no_answer(knows):
    session, _ = knows()
    with pytest.raises(InputError, match="there is no image to segment; call set_image first"):
        session.predict(click((5, 5)))


def test_prompts_on_an_image_that_was_replaced_are_not_answered(knows):
    session, _ = knows()
    session.set_image(bright_discs((300, 300), [(150, 150, 20)]))
    steps = session.predict_steps([click((150, 150))])
    next(steps)
    session.set_image(np.zeros((300, 300), np.uint8))
    with pytest.raises(InputError, match="the image was replaced by another one"):
        finish(steps)
    steps = session.set_image_steps(np.zeros((200, 300), np.uint8))
    next(steps)
    session.set_image(np.zeros((100, 100), np.uint8))
    next(steps)
    next(steps)  # here it takes its place
    with pytest.raises(InputError, match="lies outside the image"):
        session.predict(click((250, 150)))


def test_an_image_that_cannot_be_used_leaves_the_one_before(knows, tmp_path):
    session, _ = knows()
    session.set_image(bright_discs((90, 90), [(50, 50, 20)]))
    with pytest.raises(InputError, match="there is no such file"):
        session.set_image(tmp_path / "none.tif")
    with pytest.raises(InputError, match="there is no plane 1"):
        session.set_image(np.zeros((9, 9)), plane=1)
    with pytest.raises(InputError, match="could be many things"):
        session.set_image(np.zeros((9, 9, 9)))
    assert session.predict(click((50, 50))).mask_yx.any()


def test_cancelling_leaves_a_session_that_works(knows):
    image = bright_discs((300, 300), [(150, 150, 20), (50, 50, 9)])
    session, model = knows()
    steps = session.set_image_steps(image)
    assert [next(steps).note for _ in range(3)] == ["loading the model", "reading the image", "embedding"]
    steps.close()
    assert model.prepared == []
    bulk = session.predict_steps([click((150, 150)), click((50, 50), id=2)])
    next(bulk)
    next(bulk)
    bulk.close()
    assert session.predict(click((150, 150))).mask_yx.sum() == (image[100:200] > 128).sum()


def test_embeddings_are_kept_for_later_sessions(tiny, monkeypatch):
    image = picture((200, 260))
    first = PromptSession(loaded=tiny, **AS_IT_IS)
    first.set_image(image)
    answer = first.predict(click((20, 30)))
    embed, calls = PromptModel._embed, []
    monkeypatch.setattr(PromptModel, "_embed", lambda *args: calls.append(args) or embed(*args))
    later = PromptSession(loaded=tiny, **AS_IT_IS)
    later.set_image(image)
    assert same(later.predict(click((20, 30))), answer)
    assert calls == []
    other = PromptSession(loaded=replace(tiny, sha256="1" * 64), **AS_IT_IS)
    other.set_image(image)
    assert len(calls) == 1
    nothing = PromptSession(loaded=tiny, cache_gb=0, **AS_IT_IS)
    nothing.set_image(image)
    nothing.set_image(image)
    assert len(calls) == 3


def test_where_embeddings_cannot_be_kept_it_is_said(tiny, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NAPARI_MATSEG_CACHE", str(tmp_path / "file"))
    session = PromptSession(loaded=tiny, **AS_IT_IS)
    assert session.note == ""
    notes = [step.note for step in session.set_image_steps(picture())]
    assert notes[-1] == session.note
    assert session.note.startswith("embeddings cannot be kept for the next time")
    notes = [step.note for step in session.predict_steps([click((20, 30))])]
    assert notes[-1] == session.note


def test_settings_may_change_but_for_the_model(knows):
    session, _ = knows(drop_specks_px=0)
    image = bright_discs((90, 90), [(50, 50, 20)])
    image[48:52, 48:52] = 0
    session.set_image(image)
    assert session.predict(click((40, 40))).mask_yx.sum() == (image > 128).sum()
    session.settings = session.settings.model_copy(update={"fill_holes_px": 99})
    assert session.predict(click((40, 40))).mask_yx.sum() == (image > 128).sum() + 16
    for change in ({"model": "vit_b"}, {"device": "cuda"}, {"precision": "bfloat16"}):
        with pytest.raises(SettingsError, match=f"{next(iter(change))} cannot change in a session"):
            session.settings = session.settings.model_copy(update=change)
    with pytest.raises(SettingsError, match="there is no such setting"):
        PromptSession(modle="compact")


def test_area_limits_in_nm_need_the_pixel_size(knows):
    session, _ = knows(area_nm2=(1, 100))
    with pytest.raises(InputError, match="its pixel size is unknown, so area_nm2 has no meaning"):
        session.set_image(picture())
    session.set_image(Micrograph(picture(), pixel_size_nm=(2.0, 2.5)))
    assert session.area_px == (0.2, 20)
    session, _ = knows(area_nm2=(1, 100), area_px=(7, 8))
    session.set_image(picture())
    assert session.area_px == (7, 8)


def test_area_limits_come_to_the_choice_in_cells_of_the_masks(tiny, monkeypatch):
    chosen: list[Any] = []

    def choose(decoded: Any, choice: str, single: bool, limits: Any) -> torch.Tensor:
        chosen.append((choice, single, limits))
        return torch.full((len(decoded.iou),), 2)

    monkeypatch.setattr("napari_matseg.core.sam.decoder.choose", choose)
    session = PromptSession(loaded=tiny, choice="part", area_px=(160, 1600), **AS_IT_IS)
    session.set_image(picture((50, 64)))  # a cell of 4 px of the frame is 2 px wide
    found = session.predict(click((20, 30)))
    session.settings = session.settings.model_copy(update={"area_px": None, "choice": "best"})
    assert same(session.predict(click((20, 30))), found)
    session.predict(click((20, 30), (25, 40)))
    assert chosen == [("part", False, (40.0, 400.0)), ("best", False, None), ("best", True, None)]


def test_threads_take_turns(tiny):
    session = PromptSession(loaded=tiny, **AS_IT_IS)
    session.set_image(picture((300, 300)))
    prompts = [click(yx, id=i) for i, yx in enumerate(np.random.default_rng(0).uniform(0, 299, (12, 2)))]
    alone = [session.predict(prompt) for prompt in prompts]
    found: dict[int, ObjectMask] = {}

    def work(part: list[Prompt]) -> None:
        for prompt in part:
            found[prompt.id] = session.predict(prompt)

    threads = [threading.Thread(target=work, args=(prompts[i::3],)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(found[prompt.id], answer) for prompt, answer in zip(prompts, alone, strict=True))


def test_memory_does_not_grow_with_the_micrograph(knows):
    image = bright_discs((1024, 1024), [(512, 512, 20)])
    session, model = knows()
    session.set_image(image)
    finish(session.predict_steps([click(yx) for yx in np.random.default_rng(0).uniform(0, 1023, (300, 2))]))
    assert len(set(model.prepared)) > 4 * module.RECENT
    assert session._open is not None
    assert len(session._open.recent._kept) == module.RECENT


@pytest.mark.parametrize(
    "window", [Window(0, 0, 100, 128, 128), Window(20, 30, 64, 64, 128), Window(0, 0, 100, 128, 64)]
)
def test_scores_of_a_label_lie_where_the_label_lies(window):
    scores = mask_scores(from_label(DISC.astype(int), 1), window)
    assert scores.shape == (window.frame // 4, window.frame // 4)
    assert (scores.min(), scores.max()) == (-8, 8)
    rows, columns = window.slices
    seen = DISC[rows, columns]
    cell = 4 * window.side / window.frame
    centres = [((np.arange(length) + 0.5) * cell).astype(int) for length in scores.shape]
    inside = [centre < length for centre, length in zip(centres, seen.shape, strict=True)]
    expected = seen[np.ix_(centres[0][inside[0]], centres[1][inside[1]])]
    assert iou(scores[np.ix_(*inside)] > 0, expected) > 0.9
    assert (scores[~inside[0]] == -8).all()
    beyond = ObjectMask(1, 90, 110, np.full((9, 9), 1, np.float16), 1.0, 1.0)
    assert (mask_scores(beyond, Window(0, 0, 64, 64, 128)) == -8).all()

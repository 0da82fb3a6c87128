from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from napari_matseg.core.objects import ObjectMask
from napari_matseg.core.prompt import PromptSession
from napari_matseg.core.prompt_image import PromptImage
from napari_matseg.core.prompts import Prompt
from napari_matseg.core.read import as_micrograph
from napari_matseg.core.refine.crops import (
    BLANK,
    SIDE,
    Square,
    back_to_plane,
    earlier_scores,
    seen_inside,
    stack_maps,
)
from napari_matseg.core.refine.redraw import Redrawer

NOWHERE, NOBODY = np.zeros((0, 2)), np.zeros(0, dtype=bool)


def disc(shape: tuple[int, int], y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    inside: np.ndarray = np.hypot(rows - y, columns - x) <= radius
    return inside


def answer_of(mask: np.ndarray, id: int = 1) -> ObjectMask:  # noqa: A002
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    where = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    scores = np.where(mask[where], np.float16(6), np.float16(-6))
    return ObjectMask(id, int(rows[0]), int(columns[0]), scores, 0.5, 0.5)


def pasted(found: ObjectMask, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[found.where] = found.mask_yx
    return mask


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


class Stub(nn.Module):
    """Draws what it is told to, and keeps what it was given."""

    def __init__(self, draw: Any) -> None:
        super().__init__()
        self.draw = draw
        self.given: list[torch.Tensor] = []

    def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.given.append(maps.clone())
        return self.draw(maps).float(), torch.full((len(maps),), 0.75)


def redrawer(draw: Any, views: int = 1) -> tuple[Redrawer, Stub]:
    stub = Stub(draw)
    return Redrawer(stub, torch.device("cpu"), torch.float32, views), stub  # type: ignore[arg-type]


def bright(maps: torch.Tensor) -> torch.Tensor:
    return 8 * maps[:, 0]


def click(y: float, x: float, positive: bool = True) -> Prompt:
    return Prompt(1, np.array([[y, x]]), np.array([positive]))


@given(
    st.tuples(st.floats(0, 199), st.floats(0, 299)),
    st.floats(3, 150),
)
def test_what_is_drawn_lies_where_it_was_seen(centre, radius):
    shape = 200, 300
    mask = disc(shape, *centre, radius)
    image = PromptImage.of(as_micrograph(np.where(mask, np.uint8(220), np.uint8(30))), exclude_data_bar=False)
    redraw, stub = redrawer(bright)
    answer = answer_of(disc(shape, *centre, 0.8 * radius))
    found = redraw.redraw(image, [click(*centre)], [answer])[0]
    assert iou(pasted(found, shape), mask) > (0.75 if mask.sum() < 80 else 0.92)
    assert found.iou == pytest.approx((0.5 * 0.75) ** 0.5)  # both networks have a say
    assert len(stub.given) == 2  # the second time at the scale of what the first showed


@pytest.mark.parametrize("kind", ["box", "points", "label"])
def test_prompts_are_put_where_they_are(kind):
    shape = 300, 300
    mask = disc(shape, 120, 180, 40)
    image = PromptImage.of(as_micrograph(np.where(mask, np.uint8(220), np.uint8(30))))
    redraw, stub = redrawer(bright)
    box = 79.5, 139.5, 160.5, 220.5
    prompt = {
        "box": Prompt(1, NOWHERE, NOBODY, box),
        "points": Prompt(1, np.array([[120.0, 180.0], [150.0, 190.0], [70.0, 180.0]]), np.array([True, True, False])),
        "label": Prompt(1, NOWHERE, NOBODY, None, answer_of(mask)),
    }[kind]
    redraw.redraw(image, [prompt], [answer_of(mask)])
    maps = stub.given[0][0].numpy()
    square = Square.round(box)
    seen = maps[0] > 0
    assert iou(seen, maps[5] > 0) > 0.97  # the answer lies on the object
    if kind == "box":
        rows, columns = np.flatnonzero(maps[2].any(axis=1)), np.flatnonzero(maps[2].any(axis=0))
        held = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        np.testing.assert_allclose([rows[0], rows[-1]], [held[0][0], held[0][-1]], atol=1)
        np.testing.assert_allclose([columns[0], columns[-1]], [held[1][0], held[1][-1]], atol=1)
        assert not maps[3:5].any()
        assert len(stub.given) == 1
    if kind == "points":
        y, x = square.to_input(120, 180)
        assert maps[3][round(y), round(x)] == 1
        assert 30 < maps[3].sum() < 70  # two discs of radius 3
        assert maps[3][~seen].sum() == 0
        assert maps[4].any()
        assert not maps[4][seen].any()
    if kind == "label":
        assert not maps[2:5].any()


def test_beyond_the_micrograph_there_is_nothing():
    image = np.random.default_rng(0).integers(0, 255, (60, 80), dtype=np.uint8)
    square = Square(-40, 30, 100)
    inside = seen_inside(square, (60, 80), 50)
    assert inside.sum() == 30 * 25
    assert inside[20:, :25].all()
    maps = stack_maps(np.ones((50, 50)), inside, None, [], [], None)
    np.testing.assert_array_equal(maps[0] == np.float32(BLANK), ~inside)
    np.testing.assert_array_equal(maps[1] == 1, inside)
    grey = PromptImage.of(as_micrograph(image), exclude_data_bar=False).grey_of(-40, 30, 100, 100)
    assert grey.shape == (100, 100)
    np.testing.assert_array_equal(grey[:40], grey[40:41].repeat(40, axis=0))


def test_true_colour_counts_as_it_looks():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = 0, 255, 0
    image[:4, :4] = 255
    seen = PromptImage.of(as_micrograph(image), exclude_data_bar=False).grey_of(0, 0, 40, 40)
    assert seen.dtype == np.float32
    low, green, white = seen[20, 5], seen[20, 35], seen[1, 1]
    assert (green - low) / (white - low) == pytest.approx(0.7152, abs=0.01)


def test_a_data_bar_moves_nothing():
    """Prompts and answers are in pixels of the rows that are seen."""
    mask = disc((120, 160), 60, 70, 20)
    found = []
    for start in (0, 30):
        whole = np.pad(np.where(mask, np.uint8(220), np.uint8(30)), ((start, 0), (0, 0)))
        image = replace(PromptImage.of(as_micrograph(whole), exclude_data_bar=False), rows=slice(start, start + 120))
        redraw, _ = redrawer(bright)
        found.append(redraw.redraw(image, [click(60, 70)], [answer_of(mask)])[0])
    assert (found[0].top, found[0].left) == (found[1].top, found[1].left)
    np.testing.assert_array_equal(found[0].mask_yx, found[1].mask_yx)


def test_what_was_found_is_never_lost():
    image = PromptImage.of(as_micrograph(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)))
    answer = answer_of(disc((64, 64), 30, 30, 9))
    nothing = replace(answer, scores_yx=np.zeros((0, 0), np.float16))
    redraw, stub = redrawer(lambda maps: torch.full_like(maps[:, 0], -3.0))
    assert redraw.redraw(image, [click(30, 30)], [answer])[0] is answer
    assert redraw.redraw(image, [click(30, 30)], [nothing])[0] is nothing
    assert len(stub.given) == 2  # nothing is asked where nothing is known
    assert redraw.redraw(image, [], []) == []


def test_an_object_hangs_together_where_it_was_clicked():
    shape = 100, 100
    both = disc(shape, 50, 35, 9) | disc(shape, 50, 62, 12)
    image = PromptImage.of(as_micrograph(np.where(both, np.uint8(220), np.uint8(30))))
    redraw, _ = redrawer(bright)
    answer = answer_of(both)
    left = pasted(redraw.redraw(image, [click(50, 35)], [answer])[0], shape)
    assert iou(left, disc(shape, 50, 35, 9)) > 0.85
    boxed = pasted(redraw.redraw(image, [Prompt(1, NOWHERE, NOBODY, (37.5, 25.5, 62.5, 74.5))], [answer])[0], shape)
    assert iou(boxed, disc(shape, 50, 62, 12)) > 0.85  # the larger
    apart = redraw.redraw(image, [click(50, 35)], [answer], one_piece=False)[0]
    assert iou(pasted(apart, shape), both) > 0.85


def test_drawings_of_mirrored_looks_are_averaged():
    """What a network draws to the left of the object by mistake is to its right in the other look."""
    shape = 100, 100
    mask = disc(shape, 50, 50, 20)
    image = PromptImage.of(as_micrograph(np.where(mask, np.uint8(220), np.uint8(30))))

    def lopsided(maps: torch.Tensor) -> torch.Tensor:
        scores = bright(maps)
        scores[..., :20] = 4.0
        return scores

    prompts, answers = [Prompt(1, NOWHERE, NOBODY, (29.5, 29.5, 70.5, 70.5))], [answer_of(mask)]
    once = redrawer(lopsided)[0].redraw(image, prompts, answers, one_piece=False)[0]
    redraw, stub = redrawer(lopsided, views=2)
    twice = redraw.redraw(image, prompts, answers, one_piece=False)[0]
    np.testing.assert_array_equal(stub.given[0], stub.given[1].flip(-1))
    assert iou(pasted(once, shape), mask) < 0.9
    assert iou(pasted(twice, shape), mask) > 0.95


def test_a_stable_drawing_is_told_from_a_vague_one():
    mask = disc((100, 100), 50, 50, 20)
    image = PromptImage.of(as_micrograph(np.where(mask, np.uint8(220), np.uint8(30))))
    boxes, answers = [Prompt(1, NOWHERE, NOBODY, (29.5, 29.5, 70.5, 70.5))], [answer_of(mask)]
    sharp = redrawer(lambda maps: 20 * maps[:, 5])[0].redraw(image, boxes, answers)[0]
    ramp = torch.linspace(-3, 3, SIDE).expand(1, SIDE, SIDE)
    vague = redrawer(lambda maps: ramp)[0].redraw(image, boxes, answers)[0]
    assert sharp.stability > 0.9
    assert vague.stability == pytest.approx(0.5, abs=0.02)


def test_what_is_drawn_beyond_the_micrograph_changes_nothing_in_it():
    drawn = np.full((SIDE, SIDE), 4.0, np.float32)
    square = Square(-60, 90, 100)
    drawn[~seen_inside(square, (80, 120))] = -50
    top, left, scores = back_to_plane(drawn, square, (80, 120))
    assert (top, left, scores.shape) == (0, 90, (40, 30))
    np.testing.assert_array_equal(scores, 4)


@given(st.integers(-50, 150), st.integers(-50, 150), st.integers(2, 400))
def test_there_and_back(top, left, side):
    """What the refiner is shown of an answer comes back to where the answer is."""
    shape = 160, 160
    y, x = top + side / 2, left + side / 2
    mask = disc(shape, y, x, side / 4)
    if mask.sum() < 12:
        return
    square = Square(top, left, side)
    scores = earlier_scores(answer_of(mask), square)
    assert scores is not None
    first, start, back = back_to_plane(scores.astype(np.float32), square, shape)
    there = np.zeros(shape, dtype=bool)
    there[first : first + back.shape[0], start : start + back.shape[1]] = back > 0
    assert iou(there, mask) > (0.7 if mask.sum() < 100 else 0.9)


def test_a_box_may_reach_far_beyond_the_micrograph():
    mask = disc((100, 100), 4, 4, 8)
    image = PromptImage.of(as_micrograph(np.where(mask, np.uint8(220), np.uint8(30))), exclude_data_bar=False)
    prompt = Prompt(1, NOWHERE, NOBODY, (-500.0, -900.0, 12.5, 12.5))
    found = redrawer(bright)[0].redraw(image, [prompt], [answer_of(mask)])[0]
    assert iou(pasted(found, mask.shape), mask) > 0.85


@pytest.fixture(scope="module")
def cluster() -> tuple[np.ndarray, list[np.ndarray]]:
    """Touching balls, as an electron microscope shows them."""
    rng = np.random.default_rng(3)
    shape = 220, 260
    image = rng.normal(40, 6, shape)
    masks = []
    for y, x, radius in ((70, 70, 34), (70, 136, 32), (128, 102, 33), (150, 190, 26)):
        mask = disc(shape, y, x, radius)
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        depth = np.sqrt(np.clip(1 - ((rows - y) ** 2 + (columns - x) ** 2) / radius**2, 0, 1))
        image = np.where(mask, 190 - 60 * depth + rng.normal(0, 6, shape), image)
        masks = [*(one & ~mask for one in masks), mask]
    return image.clip(0, 255).astype(np.uint8), masks


def test_the_shipped_refiner_draws_touching_particles_better(cluster):
    image, masks = cluster
    reached = {}
    for refine in (False, True):
        session = PromptSession(refine=refine, device="cpu", cache_gb=0)
        session.set_image(image)
        prompts = []
        for mask in masks:
            rows, columns = np.nonzero(mask)
            y0, x0, y1, x1 = rows.min() - 0.5, columns.min() - 0.5, rows.max() + 0.5, columns.max() + 0.5
            prompts += [click(rows.mean(), columns.mean()), Prompt(1, NOWHERE, NOBODY, (y0, x0, y1, x1))]
        found = [session.predict(prompt) for prompt in prompts]
        reached[refine] = [
            iou(pasted(one, image.shape), mask) for one, mask in zip(found, np.repeat(masks, 2, axis=0), strict=True)
        ]
        assert ("refiner_sha256" in session.describe_model()) == refine
    assert np.mean(reached[True]) > np.mean(reached[False])
    assert min(reached[True]) > 0.9


def test_parts_and_agglomerates_are_left_alone(cluster):
    image, masks = cluster
    rows, columns = np.nonzero(masks[2])
    for choice in ("part", "particle", "agglomerate"):
        found = []
        for refine in (False, True):
            session = PromptSession(refine=refine, choice=choice, device="cpu", cache_gb=0)
            session.set_image(image)
            found.append(session.predict(click(rows.mean(), columns.mean())))
        np.testing.assert_array_equal(found[0].scores_yx, found[1].scores_yx)


def test_a_label_counts_as_its_box(cluster, monkeypatch):
    """The refiner was taught clicks and boxes."""
    image, masks = cluster
    session = PromptSession(device="cpu", cache_gb=0)
    session.set_image(image)
    seen: list[Prompt] = []
    plain = Redrawer.redraw

    def watched(self: Redrawer, image: PromptImage, prompts: list[Prompt], *rest: Any, **more: Any) -> Any:
        seen.extend(prompts)
        return plain(self, image, prompts, *rest, **more)

    monkeypatch.setattr(Redrawer, "redraw", watched)
    found = session.predict(Prompt(1, NOWHERE, NOBODY, None, answer_of(masks[3])))
    assert iou(pasted(found, image.shape), masks[3]) > 0.9
    rows, columns = np.nonzero(masks[3])
    box = rows.min() - 0.5, columns.min() - 0.5, rows.max() + 0.5, columns.max() + 0.5
    assert seen[-1].box_yx == pytest.approx(box)


def test_where_there_is_nothing_the_answer_is_flagged():
    session = PromptSession(device="cpu", cache_gb=0)
    session.set_image(np.full((120, 150), 9, np.uint16))
    assert session.predict(click(60, 70)).iou < session.settings.min_iou

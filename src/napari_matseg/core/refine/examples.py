"""What a refiner learns from: objects of micrographs, and how a promptable model answered for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.progress import Progress, finish
from napari_matseg.core.prompt import PromptSession
from napari_matseg.core.prompt_data import SMALLEST, bounding_box, deepest_pixel, jitter
from napari_matseg.core.prompt_examples import PromptExample, load_sources, synthetic_example
from napari_matseg.core.prompts import Prompt
from napari_matseg.settings import PromptSettings

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_matseg.core.objects import ObjectMask
    from napari_matseg.core.windows import Box
    from napari_matseg.settings import RefineTrainSettings

SYNTHETIC = 90
"""Micrographs that are made where the sources leave a share for them."""


@dataclass(frozen=True, eq=False)
class Asked:
    """An object that a promptable model was asked for.

    Attributes
    ----------
    id : int
        In the example.
    box : (float, float, float, float)
        Its own, (y0, x0, y1, x1) from edge to edge, in pixels.
    click_yx : (int, int)
    clicked : ObjectMask
        The answer to the click.
    drawn : (float, float, float, float)
        A box as a user would draw it.
    boxed : ObjectMask
        The answer to that.
    """

    id: int
    box: Box
    click_yx: tuple[int, int]
    clicked: ObjectMask
    drawn: Box
    boxed: ObjectMask


@dataclass(frozen=True, eq=False)
class AskedExample:
    """A micrograph with the objects that were asked for.

    Attributes
    ----------
    levels : list of array, float32
        Normalised grey, each of half the resolution of the one before.
    objects_yx : array, shape (height, width), int32
    asked : list of Asked
    """

    levels: list[np.ndarray]
    objects_yx: np.ndarray
    asked: list[Asked]


def ask_steps(
    settings: RefineTrainSettings, folder: Path
) -> Generator[Progress, None, tuple[list[tuple[float, list[AskedExample]]], list[AskedExample]]]:
    """Ask the promptable model for objects of all micrographs.

    Parameters
    ----------
    settings : RefineTrainSettings
    folder : Path
        What the paths in the settings are relative to.

    Yields
    ------
    Progress

    Returns
    -------
    sources : list of (share, examples)
        To train on; the last are synthetic.
    validation : list of AskedExample
        Held out, of the first source; clicked in the middle, and with exact boxes.

    Raises
    ------
    InputError, ModelError, SettingsError
        If data, model or settings cannot be used.
    """
    sources, validation = load_sources(settings, folder)
    left = 1 - sum(share for share, _ in sources)
    if left > 0:
        sources.append(
            (left, [synthetic_example(np.random.default_rng((settings.seed, 3, n))) for n in range(SYNTHETIC)])
        )
    session = PromptSession(
        PromptSettings(model=settings.refines, device=settings.device, precision="float32", refine=False, cache_gb=0)
    )
    total = sum(len(examples) for _, examples in sources) + len(validation)
    done = 0
    taught = []
    for share, examples in sources:
        asked = []
        for example in examples:
            yield Progress(done, total, f"asking {settings.refines}")
            asked.append(_ask(session, example, np.random.default_rng((settings.seed, 2, done)), settings.objects))
            done += 1
        taught.append((share, [one for one in asked if one.asked]))
    held_out = []
    for example in validation:
        yield Progress(done, total, f"asking {settings.refines}")
        held_out.append(_ask(session, example, None, settings.objects))
        done += 1
    return taught, held_out


def _ask(session: PromptSession, example: PromptExample, rng: np.random.Generator | None, most: int) -> AskedExample:
    """Ask for some objects of a micrograph; without chance where there is no generator of it."""
    objects_yx = example.objects_yx
    ids = np.flatnonzero(np.bincount(objects_yx.ravel())[1:] >= SMALLEST) + 1
    if len(ids) > most:
        spread = np.linspace(0, len(ids) - 1, most).round().astype(int)
        ids = ids[spread] if rng is None else rng.choice(ids, most, replace=False)
    boxes, clicks, drawn = [], [], []
    for one in ids.tolist():
        truth_yx = objects_yx == one
        y0, x0, y1, x1 = bounding_box(truth_yx)
        box = y0 - 0.5, x0 - 0.5, y1 + 0.5, x1 + 0.5
        click = deepest_pixel(truth_yx)
        if rng is not None and rng.random() < 0.5:
            places = np.argwhere(truth_yx)
            y, x = places[rng.integers(len(places))].tolist()
            click = y, x
        boxes.append(box)
        clicks.append(click)
        drawn.append(box if rng is None else _drawn(box, objects_yx.shape, rng))
    session.set_image(example.image_yx)
    positive, nowhere, nobody = np.array([True]), np.zeros((0, 2)), np.zeros(0, dtype=bool)
    clicked = finish(session.predict_steps([Prompt(1, np.array([click], float), positive) for click in clicks]))
    boxed = finish(session.predict_steps([Prompt(1, nowhere, nobody, box) for box in drawn]))
    asked = [Asked(*one) for one in zip(ids.tolist(), boxes, clicks, clicked, drawn, boxed, strict=True)]
    return AskedExample(_levels(example.image_yx), objects_yx, asked)


def _drawn(box: Box, shape_yx: tuple[int, ...], rng: np.random.Generator) -> Box:
    """Box as a user would draw it."""
    off = jitter(box, rng)
    low, high = np.full(2, -0.5), np.array(shape_yx) - 0.5
    y0, x0 = np.clip(off[:2], low, high).tolist()
    y1, x1 = np.clip(off[2:], low, high).tolist()
    return (y0, x0, y1, x1) if y1 > y0 and x1 > x0 else box


def _levels(image_yx: np.ndarray) -> list[np.ndarray]:
    """Halve the resolution again and again, down to some 32 px."""
    levels = [image_yx.astype(np.float32)]
    while min(levels[-1].shape) >= 64:
        height, width = (length // 2 * 2 for length in levels[-1].shape)
        levels.append(levels[-1][:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)))
    return levels

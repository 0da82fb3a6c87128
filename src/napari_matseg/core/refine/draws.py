"""Random crops round objects, as a refiner sees them, with the prompts that a user might have given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_matseg.core.augment import change_grey
from napari_matseg.core.objects import bounding_box
from napari_matseg.core.prompt_data import SMALLEST, deepest_pixel, jitter
from napari_matseg.core.prompt_image import LIMIT
from napari_matseg.core.refine.crops import CONTEXT, SIDE, stack_maps, take
from napari_matseg.core.refine.crops import SMALLEST as SHORTEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_matseg.core.objects import ObjectMask
    from napari_matseg.core.refine.examples import Asked, AskedExample
    from napari_matseg.core.windows import Box
    from napari_matseg.settings import AugmentSettings, RefineTrainSettings

ANSWERED = 0.55
"""Share of the crops in which the promptable model's answer is given."""
WIDENED = 0.3
"""Share of the answers to clicks round which the crop shows all of the object, even where the answer does not."""
TURNED = 0.5
"""Share of the crops turned by any angle, and not by quarters; boxes that were asked with stay upright."""
SIZE_SPREAD, PLACE_SPREAD = 0.2, 0.08
"""By how much the crop is wrong where it is laid without an answer: of the logarithm of its size, and in sizes."""
BOTH = 0.15
"""Share of the boxes with a click in them, too."""
CORRECTED_BOXES = 0.1
"""Share of the boxes with a further click where the answer is wrong."""
TRIES = 50
"""Objects that are drawn before there is thought to be nothing to learn from."""
MIRRORS = [np.diag([y, x]) @ turn for turn in (np.eye(2), np.eye(2)[::-1]) for y in (1.0, -1.0) for x in (1.0, -1.0)]
"""The eight ways to turn and mirror a square."""


@dataclass(frozen=True, eq=False)
class Draw:
    """A crop to learn from.

    Attributes
    ----------
    maps : array, shape (6, side, side), float32
        As `stack_maps` gives them.
    truth_yx : array, shape (side, side), bool
        The object that is asked for.
    inside_yx : array, shape (side, side), bool
        Where there is a micrograph, and so a truth.
    """

    maps: np.ndarray
    truth_yx: np.ndarray
    inside_yx: np.ndarray


class Draws:
    """Random crops; that of a given number is always the same.

    Parameters
    ----------
    sources : sequence of (share, examples)
    settings : RefineTrainSettings
    """

    def __init__(self, sources: Sequence[tuple[float, Sequence[AskedExample]]], settings: RefineTrainSettings) -> None:
        self._settings = settings
        self._sources = [examples for _, examples in sources]
        self._shares = _normed([share for share, _ in sources])
        # Micrographs of many objects count for more, but not for as much more.
        self._weights = [_normed([len(one.asked) ** 0.5 for one in examples]) for examples in self._sources]

    def draw(self, number: int) -> Draw:
        """Make one crop; its number and the seed decide everything."""
        rng = np.random.default_rng((self._settings.seed, 4, number))
        for _ in range(TRIES):
            source = int(rng.choice(len(self._sources), p=self._shares))
            examples = self._sources[source]
            example = examples[int(rng.choice(len(examples), p=self._weights[source]))]
            asked = example.asked[int(rng.integers(len(example.asked)))]
            found = _draw(example, asked, self._settings, rng)
            if found is not None:
                return found
        raise ValueError(f"no crop with an object was found in {TRIES} attempts")  # the truth is all but empty


def _normed(values: Sequence[float]) -> np.ndarray:
    weights = np.asarray(values, dtype=float)
    normed: np.ndarray = weights / weights.sum()
    return normed


def _draw(example: AskedExample, asked: Asked, settings: RefineTrainSettings, rng: np.random.Generator) -> Draw | None:
    """Crop round an object; None where hardly any of it is seen."""
    boxed, answered = rng.random() < settings.boxes, rng.random() < ANSWERED
    answer = (asked.boxed if boxed else asked.clicked) if answered else None
    if answer is not None and not answer.mask_yx.any():
        answer = None
    known = _known(asked, answer, boxed, rng)
    matrix, offset = _place(known, settings.augment, rng, upright=boxed and answer is not None)
    grey_yx = _sample_grey(example.levels, matrix, offset)
    inside_yx = np.isfinite(grey_yx)
    truth_yx = _sample_object(example.objects_yx, asked, matrix, offset)
    seen_yx = truth_yx & inside_yx
    if seen_yx.sum() < SMALLEST:
        return None
    changed = change_grey(np.nan_to_num(grey_yx)[None], settings.augment, rng)[0].clip(-LIMIT, LIMIT)
    scores_yx = None if answer is None else take(answer, matrix, offset, SIDE)
    box = None
    if boxed:
        box = _seen_box(seen_yx, rng) if answer is None else _to_crop(asked.drawn, matrix, offset)
    positive: list[tuple[float, float]] = []
    if not boxed and answer is not None:
        positive.append(tuple(np.linalg.solve(matrix, asked.click_yx - offset).tolist()))
    elif not boxed or rng.random() < BOTH:
        positive.append(_click(seen_yx, rng))
    negative: list[tuple[float, float]] = []
    if rng.random() < (CORRECTED_BOXES if boxed else settings.corrections):
        guess_yx = None if scores_yx is None else scores_yx > 0
        _correct(guess_yx, truth_yx, inside_yx, positive, negative, rng)
    return Draw(stack_maps(changed, inside_yx, box, positive, negative, scores_yx), truth_yx, inside_yx)


def _known(asked: Asked, answer: ObjectMask | None, boxed: bool, rng: np.random.Generator) -> np.ndarray:
    """Box that the crop is laid round, (y0, x0, y1, x1)."""
    own = np.array(asked.box)
    if boxed:
        return jitter(own, rng) if answer is None else np.array(asked.drawn)
    if answer is None:
        size = own[2:] - own[:2]
        half = size * np.exp(rng.normal(0, SIZE_SPREAD, 2)) / 2
        centre = (own[:2] + own[2:]) / 2 + rng.normal(0, PLACE_SPREAD, 2) * size
        return np.concatenate([centre - half, centre + half])
    found, click = np.array(bounding_box(answer)), np.array(asked.click_yx)
    low, high = np.minimum(found[:2], click - 0.5), np.maximum(found[2:], click + 0.5)
    if rng.random() < WIDENED:
        low, high = np.minimum(low, own[:2]), np.maximum(high, own[2:])
    return np.concatenate([low, high])


def _place(
    known: np.ndarray, augment: AugmentSettings, rng: np.random.Generator, *, upright: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Map from pixels of a crop to those of the micrograph: matrix, and where the crop's first pixel lies."""
    size = known[2:] - known[:2]
    side = CONTEXT * max(*size, SHORTEST) * np.exp(rng.normal(0, 0.06))
    centre = (known[:2] + known[2:]) / 2 + rng.normal(0, 0.02, 2) * side
    turn = MIRRORS[int(rng.integers(len(MIRRORS)))]
    if not upright and rng.random() < TURNED:
        angle = rng.uniform(0, 2 * np.pi)
        turn = turn @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    aspect = np.exp(rng.uniform(-0.5, 0.5) * np.log(augment.aspect))
    matrix = turn * (side / SIDE) @ np.diag([aspect, 1 / aspect])
    return matrix, centre - matrix @ np.full(2, (SIDE - 1) / 2)


def _sample_grey(levels: Sequence[np.ndarray], matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Grey of a crop, of the level that has about its resolution; NaN outside the micrograph."""
    step = np.sqrt(abs(np.linalg.det(matrix)))
    level = min(max(int(np.log2(step) + 0.3), 0), len(levels) - 1)
    shrink = 2**level
    grey_yx: np.ndarray = ndimage.affine_transform(
        levels[level], matrix / shrink, (offset + 0.5) / shrink - 0.5, (SIDE, SIDE), order=1, cval=np.nan
    )
    return grey_yx


def _sample_object(objects_yx: np.ndarray, asked: Asked, matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    top, left = (max(int(edge + 0.5) - 2, 0) for edge in asked.box[:2])
    bottom, right = (int(edge + 0.5) + 2 for edge in asked.box[2:])
    mask = np.pad((objects_yx[top:bottom, left:right] == asked.id).astype(np.float32), 1, mode="edge")
    start = offset - np.array([top, left]) + 1
    truth_yx: np.ndarray = ndimage.affine_transform(mask, matrix, start, (SIDE, SIDE), order=1) > 0.5
    return truth_yx


def _to_crop(box: Box, matrix: np.ndarray, offset: np.ndarray) -> Box:
    """Box of a box that was turned by quarters."""
    corners = np.linalg.solve(matrix, (np.reshape(box, (2, 2)) - offset).T).T
    (y0, x0), (y1, x1) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return y0, x0, y1, x1


def _seen_box(seen_yx: np.ndarray, rng: np.random.Generator) -> Box:
    rows, columns = (np.flatnonzero(seen_yx.any(axis=axis)) for axis in (1, 0))
    y0, x0, y1, x1 = jitter((rows[0] - 0.5, columns[0] - 0.5, rows[-1] + 0.5, columns[-1] + 0.5), rng).tolist()
    return y0, x0, y1, x1


def _click(mask_yx: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """In the middle, or anywhere inside."""
    if rng.random() < 0.5:
        y, x = deepest_pixel(mask_yx)
    else:
        places = np.argwhere(mask_yx)
        y, x = places[int(rng.integers(len(places)))].tolist()
    return float(y), float(x)


def _correct(
    guess_yx: np.ndarray | None,
    truth_yx: np.ndarray,
    inside_yx: np.ndarray,
    positive: list[tuple[float, float]],
    negative: list[tuple[float, float]],
    rng: np.random.Generator,
) -> None:
    """Add one or two clicks where the answer is wrong, or anywhere if there is none."""
    for _ in range(int(rng.integers(1, 3))):
        wrong = truth_yx == (rng.random() < 0.5) if guess_yx is None else guess_yx != truth_yx
        pieces, n = ndimage.label(wrong & inside_yx)
        if not n:
            return
        largest = int(np.bincount(pieces.ravel())[1:].argmax()) + 1
        chosen = largest if guess_yx is not None and rng.random() < 0.7 else int(rng.integers(1, n + 1))
        piece = pieces == chosen
        y, x = _click(piece, rng)
        (positive if truth_yx[int(y), int(x)] else negative).append((y, x))
        if guess_yx is not None:
            guess_yx = np.where(piece, truth_yx, guess_yx)

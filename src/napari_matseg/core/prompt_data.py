"""Training examples for a promptable model: crops with objects, and the clicks and boxes that a user would make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_matseg.core.augment import change_grey, crop_map
from napari_matseg.core.prompt_examples import PromptExample, synthetic_example
from napari_matseg.core.prompt_image import BLANK, LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_matseg.settings import PromptTrainSettings

CELL, PART = 8, 4  # px of the micrograph, as in core.sam.compact
SIZED = 0.7  # share of the crops magnified for an object of any size, whatever it is in its micrograph
JITTER = 0.05  # standard deviation of a box's sides, in its lengths
EXACT = 0.3  # share of the boxes that are exact
FARTHEST = 10.0  # px that a box's side is off at most
SMALL = 16  # px
SMALLEST = 12  # px; smaller objects, and smaller parts of cut ones, are not asked for


@dataclass(frozen=True, eq=False)
class PromptCrop:
    """A crop with the prompts for some of its objects.

    Attributes
    ----------
    image_yx : array, shape (crop, crop), float32
    masks_kyx : array, shape (objects, crop, crop), bool
        The objects that are asked for.
    clusters_kyx : array, shape (objects, crop, crop), bool
        All that touches each of them.
    extent_kyx : array, shape (4, crop / 4, crop / 4), float32
        Distance to the top, left, bottom and right of the object that each place lies in, in units of 8 px; NaN outside
        objects.
    points_xy : array, shape (objects, 1, 2), float32, or None
    boxes_xyxy : array, shape (objects, 4), float32, or None
    place_yx : (int, int)
        Where the crop lies in the frame, in cells.
    """

    image_yx: np.ndarray
    masks_kyx: np.ndarray
    clusters_kyx: np.ndarray
    extent_kyx: np.ndarray
    points_xy: np.ndarray | None
    boxes_xyxy: np.ndarray | None
    place_yx: tuple[int, int]


class PromptCrops:
    """Random crops with prompts; the crop of a given number is always the same.

    Parameters
    ----------
    sources : sequence of (share, examples)
        What is drawn from; a share of the crops is drawn from each, the rest are synthetic.
    settings : PromptTrainSettings
    """

    def __init__(self, sources: Sequence[tuple[float, Sequence[PromptExample]]], settings: PromptTrainSettings) -> None:
        self._sources = sources
        self._settings = settings

    def crop(self, number: int, side: int, frame: int) -> PromptCrop:
        """Make one crop.

        Parameters
        ----------
        number : int
            Which; together with the seed it decides everything.
        side, frame : int
            Of the crop, and of the frame that it is a part of, in pixels of the micrograph.
        """
        rng = np.random.default_rng((self._settings.seed, number))
        for _ in range(20):
            crop = self._try(rng, side, frame)
            if crop is not None:
                return crop
        raise ValueError("no crop with an object was found in 20 attempts")  # the truth is empty

    def _try(self, rng: np.random.Generator, side: int, frame: int) -> PromptCrop | None:
        settings = self._settings
        example = self._draw(rng)
        if not example.objects_yx.any():
            return None
        places = np.argwhere(example.objects_yx == rng.integers(1, example.objects_yx.max() + 1))
        augment = settings.augment
        if rng.random() < SIZED:
            wanted = np.exp(rng.uniform(*np.log((max(SMALL, side / 10), side / 2))))
            scale = float(np.clip(wanted / np.sqrt(4 * len(places) / np.pi), 0.4, 3.5))
            augment = augment.model_copy(update={"scale": (scale, scale)})
        matrix, offset = crop_map(example.objects_yx.shape, side, augment, rng)
        matrix, offset = _towards(places, example.objects_yx.shape, matrix, side, rng)
        image_yx = ndimage.affine_transform(
            _unaliased(example.image_yx, matrix), matrix, offset, (side, side), order=1, mode="constant", cval=np.nan
        )
        objects_yx = ndimage.affine_transform(
            example.objects_yx, matrix, offset, (side, side), order=0, mode="constant", cval=0
        )
        blank = np.isnan(image_yx)
        changed = change_grey(np.nan_to_num(image_yx, nan=0.0)[None], settings.augment, rng)[0]
        changed[blank] = BLANK
        ids, areas = np.unique(objects_yx[objects_yx > 0], return_counts=True)
        ids = ids[areas >= SMALLEST]
        if ids.size == 0:
            return None
        # Small objects are many; drawing by the object alone would hardly ever ask for a large one.
        chosen = rng.choice(ids, size=settings.prompts, replace=ids.size < settings.prompts)
        masks_kyx = objects_yx[None] == chosen[:, None, None]
        joined_yx = ndimage.label(objects_yx > 0, structure=np.ones((3, 3)))[0]
        clusters = [joined_yx == joined_yx[tuple(np.argwhere(mask)[0])] for mask in masks_kyx]
        boxed = rng.random() < settings.boxes
        pointed = not boxed or rng.random() < 0.2
        cells = side // 8
        most = frame // 8 - cells
        return PromptCrop(
            np.clip(changed, -LIMIT, LIMIT),
            masks_kyx,
            np.stack(clusters),
            _extent(objects_yx),
            np.stack([_click(mask, rng) for mask in masks_kyx])[:, None, ::-1].astype(np.float32) if pointed else None,
            np.stack([_box(mask, rng) for mask in masks_kyx]) if boxed else None,
            (int(rng.integers(most + 1)), int(rng.integers(most + 1))),
        )

    def _draw(self, rng: np.random.Generator) -> PromptExample:
        chance = rng.random()
        for share, examples in self._sources:
            if chance < share:
                return examples[int(rng.integers(len(examples)))]
            chance -= share
        return synthetic_example(rng)


def deepest_pixel(mask_yx: np.ndarray) -> tuple[int, int]:
    """Pixel farthest from the object's edge, the image's frame counting as edge."""
    rows, columns = np.flatnonzero(mask_yx.any(axis=1)), np.flatnonzero(mask_yx.any(axis=0))
    top, left = rows[0], columns[0]
    depth = ndimage.distance_transform_edt(np.pad(mask_yx[top : rows[-1] + 1, left : columns[-1] + 1], 1))
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(y) - 1 + int(top), int(x) - 1 + int(left)


def bounding_box(mask_yx: np.ndarray) -> tuple[int, int, int, int]:
    """First and last row and column of an object, as (y0, x0, y1, x1)."""
    rows, columns = np.flatnonzero(mask_yx.any(axis=1)), np.flatnonzero(mask_yx.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]), int(columns[-1])


def _towards(
    places: np.ndarray, shape_yx: tuple[int, ...], matrix: np.ndarray, side: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Lay the crop so that an object is in it, without hanging over the edge more than it must."""
    shape = np.asarray(shape_yx, dtype=float)
    pixel = places[int(rng.integers(len(places)))]
    centre = pixel - matrix @ (rng.uniform(0.1, 0.9, 2) * side - side / 2)
    margin = np.minimum(np.abs(matrix) @ np.full(2, side / 2) * 0.9, shape / 2)
    centre = np.clip(centre, margin, shape - margin)
    return matrix, centre - matrix @ np.full(2, (side - 1) / 2)


def _unaliased(image_yx: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    step = float(np.sqrt(abs(np.linalg.det(matrix))))
    if step <= 1.3:
        return image_yx
    smooth: np.ndarray = ndimage.gaussian_filter(image_yx, 0.6 * np.log2(step), truncate=3)
    return smooth


def _extent(objects_yx: np.ndarray) -> np.ndarray:
    boxes = np.full((int(objects_yx.max()) + 1, 4), np.nan, dtype=np.float32)
    for one, where in enumerate(ndimage.find_objects(objects_yx), start=1):
        if where is not None:
            boxes[one] = where[0].start, where[1].start, where[0].stop, where[1].stop
    at = np.arange(PART // 2, objects_yx.shape[0], PART)
    top, left, bottom, right = np.moveaxis(boxes[objects_yx[np.ix_(at, at)]], -1, 0)
    y, x = np.meshgrid(at, at, indexing="ij")
    return np.stack([y + 0.5 - top, x + 0.5 - left, bottom - y - 0.5, right - x - 0.5]).astype(np.float32) / CELL


def _click(mask_yx: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where a user, or an algorithm, would click: near the middle, or anywhere inside."""
    chance = rng.random()
    inside = np.argwhere(mask_yx)
    if chance < 0.4:
        place = np.asarray(deepest_pixel(mask_yx))
    elif chance < 0.6 and mask_yx[tuple(np.rint(inside.mean(axis=0)).astype(int))]:
        place = inside.mean(axis=0)
    else:
        place = inside[int(rng.integers(len(inside)))]
    clicked: np.ndarray = place.astype(np.float32)
    return clicked


def _box(mask_yx: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Box as a user would draw it, (x0, y0, x1, y1): each side off by up to a tenth of its length."""
    y0, x0, y1, x1 = bounding_box(mask_yx)
    return jitter((x0 - 0.5, y0 - 0.5, x1 + 0.5, y1 + 0.5), rng).astype(np.float32)


def jitter(box: Sequence[float] | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move the sides of a box, its first corner and its last, as a hand does."""
    edges = np.asarray(box, dtype=float)
    spread = 0.0 if rng.random() < EXACT else JITTER
    size = np.tile(edges[2:] - edges[:2], 2)
    moved: np.ndarray = edges + np.clip(rng.normal(0, spread, 4) * size, -FARTHEST, FARTHEST)
    return moved

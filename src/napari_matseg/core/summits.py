"""Objects as summits of a landscape: how deep inside an object each pixel lies.

Costly apart from cheap: `survey` looks at every pixel once; `join` decides as often as a slider moves which of the
summits that it found are one object, from the passes between them alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

ONE_SUMMIT = 0.95
"""Share of the lower summit's height from which a pass parts nothing but noise."""
FORWARD = ((0, 1), (1, -1), (1, 0), (1, 1))
"""Neighbours that come later in reading order; the earlier ones lie opposite."""


@dataclass(frozen=True, eq=False)
class Landscape:
    """Summits with the ground that belongs to each, the highest first, and the passes between them.

    Attributes
    ----------
    points_yx : array, shape (n, 2), int64
        Pixel of each summit.
    heights : array, shape (n,), float32
    areas : array, shape (n,), float64
        Pixels of its ground.
    sums_yx : array, shape (n, 2), float64
        Sum of the coordinates of these pixels, weighted by their height.
    weights : array, shape (n,), float64
        Sum of the weights.
    at_edge : array, shape (n,), bool
        Whether its ground reaches the edge of the image.
    passes : array, shape (m, 2), int64
        Summits between which there is a pass, the highest pass first.
    pass_heights : array, shape (m,), float32
    ground_yx : array, shape (height, width), int32
        Which summit each pixel belongs to; -1 for none.
    relative : bool
        Whether heights are depths from 0 to 1, and not squared distances in pixels.
    """

    points_yx: np.ndarray
    heights: np.ndarray
    areas: np.ndarray
    sums_yx: np.ndarray
    weights: np.ndarray
    at_edge: np.ndarray
    passes: np.ndarray
    pass_heights: np.ndarray
    ground_yx: np.ndarray
    relative: bool


def survey(classes_yx: np.ndarray, depth_yx: np.ndarray | None = None) -> Landscape:
    """Find the summits, and part the ground between them along its valleys.

    Each pixel belongs to the summit that the steepest ascent over its eight neighbours of the same class ends at
    (a watershed by hill climbing; Meyer 1994, doi 10.1016/0165-1684(94)90060-4).

    Parameters
    ----------
    classes_yx : array, shape (height, width), uint8
        Class ids; 0 is no object.
    depth_yx : array, shape (height, width), floating point, optional
        How deep inside its object each pixel lies, from 0 to 1; else the squared distance to the nearest pixel of
        another class, in pixels: the cross-section of a ball. The edge of the image is no edge of an object.

    Returns
    -------
    Landscape
    """
    relative = depth_yx is not None
    depth_yx = _distance(classes_yx) ** 2 if depth_yx is None else depth_yx
    shape = classes_yx.shape
    # A border of no class all round, so that every pixel has eight neighbours.
    classes = np.pad(classes_yx, 1).ravel()
    width = shape[1] + 2
    pixels = np.flatnonzero(classes)
    heights = np.pad(depth_yx.astype(np.float32, copy=False), 1).ravel()
    steps = [y * width + x for y, x in FORWARD]
    place = np.full(classes.size, -1, dtype=np.int32)  # of each pixel among those of objects
    place[pixels] = np.arange(pixels.size, dtype=np.int32)

    summit = ascend(place[highest(classes, heights, pixels, [-step for step in reversed(steps)], steps)])
    order = np.flatnonzero(summit == np.arange(pixels.size))
    order = order[np.argsort(-heights[pixels[order]], kind="stable")]
    number = np.empty(pixels.size, dtype=np.int32)
    number[order] = np.arange(order.size, dtype=np.int32)
    ground = number[summit]

    def passes() -> tuple[np.ndarray, np.ndarray]:
        return _passes(classes, heights, pixels, place, ground, steps)

    tops = pixels[order]
    kept, group = np.unique(join(heights[tops], *passes(), ONE_SUMMIT), return_inverse=True)
    tops, ground = tops[kept], group.astype(np.int32)[ground]
    y, x = np.divmod(pixels, width)
    y, x = y - 1, x - 1
    height = heights[pixels].astype(np.float64)
    at_edge = np.zeros(tops.size, dtype=bool)
    at_edge[ground[(y == 0) | (x == 0) | (y == shape[0] - 1) | (x == shape[1] - 1)]] = True
    ground_yx = np.full(shape, -1, dtype=np.int32)
    ground_yx[y, x] = ground

    def total(values: np.ndarray | None) -> np.ndarray:
        return np.bincount(ground, values, minlength=tops.size).astype(np.float64)

    return Landscape(
        np.stack(np.divmod(tops, width), axis=1) - 1,
        heights[tops],
        total(None),
        np.stack([total(y * height), total(x * height)], axis=1),
        total(height),
        at_edge,
        *passes(),
        ground_yx,
        relative,
    )


def join(heights: np.ndarray, passes: np.ndarray, pass_heights: np.ndarray, share: float) -> np.ndarray:
    """Decide which summits are one object.

    Parameters
    ----------
    heights : array, shape (n,)
        Of the summits, the highest first.
    passes : array, shape (m, 2), int
    pass_heights : array, shape (m,)
        Falling.
    share : float
        Two are parted where the pass between them lies lower than this share of the lower one's height, as in an
        h-maxima transform whose h is relative (Soille 2003, doi 10.1007/978-3-662-05088-0, section 6.3).

    Returns
    -------
    array, shape (n,), int64
        The highest summit of the object that each belongs to.
    """
    owner = list(range(len(heights)))
    height = heights.tolist()

    def top(summit: int) -> int:
        while owner[summit] != summit:
            owner[summit] = owner[owner[summit]]
            summit = owner[summit]
        return summit

    for (a, b), level in zip(passes.tolist(), pass_heights.tolist(), strict=True):
        high, low = sorted((top(a), top(b)))
        if high != low and level >= share * height[low]:
            owner[low] = high
    return np.array([top(summit) for summit in range(len(owner))], dtype=np.int64)


def _distance(classes_yx: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest of another class."""
    distance = np.zeros(classes_yx.shape, dtype=np.float32)
    for value in np.unique(classes_yx):
        inside = classes_yx == value
        if value == 0:
            continue
        if inside.all():
            return np.ones_like(distance)  # no edge is nearer than another
        distance[inside] = ndimage.distance_transform_edt(inside)[inside]
    return distance


def highest(
    classes: np.ndarray, heights: np.ndarray, pixels: np.ndarray, earlier: list[int], later: list[int]
) -> np.ndarray:
    """Look where the steepest ascent leads from each pixel.

    Parameters
    ----------
    classes, heights : array, shape (n,)
        Of all pixels, in reading order, with a border all round.
    pixels : array of int
        Those that are asked for, none of them in the border.
    earlier, later : list of int
        Steps to the neighbours before and after a pixel, rising.

    Returns
    -------
    array of int
        The highest among each pixel and its neighbours of the same class; of equals the last, so that no two lead in
        a ring.
    """
    best = np.full(pixels.size, -np.inf, dtype=np.float32)
    where = pixels.copy()
    own = classes[pixels]
    for step in (*earlier, 0, *later):
        beside = pixels + step
        height = heights[beside]
        better = (height >= best) & (classes[beside] == own)
        best[better] = height[better]
        where[better] = beside[better]
    return where


def ascend(upward: np.ndarray) -> np.ndarray:
    """Follow the way up to its end, by steps that double.

    Parameters
    ----------
    upward : array of int, shape (n,)
        Which pixel comes next from each; itself at the end.
    """
    while True:
        further = upward[upward]
        if np.array_equal(further, upward):
            return upward
        upward = further


def _passes(
    classes: np.ndarray,
    heights: np.ndarray,
    pixels: np.ndarray,
    place: np.ndarray,
    ground: np.ndarray,
    steps: list[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Highest pass between each two summits that have one, the highest first."""
    pairs, levels = [np.empty((0, 2), dtype=np.int64)], [np.empty(0, dtype=np.float32)]
    for step in steps:
        beside = pixels + step
        near = np.flatnonzero(classes[beside] == classes[pixels])
        near = near[ground[near] != ground[place[beside[near]]]]
        here, there = pixels[near], beside[near]
        pairs.append(np.sort(np.stack([ground[near], ground[place[there]]], axis=1).astype(np.int64), axis=1))
        levels.append(np.minimum(heights[here], heights[there]))
    pair, level = np.concatenate(pairs), np.concatenate(levels)
    falling = np.argsort(-level, kind="stable")
    _, first = np.unique(pair[falling] @ [ground.size, 1], return_index=True)
    first = falling[np.sort(first)]
    return pair[first], level[first]

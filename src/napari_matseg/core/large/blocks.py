"""What one part shows of objects, and what the others have to know of it.

The same objects as `core.labels.label_objects` finds in the whole plane, found in one part at a time. A root is what
pixels of a part lead to: the summit at the end of the steepest ascent, or, where no depth is known, the first pixel of
a connected region. Where the ascent leaves the part, the pixel that it leaves to stands for the root. What cannot touch
another part is decided at once; of the rest, `Block` keeps roots, and passes between them, for `merging`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_matseg.core.labels import DEPTH, owners
from napari_matseg.core.summits import FORWARD, ONE_SUMMIT, ascend, highest, join

if TYPE_CHECKING:
    from napari_matseg.core.large.parts import Part

TURN = 1 << 58  # more than there are pixels in a plane


class Passes(NamedTuple):
    """Passes between two roots each, in no order.

    Attributes
    ----------
    pairs : int64 array, shape (n, 2)
        Roots, by index or by place.
    levels : float32 array, shape (n,)
        Height of the pass; 0 where no depth is known.
    turns : int64 array, shape (n,)
        Of passes of the same height, the one with the lowest comes first.
    """

    pairs: np.ndarray
    levels: np.ndarray
    turns: np.ndarray


@dataclass(frozen=True, eq=False)
class Block:
    """Objects of a part, and what may belong to those of others. Places are ``y * width + x`` in the plane.

    Attributes
    ----------
    class_ids : uint8 array, shape (n,)
        Of each slot; a slot is an object, or a root that is open: it may be part of an object that goes on elsewhere.
    first : int64 array, shape (n,)
        Place of its first pixel in this part.
    root : int64 array, shape (n,)
        Place of the root, if the slot is open; else -1.
    tops, heights : int64 and float32 array, shape (m,)
        Place and height of the open roots that lie in this part.
    rim, rim_root : int64 arrays, shape (k,)
        Places of pixels that touch another part, and of their roots.
    passes : Passes
        Between open roots, by place.
    """

    class_ids: np.ndarray
    first: np.ndarray
    root: np.ndarray
    tops: np.ndarray
    heights: np.ndarray
    rim: np.ndarray
    rim_root: np.ndarray
    passes: Passes


class _Ground(NamedTuple):
    """Pixels of a part on its canvas, which is the part with a border of one pixel, flattened."""

    classes: np.ndarray
    pixels: np.ndarray
    """Those of the part that are of a class."""
    beyond: np.ndarray
    """Those of the border that are."""
    node: np.ndarray
    """Number of each pixel: those of the part come first, in reading order."""
    place: np.ndarray
    """In the plane, of each node."""
    steps: list[int]


def survey_part(
    classes_yx: np.ndarray, depth_yx: np.ndarray | None, part: Part, width: int
) -> tuple[np.ndarray, Block]:
    """Find the objects of a part.

    Parameters
    ----------
    classes_yx : array, shape (height + 2, width + 2) of the part, uint8
        The part and a pixel all round; 0 where the plane ends.
    depth_yx : array, float32, or None
        Of the same shape.
    part : Part
    width : int
        Of the plane.

    Returns
    -------
    slots_yx : array, shape (height, width) of the part, uint32
        Which slot of the block each pixel belongs to, from 1; 0 for none.
    block : Block
    """
    ground = _ground(classes_yx, part, width)
    roots, passes, height = _components(ground, part.shape) if depth_yx is None else _summits(ground, depth_yx)
    n = ground.pixels.size

    # Nodes that are roots, or stand for one, are numbered anew and the others forgotten.
    used, index = np.unique(np.concatenate([roots, passes.pairs.ravel()]), return_inverse=True)
    root, pairs = index[:n], index[n:].reshape(-1, 2)
    touching = _touching(ground)
    is_open = used >= n
    is_open[root[touching]] = True
    rim_root = ground.place[used[root[touching]]]
    passes = passes._replace(pairs=pairs)
    if depth_yx is not None:
        into, passes = contract(ground.place[used], height[used], passes, is_open)
        root, pairs = into[root], passes.pairs
    graph = coo_array((np.ones(len(pairs), np.uint8), (pairs[:, 0], pairs[:, 1])), shape=(used.size, used.size))
    n_groups, group = connected_components(graph, directed=False)
    group_open = np.zeros(n_groups, bool)
    group_open[group[is_open]] = True
    is_open = group_open[group]

    # What is closed is decided here: the passes of one group say nothing of another.
    closed = np.flatnonzero(~is_open)
    inside = ~is_open[pairs[:, 0]] if len(pairs) else np.zeros(0, bool)
    number = np.full(used.size, -1)
    number[closed] = np.arange(closed.size)
    decide = join_components if depth_yx is None else join_summits
    owner = decide(
        ground.place[used[closed]],
        height[used[closed]],
        Passes(number[pairs[inside]], passes.levels[inside], passes.turns[inside]),
    )
    into = np.arange(used.size)
    into[closed] = np.where(owner < 0, -1, closed[owner])

    slot_of = into[root]
    kept, where = np.unique(slot_of, return_index=True)
    where, kept = where[kept >= 0], kept[kept >= 0]
    slots = np.zeros(used.size + 1, np.uint32)  # the last is that of -1
    slots[kept] = np.arange(1, kept.size + 1)
    slots_yx = np.zeros(part.shape, np.uint32)
    slots_yx[_inner(ground.pixels, part)] = slots[slot_of]
    tops = used[np.union1d(kept[is_open[kept]], np.unique(pairs[~inside]))]
    tops = tops[tops < n]
    return slots_yx, Block(
        ground.classes[ground.pixels[where]],
        ground.place[where],
        np.where(is_open[kept], ground.place[used[kept]], -1),
        ground.place[tops],
        height[tops],
        ground.place[touching],
        rim_root,
        Passes(ground.place[used[pairs[~inside]]].reshape(-1, 2), passes.levels[~inside], passes.turns[~inside]),
    )


def join_components(places: np.ndarray, _heights: np.ndarray, passes: Passes) -> np.ndarray:
    """Decide which roots are one object, where whatever is connected is one.

    Returns
    -------
    int64 array, shape (n,)
        Index of the first root of the object that each belongs to.
    """
    n = places.size
    graph = coo_array((np.ones(len(passes.pairs), np.uint8), (passes.pairs[:, 0], passes.pairs[:, 1])), shape=(n, n))
    _, group = connected_components(graph, directed=False)
    _, first = np.unique(group, return_index=True)
    return np.asarray(first[group], np.int64)


def join_summits(places: np.ndarray, heights: np.ndarray, passes: Passes) -> np.ndarray:
    """Decide which summits are one object, as `core.summits.survey` and `core.labels.label_objects` do.

    Parameters
    ----------
    places : int64 array, shape (n,)
    heights : float32 array, shape (n,)
    passes : Passes
        Between summits, by index.

    Returns
    -------
    int64 array, shape (n,)
        Index of the highest summit of the object that each belongs to; -1 for what is too shallow to be one.
    """
    into, passes = contract(places, heights, passes, np.zeros(places.size, np.bool_))
    order, rank = _ranked(places, heights)
    pairs, levels = rank[passes.pairs], passes.levels
    tops, group = np.unique(join(heights[order], pairs, levels, ONE_SUMMIT), return_inverse=True)
    pairs, first = _first_of_each(group[pairs])
    levels = levels[first]
    height = heights[order[tops]]
    owner = owners(height, pairs, levels)
    whose = np.where(height[owner] >= DEPTH, order[tops[owner]], -1) if tops.size else owner
    result = np.empty(order.size, np.int64)
    result[order] = whose[group]
    return np.asarray(result[into], np.int64)


def contract(places: np.ndarray, heights: np.ndarray, passes: Passes, is_open: np.ndarray) -> tuple[np.ndarray, Passes]:
    """Put summits that are nothing but noise on another together with it, as far as this is certain.

    Where the highest pass of a summit leads to a higher one, and is not lower than `ONE_SUMMIT` asks for, the two are
    joined whatever becomes of the others: when it is the turn of this pass, the summit is still alone, and the lower
    one. So the outcome for the rest does not change if they are joined beforehand.

    Parameters
    ----------
    places, heights, passes
        As for `join_summits`.
    is_open : boolean array, shape (n,)
        Summits that may have passes which are not known here.

    Returns
    -------
    into : int64 array, shape (n,)
        Which summit each is now part of.
    passes : Passes
        Those that are left, the highest of each two summits, in falling order.
    """
    _, rank = _ranked(places, heights)
    falling = np.lexsort((passes.turns, -passes.levels))
    pairs, first = _first_of_each(passes.pairs[falling])
    levels, turns = passes.levels[falling][first], passes.turns[falling][first]
    enough = ONE_SUMMIT * heights.astype(np.float64)
    into = np.arange(places.size)
    while True:
        ends = pairs.ravel()
        summit, at = np.unique(ends, return_index=True)
        other = ends[at ^ 1]
        certain = ~is_open[summit] & (rank[other] < rank[summit]) & (levels[at // 2] >= enough[summit])
        if not certain.any():
            return into, Passes(pairs, levels, turns)
        upward = np.arange(places.size)
        upward[summit[certain]] = other[certain]
        upward = ascend(upward)
        into = upward[into]
        pairs, first = _first_of_each(upward[pairs])
        levels, turns = levels[first], turns[first]


def _ranked(places: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Summits in falling order, of equals the first in reading order first; and the rank of each."""
    order = np.lexsort((places, -heights))
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    return order, rank


def _first_of_each(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the first pass between each two roots, in order; which ones these are comes second."""
    apart = np.flatnonzero(pairs[:, 0] != pairs[:, 1])
    pairs = np.sort(pairs[apart], axis=1)
    _, first = np.unique(pairs @ [int(pairs.max(initial=0)) + 1, 1], return_index=True)
    first.sort()
    return pairs[first], apart[first]


def _ground(classes_yx: np.ndarray, part: Part, width: int) -> _Ground:
    canvas = classes_yx.shape[1]
    inner = np.zeros_like(classes_yx)
    inner[1:-1, 1:-1] = classes_yx[1:-1, 1:-1]
    pixels = np.flatnonzero(inner)
    beyond = np.flatnonzero(classes_yx - inner)
    both = np.concatenate([pixels, beyond])
    node = np.full(classes_yx.size, -1, np.int32)
    node[both] = np.arange(both.size, dtype=np.int32)
    y, x = np.divmod(both, canvas)
    place = (y + (part.top - 1)) * width + (x + (part.left - 1))
    return _Ground(classes_yx.ravel(), pixels, beyond, node, place, [y * canvas + x for y, x in FORWARD])


def _inner(pixels: np.ndarray, part: Part) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.divmod(pixels, part.shape[1] + 2)
    return y - 1, x - 1


def _touching(ground: _Ground) -> np.ndarray:
    """Which pixels of the part have a neighbour of their class beyond it."""
    n = ground.pixels.size
    found = []
    for step in ground.steps:
        for there in (ground.beyond + step, ground.beyond - step):
            # From the border the steps may leave the canvas at its first and last row.
            on = (there >= 0) & (there < ground.classes.size)
            beside, own = ground.node[there[on]], ground.beyond[on]
            is_own = (beside >= 0) & (beside < n) & (ground.classes[there[on]] == ground.classes[own])
            found.append(beside[is_own])
    return np.unique(np.concatenate(found))


def _components(ground: _Ground, shape: tuple[int, int]) -> tuple[np.ndarray, Passes, np.ndarray]:
    """Roots are the first pixels of connected regions; a pass leads to each pixel beyond that one touches."""
    classes_yx = ground.classes.reshape(shape[0] + 2, shape[1] + 2)[1:-1, 1:-1]
    region = np.zeros(classes_yx.shape, np.int32)
    n_regions = 0
    for class_id in np.unique(classes_yx):
        if class_id:
            inside = classes_yx == class_id
            found, n = ndimage.label(inside, np.ones((3, 3)))
            region[inside] = found[inside] + n_regions
            n_regions += n
    of_pixel = region[classes_yx > 0]
    _, first, back = np.unique(of_pixel, return_index=True, return_inverse=True)
    roots = first[back]
    passes = _passes(ground, roots, None)
    return roots, passes, np.zeros(ground.place.size, np.float32)


def _summits(ground: _Ground, depth_yx: np.ndarray) -> tuple[np.ndarray, Passes, np.ndarray]:
    """Roots are the summits that the steepest ascent ends at, or the pixels that it leaves the part to."""
    heights = depth_yx.ravel()
    n = ground.pixels.size
    earlier = [-step for step in reversed(ground.steps)]
    upward = ground.node[highest(ground.classes, heights, ground.pixels, earlier, ground.steps)]
    there = np.arange(n, ground.place.size, dtype=upward.dtype)
    roots = ascend(np.concatenate([upward, there]))[:n]
    both = np.concatenate([ground.pixels, ground.beyond])
    return roots, _passes(ground, roots, heights), heights[both]


def _passes(ground: _Ground, roots: np.ndarray, heights: np.ndarray | None) -> Passes:
    """Highest pass between each two roots, from pixels of the part to neighbours after them in reading order."""
    n, size = ground.pixels.size, ground.place.size
    root = np.concatenate([roots, np.arange(n, size)])
    pairs, levels, turns = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)], [np.empty(0, np.int64)]
    for number, step in enumerate(ground.steps):
        beside = ground.pixels + step
        near = np.flatnonzero(ground.classes[beside] == ground.classes[ground.pixels])
        other = ground.node[beside[near]]
        apart = root[near] != root[other]
        near, other = near[apart], other[apart]
        pairs.append(np.stack([root[near], root[other]], axis=1).astype(np.int64))
        here, there = ground.pixels[near], beside[near]
        levels.append(np.zeros(near.size, np.float32) if heights is None else np.minimum(heights[here], heights[there]))
        turns.append(number * TURN + ground.place[near])
    pair, level, turn = np.sort(np.concatenate(pairs), axis=1), np.concatenate(levels), np.concatenate(turns)
    falling = np.lexsort((turn, -level))
    _, first = np.unique(pair[falling] @ [size, 1], return_index=True)
    first = falling[first]
    return Passes(pair[first], level[first], turn[first])

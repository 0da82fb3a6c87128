"""From what the parts of a plane show of objects to objects of the whole plane, with the ids that these have there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.large.blocks import Passes, join_components, join_summits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_matseg.core.large.blocks import Block


def merge(blocks: Sequence[Block], *, by_depth: bool) -> tuple[list[np.ndarray], int]:
    """Give the objects of a plane their ids.

    Parameters
    ----------
    blocks : sequence of Block
        Of all parts of the plane.
    by_depth : bool
        Whether they are parted along valleys of a depth, and not just connected.

    Returns
    -------
    ids : list of array, uint32
        For each block the id of each slot, that of none first: class by class in reading order of the plane, just as
        `core.labels.label_objects` counts. 0 for what is no object.
    n_objects : int
    """
    rim, rim_root = (np.concatenate([getattr(one, name) for one in blocks]) for name in ("rim", "rim_root"))
    order = np.argsort(rim)
    rim, rim_root = rim[order], rim_root[order]

    def resolve(places: np.ndarray) -> np.ndarray:
        """Follow roots beyond a part to where they lead there."""
        if not rim.size:
            return places
        at = np.minimum(np.searchsorted(rim, places), rim.size - 1)
        return np.where(rim[at] == places, rim_root[at], places)

    while not np.array_equal(further := resolve(rim_root), rim_root):
        rim_root = further

    tops, heights = (np.concatenate([getattr(one, name) for one in blocks]) for name in ("tops", "heights"))
    order = np.argsort(tops)
    tops, heights = tops[order], heights[order]
    pairs, levels, turns = (np.concatenate([one.passes[i] for one in blocks]) for i in range(3))
    pairs = np.searchsorted(tops, resolve(pairs.ravel())).reshape(-1, 2)
    owner = (join_summits if by_depth else join_components)(tops, heights, Passes(pairs, levels, turns))

    class_ids, first, root = (
        np.concatenate([getattr(one, name) for one in blocks]) for name in ("class_ids", "first", "root")
    )
    is_open = root >= 0
    whose = owner[np.searchsorted(tops, resolve(root[is_open]))]
    # Objects that lie in one part come after the tops, each under a number of its own.
    thing = np.arange(tops.size, tops.size + root.size)
    thing[is_open] = whose
    is_object = thing >= 0
    begin = np.lexsort((first, thing))
    begin = begin[is_object[begin]]
    _, leading = np.unique(thing[begin], return_index=True)
    leading = begin[leading]  # of the slots of each object, the one where it begins
    counted = leading[np.lexsort((first[leading], class_ids[leading]))]
    number = np.zeros(tops.size + root.size, np.uint32)
    number[thing[counted]] = np.arange(1, counted.size + 1)
    ids = np.where(is_object, number[thing], 0).astype(np.uint32)
    ends = np.cumsum([one.root.size for one in blocks])
    return [np.concatenate([[np.uint32(0)], one]) for one in np.split(ids, ends[:-1])], int(counted.size)

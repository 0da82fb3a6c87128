"""What is kept from a training to validate on: a region of an image where there is no image to spare."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.truth import IGNORE
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_matseg.core.dataset import Example
    from napari_matseg.settings import NormaliseSettings

GAP = 8  # px between what is learnt and what is held out
CONTEXT = 64  # px around labels that a network sees when it is validated on them
LINES = ((1, 0), (0, 1), (1, 1), (1, -1))  # (y, x) across a line: upright, level, and the two diagonals


def hold_out_regions(examples: Sequence[Example], share: float) -> tuple[list[Example], list[Example]]:
    """Split the labels of each example along a straight line.

    Parameters
    ----------
    examples : sequence of Example
    share : float
        Of each class's labels, about as many as are to be held out.

    Returns
    -------
    learnt, held_out : list of Example
        The same images, each label in one of them only, or in neither within 8 px of the line.

    Raises
    ------
    InputError
        If no line leaves each class on both sides.
    """
    learnt: list[Example] = []
    held_out: list[Example] = []
    for example in examples:
        side_yx = _beyond_a_line(example.classes_yx, share)
        if side_yx is None:
            raise InputError(
                f"{example.name}: no straight line parts its labels so that each class is on both sides, and something "
                "to validate on could be held out; label each class in two places, or hold nothing out."
            )
        for part, kept in ((learnt, side_yx < -GAP), (held_out, side_yx >= 0)):
            classes_yx = np.where(kept, example.classes_yx, np.uint8(IGNORE))
            part.append(replace(example, classes_yx=classes_yx))
    return learnt, held_out


def cut_to_labels(example: Example, settings: NormaliseSettings, context: int = CONTEXT) -> Example:
    """Leave out what is far from any label, for it costs time and tells nothing.

    Parameters
    ----------
    example : Example
    settings : NormaliseSettings
    context : int
        Pixels to keep around the labels.

    Returns
    -------
    Example
        With the grey scale of the whole micrograph.
    """
    labelled = example.classes_yx != IGNORE
    box = []
    for axis in (1, 0):
        there = np.flatnonzero(labelled.any(axis=axis))
        first, last = (int(there[0]), int(there[-1])) if there.size else (0, 0)
        box.append(slice(max(0, first - context), last + 1 + context))
    y, x = box
    return replace(
        example,
        image_cyx=example.image_cyx[:, y, x],
        classes_yx=example.classes_yx[y, x],
        distance_yx=None if example.distance_yx is None else example.distance_yx[y, x],
        whole=example.scale(settings),
    )


def _beyond_a_line(classes_yx: np.ndarray, share: float) -> np.ndarray | None:
    """How far each pixel lies beyond the best line, in px, negative before it; None if none will do."""
    y, x = np.nonzero(classes_yx != IGNORE)
    ids = np.unique(classes_yx[y, x], return_inverse=True)[1]
    if not ids.size:
        return None
    n = int(ids.max()) + 1
    best, found = np.inf, None
    for dy, dx in LINES:
        length = np.hypot(dy, dx)
        for sign in (1, -1):
            along = sign * (dy * y + dx * x)
            first = int(along.min())
            table = np.bincount((along - first) * n + ids, minlength=0)
            table = np.pad(table, (0, -table.size % n)).reshape(-1, n)
            gap = int(np.ceil(GAP * length))
            before = np.vstack([np.zeros((gap + 1, n), int), table.cumsum(0)])[: len(table)]  # by the line's place
            after = table[::-1].cumsum(0)[::-1]
            off = np.abs(after / table.sum(0) - share).max(1)
            off[(before == 0).any(1) | (after == 0).any(1)] = np.inf
            cut = int(off.argmin())
            if off[cut] < best:
                best, found = off[cut], (sign * dy, sign * dx, first + cut, length)
    if found is None:
        return None
    dy, dx, at, length = found
    grid_y, grid_x = np.ogrid[: classes_yx.shape[0], : classes_yx.shape[1]]
    beyond: np.ndarray = (dy * grid_y + dx * grid_x - at) / length
    return beyond.astype(np.float32)

"""What layers ask for, as prompts, and what of it is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage
from skimage.draw import polygon2mask

from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.objects import ObjectMask, from_label
from napari_matseg.core.prompts import Left, Prompt, make_prompts

FEW = 3
"""So many of those left out are named."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class AskedBox:
    """A shape: its extent (y0, x0, y1, x1) in pixels and, where that is not all, its outline, shape (m, 2)."""

    id: int
    plane: int
    box_yx: Box
    outline_yx: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Asked:
    """What the layers ask for, in pixels of the image's planes.

    Attributes
    ----------
    points_yx : array, shape (n, 2)
    planes : array, shape (n,), int
        One that the image does not have, for points before the first or behind the last.
    objects : array, shape (n,), int
    positive : array, shape (n,), bool
    boxes : list of AskedBox
    labels_yx : array or None
        Objects of one plane, to be refined.
    labels_plane : int
    """

    points_yx: np.ndarray
    planes: np.ndarray
    objects: np.ndarray
    positive: np.ndarray
    boxes: list[AskedBox] = field(default_factory=list)
    labels_yx: np.ndarray | None = None
    labels_plane: int = 0

    def of(self, one: int) -> Asked:
        """Points of one object, and nothing else."""
        mine = self.objects == one
        return Asked(self.points_yx[mine], self.planes[mine], self.objects[mine], self.positive[mine])


def prompts_of(
    asked: Asked, micrograph: Micrograph, *, exclude_data_bar: bool, known: Prompt | None = None
) -> tuple[list[Prompt], list[Left]]:
    """Make one prompt for each object.

    Parameters
    ----------
    asked : Asked
    micrograph : Micrograph
    exclude_data_bar : bool
    known : Prompt, optional
        What an object was asked for with before: its box and its label still count.

    Returns
    -------
    prompts : list of Prompt
        By rising id.
    left : list of Left
        What is in none of them.
    """
    masks: dict[int, ObjectMask] = {}
    boxes = list(asked.boxes)
    for box in asked.boxes:
        mask = _drawn(box, micrograph.shape_yx)
        if mask is not None:
            masks[box.id] = mask
    labels = {} if asked.labels_yx is None else _labels_to_refine(asked.labels_yx, asked.labels_plane)
    for one, mask in labels.items():
        boxes.append(AskedBox(one, mask.plane, _extent(mask)))
    if known is not None and (known.box_yx is not None or known.mask is not None):
        boxes.append(AskedBox(known.id, known.plane, known.box_yx or _extent(known.mask)))
    prompts, left = make_prompts(
        asked.points_yx,
        objects=asked.objects,
        polarity=asked.positive,
        planes=asked.planes,
        boxes_yx=[box.box_yx for box in boxes],
        box_objects=[box.id for box in boxes],
        box_planes=[box.plane for box in boxes],
        shape_yx=micrograph.shape_yx,
        n_planes=micrograph.n_planes,
        rows=micrograph.content_rows if exclude_data_bar else None,
    )
    made = []
    for prompt in prompts:
        if prompt.id in labels:
            prompt = replace(prompt, box_yx=None, mask=labels[prompt.id])
        elif known is not None:
            prompt = replace(prompt, box_yx=known.box_yx, mask=known.mask)
        made.append(replace(prompt, mask=prompt.mask or masks.get(prompt.id)))
    return made, list(left)


def say_left(left: Sequence[Left]) -> str:
    """Tell what was left out; empty if nothing was."""
    if not left:
        return ""
    more = f"; and {len(left) - FEW} more" if len(left) > FEW else ""
    return f"Left out: {'; '.join(map(str, left[:FEW]))}{more}."


def _labels_to_refine(labels_yx: np.ndarray, plane: int) -> dict[int, ObjectMask]:
    """Mask of each label."""
    found = {}
    for one, where in enumerate(ndimage.find_objects(labels_yx.astype(np.int64)), start=1):
        if where is not None:
            rows, columns = (slice(max(0, side.start - 1), side.stop + 1) for side in where)
            mask = from_label(labels_yx[rows, columns], one, plane)
            found[one] = replace(mask, top=mask.top + rows.start, left=mask.left + columns.start)
    return found


def _drawn(box: AskedBox, shape_yx: tuple[int, int]) -> ObjectMask | None:
    """Mask of an outline that was drawn; None if it holds no pixel, or is just a box."""
    if box.outline_yx is None:
        return None
    (top, left), (bottom, right) = (
        np.clip(np.rint(corner).astype(int), 0, shape_yx) for corner in (box.box_yx[:2], np.add(box.box_yx[2:], 1))
    )
    if bottom <= top or right <= left:
        return None
    inside = polygon2mask((bottom - top, right - left), box.outline_yx - [top, left])
    if not inside.any():
        return None
    mask = from_label(inside.astype(np.uint8), 1, box.plane)
    return replace(mask, id=box.id, top=mask.top + int(top), left=mask.left + int(left))


def _extent(mask: ObjectMask) -> Box:
    rows, columns = mask.where
    return rows.start - 0.5, columns.start - 0.5, rows.stop - 0.5, columns.stop - 0.5

"""Many objects, each a crop of scores, on one plane, and whose the pixels are that several of them claim."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_matseg.core.boxes import Boxes, Region, meet, span, squares, within
from napari_matseg.core.objects import trim
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_matseg.core.objects import ObjectMask

TILE = 512  # px; side of what is painted at once when many objects come together


@dataclass(frozen=True, eq=False)
class Change:
    """What became of the objects of a plane; `Assembly.restore` takes it back.

    Attributes
    ----------
    id : int
    before, after : ObjectMask or None
        What that id stood for; None for nothing.
    where : (slice, slice)
        Rows and columns outside which no label changed.
    affected : tuple of int
        Ids of the objects whose pixels may have become more or fewer, ascending.
    """

    id: int
    before: ObjectMask | None
    after: ObjectMask | None
    where: Region
    affected: tuple[int, ...]


@dataclass(eq=False)
class _Entry:
    """An object cut to its pixels.

    `strength_yx` is 0 outside the object. Inside it is 1 or, where scores count, the bits of the score: those of
    positive float16 are in the order of the numbers, and compare several times as fast.
    """

    id: int
    strength_yx: np.ndarray
    where: Region
    area: int
    overlaps: dict[int, int] = field(default_factory=dict)
    """Pixels shared with each other object that shares any."""

    @property
    def rank(self) -> tuple[int, int]:
        """The smaller object comes first, of equal ones that with the lower id."""
        return self.area, self.id

    def seen(self, region: Region) -> np.ndarray:
        """Strength in a region inside the object's box."""
        seen: np.ndarray = self.strength_yx[within(region, self.where)]
        return seen


class Assembly:
    """All objects of one plane and the labels that they make together.

    The labels depend on the objects alone, not on the order in which they came. Where several claim a pixel:

    "score"
        Of two objects that share more than half of the smaller one, the larger gives up all that they share. Among
        those that are left at a pixel the highest score wins; of equal scores that of the smaller object, of equal
        objects that with the lower id.
    "smaller"
        The smaller object wins, of equal ones that with the lower id.
    "separate"
        All keep it: `layers` gives as many label images as that takes, while `labels_yx` shows the smaller one.

    Parameters
    ----------
    shape_yx : (int, int)
        Height and width of the plane in pixels.
    overlaps : "score", "smaller" or "separate"

    Attributes
    ----------
    labels_yx : array, shape (height, width), uint32
        Ids of the objects, 0 for none; the same array for good, changed by `put`, `remove` and `restore`.

    Examples
    --------
    >>> from napari_matseg.core.objects import ObjectMask
    >>> assembly = Assembly((1, 5))
    >>> for id, score in ((1, 2), (2, 3)):
    ...     scores = np.full((1, 3), score, np.float16)
    ...     _ = assembly.put(ObjectMask(id, 0, 2 * (id - 1), scores, iou=1, stability=1))
    >>> assembly.labels_yx.tolist()
    [[1, 1, 2, 2, 2]]
    """

    def __init__(self, shape_yx: tuple[int, int], overlaps: Literal["score", "smaller", "separate"] = "score") -> None:
        self.overlaps = overlaps
        self.labels_yx = np.zeros(shape_yx, np.uint32)
        self._objects: dict[int, ObjectMask] = {}
        self._entries: dict[int, _Entry] = {}  # of the objects that have pixels
        self._boxes = Boxes()

    @property
    def objects(self) -> Mapping[int, ObjectMask]:
        """All objects by id, those without a pixel too."""
        return MappingProxyType(self._objects)

    def put(self, found: ObjectMask) -> Change:
        """Add an object, or replace that with its id, and paint anew what it touches.

        Raises
        ------
        InputError
            If the id is no label, or the object does not fit the plane.
        """
        self._check(found)
        return self._exchange(found.id, found)

    def put_all(self, objects: Iterable[ObjectMask]) -> None:
        """Do the same as `put` for each, in less time where they are many.

        Raises
        ------
        InputError
            If one of them has an id that is no label, or does not fit the plane; then none is put.
        """
        objects = list(objects)
        for found in objects:
            self._check(found)
        tiles: set[tuple[int, int]] = set()
        for found in objects:
            for entry in (self._drop(found.id), self._add(found)):
                if entry is not None:
                    tiles.update(squares(entry.where, TILE))
        for y, x in tiles:
            self._paint((slice(y * TILE, (y + 1) * TILE), slice(x * TILE, (x + 1) * TILE)))

    def remove(self, id: int) -> Change:  # noqa: A002
        """Take an object out and give its pixels to those that it had covered.

        Raises
        ------
        InputError
            If there is no object with that id.
        """
        if id not in self._objects:
            raise InputError(f"There is no object {id}; give the id of one that is there.")
        return self._exchange(id, None)

    def restore(self, change: Change) -> Change:
        """Take a change back; what it returns would make it once more."""
        return self._exchange(change.id, change.before)

    def lost(self) -> list[int]:
        """Ids of the objects without a pixel in the labels, ascending: nothing was found, or others hide them."""
        lost = list(self._objects.keys() - self._entries.keys())
        if self.overlaps != "separate":
            shared = [entry for entry in self._entries.values() if entry.overlaps]  # the others have all of their own
            lost += [entry.id for entry in shared if not (self.labels_yx[entry.where] == entry.id).any()]
        return sorted(lost)

    def layers(self) -> list[np.ndarray]:
        """Label images that together hold the objects, to be read only.

        Returns
        -------
        list of array, shape (height, width), uint32
            The labels alone; or, where objects that share pixels are kept "separate", as many images as it takes to
            have each object whole in one of them, those with low ids in the first.
        """
        if self.overlaps != "separate":
            return [self.labels_yx]
        layer_of: dict[int, int] = {}
        for label, entry in sorted(self._entries.items()):
            taken = {layer_of.get(other) for other in entry.overlaps}
            layer_of[label] = next(layer for layer in range(len(taken) + 1) if layer not in taken)
        n_layers = 1 + max(layer_of.values(), default=0)
        if n_layers == 1:
            return [self.labels_yx]
        layers = [np.zeros(self.labels_yx.shape, np.uint32) for _ in range(n_layers)]
        for label, layer in layer_of.items():
            entry = self._entries[label]
            layers[layer][entry.where][entry.strength_yx > 0] = label
        return layers

    def _check(self, found: ObjectMask) -> None:
        if not 1 <= found.id < 2**32:
            raise InputError(f"Object {found.id}: this is no label; number objects from 1 to {2**32 - 1}.")
        rows, columns = found.where
        height, width = self.labels_yx.shape
        if rows.start < 0 or columns.start < 0 or rows.stop > height or columns.stop > width:
            raise InputError(
                f"Object {found.id}: rows {rows.start} to {rows.stop} and columns {columns.start} to {columns.stop} "
                f"reach beyond a plane of {height} x {width}; cut the crop off there."
            )
        if found.scores_yx.dtype != np.float16:
            raise InputError(f"Object {found.id}: scores of type {found.scores_yx.dtype}; convert them to float16.")

    def _exchange(self, id: int, after: ObjectMask | None) -> Change:  # noqa: A002
        before = self._objects.get(id)
        removed = self._drop(id)
        added = None if after is None else self._add(after)
        changed = [entry for entry in (removed, added) if entry is not None]
        affected = {id}
        for entry in changed:
            self._paint(entry.where)
            affected.update(entry.overlaps)
        return Change(id, before, after, span(entry.where for entry in changed), tuple(sorted(affected)))

    def _add(self, found: ObjectMask) -> _Entry | None:
        self._objects[found.id] = found
        entry = _cut(found, by_score=self.overlaps == "score")
        if entry is None:
            return None
        for other in map(self._entries.__getitem__, self._boxes.near(entry.where)):
            both = meet(entry.where, other.where)
            shared = int(np.count_nonzero((entry.seen(both) > 0) & (other.seen(both) > 0)))
            if shared:
                entry.overlaps[other.id] = other.overlaps[found.id] = shared
        self._entries[found.id] = entry
        self._boxes.put(found.id, entry.where)
        return entry

    def _drop(self, id: int) -> _Entry | None:  # noqa: A002
        self._objects.pop(id, None)
        entry = self._entries.pop(id, None)
        if entry is not None:
            self._boxes.drop(id)
            for other in entry.overlaps:
                del self._entries[other].overlaps[id]
        return entry

    def _paint(self, where: Region) -> None:
        """Make the labels of a region from the objects there."""
        labels = self.labels_yx[where]
        labels[:] = 0
        best = np.zeros(labels.shape, np.uint16)
        smaller: dict[int, _Entry] = {}
        near = map(self._entries.__getitem__, self._boxes.near(where))
        for entry in sorted(near, key=lambda entry: entry.rank):
            seen = meet(where, entry.where)
            strength = entry.seen(seen)
            if self.overlaps == "score":
                common = (smaller[label] for label in entry.overlaps.keys() & smaller.keys())
                keepers = [other for other in common if 2 * entry.overlaps[other.id] > other.area]
                strength = _without(strength, seen, keepers)
            smaller[entry.id] = entry
            here = within(seen, where)
            wins = strength > best[here]
            np.copyto(best[here], strength, where=wins)
            labels[here][wins] = entry.id


def _cut(found: ObjectMask, *, by_score: bool) -> _Entry | None:
    """Cut an object to its pixels; None if it has none."""
    found = trim(found)
    inside = found.mask_yx
    if not inside.size:
        return None
    strength = inside.astype(np.uint16)
    if by_score:
        strength *= found.scores_yx.view(np.uint16)
    return _Entry(found.id, strength, found.where, int(np.count_nonzero(inside)))


def _without(strength: np.ndarray, seen: Region, keepers: list[_Entry]) -> np.ndarray:
    """Strength of an object in a region, 0 at the pixels of those that it gives way to."""
    if not keepers:
        return strength
    left = strength.copy()
    for keeper in keepers:
        both = meet(seen, keeper.where)
        left[within(both, seen)][keeper.seen(both) > 0] = 0
    return left

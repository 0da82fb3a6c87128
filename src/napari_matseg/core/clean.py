"""What is mended in labels before they are measured: holes, specks, and objects that the edge cuts.

`Cleaner` looks at a plane strip by strip, so that it may be larger than the memory: it keeps numbers of objects and of
stretches of background, and no pixels. `clean_objects` and `clean_classes` do a plane in memory, as one strip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.labels import label_objects
from napari_matseg.core.large.components import Joiner, label_pieces
from napari_matseg.core.measure.runs import runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_matseg.settings import CleanSettings

    Ids = NDArray[np.uint32]
    Pairs = NDArray[np.int64]


class Cleaner:
    """Finds out what of a plane is to be mended, and mends it.

    `add` takes all strips from above; after `settle`, `apply` gives each strip as it is to be.

    Parameters
    ----------
    settings : CleanSettings
    """

    def __init__(self, settings: CleanSettings) -> None:
        self._settings = settings
        self._counts: Pairs = np.zeros((2, 0), np.int64)
        self._edge: list[NDArray[Any]] = []
        self._last: NDArray[Any] | None = None
        self._ground = Joiner(corners=False)
        self._ground_areas = [np.zeros(0, np.int64)]
        self._ground_edge: list[Pairs] = []
        self._beside: list[Pairs] = []
        self._before: tuple[NDArray[Any], Pairs] | None = None
        self._left = np.zeros(0, np.int64)
        self._filled_with = np.zeros(0, np.int64)

    def add(self, ids_yx: NDArray[Any]) -> None:
        """Take the next strip of ids: integers, shape (height, width)."""
        if not ids_yx.size:
            return
        of_run, _, _, length = runs(ids_yx)
        self._count(of_run, length)
        if self._last is None:
            self._edge.append(np.unique(ids_yx[0]))
        self._edge += [np.unique(side) for side in (ids_yx[:, 0], ids_yx[:, -1])]
        self._last = np.unique(ids_yx[-1])
        if self._settings.fill_holes_px:
            self._add_ground(ids_yx)

    def settle(self) -> None:
        """Decide, once all strips are there."""
        if self._settings.fill_holes_px:
            self._settle_holes()
        ids, areas = self._counts
        left = areas < self._settings.min_area_px
        if self._settings.exclude_edge and self._last is not None:
            left |= np.isin(ids, np.concatenate([*self._edge, self._last]))
        self._left = ids[left]

    def apply(self, ids_yx: NDArray[Any], number: int) -> NDArray[Any]:
        """Give a strip as it is to be.

        Parameters
        ----------
        ids_yx : array, shape (height, width)
            As it was given to `add`.
        number : int
            Which strip, from 0.
        """
        cleaned = ids_yx.copy()
        if self._filled_with.any():
            pieces_yx, _ = label_pieces(ids_yx == 0, corners=False)
            first, stop = self._ground.firsts[number : number + 2]
            owner = np.append(0, self._filled_with[first:stop]).astype(ids_yx.dtype)[pieces_yx]
            np.copyto(cleaned, owner, where=owner > 0)
        if self._left.size:
            cleaned[np.isin(cleaned, self._left)] = 0
        return cleaned

    def _count(self, ids: NDArray[np.int64], areas: NDArray[np.int64]) -> None:
        """Add to the areas of objects."""
        every, where = np.unique(np.concatenate([self._counts[0], ids]), return_inverse=True)
        summed = np.zeros(every.size, np.int64)
        np.add.at(summed, where, np.concatenate([self._counts[1], areas]))
        self._counts = np.stack([every, summed])

    def _add_ground(self, ids_yx: Ids) -> None:
        """Take the stretches of background in a strip: their areas, and what lies beside them."""
        before = self._ground.firsts[-1]
        local_yx = self._ground.add(ids_yx == 0)
        n = self._ground.firsts[-1] - before
        self._ground_areas.append(np.bincount(local_yx.ravel(), minlength=n + 1)[1:])
        pieces_yx = np.where(local_yx > 0, local_yx + np.int64(before), 0)
        edges = [pieces_yx[:, 0], pieces_yx[:, -1]] + ([pieces_yx[0]] if self._before is None else [])
        self._ground_edge += [np.unique(edge) for edge in edges]
        sides = [(ids_yx[:, 1:], pieces_yx[:, :-1]), (ids_yx[:, :-1], pieces_yx[:, 1:]),
                 (ids_yx[1:], pieces_yx[:-1]), (ids_yx[:-1], pieces_yx[1:])]  # fmt: skip
        if self._before is not None:
            above, ground_above = self._before
            sides += [(above, pieces_yx[0]), (ids_yx[0], ground_above)]
        for ids, ground in sides:
            touching = (ids > 0) & (ground > 0)
            pairs = np.stack([ground[touching], ids[touching].astype(np.int64)])
            # Neighbours along an outline are mostly the same two; to sort fewer is faster.
            differ = np.append(True, (np.diff(pairs) != 0).any(axis=0))[: pairs.shape[1]]
            self._beside.append(np.unique(pairs[:, differ], axis=1))
        self._before = ids_yx[-1].copy(), pieces_yx[-1].copy()

    def _settle_holes(self) -> None:
        """Find the owner of each hole, and add the hole to it."""
        component, values = self._ground.settle()
        n = len(values) + 1
        areas = np.zeros(n, np.int64)
        np.add.at(areas, component, np.concatenate(self._ground_areas))
        is_hole = areas <= self._settings.fill_holes_px
        of = np.append(0, component).astype(np.int64)
        last = [] if self._before is None else [self._before[1]]
        for edge in (*self._ground_edge, *last):
            is_hole[of[edge]] = False
        is_hole[0] = False
        lowest, highest = np.full(n, np.iinfo(np.int64).max), np.zeros(n, np.int64)
        for ground, ids in self._beside:
            np.minimum.at(lowest, of[ground], ids)
            np.maximum.at(highest, of[ground], ids)
        is_hole &= lowest == highest
        self._count(highest[is_hole], areas[is_hole])
        self._filled_with = np.where(is_hole, highest, 0)[component]


def clean_objects(ids_yx: Ids, settings: CleanSettings, rows: slice = slice(None)) -> Ids:
    """Fill the holes of objects, then leave out those that are small or reach the edge.

    A hole is background that one object alone encloses, corners being no way out of it; what it holds counts to the
    object's size.

    Parameters
    ----------
    ids_yx : array, shape (height, width), uint32
        Ids of objects; 0 is none.
    settings : CleanSettings
    rows : slice
        Rows that show the specimen; what lies outside stays as it is.

    Returns
    -------
    array, shape (height, width), uint32
        The objects that stay keep their ids.

    Examples
    --------
    >>> from napari_matseg.settings import CleanSettings
    >>> ids = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 0, 7], [1, 1, 1, 0, 0]], np.uint32)
    >>> clean_objects(ids, CleanSettings(fill_holes_px=1, min_area_px=2)).tolist()
    [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]]
    """
    cleaned = ids_yx.copy()
    cleaner = Cleaner(settings)
    cleaner.add(ids_yx[rows])
    cleaner.settle()
    cleaned[rows] = cleaner.apply(ids_yx[rows], 0)
    return cleaned


def clean_classes(
    classes_yx: NDArray[np.uint8],
    instances_yx: Ids | None,
    settings: CleanSettings,
    rows: slice = slice(None),
) -> tuple[NDArray[np.uint8], Ids | None]:
    """Do as `clean_objects` with the objects of classes, in classes and ids alike.

    Parameters
    ----------
    classes_yx : array, shape (height, width), uint8
        Class ids; 0 is no object.
    instances_yx : array, shape (height, width), uint32, optional
        Ids of objects, each of one class. Where there are none, each connected piece of a class is an object.
    settings : CleanSettings
    rows : slice
        Rows that show the specimen.

    Returns
    -------
    classes_yx, instances_yx
        What becomes background has class 0 and id 0, and a hole that is filled the class and the id of its object.
    """
    inside = np.zeros_like(classes_yx)
    inside[rows] = classes_yx[rows]
    given = np.zeros(classes_yx.shape, np.uint32) if instances_yx is None else instances_yx
    highest = int(given.max(initial=0))
    ids = label_objects(np.where(given > 0, 0, inside).astype(np.uint8))
    ids[ids > 0] += np.uint32(highest)
    ids = np.where(given > 0, given, ids)
    class_of = np.zeros(int(ids.max(initial=0)) + 1, np.uint8)
    class_of[ids] = classes_yx
    class_of[0] = 0
    cleaned = clean_objects(ids, settings, rows)
    classes = classes_yx.copy()
    classes[rows] = class_of[cleaned[rows]]
    if instances_yx is None:
        return classes, None
    return classes, np.where(cleaned > highest, np.uint32(0), cleaned)

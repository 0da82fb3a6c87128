"""All objects of a micrograph, without anyone pointing at them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.boxes import Boxes, meet, within
from napari_matseg.core.objects import trim
from napari_matseg.core.progress import Progress
from napari_matseg.core.prompts import Prompt
from napari_matseg.core.windows import Aim
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from typing import Literal

    from napari_matseg.core.boxes import Region
    from napari_matseg.core.objects import ObjectMask
    from napari_matseg.core.prompt import PromptSession
    from napari_matseg.core.windows import Window, Windows
    from napari_matseg.settings import EverythingSettings

Point = tuple[float, float]

ACROSS = 32
"""Points along the side of a window where no spacing is asked for, as segment-anything has them."""
CHUNK = 64
"""Points that are asked for before their answers can spare others."""
HOPEFUL = 0.4
"""Share of the least stability that an answer must have to be looked at more closely: most are background."""
SURE = 0.85
"""Predicted IoU and stability from which on an object may spare the points that lie in it,"""
AGREEING = 3
"""if so many points gave it: then it hardly holds others, such as the particles of an agglomerate."""
INSIDE = 0.8
"""Share of an object that lies in another where it is said to lie in it."""
COVERED = 0.5
"""Share of an object beyond which those that lie in it make it up, and of the image beyond which it is background."""
BORDERS = 3
"""Sides of the image that only background touches."""


def everything_steps(
    session: PromptSession, settings: EverythingSettings
) -> Generator[Progress, None, tuple[list[ObjectMask], list[Prompt]]]:
    """Segment all objects of a session's image, window by window.

    Points of a grid are asked for one after another, coarse ones first. Empty, unsure and unstable answers, those
    outside the limits of the area, and background (more than half of the image, or touching three of its sides) are
    left out; of those that are alike the best is kept. Points in an object that is beyond doubt, with predicted IoU
    and stability from 0.85 and given by three points, are spared; the last progress says how many. Memory is bounded
    by the objects that are kept and the answers to 64 points.

    Parameters
    ----------
    session : PromptSession
        With an image; its settings say which of the three answers to a point counts, what is cleaned, and the limits
        of the area.
    settings : EverythingSettings

    Yields
    ------
    Progress
        In points.

    Returns
    -------
    objects : list of ObjectMask
        With ids from 1, in reading order of their first pixels; they may share pixels.
    prompts : list of Prompt
        What each of them was the answer to: one point.

    Raises
    ------
    InputError
        If the session has no image, or another one has taken its place meanwhile.
    """
    image, area_px = session.image, session.area_px
    frame = image.rows, slice(0, image.shape_yx[1])
    grid = _grid(session.windows, image.shape_yx, settings.spacing, area_px)
    total = sum(len(points) for points in grid.values())
    kept = _Distinct(settings.max_overlap)
    done = spared = 0
    for points in grid.values():
        waiting = [(y + image.rows.start, x) for y, x in reversed(points)]
        while waiting:
            chunk: list[Point] = []
            while waiting and len(chunk) < CHUNK:
                point = waiting.pop()
                if kept.is_settled(point):
                    spared += 1
                else:
                    chunk.append(point)
            prompts = [_ask(k, at, image.plane) for k, at in enumerate(chunk, 1)]
            found: list[ObjectMask] = []
            for step in session.predict_steps(prompts, least_stability=HOPEFUL * settings.min_stability):
                if session.image is not image:
                    raise InputError("the image was replaced by another one; ask again for that one.")
                found += step.found
                yield Progress(done + spared + step.done, total, f"{len(kept)} objects so far")
            done += len(chunk)
            answers = [_Answer.of(one, chunk[one.id - 1]) for one in found if one.iou >= settings.min_iou]
            kept.add(one for one in answers if _is_object(one, frame, settings.min_stability, area_px))
    objects = without_nested(list(kept.points), settings.nested)
    objects.sort(key=_place)
    asked = [_ask(label, kept.points[one], image.plane) for label, one in enumerate(objects, 1)]
    note = f"{len(objects)} objects"
    if spared:
        note += f"; {spared} of {total} points lay in objects beyond doubt and were spared"
    yield Progress(total, total, note)
    return [replace(one, id=label) for label, one in enumerate(objects, 1)], asked


def without_nested(objects: Sequence[ObjectMask], nested: Literal["smaller", "larger", "both"]) -> list[ObjectMask]:
    """Leave out objects that lie in others, or those that hold them.

    An object lies in a larger one with at least 80 % of its pixels.

    Parameters
    ----------
    objects : sequence of ObjectMask
    nested : "smaller", "larger" or "both"
        As in `EverythingSettings`.

    Returns
    -------
    list of ObjectMask
        What is kept, in the same order.
    """
    if nested == "both":
        return list(objects)
    answers = [_Answer.of(found) for found in objects]
    kept: dict[int, _Answer] = {}
    boxes = Boxes()
    by_area = sorted(range(len(answers)), key=lambda k: (answers[k].area, k), reverse=nested == "larger")
    for k in by_area:
        one = answers[k]
        near = boxes.near(one.where)
        if nested == "larger":
            if any(one.shared(kept[other]) >= INSIDE * one.area for other in near):
                continue
        else:
            inside = [other for other in near if one.shared(kept[other]) >= INSIDE * kept[other].area]
            if one.covered_by(kept[other] for other in inside) > COVERED * one.area:
                continue
            for other in inside:
                del kept[other]
                boxes.drop(other)
        kept[k] = one
        boxes.put(k, one.where)
    return [objects[k] for k in sorted(kept)]


@dataclass(eq=False)
class _Answer:
    """An object cut to its pixels, one of the points that gave it, and how many did."""

    found: ObjectMask
    mask_yx: np.ndarray
    area: int
    point: Point | None
    votes: int = 1

    @classmethod
    def of(cls, found: ObjectMask, point: Point | None = None) -> _Answer:
        found = trim(found)
        mask = found.mask_yx
        return cls(found, mask, int(np.count_nonzero(mask)), point)

    @property
    def where(self) -> Region:
        return self.found.where

    @property
    def rank(self) -> tuple[float, ...]:
        """The best comes first; then what is larger, then what lies further up and to the left."""
        found = self.found
        return -found.iou, -found.stability, -self.area, found.top, found.left

    def seen(self, region: Region) -> np.ndarray:
        """Pixels of a region inside the box that belong to the object."""
        seen: np.ndarray = self.mask_yx[within(region, self.where)]
        return seen

    def shared(self, other: _Answer) -> int:
        """Pixels in common with another."""
        both = meet(self.where, other.where)
        return int(np.count_nonzero(self.seen(both) & other.seen(both)))

    def covered_by(self, others: Iterable[_Answer]) -> int:
        """Pixels that others have too."""
        cover = np.zeros_like(self.mask_yx)
        for other in others:
            both = meet(self.where, other.where)
            cover[within(both, self.where)] |= other.seen(both)
        return int(np.count_nonzero(cover & self.mask_yx))


class _Distinct:
    """Answers no two of which are alike: whenever two are, the one with the better rank stays."""

    def __init__(self, max_overlap: float) -> None:
        self._max_overlap = max_overlap
        self._kept: dict[int, _Answer] = {}
        self._boxes = Boxes()
        self._next = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def points(self) -> dict[ObjectMask, Point]:
        return {answer.found: answer.point for answer in self._kept.values() if answer.point is not None}

    def add(self, answers: Iterable[_Answer]) -> None:
        for answer in sorted(answers, key=lambda one: one.rank):
            alike = [key for key in self._boxes.near(answer.where) if self._are_alike(answer, self._kept[key])]
            better = [key for key in alike if self._kept[key].rank <= answer.rank]
            if better:
                self._kept[better[0]].votes += 1
                continue
            for key in alike:
                answer.votes += self._kept.pop(key).votes
                self._boxes.drop(key)
            self._kept[self._next] = answer
            self._boxes.put(self._next, answer.where)
            self._next += 1

    def is_settled(self, point: Point) -> bool:
        """Tell whether a point lies in an object that is beyond doubt."""
        y, x = (round(value) for value in point)
        pixel = slice(y, y + 1), slice(x, x + 1)
        inside = (self._kept[key] for key in self._boxes.near(pixel))
        return any(
            one.votes >= AGREEING and min(one.found.iou, one.found.stability) >= SURE and one.seen(pixel).any()
            for one in inside
        )

    def _are_alike(self, one: _Answer, other: _Answer) -> bool:
        small, large = sorted((one.area, other.area))
        if small <= self._max_overlap * large:
            return False
        shared = one.shared(other)
        return shared > self._max_overlap * (small + large - shared)


def _ask(id: int, point: Point, plane: int) -> Prompt:  # noqa: A002
    return Prompt(id, np.array([point]), np.array([True]), plane=plane)


def _place(found: ObjectMask) -> tuple[int, int, int]:
    """First pixel in reading order of an object cut to its pixels; of objects with the same, the smaller first."""
    mask = found.mask_yx
    return found.top, found.left + int(mask[0].argmax()), int(np.count_nonzero(mask))


def _grid(
    windows: Windows, shape_yx: tuple[int, int], spacing: float | None, area_px: tuple[float, float] | None
) -> dict[Window, list[Point]]:
    """Points in pixels of the rows that are seen, by the window that answers them; coarse ones first in each."""

    def window(y: float, x: float) -> Window:
        return windows.first(Aim.at((y, x, y, x), whole=False, area_px=area_px))

    spacing = spacing or window((shape_yx[0] - 1) / 2, (shape_yx[1] - 1) / 2).side / ACROSS
    counts = [max(1, round(length / spacing)) for length in shape_yx]
    rows, columns = (
        (np.arange(count) + 0.5) * length / count - 0.5 for count, length in zip(counts, shape_yx, strict=True)
    )
    by_window: dict[Window, list[Point]] = defaultdict(list)
    for step in (4, 2, 1):
        for i, y in enumerate(rows.tolist()):
            for j, x in enumerate(columns.tolist()):
                if i % step == j % step == 0 and (step == 4 or i % (2 * step) or j % (2 * step)):
                    by_window[window(y, x)].append((y, x))
    return dict(sorted(by_window.items(), key=lambda item: (item[0].top, item[0].left)))


def _is_object(answer: _Answer, frame: Region, min_stability: float, area_px: tuple[float, float] | None) -> bool:
    if answer.area == 0 or answer.found.stability < min_stability:
        return False
    if area_px is not None and not area_px[0] <= answer.area <= area_px[1]:
        return False
    (rows, columns), (top, left) = frame, answer.where
    borders = [top.start == rows.start, top.stop == rows.stop, left.start == 0, left.stop == columns.stop]
    size = (rows.stop - rows.start) * columns.stop
    stands_out: bool = answer.area <= COVERED * size and sum(borders) < BORDERS
    return stands_out

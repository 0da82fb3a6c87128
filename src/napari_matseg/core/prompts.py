"""Prompts: what is asked of a promptable model, one for each object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from napari_matseg.core.objects import ObjectMask

MAX_ID = 2**32 - 1  # labels are uint32
POLARITIES = {
    **dict.fromkeys(("1", "1.0", "true", "positive", "+", "+1"), True),
    **dict.fromkeys(("0", "0.0", "false", "negative", "-", "-1", "-1.0"), False),
}


@dataclass(frozen=True, eq=False)
class Prompt:
    """What is asked about one object.

    Attributes
    ----------
    id : int
        Its label, from 1.
    points_yx : array, shape (n, 2), float64
        In pixels of the plane, the centre of the first being (0, 0); n may be 0.
    positive : array, shape (n,), bool
        Whether each point lies in the object, or outside it.
    box_yx : (float, float, float, float) or None
        y0, x0, y1, x1 in pixels; the edges of a box round whole pixels lie half a pixel beyond their centres.
    mask : ObjectMask or None
        A present label to be refined.
    plane : int
        Which plane, counted over the axes before YX in C order.
    """

    id: int
    points_yx: np.ndarray
    positive: np.ndarray
    box_yx: tuple[float, float, float, float] | None = None
    mask: ObjectMask | None = None
    plane: int = 0


@dataclass(frozen=True)
class Left:
    """A point or box that became no part of a prompt.

    Attributes
    ----------
    row : int
        Which one, from 1, among the points or among the boxes.
    id : int or None
        The object that it was for; None where it has no id that can be.
    reason : str
        Why, in words.
    kind : "point" or "box"
    """

    row: int
    id: int | None
    reason: str
    kind: Literal["point", "box"] = "point"

    def __str__(self) -> str:
        """Say it in one line."""
        whose = "" if self.id is None else f" (object {self.id})"
        return f"{self.kind} {self.row}{whose}: {self.reason}"


def make_prompts(
    points_yx: ArrayLike,
    *,
    objects: ArrayLike | None = None,
    polarity: ArrayLike | None = None,
    boxes_yx: ArrayLike | None = None,
    box_objects: ArrayLike | None = None,
    planes: ArrayLike | None = None,
    box_planes: ArrayLike | None = None,
    shape_yx: tuple[int, int],
    n_planes: int = 1,
    rows: slice | None = None,
) -> tuple[tuple[Prompt, ...], tuple[Left, ...]]:
    """Make one prompt for each object from points and boxes.

    An object lies on one plane: that of its first point or box that can be used. An id that comes again on another
    plane is left, since one row of a table and one label could not tell the two apart.

    Parameters
    ----------
    points_yx : array, shape (n, 2)
        In pixels, the centre of the first pixel being (0, 0).
    objects : array, shape (n,), optional
        Id of the object that each point is for, from 1; points of one id are asked together. Without it, point k
        (from 1) is object k.
    polarity : array, shape (n,), optional
        Whether each lies in its object: booleans, 1 and 0, or words as `parse_polarity` reads them. Without it, all do.
    boxes_yx : array, shape (m, 4), optional
        y0, x0, y1, x1 in pixels; cut to the image.
    box_objects : array, shape (m,), optional
        Id of the object that each box is for, which joins it to the points of that id. Without it, each box is an
        object of its own, counted on from the highest id of the points.
    planes, box_planes : array, shape (n,) or (m,), optional
        Plane of each; without it, the first.
    shape_yx : (int, int)
        Height and width of a plane in pixels.
    n_planes : int
    rows : slice, optional
        Rows without the data bar; without it, all.

    Returns
    -------
    prompts : tuple of Prompt
        By rising id.
    left : tuple of Left
        Every point and box that is in none of them, points first, with the reason.

    Raises
    ------
    InputError
        If the arrays do not fit each other.
    """
    points = _matrix(points_yx, 2, "points")
    boxes = _matrix([] if boxes_yx is None else boxes_yx, 4, "boxes")
    ids = _column(objects, len(points), "objects", np.arange(1, len(points) + 1))
    highest = max((int(i) for i in ids if _is_id(i)), default=0)
    box_ids = _column(box_objects, len(boxes), "box_objects", highest + np.arange(1, len(boxes) + 1))
    where = _column(planes, len(points), "planes", np.zeros(len(points)))
    box_where = _column(box_planes, len(boxes), "box_planes", np.zeros(len(boxes)))
    says = None if polarity is None else _words(polarity, len(points))
    frame = _Frame(shape_yx, n_planes, rows or slice(0, shape_yx[0]))

    left: list[Left] = []
    gathered: dict[int, _Gathered] = {}
    for k, (point, value, plane) in enumerate(zip(points, ids, where, strict=True)):
        positive = True if says is None else POLARITIES.get(says[k])
        reason = _wrong_id(value) or frame.refuses(point, plane)
        if reason is None and positive is None and says is not None:
            reason = f"polarity {says[k]!r} is neither positive nor negative"
        if reason is None:
            gathering = gathered.setdefault(int(value), _Gathered(int(plane)))
            reason = gathering.refuses(int(plane))
            if reason is None:
                gathering.rows.append(k)
                gathering.positive.append(bool(positive))
        if reason is not None:
            left.append(Left(k + 1, int(value) if _is_id(value) else None, reason))
    for k, (corners, value, plane) in enumerate(zip(boxes, box_ids, box_where, strict=True)):
        box = frame.cut(corners, plane)
        reason = _wrong_id(value) or (box if isinstance(box, str) else None)
        if reason is None and not isinstance(box, str):
            gathering = gathered.setdefault(int(value), _Gathered(int(plane)))
            reason = gathering.refuses(int(plane))
            if reason is None and gathering.box is not None:
                reason = "the object has a box already"
            if reason is None:
                gathering.box = box
        if reason is not None:
            left.append(Left(k + 1, int(value) if _is_id(value) else None, reason, "box"))

    prompts: list[Prompt] = []
    for object_id, found in sorted(gathered.items()):
        if found.box is None and not any(found.positive):
            reason = "the object has negative points only; add a positive one or a box"
            left += [Left(k + 1, object_id, reason) for k in found.rows]
            continue
        positive_n = np.array(found.positive, dtype=bool)
        prompts.append(Prompt(object_id, points[found.rows], positive_n, found.box, plane=found.plane))
    return tuple(prompts), tuple(sorted(left, key=lambda item: (item.kind != "point", item.row)))


def parse_polarity(value: object) -> bool:
    """Read whether a point lies in its object.

    Parameters
    ----------
    value : object
        1 or 0, true or false, positive or negative, + or -; in any case.

    Raises
    ------
    ValueError
        If it is none of these.

    Examples
    --------
    >>> [parse_polarity(value) for value in (1, "Negative", "+", False)]
    [True, False, True, False]
    """
    try:
        return POLARITIES[str(value).strip().lower()]
    except KeyError:
        raise ValueError(f"polarity {value!r} is neither positive nor negative") from None


class _Gathered:
    """What there is for one object."""

    def __init__(self, plane: int) -> None:
        self.plane = plane
        self.rows: list[int] = []
        self.positive: list[bool] = []
        self.box: tuple[float, float, float, float] | None = None

    def refuses(self, plane: int) -> str | None:
        if plane == self.plane:
            return None
        return f"the object is on plane {self.plane} already; give what is on plane {plane} an id of its own"


@dataclass(frozen=True)
class _Frame:
    """Where points can be."""

    shape_yx: tuple[int, int]
    n_planes: int
    rows: slice

    def refuses(self, point: np.ndarray, plane: Any) -> str | None:
        """Why a point cannot be used."""
        y, x = point
        height, width = self.shape_yx
        if not np.isfinite(point).all():
            return "a coordinate is not a number"
        reason = self._refuses_plane(plane)
        if reason is not None:
            return reason
        if not (-0.5 <= y < height - 0.5 and -0.5 <= x < width - 0.5):
            return f"y {y:g}, x {x:g} lies outside the image of {height} x {width} px"
        if not self.rows.start - 0.5 <= y < self.rows.stop - 0.5:
            return f"y {y:g} lies in the data bar"
        return None

    def cut(self, corners: np.ndarray, plane: Any) -> tuple[float, float, float, float] | str:
        """Cut a box to the image, or say why it cannot be used."""
        if not np.isfinite(corners).all():
            return "a corner is not a number"
        reason = self._refuses_plane(plane)
        if reason is not None:
            return reason
        (y0, y1), (x0, x1) = sorted(corners[[0, 2]].tolist()), sorted(corners[[1, 3]].tolist())
        if y0 == y1 or x0 == x1:
            return "the box has no area"
        height, width = self.shape_yx
        x0, x1 = max(x0, -0.5), min(x1, width - 0.5)
        if x0 >= x1 or y0 >= height - 0.5 or y1 <= -0.5:
            return f"the box lies outside the image of {height} x {width} px"
        y0, y1 = max(y0, self.rows.start - 0.5), min(y1, self.rows.stop - 0.5)
        return "the box lies in the data bar" if y0 >= y1 else (y0, x0, y1, x1)

    def _refuses_plane(self, plane: Any) -> str | None:
        if 0 <= plane < self.n_planes and plane == int(plane):
            return None
        only = "plane 0" if self.n_planes == 1 else f"planes 0 to {self.n_planes - 1}"
        return f"there is no plane {plane:g}; there is {only}"


def _is_id(value: Any) -> bool:
    return bool(1 <= value <= MAX_ID and value == int(value))


def _wrong_id(value: Any) -> str | None:
    return None if _is_id(value) else f"{value:g} is no id; ids are whole numbers from 1"


def _matrix(values: ArrayLike, columns: int, what: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return np.empty((0, columns))
    if array.ndim != 2 or array.shape[1] != columns:
        raise InputError(f"{what} of shape {array.shape} cannot be used; give one row of {columns} numbers for each.")
    return array


def _column(values: ArrayLike | None, length: int, what: str, default: np.ndarray) -> np.ndarray:
    if values is None:
        return default
    array = np.asarray(values)
    if array.shape != (length,):
        raise InputError(f"{what} of shape {array.shape} do not fit {length} rows; give one value for each.")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be numbers ({error}); correct them.") from error


def _words(polarity: ArrayLike, length: int) -> list[str]:
    array = np.asarray(polarity)
    if array.shape != (length,):
        raise InputError(f"polarity of shape {array.shape} does not fit {length} points; give one value for each.")
    return [str(value).strip().lower() for value in array.tolist()]

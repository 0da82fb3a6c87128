"""What is known of objects, or of parts of them, and how parts make a whole.

A run of pixels is a part of its object, and so is what one band of rows shows of it. Parts are pooled with their own
centres and their spread about these, never with sums of squares about a far origin, so that no digits are lost in an
image of any size (Chan, Golub and LeVeque, Am. Stat. 37 (1983) 242).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.measure.crofton import joined
from napari_matseg.core.measure.feret import corners, left_chain
from napari_matseg.core.measure.runs import firsts, runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Columns = dict[str, NDArray[Any]]

SUMS = ("area", "n_runs", "above", "above_left", "above_right")
LOWEST, HIGHEST = ("top", "left"), ("bottom", "right")


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts of objects; within each of the tables, all columns are of equal length.

    Attributes
    ----------
    objects : dict of arrays
        label, area, n_runs : int64
            Id of the object, its pixels, its runs in rows.
        above, above_left, above_right : int64
            Pixels that have such a neighbour of the same object.
        top, bottom, left, right : int64
            First row and column, and those after the last ones.
        y, x, yy, yx, xx : float64
            Centre of the pixels, and sums of squares and products of their distances to it.
        n_values, total, squares, lowest, highest : int64, and float64
            Only with an image: pixels that are not NaN, their sum, the sum of squared distances to their mean, and
            the extremes.
    left_side, right_side : dict of int64 arrays
        label, y, x of the pixel corners that can be vertices of the convex hull of the object; those on the right
        with -x. By ascending label and, within it, row.
    classes : dict of int64 arrays
        label, class_id, area: pixels of each class in each object; without a row if there are no classes.
    """

    objects: Columns
    left_side: Columns
    right_side: Columns
    classes: Columns


def parts_of_band(
    band_yx: NDArray[Any],
    before: NDArray[Any] | None,
    top: int,
    image_yx: NDArray[Any] | None = None,
    classes_yx: NDArray[Any] | None = None,
) -> Parts:
    """Measure what a band of rows shows of each object.

    Parameters
    ----------
    band_yx : integer array, shape (height, width)
        Ids of objects.
    before : integer array, shape (width,), or None
        The row above the band; None where there is none.
    top : int
        First row of the band in the image.
    image_yx, classes_yx : array, shape (height, width), optional
        Grey values and class ids of the band.
    """
    label, y, x, length = runs(band_yx)
    above, above_left, above_right = joined(band_yx, before, y * band_yx.shape[1] + x, length)
    y += top
    zero = np.zeros(label.size)
    found: Columns = {
        "label": label,
        "area": length,
        "n_runs": np.ones_like(label),
        "above": above,
        "above_left": above_left,
        "above_right": above_right,
        "top": y,
        "bottom": y + 1,
        "left": x,
        "right": x + length,
        "y": y.astype(np.float64),
        "x": x + (length - 1) / 2,
        "yy": zero,
        "yx": zero,
        "xx": (length**3 - length) / 12,
    }
    if image_yx is not None:
        found |= _values(image_yx[band_yx > 0].astype(np.float64), length)
    classes = _no_classes() if classes_yx is None else _classes(label, length, classes_yx[band_yx > 0])

    order = np.argsort(label, kind="stable")
    found = {name: column[order] for name, column in found.items()}
    in_row = firsts(found["label"], found["top"])
    objects = _pool_objects(found)
    k = np.searchsorted(objects["label"], found["label"][in_row])
    row = found["top"][in_row]

    def side(edge: NDArray[np.int64]) -> Columns:
        index, corner_y, corner_x = left_chain(*corners(k, row, np.minimum.reduceat(edge, in_row)))
        return {"label": objects["label"][index], "y": corner_y, "x": corner_x}

    return Parts(objects, side(found["left"]), side(-found["right"]), classes)


def pool(parts: Sequence[Parts]) -> Parts:
    """Put the parts of bands together, which are given from top to bottom.

    Returns
    -------
    Parts
        A row of `objects` for each object, by ascending label; the sides of the hulls hold all points that were given.
    """
    objects, left_side, right_side, classes = (
        _by_label([getattr(part, table) for part in parts])
        for table in ("objects", "left_side", "right_side", "classes")
    )
    return Parts(_pool_objects(objects), left_side, right_side, _pool_classes(classes))


def parted(parts: Parts, labels: NDArray[np.int64]) -> tuple[Parts, Parts]:
    """Part what is known of objects: of those without, and with, an id that is among some."""
    tables = parts.objects, parts.left_side, parts.right_side, parts.classes
    among = [np.isin(table["label"], labels) for table in tables]
    without, with_ids = (
        Parts(
            *(
                {name: column[mask == kept] for name, column in table.items()}
                for table, mask in zip(tables, among, strict=True)
            )
        )
        for kept in (False, True)
    )
    return without, with_ids


def _by_label(tables: Sequence[Columns]) -> Columns:
    """Concatenate tables and sort them by label; rows of the same label stay in order."""
    together = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    order = np.argsort(together["label"], kind="stable")
    return {name: column[order] for name, column in together.items()}


def _pool_objects(parts: Columns) -> Columns:
    """Make one row of neighbouring rows of the same label."""
    start = firsts(parts["label"])
    which = np.repeat(np.arange(start.size), np.diff(start, append=parts["label"].size))

    def total(values: NDArray[Any]) -> NDArray[Any]:
        summed: NDArray[Any] = np.add.reduceat(values, start)
        return summed

    whole: Columns = {"label": parts["label"][start]}
    whole |= {name: total(parts[name]) for name in SUMS}
    whole |= {name: np.minimum.reduceat(parts[name], start) for name in LOWEST}
    whole |= {name: np.maximum.reduceat(parts[name], start) for name in HIGHEST}

    area = parts["area"]
    y, x = total(area * parts["y"]) / whole["area"], total(area * parts["x"]) / whole["area"]
    up, across = parts["y"] - y[which], parts["x"] - x[which]
    whole |= {
        "y": y,
        "x": x,
        "yy": total(parts["yy"] + area * up * up),
        "yx": total(parts["yx"] + area * up * across),
        "xx": total(parts["xx"] + area * across * across),
    }
    if "total" in parts:
        n, value = parts["n_values"], _mean(parts)
        whole |= {"n_values": total(n), "total": total(parts["total"])}
        with np.errstate(invalid="ignore"):  # of infinite values there is no spread
            whole["squares"] = total(parts["squares"] + n * (value - _mean(whole)[which]) ** 2)
        whole["lowest"] = np.fmin.reduceat(parts["lowest"], start)
        whole["highest"] = np.fmax.reduceat(parts["highest"], start)
    return whole


def _values(values: NDArray[np.float64], length: NDArray[np.int64]) -> Columns:
    """Describe the grey values of runs that lie one after the other in `values`, which is overwritten."""
    start = np.cumsum(length) - length
    found: Columns = {"lowest": np.fmin.reduceat(values, start), "highest": np.fmax.reduceat(values, start)}
    unknown = np.isnan(values)
    values[unknown] = 0
    found["n_values"] = length - np.add.reduceat(unknown, start, dtype=np.int64)
    found["total"] = np.add.reduceat(values, start)
    with np.errstate(invalid="ignore"):  # of infinite values there is no spread
        values -= np.repeat(_mean(found), length)
    values[unknown] = 0
    values *= values
    return found | {"squares": np.add.reduceat(values, start)}


def _mean(parts: Columns) -> NDArray[np.float64]:
    """Mean grey value; 0 where there is none, which then counts for nothing."""
    mean: NDArray[np.float64] = parts["total"] / np.maximum(parts["n_values"], 1)
    return mean


def _no_classes() -> Columns:
    return {name: np.zeros(0, np.int64) for name in ("label", "class_id", "area")}


def _classes(label: NDArray[np.int64], length: NDArray[np.int64], class_ids: NDArray[Any]) -> Columns:
    """Count the pixels of each class in each object, from runs whose pixels lie one after the other in `class_ids`."""
    run = np.repeat(np.arange(length.size), length)
    start = firsts(run, class_ids)
    return _pool_classes(
        {
            "label": label[run[start]],
            "class_id": class_ids[start].astype(np.int64),
            "area": np.diff(start, append=class_ids.size),
        }
    )


def _pool_classes(classes: Columns) -> Columns:
    """Add up the pixels of the same class and object."""
    order = np.lexsort((classes["class_id"], classes["label"]))
    label, class_id, area = (classes[name][order] for name in ("label", "class_id", "area"))
    start = firsts(label, class_id)
    return {"label": label[start], "class_id": class_id[start], "area": np.add.reduceat(area, start)}

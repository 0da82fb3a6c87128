"""A row for every object: where it is, how large, and whether it deserves a look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.measure.runs import BAND, runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_matseg.core.boxes import Region
    from napari_matseg.core.objects import ObjectMask
    from napari_matseg.settings import PromptSettings


@dataclass(frozen=True)
class _Extent:
    """Pixels of objects in labels: how many, the sums of their rows and columns, whether any lies at an edge."""

    area: np.ndarray
    y: np.ndarray
    x: np.ndarray
    at_edge: np.ndarray


def object_table(
    objects: Iterable[ObjectMask],
    layers: Sequence[np.ndarray],
    settings: PromptSettings,
    *,
    pixel_size_nm: tuple[float, float] | None = None,
    data_bar: tuple[int, int] | None = None,
    n_prompts: Mapping[int, int] | None = None,
    where: Region | None = None,
) -> list[dict[str, object]]:
    """Describe the objects of one plane as they ended up in its labels.

    Parameters
    ----------
    objects : iterable of ObjectMask
        Those without a pixel too.
    layers : sequence of array, shape (height, width), integer
        Labels with the ids of the objects, as `Assembly.layers` gives them.
    settings : PromptSettings
        Of which `min_iou`, `min_stability`, `area_nm2` and `area_px` count. Areas in nm² come first where the pixel
        size is known.
    pixel_size_nm : (float, float), optional
        Height and width of a pixel in nanometres.
    data_bar : (int, int), optional
        First row of the instrument's data bar and the row after it; what reaches it touches the edge.
    n_prompts : mapping of int to int, optional
        Points, boxes and labels that each object was asked for with.
    where : (slice, slice), optional
        Rows and columns that hold all pixels of the objects, so that no others need be looked at.

    Returns
    -------
    list of dict
        One for each object, by ascending label:

        label, plane : int
        y, x : float or None
            Centre of mass of the object's pixels in the labels, in pixels; that of the first pixel is (0, 0).
        area_px : int
        area_nm2 : float
            Only where the pixel size is known.
        predicted_iou, stability : float
        touches_edge : bool
            Whether it reaches the first or last row or column of the plane, or the data bar.
        flagged : bool
        reason : str
            Why it is flagged, in words; empty if it is not.
        prompts : int
            Only where `n_prompts` is given.
    """
    objects = sorted(objects, key=lambda found: found.id)
    extent = _measure(np.array([found.id for found in objects], np.int64), layers, data_bar, where)
    pixel_nm2 = None if pixel_size_nm is None else pixel_size_nm[0] * pixel_size_nm[1]
    rows = []
    for k, found in enumerate(objects):
        area = int(extent.area[k])
        row: dict[str, object] = {
            "label": found.id,
            "plane": found.plane,
            "y": round(float(extent.y[k]) / area, 3) if area else None,
            "x": round(float(extent.x[k]) / area, 3) if area else None,
            "area_px": area,
        }
        if pixel_nm2 is not None:
            row["area_nm2"] = area * pixel_nm2
        reasons = _reasons(found, area, pixel_nm2, layers, settings)
        row |= {
            "predicted_iou": round(found.iou, 4),
            "stability": round(found.stability, 4),
            "touches_edge": bool(extent.at_edge[k]),
            "flagged": bool(reasons),
            "reason": ", ".join(reasons),
        }
        if n_prompts is not None:
            row["prompts"] = n_prompts.get(found.id, 0)
        rows.append(row)
    return rows


def _reasons(
    found: ObjectMask, area: int, pixel_nm2: float | None, layers: Sequence[np.ndarray], settings: PromptSettings
) -> list[str]:
    """Say why an object deserves a look."""
    mask = found.mask_yx
    own = int(np.count_nonzero(mask))
    if own == 0:
        return ["nothing found"]
    reasons = []
    if 2 * area < own:
        most = "mostly " if area else ""
        there = np.concatenate([layer[found.where][mask] for layer in layers])
        others, counts = np.unique(there[(there != found.id) & (there > 0)], return_counts=True)
        reasons.append(f"{most}hidden by object {others[counts.argmax()]}" if others.size else f"{most}erased")
    if found.iou < settings.min_iou:
        reasons.append("low predicted IoU")
    if found.stability < settings.min_stability:
        reasons.append("unstable")
    limits, unit = settings.area_px, 1.0
    if settings.area_nm2 is not None and pixel_nm2 is not None:
        limits, unit = settings.area_nm2, pixel_nm2
    if area and limits is not None and not limits[0] <= area * unit <= limits[1]:
        reasons.append("area outside limits")
    return reasons


def _measure(
    ids: np.ndarray, layers: Sequence[np.ndarray], data_bar: tuple[int, int] | None, where: Region | None
) -> _Extent:
    """Measure objects, by ascending id, in one pass over the labels, along the runs of equal pixels in each row."""
    n = len(ids)
    sums = np.zeros((4, n))
    for layer in layers if n else ():
        height, width = layer.shape
        edges = [0, height - 1, *((data_bar[0] - 1, data_bar[1]) if data_bar else ())]
        rows, columns = where or (slice(0, height), slice(0, width))
        step = max(1, BAND // width)
        for top in range(rows.start, rows.stop, step):
            band = layer[top : min(top + step, rows.stop), columns]
            labels, y, x, length = runs(band)
            y += top
            x += columns.start
            k = np.minimum(np.searchsorted(ids, labels), n - 1)
            known = ids[k] == labels
            k, y, x, length = k[known], y[known], x[known], length[known]
            at_edge = np.isin(y, edges) | (x == 0) | (x + length == width)
            for total, weights in zip(
                sums, (length, y * length, (x + (length - 1) / 2) * length, at_edge), strict=True
            ):
                total += np.bincount(k, weights, n)
    return _Extent(sums[0], sums[1], sums[2], sums[3] > 0)

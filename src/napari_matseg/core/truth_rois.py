"""Objects as ImageJ keeps them: regions of interest, one in a .roi file or many in a .zip."""

from __future__ import annotations

import re
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.drawn import Drawn
from napari_matseg.core.spans import FARTHEST, Spans, check_area, fill, of_mask
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from roifile import ImagejRoi

MOST_BYTES = 2**28  # of all regions of a file, unpacked; 100,000 outlines of 300 points have 1.3e8
CURVE_POINTS = 16  # straight pieces that a curve of a path is made of
POINTS_OF = {
    0: 1,
    1: 1,
    2: 2,
    3: 3,
    4: 0,
}  # points of each kind of segment (java.awt.geom.PathIterator)
AXES = ("c", "z", "t")
POLYGON, RECTANGLE, OVAL, FREEHAND, TRACED = AREAS = (0, 1, 2, 7, 8)  # types of ImageJ's RoiDecoder
NO_AREAS = (1, 4)  # its subtypes text and image, which are rectangles
SPLINE = 1  # of its options


@dataclass(frozen=True, eq=False)
class Region:
    """One region of interest, which is an area.

    Attributes
    ----------
    name : str
    group : int
        From 1; 0 for none.
    position : int
        In the stack, from 1; 0 for all of it.
    axes : (int, int, int)
        Channel, slice and frame in a hyperstack, from 1; 0 for all of them.
    rings : list of float arrays, shape (n, 2)
        x and y of the corners; a ring in a ring is a hole.
    box : (float, float, float, float)
        Left, top, width and height, where the region is not rings but round.
    radii : (float, float)
        Half axes, as (x, y), of the corners of a round region.
    """

    name: str
    group: int
    position: int
    axes: tuple[int, int, int]
    rings: Sequence[NDArray[np.float64]] = ()
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    radii: tuple[float, float] = (0.0, 0.0)


def read_regions(path: Path) -> tuple[list[Region], list[str]]:
    """Read the regions of a file that are areas.

    Parameters
    ----------
    path : Path
        .roi, or .zip of such; what else lies in the zip does not matter.

    Returns
    -------
    regions : list of Region
        In the order of the file.
    notes : list of str
        What was left out or simplified.

    Raises
    ------
    InputError
        If the file is damaged, too large, or holds no region.
    """
    from roifile import ImagejRoi

    regions: list[Region] = []
    lines = splines = 0
    for entry, data in _entries(path):
        where = path if entry is None else f"{path}: {entry}"
        try:
            roi = ImagejRoi.frombytes(data)
            if roi.roitype not in AREAS or roi.subtype in NO_AREAS:
                lines += 1
                continue
            splines += int(roi.options & SPLINE)
            regions.append(_region(roi, (entry or path.name).rpartition("/")[2].removesuffix(".roi")))
        except InputError as error:
            raise InputError(f"{where}: {error}; draw this region again.") from error
        except Exception as error:  # whatever a damaged file makes roifile stumble over
            raise InputError(f"{where}: is damaged, or is no region of ImageJ; save it again from ImageJ.") from error
    if not regions:
        raise InputError(f"{path}: holds no region that is an area; save outlines from ImageJ's ROI Manager.")
    notes = []
    if lines:
        notes.append(f"lines, points and texts, left out: {lines}")
    if splines:
        notes.append(f"splines read as polygons: {splines}")
    return regions, notes


def draw_regions(regions: Sequence[Region], shape_yx: tuple[int, int], plane: int, path: Path) -> Drawn:
    """Find the pixels of the regions that are on a plane.

    Parameters
    ----------
    regions : sequence of Region
    shape_yx : (int, int)
        Height and width of the image.
    plane : int
        Of the stack, from 0; a region without a position is on all of them.
    path : Path
        What to call the regions in messages.

    Raises
    ------
    InputError
        If the positions leave open which regions are meant, or the regions are absurd.
    """
    planes = planes_of(regions, path)
    here = [region for region, on in zip(regions, planes, strict=True) if on in (None, plane)]
    rings = [ring for region in here for ring in region.rings]
    numbers = [number for number, region in enumerate(here) for _ in region.rings]
    spans = [fill(rings, numbers, range(len(here)), shape_yx, str(path))]
    area = 0
    for number, region in enumerate(here):
        if not region.rings:
            spans.append(_round(region, number, shape_yx))
            area += int(spans[-1].length.sum())
            check_area(area, shape_yx, str(path))
    return Drawn(
        str(path),
        shape_yx,
        Spans.join(spans),
        tuple(_class_name(region.name) for region in here),
        np.array([region.group for region in here], dtype=np.int64),
        np.zeros(len(here), dtype=bool),
    )


def planes_of(regions: Sequence[Region], path: Path) -> list[int | None]:
    """Plane of each region, from 0; None for all.

    Raises
    ------
    InputError
        If regions lie along more than one axis of a hyperstack.
    """
    used = {axis for region in regions for axis in range(3) if region.axes[axis] > 1}
    if len(used) > 1:
        which = " and ".join(AXES[axis] for axis in sorted(used))
        raise InputError(f"{path}: the regions lie on a hyperstack, along {which}; save those of one axis.")
    axis = used.pop() if used else 1
    positions = [region.axes[axis] if any(region.axes) else region.position for region in regions]
    return [position - 1 if position > 0 else None for position in positions]


def _entries(path: Path) -> Iterator[tuple[str | None, bytes]]:
    """Name and bytes of each region, no more than there may be."""
    try:
        if not zipfile.is_zipfile(path):
            if path.stat().st_size > MOST_BYTES:
                raise InputError(f"{path}: is too large for a region of ImageJ; save it again from ImageJ.")
            yield None, path.read_bytes()
            return
        room = MOST_BYTES
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                hidden = entry.filename.startswith("__MACOSX") or entry.filename.rpartition("/")[2].startswith(".")
                if hidden or not entry.filename.lower().endswith(".roi"):
                    continue
                with archive.open(entry) as file:
                    data = file.read(room + 1)
                room -= len(data)
                if room < 0:
                    raise InputError(f"{path}: unpacks to more than {MOST_BYTES >> 20} MiB; save fewer regions in it.")
                yield entry.filename, data
    except (OSError, EOFError, NotImplementedError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"{path}: cannot be unpacked ({reason}); save it again from ImageJ.") from error


def _region(roi: ImagejRoi, entry: str) -> Region:
    place = (roi.name or entry, roi.group, roi.position, (roi.c_position, roi.z_position, roi.t_position))
    if roi.composite:
        if roi.multi_coordinates is None:
            raise InputError("is damaged")
        return Region(*place, _checked(_rings(roi.multi_coordinates.tolist())))
    if roi.roitype in (RECTANGLE, OVAL):
        if roi.subpixelrect:
            box = (roi.xd, roi.yd, roi.widthd, roi.heightd)
        else:
            box = (roi.left, roi.top, roi.right - roi.left, roi.bottom - roi.top)
        left, top, width, height = box
        corners = [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]
        rings = _checked([np.array(corners, dtype=np.float64)])
        if roi.roitype == OVAL:
            return Region(*place, box=box, radii=(width / 2, height / 2))
        if roi.rounded_rect_arc_size > 0:
            arc = roi.rounded_rect_arc_size
            return Region(*place, box=box, radii=(min(arc, width) / 2, min(arc, height) / 2))
        return Region(*place, rings)
    return Region(*place, _checked([np.asarray(roi.coordinates(), dtype=np.float64)]))


def _checked(rings: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    if not all((np.abs(ring) <= FARTHEST).all() for ring in rings):
        raise InputError("has a corner that is no place in an image")
    return rings


def _rings(path: list[float]) -> list[NDArray[np.float64]]:
    """Corners of the rings of a composite region: pairs of numbers, each segment's kind before its own."""
    rings: list[list[tuple[float, float]]] = []
    place = 0
    while place < len(path):
        kind = int(path[place])
        end = place + 1 + 2 * POINTS_OF[kind]
        points = list(zip(path[place + 1 : end : 2], path[place + 2 : end : 2], strict=True))
        if len(points) != POINTS_OF[kind] or (kind and not rings):
            raise InputError("is damaged")
        if kind == 0:
            rings.append(points)
        elif points:
            rings[-1] += _curve([rings[-1][-1], *points]) if len(points) > 1 else points
        place = end
    return [np.array(ring, dtype=np.float64) for ring in rings]


def _curve(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points along a Bezier curve after its first (de Casteljau's construction)."""
    t = np.linspace(0, 1, CURVE_POINTS + 1)[1:, None, None]
    level = np.broadcast_to(np.array(points), (CURVE_POINTS, len(points), 2))
    while level.shape[1] > 1:
        level = (1 - t) * level[:, :-1] + t * level[:, 1:]
    return [(float(x), float(y)) for x, y in level[:, 0]]


def _round(region: Region, number: int, shape_yx: tuple[int, int]) -> Spans:
    """Find the pixels whose centres are in a box with elliptic corners; ImageJ, too, counts one on the ellipse in."""
    left, top, width, height = region.box
    if not (width > 0 and height > 0):
        return Spans.join([])
    first_y, end_y = (int(np.clip(np.floor(y), 0, shape_yx[0])) for y in (top, top + height + 1))
    first_x, end_x = (int(np.clip(np.floor(x), 0, shape_yx[1])) for x in (left, left + width + 1))
    beyond = []
    for first, end, start, extent, radius in (
        (first_y, end_y, top, height, region.radii[1]),
        (first_x, end_x, left, width, region.radii[0]),
    ):
        off_centre = np.abs(np.arange(first, end) + 0.5 - start - extent / 2)
        beyond.append(np.maximum(off_centre - (extent / 2 - radius), 0) ** 2 / radius**2)
    inside = beyond[0][:, None] + beyond[1] <= 1
    return of_mask(inside, first_y, first_x, number, shape_yx)


def _class_name(name: str) -> str:
    """Name without what numbers it: that of the class, if it has one."""
    return re.sub(r"[\s\d_.#()+-]+$", "", name).strip()

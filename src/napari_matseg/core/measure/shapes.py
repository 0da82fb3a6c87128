"""Size, shape and grey values of every object, in one pass over the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.measure.crofton import perimeters
from napari_matseg.core.measure.feret import ferets, left_chain
from napari_matseg.core.measure.parts import Parts, parted, parts_of_band, pool
from napari_matseg.core.measure.runs import bands, firsts
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    Columns = dict[str, NDArray[Any]]

ROUND = 1e-9  # axes that differ by less than this share are equal but for rounding


def measure_objects(
    labels_yx: NDArray[Any],
    image_yx: NDArray[Any] | None = None,
    *,
    pixel_size_nm: tuple[float, float] | None = None,
    classes_yx: NDArray[Any] | None = None,
    class_names: Sequence[str] = (),
    rows: slice | None = None,
    plane: int = 0,
) -> pd.DataFrame:
    """Measure every object of a plane.

    An object is all pixels of an id, in however many pieces and with the holes it has. Pixels are rectangles, not
    points: hulls, boxes and axes are those of the area that they cover. Lengths along any direction are measured with
    the height and the width of a pixel, not with their mean.

    Parameters
    ----------
    labels_yx : integer array, shape (height, width)
        Ids of objects, below 2**63; 0 is none. It may be memory-mapped or lazy: of this and of the other arrays only
        a band of rows is in memory at a time.
    image_yx : array of numbers, shape (height, width), optional
        Grey values.
    pixel_size_nm : (float, float), optional
        Height and width of a pixel in nanometres. Without it, lengths are in pixels.
    classes_yx : integer array, shape (height, width), optional
        Class of each pixel.
    class_names : sequence of str, optional
        Names of the classes, by id; without them a class is called by its id.
    rows : slice, optional
        Rows that show the specimen, without a step. What lies outside is not measured, nor are the parts there of
        objects that lie across the limit.
    plane : int
        Number of the plane, for the table.

    Returns
    -------
    pandas.DataFrame
        A row for each object, by ascending label, and no row where there is none. In the names of the columns, u is
        nm where the pixel size is known and px where not.

        label, plane : int
        class : str
            That of most of its pixels, and of equally many the one with the lowest id. Only with `classes_yx`.
        y, x : float
            Centre of mass, in pixels; the centre of the first pixel is (0, 0).
        area_px : int
        area_nm2 : float
            Only with a pixel size.
        diameter_u : float
            Of the disc of the same area (ISO 9276-6:2008).
        feret_max_u, feret_min_u : float
            Largest and smallest distance between two parallel lines that enclose the object (ISO 9276-6), exact for
            the convex hull of its pixels.
        major_axis_u, minor_axis_u : float
            Axes, end to end, of the ellipse with the same second moments.
        aspect_ratio : float
            Major by minor axis, at least 1.
        orientation_deg : float
            From the x axis to the major axis, counter-clockwise as seen on screen, from 0 to below 180. NaN where both
            axes are equal.
        perimeter_u : float
            Length of all outlines, of holes too, by Crofton's formula with four directions; a side at the frame of the
            image, or of `rows`, counts. Right in the mean over all orientations, so for discs: from a radius
            of 5 pixels on, that of many is found within 1 %. A single straight outline is found up to 5.2 % too
            short, along rows, columns and diagonals, or 2.6 % too long, halfway between; with pixels twice as high as
            wide it is 9.5 % and 8.6 %.
        circularity : float
            4 pi area / perimeter^2: 1 for a disc, less for all else (Cox, J. Paleontol. 1 (1927) 179; the form factor
            of ISO 9276-6, whose circularity is its root). It is not cut at 1, which tiny objects exceed: the
            perimeter of a few pixels is estimated too low.
        solidity : float
            Area by that of the convex hull (ISO 9276-6), at most 1.
        height_u, width_u : float
            Of the bounding box.
        touches_edge : bool
            Whether it reaches the first or last row, of those in `rows`, or column.
        intensity_mean, intensity_std, intensity_min, intensity_max, intensity_sum : float
            Of the pixels that are not NaN, and NaN where there are none (the sum: 0); std is about the mean of these
            pixels, divided by their number. Only with `image_yx`.

    Raises
    ------
    InputError
        If labels or classes are no integers, negative, or of the wrong shape, if a class has no name, or if a pixel
        has no positive size.

    Examples
    --------
    >>> labels = np.zeros((6, 8), np.uint8)
    >>> labels[1:5, 2:5] = 3
    >>> measure_objects(labels, pixel_size_nm=(1.0, 2.0))[["area_px", "area_nm2", "height_nm", "width_nm"]]
       area_px  area_nm2  height_nm  width_nm
    0       12      24.0        4.0       6.0
    """
    _check(labels_yx, image_yx, classes_yx, pixel_size_nm)
    height, width = labels_yx.shape
    first, stop, _ = (rows or slice(None)).indices(height)
    sums = ObjectSums((first, stop, width), pixel_size_nm, None if classes_yx is None else class_names, plane)
    for again in (False, True):
        if again and not sums.came_back.size:
            break
        for where in bands(first, stop, width):
            image, classes = (None if array is None else np.asarray(array[where]) for array in (image_yx, classes_yx))
            sums.add(np.asarray(labels_yx[where]), image, classes)
    return sums.table()


class ObjectSums:
    """Measures the objects of a plane that is seen band by band, from above.

    An object that does not reach the last row of a band is taken to be complete, so that only those which are cut are
    kept as parts. If some ids go on after all, as objects in several pieces do, `came_back` has them after the last
    band: the same bands then have to be given once more.

    Parameters
    ----------
    field : (int, int, int)
        First row of the plane that is measured, the row after the last one, and the width.
    pixel_size_nm, class_names, plane
        As for `measure_objects`; names are None where no classes will be given.
    """

    def __init__(
        self,
        field: tuple[int, int, int],
        pixel_size_nm: tuple[float, float] | None = None,
        class_names: Sequence[str] | None = None,
        plane: int = 0,
    ) -> None:
        self._field, self._size, self._names, self._plane = field, pixel_size_nm, class_names, plane
        self._top = field[0]
        self._before: NDArray[Any] | None = None
        self._open: Parts | None = None
        self._done: list[Columns] = []
        self._only: NDArray[np.int64] | None = None
        self.came_back = np.zeros(0, np.int64)
        """Ids that have to be looked at once more."""

    def add(
        self, labels_yx: NDArray[Any], image_yx: NDArray[Any] | None = None, classes_yx: NDArray[Any] | None = None
    ) -> None:
        """Take the next rows; arrays as for `measure_objects`.

        Raises
        ------
        InputError
            If an id is negative, or a class has no name.
        """
        _no_negative(labels_yx, "labels", self._top)
        if classes_yx is not None:
            _no_negative(classes_yx, "classes", self._top)
        if self._only is not None:
            labels_yx = np.where(np.isin(labels_yx, self._only), labels_yx, 0)
        parts = parts_of_band(labels_yx, self._before, self._top, image_yx, classes_yx)
        self._top += len(labels_yx)
        parts = parts if self._open is None else pool([self._open, parts])
        ends = self._top >= self._field[1]
        if ends or self._only is None:
            cut = np.zeros(0, np.int64) if ends else np.unique(labels_yx[-1:]).astype(np.int64)
            closed, parts = parted(parts, cut)
            self._done.append(_columns(closed, self._size, self._names, self._field))
        self._open = parts
        self._before = labels_yx[-1].copy() if len(labels_yx) else None  # a view would keep the whole band
        if ends:
            self._begin_again()

    def table(self) -> pd.DataFrame:
        """Make the table of `measure_objects`, once all rows are there; it can be had once."""
        import pandas as pd

        order = np.argsort(np.concatenate([some["label"] for some in self._done]), kind="stable")
        found: Columns = {}
        for name in list(self._done[0]):
            # One column after the other: of millions of objects a second table would take much.
            found[name] = np.concatenate([some.pop(name) for some in self._done])[order]
        columns: dict[str, Any] = {"label": found.pop("label"), "plane": np.full(order.size, self._plane)}
        if self._names is not None:
            ids = found.pop("class")
            names = np.array(self._names or [str(i) for i in range(int(ids.max(initial=-1)) + 1)], object)
            columns["class"] = pd.Series(names[ids] if ids.size else [], dtype="str")
        return pd.DataFrame(columns | found)

    def _begin_again(self) -> None:
        """Forget what was taken to be complete and was not, and start above for it."""
        self._top, self._before, self._open = self._field[0], None, None
        if self._only is not None:
            self.came_back = np.zeros(0, np.int64)
            return
        labels, n = np.unique(np.concatenate([some["label"] for some in self._done]), return_counts=True)
        self._only = self.came_back = labels[n > 1]
        if self._only.size:
            for some in self._done:
                kept = ~np.isin(some["label"], self._only)
                some.update({name: column[kept] for name, column in some.items()})


def _columns(
    parts: Parts, pixel_size_nm: tuple[float, float] | None, names: Sequence[str] | None, field: tuple[int, int, int]
) -> Columns:
    """Make columns of the sums of whole objects, in the order of the table; the class by its id."""
    found = parts.objects
    u = "px" if pixel_size_nm is None else "nm"
    height, width = pixel = (1.0, 1.0) if pixel_size_nm is None else (float(pixel_size_nm[0]), float(pixel_size_nm[1]))
    first, stop, columns = field
    label, pixels = found["label"], found["area"]
    area = pixels * (height * width)
    left, right = (_side(side, label) for side in (parts.left_side, parts.right_side))
    longest, shortest, hull = ferets(left, right, pixel)
    above = np.stack([found["above"], found["above_left"], found["above_right"]])
    perimeter = perimeters(pixels, found["n_runs"], above, pixel)
    major, minor, orientation = _axes(found, pixel)

    columns_of: Columns = {"label": label}
    if names is not None:
        columns_of["class"] = _classes(parts, names)
    columns_of |= {"y": found["y"], "x": found["x"], "area_px": pixels}
    if pixel_size_nm is not None:
        columns_of["area_nm2"] = area
    columns_of |= {
        f"diameter_{u}": np.sqrt(4 / np.pi * area),
        f"feret_max_{u}": longest,
        f"feret_min_{u}": shortest,
        f"major_axis_{u}": major,
        f"minor_axis_{u}": minor,
        "aspect_ratio": major / minor,
        "orientation_deg": orientation,
        f"perimeter_{u}": perimeter,
        "circularity": 4 * np.pi * area / perimeter**2,
        "solidity": area / hull,
        f"height_{u}": (found["bottom"] - found["top"]) * height,
        f"width_{u}": (found["right"] - found["left"]) * width,
        "touches_edge": (found["top"] == first)
        | (found["bottom"] == stop)
        | (found["left"] == 0)
        | (found["right"] == columns),
    }
    if "total" in found:
        n = np.where(found["n_values"] > 0, found["n_values"], np.nan)
        columns_of |= {
            "intensity_mean": found["total"] / n,
            "intensity_std": np.sqrt(found["squares"] / n),
            "intensity_min": found["lowest"],
            "intensity_max": found["highest"],
            "intensity_sum": found["total"],
        }
    return columns_of


def _side(side: Columns, label: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Take the hulls of whole objects from those of their parts; objects are numbered as in `label`."""
    return left_chain(np.searchsorted(label, side["label"]), side["y"], side["x"])


def _axes(
    found: Columns, pixel: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Axes of the ellipse with the same second moments, and the direction of the major one."""
    height, width = pixel
    # A rectangle has a twelfth of its squared side for a second moment about its own centre.
    yy = (found["yy"] / found["area"] + 1 / 12) * height**2
    xx = (found["xx"] / found["area"] + 1 / 12) * width**2
    yx = found["yx"] / found["area"] * (height * width)
    apart = np.hypot(xx - yy, 2 * yx)
    largest = (xx + yy + apart) / 2
    smallest = (xx + yy - apart) / 2
    degrees = np.degrees(np.arctan2(-2 * yx, xx - yy) / 2) % 180
    degrees[degrees >= 180] = 0  # what rounding makes of an angle just below 0
    degrees[apart <= ROUND * largest] = np.nan
    # An ellipse has a sixteenth of its squared axis for a second moment.
    return 4 * np.sqrt(largest), 4 * np.sqrt(smallest), degrees


def _classes(parts: Parts, class_names: Sequence[str]) -> NDArray[np.int64]:
    """Find the class of most pixels of each object."""
    label, class_id, area = (parts.classes[name] for name in ("label", "class_id", "area"))
    if class_names and (class_id >= len(class_names)).any():
        raise InputError(
            f"classes: there is a class {class_id.max()} in objects, but names only for 0 to {len(class_names) - 1}; "
            "name every class, or none."
        )
    order = np.lexsort((class_id, -area, label))
    return class_id[order][firsts(label[order])]


def _check(
    labels_yx: NDArray[Any],
    image_yx: NDArray[Any] | None,
    classes_yx: NDArray[Any] | None,
    pixel_size_nm: tuple[float, float] | None,
) -> None:
    """Refuse what can be seen to be wrong without the pixels."""
    if len(labels_yx.shape) != 2:
        raise InputError(f"labels: need the shape (height, width), not {labels_yx.shape}; measure plane by plane.")
    for name, array, remedy in (
        ("labels", labels_yx, "give each object an id of its own, as in skimage.measure.label(mask)"),
        ("classes", classes_yx, "take the class of each pixel first"),
    ):
        if array is not None and array.dtype.kind not in "ui":
            raise InputError(f"{name}: ids must be integers, not {array.dtype}; {remedy}.")
    for name, array in (("image", image_yx), ("classes", classes_yx)):
        if array is not None and array.shape != labels_yx.shape:
            raise InputError(
                f"labels and {name} differ in shape, {labels_yx.shape} and {array.shape}; "
                "they must show the same plane, neither cropped nor scaled, with one value for each pixel."
            )
    if pixel_size_nm is not None and not all(0 < size < np.inf for size in pixel_size_nm):
        raise InputError(
            f"pixel size: {pixel_size_nm[0]} x {pixel_size_nm[1]} nm is no size; "
            "give the height and the width of a pixel, both above 0, or none."
        )


def _no_negative(band_yx: NDArray[Any], name: str, top: int) -> None:
    """Refuse negative ids."""
    if band_yx.dtype.kind == "i" and band_yx.size and band_yx.min() < 0:
        y, x = np.argwhere(band_yx < 0)[0].tolist()
        raise InputError(
            f"{name}: there is a negative id, {band_yx[y, x]} at row {top + y}, column {x}; "
            "make ids positive, with 0 for what is left out."
        )

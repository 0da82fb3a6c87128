"""Points and boxes as CSV, as people and programs write them."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.export import replacing
from napari_matseg.core.prompts import MAX_ID, parse_polarity
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from numpy.typing import ArrayLike

Cell = tuple[str, float | int | bool]

SHOWN = 8  # bad rows that a message names before it says how many more there are
WHOLE = 1e-3  # how far from a whole number a plane may be
POINT_COLUMNS = "y,x in pixels, y_nm,x_nm, or axis-0,axis-1"


@dataclass(frozen=True, eq=False)
class PointTable:
    """Points as a file gives them, one row for each.

    Attributes
    ----------
    points_yx : array, shape (n, 2), float64
        In pixels, the centre of the first pixel being (0, 0).
    objects : array, shape (n,), int64, or None
        Id of the object that each is for, where the file says it.
    positive : array, shape (n,), bool, or None
    planes : array, shape (n,), int64, or None
    """

    points_yx: np.ndarray
    objects: np.ndarray | None = None
    positive: np.ndarray | None = None
    planes: np.ndarray | None = None

    def __len__(self) -> int:
        """Give the number of points."""
        return len(self.points_yx)


@dataclass(frozen=True, eq=False)
class BoxTable:
    """Boxes as a file gives them, one row for each.

    Attributes
    ----------
    boxes_yx : array, shape (n, 4), float64
        y0, x0, y1, x1 in pixels.
    objects : array, shape (n,), int64, or None
    planes : array, shape (n,), int64, or None
    """

    boxes_yx: np.ndarray
    objects: np.ndarray | None = None
    planes: np.ndarray | None = None

    def __len__(self) -> int:
        """Give the number of boxes."""
        return len(self.boxes_yx)


def read_points(path: Path, pixel_size_nm: tuple[float, float] | None = None) -> PointTable:
    """Read points from CSV.

    Parameters
    ----------
    path : Path
        With a line of names first, in any order and case: `y,x` in pixels, else `y_nm,x_nm`, else napari's
        `axis-0,axis-1`, or `axis-0,axis-1,axis-2` whose first is the plane; optionally `object` (ids from 1),
        `polarity` (1 or 0, true or false, positive or negative, + or -) and `plane` (from 0). Other columns do not
        matter. Separated by commas, semicolons (numbers may then have decimal commas) or tabs.
    pixel_size_nm : (float, float), optional
        As (y, x); needed for `y_nm,x_nm`, whose origin is the centre of the first pixel.

    Raises
    ------
    InputError
        If the file cannot be read, lacks columns, gives nanometres where the pixel size is not known, or has rows
        that make no sense; the message names them by line.
    """
    table = _Table.read(path)
    names, scale, plane = _coordinates(table, pixel_size_nm)
    points = np.array(table.numbers(names), dtype=np.float64).reshape(-1, len(names)) * scale
    planes = table.optional(plane, _plane)
    read = PointTable(points, table.optional("object", _object), table.optional("polarity", parse_polarity), planes)
    table.complain()
    return read


def read_boxes(path: Path, pixel_size_nm: tuple[float, float] | None = None) -> BoxTable:
    """Read boxes from CSV.

    Parameters
    ----------
    path : Path
        As for `read_points`, with the columns `y0,x0,y1,x1` in pixels or `y0_nm,x0_nm,y1_nm,x1_nm`, and optionally
        `object` and `plane`.
    pixel_size_nm : (float, float), optional
        As (y, x).

    Raises
    ------
    InputError
        As `read_points`.
    """
    table = _Table.read(path)
    names: tuple[str, ...] = ("y0", "x0", "y1", "x1")
    in_nm = tuple(f"{name}_nm" for name in names)
    scale = np.ones(4)
    if not table.has(names):
        if not table.has(in_nm):
            raise InputError(f"{path}: has no columns y0,x0,y1,x1 (or {','.join(in_nm)}); name them in the first line.")
        names, scale = in_nm, np.tile(_per_nm(path, pixel_size_nm), 2)
    boxes = np.array(table.numbers(names), dtype=np.float64).reshape(-1, 4) * scale
    read = BoxTable(boxes, table.optional("object", _object), table.optional("plane", _plane))
    table.complain()
    return read


def write_points(path: Path, table: PointTable, extra: Mapping[str, ArrayLike] | None = None) -> None:
    """Write points as CSV that `read_points` gives back.

    Parameters
    ----------
    path : Path
        Written whole or not at all.
    table : PointTable
        Columns that are None are left out.
    extra : mapping of str to array, shape (n,), optional
        Further columns, such as a diameter.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    columns: dict[str, Iterable[object]] = {}
    if table.objects is not None:
        columns["object"] = table.objects.tolist()
    if table.planes is not None:
        columns["plane"] = table.planes.tolist()
    columns |= {"y": table.points_yx[:, 0].tolist(), "x": table.points_yx[:, 1].tolist()}
    if table.positive is not None:
        columns["polarity"] = table.positive.astype(int).tolist()
    columns |= {name: np.asarray(values).tolist() for name, values in (extra or {}).items()}
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


class _Table:
    """Rows of text with the lines that they are on, and what is wrong with them."""

    def __init__(self, path: Path, header: list[str], rows: list[tuple[int, list[str]]], decimal_comma: bool) -> None:
        self._path = path
        self._columns = {name: i for i, name in reversed(list(enumerate(header)))}
        self._rows = rows
        self._decimal_comma = decimal_comma
        self._wrong: dict[int, str] = {}

    @classmethod
    def read(cls, path: Path) -> _Table:
        try:
            # Letters outside ASCII can only be in columns that do not matter here.
            text = path.read_text(encoding="utf-8-sig", errors="replace")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check the path.") from error
        first = next((line for line in text.splitlines() if line.strip()), "")
        delimiter = max(",;\t", key=first.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        try:
            rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
        except csv.Error as error:
            raise InputError(f"{path}: line {reader.line_num} is not CSV ({error}); save it as CSV.") from error
        header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
        return cls(path, header, rows[1:], delimiter == ";")

    @property
    def path(self) -> Path:
        return self._path

    def has(self, names: Iterable[str]) -> bool:
        return all(name in self._columns for name in names)

    def numbers(self, names: Iterable[str]) -> list[list[float]]:
        """Numbers of some columns, row by row; NaN where there is none."""
        columns = [self._parse(name, self._number, math.nan) for name in names]
        return [list(row) for row in zip(*columns, strict=True)]

    def optional(self, name: str, parse: Callable[[str], int | bool]) -> np.ndarray | None:
        """One column, if it is there."""
        if name not in self._columns:
            return None
        values = self._parse(name, parse, 0)
        return np.array(values, dtype=bool if parse is parse_polarity else np.int64)

    def complain(self) -> None:
        """Say what is wrong with the rows, if anything is."""
        if not self._wrong:
            return
        named = [f"line {line}: {reason}" for line, reason in sorted(self._wrong.items())[:SHOWN]]
        if len(self._wrong) > SHOWN:
            named.append(f"and {len(self._wrong) - SHOWN} more")
        raise InputError(f"{self._path}: {'; '.join(named)}; correct or remove these rows.")

    def _parse(self, name: str, parse: Callable[[str], float], otherwise: float) -> list[float]:
        place = self._columns[name]
        values = []
        for line, row in self._rows:
            text = row[place].strip() if place < len(row) else ""
            try:
                values.append(parse(text))
            except ValueError as error:
                values.append(otherwise)
                said = str(error).removeprefix(f"{name} ") if text else "is empty"
                self._wrong.setdefault(line, f"{name} {said}")
        return values

    def _number(self, text: str) -> float:
        try:
            value = float(text.replace(",", ".") if self._decimal_comma else text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{text!r} is no number")
        return value


def _coordinates(table: _Table, pixel_size_nm: tuple[float, float] | None) -> tuple[tuple[str, str], np.ndarray, str]:
    """Columns of y and x, what turns them into pixels, and the column of the plane."""
    if table.has(("y", "x")):
        return ("y", "x"), np.ones(2), "plane"
    if table.has(("y_nm", "x_nm")):
        return ("y_nm", "x_nm"), _per_nm(table.path, pixel_size_nm), "plane"
    if table.has(("axis-3",)):
        raise InputError(f"{table.path}: has points in four dimensions or more; keep the plane, y and x alone.")
    if table.has(("axis-0", "axis-1", "axis-2")):
        return ("axis-1", "axis-2"), np.ones(2), "axis-0"
    if table.has(("axis-0", "axis-1")):
        return ("axis-0", "axis-1"), np.ones(2), "plane"
    raise InputError(f"{table.path}: has no columns {POINT_COLUMNS}; name them in the first line.")


def _per_nm(path: Path, pixel_size_nm: tuple[float, float] | None) -> np.ndarray:
    if pixel_size_nm is None:
        raise InputError(
            f"{path}: is in nm, and the pixel size of the micrograph is not known; give the pixel size, or pixels."
        )
    return 1 / np.array(pixel_size_nm, dtype=np.float64)


def _object(text: str) -> int:
    value = _whole(text)
    if not 1 <= value <= MAX_ID:
        raise ValueError(f"{text!r} is no id; ids are whole numbers from 1")
    return value


def _plane(text: str) -> int:
    value = _whole(text)
    if value < 0:
        raise ValueError(f"{text!r} is no plane; planes count from 0")
    return value


def _whole(text: str) -> int:
    try:
        value = float(text)
        whole = round(value)
    except (OverflowError, ValueError):
        raise ValueError(f"{text!r} is no whole number") from None
    if abs(value - whole) > WHOLE:
        raise ValueError(f"{text!r} is no whole number")
    return whole

"""One page for one image: what was seen, what was found, the numbers, and where they come from.

The page is a single HTML file. It holds its pictures, runs no script, fetches nothing and prints on A4.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from html import escape
from io import BytesIO
from math import ceil, floor
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from napari_matseg.core.export import replacing
from napari_matseg.core.figures.plot import to_svg
from napari_matseg.core.overlay import overlay_rgb
from napari_matseg.core.shrink import shrink_image, shrink_labels
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pandas import DataFrame

    from napari_matseg.core.figures.plot import Plot
    from napari_matseg.settings import ClassSpec

LONGEST = 900
"""Pixels on the longer side of a picture at most."""
FIRST_ROWS = 8
MOST_COLUMNS = 11
MOST_ENTRIES = 80
"""Of the record, which may be that of a run over many planes."""
MOST_LETTERS = 160
D_VALUE = re.compile(r"d\d\d")
UNITS = {"nm": "nm", "nm2": "nm²", "px": "px", "um2": "µm²", "deg": "°", "percent": "%"}
TOLD_FIRST = ("label", "class", "y", "x", "area", "diameter", "feret_max", "feret_min", "aspect_ratio", "circularity",
              "solidity", "touches_edge")  # fmt: skip
"""Columns of the objects that are shown if there is no room for all."""
CSS = """
@page { size: A4; margin: 12mm }
body { font: 10pt/1.35 Arial, Helvetica, "DejaVu Sans", sans-serif; color: #000; max-width: 186mm; margin: 4mm auto }
h1 { font-size: 14pt; margin: 0 0 1mm; overflow-wrap: anywhere }
h2 { font-size: 10pt; margin: 3mm 0 1mm; break-after: avoid }
.beside { display: flex; flex-wrap: wrap; gap: 1mm 6mm; align-items: flex-start }
.beside > * { min-width: 0; margin: 0; break-inside: avoid }
.pictures > * { flex: 0 1 90mm }
.pictures img { width: 100%; max-height: 110mm; object-fit: contain; object-position: left top }
.plots { margin-top: 3mm }
.plots img { max-width: 100% }
figcaption, p { font-size: 8.5pt; margin: 0 0 1mm; overflow-wrap: anywhere }
table { border-collapse: collapse; font-size: 8pt }
th, td { padding: 0.2mm 2.5mm 0.2mm 0; text-align: left; vertical-align: top; max-width: 60mm }
thead th { border-bottom: 0.3mm solid #000; vertical-align: bottom }
tbody th { font-weight: normal }
.number { text-align: right; white-space: nowrap }
tr { break-inside: avoid }
.wide table { width: 100%; font-size: 7.5pt }
.record { columns: 2; column-gap: 6mm }
.record table { font-size: 6.5pt }
.record th, .record td { overflow-wrap: anywhere }
.record th { width: 38% }
""".strip()


def report_html(
    title: str,
    image_yx: np.ndarray,
    labels_yx: np.ndarray,
    *,
    classes: Sequence[ClassSpec] | None = None,
    pixel_size_nm: tuple[float, float] | None = None,
    data_bar: tuple[int, int] | None = None,
    tables: Mapping[str, DataFrame | Mapping[str, Any]] | None = None,
    plots: Mapping[str, Plot] | None = None,
    objects: DataFrame | None = None,
    objects_file: str | None = None,
    record: Mapping[str, Any] | None = None,
) -> str:
    """Write the report of one image.

    Parameters
    ----------
    title : str
        Of the page, such as the name of the image's file.
    image_yx : array, shape (height, width)
        Grey values of any numeric type. A large image is averaged over blocks, a band at a time, so it may lie in a
        file.
    labels_yx : array, shape (height, width), integer
        Class ids, or ids of objects; of large ones every n-th pixel is shown.
    classes : sequence of ClassSpec, optional
        One for each class id, that of 0 too; without it labels are ids of objects.
    pixel_size_nm : (float, float), optional
        Height and width of a pixel, for the scale bar.
    data_bar : (int, int), optional
        First row of the instrument's data bar and the row after it.
    tables : mapping of str to DataFrame or mapping, optional
        Small tables by their headings: of a frame its rows, of a mapping, such as ``sizes.summary()``, a line for
        each entry.
    plots : mapping of str to Plot, optional
        By what is written above them.
    objects : DataFrame, optional
        A row for each object, of which the first 8 are shown.
    objects_file : str, optional
        Where the whole table of objects lies, if it was written.
    record : mapping, optional
        Where all this comes from: image, model, settings and versions, as nested as it is.

    Returns
    -------
    str
        HTML. The same input gives the same text. None and NaN are shown as "-".

    Raises
    ------
    InputError
        If image and labels are no planes of the same shape, or a label has no class.
    """
    image, overlay = _pictures(image_yx, labels_yx, classes, pixel_size_nm, data_bar)
    height, width = image_yx.shape
    size = f"{width} x {height} px"
    if pixel_size_nm is not None:
        size += f", pixel {_text(pixel_size_nm[1])} x {_text(pixel_size_nm[0])} nm (width x height)"
    else:
        size += ", pixel size not known"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{size}</p>",
        '<div class="beside pictures">',
        _figure("Image", _png(image), "image"),
        _figure("Segmentation", _png(overlay), "overlay of the segmentation on the image"),
        "</div>",
    ]
    if tables:
        parts.append('<div class="beside tables">')
        parts += [f"<div><h2>{escape(heading)}</h2>{_table(table)}</div>" for heading, table in tables.items()]
        parts.append("</div>")
    if plots:
        parts.append('<div class="beside plots">')
        parts += [_figure(heading, _data("svg+xml", to_svg(plot)), heading) for heading, plot in plots.items()]
        parts.append("</div>")
    if objects is not None:
        parts += _objects(objects, objects_file)
    if record:
        parts.append(f'<h2>Provenance</h2><div class="record">{_record(record)}</div>')
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>\n{CSS}\n</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def write_report(path: Path, title: str, image_yx: np.ndarray, labels_yx: np.ndarray, **parts: Any) -> None:
    """Write the report of one image to a file, whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in .html as a rule.
    title, image_yx, labels_yx, **parts
        As of `report_html`.

    Raises
    ------
    InputError
        As `report_html`.
    OutputError
        If the file cannot be written.
    """
    page = report_html(title, image_yx, labels_yx, **parts)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="")


def _pictures(
    image_yx: np.ndarray,
    labels_yx: np.ndarray,
    classes: Sequence[ClassSpec] | None,
    pixel_size_nm: tuple[float, float] | None,
    data_bar: tuple[int, int] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw image and overlay, small enough for a page, with a scale bar where the pixel size is known."""
    if image_yx.shape != labels_yx.shape or len(image_yx.shape) != 2 or 0 in image_yx.shape:
        raise InputError(
            f"An image of shape {image_yx.shape} and labels of shape {labels_yx.shape} do not make a report; "
            "give one plane of each, of the same shape."
        )
    image, labels = shrink_image(image_yx, LONGEST), shrink_labels(labels_yx, LONGEST)
    y, x = (old / new for old, new in zip(image_yx.shape, image.shape, strict=True))
    kept: dict[str, Any] = {
        "pixel_size_nm": None if pixel_size_nm is None else (pixel_size_nm[0] * y, pixel_size_nm[1] * x),
        "data_bar": None if data_bar is None else (floor(data_bar[0] / y), ceil(data_bar[1] / y)),
    }
    return overlay_rgb(image, np.zeros_like(labels), **kept), overlay_rgb(image, labels, classes, **kept)


def _png(rgb_yxs: np.ndarray) -> str:
    picture = Image.fromarray(rgb_yxs)
    if (rgb_yxs == rgb_yxs[..., :1]).all():
        picture = picture.convert("L")
    written = BytesIO()
    picture.save(written, format="PNG", optimize=True)
    return _data("png", written.getvalue())


def _data(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def _figure(caption: str, source: str, description: str) -> str:
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption><img src="{source}" alt="{escape(description)}"></figure>'
    )


def _objects(objects: DataFrame, file: str | None) -> list[str]:
    """Show the first objects, and tell where all of them are."""
    n = len(objects)
    shown = min(n, FIRST_ROWS)
    of = "All" if shown == n else f"The first {shown} of"
    count = f"{of} {n} object{'' if n == 1 else 's'}" if n else "No object"
    where = f"; all columns of all are in {escape(file)}" if file else ""
    names = [str(name) for name in objects.columns]
    if len(names) > MOST_COLUMNS:
        preferred = [name for told in TOLD_FIRST for name in names if _without_unit(name) == told]
        names = preferred[:MOST_COLUMNS] or names[:MOST_COLUMNS]
    table = _table(objects[names].head(FIRST_ROWS)) if n else ""
    return [f'<h2>Objects</h2><p>{count}{where}.</p><div class="wide">{table}</div>']


def _table(table: DataFrame | Mapping[str, Any]) -> str:
    if isinstance(table, Mapping):
        rows = ((_heading(name), value) for name, value in _entries(table))
        lines = [f'<tr><th scope="row">{escape(name)}</th>{_cell(value)}</tr>' for name, value in rows]
        return f"<table><tbody>{''.join(lines)}</tbody></table>"
    columns = [table.iloc[:, i].tolist() for i in range(table.shape[1])]
    head = "".join(
        f'<th scope="col"{_class(column)}>{escape(_heading(str(name)))}</th>'
        for name, column in zip(table.columns, columns, strict=True)
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in zip(*columns, strict=True))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    return f"<td{_class([value])}>{escape(_text(value))}</td>"


def _class(values: Sequence[Any]) -> str:
    """Set numbers to the right, below each other, and their heading with them."""
    numbers = any(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in values)
    return ' class="number"' if numbers else ""


def _record(record: Mapping[str, Any]) -> str:
    entries = list(_entries(record))
    more = len(entries) - MOST_ENTRIES
    lines = [
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(_shortened(_text(value, exact=True)))}</td></tr>'
        for name, value in entries[:MOST_ENTRIES]
    ]
    if more > 0:
        lines.append(f'<tr><th scope="row">and {more} more</th><td></td></tr>')
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def _entries(record: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Entries of a nested record one by one, named with all they lie in; a list of plain values is one."""
    for key, value in record.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and value:
            yield from _entries(value, f"{name}: ")
        elif isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
            yield from _entries({str(i + 1): each for i, each in enumerate(value)}, f"{name} ")
        else:
            yield name, value


def _text(value: Any, *, exact: bool = False) -> str:
    """Write a value for people; numbers with four digits, unless exactly."""
    if value is None or value != value or (isinstance(value, list | tuple | Mapping) and not value):
        return "-"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating) and not exact:
        written = float(value)
        return f"{written:.0f}" if 1e4 <= abs(written) < 1e15 else f"{written:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(each, exact=exact) for each in value)
    return str(value)


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}…"


def _without_unit(column: str) -> str:
    name, _, unit = column.rpartition("_")
    return name if name and unit in UNITS else column


def _heading(column: str) -> str:
    """Write the name of a column for people.

    Examples
    --------
    >>> _heading("feret_max_nm"), _heading("density_per_um2"), _heading("d50_px"), _heading("label")
    ('feret max (nm)', 'density per µm²', 'D50 (px)', 'label')
    """
    name = _without_unit(column)
    words = name.upper() if D_VALUE.fullmatch(name) else name.replace("_", " ")
    if name == column:
        return words
    unit = UNITS[column.rpartition("_")[2]]
    return f"{words} {unit}" if words.endswith(" per") else f"{words} ({unit})"

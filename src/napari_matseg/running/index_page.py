"""A page to skim the results of a run: a picture of each with its numbers, what failed first, totals on top.

One HTML file that fetches nothing from elsewhere. Its pictures are small files beside the results and are loaded as
they come into view, so that a page of 500 opens at once; all links are relative, so that the folder can be moved.
Sorting and filtering need JavaScript; without it the page is a plain list.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from PIL import Image

from napari_matseg.core.export import replacing
from napari_matseg.core.figures.plot import number
from napari_matseg.running.failures import failure_note
from napari_matseg.running.image_table import sides_of
from napari_matseg.running.index_style import CSS, SCRIPT
from napari_matseg.running.index_totals import STATES, UNITS, link, links, totals_html
from napari_matseg.running.tables import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from napari_matseg.running.index_totals import Totals
    from napari_matseg.running.states import Outcome

THUMBNAIL = 256
"""Pixels on the longer side of a thumbnail."""
MOST_CARDS = 5000
"""Images that a page shows; more would make it slow, and nobody looks at more."""

NOT_LINKED = ("thumbnail", "uncleaned")
"""Beginnings of what files are called that nobody opens."""


def write_thumbnail(path: Path, rgb_yxs: np.ndarray) -> None:
    """Write a small JPEG of a picture.

    Parameters
    ----------
    path : Path
        Ends in .jpg.
    rgb_yxs : array, shape (height, width, 3) or (height, width), uint8
        Such as an overlay; the longer side becomes 256 px, and what is smaller stays as it is.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    picture = Image.fromarray(rgb_yxs)
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    with replacing(path) as temporary:
        picture.save(temporary, format="JPEG", quality=82, optimize=True)


def write_page(
    path: Path, outcomes: Sequence[Outcome], title: str, totals: Totals, *, total: int | None = None
) -> None:
    """Write the page, whole or not at all.

    Parameters
    ----------
    path : Path
        In the folder of the run.
    outcomes : sequence of Outcome
    title : str
    totals : Totals
    total : int, optional
        Files of the run in all, where it is not at its end.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    page = page_html(outcomes, title, totals, path.parent, total=total)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="")


def page_html(
    outcomes: Sequence[Outcome], title: str, totals: Totals, folder: Path, *, total: int | None = None
) -> str:
    """Make the page that `write_page` writes; `folder` is where it will lie."""
    shown = sorted(outcomes, key=lambda outcome: outcome.state != "failed")[:MOST_CARDS]
    left_out = ""
    if len(shown) < len(outcomes):
        left_out = f"<p>The first {len(shown)} images are shown; the table of images has all {len(outcomes)}.</p>"
    quantities = _quantities(shown)
    body = "\n".join(
        [
            f"<header>\n<h1>{escape(title)}</h1>",
            totals_html(outcomes, totals, folder, total),
            "</header>\n<main>",
            _controls(quantities),
            left_out,
            '<ol id="images">',
            *(_card(outcome, quantities, folder) for outcome in shown),
            "</ol>\n</main>",
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n{body}\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _values(record: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of an image by what they are, to sort and filter by."""
    values = {f"{printable(name)} (%)": 100 * share for name, share in _shares(record).items()}
    objects = record.get("objects") or {}
    if objects.get("n") is not None:
        values["objects"] = objects["n"]
    return values | {f"D50 ({UNITS[unit]})": size for unit, size in _d50(record).items()}


def _shares(record: Mapping[str, Any]) -> dict[str, float]:
    """Fraction of each class but the first, which is background or matrix."""
    return dict(list((record.get("fractions") or {}).items())[1:])


def _d50(record: Mapping[str, Any]) -> dict[str, float]:
    """Give the D50 by its unit, if it is known."""
    found = {unit: (record.get("objects") or {}).get(f"d50_{unit}") for unit in UNITS}
    return {unit: size for unit, size in found.items() if size is not None and size == size}


def _quantities(outcomes: Iterable[Outcome]) -> list[str]:
    """Names of all numbers that any image has, fractions first."""
    found = dict.fromkeys(name for outcome in outcomes for name in _values(outcome.record))
    last = ["objects", *(f"D50 ({unit})" for unit in UNITS.values())]
    return [name for name in found if name not in last] + [name for name in last if name in found]


def _controls(quantities: Sequence[str]) -> str:
    options = "".join(f'<option value="{i}">{escape(name)}</option>' for i, name in enumerate(quantities))
    states = "".join(f'<option value="{state}">{words}</option>' for state, words in STATES.items())
    return (
        '<form id="controls" hidden aria-label="Sort and filter">'
        '<label>Name contains <input type="search" name="name"></label>'
        f'<label>Show <select name="state"><option value="">all</option>{states}</select></label>'
        f'<label>with <select name="which">{options}</select></label>'
        '<label>from <input type="number" step="any" name="low"></label>'
        '<label>to <input type="number" step="any" name="high"></label>'
        '<label>Sort by <select name="sort"><option value="run">order of the run</option>'
        f'<option value="name">name</option>{options}</select></label>'
        '<label><input type="checkbox" name="down"> descending</label>'
        '<button type="reset">Reset</button><span id="shown" role="status"></span></form>'
    )


def _card(outcome: Outcome, quantities: Sequence[str], folder: Path) -> str:
    values = _values(outcome.record)
    numbers = ";".join(repr(float(values[name])) if name in values else "" for name in quantities)
    name = escape(printable(outcome.source.name))
    card = f'<li class="{outcome.state}" data-state="{outcome.state}" data-values="{numbers}">'
    if outcome.state == "failed":
        reason, path = outcome.reason or "no reason is known.", str(outcome.source.path)
        where = "" if path in reason else f' <span class="soft">{escape(printable(path))}</span>'
        words = f'<strong class="bad">Failed:</strong> {escape(printable(reason))}{where}'
        note = failure_note(folder, outcome.source.name)
        notes = links({"note": note}, folder) if note.is_file() else ""
        return f"{card}<h3>{name}</h3><p>{words}</p>{notes}</li>"
    files = {what.replace("_", " "): path for what, path in outcome.files.items() if not what.startswith(NOT_LINKED)}
    return f"{card}{_picture(outcome, name, folder)}<h3>{name}</h3>{_facts(outcome)}{links(files, folder)}</li>"


def _picture(outcome: Outcome, name: str, folder: Path) -> str:
    thumbnail, overlay = outcome.files.get("thumbnail"), outcome.files.get("overlay")
    if thumbnail is None:
        return '<div class="picture">no picture</div>'
    picture = f'<img src="{link(thumbnail, folder)}" alt="Result on {name}" loading="lazy" decoding="async">'
    if overlay is None:
        return f'<div class="picture">{picture}</div>'
    return f'<a class="picture" href="{link(overlay, folder)}">{picture}</a>'


def _facts(outcome: Outcome) -> str:
    record = outcome.record
    colours = {spec["name"]: spec["colour"] for spec in (record.get("model") or {}).get("classes") or ()}
    facts: list[tuple[str, str]] = []
    for name, share in _shares(record).items():
        swatch = ""
        if name in colours:
            colour = ",".join(str(int(value)) for value in colours[name])
            swatch = f'<span class="swatch" style="background:rgb({colour})"></span>'
        facts.append((swatch + escape(printable(name)), f"{number(100 * share)} %"))
    n = (record.get("objects") or {}).get("n")
    if n is not None:
        facts.append(("objects", f"{int(n):,}"))
        d50 = ", ".join(f"{number(size)} {UNITS[unit]}" for unit, size in _d50(record).items())
        facts.append(("D50", d50 or ("-" if n == 0 else "- (none counts)")))
    height, width, planes = sides_of(record)
    if height is not None and width is not None:
        facts.append(("image", f"{width} x {height} px" + (f", {planes} planes" if planes > 1 else "")))
    facts.append(("state", outcome.state))
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts) + "</dl>"

"""The upper part of the page of a run: what all its images came to together."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from napari_matseg.core.figures.plot import number
from napari_matseg.running.tables import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from napari_matseg.core.measure.sizes import Weighting
    from napari_matseg.running.states import Outcome
    from napari_matseg.running.totals import Fractions, PooledSizes

UNITS = {"nm": "nm", "nm2": "nm²", "px": "px"}
STATES = {"done": "made in this run", "kept": "kept from an earlier run", "failed": "failed"}
FIGURES = {
    "sizes figure": "Size distribution",
    "fractions figure": "Phase fractions",
    "sizes figure px": "Size distribution, no pixel size",
}


@dataclass(frozen=True, eq=False)
class Totals:
    """What all images came to together.

    Attributes
    ----------
    fractions : tuple of Fractions
    sizes : PooledSizes or None
        None where nothing was measured, or not yet pooled.
    weighting : {"number", "area"}
        Of the sizes.
    notes : tuple of str
        What is to be said of them.
    files : dict of str to Path
        Tables and figures by what they hold, in the folder of the page.
    """

    fractions: tuple[Fractions, ...] = ()
    sizes: PooledSizes | None = None
    weighting: Weighting = "number"
    notes: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)


def totals_html(outcomes: Sequence[Outcome], totals: Totals, folder: Path, total: int | None) -> str:
    """Make the upper part of the page, below its heading.

    Parameters
    ----------
    outcomes : sequence of Outcome
    totals : Totals
    folder : Path
        Where the page will lie.
    total : int or None
        Files of the run in all, where it is not at its end.
    """
    so_far = ""
    if total is not None and total > len(outcomes):
        so_far = f"<p><strong>{len(outcomes)} of {total} images so far.</strong> Load the page again to see more.</p>"
    tables = {path.name: path for what, path in totals.files.items() if what not in FIGURES}
    return "\n".join(
        [
            so_far,
            f"<p>{_overview(outcomes)}</p>",
            *(f"<p>{escape(printable(note))}</p>" for note in totals.notes),
            links(tables, folder),
            '<div class="totals">\n<div>',
            *_fractions(totals.fractions),
            *_sizes(totals),
            "</div>",
            *_figures(totals.files, folder),
            "</div>",
        ]
    )


def links(files: Mapping[str, Path], folder: Path) -> str:
    """Links to files by what is written for them."""
    found = [f'<a href="{link(path, folder)}">{escape(what)}</a>' for what, path in files.items()]
    return f'<div class="links">{"".join(found)}</div>' if found else ""


def link(path: Path, folder: Path) -> str:
    """Relative link; what a URL cannot hold is written as %XX, so that no character of it is special in HTML either."""
    return quote(os.path.relpath(path, folder).replace(os.sep, "/"), errors="surrogateescape")


def counted(n: int, what: str) -> str:
    """Write how many there are.

    Examples
    --------
    >>> counted(1, "object"), counted(1234, "object")
    ('1 object', '1,234 objects')
    """
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _overview(outcomes: Iterable[Outcome]) -> str:
    states = [outcome.state for outcome in outcomes]
    records = [outcome.record for outcome in outcomes]
    if not states:
        return "No image was found."
    parts = [
        f"{states.count(state):,} {words}" for state, words in STATES.items() if state in states and state != "failed"
    ]
    failed = states.count("failed")
    parts.append(f'<strong class="bad">{failed:,} failed</strong>' if failed else "none failed")
    about = [f"{counted(len(states), 'image')}: {', '.join(parts)}"]
    objects = [int(record["objects"]["n"]) for record in records if "n" in (record.get("objects") or {})]
    if objects:
        about.append(counted(sum(objects), "object"))
    models = dict.fromkeys(str((record.get("model") or {}).get("name") or "") for record in records)
    names = ", ".join(name for name in models if name)
    if names:
        about.append(f"model {escape(printable(names))}")
    return " · ".join(about)


def _fractions(groups: Iterable[Fractions]) -> Iterator[str]:
    for group in groups:
        rows = []
        for row in group.table.to_dict("records"):
            low, high = 100 * row["ci95_low"], 100 * row["ci95_high"]
            between = f"{number(low)} to {number(high)} %" if low == low else "-"
            rows.append([str(row["class"]), f"{number(100 * row['fraction'])} %", between])
        fields = counted(int(group.table["fields"].max()), "field")
        yield _table(f"Phase fractions of {fields}", ["class", "area fraction", "95 % interval"], rows)


def _sizes(totals: Totals) -> Iterator[str]:
    for groups in ({} if totals.sizes is None else totals.sizes.groups).values():
        one = next(iter(groups.values()))
        rows = [
            [
                name,
                f"{sizes.values.size:,} of {sizes.n_seen:,}",
                *(number(sizes.quantile(share, totals.weighting)) for share in (0.1, 0.5, 0.9)),
            ]
            for name, sizes in groups.items()
        ]
        quantity = one.quantity.replace("_", " ").capitalize()
        heading = f"{quantity} by {totals.weighting}, in {UNITS[one.unit]}"
        yield _table(heading, ["", "counted", "D10", "D50", "D90"], rows, f"Edge: {one.edge}.")


def _table(heading: str, columns: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' if name else "<td></td>" for name in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(printable(row[0]))}</th>'
        + "".join(f"<td>{escape(value)}</td>" for value in row[1:])
        + "</tr>"
        for row in rows
    )
    below = f'<p class="soft">{escape(note)}</p>' if note else ""
    return (
        f"<section><h2>{escape(heading)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"{below}</section>"
    )


def _figures(files: Mapping[str, Path], folder: Path) -> Iterator[str]:
    for what, words in FIGURES.items():
        if what in files:
            url = link(files[what], folder)
            yield f'<section><h2>{words}</h2><a href="{url}"><img src="{url}" alt="{words}"></a></section>'

"""What a whole run came to: tables of all images and all objects, totals, figures, and a page to skim it all."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from napari_matseg.core.export import make_folder, write_json
from napari_matseg.core.figures.plot import save_plot
from napari_matseg.core.provenance import describe_run
from napari_matseg.running.image_table import image_table
from napari_matseg.running.index_page import write_page
from napari_matseg.running.index_totals import Totals
from napari_matseg.running.tables import join_tables, printable, write_tables
from napari_matseg.running.totals import ALL, pool_fractions, pool_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_matseg.core.figures.plot import Plot
    from napari_matseg.core.measure.sizes import Weighting
    from napari_matseg.running.states import Outcome
    from napari_matseg.running.tables import TableKind
    from napari_matseg.running.totals import Fractions, PooledSizes
    from napari_matseg.settings.recipe import Recipe

SUFFIXES: dict[TableKind, str] = {"csv": "", "parquet": " parquet"}
"""What follows "objects" or "images" in the names of files, as in `Outcome.files`."""
SIZES_FIGURES = {"nm": "sizes.svg", "px": "sizes_px.svg"}


def write_summary(outcomes: Sequence[Outcome], recipe: Recipe, out: Path) -> dict[str, Path]:
    """Write what the outcomes of a run came to, into its folder; each file whole or not at all.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Of all sources of the run; what was kept from earlier runs counts like what was made in this one.
    recipe : Recipe
    out : Path
        Folder of the run, made if it is missing.

    Returns
    -------
    dict
        Files by what they hold: `images` and `objects` (and `images parquet`, `objects parquet`, as the recipe asks);
        `sizes figure`, `sizes figure px` and `fractions figure` where there is something to draw; `summary`; and
        `index`, the page.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    make_folder(out)
    complete = [outcome for outcome in outcomes if outcome.state != "failed"]
    kinds = recipe.outputs.tables
    parts: dict[str, dict[str, Path]] = {
        kind: {one.source.name: one.files[f"objects{more}"] for one in complete if f"objects{more}" in one.files}
        for kind, more in SUFFIXES.items()
    }
    files: dict[str, Path] = {}
    notes: list[str] = []
    for kind in kinds:
        if parts[kind]:
            path = files[f"objects{SUFFIXES[kind]}"] = out / f"objects.{kind}"
            notes += join_tables(parts[kind], path)
    fractions = pool_fractions(complete)
    sizes = None
    if recipe.measure is not None:
        sizes = pool_sizes(complete, parts["csv"] | parts["parquet"], recipe.measure)
        notes += sizes.notes
        if not kinds:
            notes.append("The recipe asks for no tables, so the sizes of all images were not put together.")
    if len(fractions) > 1:
        notes.append("Not all images have the same classes: the fractions of each set of classes are apart.")
    images = write_tables(out / "images", image_table(outcomes, {} if sizes is None else sizes.of_field), kinds)
    files |= {f"images{SUFFIXES[kind]}": images[kind] for kind in kinds}
    weighting: Weighting = "number" if recipe.measure is None else recipe.measure.weighting
    for what, (name, plot) in _plots(fractions, sizes, weighting).items():
        files[what], _ = save_plot(plot, out / name)
    path = files["summary"] = out / "summary.json"
    totals = Totals(tuple(fractions), sizes, weighting, tuple(dict.fromkeys(notes)), dict(files))
    files["index"] = out / "index.html"
    names = {what: file.name for what, file in files.items()}
    before = _written_before(path)
    write_json(path, _summary(outcomes, recipe, totals) | {"files": names})
    write_page(files["index"], outcomes, _title(recipe, out), totals)
    # What an earlier run with another recipe left would contradict this one.
    for name in before - set(names.values()):
        for old in {out / name, (out / name).with_suffix(".csv")} if name.endswith(".svg") else {out / name}:
            with suppress(OSError):
                old.unlink()
    return files


def write_index(outcomes: Sequence[Outcome], recipe: Recipe, out: Path, *, total: int | None = None) -> Path:
    """Write the page alone, of what has ended so far, while a run goes on: it reads no tables and takes moments.

    Parameters
    ----------
    outcomes : sequence of Outcome
    recipe : Recipe
    out : Path
        Folder of the run, made if it is missing.
    total : int, optional
        Files of the run in all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    make_folder(out)
    path = out / "index.html"
    fractions = pool_fractions([outcome for outcome in outcomes if outcome.state != "failed"])
    write_page(path, outcomes, _title(recipe, out), Totals(tuple(fractions)), total=total)
    return path


def hash_recipe(recipe: Recipe) -> str:
    """Sha256 of all settings of a recipe that have a part in its results."""
    used = recipe.used()
    used.pop("name", None)
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()


def _title(recipe: Recipe, out: Path) -> str:
    return printable(recipe.name or out.resolve().name)


def _plots(
    fractions: Sequence[Fractions], sizes: PooledSizes | None, weighting: Weighting
) -> dict[str, tuple[str, Plot]]:
    """Figures with the names of their files, by what they show."""
    from napari_matseg.core.figures.fractions import fractions_figure
    from napari_matseg.core.figures.sizes import size_figure

    plots: dict[str, tuple[str, Plot]] = {}
    for unit, groups in ({} if sizes is None else sizes.groups).items():
        # Of all classes together only where there is but one: each has its own curve else.
        drawn = {name: one for name, one in groups.items() if name != ALL} or groups
        if any(one.values.size for one in drawn.values()):
            what = "sizes figure" if unit == "nm" else "sizes figure px"
            plots[what] = SIZES_FIGURES[unit], size_figure(list(drawn.values()), list(drawn), by=weighting)
    if fractions:
        plots["fractions figure"] = "fractions.svg", fractions_figure(fractions[0].table, fractions[0].classes)
    return plots


def _summary(outcomes: Sequence[Outcome], recipe: Recipe, totals: Totals) -> dict[str, Any]:
    states = [outcome.state for outcome in outcomes]
    complete = [outcome.record for outcome in outcomes if outcome.state != "failed"]
    known = [record["objects"]["n"] for record in complete if (record.get("objects") or {}).get("n") is not None]
    models: dict[tuple[Any, Any], int] = {}
    versions: dict[str, int] = {}
    for record in complete:
        model = record.get("model") or {}
        key = model.get("name"), model.get("weights_sha256")
        models[key] = models.get(key, 0) + 1
        version = (record.get("versions") or {}).get("napari-matseg", "unknown")
        versions[version] = versions.get(version, 0) + 1
    sizes = {} if totals.sizes is None else totals.sizes.groups
    return {
        "format": 1,
        "job": "run",
        "recipe": recipe.used(),
        "recipe_sha256": hash_recipe(recipe),
        "counts": {"files": len(states), **{state: states.count(state) for state in ("done", "kept", "failed")}},
        "failed": [
            {"file": outcome.source.name, "image": str(outcome.source.path), "reason": outcome.reason}
            for outcome in outcomes
            if outcome.state == "failed"
        ],
        "objects": sum(known) if known else None,
        "fractions": [
            {
                "pixels": dict(zip((spec.name for spec in one.classes), one.pixels.tolist(), strict=True)),
                "pooled": one.table.to_dict("records"),
            }
            for one in totals.fractions
        ],
        "sizes": [
            {"of": name, "unit": unit, **one.summary(totals.weighting)}
            for unit, groups in sizes.items()
            for name, one in groups.items()
        ],
        "notes": list(totals.notes),
        "seconds": round(sum(outcome.seconds for outcome in outcomes if outcome.state != "kept"), 3),
        "models": [{"name": name, "weights_sha256": sha, "files": n} for (name, sha), n in models.items()],
        "made_with": versions,
        **describe_run(),
    }


def _written_before(path: Path) -> set[str]:
    """Names of the files that the summary before this one tells of, all beside it; none if it cannot be read."""
    try:
        found = set(json.loads(path.read_text(encoding="utf-8"))["files"].values())
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return set()
    ours = {f"{table}.{kind}" for table in ("objects", "images") for kind in SUFFIXES}
    return found & (ours | {*SIZES_FIGURES.values(), "fractions.svg"})

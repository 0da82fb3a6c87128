"""What was measured, as files: tables, figures, and a page to read."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.export import make_folder, write_csv, write_json, write_rows
from napari_matseg.core.figures.plot import save_plot
from napari_matseg.core.large.rows import plane_of
from napari_matseg.core.read import as_micrograph
from napari_matseg.measuring import size_rows, sizes_of
from napari_matseg.settings import MeasureSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pandas import DataFrame

    from napari_matseg.core.figures.plot import Plot
    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.measuring import Measured

ROWS = 10_000
"""Of a table that are written together: as Python's own numbers they take many times the room."""
PLOTTED = {"size": "Size distribution", "fraction": "Phase fractions"}
ENDINGS = ("_measurements.csv", "_sizes.csv", "_spacing.csv", "_fractions.csv", "_measured.json")


def save_measured(
    measured: Measured, folder: str | Path, stem: str, settings: MeasureSettings | None = None
) -> dict[str, Path]:
    """Write tables and record.

    Parameters
    ----------
    measured : Measured
    folder : path
        Made if it is missing.
    stem : str
        What the names of the files begin with.
    settings : MeasureSettings, optional

    Returns
    -------
    dict
        Files by what they hold: `measurements`, `sizes`, `spacing`, `fractions` where there are classes, and `record`.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    folder = Path(folder)
    make_folder(folder)
    files = {
        what: folder / f"{stem}{ending}"
        for what, ending in zip(("measurements", "sizes", "spacing", "fractions", "record"), ENDINGS, strict=True)
    }
    write_table(files["measurements"], measured.table)
    write_csv(files["sizes"], size_rows(measured, settings))
    write_csv(files["spacing"], [row for field in measured.fields for row in field.spacing])
    fractions = measured.fractions()
    if fractions is None:
        del files["fractions"]
    else:
        write_table(files["fractions"], fractions)
    write_json(files["record"], measured.record | {"outputs": {what: str(path) for what, path in files.items()}})
    return files


def save_figures(
    measured: Measured, folder: str | Path, stem: str, settings: MeasureSettings | None = None
) -> dict[str, Path]:
    """Draw size distribution and phase fractions, as SVG with their data as CSV beside it.

    Returns
    -------
    dict
        Files by what they show: `size figure`, and `fraction figure` where there are classes.

    Raises
    ------
    InputError
        If sizes of different units would come together.
    OutputError
        If a file cannot be written.
    """
    folder = Path(folder)
    make_folder(folder)
    files: dict[str, Path] = {}
    for what, plot in plots_of(measured, settings).items():
        files[f"{what} figure"], _ = save_plot(plot, folder / f"{stem}_{what}_figure.svg")
    return files


def plots_of(measured: Measured, settings: MeasureSettings | None = None) -> dict[str, Plot]:
    """Figures of what was measured, by what they show: `size`, and `fraction` where there are classes."""
    from napari_matseg.core.figures.fractions import fractions_figure
    from napari_matseg.core.figures.sizes import size_figure

    settings = settings or MeasureSettings()
    by_class = measured.fields[0].classes[1:]
    groups = sizes_of(measured, settings, "class" if len(by_class) > 1 else "all")
    name = measured.fields[0].name if len(measured.fields) == 1 else f"{len(measured.fields)} fields"
    names = [Path(name).stem if group == "all" else group for group in groups]
    plots = {"size": size_figure(list(groups.values()), names, by=settings.weighting)}
    fractions = measured.fractions()
    if fractions is not None:
        plots["fraction"] = fractions_figure(fractions, measured.fields[0].classes)
    return plots


def save_report(
    measured: Measured,
    folder: str | Path,
    stem: str,
    labels: str | Path | np.ndarray | Micrograph,
    image: str | Path | np.ndarray | Micrograph | None = None,
    settings: MeasureSettings | None = None,
    *,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Path]:
    """Write a page for the first plane: image, overlay, tables, figures, and what was done.

    Parameters
    ----------
    measured : Measured
    folder, stem
        Where to, and what the name of the file begins with.
    labels, image
        What `measure_steps` was given.
    settings : MeasureSettings, optional
    more : mapping, optional
        Further tables by their headings.

    Returns
    -------
    dict
        The file, as `report`.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from napari_matseg.core.report import write_report

    settings = settings or MeasureSettings()
    folder = Path(folder)
    make_folder(folder)
    path = folder / f"{stem}_report.html"
    drawn, seen = as_micrograph(labels, find_bar=False), None if image is None else as_micrograph(image)
    field = measured.fields[0]
    labels_yx = plane_of(drawn)
    tables: dict[str, Any] = {
        f"Sizes of {row['name']}" if row["of"] == "class" else "Sizes": {
            name: value for name, value in row.items() if name not in ("of", "name")
        }
        for row in size_rows(measured, settings)
        if row["of"] != "all"
    }
    fractions = measured.fractions()
    if fractions is not None:
        tables["Phase fractions"] = fractions
    write_report(
        path,
        stem,
        np.broadcast_to(np.uint8(0), labels_yx.shape) if seen is None else plane_of(seen),
        labels_yx,
        classes=field.classes or None,
        pixel_size_nm=field.pixel_size_nm,
        data_bar=None if seen is None else seen.data_bar,
        tables={**tables, **(more or {})},
        plots={PLOTTED[what]: plot for what, plot in plots_of(measured, settings).items()},
        objects=measured.table,
        objects_file=f"{stem}{ENDINGS[0]}",
        record=measured.record,
    )
    return {"report": path}


def write_table(path: Path, table: DataFrame) -> None:
    """Write a table as CSV, with its header even where there are no rows.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    parts = (rows_of(table.iloc[first : first + ROWS]) for first in range(0, len(table), ROWS))
    write_rows(path, chain.from_iterable(parts), [str(name) for name in table.columns])


def rows_of(table: DataFrame) -> list[dict[str, Any]]:
    """Rows of a table, by the names of its columns."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]

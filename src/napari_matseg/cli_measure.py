"""The commands about numbers: sizes of objects, phase fractions, grain size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from napari_matseg.errors import InputError, MatsegError, SettingsError
from napari_matseg.settings import MeasureSettings, explain
from napari_matseg.terminal import show, table_lines, warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_matseg.core.measure.grains import GrainSize
    from napari_matseg.measuring import Measured
    from napari_matseg.settings import ClassSpec

DEFAULTS = MeasureSettings()
ALL = "all"  # what the files of several images together begin with

LabelsArgument = Annotated[
    list[Path], typer.Argument(metavar="LABELS", help="Labels, such as STEM_labels.tif; ids of objects or of classes.")
]
PixelSizeOption = Annotated[
    float | None, typer.Option(help="Pixel size in nm, where the file does not state it or is wrong.", min=1e-9)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(measure)
    app.command()(grains)


def measure(
    labels: LabelsArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the tables; made if it is missing.")],
    image: Annotated[
        list[Path] | None,
        typer.Option(help="Micrographs, for intensities: once per file of labels in the same order, or one folder."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model whose classes the labels are, if they do not say.")
    ] = None,
    objects: Annotated[bool, typer.Option("--objects", help="The labels are objects, whatever they say.")] = False,
    pixel_size: PixelSizeOption = None,
    quantity: Annotated[
        str,
        typer.Option(help="diameter, feret_max, feret_min, major_axis, minor_axis, perimeter or area."),
    ] = DEFAULTS.quantity,
    weighting: Annotated[str, typer.Option(help="number or area.")] = DEFAULTS.weighting,
    edge: Annotated[
        str, typer.Option(help="About objects at the edge: miles-lantuejoul, guard, drop or keep.")
    ] = DEFAULTS.edge,
    guard_px: Annotated[float | None, typer.Option(help="Width of the guard in pixels.")] = DEFAULTS.guard_px,
    min_area_px: Annotated[int, typer.Option(help="Least number of pixels of an object.")] = DEFAULTS.min_area_px,
    keep_data_bar: Annotated[
        bool, typer.Option("--keep-data-bar", help="Measure what lies in the instrument's data bar, too.")
    ] = not DEFAULTS.exclude_data_bar,
    figures: Annotated[bool, typer.Option("--figures", help="Draw size distribution and fractions as SVG.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Write a page for each image as HTML.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure objects and phases: a table of objects, size distributions, phase fractions."""
    from napari_matseg.batch import match
    from napari_matseg.measuring import measure_steps, save_figures, save_measured, save_report

    settings = _settings(
        quantity=quantity,
        weighting=weighting,
        edge=edge,
        guard_px=guard_px,
        min_area_px=min_area_px,
        exclude_data_bar=not keep_data_bar,
    )
    images = match(labels, image)
    _check_names(labels)
    size = None if pixel_size is None else (pixel_size, pixel_size)
    done: list[Measured] = []
    for path, of in zip(labels, images, strict=True):
        try:
            found = show(
                measure_steps(path, of, settings, classes=_classes(model, objects=objects), pixel_size_nm=size),
                path.name,
            )
            files = save_measured(found, out, path.stem, settings)
            if figures:
                files |= save_figures(found, out, path.stem, settings)
            if report:
                files |= save_report(found, out, path.stem, path, of, settings)
        except MatsegError as error:
            if len(labels) == 1:
                raise
            warn(error)
            continue
        done.append(found)
        if not as_json:
            print(f"{path} -> {files['measurements']}")
    if done:
        together = done[0] if len(done) == 1 else _together(done, out, settings, figures=figures)
        _report(together, settings, as_json=as_json)
    if len(done) < len(labels):
        raise InputError(
            f"{len(labels) - len(done)} of {len(labels)} files failed, for the reasons above; the others are done."
        )


def grains(
    labels: LabelsArgument,
    method: Annotated[str, typer.Option(help="planimetric, intercept or both.")] = "both",
    boundary: Annotated[
        str | None, typer.Option(help="Class of the labels, by name or number, that is grain boundary.")
    ] = None,
    pixel_size: PixelSizeOption = None,
    csv: Annotated[Path | None, typer.Option(help="File to save the table to.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Give the ASTM E112 grain size number, each file being a field of one specimen."""
    from napari_matseg.core.export import write_csv
    from napari_matseg.core.measure.grains import intercept, planimetric
    from napari_matseg.measuring import read_grains

    methods = {"planimetric": (planimetric,), "intercept": (intercept,), "both": (planimetric, intercept)}
    if method not in methods:
        raise SettingsError(f"method: must be planimetric, intercept or both, not {method}.")
    size = None if pixel_size is None else (pixel_size, pixel_size)
    fields, size = read_grains(labels, boundary, size)
    found: list[GrainSize] = [measure(fields, size) for measure in methods[method]]
    rows = [one.to_dict() for one in found]
    if csv is not None:
        write_csv(csv, rows)
    if as_json:
        from napari_matseg.core.export import to_json

        print(to_json(rows))
        return
    print("\n".join(table_lines(rows)))


def _together(done: Sequence[Measured], out: Path, settings: MeasureSettings, *, figures: bool) -> Measured:
    """Tables of several images."""
    from napari_matseg.measuring import put_together, save_figures, save_measured

    together = put_together(done)
    save_measured(together, out, ALL, settings)
    if figures:
        save_figures(together, out, ALL, settings)
    return together


def _report(measured: Measured, settings: MeasureSettings, *, as_json: bool) -> None:
    """Print what all images came to."""
    from napari_matseg.core.export import to_json
    from napari_matseg.measuring import size_rows

    fractions = measured.fractions()
    sizes = size_rows(measured, settings)
    if as_json:
        print(to_json({"sizes": sizes, "fractions": None if fractions is None else fractions.to_dict("records")}))
        return
    short = [
        {key: value for key, value in row.items() if not key.startswith("lognormal") and key not in ("of", "weighting")}
        for row in sizes
    ]
    print("\n".join(table_lines(short)))
    if fractions is not None:
        print("\n".join(["", *table_lines(fractions.to_dict("records"))]))


def _classes(model: str | None, *, objects: bool) -> tuple[ClassSpec, ...] | None:
    from napari_matseg.core.checkpoints import read_card

    if objects:
        return ()
    return None if model is None else read_card(model).classes


def _check_names(labels: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in labels:
        if path.stem in seen or (len(labels) > 1 and path.stem == ALL):
            raise SettingsError(
                f"{seen.get(path.stem, path)} and {path if path.stem in seen else 'the table of all'} would both give "
                f"{path.stem}_measurements.csv; measure them into different folders."
            )
        seen[path.stem] = path


def _settings(**given: Any) -> MeasureSettings:
    try:
        return MeasureSettings(**given)
    except ValidationError as error:
        raise SettingsError(explain(error)) from error

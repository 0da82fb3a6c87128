"""The commands about numbers: sizes of objects, phase fractions, grain size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_matseg.errors import InputError, MatsegError, SettingsError
from napari_matseg.settings import EvaluateSettings, MeasureSettings, make_settings
from napari_matseg.terminal import show, table_lines, warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_matseg.core.measure.grains import GrainSize
    from napari_matseg.core.metrics import Counts
    from napari_matseg.measuring import Measured
    from napari_matseg.settings import ClassSpec

DEFAULTS, COMPARE = MeasureSettings(), EvaluateSettings()
OBJECT_FILES, CLASS_FILES = ("instances", "labels", ""), ("labels", "")  # of what a segmentation wrote
ALL = "all"  # what the files of several images together begin with

LabelsArgument = Annotated[
    list[Path], typer.Argument(metavar="LABELS", help="Labels, such as STEM_labels.tif; ids of objects or of classes.")
]
PixelSizeOption = Annotated[
    float | None, typer.Option(help="Pixel size in nm, where the file does not state it or is wrong.", min=1e-9)
]
QuantityOption = Annotated[
    str, typer.Option(help="Of sizes: diameter, feret_max, feret_min, major_axis, minor_axis, perimeter or area.")
]
WeightingOption = Annotated[str, typer.Option(help="Of sizes: number or area.")]
EdgeOption = Annotated[str, typer.Option(help="About objects at the edge: miles-lantuejoul, guard, drop or keep.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(evaluate)
    app.command()(measure)
    app.command()(grains)


def evaluate(
    prediction: Annotated[
        Path, typer.Argument(metavar="PRED", help="Labels, such as STEM_labels.tif, or a folder of them.")
    ],
    truth: Annotated[
        Path,
        typer.Argument(metavar="TRUTH", help="Ground truth (class ids, masks, colours, ROIs, COCO), or a folder."),
    ],
    objects: Annotated[
        bool, typer.Option("--objects", help="Compare objects one by one, not classes pixel by pixel.")
    ] = COMPARE.objects,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model whose classes these are, if PRED does not say.")
    ] = None,
    truth_map: Annotated[
        str | None,
        typer.Option(help="What the values of the truth mean, such as '0=matrix,#0000ff=secondary precipitate'."),
    ] = None,
    tolerance_px: Annotated[
        float, typer.Option(help="How far two boundaries may lie apart to be the same one, in pixels.")
    ] = COMPARE.tolerance_px,
    quantity: QuantityOption = DEFAULTS.quantity,
    weighting: WeightingOption = DEFAULTS.weighting,
    edge: EdgeOption = DEFAULTS.edge,
    pixel_size: PixelSizeOption = None,
    csv: Annotated[Path | None, typer.Option(help="File to save the table of classes or objects to.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to save all tables to.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare labels with ground truth: classes by IoU, Dice and boundaries, or objects one by one."""
    from napari_matseg.comparing import ObjectComparison, compare_steps, save_comparison
    from napari_matseg.core.evaluate import classes_of
    from napari_matseg.core.export import to_json, write_csv
    from napari_matseg.core.image_pairs import is_folder, match_files
    from napari_matseg.core.truth import parse_mapping

    settings = make_settings(EvaluateSettings, objects=objects, tolerance_px=tolerance_px)
    sizes = make_settings(MeasureSettings, quantity=quantity, weighting=weighting, edge=edge)
    pairs = [(prediction, truth)]
    if is_folder(prediction) or is_folder(truth):
        pairs = match_files(prediction, truth, prefer=OBJECT_FILES if objects else CLASS_FILES)
    classes = None
    if not objects and (model is not None or truth_map is not None):
        classes = classes_of(*pairs[0], model)
    mapping = None if truth_map is None or classes is None else parse_mapping(truth_map, classes)
    size = None if pixel_size is None else (pixel_size, pixel_size)
    work = compare_steps(pairs, settings, classes=classes, mapping=mapping, measure=sizes, pixel_size_nm=size)
    compared = show(work, prediction.name)
    for note in compared.notes:
        warn(note)
    tables = compared.tables()
    if csv is not None:
        write_csv(csv, tables["objects" if objects else "classes"])
    if out is not None:
        save_comparison(compared, out, prediction.stem)
    if as_json:
        print(to_json(compared.to_dict()))
        return
    if isinstance(compared, ObjectComparison):
        _print_objects(tables)
    else:
        print_scores(compared.scores.counts, compared.class_names, as_json=False)
        _print_boundaries(tables)
    if len(compared.images) > 1:
        print("\n" + "\n".join(table_lines(_short(tables["overall"], "figure", "value", "low", "high"))))
        print(f"{len(compared.images)} images; low and high are 95 % confidence limits over images.")


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
    quantity: QuantityOption = DEFAULTS.quantity,
    weighting: WeightingOption = DEFAULTS.weighting,
    edge: EdgeOption = DEFAULTS.edge,
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
    from napari_matseg.measuring import measure_steps
    from napari_matseg.reporting import save_figures, save_measured, save_report

    settings = make_settings(
        MeasureSettings,
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
    from napari_matseg.core.measure.grain_files import read_grains_steps
    from napari_matseg.core.measure.grains import intercept, planimetric

    methods = {"planimetric": (planimetric,), "intercept": (intercept,), "both": (planimetric, intercept)}
    if method not in methods:
        raise SettingsError(f"method: must be planimetric, intercept or both, not {method}.")
    size = None if pixel_size is None else (pixel_size, pixel_size)
    fields, size = show(read_grains_steps(labels, boundary, size), labels[0].name)
    found: list[GrainSize] = [measure(fields, size) for measure in methods[method]]
    rows = [one.to_dict() for one in found]
    if csv is not None:
        write_csv(csv, rows)
    if as_json:
        from napari_matseg.core.export import to_json

        print(to_json(rows))
        return
    shown = ("method", "grain_size_g", "ci95_low", "ci95_high", "relative_accuracy_percent", "mean_diameter_um")
    print("\n".join(table_lines(_short(rows, *shown, "mean_intercept_um", "fields", "interval"))))


def print_scores(counts: Counts, names: Sequence[str], as_json: bool, more: dict[str, Any] | None = None) -> None:
    """Print scores as a table or as JSON."""
    from napari_matseg.core.metrics import Scores

    scores = Scores(counts)
    more = more or {}
    if as_json:
        print(json.dumps(scores.to_dict(names) | more, indent=2))
        return

    def cell(value: Any) -> str:
        return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)

    rows = scores.rows(names)
    width = max(len(str(row["class"])) for row in rows) + 2
    print("class".ljust(width) + "".join(key.rjust(18) for key in rows[0] if key != "class"))
    for row in rows:
        print(str(row["class"]).ljust(width) + "".join(cell(v).rjust(18) for k, v in row.items() if k != "class"))
    print(f"pooled IoU {scores.pooled_iou:.4f}, pixel accuracy {scores.accuracy:.4f}")
    for name, value in more.get("iou_per_image", {}).items():
        print(f"IoU of {name}, mean over the images: {cell(value)}")


def _print_objects(tables: dict[str, list[dict[str, Any]]]) -> None:
    columns = "threshold", "ap", "f1", "precision", "recall", "panoptic_quality", "mean_matched_iou"
    print("\n".join(table_lines(_short(tables["objects"], *columns, "matched", "missed", "false"))))
    print("\n" + "\n".join(table_lines(tables["sizes"])))
    figures = {row["figure"]: row["value"] for row in tables["overall"]}
    print(
        f"\n{figures['objects predicted']} objects predicted, {figures['objects in the truth']} in the truth, of which "
        f"{figures['truth objects split']} are split; {figures['predicted objects that merge several']} predicted "
        "objects merge several."
    )


def _print_boundaries(tables: dict[str, list[dict[str, Any]]]) -> None:
    rows = _short(tables["classes"][:-1], "class", "boundary_f1", "hausdorff95_px", "hausdorff95_nm")
    if all(row["hausdorff95_nm"] is None for row in rows):
        rows = [{key: value for key, value in row.items() if key != "hausdorff95_nm"} for row in rows]
    fractions = [{key: value for key, value in row.items() if key != "class"} for row in tables["fractions"]]
    lines = [{**row, **fraction} for row, fraction in zip(rows, fractions, strict=True)]
    named = {"predicted": "fraction", "true": "true_fraction"}
    print("\n" + "\n".join(table_lines([{named.get(k, k): v for k, v in line.items()} for line in lines])))


def _short(rows: Sequence[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{name: row.get(name) for name in names} for row in rows]


def _together(done: Sequence[Measured], out: Path, settings: MeasureSettings, *, figures: bool) -> Measured:
    """Tables of several images."""
    from napari_matseg.measuring import put_together
    from napari_matseg.reporting import save_figures, save_measured

    together = put_together(done)
    save_measured(together, out, ALL, settings)
    if figures:
        save_figures(together, out, ALL, settings)
    return together


def _report(measured: Measured, settings: MeasureSettings, *, as_json: bool) -> None:
    """Print what all images came to."""
    from napari_matseg.core.export import to_json
    from napari_matseg.measuring import size_rows
    from napari_matseg.reporting import rows_of

    fractions = measured.fractions()
    sizes = size_rows(measured, settings)
    if as_json:
        print(to_json({"sizes": sizes, "fractions": None if fractions is None else rows_of(fractions)}))
        return
    short = [
        {key: value for key, value in row.items() if not key.startswith("lognormal") and key not in ("of", "weighting")}
        for row in sizes
    ]
    print("\n".join(table_lines(short)))
    if fractions is not None:
        print("\n".join(["", *table_lines(rows_of(fractions))]))


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

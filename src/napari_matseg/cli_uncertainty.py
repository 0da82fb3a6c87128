"""The command about what to label next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_matseg.errors import InputError
from napari_matseg.settings import SegmentSettings, UncertaintySettings, make_settings
from napari_matseg.terminal import show, table_lines

DEFAULTS, SEGMENT = UncertaintySettings(), SegmentSettings()


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(uncertainty)


def uncertainty(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE|FOLDER", help="Micrographs, or folders of them.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Name of a model, or a model file; several of the same classes: ensemble."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if it is missing.")] = Path(),
    measure: Annotated[str, typer.Option(help="entropy, mutual_information or margin.")] = DEFAULTS.measure,
    views: Annotated[int, typer.Option(help="How often each model is asked, 1 to 8.")] = DEFAULTS.views,
    places: Annotated[int, typer.Option(help="How many places to label next, at most.")] = DEFAULTS.places,
    place_px: Annotated[int | None, typer.Option(help="Side of such a place in pixels.")] = DEFAULTS.place_px,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = SEGMENT.device,
    keep_data_bar: Annotated[
        bool, typer.Option("--keep-data-bar", help="Do not leave out the instrument's data bar.")
    ] = not SEGMENT.exclude_data_bar,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Show where a model is unsure, and which image and place to label next."""
    from napari_matseg.core.export import to_json
    from napari_matseg.core.image_pairs import find_images
    from napari_matseg.labelling import label_next

    chosen = model or [SEGMENT.model]
    segment = make_settings(SegmentSettings, model=chosen[0], device=device, exclude_data_bar=not keep_data_bar)
    settings = make_settings(
        UncertaintySettings,
        segment=segment,
        others=tuple(chosen[1:]),
        measure=measure,
        views=views,
        places=places,
        place_px=place_px,
    )
    files = [image for given in images for image in find_images(given)]
    ranked = show(label_next(files, settings, out), "uncertainty")
    print(to_json({"images": ranked}) if as_json else "\n".join(table_lines(ranked)))
    failed = [row for row in ranked if row["failed"] is not None]
    if len(failed) == len(ranked) == 1:
        raise InputError(failed[0]["failed"])
    if failed:
        raise InputError(f"{len(failed)} of {len(ranked)} images failed, for the reasons above; the others are done.")

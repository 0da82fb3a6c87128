"""Arguments of the command line, and what it prints."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from napari_matseg import (
    __version__,
    cli_convert,
    cli_export,
    cli_measure,
    cli_points,
    cli_run,
    cli_samples,
    cli_train,
    cli_uncertainty,
    cli_weights,
)
from napari_matseg.errors import InputError, MatsegError, SettingsError
from napari_matseg.settings import SegmentSettings
from napari_matseg.terminal import one_line, show, warn

if TYPE_CHECKING:
    from napari_matseg.batch import Batch

MISTAKE, INTERRUPTED = 2, 130
DEFAULTS = SegmentSettings()

app = typer.Typer(
    help="Segment micrographs of materials with neural networks. Run a command with --help to see what it takes.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Name of a model (see `napari-matseg models`), or a model file.")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if it is missing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
MappingOption = Annotated[
    str | None,
    typer.Option(help="What the values of the truth mean, such as '0=matrix,#0000ff=secondary precipitate'."),
]


def main() -> NoReturn:
    """Run the command line: exit status 0 on success, 2 and one line on a user's mistake."""
    try:
        status = app(prog_name="napari-matseg", standalone_mode=False) or 0
        sys.stdout.flush()
    except TyperException as error:
        _fail(f"{error.format_message().rstrip('.')}. See napari-matseg --help.")
    except MatsegError as error:
        _fail(error)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough; Python would try once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1  # as typer ends, where output is not buffered
    if status == INTERRUPTED:
        print("stopped.", file=sys.stderr)
    sys.exit(status)


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version or context.invoked_subcommand is None:
        print(__version__ if version else context.get_help())
        raise typer.Exit


@app.command()
def demo(
    out: OutOption = Path("napari-matseg-demo"),
    model: ModelOption = "particles",
    seed: Annotated[int, typer.Option(min=0, help="Another number gives another micrograph.")] = 0,
    gui: Annotated[bool, typer.Option("--gui", help="Open the result in napari.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Segment a synthetic micrograph with a shipped model, and compare the result with the truth."""
    from napari_matseg.batch import Batch
    from napari_matseg.core.export import make_folder
    from napari_matseg.core.synthetic import write_demo

    if model not in ("particles", "superalloy"):
        raise SettingsError(f"there is a demo for particles and for superalloy, not for {model}.")
    make_folder(out)
    image, truth = write_demo(out / f"{model}.tif", "superalloy" if model == "superalloy" else "particles", seed)
    batch = Batch(DEFAULTS.model_copy(update={"model": model}), out)
    done = show(batch.steps(image, truth), image.name)
    _report(batch, as_json)
    if gui:
        import napari

        from napari_matseg._napari.demo import open_viewer

        open_viewer(done.micrograph, done.segmentation, None if done.truth is None else done.truth.labels_yx)
        napari.run()


@app.command()
def segment(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Micrographs.")],
    model: ModelOption = DEFAULTS.model,
    out: OutOption = Path(),
    truth: Annotated[
        list[Path] | None,
        typer.Option(help="Ground truth: once per image in the same order, or one folder with files of like names."),
    ] = None,
    truth_map: MappingOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = DEFAULTS.device,
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = DEFAULTS.precision,
    tiling: Annotated[str, typer.Option(help="auto, exact, blend or whole.")] = DEFAULTS.tiling,
    tile: Annotated[int | None, typer.Option(help="Side of the largest tile in pixels.")] = DEFAULTS.tile,
    batch: Annotated[int | None, typer.Option(help="Tiles per pass.")] = DEFAULTS.batch,
    instances: Annotated[
        bool, typer.Option("--instances", help="Also give every object an id of its own.")
    ] = DEFAULTS.instances,
    keep_data_bar: Annotated[
        bool, typer.Option("--keep-data-bar", help="Segment the instrument's data bar, too.")
    ] = not DEFAULTS.exclude_data_bar,
    pixel_size: cli_points.PixelSizeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Segment micrographs: writes STEM_labels.tif, STEM_overlay.png and STEM_record.json for each."""
    from napari_matseg.batch import Batch, check_names, match
    from napari_matseg.core.truth import parse_mapping
    from napari_matseg.pipeline import change

    truths = match(images, truth)
    check_names(images, truths, out)
    settings = change(
        DEFAULTS,
        {
            "model": model,
            "device": device,
            "precision": precision,
            "tiling": tiling,
            "tile": tile,
            "batch": batch,
            "instances": instances,
            "exclude_data_bar": not keep_data_bar,
        },
    )
    job = Batch(settings, out, pixel_size)
    mapping = None if truth_map is None else parse_mapping(truth_map, job.model.card.classes)
    failed = 0
    for image, true in zip(images, truths, strict=True):
        try:
            done = show(job.steps(image, true, mapping), image.name)
        except MatsegError as error:
            if len(images) == 1:
                raise
            failed += 1
            print(one_line(error), file=sys.stderr)
            continue
        for warning in done.segmentation.record["warnings"]:
            warn(f"{image}: beware: {warning}")
        if done.truth is not None and done.truth.note is not None:
            print(done.truth.note, file=sys.stderr)
        elif done.truth is None and not as_json:
            shares = ", ".join(f"{name} {share:.1%}" for name, share in done.segmentation.record["fractions"].items())
            print(f"{image} -> {done.files['labels']}: {shares}")
    _report(job, as_json)
    if failed:
        raise InputError(f"{failed} of {len(images)} images failed, for the reasons above; the others are done.")


cli_train.add_to(app)


@app.command()
def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Model to describe; all are listed else.")
    ] = None,
    get: Annotated[str | None, typer.Option(help="Download a promptable model, such as vit_b.")] = None,
    tiling: Annotated[
        bool, typer.Option("--tiling", help="Say how the model takes a large image in tiles, and what that costs.")
    ] = False,
    size: Annotated[int, typer.Option(min=1, help="Height and width in pixels of the image for --tiling.")] = 4096,
    as_json: JsonOption = False,
) -> None:
    """List the models, describe one, or download one."""
    from napari_matseg.core.checkpoints import available, read_card, user_folder
    from napari_matseg.core.refine.files import find_refiner, read_refiner_card
    from napari_matseg.core.sam.weights import available_promptable, read_promptable_card
    from napari_matseg.core.sam.zoo import ZOO, fetch

    if get is not None:
        print(f"{show(fetch(get), get)}: ask with --model {get}")
        return
    if tiling:
        _print_tiling(name, size, as_json)
        return
    promptable = available_promptable()
    if name is not None:
        path = promptable.get(name)
        card = (path and read_promptable_card(path)) or None
        if card is None and name in ZOO:
            print(ZOO[name].describe(name))
            return
        described = card or read_card(name)
        refiner = find_refiner(name) if card is not None and card.layout.encoder == "compact" else None
        drawn_by = None if refiner is None else read_refiner_card(refiner)
        if as_json:
            more = {} if drawn_by is None else {"refiner": drawn_by.model_dump(mode="json")}
            print(json.dumps(described.model_dump(mode="json") | more, indent=2))
        else:
            print(
                described.to_markdown() if drawn_by is None else f"{described.to_markdown()}\n{drawn_by.to_markdown()}"
            )
        return
    cards: dict[str, Any] = {}
    lines = ["To segment with:"]
    for found, path in available().items():
        try:
            cards[found] = read_card(path)
            lines.append(f"  {found:22} {cards[found].description}")
        except MatsegError as error:  # a file that cannot be used does not hide the others
            print(one_line(error), file=sys.stderr)
    lines.append("To make masks of points with:")
    for found, path in promptable.items():
        try:
            card = None if path is None else read_promptable_card(path)
        except MatsegError as error:
            print(one_line(error), file=sys.stderr)
            continue
        if card is not None:
            cards[found] = card
        what = card.description if card else ZOO[found].purpose if found in ZOO else "checkpoint of your own"
        lines.append(f"  {found:22} {what}" + ("" if path else f" (not here; napari-matseg models --get {found})"))
    if as_json:
        print(json.dumps({found: card.model_dump(mode="json") for found, card in cards.items()}, indent=2))
        return
    lines.append(f"Model files that you put into {user_folder()} are listed here, too.")
    print("\n".join(lines))


@app.command()
def info(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Micrograph.")],
    as_json: JsonOption = False,
) -> None:
    """Print what is known of a micrograph: size, pixel size, data bar, instrument."""
    from napari_matseg.core.facts import facts
    from napari_matseg.core.read import read

    micrograph = read(image)
    if as_json:
        known = {"file": str(image), **micrograph.describe()}
        print(json.dumps(known | {"vendor": micrograph.vendor, "metadata": micrograph.metadata}, indent=2))
        return
    for title, value in [("File", str(image)), *facts(micrograph)]:
        print(f"{title:17} {value}")


cli_points.add_to(app)
cli_measure.add_to(app)
cli_run.add_to(app)
cli_convert.add_to(app)
cli_export.add_to(app)
cli_uncertainty.add_to(app)
cli_samples.add_to(app)
cli_weights.add_to(app)


def _report(batch: Batch, as_json: bool) -> None:
    """Print what all images came to."""
    if batch.counts is None:
        if as_json and batch.images:
            print(json.dumps({"images": batch.images}, indent=2))
        return
    more: dict[str, Any] = {}
    if as_json or len(batch.images) > 1:
        more["iou_per_image"] = batch.iou_per_image()
    if as_json:
        more["images"] = batch.images
    elif len(batch.images) == 1:
        print("\n".join(next(iter(batch.images.values()))["files"].values()))
    cli_measure.print_scores(batch.counts, batch.names, as_json, more)


def _print_tiling(name: str | None, size: int, as_json: bool) -> None:
    """Print how a model takes a square image of so many pixels."""
    from napari_matseg.core.checkpoints import load_model
    from napari_matseg.core.devices import choose_device
    from napari_matseg.core.staged.describe import describe_tiling, to_text

    if name is None:
        raise SettingsError("--tiling is asked of one model; name it, as in napari-matseg models particles --tiling.")
    device = choose_device(DEFAULTS.device)
    described = describe_tiling(load_model(name, str(device)), (size, size), DEFAULTS, device)
    print(json.dumps(described, indent=2) if as_json else to_text(described, (size, size)))


def _fail(message: object) -> NoReturn:
    print(one_line(message), file=sys.stderr)
    sys.exit(MISTAKE)

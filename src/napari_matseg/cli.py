"""Arguments of the command line, and what it prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from typer.exceptions import TyperException

from napari_matseg import __version__
from napari_matseg.errors import InputError, MatsegError, SettingsError
from napari_matseg.settings import SegmentSettings

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np

    from napari_matseg.core.checkpoints import Model
    from napari_matseg.core.metrics import Counts
    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.progress import Progress
    from napari_matseg.settings import ClassSpec

T = TypeVar("T")
MISTAKE = 2
TRUTH_ENDINGS = ("", "_mask", "_truth", "_label", "_labels", "_gt")
DEFAULTS = SegmentSettings()

app = typer.Typer(
    help="Segment micrographs of materials with neural networks. Run a command with --help to see what it takes.",
    no_args_is_help=True,
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
        status = app(standalone_mode=False)
    except TyperException as error:
        _fail(f"{error.format_message()} See napari-matseg --help.")
    except MatsegError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        sys.exit(0)
    sys.exit(status or 0)


@app.callback(invoke_without_command=True)
def _start(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def demo(
    out: OutOption = Path("napari-matseg-demo"),
    model: ModelOption = "particles",
    seed: Annotated[int, typer.Option(help="Another number gives another micrograph.")] = 0,
    gui: Annotated[bool, typer.Option("--gui", help="Open the result in napari.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Segment a synthetic micrograph with a shipped model, and compare the result with the truth."""
    from napari_matseg.core.export import make_folder
    from napari_matseg.core.synthetic import write_demo

    if model not in ("particles", "superalloy"):
        raise SettingsError(f"there is a demo for particles and for superalloy, not for {model}.")
    make_folder(out)
    image, truth = write_demo(out / f"{model}.tif", "superalloy" if model == "superalloy" else "particles", seed)
    job = _Job(DEFAULTS.model_copy(update={"model": model}), out)
    result, micrograph, _ = job.run(image)
    counts = job.compare(image, result.classes, truth, micrograph.content_mask(), None)
    job.report(counts, as_json)
    if gui:
        import napari

        from napari_matseg._napari.demo import open_viewer

        open_viewer(micrograph, result, job.truth_classes(truth))
        napari.run()


@app.command()
def segment(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Micrographs.")],
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
    as_json: JsonOption = False,
) -> None:
    """Segment micrographs: writes STEM_labels.tif, STEM_overlay.png and STEM_record.json for each."""
    from napari_matseg.core.truth import parse_mapping
    from napari_matseg.pipeline import change

    truths = _match(images, truth)
    _check_stems(images)
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
    job = _Job(settings, out)
    mapping = None if truth_map is None else parse_mapping(truth_map, job.model.card.classes)
    total: Counts | None = None
    failed: list[str] = []
    for image, true in zip(images, truths, strict=True):
        try:
            result, micrograph, files = job.run(image)
            if true is not None:
                mask = None if keep_data_bar else micrograph.content_mask()
                counts = job.compare(image, result.classes, true, mask, mapping)
                total = counts if total is None else total + counts
            elif not as_json:
                shares = ", ".join(f"{name} {share:.1%}" for name, share in result.record["fractions"].items())
                print(f"{image} -> {files['labels']}: {shares}")
        except MatsegError as error:
            if len(images) == 1:
                raise
            failed.append(str(error))
            print(error, file=sys.stderr)
    if total is not None or as_json:
        job.report(total, as_json)
    if failed:
        raise InputError(f"{len(failed)} of {len(images)} images failed, for the reasons above; the others are done.")


@app.command()
def evaluate(
    prediction: Annotated[Path, typer.Argument(metavar="PRED", help="Labels, such as STEM_labels.tif.")],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="Ground truth: class ids, a mask, or colours.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model whose classes these are, if PRED does not say.")
    ] = None,
    truth_map: MappingOption = None,
    csv: Annotated[Path | None, typer.Option(help="File to save the table to.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare labels with ground truth: IoU (Jaccard), Dice, precision and recall for each class."""
    from napari_matseg.core.evaluate import classes_of, evaluate
    from napari_matseg.core.export import write_csv
    from napari_matseg.core.truth import parse_mapping

    classes = classes_of(prediction, truth, model)
    mapping = None if truth_map is None else parse_mapping(truth_map, classes)
    scores, notes = evaluate(prediction, truth, classes, mapping=mapping)
    for note in notes:
        print(note, file=sys.stderr)
    names = [spec.name for spec in classes]
    if csv is not None:
        write_csv(csv, scores.rows(names))
    _print_scores(scores.counts, names, as_json)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to train, on what, and how.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder that the recipe's paths are relative to; else that of the recipe.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the model; else your own models.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not go on with an interrupted training.")] = False,
) -> None:
    """Train a model; a training that was interrupted goes on where it was."""
    from napari_matseg.core.checkpoints import user_folder
    from napari_matseg.core.train import train_steps
    from napari_matseg.settings import load_recipe

    settings = load_recipe(recipe)
    path = _show(train_steps(settings, data or recipe.parent, out or user_folder(), resume=not fresh), settings.name)
    print(f"{path}: segment with --model {path if out else settings.name}")


@app.command()
def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Model to describe; all are listed else.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the models, or describe one."""
    from napari_matseg.core.checkpoints import available, read_card, user_folder

    if name is not None:
        card = read_card(name)
        print(card.model_dump_json(indent=2) if as_json else card.to_text())
        return
    cards = {found: read_card(path) for found, path in available().items()}
    if as_json:
        print(json.dumps({found: card.model_dump(mode="json") for found, card in cards.items()}, indent=2))
        return
    for found, card in cards.items():
        print(f"{found:16} {card.description}")
    print(f"Model files that you put into {user_folder()} are listed here, too.")


@app.command()
def info(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Micrograph.")],
    as_json: JsonOption = False,
) -> None:
    """Print what is known of a micrograph: size, pixel size, data bar, instrument."""
    from napari_matseg.core.read import read

    micrograph = read(image)
    known: dict[str, Any] = {
        "file": str(image),
        "shape": list(micrograph.pixels.shape),
        "axes": micrograph.axes,
        "dtype": str(micrograph.pixels.dtype),
        "pixel_size_nm": None if micrograph.pixel_size_nm is None else list(micrograph.pixel_size_nm),
        "data_bar_rows": None if micrograph.data_bar is None else list(micrograph.data_bar),
        "vendor": micrograph.vendor,
        "metadata": micrograph.metadata,
    }
    if as_json:
        print(json.dumps(known, indent=2))
        return
    metadata = known.pop("metadata")
    for key, value in (known | metadata).items():
        print(f"{key:20} {'unknown' if value is None else value}")


class _Job:
    """Segmentations with one model, and what they came to."""

    def __init__(self, settings: SegmentSettings, out: Path) -> None:
        from napari_matseg.core.checkpoints import load_model
        from napari_matseg.core.devices import choose_device
        from napari_matseg.core.export import make_folder

        make_folder(out)
        self.settings = settings
        self.out = out
        self.model: Model = load_model(settings.model, str(choose_device(settings.device)))
        self.names = [spec.name for spec in self.model.card.classes]
        self.images: dict[str, dict[str, Any]] = {}

    def run(self, image: Path) -> tuple[Any, Micrograph, dict[str, Path]]:
        """Segment one image and write the results."""
        from napari_matseg.core.read import read
        from napari_matseg.pipeline import save, segment_steps

        micrograph = read(image)
        result = _show(segment_steps(micrograph, self.settings, loaded=self.model), image.name)
        files = save(result, micrograph, self.out, image.stem)
        self.images[str(image)] = {
            "fractions": result.record["fractions"],
            "files": {what: str(path) for what, path in files.items()},
        }
        return result, micrograph, files

    def compare(self, image: Path, labels: np.ndarray, truth: Path, mask: np.ndarray | None, mapping: Any) -> Counts:
        """Compare one result with its truth."""
        from napari_matseg.core.evaluate import evaluate

        scores, notes = evaluate(labels, truth, self.model.card.classes, mapping=mapping, mask=mask)
        for note in notes:
            print(note, file=sys.stderr)
        self.images[str(image)] |= {"truth": str(truth), **scores.to_dict(self.names)}
        return scores.counts

    def truth_classes(self, truth: Path) -> np.ndarray:
        """Class ids of a truth file."""
        from napari_matseg.core.truth import read_truth

        return read_truth(truth, self.model.card.classes).labels_yx

    def report(self, counts: Counts | None, as_json: bool) -> None:
        """Print what all images came to."""
        if counts is None:
            print(json.dumps({"images": self.images}, indent=2))
            return
        more: dict[str, Any] = {}
        if as_json or len(self.images) > 1:
            more["iou_per_image"] = self._iou_per_image()
        if as_json:
            more["images"] = self.images
        elif len(self.images) == 1:
            print("\n".join(self.images.popitem()[1]["files"].values()))
        _print_scores(counts, self.names, as_json, more)

    def _iou_per_image(self) -> dict[str, float | None]:
        """Mean over the images of each class's IoU, where it is defined."""
        found = {
            name: [one["iou"][name] for one in self.images.values() if one.get("iou", {}).get(name) is not None]
            for name in self.names
        }
        return {name: sum(values) / len(values) if values else None for name, values in found.items()}


def _print_scores(counts: Counts, names: Sequence[str], as_json: bool, more: dict[str, Any] | None = None) -> None:
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


def _match(images: Sequence[Path], truths: Sequence[Path] | None) -> list[Path | None]:
    """Truth for each image, from a list or a folder."""
    if not truths:
        return [None] * len(images)
    if len(truths) == 1 and truths[0].is_dir():
        return [_find_truth(image, truths[0]) for image in images]
    if len(truths) != len(images):
        raise SettingsError(
            f"there are {len(images)} images but {len(truths)} truths; give --truth once per image, or a folder."
        )
    return list(truths)


def _find_truth(image: Path, folder: Path) -> Path:
    stems = [image.stem + ending for ending in TRUTH_ENDINGS]
    found = [path for path in sorted(folder.iterdir()) if path.stem in stems and path.resolve() != image.resolve()]
    if len(found) != 1:
        what = "more than one truth" if found else "no truth"
        raise InputError(f"{folder}: holds {what} for {image.name}; it should be named {' or '.join(stems[:2])}.")
    return found[0]


def _check_stems(images: Sequence[Path]) -> None:
    """Two results must not take one name."""
    seen: dict[str, Path] = {}
    for image in images:
        other = seen.setdefault(image.stem, image)
        if other is not image:
            raise SettingsError(
                f"{other} and {image} would both give {image.stem}_labels.tif; segment them into different folders."
            )


def _show(work: Generator[Progress, None, T], name: str) -> T:
    """Run a generator to its end with a progress bar, where there is a terminal to show it on."""
    from tqdm import tqdm

    with tqdm(desc=name, disable=None, file=sys.stderr, leave=False, unit="step") as bar:
        while True:
            try:
                step = next(work)
            except StopIteration as stop:
                result: T = stop.value
                return result
            bar.total = step.total
            bar.set_postfix_str(step.note, refresh=False)
            bar.update(step.done - bar.n)


def _fail(message: str) -> NoReturn:
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(MISTAKE)

"""The command that trains a model, alone, by folds, or in several processes."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from napari_matseg.core.progress import finish
from napari_matseg.errors import SettingsError
from napari_matseg.terminal import show, table_lines, warn

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_matseg.core.folds import CrossValidation
    from napari_matseg.core.train import TrainProgress
    from napari_matseg.settings import Training

T = TypeVar("T")
IDLE = 0.1  # share of the time that a GPU may wait for its crops before something is said


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(train)


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to train, on what, and how.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder that the recipe's paths are relative to; else that of the recipe.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the model; else your own models.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not go on with an interrupted training.")] = False,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Cross-validate: as many models, each tried on images it never saw.")
    ] = None,
    final: Annotated[bool, typer.Option("--final", help="With --folds: train a model on all images, too.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that make the crops; else as many as a GPU needs.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Train a model; a training that was interrupted goes on where it was."""
    from napari_matseg.core.checkpoints import user_folder
    from napari_matseg.core.ranks import Ranks
    from napari_matseg.core.refine.files import refiner_folder
    from napari_matseg.core.sam.zoo import promptable_folder
    from napari_matseg.settings import PromptTrainSettings, RefineTrainSettings, TrainSettings, load_recipe

    settings = load_recipe(recipe)
    homes = {TrainSettings: user_folder, PromptTrainSettings: promptable_folder, RefineTrainSettings: refiner_folder}
    folder, target = data or recipe.parent, out or homes[type(settings)]()
    if folds is None:
        if final:
            raise SettingsError("--final goes with --folds; give both, or neither.")
        from napari_matseg.pipeline import train_steps

        chosen = _workers(settings, workers)
        work = _watched(train_steps(settings, folder, target, resume=not fresh, workers=chosen), settings)
        if not Ranks.here().is_first:
            finish(work)
            return
        path = show(work, settings.name)
        name = path if out else settings.name
        use = _use(settings, name)
        print(json.dumps({"model": str(path)}) if as_json else f"{path}: {use}")
        return
    if not isinstance(settings, TrainSettings):
        raise SettingsError("--folds is for models that know classes; leave it out.")
    from napari_matseg.core.folds import fold_steps

    steps = fold_steps(
        settings, folder, target, folds, final=final, resume=not fresh, workers=_workers(settings, workers)
    )
    found = show(_watched(steps, settings), settings.name)
    print(json.dumps(found.to_dict(), indent=2) if as_json else "\n".join(_lines(found)))


def _use(settings: Training, name: str | Path) -> str:
    """Say what to do with a model."""
    from napari_matseg.settings import RefineTrainSettings, TrainSettings

    if isinstance(settings, TrainSettings):
        return f"segment with --model {name}"
    if isinstance(settings, RefineTrainSettings):
        return f"draws the answers of the promptable model {settings.name} again, if it is with your own refiners"
    return f"prompt with --model {name}"


def _lines(found: CrossValidation) -> list[str]:
    """Say what a cross-validation came to, and of which images."""
    lines = [f"fold {number}, validated on: {', '.join(fold)}" for number, fold in enumerate(found.folds, start=1)]
    if found.test:
        lines.append(f"not seen by any: {', '.join(found.test)}")
    lines += ["", *table_lines(found.rows()), "", str(found.report)]
    if found.final is not None:
        lines.append(f"{found.final}: learnt from all of them")
    return lines


def _workers(settings: Training, asked: int | None) -> int:
    """How many processes are to make crops."""
    from napari_matseg.core.devices import choose_device
    from napari_matseg.core.ranks import Ranks
    from napari_matseg.core.train_batches import choose_workers

    if asked is not None:
        return asked
    ranks = Ranks.here()
    return choose_workers(choose_device(ranks.device(settings.device)), ranks.size)


def _watched(work: Generator[TrainProgress, None, T], settings: Training) -> Generator[TrainProgress, None, T]:
    """Say at the end if a GPU had to wait."""
    from napari_matseg.core.devices import choose_device

    waiting = 0.0
    while True:
        try:
            step = next(work)
        except StopIteration as stop:
            if waiting > IDLE and choose_device(settings.device).type != "cpu":
                warn(
                    f"the GPU waited for its crops for {waiting:.0%} of the time; give more --workers, or set less "
                    "costly augmentations."
                )
            result: T = stop.value
            return result
        waiting = step.waiting or waiting
        yield step

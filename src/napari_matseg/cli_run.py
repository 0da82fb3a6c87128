"""The commands that run a recipe on many micrographs, and a record once more."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from napari_matseg.errors import SettingsError
from napari_matseg.terminal import WITHOUT_TIME_LEFT, show, time_of, warn

if TYPE_CHECKING:
    from collections.abc import Generator
    from concurrent.futures import Executor

    from napari_matseg.running.states import RunProgress, Summary

SOME_FAILED = 1
MOST_LISTED = 20

DeviceOption = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps; else that of the recipe.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(run)
    app.command()(replay)


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to do with each micrograph.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT", help="Micrographs, folders, patterns such as 'data/**/*.tif', or lists of them (*.txt)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if it is missing.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes that work on files at the same time.")] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Let the workers of a dask scheduler do it, such as tcp://10.0.0.1:8786."),
    ] = None,
    cluster: Annotated[
        Path | None,
        typer.Option(metavar="CLUSTER.yaml", help="Start workers by SLURM, LSF or PBS and let them do it."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option(help="Try files again that failed before, though nothing has changed.")
    ] = True,
    device: DeviceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Run a recipe on many micrographs; what is done already stays, so the same command goes on after a break."""
    from napari_matseg.running.inputs import find_inputs
    from napari_matseg.running.replay import with_device
    from napari_matseg.running.serial import run_steps
    from napari_matseg.settings.recipe_files import read_recipe

    wanted = with_device(read_recipe(recipe), device)
    sources, notes = find_inputs(inputs, out)
    for note in notes:
        warn(note)
    with ExitStack() as stack:
        executor = _executor(stack, workers, scheduler, cluster)
        work = _with_time_left(run_steps(wanted, sources, out, executor, retry_failed=retry_failed))
        summary = show(work, wanted.name or recipe.stem, bar_format=WITHOUT_TIME_LEFT)
    _report(summary, as_json=as_json)
    if summary.failed:
        raise typer.Exit(SOME_FAILED)


def _executor(stack: ExitStack, workers: int, scheduler: str | None, cluster: Path | None) -> Executor | None:
    """Start what works on several files at once, till the stack ends; None: this process does one after the other."""
    if sum((workers > 1, scheduler is not None, cluster is not None)) > 1:
        raise SettingsError("--workers, --scheduler and --cluster are three ways to share work; give one of them.")
    executor: Executor | None = None
    if workers > 1:
        from napari_matseg.running.workers import Workers

        executor = Workers(workers)
        stack.callback(executor.shutdown, cancel_futures=True)
    elif scheduler is not None:
        from napari_matseg.running.queues import connected

        executor = stack.enter_context(connected(scheduler)).get_executor()
    elif cluster is not None:
        from napari_matseg.running.queues import started
        from napari_matseg.settings.cluster import read_cluster

        executor = stack.enter_context(started(read_cluster(cluster))).get_executor()
    return executor


def _with_time_left(work: Generator[RunProgress, None, Summary]) -> Generator[RunProgress, None, Summary]:
    """Tell the time left along with the progress: the bar's own guess takes kept files for done ones."""
    with closing(work):
        while True:
            try:
                step = next(work)
            except StopIteration as stop:
                summary: Summary = stop.value
                return summary
            left = "" if not step.seconds_left else f", {time_of(step.seconds_left)} left"
            yield replace(step, note=f"{step.note}{left}")


def replay(
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="NAME_record.json of a run.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the new results; made if it is missing.")],
    image: Annotated[
        Path | None, typer.Option(help="Where the micrograph is now, if it is no longer where it was.")
    ] = None,
    device: DeviceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Run a record once more, and say whether the same labels come out, or what is not as it was."""
    from napari_matseg.core.export import to_json
    from napari_matseg.running.replay import replay_steps

    found = show(replay_steps(record, out, image, device=device), record.name)
    if as_json:
        print(
            to_json(
                {
                    "same": found.is_same,
                    "differing_pixels": found.differing,
                    "differences": found.differences,
                    "files": found.outcome.files,
                }
            )
        )
    else:
        for what, n in found.differing.items():
            print(f"{what}: {'cannot be compared pixel by pixel' if n is None else f'{n} pixels differ'}")
        for difference in found.differences:
            print(f"not as it was: {difference}")
        print("The labels are the same, bit for bit." if found.is_same else "The labels are not the same.")
    if not found.is_same:
        raise typer.Exit(SOME_FAILED)


def _report(summary: Summary, *, as_json: bool) -> None:
    """Print what a run came to."""
    from napari_matseg.core.export import to_json

    failed = [outcome for outcome in summary.outcomes if outcome.state == "failed"]
    if as_json:
        print(
            to_json(
                {
                    "done": summary.done,
                    "kept": summary.kept,
                    "failed": {outcome.source.name: outcome.reason for outcome in failed},
                    "files": summary.files,
                }
            )
        )
        return
    for outcome in failed[:MOST_LISTED]:
        about = str(outcome.source.path)
        warn(f"failed: {outcome.reason}" if about in str(outcome.reason) else f"failed: {about}: {outcome.reason}")
    if len(failed) > MOST_LISTED:
        warn(f"and {len(failed) - MOST_LISTED} more that failed; the index lists them all.")
    print(f"{summary.done} done, {summary.kept} kept from before, {summary.failed} failed: {summary.files['index']}")

"""A recipe on many micrographs: overnight in this process, or by the workers of an executor or a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_matseg.running.inputs import find_inputs
from napari_matseg.running.one_file import process
from napari_matseg.running.replay import Replayed, replay
from napari_matseg.running.serial import run_steps
from napari_matseg.running.states import Outcome, RunProgress, Source, Summary
from napari_matseg.settings.recipe_files import read_recipe

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from concurrent.futures import Executor

    from napari_matseg.settings import Recipe

__all__ = ["Outcome", "Replayed", "RunProgress", "Source", "Summary", "process", "replay", "run", "run_steps"]


def run(
    recipe: Recipe | str | Path,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    executor: Executor | None = None,
    *,
    retry_failed: bool = True,
) -> Generator[Outcome, None, Summary]:
    """Run a recipe on micrographs, as a generator of what comes of each.

    Outputs that are in the folder, are complete, and are of the same input, recipe and model stay; of what has changed
    only that is done again which the change touches. So the same call goes on with a run that was broken off.

    Parameters
    ----------
    recipe : Recipe or path
    inputs : path, or sequence of paths
        Files, folders, patterns and lists; see `running.inputs.find_inputs`.
    out : path
        Folder for the outputs, made if it is missing.
    executor : concurrent.futures.Executor, optional
        Works on several files at once; one of dask, too. In a script that gives a ``ProcessPoolExecutor`` the call
        belongs below ``if __name__ == "__main__":``, and its ``mp_context`` should be "spawn".
    retry_failed : bool
        Whether files that failed before are tried again, though nothing has changed.

    Yields
    ------
    Outcome
        As they come; closing the generator cancels.

    Returns
    -------
    Summary

    Raises
    ------
    MatsegError
        If recipe, inputs, model or folder cannot be used. What is wrong with single files is told in their outcomes.

    Examples
    --------
    >>> for outcome in run("particles.yaml", "micrographs", "results"):  # doctest: +SKIP
    ...     print(outcome.source.name, outcome.state, outcome.reason or "")
    """
    settings = read_recipe(Path(recipe)) if isinstance(recipe, str | Path) else recipe
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    sources, notes = find_inputs(given, Path(out))
    work = run_steps(settings, sources, Path(out), executor, retry_failed=retry_failed)
    try:
        while True:
            step = next(work)
            if step.outcome is not None:
                yield step.outcome
    except StopIteration as stop:
        summary: Summary = stop.value
        return replace(summary, notes=tuple(notes))
    finally:
        work.close()

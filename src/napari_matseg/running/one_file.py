"""One micrograph from file to outputs: what a run does with each, in this process or in any other."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_matseg.core.progress import Progress, finish
from napari_matseg.core.provenance import describe_run, hash_file
from napari_matseg.errors import InputError
from napari_matseg.running.commit import WORK_FOLDER, claim, commit, committed
from napari_matseg.running.failures import failed_before, forget_failure, write_failure
from napari_matseg.running.keys import Fingerprint, fingerprint, keys_of, model_hash, points_beside, stat_of
from napari_matseg.running.machine import describe_machine
from napari_matseg.running.outputs import describe_result, describe_shape, files_of, load_found, write_outputs
from napari_matseg.running.states import Outcome
from napari_matseg.running.work import clean_in_steps, find_in_steps, measure_in_steps, read_input

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.running.states import Source
    from napari_matseg.running.work import Found
    from napari_matseg.settings import Recipe

PAUSE = 0.2  # s between two looks at what another run works on
STEPS = 1000
"""Into which the work on a file is divided for its progress."""
READ, FOUND, CLEANED, MEASURED = 0.03, 0.88, 0.9, 0.95
"""How far the work on a file has come by then, of 1; roughly, as it depends on the model."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A micrograph before the costly part.

    Attributes
    ----------
    image : Fingerprint
    points : Fingerprint or None
        Of its file of points, where the recipe asks at such.
    keys : dict
        Of the outputs that are asked for; see `keys.keys_of`.
    micrograph : Micrograph or None
        None where the outputs are there already.
    error : Exception or None
        Why it could not be read.
    seconds : float
        What it took.
    """

    image: Fingerprint
    points: Fingerprint | None
    keys: dict[str, str]
    micrograph: Micrograph | None
    error: Exception | None
    seconds: float


def process(source: Source, recipe: Recipe, out: Path) -> Outcome:
    """Do what a recipe says with one micrograph, unless it is done already.

    Parameters
    ----------
    source : Source
    recipe : Recipe
    out : Path
        Folder of the run, which has to be there.

    Returns
    -------
    Outcome
        Whatever goes wrong with this file is told there, and not raised.
    """
    return finish(process_steps(source, recipe, out))


def process_steps(source: Source, recipe: Recipe, out: Path) -> Generator[Progress, None, Outcome]:
    """Do as `process`, as a generator; closing it cancels. Waits while another run has the file."""
    while (outcome := (yield from attempt_steps(source, recipe, out))) is None:
        yield Progress(0, 1, "waiting for another run")
        time.sleep(PAUSE)
    return outcome


def attempt(source: Source, recipe: Recipe, out: Path, retry_failed: bool = True) -> Outcome | None:
    """Do as `attempt_steps`, quietly."""
    return finish(attempt_steps(source, recipe, out, retry_failed=retry_failed))


def attempt_steps(
    source: Source,
    recipe: Recipe,
    out: Path,
    prepared: Callable[[], Prepared] | None = None,
    *,
    retry_failed: bool = True,
) -> Generator[Progress, None, Outcome | None]:
    """Do as `process_steps`, but give None if another run is at work on the file.

    Parameters
    ----------
    source : Source
    recipe : Recipe
    out : Path
    prepared : callable, optional
        Gives what `prepare` gave, or raises what it raised.
    retry_failed : bool
        Whether what failed the last time is tried again, though nothing has changed.
    """
    started = time.perf_counter()
    key: list[str] = []
    try:
        with claim(out, source.name) as is_ours:
            if not is_ours:
                return None
            yield Progress(0, STEPS, "reading")
            ready = prepared() if prepared is not None else prepare(source, recipe, out)
            key.append(ready.keys["outputs"])
            if not retry_failed and (reason := failed_before(out, source.name, key[0])) is not None:
                return Outcome(source, "failed", reason)
            if ready.error is not None:
                raise ready.error
            return (yield from _work(source, recipe, out, ready, started))
    except Exception as error:  # noqa: BLE001 - whatever it is, the other files are not to suffer
        reason = write_failure(out, source, error, key[0] if key else None)
        return Outcome(source, "failed", reason, seconds=time.perf_counter() - started)


def prepare(source: Source, recipe: Recipe, out: Path) -> Prepared:
    """Look whether the outputs are there, and read the micrograph if not.

    Raises
    ------
    MatsegError
        If the files cannot be looked at, or the model is not there.
    """
    started = time.perf_counter()
    record = committed(out, source.name)
    image = fingerprint(source.path, (record or {}).get("image"))
    points = None
    if recipe.prompt is not None and recipe.prompt.find == "points":
        points = fingerprint(points_beside(source.path), (record or {}).get("points"))
    keys = keys_of(recipe, image.sha256, None if points is None else points.sha256, model_hash(recipe))
    micrograph, wrong = None, None
    if record is None or record.get("keys") != keys:
        try:
            micrograph = read_input(source.path, recipe.read)
            _check_unchanged(source.path, image)
        except Exception as error:  # noqa: BLE001 - raised where it belongs to the file that is worked on
            wrong = error
    return Prepared(image, points, keys, micrograph, wrong, time.perf_counter() - started)


def _work(
    source: Source, recipe: Recipe, out: Path, ready: Prepared, started: float
) -> Generator[Progress, None, Outcome]:
    """Find, clean, measure, write: what of it is not there already."""
    record = committed(out, source.name)
    if record is not None and record.get("keys") == ready.keys:
        forget_failure(out, source.name)
        files = files_of(out, source.name, record)
        return Outcome(source, "kept", None, files, record, time.perf_counter() - started)
    micrograph = ready.micrograph or read_input(source.path, recipe.read)
    seconds = {"read": ready.seconds}
    yield _share(READ, "reading")

    since = time.perf_counter()
    found = None if record is None else _reused(source, recipe, out, ready, record)
    if found is None:
        record = None
        with closing(find_in_steps(micrograph, source.path, recipe, out / WORK_FOLDER)) as work:
            found = yield from _part(work, READ, FOUND)
        if found.record["image"]["sha256"] != ready.image.sha256:
            raise InputError(_changed(source.path))
        _check_unchanged(source.path, ready.image)
    with closing(clean_in_steps(found, recipe.clean, out / WORK_FOLDER)) as cleaning:
        cleaned = yield from _part(cleaning, FOUND, CLEANED)
    seconds["find"] = time.perf_counter() - since

    since = time.perf_counter()
    measured = None
    if recipe.measure is not None:
        with closing(measure_in_steps(cleaned, micrograph, recipe)) as measuring:
            measured = yield from _part(measuring, CLEANED, MEASURED)
    seconds["measure"] = time.perf_counter() - since

    yield _share(MEASURED, "writing")
    since = time.perf_counter()
    with commit(out, source.name) as one:
        write_outputs(one, found, cleaned, measured, micrograph, recipe, record)
        seconds |= {"write": time.perf_counter() - since, "all": time.perf_counter() - started}
        model = found.record["model"]
        one.record |= {
            "format": 1,
            "job": "run",
            "recipe": recipe.used(),
            "keys": ready.keys,
            "image": describe_input(source.path, ready.image) | describe_shape(micrograph, found),
            **({} if ready.points is None else {"points": describe_input(points_beside(source.path), ready.points)}),
            "model": model,
            "segmentation": found.record,
            **describe_result(cleaned, measured, recipe.measure),
            # Of labels that were there, where they were made.
            "machine": describe_machine(_device(found)) if record is None else record["machine"],
            **describe_run(),
            "seconds": {what: round(value, 3) for what, value in seconds.items()},
        }
    forget_failure(out, source.name)
    written = committed(out, source.name) or one.record
    return Outcome(source, "done", None, one.files, written, time.perf_counter() - started)


def describe_input(path: Path, seen: Fingerprint) -> dict[str, Any]:
    """Say what identifies an input, in plain JSON types."""
    about: dict[str, Any] = {"path": str(path.absolute()), "sha256": seen.sha256}
    if seen.stat is not None:
        about |= {"bytes": seen.stat[0], "mtime_ns": seen.stat[1]}
        if seen.is_settled:
            about["stat"] = list(seen.stat)
    return about


def _reused(source: Source, recipe: Recipe, out: Path, ready: Prepared, record: dict[str, Any]) -> Found | None:
    """Labels that are there, if the networks would give the same."""
    if record.get("keys", {}).get("segment") != ready.keys["segment"]:
        return None
    if recipe.outputs.probabilities and "probabilities" not in record["outputs"]:
        return None
    return load_found(out, source.name, record)


def _device(found: Found) -> str:
    return str(found.record.get("device") or found.record["model"].get("device", "cpu"))


def _check_unchanged(path: Path, seen: Fingerprint) -> None:
    # The times alone may change, as where permissions do.
    if seen.stat is not None and stat_of(path) != seen.stat and hash_file(path) != seen.sha256:
        raise InputError(_changed(path))


def _changed(path: Path) -> str:
    return f"{path}: changed or went away while it was worked on; run it again once it stays as it is."


def _part(work: Generator[Progress, None, Any], low: float, high: float) -> Generator[Progress, None, Any]:
    """Tell the progress of a part of the work as that of all of it."""
    while True:
        try:
            step = next(work)
        except StopIteration as stop:
            return stop.value
        yield _share(low + (high - low) * step.done / step.total, step.note)


def _share(share: float, note: str) -> Progress:
    return Progress(round(STEPS * share), STEPS, note)

"""A record run once more, to see whether the same comes out."""

from __future__ import annotations

import json
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from napari_matseg.core.export import make_folder
from napari_matseg.core.progress import Progress, finish
from napari_matseg.core.read import read
from napari_matseg.errors import InputError, MatsegError, SettingsError
from napari_matseg.running.commit import RECORD
from napari_matseg.running.one_file import process_steps
from napari_matseg.running.outputs import files_of
from napari_matseg.running.states import Outcome, Source
from napari_matseg.settings import Recipe, explain, make_settings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

NO_SAY = ("cores",)
"""Of a machine: what its results do not depend on."""


@dataclass(frozen=True)
class Replayed:
    """What came of running a record again.

    Attributes
    ----------
    outcome : Outcome
        Of the new run.
    is_same : bool
        Whether all labels are the same, bit for bit.
    differing : dict of str to int or None
        Labels that are not the same, by what they hold, with the number of pixels that differ; None where they cannot
        be compared pixel by pixel.
    differences : tuple of str
        What else is not as it was: input, model, versions, machine; each in words.
    """

    outcome: Outcome
    is_same: bool
    differing: dict[str, int | None] = field(default_factory=dict)
    differences: tuple[str, ...] = ()


def replay(
    record: str | Path, out: str | Path, image: str | Path | None = None, *, device: str | None = None
) -> Replayed:
    """Run a record again; see `replay_steps`, of which this is the quiet form."""
    return finish(replay_steps(Path(record), Path(out), None if image is None else Path(image), device=device))


def replay_steps(
    record: Path, out: Path, image: Path | None = None, *, device: str | None = None
) -> Generator[Progress, None, Replayed]:
    """Run what a record tells of once more into another folder, and compare the labels.

    On the same kind of machine, with the same versions and on as many threads, which are set here as the record says,
    they come out the same bit for bit.

    Parameters
    ----------
    record : Path
        A ``<name>_record.json`` of a run.
    out : Path
        Folder for the new outputs, made if it is missing; there must be none of that name in it.
    image : Path, optional
        Where the micrograph is now, if it is no longer where it was.
    device : str, optional
        On which the networks run, if not on that of the recipe.

    Returns
    -------
    Replayed

    Raises
    ------
    InputError
        If the record cannot be read, the micrograph is not there, or it cannot be worked on.
    OutputError, SettingsError
        If the folder cannot be written to, or there are outputs of that name in it.
    """
    old = read_record(record)
    recipe = _tiled_alike(with_device(_recipe(old, record), device), old)
    name = record.name.removesuffix(RECORD)
    source = Source(Path(old["image"]["path"]) if image is None else image, name)
    make_folder(out)
    if (out / record.name).exists():
        raise SettingsError(f"{out}: has outputs of {name} already; choose another folder to compare them with.")
    yield Progress(0, 1, "beginning")
    with _threads(old["machine"]["threads"]):
        with closing(process_steps(source, recipe, out)) as work:
            outcome = yield from work
        if outcome.state == "failed":
            raise InputError(str(outcome.reason))
    differing = _compare(old, outcome.record, files_of(record.parent, name, old), outcome.files)
    return Replayed(outcome, not differing, differing, tuple(_differences(old, outcome.record)))


def read_record(path: Path) -> dict[str, Any]:
    """Read the record of a run.

    Raises
    ------
    InputError
        If there is none, or it is the record of something else.
    """
    try:
        record = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name a record of a run.") from error
    except ValueError as error:
        raise InputError(f"{path}: is no JSON or is damaged; name a record of a run, such as NAME{RECORD}.") from error
    if not isinstance(record, dict) or record.get("job") != "run" or not path.name.endswith(RECORD):
        raise InputError(f"{path}: is no record of a run; name one that `napari-matseg run` wrote.")
    return record


def with_device(recipe: Recipe, device: str | None) -> Recipe:
    """Let all networks of a recipe run on another device; None changes nothing.

    Raises
    ------
    SettingsError
        If it is no device.
    """
    if device is None:
        return recipe
    plain = recipe.model_dump()
    if recipe.prompt is None:
        plain["segment"]["device"] = device
    else:
        plain["prompt"]["prompt"]["device"] = plain["prompt"]["centres"]["device"] = device
    return make_settings(Recipe, **plain)


def _recipe(record: dict[str, Any], path: Path) -> Recipe:
    try:
        return Recipe.model_validate(record["recipe"])
    except ValidationError as error:
        raise InputError(
            f"{path}: its recipe cannot be used ({explain(error)}); it may be of another version of napari-matseg."
        ) from error


def _tiled_alike(recipe: Recipe, record: dict[str, Any]) -> Recipe:
    """Settle the tiles as they were, which else depend on the memory that is free."""
    if recipe.segment is None:
        return recipe
    plan = record["segmentation"]["planes"][0]["tiling"]
    settings = recipe.segment.model_copy(
        update={"tile": recipe.segment.tile or plan["tile"], "batch": recipe.segment.batch or plan["batch"]}
    )
    return recipe.model_copy(update={"segment": settings})


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Compute on so many threads for a while, as the last bits of sums depend on how they are divided."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _compare(
    old: dict[str, Any], new: dict[str, Any], old_files: dict[str, Path], new_files: dict[str, Path]
) -> dict[str, int | None]:
    """Labels that are not the same, with the number of pixels that differ."""
    hashes, others = old["pixels_sha256"], new["pixels_sha256"]
    return {
        what: _count(old_files.get(what), new_files.get(what))
        for what in hashes | others
        if hashes.get(what) != others.get(what)
    }


def _count(one: Path | None, other: Path | None) -> int | None:
    if one is None or other is None:
        return None
    try:
        a, b = (np.asarray(read(path, find_bar=False).pixels) for path in (one, other))
    except MatsegError:  # the old labels may have gone, and their hash is all that is left
        return None
    return int(np.count_nonzero(a != b)) if a.shape == b.shape else None


def _differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """Say what is not as it was."""
    if old["image"]["sha256"] != new["image"]["sha256"]:
        yield "the input: its content is not what it was"
    if old.get("points", {}).get("sha256") != new.get("points", {}).get("sha256"):
        yield "the points: their file is not what it was"
    if old["model"].get("weights_sha256") != new["model"].get("weights_sha256"):
        yield f"the model: {new['model']['name']} has other weights than {old['model']['name']} had"
    if old["model"].get("refiner_sha256") != new["model"].get("refiner_sha256"):
        yield f"the model: {new['model']['name']} has another refiner than {old['model']['name']} had"
    versions = {"Python": (old["python"], new["python"])}
    for package in old["versions"] | new["versions"]:
        versions[package] = old["versions"].get(package, "none"), new["versions"].get(package, "none")
    for package, (was, now) in versions.items():
        if was != now:
            yield f"{package}: {was} then, {now} now"
    for what, was in old["machine"].items():
        now = new["machine"].get(what)
        if what not in NO_SAY and was != now:
            yield f"{what}: {was or 'none'} then, {now or 'none'} now"

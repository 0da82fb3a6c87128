"""What the prompt widget has done in the background: embedding an image, and answering many prompts."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import numpy as np

from napari_matseg._napari.layers import as_read
from napari_matseg._napari.models import LoadedModels, load_torch
from napari_matseg._napari.prompt_asked import Asked, prompts_of, say_left
from napari_matseg._napari.prompt_models import LoadedPromptable
from napari_matseg._napari.prompt_results import Found
from napari_matseg.core.centres import detect_steps
from napari_matseg.core.everything import everything_steps
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.objects import ObjectMask
from napari_matseg.core.progress import Progress
from napari_matseg.core.prompt import PromptSession
from napari_matseg.core.prompts import Left, Prompt
from napari_matseg.core.provenance import describe_image, describe_run
from napari_matseg.errors import InputError
from napari_matseg.settings import CentreSettings, EverythingSettings, PromptSettings

T = TypeVar("T")
Outcome = tuple[Found, list[Left], str]
"""What was found, what was left out, and a note for the user."""


def embed(
    micrograph: Micrograph, file: Path | None, plane: int, settings: PromptSettings, models: LoadedPromptable
) -> Generator[Progress, None, tuple[PromptSession, Micrograph, dict[str, Any]]]:
    """Prepare a plane for being clicked on; gives what to record of it, too."""
    yield Progress(0, 1, "loading the model")
    loaded = models.get(settings.model, settings.device)
    micrograph = as_read(micrograph, file)
    session = PromptSession(settings, loaded=loaded)
    yield from _open(session, micrograph, plane)
    return session, micrograph, _record(micrograph, session, settings)


def answer_all(
    micrograph: Micrograph, file: Path | None, asked: Asked, settings: PromptSettings, models: LoadedPromptable
) -> Generator[Progress, None, Outcome]:
    """Answer all that the layers ask for, plane by plane."""
    started = time.perf_counter()
    yield Progress(0, 1, "loading the model")
    loaded = models.get(settings.model, settings.device)
    micrograph = as_read(micrograph, file)
    prompts, left = prompts_of(asked, micrograph, exclude_data_bar=settings.exclude_data_bar)
    if not prompts:
        raise InputError(f"There is nothing to segment. {say_left(left) or 'Add points first.'}")
    session = PromptSession(settings, loaded=loaded)
    by_plane: dict[int, list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        by_plane[prompt.plane].append(prompt)
    objects: list[ObjectMask] = []
    for plane, there in sorted(by_plane.items()):
        for step in _open(session, micrograph, plane):
            yield Progress(len(objects), len(prompts), step.note)
        with closing(session.predict_steps(there)) as steps:
            for step in steps:
                objects += step.found
                yield Progress(len(objects), len(prompts), step.note)
    yield Progress(len(prompts), len(prompts), "putting the objects together")
    record = _record(micrograph, session, settings) | {"left_out": [str(one) for one in left]}
    found = Found(micrograph, settings, record | _seconds(started))
    found.ask(prompts)
    found.put_all(objects)
    return found, left, session.note


def answer_centres(
    micrograph: Micrograph,
    file: Path | None,
    plane: int,
    centres: CentreSettings,
    settings: PromptSettings,
    models: LoadedPromptable,
    segmenters: LoadedModels,
) -> Generator[Progress, None, Outcome]:
    """Find the centres of the particles on a plane, and segment each."""
    started = time.perf_counter()
    yield Progress(0, 1, "finding the centres")
    micrograph = as_read(micrograph, file)
    loaded = None
    if centres.method == "model":
        load_torch()
        loaded = segmenters.get(centres.model, centres.device)
    with closing(detect_steps(micrograph, centres, plane=plane, loaded=loaded)) as steps:
        found = yield from _noted(steps, "finding the centres")
    n = len(found)
    if not n:
        raise InputError(
            "No centres were found; open Detect centres and be less strict there, or click on the particles."
        )
    asked = Asked(found.points_yx, np.full(n, plane), np.arange(1, n + 1), np.ones(n, bool))
    objects, left, note = yield from answer_all(micrograph, None, asked, settings, models)
    objects.record |= {"job": "find", "centres": centres.model_dump(mode="json"), **_seconds(started)}
    return objects, left, note


def answer_everywhere(
    micrograph: Micrograph,
    file: Path | None,
    plane: int,
    everything: EverythingSettings,
    settings: PromptSettings,
    models: LoadedPromptable,
) -> Generator[Progress, None, Outcome]:
    """Segment all objects of a plane, with the point for each that it was the answer to."""
    started = time.perf_counter()
    yield Progress(0, 1, "loading the model")
    loaded = models.get(settings.model, settings.device)
    micrograph = as_read(micrograph, file)
    session = PromptSession(settings, loaded=loaded)
    yield from _open(session, micrograph, plane)
    with closing(everything_steps(session, everything)) as steps:
        objects, prompts = yield from steps
    if not objects:
        raise InputError("Nothing stood out; try a finer grid, or click on what you want.")
    found = Found(micrograph, settings, _record(micrograph, session, settings))
    found.record |= {"job": "everything", "everything": everything.model_dump(mode="json"), **_seconds(started)}
    found.ask(prompts)
    found.put_all(objects)
    return found, [], session.note


def answer(session: PromptSession, prompt: Prompt, done: Event) -> Generator[Progress, None, ObjectMask]:
    """Answer one prompt; `done` is set when that has ended, however."""
    try:
        yield Progress(0, 1)
        with closing(session.predict_steps([prompt])) as steps:
            return (yield from steps)[0]
    finally:
        done.set()


def _open(session: PromptSession, micrograph: Micrograph, plane: int) -> Generator[Progress, None, None]:
    with closing(session.set_image_steps(micrograph, plane)) as steps:
        for step in steps:
            yield Progress(0, 1, step.note)


def _noted(work: Generator[Progress, None, T], note: str) -> Generator[Progress, None, T]:
    """Tell the progress of what comes before the points in words alone, since these are what is counted."""
    while True:
        try:
            step = next(work)
        except StopIteration as stop:
            return stop.value
        yield Progress(0, 1, f"{note}, {100 * step.done // step.total} %")


def _seconds(started: float) -> dict[str, float]:
    return {"seconds": round(time.perf_counter() - started, 3)}


def _record(micrograph: Micrograph, session: PromptSession, settings: PromptSettings) -> dict[str, Any]:
    """Say what is done to what, in plain JSON types; `Found` adds the prompts."""
    return {
        "format": 1,
        "job": "prompt",
        "image": describe_image(micrograph),
        "model": session.describe_model(),
        "settings": settings.model_dump(mode="json"),
        **describe_run(),
    }

"""A large micrograph from beginning to end."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import numpy as np

from napari_matseg._version import __version__
from napari_matseg.core.embeddings import cache_folder
from napari_matseg.core.export import write_json
from napari_matseg.core.large import parts
from napari_matseg.core.large.blocks import Block, survey_part
from napari_matseg.core.large.job import Job, open_job
from napari_matseg.core.large.merging import merge
from napari_matseg.core.large.parts import in_strips
from napari_matseg.core.large.segmenting import segment_bands
from napari_matseg.core.large.stores import StoredLabels, store_steps
from napari_matseg.core.large.workspace import Workspace, claim
from napari_matseg.core.normalise import grey_scale_steps
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.core.plan import make_plan
from napari_matseg.core.predict import TooLargeError
from napari_matseg.core.progress import Arrived, Progress, of_planes
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    import torch

    from napari_matseg.core.checkpoints import Model
    from napari_matseg.core.large.parts import Band
    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.normalise import GreyScale
    from napari_matseg.core.pixels import Box
    from napari_matseg.settings import SegmentSettings

FORMAT = 1
RESULT = "result.json"
MATTERS = {"tiling", "tile", "batch", "overlap", "instances", "probabilities"}
"""Settings that the pieces depend on, beside what is known by itself."""


class RunBands(Protocol):
    """How bands get done, elsewhere than in this process."""

    def __call__(self, job: Job, bands: Sequence[Band], /) -> Generator[Progress, None, None]:
        """Do them; see `core.large.segmenting.segment_band`."""


@dataclass(frozen=True, eq=False)
class Large:
    """What came out.

    Attributes
    ----------
    classes : StoredLabels, shape (..., height, width), uint8
        With the planes of the micrograph. The files are deleted when nothing refers to these labels any more.
    instances : StoredLabels, uint32, or None
    probabilities : LazyPixels, shape (..., classes, height, width), float32, or None
    planes : list of dict
        How each plane was tiled and scaled, in plain JSON types.
    pixels : list of int
        How many are of each class.
    """

    classes: StoredLabels
    instances: StoredLabels | None
    probabilities: LazyPixels | None
    planes: list[dict[str, Any]]
    pixels: list[int]


def default_work() -> Path:
    """Folder for what is on the way where nobody names one, in the user's cache folder."""
    return cache_folder().parent / "large"


def large_steps(
    micrograph: Micrograph,
    sha256: str | None,
    model: Model,
    settings: SegmentSettings,
    device: torch.device,
    dtype: str,
    rows: slice,
    work: Path,
    run_bands: RunBands | None = None,
) -> Generator[Progress, None, Large]:
    """Segment a micrograph part by part into files.

    Parameters
    ----------
    micrograph : Micrograph
    sha256 : str or None
        Of its file. None, as for pixels in memory: what a run left that was killed is not found again.
    model : Model
        On `device`.
    settings : SegmentSettings
    device : torch.device
    dtype : str
        What the network computes in, such as "float32".
    rows : slice
        What is segmented.
    work : Path
        Folder in which a hidden folder is made for what is on the way. A run that is killed or cancelled leaves it
        there, and the same run goes on with it.
    run_bands : callable, optional
        How the bands that are missing get done; None: one after the other, here.

    Yields
    ------
    Progress
        Closing the generator cancels.

    Returns
    -------
    Large

    Raises
    ------
    InputError
        If the image is damaged, or no tile is small enough for the memory.
    OutputError
        If the disk is full or the folder cannot be written to.
    """
    channels = model.card.architecture.in_channels
    views = [micrograph.view(index, channels, rows) for index in range(micrograph.n_planes)]
    scales: list[GreyScale] = []
    for index, view in enumerate(views):
        measured = grey_scale_steps(view, model.card.normalise)
        with closing(measured):
            scales.append((yield from of_planes(measured, index, len(views))))
    key = {
        "format": FORMAT,
        "version": __version__,
        "image": sha256 or uuid4().hex,
        "shape": [len(views), *views[0].shape],
        "rows": [rows.start, rows.stop],
        "scales": [[*scale.low, *scale.high, scale.limit] for scale in scales],
        "corner": hashlib.sha256(views[-1][:, -64:, -64:].tobytes()).hexdigest(),
        "model": model.card.weights_sha256 or uuid4().hex,
        "settings": settings.model_dump(mode="json", include=MATTERS),
        "device": device.type,
        "dtype": dtype,
        "part": parts.SIDE,
    }
    source = "memory" if micrograph.source is None else str(micrograph.source.absolute())
    workspace = claim(work, _digest(source)[:8], _digest(key)[:16])
    try:
        job = Job(
            workspace.folder,
            in_strips(make_plan(model, views[0].shape[1:], settings, device)),
            (rows.start, rows.stop),
            views[0].shape[1:],
            tuple(scales),
            channels,
            dtype,
            len(model.card.classes),
            settings.instances and model.card.distance,
            settings.probabilities,
        )
        job = yield from _segmented(job, micrograph, model, settings, device, run_bands)
        return (yield from _collected(job, micrograph, model, settings, workspace))
    except BaseException:
        if sha256 is None:
            workspace.delete()
        else:
            workspace.leave()
        raise


def _segmented(
    job: Job,
    micrograph: Micrograph,
    model: Model,
    settings: SegmentSettings,
    device: torch.device,
    run_bands: RunBands | None,
) -> Generator[Progress, None, Job]:
    """Do all bands that are missing; where memory runs out, begin again with tiles of half the side."""
    try:
        job = open_job(job.folder)  # by the plan that its pieces were made with, whatever memory is free now
    except InputError:
        _begin(job)
    while not (job.folder / RESULT).exists() and (bands := job.missing()):
        try:
            work = run_bands(job, bands) if run_bands else segment_bands(job, bands, micrograph, model, device)
            with closing(work):
                yield from _shown(work, job, micrograph)
        except (TooLargeError, MemoryError):
            pass  # the next plan is made outside, where nothing holds the memory any more
        else:
            break
        smaller = make_plan(model, job.shape_yx, settings, device, largest=job.plan.tile // 2)
        if smaller.tile >= job.plan.tile:
            raise InputError(
                f"{micrograph.name}: memory ran out at tiles of {job.plan.tile} px, and none smaller will do; close "
                "other programs, or choose device cpu, another tiling or a smaller model."
            )
        job = replace(job, plan=in_strips(smaller))
        _begin(job)
    return job


def _shown(work: Generator[Progress, None, None], job: Job, micrograph: Micrograph) -> Generator[Progress, None, None]:
    """Let all that is done be seen as part of the micrograph, from the start what an earlier run did."""
    top = job.rows[0]
    lazy = [job.pieces.lazy("classes", plane, fill=True) for plane in range(micrograph.n_planes)]

    def read(plane: int, box: Box) -> np.ndarray:
        rows, columns = box
        result = np.zeros((len(rows), len(columns)), np.uint8)
        first, stop = max(rows.start, top), min(rows.stop, job.rows[1])
        if first < stop:
            part = lazy[plane][first - top : stop - top, columns.start : columns.stop]
            result[first - rows.start : stop - rows.start] = part
        return result

    shape = (*micrograph.shape_planes, *micrograph.shape_yx)
    classes = LazyPixels(shape, np.dtype(np.uint8), len(shape) - 2, read)
    total = sum(band.stop - band.first for band in job.bands())
    missing = sum(len(job.missing_units(band)) for band in job.bands())
    for plane in range(micrograph.n_planes):
        for number in sorted(job.pieces.done(plane, "classes")):
            rows, columns = job.pieces.parts[number].where
            there = slice(top + rows.start, top + rows.stop)
            yield Arrived(total - missing, total, "segmenting", plane, classes, rows=there, columns=columns)
    for step in work:
        if isinstance(step, Arrived):
            there = slice(top + step.rows.start, top + step.rows.stop)
            step = replace(step, rows=there, classes=classes)
        yield step


def _begin(job: Job) -> None:
    """Write down a job, with no piece done."""
    for pieces in job.folder.glob("plane-*"):
        shutil.rmtree(pieces)
    job.save()


def _collected(
    job: Job, micrograph: Micrograph, model: Model, settings: SegmentSettings, workspace: Workspace
) -> Generator[Progress, None, Large]:
    """Make stores of the pieces."""
    n_planes = micrograph.n_planes
    shape = (*micrograph.shape_planes, *micrograph.shape_yx)
    stores = {"classes": np.dtype(np.uint8)} | ({"objects": np.dtype(np.uint32)} if settings.instances else {})
    result = workspace.folder / RESULT
    if not result.exists():
        if settings.instances:
            for plane in range(n_planes):
                yield from of_planes(_objects(job, plane), plane, n_planes)
        pixels = np.zeros(job.classes, np.int64)
        for kind, dtype in stores.items():
            lazy = [job.pieces.lazy(kind, plane) for plane in range(n_planes)]
            n_classes = job.classes if kind == "classes" else 0
            path = workspace.folder / f"{kind}.zarr"
            counts = yield from store_steps(path, lazy, shape, dtype, job.rows[0], n_classes)
            if n_classes:
                pixels = counts
        write_json(result, {"pixels": pixels.tolist()})
        job.pieces.drop(("classes", "depth", "roots", "objects"))
    stored = [StoredLabels(workspace.folder / f"{kind}.zarr", workspace) for kind in stores]
    return Large(
        stored[0],
        stored[1] if settings.instances else None,
        _probabilities(job, shape, workspace) if settings.probabilities else None,
        [
            {
                "tiling": job.plan.to_dict() | {"reach": model.card.reach},
                "grey_low": list(scale.low),
                "grey_high": list(scale.high),
            }
            for scale in job.scales
        ],
        json.loads(result.read_text(encoding="utf-8"))["pixels"],
    )


def _objects(job: Job, plane: int) -> Generator[Progress, None, None]:
    """Give the objects of a plane their ids, as `core.labels.label_objects` does for a plane in memory."""
    pieces = job.pieces
    classes, depth = pieces.lazy("classes", plane), pieces.lazy("depth", plane) if job.depth else None
    total = 2 * len(pieces.parts)
    blocks: list[Block] = []
    for number, part in enumerate(pieces.parts):
        yield Progress(number, total, "telling objects apart")
        spans = [
            (max(start - 1, 0), min(stop + 1, side), start, stop)
            for start, stop, side in zip((part.top, part.left), (part.bottom, part.right), pieces.shape_yx, strict=True)
        ]
        where = tuple(slice(first, end) for first, end, _, _ in spans)
        missing = [(1 - (start - first), 1 - (end - stop)) for first, end, start, stop in spans]
        classes_yx = np.pad(classes[where], missing)
        depth_yx = None if depth is None else np.pad(depth[where], missing)
        slots_yx, block = survey_part(classes_yx, depth_yx, part, pieces.shape_yx[1])
        pieces.put(plane, number, "roots", slots_yx)
        blocks.append(block)
    ids, _ = merge(blocks, by_depth=job.depth)
    del blocks
    for number, of_slot in enumerate(ids):
        yield Progress(len(ids) + number, total, "telling objects apart")
        pieces.put(plane, number, "objects", of_slot[pieces.get(plane, number, "roots")])


def _probabilities(job: Job, shape: tuple[int, ...], keeper: Workspace) -> LazyPixels:
    """Probabilities of all planes; what is left out is background."""
    lazy = [job.pieces.lazy("probabilities", plane) for plane in range(len(job.scales))]

    def read(number: int, box: Box, _keeper: Workspace = keeper) -> np.ndarray:
        plane, class_id = divmod(number, job.classes)
        of_rows, columns = box
        result = np.full((len(of_rows), len(columns)), class_id == 0, np.float32)
        top, bottom = job.rows
        first, stop = max(of_rows.start, top), min(of_rows.stop, bottom)
        if first < stop:
            part = lazy[plane][class_id, first - top : stop - top, columns.start : columns.stop]
            result[first - of_rows.start : stop - of_rows.start] = part
        return result

    return LazyPixels((*shape[:-2], job.classes, *shape[-2:]), np.dtype(np.float32), len(shape) - 1, read)


def _digest(what: object) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

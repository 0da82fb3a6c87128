"""One large micrograph on many workers: the one that has the file hands its bands out to the others."""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, wait
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_matseg.core.progress import Progress, finish
from napari_matseg.running.commit import WORK_FOLDER
from napari_matseg.running.worker import let_others_work, needs_of_task, stop_if_cancelled
from napari_matseg.settings import SegmentSettings

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_matseg.core.large.job import Job
    from napari_matseg.core.large.parts import Band
    from napari_matseg.running.worker import Needs
    from napari_matseg.settings import Recipe

BEFORE_FILES = 10
"""Priority of bands, so that a file that is begun is finished before others are."""
LOOK_EVERY = 1.0  # s between two looks at whether the file was cancelled


def sharing(path: Path, recipe: Recipe) -> dict[str, Any]:
    """How a large micrograph is segmented where this runs: arguments for `pipeline.segment_steps`.

    Parameters
    ----------
    path : Path
        Of the micrograph, as all workers see it.
    recipe : Recipe

    Returns
    -------
    dict
        `work` and `run_bands` in a task of a cluster's worker; nothing anywhere else.
    """
    needs = needs_of_task()
    if needs is None:
        return {}
    return {"work": needs.out / WORK_FOLDER, "run_bands": partial(hand_out, needs, path, recipe)}


def hand_out(
    needs: Needs, path: Path, recipe: Recipe, job: Job, bands: Sequence[Band]
) -> Generator[Progress, None, None]:
    """Let the workers do the bands of a micrograph, this one too; what a lost one had is done by another."""
    from distributed import worker_client

    from napari_matseg.running.cluster import ClusterExecutor

    with let_others_work(), worker_client() as client:
        executor = ClusterExecutor(client, needs, priority=BEFORE_FILES)
        try:
            open_ones = {executor.submit(do_band, job.folder, band, path, recipe) for band in bands}
            while open_ones:
                done, open_ones = wait(open_ones, LOOK_EVERY, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                stop_if_cancelled()
                yield Progress(len(bands) - len(open_ones), len(bands), "segmenting on several workers")
        finally:
            executor.shutdown(cancel_futures=True)


def do_band(folder: Path, band: Band, path: Path, recipe: Recipe) -> None:
    """Segment one band into the folder of its micrograph, in a worker."""
    from napari_matseg.core.devices import choose_device
    from napari_matseg.core.large.job import open_job
    from napari_matseg.core.large.segmenting import segment_band
    from napari_matseg.running.models import segmentation_model
    from napari_matseg.running.work import read_input

    settings = recipe.segment or SegmentSettings()
    model = segmentation_model(settings.model, settings.device)
    device = choose_device(settings.device)
    finish(segment_band(open_job(folder), band, read_input(path, recipe.read), model, device))

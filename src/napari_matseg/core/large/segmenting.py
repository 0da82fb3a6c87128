"""A band of a large micrograph through the network, and into its pieces."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.large.rows import RowCache
from napari_matseg.core.predict import Piece, predict
from napari_matseg.core.progress import Arrived, Progress

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import torch

    from napari_matseg.core.checkpoints import Model
    from napari_matseg.core.large.job import Job
    from napari_matseg.core.large.parts import Band
    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.tile import Tile


def segment_bands(
    job: Job, bands: Sequence[Band], micrograph: Micrograph, model: Model, device: torch.device
) -> Generator[Progress, None, None]:
    """Do bands one after the other; see `segment_band`."""
    total = sum(band.stop - band.first for band in job.bands())
    done = total - sum(len(job.missing_units(band)) for band in bands)
    for band in _joined(job, bands):  # in one go, so that nothing at their borders is computed twice
        for step in segment_band(job, band, micrograph, model, device):
            yield replace(step, done=done + step.done, total=total)
        done += step.total


def segment_band(
    job: Job, band: Band, micrograph: Micrograph, model: Model, device: torch.device
) -> Generator[Progress, None, None]:
    """Take a band through the network, and write the pieces of it that are not there yet.

    Parameters
    ----------
    job : Job
    band : Band
        One of the job's.
    micrograph : Micrograph
        Of which only the rows that the band needs are read.
    model : Model
        On `device`.
    device : torch.device

    Yields
    ------
    Progress
        In units, as `Arrived` after each; closing the generator cancels.

    Raises
    ------
    TooLargeError
        If a tile does not fit into memory.
    OutputError
        If a piece cannot be written.
    """
    import torch

    missing = job.missing_units(band)
    yield Progress(0, max(len(missing), 1), "segmenting")
    if not missing:
        return
    image_cyx = RowCache(micrograph.view(band.plane, job.channels, slice(*job.rows)))
    plan = replace(job.plan, tiles=_tiles(job, missing))
    unit_at = {(job.units[number].top, job.units[number].left): number for number in missing}
    done = 0
    for _, piece in predict(
        model,
        image_cyx,
        job.scales[band.plane],
        plan,
        device=device,
        dtype=getattr(torch, job.dtype),
        probabilities=job.probabilities,
    ):
        number = None if piece is None else unit_at.get((piece.where[0].start, piece.where[1].start))
        if piece is None or number is None:
            continue
        _keep(job, band.plane, number, piece)
        done += 1
        rows, columns = job.units[number].where
        yield Arrived(done, len(missing), "segmenting", band.plane, rows=rows, columns=columns)


def _joined(job: Job, bands: Sequence[Band]) -> list[Band]:
    """Make one of bands that follow each other downwards."""
    joined: list[Band] = []
    for band in bands:
        follows = bool(joined) and (joined[-1].plane, joined[-1].stop) == (band.plane, band.first)
        if follows and job.units[band.first].top > job.units[band.first - 1].top:
            joined[-1] = replace(joined[-1], stop=band.stop)
        else:
            joined.append(band)
    return joined


def _tiles(job: Job, numbers: list[int]) -> list[Tile]:
    """Tiles that units are made of."""
    if job.plan.strategy != "blend":
        return [job.plan.tiles[number] for number in numbers]
    # Rows are weighted means over all windows that they are in, added up from above.
    top, bottom = job.units[numbers[0]].top, job.units[numbers[-1]].bottom
    return [tile for tile in job.plan.tiles if tile.y.start < bottom and tile.y.stop > top]


def _keep(job: Job, plane: int, unit: int, piece: Piece) -> None:
    """Write what was found in a unit; the classes last, which say that it is done."""
    rectangle = job.units[unit]
    for number in job.numbers[unit]:
        part = job.pieces.parts[number]
        where = tuple(
            slice(span.start - start, span.stop - start)
            for span, start in zip(part.where, (rectangle.top, rectangle.left), strict=True)
        )
        classes_yx = piece.classes_yx[where]
        if job.probabilities and piece.probabilities_cyx is not None:
            job.pieces.put(plane, number, "probabilities", piece.probabilities_cyx[:, *where])
        if job.depth and piece.depth_yx is not None:
            # Depth where there is no object is never asked for, and takes room.
            depth_yx = np.where(classes_yx > 0, piece.depth_yx[where], np.float32(0))
            job.pieces.put(plane, number, "depth", depth_yx)
        job.pieces.put(plane, number, "classes", classes_yx)

"""Small pictures of the micrographs in a batch, made off the main thread as they come into sight."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from qtpy.QtCore import QObject

from napari_matseg._napari.batch_table import SIDE, Entry, QueueModel
from napari_matseg._napari.jobs import Job
from napari_matseg.core.progress import Progress
from napari_matseg.core.read import read
from napari_matseg.core.shrink import shrink_image
from napari_matseg.running.states import Source

LONGEST = 2 * SIDE
"""Pixels on the longer side, for screens with fine ones."""
MOST_PIXELS = 1 << 26
"""Larger images without a pyramid have no picture: reading them would hold up the run."""


@dataclass(frozen=True)
class Made(Progress):
    """A picture that was made; None where there can be none."""

    row: int = 0
    source: Source | None = None
    rgb_yxs: np.ndarray | None = None


class Pictures(QObject):
    """Makes the pictures that a table asks for.

    Parameters
    ----------
    model : QueueModel
    """

    def __init__(self, model: QueueModel, parent: QObject) -> None:
        super().__init__(parent)
        self._model = model
        self._closed = False
        self.job = Job(self)
        self.job.progressed.connect(self._on_made)
        self.job.ended.connect(self._start)
        model.wanted.connect(self._start)

    def close(self) -> None:
        """Make no more of them."""
        self._closed = True
        self.job.cancel()

    def _start(self, *_cancelled: object) -> None:
        if self.job.running or self._closed:
            return
        wanted = [(row, entry.source, _result(entry)) for row, entry in self._model.take_wanted()]
        if wanted:
            self.job.start(make(wanted), None)

    def _on_made(self, made: Made) -> None:
        if made.source is not None:
            self._model.put_picture(made.row, made.source, made.rgb_yxs)


def _result(entry: Entry) -> Path | None:
    """Find a picture of the result; the smallest there is."""
    files = {} if entry.outcome is None else entry.outcome.files
    return files.get("thumbnail", files.get("overlay"))


def make(wanted: Sequence[tuple[int, Source, Path | None]]) -> Generator[Progress, None, None]:
    """Make pictures of rows, of the result where there is one."""
    for done, (row, source, result) in enumerate(wanted, 1):
        try:
            rgb_yxs = _of_picture(result) if result else _of_micrograph(source.path)
        except Exception:  # noqa: BLE001 - the run says what is wrong with a file
            rgb_yxs = None
        yield Made(done, len(wanted), row=row, source=source, rgb_yxs=rgb_yxs)


def _of_picture(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        picture.thumbnail((LONGEST, LONGEST))
        return np.asarray(picture.convert("RGB"))


def _of_micrograph(path: Path) -> np.ndarray | None:
    """Picture of the first plane, from black at the 0.5th percentile to white at the 99.5th."""
    micrograph = read(path, find_bar=False)
    plane = (0,) * len(micrograph.shape_planes)
    levels = [micrograph.pixels, *micrograph.levels]
    pixels = next((level for level in reversed(levels) if max(level.shape[len(plane) :][:2]) >= LONGEST), levels[0])
    height, width = pixels.shape[len(plane) :][:2]
    if height * width > MOST_PIXELS:
        return None
    image = np.asarray(pixels[plane])
    channels = [image[..., i] for i in range(3)] if micrograph.is_colour else [image]
    small = np.stack([shrink_image(channel, LONGEST) for channel in channels], axis=-1)
    known = small[np.isfinite(small)]
    black, white = np.percentile(known, (0.5, 99.5)) if known.size else (0, 1)
    grey = np.nan_to_num((small - black) / max(white - black, 1e-12))
    return np.broadcast_to(np.uint8(255 * np.clip(grey, 0, 1)), (*small.shape[:2], 3))

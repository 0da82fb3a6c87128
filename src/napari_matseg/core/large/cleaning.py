"""Labels in files, mended as `core.clean` mends those in memory, and written into files again."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from napari_matseg.core.clean import Cleaner
from napari_matseg.core.large.components import Components, components_steps
from napari_matseg.core.large.rows import RowsAhead, RowsOf, in_blocks
from napari_matseg.core.large.stores import StoredLabels, store_steps
from napari_matseg.core.large.workspace import claim
from napari_matseg.core.measure.runs import bands, runs
from napari_matseg.core.progress import Progress, of_planes

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_matseg.core.pixels import LazyPixels
    from napari_matseg.settings import CleanSettings

NO_ID = 1 << 32
"""From here on count pieces of classes that have no id of an object."""
BLOCK_BYTES = 1 << 30
"""Of the rows of chunks that are written together, at most."""


def clean_large_steps(
    classes: Any, instances: Any, settings: CleanSettings, rows: slice, work: Path
) -> Generator[Progress, None, tuple[StoredLabels, StoredLabels | None]]:
    """Mend classes, and the objects in them, as `core.clean.clean_classes` does plane by plane.

    Parameters
    ----------
    classes : array, shape (..., height, width), uint8
        In memory are some rows of it at a time, and numbers of its objects and holes.
    instances : array of that shape, uint32, or None
    settings : CleanSettings
    rows : slice
        Those that show the specimen.
    work : Path
        Folder for the result, which is deleted when nothing refers to it any more.

    Yields
    ------
    Progress
        Closing the generator cancels.

    Raises
    ------
    OutputError
        If the folder cannot be written to.
    """
    places = list(np.ndindex(*classes.shape[:-2]))
    cleaned = []
    for number, place in enumerate(places):
        plane = _Plane(_plane(classes, place), None if instances is None else _plane(instances, place), rows)
        with closing(plane.clean_steps(settings)) as looking:
            yield from of_planes(looking, number, len(places))
        cleaned.append(plane)
    workspace = claim(work, uuid4().hex[:8], "clean")
    try:
        stores = {"classes": [plane.classes for plane in cleaned]}
        if instances is not None:
            stores["objects"] = [plane.objects for plane in cleaned]
        stored = []
        for kind, lazy in stores.items():
            path = workspace.folder / f"{kind}.zarr"
            with closing(store_steps(path, lazy, classes.shape, lazy[0].dtype, 0)) as writing:
                yield from writing
            stored.append(StoredLabels(path, workspace))
    except BaseException:
        workspace.delete()
        raise
    return stored[0], stored[1] if instances is not None else None


def _plane(labels: Any, place: tuple[int, ...]) -> RowsAhead:
    return RowsAhead(RowsOf(lambda rows: np.asarray(labels[(*place, rows)]), labels.shape[-2:], labels.dtype))


class _Plane:
    """A plane of classes, and what it becomes."""

    _pieces: Components
    _cleaner: Cleaner

    def __init__(self, classes: RowsAhead, instances: RowsAhead | None, rows: slice) -> None:
        self._classes, self._instances, self._rows = classes, instances, rows
        self._bands = list(bands(rows.start, rows.stop, classes.shape[1]))
        self._ids, self._class_of = np.zeros(0, np.int64), np.zeros(0, np.uint8)

    def clean_steps(self, settings: CleanSettings) -> Generator[Progress, None, None]:
        """Find out what is to be done."""
        classes, instances = self._classes, self._instances

        # Without `self`, which would hold itself, and so the files, for longer than it is needed.
        def without_id(rows: slice) -> NDArray[Any]:
            return classes[rows] if instances is None else np.where(instances[rows] > 0, 0, classes[rows])

        with closing(components_steps(without_id, classes.shape, self._rows)) as finding:
            self._pieces = yield from finding
        self._cleaner = Cleaner(settings)
        seen = [np.zeros((2, 0), np.int64)]
        for number, band in enumerate(self._bands):
            yield Progress(band.start - self._rows.start, max(self._rows.stop - self._rows.start, 1), "cleaning")
            ids_yx = self._together(number)
            self._cleaner.add(ids_yx)
            label, y, x, _ = runs(ids_yx)
            ids, first = np.unique(label, return_index=True)
            seen.append(np.stack([ids, self._classes[band][y[first], x[first]]]))
        self._cleaner.settle()
        every, of = np.concatenate(seen, axis=1)
        self._ids, first = np.unique(np.append(0, every), return_index=True)
        self._class_of = np.append(0, of)[first].astype(np.uint8)

    @property
    def classes(self) -> LazyPixels:
        """What the classes become."""
        return self._lazy(self._classes, lambda ids_yx: self._class_of[np.searchsorted(self._ids, ids_yx)])

    @property
    def objects(self) -> LazyPixels:
        """What the ids of objects become."""
        given = self._classes if self._instances is None else self._instances
        return self._lazy(given, lambda ids_yx: np.where(ids_yx >= NO_ID, 0, ids_yx).astype(np.uint32))

    def _lazy(self, as_it_was: RowsAhead, make: Any) -> LazyPixels:
        def read(rows: slice) -> NDArray[Any]:
            made = np.array(as_it_was[rows])
            for number, band in enumerate(self._bands):
                first, stop = max(rows.start, band.start), min(rows.stop, band.stop)
                if first < stop:
                    part = self._cleaner.apply(self._together(number), number)[first - band.start : stop - band.start]
                    made[first - rows.start : stop - rows.start] = make(part)
            return made

        return in_blocks(RowsOf(read, as_it_was.shape, as_it_was.dtype), BLOCK_BYTES)

    def _together(self, number: int) -> NDArray[np.int64]:
        """Ids of a band, those of pieces without one from `NO_ID` on."""
        pieces_yx = self._pieces.strip(number).astype(np.int64)
        ids_yx = np.where(pieces_yx > 0, pieces_yx + NO_ID, 0)
        return (
            ids_yx if self._instances is None else np.where(pieces_yx > 0, ids_yx, self._instances[self._bands[number]])
        )

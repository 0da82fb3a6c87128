"""A hidden folder for what is on the way, which the next run finds again if this one is killed."""

from __future__ import annotations

import contextlib
import shutil
import time
import weakref
from itertools import count
from typing import IO, TYPE_CHECKING

from napari_matseg.core.export import make_folder
from napari_matseg.core.locks import try_lock, unlock

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = ".large-"
LOCK = "lock"
STALE_S, FORGOTTEN_S = 24 * 3600.0, 30 * 24 * 3600.0
"""Ages from which nobody will go on with what was begun: if the same image was begun otherwise since, and in any case.
Not every network drive knows locks, so what is new may be in use."""


class Workspace:
    """A folder that belongs to this process as long as this object lives, and is deleted with it.

    Attributes
    ----------
    folder : Path
    """

    def __init__(self, folder: Path, file: IO[bytes]) -> None:
        self.folder = folder
        self._end = weakref.finalize(self, _delete, folder, file)

    def delete(self) -> None:
        """Delete the folder now; nothing happens the second time."""
        self._end()

    def leave(self) -> None:
        """Let go of the folder, for a later run to go on with it."""
        found = self._end.detach()
        if found is not None:
            _, _, (folder, file), _ = found
            unlock(file, folder / LOCK, delete=False)


def claim(work: Path, image: str, key: str) -> Workspace:
    """Take the folder of a job, with what a run that was killed left in it.

    Parameters
    ----------
    work : Path
        Folder that it is made in, itself made if it is missing.
    image, key : str
        Names of the image and of all that the result depends on. What is left of the same image by another key is
        deleted after a day, and anything after a month, if no process has it.

    Raises
    ------
    OutputError
        If the folder cannot be made or written to.
    """
    make_folder(work)
    _clean(work, f"{PREFIX}{image}-", f"{PREFIX}{image}-{key}")
    for n in count():
        folder = work / (f"{PREFIX}{image}-{key}" + (f"-{n}" if n else ""))
        make_folder(folder)
        file = try_lock(folder / LOCK)
        if file is not None:
            return Workspace(folder, file)
    raise AssertionError  # count() has no end


def _clean(work: Path, of_image: str, of_key: str) -> None:
    for folder in work.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            other = folder.name.startswith(of_image) and not folder.name.startswith(of_key)
            old = time.time() - folder.stat().st_mtime > (STALE_S if other else FORGOTTEN_S)
            if old and (file := try_lock(folder / LOCK)) is not None:
                _delete(folder, file)


def _delete(folder: Path, file: IO[bytes]) -> None:
    # Others that want it must find it gone, and not be let in while it goes.
    gone = folder.with_name(folder.name.replace(PREFIX, f"{PREFIX}gone-", 1))
    with contextlib.suppress(OSError):
        folder.rename(gone)
        folder = gone
    unlock(file, folder / LOCK, delete=False)
    shutil.rmtree(folder, ignore_errors=True)

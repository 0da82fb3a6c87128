"""Files that one process at a time may work with; the system lets go of them when a process ends, however it does."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from typing import IO, TYPE_CHECKING

from napari_matseg.core.progress import Progress
from napari_matseg.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

PAUSE = 0.1  # s between two tries
LOCKED_BYTE = 1 << 30
_HELD: set[IO[bytes]] = set()


def lock(path: Path, note: str) -> Generator[Progress, None, IO[bytes]]:
    """Open a file, and wait until no other process or thread has it locked.

    Parameters
    ----------
    path : Path
        Made if there is none.
    note : str
        Of the progress, while another has it.

    Yields
    ------
    Progress

    Returns
    -------
    file object
        To read and write in binary; to be given to `unlock`.

    Raises
    ------
    OutputError
        If the file cannot be opened.
    """
    while True:
        try:
            file = path.open("ab+")
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written ({error.strerror}); choose a folder that you may write to."
            ) from error
        if _try_lock(file):
            # The one who had it may have deleted it between our opening and our locking it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    _HELD.add(file)
                    return file
        file.close()
        yield Progress(0, 1, note)
        time.sleep(PAUSE)


def try_lock(path: Path) -> IO[bytes] | None:
    """Open and lock a file as `lock` does, but without waiting: None while another has it.

    Raises
    ------
    OutputError
        If the file cannot be opened.
    """
    waiting = lock(path, "")
    try:
        next(waiting)
    except StopIteration as stop:
        file: IO[bytes] = stop.value
        return file
    waiting.close()
    return None


def unlock(file: IO[bytes], path: Path, *, delete: bool) -> None:
    """Close a locked file, and delete it if there is no more use for it."""
    _HELD.discard(file)
    if delete and sys.platform != "win32":
        path.unlink(missing_ok=True)
    file.close()
    if delete and sys.platform == "win32":  # where an open file cannot be deleted, as that of one who waits
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _try_lock(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(LOCKED_BYTE)  # a locked byte cannot be read, so it is one that is never written
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network drives know no locks, and work goes on without.
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True


def _let_go_in_child() -> None:
    """Take locks from a forked process, or they would last until it, too, has ended."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for file in _HELD:
        with contextlib.suppress(ValueError):  # closed by other means
            os.dup2(nowhere, file.fileno(), inheritable=False)
    os.close(nowhere)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)

"""Outputs as they lie on the disk: their sizes, whether they have got there, and why they could not."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any

from napari_matseg.core.provenance import hash_file

if TYPE_CHECKING:
    from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)


def describe(path: Path) -> dict[str, Any]:
    """Bring an output to the disk, and say what identifies it."""
    for one in (path, *path.rglob("*")) if path.is_dir() else (path,):
        sync(one)
    return {"file": path.name, "bytes": size(path), "sha256": hash_file(path)}


def size(path: Path) -> int | None:
    """Bytes of a file, or of all files in a folder; None if it is not there."""
    try:
        if path.is_dir():
            return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
        return path.stat().st_size
    except OSError:
        return None


def make_below(out: Path, folder: Path) -> None:
    """Make a folder and those between it and `out`, but not `out`: it might come to lie where a lost drive was."""
    if folder != out:
        make_below(out, folder.parent)
        folder.mkdir(exist_ok=True)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    if not path.is_dir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    elif sys.platform != "win32":  # which opens no folders
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        except OSError as error:
            if error.errno not in NO_FOLDER_SYNC:
                raise
        finally:
            os.close(opened)


def reason(error: OSError) -> str:
    """Why something could not be written, and what to do about it."""
    if error.errno in NO_ROOM:
        return "cannot be written, since the disk is full; free some space and run it again."
    if error.errno in NO_RIGHT:
        return f"cannot be written ({error.strerror}); close it elsewhere, or get the permission, and run it again."
    if error.errno == errno.ENOENT:
        return "cannot be written, since the folder is gone; look whether its drive is there, and run it again."
    return f"cannot be written ({error.strerror or error}); check the drive, and run it again."

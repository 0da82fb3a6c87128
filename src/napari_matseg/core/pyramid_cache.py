"""Smaller copies of large micrographs, for viewing, in a folder of the user's that does not grow without end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

from napari_matseg.core.embeddings import ABANDONED_S, ROOM, cache_folder

if TYPE_CHECKING:
    from pathlib import Path

    import zarr

FORMAT = 1
SUFFIX = ".pyramid"
EDGE = 1 << 16
"""Bytes at the start, in the middle and at the end of a file that its key depends on."""
METADATA = ("zarr.json", ".zattrs", ".zarray", ".zgroup", "0/zarr.json", "0/.zarray")


def pyramid_folder() -> Path:
    """Folder of the smaller copies, beside that of the embeddings."""
    return cache_folder().parent / "pyramids"


def pyramid_key(source: Path, about: object) -> str:
    """Name of the smaller copies of a file, without reading all of it.

    Parameters
    ----------
    source : Path
        A file, or the folder of a Zarr store.
    about : object
        What else they depend on, in plain JSON types.

    Returns
    -------
    str
        64 hexadecimal digits. Another one once the file was moved or written to: it goes by path, length, time of
        the last change, and bytes of three places.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, str(source.absolute()), about]).encode())
    files = [source / name for name in METADATA] if source.is_dir() else [source]
    for path in files:
        with contextlib.suppress(OSError), path.open("rb") as file:
            status = os.fstat(file.fileno())
            digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}".encode())
            for start in (0, status.st_size // 2, max(status.st_size - EDGE, 0)):
                file.seek(start)
                digest.update(file.read(EDGE))
    return digest.hexdigest()


def find_pyramid(path: Path, shapes: list[tuple[int, ...]]) -> list[zarr.Array[Any]] | None:
    """Open smaller copies, and note that they are in use.

    Returns
    -------
    list of zarr.Array, or None
        None where they are not all there; what there is of them is removed then.
    """
    import zarr

    if not path.is_dir():
        return None
    try:
        arrays = [zarr.open_array(path / str(level), mode="r") for level in range(1, len(shapes) + 1)]
    except (OSError, ValueError, KeyError):
        arrays = []
    if [array.shape for array in arrays] != shapes:
        shutil.rmtree(path, ignore_errors=True)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return arrays


def shrink_folder(folder: Path, max_bytes: int, spare: Path) -> None:
    """Remove what was not used for longest until the rest has at most so many bytes, and what was left half done.

    Parameters
    ----------
    folder : Path
    max_bytes : int
    spare : Path
        The one that stays in any case.
    """
    kept: list[tuple[float, int, Path]] = []
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            changed = path.stat().st_mtime
            if path.name.startswith("."):
                # Its arrays are written to as long as it is being made.
                newest = max([changed, *(file.stat().st_mtime for file in path.glob("*"))])
                if newest < time.time() - ABANDONED_S:
                    shutil.rmtree(path, ignore_errors=True)
            else:
                size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                kept.append((changed, size, path))
    total = sum(size for _, size, _ in kept)
    room = max_bytes if total <= max_bytes else int(ROOM * max_bytes)
    for _, size, path in sorted(kept):
        if total <= room:
            break
        if path != spare:
            shutil.rmtree(path, ignore_errors=True)
            total -= size

"""Embeddings that were computed once: on disk by content, bounded, shared by sessions; and the latest in memory."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from napari_matseg.core.export import replacing
from napari_matseg.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Hashable

FORMAT = 1
SUFFIX = ".embedding"
DIGEST = hashlib.sha256().digest_size
ABANDONED_S = 3600.0
"""Age from which a temporary file cannot be one that is being written."""
ROOM = 0.9
"""Share of the bound that is kept when it was exceeded, so that not each further file needs another one removed."""

T = TypeVar("T")


def cache_folder() -> Path:
    """Folder of the embeddings: in NAPARI_MATSEG_CACHE, or in napari-matseg in the user's cache folder."""
    override = os.environ.get("NAPARI_MATSEG_CACHE")
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(override) if override else Path(base) / "napari-matseg") / "embeddings"


def embedding_key(model_sha256: str, dtype: str, image: np.ndarray) -> str:
    """Name of an embedding, by all that it depends on.

    Parameters
    ----------
    model_sha256 : str
        Of the model's weights.
    dtype : str
        What the image encoder computes in.
    image : array, uint8
        What it is given.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, model_sha256, dtype, list(image.shape)]).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


class EmbeddingStore:
    """Embeddings on disk. Several processes may share one folder.

    Nothing that happens to the folder stops the work: what cannot be read is missing, and what cannot be written is
    not kept.

    Parameters
    ----------
    folder : Path
        Made when it is needed.
    max_bytes : int
        Bound of all files together; those that were not used for longest go first. 0 keeps nothing.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._failed = False

    def get(self, key: str) -> np.ndarray | None:
        """Read an embedding.

        Returns
        -------
        array, shape (1, channels, height, width), float32, or None
            None if it is not there, or damaged; a damaged file is removed.
        """
        if not self.max_bytes:
            return None
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        embedding = _unpacked(content)
        with contextlib.suppress(OSError):  # a folder that may only be read
            if embedding is None:
                path.unlink(missing_ok=True)
            else:
                os.utime(path)
        return embedding

    def put(self, key: str, embedding: np.ndarray) -> str:
        """Keep an embedding.

        Parameters
        ----------
        key : str
        embedding : array, shape (1, channels, height, width), float32
            Where float16 holds it as well it takes half of the room; never are answers changed by being kept.

        Returns
        -------
        str
            Empty; or, the first time that it fails, what the user should know.
        """
        if not self.max_bytes or self._failed:
            return ""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._path(key)) as temporary:
                temporary.write_bytes(_packed(embedding))
            self._shrink()
        except (OSError, OutputError) as error:
            self._failed = True
            return f"embeddings cannot be kept for the next time ({error})"
        return ""

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def _shrink(self) -> None:
        """Remove what is too much; another process may remove the same at the same time."""
        kept: list[tuple[float, int, str]] = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if not entry.name.endswith(SUFFIX):
                        continue
                    status = entry.stat()
                    if not entry.name.startswith("."):
                        kept.append((status.st_mtime, status.st_size, entry.path))
                    elif status.st_mtime < time.time() - ABANDONED_S:
                        Path(entry.path).unlink(missing_ok=True)
        kept.sort()
        total = sum(size for _, size, _ in kept)
        room = self.max_bytes if total <= self.max_bytes else int(ROOM * self.max_bytes)
        for _, size, path in kept:
            if total <= room:
                break
            with contextlib.suppress(OSError):
                Path(path).unlink(missing_ok=True)
            total -= size


def _packed(embedding: np.ndarray) -> bytes:
    """Put the sha256 of a .npy file before it."""
    with np.errstate(over="ignore"):
        half = embedding.astype(np.float16)
    buffer = io.BytesIO()
    np.save(buffer, half if np.array_equal(half, embedding) else embedding, allow_pickle=False)
    content = buffer.getvalue()
    return hashlib.sha256(content).digest() + content


def _unpacked(content: bytes) -> np.ndarray | None:
    """Give what was packed, or None if it is damaged."""
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        return None
    try:
        embedding: np.ndarray = np.load(io.BytesIO(content[DIGEST:]), allow_pickle=False).astype(np.float32)
    except (ValueError, EOFError):
        return None
    return embedding


class Recent(Generic[T]):
    """The latest few of what was used, by key; the one that was not used for longest goes first.

    Parameters
    ----------
    most : int
        How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable) -> T | None:
        """Give what is kept by this key, or None."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: Hashable, value: T) -> None:
        """Keep something by a key."""
        self._kept[key] = value
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

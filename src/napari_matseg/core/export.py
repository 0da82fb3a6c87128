"""Results as files: written whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image
from pydantic import BaseModel

from napari_matseg.errors import OutputError

NAMESPACE = "napari-matseg"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file in the same folder, which takes the place of `path` if all goes well.

    Parameters
    ----------
    path : Path
        File to write; one of that name is kept until the new one is complete.

    Yields
    ------
    Path
        Temporary file to write to; gone afterwards in any case.

    Raises
    ------
    OutputError
        If anything cannot be written.
    """
    temporary = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: {explain(path, error)}") from error
    finally:
        with contextlib.suppress(OSError):  # where it could not even be created
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder, with those it lies in, unless it is there already.

    Raises
    ------
    OutputError
        If it cannot be made, or not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose another folder.") from error
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder}: may not be written to; choose another folder.")


def write_json(path: Path, obj: object) -> None:
    """Write JSON; numbers that JSON does not know (NaN and infinities) become null.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    _write_text(path, to_json(obj) + "\n")


def to_json(obj: object, indent: int | None = 2) -> str:
    """Text of what `write_json` writes."""
    return json.dumps(_plain(obj), indent=indent, allow_nan=False)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write a table with one column for each key, in the order in which the keys first come.

    Parameters
    ----------
    path : Path
        File to write.
    rows : sequence of mappings
        Keys that a row lacks, None and NaN are left empty.
    columns : sequence of str, optional
        Columns that come first, and are there even if no row has them.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    write_rows(path, rows, list(dict.fromkeys([*columns, *(name for row in rows for name in row)])))


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write a table as `write_csv` does, of which the columns are known, and the rows need not be in memory together.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        if columns:
            table.writeheader()
        table.writerows({name: "" if _is_nan(value) else value for name, value in row.items()} for row in rows)


def write_png(path: Path, rgb_yxs: np.ndarray) -> None:
    """Write a picture.

    Parameters
    ----------
    path : Path
        File to write.
    rgb_yxs : array, shape (height, width, 3) or (height, width), uint8

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with replacing(path) as temporary:
        Image.fromarray(rgb_yxs).save(temporary, format="PNG")


def _is_nan(value: object) -> bool:
    return isinstance(value, float | np.floating) and math.isnan(value)


def _plain(value: Any) -> Any:
    """Turn a value into the types that JSON knows."""
    if isinstance(value, BaseModel):
        return _plain(value.model_dump())
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def explain(path: Path, error: OSError, *, folder: bool = False) -> str:
    """Say why a file, or a folder, cannot be written and what to do about it."""
    if path.is_dir() and not folder:
        return "is a folder; give the name of a file in it."
    if not path.parent.is_dir():
        return f"cannot be written, since there is no folder {path.parent}; create it first."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "cannot be written, since the disk is full; free some space and try again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"cannot be written ({error.strerror}); choose a folder that you may write to."
    return f"cannot be written ({error.strerror or error}); check the disk and the path."

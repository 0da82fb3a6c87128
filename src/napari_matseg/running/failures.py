"""What is said of a micrograph that could not be worked on: a sentence for the user, and a note beside the outputs."""

from __future__ import annotations

import contextlib
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from napari_matseg._version import __version__
from napari_matseg.errors import MatsegError
from napari_matseg.running.disk import make_below

if TYPE_CHECKING:
    from pathlib import Path

    from napari_matseg.running.states import Source

KEY = "Key: "


def failure_note(out: Path, name: str) -> Path:
    """File that says why a micrograph failed; gone once it succeeds."""
    return out / f"{name}_failed.txt"


def reason_of(error: Exception, source: Source) -> str:
    """Say what went wrong, and what to do, in one line."""
    if isinstance(error, MatsegError):
        return " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"{source.path}: does not fit into the memory; give fewer workers, smaller tiles or a larger machine."
    what = " ".join(f"{type(error).__name__}: {error}".removesuffix(": ").split())[:300]
    note = f"{source.name.rpartition('/')[2]}_failed.txt"
    if isinstance(error, OSError):
        return f"{source.path}: could not be worked on ({what}); check the drives and run it again."
    return f"{source.path}: met an error that should not be ({what}); please report it with {note}."


def write_failure(out: Path, source: Source, error: Exception, key: str | None) -> str:
    """Leave a note beside the outputs, as far as that can be written, and give the reason.

    Parameters
    ----------
    out : Path
    source : Source
    error : Exception
        With its traceback, which the note holds unless it is a user's mistake.
    key : str or None
        Of the outputs that were asked for.
    """
    reason = reason_of(error, source)
    lines = [reason, "", f"Tried {datetime.now(UTC).isoformat(timespec='seconds')} with napari-matseg {__version__}."]
    lines += [f"{KEY}{key}"] if key else []
    if not isinstance(error, MatsegError):
        lines += ["", *(line.rstrip("\n") for line in traceback.format_exception(error))]
    note = failure_note(out, source.name)
    with contextlib.suppress(OSError):
        make_below(out, note.parent)
        note.write_bytes(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))
    return reason


def failed_before(out: Path, name: str, key: str) -> str | None:
    """Why a micrograph failed the last time, if the same was asked for then."""
    try:
        lines = failure_note(out, name).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return lines[0] if f"{KEY}{key}" in lines else None


def forget_failure(out: Path, name: str) -> None:
    """Delete the note, if there is one."""
    with contextlib.suppress(OSError):
        failure_note(out, name).unlink(missing_ok=True)

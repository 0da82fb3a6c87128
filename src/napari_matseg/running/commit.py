"""Outputs of one micrograph, written so that a kill or a power loss at any moment leaves complete sets only.

Everything is written into a folder of its own below `<out>/.napari-matseg`, and brought to the disk. Then the old
record goes, the files take their places, and the record comes last: a record that is there speaks of files that are.
What a process left that died in the midst of this is finished or deleted by `clean_up`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import time
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psutil

from napari_matseg.core.export import write_json
from napari_matseg.core.locks import try_lock, unlock
from napari_matseg.core.provenance import hash_file
from napari_matseg.errors import OutputError
from napari_matseg.running.disk import describe, make_below, reason, size, sync

if TYPE_CHECKING:
    from collections.abc import Iterator

WORK_FOLDER = ".napari-matseg"
"""Holds what is being written, and whose turn it is. It stays, and marks a folder as that of a run."""
RECORD = "_record.json"
TEMPORARY, CLAIM = ".tmp", ".claim"
LOCK, READY, OLD = "lock", "ready", "old "
"""In a temporary folder: locked while its process lives; there when all is written; begins what was there before."""
FORGOTTEN = 24 * 3600
"""Seconds without a change after which what another machine was writing counts as dead: its processes cannot be seen
from here, and not every network drive passes locks on."""
_OWN: set[str] = set()
"""Temporary folders that this process is writing to."""


class Commit:
    """Outputs of one micrograph while they are written; made by `commit`.

    Attributes
    ----------
    record : dict
        To be filled with what the record says, but for the outputs, which are put in at the end.
    files : dict of str to Path
        Outputs and record in their places, once `commit` has ended well.
    """

    def __init__(self, out: Path, name: str, temporary: Path) -> None:
        self._out, self._name, self._temporary = out, name, temporary
        self._written: dict[str, str] = {}
        self._kept: dict[str, dict[str, Any]] = {}
        self.record: dict[str, Any] = {}
        self.files: dict[str, Path] = {}

    def path(self, what: str, ending: str) -> Path:
        """Where to write an output for now: a file, or a folder such as a Zarr store.

        Parameters
        ----------
        what : str
            What it holds; "labels" becomes `<name>_labels<ending>`. A second word, as in "objects parquet", is not part
            of the file's name.
        ending : str
            With its dot.
        """
        start = _record_path(self._out, self._name).name.removesuffix(RECORD)
        self._written[what] = f"{start}_{what.partition(' ')[0]}{ending}"
        return self._temporary / self._written[what]

    def keep(self, what: str) -> Path:
        """Let an output of the old set stay as it is, and say where it is.

        Raises
        ------
        KeyError
            If the old set is not complete, or has no such output.
        """
        self._kept[what] = (committed(self._out, self._name) or {"outputs": {}})["outputs"][what]
        return _record_path(self._out, self._name).with_name(self._kept[what]["file"])

    def finish(self) -> None:
        """Let everything take its place; `commit` does this at its end."""
        place = _record_path(self._out, self._name)
        new = {what: describe(self._temporary / file) for what, file in self._written.items()}
        outputs = self._kept | new
        write_json(self._temporary / place.name, self.record | {"outputs": outputs})
        (self._temporary / READY).write_text(self._name, encoding="utf-8")
        sync(self._temporary / READY)
        sync(self._temporary)
        _publish(self._temporary, place)
        self.files = {what: place.with_name(str(about["file"])) for what, about in outputs.items()}
        self.files["record"] = place


@contextlib.contextmanager
def commit(out: Path, name: str) -> Iterator[Commit]:
    """Write the outputs of a micrograph: at the end all of them take their places, and nothing changes before.

    Parameters
    ----------
    out : Path
        Folder of the run. It has to be there: one that is made anew might lie where a lost drive was.
    name : str
        Of the outputs, as in `Source`; folders in it are made.

    Yields
    ------
    Commit
        After an error nothing has changed. Outputs of the old set that are neither written anew nor kept are deleted.

    Raises
    ------
    OutputError
        If anything cannot be written.
    """
    place = _record_path(out, name)
    with _explaining(out, name):
        temporary = _work_folder(out) / f"{_host()}-{os.getpid()}-{uuid4().hex[:8]}{TEMPORARY}"
        make_below(out, place.parent)
        _OWN.add(temporary.name)
        temporary.mkdir()
    try:
        with _explaining(out, name, temporary), _locked(temporary / LOCK):
            one = Commit(out, name, temporary)
            yield one
            one.finish()
    finally:
        # If some have taken their places and some could not, `clean_up` of a later run may finish it.
        _OWN.discard(temporary.name)
        if size(place) is not None or not _is_whole(temporary, place):
            shutil.rmtree(temporary, ignore_errors=True)


def committed(out: Path, name: str, *, thoroughly: bool = False) -> dict[str, Any] | None:
    """Record of a complete set of outputs; None if there is none, or a file is missing or of another size.

    Parameters
    ----------
    out : Path
    name : str
    thoroughly : bool
        Whether the content of the files is compared with the record, too, which takes reading them.
    """
    place = _record_path(out, name)
    record = _read_record(place)
    if record is None:
        return None
    for about in record["outputs"].values():
        path = place.with_name(about["file"])
        if size(path) != about["bytes"] or (thoroughly and hash_file(path) != about["sha256"]):
            return None
    return record


@contextlib.contextmanager
def claim(out: Path, name: str) -> Iterator[bool]:
    """Take a micrograph's outputs for this process, so that no other run works on them.

    The system lets go of the claim when the process ends, however it does.

    Yields
    ------
    bool
        Whether nobody else has it. Where the drive knows no locks, or does not pass them on to other machines, it is
        had by all who ask; whoever finishes last is then whose outputs stay.

    Raises
    ------
    OutputError
        If the folder cannot be written to.
    """
    with _explaining(out, name):
        # Of what some systems take for the same name.
        same = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        path = _work_folder(out) / f"{hashlib.sha256(same.encode()).hexdigest()[:32]}{CLAIM}"
    held = try_lock(path)
    try:
        yield held is not None
    finally:
        if held is not None:
            unlock(held, path, delete=True)


def clean_up(out: Path) -> None:
    """Finish what processes that died had written completely, and delete what they had not.

    What a process that lives is writing stays. Of another machine only the time tells: what it has not touched for a
    day counts as dead.
    """
    try:
        left = sorted((out / WORK_FOLDER).iterdir())
    except OSError:
        return
    for path in left:
        with contextlib.suppress(OSError, OutputError):  # such as of a clean-up at the same time
            if path.suffix == CLAIM and (held := try_lock(path)) is not None:
                unlock(held, path, delete=True)
            elif path.suffix == TEMPORARY and _is_dead(path):
                with _locked(path / LOCK) as is_free:
                    if is_free:
                        _recover(out, path)
                if is_free:
                    shutil.rmtree(path, ignore_errors=True)


def _recover(out: Path, temporary: Path) -> None:
    """Let outputs take their places that are complete, unless others have done so since."""
    if not (temporary / READY).is_file():
        return
    name = (temporary / READY).read_text(encoding="utf-8")
    place = _record_path(out, name)
    with claim(out, name) as is_ours:
        if is_ours and not place.exists() and _is_whole(temporary, place):
            _publish(temporary, place)


def _publish(temporary: Path, place: Path) -> None:
    """Let outputs and record take their places. Once begun and broken off, it can be done again."""
    record = _read_record(temporary / place.name)
    files = set() if record is None else {str(about["file"]) for about in record["outputs"].values()}
    old = temporary / f"{OLD}{place.name}"
    if place.exists():
        place.replace(old)
        sync(place.parent)  # lest a power loss brings the old record back beside new files
    for file in sorted(files):
        if (temporary / file).exists():
            if place.with_name(file).is_dir():  # which no system lets a rename replace
                place.with_name(file).replace(temporary / f"{OLD}{file}")
            (temporary / file).replace(place.with_name(file))
    before = _read_record(old) or {"outputs": {}}
    for file in {str(about["file"]) for about in before["outputs"].values()} - files:
        if file.startswith(place.name.removesuffix("record.json")) and place.with_name(file).exists():
            place.with_name(file).replace(temporary / f"{OLD}{file}")
    sync(place.parent)
    (temporary / place.name).replace(place)
    sync(place.parent)


def _is_whole(temporary: Path, place: Path) -> bool:
    """Whether all that a temporary folder's record tells of is there, or has taken its place already."""
    record = _read_record(temporary / place.name) if size(temporary / READY) else None
    return record is not None and all(
        about["bytes"] in (size(temporary / about["file"]), size(place.with_name(about["file"])))
        for about in record["outputs"].values()
    )


def _is_dead(temporary: Path) -> bool:
    """Whether the process that made a temporary folder is gone, as far as can be seen."""
    host, pid, _ = temporary.stem.rsplit("-", 2)
    if host == _host():
        is_own = int(pid) == os.getpid()
        if temporary.name not in _OWN if is_own else not psutil.pid_exists(int(pid)):
            return True
    newest = max(path.stat().st_mtime for path in (temporary, *temporary.rglob("*")))
    return time.time() - newest > FORGOTTEN


def _read_record(path: Path) -> dict[str, Any] | None:
    """Read a record that tells of its outputs; None if it is not there, or is another kind of file."""
    try:
        record = json.loads(path.read_bytes())
        is_ours = all(
            Path(about["file"]).name == about["file"] and isinstance(about["bytes"], int) and about["sha256"]
            for about in record["outputs"].values()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return record if is_ours else None


def _record_path(out: Path, name: str) -> Path:
    return out / f"{name}{RECORD}"


def _work_folder(out: Path) -> Path:
    folder = out / WORK_FOLDER
    folder.mkdir(exist_ok=True)
    return folder


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", platform.node())[:64]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock unless another holds it, and say whether it is held."""
    held = try_lock(path)
    try:
        yield held is not None
    finally:
        if held is not None:
            unlock(held, path, delete=False)


@contextlib.contextmanager
def _explaining(out: Path, name: str, temporary: Path | None = None) -> Iterator[None]:
    """Say of an error in writing what is wrong with the place, of which alone the user knows."""
    place = _record_path(out, name)
    try:
        yield
    except OutputError as error:
        raise OutputError(str(error).replace(str(temporary or place), str(place.parent))) from error
    except OSError as error:
        at = place if error.filename is None else Path(os.fsdecode(error.filename))
        if not at.is_relative_to(out):
            raise  # not about what is written
        if temporary is not None and at.is_relative_to(temporary):
            at = place.parent / at.relative_to(temporary)
        raise OutputError(f"{at}: {reason(error)}") from error

"""Take files out of a ZIP archive that nobody checked, and nothing but these."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from napari_matseg.core.export import make_folder
from napari_matseg.core.progress import Progress
from napari_matseg.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

BLOCK = 1 << 20
MOST_FILES = 20_000
FORBIDDEN = set('<>:"\\|?*') | {chr(code) for code in range(32)}
"""Characters that names of files may not have somewhere."""


def unpack(
    archive: Path,
    folder: Path,
    *,
    place: Callable[[PurePosixPath], PurePosixPath | None],
    most_bytes: int,
    comment: bytes | None = None,
) -> Generator[Progress, None, Path]:
    """Unpack some files of an archive into a folder of their own, which is there whole or not at all.

    Parameters
    ----------
    archive : Path
        A ZIP file.
    folder : Path
        It must not be there yet.
    place : callable
        Where each file belongs within the folder by its name in the archive; None for what is left out.
    most_bytes : int
        All files together may unpack to no more.
    comment : bytes, optional
        What the archive's comment must be.

    Yields
    ------
    Progress
        In files.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    InputError
        If the archive is damaged, is another one, or has names, links or sizes that no honest one has.
    OutputError
        If the folder is there already, or cannot be written.
    """
    if folder.exists():
        raise OutputError(f"{folder}: is there already; name another folder, or delete it.")
    temporary = folder.with_name(f"{folder.name}.part")
    try:
        with zipfile.ZipFile(archive) as zipped:
            if comment is not None and zipped.comment != comment:
                raise InputError(f"{archive}: is not the archive expected (its comment is not {comment.decode()}).")
            chosen = _choose(archive, zipped, place)
            yield from _write(archive, zipped, chosen, temporary, most_bytes)
        temporary.replace(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError) as error:
        raise InputError(f"{archive}: the archive is damaged ({error}); delete it and fetch it again.") from error
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error}); choose a folder that you may write to."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _choose(
    archive: Path, zipped: zipfile.ZipFile, place: Callable[[PurePosixPath], PurePosixPath | None]
) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """Files that are wanted and where they belong, none outside, none twice."""
    chosen: dict[str, tuple[zipfile.ZipInfo, PurePosixPath]] = {}
    for info in zipped.infolist():
        if info.is_dir():
            continue
        _check(archive, info.filename)
        target = place(PurePosixPath(info.filename))
        if target is None:
            continue
        _check(archive, str(target))
        if stat.S_ISLNK(info.external_attr >> 16):
            raise InputError(f"{archive}: {info.filename!r} is a link; this is no archive to trust.")
        if info.flag_bits & 0x1:
            raise InputError(f"{archive}: {info.filename!r} is encrypted; get an archive that is not.")
        if str(target).casefold() in chosen:
            raise InputError(f"{archive}: has {info.filename!r} twice; this is no archive to trust.")
        chosen[str(target).casefold()] = info, target
    if not 0 < len(chosen) <= MOST_FILES:
        raise InputError(f"{archive}: holds {len(chosen)} of the files expected; fetch it again.")
    return list(chosen.values())


def _check(archive: Path, name: str) -> None:
    parts = name.split("/")
    if not all(parts) or {".", ".."} & set(parts) or any(FORBIDDEN & set(part) for part in parts):
        raise InputError(f"{archive}: holds a file named {name!r}, which may lie outside; this is no archive to trust.")


def _write(
    archive: Path,
    zipped: zipfile.ZipFile,
    chosen: list[tuple[zipfile.ZipInfo, PurePosixPath]],
    folder: Path,
    most_bytes: int,
) -> Generator[Progress, None, None]:
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    left = most_bytes
    for done, (info, target) in enumerate(chosen):
        yield Progress(done, len(chosen), f"unpacking {target.name}")
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipped.open(info) as packed, path.open("xb") as file:
            # What the archive claims of its sizes is not to be relied on.
            while block := packed.read(BLOCK):
                left -= len(block)
                if left < 0:
                    raise InputError(
                        f"{archive}: unpacks to more than {most_bytes / 1e6:.0f} MB; this is not the archive expected."
                    )
                file.write(block)
    yield Progress(len(chosen), len(chosen), f"{len(chosen)} files unpacked")

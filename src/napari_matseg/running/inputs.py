"""Which micrographs a run is about: folders, patterns, lists and files become sources with names."""

from __future__ import annotations

import os
import re
from collections import defaultdict, deque
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from napari_matseg.core.image_pairs import IMAGE_SUFFIXES, STORE
from napari_matseg.core.read import first_bytes
from napari_matseg.core.read_mrc import SUFFIXES as MRC_SUFFIXES
from napari_matseg.core.read_mrc import is_mrc
from napari_matseg.core.read_zarr import is_zarr
from napari_matseg.errors import InputError
from napari_matseg.running.commit import RECORD, WORK_FOLDER
from napari_matseg.running.names import alike, name_all, natural
from napari_matseg.running.states import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = re.compile(r"[*?\[]")
RESULT = re.compile(
    r"(.+?)_(?:(?:uncleaned_)?(?:labels(?:_\d+)?|instances|overlay|probabilities)\.(?:tif|png|ome\.zarr)|thumbnail\.jpg)"
)
"""Results that could be taken for micrographs; a record is beside those that are some."""


def find_inputs(inputs: Sequence[Path | str], out: Path) -> tuple[list[Source], list[str]]:
    """Find the micrographs to run a recipe on.

    Parameters
    ----------
    inputs : sequence of Path or str
        Any mixture of

        - files, and folders that are one OME-Zarr;
        - folders, which are looked through with their sub-folders for files that can be read. What is hidden, results
          of runs, and `out` are left out; links are followed, but not in circles;
        - patterns such as "data/**/*.tif"; a folder that matches is looked through;
        - lists, which are text files, named "*.txt" or given as "@list": in each line a file, folder or pattern, as
          seen from where the list is. Empty lines and those that begin with # do not count. What is not there becomes
          a source all the same, to fail and be told of.
    out : Path
        Folder of the run, which need not be there yet.

    Returns
    -------
    sources : list of Source
        Each file once, however often it was named, sorted by name with numbers as numbers. Files in sub-folders keep
        them in their names; where several folders are given, each file has the name of its own before that.
    notes : list of str
        What was left out and why, in words for the user.

    Raises
    ------
    InputError
        If nothing is found, something named is not there, or results would lie beside inputs.
    """
    search = _Search(out)
    for one in inputs:
        search.add(one, has_others=len(inputs) > 1)
    found = search.found()
    if not found:
        what = ", ".join(map(str, inputs)) or "nothing was named, which"
        raise InputError(f"{what}: holds no micrograph ({' '.join(IMAGE_SUFFIXES)}); name a folder, pattern or file.")
    sources = [Source(path, name) for (path, _), name in zip(found, name_all(found), strict=True)]
    sources.sort(key=lambda source: natural(source.name))
    _check_places(sources, out)
    return sources, search.notes


def _check_places(sources: Sequence[Source], out: Path) -> None:
    """Keep results away from inputs: they could take their places, or be taken for inputs by the next run."""
    places = {os.path.realpath(folder) for folder in {(out / source.name).parent for source in sources}}
    for folder in sorted({source.path.parent for source in sources}):
        if os.path.realpath(folder) in places:
            raise InputError(
                f"{folder}: holds micrographs, and results may not lie among them; "
                f"choose another folder for the results, such as {folder / 'results'}."
            )


class _Search:
    """What was found up to now, and what was left out."""

    def __init__(self, out: Path) -> None:
        self._out = os.path.realpath(out)
        self._ways: dict[str, set[tuple[Path, PurePath]]] = defaultdict(set)  # by the path without links
        self.notes: list[str] = []

    def add(self, given: Path | str, *, has_others: bool) -> None:
        """Look for what was named: a list, or one of what a list may hold."""
        path = Path(given).expanduser()
        if str(given).startswith("@") and not os.path.lexists(path):
            self._add_list(Path(str(given)[1:]).expanduser())
        elif path.suffix.lower() == ".txt" and not os.path.isdir(path):
            self._add_list(path)
        else:
            folder, _ = _split(path)
            if not self._add_one(path, PurePath(_absolute(folder).name) if has_others else PurePath()):
                raise InputError(f"{path}: there is no such file or folder; check the path.")

    def found(self) -> list[tuple[Path, PurePath]]:
        """Each file once, and the folder below that of the run that its outputs go to.

        Of several ways to a file, one without links comes first, then the one with the most folders.
        """
        groups: dict[str, list[str]] = defaultdict(list)
        for real in sorted(self._ways):
            groups[alike(real)].append(real)
        # Where capitals make no difference, one file can be reached by two names.
        kept = [
            real
            for group in groups.values()
            for i, real in enumerate(group)
            if not any(_is_same(real, other) for other in group[:i])
        ]
        return [
            min(self._ways[real], key=lambda way: (str(_absolute(way[0])) != real, -len(way[1].parts), str(way[0])))
            for real in kept
        ]

    def _add_list(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise InputError(f"{path}: the list cannot be read ({error.strerror}); check the path.") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: is no list of files as UTF-8 text; save it as such.") from error
        base = _absolute(path.parent)
        for line in lines:
            entry = line.strip().strip('"')
            if entry and not entry.startswith("#"):
                one = _absolute(base / Path(entry).expanduser())
                folder, _ = _split(one)
                below = folder.relative_to(base) if folder.is_relative_to(base) else PurePath(folder.name)
                if not self._add_one(one, below):
                    self._keep(one, below.parent)

    def _add_one(self, path: Path, below: PurePath) -> bool:
        """Look for a file, folder or pattern; False if there is none.

        Parameters
        ----------
        path : Path
        below : PurePath
            Where its outputs go below the folder of the run if it is a folder; if it is a file, that is in its parent.
        """
        if os.path.isdir(path):
            self._walk(path, below)
        elif os.path.lexists(path):
            self._keep(path, below.parent)
        elif MAGIC.search(str(path)):
            self._add_pattern(path, below)
        else:
            return False
        return True

    def _add_pattern(self, path: Path, below: PurePath) -> None:
        folder, pattern = _split(path)
        is_closed = cache(lambda place: self._is_left_out(place) or _is_store(place))
        try:
            matches = sorted(folder.glob(pattern))
        except ValueError as error:
            raise InputError(f"{path}: is no pattern ({error}); write ** between slashes only.") from error
        if not matches:
            self.notes.append(f"{path}: matches nothing")
        for match in matches:
            inside = match.relative_to(folder)
            is_hidden = any(part.startswith(".") for part in inside.parts)
            if is_hidden or any(is_closed(folder / parent) for parent in list(inside.parents)[:-1]):
                continue
            if os.path.isdir(match):
                if not self._is_left_out(match):
                    self._walk(match, below / inside)
            elif _is_micrograph(match):
                self._keep(match, below / inside.parent)

    def _walk(self, top: Path, below_top: PurePath) -> None:
        """Look through a folder; what links lead to comes last, so that other ways to it come first."""
        folders, links = [(top, below_top)], deque[tuple[Path, PurePath]]()
        seen = set()
        while folders or links:
            folder, below = folders.pop() if folders else links.popleft()
            real = os.path.realpath(folder)
            if real in seen or (folder != top and self._is_left_out(folder)):
                continue
            seen.add(real)
            if _is_store(folder):
                if folder == top or not _is_result(folder):
                    self._keep(folder, below.parent)
                continue
            try:
                with os.scandir(folder) as listed:
                    entries = sorted(listed, key=lambda entry: entry.name)
            except OSError as error:
                self.notes.append(f"{folder}: cannot be looked through ({error.strerror}); left out")
                continue
            for entry in entries:
                path = folder / entry.name
                if entry.name.startswith("."):
                    continue
                if os.path.isdir(path) if entry.is_symlink() else entry.is_dir():
                    (links.append if entry.is_symlink() else folders.append)((path, below / entry.name))
                elif _is_micrograph(path):
                    self._keep(path, below, None if entry.is_symlink() else os.path.join(real, entry.name))

    def _is_left_out(self, folder: Path) -> bool:
        """Whether a folder is that of a run, this or another."""
        if os.path.realpath(folder) == self._out or _is_same(folder, self._out):
            return True
        if os.path.isdir(folder / WORK_FOLDER):
            self.notes.append(f"{folder}: holds results of a run; left out")
            return True
        return False

    def _keep(self, path: Path, folder: PurePath, real: str | None = None) -> None:
        self._ways[real or os.path.realpath(path)].add((path, folder))


def _absolute(path: PurePath) -> Path:
    """Path without dots, but with links as they are."""
    return Path(os.path.abspath(path))


def _split(path: Path) -> tuple[Path, str]:
    """Folder in which a pattern begins, and the pattern; "" where it is none."""
    first = next((i for i, part in enumerate(path.parts) if MAGIC.search(part)), len(path.parts))
    if first == len(path.parts) or os.path.lexists(path):
        return path, ""
    return Path(*path.parts[:first]), "/".join(path.parts[first:])


def _is_same(one: str | Path, other: str | Path) -> bool:
    """Whether two paths that differ in capitals or accents alone lead to the same."""
    try:
        return alike(os.path.realpath(one)) == alike(os.path.realpath(other)) and os.path.samefile(one, other)
    except OSError:
        return False


def _is_store(folder: Path) -> bool:
    try:
        return folder.suffix.lower() == STORE or is_zarr(folder)
    except OSError:  # of a folder that may not be looked into
        return False


def _is_result(path: Path) -> bool:
    result = RESULT.fullmatch(path.name)
    return result is not None and os.path.exists(path.with_name(f"{result[1]}{RECORD}"))


def _is_micrograph(path: Path) -> bool:
    """Whether a file seems to be one, by its name; some endings are of many things, so that its first bytes count."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES and suffix != STORE:
        return not _is_result(path)
    if suffix not in MRC_SUFFIXES:
        return False
    try:
        return is_mrc(first_bytes(path), suffix)
    except InputError:
        return False

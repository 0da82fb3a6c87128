"""What the outputs of micrographs are called: names that every system can have, and no two the same."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from napari_matseg.core.image_pairs import IMAGE_SUFFIXES
from napari_matseg.core.read_mrc import SUFFIXES as MRC_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_BYTES = 255
"""Of a file's name, on the usual file systems."""
ENDING_BYTES = 40
"""Kept free of these for what is put after a name; "_probabilities.ome.zarr" and the like."""
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]')
"""By Windows; the last are what Python makes of bytes that are no text."""
AMBIGUOUS = "_uncleaned"
"""At the end of a name it could be the beginning of what an output of another name holds."""
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in "123456789¹²³")}


def name_all(found: Sequence[tuple[Path, PurePath]]) -> list[str]:
    """Names for the outputs of files.

    Those that would have the same name, on any system, get their extension into it; if that does not help, the folder
    that they are in, and at last a hash of their path. So the names depend on which files there are, not on their
    order.

    Parameters
    ----------
    found : sequence of (Path, PurePath)
        Different files, and the folder below that of the run that each one's outputs go to.

    Returns
    -------
    list of str

    Examples
    --------
    >>> name_all([(Path("a.tif"), PurePath()), (Path("a.png"), PurePath()), (Path("b.ome.tif"), PurePath("s 1"))])
    ['a_tif', 'a_png', 's 1/b']
    """
    choices = [_choices(path, folder) for path, folder in found]
    chosen = [0] * len(choices)
    while True:
        groups: dict[str, list[int]] = defaultdict(list)
        for i, names in enumerate(choices):
            groups[alike(names[chosen[i]]).removesuffix(AMBIGUOUS)].append(i)
        mended = [i for group in groups.values() if len(group) > 1 for i in group if chosen[i] + 1 < len(choices[i])]
        if not mended:
            return [names[i] for names, i in zip(choices, chosen, strict=True)]
        for i in mended:
            chosen[i] += 1


def alike(name: str) -> str:
    """Form in which names are the same if any system takes them for the same: capitals, and accents taken apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def natural(name: str) -> tuple[list[str | int], str]:
    """Key to sort names by, with numbers as numbers.

    Examples
    --------
    >>> sorted(["b10", "B9", "b1"], key=natural)
    ['b1', 'B9', 'b10']
    """
    parts = re.split(r"([0-9]+)", alike(name))
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _choices(path: Path, folder: PurePath) -> list[str]:
    """Names that a file may have, the best first; the last is nobody else's."""
    whole = unicodedata.normalize("NFC", path.name)
    suffix = PurePath(whole).suffix
    stem = whole.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES + MRC_SUFFIXES else whole
    if stem.lower().endswith(".ome"):
        stem = stem[:-4]
    extension = whole[len(stem) :].strip(".").replace(".", "_")
    longer = f"{stem}_{extension}" if extension else stem
    full = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:12]
    places = [(folder, stem), (folder, longer)]
    if folder == PurePath() and path.absolute().parent.name:
        places.append((PurePath(path.absolute().parent.name), stem))
    places.append((folder, f"{stem}-{full}"))
    return ["/".join(_allowed(part) for part in (*place.parts, last)) for place, last in places]


def _allowed(part: str) -> str:
    """Make a part of a path one that every system can have."""
    whole = unicodedata.normalize("NFC", part)
    part = FORBIDDEN.sub("_", whole)
    if part[-1] in ". ":
        part = f"{part[:-1]}_"
    if part[0] == "." or part.split(".")[0].rstrip().lower() in RESERVED:
        part = f"_{part.removeprefix('.')}"
    most = MOST_BYTES - ENDING_BYTES
    if len(part.encode()) <= most:
        return part
    mark = "-" + hashlib.sha256(os.fsencode(whole)).hexdigest()[:12]
    return part.encode()[: most - len(mark)].decode(errors="ignore") + mark

"""Images and their truths, matched by the names of their files."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

IMAGE_SUFFIXES = (
    *(".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp"),
    *(".zarr", ".dm3", ".dm4", ".emd", ".ser", ".mrc"),
)
STORE = ".zarr"
"""Suffix of folders that are one image each."""
DRAWN_SUFFIXES = (".zip", ".roi", ".json")
"""Of truth that is drawn and not painted: ImageJ's regions of interest, and COCO."""

ENDINGS = (
    *("mask", "masks", "truth", "gt", "groundtruth", "label", "labels", "seg", "segmentation", "object", "objects"),
    *("instance", "instances", "class", "classes", "outline", "outlines", "roi", "rois", "roiset", "annotation"),
    *("annotations", "overlay"),
)
"""What the name of a truth or of a result has more than that of its image, after one of `_-. `."""
PICTURES = {"overlay"}  # endings of what is neither an image nor a truth
LISTED = 5  # files that a message names before it says how many more there are

_ENDED = re.compile(rf"(.+?)[ _.-]+({'|'.join(ENDINGS)})")


def match_files(
    images: Path | Sequence[Path], truth: Path, *, prefer: Sequence[str] = ("",)
) -> list[tuple[Path, Path]]:
    """Find the truth of each image.

    A truth has the name of its image, but for the extension, capitals and what is in `ENDINGS`, on either side. Where
    several have, the one in the like sub-folder is meant. Drawings in JSON count only where there is nothing else, and
    one of COCO is the truth of all images that it lists.

    Parameters
    ----------
    images : Path or sequence of Path
        Images or predictions, or a folder with them and its sub-folders, which `find_images` looks through.
    truth : Path
        A folder, with its sub-folders; or a file, for a single image or, in COCO, for several.
    prefer : sequence of str
        As for `find_images`.

    Returns
    -------
    list of (image, truth)
        In the order of the images; each has one.

    Raises
    ------
    InputError
        If there are no images, or some have no truth or more than one; the message names them.

    Examples
    --------
    >>> match_files([Path("run 3/A1_labels.tif")], Path("truth/a1.zip"))
    [(PosixPath('run 3/A1_labels.tif'), PosixPath('truth/a1.zip'))]
    """
    if isinstance(images, Path):
        images = find_images(images, truth, prefer=prefer)
    if is_folder(truth):
        return _match_folder(images, truth)
    if len(images) == 1:
        return [(images[0], truth)]
    if not truth.exists():
        raise InputError(f"{truth}: there is no such file or folder; check the path.")
    if truth.suffix.lower() != ".json":
        raise InputError(f"{truth}: is the truth of one image, and there are {len(images)}; give a folder of truths.")
    missing = [image for image in images if not _lists(truth, image)]
    if missing:
        raise InputError(f"{truth}: does not list {_names(missing)}; give the truth of these images.")
    return [(image, truth) for image in images]


def find_images(folder: Path, truth: Path | None = None, *, prefer: Sequence[str] = ("",)) -> list[Path]:
    """Find the images in a folder and its sub-folders.

    Parameters
    ----------
    folder : Path
        Or a file, which is then the only one.
    truth : Path, optional
        Folder whose files are no images.
    prefer : sequence of str
        Endings, without what is before them: of several files whose names differ in nothing else, the first that is
        there. ("instances", "labels", "") takes what a segmentation wrote.

    Raises
    ------
    InputError
        If there is none, or `prefer` does not decide.
    """
    if not is_folder(folder):
        return [folder]
    groups: dict[tuple[Path, str], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in _walk(folder, IMAGE_SUFFIXES):
        name, ending = _parted(stem_of(path))
        if ending not in PICTURES and not (truth is not None and _is_inside(path, truth) and _is_inside(truth, folder)):
            groups[path.parent, name][ending].append(path)
    found = []
    for group in groups.values():
        ending = next((one for one in prefer if one in group), next(iter(group)))
        several = group[ending] if ending in prefer else [path for paths in group.values() for path in paths]
        if len(several) > 1:
            raise InputError(f"{_names(several)}: are of one image; leave one in {folder}.")
        found += several
    if not found:
        raise InputError(f"{folder}: holds no image; name another folder.")
    return sorted(found)


def truths_in(folder: Path, images: Sequence[Path]) -> dict[Path, list[Path]]:
    """Find what may be the truth of each image in a folder and its sub-folders, by the rules of `match_files`."""
    taken = {image.resolve() for image in images}
    by_name: dict[str, list[Path]] = defaultdict(list)
    tables: list[Path] = []
    for path in _walk(folder, IMAGE_SUFFIXES + DRAWN_SUFFIXES):
        name, ending = _parted(stem_of(path))
        if path.suffix.lower() == ".json":
            tables.append(path)
        elif path.resolve() not in taken and ending not in PICTURES:
            for one in {stem_of(path), name}:
                by_name[one].append(path)
    return {image: _nearest(image, _like(image, by_name) or _in_tables(image, tables), folder) for image in images}


def file_named(folder: Path, name: str) -> Path | None:
    """Find the image or truth of a name, whatever its extension and capitals.

    Parameters
    ----------
    folder : Path
        Without its sub-folders.
    name : str
        With or without an extension; dots may belong to it.

    Returns
    -------
    Path or None
        A file of just that name; else the first in the order of the extensions above.
    """
    if (folder / name).exists() and not is_folder(folder / name):
        return folder / name
    wanted = _normal(without_suffix(name))
    suffixes = IMAGE_SUFFIXES + DRAWN_SUFFIXES
    like = [path for path in _files(folder) if path.suffix.lower() in suffixes and stem_of(path) == wanted]
    return min(like, key=lambda path: (suffixes.index(path.suffix.lower()), path.name), default=None)


def without_suffix(name: str) -> str:
    """Name without the extension of an image or drawing; other dots belong to the name."""
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES + DRAWN_SUFFIXES else name


def stem_of(path: Path) -> str:
    """Name of a file without its extension, in the form in which names are compared.

    Examples
    --------
    >>> stem_of(Path("Probe 3.OME.TIF"))
    'probe 3'
    """
    return _normal(path.stem).removesuffix(".ome")


def bare(stem: str) -> str:
    """Name of the image that a truth or result is of.

    Examples
    --------
    >>> bare("probe-3_mask")
    'probe-3'
    """
    return _parted(stem)[0]


def _match_folder(images: Sequence[Path], folder: Path) -> list[tuple[Path, Path]]:
    found = truths_in(folder, images)
    for image, truths in found.items():
        if len(truths) > 1:
            raise InputError(
                f"{folder}: holds more than one truth for {image.name}: {_names(truths)}; "
                f"leave one, named {_expected(image)}."
            )
    missing = [image for image, truths in found.items() if not truths]
    if missing:
        raise InputError(f"{folder}: holds no truth for {_names(missing)}; it should be named {_expected(missing[0])}.")
    return [(image, found[image][0]) for image in images]


def _nearest(image: Path, truths: list[Path], folder: Path) -> list[Path]:
    """Truths whose sub-folders have the names of those that the image is in, the most of them."""
    parents = [_normal(name) for name in image.absolute().parent.parts]
    depths = {}
    for path in truths:
        place = [_normal(name) for name in path.parent.relative_to(folder).parts]
        if parents[len(parents) - len(place) :] == place:
            depths[path] = len(place)
    return [path for path, depth in depths.items() if depth == max(depths.values())] or truths


def _like(image: Path, by_name: dict[str, list[Path]]) -> list[Path]:
    stem = stem_of(image)
    return by_name.get(stem) or by_name.get(bare(stem)) or []


def _in_tables(image: Path, tables: Sequence[Path]) -> list[Path]:
    """Find JSON that is named like the image, or lists it."""
    stem = stem_of(image)
    named = [path for path in tables if stem in (stem_of(path), bare(stem_of(path)))]
    return named or [path for path in tables if _lists(path, image)]


def _lists(table: Path, image: Path) -> bool:
    from napari_matseg.core.truth_coco import lists_image

    try:
        return lists_image(table, image)
    except InputError:  # such as another program's JSON
        return False


def _expected(image: Path) -> str:
    return f"{image.stem} or {image.stem}_mask"


def _names(paths: Sequence[Path]) -> str:
    more = len(paths) - LISTED
    return ", ".join(path.name for path in paths[:LISTED]) + (f" and {more} more" if more > 0 else "")


def _parted(stem: str) -> tuple[str, str]:
    """Name, and its ending if it has one."""
    found = _ENDED.fullmatch(stem)
    return (found[1], found[2]) if found else (stem, "")


def _normal(name: str) -> str:
    """Letters as they are compared: macOS takes accents apart, and Windows makes no difference of capitals."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _is_inside(path: Path, folder: Path) -> bool:
    return folder.resolve() in path.resolve().parents


def is_folder(path: Path) -> bool:
    """Whether a path is a folder, and not one that is an image."""
    return path.is_dir() and path.suffix.lower() != STORE


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in sorted(folder.iterdir()) if not is_folder(path)) if folder.is_dir() else ()


def _walk(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files of a folder and its sub-folders, but for what is hidden."""
    found = []
    for place, folders, files in os.walk(folder):
        files += [name for name in folders if Path(name).suffix.lower() == STORE]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in files)
        found += [Path(place, name) for name in sorted(files) if Path(name).suffix.lower() in suffixes]
    return [path for path in found if not path.name.startswith(".")]

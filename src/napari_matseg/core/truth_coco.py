"""Objects as COCO keeps them: outlines and run-length codes of many images in one JSON file.

The format is described at https://cocodataset.org/#format-data. Its outlines are those of pixel corners, as in
`core.spans`.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.drawn import Drawn
from napari_matseg.core.image_pairs import bare, stem_of
from napari_matseg.core.spans import FARTHEST, Spans, check_area, fill, of_counts
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_BYTES = 2**30  # of the file; what it takes in memory is some ten times as much
MOST_PIXELS = 2**28  # of an image whose size only the file tells
LISTED = 5  # images that a message names

Item = dict[str, Any]


def lists_image(path: Path, image: str | Path) -> bool:
    """Whether a file has an entry for an image of that name.

    Raises
    ------
    InputError
        If it is no COCO file.
    """
    return bool(_named(_load(path)["images"], image))


def draw_coco(path: Path, image: str | Path | None, shape_yx: tuple[int, int] | None) -> tuple[Drawn, list[str]]:
    """Find the pixels of the objects of an image.

    Parameters
    ----------
    path : Path
        JSON with `images`, `annotations` and `categories`.
    image : str or Path, optional
        Name of the image; None: the only one.
    shape_yx : (int, int), optional
        Height and width of the image; None: as the file has them.

    Returns
    -------
    objects : Drawn
        In the order of the file.
    notes : list of str
        What was left out.

    Raises
    ------
    InputError
        If the file is no COCO file, does not list the image or lists it with another size, or an annotation makes no
        sense.
    """
    content = _load(path)
    entry = _entry(content["images"], image, path)
    shape_yx = _shape(entry, shape_yx, path)
    categories = {one.get("id"): one.get("name") for one in content["categories"] if isinstance(one.get("id"), int)}
    rings: list[NDArray[np.float64]] = []
    owners: list[int] = []
    spans: list[Spans] = []
    names: list[str] = []
    numbers: list[int] = []
    crowd: list[bool] = []
    boxes = area = 0
    for annotation in content["annotations"]:
        if annotation.get("image_id") != entry.get("id"):
            continue
        outline = annotation.get("segmentation")
        if not outline:
            boxes += 1
            continue
        try:
            counts = _counts(outline, shape_yx) if isinstance(outline, dict) else None
            found = _rings(outline) if counts is None else []
            number = annotation.get("category_id", 0)
            if not isinstance(number, int) or abs(number) >= 2**63:
                raise InputError("category_id is no whole number")
        except InputError as error:
            raise InputError(f"{path}: annotation {annotation.get('id')}: {error}; export it again.") from error
        rings += found
        owners += [len(names)] * len(found)
        if counts is not None:
            area += int(counts[1::2].sum())
            check_area(area, shape_yx, str(path))
            spans.append(of_counts(counts, len(names), shape_yx))
        name = categories.get(number)
        names.append(name.strip() if isinstance(name, str) else "")
        numbers.append(number)
        crowd.append(annotation.get("iscrowd") in (1, True))
    spans.append(fill(rings, range(len(rings)), owners, shape_yx, str(path)))
    drawn = Drawn(
        str(path),
        shape_yx,
        Spans.join(spans),
        tuple(names),
        np.array(numbers, dtype=np.int64),
        np.array(crowd, dtype=bool),
    )
    return drawn, [f"boxes without an outline, left out: {boxes}"] if boxes else []


def _load(path: Path) -> dict[str, list[Item]]:
    try:
        about = path.stat()
        if about.st_size > MOST_BYTES:
            raise InputError(f"{path}: has more than {MOST_BYTES >> 30} GiB; split it by images.")
        return _parse(path, about.st_mtime_ns, about.st_size)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path.") from error


@lru_cache(maxsize=1)  # a file is asked for each of its images in turn
def _parse(path: Path, _changed: int, _size: int) -> dict[str, list[Item]]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({str(error)[:120]}); export it again.") from error
    except MemoryError as error:
        raise InputError(f"{path}: does not fit into the memory; split it by images.") from error
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise InputError(f"{path}: is no COCO file, which has images and annotations; export it as COCO.")
    lists = {key: content.get(key, []) for key in ("images", "annotations", "categories")}
    for key, items in lists.items():
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise InputError(f"{path}: {key} is no list of objects; export it again as COCO.")
    return lists


def _named(images: Sequence[Item], image: str | Path) -> list[Item]:
    """Entries of an image: those of just its name, else those that are like it but for the usual endings."""
    known = [(entry, entry["file_name"]) for entry in images if isinstance(entry.get("file_name"), str)]
    paths = [(entry, Path(name.replace("\\", "/"))) for entry, name in known]
    wanted = Path(image)
    for same in (
        lambda path: path.parts == wanted.parts[-len(path.parts) :],
        lambda path: path.name == wanted.name,
        lambda path: stem_of(path) == stem_of(wanted),
        lambda path: bare(stem_of(path)) == bare(stem_of(wanted)),
    ):
        if found := [entry for entry, path in paths if same(path)]:
            return found
    return []


def _entry(images: Sequence[Item], image: str | Path | None, path: Path) -> Item:
    found = list(images) if image is None else _named(images, image)
    if len(found) == 1:
        return found[0]
    listed = ", ".join(str(entry.get("file_name")) for entry in (found or images)[:LISTED])
    more = f" and {len(found or images) - LISTED} more" if len(found or images) > LISTED else ""
    if not images:
        raise InputError(f"{path}: lists no image; export it again.")
    if image is None:
        raise InputError(f"{path}: lists {listed}{more}; say which image is meant.")
    if found:
        raise InputError(f"{path}: lists {Path(image).name} more than once ({listed}{more}); leave one.")
    raise InputError(f"{path}: does not list {Path(image).name}, but {listed}{more}; give the truth of this image.")


def _shape(entry: Item, shape_yx: tuple[int, int] | None, path: Path) -> tuple[int, int]:
    stated = (entry.get("height"), entry.get("width"))
    name = entry.get("file_name")
    if stated == (None, None) and shape_yx is not None:
        return shape_yx
    height, width = stated
    if not isinstance(height, int) or not isinstance(width, int) or height < 1 or width < 1:
        raise InputError(f"{path}: height and width of {name} are {height} and {width}; correct them.")
    if shape_yx is None and height * width > MOST_PIXELS:
        raise InputError(f"{path}: {name} has {height} x {width} pixels, if that is right; give the image, too.")
    if shape_yx is not None and (height, width) != shape_yx:
        raise InputError(
            f"{path}: shape {(height, width)} is not that of its image {name}, {shape_yx}; "
            "give the truth of this image, neither cropped nor scaled."
        )
    return height, width


def _rings(outline: object) -> list[NDArray[np.float64]]:
    if not isinstance(outline, list):
        raise InputError("segmentation is neither outlines nor a run-length code")
    rings = []
    for polygon in outline:
        try:
            points = np.array(polygon)
        except (OverflowError, ValueError) as error:  # lists of several lengths in it
            raise InputError("an outline is no list of x and y") from error
        if points.ndim != 1 or len(points) % 2:
            raise InputError("an outline is no list of x and y")
        if points.size and points.dtype.kind not in "iuf":
            raise InputError("an outline is no list of numbers")
        points = points.astype(np.float64).reshape(-1, 2)
        if not (np.abs(points) <= FARTHEST).all():
            raise InputError("an outline has a corner that is no place in an image")
        rings.append(points)
    return rings


def _counts(code: Item, shape_yx: tuple[int, int]) -> NDArray[np.int64]:
    """Run lengths of a code that fits the image."""
    size, counts = code.get("size"), code.get("counts")
    if size != list(shape_yx):
        raise InputError(f"its code is for an image of size {size}, and this has {list(shape_yx)}")
    if isinstance(counts, str):
        lengths = _unpacked(counts)
    elif isinstance(counts, list) and all(type(one) is int and 0 <= one <= 2**40 for one in counts):
        lengths = np.array(counts, dtype=np.int64)
    else:
        raise InputError("its code is no list of counts")
    total = shape_yx[0] * shape_yx[1]
    if (lengths < 0).any() or (lengths > total).any() or int(lengths.sum()) != total:
        raise InputError(f"its code does not fill an image of {total} pixels")
    return lengths


def _unpacked(text: str) -> NDArray[np.int64]:
    """Run lengths of COCO's compressed code.

    Each number is a row of characters, the lowest five bits first, in characters from "0" on; 32 is added to all but
    the last, in whose five bits the highest is the sign. From the fourth on, a number is the difference to that two
    before it.
    """
    codes = np.frombuffer(text.encode("latin-1", errors="replace"), dtype=np.uint8).astype(np.int64) - ord("0")
    if not codes.size or (codes < 0).any() or (codes >= 64).any() or codes[-1] & 32:
        raise InputError("its compressed code is damaged")
    last = np.flatnonzero(codes < 32)
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    if length.max() > 8:  # more than 40 bits
        raise InputError("its compressed code is damaged")
    shift = 5 * (np.arange(len(codes)) - np.repeat(first, length))
    numbers: NDArray[np.int64] = np.add.reduceat((codes & 31) << shift, first) - (
        (codes[last] & 16) << (5 * length - 4)
    )
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers

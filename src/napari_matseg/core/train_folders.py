"""Folders of images and truths as a training may use them: what belongs together, and which classes there are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.evaluate import MAX_CLASSES
from napari_matseg.core.figures.plot import COLOURS
from napari_matseg.core.image_pairs import match_files
from napari_matseg.core.label_files import find_labels_info
from napari_matseg.core.progress import Progress
from napari_matseg.core.read import read
from napari_matseg.core.train_pairs import NOTHING
from napari_matseg.core.truth import IGNORE
from napari_matseg.core.truth_drawn import kind_of, read_drawn
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

MOST = 16  # colours that are classes; more are a picture
BACKGROUND = ClassSpec(name="background", colour=(0, 0, 0))


@dataclass(frozen=True)
class Folders:
    """What two folders hold.

    Attributes
    ----------
    images, truth : Path
    pairs : tuple of (image, truth)
    classes : tuple of ClassSpec
        By their values in the truths, from 0; also where `unlabelled` is 0.
    unlabelled : int or None
        Value that the files have for what is not labelled.
    objects : bool
        Whether the truths hold an id for each object instead of classes.
    """

    images: Path
    truth: Path
    pairs: tuple[tuple[Path, Path], ...]
    classes: tuple[ClassSpec, ...]
    unlabelled: int | None = None
    objects: bool = False


def look_into(images: Path, truth: Path) -> Generator[Progress, None, Folders]:
    """Match the files of two folders by their names, and find the classes in all truths.

    Classes are those that a file names (labels of this program, names of regions or categories), else colours, or the
    values up to the largest, where 255 among smaller ones is what is not labelled; other values from 64 on are ids of
    objects, unless there is only one.

    Yields
    ------
    Progress
        For each truth.

    Raises
    ------
    InputError
        If a file has no partner or more than one, cannot be read, or holds what is no truth.
    """
    pairs = match_files(images, truth)
    named: tuple[ClassSpec, ...] | None = None
    values: set[int] = set()
    colours: Counter[tuple[int, ...]] = Counter()
    names: dict[str, None] = {}
    for number, (image, path) in enumerate(pairs):
        yield Progress(number, len(pairs), f"looking at {path.name}")
        if kind_of(path) is not None:
            drawn, _ = read_drawn(path, read(image).shape_yx, image)
            names |= dict.fromkeys(name for one in drawn for name in one.names if name)
            continue
        named = named or find_labels_info(path)[0]
        micrograph = read(path)
        pixels = np.asarray(micrograph.pixels)
        if micrograph.is_colour:
            flat = pixels.reshape(-1, 3)
            flat = flat[(flat != flat[:, :1]).any(1)]
            seen, counts = np.unique(flat, axis=0, return_counts=True)
            if len(seen) > MOST:
                raise InputError(
                    f"{path}: has {len(seen)} colours, too many to be classes; save the truth without loss, as TIFF "
                    "or PNG."
                )
            colours.update({tuple(map(int, c)): int(n) for c, n in zip(seen, counts, strict=True)})
        else:
            values |= set(np.unique(pixels).tolist())
    if named:
        return Folders(images, truth, tuple(pairs), named, 0 if named[0].name == NOTHING.name else None)
    if colours:
        own = [ClassSpec(name=f"colour #{r:02x}{g:02x}{b:02x}", colour=(r, g, b)) for r, g, b in sorted(colours)]
        return Folders(images, truth, tuple(pairs), (BACKGROUND, *own))
    unlabelled = None
    if IGNORE in values and 0 < max(values - {IGNORE}, default=0) < MAX_CLASSES:
        values.remove(IGNORE)
        unlabelled = IGNORE
    many = len(values - {0}) > 1
    objects = many and max(values) >= MAX_CLASSES
    if names:
        found = list(names)
    elif objects or (not many and max(values, default=0) >= MAX_CLASSES):
        found = ["object"]
    else:
        found = [f"class {i}" for i in range(1, max(1, round(max(values, default=1))) + 1)]
    own = [ClassSpec(name=name, colour=colour_of(i)) for i, name in enumerate(found)]
    return Folders(images, truth, tuple(pairs), (BACKGROUND, *own), unlabelled, objects)


def colour_of(number: int) -> tuple[int, int, int]:
    """Colour of a class that has none, counted from 0."""
    text = COLOURS[number % (len(COLOURS) - 1)].removeprefix("#")
    red, green, blue = bytes.fromhex(text)
    return red, green, blue

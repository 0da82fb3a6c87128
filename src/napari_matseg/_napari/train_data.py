"""What a training learns from, as it was when it was started: layers or folders."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_matseg._napari.layers import as_read
from napari_matseg.core.dataset import Example
from napari_matseg.core.progress import Progress
from napari_matseg.core.read import read
from napari_matseg.core.train_folders import Folders
from napari_matseg.core.train_pairs import IMAGES, LABELS, Painted, names_of, save_pairs
from napari_matseg.core.truth import IGNORE
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassDataSettings, ClassSpec

SHARE = 0.25
"""Of the labels or images, held out to judge by."""
NOTHING_HELD_OUT = "Nothing is held out: how good the model is will not be known, and the last weights are kept."
REGION = (
    "Judged by a region of {}: a quarter of what is labelled, beyond a straight line. Outlines that nobody painted "
    "and other images will do worse than that says"
)


@dataclass(frozen=True, eq=False)
class FromLayers:
    """Painted layers.

    Attributes
    ----------
    painted : tuple of Painted
    files : tuple of Path or None
        What another reader read the images from.
    values : tuple of int
        Of each class in the layers.
    held_out : frozenset of str
        Names of those that are only to judge by.
    """

    painted: tuple[Painted, ...]
    files: tuple[Path | None, ...]
    values: tuple[int, ...]
    held_out: frozenset[str]

    objects = False

    def settings(self, name: str, *, hold_out: bool) -> ClassDataSettings:
        """Give settings for a training of that name, whose files are beside the recipe.

        Raises
        ------
        InputError
            If nothing is painted in a layer, or nothing is left to learn from.
        """
        train: list[str] = []
        validation: list[str] = []
        for one in self.painted:
            planes = names_of(one, self.values)
            if not planes:
                raise InputError(f"{one.name}: nothing is painted over it; paint, or untick its layer.")
            (validation if hold_out and one.name in self.held_out else train).extend(planes)
        if not train:
            raise InputError("every image is held out; let one be learnt from.")
        folder = Path(f"{name}_data")
        return ClassDataSettings(
            images=folder / IMAGES,
            truth=folder / LABELS,
            train=tuple(train),
            validation=tuple(validation),
            unlabelled=None if 0 in self.values else 0,
            region=SHARE if hold_out and not validation else None,
        )

    def prepare(self, folder: Path, name: str, classes: tuple[ClassSpec, ...]) -> Generator[Progress, None, Path]:
        """Write the pairs into a folder, and give what the settings' paths are relative to."""
        painted = [
            replace(one, micrograph=as_read(one.micrograph, file))
            for one, file in zip(self.painted, self.files, strict=True)
        ]
        yield from save_pairs(painted, self.values, classes, folder / f"{name}_data")
        return folder

    def example(self, channels: int) -> Example:
        """One image and its labels, to show augmentations on."""
        one = self.painted[0]
        planes = one.labels.reshape(-1, *one.micrograph.shape_yx)
        plane = int(np.argmax([np.count_nonzero(labels) for labels in planes]))
        ids = np.full(planes[plane].shape, IGNORE, dtype=np.uint8)
        for class_id, value in enumerate(self.values):
            ids[planes[plane] == value] = class_id
        rows = one.micrograph.content_rows
        return Example(one.name, one.micrograph.plane(plane, channels)[:, rows], ids[rows])

    def pixel_size_nm(self) -> float | None:
        """Pixel size of the images, if it is the same for all."""
        sizes = {None if (size := one.micrograph.pixel_size_nm) is None else size[0] for one in self.painted}
        return sizes.pop() if len(sizes) == 1 else None

    def same(self, other: Any) -> bool:
        """Whether that is what is painted there, too."""
        return (
            isinstance(other, FromLayers)
            and (self.values, self.held_out, self.files) == (other.values, other.held_out, other.files)
            and len(self.painted) == len(other.painted)
            and all(
                one.name == two.name and np.array_equal(one.labels, two.labels)
                for one, two in zip(self.painted, other.painted, strict=True)
            )
        )


@dataclass(frozen=True, eq=False)
class FromFolders:
    """Files that belong together.

    Attributes
    ----------
    folders : Folders
    unlabelled : int or None
        Value that is not labelled.
    """

    folders: Folders
    unlabelled: int | None

    @property
    def objects(self) -> bool:
        """Whether the truths hold an id for each object."""
        return self.folders.objects

    def settings(self, name: str, *, hold_out: bool) -> ClassDataSettings:
        """Give settings for a training of that name, with whole paths."""
        found = self.folders
        names = tuple(image.relative_to(found.images).as_posix() for image, _ in found.pairs)
        several = len(names) > 1
        return ClassDataSettings(
            images=found.images,
            truth=found.truth,
            truth_suffix=_suffix(found),
            train=names,
            validation=SHARE if hold_out and several else (),
            region=SHARE if hold_out and not several else None,
            unlabelled=self.unlabelled,
            instances=found.objects,
        )

    def prepare(self, folder: Path, name: str, classes: tuple[ClassSpec, ...]) -> Generator[Progress, None, Path]:
        """Nothing is to be written."""
        yield Progress(0, 1, "reading the images")
        return folder

    def example(self, channels: int) -> Example:
        """One image, to show augmentations on, without its truth."""
        micrograph = read(self.folders.pairs[0][0])
        image_cyx = micrograph.plane(channels=channels)[:, micrograph.content_rows]
        return Example(micrograph.name, image_cyx, np.full(image_cyx.shape[1:], IGNORE, dtype=np.uint8))

    def pixel_size_nm(self) -> float | None:
        """Nothing is known before the images are read."""
        return None

    def same(self, other: Any) -> bool:
        """Whether those are these files, too."""
        return isinstance(other, FromFolders) and (self.folders, self.unlabelled) == (other.folders, other.unlabelled)


def _suffix(found: Folders) -> str:
    """Give what the names of truths have more than those of images, if it is the same for all and none is deeper."""
    if any(image.parent != found.images or truth.parent != found.truth for image, truth in found.pairs):
        return ""
    more = {
        truth.stem.removeprefix(image.stem) if truth.stem.startswith(image.stem) else "" for image, truth in found.pairs
    }
    return more.pop() if len(more) == 1 else ""


Data = FromLayers | FromFolders


def say_held_out(images: int, held_out: int) -> str:
    """Say in words what a model is judged by.

    Parameters
    ----------
    images, held_out : int
        All images, and those of them that are not learnt from.
    """
    if held_out:
        return f"Judged by {held_out} of {images} images, which the model does not learn from."
    which = "the same image" if images == 1 else "each image"
    more = "." if images == 1 else "; to judge by a whole image, tick “hold out” beside it."
    return REGION.format(which) + more

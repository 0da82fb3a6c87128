"""Which images are learnt from, validated on and tested on; never one in two of these, by its name or by its pixels."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core import dataset
from napari_matseg.core.image_pairs import without_suffix
from napari_matseg.core.read import read
from napari_matseg.errors import InputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_matseg.core.dataset import Example
    from napari_matseg.settings import ClassDataSettings


@dataclass(frozen=True)
class Split:
    """Names of images.

    Attributes
    ----------
    train : tuple of str
        To learn from.
    validation : tuple of str
        To choose the weights by.
    test : tuple of str
        For the finished model.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """Names by what they are for."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def put_into(self, data: ClassDataSettings) -> ClassDataSettings:
        """Write the names into settings."""
        return data.model_copy(update=self.parts)


def split_images(data: ClassDataSettings, seed: int, folder: Path) -> Split:
    """Names of the images of a training.

    Parameters
    ----------
    data : ClassDataSettings
    seed : int
        Decides which are held out where a share of them is.
    folder : Path
        What the paths in the settings are relative to.

    Raises
    ------
    SettingsError
        If a list cannot be read, there is nothing to learn from, an image or a group is in two of the lists, or a
        name does not fit `data.group`.
    """
    test = tuple(dataset.names_in(data.test, folder))
    if isinstance(data.validation, float) and data.group is not None:
        names = dataset.names_in(data.train, folder)
        # As many groups as it takes; one is always left to learn from.
        groups = _shuffled(names, data.group, seed)
        wanted = max(1, round(data.validation * len(names)))
        held_out: list[str] = []
        while len(groups) > 1 and len(held_out) < wanted:
            held_out += groups.pop(0)
        if not held_out:
            raise SettingsError(f"data.group {data.group!r}: all images are of one group, and none can be held out.")
        split = Split(tuple(name for name in names if name not in held_out), tuple(held_out), test)
    else:
        train, validation = dataset.split(data, seed, folder)
        split = Split(tuple(train), tuple(validation), test)
    seen: dict[str, str] = {}
    for part, listed in split.parts.items():
        for name in dict.fromkeys(map(without_suffix, listed)):
            if seen.setdefault(name, part) != part:
                raise SettingsError(f"{name} is in both {seen[name]} and {part}; an image can be in one only.")
    if data.group is not None:
        of_group: dict[str, tuple[str, str]] = {}
        for part, listed in split.parts.items():
            for name in listed:
                other, first = of_group.setdefault(group_of(name, data.group), (part, name))
                if other != part:
                    raise SettingsError(
                        f"{first} in {other} and {name} in {part} are of the same group, "
                        f"{group_of(name, data.group)!r}; put them into the same list."
                    )
    return split


def make_folds(names: Sequence[str], folds: int, group: str | None, seed: int) -> list[tuple[str, ...]]:
    """Deal images out, each to one fold.

    Parameters
    ----------
    names : sequence of str
    folds : int
        At least 2.
    group : str or None
        Regular expression of what names have in common whose images stay together; None: each image is by itself.
    seed : int

    Returns
    -------
    list of tuple of str
        About as many names in each, in the order in which they were given.

    Raises
    ------
    SettingsError
        If there are fewer images or groups than folds.

    Examples
    --------
    >>> make_folds(["a1", "a2", "b1", "c1", "c2"], 2, "[abc]", 0)
    [('b1', 'c1', 'c2'), ('a1', 'a2')]
    """
    groups = _shuffled(names, group, seed)
    if not 2 <= folds <= len(groups):
        what = "images" if group is None else "groups of images"
        raise SettingsError(f"{folds} folds cannot be made of {len(groups)} {what}; take 2 to as many as there are.")
    dealt: list[list[str]] = [[] for _ in range(folds)]
    for one in sorted(groups, key=len, reverse=True):
        min(dealt, key=len).extend(one)
    return [tuple(name for name in names if name in fold) for fold in dealt]


def group_of(name: str, pattern: str) -> str:
    """Group of an image: what the first brackets of the pattern match, or all of it if it has none.

    Raises
    ------
    SettingsError
        If the pattern is not found in the name.

    Examples
    --------
    >>> group_of("alloy A_piece 3.tif", "(.*)_piece")
    'alloy A'
    """
    found = re.search(pattern, without_suffix(name))
    if found is None:
        raise SettingsError(f"{name}: has nothing that data.group, {pattern!r}, is about; correct the expression.")
    return found[1] if found.re.groups else found[0]


def check_apart(digests: Mapping[str, Mapping[str, str]]) -> None:
    """Hold copies to being in one part.

    Parameters
    ----------
    digests : dict
        For each part the digest of each of its images, by name.

    Raises
    ------
    InputError
        If the same image, under whatever name, is in two.
    """
    seen: dict[str, tuple[str, str]] = {}
    for part, images in digests.items():
        for name, digest in images.items():
            other, first = seen.setdefault(digest, (part, name))
            if other != part:
                raise InputError(
                    f"{name} in {part} is the same image as {first} in {other}; leave one of them out, or put both "
                    "into the same list."
                )


def digest_of(example: Example) -> str:
    """Sha256 of an image's pixels, whatever file they are in."""
    return _digest(example.image_cyx)


def digests_of(data: ClassDataSettings, names: Sequence[str], folder: Path, channels: int) -> dict[str, str]:
    """Give the digest of each image, of which one at a time is read.

    Raises
    ------
    InputError
        If one is missing or cannot be read.
    """
    found = {}
    for name in names:
        micrograph = read(dataset.files_of(data, name, folder)[0])
        found[name] = _digest(micrograph.plane(channels=channels)[:, micrograph.content_rows])
    return found


def _digest(image_cyx: np.ndarray) -> str:
    head = f"{image_cyx.shape} {image_cyx.dtype}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(image_cyx).tobytes()).hexdigest()


def _shuffled(names: Sequence[str], group: str | None, seed: int) -> list[list[str]]:
    """Names by their groups, in an order that the seed decides."""
    groups: dict[Any, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[name if group is None else group_of(name, group)].append(name)
    listed = list(groups.values())
    return [listed[i] for i in np.random.default_rng(seed).permutation(len(listed))]

"""What a training learns from, validates on and tests on; and what its model's card says of that."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.checkpoints import UsedImage, read_card
from napari_matseg.core.dataset import files_of, load_examples
from napari_matseg.core.held_out import hold_out_regions
from napari_matseg.core.image_pairs import without_suffix
from napari_matseg.core.provenance import hash_file
from napari_matseg.core.splits import check_apart, digest_of, split_images
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_matseg.core.dataset import Example
    from napari_matseg.core.splits import Split
    from napari_matseg.settings import TrainSettings


@dataclass(frozen=True, eq=False)
class Data:
    """Images of a training.

    Attributes
    ----------
    train, validation, test : list of Example
    split : Split
        Their names.
    files : dict
        The same by content, for the card.
    """

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    split: Split
    files: dict[str, tuple[UsedImage, ...]]

    @property
    def shown(self) -> Example:
        """One to show what the network makes of it: held out, if any is."""
        return (self.validation or self.train)[0]


def load_data(settings: TrainSettings, folder: Path) -> Data:
    """Read the images of a training and their truth.

    Raises
    ------
    InputError, SettingsError
        If one is missing, cannot be read, or is in two parts; see `split_images` and `check_apart`.
    """
    split = split_images(settings.data, settings.seed, folder)
    examples = {part: load_examples(settings, names, folder) for part, names in split.parts.items()}
    check_apart({part: {one.name: digest_of(one) for one in some} for part, some in examples.items()})
    files = hash_images(settings, split, folder)
    train, validation = examples["train"], examples["validation"]
    if settings.data.region is not None:
        train, validation = hold_out_regions(train, settings.data.region)
    return Data(train, validation, examples["test"], split, files)


def count_pixels(examples: Sequence[Example], settings: TrainSettings) -> list[int]:
    """How many pixels each class has.

    Raises
    ------
    InputError
        If one has none, and none is made.
    """
    n = len(settings.classes)
    counts = [np.bincount(example.classes_yx.ravel(), minlength=256)[:n] for example in examples]
    pixels = [int(total) for total in np.sum(counts, axis=0)]
    missing = [spec.name for spec, count in zip(settings.classes, pixels, strict=True) if not count]
    if missing and not settings.synthetic:
        raise InputError(
            f"class {missing[0]!r} has no pixel in what is to be learnt from ({len(examples)} image(s)); label some, "
            "leave the class out, or hold out something else."
        )
    return pixels


def portable(settings: TrainSettings, split: Split, folder: Path) -> dict[str, Any]:
    """Recipe that makes the same model wherever the data lie, and that does not tell where they lay.

    Parameters
    ----------
    settings : TrainSettings
    split : Split
        As it was made.
    folder : Path
        What the paths in the settings are relative to.

    Returns
    -------
    dict
        Plain values for `TrainSettings`. Paths are relative to `folder` or, of data that lay elsewhere, to the folder
        that images and truths have in common; images are named one by one; a model to begin with goes by its file's
        name.
    """
    recipe = settings.model_dump(mode="json")
    data = settings.data
    recipe["data"] |= {part: list(names) for part, names in split.parts.items()}
    paths = {"images": data.images, "truth": data.truth}
    if any(path.is_absolute() for path in paths.values()):
        whole = {name: Path(os.path.abspath(folder / path)) for name, path in paths.items()}
        base = _common(os.path.abspath(folder), whole.values())
        paths = {name: path.relative_to(base) if base else Path(path.name) for name, path in whole.items()}
    recipe["data"] |= {name: path.as_posix() for name, path in paths.items()}
    if settings.start is not None:
        start = Path(settings.start)
        recipe["start"] = start.name if start.is_absolute() or settings.start.startswith("~") else settings.start
    return recipe


def start_hash(settings: TrainSettings) -> str:
    """Checksum of the weights that a training begins with; nothing if they are random.

    Raises
    ------
    ModelError
        If there is no such model.
    """
    return "" if settings.start is None else read_card(settings.start).weights_sha256


def hash_images(settings: TrainSettings, split: Split, folder: Path) -> dict[str, tuple[UsedImage, ...]]:
    """Say what the files of a training hold.

    Returns
    -------
    dict
        For each part that has any, its images.

    Raises
    ------
    InputError
        If one is missing.
    """
    return {
        part: tuple(_used(settings, name, folder) for name in names) for part, names in split.parts.items() if names
    }


def _common(folder: str, paths: Any) -> Path | None:
    """Folder that the paths are to be relative to; None if they have none in common, as on two drives."""
    paths = list(paths)
    if all(path.is_relative_to(folder) for path in paths):
        return Path(folder)
    try:
        return Path(os.path.commonpath(paths))
    except ValueError:
        return None


def _used(settings: TrainSettings, name: str, folder: Path) -> UsedImage:
    image, truth = files_of(settings.data, name, folder)
    return UsedImage(
        name=without_suffix(name), image_sha256=hash_file(image) or "", truth_sha256=hash_file(truth) or ""
    )

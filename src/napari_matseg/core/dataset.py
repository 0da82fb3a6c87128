"""Images with truth, held in memory, and the crops that a training draws from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.segmentation import find_boundaries, relabel_sequential

from napari_matseg.core import synthetic
from napari_matseg.core.augment import augment
from napari_matseg.core.image_pairs import file_named, truths_in, without_suffix
from napari_matseg.core.normalise import GreyScale, grey_scale
from napari_matseg.core.read import read
from napari_matseg.core.truth import IGNORE, read_truth
from napari_matseg.core.truth_objects import TrueObjects, read_objects
from napari_matseg.errors import InputError, SettingsError
from napari_matseg.settings import ClassSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_matseg.settings import Colour, DataSettings, NormaliseSettings, TrainSettings

UNKNOWN_DISTANCE = -1.0
SPARSE = 0.5  # share of labelled pixels below which crops are drawn where labels are


@dataclass(frozen=True)
class Example:
    """A micrograph with its truth.

    Attributes
    ----------
    name : str
    image_cyx : array, shape (channels, height, width)
        Grey values as read.
    classes_yx : array, shape (height, width), uint8
        Class ids; 255 does not count.
    distance_yx : array, shape (height, width), float32, or None
        Depth inside the object, as `relative_depth` gives it.
    whole : GreyScale or None
        Grey scale of the micrograph of which this is a part; None if it is the whole.
    """

    name: str
    image_cyx: np.ndarray
    classes_yx: np.ndarray
    distance_yx: np.ndarray | None = None
    whole: GreyScale | None = None

    def scale(self, settings: NormaliseSettings) -> GreyScale:
        """Grey scale of the whole micrograph."""
        return self.whole or grey_scale(self.image_cyx, settings)


def load_examples(settings: TrainSettings, names: Sequence[str], folder: Path) -> list[Example]:
    """Read images and their truth.

    Parameters
    ----------
    settings : TrainSettings
    names : sequence of str
        Names of images, with or without extension.
    folder : Path
        What the paths in the settings are relative to.

    Raises
    ------
    InputError
        If an image or its truth is missing, cannot be read, or they differ in shape.
    """
    return [_load(settings, name, folder) for name in names]


def split(data: DataSettings, seed: int, folder: Path) -> tuple[list[str], list[str]]:
    """Names of the images to train on and to validate on; never one in both.

    Parameters
    ----------
    data : DataSettings
    seed : int
        Decides which images are held out where a share of them is.
    folder : Path
        What the paths in the settings are relative to.

    Raises
    ------
    SettingsError
        If a list cannot be read, there is nothing to train on, or an image is in both.
    """
    train = names_in(data.train, folder)
    if isinstance(data.validation, float):
        order = np.random.default_rng(seed).permutation(len(train))
        held_out = max(1, round(data.validation * len(train)))
        train, validation = [train[i] for i in order[held_out:]], [train[i] for i in sorted(order[:held_out])]
    else:
        validation = names_in(data.validation, folder)
    both = sorted(set(map(without_suffix, train)) & set(map(without_suffix, validation)))
    if both:
        raise SettingsError(f"{both[0]} is in both train and validation; an image can be in one only.")
    if not train:
        raise SettingsError("there is no image to train on; name some under data.train.")
    return train, validation


def relative_depth(objects_yx: np.ndarray) -> np.ndarray:
    """How deep inside its object each pixel lies: 0 outside and at its edge, 1 where it is deepest.

    Parameters
    ----------
    objects_yx : array, shape (height, width), integer
        One id per object, 0 outside.

    Returns
    -------
    array, shape (height, width), float32
        Euclidean distance to the object's edge, divided by the object's largest; the frame is no edge.
    """
    padded = np.pad(objects_yx, 1, mode="edge").astype(np.int64)
    inside = (padded > 0) & ~find_boundaries(padded, mode="inner")
    if inside.all():
        return np.ones(objects_yx.shape, dtype=np.float32)
    depth = ndimage.distance_transform_edt(np.pad(inside, 64, mode="edge"))[65:-65, 65:-65]
    deepest = np.zeros(int(objects_yx.max(initial=0)) + 1)
    np.maximum.at(deepest, objects_yx.ravel(), depth.ravel())
    relative: np.ndarray = np.divide(
        depth, deepest[objects_yx], out=np.zeros_like(depth), where=(objects_yx > 0) & (deepest[objects_yx] > 0)
    )
    return relative.astype(np.float32)


class Crops:
    """Random training crops; the crop of a given number is always the same.

    Where less than half of an image is labelled, each crop shows a labelled pixel, of each class as often.

    Parameters
    ----------
    examples : sequence of Example
    settings : TrainSettings
    """

    def __init__(self, examples: Sequence[Example], settings: TrainSettings) -> None:
        self._settings = settings
        self._examples = examples
        self._scales = [example.scale(settings.normalise) for example in examples]
        self._places = [_places(example.classes_yx) for example in examples]

    def crop(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Make one crop.

        Parameters
        ----------
        number : int
            Which; together with the seed it decides everything.

        Returns
        -------
        image_cyx : array, shape (channels, crop, crop), float32
        classes_yx : array, shape (crop, crop), uint8
        distance_yx : array, shape (crop, crop), float32
            `UNKNOWN_DISTANCE` throughout where it is not learnt.
        """
        settings = self._settings
        rng = np.random.default_rng((settings.seed, number))
        index = int(rng.integers(len(self._examples)))
        near = None
        if rng.random() < settings.synthetic:
            example = self._synthetic(rng)
            scale = grey_scale(example.image_cyx, settings.normalise)
        else:
            example, scale = self._examples[index], self._scales[index]
            if places := self._places[index]:
                near = rng.choice(places[rng.integers(len(places))])
        size = settings.crop
        image, classes, distance = augment(
            scale.apply(example.image_cyx), example.classes_yx, example.distance_yx, size, settings.augment, rng, near
        )
        if distance is None:
            distance = np.full((size, size), UNKNOWN_DISTANCE, dtype=np.float32)
        return image, classes, distance

    def _synthetic(self, rng: np.random.Generator) -> Example:
        """Make a micrograph of the kind that the model is for."""
        settings = self._settings
        if len(settings.classes) == 2:
            sample = synthetic.particles((384, 384), rng)
        else:
            sample = synthetic.superalloy((384, 384), rng)
        image_cyx = np.repeat(sample.image_yx[None], settings.architecture.in_channels, axis=0)
        depth = relative_depth(sample.truth_yx) if settings.distance else None
        return Example("synthetic", image_cyx, sample.classes_yx, depth)


def _places(classes_yx: np.ndarray) -> list[np.ndarray]:
    """Labelled pixels, (y, x), of each class that there is; none where most of the image is labelled."""
    labelled = classes_yx != IGNORE
    if np.count_nonzero(labelled) >= SPARSE * labelled.size:
        return []
    places, ids = np.argwhere(labelled), classes_yx[labelled]
    return [places[ids == i] for i in np.unique(ids)]


def names_in(listed: tuple[str, ...] | Path, folder: Path) -> list[str]:
    """Names that are listed, or that a text file has.

    Raises
    ------
    SettingsError
        If it cannot be read.
    """
    if not isinstance(listed, Path):
        return list(listed)
    try:
        lines = (folder / listed).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError(f"{folder / listed}: cannot be read ({error.strerror}); check the data folder.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{folder / listed}: is no text file; give one with a name in each line.") from error
    return [line.strip() for line in lines if line.strip()]


def files_of(data: DataSettings, name: str, folder: Path) -> tuple[Path, Path]:
    """Image and truth of that name, whatever their extensions.

    Without a suffix in the settings, a truth may also have one of the usual endings; see `core.image_pairs`.

    Raises
    ------
    InputError
        If one is missing, or the truth could be one of several.
    """
    image = file_named(folder / data.images, name)
    if image is None:
        raise InputError(
            f"{folder / data.images / name}: there is no such image; check the names in the recipe and the data folder."
        )
    truths = folder / data.truth
    if truths.is_file():
        return image, truths
    truth_name = without_suffix(name) + data.truth_suffix
    truth = file_named(truths, truth_name)
    if truth is None and not data.truth_suffix:
        like = truths_in(truths, [image])[image]
        if len(like) > 1:
            raise InputError(
                f"{truths}: holds more than one truth for {image.name}, such as {like[0].name} and {like[1].name}; "
                "leave one, or set data.truth_suffix."
            )
        truth = like[0] if like else None
    if truth is None:
        raise InputError(
            f"{truths / truth_name}: there is no such truth; check the names in the recipe and the data folder."
        )
    return image, truth


def read_gapless(path: Path, image: Path, shape_yx: tuple[int, int]) -> tuple[np.ndarray, TrueObjects]:
    """Read object ids, made free of gaps; a picture must hold them as integers.

    Returns
    -------
    objects_yx : int64 array, shape (height, width)
        0, and one id from 1 for each object.
    objects : TrueObjects
        As they were read.

    Raises
    ------
    InputError
        If the file cannot be read, holds something else, or is of another image.
    """
    objects = read_objects(path, shape_yx=shape_yx, image=image, kind="ids")
    return relabel_sequential(objects.labels_yx.astype(np.int64))[0], objects


def check_shape(truth: Path, truth_yx: np.ndarray, image: Path, shape_yx: tuple[int, ...]) -> None:
    """Hold a truth to its image.

    Raises
    ------
    InputError
        If they differ in shape.
    """
    if truth_yx.shape != shape_yx:
        raise InputError(
            f"{truth}: shape {truth_yx.shape} is not that of its image {image}, {shape_yx}; "
            "give the truth of this image."
        )


def _read_classes(settings: TrainSettings, path: Path, image: Path, shape_yx: tuple[int, int]) -> np.ndarray:
    """Class ids, and `IGNORE` for what nobody labelled."""
    unlabelled = settings.data.unlabelled
    if unlabelled is None:
        return read_truth(path, settings.classes, shape=shape_yx, image=image).labels_yx
    if unlabelled == 0:
        taken = {spec.colour for spec in settings.classes}
        free = next(colour for i in range(IGNORE + 1) if (colour := (i, i, i)) not in taken)
        nothing = ClassSpec(name="not labelled", colour=free)
        labels_yx = read_truth(path, (nothing, *settings.classes), shape=shape_yx, image=image).labels_yx
        return labels_yx - np.uint8(1)  # of 0 this makes 255, which is IGNORE
    mapping: dict[int | Colour, int] = {i: i for i in range(len(settings.classes))}
    mapping[unlabelled] = IGNORE
    return read_truth(path, settings.classes, mapping, shape=shape_yx, image=image).labels_yx


def _load(settings: TrainSettings, name: str, folder: Path) -> Example:
    data = settings.data
    image_path, truth_path = files_of(data, name, folder)
    micrograph = read(image_path)
    rows = micrograph.content_rows
    image_cyx = micrograph.plane(channels=settings.architecture.in_channels)
    shape_yx = micrograph.shape_yx
    distance_yx = None
    if data.instances:
        objects_yx, objects = read_gapless(truth_path, image_path, shape_yx)
        classes_yx = (objects_yx > 0).astype(np.uint8)
        if objects.ignore_yx is not None:
            classes_yx[objects.ignore_yx] = IGNORE
        if settings.distance:
            distance_yx = relative_depth(objects_yx)[rows]
    else:
        classes_yx = _read_classes(settings, truth_path, image_path, shape_yx)
        check_shape(truth_path, classes_yx, image_path, shape_yx)
    return Example(without_suffix(name), image_cyx[:, rows], classes_yx[rows], distance_yx)

"""Micrographs with objects that a promptable model learns from, read from files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.segmentation import relabel_sequential

from napari_matseg.core import synthetic
from napari_matseg.core.dataset import check_shape, files_of, read_gapless, split
from napari_matseg.core.normalise import grey_scale
from napari_matseg.core.prompt_image import LIMIT
from napari_matseg.core.read import read
from napari_matseg.core.truth import read_truth
from napari_matseg.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_matseg.settings import PromptSource, TaughtByPrompts

SYNTHETIC_SIDE = 384  # px
PARTICLES = 0.8  # share of the synthetic micrographs that show particles; the others show precipitates
SMALLEST_PIECE = 20  # px; smaller connected pieces of a class are taken for slips of the annotator


@dataclass(frozen=True, eq=False)
class PromptExample:
    """A micrograph with its objects.

    Attributes
    ----------
    image_yx : array, shape (height, width), float32
        Normalised grey, from -1.25 to 1.25.
    objects_yx : array, shape (height, width), int32
        One id per object from 1, without gaps; 0 outside.
    """

    image_yx: np.ndarray
    objects_yx: np.ndarray

    @classmethod
    def of(cls, image_yx: np.ndarray, objects_yx: np.ndarray) -> PromptExample:
        """Normalise a micrograph."""
        image_cyx = image_yx[None]
        grey_yx = grey_scale(image_cyx).apply(image_cyx)[0]
        return cls(np.clip(grey_yx, -LIMIT, LIMIT), objects_yx.astype(np.int32))


def synthetic_example(rng: np.random.Generator) -> PromptExample:
    """Make a micrograph of particles or, more rarely, of precipitates."""
    make = synthetic.particles if rng.random() < PARTICLES else synthetic.superalloy
    sample = make((SYNTHETIC_SIDE, SYNTHETIC_SIDE), rng)
    return PromptExample.of(sample.image_yx, relabel_sequential(sample.truth_yx)[0])


def load_sources(
    settings: TaughtByPrompts, folder: Path
) -> tuple[list[tuple[float, list[PromptExample]]], list[PromptExample]]:
    """Read what the settings name.

    Parameters
    ----------
    settings : TaughtByPrompts
    folder : Path
        What the paths in the settings are relative to.

    Returns
    -------
    sources : list of (share, examples)
        To train on.
    validation : list of PromptExample
        Held out, of the first source.

    Raises
    ------
    InputError, SettingsError
        If an image or its truth is missing or cannot be used, or a source holds no objects.
    """
    sources: list[tuple[float, list[PromptExample]]] = []
    validation: list[PromptExample] = []
    for number, source in enumerate(settings.sources):
        names, held_out = split(source.data, settings.seed, folder)
        examples = [example for name in names if (example := _load(source, name, folder)).objects_yx.any()]
        if not examples:
            raise SettingsError(f"sources.{number}: no image has an object; check truth and classes.")
        sources.append((source.share, examples))
        if number == 0:
            validation = [example for name in held_out if (example := _load(source, name, folder)).objects_yx.any()]
    return sources, validation


def _load(source: PromptSource, name: str, folder: Path) -> PromptExample:
    image_path, truth_path = files_of(source.data, name, folder)
    micrograph = read(image_path)
    image_yx = micrograph.plane()[0]
    if source.classes is None:
        objects_yx, _ = read_gapless(truth_path, image_path, micrograph.shape_yx)
    else:
        truth = read_truth(truth_path, source.classes, shape=micrograph.shape_yx, image=image_path)
        objects_yx = _pieces(truth.labels_yx, len(source.classes))
        check_shape(truth_path, objects_yx, image_path, image_yx.shape)
    rows = micrograph.content_rows
    return PromptExample.of(image_yx[rows], objects_yx[rows])


def _pieces(classes_yx: np.ndarray, n_classes: int) -> np.ndarray:
    """Label the connected pieces of each class but 0."""
    objects_yx = np.zeros(classes_yx.shape, dtype=np.int32)
    for one in range(1, n_classes):
        pieces, _ = ndimage.label(classes_yx == one)
        large = np.bincount(pieces.ravel()) >= SMALLEST_PIECE
        large[0] = False
        ids = np.cumsum(large) * large
        objects_yx = np.where(large[pieces], ids[pieces] + objects_yx.max(), objects_yx).astype(np.int32)
    return objects_yx

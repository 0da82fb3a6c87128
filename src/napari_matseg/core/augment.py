"""Random crops of micrographs, changed as other instruments and other days would change them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_matseg.core.artefacts import (
    add_readout_noise,
    add_shot_noise,
    add_streaks,
    defocus,
    from_bytes,
    paste_data_bar,
    to_bytes,
)
from napari_matseg.core.normalise import grey_scale
from napari_matseg.core.synthetic.canvas import log_uniform, resize
from napari_matseg.core.synthetic.lettering import burn_in
from napari_matseg.core.truth import IGNORE
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from napari_matseg.settings import AugmentSettings, NormaliseSettings

CUT_ALIASING = 0.6  # px of blur for each halving of the magnification
TRIES = 8  # places for a crop that is to show a pixel, of which the one that hangs over the edge least is taken
STRAINS = (0.15, 0.6)  # of an elastic distortion where it is strongest; below 1 nothing folds over


def augment(
    image_cyx: np.ndarray,
    classes_yx: np.ndarray,
    distance_yx: np.ndarray | None,
    crop: int,
    settings: AugmentSettings,
    rng: np.random.Generator,
    near: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Draw a crop and change it: lettering, geometry, grey, then the data bar.

    Parameters
    ----------
    image_cyx : array, shape (channels, height, width), float32
        The micrograph, normalised.
    classes_yx : array, shape (height, width), integer
        Class ids, or 255 where it is ignored.
    distance_yx : array, shape (height, width), float32, or None
        Depth inside the object.
    crop : int
        Side of the crop in pixels.
    settings : AugmentSettings
    rng : numpy.random.Generator
        Decides everything. What is switched off draws nothing from it, but for what was there first.
    near : array, shape (2,), optional
        As for `crop_map`.

    Returns
    -------
    image_cyx, classes_yx, distance_yx : array, shape (..., crop, crop)
        A data bar is of class 0, as it is where a micrograph is segmented, and of depth 0; a network that never saw
        one takes its letters for objects. What is ignored stays so: a few painted strokes are not to drown in bars.
    """
    if rng.random() < settings.burnt_in:
        image_cyx = from_bytes(np.stack([burn_in(channel, rng) for channel in to_bytes(image_cyx)]))
    matrix, offset = crop_map(classes_yx.shape, crop, settings, rng, near)
    shift = elastic_shift(crop, rng) if _happens(settings.elastic, rng) else None
    image = np.stack([take(channel, matrix, offset, crop, order=1, shift=shift) for channel in image_cyx])
    classes = take(classes_yx, matrix, offset, crop, order=0, shift=shift)
    distance = None if distance_yx is None else take(distance_yx, matrix, offset, crop, order=1, shift=shift)
    image = change_grey(image, settings, rng)
    if _happens(settings.data_bar, rng):
        image, rows = paste_data_bar(image, rng)
        classes[rows][classes[rows] != IGNORE] = 0
        if distance is not None:
            distance[rows] = 0
    return image, classes, distance


def preview(
    image_yx: np.ndarray,
    truth_yx: np.ndarray,
    settings: AugmentSettings,
    n: int = 6,
    seed: int = 0,
    *,
    crop: int = 256,
    normalise: NormaliseSettings | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Make crops as a training with these settings would see them.

    Parameters
    ----------
    image_yx : array, shape (height, width), any real dtype
        A micrograph without its data bar.
    truth_yx : array, shape (height, width), integer
        Class ids, or 255 where it is ignored.
    settings : AugmentSettings
    n : int
        How many; the first of more are the same.
    seed : int
        Another gives others.
    crop : int
        Side of the crops in pixels.
    normalise : NormaliseSettings, optional

    Returns
    -------
    list of (image_yx, truth_yx)
        Arrays of shape (crop, crop): float32, -1.5 being black and 1.5 white, and the dtype of the truth.

    Raises
    ------
    InputError
        If image and truth differ in shape, or have none.
    """
    if image_yx.shape != truth_yx.shape or image_yx.ndim != 2 or not image_yx.size:
        raise InputError(
            f"image of shape {image_yx.shape} and truth of shape {truth_yx.shape}: give a plane and the truth of it."
        )
    image_cyx = grey_scale(image_yx[None], normalise).apply(image_yx[None])
    pairs = []
    for number in range(n):
        image, truth, _ = augment(image_cyx, truth_yx, None, crop, settings, np.random.default_rng((seed, number)))
        pairs.append((image[0], truth))
    return pairs


def crop_map(
    shape_yx: tuple[int, int],
    crop: int,
    settings: AugmentSettings,
    rng: np.random.Generator,
    near: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw where a crop lies in its micrograph: any place, angle, flip and magnification.

    Parameters
    ----------
    shape_yx : (int, int)
        Of the micrograph.
    crop : int
        Side of the crop in pixels.
    settings : AugmentSettings
    rng : numpy.random.Generator
    near : array, shape (2,), optional
        Pixel of the micrograph, (y, x), that the crop is to show, anywhere in it.

    Returns
    -------
    matrix : array, shape (2, 2), float64
        From crop to micrograph coordinates, in pixels, (y, x); a column shorter than 1 magnifies.
    offset : array, shape (2,), float64
        Where the crop's first pixel lies.
    """
    low, high = np.log(settings.scale)
    scale = np.exp(rng.uniform(low, high))
    aspect = np.exp(rng.uniform(-0.5, 0.5) * np.log(settings.aspect))
    matrix = _turn(settings, rng) / (scale * np.array([aspect, 1 / aspect]))
    # The centre is drawn so that the crop hangs over the edge no more than it must.
    extent = np.abs(matrix) @ np.full(2, crop / 2)
    size = np.asarray(shape_yx, dtype=float)
    margin = np.minimum(extent * 0.8, size / 2)
    if near is None:
        centre = rng.uniform(margin, size - margin)
    else:
        centres = near + rng.uniform(-0.5, 0.5, (TRIES, 2)) * crop @ matrix.T
        over = np.maximum(margin - centres, centres - (size - margin)).clip(min=0).sum(1)
        centre = centres[np.argmin(over)]
    return matrix, centre - matrix @ np.full(2, (crop - 1) / 2)


def _turn(settings: AugmentSettings, rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation with or without a reflection, as a matrix."""
    match settings.rotate:
        case False:
            return np.eye(2)
        case "mirror":
            return np.diag([1.0, rng.choice([-1.0, 1.0])])
        case "quarter":
            cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[rng.integers(4)]
        case _:
            angle = rng.uniform(0, 2 * np.pi)
            cos, sin = np.cos(angle), np.sin(angle)
    flipped: np.ndarray = np.array([[cos, -sin], [sin, cos]]) * rng.choice([-1.0, 1.0], size=2)
    return flipped


def elastic_shift(crop: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a smooth distortion, which never folds the image over.

    After Simard et al. 2003, doi 10.1109/ICDAR.2003.1227801, with a field that is interpolated instead of blurred.

    Parameters
    ----------
    crop : int
        Side of the crop in pixels.
    rng : numpy.random.Generator

    Returns
    -------
    array, shape (2, crop, crop), float64
        By how many pixels of the crop each pixel is taken from elsewhere, (y, x); its mean is 0.
    """
    knots = int(rng.integers(3, 8))
    coarse = rng.standard_normal((2, knots, knots)).astype(np.float32)
    shift = np.stack([resize(field, (crop, crop)) for field in coarse]).astype(np.float64)
    shift -= shift.mean((1, 2), keepdims=True)
    # Steps between neighbours, along both axes: no larger than the root of their squares is what they stretch by.
    steps = sum(np.square(np.diff(shift, axis=axis)).sum(0).max(initial=0) for axis in (1, 2))
    shift *= log_uniform(rng, *STRAINS) / np.sqrt(steps) if steps > 0 else 0.0
    return shift


def take(
    image_yx: np.ndarray,
    matrix: np.ndarray,
    offset: np.ndarray,
    crop: int,
    order: int,
    shift: np.ndarray | None = None,
) -> np.ndarray:
    """Sample a crop; beyond the edge the micrograph is mirrored.

    Parameters
    ----------
    image_yx : array, shape (height, width)
    matrix, offset
        As `crop_map` gives them.
    crop : int
        Side of the crop in pixels.
    order : int
        0 for class ids, 1 for grey values.
    shift : array, shape (2, crop, crop), optional
        As `elastic_shift` gives it.

    Returns
    -------
    array, shape (crop, crop), dtype of the image
    """
    step = float(np.sqrt(abs(np.linalg.det(matrix))))
    if order and step > 1.3:
        image_yx = ndimage.gaussian_filter(image_yx, CUT_ALIASING * np.log2(step), truncate=3)
    cut: np.ndarray
    if shift is None:
        cut = ndimage.affine_transform(image_yx, matrix, offset, (crop, crop), order=order, mode="reflect")
    else:
        places = np.tensordot(matrix, np.indices((crop, crop)) + shift, 1) + offset[:, None, None]
        cut = ndimage.map_coordinates(image_yx, places, order=order, mode="reflect")
    return cut


def change_grey(image_cyx: np.ndarray, settings: AugmentSettings, rng: np.random.Generator) -> np.ndarray:
    """Change grey values as detectors, operators and preparation do; what is where stays.

    Parameters
    ----------
    image_cyx : array, shape (channels, height, width), float32
        Normalised, so that most values lie between -1 and 1.

    Returns
    -------
    array, shape (channels, height, width), float32
    """
    shape = image_cyx.shape[-2:]
    image_cyx = image_cyx.astype(np.float32)
    if rng.random() < settings.invert:
        image_cyx = -image_cyx
    gamma = np.exp(rng.uniform(*np.log(settings.gamma)))
    image_cyx = 2 * np.clip((image_cyx + 1.5) / 3, 0, None) ** gamma * 1.5 - 1.5
    if rng.random() < settings.shading:
        image_cyx = image_cyx + rng.normal(0, 0.3) * _smooth_field(shape, rng)
    if _happens(settings.streaks, rng):
        image_cyx = add_streaks(image_cyx, rng)
    if rng.random() < settings.blur:
        sigma = rng.uniform(0.3, 1.6)
        image_cyx = ndimage.gaussian_filter(image_cyx, (0, sigma, sigma), truncate=3)
    if _happens(settings.defocus, rng):
        image_cyx = defocus(image_cyx, rng)
    if _happens(settings.shot_noise, rng):
        image_cyx = add_shot_noise(image_cyx, rng)
    if rng.random() < settings.noise:
        noise = rng.standard_normal(image_cyx.shape, dtype=np.float32)
        if rng.random() < 0.3:  # detectors with a scan filter give grain of more than a pixel
            noise = ndimage.gaussian_filter(noise, (0, 0.8, 0.8), truncate=3) * 2.5
        shot = np.sqrt(np.clip(image_cyx + 1.5, 0.05, None) / 1.5) if rng.random() < 0.5 else np.float32(1)
        image_cyx = image_cyx + rng.exponential(0.18) * noise * shot
    if _happens(settings.readout_noise, rng):
        image_cyx = add_readout_noise(image_cyx, rng)
    contrast = np.exp(rng.uniform(*np.log(settings.contrast)))
    changed: np.ndarray = image_cyx * contrast + rng.uniform(-1, 1) * settings.brightness
    return changed.astype(np.float32)


def _happens(share: float, rng: np.random.Generator) -> bool:
    """Draw whether; nothing is drawn for what is off, so that the crops of an older recipe stay the same."""
    return share > 0 and rng.random() < share


def _smooth_field(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Grey that drifts over the image, of about unit amplitude."""
    coarse = rng.standard_normal((4, 4)).astype(np.float32)
    field: np.ndarray = ndimage.zoom(coarse, (shape[0] / 4, shape[1] / 4), order=1, grid_mode=True, mode="nearest")
    return field

"""Random crops of micrographs, changed as other instruments and other days would change them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from napari_matseg.settings import AugmentSettings

CUT_ALIASING = 0.6  # px of blur for each halving of the magnification


def crop_map(
    shape_yx: tuple[int, int], crop: int, settings: AugmentSettings, rng: np.random.Generator
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
    angle = rng.uniform(0, 2 * np.pi) if settings.rotate else 0.0
    flips = rng.choice([-1.0, 1.0], size=2) if settings.rotate else np.ones(2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag(flips / (scale * np.array([aspect, 1 / aspect])))
    # The centre is drawn so that the crop hangs over the edge no more than it must.
    extent = np.abs(matrix) @ np.full(2, crop / 2)
    size = np.asarray(shape_yx, dtype=float)
    margin = np.minimum(extent * 0.8, size / 2)
    centre = rng.uniform(margin, size - margin)
    return matrix, centre - matrix @ np.full(2, (crop - 1) / 2)


def take(image_yx: np.ndarray, matrix: np.ndarray, offset: np.ndarray, crop: int, order: int) -> np.ndarray:
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

    Returns
    -------
    array, shape (crop, crop), dtype of the image
    """
    step = float(np.sqrt(abs(np.linalg.det(matrix))))
    if order and step > 1.3:
        image_yx = ndimage.gaussian_filter(image_yx, CUT_ALIASING * np.log2(step), truncate=3)
    cut: np.ndarray = ndimage.affine_transform(image_yx, matrix, offset, (crop, crop), order=order, mode="reflect")
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
    if rng.random() < settings.blur:
        sigma = rng.uniform(0.3, 1.6)
        image_cyx = ndimage.gaussian_filter(image_cyx, (0, sigma, sigma), truncate=3)
    if rng.random() < settings.noise:
        noise = rng.standard_normal(image_cyx.shape, dtype=np.float32)
        if rng.random() < 0.3:  # detectors with a scan filter give grain of more than a pixel
            noise = ndimage.gaussian_filter(noise, (0, 0.8, 0.8), truncate=3) * 2.5
        shot = np.sqrt(np.clip(image_cyx + 1.5, 0.05, None) / 1.5) if rng.random() < 0.5 else np.float32(1)
        image_cyx = image_cyx + rng.exponential(0.18) * noise * shot
    contrast = np.exp(rng.uniform(*np.log(settings.contrast)))
    changed: np.ndarray = image_cyx * contrast + rng.uniform(-1, 1) * settings.brightness
    return changed.astype(np.float32)


def _smooth_field(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Grey that drifts over the image, of about unit amplitude."""
    coarse = rng.standard_normal((4, 4)).astype(np.float32)
    field: np.ndarray = ndimage.zoom(coarse, (shape[0] / 4, shape[1] / 4), order=1, grid_mode=True, mode="nearest")
    return field

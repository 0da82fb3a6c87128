"""Cross-section of a ceramic coating whose oxide layer has cracked, in backscattered electrons."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from napari_matseg.core.synthetic.canvas import Sample, check_shape, noise, relabel, resize, smooth

FINE = 3
"""Cracks are drawn on a grid so many times as fine, and then brought to the image's, so that they have soft edges."""
COATING, OXIDE, SUBSTRATE, SPLAT, VOID, SEAM = 0.9, 0.42, 0.34, 0.62, 0.1, 0.5  # of full white
EDGE, OXIDE_CLASS, CRACK_CLASS = 0.45, 1, 2
"""Share of a pixel that a crack covers at least where the truth says crack; and the classes."""


def coating(shape: tuple[int, int], rng: np.random.Generator) -> Sample:
    """Draw a porous coating on the oxide that has grown below it, and the cracks that run through the oxide.

    Parameters
    ----------
    shape : (int, int)
        Height and width in pixels, 16 or more.
    rng : numpy.random.Generator
        Source of everything that is random.

    Returns
    -------
    Sample
        Classes are 0 for coating and substrate, 1 for the oxide layer with its pores, and 2 for cracks; each piece that
        hangs together is an object.

    Raises
    ------
    InputError
        If the shape is too small.
    """
    check_shape(shape)
    height, width = shape
    rows = np.arange(height, dtype=np.float32)[:, None]
    upper = height * rng.uniform(0.42, 0.5) + _waves(width, rng, 0.02 * height) + _waves(width, rng, 2.5, grain=12)
    lower = upper + height * rng.uniform(0.2, 0.27) + _waves(width, rng, 0.02 * height) + _waves(width, rng, 1, grain=9)
    is_coating, is_oxide = rows < upper, (rows >= upper) & (rows < lower)
    scene = np.where(is_coating, _ceramic(shape, rng), np.where(is_oxide, OXIDE, SUBSTRATE)).astype(np.float32)
    scene += 0.012 * noise(shape, rng, 40) + 0.01 * noise(shape, rng, 3)
    pores = is_oxide & (_flat_noise(shape, rng, 7, 11) > 1.75) | is_oxide & (_flat_noise(shape, rng, 11, 26) > 2.1)
    pores |= ~is_coating & ~is_oxide & (_flat_noise(shape, rng, 16, 20) > 2.5)
    scene = np.where(pores, VOID + 0.05 * noise(shape, rng, 6), scene)
    seam = np.exp(-(((rows - lower) / 1.3) ** 2))  # the oxide's lower edge shines
    scene += 0.16 * seam * (~pores)

    covered = _cracks(shape, upper, lower, rng)
    near = smooth(covered, 2.5)
    scene = scene * (1 - 0.25 * near) + 0.1 * np.maximum(near - covered, 0)
    scene = scene * (1 - covered) + 0.03 * covered
    scene = smooth(scene.astype(np.float32), 0.8)
    scene += 0.02 * np.sqrt(np.maximum(scene, 0.05)) * rng.standard_normal(shape, np.float32)
    is_crack = covered > EDGE
    classes_yx = np.where(is_crack, CRACK_CLASS, np.where(is_oxide, OXIDE_CLASS, 0)).astype(np.uint8)
    cracks, count = ndimage.label(is_crack, np.ones((3, 3)))
    layers = ndimage.label(classes_yx == OXIDE_CLASS)[0]
    truth_yx = relabel(np.where(layers > 0, layers + count, cracks))
    return Sample(np.clip(255 * scene, 0, 255).astype(np.uint8), truth_yx, classes_yx)


def _waves(width: int, rng: np.random.Generator, height: float, grain: float = 160.0) -> np.ndarray:
    """Heights of an interface along x, of about so many pixels."""
    line: np.ndarray = height * noise((1, width), rng, grain)[0]
    return line


def _flat_noise(shape: tuple[int, int], rng: np.random.Generator, tall: float, wide: float) -> np.ndarray:
    """Smooth noise of about unit variance whose structures are wider than tall."""
    small = int(shape[0] / tall) + 4, int(shape[1] / wide) + 4
    return 1.3 * resize(rng.standard_normal(small, np.float32), shape)


def _ceramic(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Sprayed coating: splats with seams between them, some of another composition, and pores that lie flat."""
    scene = COATING + 0.03 * _flat_noise(shape, rng, 30, 90)
    splats = _flat_noise(shape, rng, 34, 120) + 0.4 * _flat_noise(shape, rng, 9, 20)
    grains = SPLAT + 0.14 * (noise(shape, rng, 4) > 0.4)
    scene = np.where(np.abs(splats) < 0.1, SEAM, scene)
    scene = np.where(splats > 1.55, grains, scene)
    pores = (_flat_noise(shape, rng, 9, 17) > 1.9) | (_flat_noise(shape, rng, 22, 60) - 0.4 * np.abs(splats) > 1.8)
    ceramic: np.ndarray = np.where(pores, VOID + 0.05, scene)
    return ceramic


def _cracks(shape: tuple[int, int], upper: np.ndarray, lower: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Share of each pixel that cracks cover: through the oxide, some forked, some into the coating."""
    height, width = shape
    canvas = Image.new("L", (width * FINE, height * FINE), 0)
    draw = ImageDraw.Draw(canvas)
    count = max(2, round(width / 170))
    for number in range(count):
        x = (number + rng.uniform(0.2, 0.8)) * width / count
        column = int(np.clip(x, 0, width - 1))
        top, bottom = float(upper[column]), float(lower[column])
        if rng.random() < 0.4:
            top -= rng.uniform(0.1, 0.5) * (bottom - top)
        end = bottom if rng.random() < 0.7 else top + rng.uniform(0.4, 0.8) * (bottom - top)
        thick = rng.uniform(1.4, 3.6)
        path = _crack_path(x, top, end, rng)
        _stroke(draw, path, thick, rng)
        if rng.random() < 0.5:
            fork = path[rng.integers(len(path) // 3, max(len(path) // 3 + 1, 3 * len(path) // 4))]
            _stroke(draw, _crack_path(fork[1], fork[0], end, rng, lean=rng.choice((-0.5, 0.5))), 0.6 * thick, rng)
    fine = np.asarray(canvas.reduce(FINE), np.float32) / 255
    return fine[:height, :width]


def _crack_path(x: float, top: float, end: float, rng: np.random.Generator, lean: float = 0.0) -> np.ndarray:
    """Points (y, x) down a crack: it wanders, and turns sharply here and there."""
    y = np.arange(top, max(end, top + 6), 3.0)
    steps = rng.normal(lean, 0.5, len(y)) + 0.8 * (rng.random(len(y)) < 0.08) * rng.choice((-3, 3), len(y))
    return np.stack((y, x + np.cumsum(ndimage.gaussian_filter1d(steps, 0.7) * 1.6)), axis=1)


def _stroke(draw: ImageDraw.ImageDraw, path: np.ndarray, thick: float, rng: np.random.Generator) -> None:
    """Draw a crack that opens and closes on its way and ends in a tip."""
    n = len(path)
    open_ = thick * (0.75 + 0.25 * ndimage.gaussian_filter1d(rng.standard_normal(n), 3) * 3)
    open_ *= np.minimum(1, (n - np.arange(n)) / max(1, 0.25 * n))
    for (y0, x0), (y1, x1), width in zip(path[:-1], path[1:], open_, strict=False):
        ends = (FINE * x0, FINE * y0, FINE * x1, FINE * y1)
        wide = max(1, round(FINE * max(width, 1.1)))
        draw.line(ends, fill=255, width=wide)
        draw.ellipse((ends[2] - wide / 2, ends[3] - wide / 2, ends[2] + wide / 2, ends[3] + wide / 2), fill=255)

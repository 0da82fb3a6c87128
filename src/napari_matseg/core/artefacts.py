"""What instruments do to a micrograph, each as a function of its own, for training.

All take an image of shape (channels, height, width), float32, normalised so that most values lie between -1 and 1 and
a data bar or a burnt-in letter at -1.5 or 1.5, and give one of the same shape and dtype; the image itself stays.
Strengths are drawn from the generator, over the range that micrographs have.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_matseg.core.synthetic.canvas import log_uniform
from napari_matseg.core.synthetic.lettering import draw_data_bar

BLACK, SPAN = -1.5, 3.0  # what is black, and how far it is from there to white
DOSES = (20.0, 1000.0)  # electrons per pixel of white
READOUT = (0.02, 0.3)
RADII_PX = (0.8, 4.0)
LOWEST_BAR_PX, HIGHEST_BAR = 12, 0.25


def to_bytes(image_cyx: np.ndarray) -> np.ndarray:
    """Grey as 0 to 255, for drawing on; what is darker than black or lighter than white is clipped."""
    return np.clip((image_cyx - BLACK) * (255 / SPAN), 0, 255).astype(np.uint8)


def from_bytes(image_cyx: np.ndarray) -> np.ndarray:
    """Undo `to_bytes`, within a step of grey."""
    return image_cyx.astype(np.float32) / (255 / SPAN) + BLACK


def add_shot_noise(image_cyx: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Count electrons, of which few arrive: the variance grows with the brightness, the mean stays.

    A pixel of intensity i, 0 for black and 1 for white, becomes Poisson(i N) / N with N electrons per pixel of white.
    What is darker than black stays as it is.
    """
    dose = log_uniform(rng, *DOSES)
    intensity = np.clip((image_cyx - BLACK) / SPAN, 0, None)
    return (image_cyx + (rng.poisson(intensity * dose) / dose - intensity) * SPAN).astype(np.float32)


def add_readout_noise(image_cyx: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of one strength everywhere, as of an amplifier."""
    strength = np.float32(log_uniform(rng, *READOUT))
    noisy: np.ndarray = image_cyx + strength * rng.standard_normal(image_cyx.shape, dtype=np.float32)
    return noisy.astype(np.float32)


def defocus(image_cyx: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur by the image of a point out of focus: a disc, or an ellipse where the lens is astigmatic."""
    radius = log_uniform(rng, *RADII_PX)
    squeeze = log_uniform(rng, 0.4, 1.0) if rng.random() < 0.5 else 1.0
    kernel = _ellipse(radius, radius * squeeze, rng.uniform(0, np.pi))
    blurred: np.ndarray = ndimage.convolve(image_cyx.astype(np.float32), kernel[None], mode="reflect")
    return blurred


def _ellipse(major: float, minor: float, turn: float) -> np.ndarray:
    """Share of each pixel that lies in an ellipse, float32, of sum 1; semi-axes in pixels."""
    reach, parts = int(np.ceil(major + 0.5)), 4
    place = (np.arange((2 * reach + 1) * parts) + 0.5) / parts - reach - 0.5
    y, x = place[:, None], place[None]
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    inside = (along / major) ** 2 + (across / minor) ** 2 <= 1
    size = 2 * reach + 1
    shares = inside.reshape(size, parts, size, parts).mean((1, 3))
    kernel: np.ndarray = (shares / shares.sum()).astype(np.float32)
    return kernel


def add_streaks(image_cyx: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add lines along the scan, from left to right, as where charge builds up and leaks away.

    Each begins at full strength, bright or dark, and fades exponentially; some begin before the image does.
    """
    height, width = image_cyx.shape[1:]
    n = 1 + rng.poisson(log_uniform(rng, 0.02, 0.15) * height)
    rows = rng.integers(height, size=n)
    starts = rng.uniform(-0.5, 0.9, n) * width
    lengths = np.exp(rng.uniform(np.log(0.1), np.log(2.0), n)) * width
    strengths = log_uniform(rng, 0.3, 1.5) * rng.uniform(0.3, 1, n) * rng.choice((-1, 1), n)
    since = np.arange(width) - starts[:, None]
    fading = np.exp(-np.clip(since, 0, None) / lengths[:, None]) * (since >= 0)
    lines = np.zeros((height, width), np.float32)
    np.add.at(lines, rows, (strengths[:, None] * fading).astype(np.float32))
    return (image_cyx + lines).astype(np.float32)


def paste_data_bar(image_cyx: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, slice]:
    """Cover the bottom, seldom the top, by a data bar as instruments put it there.

    Returns
    -------
    image_cyx : array, shape (channels, height, width), float32
    rows : slice
        Of the bar; empty where the image is too low for one.
    """
    height, width = image_cyx.shape[1:]
    if height * HIGHEST_BAR < LOWEST_BAR_PX:
        return image_cyx.astype(np.float32), slice(0, 0)
    bar_yx = draw_data_bar((round(log_uniform(rng, LOWEST_BAR_PX, height * HIGHEST_BAR)), width), rng)
    rows = slice(0, len(bar_yx)) if rng.random() < 0.1 else slice(height - len(bar_yx), height)
    pasted = image_cyx.astype(np.float32)
    pasted[:, rows] = from_bytes(bar_yx)
    return pasted, rows

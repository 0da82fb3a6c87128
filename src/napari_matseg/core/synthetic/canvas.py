"""What all synthetic micrographs are made with: noise, pixels of outlines, exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_matseg.errors import InputError

ANGLES = 256
"""Samples of an outline over one turn."""

SMALLEST = 16
"""Pixels on the side of the smallest image that can be drawn."""


@dataclass(frozen=True)
class Sample:
    """A synthetic micrograph and what is in it.

    Attributes
    ----------
    image_yx : array, shape (height, width), uint8
        Grey values.
    truth_yx : array, shape (height, width), uint16
        Id of the object seen at each pixel, counted from 1 without gaps; 0 is background.
    classes_yx : array, shape (height, width), uint8
        Class of each pixel; 0 is background or matrix.
    """

    image_yx: np.ndarray
    truth_yx: np.ndarray
    classes_yx: np.ndarray


@dataclass(frozen=True)
class Bodies:
    """Particles: outlines swept along a straight axis, which gives discs and polygons, rods and bars.

    Attributes
    ----------
    centres : array, shape (n, 2)
        Centres as (y, x), in pixels.
    sizes : array, shape (n,), float32
        Radius in pixels of the disc of about the same area.
    outlines : array, shape (n, ANGLES), float32
        Distance from the axis to the outline in each direction, relative to the radius.
    lengths : array, shape (n,), float32
        Half-length of the axis, relative to the radius.
    turns : array, shape (n,), float32
        Direction of the axis in radians, from x towards y.
    """

    centres: np.ndarray
    sizes: np.ndarray
    outlines: np.ndarray
    lengths: np.ndarray
    turns: np.ndarray

    @property
    def typical(self) -> float:
        """Median radius in pixels."""
        return float(np.median(self.sizes))


@dataclass(frozen=True)
class Inside:
    """Pixels inside bodies: one entry for each pixel of each body, in the order of drawing.

    Attributes
    ----------
    index : array, shape (n,), int32
        Where in the flattened image.
    body : array, shape (n,), int32
        Which body.
    rho : array, shape (n,), float32
        0 on the axis of the body, 1 on its outline.
    radius : array, shape (n,), float32
        Distance in pixels from the axis to the outline in this direction.
    turn : array, shape (n,), int32
        Direction from the axis, as a column of `Bodies.outlines`.
    u, v : array, shape (n,), float32
        Pixels from the centre, along the axis and across.
    """

    index: np.ndarray
    body: np.ndarray
    rho: np.ndarray
    radius: np.ndarray
    turn: np.ndarray
    u: np.ndarray
    v: np.ndarray

    def only(self, keep: np.ndarray) -> Inside:
        """Those entries where `keep` is true."""
        return Inside(
            index=self.index[keep],
            body=self.body[keep],
            rho=self.rho[keep],
            radius=self.radius[keep],
            turn=self.turn[keep],
            u=self.u[keep],
            v=self.v[keep],
        )


def check_shape(shape: tuple[int, int]) -> None:
    """Raise `InputError` unless an image of this shape can be drawn."""
    if min(shape) < SMALLEST:
        raise InputError(f"A synthetic micrograph of shape {shape} is too small; ask for {SMALLEST} pixels or more.")


def rasterise(shape: tuple[int, int], bodies: Bodies) -> Inside:
    """Find the pixels inside each body, in its bounding box."""
    shrink = 1 / np.sqrt(1 + 4 * bodies.lengths / np.float32(np.pi))  # rods keep the area of the disc
    scale = bodies.sizes * shrink
    half = scale * bodies.lengths
    cos, sin = np.cos(bodies.turns), np.sin(bodies.turns)
    reach = scale * bodies.outlines.max(1)
    extent = np.stack((reach + half * abs(sin), reach + half * abs(cos)), axis=1)
    low = np.clip(np.floor(bodies.centres - extent), 0, shape).astype(np.int64)
    high = np.clip(np.ceil(bodies.centres + extent) + 1, 0, shape).astype(np.int64)
    heights, widths = (high - low).T
    # One entry for each row of each box, then one for each pixel: dividing millions of indices would be slow.
    owner = np.repeat(np.arange(len(scale), dtype=np.int32), heights)
    y = np.arange(heights.sum()) - np.repeat(np.cumsum(heights) - heights - low[:, 0], heights)
    row = np.repeat(np.arange(len(y), dtype=np.int32), widths[owner])
    start = np.cumsum(widths[owner]) - widths[owner]
    column = np.arange(len(row), dtype=np.int32) - start.astype(np.int32)[row]
    index = column + (y * shape[1] + low[owner, 1]).astype(np.int32)[row]
    body = owner[row]
    dy = (y - bodies.centres[owner, 0]).astype(np.float32)
    dx = column.astype(np.float32) + (low[owner, 1] - bodies.centres[owner, 1]).astype(np.float32)[row]
    u = dx * cos[body] + (dy * sin[owner])[row]
    v = (dy * cos[owner])[row] - dx * sin[body]
    along = np.sign(u) * np.maximum(abs(u) - half[body], 0) if half.any() else u
    position = np.arctan2(v, along) * np.float32(ANGLES / (2 * np.pi)) + ANGLES
    turn = position.astype(np.int32)
    fraction = position - turn
    turn %= ANGLES
    closed = np.concatenate((bodies.outlines, bodies.outlines[:, :1]), axis=1) * scale[:, None]
    entry = body * np.int32(ANGLES + 1) + turn
    radius = closed.ravel()[entry]
    radius += fraction * (closed.ravel()[entry + 1] - radius)
    rho = np.hypot(along, v) / radius
    return Inside(index, body, rho, radius, turn, u, v).only(rho < 1)


def apart(centres: np.ndarray, sizes: np.ndarray, factor: float) -> np.ndarray:
    """Find the bodies that keep clear of those before them.

    Parameters
    ----------
    centres : array, shape (n, 2)
    sizes : array, shape (n,)
        Radii in pixels.
    factor : float
        Least distance of two, in units of the sum of their radii.

    Returns
    -------
    array of bool, shape (n,)
        Always true for the first.
    """
    near = cKDTree(centres).query_pairs(2 * factor * float(sizes.max()), output_type="ndarray")
    first, second = near.min(1), near.max(1)
    clash = ((centres[first] - centres[second]) ** 2).sum(1) < (factor * (sizes[first] + sizes[second])) ** 2
    first, second = first[clash], second[clash]
    order = np.argsort(second)  # so that each is decided on before it counts
    keep = [True] * len(sizes)
    for one, two in zip(first[order].tolist(), second[order].tolist(), strict=True):
        if keep[one]:
            keep[two] = False
    return np.array(keep)


def relabel(ids_yx: np.ndarray) -> np.ndarray:
    """Ids of 0 and above without gaps, uint16."""
    present = np.bincount(ids_yx.ravel()) > 0
    present[0] = False
    new = np.cumsum(present).astype(np.uint16)
    new[~present] = 0
    numbered: np.ndarray = new[ids_yx]
    return numbered


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def resize(field_yx: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resample a float32 field to another shape, smoothly."""
    resized: np.ndarray = np.asarray(Image.fromarray(field_yx).resize(shape[::-1], Image.Resampling.BICUBIC))
    return resized


def noise(shape: tuple[int, int], rng: np.random.Generator, grain: float) -> np.ndarray:
    """Smooth float32 noise of about unit variance, with structures of about `grain` pixels."""
    small = (int(shape[0] / grain) + 4, int(shape[1] / grain) + 4)
    return 1.3 * resize(rng.standard_normal(small, np.float32), shape)


def smooth(field_yx: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, cut off early for speed."""
    blurred: np.ndarray = ndimage.gaussian_filter(field_yx, sigma, truncate=2.5)
    return blurred


def expose(scene_yx: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Record a scene with the blur, the noise and the contrast of some instrument and its operator.

    Shot noise is drawn as normal with the variance of a Poisson process, which is far faster.

    Returns
    -------
    array, shape (height, width), uint8
    """
    low, high = float(scene_yx.min()), float(np.percentile(scene_yx[::3, ::3], 99.8))
    low -= rng.uniform(0, 0.3) * (high - low)
    scene = (scene_yx - low) / max(high - low, 1e-3)
    shot = rng.standard_normal(scene.shape, np.float32)
    shot *= log_uniform(rng, 0.004, 0.09) * np.sqrt(np.maximum(scene, 0) + rng.uniform(0.1, 1))
    blur = log_uniform(rng, 0.45, 1.5)
    # Printed figures were often resampled, which blurs the noise too.
    scene = smooth(scene, blur) + shot if rng.random() < 0.5 else smooth(scene + 2 * shot, blur)
    dark, contrast = rng.uniform(0, 0.2), rng.uniform(0.45, 0.95)
    if rng.random() < 0.12:
        contrast *= 1.5  # saturated
    grey = 255 * (dark + contrast * (1 - dark) * np.maximum(scene, 0) ** rng.uniform(0.7, 1.4))
    return np.clip(grey, 0, 255).astype(np.uint8)

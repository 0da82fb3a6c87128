"""Gamma-prime precipitates of two sizes in a nickel superalloy."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_matseg.core.synthetic.canvas import (
    ANGLES,
    Bodies,
    Sample,
    apart,
    check_shape,
    noise,
    rasterise,
    relabel,
    resize,
    smooth,
)

SMALLEST_SECONDARY = 40
"""Area in pixels below which a secondary precipitate is left out."""


def superalloy(shape: tuple[int, int], rng: np.random.Generator) -> Sample:
    """Draw secondary and tertiary gamma-prime precipitates in a polished and etched nickel superalloy.

    Parameters
    ----------
    shape : (int, int)
        Height and width in pixels, 16 or more.
    rng : numpy.random.Generator
        Source of everything that is random.

    Returns
    -------
    Sample
        Classes are 0 for matrix, 1 for secondary and 2 for tertiary precipitates.

    Raises
    ------
    InputError
        If the shape is too small.
    """
    check_shape(shape)
    ids, n = ndimage.label(_secondaries(shape, rng))
    ids[np.bincount(ids.ravel())[ids] < SMALLEST_SECONDARY] = 0
    secondary = ids > 0
    solid = secondary.astype(np.float32)
    near = smooth(solid, rng.uniform(2.0, 3.2))
    tertiary = _tertiaries(shape, near, rng) & ~secondary
    truth_yx = relabel(np.where(tertiary, ndimage.label(tertiary)[0] + n, ids))
    classes_yx = np.where(tertiary, 2, secondary).astype(np.uint8)
    rim = near - solid  # the relief is bright outside the edge and dark inside, more so towards one side
    turn = rng.uniform(0, 2 * np.pi)
    slope_y, slope_x = np.gradient(near)
    scene = rng.uniform(0.5, 1.5) * rim - rng.uniform(0.5, 0.85) * solid - rng.uniform(0.7, 1.4) * tertiary
    scene += rng.uniform(0, 6) * (slope_y * float(np.sin(turn)) + slope_x * float(np.cos(turn)))
    scene += rng.uniform(0.05, 0.3) * noise(shape, rng, 0.4 * max(shape))
    scene += rng.uniform(0.02, 0.1) * noise(shape, rng, 12)
    scene += _scratches(shape, rng)
    scene = smooth(scene, rng.uniform(0.8, 1.3))
    scene += rng.uniform(0.05, 0.2) * rng.standard_normal(shape, np.float32)
    grey = rng.uniform(110, 190) + rng.uniform(10, 26) * (scene - scene.mean())
    return Sample(np.clip(grey, 0, 255).astype(np.uint8), truth_yx, classes_yx)


def _secondaries(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Cells around seeds, less the channels between them; some cells have grown together.

    Worked out on every fourth pixel, which makes it fast, and smooth when brought to full size.
    """
    coarse = 4
    spacing = rng.uniform(45, 100) / coarse
    h, w = shape[0] // coarse + 1, shape[1] // coarse + 1
    seeds = np.mgrid[-1 : int(h / spacing) + 2, -1 : int(w / spacing) + 2].reshape(2, -1).T
    seeds = (seeds + rng.uniform(0.05, 0.95, seeds.shape)) * spacing
    warp = spacing * rng.uniform(0.04, 0.13)
    where = np.mgrid[:h, :w] + warp * np.stack([noise((h, w), rng, spacing / 2.5) for _ in "yx"])
    tree = cKDTree(seeds)
    near, seed = tree.query(where.reshape(2, -1).T, k=6, p=2.6)  # an exponent between round and square
    near += (rng.uniform(-0.15, 0.15, len(seeds)) * spacing)[seed]  # some larger than others
    order = np.argsort(near, axis=1)
    near, seed = np.take_along_axis(near, order, 1), np.take_along_axis(seed, order, 1)
    group = np.arange(len(seeds))
    share = rng.uniform(0.1, 0.45)
    for one, two in tree.query_pairs(1.1 * spacing, output_type="ndarray"):
        if group[one] == one and group[two] == two and rng.random() < share:
            group[two] = one
    other = np.where(group[seed] == group[seed[:, :1]], np.inf, near).min(1) - near[:, 0]
    notch = 1.5 * (near[:, 2] - near[:, 0]) + rng.uniform(1, 2.5)
    depth = np.minimum(other, notch).reshape(h, w)
    missing = rng.random(len(seeds)) < rng.uniform(0, 0.08)
    depth[missing[seed[:, 0]].reshape(h, w)] = 0
    depth -= rng.uniform(0.06, 0.2) * spacing * np.maximum(noise((h, w), rng, 1.2 * spacing), -0.6)
    depth = smooth(depth.astype(np.float32), rng.uniform(0.9, 1.7))
    secondary: np.ndarray = resize(depth, shape) > np.quantile(depth, rng.uniform(0.43, 0.6))
    return secondary


def _tertiaries(shape: tuple[int, int], near: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Small discs in the wide channels, clear of where `near`, the blurred secondaries, is felt."""
    mask = np.zeros(shape, bool)
    allowed = np.flatnonzero((near < 0.01) & (noise(shape, rng, 30) > rng.uniform(-1.2, 0.6)))
    if not len(allowed):
        return mask
    spots = allowed[rng.integers(0, len(allowed), int(len(allowed) / rng.uniform(45, 110)) + 1)]
    centres = np.stack(np.unravel_index(spots, shape), axis=1)
    sizes = np.clip(rng.uniform(2, 3.2) * np.exp(0.25 * rng.standard_normal(len(spots))), 1.4, 4.5)
    keep = apart(centres, sizes, 1.35)
    centres, sizes = centres[keep], sizes[keep].astype(np.float32)
    n = len(sizes)
    turns = rng.uniform(0, 2 * np.pi, n).astype(np.float32)
    lengths = rng.uniform(0, 0.4, n).astype(np.float32)
    inside = rasterise(shape, Bodies(centres, sizes, np.ones((n, ANGLES), np.float32), lengths, turns))
    mask.ravel()[inside.index] = True
    return mask


def _scratches(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Fine polishing scratches, dark or bright, all in about one direction."""
    flat = 128
    canvas = Image.new("L", shape[::-1], flat)
    draw = ImageDraw.Draw(canvas)
    turn = rng.uniform(0, np.pi)
    for _ in range(int(rng.integers(0, 7))):
        y, x = rng.uniform((0, 0), shape)
        half, angle = rng.uniform(0.05, 0.3) * max(shape), turn + 0.15 * rng.standard_normal()
        dy, dx = half * np.sin(angle), half * np.cos(angle)
        draw.line((x - dx, y - dy, x + dx, y + dy), fill=int(rng.integers(90, 175)))
    lines: np.ndarray = (np.asarray(canvas).astype(np.float32) - flat) / 60
    return lines

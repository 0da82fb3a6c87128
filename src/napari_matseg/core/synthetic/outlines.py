"""Outlines of particles: discs, ellipses, polygons, cubes, blobs, rods."""

from __future__ import annotations

import numpy as np

from napari_matseg.core.synthetic.canvas import ANGLES

VARIANTS = 12
"""Different outlines in one image at most; particles share them, turned and scaled."""

_THETA = np.arange(ANGLES) * (2 * np.pi / ANGLES)


def draw_outlines(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw outlines for n particles of one sort.

    Returns
    -------
    outlines : array, shape (n, ANGLES), float32
        Distance from the axis by direction, about 1.
    tones : array, shape (n, ANGLES), float32
        How much brighter the face in this direction is.
    lengths : array, shape (n,), float32
        Half-length of the axis.
    """
    sorts = ("disc", "ellipse", "polygon", "cube", "blob", "bar", "rod")
    sort = rng.choice(sorts, p=(0.42, 0.12, 0.12, 0.11, 0.07, 0.08, 0.08))
    variants = min(n, VARIANTS)
    outlines = np.ones((variants, ANGLES))
    tones = np.zeros((variants, ANGLES))
    lengths = np.zeros(n)
    if sort == "ellipse":
        aspect = rng.uniform(1.1, 2.2) * np.exp(0.08 * rng.standard_normal((variants, 1)))
        outlines = np.sqrt(aspect) / np.hypot(np.cos(_THETA), aspect * np.sin(_THETA))
    elif sort in ("polygon", "bar"):
        sides = int(rng.integers(3, 9))
        outlines = _polygons(variants, sides, rng)
        if rng.random() < 0.4:
            tones = 0.25 * rng.standard_normal((variants, sides))[:, (_THETA * sides / (2 * np.pi)).astype(int)]
    elif sort == "cube":
        outlines, tones = _cubes(variants, rng)
    elif sort == "blob":
        outlines = np.exp(rng.uniform(0.1, 0.45) * _waves(variants, 2, 9, rng))
    if sort in ("bar", "rod"):
        lengths = rng.uniform(0.5, 5) * np.exp(0.2 * rng.standard_normal(n))
    if sort in ("disc", "ellipse", "rod", "blob") and rng.random() < 0.45:
        outlines = outlines * (1 + rng.uniform(0.01, 0.12) * _waves(variants, 4, 32, rng))
    pick = rng.integers(0, variants, n)
    return outlines[pick].astype(np.float32), tones[pick].astype(np.float32), lengths.astype(np.float32)


def _waves(n: int, first: int, last: int, rng: np.random.Generator) -> np.ndarray:
    """Add up waves around the turn, the shorter the weaker; shape (n, ANGLES)."""
    modes = np.arange(first, last)
    phases = rng.uniform(0, 2 * np.pi, (n, len(modes), 1))
    total: np.ndarray = (np.cos(modes[:, None] * _THETA + phases) / modes[:, None]).sum(1)
    return total


def _polygons(n: int, sides: int, rng: np.random.Generator) -> np.ndarray:
    """Convex polygons, their corners rounded by a p-norm over the half-planes."""
    irregular = rng.choice((0.0, 0.05, 0.15))
    normals = 2 * np.pi * (np.arange(sides) + 0.5 + irregular * rng.standard_normal((n, sides))) / sides
    distances = np.exp(irregular * rng.standard_normal((n, sides)))
    power = float(np.exp(rng.uniform(np.log(6), np.log(60))))
    facing = np.maximum(np.cos(_THETA - normals[..., None]) / distances[..., None], 1e-3)
    outline = (facing**power).sum(1) ** (-1 / power)
    scaled: np.ndarray = np.minimum(outline / np.sqrt((outline**2).mean(1, keepdims=True)), 2.5)
    return scaled


def _cubes(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cubes seen at an angle, around the corner towards the viewer: outlines, and tones of the three faces."""
    outlines, tones = np.full((n, ANGLES), 0.1), np.zeros((n, ANGLES))
    light = rng.standard_normal(3)
    light[2] = abs(light[2]) + 1
    light /= np.linalg.norm(light)
    first = rng.standard_normal((3, 3))
    alike = rng.random() < 0.3
    direction = np.stack((np.cos(_THETA), np.sin(_THETA)))
    for i in range(n):
        axes = np.linalg.qr(first if alike else rng.standard_normal((3, 3)))[0]
        axes = axes * np.copysign(1, axes[2])  # each face turned towards the viewer
        for one, two, normal in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            edges = -axes[:2, [one, two]]
            if abs(np.linalg.det(edges)) < 0.05:  # a face seen edge-on
                continue
            along = np.linalg.solve(edges, direction)
            face = (along >= 0).all(0)
            outlines[i, face] = 1 / along.max(0)[face]
            tones[i, face] = 1.2 * (axes[:, normal] @ light - 0.6)
    return 1.2 * outlines, tones

"""Where particles lie, and of which size."""

from __future__ import annotations

import numpy as np

from napari_matseg.core.synthetic.canvas import apart, log_uniform

MOST = 400
"""Particles in an image at most."""


def arrange(shape: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scatter, cluster, pack or pile particles.

    Returns
    -------
    centres : array, shape (n, 2)
        As (y, x) in pixels; in the order of drawing, so that later ones lie on top.
    sizes : array, shape (n,), float32
        Radii in pixels; log-normal, around a radius that is log-uniform from 3.5 px to over a third of the side.
    """
    side = min(shape)
    radius = log_uniform(rng, 3.5, max(0.38 * side, 4))
    spread = rng.choice((0.03, 0.12, 0.3, 0.5), p=(0.3, 0.3, 0.25, 0.15))
    kind = rng.choice(("scatter", "cluster", "lattice", "pile"), p=(0.26, 0.3, 0.2, 0.24))
    if kind == "lattice":
        centres = _lattice(shape, radius, rng)
        spread = min(spread, 0.12)
    elif kind == "pile":
        centres = np.concatenate([_spread(shape, radius, 1.2, rng) for _ in range(rng.integers(1, 4))])
    else:
        cover = log_uniform(rng, 0.03, 0.7)
        centres = _spread(shape, radius, cover, rng)
    sizes = np.clip(radius * np.exp(spread * rng.standard_normal(len(centres))), 2.5, 0.6 * side)
    if kind == "scatter":
        keep = apart(centres, sizes, rng.uniform(0.9, 1.3))
        centres, sizes = centres[keep], sizes[keep]
    elif kind == "cluster":
        centres = _clusters(shape, sizes, rng)
    elif kind == "pile":
        keep = apart(centres, sizes, rng.uniform(0.5, 0.9))
        centres, sizes = centres[keep], sizes[keep]
    return centres, sizes.astype(np.float32)


def _spread(shape: tuple[int, int], radius: float, cover: float, rng: np.random.Generator) -> np.ndarray:
    """Centres of as many particles as cover this share of the image, a little beyond its edges too."""
    height, width = shape
    n = int(np.clip(cover * height * width / (np.pi * radius**2), 1, MOST))
    beyond = 0.3 * radius if n > 2 else -0.25 * min(shape)  # a lone one is to be seen
    return rng.uniform((-beyond, -beyond), (height + beyond, width + beyond), (n, 2))


def _clusters(shape: tuple[int, int], sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Centres of particles that stick to others, where they come to lie."""
    n, tries = len(sizes), 6
    margin = 0.15 * np.array(shape)
    centres = rng.uniform(margin, shape - margin, (n, 2))
    seeds = max(1, int(n * rng.choice((0.0, 0.1, 0.3))))
    closeness = rng.uniform(0.8, 1.08)
    angles = rng.uniform(0, 2 * np.pi, (n, tries))
    directions = np.stack((np.sin(angles), np.cos(angles)), axis=-1)
    partners = (rng.random((n, tries)) * np.arange(n)[:, None]).astype(int)
    for i in range(seeds, n):
        gap = 0.9 * closeness * (sizes[:i] + sizes[i])
        for partner, direction in zip(partners[i], directions[i], strict=True):
            centres[i] = centres[partner] + closeness * (sizes[i] + sizes[partner]) * direction
            seen = (centres[i] > -sizes[i]).all() and (centres[i] < shape + sizes[i]).all()
            if seen and (((centres[:i] - centres[i]) ** 2).sum(1) >= gap**2).all():
                break
    return centres


def _lattice(shape: tuple[int, int], radius: float, rng: np.random.Generator) -> np.ndarray:
    """Hexagonal, seldom square, packing with vacancies; sometimes an island of it."""
    step = max(2 * radius * rng.uniform(0.97, 1.25), (shape[0] * shape[1] / MOST) ** 0.5)
    reach = int(0.75 * np.hypot(*shape) / step) + 2
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).astype(float)
    if rng.random() < 0.8:
        columns += 0.5 * (rows % 2)
        rows *= np.sqrt(0.75)
    turn = rng.uniform(0, np.pi)
    y = step * (rows * np.cos(turn) + columns * np.sin(turn)) + shape[0] / 2
    x = step * (columns * np.cos(turn) - rows * np.sin(turn)) + shape[1] / 2
    centres = np.stack((y, x), axis=1)
    keep = (centres > -radius).all(1) & (centres < np.array(shape) + radius).all(1)
    keep &= rng.random(len(y)) > rng.choice((0.0, 0.05, 0.25))
    if rng.random() < 0.4:
        middle, extent = rng.uniform((0, 0), shape), rng.uniform(0.3, 0.7) * max(shape)
        keep &= np.hypot(*(centres - middle).T) < extent
    keep[np.argmin(np.hypot(y - shape[0] / 2, x - shape[1] / 2))] = True
    jitter = step * rng.uniform(0, 0.06) * rng.standard_normal(centres.shape)
    kept: np.ndarray = (centres + jitter)[keep]
    return kept

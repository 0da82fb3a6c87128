"""Centres against a truth: counts first, then ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CentreCounts:
    """How many centres are right; counts of several images add up.

    Attributes
    ----------
    hits : int
        Particles with exactly one centre in them.
    centres, particles : int
        What there is of each.
    """

    hits: int = 0
    centres: int = 0
    particles: int = 0

    def __add__(self, other: CentreCounts) -> CentreCounts:
        """Add the counts of other images."""
        return CentreCounts(self.hits + other.hits, self.centres + other.centres, self.particles + other.particles)

    @property
    def recall(self) -> float:
        """Share of the particles that are hit; NaN where there is none."""
        return self.hits / self.particles if self.particles else math.nan

    @property
    def precision(self) -> float:
        """Share of the centres that hit; NaN where there is none."""
        return self.hits / self.centres if self.centres else math.nan


def score_centres(points_yx: np.ndarray, truth_yx: np.ndarray) -> CentreCounts:
    """Hold centres against a truth.

    Parameters
    ----------
    points_yx : array, shape (n, 2)
        Centres in pixels.
    truth_yx : array, shape (height, width), integer
        Id of each particle from 1; 0 is none.

    Returns
    -------
    CentreCounts
        A centre counts when it falls in a particle and is that particle's only one.

    Examples
    --------
    >>> truth = np.array([[1, 1, 0, 2, 2, 0, 3]])
    >>> counts = score_centres(np.array([[0, 0], [0, 3], [0, 4], [0, 5]]), truth)
    >>> counts
    CentreCounts(hits=1, centres=4, particles=3)
    >>> counts.recall, counts.precision
    (0.3333333333333333, 0.25)
    """
    points = np.floor(np.asarray(points_yx, dtype=np.float64).reshape(-1, 2) + 0.5)
    inside = np.all((points >= 0) & (points < truth_yx.shape), axis=1)
    y, x = points[inside].astype(np.int64).T
    particles = np.unique(truth_yx)
    _, times = np.unique(truth_yx[y, x][truth_yx[y, x] > 0], return_counts=True)
    return CentreCounts(int((times == 1).sum()), len(points), int((particles > 0).sum()))

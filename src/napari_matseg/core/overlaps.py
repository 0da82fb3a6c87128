"""Of blobs that overlap, which are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import spatial

if TYPE_CHECKING:
    from napari_matseg.core.blobs import Extrema


def suppress(blobs: Extrema, overlap: float) -> Extrema:
    """Of blobs that overlap, keep the strongest.

    Parameters
    ----------
    blobs : Extrema
    overlap : float
        Share of the smaller one's area, from 0 to 1, that two may have in common.

    Returns
    -------
    Extrema
        The strongest first. A blob is left out only for a stronger one that is kept.
    """
    blobs = blobs[np.argsort(-np.abs(blobs.contrast), kind="stable")]
    first, second = _overlapping(blobs.points_yx, blobs.diameter_px / 2, overlap)
    kept = np.ones(len(blobs), dtype=bool)
    waiting = kept.copy()
    # Each round settles all those that no stronger one without a verdict overlaps.
    while waiting.any():
        ready = waiting.copy()
        ready[second] = False
        waiting &= ~ready
        lost = second[ready[first]]
        kept[lost] = waiting[lost] = False
        open_still = waiting[first] & waiting[second]
        first, second = first[open_still], second[open_still]
    return blobs[kept]


def _overlapping(points: np.ndarray, radii: np.ndarray, overlap: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (i, j), i < j, of discs that overlap by more than a share of the smaller.

    Discs are sought by classes of size, so that a large one makes nobody search far but itself.
    """
    firsts, seconds = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    octave = np.floor(np.log2(radii)).astype(np.int64)
    classes = [np.flatnonzero(octave == value) for value in np.unique(octave)]
    trees = [spatial.cKDTree(points[members]) for members in classes]
    for a, members in enumerate(classes):
        for b in range(a + 1):
            reach = radii[members].max() + radii[classes[b]].max()
            pairs = trees[a].sparse_distance_matrix(trees[b], reach, output_type="ndarray")
            i, j = members[pairs["i"]], classes[b][pairs["j"]]
            distance = pairs["v"]
            one = (i < j) if a == b else i != j
            i, j, distance = i[one], j[one], distance[one]
            over = _share(distance, radii[i], radii[j]) > overlap
            firsts.append(np.minimum(i, j)[over])
            seconds.append(np.maximum(i, j)[over])
    return np.concatenate(firsts), np.concatenate(seconds)


def _share(distance: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Area that two discs have in common over that of the smaller."""
    small, large = np.minimum(a, b), np.maximum(a, b)
    distance = distance.clip(large - small, large + small)
    d = np.maximum(distance, 1e-12)
    angle_small = np.arccos(((d**2 + small**2 - large**2) / (2 * d * small)).clip(-1, 1))
    angle_large = np.arccos(((d**2 + large**2 - small**2) / (2 * d * large)).clip(-1, 1))
    lens = small**2 * (angle_small - np.sin(2 * angle_small) / 2) + large**2 * (
        angle_large - np.sin(2 * angle_large) / 2
    )
    share: np.ndarray = lens / (np.pi * small**2)
    share[distance >= large + small] = 0.0  # but for rounding
    share[distance <= large - small] = 1.0
    return share

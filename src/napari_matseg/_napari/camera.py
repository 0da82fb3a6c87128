"""Between the viewer's view and the pixels of a layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from napari.layers import Layer
from napari.viewer import Viewer

from napari_matseg._napari.prompt_places import ratio, to_world

NEAR = 6.0
"""What is flown to takes at least 1 / so much of the view's shorter side."""
CLOSEST = 8.0
"""Screen pixels for a pixel of the image, beyond which nothing more is to be seen."""


def fly_to(viewer: Viewer, layer: Layer, place: Sequence[float], extent: float) -> None:
    """Bring a place to the middle of the view, and near enough; what is near already stays so.

    Parameters
    ----------
    viewer : napari.Viewer
    layer : Layer
    place : sequence of float, one for each axis of the layer
        In its pixels.
    extent : float
        Longer side of what is there, in pixels; 0 if the view is to keep its size.
    """
    matrix, offset = _to_view(viewer, layer)
    world = offset + matrix @ np.asarray(place, float)
    for axis, step in zip(range(viewer.dims.ndim - layer.ndim, viewer.dims.ndim - 2), world[:-2], strict=True):
        viewer.dims.set_point(axis, step)
    camera = viewer.scene.camera
    camera.center = (0.0, *world[-2:])
    pixel = abs(np.linalg.det(matrix[-2:, -2:])) ** 0.5
    side = min(viewer.canvas.size) if extent else 0
    if side:
        camera.zoom = max(camera.zoom, min(side / (NEAR * extent * pixel), CLOSEST / pixel))


def place_under(viewer: Viewer, layer: Layer, position: Sequence[float]) -> np.ndarray:
    """Find the pixel of a layer at a place in the viewer, such as that of the mouse.

    Returns
    -------
    integer array, shape (layer.ndim,)
        Which the layer may not have.
    """
    matrix, offset = _to_view(viewer, layer)
    there = np.zeros(layer.ndim)
    there[-len(position) :] = position[-layer.ndim :]
    return np.rint(np.linalg.solve(matrix, there - offset)).astype(int)


def magnification(viewer: Viewer, layer: Layer) -> float:
    """Pixels of the screen for a pixel of a layer."""
    matrix, _ = _to_view(viewer, layer)
    return float(viewer.scene.camera.zoom * abs(np.linalg.det(matrix[-2:, -2:])) ** 0.5)


def _to_view(viewer: Viewer, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset that take a layer's pixels to the viewer's world, in its units."""
    matrix, offset = to_world(layer)
    units = viewer.layers.units or layer.units
    factors = np.array([ratio(unit, other) for unit, other in zip(layer.units, units[-layer.ndim :], strict=True)])
    return matrix * factors[:, None], offset * factors

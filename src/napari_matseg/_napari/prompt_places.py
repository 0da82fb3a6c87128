"""Where coordinates of one layer lie on another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Layer

from napari_matseg._napari.layers import full_resolution


def in_pixels(coordinates: np.ndarray, layer: Layer, image: Layer, shown: Sequence[float]) -> np.ndarray:
    """Find where coordinates of one layer lie on another, both being placed as they say.

    Parameters
    ----------
    coordinates : array, shape (n, layer.ndim)
    layer, image : Layer
        Their last axes are the same ones; lengths in different units are converted.
    shown : sequence of float
        Where the viewer's sliders are, in world coordinates: the place on axes that only the image has.

    Returns
    -------
    array, shape (n, image.ndim), float64
    """
    matrix, offset = to_world(layer)
    world = coordinates @ matrix.T + offset
    common = min(layer.ndim, image.ndim)
    there = np.empty((len(coordinates), image.ndim))
    there[:] = (np.zeros(image.ndim) if len(shown) < image.ndim else shown)[-image.ndim :]
    pairs = zip(layer.units[-common:], image.units[-common:], strict=True)
    there[:, -common:] = world[:, -common:] * [ratio(unit, other) for unit, other in pairs]
    matrix, offset = to_world(image)
    return np.linalg.solve(matrix, (there - offset).T).T


def to_world(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset that take a layer's pixels to world coordinates in its own units."""
    offset = np.array(layer.data_to_world(np.zeros(layer.ndim)))
    columns = [np.array(layer.data_to_world(axis)) - offset for axis in np.eye(layer.ndim)]
    return np.stack(columns, axis=1), offset


def ratio(unit: Any, other: Any) -> float:
    """How many of the other unit one is; 1 for units that are of different kinds, as in the viewer."""
    return float((1 * unit).to(other).magnitude) if unit.is_compatible_with(other) else 1.0


def plane_of(places: np.ndarray, image: Layer) -> np.ndarray:
    """Plane of each place on an image, counted in C order; one that the image does not have where there is none."""
    shape = shape_of(image)[:-2]
    if len(shape) == 1:
        return np.rint(places[:, 0]).astype(int)
    planes = np.zeros(len(places), int)
    inside = np.ones(len(places), bool)
    for axis, length in enumerate(shape):
        index = np.rint(places[:, axis]).astype(int)
        inside &= (index >= 0) & (index < length)
        planes = planes * length + index
    return np.where(inside, planes, -1)


def plane_on_view(image: Layer, shown: Sequence[float]) -> int:
    """Plane of an image that the viewer's sliders are at, counted in C order; 0 where they are at none."""
    if image.ndim == 2 or len(shown) < image.ndim:
        return 0
    matrix, offset = to_world(image)
    place = np.linalg.solve(matrix, np.asarray(shown[-image.ndim :]) - offset)
    last = int(np.prod(shape_of(image)[:-2])) - 1
    return min(max(0, int(plane_of(place[None], image)[0])), last)


def on_planes(points_yx: np.ndarray, planes: np.ndarray | None, shape_planes: tuple[int, ...]) -> np.ndarray:
    """Coordinates in a stack of points on planes; on the first, where no planes are given."""
    if not shape_planes:
        return points_yx
    index = np.zeros(len(points_yx), int) if planes is None else planes
    axes = []
    for length in shape_planes[:0:-1]:
        index, inner = np.divmod(index, length)
        axes.append(inner)
    return np.column_stack([index, *reversed(axes), points_yx])


def shape_of(image: Layer) -> tuple[int, ...]:
    """Planes, height and width of an image layer."""
    shape = tuple(full_resolution(image).shape)
    return shape[:-1] if getattr(image, "rgb", False) else shape

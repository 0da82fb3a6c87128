"""Points, shapes and labels in the viewer as prompts in pixels of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Labels, Layer, Points, Shapes
from napari.viewer import Viewer

from napari_matseg._napari.layers import KEY, full_resolution, placement
from napari_matseg._napari.prompt_asked import Asked, AskedBox
from napari_matseg.core.prompts import MAX_ID, parse_polarity
from napari_matseg.errors import InputError

OBJECT, POLARITY = "object", "polarity"
POSITIVE, NEGATIVE = "positive", "negative"
COLOURS = {POSITIVE: "#35c759", NEGATIVE: "#ff3b30"}
BORDER, LEFT_OUT = "#ffffff", "#ff9500"
"""Borders of points, and of those that are in no prompt."""
PREVIEW = "preview"
"""The `kind` of a layer of masks that are not accepted."""
SIZE = 1 / 90
"""Diameter of new points, as a share of the image's longer side."""


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
    shape = _shape(image)[:-2]
    if len(shape) == 1:
        return np.rint(places[:, 0]).astype(int)
    planes = np.zeros(len(places), int)
    inside = np.ones(len(places), bool)
    for axis, length in enumerate(shape):
        index = np.rint(places[:, axis]).astype(int)
        inside &= (index >= 0) & (index < length)
        planes = planes * length + index
    return np.where(inside, planes, -1)


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


def _shape(image: Layer) -> tuple[int, ...]:
    """Planes, height and width of an image layer."""
    shape = tuple(full_resolution(image).shape)
    return shape[:-1] if getattr(image, "rgb", False) else shape


def collect(
    image: Layer, points: Points | None, shapes: Shapes | None, labels: Labels | None, shown: Sequence[float]
) -> Asked:
    """Take what layers ask for on an image; points and shapes without an id are given one, in their layers.

    Of labels of a stack those on view are taken.

    Raises
    ------
    InputError
        If an id is none, or the labels do not fit the image.
    """
    points_yx, planes = np.zeros((0, 2)), np.zeros(0, int)
    objects, positive = np.zeros(0, int), np.zeros(0, bool)
    if points is not None and len(points.data):
        number(points)
        places = in_pixels(points.data, points, image, shown)
        points_yx, planes = places[:, -2:], plane_of(places, image)
        objects, positive = objects_of(points), positive_of(points)
    boxes: list[AskedBox] = []
    if shapes is not None and len(shapes.data):
        number(shapes, taken=int(objects.max(initial=0)))
        for one, kind, vertices in zip(objects_of(shapes), shapes.shape_type, shapes.data, strict=True):
            places = in_pixels(np.asarray(vertices), shapes, image, shown)
            (y0, x0), (y1, x1) = places[:, -2:].min(axis=0), places[:, -2:].max(axis=0)
            plane = int(plane_of(places[:1], image)[0])
            box = float(y0), float(x0), float(y1), float(x1)
            boxes.append(AskedBox(int(one), plane, box, places[:, -2:] if kind == "polygon" else None))
    plane = plane_on_view(image, shown)
    labels_yx = None if labels is None else _labels_of(labels, image, plane)
    return Asked(points_yx, planes, objects, positive, boxes, labels_yx, plane)


def _labels_of(labels: Labels, image: Layer, plane: int) -> np.ndarray:
    """Labels of one plane of an image."""
    whole = full_resolution(labels)
    *shape_planes, height, width = _shape(image)
    if tuple(whole.shape) not in ((*shape_planes, height, width), (height, width)):
        raise InputError(
            f"{labels.name}: has the shape {tuple(whole.shape)}, the image {_shape(image)}; "
            "choose labels of this image to refine."
        )
    index = np.unravel_index(plane, shape_planes) if len(whole.shape) > 2 else ()
    return np.asarray(whole[tuple(int(i) for i in index)])


def plane_on_view(image: Layer, shown: Sequence[float]) -> int:
    """Plane of an image that the viewer's sliders are at, counted in C order; 0 where they are at none."""
    if image.ndim == 2 or len(shown) < image.ndim:
        return 0
    matrix, offset = to_world(image)
    place = np.linalg.solve(matrix, np.asarray(shown[-image.ndim :]) - offset)
    last = int(np.prod(_shape(image)[:-2])) - 1
    return min(max(0, int(plane_of(place[None], image)[0])), last)


def objects_of(layer: Points | Shapes) -> np.ndarray:
    """Id of the object that each point or shape belongs to; 0 where it has none.

    Raises
    ------
    InputError
        If there is something else than whole numbers.
    """
    if OBJECT not in layer.features:
        return np.zeros(len(layer.data), int)
    values = layer.features[OBJECT]
    try:
        ids = np.array([0.0 if _is_nothing(value) else float(value) for value in values])
    except (TypeError, ValueError):
        ids = np.full(len(values), -1.0)
    if not (np.all(ids == np.rint(ids)) and np.all(ids >= 0) and np.all(ids <= MAX_ID)):
        raise InputError(f"{layer.name}: its feature {OBJECT!r} must hold whole numbers from 1; correct the others.")
    return ids.astype(int)


def positive_of(points: Points) -> np.ndarray:
    """Whether each point lies on its object, and not beside it; where nothing is said, it does.

    Raises
    ------
    InputError
        If a polarity is neither.
    """
    if POLARITY not in points.features:
        return np.ones(len(points.data), bool)
    try:
        return np.array([_is_nothing(value) or parse_polarity(value) for value in points.features[POLARITY]], bool)
    except ValueError as error:
        raise InputError(f"{points.name}: {error}; correct its feature {POLARITY!r}.") from error


def _is_nothing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))


def number(layer: Points | Shapes, taken: int = 0) -> None:
    """Give an id of its own to each point or shape that has none, above all ids that are taken."""
    ids = objects_of(layer)
    missing = ids == 0
    features = layer.features.copy()
    if missing.any():
        ids[missing] = max(int(ids.max(initial=0)), taken) + np.arange(1, missing.sum() + 1)
    elif OBJECT in features:
        return
    features[OBJECT] = ids
    if isinstance(layer, Points) and POLARITY not in features:
        features[POLARITY] = POSITIVE
    layer.features = features


def points_layer(
    image: Layer,
    name: str,
    coordinates: np.ndarray | None = None,
    objects: np.ndarray | None = None,
    positive: np.ndarray | None = None,
) -> Points:
    """Layer for points that lies on an image, in whose pixels they are; negative ones have a colour of their own."""
    n = 0 if coordinates is None else len(coordinates)
    polarity = np.where(np.ones(n, bool) if positive is None else positive, POSITIVE, NEGATIVE).astype(object)
    return Points(
        np.zeros((0, image.ndim)) if coordinates is None else coordinates,
        ndim=image.ndim,
        name=name,
        features={OBJECT: np.arange(1, n + 1) if objects is None else objects, POLARITY: polarity},
        feature_defaults={OBJECT: 0, POLARITY: POSITIVE},
        face_color=POLARITY,
        face_color_cycle=COLOURS,
        border_color=BORDER,
        border_width=0.12,
        size=max(5.0, round(max(_shape(image)[-2:]) * SIZE)),
        **placement(image),
    )


def is_preview(layer: Layer) -> bool:
    """Whether a layer shows masks that are not accepted."""
    return bool(layer.metadata.get(KEY, {}).get("kind") == PREVIEW)


def add_below(viewer: Viewer, layer: Layer, top: Layer | None) -> Layer:
    """Add a layer to the viewer below another one, if that is there, and any preview; the selected layer stays so."""
    active = viewer.layers.selection.active
    above = [i for i, other in enumerate(viewer.layers) if other == top or is_preview(other)]
    viewer.layers.insert(min(above, default=len(viewer.layers)), layer)
    if active is not None:
        viewer.layers.selection.active = active
    return layer


def mark(points: Points, among: np.ndarray, left: np.ndarray) -> None:
    """Show by their borders which points are in no prompt.

    Parameters
    ----------
    points : Points layer
    among : array of int
        Points that it is known of; the others stay as they are.
    left : array of int
        Those of them that were left out.
    """
    colours = points.border_color.copy()
    marked = among[np.isclose(colours[among], _rgba(LEFT_OUT), atol=1 / 255).all(axis=1)]
    if set(marked) != set(left):
        colours[marked] = _rgba(BORDER)
        colours[left] = _rgba(LEFT_OUT)
        points.border_color = colours


def _rgba(colour: str) -> tuple[float, ...]:
    return (*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)), 1.0)

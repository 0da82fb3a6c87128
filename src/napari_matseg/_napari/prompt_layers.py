"""Points, shapes and labels in the viewer as prompts in pixels of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from napari.layers import Labels, Layer, Points, Shapes
from napari.viewer import Viewer

from napari_matseg._napari.layers import KEY, full_resolution, placement
from napari_matseg._napari.prompt_asked import Asked, AskedBox
from napari_matseg._napari.prompt_places import in_pixels, plane_of, plane_on_view, shape_of
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
    asked = Asked(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0, int), np.zeros(0, bool))
    if points is not None and len(points.data):
        number(points)
        asked = points_on(image, points, shown)
    boxes: list[AskedBox] = []
    if shapes is not None and len(shapes.data):
        number(shapes, taken=int(asked.objects.max(initial=0)))
        for one, kind, vertices in zip(objects_of(shapes), shapes.shape_type, shapes.data, strict=True):
            places = in_pixels(np.asarray(vertices), shapes, image, shown)
            (y0, x0), (y1, x1) = places[:, -2:].min(axis=0), places[:, -2:].max(axis=0)
            plane = int(plane_of(places[:1], image)[0])
            box = float(y0), float(x0), float(y1), float(x1)
            boxes.append(AskedBox(int(one), plane, box, places[:, -2:] if kind == "polygon" else None))
    plane = plane_on_view(image, shown)
    labels_yx = None if labels is None else _labels_of(labels, image, plane)
    return replace(asked, boxes=boxes, labels_yx=labels_yx, labels_plane=plane)


def points_on(image: Layer, points: Points, shown: Sequence[float]) -> Asked:
    """Take points, which have their ids, and nothing else."""
    places = in_pixels(points.data, points, image, shown)
    return Asked(places[:, -2:], plane_of(places, image), objects_of(points), positive_of(points))


def _labels_of(labels: Labels, image: Layer, plane: int) -> np.ndarray:
    """Labels of one plane of an image."""
    whole = full_resolution(labels)
    *shape_planes, height, width = shape_of(image)
    if tuple(whole.shape) not in ((*shape_planes, height, width), (height, width)):
        raise InputError(
            f"{labels.name}: has the shape {tuple(whole.shape)}, the image {shape_of(image)}; "
            "choose labels of this image to refine."
        )
    index = np.unravel_index(plane, shape_planes) if len(whole.shape) > 2 else ()
    return np.asarray(whole[tuple(int(i) for i in index)])


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
        size=max(5.0, round(max(shape_of(image)[-2:]) * SIZE)),
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

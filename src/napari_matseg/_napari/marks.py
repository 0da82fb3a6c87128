"""Marks on an image that the user draws or drags: the data bar, and a line along the scale bar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Layer, Shapes
from napari.layers.base import ActionType
from napari.viewer import Viewer
from qtpy.QtCore import QTimer

from napari_matseg._napari.layers import KEY, OVERLAY
from napari_matseg._napari.prompt_places import shape_of, to_world

DONE = (ActionType.ADDED, ActionType.CHANGED, ActionType.REMOVED)
BAR_COLOUR, LINE_COLOUR = "#ff9500", "#ffd60a"
SHARE = 0.08
"""Of the height, that a new data bar takes until it is dragged."""


class Mark:
    """A shapes layer with one shape on an image, made when it is first needed, and anew if the user deletes it.

    The layer has two axes, so that it is seen on every plane of a stack, and lies on the image however that is placed.

    Parameters
    ----------
    viewer : napari.Viewer
    name : str
    colour : str
    changed : callable
        Called when the user has drawn, moved or deleted the shape.
    """

    def __init__(self, viewer: Viewer, name: str, colour: str, changed: Callable[[], None]) -> None:
        self._viewer = viewer
        self._name = name
        self._colour = colour
        self._changed = changed
        self._quiet = False
        self.layer: Shapes | None = None

    @property
    def there(self) -> bool:
        """Whether the layer is in the viewer."""
        return self.layer is not None and self.layer in self._viewer.layers

    def put(self, image: Layer, corners: np.ndarray | None, kind: str) -> None:
        """Show a shape instead of the last one.

        Parameters
        ----------
        image : Layer
        corners : array, shape (n, 2), or None
            In pixels of the image; None for no shape.
        kind : str
            Of the shape, as napari calls it.
        """
        scale, affine = _placement(image)
        active = self._viewer.layers.selection.active
        in_hand = self.there and active == self.layer and self.layer.mode == "select"
        if not self.there:
            self._make(image)
        layer, self._quiet = self.layer, True
        layer.units = tuple(str(unit) for unit in image.units[-2:])
        layer.scale, layer.affine = scale, affine
        layer.data = []
        if corners is not None:
            width = max(shape_of(image)[-2:]) / 400
            layer.add(corners, shape_type=kind, edge_width=width, edge_color=self._colour, face_color=self._face(kind))
        layer.visible = True
        self._quiet = False
        if active is not None and active in self._viewer.layers:
            self._viewer.layers.selection.active = active
        if in_hand:
            self.take("select", shape=0)

    def take(self, mode: str, *, shape: int | None = None) -> None:
        """Let the user draw, or drag the shape: the layer is selected, with a tool in hand."""
        if self.there:
            self._viewer.layers.selection.active = self.layer
            self.layer.mode = mode
            if shape is not None and shape < len(self.layer.data):
                self.layer.selected_data = {shape}

    def corners(self) -> np.ndarray | None:
        """Corners of the shape that was drawn last, in pixels of the image; None if there is none."""
        if not self.there or not len(self.layer.data):
            return None
        return np.array(self.layer.data[-1], float)  # the layer lies on the image, pixel on pixel

    def remove(self) -> None:
        """Take the layer away."""
        if self.there:
            self._quiet = True
            self._viewer.layers.remove(self.layer)
            self._quiet = False
        self.layer = None

    def _face(self, kind: str) -> Any:
        return f"{self._colour}40" if kind == "rectangle" else "transparent"

    def _make(self, image: Layer) -> None:
        self.layer = Shapes(
            ndim=2,
            name=self._name,
            units=tuple(str(unit) for unit in image.units[-2:]),
            axis_labels=image.axis_labels[-2:],
            metadata={KEY: {"kind": OVERLAY}},
        )
        self.layer.current_edge_color = self._colour
        self.layer.current_face_color = "transparent"
        self.layer.current_edge_width = max(shape_of(image)[-2:]) / 400
        self._viewer.add_layer(self.layer)
        self.layer.events.data.connect(self._on_data)

    def _on_data(self, event: Any) -> None:
        if not self._quiet and event.action in DONE:
            QTimer.singleShot(0, self._changed)  # napari is not done with the shape yet


def _placement(image: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Scale and affine that put a layer of two axes on height and width of an image."""
    matrix, offset = to_world(image)
    # napari sizes handles by the scale, and takes no notice of the affine.
    scale = np.linalg.norm(matrix[-2:, -2:], axis=0)
    affine = np.eye(3)
    affine[:2, :2], affine[:2, 2] = matrix[-2:, -2:] / scale, offset[-2:]
    return scale, affine


def bar_corners(shape_yx: tuple[int, int], rows: tuple[int, int] | None) -> np.ndarray:
    """Corners of a data bar, in pixels whose centres are whole numbers; of a new one at the bottom without rows."""
    height, width = shape_yx
    start, stop = rows or (height - max(1, round(SHARE * height)), height)
    top, bottom, left, right = start - 0.5, stop - 0.5, -0.5, width - 0.5
    return np.array([[top, left], [top, right], [bottom, right], [bottom, left]])


def rows_of(corners: np.ndarray | None, height: int) -> tuple[int, int] | None:
    """Rows of the data bar that a rectangle stands for: from its inner edge to the edge of the image that is nearer.

    Examples
    --------
    >>> rows_of(np.array([[89.7, 3], [99.5, 40]]), 100), rows_of(np.array([[-0.5, 0], [7.6, 9]]), 100)
    ((90, 100), (0, 8))
    >>> rows_of(np.array([[99.6, 0], [120.0, 9]]), 100), rows_of(None, 100)
    (None, None)
    """
    if corners is None:
        return None
    top, bottom = corners[:, 0].min() + 0.5, corners[:, 0].max() + 0.5
    if (top + bottom) / 2 >= height / 2:
        start = int(np.rint(top))
        return (max(start, 1), height) if start < height else None
    stop = int(np.rint(bottom))
    return (0, min(stop, height - 1)) if stop > 0 else None

"""Layers that only show something: which objects are selected, which are left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from napari.layers import Labels, Layer
from napari.utils.colormaps import CyclicLabelColormap
from napari.utils.colormaps.standardize_color import transform_color
from napari.viewer import Viewer

from napari_matseg._napari.layers import KEY, OVERLAY
from napari_matseg._napari.prompt_layers import add_below
from napari_matseg._napari.prompt_places import to_world


class Overlay:
    """A layer of one colour over a part of another one, whose own labels and colours stay as they are.

    It is made when there is first something to show, and anew if the user deletes it.

    Parameters
    ----------
    viewer : napari.Viewer
    name : str
    colour : str
    opacity : float
    """

    def __init__(self, viewer: Viewer, name: str, colour: str, opacity: float) -> None:
        self._viewer = viewer
        self._name = name
        # A direct colormap would be compiled at its first use, for seconds.
        self._colours = CyclicLabelColormap(colors=[(0, 0, 0, 0), *transform_color(colour)])
        self._opacity = opacity
        self.layer: Labels | None = None

    def show(self, over: Layer, place: Sequence[int], mask_yx: np.ndarray, *, step: int = 1, outline: int = 0) -> None:
        """Show a mask instead of the last one.

        Parameters
        ----------
        over : Layer
        place : sequence of int, one for each axis of that layer
            Which of its pixels the first one of the mask is.
        mask_yx : boolean array
        step : int
            The mask has one of so many rows and columns.
        outline : int
            Width of the outline that is shown, in pixels of the mask; 0 for the whole area.
        """
        matrix, offset = to_world(over)
        affine = np.eye(over.ndim + 1)
        affine[:-1, :-1] = matrix * np.array([*[1] * (over.ndim - 2), step, step])
        affine[:-1, -1] = offset + matrix @ place
        data = mask_yx.astype(np.uint8).reshape((1,) * (over.ndim - 2) + mask_yx.shape)
        if self.layer not in self._viewer.layers or self.layer.ndim != over.ndim:
            self.remove()
            self._make(over, data, affine, outline)
            return
        self.layer.units = tuple(str(unit) for unit in over.units)
        self.layer.affine = affine
        self.layer.contour = outline
        self.layer.data = data
        self.layer.visible = True

    def hide(self) -> None:
        """Show nothing."""
        if self.layer in self._viewer.layers:
            self.layer.visible = False

    def remove(self) -> None:
        """Take the layer away."""
        if self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)
        self.layer = None

    def _make(self, over: Layer, data: np.ndarray, affine: np.ndarray, outline: int) -> None:
        layer = Labels(
            data,
            name=self._name,
            opacity=self._opacity,
            metadata={KEY: {"kind": OVERLAY}},
            colormap=self._colours,
            affine=affine,
            units=tuple(str(unit) for unit in over.units),
            axis_labels=over.axis_labels,
        )
        layer.contour = outline
        layer.editable = False
        self.layer = add_below(self._viewer, layer, None)

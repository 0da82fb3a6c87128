"""Outlines of masks that are not accepted yet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from napari.layers import Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from napari.viewer import Viewer

from napari_matseg._napari.layers import KEY
from napari_matseg._napari.prompt_layers import PREVIEW, add_below
from napari_matseg._napari.prompt_places import to_world
from napari_matseg.core.boxes import span, within
from napari_matseg.core.objects import ObjectMask

NAME = "preview (not accepted yet)"
COLOUR = "#ffd60a"
OUTLINE = 3  # px


class Preview:
    """One light layer that is as large as the masks that it shows, however large the image is.

    Parameters
    ----------
    viewer : Viewer
    image : Layer
        What the masks are of.
    top : Layer
        What the preview goes below.
    """

    def __init__(self, viewer: Viewer, image: Layer, top: Layer) -> None:
        self._viewer, self._image, self._top = viewer, image, top
        self._layer: Labels | None = None
        self._masks: list[ObjectMask] = []
        self._make()

    def at(self, y: float, x: float) -> int:
        """Object that is shown at a place of the plane; 0 for none."""
        for mask in self._masks:
            row, column = round(y) - mask.top, round(x) - mask.left
            height, width = mask.scores_yx.shape
            if 0 <= row < height and 0 <= column < width and mask.scores_yx[row, column] > 0:
                return mask.id
        return 0

    def show(self, masks: Sequence[ObjectMask], planes: tuple[int, ...]) -> None:
        """Show these masks of one plane, instead of others.

        Parameters
        ----------
        masks : sequence of ObjectMask
        planes : tuple of int
            Index of the plane, one for each axis before height and width.
        """
        self._masks = masks = [mask for mask in masks if mask.scores_yx.size]
        if self._layer not in self._viewer.layers:  # the user removed it
            if not masks:
                return
            self._make()
        if not masks:
            self._layer.visible = False
            return
        frame = span(mask.where for mask in masks)
        labels = np.zeros([side.stop - side.start for side in frame], np.uint32)
        for mask in masks:
            labels[within(mask.where, frame)][mask.mask_yx] = mask.id
        matrix, offset = to_world(self._image)
        affine = np.eye(self._image.ndim + 1)
        affine[:-1, :-1] = matrix
        affine[:-1, -1] = offset + matrix @ [*planes, frame[0].start, frame[1].start]
        self._layer.data = labels.reshape([1] * len(planes) + list(labels.shape))
        self._layer.affine = affine
        self._layer.visible = True

    def remove(self) -> None:
        """Take the layer away."""
        if self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)
        self._layer = None

    def _make(self) -> None:
        layer = Labels(
            np.zeros([1] * self._image.ndim, np.uint32),
            name=NAME,
            opacity=1,
            visible=False,
            metadata={KEY: {"kind": PREVIEW}},
            colormap=DirectLabelColormap(color_dict={0: "transparent", None: COLOUR}),
            units=tuple(str(unit) for unit in self._image.units),
            axis_labels=self._image.axis_labels,
        )
        layer.contour = OUTLINE
        layer.editable = False
        self._layer = add_below(self._viewer, layer, self._top)

"""A pixel size for an image layer and for all that lies on it, and the way back."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer, Points, Shapes
from napari.viewer import Viewer

from napari_matseg._napari.layers import COUNTED, KEY, OVERLAY, counted_rows, describe
from napari_matseg._napari.prompt_places import shape_of, to_world
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.errors import InputError

FOLLOWERS = (Image, Labels, Points, Shapes)


@dataclass(frozen=True)
class Kept:
    """How a layer was placed, and what it said of itself."""

    layer: Layer
    scale: tuple[float, ...]
    translate: tuple[float, ...]
    units: tuple[str, ...]
    metadata: dict[str, Any]

    @classmethod
    def of(cls, layer: Layer) -> Kept:
        """Keep a layer's placement."""
        units = tuple(str(unit) for unit in layer.units)
        about = copy.deepcopy(layer.metadata.get(KEY, {}))
        return cls(layer, tuple(layer.scale), tuple(layer.translate), units, about)

    def restore(self) -> None:
        """Give it back."""
        self.layer.units = self.units
        self.layer.scale = self.scale
        self.layer.translate = self.translate
        if self.metadata:
            self.layer.metadata[KEY] = self.metadata
        else:
            self.layer.metadata.pop(KEY, None)


def with_followers(viewer: Viewer, image: Layer) -> list[Layer]:
    """Find the layers that lie on an image exactly: pictures and labels of its size, points and shapes.

    Points and shapes belong to no image for certain if another one, which does not follow, is placed alike; then they
    stay as they are.
    """
    alike = [layer for layer in viewer.layers if isinstance(layer, FOLLOWERS) and _placed_alike(layer, image)]
    alike = [layer for layer in alike if layer.metadata.get(KEY, {}).get("kind") != OVERLAY]
    pictures = [layer for layer in alike if isinstance(layer, Image | Labels)]
    same = [layer for layer in pictures if shape_of(layer)[-2:] == shape_of(image)[-2:]]
    return same if len(same) < len(pictures) else alike


def set_pixel_size(
    viewer: Viewer, image: Layer, size_nm: tuple[float, float], told: str, known: Micrograph
) -> list[Kept]:
    """Give an image, and what lies on it, a pixel size.

    Parameters
    ----------
    viewer : Viewer
    image : Image layer
    size_nm : (float, float)
        Height and width of a pixel in nanometres.
    told : str
        What tells of it, for a reader.
    known : Micrograph
        What else is known of the image.

    Returns
    -------
    list of Kept
        What was before.
    """
    layers = with_followers(viewer, image)
    before = [Kept.of(layer) for layer in layers]
    _adopt(image, known)
    for layer in layers:
        _place(layer, size_nm)
        if KEY in layer.metadata and "pixel_size_nm" in layer.metadata[KEY]:
            layer.metadata[KEY]["pixel_size_nm"] = list(size_nm)
    image.metadata[KEY]["pixel_size_from"] = told
    return before


def set_data_bar(viewer: Viewer, image: Layer, rows: tuple[int, int] | None, known: Micrograph) -> list[Kept]:
    """Say where an image has its data bar, or that it has none.

    Labels that lie on it, and were made before, count only where they are no data bar.

    Returns
    -------
    list of Kept
        What was before.

    Raises
    ------
    InputError
        If no image would be left.
    """
    inside = replace(known, data_bar=rows, data_bar_from="user").content_rows
    labels = [layer for layer in with_followers(viewer, image) if isinstance(layer, Labels)]
    before = [Kept.of(layer) for layer in (image, *labels)]
    whole = 0, known.shape_yx[0]
    counted = []
    for layer in labels:
        start, stop = _segmented(layer) or whole
        counted.append((max(start, inside.start), min(stop, inside.stop)))
        if counted[-1][0] >= counted[-1][1]:
            raise InputError(f"{layer.name}: nothing of it would be left beside the data bar; leave more of the image.")
    for layer, own in zip(labels, counted, strict=True):
        if own != (counted_rows(layer) or whole):
            layer.metadata.setdefault(KEY, {})[COUNTED] = list(own)
    _adopt(image, known)
    image.metadata[KEY] |= {"data_bar_rows": None if rows is None else list(rows), "data_bar_from": "user"}
    return before


def _segmented(layer: Layer) -> tuple[int, int] | None:
    about = {key: value for key, value in layer.metadata.get(KEY, {}).items() if key != COUNTED}
    rows: Sequence[int] | None = (about.get("record") or {}).get("segmented_rows")
    return None if rows is None else (int(rows[0]), int(rows[1]))


def _adopt(image: Layer, known: Micrograph) -> None:
    """Keep what is known of the file of an image that another reader read."""
    if image.metadata.get(KEY, {}).get("kind") != "image":
        image.metadata[KEY] = describe(known)


def _place(layer: Layer, size_nm: tuple[float, float]) -> None:
    scale, translate = list(layer.scale), list(layer.translate)
    units = [str(unit) for unit in layer.units]
    for axis, side in zip((-2, -1), size_nm, strict=True):
        if not layer.units[axis].is_compatible_with("nm"):
            translate[axis] *= side / abs(scale[axis])  # pixels before
        scale[axis] = float(np.copysign(side, scale[axis]))
        units[axis] = "nm"
    layer.units = tuple(units)
    layer.scale = tuple(scale)
    layer.translate = tuple(translate)


def _placed_alike(layer: Layer, image: Layer) -> bool:
    """Whether height and width of a layer are where those of an image are."""
    if layer.ndim < 2 or [str(unit) for unit in layer.units[-2:]] != [str(unit) for unit in image.units[-2:]]:
        return False
    (matrix, offset), (other, at) = to_world(layer), to_world(image)
    return np.allclose(matrix[-2:, -2:], other[-2:, -2:]) and np.allclose(offset[-2:], at[-2:])

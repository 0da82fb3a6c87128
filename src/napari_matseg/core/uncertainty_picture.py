"""A picture of where a model is unsure, with the places to label next."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from napari_matseg.core.annotate import draw_text, legend_rgb, letter_height
from napari_matseg.core.overlay import BAND, OVERLAY_LIMIT, overlay_rgb
from napari_matseg.settings import ClassSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.places import Place

OPACITY = 0.75
LEGEND = ((0.0, "0: sure"), (0.5, "0.5"), (1.0, "1: all classes as likely"))
FRAME = (90, 220, 255)
COLOURS = "inferno"
"""Of matplotlib's and napari's; it also tells dark from bright in print."""


def uncertainty_rgb(micrograph: Micrograph, map_yx: np.ndarray, places: Sequence[Place], plane: int = 0) -> np.ndarray:
    """Picture of a plane: grey image, tinted where the model is unsure, with squares numbered by rank.

    Parameters
    ----------
    micrograph : Micrograph
    map_yx : array, shape (height, width), float32, 0 to 1
        Of the plane.
    places : sequence of Place
        The most uncertain first; those of other planes are not drawn, but count.
    plane : int

    Returns
    -------
    array, shape (height + legend, width, 3), uint8
        With every n-th pixel, where the longer side would have more than 4096.
    """
    import matplotlib as mpl

    height, width = micrograph.shape_yx
    step = math.ceil(max(height, width) / OVERLAY_LIMIT)
    view = micrograph.view(plane)
    rows = max(BAND // (width * step), 1) * step
    bands = (view[:, slice(top, top + rows), slice(None)][0, ::step, ::step] for top in range(0, height, rows))
    grey_yx = np.concatenate(list(bands))
    size = micrograph.pixel_size_nm
    bar = micrograph.data_bar
    grey = overlay_rgb(
        grey_yx,
        np.zeros(grey_yx.shape, np.uint8),
        pixel_size_nm=None if size is None else (size[0] * step, size[1] * step),
        data_bar=None if bar is None else (bar[0] // step, min(-(-bar[1] // step), grey_yx.shape[0])),
    ).astype(np.float32)
    shown_yx = map_yx[::step, ::step]
    table = (np.array([mpl.colormaps[COLOURS](i)[:3] for i in range(256)]) * 255).astype(np.float32)
    # By its root, as little uncertainty is what most of it is.
    grey += OPACITY * np.sqrt(shown_yx)[..., None] * (table[np.rint(shown_yx * 255).astype(np.uint8)] - grey)
    canvas = Image.fromarray(np.rint(grey).astype(np.uint8))
    draw, letters = ImageDraw.Draw(canvas), letter_height(canvas)
    for rank, place in enumerate(places, 1):
        if place.plane == plane:
            left, top = place.left // step, place.top // step
            right, bottom = (place.left + place.width) // step - 1, (place.top + place.height) // step - 1
            draw.rectangle((left, top, right, bottom), outline=FRAME, width=max(2, letters // 8))
            draw_text(draw, (left + letters // 2, top + letters // 4), str(rank), letters, FRAME)
    specs = [ClassSpec(name=text, colour=tuple(table[round(255 * at)].astype(int).tolist())) for at, text in LEGEND]
    return np.concatenate((np.asarray(canvas), legend_rgb(specs, canvas.width, letters)))

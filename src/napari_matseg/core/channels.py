"""One channel of true colour, as grey."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.micrograph import LUMINANCE
from napari_matseg.core.pixels import LazyPixels

if TYPE_CHECKING:
    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.pixels import Box

CHANNELS = ("red", "green", "blue")


def take_channel(micrograph: Micrograph, channel: str) -> Micrograph:
    """Make grey of true colour where and when it is sliced; what is grey already stays as it is.

    Parameters
    ----------
    micrograph : Micrograph
    channel : "luminance", "red", "green" or "blue"
        Luminance is that of ITU-R BT.709, in float32; a channel keeps the dtype of the file.
    """
    if not micrograph.is_colour:
        return micrograph
    colour = micrograph.pixels
    planes = micrograph.shape_planes
    which = None if channel == "luminance" else CHANNELS.index(channel)

    def read(number: int, box: Box) -> np.ndarray:
        where = tuple(int(i) for i in np.unravel_index(number, planes)) if planes else ()
        part_yxs = np.asarray(colour[(*where, *(slice(side.start, side.stop) for side in box))])
        if which is not None:
            return part_yxs[..., which]
        # In the order of `Micrograph.plane`, so that the two round alike.
        red, green, blue = (part_yxs[..., i].astype(np.float32) * LUMINANCE[i] for i in range(3))
        luminance: np.ndarray = red + green + blue
        return luminance

    dtype = np.dtype(np.float32) if which is None else np.dtype(colour.dtype)
    grey = LazyPixels((*planes, *micrograph.shape_yx), dtype, len(planes), read)
    return replace(micrograph, pixels=grey, axes=micrograph.axes.removesuffix("S"), levels=())

"""Pictures of a segmentation over its micrograph."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from napari_matseg.core.annotate import draw_scale_bar, legend_rgb, letter_height
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_matseg.settings import ClassSpec

OBJECT_COLOURS = np.array(
    [(0, 180, 255), (255, 170, 0), (60, 200, 60), (255, 80, 160), (160, 110, 255), (230, 230, 60), (0, 210, 180)],
    np.float32,
)
BAND = 1 << 24  # pixels of a lazy array that are read at once
OVERLAY_LIMIT = 4096
"""Pixels on the longer side of an overlay at most."""


def overlay_rgb(
    image_yx: Any,
    labels_yx: Any,
    classes: Sequence[ClassSpec] | None = None,
    *,
    pixel_size_nm: tuple[float, float] | None = None,
    data_bar: tuple[int, int] | None = None,
    opacity: float = 0.4,
) -> np.ndarray:
    """Picture of a segmentation: grey image, tinted and outlined classes, legend and scale bar.

    Parameters
    ----------
    image_yx : array, shape (height, width)
        Grey values of any numeric type; the 0.5th and 99.5th percentiles become black and white. Of this and of the
        labels, if they are lazy, a band of rows is in memory at a time.
    labels_yx : array, shape (height, width), integer
        Class labels, or the ids of objects; 0 stays grey.
    classes : sequence of ClassSpec, optional
        One for each label, that of 0 too. Without it the labels are ids, told apart by colour and not named.
    pixel_size_nm : (float, float) or None
        Height and width of a pixel in nanometres; without it there is no scale bar.
    data_bar : (int, int) or None
        First row and end (exclusive) of the data bar, which has no say in black and white.
    opacity : float
        Of the tint, 0 to 1.

    Returns
    -------
    array, shape (height + legend, width, 3), uint8
        With every n-th pixel, where the longer side would have more than 4096.

    Raises
    ------
    InputError
        If the shapes differ, or a label has no class.
    """
    if image_yx.shape != labels_yx.shape or image_yx.ndim != 2 or image_yx.size == 0:
        raise InputError(
            f"An image of shape {image_yx.shape} and labels of shape {labels_yx.shape} do not make an overlay; "
            "give one plane of each, of the same shape."
        )
    steps = [min(math.ceil(max(image_yx.shape) / OVERLAY_LIMIT), side) for side in image_yx.shape]
    labels = _every(labels_yx, steps)
    highest = int(labels.max())
    if classes is not None and (highest >= len(classes) or labels.min() < 0):
        raise InputError(f"Label {highest} is none of the {len(classes)} classes; name all classes, that of 0 too.")
    rows = np.arange(0, image_yx.shape[0], steps[0])
    first, end = data_bar or (0, 0)
    grey = _grey(_every(image_yx, steps), (rows < first) | (rows >= end))
    rgb = np.repeat(grey[..., None], 3, axis=2)
    if classes is None:
        colours, index = OBJECT_COLOURS, labels % len(OBJECT_COLOURS)
    else:
        colours, index = np.array([spec.colour for spec in classes], np.float32), labels
    tinted = labels > 0
    rgb[tinted] += opacity * (colours[index[tinted]] - rgb[tinted])
    outline = tinted & _borders(labels)
    rgb[outline] = colours[index[outline]]
    canvas = Image.fromarray(np.rint(rgb).astype(np.uint8))
    if pixel_size_nm is not None:
        bottom = first // steps[0] if end >= image_yx.shape[0] else canvas.height
        draw_scale_bar(canvas, pixel_size_nm[1] * steps[1], bottom)
    if classes is None:
        return np.asarray(canvas)
    return np.concatenate((np.asarray(canvas), legend_rgb(classes[1:], canvas.width, letter_height(canvas))))


def _every(array_yx: Any, steps: Sequence[int]) -> np.ndarray:
    """Every n-th pixel."""
    if isinstance(array_yx, np.ndarray):
        return array_yx[:: steps[0], :: steps[1]]
    height, width = array_yx.shape
    rows = max(BAND // (width * steps[0]), 1) * steps[0]
    bands = (np.asarray(array_yx[y : y + rows, :]) for y in range(0, height, rows))
    return np.concatenate([band[:: steps[0], :: steps[1]] for band in bands])


def _grey(image_yx: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Grey values from 0 to 255, float32, stretched by those rows.

    What is not finite becomes black, and a constant image grey.
    """
    image = image_yx.astype(np.float32)
    finite = np.isfinite(image)
    known = image[rows][finite[rows]]
    if not known.size:
        return np.zeros_like(image)
    low, high = np.percentile(known, (0.5, 99.5))
    if high <= low:
        low, high = float(known.min()), float(known.max())
    if high <= low:
        return np.where(finite, np.float32(127), np.float32(0))
    image[~finite] = low
    stretched: np.ndarray = np.clip((image - np.float32(low)) * np.float32(255 / (high - low)), 0, 255)
    return stretched


def _borders(labels_yx: np.ndarray) -> np.ndarray:
    """Pixels that have a neighbour with another label."""
    border = np.zeros(labels_yx.shape, bool)
    for axis in (0, 1):
        differ = np.diff(labels_yx, axis=axis) != 0
        before = [slice(None), slice(None)]
        after = [slice(None), slice(None)]
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        border[tuple(before)] |= differ
        border[tuple(after)] |= differ
    return border

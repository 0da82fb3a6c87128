"""What labels are: classes, or objects."""

from __future__ import annotations

import numpy as np
from napari.layers import Labels, Layer

from napari_matseg._napari.layers import KEY, full_resolution, specs_of
from napari_matseg.core.truth_pictures import MOST_CLASSES, Kind

SAMPLE = 1_000_000
"""About so many pixels tell what labels are."""


def look_like_objects(prediction: Labels, truth: Layer | None) -> bool:
    """Guess whether two layers hold objects rather than classes."""
    for layer in (prediction, truth):
        kind = None if layer is None else layer.metadata.get(KEY, {}).get("kind")
        if kind in ("classes", "objects"):
            return bool(kind == "objects")
    pixels = full_resolution(prediction)
    if not isinstance(pixels, np.ndarray):
        return False
    step = max(1, round((pixels.size / SAMPLE) ** 0.5))
    return len(np.unique(pixels[..., ::step, ::step])) > MOST_CLASSES + 1


def kind_of(truth: Layer) -> Kind:
    """Say how the objects of a truth are to be read."""
    if specs_of(truth.metadata) is not None:
        return "pieces"
    return "ids" if truth.metadata.get(KEY, {}).get("kind") == "objects" else "auto"

"""Files into layers, with pixel size, units and what the instrument recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_matseg._napari.convert import offer_to_convert
from napari_matseg._napari.layers import LayerData, classes_layer, image_layer, objects_layer, placement_of
from napari_matseg._napari.pyramids import find_pyramid_of, make_when_shown
from napari_matseg.core.label_files import find_labels_info
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.pyramid import Pyramid
from napari_matseg.core.pyramid_sample import Kind
from napari_matseg.core.read import read

Reader = Callable[[str], list[LayerData]]


def get_reader(path: str | list[str]) -> Reader | None:
    """Reader for a file; several files as one stack are left to others."""
    return read_layers if isinstance(path, str) else None


def read_layers(path: str) -> list[LayerData]:
    """Read a micrograph as an image layer, or labels that `napari-matseg` wrote as a labels layer.

    What is too large to be shown as a whole gets smaller copies, in the background if there are none yet.

    Raises
    ------
    InputError
        If the file is no image that can be read.
    """
    file = Path(path)
    micrograph = read(file)
    layer = _labels_layer(micrograph, file) or _image_layer(micrograph, file)
    return [layer]


def _image_layer(micrograph: Micrograph, file: Path) -> LayerData:
    offer_to_convert(micrograph)
    whole, pyramid = _with_pyramid(micrograph, "image")
    data, kwargs, kind = image_layer(whole, file.stem)
    if pyramid is not None and micrograph.pixels.dtype != np.uint8:  # of which napari shows the whole range
        kwargs["contrast_limits"] = (pyramid.sample.low, pyramid.sample.high)
    return data, kwargs, kind


def _with_pyramid(micrograph: Micrograph, kind: Kind) -> tuple[Micrograph, Pyramid | None]:
    pyramid = find_pyramid_of(micrograph, kind)
    if pyramid is None:
        return micrograph, None
    if not pyramid.ready:
        make_when_shown(pyramid)
    return replace(micrograph, levels=(*micrograph.levels, *pyramid.levels)), pyramid


def _labels_layer(micrograph: Micrograph, file: Path) -> LayerData | None:
    """Labels layer of a file with classes or a record of ours; None for any other."""
    if micrograph.is_colour or micrograph.pixels.dtype.kind != "u":
        return None
    specs, record = find_labels_info(file)
    if specs is None and record is None:
        return None
    micrograph, _ = _with_pyramid(micrograph, "labels")
    labels = micrograph.pixels if micrograph.levels else np.asarray(micrograph.pixels)
    place = placement_of(micrograph)
    kept: dict[str, Any] = {"size_nm": micrograph.pixel_size_nm, "record": record, "levels": micrograph.levels}
    if specs is None:
        return objects_layer(labels, file.stem, place, **kept)
    return classes_layer(labels, specs, file.stem, place, **kept)

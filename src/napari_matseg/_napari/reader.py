"""Files into layers, with pixel size, units and what the instrument recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_matseg._napari.layers import LayerData, classes_layer, image_layer, objects_layer, placement_of
from napari_matseg.core.export import find_labels_info
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.read import read

Reader = Callable[[str], list[LayerData]]


def get_reader(path: str | list[str]) -> Reader | None:
    """Reader for a file; several files as one stack are left to others."""
    return read_layers if isinstance(path, str) else None


def read_layers(path: str) -> list[LayerData]:
    """Read a micrograph as an image layer, or labels that `napari-matseg` wrote as a labels layer.

    Raises
    ------
    InputError
        If the file is no image that can be read.
    """
    file = Path(path)
    micrograph = read(file)
    labels = _labels_layer(micrograph, file)
    return [labels or image_layer(micrograph, file.stem)]


def _labels_layer(micrograph: Micrograph, file: Path) -> LayerData | None:
    """Labels layer of a file with classes or a record of ours; None for any other."""
    if micrograph.is_colour or micrograph.pixels.dtype.kind != "u":
        return None
    specs, record = find_labels_info(file)
    if specs is None and record is None:
        return None
    labels = micrograph.pixels if micrograph.levels else np.asarray(micrograph.pixels)
    place = placement_of(micrograph)
    kept: dict[str, Any] = {"size_nm": micrograph.pixel_size_nm, "record": record, "levels": micrograph.levels}
    if specs is None:
        return objects_layer(labels, file.stem, place, **kept)
    return classes_layer(labels, specs, file.stem, place, **kept)

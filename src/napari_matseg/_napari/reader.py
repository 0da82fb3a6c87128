"""Files into layers, with pixel size, units and what the instrument recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_matseg._napari.layers import LayerData, classes_layer, image_layer, objects_layer, placement_of
from napari_matseg.core.export import read_labels_info
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
    if file.suffix.lower() not in (".tif", ".tiff") or micrograph.is_colour or micrograph.pixels.dtype.kind != "u":
        return None
    specs, record = read_labels_info(file)
    if specs is None and record is None:
        return None
    labels, place, size = np.asarray(micrograph.pixels), placement_of(micrograph), micrograph.pixel_size_nm
    if specs is None:
        return objects_layer(labels, file.stem, place, size_nm=size, record=record)
    return classes_layer(labels, specs, file.stem, place, size_nm=size, record=record)

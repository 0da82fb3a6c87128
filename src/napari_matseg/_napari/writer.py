"""Labels into files, with what napari's own writer drops: pixel size, classes and where they came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_matseg._napari.layers import KEY, axes_of, pixel_size, specs_of
from napari_matseg.core.label_files import write_labels
from napari_matseg.core.large.stores import write_labels_zarr
from napari_matseg.errors import InputError


def write_labels_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a labels layer as a TIFF, or as OME-Zarr if the name ends in .zarr.

    Parameters
    ----------
    path : str
        File or folder to write.
    data : array, or list of arrays
        Labels; of a pyramid the finest level is written.
    attributes : dict
        Of the layer, as napari gives them to writers.

    Returns
    -------
    list of str
        What was written.

    Raises
    ------
    InputError
        If there are labels below 0 or above 2**32 - 1.
    OutputError
        If it cannot be written.
    """
    labels = np.asarray(data[0] if attributes.get("multiscale") else data)
    metadata = attributes.get("metadata", {})
    known = metadata.get(KEY, {})
    write = write_labels_zarr if path.lower().endswith(".zarr") else write_labels
    write(
        Path(path),
        _smallest(labels, attributes.get("name", "labels")),
        pixel_size_nm=pixel_size(attributes["scale"], attributes["units"]) or known.get("pixel_size_nm"),
        classes=specs_of(metadata) or (),
        axes=axes_of(labels.ndim - 2, attributes.get("axis_labels", ())),
        record=known.get("record"),
    )
    return [path]


def _smallest(labels: np.ndarray, name: str) -> np.ndarray:
    """Labels in an unsigned type that files know; class ids stay of 8 bits."""
    if labels.dtype.name in ("uint8", "uint16", "uint32"):
        return labels
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0 or high >= 2**32:
        raise InputError(f"{name}: labels from {low} to {high} cannot be kept; give ids from 0 to {2**32 - 1}.")
    return labels.astype("uint8" if high < 2**8 else "uint16" if high < 2**16 else "uint32")

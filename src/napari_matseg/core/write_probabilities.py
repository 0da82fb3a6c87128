"""Probabilities of classes as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tifffile

from napari_matseg.core.export import NAMESPACE, replacing
from napari_matseg.core.label_files import CLASSIC_LIMIT, TILE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

    from napari_matseg.settings import ClassSpec


def write_probabilities(
    path: Path,
    probabilities: np.ndarray,
    classes: Sequence[ClassSpec],
    pixel_size_nm: tuple[float, float] | None = None,
) -> None:
    """Write the probability of each class as a compressed OME-TIFF, whole or not at all.

    Parameters
    ----------
    path : Path
    probabilities : array, shape (..., classes, height, width), float32
        Planes become those of one axis, T.
    classes : sequence of ClassSpec
        Their names become those of the channels.
    pixel_size_nm : (float, float) or None
        Height and width of a pixel in nanometres.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    planes_tcyx = probabilities.reshape(-1, *probabilities.shape[-3:])
    size = {}
    if pixel_size_nm is not None:
        y, x = pixel_size_nm
        size = {"PhysicalSizeX": x, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": y, "PhysicalSizeYUnit": "nm"}
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            planes_tcyx,
            ome=True,
            bigtiff=probabilities.nbytes > CLASSIC_LIMIT,
            photometric="minisblack",
            compression="zlib",
            predictor=True,
            tile=(TILE, TILE),
            software=NAMESPACE,
            metadata={"axes": "TCYX", "Channel": {"Name": [spec.name for spec in classes]}, **size},
        )

"""Looks through an HDF5 file, as a program of its own: the HDF5 library hangs or crashes on some damaged files.

Reads all attributes and some of each dataset, and prints as JSON what `core.format_checks.check_emd` wants to know.
"""

from __future__ import annotations

import json
import sys
from math import ceil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h5py


def probe(path: str) -> dict[str, Any]:
    """Find what leads out of a file, and how large its datasets are.

    Returns
    -------
    dict
        `outside`: names of links and datasets that are in other files; `datasets`: for each its `shape`, the bytes of
        all its values, and its number of chunks.
    """
    import h5py

    outside: list[str] = []
    datasets: list[dict[str, Any]] = []
    objects: list[h5py.Group | h5py.Dataset] = []

    def look_at_link(name: str, link: h5py.HardLink | h5py.SoftLink | h5py.ExternalLink) -> None:
        if isinstance(link, h5py.ExternalLink):
            outside.append(name)

    with h5py.File(path, "r") as file:
        file.visititems_links(look_at_link)
        file.visititems(lambda _, item: objects.append(item))
        for item in (file, *objects):
            if not isinstance(item, h5py.Dataset):
                continue
            if item.external or item.is_virtual:
                outside.append(item.name)
            shape, chunks = item.shape or (), item.chunks or item.shape or ()
            count = 1
            for length, step in zip(shape, chunks, strict=True):
                count *= ceil(length / max(step, 1))
            datasets.append({"shape": list(shape), "bytes": int(item.nbytes), "chunks": count})
        if not outside:
            for item in (file, *objects):
                _read(item)
    return {"outside": outside, "datasets": datasets}


def _read(item: h5py.Group | h5py.Dataset) -> None:
    """Read the attributes, and a dataset's first value, or all of a small one; what fails is for the reader to say."""
    try:
        dict(item.attrs)
        if getattr(item, "shape", None):
            item[() if item.nbytes < 2**20 else (0,) * item.ndim]
    except Exception:  # noqa: BLE001, S110
        pass


if __name__ == "__main__":
    print(json.dumps(probe(sys.argv[1])))

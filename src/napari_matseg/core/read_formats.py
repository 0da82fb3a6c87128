"""DM3 and DM4 of DigitalMicrograph, EMD of Velox and of Berkeley, and SER of TIA, by RosettaSciIO if it is there.

It is an optional extra, as its licence is the GPL. What it finds is brought into a `Micrograph` here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.axes import Key, arrange
from napari_matseg.core.file_damage import damage_as_error
from napari_matseg.core.format_checks import check_dm, check_emd, check_ser
from napari_matseg.core.format_records import record_of
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.pixels import LAZY_BYTES
from napari_matseg.core.vendor_record import length_nm, number, pixel_size
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

DM, EMD, SER = "DM3/DM4 file", "EMD file", "SER file"
SPECTRAL_UNITS = ("ev", "kev", "mev")
RGBA = ("R", "G", "B", "A")

Found = dict[str, Any]
"""One dataset of a file as RosettaSciIO describes it."""


def format_of(start: bytes) -> str | None:
    """Which of the formats a file has by its first bytes; None for another."""
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return EMD
    if start.startswith(b"II\x97\x01"):
        return SER
    is_dm = start[:4] in (b"\0\0\0\3", b"\0\0\0\4")
    at = 8 if start[:4] == b"\0\0\0\3" else 12
    return DM if is_dm and start[at : at + 4] in (b"\0\0\0\0", b"\0\0\0\1") else None


def read_format(path: Path, kind: str) -> Micrograph:
    """Read the first image of a file, 2-D before stacks.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        What `format_of` says of it.

    Returns
    -------
    micrograph : Micrograph
        `metadata["left_out"]` names what else the file holds: other images, spectra, complex values. Pixels of a large
        DM or EMD file stay in it; those of SER are loaded.

    Raises
    ------
    InputError
        If the extra is not installed, the file is damaged, or holds no image of real numbers.
    """
    with damage_as_error(path, kind):
        datasets = _read(path, kind)
        images = [one for one in datasets if _why_no_image(one) is None]
        if not images:
            what = ", ".join(map(_describe, datasets)) or "nothing"
            raise InputError(f"{path}: holds no image of grey or colour, but {what}; export one as TIFF.")
        chosen = min(images, key=lambda one: len(one["axes"]))
        data, axes = chosen["data"], chosen["axes"]
        colour = None
        if data.dtype.names:
            data, colour = np.stack([data[name] for name in RGBA[:3]], axis=-1), data.ndim
        names = _names(axes) + ([] if colour is None else ["colour"])
        y, x = axes[names.index("y")], axes[names.index("x")]
        record = record_of(kind, path, chosen)

        def fetch(key: Key) -> np.ndarray:
            with damage_as_error(path, kind):
                part = data[key]
                return np.asarray(part.compute(scheduler="synchronous") if hasattr(part, "compute") else part)

        pixels, letters = arrange(fetch, data.shape, data.dtype, names, colour=colour)
    left_out = [_describe(one) for one in datasets if one is not chosen]
    return Micrograph(
        pixels=pixels,
        axes=letters,
        pixel_size_nm=None if record.is_diffraction else pixel_size(_step_nm(y), _step_nm(x)),
        source=path,
        vendor=record.vendor,
        metadata=record.metadata | ({"left_out": left_out} if left_out else {}),
    )


def _read(path: Path, kind: str) -> list[Found]:
    """All datasets of a file."""
    found: list[Found]
    if kind == DM:
        from rsciio import digitalmicrograph

        check_dm(path)
        found = digitalmicrograph.file_reader(str(path), lazy=path.stat().st_size > LAZY_BYTES)
    elif kind == SER:
        from rsciio import tia

        check_ser(path)
        found = tia.file_reader(str(path), lazy=False)
    else:
        from rsciio import emd

        is_large = check_emd(path) > LAZY_BYTES
        found = emd.file_reader(str(path), lazy=is_large, select_type="images", stack_group=False)
    return found


def _why_no_image(one: Found) -> str | None:
    """Say what is in the way of a dataset's being an image; None if nothing is."""
    data = one["data"]
    if data.dtype.kind == "c":
        return "complex"
    if any(_is_spectral(axis) for axis in one["axes"]):
        return "spectra"
    if data.dtype.names != RGBA and data.dtype.kind not in "buif":
        return "no numbers"
    return "no image" if data.ndim < 2 or min(data.shape) < 1 else None


def _is_spectral(axis: dict[str, Any]) -> bool:
    name, unit = (str(axis.get(key) or "").lower() for key in ("name", "units"))
    return unit in SPECTRAL_UNITS or "energy" in name or "wavelength" in name


def _describe(one: Found) -> str:
    title = str(one["metadata"].get("General", {}).get("title") or "untitled")
    why = _why_no_image(one)
    return f"{title[:60]} ({' x '.join(map(str, one['data'].shape))}{'' if why is None else ', ' + why})"


def _names(axes: list[dict[str, Any]]) -> list[str]:
    """Names of the axes; the last two are height and width unless two are named so."""
    names = [str(axis.get("name") or "").lower() for axis in axes]
    if names.count("y") * names.count("x") != 1:
        names = [name if name not in ("y", "x") else "" for name in names[:-2]] + ["y", "x"]
    timed = [str(axis.get("units") or "") in ("s", "ms", "µs", "us", "min") for axis in axes]
    return ["time" if timed[i] and name not in ("y", "x") else name for i, name in enumerate(names)]


def _step_nm(axis: dict[str, Any]) -> float | None:
    step = number(axis.get("scale"))
    # To nine digits: units are converted by multiplication.
    nm = None if step is None else length_nm(abs(step), axis.get("units"))
    return None if nm is None else float(f"{nm:.9g}")

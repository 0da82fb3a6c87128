"""Truth that is drawn and not painted, ImageJ's regions of interest and COCO: as objects, and as class ids."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_matseg.core.read import first_bytes
from napari_matseg.errors import InputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_matseg.core.drawn import Drawn
    from napari_matseg.settings import ClassSpec, Colour

LISTED = 5  # names that a message gives before it says how many more there are


def kind_of(path: Path) -> Literal["regions", "coco"] | None:
    """Tell what is drawn from what is painted, by the content of the file.

    Returns
    -------
    str or None
        "regions" for ImageJ's .roi and .zip, "coco" for JSON, None for anything else.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read.
    """
    if path.is_dir():
        return None  # an OME-Zarr image, or nothing that can be read
    start = first_bytes(path)
    if start.startswith((b"Iout", b"PK\x03\x04", b"PK\x05\x06")):
        return "regions"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    return "coco" if text.startswith((b"{", b"[")) else None


def read_drawn(
    path: Path, shape_yx: tuple[int, int] | None, image: str | Path | None, planes: range = range(1)
) -> tuple[list[Drawn], list[str]]:
    """Read drawn objects.

    Parameters
    ----------
    path : Path
        Of a kind that `kind_of` knows.
    shape_yx : (int, int), optional
        Height and width of the image, which only COCO tells.
    image : str or Path, optional
        Name of the image, by which COCO is asked; None: the only one.
    planes : range
        Of the stack, from 0; COCO has none.

    Returns
    -------
    objects : list of Drawn
        One for each plane.
    notes : list of str

    Raises
    ------
    InputError
        If the file cannot be used, or has nothing on these planes.
    """
    if kind_of(path) == "coco":
        from napari_matseg.core.truth_coco import draw_coco

        if len(planes) > 1:
            raise InputError(f"{path}: COCO knows no stacks, and the image has {len(planes)} planes; save them apart.")
        drawn, notes = draw_coco(path, image, shape_yx)
        return [drawn], notes

    from napari_matseg.core.truth_rois import draw_regions, planes_of, read_regions

    if shape_yx is None:
        raise InputError(f"{path}: regions of ImageJ do not tell how large their image is; give the image, too.")
    regions, notes = read_regions(path)
    elsewhere = [on for on in planes_of(regions, path) if on is not None and on not in planes]
    if len(elsewhere) == len(regions):
        raise InputError(
            f"{path}: its regions are on other planes than this, such as {elsewhere[0]} (counted from 0); "
            "give the stack, or take their positions away in ImageJ."
        )
    if elsewhere:
        notes.append(f"regions on other planes, left out: {len(elsewhere)}")
    return [draw_regions(regions, shape_yx, plane, path) for plane in planes], notes


def drawn_classes(
    path: Path,
    classes: Sequence[ClassSpec],
    mapping: Mapping[int | Colour, int] | None,
    shape: tuple[int, ...] | None,
    image: str | Path | None,
) -> tuple[NDArray[np.uint8], str]:
    """Read drawn objects as class ids; see `core.truth.read_truth`.

    Returns
    -------
    labels : uint8 array
        Of the shape, or that which COCO tells.
    note : str
    """
    shape_yx = None if shape is None else (shape[-2], shape[-1])
    planes = range(1 if shape is None else prod(shape[:-2]))
    drawn, notes = read_drawn(path, shape_yx, image, planes)
    ids, said = _class_ids(drawn, classes, mapping, path, groups=kind_of(path) == "regions")
    labels = []
    for one, its_ids in zip(drawn, ids, strict=True):
        objects_yx, more = one.paint()
        labels.append(np.append(np.uint8(0), its_ids)[objects_yx])
        notes += more
    note = "; ".join([f"{path}: objects read {said}", *dict.fromkeys(notes)])
    return np.stack(labels).reshape(labels[0].shape if shape is None else shape), note


def _class_ids(
    drawn: Sequence[Drawn],
    classes: Sequence[ClassSpec],
    mapping: Mapping[int | Colour, int] | None,
    path: Path,
    *,
    groups: bool,
) -> tuple[list[NDArray[np.uint8]], str]:
    """Class of each object of each plane, and how it was found."""
    what = "groups" if groups else "categories"
    if mapping is not None:
        if any(isinstance(key, tuple) for key in mapping):
            raise SettingsError(f"{path}: has {what} and no colours; give a mapping from their numbers.")
        unknown = sorted({n for one in drawn for n in one.numbers.tolist() if n not in mapping})
        if unknown:
            raise InputError(f"{path}: the mapping lacks {_some(unknown)}, of the {what}; add what they mean.")
        table = dict(mapping)
        return [np.array([table[n] for n in one.numbers.tolist()], dtype=np.uint8) for one in drawn], f"by their {what}"

    by_name = {spec.name.strip().casefold(): i for i, spec in enumerate(classes)}
    found: list[list[int | None]] = []
    for one in drawn:
        by_group = [n if groups and 0 < n < len(classes) else None for n in one.numbers.tolist()]
        found.append([by_name.get(name.casefold(), n) for name, n in zip(one.names, by_group, strict=True)])
    flat = [class_id for ids in found for class_id in ids]
    if None not in flat:
        said = "by the names of their classes" + (" or their groups" if groups else "")
    elif len(classes) == 2 and not any(class_id is not None for class_id in flat):
        said = f"as {classes[1].name!r}"
    else:
        names = [name for one in drawn for name in one.names]
        strange = sorted({name or "no name" for name, class_id in zip(names, flat, strict=True) if class_id is None})
        known = ", ".join(spec.name for spec in classes)
        raise InputError(
            f"{path}: there are objects of {_some(strange)}, and the classes are {known}; "
            f"name them alike, or give a mapping from the numbers of the {what}."
        )
    return [np.array([1 if i is None else i for i in ids], dtype=np.uint8) for ids in found], said


def _some(things: Sequence[object]) -> str:
    more = len(things) - LISTED
    return ", ".join(map(str, things[:LISTED])) + (f" and {more} more" if more > 0 else "")

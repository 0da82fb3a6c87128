"""True objects as people have them, made into one id for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.read import PNG_START, TIFF_STARTS, first_bytes, read
from napari_matseg.core.truth_drawn import kind_of, read_drawn
from napari_matseg.core.truth_pictures import Kind, objects_in
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TrueObjects:
    """Objects of an image.

    Attributes
    ----------
    labels_yx : uint32 array, shape (height, width)
        One id for each object, 0 outside; ids may have gaps.
    classes : dict
        By id, the name of the object's class, of those whose class the file tells.
    ignore_yx : bool array, or None
        Where objects are that nobody drew one by one (COCO's crowds): leave these pixels out.
    note : str or None
        One line for the user that says how the file was read; None where that is plain.
    """

    labels_yx: NDArray[np.uint32]
    classes: dict[int, str] = field(default_factory=dict)
    ignore_yx: NDArray[np.bool_] | None = None
    note: str | None = None


def read_objects(
    path: str | Path,
    *,
    shape_yx: tuple[int, int] | None = None,
    image: str | Path | None = None,
    plane: int = 0,
    kind: Kind = "auto",
) -> TrueObjects:
    """Read the objects of an image from a file.

    Parameters
    ----------
    path : str or Path
        An image of ids (integers, or floats that are whole numbers), a mask, an image with a colour for each object
        or class, or a drawing of outlines, in any format of images; a .roi or .zip of ImageJ's regions of interest; or
        COCO's JSON. What it is shows in its content.
    shape_yx : (int, int), optional
        Height and width of the image, which regions of ImageJ need.
    image : str or Path, optional
        Name of the image, by which COCO's JSON is asked; None: the only one in it.
    plane : int
        Of the stack, from 0. A region of ImageJ without a position is on all of them.
    kind : str
        How a picture is to be read; "auto" decides as `core.truth_pictures.objects_in` says. Without effect on what is
        drawn.

    Returns
    -------
    TrueObjects
        Ids are those of the picture; of colours and pieces, from 1 in the order of their first pixels; of regions and
        annotations, their places in the file, from 1. Where drawn objects overlap, a pixel is the smaller one's.

    Raises
    ------
    InputError
        If the file cannot be read, holds what is no object, or is of an image of another shape or name.
    """
    path = Path(path)
    if kind_of(path) is None:
        found = _read_picture(path, plane, kind)
    else:
        found = _read_drawn(path, shape_yx, image, plane)
    if shape_yx is not None and found.labels_yx.shape != shape_yx:
        raise InputError(
            f"{path}: shape {found.labels_yx.shape} is not that of its image{'' if image is None else f' {image}'}, "
            f"{shape_yx}; give the truth of this image, neither cropped nor scaled."
        )
    return found


def _read_drawn(path: Path, shape_yx: tuple[int, int] | None, image: str | Path | None, plane: int) -> TrueObjects:
    (drawn,), notes = read_drawn(path, shape_yx, image, range(plane, plane + 1))
    ids_yx, more = drawn.paint()
    ignore_yx = None
    if drawn.crowd.any():
        ignore_yx = np.append(False, drawn.crowd)[ids_yx]
        ids_yx[ignore_yx] = 0
        notes.append(f"crowds, of no object: {np.count_nonzero(drawn.crowd)}")
    classes = {i: name for i, name in enumerate(drawn.names, 1) if name and not drawn.crowd[i - 1]}
    notes += more
    return TrueObjects(ids_yx, classes, ignore_yx, f"{path}: {'; '.join(notes)}" if notes else None)


def _read_picture(path: Path, plane: int, kind: Kind) -> TrueObjects:
    micrograph = read(path)
    indices_yx, clear_yx = _stored(path, micrograph.shape_yx) if micrograph.n_planes == 1 else (None, None)
    if indices_yx is not None:
        pixels: NDArray[Any] = indices_yx
    elif micrograph.is_colour:
        pixels = np.moveaxis(micrograph.plane(plane, 3), 0, -1)
    else:
        pixels = micrograph.plane(plane)[0]
    painted = objects_in(pixels, kind, str(path), clear_yx)
    return TrueObjects(painted.labels_yx, painted.names, None, painted.note)


def _stored(path: Path, shape_yx: tuple[int, int]) -> tuple[NDArray[Any] | None, NDArray[np.bool_] | None]:
    """Read the indices of a palette, if they are ids, and what is transparent, which a view of the pixels lacks.

    The file is one that `read` has read.
    """
    if path.is_dir():
        return None, None
    start = first_bytes(path)
    if start.startswith(TIFF_STARTS):
        import tifffile

        from napari_matseg.core.tiff_damage import damage_as_error

        with damage_as_error(path), tifffile.TiffFile(path) as tif:
            page = tif.pages.first
            colours = getattr(page, "colormap", None)
            if page.photometric != tifffile.PHOTOMETRIC.PALETTE or page.shape != shape_yx or colours is None:
                return None, None
            indices = page.asarray()
            return (indices if _are_ids(indices, colours.T >> 8) else None), None
    if not start.startswith(PNG_START):
        return None, None
    from PIL.PngImagePlugin import PngImageFile

    with path.open("rb") as file, PngImageFile(file) as picture:
        picture.load()
        if picture.mode == "P":
            indices = np.asarray(picture)
            clear = picture.info.get("transparency", b"")  # the index that is clear, or the alpha of each
            clear_ones = [clear] if isinstance(clear, int) else [i for i, alpha in enumerate(clear) if alpha == 0]
            clear_yx = np.isin(indices, clear_ones) if clear_ones else None
            colours = np.array(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
            return (indices if _are_ids(indices, colours) else None), clear_yx
        if picture.mode in ("LA", "RGBA"):
            return None, np.asarray(picture.getchannel("A")) == 0
    return None, None


def _are_ids(indices: NDArray[Any], colours: NDArray[Any]) -> bool:
    """Whether the indices of a palette are ids: the first colour is black and not rarer than white, which is no ground.

    Two ids may have one colour, and one of them may be white.
    """
    pixels = np.bincount(indices.reshape(-1), minlength=len(colours))[: len(colours)]
    white = pixels[(colours == 255).all(axis=1)].sum()
    return not colours[0].any() and bool(pixels[0] >= white)

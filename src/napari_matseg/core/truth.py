"""Truth as people have it, made into class ids.

People draw truth as class ids, as black and white, as one id per object, or in colours over the micrograph.
All come out as a uint8 array of class ids; where something had to be interpreted, a note says what. Outlines of
ImageJ and COCO are read in `core.truth_drawn`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.metrics import list_values
from napari_matseg.core.truth_drawn import drawn_classes, kind_of
from napari_matseg.errors import InputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from napari_matseg.settings import ClassSpec, Colour

IGNORE = 255
"""What a mapping gives to values that are of no class; leave these pixels out of metrics and losses."""

DESCRIBED = 16  # entries of a mapping that a note names before it says "and more"
CHUNK = 2**16  # pixels at a time, so that the int64 arrays of a look-up stay small
GREY = 0x010101  # a grey of value v, packed as 0xrrggbb, is v times this


@dataclass(frozen=True, eq=False)
class Truth:
    """Class ids of an image or stack.

    Attributes
    ----------
    labels_yx : uint8 array
        Class ids, and `IGNORE` where a mapping says so; the axes of the image, without that of colour.
    note : str or None
        One line for the user that says how the values were read; None where they were class ids already.
    """

    labels_yx: NDArray[np.uint8]
    note: str | None = None


def read_truth(
    path: Path,
    classes: Sequence[ClassSpec],
    mapping: Mapping[int | Colour, int] | None = None,
    *,
    shape: tuple[int, ...] | None = None,
    image: str | Path | None = None,
) -> Truth:
    """Read a truth file as class ids.

    Parameters
    ----------
    path : Path
        An image of class ids, a mask, an image of object ids, or a drawing in the classes' colours; a .roi or .zip of
        ImageJ's regions of interest; or COCO's JSON. An object of the last two is of the class that its region or
        category has the name of, numbers after it aside, or of the class with the number of its region's group; if
        none has such a name and there is only one class beside the background, all are of that one.
    classes : sequence of ClassSpec
        The classes, in the order of their ids.
    mapping : mapping, optional
        What the values mean; see `to_classes`. Of regions, what their groups mean, and of COCO, its category ids.
    shape : tuple of int, optional
        That of the image, planes first and without the axis of colour; regions of ImageJ need it.
    image : str or Path, optional
        Name of the image, by which COCO's JSON is asked; None: the only one in it.

    Raises
    ------
    InputError
        If the file cannot be read, or holds values that are of no class.
    SettingsError
        If the mapping names a class that there is not.
    """
    from napari_matseg.core.read import read

    if kind_of(path) is not None:
        return Truth(*drawn_classes(path, classes, mapping, shape, image))
    micrograph = read(path)
    pixels = np.asarray(micrograph.pixels[...])
    return to_classes(pixels, classes, mapping, micrograph.name, colour=micrograph.is_colour)


def to_classes(
    pixels: ArrayLike,
    classes: Sequence[ClassSpec],
    mapping: Mapping[int | Colour, int] | None = None,
    name: str = "truth",
    *,
    colour: bool | None = None,
) -> Truth:
    """Make class ids of truth as it was drawn.

    Without a mapping,

    - values that are all class ids stay what they are;
    - if there is only one class beside the background, every value but 0 is of that class: black and
      white, or an id for each object;
    - in true colour, a pixel in the colour of a class is of that class, and any other grey pixel is of
      class 0, because truth is often drawn over the micrograph.

    Parameters
    ----------
    pixels : array of integers, booleans, or floats that are whole numbers
        Any number of axes; in true colour the last is red, green, blue (and alpha, which is not used), 0 to 255.
    classes : sequence of ClassSpec
        The classes, in the order of their ids.
    mapping : mapping, optional
        Pixel values or (red, green, blue) to class ids or `IGNORE`, instead of the rules above; grey is the same
        as a value or as a colour. Values that are not in it are errors, except that a mapping
        without any grey leaves the grey pixels of a colour image to class 0.
    name : str
        What to call the truth in messages.
    colour : bool, optional
        Whether the last axis is that of colour; None: if it is the third or later, of length 3 or 4.

    Raises
    ------
    InputError
        If a value is of no class, or the pixels are no whole numbers.
    SettingsError
        If the mapping names a class that there is not, or classes that go by colour share one.

    Examples
    --------
    >>> from napari_matseg.settings import ClassSpec
    >>> classes = [ClassSpec(name="matrix", colour=(0, 0, 0)), ClassSpec(name="pore", colour=(255, 0, 0))]
    >>> to_classes([[0, 255], [255, 0]], classes)
    Truth(labels_yx=array([[0, 1],
           [1, 0]], dtype=uint8), note="truth: 255 read as 'pore'")
    """
    values = whole_numbers(np.asarray(pixels), name)
    if not 0 < len(classes) <= IGNORE:
        raise SettingsError(f"{name}: truth can have 1 to {IGNORE} classes, not {len(classes)}.")
    if colour is None:
        colour = values.ndim >= 3 and values.shape[-1] in (3, 4)
    if mapping is not None:
        _check_mapping(mapping, classes)
    return _from_colours(values, classes, mapping, name) if colour else _from_values(values, classes, mapping, name)


def parse_mapping(text: str, classes: Sequence[ClassSpec]) -> dict[int | Colour, int]:
    """Read a mapping as it is written on the command line.

    Parameters
    ----------
    text : str
        Such as "0=matrix,#0000ff=secondary,255=ignore": pixel values or colours (#rrggbb), and names of
        classes, ids of classes, or "ignore" for what is of no class.
    classes : sequence of ClassSpec
        The classes, in the order of their ids.

    Returns
    -------
    dict
        Values and (red, green, blue) to class ids or `IGNORE`.

    Raises
    ------
    SettingsError
        If a part of it is no value, colour or class, or a value is given twice.

    Examples
    --------
    >>> from napari_matseg.settings import ClassSpec
    >>> classes = [ClassSpec(name="matrix", colour=(0, 0, 0)), ClassSpec(name="pore", colour=(255, 0, 0))]
    >>> parse_mapping("0=matrix, #0000ff=pore, 7=ignore", classes)
    {0: 0, (0, 0, 255): 1, 7: 255}
    """
    ids = {"ignore": IGNORE} | {str(i): i for i in range(len(classes))} | {c.name: i for i, c in enumerate(classes)}
    mapping: dict[int | Colour, int] = {}
    for part in text.split(","):
        value, _, meaning = (side.strip() for side in part.partition("="))
        key: int | Colour
        if re.fullmatch(r"#[0-9a-fA-F]{6}", value):
            red, green, blue = bytes.fromhex(value[1:])
            key = (red, green, blue)
        elif re.fullmatch(r"-?[0-9]{1,18}", value):
            key = int(value)
        else:
            raise SettingsError(
                f"mapping {part.strip()!r}: must be a pixel value or #rrggbb, '=', and a class, "
                f"such as 255={classes[-1].name}."
            )
        if meaning not in ids:
            known = ", ".join(f"{c.name} ({i})" for i, c in enumerate(classes))
            raise SettingsError(f"mapping {part.strip()!r}: there is no class {meaning!r}; choose {known} or ignore.")
        if key in mapping:
            raise SettingsError(f"mapping {part.strip()!r}: {value} is given twice; leave one out.")
        mapping[key] = ids[meaning]
    return mapping


def whole_numbers(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Take integers, booleans, and floats that are whole numbers as integers.

    Raises
    ------
    InputError
        If there are no pixels, or others than these.
    """
    if values.size == 0:
        raise InputError(f"{name}: the truth holds no pixels (shape {values.shape}).")
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    if values.dtype.kind in "ui":
        return values
    if values.dtype.kind != "f":
        raise InputError(f"{name}: truth must be whole numbers, not {values.dtype}; save it as 8-bit class ids.")
    whole = (np.abs(values) < 2**53) & (values == np.rint(values))  # false for NaN and inf
    if not whole.all():
        wrong = int(whole.size - np.count_nonzero(whole))
        raise InputError(
            f"{name}: truth must be whole numbers, but {wrong} pixel(s) are not, such as {values[~whole].flat[0]}; "
            "save it as 8-bit class ids, or check that it is not the image."
        )
    return values.astype(np.int64)


def _check_mapping(mapping: Mapping[int | Colour, int], classes: Sequence[ClassSpec]) -> None:
    for key, class_id in mapping.items():
        if not (0 <= class_id < len(classes) or class_id == IGNORE):
            raise SettingsError(
                f"mapping: {_write(key)} is mapped to class {class_id}, but the classes go from 0 to "
                f"{len(classes) - 1} ({IGNORE} for ignore)."
            )
    if len({_pack(key) for key in mapping}) < len(mapping):
        raise SettingsError("mapping: a grey is given both as a value and as a colour; leave one out.")


def _from_values(
    values: NDArray[Any], classes: Sequence[ClassSpec], mapping: Mapping[int | Colour, int] | None, name: str
) -> Truth:
    if mapping is not None:
        table = {grey: class_id for key, class_id in mapping.items() if (grey := _grey(key)) is not None}
        labels, strange, _ = _look_up(values, table, colour=False, grey_is_background=False)
        if strange.size:
            ids, pixels = np.unique(strange, return_counts=True)
            raise InputError(f"{name}: the mapping lacks {list_values(ids, pixels)}; add what they mean.")
        return Truth(labels, f"{name}: read as {_describe(mapping, classes)}")

    known = len(classes) - 1
    if 0 <= values.min() and values.max() <= known:
        return Truth(values.astype(np.uint8))
    strange = values[(values < 0) | (values > known)]
    if known == 1 and strange.min() > 0:
        ids = np.unique(np.concatenate([np.unique(chunk) for chunk in _chunks(values.reshape(-1))]))
        ids = ids[ids > 0]
        what = str(ids[0]) if ids.size == 1 else f"every value but 0 ({ids.size} of them)"
        return Truth((values > 0).view(np.uint8), f"{name}: {what} read as {classes[1].name!r}")
    ids, pixels = np.unique(strange, return_counts=True)
    raise InputError(
        f"{name}: the class ids are 0 to {known} ({', '.join(c.name for c in classes)}), but there are "
        f"{list_values(ids, pixels)}; give a mapping, such as {ids[pixels.argmax()]}={classes[-1].name}."
    )


def _from_colours(
    values: NDArray[Any], classes: Sequence[ClassSpec], mapping: Mapping[int | Colour, int] | None, name: str
) -> Truth:
    if values.min() < 0 or values.max() > 255:
        raise InputError(
            f"{name}: colours must be from 0 to 255, but go from {values.min()} to {values.max()}; "
            "save the truth with 8 bits per channel."
        )
    colours = {c.colour: i for i, c in enumerate(classes)} if mapping is None else mapping
    if mapping is None and len(colours) < len(classes):
        raise SettingsError(f"{name}: two classes have the same colour; give each its own, or a mapping.")
    grey_is_background = mapping is None or all(_grey(key) is None for key in mapping)
    table = {_pack(key): class_id for key, class_id in colours.items()}
    labels, strange, any_grey = _look_up(values, table, colour=True, grey_is_background=grey_is_background)
    meaning = _describe(colours, classes)
    if strange.size:
        found, pixels = np.unique(strange, return_counts=True)
        raise InputError(
            f"{name}: the colours are {meaning}, but there are {list_values(found, pixels, _write_packed)}; "
            f"give a mapping, such as {_write_packed(found[pixels.argmax()])}={classes[-1].name}."
        )
    return Truth(labels, f"{name}: read as {meaning}" + (f", other greys = {classes[0].name}" if any_grey else ""))


def _look_up(
    values: NDArray[Any], table: Mapping[int, int], *, colour: bool, grey_is_background: bool
) -> tuple[NDArray[np.uint8], NDArray[Any], bool]:
    """Class ids by value or packed colour; also all values that are not in the table, and whether greys were."""
    flat = values.reshape(-1, values.shape[-1]) if colour else values.reshape(-1)
    keys = np.array(sorted(table), dtype=np.int64)
    ids = np.array([table[key] for key in keys.tolist()], dtype=np.uint8)
    labels = np.zeros(len(flat), dtype=np.uint8)
    strange = []
    any_grey = False
    for some, out in zip(_chunks(flat), _chunks(labels), strict=True):
        codes = _pack_pixels(some) if colour else some
        unknown = np.ones(codes.shape, dtype=np.bool_)
        if keys.size:
            place = np.minimum(np.searchsorted(keys, codes), keys.size - 1)
            np.not_equal(keys[place], codes, out=unknown)
            out[:] = ids[place]
            out[unknown] = 0
        if grey_is_background:
            grey = unknown & (codes == (codes & 255) * GREY)
            any_grey = any_grey or bool(grey.any())
            unknown &= ~grey
        strange.append(codes[unknown])
    shape = values.shape[:-1] if colour else values.shape
    return labels.reshape(shape), np.concatenate(strange), any_grey


def _chunks(flat: NDArray[Any]) -> Iterable[NDArray[Any]]:
    return (flat[start : start + CHUNK] for start in range(0, len(flat), CHUNK))


def _pack_pixels(pixels: NDArray[Any]) -> NDArray[np.uint32]:
    """0xrrggbb of pixels of shape (n, 3 or 4)."""
    packed = np.zeros(len(pixels), dtype=np.uint32)
    for i in range(3):
        packed <<= 8
        packed |= pixels[:, i].astype(np.uint32)
    return packed


def _pack(key: int | Colour) -> int:
    return (key[0] << 16) | (key[1] << 8) | key[2] if isinstance(key, tuple) else key * GREY


def _grey(key: int | Colour) -> int | None:
    """Value of a grey; None for a colour."""
    if isinstance(key, tuple):
        return key[0] if len(set(key)) == 1 else None
    return key


def _write(key: int | Colour) -> str:
    return _write_packed(_pack(key)) if isinstance(key, tuple) else str(key)


def _write_packed(colour: int) -> str:
    return f"#{colour:06x}"


def _describe(mapping: Mapping[Any, int], classes: Sequence[ClassSpec]) -> str:
    names = {IGNORE: "ignore"} | {i: c.name for i, c in enumerate(classes)}
    described = [f"{_write(key)} = {names[class_id]}" for key, class_id in mapping.items()]
    more = len(described) - DESCRIBED
    return ", ".join(described[:DESCRIBED]) + (f" and {more} more" if more > 0 else "")

"""Objects as people paint them: an id or colour for each, black and white, or outlines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from skimage.measure import label

from napari_matseg.core.truth import GREY, whole_numbers
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["auto", "ids", "values", "pieces", "outlines"]

MOST_CLASSES = 16  # more values than this are objects and no classes
IN_ONE_PIECE = 0.75
SCATTERED = 0.25
SMALLEST_MEAN = 4  # px
MOST_GREYS = 8  # under colours; more are a micrograph that they are painted on
THIN = 6  # px; wider strokes are no outlines
WIDEST = 64  # px; strokes that nobody would call outlines
SMALLEST_INSIDE = 4  # px; smaller holes are gaps in a stroke
MAX_ID = 2**32 - 1


@dataclass(frozen=True, eq=False)
class Painted:
    """What a picture holds of objects.

    Attributes
    ----------
    labels_yx : uint32 array
        One id for each object, 0 outside.
    names : dict
        By id, what the pieces of values or colours are of.
    note : str or None
        How the picture was read, where that is not plain.
    """

    labels_yx: NDArray[np.uint32]
    names: dict[int, str]
    note: str | None = None


def objects_in(pixels: NDArray[Any], kind: Kind, name: str, clear_yx: NDArray[np.bool_] | None = None) -> Painted:
    """Find the objects of a picture.

    Ground is 0; in colour it is black, white, what is transparent, and the greys if there are so many that they are
    a micrograph under the colours. As for the rest, of kind "auto":

    - closed strokes, none wider than 6 px, around more than their own area are outlines, unless most of what they close
      off they do with the frame, as fibres and cracks across the image do; where there is no ground but a mosaic, as of
      grains, 3 of its pieces must lie off the frame;
    - one value alone is a mask, each connected piece of which is an object;
    - of up to 16 values or colours that are not in one piece (of the area of a value, less than three quarters are in
      its largest piece, in the mean), each is a class, and each of its pieces an object;
    - otherwise each value or colour is an object, unless they are so scattered that the picture is no truth.

    Parameters
    ----------
    pixels : array, shape (height, width) or (height, width, 3)
        Whole numbers.
    kind : str
        "ids": whole numbers as they are, in integers; "values": each value or colour is an object; "pieces": each
        connected piece of one is; "outlines": the insides of closed strokes are; "auto": as above.
    name : str
        What to call the picture in messages.
    clear_yx : bool array, optional
        Where it is transparent.

    Raises
    ------
    InputError
        If it holds what is no object.
    """
    if kind == "ids":
        if pixels.ndim != 2 or pixels.dtype.kind not in "bui" or pixels.min() < 0 or pixels.max() > MAX_ID:
            raise InputError(
                f"{name}: must hold whole numbers, 0 and one for each object; save it as grey, with 16 bits."
            )
        return Painted(pixels.astype(np.uint32), {})
    values = _Values.of(whole_numbers(pixels, name), clear_yx, name)
    if kind == "outlines":
        return _outlines(values, name, sure=True)
    if kind == "auto" and (drawn := _try_outlines(values, name)) is not None:
        return drawn
    n = len(values.ids)
    if kind == "values" or n == 0:
        return values.as_objects(None)
    # One value alone goes faster as a mask.
    pieces_yx = label(values.number_yx > 0 if n == 1 else values.number_yx, background=0, connectivity=2)
    n_pieces = int(pieces_yx.max())
    pieces_read = None if n_pieces == n else f"{name}: {n_pieces} connected pieces read as objects"
    if n == 1:
        return Painted(pieces_yx.astype(np.uint32), {}, pieces_read)
    of_piece, size = values.pieces(pieces_yx)
    names = {i: values.write(v) for i, v in enumerate(of_piece.tolist(), 1)}
    if kind == "pieces":
        return Painted(pieces_yx.astype(np.uint32), names, pieces_read)
    largest = np.zeros(n + 1)
    np.maximum.at(largest, of_piece, size)
    share = float((largest[1:] / np.bincount(of_piece, size, n + 1)[1:]).mean())
    if n > MOST_CLASSES:
        if share < SCATTERED or size.mean() < SMALLEST_MEAN:
            raise InputError(
                f"{name}: must hold whole numbers, 0 and one for each object, but has {n} {values.what} in {n_pieces} "
                "pieces, like a micrograph or a JPEG; give the truth, saved without loss."
            )
        return values.as_objects(name)
    if share >= IN_ONE_PIECE:
        return values.as_objects(name)
    note = f"{name}: {n} {values.what} read as classes, and their {n_pieces} connected pieces as objects"
    return Painted(pieces_yx.astype(np.uint32), names, note)


@dataclass(frozen=True, eq=False)
class _Values:
    """The values or colours of a picture that are not ground, numbered from 1 in the order of their first pixels."""

    number_yx: NDArray[np.int32]
    ids: NDArray[np.int64]  # of each number from 1; packed if colours
    colour: bool
    two_sided: bool  # whether there are just two values, so that 0 may be what is drawn
    aside: str  # what else was taken for ground

    @classmethod
    def of(cls, pixels: NDArray[Any], clear_yx: NDArray[np.bool_] | None, name: str) -> _Values:
        colour = pixels.ndim == 3
        if not colour and (pixels.min() < 0 or pixels.max() > MAX_ID):
            raise InputError(f"{name}: ids go from {pixels.min()} to {pixels.max()}; they must be from 0 to {MAX_ID}.")
        codes = _packed(pixels, name) if colour else pixels
        if clear_yx is not None:
            codes = np.where(clear_yx, codes.dtype.type(0), codes)
        flat = codes.reshape(-1)
        start = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        found, first, inverse = np.unique(flat[start], return_index=True, return_inverse=True)
        ground = found == 0
        aside = ""
        if colour:
            grey = found == (found & 255) * GREY
            ground |= found == 255 * GREY
            if np.count_nonzero(grey & ~ground) > MOST_GREYS:
                ground |= grey
                aside = ", greys as ground"
        order = np.argsort(np.where(ground, len(flat), first), kind="stable")[: np.count_nonzero(~ground)]
        table = np.zeros(len(found), dtype=np.int32)
        table[order] = np.arange(1, len(order) + 1)
        number = np.repeat(table[inverse.reshape(-1)], np.diff(start, append=len(flat)))
        return cls(number.reshape(codes.shape), found[order].astype(np.int64), colour, len(found) == 2, aside)

    @property
    def what(self) -> str:
        return "colours" if self.colour else "values"

    def write(self, number: int) -> str:
        value = int(self.ids[number - 1])
        return f"#{value:06x}" if self.colour else str(value)

    def as_objects(self, name: str | None) -> Painted:
        """Each value an object: in colour by its number, else by its value."""
        if not self.colour:
            table = np.append(0, self.ids).astype(np.uint32)
            return Painted(table[self.number_yx], {})
        note = f"{name}: each of {len(self.ids)} colours read as an object{self.aside}" if name is not None else None
        return Painted(self.number_yx.astype(np.uint32), {}, note)

    def pieces(self, pieces_yx: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Value's number and size of each piece."""
        size = np.bincount(pieces_yx.reshape(-1))
        of_piece = np.zeros(len(size), dtype=np.int64)
        of_piece[pieces_yx.reshape(-1)] = self.number_yx.reshape(-1)
        return of_piece[1:], size[1:]


def _packed(pixels: NDArray[Any], name: str) -> NDArray[np.uint32]:
    if pixels.min() < 0 or pixels.max() > 255:
        raise InputError(f"{name}: colours must be from 0 to 255; save the truth with 8 bits per channel.")
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    return (red * 2**16 + green * 2**8 + blue).astype(np.uint32, copy=False)


def _try_outlines(values: _Values, name: str) -> Painted | None:
    """Read strokes as outlines if they look it."""
    for strokes_yx in _strokes(values):
        if not _holds_square(strokes_yx, THIN + 1):
            found = _Outlines.of(strokes_yx)
            if found.looks_it and found.area > np.count_nonzero(strokes_yx):
                return _outlines(values, name, sure=False, found=found)
    return None


def _strokes(values: _Values) -> list[NDArray[np.bool_]]:
    """Tell what may be strokes: what is not ground, or, with two values, the ground."""
    drawn = values.number_yx > 0
    return [one for one in ((drawn, ~drawn) if values.two_sided else (drawn,)) if one.any() and not one.all()]


def _outlines(values: _Values, name: str, *, sure: bool, found: _Outlines | None = None) -> Painted:
    if found is None:
        candidates = _strokes(values)
        if not candidates:
            raise InputError(f"{name}: nothing is drawn; give outlines on an empty ground.")
        found = _Outlines.of(min(candidates, key=np.count_nonzero))
    if not found.n_objects:
        raise InputError(f"{name}: no outline is closed; close them, or say that the truth is painted otherwise.")
    note = f"{name}: the insides of {found.n_objects} outlines read as objects, with the nearest of their lines"
    if found.at_frame:
        note += f"; {found.at_frame} of them are closed by the frame of the image"
    if found.open:
        y, x = found.first_open
        note += f"; {found.open} lines close around nothing, such as that at row {y}, column {x}"
    return Painted(found.labels_yx, {}, note if not sure or found.at_frame or found.open else None)


@dataclass(frozen=True, eq=False)
class _Outlines:
    """The insides of closed strokes."""

    labels_yx: NDArray[np.uint32]
    n_objects: int
    area: int  # of the insides
    at_frame: int
    has_ground: bool
    n_strokes: int
    open: int
    first_open: tuple[int, int]

    @property
    def looks_it(self) -> bool:
        """Whether it is likely that the strokes were meant as outlines."""
        off_frame = self.n_objects - self.at_frame
        return 2 * self.open <= self.n_strokes and off_frame >= (max(1, self.at_frame) if self.has_ground else 3)

    @classmethod
    def of(cls, strokes_yx: NDArray[np.bool_]) -> _Outlines:
        """Find what strokes enclose.

        The ground is the piece that holds more than half of the frame; where none does, as in a mosaic of grains,
        every piece is an inside. Pieces between strokes touch by their sides, so that thin strokes part them.
        """
        insides_yx = label(~strokes_yx, connectivity=1)
        size = np.bincount(insides_yx.reshape(-1))
        frame = np.concatenate([insides_yx[0], insides_yx[-1], insides_yx[1:-1, 0], insides_yx[1:-1, -1]])
        contact = np.bincount(frame, minlength=len(size))
        kept = size >= SMALLEST_INSIDE
        kept[0] = False
        ground = int(np.argmax(np.where(np.arange(len(size)) > 0, contact, 0)))
        has_ground = bool(2 * contact[ground] > len(frame))
        if has_ground:
            kept[ground] = False
        table = (np.cumsum(kept) * kept).astype(np.uint32)
        labels_yx = table[insides_yx]
        # A hole that is too small is a gap in a stroke.
        small = (size < SMALLEST_INSIDE) & (np.arange(len(size)) > 0)
        y, x = np.nonzero(strokes_yx | small[insides_yx])
        _give_to_nearest(labels_yx, y, x, round(1.5 * _width(strokes_yx)))

        stroke = label(strokes_yx, connectivity=2)[y, x]
        given = np.bincount(stroke, labels_yx[y, x] > 0)[1:]
        is_open = 2 * given < np.bincount(stroke)[1:]
        first = int(np.argmax(stroke == np.argmax(is_open) + 1))
        return cls(
            labels_yx,
            int(kept.sum()),
            int(size[kept].sum()),
            int(np.count_nonzero(contact[kept])),
            has_ground,
            len(is_open),
            int(is_open.sum()),
            (int(y[first]), int(x[first])),
        )


def _width(strokes_yx: NDArray[np.bool_]) -> int:
    """Side of the largest square in the strokes, up to where they are none."""
    width = 1
    while width < WIDEST and _holds_square(strokes_yx, width + 1):
        width += 1
    return width


def _holds_square(mask_yx: NDArray[np.bool_], side: int) -> bool:
    """Whether the mask holds a square of this side, by pixels that have ever more neighbours along both axes."""
    for axis in (1, 0):
        reached = 1
        while reached < side:
            step = min(reached, side - reached)
            n = max(mask_yx.shape[axis] - step, 0)
            rows, shifted = (mask_yx[:n], mask_yx[step:]) if axis == 0 else (mask_yx[:, :n], mask_yx[:, step:])
            mask_yx = rows & shifted
            reached += step
    return bool(mask_yx.any())


def _give_to_nearest(labels_yx: NDArray[np.uint32], y: NDArray[Any], x: NDArray[Any], reach: int) -> None:
    """Give pixels to the nearest object, if one is within reach; of several as near, to the first in reading order."""
    square = range(-reach, reach + 1)
    offsets = sorted((dy**2 + dx**2, dy, dx) for dy in square for dx in square if 0 < dy**2 + dx**2 <= reach**2)
    padded = np.pad(labels_yx, reach)
    given = np.zeros(len(y), dtype=labels_yx.dtype)
    left = np.arange(len(y))
    for _, dy, dx in offsets:
        near = padded[y[left] + reach + dy, x[left] + reach + dx]
        given[left] = near
        left = left[near == 0]
        if not left.size:
            break
    labels_yx[y, x] = given

"""From arrays with their axes in any order to pixels with planes first, then height and width."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.pixels import LAZY_BYTES, LazyPixels, as_grey, has_equal_channels, native, native_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_matseg.core.pixels import Box

Key = tuple[int | slice, ...]

_LETTERS = {"z": "Z", "depth": "Z", "slice": "Z", "t": "T", "time": "T", "c": "C", "channel": "C"}


def plane_letters(names: Sequence[str]) -> str:
    """Letters for the axes before height and width: Z, T and C as they are named, and others for the rest.

    Examples
    --------
    >>> plane_letters(["time", "z"]), plane_letters(["tilt", "time"]), plane_letters(["z", "z"])
    ('TZ', 'ZT', 'ZP')
    """
    wanted = [_LETTERS.get(name.lower(), "") for name in names]
    free = (letter for letter in "ZPQRUVW" if letter not in wanted)
    letters = ""
    for letter in wanted:
        letters += letter if letter and letter not in letters else next(free)
    return letters


def arrange(
    fetch: Callable[[Key], np.ndarray],
    shape: Sequence[int],
    dtype: np.dtype,
    names: Sequence[str],
    *,
    colour: int | None = None,
    stays: bool = False,
    blocks: Sequence[int] | None = None,
) -> tuple[Any, str]:
    """Put planes first, then height and width, then colour; loaded if it is small, else left where it is.

    Parameters
    ----------
    fetch : callable
        Reads what a key of one integer or slice for each axis selects, as numpy does.
    shape : sequence of int
        Lengths of the axes.
    dtype : numpy.dtype
        Of the values, in any byte order.
    names : sequence of str
        Of the axes, in lower case; two of them are "y" and "x". Of the others, those of length 1 are left out.
    colour : int, optional
        The axis whose first three values are red, green and blue.
    stays : bool
        Whether it is left where it is even if it is small.
    blocks : sequence of int, optional
        Lengths, along the axes, of what has to be read at once.

    Returns
    -------
    pixels, axes
        As a `Micrograph` takes them.
    """
    y, x = names.index("y"), names.index("x")
    planes = [axis for axis, length in enumerate(shape) if axis not in (y, x, colour) and length > 1]
    order = [*planes, y, x] + ([] if colour is None else [colour])
    lengths = [3 if axis == colour else int(shape[axis]) for axis in order]
    n = len(planes)
    letters = plane_letters([names[axis] for axis in planes]) + "YX" + ("" if colour is None else "S")

    def read(indices: Sequence[int | slice]) -> np.ndarray:
        key: list[int | slice] = [0] * len(shape)
        for axis, index in zip(order, indices, strict=True):
            key[axis] = index
        kept = [axis for axis in range(len(shape)) if isinstance(key[axis], slice)]
        return native(fetch(tuple(key)).transpose([kept.index(axis) for axis in order if axis in kept]))

    def read_box(plane: int, box: Box) -> np.ndarray:
        where = [int(index) for index in np.unravel_index(plane, lengths[:n])] if n else []
        parts = [slice(part.start, part.stop) for part in box]
        return read([*where, *parts, *([] if colour is None else [slice(0, 3)])])

    block_yx = None if blocks is None else (int(blocks[y]), int(blocks[x]))
    lazy = LazyPixels(tuple(lengths), native_dtype(dtype), n, read_box, block_yx)
    if not stays and prod(lengths) * np.dtype(dtype).itemsize <= LAZY_BYTES:
        pixels = np.ascontiguousarray(read([slice(0, length) for length in lengths]))
        if colour is not None and has_equal_channels(pixels):
            return as_grey(pixels), letters[:-1]
        return pixels, letters
    # Its ends, so that what cannot be read or is cut off is known now.
    read_box(0, (range(1), range(1)))
    read_box(prod(lengths[:n]) - 1, (range(lengths[n] - 1, lengths[n]), range(lengths[n + 1] - 1, lengths[n + 1])))
    return lazy, letters

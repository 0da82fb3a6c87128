"""What a line along the scale bar comes to."""

from __future__ import annotations

from html import escape

import numpy as np
from napari.layers import Layer

from napari_matseg.core.facts import size_text
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.scale_bar import find_scale_bar, parse_length_nm, size_by_line
from napari_matseg.errors import InputError


def propose_line(known: Micrograph, plane: int) -> np.ndarray:
    """Find the ends of the scale bar in the picture, in pixels whose centres are whole numbers; shape (2, 2).

    Raises
    ------
    InputError
        If none is found.
    """
    found = find_scale_bar(known, plane)
    if found is None:
        raise InputError("No scale bar is found in the picture; draw a line along it instead.")
    return np.array([[found.y, found.x0], [found.y, found.x1]]) - 0.5


def size_of_line(ends: np.ndarray | None, length: str, known: Micrograph) -> tuple[tuple[float, float], str]:
    """Pixel size by a line and the length that is typed, and what tells of it.

    Raises
    ------
    InputError
        If there is no line, or it is too short, or the length is none.
    """
    if ends is None:
        raise InputError("There is no line; draw one along the scale bar first.")
    old = known.pixel_size_nm
    size = size_by_line(ends[0], ends[-1], parse_length_nm(length), old[0] / old[1] if old else 1.0)
    return size, f"a line of {_length_px(ends):.1f} px along the scale bar of {length.strip()}"


def preview_of_line(ends: np.ndarray | None, length: str, known: Micrograph | None) -> str:
    """Say what the line and the length come to, before they are taken."""
    if ends is None or known is None:
        return "no line yet"
    text = f"{_length_px(ends):.1f} px"
    try:
        size, _ = size_of_line(ends, length, known)
    except InputError:
        return text
    text += f", so a pixel is {size_text(size)}"
    old = known.pixel_size_nm
    if old is not None and not np.allclose(size, old, rtol=1e-9):
        text += f", {abs(size[1] / old[1] - 1):.1%} {'more' if size[1] > old[1] else 'less'} than {size_text(old)}"
    return text


def say_followers(layers: list[Layer]) -> str:
    """Say in rich text which layers were given the pixel size of the first one."""
    others = [escape(layer.name) for layer in layers[1:]]
    return f"{', '.join(others)} went with it." if others else "no other layer lies on the image."


def _length_px(ends: np.ndarray) -> float:
    return float(np.hypot(*(ends[-1] - ends[0])))

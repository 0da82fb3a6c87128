"""Scale bars and legends for pictures, and their letters."""

from __future__ import annotations

import math
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_matseg.settings import ClassSpec

PRIMES = "\u2032\u2019"  # the prime, and the apostrophe of typesetters
_UNITS = ((1e6, "mm"), (1e3, "µm"), (1.0, "nm"))


def round_length_nm(longest_nm: float) -> float:
    """Largest length of the series 1, 2, 5, 10, ... that is not longer than this.

    Parameters
    ----------
    longest_nm : float
        In nanometres, above 0.

    Examples
    --------
    >>> round_length_nm(480.0)
    200.0
    >>> round_length_nm(0.7)
    0.5
    """
    decade = 10.0 ** math.floor(math.log10(longest_nm))
    return next(step * decade for step in (5.0, 2.0, 1.0, 0.5) if step * decade <= longest_nm * (1 + 1e-9))


def length_text(length_nm: float) -> str:
    """Write a length with the unit that suits it.

    Examples
    --------
    >>> length_text(200.0), length_text(5000.0), length_text(0.5)
    ('200 nm', '5 µm', '0.5 nm')
    """
    size, unit = next(((size, unit) for size, unit in _UNITS if length_nm >= size * (1 - 1e-9)), _UNITS[-1])
    return f"{length_nm / size:g} {unit}"


@lru_cache(maxsize=64)
def font(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font at this height in pixels, so that no font has to be found on the machine."""
    return ImageFont.load_default(height)


def drawable(text: str) -> str:
    r"""Write a text with the letters that `draw_text` has: those of ASCII, and µ.

    Examples
    --------
    >>> drawable("\u03b3\u2032 in 5 µm\u00b2")
    "gamma' in 5 µm2"
    """
    return "".join(letter if letter.isascii() or letter == "µ" else _ascii(letter) for letter in text)


def _ascii(letter: str) -> str:
    if letter in PRIMES:
        return "'"
    script, _, name = unicodedata.name(letter, "").partition(" LETTER ")
    if script.startswith("GREEK"):
        return name.split()[0].lower() if "SMALL" in script else name.split()[0].title()
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return plain or "?"


def text_box(text: str, height: int) -> tuple[int, int, int, int]:
    """Box of what `draw_text` draws at (0, 0), as (left, top, right, bottom) in pixels."""
    left, top, right, bottom = font(height).getbbox(drawable(text).replace("µ", "u"))
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


def draw_text(
    draw: ImageDraw.ImageDraw,
    xy: tuple[float, float],
    text: str,
    height: int,
    fill: int | tuple[int, int, int],
) -> None:
    """Write with the upper left corner at this place.

    Pillow's own font has no µ, which becomes a u with a leg; of other letters it lacks, see `drawable`.
    """
    letters, text = font(height), drawable(text)
    draw.text(xy, text.replace("µ", "u"), fill=fill, font=letters)
    before, micro, _ = text.partition("µ")
    if micro:
        _, top, _, bottom = letters.getbbox("u")
        x = xy[0] + letters.getlength(before) + round(height / 16)
        stem = max(1, round(height / 10))
        draw.rectangle((x, xy[1] + top, x + stem - 1, xy[1] + bottom + round(height / 5)), fill=fill)


def letter_height(canvas: Image.Image) -> int:
    """Height in pixels of letters that suit a picture."""
    return min(max(max(canvas.size) // 45, 11), 64)


def draw_scale_bar(canvas: Image.Image, pixel_nm: float, bottom: int) -> None:
    """Draw a scale bar on a dark box into a picture, to the right.

    Parameters
    ----------
    canvas : Image
        RGB picture.
    pixel_nm : float
        Width of a pixel in nanometres; the bar takes up to a quarter of the picture's width.
    bottom : int
        Row above which it is to stay.
    """
    height = letter_height(canvas)
    length_nm = round_length_nm(0.25 * canvas.width * pixel_nm)
    length, text = max(1, round(length_nm / pixel_nm)), length_text(length_nm)
    draw = ImageDraw.Draw(canvas)
    width, pad, thick = text_box(text, height)[2], height // 2, max(2, height // 4)
    box = max(length, width) + 2 * pad
    left, top = canvas.width - box - pad, bottom - height - thick - 4 * pad
    draw.rectangle((left, top, left + box, bottom - pad), fill=(0, 0, 0))
    middle = left + box // 2
    bar_left, bar_top = middle - length // 2, bottom - 2 * pad - thick
    draw_text(draw, (middle - width // 2, top + pad // 2), text, height, (255, 255, 255))
    draw.rectangle((bar_left, bar_top, bar_left + length - 1, bar_top + thick - 1), fill=(255, 255, 255))


def legend_rgb(classes: Sequence[ClassSpec], width: int, height: int) -> np.ndarray:
    """Draw a strip with a patch of colour and the name of each class, on as many lines as that takes.

    Parameters
    ----------
    classes : sequence of ClassSpec
        What to name; none gives a strip of no height.
    width, height : int
        Of the strip and of the letters, in pixels.

    Returns
    -------
    array, shape (rows, width, 3), uint8
    """
    pad = height // 2
    line = height + 2 * pad
    places: list[tuple[int, int]] = []
    x, y = pad, 0
    for spec in classes:
        needed = height + pad + text_box(spec.name, height)[2] + 2 * pad
        if x > pad and x + needed > width:
            x, y = pad, y + line
        places.append((x, y))
        x += needed
    strip = Image.new("RGB", (width, y + line if classes else 0), (255, 255, 255))
    draw = ImageDraw.Draw(strip)
    for (x, y), spec in zip(places, classes, strict=True):
        draw.rectangle((x, y + pad, x + height, y + pad + height), fill=spec.colour)
        draw_text(draw, (x + height + pad, y + pad), spec.name, height, (0, 0, 0))
    return np.asarray(strip)

"""Scale bars and letters, as journals and instruments burn them into images."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from napari_matseg.core.annotate import draw_text, font, text_box

LETTERS = tuple(pattern.format(letter) for letter in "abcdefABCD" for pattern in ("{}", "({})", "{})"))
LENGTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def burn_in(image_yx: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a scale bar, or a panel's letter, or both over an image.

    Parameters
    ----------
    image_yx : array, shape (height, width), uint8
        Image; it is not changed.
    rng : numpy.random.Generator
        Source of everything that is random.

    Returns
    -------
    array, shape (height, width), uint8
        The image with the lettering in it.
    """
    canvas = Image.fromarray(image_yx)
    draw = ImageDraw.Draw(canvas)
    ink = 255 if rng.random() < 0.6 else 0
    what = rng.choice(("bar", "letter", "both"), p=(0.4, 0.2, 0.4))
    if what != "letter":
        _scale_bar(draw, canvas.size, ink, rng)
    if what != "bar":
        _letter(draw, canvas.size, ink, rng)
    return np.array(canvas)


def _scale_bar(draw: ImageDraw.ImageDraw, size_xy: tuple[int, int], ink: int, rng: np.random.Generator) -> None:
    """Draw a bar with its length above or beside it, near one of the lower corners, seldom the upper ones."""
    width, height = size_xy
    letters = int(np.clip(height * rng.uniform(0.04, 0.1), 9, 48))
    text = f"{rng.choice(LENGTHS)}{rng.choice((' ', ''), p=(0.7, 0.3))}{rng.choice(('nm', 'µm'), p=(0.65, 0.35))}"
    left, top, right, bottom = text_box(text, letters)
    text_width, text_height = right - left, bottom - top
    length, thick = int(width * rng.uniform(0.08, 0.3)), max(2, int(text_height * rng.uniform(0.15, 0.6)))
    gap = max(2, int(text_height * rng.uniform(0.2, 0.5)))
    if rng.random() < 0.8:  # text above the bar
        block = (max(length, text_width), text_height + gap + thick)
        bar_x, bar_y = (block[0] - length) // 2, text_height + gap
        text_x, text_y = (block[0] - text_width) // 2, 0
    else:
        block = (length + gap + text_width, max(text_height, thick))
        bar_x, bar_y = 0, (block[1] - thick) // 2
        text_x, text_y = length + gap, (block[1] - text_height) // 2
    x, y = rng.uniform(0.02, 0.06, 2) * (width, height)
    if rng.random() < 0.65:
        x = width - block[0] - x
    if rng.random() < 0.93:
        y = height - block[1] - y
    if rng.random() < 0.3:
        draw.rectangle((x - gap, y - gap, x + block[0] + gap, y + block[1] + gap), fill=255 - ink)
    draw.rectangle((x + bar_x, y + bar_y, x + bar_x + length, y + bar_y + thick - 1), fill=ink)
    draw_text(draw, (x + text_x - left, y + text_y - top), text, letters, ink)


def _letter(draw: ImageDraw.ImageDraw, size_xy: tuple[int, int], ink: int, rng: np.random.Generator) -> None:
    """Draw the letter of a panel in an upper corner, with or without a box."""
    width, height = size_xy
    letters = font(int(np.clip(height * rng.uniform(0.06, 0.15), 10, 80)))
    text = str(rng.choice(LETTERS))
    left, top, right, bottom = draw.textbbox((0, 0), text, letters)
    x, y = rng.uniform(0, 0.05, 2) * (width, height)
    if rng.random() < 0.2:
        x = width - (right - left) - x
    if rng.random() < 0.3:
        edge = int(rng.integers(1, 6))
        draw.rectangle((x - edge, y - edge, x + right - left + edge, y + bottom - top + edge), fill=255 - ink)
    bold = int((bottom - top) * 0.05) if rng.random() < 0.4 else 0
    draw.text((x - left, y - top), text, fill=ink, font=letters, stroke_width=bold, stroke_fill=ink)


def draw_data_bar(shape_yx: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw an instrument's data bar: settings and a scale bar on black or white, on one line or two.

    Parameters
    ----------
    shape_yx : (int, int)
        Height and width of the bar in pixels.
    rng : numpy.random.Generator
        Source of everything that is random.

    Returns
    -------
    array, shape (height, width), uint8
        What finds no room is left out.
    """
    height, width = shape_yx
    ground, ink = (0, 255) if rng.random() < 0.75 else (255, 0)
    canvas = Image.new("L", (width, height), ground)
    draw = ImageDraw.Draw(canvas)
    if rng.random() < 0.5:
        draw.line((0, 0, width, 0), fill=255 - ground)
    lines = 2 if height >= 40 and rng.random() < 0.6 else 1
    letters = max(6, int(height / lines * rng.uniform(0.5, 0.8)))
    values = (
        f"{rng.integers(1, 31)}.0 kV",
        f"x{rng.integers(1, 999)},000",
        f"WD {rng.uniform(2, 15):.1f} mm",
        str(rng.choice(("SE2", "ETD", "InLens", "BSE", "TLD", "CBS"))),
    )
    fields = [f"{rng.choice(LENGTHS)} {rng.choice(('nm', 'µm'))}", *rng.permutation(values).tolist()]
    for line in range(lines):
        top, x = int((line + 0.5) * height / lines - 0.6 * letters), letters // 2
        if line == 0:
            length, thick = int(width * rng.uniform(0.08, 0.25)), max(1, letters // 6)
            middle = height // (2 * lines)
            draw.rectangle((x, middle - thick // 2, x + length, middle - thick // 2 + thick - 1), fill=ink)
            x += length + letters
        while fields and x + text_box(fields[0], letters)[2] < width:
            draw_text(draw, (x, top), fields[0], letters, ink)
            x += text_box(fields.pop(0), letters)[2] + letters
    return np.array(canvas)

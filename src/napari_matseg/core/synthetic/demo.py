"""A micrograph to try things on, written as an instrument would write it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import tifffile
from PIL import Image, ImageDraw

from napari_matseg.core.annotate import draw_text, length_text, round_length_nm, text_box
from napari_matseg.core.export import replacing
from napari_matseg.core.label_files import write_labels
from napari_matseg.core.synthetic.canvas import (
    ANGLES,
    Bodies,
    Sample,
    apart,
    check_shape,
    noise,
    rasterise,
    relabel,
    smooth,
)
from napari_matseg.core.synthetic.coating import coating
from napari_matseg.core.synthetic.precipitates import superalloy
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["particles", "superalloy", "cracks"]

BAR_HEIGHT = 64
POLAROID_WIDTH_NM = 127e6
"""Magnifications are given for a print of 5 inches."""
FEI_TAG = 34682
PIXEL_SIZES_NM: dict[str, float] = {"particles": 2.0, "superalloy": 12.5, "cracks": 100.0}
CLASSES = {
    "particles": (ClassSpec(name="background", colour=(0, 0, 0)), ClassSpec(name="particle", colour=(230, 159, 0))),
    "superalloy": (
        ClassSpec(name="matrix", colour=(0, 0, 0)),
        ClassSpec(name="secondary", colour=(0, 114, 178)),
        ClassSpec(name="tertiary", colour=(213, 94, 0)),
    ),
    "cracks": (
        ClassSpec(name="coating and substrate", colour=(0, 0, 0)),
        ClassSpec(name="oxide", colour=(0, 114, 178)),
        ClassSpec(name="crack", colour=(213, 94, 0)),
    ),
}


class Demo(NamedTuple):
    """A synthetic micrograph with a data bar.

    Attributes
    ----------
    sample : Sample
        Image and truth, the rows of the data bar included; the truth is 0 there.
    data_bar : (int, int)
        First row and end (exclusive) of the data bar.
    pixel_size_nm : float
        Side of a pixel in nanometres.
    """

    sample: Sample
    data_bar: tuple[int, int]
    pixel_size_nm: float


def demo_micrograph(kind: Kind = "particles", seed: int = 0, shape: tuple[int, int] = (768, 1024)) -> Demo:
    """Draw a micrograph with the data bar of an instrument below it.

    Parameters
    ----------
    kind : "particles", "superalloy" or "cracks"
        What is to be seen.
    seed : int
        The same seed gives the same micrograph.
    shape : (int, int)
        Height and width in pixels without the data bar, 16 or more.

    Raises
    ------
    InputError
        If the kind is unknown or the shape too small.
    """
    if kind not in get_args(Kind):
        raise InputError(f"There is no demo {kind!r}; choose one of {', '.join(get_args(Kind))}.")
    check_shape(shape)
    rng = np.random.default_rng(seed)
    draw = {"particles": _spheres, "superalloy": superalloy, "cracks": coating}[kind]
    scene = draw(shape, rng)
    pixel_size_nm = PIXEL_SIZES_NM[kind]
    below = ((0, BAR_HEIGHT), (0, 0))
    sample = Sample(
        np.concatenate((scene.image_yx, _data_bar(shape[1], pixel_size_nm))),
        np.pad(scene.truth_yx, below),
        np.pad(scene.classes_yx, below),
    )
    return Demo(sample, (shape[0], shape[0] + BAR_HEIGHT), pixel_size_nm)


def write_demo(
    path: Path, kind: Kind = "particles", seed: int = 0, shape: tuple[int, int] = (768, 1024)
) -> tuple[Path, Path]:
    """Write a demo micrograph, with the record that instruments of FEI and Thermo Fisher leave in their TIFFs.

    Parameters
    ----------
    path : Path
        TIFF to write; the truth, class labels as uint8, goes beside it with `_truth` after the name.
    kind, seed, shape
        As for `demo_micrograph`.

    Returns
    -------
    image, truth : Path
        The two files.

    Raises
    ------
    InputError
        If the kind is unknown or the shape too small.
    OutputError
        If a file cannot be written.
    """
    demo = demo_micrograph(kind, seed, shape)
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            demo.sample.image_yx,
            photometric="minisblack",
            compression="zlib",
            metadata=None,
            software="napari-matseg",
            extratags=[(FEI_TAG, 2, None, _record(demo), True)],
        )
    truth = path.with_name(f"{path.stem}_truth.tif")
    size = demo.pixel_size_nm
    write_labels(truth, demo.sample.classes_yx, pixel_size_nm=(size, size), classes=CLASSES[kind])
    return path, truth


def _spheres(shape: tuple[int, int], rng: np.random.Generator) -> Sample:
    """Spheres on a rough support in secondary electrons, some of them touching."""
    n = int(np.clip(shape[0] * shape[1] / 3000, 1, 2000))
    centres = rng.uniform((0, 0), shape, (n, 2))
    sizes = np.clip(19 * np.exp(0.3 * rng.standard_normal(n)), 6, 48)
    keep = apart(centres, sizes, 1.15)
    centres, sizes = centres[keep], sizes[keep]
    turns = rng.uniform(0, 2 * np.pi, len(sizes))
    beside = np.clip(sizes * np.exp(0.15 * rng.standard_normal(len(sizes))), 6, 48)
    offsets = (0.98 * (sizes + beside))[:, None] * np.stack((np.sin(turns), np.cos(turns)), axis=1)
    centres, sizes = np.concatenate((centres, centres + offsets)), np.concatenate((sizes, beside))
    keep = apart(centres, sizes, 0.97)
    n = int(keep.sum())
    modes = np.arange(2, 7)
    waves = np.cos(modes * np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)[:, None] + turns[0])
    outlines = 1 + 0.012 * (waves * rng.standard_normal((n, 1, len(modes)))).sum(2)
    bodies = Bodies(
        centres[keep],
        sizes[keep].astype(np.float32),
        outlines.astype(np.float32),
        np.zeros(n, np.float32),
        rng.uniform(0, 2 * np.pi, n).astype(np.float32),
    )
    inside = rasterise(shape, bodies)
    top = np.zeros(shape, np.int32)
    top.ravel()[inside.index] = inside.body + 1
    seen = inside.only(top.ravel()[inside.index] == inside.body + 1)
    scene = 0.24 + 0.02 * noise(shape, rng, 300) + 0.012 * noise(shape, rng, 5)
    near = smooth((top > 0).astype(np.float32), 5)
    scene *= 1 - 0.35 * near
    edge = np.exp((seen.rho - 1) * seen.radius / 3)
    scene.ravel()[seen.index] = 0.32 + 0.3 * np.sqrt(1 - seen.rho**2) + 0.3 * edge
    scene = smooth(scene, 0.9)
    scene += 0.045 * np.sqrt(scene) * rng.standard_normal(shape, np.float32)
    truth_yx = relabel(top)
    image_yx = np.clip(255 * scene, 0, 255).astype(np.uint8)
    return Sample(image_yx, truth_yx, (truth_yx > 0).astype(np.uint8))


def _data_bar(width: int, pixel_size_nm: float) -> np.ndarray:
    """Fields with their headings and, to the right, a scale bar; what does not fit is left out."""
    canvas = Image.new("L", (width, BAR_HEIGHT), 0)
    draw = ImageDraw.Draw(canvas)
    draw.line((0, 0, width, 0), fill=255)
    field_nm = width * pixel_size_nm
    length_nm = round_length_nm(0.2 * field_nm)
    length, label = round(length_nm / pixel_size_nm), length_text(length_nm)
    left = width - length - width // 50
    draw.rectangle((left, 14, left + length - 1, 19), fill=255)
    draw_text(draw, (left + (length - text_box(label, 20)[2]) // 2, 28), label, 20, 255)
    fields = (
        ("HV", "5.00 kV"),
        ("mag", f"{POLAROID_WIDTH_NM / field_nm:,.0f} x".replace(",", " ")),
        ("WD", "4.0 mm"),
        ("HFW", f"{field_nm / 1000:.2f} µm"),
        ("det", "ETD"),
    )
    x = 14
    for name, value in fields:
        step = max(text_box(name, 18)[2], text_box(value, 18)[2]) + 28
        if x + step > left - 10:
            break
        draw_text(draw, (x, 8), name, 18, 200)
        draw_text(draw, (x, 34), value, 18, 255)
        x += step
        draw.line((x - 14, 8, x - 14, BAR_HEIGHT - 8), fill=120)
    return np.array(canvas)


def _record(demo: Demo) -> str:
    """Put together what FEI writes into tag 34682, as far as it has a meaning here; lengths in metres."""
    top, end = demo.data_bar
    width = demo.sample.image_yx.shape[1]
    size = demo.pixel_size_nm * 1e-9
    sections: dict[str, dict[str, object]] = {
        "User": {"User": "synthetic", "UserText": "Drawn by a computer, not recorded by an instrument"},
        "System": {"Type": "SEM", "Source": "FEG", "Software": "napari-matseg"},
        "Beam": {"HV": 5000, "Beam": "EBeam", "Scan": "EScan"},
        "EBeam": {"HV": 5000, "HFW": f"{width * size:.9g}", "VFW": f"{top * size:.9g}", "WD": 0.004},
        "Scan": {
            "PixelWidth": f"{size:.9g}",
            "PixelHeight": f"{size:.9g}",
            "HorFieldsize": f"{width * size:.9g}",
            "VerFieldsize": f"{top * size:.9g}",
        },
        "Image": {"ResolutionX": width, "ResolutionY": top},
        "Detectors": {"Number": 1, "Name": "ETD", "Mode": "SE"},
        "PrivateFei": {"BitShift": 0, "DataBarSelected": "HV mag WD HFW det MicronBar", "DatabarHeight": end - top},
    }
    lines = (
        f"[{name}]\r\n" + "".join(f"{key}={value}\r\n" for key, value in values.items())
        for name, values in sections.items()
    )
    return "\r\n".join(lines)

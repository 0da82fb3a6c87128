"""How well the data bar is found in the picture: false finds, recall, row error and time.

    python benchmarks/data_bar.py DATA [--list train.txt] [--designs 400]

DATA holds emps/, superalloy/, ebc/ and vendor_tiff/ as docs/models.md describes. Real micrographs as they are: found
where there is none (false), not found where there is one (missed). 41 figures of emps/ have a bar, as looking at all of
those told that are flat at an edge; their rows are not known. vendor_tiff/ with its records hidden. Drawn ones: bars
of many designs below or above real micrographs without one, in 8 and 16 bits, as JPEG, in colour; and the same
micrographs with burnt-in scale bars and letters and with a flat sky, where nothing must be found.
"""

from __future__ import annotations

import argparse
import io
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from napari_matseg.core.annotate import draw_text, text_box
from napari_matseg.core.data_bar import find_data_bar
from napari_matseg.core.read import read
from napari_matseg.core.synthetic.demo import demo_micrograph
from napari_matseg.core.synthetic.lettering import burn_in

WITH_BAR = frozenset(
    (
        "07330c8ea1 1b3c6536a3 1ecd5c901c 21308b3614 245e1a4826 2bc87a8698 2e4a3ab627 3027f9ffe7 31f17306c8 "
        "37ce835fb2 39dda96b25 406d70e411 427ebc9e15 4628753cd8 47286679c2 555eb05b4c 60feb7de8f 7e85b64066 "
        "7ecd3c2ab9 8d7fc4c578 8e1269eba3 a1dada3898 a4027c076c a492171fa8 af124a45d9 b23c478d84 b452204939 "
        "bc5529f7ca c36b04376a c984680063 d04d7ced9f e853d120fa ea71fe4650 eed04b7d68 ef6bbe7612 f8a1b2bf39 "
        "fcc97c015c fd1f58d925 "
        "8c22d1acd5 8dffc01cc2 39b3a6db5e"
    ).split()
)
"""Figures of emps/ that have a bar."""

FIELDS = (
    ("HV", "5.00 kV"), ("mag", "25 000 x"), ("WD", "4.1 mm"), ("det", "ETD"), ("HFW", "5.97 µm"), ("spot", "3.0"),
    ("Date", "12 Sep 2018"), ("Signal A", "InLens"), ("EHT", "3.00 kV"), ("Time", "10:42:07"), ("mode", "SE"),
)  # fmt: skip
ONE_LINE = ("S4800 5.0kV 8.9mm x20.0k SE(U)", "SEI  4.0kV  x25,000  WD 3.1mm", "NONE SEI 5.0kV X5,000 WD 8.0mm")
DESIGNS = ("cells", "ruler", "one line", "framed", "logo", "two lines")


def draw_bar(width: int, height: int, design: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a bar as instruments do, shape (height, width), uint8."""
    ground = int(rng.choice((0, 0, 0, 8, 40, 70, 255, 255, 230)))
    ink = 255 if ground < 128 else int(rng.choice((0, 0, 60)))
    canvas = Image.new("L", (width, height), ground)
    draw = ImageDraw.Draw(canvas)
    line = 1 if height < 40 else 2
    if design in ("cells", "framed"):
        draw.rectangle((0, 0, width - 1, height - 1), outline=ink, width=line)
    x = width // 50
    if design in ("one line", "ruler"):
        letters = max(7, int(height * rng.uniform(0.35, 0.6)))
        draw_text(draw, (x, (height - letters) // 2), str(rng.choice(ONE_LINE)), letters, ink)
    else:
        letters = max(6, int(height * rng.uniform(0.22, 0.32)))
        for name, value in rng.permutation(np.array(FIELDS)):
            step = max(text_box(str(name), letters)[2], text_box(str(value), letters)[2]) + letters
            if x + step > 0.68 * width:
                break
            draw_text(draw, (x, height // 9 + line), str(name), letters, ink)
            draw_text(draw, (x, height // 9 + line + int(1.5 * letters)), str(value), letters, ink)
            x += step
            if design == "cells":
                draw.line((x - letters // 2, 0, x - letters // 2, height), fill=ink, width=line)
    left, right = int(0.74 * width), int(0.96 * width)
    if design == "ruler":
        for tick in np.linspace(left, right, 11):
            draw.rectangle((tick, height // 5, tick + 1, height // 5 + height // 6), fill=ink)
    else:
        draw.rectangle((left, height // 5, right - width // 20, height // 5 + height // 15), fill=ink)
    letters = max(6, int(0.3 * height))
    draw_text(draw, (left, int(0.55 * height)), "2.00 µm", letters, ink)
    if design == "logo":
        margin = int(rng.integers(0, 3))
        draw.rectangle((width - height, margin, width - margin - 1, height - margin - 1), fill=ink)
    return np.array(canvas)


def dress(image_yx: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int], str]:
    """Put a bar below an image, or above it, and store both as an instrument would: image, rows, what it is."""
    design = str(rng.choice(DESIGNS))
    height, width = image_yx.shape
    rows = max(14, round(height * rng.uniform(0.03, 0.15)))
    bar = draw_bar(width, rows, design, rng)
    above = rng.random() < 0.15
    whole = np.concatenate((bar, image_yx) if above else (image_yx, bar))
    stored = str(rng.choice(("8 bit", "16 bit", "JPEG", "colour", "scaled")))
    place = (0, rows) if above else (height, height + rows)
    if stored == "16 bit":
        grey = image_yx.astype(np.uint16) * 8 + rng.integers(0, 8, image_yx.shape).astype(np.uint16) + 500
        deep = bar.astype(np.uint16) * 257
        whole = np.concatenate((deep, grey) if above else (grey, deep))
    elif stored == "JPEG":
        file = io.BytesIO()
        Image.fromarray(whole).save(file, "JPEG", quality=int(rng.integers(70, 96)))
        whole = np.asarray(Image.open(file))
    elif stored == "colour":
        whole = np.repeat(whole[..., None], 3, axis=2)
        whole[place[0] + rows // 4 : place[0] + rows // 2, width // 2 : width // 2 + rows // 2] = (0, 90, 200)
    elif stored == "scaled":
        factor = rng.uniform(0.6, 1.4)
        picture = Image.fromarray(whole)
        whole = np.asarray(picture.resize((round(width * factor), round(whole.shape[0] * factor)), Image.BICUBIC))
        place = (round(place[0] * factor), round(place[1] * factor))
    return whole, place, f"{design}, {stored}{', above' if above else ''}"


def time_of(image: np.ndarray) -> float:
    """Shortest of many runs, in ms."""
    times = []
    for _ in range(20):
        started = time.perf_counter()
        find_data_bar(image)
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--list", default="train.txt", help="which list of emps/")
    parser.add_argument("--designs", type=int, default=400, help="how many images to draw a bar on")
    arguments = parser.parse_args()
    data: Path = arguments.data
    named = {path.stem: path for path in (data / "emps" / "images").iterdir()}
    folders = {
        f"emps {arguments.list}": [named[stem] for stem in (data / "emps" / arguments.list).read_text().split()],
        "superalloy": sorted((data / "superalloy" / "images").glob("*.tif")),
        "ebc": sorted((data / "ebc" / "images").glob("*.tif")),
    }
    plain = []
    print("real micrographs: images, with a bar, found, missed, false")
    for name, paths in folders.items():
        counts: Counter[str] = Counter()
        for path in paths:
            image = read(path, find_bar=False).plane()[0]
            found = find_data_bar(image)
            outcome = ("false" if path.stem not in WITH_BAR else "found") if found else "missed"
            if outcome == "missed" and path.stem not in WITH_BAR:
                outcome = "none"
                plain.append(image)
            elif outcome != "found":
                print(f"  {path.name}: {outcome} {found or ''}")
            counts[outcome] += 1
        with_bar = counts["found"] + counts["missed"]
        print(f"  {name:15} {len(paths):4} {with_bar:4} {counts['found']:4} {counts['missed']:4} {counts['false']:4}")
    print("records hidden: file, rows by the record, rows found")
    for path in sorted((data / "vendor_tiff").glob("*.tif")):
        known = read(path, find_bar=False)
        found = find_data_bar(known.plane()[0])
        if found or known.data_bar:
            print(f"  {path.name:32} {known.data_bar} {found}")

    rng = np.random.default_rng(0)
    errors, missed = [], Counter[str]()
    false = {"as it is": 0, "burnt in": 0, "flat sky": 0}
    for index in rng.permutation(len(plain) * (arguments.designs // len(plain) + 1))[: arguments.designs]:
        image = plain[index % len(plain)].astype(np.float32)
        image = (255 * (image - image.min()) / max(1, np.ptp(image))).astype(np.uint8)
        whole, place, kind = dress(image, rng)
        found = find_data_bar(whole)
        if found is None or (found[0] == 0) != (place[0] == 0):
            missed[kind] += 1
        else:
            errors.append(abs(found[0] - place[0]) + abs(found[1] - place[1]))
        false["burnt in"] += find_data_bar(burn_in(image, rng)) is not None
        sky = image.copy()
        surface = len(sky) * (0.12 + 0.06 * np.sin(np.linspace(0, rng.uniform(7, 20), sky.shape[1])))
        sky[np.arange(len(sky))[:, None] < surface] = 0
        false["flat sky"] += find_data_bar(burn_in(sky[::-1], rng)) is not None
    n = arguments.designs
    print(f"drawn bars: {n}, found {n - missed.total()} ({1 - missed.total() / n:.1%}); ", end="")
    print(", ".join(f"{np.mean(np.array(errors) <= most):.1%} within {most} px" for most in (0, 1, 2)), max(errors))
    for kind, count in missed.most_common(12):
        print(f"  missed {count}: {kind}")
    print(f"false finds in {n} each: burnt in {false['burnt in']}, flat sky with letters {false['flat sky']}")
    demo = demo_micrograph(shape=(704, 1024)).sample.image_yx
    print(f"1024 x 768: {time_of(demo):.1f} ms with a bar, {time_of(demo[:704]):.1f} ms without")


if __name__ == "__main__":
    main()

"""Accuracy of a promptable model: mean IoU per particle on micrographs with truth.

    python benchmarks/prompt_accuracy.py DATA [--model compact] [--split test] [--limit N] [--views 1] [--clicks 3]
        [--no-refine]

DATA holds emps/images, emps/labels and emps/test.txt (EMPS, MIT licence, doi 10.1021/acs.jcim.0c01455). Every particle
of every image is asked for by itself: by one click at its centre (the pixel farthest from its edge), by three clicks
(each further one in the middle of the largest region where the answer is wrong), and by its bounding box. IoU is that
of the mask with the particle's truth, before masks are made to share pixels.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_matseg.core.dataset import split
from napari_matseg.core.prompt import PromptSession
from napari_matseg.core.prompt_data import bounding_box, deepest_pixel
from napari_matseg.core.prompts import Prompt
from napari_matseg.core.read import read
from napari_matseg.settings import PromptSettings, load_recipe

if TYPE_CHECKING:
    from napari_matseg.core.objects import ObjectMask

SMALL, LARGE = 16, 64  # px, equivalent circle diameter
CLICKS = 3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--limit", type=int, help="images, evenly spread over the split")
    parser.add_argument("--choice", default="best")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--refine", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--clicks", type=int, default=CLICKS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    if arguments.split == "test":
        names = (arguments.data / "emps/test.txt").read_text().split()
    else:
        recipe = Path(__file__).parents[1] / "recipes/particles.yaml"
        recipe = load_recipe(recipe)
        names = split(recipe.data, recipe.seed, arguments.data)[1]
    if arguments.limit:
        names = names[:: max(1, len(names) // arguments.limit)][: arguments.limit]
    settings = PromptSettings(
        model=arguments.model,
        choice=arguments.choice,
        precision=arguments.precision,
        views=arguments.views,
        refine=arguments.refine,
        cache_gb=0,
        device="cpu",
    )
    session = PromptSession(settings)
    rows: list[dict[str, float]] = []
    started = time.perf_counter()
    for done, name in enumerate(names, start=1):
        rows += _image(session, arguments.data / "emps", Path(name).stem, done, arguments.clicks)
        print(f"\r{done}/{len(names)}, {len(rows)} particles", end="", file=sys.stderr)
    print(file=sys.stderr)
    table = _table(rows)
    if arguments.json:
        print(json.dumps(table, indent=2))
        return
    kinds = list(next(iter(table.values())))
    print("".ljust(36) + "".join(kind.rjust(15) for kind in kinds))
    for group, figures in table.items():
        print(group.ljust(36) + "".join(f"{figures[kind]:15.4f}" for kind in kinds))
    print(f"{len(rows)} particles on {len(names)} images in {time.perf_counter() - started:.0f} s")


def _image(session: PromptSession, folder: Path, stem: str, number: int, clicks: int) -> list[dict[str, float]]:
    image = next(path for path in (folder / "images").iterdir() if path.stem == stem)
    labels_yx = read(folder / "labels" / f"{stem}.png").plane()[0]
    grey_yx = read(image).plane()[0].astype(np.float32)
    session.set_image(image)
    ids = np.unique(labels_yx[labels_yx > 0])
    return [_particle(session, labels_yx == one, grey_yx, clicks) | {"image": number} for one in ids]


def _particle(session: PromptSession, truth_yx: np.ndarray, grey_yx: np.ndarray, most: int) -> dict[str, float]:
    y0, x0, y1, x1 = bounding_box(truth_yx)
    near = tuple(slice(max(0, first - 8), last + 9) for first, last in ((y0, y1), (x0, x1)))
    wide, narrow = (ndimage.binary_dilation(truth_yx[near], iterations=n) for n in (6, 2))
    ring = wide & ~narrow
    around = grey_yx[near][ring].mean() if ring.any() else np.nan
    row: dict[str, float] = {
        "diameter": float(np.sqrt(4 * truth_yx.sum() / np.pi)),
        "bright": float(grey_yx[near][truth_yx[near]].mean() > around),
    }
    clicks, positive = [deepest_pixel(truth_yx)], [True]
    for n in range(1, most + 1):
        found = session.predict(Prompt(1, np.array(clicks, dtype=float), np.array(positive)))
        row[f"{n} click" + "s" * (n > 1)] = iou(found, truth_yx)
        wrong = paste(found, truth_yx.shape) != truth_yx
        if not wrong.any():
            wrong = truth_yx
        pieces, _ = ndimage.label(wrong)
        largest = np.bincount(pieces.ravel())[1:].argmax() + 1
        place = deepest_pixel(pieces == largest)
        clicks.append(place)
        positive.append(bool(truth_yx[place]))
    box = (y0 - 0.5, x0 - 0.5, y1 + 0.5, x1 + 0.5)
    row["box"] = iou(session.predict(Prompt(1, np.zeros((0, 2)), np.zeros(0, dtype=bool), box)), truth_yx)
    return row


def paste(found: ObjectMask, shape: tuple[int, ...]) -> np.ndarray:
    """Mask of a whole plane."""
    mask = np.zeros(shape, dtype=bool)
    mask[found.where] = found.mask_yx
    return mask


def iou(found: ObjectMask, truth_yx: np.ndarray) -> float:
    """IoU (Jaccard) of an object with the truth."""
    mask = paste(found, truth_yx.shape)
    return float((mask & truth_yx).sum() / (mask | truth_yx).sum())


def _table(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    kinds = [key for key in rows[0] if key not in ("diameter", "bright", "image")]
    groups = {
        "all": rows,
        "brighter than their surroundings": [row for row in rows if row["bright"]],
        "darker": [row for row in rows if not row["bright"]],
        f"small, under {SMALL} px": [row for row in rows if row["diameter"] < SMALL],
        f"{SMALL} to {LARGE} px": [row for row in rows if SMALL <= row["diameter"] < LARGE],
        f"large, {LARGE} px and more": [row for row in rows if row["diameter"] >= LARGE],
    }
    table = {
        f"{name} ({len(members)})": {kind: float(np.mean([row[kind] for row in members])) for kind in kinds}
        for name, members in groups.items()
        if members
    }
    images = sorted({row["image"] for row in rows})
    table["mean over images"] = {
        kind: float(np.mean([np.mean([row[kind] for row in rows if row["image"] == one]) for one in images]))
        for kind in kinds
    }
    return table


if __name__ == "__main__":
    main()

"""Whether a model is wrong where it says that it is unsure.

    python benchmarks/uncertainty.py DATA [--models superalloy particles] [--images N]

DATA holds superalloy/ and emps/ as docs/models.md describes. Prints, for each measure, the AUROC of the uncertainty of
a pixel against whether its class is wrong, pooled over the images and within each (mean), beside that of one plain
answer; how many mistakes the squares to label next hold, beside the image as a whole; and, where there are ten images
or more, the rank correlation between the mean uncertainty of an image and its share of wrong pixels. The superalloy
model learnt from the validation images, too: there it makes fewer mistakes than on new ones.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from napari_matseg.core.checkpoints import load_model
from napari_matseg.core.places import find_places
from napari_matseg.core.truth import IGNORE, read_truth
from napari_matseg.labelling import uncertainty
from napari_matseg.settings import SegmentSettings, UncertaintySettings

if TYPE_CHECKING:
    from napari_matseg.core.checkpoints import Model

MEASURES = ("entropy", "mutual_information", "margin")
ENOUGH = 10


def sets(data: Path) -> list[tuple[str, str, list[tuple[Path, Path]]]]:
    """Model, title, and images with their truth."""
    superalloy, emps = data / "superalloy", data / "emps"
    splits = json.loads((superalloy / "splits.json").read_text())["super1"]
    images = {path.stem: path for path in (emps / "images").iterdir()}
    found = []
    for part, title in (("val", "Super-1 validation"), ("test", "Super-1 test")):
        pairs = [
            (superalloy / "images" / name, superalloy / "masks" / f"{Path(name).stem}_mask.tif")
            for name in splits[part]
        ]
        found.append(("superalloy", title, pairs))
    stems = [Path(name).stem for name in (emps / "test.txt").read_text().split()]
    found.append(("particles", "EMPS test", [(images[stem], emps / "labels" / f"{stem}.png") for stem in stems]))
    return found


def auroc(values: np.ndarray, wrong: np.ndarray) -> float:
    """Chance that a wrong pixel is more uncertain than a right one; ties count half (Mann and Whitney 1947)."""
    n = int(np.count_nonzero(wrong))
    if n in (0, wrong.size):
        return float("nan")
    ranks = stats.rankdata(values)
    return float((ranks[wrong].sum() - n * (n + 1) / 2) / (n * (wrong.size - n)))


def measure(model: Model, pairs: list[tuple[Path, Path]]) -> None:
    """Print how well each measure ranks mistakes."""
    plain = UncertaintySettings(segment=SegmentSettings(model=model.card.name), views=1)
    ways = {"entropy of one answer": plain}
    ways |= {f"{name} of 8": plain.model_copy(update={"views": 8, "measure": name}) for name in MEASURES}
    truths = [read_truth(truth, model.card.classes, image=image).labels_yx for image, truth in pairs]
    for title, settings in ways.items():
        maps, errors, single, shares, lifts = [], [], [], [], []
        for (image, _), truth_yx in zip(pairs, truths, strict=True):
            found = uncertainty(image, settings, loaded=[model])
            wrong_yx = (found.classes != truth_yx) & (truth_yx != IGNORE)
            known_yx = truth_yx != IGNORE
            maps.append(found.map[known_yx])
            errors.append(wrong_yx[known_yx])
            single.append(auroc(maps[-1], errors[-1]))
            shares.append((found.mean, errors[-1].mean()))
            inside = [
                wrong_yx[place.top : place.top + place.height, place.left : place.left + place.width].mean()
                for place in find_places(found.map, settings.places)
            ]
            if inside and errors[-1].any():
                lifts.append(np.mean(inside) / errors[-1].mean())
        pooled = auroc(np.concatenate(maps), np.concatenate(errors))
        line = f"  {title:26} AUROC {pooled:.4f} pooled, {np.nanmean(single):.4f} per image"
        line += f"; places hold {np.mean(lifts):.1f} times the mistakes; wrong {np.concatenate(errors).mean():.2%}"
        if len(pairs) >= ENOUGH:
            line += f"; images: rank correlation {stats.spearmanr(*zip(*shares, strict=True)).statistic:.2f}"
        print(line, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", nargs="*", default=["superalloy", "particles"])
    parser.add_argument("--images", type=int, help="Of each set, the first so many.")
    arguments = parser.parse_args()
    for name, title, pairs in sets(arguments.data):
        if name in arguments.models:
            model = load_model(name)
            print(f"{name} on {title}, {len(pairs[: arguments.images])} images")
            measure(model, pairs[: arguments.images])


if __name__ == "__main__":
    main()

"""Accuracy of the shipped models on test images that no training saw.

    python benchmarks/accuracy.py DATA [--write]

DATA holds superalloy/ and emps/ as docs/models.md describes. Prints IoU and Dice, pooled and per image; with
--write the figures go into the cards of the models.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.checkpoints import find, load_model, save_model
from napari_matseg.core.evaluate import evaluate
from napari_matseg.core.metrics import Counts, Scores
from napari_matseg.pipeline import segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_matseg.core.checkpoints import Model


@dataclass(frozen=True)
class Case:
    """A model and the images to try it on."""

    model: str
    title: str
    pairs: list[tuple[Path, Path]]


def cases(data: Path) -> Iterator[Case]:
    """Each model with its test images."""
    folder = data / "superalloy"
    names = json.loads((folder / "splits.json").read_text())["super1"]["test"]
    pairs = [(folder / "images" / name, folder / "masks" / f"{Path(name).stem}_mask.tif") for name in names]
    yield Case("superalloy", "Super-1 test", pairs)
    folder = data / "emps"
    stems = [Path(name).stem for name in (folder / "test.txt").read_text().split()]
    images = {path.stem: path for path in (folder / "images").iterdir()}
    yield Case("particles", "EMPS test", [(images[stem], folder / "labels" / f"{stem}.png") for stem in stems])


def measure(case: Case, model: Model) -> dict[str, Any]:
    """Figures of one model, as `Scores.to_dict` gives them, with the mean IoU over the images."""
    classes = model.card.classes
    names = [spec.name for spec in classes]
    singles = [evaluate(segment(image, loaded=model).classes, truth, classes)[0].counts for image, truth in case.pairs]
    per_image = np.nanmean([Scores(counts).iou for counts in singles], axis=0)
    return {
        "on": f"{case.title}, {len(singles)} images",
        **Scores(sum(singles, Counts.zero(len(names)))).to_dict(names),
        "iou_per_image": dict(zip(names, map(float, per_image), strict=True)),
    }


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--models", nargs="*", default=["superalloy", "particles"])
    arguments = parser.parse_args()
    for case in cases(arguments.data):
        if case.model not in arguments.models:
            continue
        model = load_model(case.model)
        found = measure(case, model)
        print(f"{case.model} on {found['on']}: pooled IoU {found['pooled_iou']:.4f}, mean IoU {found['mean_iou']:.4f}")
        for name, value in found["iou"].items():
            dice, single = found["dice"][name], found["iou_per_image"][name]
            print(f"  {name:24} IoU {value:.4f}  Dice {dice:.4f}  IoU per image {single:.4f}")
        if arguments.write:
            path = find(case.model)
            accuracy = model.card.accuracy | {"test": found}
            card = save_model(path, model.network, model.card.model_copy(update={"accuracy": accuracy}))
            path.with_suffix(".md").write_text(card.to_markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Whether the warning of micrographs that a model never saw the like of comes when it should.

    python benchmarks/likeness.py DATA [--write]

DATA holds superalloy/, emps/ and ebc/ as docs/models.md describes. For each shipped model, prints how often it warns of
images of the same set that it did not learn from (false alarms), each of the training images in turn by the others
among them, and of images of other sets. With --write the statistics of the training images go into the cards of the
models; the weights stay as they are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.checkpoints import find, load_model, read_card, save_model
from napari_matseg.core.likeness import LearntFrom, Look, learnt_from, learnt_from_training, look_of, unlike
from napari_matseg.core.read import read
from napari_matseg.core.splits import split_images
from napari_matseg.settings import TrainSettings, load_recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

RECIPES = Path(__file__).parents[1] / "recipes"
FEW = (1, 2, 4)
DRAWS = 100
OWN = {"superalloy": "Super-1 test", "particles": "EMPS test"}


def sets(data: Path) -> dict[str, list[Path]]:
    """Images by the set that they belong to."""
    superalloy, emps = data / "superalloy", data / "emps"
    images = {path.stem: path for path in (emps / "images").iterdir()}
    splits = json.loads((superalloy / "splits.json").read_text())["super1"]
    return {
        "Super-1 train": [superalloy / "images" / name for name in splits["train"] + splits["val"]],
        "Super-1 test": [superalloy / "images" / name for name in splits["test"]],
        "EMPS train": [images[Path(name).stem] for name in (emps / "train.txt").read_text().split()],
        "EMPS test": [images[Path(name).stem] for name in (emps / "test.txt").read_text().split()],
        "EBC-1": sorted((data / "ebc" / "images").iterdir()),
    }


def alarms(looks: Sequence[Look], known: LearntFrom) -> float:
    """Share of the images that are warned of."""
    return float(np.mean([bool(unlike(look, known)) for look in looks]))


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    images = sets(arguments.data)
    for model, own in OWN.items():
        recipe = load_recipe(RECIPES / f"{model}.yaml")
        assert isinstance(recipe, TrainSettings)
        looks: dict[str, list[Look]] = {}
        for title, paths in images.items():
            micrographs = [read(path) for path in paths]
            looks[title] = [look_of(one, one.content_rows, recipe.normalise) for one in micrographs]
        names = split_images(recipe.data, recipe.seed, arguments.data).train
        known = learnt_from_training(recipe, names, arguments.data)
        trained = looks[own.replace("test", "train")]
        print(f"{model}: {known.to_text()}")
        for name, (low, high) in known.ranges.items():
            print(f"  {name:13} {low:7.3f} to {high:7.3f}")
        print(f"  false alarms on {own}: {alarms(looks[own], known):.1%} of {len(looks[own])}")
        left_out = [alarms([one], learnt_from(trained[:i] + trained[i + 1 :])) for i, one in enumerate(trained)]
        print(f"  on each training image by the others: {np.mean(left_out):.1%} of {len(trained)}")
        rng = np.random.default_rng(0)
        for few in FEW:
            drawn = [rng.permutation(len(trained)) for _ in range(DRAWS)]
            rates = [alarms([trained[i] for i in d[few:]], learnt_from([trained[i] for i in d[:few]])) for d in drawn]
            print(f"  on the other training images by {few} of them: {np.mean(rates):.1%}")
        for title, found in looks.items():
            if title.split()[0] != own.split()[0]:
                print(f"  alarms on {title}: {alarms(found, known):.1%} of {len(found)}")
        if arguments.write:
            path, before = find(model), read_card(model)
            card = before.model_copy(update={"learnt_from": known})
            written = save_model(path, load_model(model).network, card)
            assert written.weights_sha256 == before.weights_sha256
            path.with_suffix(".md").write_text(written.to_markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()

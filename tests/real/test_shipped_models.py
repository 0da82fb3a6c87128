"""The shipped models on test images that their trainings did not see."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_matseg.core.checkpoints import Model, load_model
from napari_matseg.core.evaluate import evaluate
from napari_matseg.core.metrics import Counts, Scores
from napari_matseg.pipeline import segment
from napari_matseg.settings import SegmentSettings


def counts_of(model: Model, image: Path, truth: Path) -> Counts:
    result = segment(image, SegmentSettings(device="cpu"), loaded=model)
    return evaluate(result.classes, truth, model.card.classes)[0].counts


def test_superalloy_reaches_the_published_reference(real_data: Path) -> None:
    folder = real_data / "superalloy"
    names = json.loads((folder / "splits.json").read_text())["super1"]["test"]
    model = load_model("superalloy")
    counts = [
        counts_of(model, folder / "images" / name, folder / "masks" / f"{Path(name).stem}_mask.tif") for name in names
    ]
    assert Scores(sum(counts, Counts.zero(3))).pooled_iou >= 0.942


def test_particles_are_found_bright_and_dark(real_data: Path) -> None:
    folder = real_data / "emps"
    stems = [Path(name).stem for name in (folder / "test.txt").read_text().split()]
    images = {path.stem: path for path in (folder / "images").iterdir()}
    model = load_model("particles")
    ious = [Scores(counts_of(model, images[stem], folder / "labels" / f"{stem}.png")).iou[1] for stem in stems]
    assert np.mean(ious) >= 0.80


@pytest.mark.parametrize("name", ["superalloy", "particles"])
def test_default_tiling_changes_hardly_any_pixel(real_data: Path, name: str) -> None:
    """At most 0.01 % against the whole image, on a mosaic of micrographs with seams through it."""
    folder = real_data / ("superalloy" if name == "superalloy" else "emps") / "images"
    from napari_matseg.core.read import read

    tiles = [read(path).plane()[0][:512, :512] for path in sorted(folder.iterdir())[:9]]
    tiles = [np.pad(tile, [(0, 512 - n) for n in tile.shape], mode="reflect") for tile in tiles]
    image = np.block([[tiles[3 * i + j] for j in range(3)] for i in range(3)])
    model = load_model(name)
    whole = segment(image, loaded=model, device="cpu", tiling="whole").classes
    tiled = segment(image, loaded=model, device="cpu", tile=1024).classes
    assert np.mean(whole != tiled) <= 1e-4

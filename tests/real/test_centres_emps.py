"""Centres of particles in micrographs that the model's training did not see."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_matseg.core.centre_scores import CentreCounts, score_centres
from napari_matseg.core.centres import detect_steps
from napari_matseg.core.checkpoints import load_model
from napari_matseg.core.progress import finish
from napari_matseg.core.read import read
from napari_matseg.settings import CentreSettings


def test_the_default_finds_most_particles_once(real_data: Path) -> None:
    folder = real_data / "emps"
    stems = [Path(name).stem for name in (folder / "test.txt").read_text().split()]
    images = {path.stem: path for path in (folder / "images").iterdir()}
    settings = CentreSettings(device="cpu")
    model = load_model(settings.model)
    counts = []
    for stem in stems:
        centres = finish(detect_steps(read(images[stem]), settings, loaded=model))
        counts.append(score_centres(centres.points_yx, read(folder / "labels" / f"{stem}.png").plane()[0]))
    assert np.nanmean([count.recall for count in counts]) >= 0.70
    assert np.nanmean([count.precision for count in counts]) >= 0.70
    assert sum(counts, CentreCounts()).recall >= 0.50

"""How many particles get exactly one centre, by each method with its defaults, on images that nothing was tuned to.

    python benchmarks/centres.py DATA [--list train.txt --every 9] [--speed 4096]

DATA holds emps/ as docs/models.md describes. A centre counts when it falls in exactly one particle and is that
particle's only one. Pooled: all particles of all images together; per image: the mean over the images. With --speed
a noisy image of that side, with discs of 6 to 200 px, is timed as well.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from napari_matseg.core.centre_scores import CentreCounts, score_centres
from napari_matseg.core.centres import detect_steps, pick, respond_steps
from napari_matseg.core.checkpoints import load_model
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import finish
from napari_matseg.core.read import read
from napari_matseg.settings import CentreSettings

METHODS = {name: CentreSettings(method=name) for name in ("model", "log", "doh")}


def measure(pairs: list[tuple[Path, Path]], settings: CentreSettings) -> list[CentreCounts]:
    """Count on each image."""
    model = load_model(settings.model) if settings.method == "model" else None
    counts = []
    for image, truth in pairs:
        centres = finish(detect_steps(read(image), settings, loaded=model))
        counts.append(score_centres(centres.points_yx, read(truth).plane()[0]))
    return counts


def discs(side: int) -> np.ndarray:
    """Discs of many sizes, light and dark, under noise."""
    rng = np.random.default_rng(0)
    image = np.full((side, side), 128, dtype=np.float32)
    for diameter in np.geomspace(200, 6, max(1, side**2 // 4000)):
        radius = int(diameter // 2)
        y, x = rng.integers(radius, side - radius, 2)
        window = image[y - radius : y + radius + 1, x - radius : x + radius + 1]
        rows, columns = np.indices(window.shape)
        window[np.hypot(rows - radius, columns - radius) <= radius] = rng.choice([50, 200])
    return (image + rng.normal(0, 10, image.shape)).clip(0, 255).astype(np.uint8)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--list", default="test.txt", help="which list of emps/")
    parser.add_argument("--every", type=int, default=1, help="take every n-th image of the list")
    parser.add_argument("--speed", type=int, help="side of an image to be timed")
    arguments = parser.parse_args()
    folder = arguments.data / "emps"
    stems = [Path(name).stem for name in (folder / arguments.list).read_text().split()][:: arguments.every]
    images = {path.stem: path for path in (folder / "images").iterdir()}
    pairs = [(images[stem], folder / "labels" / f"{stem}.png") for stem in stems]
    for name, settings in METHODS.items():
        counts = measure(pairs, settings)
        total = sum(counts, CentreCounts())
        print(
            f"{name:6} {arguments.list}, {len(counts)} images, {total.particles} particles: "
            f"recall {total.recall:.3f}, precision {total.precision:.3f} pooled; "
            f"recall {np.nanmean([c.recall for c in counts]):.3f}, "
            f"precision {np.nanmean([c.precision for c in counts]):.3f} per image",
            flush=True,
        )
    if arguments.speed:
        micrograph = Micrograph(discs(arguments.speed))
        for name in ("log", "doh"):
            settings = CentreSettings(method=name, max_diameter_px=200)
            start, cpu = time.perf_counter(), time.process_time()
            responses = finish(respond_steps(micrograph, settings))
            looked, worked = time.perf_counter() - start, time.process_time() - cpu
            start = time.perf_counter()
            centres = pick(responses, settings)
            print(
                f"{name:6} {arguments.speed} x {arguments.speed}: {looked:.1f} s to look ({worked:.1f} s of CPU), "
                f"{1000 * (time.perf_counter() - start):.0f} ms to pick {len(centres)} of {len(responses.found)}"
            )


if __name__ == "__main__":
    main()

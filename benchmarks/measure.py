"""Speed and memory of measuring objects, beside scikit-image's regionprops_table.

    python benchmarks/measure.py [--size 8192] [--objects 20000] [--part 0.25] [--repeat 3]

Both measure what both can: centre, area, diameter, Feret diameter, axes, orientation, perimeter, solidity, bounding
box and grey values; ours does the smallest Feret diameter, circularity and the edge too. regionprops_table goes
through the objects one by one, so it is given only the part of the rows that is asked for, and its time is scaled by
the share of the objects; `--part 1` gives it all. The time is the median of `repeat` runs, of regionprops_table that
of one. Memory is the peak of what is allocated beside the labels and the image, from a run of its own (of the same part
for both).
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from skimage.draw import ellipse
from skimage.measure import regionprops_table

from napari_matseg.core.measure.shapes import measure_objects

if TYPE_CHECKING:
    from collections.abc import Callable

PROPERTIES = (
    "label",
    "centroid",
    "area",
    "equivalent_diameter_area",
    "feret_diameter_max",
    "axis_major_length",
    "axis_minor_length",
    "orientation",
    "perimeter_crofton",
    "solidity",
    "bbox",
    "intensity_mean",
    "intensity_std",
    "intensity_min",
    "intensity_max",
)


def scene(size: int, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of ellipses, one in each cell of a grid, and grey values."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(np.sqrt(objects)))
    cell = size / side
    labels = np.zeros((size, size), np.uint32)
    for k in range(objects):
        y, x = (np.array(divmod(k, side)) + rng.uniform(0.45, 0.55, 2)) * cell
        radii = rng.uniform(0.15, 0.45, 2) * cell
        labels[ellipse(y, x, *radii, shape=labels.shape, rotation=rng.uniform(0, np.pi))] = k + 1
    return labels, rng.integers(0, 2**8, labels.shape, np.uint8)


def timed(work: Callable[[], pd.DataFrame]) -> tuple[float, pd.DataFrame]:
    """Seconds that the work takes, and what it gives."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def peak(work: Callable[[], object]) -> float:
    """Megabytes that the work allocates at most."""
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 1e6


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--objects", type=int, default=20000)
    parser.add_argument("--part", type=float, default=0.25)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    labels, image = scene(arguments.size, arguments.objects)
    rows = slice(0, round(arguments.size * arguments.part))
    part, grey = labels[rows], image[rows]

    def theirs() -> pd.DataFrame:
        return pd.DataFrame(regionprops_table(part, grey, PROPERTIES))

    ours = [timed(lambda: measure_objects(labels, image, pixel_size_nm=(1.0, 1.0))) for _ in range(arguments.repeat)]
    seconds = statistics.median(run for run, _ in ours)
    share_seconds, table = timed(theirs)
    share = len(table) / len(ours[0][1])

    found = measure_objects(part, grey)
    for name, other in (("perimeter_px", "perimeter_crofton"), ("area_px", "area"), ("intensity_std", "intensity_std")):
        whole = ~found["touches_edge"]
        assert np.allclose(found[name][whole], table[other][whole]), name

    print(f"{arguments.size} x {arguments.size}, {len(ours[0][1])} objects; regionprops_table on {share:.0%} of them")
    print(f"measure_objects    {seconds:8.1f} s")
    print(f"regionprops_table  {share_seconds / share:8.1f} s, {share_seconds / share / seconds:.0f} x as long", end="")
    print("" if share == 1 else f" (scaled from {share_seconds:.1f} s)")
    print(f"peak of memory, all: measure_objects {peak(lambda: measure_objects(labels, image)):.0f} MB", end="; ")
    print(f"that part: {peak(lambda: measure_objects(part, grey)):.0f} MB, regionprops_table {peak(theirs):.0f} MB")


if __name__ == "__main__":
    main()

"""Speed, memory and agreement of comparing objects, beside stardist.matching.

    python benchmarks/agreement.py [--size 8192] [--objects 20000] [--repeat 3]
    python benchmarks/agreement.py --gigapixel [--size 32768] [--objects 100000] [--folder FOLDER]

The first needs StarDist's matching, which needs numba and little else of StarDist's dependencies:

    pip install numba
    pip install --no-deps --target somewhere stardist csbdeep six
    PYTHONPATH=somewhere python benchmarks/agreement.py

Both get the same two label images and the same ten thresholds. StarDist's table of all objects against all others
takes 11 GB for 20,000 of them; it is run once, ours `repeat` times, of which the median counts. On a machine that
others use too, the seconds of computing say more than those that went by.

With --gigapixel, two label images of 4 bytes a pixel are written into a folder (a temporary one, else FOLDER), read
from there and compared; the memory is all that the process ever held, the scene's drawing included.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.agreement.instances import THRESHOLDS, InstanceScores, count_instances
from napari_matseg.core.agreement.pairs import count_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

FATES = ("found", "missed", "split", "merged", "false")
SHARES = (0.88, 0.03, 0.03, 0.03, 0.03)


def strips(size: int, n_objects: int, seed: int = 0) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """First row, truth and prediction of a scene of discs, strip by strip.

    The prediction's discs are moved and of another size; a few are missing, in halves, merged with the next, or
    have no disc in the truth. Labels are in no order.
    """
    rng = np.random.default_rng(seed)
    per_row = int(np.ceil(np.sqrt(n_objects)))
    edges = np.linspace(0, size, per_row + 1).astype(int)
    ids = rng.permutation(per_row * per_row).astype(np.uint32) + 1
    yx = np.mgrid[: size // per_row, : size // per_row]
    pitch = size / per_row
    for row in range(per_row):
        truth, prediction = np.zeros((2, edges[row + 1] - edges[row], size), dtype=np.uint32)
        for column in range(min(per_row, n_objects - row * per_row)):
            k = row * per_row + column
            cell = np.s_[: yx.shape[1], edges[column] : edges[column] + yx.shape[2]]
            fate = FATES[rng.choice(len(FATES), p=SHARES)]
            radius = pitch * rng.uniform(0.2, 0.48)
            if fate != "false":
                truth[cell][_disc(yx, pitch / 2, pitch / 2, radius)] = ids[k]
            if fate != "missed":
                y, x = pitch / 2 + rng.normal(0, 0.05 * pitch, 2)
                label = ids[k - 1] if fate == "merged" and column else ids[k]
                there = _disc(yx, y, x, radius * rng.uniform(0.9, 1.1))
                prediction[cell][there] = label
                if fate == "split":
                    prediction[cell][there & (yx[0] > y)] = len(ids) + k + 1
        yield edges[row], truth, prediction


def _disc(yx: np.ndarray, y: float, x: float, radius: float) -> np.ndarray:
    return (yx[0] - y) ** 2 + (yx[1] - x) ** 2 < radius * radius


def peak_mb() -> float:
    """Memory that the process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def beside_stardist(size: int, n_objects: int, repeat: int) -> None:
    """Compare in time, memory and result."""
    from stardist.matching import matching

    truth, prediction = np.zeros((2, size, size), dtype=np.int32)
    for top, some_truth, some_prediction in strips(size, n_objects):
        truth[top : top + len(some_truth)] = some_truth
        prediction[top : top + len(some_truth)] = some_prediction
    matching(truth[:64, :64], prediction[:64, :64], THRESHOLDS)  # numba compiles at the first call

    seconds = []
    before = peak_mb()
    for _ in range(repeat):
        start, cpu = time.perf_counter(), time.process_time()
        pairs = count_pairs(prediction, truth)
        scores = InstanceScores(count_instances(pairs))
        seconds.append((time.perf_counter() - start, time.process_time() - cpu))
    ours, our_cpu = (statistics.median(column) for column in zip(*seconds, strict=True))
    our_peak = peak_mb()
    print(
        f"{size} x {size}, {scores.counts.n_truth} objects in the truth, {scores.counts.n_predicted} predicted, "
        f"{scores.counts.n_split} split, {scores.counts.n_merged} mergers, {len(pairs.overlaps)} overlaps\n"
        f"ours      {ours:9.2f} s, {our_cpu:8.2f} s computing; {our_peak - before:.0f} MB more",
        flush=True,
    )
    start, cpu = time.perf_counter(), time.process_time()
    theirs = matching(truth, prediction, THRESHOLDS)
    stardist, stardist_cpu = time.perf_counter() - start, time.process_time() - cpu
    print(
        f"stardist  {stardist:9.2f} s, {stardist_cpu:8.2f} s computing; {peak_mb() - our_peak:.0f} MB more\n"
        f"ratio     {stardist / ours:9.1f}    {stardist_cpu / our_cpu:8.1f}"
    )

    print(f"{'IoU':>6}{'tp':>8}{'fp':>8}{'fn':>8}{'AP':>9}{'PQ':>9}   tp, fp, fn, AP the same; PQ apart by")
    for i, their in enumerate(theirs):
        tp, fp, fn = (int(n[i]) for n in (scores.counts.matched, scores.false, scores.missed))
        same = (tp, fp, fn, scores.ap[i]) == (their.tp, their.fp, their.fn, their.accuracy)
        apart = abs(scores.panoptic_quality[i] - their.panoptic_quality)
        print(
            f"{their.thresh:6.2f}{tp:8}{fp:8}{fn:8}{scores.ap[i]:9.5f}{scores.panoptic_quality[i]:9.5f}   "
            f"{'yes' if same else f'NO, {their.tp}, {their.fp}, {their.fn}, {their.accuracy:.5f}'}; {apart:.0e}"
        )


class InFile:
    """Labels in a file, mapped anew for each slice: what stays mapped would count as the process's memory."""

    dtype = np.dtype(np.uint32)

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.shape = (size, size)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Map the file and give some rows."""
        return np.memmap(self.path, self.dtype, "r", shape=self.shape)[rows]


def gigapixel(size: int, n_objects: int, folder: Path) -> None:
    """Compare two files."""
    paths = folder / "truth.bin", folder / "prediction.bin"
    try:
        start = time.perf_counter()
        with paths[0].open("wb") as truth, paths[1].open("wb") as prediction:
            for _, some_truth, some_prediction in strips(size, n_objects):
                truth.write(some_truth.tobytes())
                prediction.write(some_prediction.tobytes())
        print(f"written in {time.perf_counter() - start:.0f} s; {peak_mb():.0f} MB so far", flush=True)
        start, cpu = time.perf_counter(), time.process_time()
        pairs = count_pairs(InFile(paths[1], size), InFile(paths[0], size))
        scores = InstanceScores(count_instances(pairs))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
    print(
        f"{size} x {size}, {scores.counts.n_truth} objects in the truth, {scores.counts.n_predicted} predicted, "
        f"{len(pairs.overlaps)} overlaps, AP at 0.5 {scores.ap[0]:.4f}\n"
        f"{seconds:.1f} s ({cpu:.1f} s of it computing), {size * size / seconds / 1e6:.0f} Mpx/s; "
        f"{peak_mb():.0f} MB at most, {2 * size * size * 4 / 2**20:.0f} MB in the files"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigapixel", action="store_true", help="compare two files instead, without StarDist")
    parser.add_argument("--size", type=int, help="side of the images; 8192, or 32768 for the files")
    parser.add_argument("--objects", type=int, help="in the scene; 20,000, or 100,000 for the files")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are written")
    arguments = parser.parse_args()
    if arguments.gigapixel:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            gigapixel(arguments.size or 32768, arguments.objects or 100_000, Path(folder))
    else:
        beside_stardist(arguments.size or 8192, arguments.objects or 20_000, arguments.repeat)


if __name__ == "__main__":
    main()

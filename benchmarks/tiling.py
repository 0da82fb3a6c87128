"""Speed and exactness of tiling, beside MONAI's SlidingWindowInferer and the bare network.

    python benchmarks/tiling.py [--model superalloy] [--size 4096] [--repeat 3]

"bare" is the network alone on random tiles of the best size: what any tiling is measured against. Throughput is
given in pixels of the result and, for ours, in pixels that the network sees, halo included. All are run in turn,
`repeat` times, and the medians are printed, for machines are noisy. Disagreement is the share of the pixels that
get another class than when the whole image is taken at once, on a part that fits.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer

from napari_matseg.core.allocator import kept_memory
from napari_matseg.core.checkpoints import load_model
from napari_matseg.core.devices import autocast, choose_device, choose_dtype
from napari_matseg.core.normalise import grey_scale
from napari_matseg.core.predict import make_plan
from napari_matseg.core.synthetic import particles, superalloy
from napari_matseg.core.tile import computed_pixels
from napari_matseg.pipeline import segment
from napari_matseg.settings import SegmentSettings

if TYPE_CHECKING:
    from collections.abc import Callable

SIDES = (512, 1024, 2048)
MONAI_SIDE = 512


def scene(model: str, size: int) -> np.ndarray:
    """Micrograph of size x size pixels, put together from different synthetic ones."""
    rng = np.random.default_rng(0)
    draw = superalloy if model == "superalloy" else particles
    rows = [
        np.hstack([draw((1024, 1024), rng).image_yx for _ in range(-(-size // 1024))]) for _ in range(-(-size // 1024))
    ]
    return np.vstack(rows)[:size, :size]


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that the work takes."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="superalloy")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--part", type=int, default=2048, help="side of the part that the whole image is tried on")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    dtype = choose_dtype(arguments.precision, device)
    model = load_model(arguments.model, str(device))
    network = model.network.to(memory_format=torch.channels_last)
    image = scene(arguments.model, arguments.size)
    common = {"device": arguments.device, "precision": arguments.precision}
    monai = SlidingWindowInferer((MONAI_SIDE, MONAI_SIDE), overlap=0.25, mode="gaussian")

    def with_monai(pixels: np.ndarray) -> np.ndarray:
        scaled = grey_scale(pixels[None], model.card.normalise).apply(pixels[None])
        with torch.inference_mode(), autocast(device, dtype):
            batch = torch.from_numpy(scaled)[None].to(device, memory_format=torch.channels_last)
            scores = monai(batch, network)[0, : len(model.card.classes)]
            return scores.argmax(0).to(torch.uint8).cpu().numpy()

    def bare(side: int) -> Callable[[], object]:
        batch = torch.randn(1, 1, side, side, device=device).to(memory_format=torch.channels_last)

        def work() -> None:
            with torch.inference_mode(), autocast(device, dtype):
                for _ in range(max(1, (2048 // side) ** 2)):
                    network(batch)

        return work

    ours = {
        "ours, auto": SegmentSettings(**common),
        "ours, exact": SegmentSettings(tiling="exact", **common),
    }

    def kept(run: Callable[[], object]) -> Callable[[], object]:
        def work() -> None:
            with kept_memory():
                run()

        return work

    work: dict[str, tuple[int, Callable[[], object]]] = {}
    for side in SIDES:
        work[f"bare, tile {side}"] = (max(side, 2048) ** 2, bare(side))
        if device.type == "cpu":
            work[f"bare, tile {side}, memory kept"] = (max(side, 2048) ** 2, kept(bare(side)))
    for name, settings in ours.items():
        work[name] = (image.size, lambda settings=settings: segment(image, settings, loaded=model))
    work["MONAI, overlap 0.25, gaussian"] = (image.size, lambda: with_monai(image))

    for _, run in work.values():  # warm up on what is to be timed, so that nothing is first
        run()
    speeds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(arguments.repeat):
        for name, (pixels, run) in work.items():
            speeds[name].append(pixels / timed(run, device) / 1e6)
    best = max(statistics.median(speeds[name]) for name in work if name.startswith("bare"))

    part = image[: arguments.part, : arguments.part]
    whole = segment(part, SegmentSettings(tiling="whole", **common), loaded=model).classes
    found = {name: segment(part, s.model_copy(update={"tile": 1024}), loaded=model).classes for name, s in ours.items()}
    found["MONAI, overlap 0.25, gaussian"] = with_monai(part)

    print(
        f"{arguments.model}, {arguments.size} x {arguments.size}, {device}, {dtype}, {torch.get_num_threads()} threads"
    )
    print(f"{'':32}{'Mpx/s':>8}{'of bare':>9}{'seen Mpx/s':>12}{'of bare':>9}{'other class':>13}")
    for name in work:
        speed = statistics.median(speeds[name])
        line = f"{name:32}{speed:8.2f}{speed / best:9.2f}"
        if name in ours:
            plan = make_plan(model, (arguments.size, arguments.size), ours[name], device)
            seen = speed * computed_pixels(plan.tiles) / image.size
            line += f"{seen:12.2f}{seen / best:9.2f}"
        else:
            line += " " * 21
        if name in found:
            line += f"{np.mean(found[name] != whole):13.5%}"
        print(line)
    print(f"disagreement against the whole image on {part.shape[0]} x {part.shape[1]}, our tiles of 1024")


if __name__ == "__main__":
    main()

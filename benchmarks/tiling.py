"""Speed, exactness, arithmetic and memory of tiling, beside the bare network, MONAI and tiler.

    python benchmarks/tiling.py [--networks unet-resnet18 ...] [--size 4096] [--repeat 3] [--precision float32]

Each network is first trained for a minute on a synthetic micrograph, so that its answers hang on what it sees. "bare"
is the network alone in its fastest form, with batch norms folded into convolutions, channels last and freed memory
kept, on tiles that do not overlap, of whichever side is quickest: what any tiling is measured against. All are run in
turn, `repeat` times, and medians are printed, for machines are noisy. The difference is the largest one of any
probability to that of the whole image at once, and the share of the pixels that get another class. Extra FLOPs are
those beyond one pass over the whole image, as torch counts them; memory is what the process takes more while it runs.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from monai.inferers import SlidingWindowInferer
from torch.utils.flop_counter import FlopCounterMode

from napari_matseg.core.allocator import kept_memory
from napari_matseg.core.architectures import build_network, measure_reach
from napari_matseg.core.checkpoints import Model, ModelCard
from napari_matseg.core.devices import autocast, choose_device, choose_dtype
from napari_matseg.core.normalise import GreyScale
from napari_matseg.core.plan import make_plan
from napari_matseg.core.predict import predict
from napari_matseg.core.staged.layers import run_whole
from napari_matseg.core.staged.trace import trace
from napari_matseg.core.synthetic import superalloy
from napari_matseg.core.synthetic.demo import CLASSES
from napari_matseg.settings import ArchitectureSettings, SegmentSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

NETWORKS = {
    "unet-resnet18": {"name": "unet", "encoder": "resnet18"},
    "unet-resnet34": {"name": "unet", "encoder": "resnet34"},
    "deeplabv3plus-resnet18": {"name": "deeplabv3plus", "encoder": "resnet18"},
    "deeplabv3plus-resnet34": {"name": "deeplabv3plus", "encoder": "resnet34"},
    "fpn-resnet18": {"name": "fpn", "encoder": "resnet18"},
    "hrnetv2-w18": {"name": "hrnetv2"},
}
SIDES = (512, 1024, 2048)
WINDOW = 512  # of MONAI and tiler
SCALE = GreyScale((-1.0,), (1.0,), 10.0)  # pixels that are scaled already


@dataclass
class Way:
    """One way to take the image through the network."""

    run: Callable[[], object]
    pixels: int
    scores: Callable[[], Tensor] | None = None
    """Gives probabilities of the whole image, where they can be compared."""


def scene(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Micrograph of size x size pixels with its truth, put together from different synthetic ones, scaled."""
    rng = np.random.default_rng(seed)
    side = min(size, 1024)
    drawn = [[superalloy((side, side), rng) for _ in range(-(-size // side))] for _ in range(-(-size // side))]
    image = np.vstack([np.hstack([one.image_yx for one in row]) for row in drawn])[:size, :size]
    truth = np.vstack([np.hstack([one.classes_yx for one in row]) for row in drawn])[:size, :size]
    low, high = np.percentile(image, (1, 99))
    return ((image - low) * (2 / (high - low)) - 1).astype(np.float32)[None], truth


def train(network: torch.nn.Module, device: torch.device, steps: int) -> None:
    """Teach a network the synthetic classes, roughly."""
    image, truth = scene(1024, seed=1)
    pixels, classes = torch.from_numpy(image), torch.from_numpy(truth.astype(np.int64))
    rng = np.random.default_rng(2)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    network.train()
    for _ in range(steps):
        corners = rng.integers(0, 1024 - 192, (4, 2))
        batch = torch.stack([pixels[:, y : y + 192, x : x + 192] for y, x in corners]).to(device)
        wanted = torch.stack([classes[y : y + 192, x : x + 192] for y, x in corners]).to(device)
        loss = torch.nn.functional.cross_entropy(network(batch), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()


def synchronise(device: torch.device) -> None:
    """Wait for the GPU, if it is one."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that the work takes."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def peak(work: Callable[[], object], device: torch.device) -> float:
    """Gigabytes that the process, or the GPU, takes more while it works."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 1e9
    process = psutil.Process()
    before, highest, done = process.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.005):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return (highest - before) / 1e9


def ways(model: Model, image: np.ndarray, device: torch.device, dtype: torch.dtype) -> dict[str, Way]:
    """All that are compared."""
    network = model.network.to(memory_format=torch.channels_last)
    layers = trace(network, 1, model.layers.stride).to(device, dtype)  # type: ignore[union-attr]
    pixels = torch.from_numpy(image)[None]
    size = image.shape[1]
    n_classes = len(model.card.classes)
    on_cpu = partial(kept_memory, wanted=device.type == "cpu")

    def bare(side: int) -> Callable[[], object]:
        batch = torch.randn(1, 1, side, side, device=device, dtype=dtype).to(memory_format=torch.channels_last)

        def work() -> None:
            with torch.inference_mode(), on_cpu():
                for _ in range((max(SIDES) // side) ** 2):
                    run_whole(layers, batch)

        return work

    def at_once() -> Tensor:
        with torch.inference_mode(), autocast(device, dtype):
            return network(pixels.to(device, memory_format=torch.channels_last)).float().softmax(1).cpu()

    def ours(model: Model, **settings: Any) -> Callable[[bool], Tensor]:
        plan = make_plan(model, (size, size), SegmentSettings(device=str(device), **settings), device)

        def work(probabilities: bool) -> Tensor:
            found = torch.empty(1, n_classes, size, size) if probabilities else torch.empty(size, size)
            for _, piece in predict(model, image, SCALE, plan, device=device, dtype=dtype, probabilities=probabilities):
                if piece is not None:
                    kept = piece.probabilities_cyx if probabilities else piece.classes_yx
                    found[..., *piece.where] = torch.from_numpy(np.ascontiguousarray(kept))
            return found

        return work

    def monai(overlap: float) -> Callable[[], Tensor]:
        infer = SlidingWindowInferer((WINDOW, WINDOW), overlap=overlap, mode="gaussian")

        def work() -> Tensor:
            with torch.inference_mode(), autocast(device, dtype):
                batch = pixels.to(device, memory_format=torch.channels_last)
                return infer(batch, network).float().softmax(1).cpu()

        return work

    found = {f"bare, tile {side}": Way(bare(side), max(SIDES) ** 2) for side in SIDES}
    found["whole image at once"] = Way(at_once, size**2, at_once)
    staged = ours(model)
    found["ours, staged"] = Way(lambda: staged(False), size**2, lambda: staged(True))
    if model.card.reach is not None:
        whole = Model(model.network, model.card)
        whole.__dict__["layers"] = "for comparison"
        halo = ours(whole, tiling="exact")
        found["ours, halo"] = Way(lambda: halo(False), size**2, lambda: halo(True))
    for overlap in (0.25, 0.5):
        found[f"MONAI, overlap {overlap}"] = Way(monai(overlap), size**2, monai(overlap))
    try:
        from tiler import Merger, Tiler
    except ImportError:
        return found

    def with_tiler() -> Tensor:
        tiler = Tiler((1, size, size), (1, WINDOW, WINDOW), channel_dimension=0, overlap=0.25)
        merger = Merger(
            Tiler((n_classes, size, size), (n_classes, WINDOW, WINDOW), channel_dimension=0, overlap=0.25),
            window="hamming",
        )
        with torch.inference_mode(), autocast(device, dtype):
            for number, tile in tiler(image):
                batch = torch.from_numpy(tile)[None].to(device, memory_format=torch.channels_last)
                merger.add(number, network(batch)[0].float().cpu().numpy())
        return torch.from_numpy(merger.merge(unpad=True))[None].float().softmax(1)

    found["tiler, overlap 0.25"] = Way(with_tiler, size**2, with_tiler)
    return found


def compare(name: str, arguments: argparse.Namespace) -> None:
    """Print the table of one network."""
    device = choose_device(arguments.device)
    dtype = choose_dtype(arguments.precision, device) if arguments.precision != "auto" else torch.float32
    torch.manual_seed(0)
    architecture = ArchitectureSettings(**NETWORKS[name])
    network = build_network(architecture, len(CLASSES["superalloy"])).to(device)
    train(network, device, arguments.steps)
    reach = None if name.startswith(("deeplab", "fpn")) else measure_reach(network, 1)
    card = ModelCard(name=name, classes=CLASSES["superalloy"], architecture=architecture, reach=reach)
    model = Model(network, card)
    image, _ = scene(arguments.size)
    tried = ways(model, image, device, dtype)
    wanted = ("bare", "whole", "MONAI, overlap 0.25", *arguments.ways)
    tried = {way: one for way, one in tried.items() if any(words in way for words in wanted)}
    memory = {way: peak(tried[way].run, device) for way in tried}  # which warms up, too
    flops: dict[str, int] = {}
    for way, one in tried.items():
        if one.scores is not None:
            with FlopCounterMode(display=False) as counter:
                one.run()
            flops[way] = counter.get_total_flops()
    speeds: dict[str, list[float]] = {way: [] for way in tried}
    for _ in range(arguments.repeat):
        for way, one in tried.items():
            speeds[way].append(one.pixels / timed(one.run, device) / 1e6)
    median = {way: statistics.median(values) for way, values in speeds.items()}
    best = max(median[way] for way in tried if way.startswith("bare"))
    dtype, rounded = torch.float32, dtype  # the truth of the comparison is the whole image in full precision
    expected = ways(model, image, device, dtype)["whole image at once"].scores()  # type: ignore[misc]
    reached = "the whole image" if reach is None else f"{reach} px"
    shape = f"{arguments.size} x {arguments.size}"
    print(f"\n{name}, {shape}, {device}, {rounded}, {torch.get_num_threads()} threads, reach {reached}")
    print(f"{'':22}{'Mpx/s':>8}{'of bare':>9}{'x MONAI':>9}{'FLOPs':>10}{'memory':>10}{'probability':>13}{'class':>11}")
    for way, one in tried.items():
        line = f"{way:22}{median[way]:8.2f}{median[way] / best:9.2f}{median[way] / median['MONAI, overlap 0.25']:9.2f}"
        if one.scores is not None:
            found = one.scores()
            other = (found.argmax(1) != expected.argmax(1)).float().mean().item()
            line += f"{flops[way] / flops['whole image at once'] - 1:+10.1%}{memory[way]:7.2f} GB"
            line += f"{(found - expected).abs().max().item():13.1e}{other:11.5%}"
        print(line, flush=True)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS)[:4], choices=list(NETWORKS))
    parser.add_argument("--ways", nargs="*", default=["ours", "MONAI", "tiler"], help="beside bare, whole and MONAI")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="of training")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="float32 (auto) or bfloat16")
    for name in (arguments := parser.parse_args()).networks:
        compare(name, arguments)


if __name__ == "__main__":
    main()

"""Many points on one embedded image: a loop over SamPredictor, its batches, micro-sam where installed, and ours.

    python benchmarks/prompting.py [--sizes 1024 4096] [--points 1000] [--measured 32] [--threads 2]
                                   [--model NAME|FILE] [--device cpu] [--encoder vit_b]

Each way makes the label image from its masks; the image is embedded before. A part of the points is measured, all ways
in turn, `repeat` times; the time for all points is that for the part, multiplied. Memory is the peak of a process of
its own above what it held before its first point, given for the part and for twice as many points. Agreement is the
smallest and the mean IoU between a way's masks and those of the loop.

Without --model the weights are random (the mask decoder is the same in ViT-B, L and H), and so is the embedding. Such
masks are no objects; so that there is something to upscale and to paint, a disc round each point is added to the
low-resolution scores of all ways alike.

With --encoder the image encoder of that layout, with random weights, is compared with ours instead.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch

from napari_matseg.core.allocator import kept_memory
from napari_matseg.core.architectures import load_triton_apart
from napari_matseg.core.sam.decoder import FastDecoder, PromptBatch, choose, upscale
from napari_matseg.core.sam.encoder import FastEncoder
from napari_matseg.core.sam.networks import LAYOUTS, build_sam
from napari_matseg.core.sam.weights import load_promptable
from napari_matseg.core.synthetic import particles

load_triton_apart()
from segment_anything import SamPredictor  # noqa: E402 - triton comes first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from segment_anything.modeling import Sam

    from napari_matseg.core.sam.decoder import PreparedImage

BATCH = 16
RADIUS = 6.0  # cells of the low-resolution scores: objects of 48 px in the model's frame
MASKS = dict[int, np.ndarray]


class Embedded(torch.nn.Module):
    """Image encoder that knows its answer."""

    def __init__(self, embedding: torch.Tensor, img_size: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.img_size = img_size

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Give the embedding, whatever the image."""
        return self.embedding


@dataclass
class Scene:
    """A model with an embedded image of size x size pixels, and points (x, y) on it."""

    sam: Sam
    predictor: SamPredictor
    points_xy: np.ndarray
    size: int
    discs: bool

    @cached_property
    def prepared(self) -> dict[torch.dtype, tuple[FastDecoder, PreparedImage]]:
        """Our decoders with the image, which come with it as SamPredictor does."""
        decoders = {dtype: FastDecoder(self.sam, dtype) for dtype in (torch.float32, torch.bfloat16)}
        return {dtype: (decoder, decoder.prepare(self.predictor.features)) for dtype, decoder in decoders.items()}

    @property
    def frame_xy(self) -> torch.Tensor:
        """Points in the model's frame, of shape (points, 1, 2)."""
        scaled = self.predictor.transform.apply_coords(self.points_xy, (self.size, self.size))
        return torch.as_tensor(scaled, dtype=torch.float32, device=self.sam.device)[:, None]

    def add_discs(self, scores: torch.Tensor, frame_xy: torch.Tensor) -> None:
        """Put objects into low-resolution scores of shape (points, outputs, rows, columns)."""
        if not self.discs:
            return
        cells = frame_xy[:, 0] * scores.shape[-1] / self.sam.image_encoder.img_size
        grid = torch.arange(scores.shape[-1], device=scores.device)
        squared = (grid - cells[:, 0, None])[:, None, :] ** 2 + (grid - cells[:, 1, None])[:, :, None] ** 2
        scores += (RADIUS - squared.sqrt()).clamp(-8, 8)[:, None]


def make_scene(arguments: argparse.Namespace, size: int) -> Scene:
    """Embed an image and choose points on it."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    drawn = particles((1024, 1024), rng)
    if arguments.model is None:
        sam = build_sam(LAYOUTS["vit_b"].model_copy(update={"options": LAYOUTS["vit_b"].options | {"depth": 0}}))
        sam = sam.eval().requires_grad_(False).to(arguments.device)
        embedding = 0.3 * torch.randn(1, 256, 64, 64, device=sam.device)
        points = rng.uniform(0, size, (arguments.measured, 2))
    else:
        sam = load_promptable(arguments.model, arguments.device).sam
        image = torch.from_numpy(drawn.image_yx).float()
        pixels = 255 * (image - image.min()) / (image.max() - image.min())
        embedding = FastEncoder(sam).encode(pixels.expand(3, -1, -1))
        inside = np.argwhere(drawn.truth_yx > 0)
        points = rng.choice(inside, arguments.measured)[:, ::-1] * (size / 1024)
    sam.image_encoder = Embedded(embedding, sam.image_encoder.img_size)
    predictor = SamPredictor(sam)
    predictor.set_image(np.zeros((size, size, 3), np.uint8))
    scene = Scene(sam, predictor, points, size, arguments.model is None)
    asked: list[torch.Tensor] = []  # by SamPredictor, which alone names the arguments
    sam.prompt_encoder.register_forward_pre_hook(
        lambda _, args, kwargs: asked.append(kwargs["points"][0]) if kwargs else None, with_kwargs=True
    )
    sam.mask_decoder.register_forward_hook(lambda _module, _inputs, outputs: scene.add_discs(outputs[0], asked.pop()))
    return scene


def loop(scene: Scene, labels: np.ndarray, masks: MASKS | None = None) -> None:
    """Ask SamPredictor one point after another."""
    for k, point in enumerate(scene.points_xy):
        found, iou, _ = scene.predictor.predict(point[None], np.ones(1))
        best = found[iou.argmax()]
        labels[best] = k + 1
        if masks is not None:
            masks[k] = best


def batches(scene: Scene, labels: np.ndarray, masks: MASKS | None = None) -> None:
    """Ask SamPredictor several points at a time."""
    points = scene.frame_xy
    for start in range(0, len(points), BATCH):
        part = points[start : start + BATCH]
        found, iou, _ = scene.predictor.predict_torch(part, torch.ones(part.shape[:2], device=part.device))
        for k, best in enumerate(iou.argmax(1).tolist(), start):
            mask = found[k - start, best].cpu().numpy()
            labels[mask] = k + 1
            if masks is not None:
                masks[k] = mask


def micro_sam(scene: Scene, labels: np.ndarray, masks: MASKS | None = None) -> None:
    """Ask micro-sam, which joins the masks itself."""
    from micro_sam.inference import batched_inference

    image = np.zeros((scene.size, scene.size), np.uint8)
    polarity = np.ones((len(scene.points_xy), 1))
    found = batched_inference(
        scene.predictor, image, BATCH, points=scene.points_xy[:, None], point_labels=polarity, multimasking=True
    )
    labels[:] = found


def ours(dtype: torch.dtype) -> Callable[..., None]:
    """Ask our decoder."""

    def run(scene: Scene, labels: np.ndarray, masks: MASKS | None = None) -> None:
        decoder, image = scene.prepared[dtype]
        frame, hw = scene.predictor.input_size, (scene.size, scene.size)
        points = scene.frame_xy
        painted = np.zeros(hw, np.float32)
        with kept_memory():
            for start in range(0, len(points), decoder.chunk):
                part = points[start : start + decoder.chunk]
                decoded = decoder.decode(
                    image, PromptBatch(part, torch.ones(part.shape[:2], device=part.device)), frame
                )
                scene.add_discs(decoded.scores, part)
                for k, best in enumerate(choose(decoded).tolist(), start):
                    crop, top, left = upscale(
                        decoded.scores[k - start, best], frame, hw, scene.sam.image_encoder.img_size
                    )
                    scores = crop.cpu().numpy()
                    part_yx = slice(top, top + scores.shape[0]), slice(left, left + scores.shape[1])
                    higher = scores > painted[part_yx]
                    painted[part_yx][higher] = scores[higher]
                    labels[part_yx][higher] = k + 1
                    if masks is not None:
                        masks[k] = np.zeros(hw, bool)
                        masks[k][part_yx] = scores > 0

    return run


WAYS: dict[str, Callable[..., None]] = {
    "SamPredictor.predict, loop": loop,
    f"predict_torch, batches of {BATCH}": batches,
    "micro-sam": micro_sam,
    "ours, float32": ours(torch.float32),
    "ours, bfloat16": ours(torch.bfloat16),
}


def present_ways() -> Iterator[str]:
    """Ways that are installed."""
    for name in WAYS:
        if name != "micro-sam" or importlib.util.find_spec("micro_sam"):
            yield name


def timed(work: Callable[[], object], device: str) -> float:
    """Seconds that the work takes."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure_peak(arguments: argparse.Namespace) -> float:
    """MB that one way needs in this process at most, beyond what the process held before; Linux alone tells."""
    scene = make_scene(arguments, arguments.sizes[0])
    assert scene.prepared
    labels = np.zeros((scene.size, scene.size), np.uint32)
    labels[:] = 1
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    WAYS[arguments.peak_of](scene, labels)
    # Not getrusage, which counts the process that started this one.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return (int(peak) * 1024 - before) / 1e6


def peak_of(name: str, size: int, measured: int, arguments: argparse.Namespace) -> float:
    """Peak of a way in a process of its own."""
    command = [sys.executable, __file__, "--peak-of", name, "--sizes", str(size), "--measured", str(measured)]
    command += ["--threads", str(arguments.threads), "--device", arguments.device]
    command += [] if arguments.model is None else ["--model", arguments.model]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)  # noqa: S603 - ourselves
    return float(json.loads(answer.stdout.splitlines()[-1]))


def overlap(found: np.ndarray, expected: np.ndarray) -> float:
    """IoU of two masks; 1 if both are empty."""
    either = np.count_nonzero(found | expected)
    return np.count_nonzero(found & expected) / either if either else 1.0


def compare_ways(arguments: argparse.Namespace, size: int) -> None:
    """Print the table of one image size."""
    scene = make_scene(arguments, size)
    names = list(present_ways())
    labels = np.zeros((size, size), np.uint32)
    masks: dict[str, MASKS] = {name: {} for name in names}
    for name in names:  # warms up as well
        WAYS[name](scene, labels, masks[name])
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(arguments.repeat):
        for name in names:
            seconds[name].append(timed(lambda name=name: WAYS[name](scene, labels), arguments.device))
    kind = arguments.model or "random weights, discs"
    count = len(scene.points_xy)
    print(f"{size} x {size}, {kind}, {arguments.device}, {torch.get_num_threads()} threads; {count} points measured,")
    print(f"seconds scaled to {arguments.points}")
    print(f"{'':30}{'ms/point':>9}{'of loop':>9}{'s for all':>11}{'MB':>7}{'MB, x 2':>9}{'least IoU':>11}{'mean':>8}")
    slowest = statistics.median(seconds[names[0]])
    for name in names:
        median = statistics.median(seconds[name])
        line = f"{name:30}{1000 * median / count:9.1f}{slowest / median:9.2f}{median / count * arguments.points:11.1f}"
        if sys.platform == "linux" and not arguments.no_memory:
            line += f"{peak_of(name, size, count, arguments):7.0f}{peak_of(name, size, 2 * count, arguments):9.0f}"
        else:
            line += " " * 16
        agreement = [overlap(mask, masks[names[0]][k]) for k, mask in masks[name].items()]
        line += f"{min(agreement):11.5f}{statistics.fmean(agreement):8.5f}" if agreement else ""
        print(line, flush=True)


def compare_encoders(arguments: argparse.Namespace) -> None:
    """Print the table of one image encoder."""
    torch.manual_seed(0)
    sam = build_sam(LAYOUTS[arguments.encoder]).eval().requires_grad_(False).to(arguments.device)
    for name, values in sam.image_encoder.named_parameters():
        if "pos" in name:  # as made they are 0
            values.normal_(0, 0.1)
    image = 255 * torch.rand(3, 1024, 1024, device=sam.device)
    exact, half = FastEncoder(sam), FastEncoder(sam, torch.bfloat16)
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "segment-anything, float32": lambda: sam.image_encoder(sam.preprocess(image)[None]),
        "ours, float32": lambda: exact.encode(image),
        "ours, bfloat16": lambda: half.encode(image),
    }
    with torch.inference_mode():
        found = {name: way() for name, way in ways.items()}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.repeat):
            for name, way in ways.items():
                seconds[name].append(timed(way, arguments.device))
    print(f"{arguments.encoder} at 1024 x 1024, {arguments.device}, {torch.get_num_threads()} threads")
    print(f"{'':30}{'s':>8}{'of theirs':>11}{'relative error':>16}")
    first, *_ = ways
    for name in ways:
        median = statistics.median(seconds[name])
        error = float((found[name] - found[first]).norm() / found[first].norm())
        print(f"{name:30}{median:8.3f}{statistics.median(seconds[first]) / median:11.2f}{error:16.1e}")


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[1024, 4096])
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--measured", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", help="name or file of a promptable model")
    parser.add_argument("--encoder", choices=sorted(set(LAYOUTS) - {"vit_t"}), help="compare image encoders instead")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks of memory")
    parser.add_argument("--peak-of", choices=list(WAYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak_of:
        print(json.dumps(measure_peak(arguments)))
    elif arguments.encoder:
        compare_encoders(arguments)
    else:
        for size in arguments.sizes:
            compare_ways(arguments, size)


if __name__ == "__main__":
    main()

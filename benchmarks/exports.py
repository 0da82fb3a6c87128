"""Write a network of each kind as ONNX, and compare ONNX Runtime with torch: probabilities, and time on the CPU.

    python benchmarks/exports.py                          each network with random weights, its encoder the default
    python benchmarks/exports.py unet segformer           only these
    python benchmarks/exports.py --model superalloy IMAGE a model on a micrograph: labels that differ, and time

Needs the extra `exchange`. The time is that of the process, so other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from napari_matseg import export_onnx, load_model, read, segment
from napari_matseg.core.architectures import build_network, measure_reach
from napari_matseg.core.checkpoints import Model, ModelCard
from napari_matseg.settings import UPSAMPLINGS, ArchitectureSettings, ClassSpec

SIDE = 256
TIMES = 3


def main() -> None:
    """Compare networks, or a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="networks, or with --model one micrograph")
    parser.add_argument("--model", help="model to compare on a micrograph")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        if arguments.model:
            compare_model(arguments.model, Path(arguments.networks[0]), path)
            return
        print(f"{'network':15} {'export s':>9} {'MB':>7} {'difference':>11} {'torch s':>8} {'onnx s':>7}")
        for name in arguments.networks or UPSAMPLINGS:
            compare_network(name, path)


def compare_network(name: str, path: Path) -> None:
    """Write a network with random weights to `path`, and print how it does beside torch."""
    torch.manual_seed(0)
    classes = tuple(ClassSpec(name=one, colour=(0, 0, 0)) for one in ("matrix", "phase"))
    card = ModelCard(name=name, classes=classes, architecture=ArchitectureSettings(name=name))
    network = build_network(card.architecture, 2).eval().requires_grad_(False)
    model = Model(network, card.model_copy(update={"reach": measure_reach(network, 1)}))
    started = time.process_time()
    export_onnx(model, path)
    seconds = time.process_time() - started
    image = torch.randn(1, 1, SIDE, SIDE)
    both = [timed(one, image) for one in (model, load_model(path))]
    worst = float((both[0][0] - both[1][0]).abs().max())
    size = path.stat().st_size / 1e6
    print(f"{name:15} {seconds:9.1f} {size:7.1f} {worst:11.1e} {both[0][1]:8.2f} {both[1][1]:7.2f}", flush=True)


def timed(model: Model, image: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Probabilities, and the least time of some runs."""
    seconds = []
    for _ in range(TIMES):
        started = time.process_time()
        with torch.inference_mode():
            found = model.network(image).softmax(dim=1)
        seconds.append(time.process_time() - started)
    return found, min(seconds)


def compare_model(name: str, image: Path, path: Path) -> None:
    """Write a model to `path`, and print how it segments an image beside torch."""
    model, micrograph = load_model(name), read(image)
    export_onnx(model, path)
    found = []
    for engine, one in (("torch", model), ("ONNX Runtime", load_model(path))):
        segment(micrograph, loaded=one, device="cpu")  # the first run sets things up
        started = time.process_time()
        result = segment(micrograph, loaded=one, device="cpu")
        plan = result.record["planes"][0]["tiling"]
        print(f"{engine}: {time.process_time() - started:.2f} s, {plan['strategy']}, {plan['tiles']} tiles", flush=True)
        found.append(np.asarray(result.classes))
    print(f"{np.count_nonzero(found[0] != found[1])} of {found[0].size} pixels differ")


if __name__ == "__main__":
    main()

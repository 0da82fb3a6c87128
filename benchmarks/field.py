"""Trainings from scratch on the field's public sets, beside the figures that are published for them.

    python benchmarks/field.py DATA [--sets super2 ebc] [--networks unet] [--out FOLDER] [--threads 1] [--test]

DATA holds superalloy/ and ebc/ as docs/models.md describes. Each training learns from the training images of a set
alone, keeps the weights that do best on its validation images, and prints IoU on those; with --test on the test images,
too, which are for the end: nothing may be chosen by them. One that was interrupted goes on, and one that is done is not
made again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from napari_matseg.core.checkpoints import SUFFIX, load_model
from napari_matseg.core.evaluate import evaluate
from napari_matseg.core.metrics import Counts, Scores
from napari_matseg.core.train import train_steps
from napari_matseg.pipeline import segment
from napari_matseg.settings import TrainSettings

SETS = ("super2", "super3", "ebc", "super1")
NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {"encoder": "tu-resnet18d", "encoder_depth": 4, "options": {"decoder_channels": [128, 64, 32, 16]}},
    "deeplabv3plus": {
        "encoder": "tu-resnet18d",
        "encoder_depth": 4,
        "atrous_rates": [3, 6, 9],
        "options": {"decoder_channels": 128},
    },
    "fpn": {"encoder": "tu-resnet18d"},
    "hrnetv2": {},
    "segformer": {},
    "vit_adapter": {},
    "fcn": {"encoder": "tu-resnet18d"},
    "deeplabv3": {"encoder": "tu-resnet18d", "atrous_rates": [3, 6, 9], "options": {"decoder_channels": 128}},
}
SLOW = {"segformer": 5e-4, "vit_adapter": 5e-4}
"""Learning rates of networks that do not bear the usual one."""
COMMON: dict[str, Any] = {
    "batch": 8,
    "learning_rate": 2e-3,
    "average": 0.99,
    "warmup_steps": 50,
    "evaluate_every": 100,
    "measure_halo": False,
    "precision": "bfloat16",
    "device": "cpu",
}
SUPERALLOY: dict[str, Any] = {
    "classes": [
        {"name": "matrix", "colour": [128, 128, 128]},
        {"name": "secondary precipitate", "colour": [0, 0, 255]},
        {"name": "tertiary precipitate", "colour": [255, 0, 0]},
    ],
    "losses": [{"name": "cross_entropy"}, {"name": "jaccard"}],
    "augment": {"scale": [0.6, 1.7], "invert": 0.15},
    "crop": 192,
    "synthetic": 0.15,
}
EBC: dict[str, Any] = {
    "classes": [
        {"name": "background", "colour": [0, 0, 0]},
        {"name": "oxide", "colour": [0, 114, 178]},
        {"name": "crack", "colour": [230, 159, 0]},
    ],
    # Of the pixels, 1 in 400 is of a crack.
    "losses": [{"name": "cross_entropy", "class_weights": [1, 1, 5]}, {"name": "tversky"}],
    # The layers lie level in all of them.
    "augment": {
        "scale": [0.8, 1.25],
        "rotate": "mirror",
        "invert": 0.0,
        "brightness": 0.25,
        "contrast": [0.75, 1.35],
        "gamma": [0.75, 1.35],
    },
    "crop": 384,
    "batch": 6,
}
STEPS = {"super1": 1200, "super2": 800, "super3": 500, "ebc": 1600}
PUBLISHED = {
    "super1": "U-Net++, ResNet-50 trained on MicroNet first (Stuckner et al. 2022): test 0.942, validation 0.953",
}


def settings_of(data: Path, chosen: str, network: str) -> tuple[TrainSettings, tuple[str, ...]]:
    """Give the settings of a training, and the names of its test images."""
    folder, truth = ("ebc", "labels") if chosen == "ebc" else ("superalloy", "masks")
    split = json.loads((data / folder / "splits.json").read_text())
    split = split if chosen == "ebc" else split[chosen]
    architecture: dict[str, Any] = {"name": network} | NETWORKS[network]
    own = EBC if chosen == "ebc" else SUPERALLOY
    if chosen == "ebc":
        architecture |= {"fold": 2}  # it sees twice as far, which tells the oxide from what lies above and below
        if network == "unet":
            architecture |= {"encoder_depth": 5, "options": {"decoder_channels": [128, 96, 64, 32, 16]}}
    if network in SLOW:
        own = own | {"learning_rate": SLOW[network]}
    fields = {
        "name": f"{chosen}-{network}",
        "steps": STEPS[chosen],
        "architecture": architecture,
        "data": {
            "images": f"{folder}/images",
            "truth": f"{folder}/{truth}",
            "truth_suffix": "" if chosen == "ebc" else "_mask",
            "train": split["train"],
            "validation": split["val"],
        },
    }
    return TrainSettings.model_validate(COMMON | own | fields), tuple(split.get("test", ()))


def train(settings: TrainSettings, data: Path, out: Path) -> float:
    """Train, or go on; give the minutes of computing that it took in all."""
    clock = out / f"{settings.name}.seconds"
    before = json.loads(clock.read_text()) if clock.is_file() else 0.0
    if (out / f"{settings.name}{SUFFIX}").is_file():
        return before / 60
    before, start = before if (out / f"{settings.name}.resume").is_file() else 0.0, time.process_time()
    for step in train_steps(settings, data, out):
        if step.accuracy is not None:
            seconds = before + time.process_time() - start
            clock.write_text(json.dumps(seconds))
            classes = " ".join(f"{value or 0:.3f}" for value in step.accuracy["iou"].values())
            print(
                f"  {step.done:5} {seconds / 60:5.1f} min  loss {step.loss:.3f}  {step.note}  [{classes}]", flush=True
            )
    return json.loads(clock.read_text()) / 60


def measure(path: Path, settings: TrainSettings, names: tuple[str, ...], data: Path) -> dict[str, Any]:
    """IoU on whole images, by the way that users go."""
    model = load_model(path)
    folders, total = settings.data, Counts.zero(len(settings.classes))
    for name in names:
        truth = data / folders.truth / f"{Path(name).stem}{folders.truth_suffix}.tif"
        found = segment(data / folders.images / name, loaded=model, device="cpu")
        total = total + evaluate(found.classes, truth, settings.classes)[0].counts
    return Scores(total).to_dict([spec.name for spec in settings.classes])


def main() -> None:
    """Train what is not trained yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["unet", "deeplabv3plus"])
    parser.add_argument("--out", type=Path, default=Path("field"), help="folder for the models (default: field)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--test", action="store_true", help="also on the test images: once, at the end")
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(arguments.threads)
    rows = []
    for network in arguments.networks:
        for chosen in arguments.sets:
            settings, test = settings_of(arguments.data, chosen, network)
            print(f"{settings.name}: {settings.steps} steps", flush=True)
            minutes = train(settings, arguments.data, arguments.out)
            path = arguments.out / f"{settings.name}{SUFFIX}"
            splits = {"validation": settings.data.validation} | ({"test": test} if arguments.test and test else {})
            for split, names in splits.items():
                found = measure(path, settings, tuple(map(str, names)), arguments.data)
                classes = ", ".join(f"{name} {np.nan if v is None else v:.3f}" for name, v in found["iou"].items())
                cells = (chosen, network, split, f"{found['pooled_iou']:.4f}", classes, f"{minutes:.0f}")
                rows.append(f"| {' | '.join(cells)} |")
    print(
        "\n| set | network | images | pooled IoU | IoU of each class | minutes |", "| --- " * 6 + "|", *rows, sep="\n"
    )
    for chosen in arguments.sets:
        print(f"{chosen}, published: {PUBLISHED.get(chosen, 'no figure known')}")


if __name__ == "__main__":
    main()

"""How well a network does while it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.architectures import stride_of
from napari_matseg.core.devices import autocast, choose_dtype
from napari_matseg.core.metrics import Counts, Scores, count
from napari_matseg.core.tile import plan_tiles
from napari_matseg.core.truth import IGNORE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from napari_matseg.core.dataset import Example
    from napari_matseg.settings import TrainSettings

LARGEST = 2048  # px; images with a longer side are looked at in parts
CONTEXT = 256  # px around such a part
SHOWN = 256  # px, side of what is shown of a micrograph


@dataclass(frozen=True, eq=False)
class Look:
    """What a network makes of a part of a micrograph.

    Attributes
    ----------
    name : str
        Of the micrograph.
    image_yx : array, shape (height, width), float32
        Normalised grey: -1.5 is black, 1.5 white.
    truth_yx, predicted_yx : array, shape (height, width), uint8
        Class ids; the truth is 255 where it does not count.
    """

    name: str
    image_yx: np.ndarray
    truth_yx: np.ndarray
    predicted_yx: np.ndarray


def evaluate_examples(
    network: nn.Module, examples: Sequence[Example], settings: TrainSettings, device: torch.device
) -> dict[str, Any]:
    """Segment each example whole and compare it with its truth.

    Returns
    -------
    dict
        As `Scores.to_dict`, pooled over the examples, and `iou_per_image`: the mean over images for each class.
    """
    return score_counts([_count(network, example, settings, device) for example in examples], settings)


def try_on(
    network: nn.Module, examples: Sequence[Example], settings: TrainSettings, device: torch.device
) -> dict[str, Any]:
    """Try a finished network on images that had no say in it.

    Returns
    -------
    dict
        As of `evaluate_examples`, and `images`: the confusion of each (rows are the truth), by its name.
    """
    counts = {example.name: _count(network, example, settings, device) for example in examples}
    images = {name: one.confusion.tolist() for name, one in counts.items()}
    return score_counts(list(counts.values()), settings) | {"images": images}


def score_counts(counts: Sequence[Counts], settings: TrainSettings) -> dict[str, Any]:
    """Give the figures of `evaluate_examples` from the counts of each image."""
    names = [spec.name for spec in settings.classes]
    single = np.transpose([Scores(one).iou for one in counts])
    per_image = {name: _mean(values) for name, values in zip(names, single, strict=True)}
    return Scores(sum(counts, Counts.zero(len(names)))).to_dict(names) | {"iou_per_image": per_image}


def _count(network: nn.Module, example: Example, settings: TrainSettings, device: torch.device) -> Counts:
    """Segment an example whole, in parts if it is large."""
    image_cyx = example.scale(settings.normalise).apply(example.image_cyx)
    height, width = example.classes_yx.shape
    predicted_yx = np.zeros((height, width), dtype=np.uint8)
    for tile in plan_tiles((height, width), LARGEST, CONTEXT, stride_of(network)):
        y, x = tile.window
        predicted_yx[tile.keep] = _classes(network, image_cyx[:, y, x], settings, device)[tile.inner]
    return count(predicted_yx, example.classes_yx, len(settings.classes), ignore=IGNORE)


def look_at(network: nn.Module, example: Example, settings: TrainSettings, device: torch.device) -> Look:
    """Segment a part of an example in which there are labels."""
    labelled = np.argwhere(example.classes_yx != IGNORE)
    centre = np.median(labelled, axis=0) if labelled.size else np.array(example.classes_yx.shape) / 2
    centre = labelled[np.abs(labelled - centre).sum(1).argmin()] if labelled.size else centre
    first = [
        max(0, min(int(at) - SHOWN // 2, length - SHOWN))
        for at, length in zip(centre, example.classes_yx.shape, strict=True)
    ]
    y, x = (slice(start, start + SHOWN) for start in first)
    image_cyx = example.scale(settings.normalise).apply(example.image_cyx[:, y, x])
    return Look(
        example.name, image_cyx.mean(axis=0), example.classes_yx[y, x], _classes(network, image_cyx, settings, device)
    )


def learning_dtype(settings: TrainSettings, device: torch.device) -> torch.dtype:
    """Choose what the network computes in: never float16, in which small gradients vanish."""
    import torch

    dtype = choose_dtype(settings.precision, device)
    return torch.float32 if dtype == torch.float16 else dtype


def _classes(network: nn.Module, image_cyx: np.ndarray, settings: TrainSettings, device: torch.device) -> np.ndarray:
    """Class of each pixel; the image is mirrored to multiples of the stride."""
    import torch

    stride = stride_of(network)
    height, width = image_cyx.shape[1:]
    padded = np.pad(image_cyx, ((0, 0), (0, -height % stride), (0, -width % stride)), mode="reflect")
    network.eval()
    with torch.inference_mode(), autocast(device, learning_dtype(settings, device)):
        scores = network(torch.from_numpy(padded)[None].to(device))[0, : len(settings.classes), :height, :width]
    classes_yx: np.ndarray = scores.argmax(dim=0).to(torch.uint8).cpu().numpy()
    return classes_yx


def _mean(values: np.ndarray) -> float | None:
    """Mean of the values that are numbers; None where there are none."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else None

"""How narrow a halo may be before tiling shows in the result, measured on micrographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.architectures import stride_of
from napari_matseg.core.normalise import grey_scale
from napari_matseg.core.plan import Plan
from napari_matseg.core.predict import predict
from napari_matseg.core.tile import ceil_to, plan_blend, plan_tiles
from napari_matseg.settings import SegmentSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from napari_matseg.core.checkpoints import Model

TOLERANCE = 1e-6  # share of pixels that may change class here: a hundredth of what is promised, for micrographs differ
NOISE = 0.3  # added to the micrographs, in units of their grey scale, for noise makes a network look farther
KEPT = 256  # px kept of each tile while measuring; larger tiles, which are usual, have fewer seams


def measure_halo(model: Model, images: Sequence[np.ndarray], device: torch.device) -> tuple[int | None, float]:
    """Find the narrowest halo at which at most `TOLERANCE` of the pixels change class.

    Parameters
    ----------
    model : Model
        On `device`.
    images : sequence of array, shape (channels, height, width)
        Micrographs of the kind that the model is for; each is tried as it is, and inverted with noise.
    device : torch.device

    Returns
    -------
    halo : int or None
        In pixels, a multiple of the network's stride; None if the network sees the whole image.
    disagreement : float
        Share of the pixels that change class against the whole image: at that halo, or when blended. 0 where the
        halo is as wide as the reach, which needs no measuring.
    """
    stride = stride_of(model.network)
    step = ceil_to(16, stride)
    widest = ceil_to(model.card.reach or KEPT, step)
    side = 2 * (KEPT + widest)  # so that there are seams even with the widest halo
    large = [v for image in images for v in (_mirrored(image, side), _harder(_mirrored(image, side), model))]
    whole = [_classes(model, image, _plan(image, 1 << 20, 0, stride), device) for image in large]

    def disagreement(plans: list[Plan]) -> float:
        changed = sum(
            int((_classes(model, image, plan, device) != expected).sum())
            for image, plan, expected in zip(large, plans, whole, strict=True)
        )
        return changed / sum(expected.size for expected in whole)

    if model.card.reach is None:
        overlap = SegmentSettings().overlap
        tiles = [plan_blend((image.shape[1], image.shape[2]), KEPT, overlap, stride) for image in large]
        return None, disagreement([Plan("blend", planned, 1, KEPT, 0, stride) for planned in tiles])
    # Disagreement falls with the halo, so the narrowest that will do is found by halving what is in question.
    too_narrow, enough, found = 0, widest, 0.0
    while enough - too_narrow > step:
        halo = ceil_to((too_narrow + enough) // 2, step)
        changed = disagreement([_plan(image, KEPT + 2 * halo, halo, stride) for image in large])
        if changed <= TOLERANCE:
            enough, found = halo, changed
        else:
            too_narrow = halo
    return enough, found


def _plan(image_cyx: np.ndarray, tile: int, halo: int, stride: int) -> Plan:
    tiles = plan_tiles((image_cyx.shape[1], image_cyx.shape[2]), tile, halo, stride)
    return Plan("halo", tiles, 1, tile, halo, stride)


def _mirrored(image_cyx: np.ndarray, side: int) -> np.ndarray:
    """Make a micrograph at least `side` px high and wide by mirroring it."""
    missing = [max(0, side - length) for length in image_cyx.shape[1:]]
    return np.pad(image_cyx, ((0, 0), *((0, n) for n in missing)), mode="reflect")


def _harder(image_cyx: np.ndarray, model: Model) -> np.ndarray:
    """Invert a micrograph and add noise."""
    scaled = grey_scale(image_cyx, model.card.normalise).apply(image_cyx)
    noise = np.random.default_rng(0).standard_normal(scaled.shape, dtype=np.float32)
    harder: np.ndarray = NOISE * noise - scaled
    return harder


def _classes(model: Model, image_cyx: np.ndarray, plan: Plan, device: torch.device) -> np.ndarray:
    import torch

    scale = grey_scale(image_cyx, model.card.normalise)
    classes = np.zeros(image_cyx.shape[1:], dtype=np.uint8)
    for _, piece in predict(model, image_cyx, scale, plan, device=device, dtype=torch.float32):
        if piece is not None:
            classes[piece.where] = piece.classes_yx
    return classes

"""One plane through a network, with as much memory as there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.normalise import grey_scale
from napari_matseg.core.plan import Plan, make_plan
from napari_matseg.core.predict import TooLargeError, predict
from napari_matseg.core.progress import Arrived, Progress
from napari_matseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch

    from napari_matseg.core.checkpoints import Model
    from napari_matseg.core.normalise import GreyScale
    from napari_matseg.settings import SegmentSettings


@dataclass(frozen=True, eq=False)
class Maps:
    """What a network makes of one plane.

    Attributes
    ----------
    classes_yx : array, shape (height, width), uint8
    probabilities_cyx : array, shape (classes, height, width), float32, or None
    depth_yx : array, shape (height, width), float32, or None
        From 0 at an object's edge to 1.
    record : dict
        How it was tiled and scaled, in plain JSON types.
    """

    classes_yx: np.ndarray
    probabilities_cyx: np.ndarray | None
    depth_yx: np.ndarray | None
    record: dict[str, Any]


def make_maps(
    image_cyx: np.ndarray,
    name: str,
    model: Model,
    settings: SegmentSettings,
    device: torch.device,
    dtype: torch.dtype,
) -> Generator[Progress, None, Maps]:
    """Take a plane through a network; where memory runs out, again with tiles of half the side.

    Parameters
    ----------
    image_cyx : array, shape (channels, height, width)
        Grey values as read, without the data bar.
    name : str
        Of the micrograph, for messages.
    model : Model
        On `device`.
    settings : SegmentSettings
        Their `tiling`, `tile`, `batch` and `overlap`; `probabilities` and `instances` say which maps are kept.
    device : torch.device
    dtype : torch.dtype
        What the network computes in.

    Yields
    ------
    Progress
        After each tile, as `Arrived` where it made a part of the plane final; closing the generator cancels.

    Returns
    -------
    Maps
        `probabilities_cyx` and, where the model gives it, `depth_yx` only as the settings ask.

    Raises
    ------
    InputError
        If no tile is small enough for the memory.
    """
    scale = grey_scale(image_cyx, model.card.normalise)
    shape = (int(image_cyx.shape[1]), int(image_cyx.shape[2]))
    plan = make_plan(model, shape, settings, device)
    while True:
        try:
            found = yield from _tiles(image_cyx, model, settings, device, dtype, plan, scale)
        except (TooLargeError, MemoryError):
            pass  # the next plan is made outside, where nothing holds the memory any more
        else:
            return found
        smaller = make_plan(model, shape, settings, device, largest=plan.tile // 2)
        if smaller.tile >= plan.tile:
            raise InputError(
                f"{name}: memory ran out at tiles of {plan.tile} px, and none smaller will do; close other programs, "
                "or choose device cpu, another tiling or a smaller model."
            )
        plan = smaller


def _tiles(
    image_cyx: np.ndarray,
    model: Model,
    settings: SegmentSettings,
    device: torch.device,
    dtype: torch.dtype,
    plan: Plan,
    scale: GreyScale,
) -> Generator[Progress, None, Maps]:
    shape = image_cyx.shape[1:]
    classes_yx = np.zeros(shape, dtype=np.uint8)
    n_classes = len(model.card.classes)
    probabilities = np.zeros((n_classes, *shape), dtype=np.float32) if settings.probabilities else None
    depth_yx = np.zeros(shape, dtype=np.float32) if settings.instances and model.card.distance else None
    total = len(plan.tiles)
    yield Progress(0, total, "segmenting")
    for done, piece in predict(
        model, image_cyx, scale, plan, device=device, dtype=dtype, probabilities=settings.probabilities
    ):
        if piece is not None:
            classes_yx[piece.where] = piece.classes_yx
            if probabilities is not None and piece.probabilities_cyx is not None:
                probabilities[:, *piece.where] = piece.probabilities_cyx
            if depth_yx is not None and piece.depth_yx is not None:
                depth_yx[piece.where] = piece.depth_yx
            rows, columns = piece.where
            yield Arrived(done, total, "segmenting", rows=rows, columns=columns, classes=classes_yx)
        else:
            yield Progress(done, total, "segmenting")
    record = {
        "tiling": plan.to_dict() | {"reach": model.card.reach},
        "grey_low": list(scale.low),
        "grey_high": list(scale.high),
    }
    return Maps(classes_yx, probabilities, depth_yx, record)

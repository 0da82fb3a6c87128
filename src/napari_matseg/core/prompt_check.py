"""How well a promptable model does on whole micrographs, while it is being trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_matseg.core.prompt_data import bounding_box, deepest_pixel
from napari_matseg.core.prompt_image import HALF_RANGE, LIMIT
from napari_matseg.core.sam.drawn import draw_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segment_anything.modeling import Sam

    from napari_matseg.core.prompt_examples import PromptExample

ASKED = 12  # objects of each micrograph


def evaluate(sam: Sam, examples: Sequence[PromptExample]) -> dict[str, float]:
    """Ask for some objects of each micrograph, the whole of which is the frame.

    Returns
    -------
    dict
        Mean IoU per object: from one click at its centre by the mask of the best predicted IoU (`best`), by the single
        mask (`single`) and by the best of three (`oracle`); from its box (`box`); and of the guessed box (`guess`).
    """
    from segment_anything import SamPredictor

    predictor = SamPredictor(sam)
    found: dict[str, list[float]] = {"best": [], "single": [], "oracle": [], "box": [], "guess": []}
    for example in examples:
        grey = np.clip(example.image_yx, -LIMIT, LIMIT) * HALF_RANGE + 127.5
        predictor.set_image(np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2))
        ids = np.unique(example.objects_yx[example.objects_yx > 0])
        ids = ids[:: max(1, len(ids) // ASKED)][:ASKED]
        for one in ids:
            truth = example.objects_yx == one
            y, x = deepest_pixel(truth)
            y0, x0, y1, x1 = bounding_box(truth)
            scale = predictor.transform.target_length / max(truth.shape)
            point = torch.tensor([[[x, y]]], dtype=torch.float32) * scale
            box = torch.tensor([[x0 - 0.5, y0 - 0.5, x1 + 0.5, y1 + 0.5]], dtype=torch.float32) * scale
            kind = torch.ones((1, 1), dtype=torch.int)
            size = sam.prompt_encoder.mask_input_size
            guess = sam.image_encoder.guess_boxes(predictor.features, point[:, 0])
            clicked = draw_prompts(size, point, kind, None, None, guess)
            x0, y0, x1, y1 = (guess[0] / scale).tolist()
            found["guess"].append(_box_iou((x0, y0, x1, y1), bounding_box(truth)))
            masks, iou, _ = predictor.predict_torch(point, kind, None, clicked)
            reached = [float((mask & truth).sum() / (mask | truth).sum()) for mask in masks[0].cpu().numpy()]
            found["best"].append(reached[int(iou.argmax())])
            found["oracle"].append(max(reached))
            for name, asked in (
                ("single", (point, kind, None, clicked)),
                ("box", (None, None, box, draw_prompts(size, None, None, box))),
            ):
                mask = predictor.predict_torch(*asked, multimask_output=False)[0][0, 0].cpu().numpy()
                found[name].append(float((mask & truth).sum() / (mask | truth).sum()))
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def _box_iou(guess_xyxy: tuple[float, ...], box_yx: tuple[int, int, int, int]) -> float:
    x0, y0, x1, y1 = guess_xyxy
    top, left, bottom, right = box_yx[0] - 0.5, box_yx[1] - 0.5, box_yx[2] + 0.5, box_yx[3] + 0.5
    both = max(0.0, min(x1, right) - max(x0, left)) * max(0.0, min(y1, bottom) - max(y0, top))
    return both / ((x1 - x0) * (y1 - y0) + (right - left) * (bottom - top) - both)

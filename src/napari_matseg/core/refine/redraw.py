"""Answers of a promptable model -> the same objects, drawn again."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.devices import autocast
from napari_matseg.core.objects import MOST, bounding_box, trim
from napari_matseg.core.refine.crops import (
    SIDE,
    Square,
    back_to_plane,
    earlier_scores,
    seen_inside,
    stack_maps,
)
from napari_matseg.core.sam.one_piece import keep_clicked
from napari_matseg.core.sam.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from napari_matseg.core.objects import ObjectMask
    from napari_matseg.core.prompt_image import PromptImage
    from napari_matseg.core.prompts import Prompt
    from napari_matseg.core.refine.network import Refiner
    from napari_matseg.core.windows import Box

PASSES = 2
"""How often an object of unknown box is drawn: its magnification is as good as the answer before."""
STABLE = 1.0
"""Scores between which a threshold is moved to see how stable a mask is, as segment-anything does."""


class Redrawer:
    """A refiner at work.

    Parameters
    ----------
    network : Refiner
        In evaluation mode, on its device.
    device : torch.device
    dtype : torch.dtype
        What it computes in.
    views : int
        How often each object is drawn, mirrored in another way; the drawings are averaged.
    """

    def __init__(self, network: Refiner, device: torch.device, dtype: torch.dtype, views: int = 1) -> None:
        import torch

        self._network = network.to(memory_format=torch.channels_last)
        self._device = device
        self._dtype = dtype
        self._views = VIEWS[:views]

    def redraw(
        self, image: PromptImage, prompts: Sequence[Prompt], answers: Sequence[ObjectMask], *, one_piece: bool = True
    ) -> list[ObjectMask]:
        """Draw objects again.

        Parameters
        ----------
        image : PromptImage
        prompts : sequence of Prompt
            In pixels of the rows that are seen.
        answers : sequence of ObjectMask
            To each of the prompts, in the same pixels.
        one_piece : bool
            Keep only the pieces that were clicked, or the largest.

        Returns
        -------
        list of ObjectMask
            Where nothing was found before, or nothing is now, the answer as it was.
        """
        found = self._redraw(image, prompts, answers, one_piece)
        unknown = [number for number, prompt in enumerate(prompts) if prompt.box_yx is None]
        for _ in range(PASSES - 1):
            again = self._redraw(image, [prompts[k] for k in unknown], [found[k] for k in unknown], one_piece)
            for number, answer in zip(unknown, again, strict=True):
                found[number] = answer
        return [_judged(first, drawn) for first, drawn in zip(answers, found, strict=True)]

    def _redraw(
        self, image: PromptImage, prompts: Sequence[Prompt], answers: Sequence[ObjectMask], one_piece: bool
    ) -> list[ObjectMask]:
        """Draw objects once."""
        found = list(answers)
        asked = list(zip(prompts, answers, strict=True))
        boxes = {number: _known(*one, image.shape_yx) for number, one in enumerate(asked)}
        squares = {number: Square.round(box) for number, box in boxes.items() if box is not None}
        if not squares:
            return found
        maps = [self._maps(image, square, prompts[k], answers[k]) for k, square in squares.items()]
        scores, iou = self._draw(np.stack(maps))
        for (number, square), drawn, sure in zip(squares.items(), scores, iou.tolist(), strict=True):
            one = _found(answers[number], image.shape_yx, square, drawn, sure)
            if one_piece:
                prompt = prompts[number]
                one = keep_clicked(one, prompt.points_yx[prompt.positive])
            one = trim(one)
            if one.scores_yx.size:
                found[number] = one
        return found

    def _maps(self, image: PromptImage, square: Square, prompt: Prompt, answer: ObjectMask) -> np.ndarray:
        box = None
        if prompt.box_yx is not None:
            y0, x0, y1, x1 = prompt.box_yx
            box = *square.to_input(y0, x0), *square.to_input(y1, x1)
        clicks = [(square.to_input(y, x), kind) for (y, x), kind in zip(prompt.points_yx, prompt.positive, strict=True)]
        return stack_maps(
            image.grey_of(square.top, square.left, square.side, SIDE),
            seen_inside(square, image.shape_yx),
            box,
            [place for place, positive in clicks if positive],
            [place for place, positive in clicks if not positive],
            earlier_scores(answer, square),
        )

    def _draw(self, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw all at once: scores, shape (objects, side, side), and what their IoU is thought to be."""
        import torch

        given = torch.from_numpy(maps).to(self._device)
        drawn: list[tuple[Tensor, Tensor]] = []
        with torch.inference_mode(), autocast(self._device, self._dtype):
            for view in self._views:
                axes = [axis for axis, mirrored in zip((-2, -1), view, strict=True) if mirrored]
                scores, iou = self._network(given.flip(axes).contiguous(memory_format=torch.channels_last))
                drawn.append((scores.flip(axes), iou))
            scores, iou = (torch.stack(parts).mean(dim=0) for parts in zip(*drawn, strict=True))
        return scores.cpu().numpy(), iou.cpu().numpy()


def _known(prompt: Prompt, answer: ObjectMask, shape_yx: tuple[int, int]) -> Box | None:
    """Box of what is known of an object: the one that was drawn, or that of the answer and of what was clicked."""
    if prompt.box_yx is not None:
        y0, x0, y1, x1 = prompt.box_yx
        return max(y0, -0.5), max(x0, -0.5), min(y1, shape_yx[0] - 0.5), min(x1, shape_yx[1] - 0.5)
    box = bounding_box(answer)
    if box is None:
        return None
    clicks = prompt.points_yx[prompt.positive].reshape(-1, 2)
    (y0, x0), (y1, x1) = (
        np.vstack([box[:2], clicks - 0.5]).min(0).tolist(),
        np.vstack([box[2:], clicks + 0.5]).max(0).tolist(),
    )
    return y0, x0, y1, x1


def _judged(answer: ObjectMask, drawn: ObjectMask) -> ObjectMask:
    """Predict the IoU by both networks: the refiner was only taught objects, and the other knows where there are none.

    On micrographs held out of the training the geometric mean told clicks on objects from clicks beside them best.
    """
    if drawn is answer:
        return answer
    return replace(drawn, iou=math.sqrt(max(answer.iou, 0.0) * drawn.iou))


def _found(
    answer: ObjectMask, shape_yx: tuple[int, int], square: Square, scores_yx: np.ndarray, iou: float
) -> ObjectMask:
    top, left, drawn = back_to_plane(scores_yx, square, shape_yx)
    loose = int((drawn > -STABLE).sum())
    stability = int((drawn > STABLE).sum()) / loose if loose else 0.0
    scores = drawn.clip(-MOST, MOST).astype(np.float16)
    return replace(answer, top=top, left=left, scores_yx=scores, iou=iou, stability=stability)

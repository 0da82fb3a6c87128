"""Prompts drawn as pictures: what a small model learns from sooner than from coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_matseg.core.sam.decoder import PromptBatch

if TYPE_CHECKING:
    from torch import Tensor

    from napari_matseg.core.sam.compact import CompactEncoder
    from napari_matseg.core.sam.decoder import PreparedImage

DISC = 1.5  # radius in cells of the drawing, of 4 px of the frame
CLICKED, INSIDE, GUESSED, OUTSIDE = 24.0, 6.0, 3.0, -12.0  # scores that say how sure a prompt is


def with_drawing(encoder: CompactEncoder, image: PreparedImage, batch: PromptBatch) -> PromptBatch:
    """Draw prompts in addition, with a guess at the box of what was clicked where there is nothing better.

    Parameters
    ----------
    encoder : CompactEncoder
        That made the embedding.
    image : PreparedImage
    batch : PromptBatch

    Returns
    -------
    PromptBatch
        The same, with masks.
    """
    cells = round(image.embedding.shape[1] ** 0.5)
    guesses = None
    if batch.points_xy is not None and batch.polarity is not None and batch.boxes_xyxy is None and batch.masks is None:
        embedding = image.embedding.mT.unflatten(-1, (cells, cells))
        inside = (batch.polarity == 1).int().argmax(dim=1)  # the first point that lies in the object
        clicked = batch.points_xy.take_along_dim(inside[:, None, None], dim=1)[:, 0]
        guesses = encoder.guess_boxes(embedding, clicked)
    drawing = draw_prompts(
        (4 * cells, 4 * cells), batch.points_xy, batch.polarity, batch.boxes_xyxy, batch.masks, guesses
    )
    return PromptBatch(batch.points_xy, batch.polarity, batch.boxes_xyxy, drawing)


def draw_prompts(
    size_yx: tuple[int, int],
    points_xy: Tensor | None,
    polarity: Tensor | None,
    boxes_xyxy: Tensor | None,
    prior: Tensor | None = None,
    guesses_xyxy: Tensor | None = None,
) -> Tensor:
    """Draw clicks as discs and boxes as areas, as a mask prompt for the prompt encoder.

    Clicks as discs: Sofiiuk et al. 2022, doi 10.1109/ICIP46576.2022.9897365.

    Parameters
    ----------
    size_yx : (int, int)
        Height and width of the drawing, a quarter of the frame's.
    points_xy : Tensor, shape (objects, n, 2), float32, or None
        In pixels of the frame.
    polarity : Tensor, shape (objects, n), integer, or None
        1 for positive, 0 for negative, -1 for none.
    boxes_xyxy : Tensor, shape (objects, 4), float32, or None
        In pixels of the frame.
    prior : Tensor, shape (objects, 1, height, width), or None
        Scores of an earlier answer.
    guesses_xyxy : Tensor, shape (objects, 4), float32, or None
        Boxes that the user did not draw; of no account where there is an earlier answer or a box.

    Returns
    -------
    Tensor, shape (objects, 1, height, width), float32
    """
    import torch

    given = next(part for part in (points_xy, boxes_xyxy, prior) if part is not None)
    y = torch.arange(size_yx[0], device=given.device, dtype=torch.float32)[:, None]
    x = torch.arange(size_yx[1], device=given.device, dtype=torch.float32)
    drawn = torch.zeros(len(given), *size_yx, device=given.device)
    if prior is not None:
        drawn = drawn + prior[:, 0].float().clamp(OUTSIDE, -OUTSIDE)
    elif guesses_xyxy is not None and boxes_xyxy is None:
        drawn = torch.where(_inside(guesses_xyxy, y, x), GUESSED, -GUESSED)
    if boxes_xyxy is not None:
        inside = _inside(boxes_xyxy, y, x)
        drawn = torch.where(inside, drawn + INSIDE if prior is None else drawn, torch.full_like(drawn, OUTSIDE))
    if points_xy is not None and polarity is not None:
        cells = (points_xy + 0.5) / 4 - 0.5
        for n in range(cells.shape[1]):
            px, py = cells[:, n, 0, None, None], cells[:, n, 1, None, None]
            disc = (x - px) ** 2 + (y - py) ** 2 <= DISC**2
            kind = polarity[:, n, None, None]
            drawn = torch.where(disc & (kind == 1), CLICKED, torch.where(disc & (kind == 0), -CLICKED, drawn))
    return drawn[:, None]


def _inside(boxes_xyxy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    x0, y0, x1, y1 = ((boxes_xyxy + 0.5) / 4 - 0.5).T[..., None, None]
    inside: Tensor = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
    return inside

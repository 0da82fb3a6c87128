"""A promptable model at work on one window: pixels -> embedding, kept on disk; prompts -> masks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_matseg.core.devices import choose_device, choose_dtype
from napari_matseg.core.embeddings import EmbeddingStore, cache_folder, embedding_key
from napari_matseg.core.objects import MOST, ObjectMask, bounding_box
from napari_matseg.core.refine.redraw import Redrawer
from napari_matseg.core.sam.one_piece import fill_box, keep_piece
from napari_matseg.core.sam.views import VIEWS, mirror_pixels, mirror_prompts, mirror_scores
from napari_matseg.core.windows import CELL, CLOSELY, ONCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from napari_matseg.core.prompt_image import PromptImage
    from napari_matseg.core.prompts import Prompt
    from napari_matseg.core.refine.files import LoadedRefiner
    from napari_matseg.core.sam.decoder import Decoded, PreparedImage, PromptBatch
    from napari_matseg.core.sam.weights import PromptableModel
    from napari_matseg.core.windows import Look, Window
    from napari_matseg.settings import PromptSettings

    Views = tuple[PreparedImage, ...]

SURE = 8.0
"""Score inside a label that is to be refined, and minus that outside."""


class PromptModel:
    """A model with its device and what it computed before.

    Parameters
    ----------
    loaded : PromptableModel
    device : torch.device
    dtype : torch.dtype
        What the model computes in.
    store : EmbeddingStore
    views : int
        How often it is asked; see `PromptSettings.views`.
    refiner : LoadedRefiner, optional
        That draws its answers again.
    """

    def __init__(
        self,
        loaded: PromptableModel,
        device: torch.device,
        dtype: torch.dtype,
        store: EmbeddingStore,
        views: int = 1,
        refiner: LoadedRefiner | None = None,
    ) -> None:
        from napari_matseg.core.sam.decoder import FastDecoder
        from napari_matseg.core.sam.encoder import FastEncoder

        self.loaded = loaded
        self.device = device
        self.dtype = dtype
        self.note = ""
        self._sam = loaded.sam.to(device)
        self._encoder = FastEncoder(self._sam, dtype)
        self._decoder = FastDecoder(self._sam, dtype)
        self._store = store
        self._views = VIEWS[:views]
        self.refiner = refiner
        self._redrawer = None if refiner is None else Redrawer(refiner.network, device, dtype, views)

    @classmethod
    def load(cls, settings: PromptSettings, loaded: PromptableModel | None = None) -> PromptModel:
        """Load the model that the settings name, unless one is given.

        Raises
        ------
        ModelError
            If there is no such model, or it is damaged.
        SettingsError
            If there is no such device.
        """
        import torch

        from napari_matseg.core.refine.files import find_refiner, load_refiner
        from napari_matseg.core.sam.weights import load_promptable

        device = choose_device(settings.device)
        dtype = choose_dtype(settings.precision, device)
        # The networks were trained without half precision in mind, and exceed its range.
        dtype = torch.float32 if dtype == torch.float16 else dtype
        store = EmbeddingStore(cache_folder(), int(settings.cache_gb * 2**30))
        loaded = loaded or load_promptable(settings.model, str(device))
        path = find_refiner(loaded.name) if is_compact(loaded) else None
        refiner = None if path is None else load_refiner(path, device)
        return cls(loaded, device, dtype, store, settings.views, refiner)

    @property
    def frame(self) -> int:
        """Side of the square that the model takes, in pixels."""
        return int(self._sam.image_encoder.img_size)

    @property
    def look(self) -> Look:
        """How closely it should look at objects."""
        return CLOSELY if self._is_compact else ONCE

    @property
    def _is_compact(self) -> bool:
        return is_compact(self.loaded)

    @property
    def batch(self) -> int:
        """How many prompts to give to `answer` at once."""
        return int(self._decoder.chunk)

    def prepare(self, image: PromptImage, window: Window) -> Views:
        """Embed a window, or find its embeddings on disk."""
        import torch

        return tuple(self._decoder.prepare(torch.from_numpy(one)) for one in self.embed(image, window))

    def embed(self, image: PromptImage, window: Window) -> list[np.ndarray]:
        """Embed a window in all views and keep that on disk, unless it is there."""
        pixels = image.read(window)
        return [self._embedding(mirror_pixels(pixels, view)) for view in self._views]

    def _embedding(self, pixels: np.ndarray) -> np.ndarray:
        key = embedding_key(self.loaded.sha256, str(self.dtype), pixels)
        stored = self._store.get(key)
        if stored is None:
            stored = self._embed(pixels)
            self.note = self._store.put(key, stored) or self.note
        return stored

    def _embed(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        channels = torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1)
        embedding: np.ndarray = self._encoder.encode(channels.expand(3, -1, -1)).cpu().numpy()
        return embedding

    def answer(
        self,
        prepared: Views,
        window: Window,
        prompts: Sequence[Prompt],
        settings: PromptSettings,
        area_px: tuple[float, float] | None = None,
    ) -> list[ObjectMask]:
        """Answer prompts of one `structure` in one window.

        Parameters
        ----------
        prepared : tuple of PreparedImage
            Of the window, one for each view.
        window : Window
        prompts : sequence of Prompt
            In the pixels that the window is in.
        settings : PromptSettings
            Of which `choice` and `one_piece` count.
        area_px : (float, float), optional
            What an object's area should lie between.

        Returns
        -------
        list of ObjectMask
            In the pixels that the window is in, as the model gives them.
        """
        import torch

        from napari_matseg.core.sam.decoder import choose
        from napari_matseg.core.sam.upscale import upscale

        first = prompts[0]
        single = first.box_yx is not None or first.mask is not None or len(first.points_yx) != 1
        # The small model was taught the single mask for every prompt, and it is better than its best of three.
        single = single or (self._is_compact and settings.choice == "best")
        vertical, horizontal = (
            frame / length / CELL
            for frame, length in zip(window.input_shape, (window.height, window.width), strict=True)
        )
        limits = None if area_px is None else (area_px[0] * vertical * horizontal, area_px[1] * vertical * horizontal)
        with torch.inference_mode():
            batch = self._to_batch(prompts, window)
            # The first and the second of three answers may change places from view to view.
            decoded = self._decode(prepared if single else prepared[:1], batch, window.input_shape)
            best = choose(decoded, settings.choice, single, limits)
            answers = []
            for k, (prompt, one) in enumerate(zip(prompts, best.tolist(), strict=True)):
                scores = decoded.scores[k, one]
                if self._is_compact and settings.one_piece:
                    scores = self._in_one_piece(scores, prompt, window)
                crop, top, left = upscale(scores, window.input_shape, (window.height, window.width), self.frame)
                answers.append(
                    ObjectMask(
                        prompt.id,
                        window.top + top,
                        window.left + left,
                        crop.clamp(-MOST, MOST).half().cpu().numpy(),
                        float(decoded.iou[k, one]),
                        float(decoded.stability[k, one]),
                        prompt.plane,
                    )
                )
        return answers

    def redraw(
        self, image: PromptImage, prompts: Sequence[Prompt], answers: Sequence[ObjectMask], settings: PromptSettings
    ) -> list[ObjectMask]:
        """Let the refiner draw the objects of some answers again, where there is one for this model.

        Parameters
        ----------
        image : PromptImage
        prompts : sequence of Prompt
            In pixels of the rows that are seen.
        answers : sequence of ObjectMask
            To each of them, in the same pixels.
        settings : PromptSettings
            Of which `choice`, `refine` and `one_piece` count.
        """
        # It was taught whole objects: parts and agglomerates it would undo.
        if self._redrawer is None or not settings.refine or settings.choice != "best":
            return list(answers)
        asked = [replace(prompt, box_yx=_box(prompt)) for prompt in prompts]
        return self._redrawer.redraw(image, asked, answers, one_piece=settings.one_piece)

    def _decode(self, prepared: Views, batch: PromptBatch, input_hw: tuple[int, int]) -> Decoded:
        """Answer prompts by the mean over the first views, of as many as are given."""
        import torch

        from napari_matseg.core.sam.drawn import with_drawing

        answers, scores = [], []
        for image, view in zip(prepared, self._views[: len(prepared)], strict=True):
            seen = mirror_prompts(batch, input_hw, view)
            if self._is_compact:
                seen = with_drawing(self._sam.image_encoder, image, seen)
            answers.append(self._decoder.decode(image, seen, input_hw))
            scores.append(mirror_scores(answers[-1].scores, input_hw, view))
        if len(answers) == 1:
            return answers[0]
        iou = torch.stack([one.iou for one in answers]).mean(dim=0)
        return self._decoder.describe(torch.stack(scores).mean(dim=0), iou, input_hw)

    def _in_one_piece(self, scores: Tensor, prompt: Prompt, window: Window) -> Tensor:
        """Use what the small model does not know: an object hangs together, and fills its box."""
        import torch

        def to_cells(y: float, x: float) -> list[float]:
            return [at / CELL for at in window.to_frame(y + 0.5, x + 0.5)]

        known = scores.float().cpu().numpy()
        if prompt.box_yx is not None and not len(prompt.points_yx):
            top, left = to_cells(*prompt.box_yx[:2])
            bottom, right = to_cells(*prompt.box_yx[2:])
            found = fill_box(known, (top, left, bottom, right))
        else:
            clicks = [to_cells(y, x) for y, x in prompt.points_yx[prompt.positive]]
            found = keep_piece(known, np.array(clicks).reshape(-1, 2))
        return torch.from_numpy(found).to(scores)

    def _to_batch(self, prompts: Sequence[Prompt], window: Window) -> PromptBatch:
        import torch

        from napari_matseg.core.sam.decoder import PromptBatch

        points, polarity, boxes, masks = [], [], [], []
        for prompt in prompts:
            seen = _seen(prompt, window)
            points.append([window.to_frame(y, x)[::-1] for y, x in prompt.points_yx[seen]])
            polarity.append(prompt.positive[seen].tolist())
            box = _box(prompt)
            if box is not None:
                boxes.append([*window.to_frame(*box[:2])[::-1], *window.to_frame(*box[2:])[::-1]])
            if prompt.mask is not None:
                masks.append(mask_scores(prompt.mask, window)[None])
        return PromptBatch(
            torch.tensor(points, dtype=torch.float32, device=self.device) if polarity[0] else None,
            torch.tensor(polarity, dtype=torch.int, device=self.device) if polarity[0] else None,
            torch.tensor(boxes, dtype=torch.float32, device=self.device) if boxes else None,
            torch.from_numpy(np.stack(masks)).to(self.device) if masks else None,
        )


def is_compact(loaded: PromptableModel) -> bool:
    """Whether a model is of the small layout, which has helpers that others do without."""
    return hasattr(loaded.sam.image_encoder, "guess_boxes")


def structure(prompt: Prompt, window: Window) -> tuple[int, bool, bool]:
    """Tell which prompts can be answered together in a window: points in it, whether there is a box, and a mask.

    Filling prompts up to the same number of points would change their answers.
    """
    return int(_seen(prompt, window).sum()), _box(prompt) is not None, prompt.mask is not None


def _seen(prompt: Prompt, window: Window) -> np.ndarray:
    """Which points count: what is not part of the object says nothing where the window does not show it."""
    low = np.array([window.top, window.left]) - 0.5
    high = low + np.array([window.height, window.width])
    inside = (prompt.points_yx >= low) & (prompt.points_yx < high)
    seen: np.ndarray = prompt.positive | inside.all(axis=1)
    return seen


def _box(prompt: Prompt) -> tuple[float, float, float, float] | None:
    """Box to ask with: the prompt's own, or that of a label which holds all that was clicked."""
    if prompt.box_yx is not None or prompt.mask is None:
        return prompt.box_yx
    box = bounding_box(prompt.mask)
    clicked = prompt.points_yx[prompt.positive]
    return box if box and ((clicked >= box[:2]) & (clicked <= box[2:])).all() else None


def mask_scores(mask: ObjectMask, window: Window) -> np.ndarray:
    """Turn a label into the scores of an earlier answer, which is what segment-anything refines.

    Parameters
    ----------
    mask : ObjectMask
    window : Window

    Returns
    -------
    array, shape (frame / 4, frame / 4), float32
        `SURE` in cells inside the label, minus that outside, and between in cells that it shares.
    """
    from PIL import Image

    cells = window.frame // CELL
    share = np.zeros((cells, cells), dtype=np.float32)
    spans = []
    for start, length, seen, to in zip(
        (mask.top - window.top, mask.left - window.left),
        mask.scores_yx.shape,
        (window.height, window.width),
        window.input_shape,
        strict=True,
    ):
        size = seen / to * CELL  # of a cell in pixels
        first, stop = max(0, int(start // size)), min(math.ceil(to / CELL), math.ceil((start + length) / size))
        if first >= stop:
            return share - SURE
        margin = math.ceil(size) + 1
        spans.append((first, stop, margin, first * size - start + margin, stop * size - start + margin))
    (top, bottom, above, y0, y1), (left, right, beside, x0, x1) = spans
    padded = np.pad(mask.mask_yx.astype(np.float32), ((above, above), (beside, beside)))
    crop = Image.fromarray(padded).resize((right - left, bottom - top), Image.Resampling.BILINEAR, (x0, y0, x1, y1))
    share[top:bottom, left:right] = np.asarray(crop)
    return (2 * share - 1) * np.float32(SURE)

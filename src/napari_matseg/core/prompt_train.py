"""From a recipe and a folder of data to a promptable model."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from napari_matseg.core.checkpoints import SUFFIX, load_model
from napari_matseg.core.devices import autocast, choose_device, choose_dtype
from napari_matseg.core.export import make_folder
from napari_matseg.core.prompt_check import evaluate
from napari_matseg.core.prompt_data import PromptCrop, PromptCrops
from napari_matseg.core.prompt_examples import load_sources
from napari_matseg.core.prompt_learn import learn_steps
from napari_matseg.core.prompt_losses import extent_loss, mask_iou, mask_loss
from napari_matseg.core.sam.compact import CELL
from napari_matseg.core.sam.drawn import draw_prompts
from napari_matseg.core.sam.networks import Layout, build_sam
from napari_matseg.core.sam.weights import (
    PromptableCard,
    find_promptable,
    load_promptable,
    read_promptable_card,
    save_promptable,
)
from napari_matseg.core.train_state import follow
from napari_matseg.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor
    from pathlib import Path

    from segment_anything.modeling import Sam
    from torch import Tensor

    from napari_matseg.core.train import TrainProgress
    from napari_matseg.settings import PromptTrainSettings, RefineTrainSettings

MAX_GRADIENT = 1.0  # norm beyond which gradients are scaled down
MOST = 64  # crops of a step, so that a crop's number does not depend on the steps before
LAYOUT = Layout(encoder="compact")
BOX_WEIGHT = 0.5
NEARNESS = 2.5  # factor on the weights that compare positions, at the start


FRAME = 512  # px of the micrograph for the model's frame


def prompt_train_steps(
    settings: PromptTrainSettings, data_folder: Path, out: Path, *, resume: bool = True
) -> Generator[TrainProgress, None, Path]:
    """Train a promptable model; closing the generator stops, and the same call goes on from the last evaluation.

    Parameters
    ----------
    settings : PromptTrainSettings
    data_folder : Path
        What the paths in the settings are relative to.
    out : Path
        Folder for the model file, made if it is missing.
    resume : bool
        Go on from where an interrupted training of the same settings stopped.

    Yields
    ------
    TrainProgress
        After each step; its accuracy is what `core.prompt_check.evaluate` gives.

    Returns
    -------
    Path
        The model file, `out/NAME.safetensors`.

    Raises
    ------
    InputError, ModelError, SettingsError, OutputError
        If data, the model to start from, settings or folder cannot be used.

    Notes
    -----
    The decoder is segment-anything's (Kirillov et al. 2023, doi 10.1109/ICCV51070.2023.00371), and learns as theirs
    from simulated clicks and boxes; of the three answers to a single click the third stands for all that touches the
    object, and of the others only the better one learns. AdamW (Loshchilov and Hutter 2019) with linear warm-up and
    a cosine schedule; the weights that are kept are an exponential moving average over the steps (Polyak and Juditsky
    1992).
    """
    sources, validation = load_sources(settings, data_folder)
    crops = PromptCrops(sources, settings)
    make_folder(out)
    sam, layout = _start(settings)
    trainer = PromptTrainer(sam, settings, pretrained=settings.start is not None)
    saved = out / f"{settings.name}.resume"
    accuracy = yield from learn_steps(
        trainer,
        settings,
        partial(_drawn, crops, settings),
        lambda: evaluate(trainer.average, validation) if validation else None,
        saved,
        resume=resume,
    )
    card = PromptableCard(
        name=settings.name,
        description=settings.description,
        licence=settings.licence,
        data_source=settings.data_source,
        not_for=settings.not_for,
        layout=layout,
        accuracy={"validation": dict(accuracy)} if accuracy else {},
        recipe=settings.model_dump(mode="json"),
    )
    path = out / f"{settings.name}{SUFFIX}"
    save_promptable(path, trainer.average.cpu(), card)
    saved.unlink(missing_ok=True)
    return path


def _start(settings: PromptTrainSettings) -> tuple[Sam, Layout]:
    """Network as it is before the first step."""
    torch.manual_seed(settings.seed)
    card = None if settings.start is None else _promptable_card(settings.start)
    if settings.start is not None and card is not None:
        if card.layout.encoder != LAYOUT.encoder:
            raise SettingsError(
                f"start: {settings.start} has the image encoder {card.layout.encoder}, and only {LAYOUT.encoder} is "
                "trained; name compact, or a model that was trained from it."
            )
        return load_promptable(settings.start).sam.requires_grad_(True), card.layout
    sam = build_sam(LAYOUT)
    if settings.start is not None:
        model = load_model(settings.start)
        unet: Any = getattr(model.network, "network", model.network)
        try:
            sam.image_encoder.encoder.load_state_dict(unet.encoder.state_dict())
            sam.image_encoder.decoder.load_state_dict(unet.decoder.state_dict())
        except (AttributeError, RuntimeError) as error:
            raise SettingsError(
                f"start: {settings.start} has another network than the image encoder; leave it out, or name one that "
                "was trained with the particles recipe's architecture."
            ) from error
    prepare_positions(sam)
    return sam, LAYOUT


def _promptable_card(start: str) -> PromptableCard | None:
    """Card of a promptable model of ours; None for what is no such model."""
    try:
        return read_promptable_card(find_promptable(start)[1])
    except ModelError:
        return None


def _drawn(
    crops: PromptCrops, settings: PromptTrainSettings, step: int, pool: ThreadPoolExecutor
) -> list[Future[PromptCrop]]:
    """Crops of a step, made while the network works on those before."""
    stage = settings.stage(step)
    if step >= settings.steps:
        return []
    first = step * MOST
    return [pool.submit(crops.crop, first + i, stage.crop, FRAME) for i in range(stage.batch)]


class PromptTrainer:
    """All that changes while a promptable model learns.

    Parameters
    ----------
    sam : Sam
        With a `CompactEncoder`.
    settings : PromptTrainSettings
    pretrained : bool
        Whether the image encoder's batch norms know the statistics of micrographs already.
    """

    def __init__(self, sam: Sam, settings: PromptTrainSettings, *, pretrained: bool) -> None:
        self.settings = settings
        self.device = choose_device(settings.device)
        dtype = choose_dtype(settings.precision, self.device)
        self.dtype = torch.float32 if dtype == torch.float16 else dtype
        self.sam = sam.to(self.device)
        self.average = copy.deepcopy(self.sam).eval()
        self.pretrained = pretrained
        encoder = set(map(id, sam.image_encoder.encoder.parameters())) | set(
            map(id, sam.image_encoder.decoder.parameters())
        )
        everything = list(sam.parameters())
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in everything if id(p) not in encoder], "rate": settings.learning_rate},
                {"params": [p for p in everything if id(p) in encoder], "rate": settings.encoder_rate},
            ],
            weight_decay=settings.weight_decay,
        )
        self.step = 0
        self.parts: dict[str, float] = {}

    def advance(self, crops: Sequence[PromptCrop]) -> float:
        """Learn from one batch; give its loss."""
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * schedule(self.step, settings)
        self.sam.train(not self.pretrained)
        rng = np.random.default_rng((settings.seed, self.step, 1))
        image = torch.from_numpy(np.stack([crop.image_yx for crop in crops]))[:, None].to(self.device)
        place = torch.tensor([crop.place_yx for crop in crops], dtype=torch.float32, device=self.device) * CELL
        with autocast(self.device, self.dtype):
            embeddings, extent = self.sam.image_encoder.embed_grey(image, place)
            guess = self.sam.image_encoder.guess_extent(embeddings)
        true_extent = torch.from_numpy(np.stack([crop.extent_kyx for crop in crops])).to(self.device)
        box_loss = extent_loss(extent, true_extent) + extent_loss(guess, true_extent)
        corrected = rng.random() < settings.corrections
        losses = [
            self._learn(embedding[None], crop, rng, corrected=corrected)
            for embedding, crop in zip(embeddings, crops, strict=True)
        ]
        mask_loss = torch.stack(losses).mean()
        loss = mask_loss + BOX_WEIGHT * box_loss
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(
            [p for group in self.optimiser.param_groups for p in group["params"]], MAX_GRADIENT
        )
        self.optimiser.step()
        self.step += 1
        follow(self.average, self.sam, min(settings.average, (1 + self.step) / (10 + self.step)))
        self.parts = {"mask": float(mask_loss.detach()), "box": float(box_loss.detach())}
        return float(loss.detach())

    def _learn(self, embedding: Tensor, crop: PromptCrop, rng: np.random.Generator, *, corrected: bool) -> Tensor:
        truth = _coarse(crop.masks_kyx).to(self.device)
        clusters = _coarse(crop.clusters_kyx).to(self.device)
        prompts = _Prompts.of(crop, self.device)
        if corrected:
            with torch.no_grad():
                for _ in range(int(rng.integers(1, 3))):
                    scores = self.decode(embedding, crop.place_yx, prompts)[0]
                    prompts = prompts.corrected(scores[:, 0], truth, crop.place_yx, rng)
        scores, iou = self.decode(embedding, crop.place_yx, prompts)
        scores, iou = scores.float(), iou.float()
        reached = mask_iou(scores, truth[:, None])
        quality = functional.mse_loss(iou, reached, reduction="none")
        loss = mask_loss(scores[:, :1], truth[:, None])[:, 0] + quality[:, 0]
        if prompts.ambiguous:
            own = mask_loss(scores[:, 1:3], truth[:, None])
            # Two guesses at the object, of which only the better one learns, and one at the cluster that it is in.
            loss = loss + own.min(dim=1).values + 0.05 * own.mean(dim=1)
            loss = loss + 0.5 * mask_loss(scores[:, 3:], clusters[:, None])[:, 0] + quality[:, 1:].sum(dim=1)
        return loss.mean()

    def decode(self, embedding: Tensor, place_yx: tuple[int, int], prompts: _Prompts) -> tuple[Tensor, Tensor]:
        """Answer prompts on a part of a frame.

        Returns
        -------
        scores : Tensor, shape (objects, 4, 4 * cells, 4 * cells)
        iou : Tensor, shape (objects, 4)
        """
        height, width = embedding.shape[2:]
        y, x = place_yx
        part = (..., slice(y, y + height), slice(x, x + width))
        encoder = self.sam.prompt_encoder
        shift = 16.0 * torch.tensor([x, y], device=self.device)
        points = None if prompts.points_xy is None else (prompts.points_xy + shift, prompts.polarity)
        boxes = None if prompts.boxes_xyxy is None else prompts.boxes_xyxy + shift.repeat(2)
        # Positions need more than the 8 bits of bfloat16.
        guesses = None
        if prompts.points_xy is not None and prompts.boxes_xyxy is None:
            with torch.no_grad():
                guesses = self.sam.image_encoder.guess_boxes(embedding.detach(), prompts.points_xy[:, 0])
        drawing = draw_prompts(
            (4 * height, 4 * width), prompts.points_xy, prompts.polarity, prompts.boxes_xyxy, prompts.masks, guesses
        )
        sparse, dense = encoder(points=points, boxes=boxes, masks=drawing)
        with autocast(self.device, self.dtype):
            scores, iou = self.sam.mask_decoder.predict_masks(
                image_embeddings=embedding,
                image_pe=encoder.get_dense_pe()[part],
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
            )
        return scores, iou

    def state(self) -> dict[str, Any]:
        """Everything that a resumed training needs."""
        return {
            "settings": self.settings.model_dump_json(),
            "sam": self.sam.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.sam.load_state_dict(state["sam"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


class _Prompts:
    """Prompts for the objects of one crop, in pixels of the frame, less the crop's place."""

    def __init__(
        self, points_xy: Tensor | None, polarity: Tensor | None, boxes_xyxy: Tensor | None, masks: Tensor | None = None
    ) -> None:
        self.points_xy, self.polarity, self.boxes_xyxy, self.masks = points_xy, polarity, boxes_xyxy, masks

    @classmethod
    def of(cls, crop: PromptCrop, device: torch.device) -> _Prompts:
        points, boxes = (
            None if array is None else torch.from_numpy(array).to(device) * 2
            for array in (crop.points_xy, crop.boxes_xyxy)
        )
        polarity = None if points is None else torch.ones(points.shape[:2], dtype=torch.int, device=device)
        return cls(points, polarity, boxes)

    @property
    def ambiguous(self) -> bool:
        """Whether this is a single click, which may mean more than one thing."""
        return self.boxes_xyxy is None and self.masks is None and self.points_xy is not None

    def corrected(self, scores: Tensor, truth: Tensor, place_yx: tuple[int, int], rng: np.random.Generator) -> _Prompts:
        """Add a click to each prompt where the answer is wrong."""
        wrong = ((scores > 0) != (truth > 0.5)).cpu().numpy()
        inside = (truth > 0.5).cpu().numpy()
        clicks, polarity = [], []
        for k in range(len(wrong)):
            places = np.argwhere(wrong[k] if wrong[k].any() else inside[k] if inside[k].any() else ~inside[k])
            y, x = places[int(rng.integers(len(places)))]
            clicks.append([[4 * x + 1.5, 4 * y + 1.5]])
            polarity.append([int(inside[k, y, x])])
        new_xy = torch.tensor(clicks, dtype=torch.float32, device=scores.device)
        new_polarity = torch.tensor(polarity, dtype=torch.int, device=scores.device)
        if self.points_xy is not None and self.polarity is not None:
            new_xy = torch.cat([self.points_xy, new_xy], dim=1)
            new_polarity = torch.cat([self.polarity, new_polarity], dim=1)
        masks = scores[:, None].float() if rng.random() < 0.6 else None
        return _Prompts(new_xy, new_polarity, self.boxes_xyxy, masks)


def schedule(step: int, settings: PromptTrainSettings | RefineTrainSettings) -> float:
    """Share of the learning rate at a step: up in a line, down in a half cosine."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    after = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(after, 1)))


def prepare_positions(sam: Sam) -> None:
    """Start the attention between prompt and image at "what lies near me", which it otherwise takes long to learn.

    Half of the frequencies of the positional encoding are made four times as high, to tell neighbouring cells apart;
    and queries and keys start as the same projection, larger than usual, so that near positions attend to each other.
    """
    with torch.no_grad():
        sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix[:, ::2] *= 4
        sam.image_encoder.frequencies.copy_(
            sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix[:, : sam.image_encoder.frequencies.shape[1]]
        )
        transformer = sam.mask_decoder.transformer
        crossing = [transformer.final_attn_token_to_image]
        for layer in transformer.layers:
            crossing += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
        for attention in crossing:
            attention.q_proj.weight.mul_(NEARNESS)
            attention.k_proj.weight.copy_(attention.q_proj.weight)


def _coarse(masks_kyx: np.ndarray) -> Tensor:
    """Share of each cell of the decoder's masks, 2 x 2 px, that the object covers."""
    return functional.avg_pool2d(torch.from_numpy(masks_kyx.astype(np.float32))[None], 2)[0]

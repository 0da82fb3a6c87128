"""From a recipe and a folder of data to a refiner."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from napari_matseg.core.checkpoints import SUFFIX
from napari_matseg.core.devices import autocast, choose_device, choose_dtype
from napari_matseg.core.export import make_folder
from napari_matseg.core.prompt_image import PromptImage
from napari_matseg.core.prompt_learn import learn_steps
from napari_matseg.core.prompt_train import schedule
from napari_matseg.core.prompts import Prompt
from napari_matseg.core.read import as_micrograph
from napari_matseg.core.refine.draws import Draw, Draws
from napari_matseg.core.refine.examples import ask_steps
from napari_matseg.core.refine.files import RefinerCard, save_refiner
from napari_matseg.core.refine.redraw import Redrawer
from napari_matseg.core.sam.weights import find_promptable, read_promptable_card
from napari_matseg.core.train import TrainProgress
from napari_matseg.core.train_state import follow

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor
    from pathlib import Path

    from torch import Tensor

    from napari_matseg.core.objects import ObjectMask
    from napari_matseg.core.refine.examples import AskedExample
    from napari_matseg.settings import RefineTrainSettings

MAX_GRADIENT = 2.0  # norm beyond which gradients are scaled down
IOU_WEIGHT = 0.3
FLOOR = 800.0  # px added to an object's area, so that the outlines of small ones do not count for too much


def refine_train_steps(
    settings: RefineTrainSettings, data_folder: Path, out: Path, *, resume: bool = True
) -> Generator[TrainProgress, None, Path]:
    """Train a refiner; closing the generator stops, and the same call goes on from the last evaluation.

    Parameters
    ----------
    settings : RefineTrainSettings
    data_folder : Path
        What the paths in the settings are relative to.
    out : Path
        Folder for the model file, made if it is missing.
    resume : bool
        Go on from where an interrupted training of the same settings stopped. The promptable model is asked anew.

    Yields
    ------
    TrainProgress
        After each step; its accuracy is the mean IoU per object on micrographs held out, from one click at its centre
        and from its box, as the promptable model answered (`asked`) and drawn again (`redrawn`).

    Returns
    -------
    Path
        The model file, `out/NAME.safetensors`.

    Raises
    ------
    InputError, ModelError, SettingsError, OutputError
        If data, promptable model, settings or folder cannot be used.

    Notes
    -----
    AdamW (Loshchilov and Hutter 2019) with linear warm-up and a cosine schedule; the weights that are kept are an
    exponential moving average over the steps (Polyak and Juditsky 1992). The loss is cross-entropy relative to the
    object's size, and soft Jaccard (Rahman and Wang 2016, doi 10.1007/978-3-319-50835-1_22).
    """
    make_folder(out)
    _, refined = find_promptable(settings.refines)
    promptable = read_promptable_card(refined)
    work = ask_steps(settings, data_folder)
    while True:
        try:
            step = next(work)
        except StopIteration as stop:
            sources, validation = stop.value
            break
        yield TrainProgress(0, settings.steps, f"{step.note}, {step.done} of {step.total}")
    draws = Draws(sources, settings)
    trainer = RefineTrainer(settings)
    saved = out / f"{settings.name}.resume"
    accuracy = yield from learn_steps(
        trainer, settings, partial(_drawn, draws, settings), lambda: evaluate(trainer, validation), saved, resume=resume
    )
    card = RefinerCard(
        name=settings.name,
        description=settings.description,
        licence=settings.licence,
        data_source=settings.data_source,
        not_for=settings.not_for,
        refines=settings.refines,
        refines_sha256="" if promptable is None else promptable.weights_sha256,
        channels=settings.channels,
        blocks=settings.blocks,
        decoder_channels=settings.decoder_channels,
        accuracy={"validation": dict(accuracy)} if accuracy else {},
        recipe=settings.model_dump(mode="json"),
    )
    path = out / f"{settings.name}{SUFFIX}"
    save_refiner(path, trainer.average.cpu(), card)
    saved.unlink(missing_ok=True)
    return path


def _drawn(draws: Draws, settings: RefineTrainSettings, step: int, pool: ThreadPoolExecutor) -> list[Future[Draw]]:
    """Crops of a step, made while the network works on those before."""
    if step >= settings.steps:
        return []
    first = step * settings.batch
    return [pool.submit(draws.draw, first + i) for i in range(settings.batch)]


class RefineTrainer:
    """All that changes while a refiner learns."""

    def __init__(self, settings: RefineTrainSettings) -> None:
        self.settings = settings
        self.device = choose_device(settings.device)
        dtype = choose_dtype(settings.precision, self.device)
        self.dtype = torch.float32 if dtype == torch.float16 else dtype
        torch.manual_seed(settings.seed)
        network = RefinerCard(
            name=settings.name,
            refines=settings.refines,
            channels=settings.channels,
            blocks=settings.blocks,
            decoder_channels=settings.decoder_channels,
        ).build()
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval()
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.step = 0

    def advance(self, draws: Sequence[Draw]) -> float:
        """Learn from one batch; give its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * schedule(self.step, self.settings)
        maps, truth, inside = (
            torch.from_numpy(np.stack(arrays)).to(self.device)
            for arrays in zip(*((draw.maps, draw.truth_yx, draw.inside_yx) for draw in draws), strict=True)
        )
        with autocast(self.device, self.dtype):
            scores, iou = self.network(maps.contiguous(memory_format=torch.channels_last))
        loss = refine_loss(scores, iou, truth, inside)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT)
        self.optimiser.step()
        self.step += 1
        follow(self.average, self.network, min(self.settings.average, self.step / (9 + self.step)))
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """Everything that a resumed training needs."""
        return {
            "settings": self.settings.model_dump_json(),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


def refine_loss(scores: Tensor, iou: Tensor, truth: Tensor, inside: Tensor) -> Tensor:
    """Compare drawings with objects, where there is a micrograph.

    Parameters
    ----------
    scores : Tensor, shape (objects, side, side), float32
        Logits.
    iou : Tensor, shape (objects,), float32
        What the IoU is thought to be.
    truth, inside : Tensor, shape (objects, side, side), bool

    Returns
    -------
    Tensor
        Mean over the objects.
    """
    axes = (1, 2)
    there = (truth & inside).float()
    area = there.sum(axes)
    entropy = functional.binary_cross_entropy_with_logits(scores, there, reduction="none")
    entropy = (entropy * inside).sum(axes) / (2 * area + FLOOR)
    probability = scores.sigmoid() * inside
    overlap = (probability * there).sum(axes)
    jaccard = 1 - (overlap + 1) / (probability.sum(axes) + area - overlap + 1)
    found, truth = (scores.detach() > 0) & inside, truth & inside
    reached = (found & truth).sum(axes) / (found | truth).sum(axes).clamp(min=1)
    return (entropy + jaccard).mean() + IOU_WEIGHT * functional.mse_loss(iou, reached)


def evaluate(trainer: RefineTrainer, examples: Sequence[AskedExample]) -> dict[str, float]:
    """Mean IoU per object on whole micrographs; nothing if there are none."""
    redrawer = Redrawer(trainer.average, trainer.device, trainer.dtype)
    found: dict[str, list[float]] = {}
    nowhere, nobody = np.zeros((0, 2)), np.zeros(0, dtype=bool)
    for example in examples:
        image = PromptImage.of(as_micrograph(example.levels[0]), exclude_data_bar=False)
        for kind in ("click", "box"):
            if kind == "click":
                answers = [one.clicked for one in example.asked]
                prompts = [Prompt(1, np.array([one.click_yx], float), np.array([True])) for one in example.asked]
            else:
                answers = [one.boxed for one in example.asked]
                prompts = [Prompt(1, nowhere, nobody, one.drawn) for one in example.asked]
            redrawn = redrawer.redraw(image, prompts, answers)
            for name, masks in (("asked", answers), ("redrawn", redrawn)):
                found.setdefault(f"{kind} {name}", []).extend(
                    _iou(mask, example.objects_yx == one.id) for mask, one in zip(masks, example.asked, strict=True)
                )
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def _iou(found: ObjectMask, truth_yx: np.ndarray) -> float:
    shared = int((found.mask_yx & truth_yx[found.where]).sum())
    return shared / (int(found.mask_yx.sum()) + int(truth_yx.sum()) - shared)

"""From a recipe and a folder of data to a model file."""

from __future__ import annotations

import copy
import math
import os
import traceback
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.architectures import build_network, stride_of
from napari_matseg.core.checkpoints import SUFFIX, ModelCard, load_model, save_model
from napari_matseg.core.dataset import UNKNOWN_DISTANCE, Crops, load_examples, split
from napari_matseg.core.devices import autocast, choose_device, is_out_of_memory
from napari_matseg.core.export import make_folder
from napari_matseg.core.halo import measure_halo
from napari_matseg.core.held_out import cut_to_labels, hold_out_regions
from napari_matseg.core.losses import balanced_weights, weighted_sum
from napari_matseg.core.progress import Progress
from napari_matseg.core.start import start_from
from napari_matseg.core.train_check import evaluate_examples, learning_dtype, look_at
from napari_matseg.core.train_state import load_state, save_state
from napari_matseg.errors import InputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from napari_matseg.core.dataset import Example
    from napari_matseg.core.train_check import Look
    from napari_matseg.settings import TrainSettings

MAX_GRADIENT = 1.0  # norm beyond which gradients are scaled down
SLACK = 0.02  # of mean IoU of a few strokes, which is no difference
NAMED = 5  # images that a card names before it says how many more there are
MEASURED = 2  # micrographs on which the halo is measured


@dataclass(frozen=True, slots=True)
class TrainProgress(Progress):
    """One step of a training.

    Attributes
    ----------
    loss : float
        Mean over the last `evaluate_every` steps, as far as they were made since the training was last started.
    accuracy : dict or None
        What the validation gave, at the steps where there was one.
    look : Look or None
        What the network made of a part of a micrograph, at the same steps: of one that is held out, if there is any.
    """

    loss: float = math.nan
    accuracy: dict[str, Any] | None = None
    look: Look | None = None


def train_steps(
    settings: TrainSettings, data_folder: Path, out: Path, *, resume: bool = True, stop: Event | None = None
) -> Generator[TrainProgress, None, Path]:
    """Train a model; closing the generator stops, and the same call goes on from the last evaluation.

    Parameters
    ----------
    settings : TrainSettings
    data_folder : Path
        What the paths in the settings are relative to.
    out : Path
        Folder for the model file, made if it is missing.
    resume : bool
        Go on from where an interrupted training of the same settings stopped.
    stop : threading.Event, optional
        Once it is set, the training ends after the step it is at, and keeps the best weights so far.

    Yields
    ------
    TrainProgress
        After each step.

    Returns
    -------
    Path
        The model file, `out/NAME.safetensors`.

    Raises
    ------
    InputError, ModelError, SettingsError, OutputError
        If data, the model to start from, settings or folder cannot be used, or memory runs out.

    Notes
    -----
    AdamW (Loshchilov and Hutter 2019) with linear warm-up and a cosine schedule; the weights that are kept are
    an exponential moving average over the steps (Polyak and Juditsky 1992). Every crop is decided by the seed
    and its number, so that a resumed training sees the same crops.
    """
    try:
        return (yield from _train(settings, data_folder, out, resume, stop or Event()))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what fills the memory
        raise SettingsError(
            f"{settings.name}: the memory is too small to learn from {settings.batch} crops of {settings.crop} x "
            f"{settings.crop} px at a time with {settings.architecture.name} and encoder "
            f"{settings.architecture.encoder}; make crop or batch smaller, or take a smaller network."
        ) from None


def _train(
    settings: TrainSettings, data_folder: Path, out: Path, resume: bool, stop: Event
) -> Generator[TrainProgress, None, Path]:
    examples, held_out = _load(settings, data_folder)
    shown = (held_out or examples)[0]
    validation = [cut_to_labels(example, settings.normalise) for example in held_out]
    pixels = _pixels(examples, settings)
    crops = Crops([cut_to_labels(example, settings.normalise, _reach(settings)) for example in examples], settings)
    make_folder(out)

    state = _State.start(settings, balanced_weights(pixels))
    stride = stride_of(state.network)
    if settings.crop % stride:
        raise SettingsError(f"crop: {settings.crop} is no multiple of {stride}, the stride of the network; choose one.")
    saved = out / f"{settings.name}.resume"
    if resume and saved.is_file():
        state.load(saved, settings)
    losses: deque[float] = deque(maxlen=settings.evaluate_every)
    stopped = False
    for step, (image, classes, distance) in _batches(crops, settings, state.step, state.device):
        losses.append(state.advance(image.to(state.device), classes.to(state.device), distance.to(state.device)))
        stopped = stop.is_set()
        done = stopped or step + 1 in (settings.steps, settings.stop_after)
        accuracy = look = None
        if done or (step + 1) % settings.evaluate_every == 0:
            accuracy = evaluate_examples(state.kept, validation, settings, state.device) if validation else None
            look = look_at(state.kept, shown, settings, state.device)
            state.remember(accuracy)
            state.save(saved, settings)
        yield TrainProgress(step + 1, settings.steps, _note(accuracy), sum(losses) / len(losses), accuracy, look)
        if done or (settings.patience is not None and state.waited >= settings.patience):
            break
    if stopped:
        settings = settings.model_copy(update={"stop_after": state.step})

    best = state.kept
    if state.best_weights is not None:
        best = copy.deepcopy(state.kept)
        best.load_state_dict(state.best_weights)
    card = ModelCard(
        name=settings.name,
        description=settings.description,
        licence=settings.licence,
        data_source=settings.data_source,
        not_for=settings.not_for,
        classes=settings.classes,
        distance=settings.distance,
        architecture=settings.architecture,
        normalise=settings.normalise,
        pixel_size_nm=settings.pixel_size_nm,
        accuracy={"validation": state.best_accuracy | _about(settings, validation)} if state.best_accuracy else {},
        recipe=settings.model_dump(mode="json"),
    )
    path = out / f"{settings.name}{SUFFIX}"
    save_model(path, best.cpu(), card)
    if settings.measure_halo:
        trained = load_model(path, str(state.device))
        yield TrainProgress(state.step, settings.steps, "measuring the halo that tiles need")
        seen = [example.image_cyx for example in (held_out or examples)[:MEASURED]]
        halo, disagreement = measure_halo(trained, seen, state.device)
        save_model(path, best, trained.card.model_copy(update={"halo": halo, "disagreement": disagreement}))
    saved.unlink(missing_ok=True)
    return path


def _load(settings: TrainSettings, folder: Path) -> tuple[list[Example], list[Example]]:
    """Read what is learnt from, and what is validated on."""
    names, held_out = split(settings.data, settings.seed, folder)
    examples = load_examples(settings, names, folder)
    validation = load_examples(settings, held_out, folder)
    if settings.data.region is not None:
        examples, validation = hold_out_regions(examples, settings.data.region)
    return examples, validation


def _pixels(examples: Sequence[Example], settings: TrainSettings) -> list[int]:
    """How many pixels each class has; each must have some."""
    n = len(settings.classes)
    counts = [np.bincount(example.classes_yx.ravel(), minlength=256)[:n] for example in examples]
    pixels = [int(total) for total in np.sum(counts, axis=0)]
    missing = [spec.name for spec, count in zip(settings.classes, pixels, strict=True) if not count]
    if missing and not settings.synthetic:
        raise InputError(
            f"class {missing[0]!r} has no pixel in what is to be learnt from ({len(examples)} image(s)); label some, "
            "leave the class out, or hold out something else."
        )
    return pixels


def _reach(settings: TrainSettings) -> int:
    """Pixels of the micrograph that a crop may show around one of its pixels."""
    augment = settings.augment
    return math.ceil(settings.crop * math.sqrt(2 * augment.aspect) / augment.scale[0])


def _about(settings: TrainSettings, validation: Sequence[Example]) -> dict[str, Any]:
    """Say what the figures of a validation are of."""
    names = [example.name for example in validation]
    which = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    what = "held-out images" if settings.data.region is None else "held-out regions of the images learnt from"
    labelled = "" if settings.data.unlabelled is None else ", where labelled"
    return {"on": f"{what} ({which}){labelled}"}


@dataclass
class _State:
    """All that changes while training."""

    settings: TrainSettings
    balance: tuple[float, ...]
    device: torch.device
    network: nn.Module
    average: nn.Module | None
    optimiser: torch.optim.Optimizer
    step: int = 0
    waited: int = 0
    best_score: float = -math.inf
    best_accuracy: dict[str, Any] | None = None
    best_weights: dict[str, Tensor] | None = None

    @classmethod
    def start(cls, settings: TrainSettings, balance: tuple[float, ...]) -> _State:
        import torch

        torch.manual_seed(settings.seed)
        device = choose_device(settings.device)
        network = build_network(settings.architecture, len(settings.classes) + settings.distance)
        start_from(network, settings)
        network = network.to(device).to(memory_format=torch.channels_last)
        average = copy.deepcopy(network) if settings.average else None
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        return cls(settings, balance, device, network, average, optimiser)

    @property
    def kept(self) -> nn.Module:
        """The network whose weights are evaluated and kept."""
        return self.network if self.average is None else self.average

    def advance(self, image: Tensor, classes: Tensor, distance: Tensor) -> float:
        """Learn from one batch; give its loss."""
        import torch
        from torch.nn import functional

        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * _schedule(self.step, settings)
        self.network.train()
        torch.manual_seed(settings.seed + self.step)  # what is dropped out is the same in a training that was resumed
        with autocast(self.device, learning_dtype(settings, self.device)):
            output = self.network(image.contiguous(memory_format=torch.channels_last)).float()
        loss = weighted_sum(settings.losses, output[:, : len(settings.classes)], classes, self.balance)
        if settings.distance:
            known = distance != UNKNOWN_DISTANCE
            depth = functional.binary_cross_entropy_with_logits(output[:, -1], distance, reduction="none")
            loss = loss + (depth * known).sum() / known.sum().clamp(min=1)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT)
        self.optimiser.step()
        self.step += 1
        self._update_average()
        return float(loss.detach())

    def _update_average(self) -> None:
        import torch

        if self.average is None:
            return
        # A young average must not remember the random start.
        decay = min(self.settings.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)

    def remember(self, accuracy: dict[str, Any] | None) -> None:
        """Keep these weights if they are the best on what is held out; of what is as good there, the last."""
        if accuracy is None:
            return
        score = -math.inf if accuracy["mean_iou"] is None else accuracy["mean_iou"]
        self.waited = 0 if score > self.best_score else self.waited + 1
        best = max(score, self.best_score)
        # A few strokes are soon right, and then tell networks no longer apart that the rest of the image does.
        slack = 0.0 if self.settings.data.unlabelled is None else SLACK
        if score > self.best_score or (slack and score >= best - slack):
            self.best_accuracy = accuracy
            self.best_weights = {name: tensor.clone() for name, tensor in self.kept.state_dict().items()}
        self.best_score = best

    def save(self, path: Path, settings: TrainSettings) -> None:
        """Write all this to a file, whole or not at all."""
        content = {
            "settings": settings.model_dump_json(),
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "waited": self.waited,
            "best_score": self.best_score,
            "best_accuracy": self.best_accuracy,
            "best_weights": self.best_weights,
        }
        save_state(content, path)

    def load(self, path: Path, settings: TrainSettings) -> None:
        """Go on from a file that `save` wrote."""
        content = load_state(path, settings.model_dump_json(), self.device)
        self.network.load_state_dict(content["network"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.step, self.waited = content["step"], content["waited"]
        self.best_score, self.best_accuracy = content["best_score"], content["best_accuracy"]
        self.best_weights = content["best_weights"]


def _schedule(step: int, settings: TrainSettings) -> float:
    """Share of the learning rate at a step: up in a line, down in a half cosine."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    after = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * after))


def _batches(
    crops: Crops, settings: TrainSettings, first: int, device: torch.device
) -> Iterator[tuple[int, tuple[Tensor, Tensor, Tensor]]]:
    """Batches from step `first` on.

    A GPU gets them made while it works on those before; on the CPU that would only take turns with the network.
    """
    import torch

    workers = os.cpu_count() or 1
    ahead = 2 if device.type != "cpu" else 0
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[list[Future[tuple[np.ndarray, np.ndarray, np.ndarray]]]] = []
        for step in range(first, settings.steps):
            while len(waiting) <= ahead:
                number = (step + len(waiting)) * settings.batch
                waiting.append([pool.submit(crops.crop, number + i) for i in range(settings.batch)])
            made = [future.result() for future in waiting.pop(0)]
            image, classes, distance = (np.stack(part) for part in zip(*made, strict=True))
            yield step, (torch.from_numpy(image), torch.from_numpy(classes).long(), torch.from_numpy(distance))


def _note(accuracy: dict[str, Any] | None) -> str:
    if accuracy is None:
        return "training"
    return f"validation: mean IoU {accuracy['mean_iou']:.4f}, pooled {accuracy['pooled_iou']:.4f}"

"""From a recipe and a folder of data to a model file."""

from __future__ import annotations

import copy
import math
import os
import pickle
import warnings
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.architectures import build_network, stride_of
from napari_matseg.core.checkpoints import SUFFIX, ModelCard, load_model, save_model
from napari_matseg.core.dataset import UNKNOWN_DISTANCE, Crops, load_examples, split
from napari_matseg.core.devices import autocast, choose_device, choose_dtype
from napari_matseg.core.export import make_folder
from napari_matseg.core.halo import measure_halo
from napari_matseg.core.losses import balanced_weights, weighted_sum
from napari_matseg.core.metrics import Counts, Scores, count
from napari_matseg.core.normalise import grey_scale
from napari_matseg.core.progress import Progress
from napari_matseg.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from napari_matseg.core.dataset import Example
    from napari_matseg.settings import TrainSettings

MAX_GRADIENT = 1.0  # norm beyond which gradients are scaled down
MEASURED = 2  # micrographs on which the halo is measured


@dataclass(frozen=True, slots=True)
class TrainProgress(Progress):
    """One step of a training.

    Attributes
    ----------
    loss : float
        Mean over the last `evaluate_every` steps, as far as they were made since the training was last started.
    accuracy : dict or None
        What the validation images gave, at the steps where they were evaluated.
    """

    loss: float = math.nan
    accuracy: dict[str, Any] | None = None


def train_steps(
    settings: TrainSettings, data_folder: Path, out: Path, *, resume: bool = True
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
    InputError, SettingsError, OutputError
        If data, settings or folder cannot be used.

    Notes
    -----
    AdamW (Loshchilov and Hutter 2019) with linear warm-up and a cosine schedule; the weights that are kept are
    an exponential moving average over the steps (Polyak and Juditsky 1992). Every crop is decided by the seed
    and its number, so that a resumed training sees the same crops.
    """
    names, held_out = split(settings.data, settings.seed, data_folder)
    examples = load_examples(settings, names, data_folder)
    validation = load_examples(settings, held_out, data_folder)
    crops = Crops(examples, settings)
    seen = validation or examples
    make_folder(out)

    state = _State.start(settings, balanced_weights(_pixels(examples, len(settings.classes))))
    stride = stride_of(state.network)
    if settings.crop % stride:
        raise SettingsError(f"crop: {settings.crop} is no multiple of {stride}, the stride of the network; choose one.")
    saved = out / f"{settings.name}.resume"
    if resume and saved.is_file():
        state.load(saved, settings)
    losses: deque[float] = deque(maxlen=settings.evaluate_every)
    accuracy: dict[str, Any] | None = None
    for step, (image, classes, distance) in _batches(crops, settings, state.step, state.device):
        losses.append(state.advance(image.to(state.device), classes.to(state.device), distance.to(state.device)))
        accuracy = None
        done = step + 1 == settings.steps
        if done or (step + 1) % settings.evaluate_every == 0:
            accuracy = evaluate_examples(state.kept, validation, settings, state.device) if validation else None
            state.remember(accuracy)
            state.save(saved, settings)
        yield TrainProgress(step + 1, settings.steps, _note(accuracy), sum(losses) / len(losses), accuracy)
        if settings.patience is not None and state.waited >= settings.patience:
            break

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
        accuracy={"validation": state.best_accuracy} if state.best_accuracy else {},
        recipe=settings.model_dump(mode="json"),
    )
    path = out / f"{settings.name}{SUFFIX}"
    save_model(path, best.cpu(), card)
    trained = load_model(path, str(state.device))
    yield TrainProgress(state.step, settings.steps, "measuring the halo that tiles need")
    halo, disagreement = measure_halo(trained, [example.image_cyx for example in seen[:MEASURED]], state.device)
    save_model(path, best, trained.card.model_copy(update={"halo": halo, "disagreement": disagreement}))
    saved.unlink(missing_ok=True)
    return path


def evaluate_examples(
    network: nn.Module, examples: Sequence[Example], settings: TrainSettings, device: torch.device
) -> dict[str, Any]:
    """Segment each example whole and compare it with its truth.

    Returns
    -------
    dict
        As `Scores.to_dict`, pooled over the examples, and `iou_per_image`: the mean over images for each class.
    """
    import torch

    stride = stride_of(network)
    names = [spec.name for spec in settings.classes]
    total = Counts.zero(len(names))
    single: list[np.ndarray] = []
    network.eval()
    for example in examples:
        image = grey_scale(example.image_cyx, settings.normalise).apply(example.image_cyx)
        height, width = image.shape[1:]
        image = np.pad(image, ((0, 0), (0, -height % stride), (0, -width % stride)), mode="reflect")
        with torch.inference_mode(), autocast(device, _dtype(settings, device)):
            scores = network(torch.from_numpy(image)[None].to(device))[0, : len(names), :height, :width]
        prediction = scores.argmax(dim=0).to(torch.uint8).cpu().numpy()
        counts = count(prediction, example.classes_yx, len(names), ignore=255)
        single.append(Scores(counts).iou)
        total = total + counts
    per_image = {name: _mean(values) for name, values in zip(names, np.transpose(single), strict=True)}
    return Scores(total).to_dict(names) | {"iou_per_image": per_image}


def _pixels(examples: Sequence[Example], n_classes: int) -> list[int]:
    """How many pixels each class has."""
    counts = [np.bincount(example.classes_yx.ravel(), minlength=256)[:n_classes] for example in examples]
    return [int(total) for total in np.sum(counts, axis=0)]


def _mean(values: np.ndarray) -> float | None:
    """Mean of the values that are numbers; None where there are none."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else None


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
        with autocast(self.device, _dtype(settings, self.device)):
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
        """Keep these weights if they are the best on the validation images."""
        if accuracy is None:
            return
        score = accuracy["mean_iou"]
        if score is not None and score > self.best_score:
            self.best_score, self.best_accuracy, self.waited = score, accuracy, 0
            self.best_weights = {name: tensor.clone() for name, tensor in self.kept.state_dict().items()}
        else:
            self.waited += 1

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


def save_state(content: dict[str, Any], path: Path) -> None:
    """Write the state of a training, whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    import torch

    part = path.with_name(path.name + ".part")
    try:
        torch.save(content, part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:
        raise OutputError(f"{path}: the training's state cannot be written ({error}); free some space.") from error


def load_state(path: Path, settings: str, device: torch.device) -> dict[str, Any]:
    """Read what `save_state` wrote for a training of these settings.

    Raises
    ------
    SettingsError
        If the file is damaged, or belongs to other settings.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what other files hold, before it fails for it
            content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise SettingsError(
            f"{path}: is damaged or is not the state of a training; delete it, or train without resuming."
        ) from error
    if content["settings"] != settings:
        raise SettingsError(f"{path}: belongs to a training with other settings; delete it, or train without resuming.")
    return content


def _dtype(settings: TrainSettings, device: torch.device) -> torch.dtype:
    """Choose what the network computes in: never float16, in which small gradients vanish."""
    import torch

    dtype = choose_dtype(settings.precision, device)
    return torch.float32 if dtype == torch.float16 else dtype


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

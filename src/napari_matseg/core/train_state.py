"""All that changes while a network learns, and the file with which a training can go on."""

from __future__ import annotations

import copy
import math
import os
import pickle
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_matseg.core.architectures import build_network
from napari_matseg.core.dataset import UNKNOWN_DISTANCE
from napari_matseg.core.devices import autocast
from napari_matseg.core.losses import weighted_sum
from napari_matseg.core.start import start_from
from napari_matseg.core.train_check import learning_dtype
from napari_matseg.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from napari_matseg.core.checkpoints import PretrainedEncoder
    from napari_matseg.core.ranks import Ranks
    from napari_matseg.settings import TrainSettings

MAX_GRADIENT = 1.0  # norm beyond which gradients are scaled down
SLACK = 0.02  # of mean IoU of a few strokes, which is no difference


@dataclass
class TrainState:
    """All that changes while training.

    Attributes
    ----------
    balance : tuple of float
        Weight of each class where a loss asks for balanced ones.
    network : torch.nn.Module
        That learns.
    forward : callable
        The network as it is called to learn: compiled, or shared with other processes.
    average : torch.nn.Module or None
        Moving average of its weights.
    pretrained : PretrainedEncoder or None
        What the encoder began with.
    step : int
        How many were made.
    waited : int
        Evaluations since the best one.
    """

    settings: TrainSettings
    balance: tuple[float, ...]
    device: torch.device
    ranks: Ranks
    network: nn.Module
    forward: Callable[[Tensor], Tensor]
    average: nn.Module | None
    optimiser: torch.optim.Optimizer
    pretrained: PretrainedEncoder | None = None
    step: int = 0
    waited: int = 0
    best_score: float = -math.inf
    best_accuracy: dict[str, Any] | None = None
    best_weights: dict[str, Tensor] | None = field(default=None, repr=False)

    @classmethod
    def start(
        cls, settings: TrainSettings, balance: tuple[float, ...], device: torch.device, ranks: Ranks
    ) -> TrainState:
        """Be ready for the first step.

        Raises
        ------
        ModelError, SettingsError
            If the network, or the model to start from, cannot be used.
        """
        import torch

        torch.manual_seed(settings.seed)
        network = build_network(settings.architecture, len(settings.classes) + settings.distance)
        pretrained = start_from(network, settings)
        network = network.to(device).to(memory_format=torch.channels_last)
        average = copy.deepcopy(network) if settings.average else None
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        shared = ranks.share(network)
        forward = torch.compile(shared) if settings.compile else shared
        return cls(settings, balance, device, ranks, network, forward, average, optimiser, pretrained)

    @property
    def kept(self) -> nn.Module:
        """The network whose weights are evaluated and kept."""
        return self.network if self.average is None else self.average

    def best(self) -> nn.Module:
        """End: give the network with the best weights; without a validation, with the last."""
        if self.best_weights is not None:
            self.kept.load_state_dict(self.best_weights)
        return self.kept

    def advance(self, image: Tensor, classes: Tensor, distance: Tensor) -> Tensor:
        """Learn from one batch; give its loss, a number that a GPU may still be at.

        Parameters
        ----------
        image : Tensor, shape (batch, channels, crop, crop), float32
        classes : Tensor, shape (batch, crop, crop), int64
        distance : Tensor, shape (batch, crop, crop), float32
        """
        import torch
        from torch.nn import functional

        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * schedule(self.step, settings)
        self.network.train()
        torch.manual_seed(settings.seed + self.step)  # what is dropped out is the same in a training that was resumed
        with autocast(self.device, learning_dtype(settings, self.device)):
            output = self.forward(image.contiguous(memory_format=torch.channels_last)).float()
        # Ratios such as IoU are of the whole batch, and not the mean of those of its parts.
        output, classes, distance = map(self.ranks.gather, (output, classes, distance))
        loss = weighted_sum(settings.losses, output[:, : len(settings.classes)], classes, self.balance)
        if settings.distance:
            known = distance != UNKNOWN_DISTANCE
            depth = functional.binary_cross_entropy_with_logits(output[:, -1], distance, reduction="none")
            loss = loss + (depth * known).sum() / known.sum().clamp(min=1)
        self.optimiser.zero_grad(set_to_none=True)
        (loss * self.ranks.size).backward()  # the mean over the processes, which is taken next, is then their sum
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT)
        self.optimiser.step()
        self.step += 1
        self._update_average()
        return loss.detach()

    def _update_average(self) -> None:
        if self.average is None:
            return
        # A young average must not remember the random start.
        follow(self.average, self.network, min(self.settings.average, (1 + self.step) / (10 + self.step)))

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

    def save(self, path: Path) -> None:
        """Write all this to a file, whole or not at all.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        content = {
            "settings": self.settings.model_dump_json(),
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

    def load(self, path: Path) -> None:
        """Go on from a file that `save` wrote.

        Raises
        ------
        SettingsError
            If it is damaged, or belongs to other settings.
        """
        content = load_state(path, self.settings.model_dump_json(), self.device)
        self.network.load_state_dict(content["network"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.step, self.waited = content["step"], content["waited"]
        self.best_score, self.best_accuracy = content["best_score"], content["best_accuracy"]
        self.best_weights = content["best_weights"]


def schedule(step: int, settings: TrainSettings) -> float:
    """Share of the learning rate at a step: up in a line, down in a half cosine."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    after = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * after))


def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Bring a moving average of a network's weights up to date; what is no fraction is copied."""
    import torch

    with torch.no_grad():
        for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


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

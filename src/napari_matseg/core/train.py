"""From a recipe and a folder of data to a model file."""

from __future__ import annotations

import math
import time
import traceback
from collections import deque
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

from napari_matseg.core.allocator import kept_memory
from napari_matseg.core.architectures import stride_of
from napari_matseg.core.checkpoints import SUFFIX, ModelCard, load_model, save_model
from napari_matseg.core.dataset import Crops
from napari_matseg.core.devices import choose_device, is_out_of_memory
from napari_matseg.core.export import make_folder
from napari_matseg.core.halo import measure_halo
from napari_matseg.core.held_out import cut_to_labels
from napari_matseg.core.likeness import learnt_from_training
from napari_matseg.core.losses import balanced_weights
from napari_matseg.core.progress import Progress
from napari_matseg.core.ranks import Ranks
from napari_matseg.core.train_batches import Batches
from napari_matseg.core.train_check import evaluate_examples, look_at, try_on
from napari_matseg.core.train_data import count_pixels, load_data, portable, start_hash
from napari_matseg.core.train_state import TrainState
from napari_matseg.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_matseg.core.dataset import Example
    from napari_matseg.core.train_check import Look
    from napari_matseg.core.train_data import Data
    from napari_matseg.settings import TrainSettings

NAMED = 5  # images that a card names before it says how many more there are
MEASURED = 2  # micrographs on which the halo is measured


@dataclass(frozen=True, slots=True)
class TrainProgress(Progress):
    """One step of a training.

    Attributes
    ----------
    loss : float
        Mean over the last `evaluate_every` steps, as far as they were made since the training was last started; on a
        GPU without the very last one, at which it may still be.
    accuracy : dict or None
        What the validation gave, at the steps where there was one.
    look : Look or None
        What the network made of a part of a micrograph, at the same steps: of one that is held out, if there is any.
    waiting : float
        Share of the time for which the network waited for its crops since the training was last started.
    """

    loss: float = math.nan
    accuracy: dict[str, Any] | None = None
    look: Look | None = None
    waiting: float = 0.0


def train_steps(
    settings: TrainSettings,
    data_folder: Path,
    out: Path,
    *,
    resume: bool = True,
    stop: Event | None = None,
    workers: int = 0,
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
        Once it is set, the training ends after the step it is at, and keeps the best weights so far. Not for several
        processes.
    workers : int
        Processes that make the crops, for a GPU that waits for them; 0: threads. The crops are the same. Each is
        started as `multiprocessing` spawns one, so a script must guard what it does by
        ``if __name__ == "__main__"``.

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
    and its number, so that a resumed training sees the same crops. In processes that torchrun started, each learns from
    its share of every batch; losses and batch norms are of the whole batch, so that, but for rounding and what is
    dropped out, their number changes nothing. The first of them writes.
    """
    try:
        return (yield from _train(settings, data_folder, out, resume, stop or Event(), workers))
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
    settings: TrainSettings, data_folder: Path, out: Path, resume: bool, stop: Event, workers: int
) -> Generator[TrainProgress, None, Path]:
    ranks = Ranks.here()
    if settings.batch % ranks.size:
        raise SettingsError(f"batch: {settings.batch} crops cannot be shared out to {ranks.size} processes alike.")
    data = load_data(settings, data_folder)
    device = choose_device(ranks.device(settings.device))
    make_folder(out)
    with ranks.joined(device):
        state = TrainState.start(settings, balanced_weights(count_pixels(data.train, settings)), device, ranks)
        stride = stride_of(state.network)
        if settings.crop % stride:
            raise SettingsError(
                f"crop: {settings.crop} is no multiple of {stride}, the stride of the network; choose one."
            )
        saved = out / f"{settings.name}.resume"
        if resume and saved.is_file():
            state.load(saved)
        by_hand = yield from _learn(state, data, saved, stop, workers)
        path = out / f"{settings.name}{SUFFIX}"
        if ranks.is_first:
            if by_hand:
                settings = settings.model_copy(update={"stop_after": state.step})
            yield from _finish(state, settings, data, data_folder, path)
            saved.unlink(missing_ok=True)
    return path


def _learn(
    state: TrainState, data: Data, saved: Path, stop: Event, workers: int
) -> Generator[TrainProgress, None, bool]:
    """Make the steps that are still to be made; give whether `stop` ended them."""
    settings, ranks = state.settings, state.ranks
    crops = Crops([cut_to_labels(example, settings.normalise, _reach(settings)) for example in data.train], settings)
    validation = [cut_to_labels(example, settings.normalise) for example in data.validation]
    numbers = [
        range(step * settings.batch + ranks.rank, (step + 1) * settings.batch, ranks.size)
        for step in range(state.step, settings.steps)
    ]
    losses = _Losses(settings.evaluate_every, lag=state.device.type == "cuda")
    batches, start = Batches(crops, numbers, state.device, workers), time.perf_counter()
    by_hand = False
    with batches.open() as opened, kept_memory(wanted=state.device.type == "cpu"):
        for image, classes, distance in opened:
            losses.append(state.advance(image, classes, distance))
            by_hand = stop.is_set()
            ends = by_hand or state.step in (settings.steps, settings.stop_after)
            accuracy = look = None
            if ends or state.step % settings.evaluate_every == 0:
                if ranks.is_first:
                    accuracy = evaluate_examples(state.kept, validation, settings, state.device) if validation else None
                    look = look_at(state.kept, data.shown, settings, state.device)
                    state.remember(accuracy)
                    state.save(saved)
                ends = ends or (settings.patience is not None and state.waited >= settings.patience)
                ends = ranks.agree(ends, state.device)
            waiting = batches.waited_s / (time.perf_counter() - start)
            yield TrainProgress(state.step, settings.steps, _note(accuracy), losses.mean(), accuracy, look, waiting)
            if ends:
                break
    return by_hand


def _finish(
    state: TrainState, settings: TrainSettings, data: Data, data_folder: Path, path: Path
) -> Generator[TrainProgress, None, None]:
    """Try the best weights on the test images, and write them with their card."""
    best = state.best()
    accuracy = {}
    if state.best_accuracy:
        accuracy["validation"] = state.best_accuracy | _about(settings, data.validation, "held-out images")
    if data.test:
        yield TrainProgress(state.step, settings.steps, "trying the model on the test images")
        accuracy["test"] = try_on(best, data.test, settings, state.device) | _about(settings, data.test, "test images")
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
        accuracy=accuracy,
        images=data.files,
        start_sha256=start_hash(settings),
        learnt_from=learnt_from_training(settings, data.split.train, data_folder),
        pretrained=state.pretrained,
        recipe=portable(settings, data.split, data_folder),
    )
    save_model(path, best.cpu(), card)
    if not settings.measure_halo:
        return
    trained = load_model(path, str(state.device))
    if not isinstance(trained.layers, str):  # tiled in stages, which needs no halo
        return
    yield TrainProgress(state.step, settings.steps, "measuring the halo that tiles need")
    seen = [example.image_cyx for example in (data.validation or data.train)[:MEASURED]]
    halo, disagreement = measure_halo(trained, seen, state.device)
    save_model(path, best, trained.card.model_copy(update={"halo": halo, "disagreement": disagreement}))


class _Losses:
    """Mean of the last losses, without waiting for a GPU that is still at the very last one."""

    def __init__(self, most: int, *, lag: bool) -> None:
        self._values: deque[float] = deque(maxlen=most)
        self._pending: Tensor | None = None
        self._lag = lag

    def append(self, loss: Tensor) -> None:
        """Take in another."""
        if self._pending is not None:
            self._values.append(float(self._pending))
        self._pending = loss
        if not self._lag or not self._values:
            self._values.append(float(loss))
            self._pending = None

    def mean(self) -> float:
        """Mean of those that are known."""
        return sum(self._values) / len(self._values)


def _reach(settings: TrainSettings) -> int:
    """Pixels of the micrograph that a crop may show around one of its pixels."""
    augment = settings.augment
    return math.ceil(settings.crop * math.sqrt(2 * augment.aspect) / augment.scale[0])


def _about(settings: TrainSettings, examples: Sequence[Example], kind: str) -> dict[str, Any]:
    """Say what figures are of."""
    names = [example.name for example in examples]
    which = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    by_region = settings.data.region is not None and kind == "held-out images"
    what = "held-out regions of the images learnt from" if by_region else kind
    labelled = "" if settings.data.unlabelled is None else ", where labelled"
    return {"on": f"{what} ({which}){labelled}"}


def _note(accuracy: dict[str, Any] | None) -> str:
    if accuracy is None:
        return "training"
    return f"validation: mean IoU {accuracy['mean_iou']:.4f}, pooled {accuracy['pooled_iou']:.4f}"

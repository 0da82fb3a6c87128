"""Where a model is unsure: it is asked several times about the same micrograph, which looks a bit different each time.

Answers that are the same however the image is turned, magnified or lit are mostly right; where they change, or where
each is undecided, they are mostly not.
"""

from __future__ import annotations

import math
import shutil
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_matseg.core.large.parts import in_strips
from napari_matseg.core.normalise import grey_scale_steps
from napari_matseg.core.plan import make_plan
from napari_matseg.core.predict import TooLargeError, predict
from napari_matseg.core.progress import Progress
from napari_matseg.core.views import make_views
from napari_matseg.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    import torch

    from napari_matseg.core.checkpoints import Model
    from napari_matseg.core.normalise import GreyScale
    from napari_matseg.core.plan import Plan
    from napari_matseg.core.views import View, Where
    from napari_matseg.settings import SegmentSettings, UncertaintySettings

BAND = 1 << 22  # pixels that are worked out at once


@dataclass(frozen=True, eq=False)
class Unsure:
    """How unsure one or several models are about a plane.

    Attributes
    ----------
    map_yx : array, shape (height, width), float32
        0 where the answers are sure and the same, 1 where all classes are as likely.
    classes_yx : array, shape (height, width), uint8
        The likeliest class by the mean over all answers.
    answers : int
        How many there were.
    """

    map_yx: np.ndarray
    classes_yx: np.ndarray
    answers: int


@dataclass(frozen=True, eq=False)
class _Ask:
    """One question: which model, about what."""

    model: Model
    image_cyx: Any
    scale: GreyScale
    view: View
    plan: Plan


def unsure_steps(
    planes: Sequence[Any],
    name: str,
    models: Sequence[Model],
    settings: UncertaintySettings,
    device: torch.device,
    dtype: torch.dtype,
    folder: Path | None = None,
) -> Generator[Progress, None, Unsure]:
    """Ask one or several models about a plane, and find out where they are unsure.

    Parameters
    ----------
    planes : sequence of array, shape (channels, height, width)
        The plane as each model takes it, without the data bar; only slices of it are loaded.
    name : str
        Of the micrograph, for messages.
    models : sequence of Model
        Of the same classes, on `device`.
    settings : UncertaintySettings
    device : torch.device
    dtype : torch.dtype
        What the networks compute in.
    folder : Path, optional
        Where sums are kept in files while the image is too large for memory; what comes out lies there, too. Then no
        view is turned by a quarter. None: in memory.

    Yields
    ------
    Progress
        After each tile; closing the generator cancels.

    Returns
    -------
    Unsure

    Raises
    ------
    InputError
        If no tile is small enough for the memory.
    OutputError
        If the folder has no room.

    Notes
    -----
    With p the probabilities of an answer, P their mean over all answers, C the number of classes, and
    H(p) = -sum p log p: "entropy" is H(P) / log C (Shannon 1948), "mutual_information" (H(P) - mean H(p)) / log C,
    what is left of it once each answer is known (BALD: Houlsby et al. 2011, arXiv 1112.5745; Gal et al. 2017,
    arXiv 1703.02910), and "margin" 1 - (P1 - P2), the likeliest class less the next one (Scheffer et al. 2001). Answers
    about images that were changed and changed back: Wang et al. 2019, doi 10.1016/j.neucom.2019.01.103.
    """
    shape = int(planes[0].shape[1]), int(planes[0].shape[2])
    views = make_views(settings.views, settings.zoom, settings.contrast, turns=folder is None)
    scales: list[GreyScale] = []
    for plane, model in zip(planes, models, strict=True):
        scales.append((yield from grey_scale_steps(plane, model.card.normalise)))
    sums = _Sums(shape, len(models[0].card.classes), settings.measure, folder)
    largest: int | None = None
    while True:
        asks = [
            _Ask(model, plane, scale, view, _plan(model, view.see(plane), settings.segment, device, largest, folder))
            for plane, model, scale in zip(planes, models, scales, strict=True)
            for view in views
        ]
        tile = max(ask.plan.tile for ask in asks)
        if largest is not None and tile > largest:
            raise InputError(
                f"{name}: memory ran out at tiles of {2 * largest} px, and none smaller will do; close other programs, "
                "or choose device cpu, another tiling or a smaller model."
            )
        try:
            yield from _answers(asks, shape, device, dtype, sums)
        except (TooLargeError, MemoryError):
            pass  # the next plan is made outside, where nothing holds the memory any more
        else:
            break
        largest = tile // 2
        sums.clear()
    return sums.result(len(asks))


def _plan(
    model: Model, image_cyx: Any, settings: SegmentSettings, device: torch.device, largest: int | None, folder: Any
) -> Plan:
    plan = make_plan(model, image_cyx.shape[1:], settings, device, largest)
    return plan if folder is None else in_strips(plan)


def _answers(
    asks: Sequence[_Ask], shape: tuple[int, int], device: torch.device, dtype: torch.dtype, sums: _Sums
) -> Generator[Progress, None, None]:
    """Add up what each question is answered."""
    total = sum(len(ask.plan.tiles) for ask in asks)
    before = 0
    for number, ask in enumerate(asks, 1):
        note = f"asking, {number} of {len(asks)}"
        yield Progress(before, total, note)
        work = predict(
            ask.model,
            ask.view.see(ask.image_cyx),
            ask.view.scale(ask.scale),
            ask.plan,
            device=device,
            dtype=dtype,
            probabilities=True,
        )
        with closing(work):
            for done, piece in work:
                if piece is not None and piece.probabilities_cyx is not None:
                    sums.add(*ask.view.back(piece.where, piece.probabilities_cyx, shape))
                yield Progress(before + done, total, note)
        before += len(ask.plan.tiles)


class _Sums:
    """What the answers add up to, in memory or in files."""

    def __init__(self, shape: tuple[int, int], n_classes: int, measure: str, folder: Path | None) -> None:
        self._folder = folder
        self._measure = measure
        self._shape = shape
        each = measure == "mutual_information"
        if folder is not None:
            needed = math.prod(shape) * (4 * (n_classes + each) + 5)
            if shutil.disk_usage(folder).free < 1.05 * needed:
                raise OutputError(
                    f"{folder}: {needed / 1e9:.1f} GB are needed on the way, and there is less; free some, or choose "
                    "another folder."
                )
        self._mean_cyx = self._array("mean", (n_classes, *shape), np.float32)
        self._entropy_yx = self._array("entropy", shape, np.float32) if each else None

    def _array(self, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        if self._folder is None:
            return np.zeros(shape, dtype)
        return np.memmap(self._folder / f"{name}-{len(list(self._folder.iterdir()))}.raw", dtype, "w+", shape=shape)

    def add(self, where: Where, probabilities_cyx: np.ndarray) -> None:
        """Add one answer about a rectangle."""
        self._mean_cyx[:, *where] += probabilities_cyx
        if self._entropy_yx is not None:
            self._entropy_yx[where] += entropy(probabilities_cyx)

    def clear(self) -> None:
        """Begin again."""
        self._mean_cyx[:] = 0
        if self._entropy_yx is not None:
            self._entropy_yx[:] = 0

    def result(self, answers: int) -> Unsure:
        """Work out the measure, some rows at a time."""
        map_yx, classes_yx = self._array("map", self._shape, np.float32), self._array("classes", self._shape, np.uint8)
        height, width = self._shape
        step = max(1, BAND // width)
        for rows in (slice(first, first + step) for first in range(0, height, step)):
            mean_cyx = self._mean_cyx[:, rows] / answers
            classes_yx[rows] = mean_cyx.argmax(axis=0)
            if self._measure == "margin":
                ordered = np.partition(mean_cyx, -2, axis=0)
                map_yx[rows] = 1 - (ordered[-1] - ordered[-2])
                continue
            map_yx[rows] = entropy(mean_cyx)
            if self._entropy_yx is not None:  # rounding may leave less than nothing
                map_yx[rows] = np.maximum(map_yx[rows] - self._entropy_yx[rows] / answers, 0)
        return Unsure(map_yx, classes_yx, answers)


def entropy(probabilities_cyx: np.ndarray) -> np.ndarray:
    """Entropy of probabilities as a share of its largest value.

    Parameters
    ----------
    probabilities_cyx : array, shape (classes, ...)
        They sum to 1 along the first axis.

    Returns
    -------
    array, shape (...)
        0 where one class is sure, 1 where all are as likely.

    Examples
    --------
    >>> entropy(np.array([[0.5, 1.0], [0.5, 0.0]])).tolist()
    [1.0, 0.0]
    """
    tiny = np.finfo(np.float32).tiny
    share: np.ndarray = (probabilities_cyx * -np.log(np.maximum(probabilities_cyx, tiny))).sum(axis=0)
    return np.clip(share / math.log(len(probabilities_cyx)), 0, 1)

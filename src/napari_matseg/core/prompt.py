"""PromptSession: an image is embedded once, which is costly; after that each click is answered at once."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, replace
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from napari_matseg.core.allocator import kept_memory
from napari_matseg.core.embeddings import Recent
from napari_matseg.core.objects import ObjectMask, bounding_box, clean
from napari_matseg.core.progress import Progress, finish
from napari_matseg.core.prompt_image import PromptImage
from napari_matseg.core.prompt_model import PromptModel, structure
from napari_matseg.core.read import as_micrograph
from napari_matseg.core.windows import Aim, Window, Windows
from napari_matseg.errors import InputError, SettingsError
from napari_matseg.settings import PromptSettings, explain

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.prompt_model import Views
    from napari_matseg.core.prompts import Prompt
    from napari_matseg.core.sam.weights import PromptableModel

RECENT = 12
"""Windows whose embeddings are kept in memory, of some 14 MB for each view; others are found on disk."""
AHEAD = 64
"""Windows that are embedded before they are needed, at most."""
TURN_S = 0.005
"""Pause between them, in which a prompt that waits for the model gets it: locks by themselves are not fair."""


@dataclass(frozen=True, slots=True)
class PromptProgress(Progress):
    """How far prompts have been answered.

    Attributes
    ----------
    found : tuple of ObjectMask
        Those that are new since the last one, in any order.
    """

    found: tuple[ObjectMask, ...] = ()


@dataclass(frozen=True, eq=False)
class _Open:
    """The image that is being worked on, and how."""

    model: PromptModel
    image: PromptImage
    settings: PromptSettings
    windows: Windows
    area_px: tuple[float, float] | None
    recent: Recent[Views]


@dataclass(frozen=True, eq=False)
class _Asked:
    """A prompt on its way from window to window, in pixels of the rows that are seen."""

    number: int
    prompt: Prompt
    aim: Aim
    again: bool = False


class PromptSession:
    """Masks for points, boxes and labels, on one image after another.

    May be used by several threads; they take turns at the model.

    Parameters
    ----------
    settings : PromptSettings, optional
    loaded : PromptableModel, optional
        A model that is in memory already, instead of the one that the settings name.
    **changes
        Fields of `PromptSettings` that differ from `settings`, such as ``model="vit_b"``.

    Raises
    ------
    SettingsError
        If a field is unknown or a value impossible.

    Examples
    --------
    >>> from napari_matseg.core.prompts import Prompt
    >>> session = PromptSession(model="compact")
    >>> session.set_image("micrograph.tif")  # doctest: +SKIP
    >>> session.predict(Prompt(1, np.array([[120.0, 80.0]]), np.array([True]))).mask_yx  # doctest: +SKIP
    """

    def __init__(
        self, settings: PromptSettings | None = None, *, loaded: PromptableModel | None = None, **changes: Any
    ) -> None:
        self._settings = _change(settings or PromptSettings(), changes)
        self._loaded = loaded
        self._model: PromptModel | None = None
        self._open: _Open | None = None
        self._lock = RLock()

    @property
    def settings(self) -> PromptSettings:
        """By what masks are made.

        Others count for the prompts that come, `exclude_data_bar` and `cache_gb` for the images that come; another
        model, device, precision or number of views takes another session (SettingsError).
        """
        return self._settings

    @settings.setter
    def settings(self, settings: PromptSettings) -> None:
        for name in ("model", "device", "precision", "views"):
            if getattr(settings, name) != getattr(self._settings, name):
                raise SettingsError(f"{name} cannot change in a session; begin another PromptSession.")
        with self._lock:
            if self._open is not None:
                self._open = _opened(self._open.model, self._open.image, settings, self._open.recent)
            self._settings = settings

    @property
    def note(self) -> str:
        """What the user should know, such as that embeddings cannot be kept; empty if there is nothing."""
        return "" if self._model is None else self._model.note

    @property
    def image(self) -> PromptImage:
        """What prompts are answered on (InputError before the first `set_image`)."""
        return self._current().image

    @property
    def windows(self) -> Windows:
        """All windows that the image may be seen through (InputError before the first `set_image`)."""
        return self._current().windows

    @property
    def area_px(self) -> tuple[float, float] | None:
        """Limits of an object's area in pixels of the image (InputError before the first `set_image`)."""
        return self._current().area_px

    def describe_model(self) -> dict[str, Any]:
        """Say what identifies the model, in plain JSON types; nothing but its name before it is loaded."""
        if self._model is None:
            return {"name": self._settings.model}
        loaded, refiner = self._model.loaded, self._model.refiner
        redrawn = {"refiner_sha256": refiner.card.weights_sha256} if refiner and self._settings.refine else {}
        return {
            "name": loaded.name,
            "path": str(loaded.path),
            "weights_sha256": loaded.sha256,
            "device": str(self._model.device),
            "precision": str(self._model.dtype).removeprefix("torch."),
            **redrawn,
        }

    def set_image(self, image: str | Path | np.ndarray | Micrograph, plane: int = 0) -> None:
        """Take an image and embed what will be needed first; see `set_image_steps`."""
        finish(self.set_image_steps(image, plane))

    def set_image_steps(
        self, image: str | Path | np.ndarray | Micrograph, plane: int = 0
    ) -> Generator[Progress, None, None]:
        """Take an image and embed its middle, which is all of it where it is not large.

        As soon as it is read, prompts that are on their way on the image before are answered no more. The rest is
        embedded when it is needed, or by `ahead_steps`, as is everything where this is cancelled.

        Parameters
        ----------
        image : path, array or Micrograph
            An array is (height, width), or (height, width, 3) for true colour; for stacks give a Micrograph.
        plane : int
            Of a stack, counted in C order.

        Yields
        ------
        Progress

        Raises
        ------
        MatsegError
            If image, model or settings cannot be used; the message says what to do.
        """
        yield Progress(0, 3, "loading the model")
        with self._lock:
            model = self._model = self._model or PromptModel.load(self._settings, self._loaded)
        yield Progress(1, 3, "reading the image")
        seen = PromptImage.of(as_micrograph(image), plane, exclude_data_bar=self._settings.exclude_data_bar)
        with self._lock:
            opened = self._open = _opened(model, seen, self._settings, Recent(RECENT))
        yield Progress(2, 3, "embedding")
        y, x = ((length - 1) / 2 for length in seen.shape_yx)
        aim = Aim.at((y, x, y, x), whole=False, area_px=opened.area_px)
        with self._lock:
            self._prepared(opened, opened.windows.first(aim))
        yield Progress(3, 3, self.note)

    def ahead_steps(self) -> Generator[Progress, None, None]:
        """Embed the finer windows that single clicks will need, if they are few, while prompts are answered.

        They are kept on disk; where nothing is kept there, and for models that look at each object once, this does
        nothing. It ends early when another image takes the place of this one.

        Yields
        ------
        Progress
        """
        opened = self._current()
        windows = opened.windows.ahead(AHEAD) if self._settings.cache_gb else []
        for done, window in enumerate(windows):
            yield Progress(done, len(windows), "embedding details")
            time.sleep(TURN_S)
            with self._lock:
                if self._open is None or self._open.image is not opened.image:
                    return
                opened.model.embed(opened.image, window)
        yield Progress(max(1, len(windows)), max(1, len(windows)), self.note)

    def predict(self, prompt: Prompt) -> ObjectMask:
        """Answer one prompt.

        Parameters
        ----------
        prompt : Prompt
            In pixels of the whole plane, data bar included.

        Returns
        -------
        ObjectMask
            In the same pixels, cleaned as the settings say.

        Raises
        ------
        InputError
            If there is no image, or another one has taken its place meanwhile; if the prompt is empty, lies outside
            the image, in its data bar or on another plane.
        """
        return finish(self.predict_steps([prompt]))[0]

    def predict_steps(
        self, prompts: Sequence[Prompt], *, least_stability: float = 0.0
    ) -> Generator[PromptProgress, None, list[ObjectMask]]:
        """Answer many prompts, each as `predict` does; closing the generator cancels.

        Parameters
        ----------
        prompts : sequence of Prompt
        least_stability : float
            Answers that are less stable are given as they are, and not asked for again in a window that would suit
            them better.

        Yields
        ------
        PromptProgress
            With the objects as they are found.

        Returns
        -------
        list of ObjectMask
            In the order of the prompts.

        Raises
        ------
        InputError
            As `predict` does; what is wrong with any of the prompts is said before the first is answered.
        """
        opened = self._current()
        # Giving memory back takes longer than answering a single click.
        with kept_memory(wanted=len(prompts) > opened.model.batch):
            return (yield from self._predict_steps(opened, prompts, least_stability))

    def _predict_steps(
        self, opened: _Open, prompts: Sequence[Prompt], least_stability: float
    ) -> Generator[PromptProgress, None, list[ObjectMask]]:
        waiting: dict[Window, list[_Asked]] = defaultdict(list)
        for number, prompt in enumerate(prompts):
            asked = _ask(number, prompt, opened)
            waiting[opened.windows.first(asked.aim)].append(asked)
        found: dict[int, ObjectMask] = {}
        total = max(1, len(prompts))
        while waiting:
            # From fine to coarse, which is the way that prompts go; and along rows, which files have together.
            window = min(waiting, key=lambda one: (one.side, one.top, one.left))
            yield PromptProgress(len(found), total, "embedding")
            for batch in self._batches(opened, window, waiting.pop(window)):
                settled: list[tuple[_Asked, ObjectMask]] = []
                for asked, answer in self._answer(opened, window, batch):
                    box = bounding_box(answer) if answer.stability >= least_stability else None
                    onward = box and opened.windows.next(window, asked.aim, box, again=asked.again)
                    if onward:
                        waiting[onward].append(replace(asked, again=True))
                    else:
                        settled.append((asked, answer))
                new = self._settle(opened, settled, least_stability)
                found |= new
                yield PromptProgress(len(found), total, "segmenting", tuple(new.values()))
        if self.note:
            yield PromptProgress(len(found), total, self.note)
        return [found[number] for number in range(len(prompts))]

    def _current(self) -> _Open:
        if self._open is None:
            raise InputError("there is no image to segment; call set_image first.")
        return self._open

    def _batches(self, opened: _Open, window: Window, asked: list[_Asked]) -> list[list[_Asked]]:
        """Prompts that can be answered together."""
        most = opened.model.batch
        alike: dict[tuple[int, bool, bool], list[_Asked]] = defaultdict(list)
        for one in asked:
            alike[structure(one.prompt, window)].append(one)
        return [group[i : i + most] for group in alike.values() for i in range(0, len(group), most)]

    def _answer(self, opened: _Open, window: Window, batch: list[_Asked]) -> list[tuple[_Asked, ObjectMask]]:
        with self._lock:
            prepared = self._prepared(opened, window)
            prompts = [asked.prompt for asked in batch]
            answers = opened.model.answer(prepared, window, prompts, opened.settings, opened.area_px)
        return list(zip(batch, answers, strict=True))

    def _settle(
        self, opened: _Open, settled: list[tuple[_Asked, ObjectMask]], least_stability: float
    ) -> dict[int, ObjectMask]:
        """Draw final answers that are stable again, clean all, and move them into the plane."""
        found = {asked.number: answer for asked, answer in settled}
        again = [(asked, answer) for asked, answer in settled if answer.stability >= least_stability]
        with self._lock:
            redrawn = opened.model.redraw(
                opened.image, [asked.prompt for asked, _ in again], [answer for _, answer in again], opened.settings
            )
        found |= {asked.number: answer for (asked, _), answer in zip(again, redrawn, strict=True)}
        top = opened.image.rows.start
        return {number: clean(replace(one, top=one.top + top), opened.settings) for number, one in found.items()}

    def _prepared(self, opened: _Open, window: Window) -> Views:
        """Embed a window of the image, unless that was done; the lock is held."""
        if self._open is None or self._open.image is not opened.image:
            raise InputError("the image was replaced by another one; ask again for that one.")
        prepared = opened.recent.get(window)
        if prepared is None:
            prepared = opened.model.prepare(opened.image, window)
            opened.recent.put(window, prepared)
        return prepared


def _change(settings: PromptSettings, changes: dict[str, Any]) -> PromptSettings:
    try:
        return PromptSettings.model_validate(settings.model_dump() | changes)
    except ValidationError as error:
        raise SettingsError(explain(error)) from error


def _opened(model: PromptModel, image: PromptImage, settings: PromptSettings, recent: Recent[Views]) -> _Open:
    windows = Windows(image.shape_yx, model.frame, settings.scale, model.look)
    return _Open(model, image, settings, windows, _area_px(image.micrograph, settings), recent)


def _area_px(micrograph: Micrograph, settings: PromptSettings) -> tuple[float, float] | None:
    """Limits of the area in pixels; those in nm² come first where the pixel size is known."""
    if settings.area_nm2 is None:
        return settings.area_px
    if micrograph.pixel_size_nm is not None:
        height, width = micrograph.pixel_size_nm
        return settings.area_nm2[0] / (height * width), settings.area_nm2[1] / (height * width)
    if settings.area_px is None:
        raise InputError(
            f"{micrograph.name}: its pixel size is unknown, so area_nm2 has no meaning; give area_px or the pixel size."
        )
    return settings.area_px


def _ask(number: int, prompt: Prompt, opened: _Open) -> _Asked:
    """Check a prompt and move it into the rows that are seen."""
    image = opened.image
    what = f"{image.micrograph.name}: object {prompt.id}"
    if prompt.plane != image.plane:
        raise InputError(f"{what} is on plane {prompt.plane}; set the image to that plane, this is {image.plane}.")
    top = image.rows.start
    points = prompt.points_yx - [top, 0]
    box = None if prompt.box_yx is None else tuple(np.subtract(prompt.box_yx, [top, 0, top, 0]).tolist())
    mask = None if prompt.mask is None else replace(prompt.mask, top=prompt.mask.top - top)
    edges = [edge for edge in (box, mask and bounding_box(mask)) if edge is not None]
    clicks = points[prompt.positive] if prompt.positive.any() else points
    known = np.array([*edges, *([y, x, y, x] for y, x in clicks)]).reshape(-1, 4)
    if not len(known):
        raise InputError(f"{what} has no point, no box and no label; give it one.")
    height, width = image.shape_yx
    if not (np.all(known[:, 2:] >= -0.5) and np.all(known[:, :2] < np.array([height, width]) - 0.5)):
        barred = height < image.micrograph.shape_yx[0]
        or_bar = f", or in its data bar (all but rows {top} to {image.rows.stop - 1})" if barred else ""
        raise InputError(f"{what} lies outside the image{or_bar}; leave it out, or move it.")
    around = (*known[:, :2].min(axis=0).tolist(), *known[:, 2:].max(axis=0).tolist())
    aim = Aim.at(around, whole=bool(edges), area_px=opened.area_px)
    return _Asked(number, replace(prompt, points_yx=points, box_yx=box, mask=mask), aim)

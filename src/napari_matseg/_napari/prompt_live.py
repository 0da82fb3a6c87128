"""Click and see: masks that follow the points, until they are accepted or dropped."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from threading import Event

import numpy as np
from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtCore import QObject, Signal

from napari_matseg._napari.jobs import Job
from napari_matseg._napari.prompt_asked import prompts_of, say_left
from napari_matseg._napari.prompt_job import answer
from napari_matseg._napari.prompt_layers import mark, points_on
from napari_matseg._napari.prompt_ledger import Accepted, Ledger
from napari_matseg._napari.prompt_points import Clicks
from napari_matseg._napari.prompt_preview import Preview
from napari_matseg._napari.prompt_results import Shown
from napari_matseg.core.embeddings import Recent
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.objects import ObjectMask
from napari_matseg.core.prompt import PromptSession
from napari_matseg.core.prompts import Prompt
from napari_matseg.errors import MatsegError
from napari_matseg.settings import PromptSettings

PATIENCE_S = 0.12
"""How long the window waits for the answer to a click before it goes on without it."""
ANSWERS = 500
"""So many are remembered, for points that are moved back."""
Key = tuple[int, int, bytes]
"""Plane, object and points, which an answer is to."""
Answer = tuple[ObjectMask, Prompt]


class Live(QObject):
    """Asks for a mask whenever the points of an object change, and shows it until it is accepted.

    An answer counts only if the points are still those that it was asked with. Everything but the asking happens in
    the main thread.

    Parameters
    ----------
    viewer : Viewer
    image : Layer
    clicks : Clicks
    begin : callable
        Makes the results that accepted masks go to, when there are none.
    """

    said = Signal(str)
    """Rich text for the user."""
    failed = Signal(str)
    """One line for the user."""
    accepted = Signal()
    """Objects were accepted, removed or restored."""

    def __init__(
        self, viewer: Viewer, image: Layer, clicks: Clicks, begin: Callable[[], Shown], parent: QObject
    ) -> None:
        super().__init__(parent)
        self._viewer, self._image, self._clicks = viewer, image, clicks
        self._ledger = Ledger(begin)
        self.pending: dict[int, Answer] = {}
        self._waiting: list[int] = []
        self._at_once: set[int] = set()
        self._asked: tuple[Key, Prompt] | None = None
        self._done = Event()
        self._answers: Recent[Answer] = Recent(ANSWERS)
        self._session: PromptSession | None = None
        self._micrograph: Micrograph | None = None
        self._settings = PromptSettings()
        self._plane = 0
        self._preview = Preview(viewer, image, clicks.layer)
        self._job = Job(self)
        self._job.succeeded.connect(self._on_answer)
        self._job.failed.connect(self.failed)
        self._job.ended.connect(self._on_ended)
        clicks.changed.connect(self._on_changed)

    @property
    def settings(self) -> PromptSettings:
        """What is answered by."""
        return self._settings

    @property
    def busy(self) -> bool:
        """Whether answers are still to come."""
        return bool(self._waiting) or self._job.running

    def ready(self, session: PromptSession, micrograph: Micrograph, plane: int) -> None:
        """Begin to answer, with a session in which the plane is embedded."""
        self._session, self._micrograph, self._plane = session, micrograph, plane
        self._settings = session.settings
        self._answers = Recent(ANSWERS)
        self._reconsider(set(self._waiting))

    def pause(self) -> None:
        """Answer nothing until `ready`, since what was embedded is not what is wanted any more."""
        self._session = None
        self._job.cancel()
        asked = [] if self._asked is None else [self._asked[0][1]]
        self._waiting += [one for one in (*self.pending, *asked) if one not in self._waiting]
        self.pending.clear()
        self._show()

    def use(self, shown: Shown | None) -> None:
        """Go on from these results, which the points as they are stand for."""
        prompts = {} if shown is None else shown.found.prompts
        signatures = self._clicks.signatures()
        accepted = {one: Accepted(signatures.get(one, b""), prompt) for one, prompt in prompts.items()}
        self._ledger.use(shown, accepted)
        self.pending.clear()
        self._waiting.clear()
        self._at_once.clear()
        self._show()

    def change(self, settings: PromptSettings) -> None:
        """Answer by other settings, what is not accepted yet as well.

        Raises
        ------
        MatsegError
            If they make no sense for this image.
        """
        if self._session is not None and settings != self._settings:
            self._session.settings = self._settings = settings
            self._answers = Recent(ANSWERS)
            self._reconsider({*self.pending, *self._waiting})

    def close(self) -> None:
        """Stop, and take the preview away."""
        self.pause()
        self._clicks.changed.disconnect(self._on_changed)
        self._preview.remove()

    def at(self, y: float, x: float) -> int:
        """Object that is shown at a place of the plane on view, accepted or not; 0 for none."""
        shown = self._ledger.shown
        return self._preview.at(y, x) or (0 if shown is None else shown.found.at(self._plane, y, x))

    def accept(self) -> None:
        """Put what is previewed into the results, what is still being asked as soon as it is answered."""
        self._at_once.update(self._waiting)
        if self._job.running and self._asked is not None:
            self._at_once.add(self._asked[0][1])
        if self.pending:
            self._take(list(self.pending))
        elif not self._at_once:
            self.said.emit("There is nothing to accept; click on an object first.")

    def drop(self) -> None:
        """Put the points of the last object that is not accepted back to what they were when it was."""
        ones = [*self.pending, *self._waiting]
        if not ones:
            self.said.emit("There is nothing to drop.")
            return
        one = self._clicks.current if self._clicks.current in ones else ones[-1]
        accepted = self._ledger.get(one)
        self._ledger.moved(self._clicks.kept())
        self._reconsider(self._clicks.revert(one, b"" if accepted is None else accepted.signature) | {one})
        self.said.emit(f"Object {one} is {'dropped' if accepted is None else 'as it was'}.")

    def undo(self) -> None:
        """Take back the last click, move, removal, acceptance or drop."""
        step = self._ledger.undo()
        if step is None:
            self.said.emit("There is nothing to undo.")
            return
        changed = set(step.before)
        if step.points is not None:
            changed |= self._clicks.restore(step.points)
        if step.changes:
            self.accepted.emit()
        self._reconsider(changed)
        self.said.emit("Undone.")

    def _on_changed(self, ones: set[int]) -> None:
        gone = [one for one in sorted(ones) if self._is_gone(one)]
        if self._ledger.moved(self._clicks.before, gone):
            self.accepted.emit()
            self.said.emit(f"Removed with {'its' if len(gone) == 1 else 'their'} points: {_name(gone)}.")
        self._reconsider(ones)

    def _is_gone(self, one: int) -> bool:
        accepted = self._ledger.get(one)
        return not self._clicks.signature(one) and (accepted is None or not accepted.stands_alone)

    def _reconsider(self, ones: set[int]) -> None:
        """See what is to be asked, and what is answered already, for objects whose points may be others now."""
        for one in sorted(ones):
            signature, accepted = self._clicks.signature(one), self._ledger.get(one)
            known = self._answers.get((self._plane, one, signature))
            if one in self._waiting:
                self._waiting.remove(one)
            if self._is_gone(one) or (accepted is not None and accepted.signature == signature):
                self.pending.pop(one, None)
            elif known is not None:
                self.pending[one] = known
            else:
                self._waiting.append(one)
        self._show()
        self._next()
        if self._job.running and not self._waiting:
            # Were the view drawn meanwhile, and that without a GPU, it would keep the processor from the answer.
            self._done.wait(PATIENCE_S)

    def _next(self) -> None:
        """Ask for the next mask, if none is being asked for."""
        while self._session is not None and self._waiting and not self._job.running:
            one = self._waiting.pop(0)
            try:
                prompt = self._prompt(one)
            except MatsegError as error:
                self.failed.emit(str(error))
                continue
            if prompt is None:
                self.pending.pop(one, None)
                self._show()
                continue
            self._asked = (self._plane, one, self._clicks.signature(one)), prompt
            self._done.clear()
            self._job.start(answer(self._session, prompt, self._done), None)

    def _prompt(self, one: int) -> Prompt | None:
        """Prompt of an object, if it is on the plane on view; says what is left out of it."""
        points = self._clicks.layer
        whole = points_on(self._image, points, self._viewer.dims.point)
        accepted = self._ledger.get(one)
        prompts, left = prompts_of(
            whole.of(one),
            self._micrograph,
            exclude_data_bar=self._settings.exclude_data_bar,
            known=None if accepted is None else accepted.prompt,
        )
        mine = np.flatnonzero(whole.objects == one)
        mark(points, mine, mine[[item.row - 1 for item in left if item.kind == "point"]])
        if left:
            self.said.emit(escape(say_left(left)))
        return next((prompt for prompt in prompts if prompt.plane == self._plane), None)

    def _on_answer(self, found: ObjectMask) -> None:
        if self._asked is None or self._session is None:
            return
        key, prompt = self._asked
        self._answers.put(key, (found, prompt))
        plane, one, signature = key
        if plane != self._plane or self._clicks.signature(one) != signature or one in self._waiting:
            return
        self.pending.pop(one, None)
        self.pending[one] = found, prompt  # the last one is the first to be dropped
        if one in self._at_once:
            self._take([one])
        else:
            self._show()
            self.said.emit(_describe(found))

    def _on_ended(self, cancelled: bool) -> None:
        self._asked = None
        self._next()

    def _take(self, ones: list[int]) -> None:
        """Accept what is previewed of these objects."""
        taken = {one: self.pending.pop(one) for one in ones}
        self._at_once.difference_update(ones)
        self._ledger.take((self._clicks.signature(one), *answered) for one, answered in taken.items())
        self._show()
        self.accepted.emit()
        self.said.emit(f"Accepted: {_name(ones)}.")

    def _show(self) -> None:
        shape = () if self._micrograph is None else self._micrograph.shape_planes
        planes = tuple(int(i) for i in np.unravel_index(self._plane, shape))
        self._preview.show([mask for mask, _ in self.pending.values()], planes)


def _name(ones: list[int]) -> str:
    return f"object {ones[0]}" if len(ones) == 1 else f"{len(ones)} objects"


def _describe(found: ObjectMask) -> str:
    area = int(np.count_nonzero(found.mask_yx))
    if not area:
        return f"Object {found.id}: nothing was found there. Move the point, or add another."
    return (
        f"Object {found.id}: {area} px, predicted IoU {found.iou:.2f}, stability {found.stability:.2f}. "
        "Enter accepts, Esc drops."
    )

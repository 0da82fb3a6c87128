"""What was accepted, with which points, and how to take it back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from napari_matseg._napari.prompt_points import Kept
from napari_matseg._napari.prompt_results import Shown
from napari_matseg.core.assembly import Change
from napari_matseg.core.objects import ObjectMask
from napari_matseg.core.prompts import Prompt

STEPS = 200
"""So many can be undone."""


@dataclass(frozen=True, eq=False)
class Accepted:
    """What an object was accepted with: its points, as `Clicks.signature` gives them, and all that was asked."""

    signature: bytes
    prompt: Prompt

    @property
    def stands_alone(self) -> bool:
        """Whether it has a box or a label, and so is there without a point."""
        return self.prompt.box_yx is not None or self.prompt.mask is not None


@dataclass(eq=False)
class Step:
    """What one act of the user changed."""

    points: Kept | None = None
    changes: list[Change] = field(default_factory=list)
    before: dict[int, Accepted | None] = field(default_factory=dict)


class Ledger:
    """Results with a history.

    Parameters
    ----------
    begin : callable
        Makes the results that accepted objects go to, when there are none.
    """

    def __init__(self, begin: Callable[[], Shown]) -> None:
        self._begin = begin
        self._accepted: dict[int, Accepted] = {}
        self._steps: deque[Step] = deque(maxlen=STEPS)
        self.shown: Shown | None = None

    def use(self, shown: Shown | None, accepted: dict[int, Accepted]) -> None:
        """Go on from other results; what was done before cannot be undone any more."""
        self.shown = shown
        self._accepted = accepted
        self._steps.clear()

    def get(self, one: int) -> Accepted | None:
        """Give what an object was accepted with; None if it was not."""
        return self._accepted.get(one)

    def take(self, objects: Iterable[tuple[bytes, ObjectMask, Prompt]]) -> None:
        """Accept objects, instead of what had their ids."""
        if self.shown is None or not self.shown.there:
            self.use(self._begin(), {})
        step = Step()
        for signature, found, prompt in objects:
            step.before[found.id] = self.get(found.id)
            self._accepted[found.id] = Accepted(signature, prompt)
            self.shown.found.ask([prompt])
            step.changes.append(self.shown.found.put(found))
        self._steps.append(step)
        self.shown.refresh(step.changes)

    def moved(self, before: Kept, gone: Iterable[int] = ()) -> bool:
        """Note that points have changed, and remove objects that have none left; tells whether there were any."""
        step = Step(before)
        for one in gone:
            step.before[one] = self._accepted.pop(one, None)
            change = None if self.shown is None else self.shown.found.remove(one)
            if change is not None:
                step.changes.append(change)
        self._steps.append(step)
        if step.changes:
            self.shown.refresh(step.changes)
        return bool(step.changes)

    def undo(self) -> Step | None:
        """Take the last step back, but for its points; None if there is none."""
        if not self._steps:
            return None
        step = self._steps.pop()
        for one, accepted in step.before.items():
            if accepted is None:
                self._accepted.pop(one, None)
            else:
                self._accepted[one] = accepted
        if step.changes and self.shown is not None and self.shown.there:
            self.shown.refresh([self.shown.found.restore(change) for change in reversed(step.changes)])
        return step

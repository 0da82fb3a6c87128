"""The Points layer that prompts come from: which object each click belongs to, and what has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Points
from napari.layers.base import ActionType
from qtpy.QtCore import QObject, Signal

from napari_matseg._napari.prompt_layers import NEGATIVE, OBJECT, POLARITY, POSITIVE, number, objects_of, positive_of
from napari_matseg.errors import MatsegError

NEW, ADD, TAKE_AWAY = "new", "add", "take away"
"""What the next click does: begin an object, belong to the present one, or lie beside it."""
HELD = {"Shift": ADD, "Control": TAKE_AWAY, "Alt": TAKE_AWAY}
"""What it does instead while a key is held."""


@dataclass(frozen=True, eq=False)
class Kept:
    """Points as they were, to be restored."""

    data: np.ndarray
    features: pd.DataFrame


class Clicks(QObject):
    """Watches a Points layer: gives each new point its object and polarity, and tells which objects have changed.

    The id is kept in the layer's feature `object`, so that removing a point never renumbers others.

    Parameters
    ----------
    layer : Points
    find : callable
        Gives the object that lies under a point of the layer, 0 for none.
    taken : callable
        Gives the highest id that is in use elsewhere.
    """

    changed = Signal(object)
    """Set of the objects whose points are others now; not after `restore`."""

    def __init__(
        self, layer: Points, find: Callable[[np.ndarray], int], taken: Callable[[], int], parent: QObject
    ) -> None:
        super().__init__(parent)
        self.layer = layer
        self.turn = NEW
        self.current = 0
        self._find, self._taken = find, taken
        self._held: str | None = None
        self._quiet = False
        number(layer, taken())
        self._rows = self._table()
        self.before = self.kept()
        """Points before the last change."""
        layer.events.data.connect(self._on_data)
        layer.events.features.connect(self._on_features)
        layer.mouse_drag_callbacks.append(self._on_press)

    def forget(self) -> None:
        """Take no more notice of the layer."""
        self.layer.events.data.disconnect(self._on_data)
        self.layer.events.features.disconnect(self._on_features)
        if self._on_press in self.layer.mouse_drag_callbacks:
            self.layer.mouse_drag_callbacks.remove(self._on_press)

    def of(self, one: int) -> tuple[np.ndarray, np.ndarray]:
        """Points of an object in the layer's own coordinates, and whether they are positive."""
        mine = self._rows[:, 0] == one
        return self._rows[mine, 2:], self._rows[mine, 1] > 0

    def signature(self, one: int) -> bytes:
        """Give what tells points of an object from others; empty if there are none."""
        mine = self._rows[self._rows[:, 0] == one]
        return mine[np.lexsort(mine.T)].tobytes()

    def signatures(self) -> dict[int, bytes]:
        """Give the signature of each object that has points."""
        rows = self._rows[np.lexsort((*self._rows.T[1:], self._rows[:, 0]))]
        ones, starts = np.unique(rows[:, 0], return_index=True)
        return {int(one): mine.tobytes() for one, mine in zip(ones, np.split(rows, starts[1:]), strict=False)}

    def kept(self) -> Kept:
        """Points as they are."""
        return Kept(self.layer.data.copy(), self.layer.features.copy())

    def restore(self, kept: Kept) -> set[int]:
        """Put points back as they were; gives the objects that this changes."""
        self._quiet = True
        try:
            self.layer.selected_data = set()
            self.layer.data = kept.data.copy()
            self.layer.features = kept.features
            self.layer.refresh_colors()
        finally:
            self._quiet = False
        self.before = self.kept()
        return self._compare()

    def revert(self, one: int, signature: bytes) -> set[int]:
        """Put the points of an object back to those that had this signature; gives the objects that this changes."""
        rows = np.frombuffer(signature).reshape(-1, 2 + self.layer.ndim)
        others = objects_of(self.layer) != one
        features = self.layer.features[others].reset_index(drop=True)
        if len(rows):
            polarity = np.where(rows[:, 1] > 0, POSITIVE, NEGATIVE).astype(object)
            features = pd.concat([features, pd.DataFrame({OBJECT: one, POLARITY: polarity})], ignore_index=True)
        return self.restore(Kept(np.concatenate([self.layer.data[others], rows[:, 2:]]), features))

    def _on_press(self, layer: Points, event: Any) -> None:
        """Note what is held; the point comes when the button is released."""
        self._held = next((turn for key, turn in HELD.items() if key in event.modifiers), None)

    def _on_data(self, event: Any) -> None:
        if self._quiet or event.action not in (ActionType.ADDED, ActionType.CHANGED, ActionType.REMOVED):
            return
        try:
            if event.action == ActionType.ADDED:
                self._assign(np.arange(len(self.layer.data))[list(event.data_indices)])
            elif not objects_of(self.layer).all():
                self._assign(np.flatnonzero(objects_of(self.layer) == 0))
        except MatsegError:  # said when prompts are made of it
            return
        self._tell()

    def _on_features(self, event: Any = None) -> None:
        if not self._quiet and len(self.layer.features) == len(self.layer.data):
            self._tell()

    def _assign(self, indices: np.ndarray) -> None:
        """Give new points their object and polarity."""
        turn, self._held = self._held or self.turn, None
        features = self.layer.features.copy()
        ids = objects_of(self.layer)
        ids[indices] = 0
        highest = max(int(ids.max(initial=0)), self._taken())
        polarity = np.where(positive_of(self.layer), POSITIVE, NEGATIVE).astype(object)
        for index in indices:
            at = self._find(self.layer.data[index]) if turn == TAKE_AWAY else 0
            one = at or self.current if turn != NEW else 0
            if not one:
                one = highest = highest + 1
                turn = NEW
            ids[index] = self.current = one
            polarity[index] = NEGATIVE if turn == TAKE_AWAY else POSITIVE
        features[OBJECT], features[POLARITY] = ids, polarity
        self._quiet = True
        try:
            self.layer.features = features
            self.layer.refresh_colors()
        finally:
            self._quiet = False

    def _tell(self) -> None:
        try:
            changed = self._compare()
        except MatsegError:  # a feature was edited to what makes no sense; said when prompts are made of it
            return
        if changed:
            self.changed.emit(changed)
            self.before = self.kept()

    def _compare(self) -> set[int]:
        """Objects whose points are others than when this was asked last."""
        before, self._rows = self._rows, self._table()
        if np.array_equal(before, self._rows):
            return set()
        rows, which = np.unique(np.concatenate([before, self._rows]), axis=0, return_inverse=True)
        balance = np.bincount(which.ravel(), np.repeat([-1.0, 1.0], [len(before), len(self._rows)]), len(rows))
        return {int(one) for one in rows[balance != 0, 0]}

    def _table(self) -> np.ndarray:
        """One row for each point: object, polarity, coordinates."""
        points = self.layer
        return np.column_stack([objects_of(points), positive_of(points), np.asarray(points.data, float)])

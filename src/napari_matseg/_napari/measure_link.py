"""Between the rows of objects and the objects in the viewer."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_matseg._napari.camera import fly_to, magnification, place_under
from napari_matseg._napari.measure_result import Result
from napari_matseg._napari.overlays import Overlay
from napari_matseg._napari.prompt_places import plane_on_view

SELECTED, LEFT_OUT = "#ffd60a", "#8a8a8a"
OUTLINE = 2.5  # px on the screen
FINEST = 1536
"""So many rows and columns of an overlay at most: the screen has no more."""
STILL = 4  # px on the screen that the mouse may move in a click
NONE = np.zeros(0, np.intp)


class Link(QObject):
    """Shows which objects are selected and which are left out, and tells which are clicked at.

    Rows are those of ``Result.table``. The labels' own pixels and colours stay as they are.
    """

    said = Signal(str)
    picked = Signal(object, bool)
    """Row that was clicked at, or None; and whether it is meant besides those that are selected."""

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._result: Result | None = None
        self._rows, self._left = NONE, NONE
        self._showing = False
        self._selected = Overlay(viewer, "selected objects", SELECTED, 1.0)
        self._left_out = Overlay(viewer, "objects filtered out", LEFT_OUT, 0.85)
        viewer.mouse_drag_callbacks.append(self._on_mouse)
        viewer.dims.events.current_step.connect(self._on_plane)

    @property
    def there(self) -> bool:
        """Whether there are objects in the viewer that the rows belong to."""
        return self._result is not None and self._result.asked.labels in self._viewer.layers and self._result.fits

    def use(self, result: Result | None) -> None:
        """Be about the rows of this result."""
        self._selected.remove()
        self._left_out.remove()
        self._result, self._rows, self._left = result, NONE, NONE

    def forget(self) -> None:
        """Take no more notice of the viewer, and leave it as it was."""
        self.use(None)
        if self._on_mouse in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_mouse)
            self._viewer.dims.events.current_step.disconnect(self._on_plane)

    def show_rows(self, selected: NDArray[np.intp], left_out: NDArray[np.intp]) -> None:
        """Outline the objects of some rows, and cover those of others."""
        self._rows, self._left = selected, left_out
        self.refresh()

    def refresh(self) -> None:
        """Show what lies on the plane that is shown."""
        if self._showing:  # to show a layer may move the viewer's sliders
            return
        self._showing = True
        try:
            self._outline()
            left = self._on_view(self._left)
            if left.size:
                self._cover(self._left_out, left, (slice(0, None), slice(0, None)))
            else:
                self._left_out.hide()
        finally:
            self._showing = False

    def fly_to(self, row: int) -> None:
        """Bring an object to the middle of the view, and choose its label."""
        result = self._result
        table, layer = result.table, result.asked.labels
        if not result.asked.classes:
            layer.selected_label = int(table["label"].iat[row])
        frame = result.frames(np.array([row]))
        place = [*result.planes(int(table["plane"].iat[row])), *table[["y", "x"]].iloc[row]]
        fly_to(self._viewer, layer, place, float((frame[2:] - frame[:2]).max()) / 2)

    def pick(self, position: Any, *, add: bool = False) -> None:
        """Find the object at a place in the viewer, and tell its row by `picked`.

        Parameters
        ----------
        position : sequence of float
            In the viewer's coordinates.
        add : bool
            It is meant besides those that are selected.
        """
        if not self.there:
            return
        plane, table = self._plane(), self._result.table
        y, x = place_under(self._viewer, self._result.asked.labels, position)[-2:]
        objects = self._result.objects(plane)
        height, width = objects.shape
        label = int(np.asarray(objects[y, x])) if 0 <= y < height and 0 <= x < width else 0
        rows = np.flatnonzero((table["label"].to_numpy() == label) & (table["plane"].to_numpy() == plane))
        self.picked.emit(int(rows[0]) if rows.size else None, add)

    def _plane(self) -> int:
        return plane_on_view(self._result.asked.labels, self._viewer.dims.point)

    def _on_view(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Those of some rows whose objects are on the plane that is shown."""
        if not rows.size or not self.there:
            return NONE
        return rows[self._result.table["plane"].to_numpy()[rows] == self._plane()]

    def _outline(self) -> None:
        rows = self._on_view(self._rows)
        if not rows.size:
            self._selected.hide()
            return
        frames = self._result.frames(rows)
        (top, left), (bottom, right) = frames[:2].min(axis=1), frames[2:].max(axis=1)
        self._cover(self._selected, rows, (slice(top, bottom), slice(left, right)), outlined=True)

    def _cover(
        self, overlay: Overlay, rows: NDArray[np.intp], frame: tuple[slice, slice], *, outlined: bool = False
    ) -> None:
        """Show objects of the plane that is shown, within a frame; no finer than the screen needs it."""
        result, plane = self._result, self._plane()
        layer = result.asked.labels
        sides = [len(range(*side.indices(n))) for side, n in zip(frame, result.objects(plane).shape, strict=True)]
        step = -(-max(sides) // FINEST)
        first = [side.start + step // 2 for side in frame]
        part = result.sample(plane, frame, step)
        if part is None:
            overlay.hide()
            self.said.emit("These objects lie too far apart in a large file to be marked in the view.")
            return
        mask = np.isin(part, result.table["label"].to_numpy()[rows])
        outline = max(1, round(OUTLINE / (step * magnification(self._viewer, layer)))) if outlined else 0
        overlay.show(layer, [*result.planes(plane), *first], mask, step=step, outline=outline)

    def _on_plane(self, event: Any = None) -> None:
        if self._result is not None and self._result.n_planes > 1:
            self.refresh()

    def _on_mouse(self, viewer: Viewer, event: Any) -> Generator[None, None, None]:
        """Take a click for one at an object, unless it does something else."""
        active = viewer.layers.selection.active
        busy = active is not None and str(active.mode) not in ("pan_zoom", "pick")
        if busy or not self.there or event.button != 1 or viewer.dims.ndisplay != 2:
            return
        begun = np.array(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.array(event.pos) - begun).max() <= STILL:
            self.pick(event.position, add="Control" in event.modifiers or "Shift" in event.modifiers)

"""What is wrong with a segmentation: a layer of it over the image, and a list, from one to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap
from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.camera import fly_to, magnification
from napari_matseg._napari.evaluate_result import Evaluation, Mistakes
from napari_matseg._napari.layers import full_resolution
from napari_matseg._napari.mistakes_fix import pixels_of, with_truth
from napari_matseg._napari.mistakes_list import COLOURS, MistakesTable, legend
from napari_matseg._napari.overlays import Overlay
from napari_matseg._napari.parts import text_label
from napari_matseg.core.agreement.mistakes import KINDS, Mistake
from napari_matseg.errors import MatsegError

OPACITY, FAINT, SELECTED = 0.85, 0.8, "#ffffff"
OUTLINE = 2.5  # px on the screen
NONE = "<b>No mistakes</b> but the rims that any two outlines differ by."
PREVIOUS, NEXT, TAKE = "Alt-Left", "Alt-Right", "Alt-T"


class MistakesTab(QWidget):
    """List of mistakes; a row flies to its place, and the truth can be taken there."""

    said = Signal(str)
    failed = Signal(str)

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._evaluation: Evaluation | None = None
        self.mistakes: Mistakes | None = None
        self._place = -1
        self.legend = text_label()
        self.table = MistakesTable()
        self.over = QCheckBox("Show over the image")
        self.over.setChecked(True)
        self.previous_button, self.next_button = QPushButton("Previous"), QPushButton("Next")
        self.take_button = QPushButton("Take the truth here")
        self.hint = text_label()
        self._overlay = Overlay(viewer, "mistakes", COLOURS["right"], OPACITY)
        self._outline = Overlay(viewer, "selected mistake", SELECTED, 1.0)
        self._lay_out()
        self._acts: dict[str, Callable[[], None]] = {PREVIOUS: self.previous, NEXT: self.next, TAKE: self.take}
        for key, button in zip(self._acts, (self.previous_button, self.next_button, self.take_button), strict=True):
            button.clicked.connect(self._acts[key])
            button.setToolTip(f"{button.toolTip()} ({key.replace('-', '+')})".strip())
        self.table.chosen.connect(self._on_chosen)
        self.over.toggled.connect(self._show_overlay)

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        for button in (self.previous_button, self.next_button, self.take_button):
            buttons.addWidget(button)
        self.take_button.setToolTip("Puts what the truth has in the place of this mistake into the prediction.")
        layout = QVBoxLayout(self)
        for widget in (self.legend, self.over):
            layout.addWidget(widget)
        layout.addWidget(self.table, 1)
        layout.addLayout(buttons)
        layout.addWidget(self.hint)

    @property
    def linked(self) -> bool:
        """Whether the layer with the mistakes is there, with the pixels' places that it had."""
        evaluation = self._evaluation
        if evaluation is None or evaluation.asked.prediction not in self._viewer.layers:
            return False
        return bool(full_resolution(evaluation.asked.prediction).shape == evaluation.seen[0].shape)

    @property
    def selected(self) -> Mistake | None:
        """The mistake that is selected."""
        return self.table.mistake

    def show_mistakes(self, evaluation: Evaluation, mistakes: Mistakes) -> None:
        """Show what is wrong; the mistake that was selected stays so if it is still there."""
        if self._evaluation is None:
            for key, act in self._acts.items():
                self._viewer.bind_key(key, _without_viewer(act), overwrite=True)
        layer = self._overlay.layer
        if layer is not None:  # which the layer list can hide, show and delete, too
            self.over.setChecked(layer in self._viewer.layers and layer.visible)
        moved = self.mistakes is None or self.mistakes.plane != mistakes.plane
        self._evaluation, self.mistakes = evaluation, mistakes
        self.table.fill_mistakes(mistakes.found, objects=evaluation.objects, keep=not moved)
        if moved:
            self._place = -1
        elif self.selected is not None:
            self._place = self.table.place
        self.legend.setText(legend(mistakes.found, objects=evaluation.objects))
        self.hint.setText(_hint(evaluation) if mistakes.found else NONE)
        self.take_button.setVisible(evaluation.plain)
        self._show_overlay()
        self._show_outline()
        self._enable()

    def forget(self) -> None:
        """Show nothing, and leave the viewer as it was."""
        self._overlay.remove()
        self._outline.remove()
        for key in self._acts if self._evaluation is not None else ():
            self._viewer.bind_key(key, None, overwrite=True)
        self._evaluation = self.mistakes = None
        self._place = -1
        self.table.fill_mistakes([], objects=False, keep=False)

    def next(self) -> None:
        """Go to the next mistake of the list."""
        self._step(1)

    def previous(self) -> None:
        """Go to the one before."""
        self._step(-1)

    def take(self) -> None:
        """Put the truth in the place of the mistake, in one step that can be undone, and go to the next."""
        evaluation, mistakes, mistake = self._evaluation, self.mistakes, self.selected
        if evaluation is None or mistakes is None or mistake is None or not (self.linked and evaluation.plain):
            return
        layer, planes = evaluation.asked.prediction, evaluation.planes(mistakes.plane)
        try:
            new = with_truth(layer.data, evaluation, mistakes, mistake)
        except MatsegError as error:
            self.failed.emit(str(error))
            return
        self._viewer.layers.selection.active = layer  # to which undoing then belongs
        there = np.nonzero(new != layer.data[tuple(planes)])
        if there[0].size:
            with layer.block_history():
                layer.data_setitem((*(np.full_like(there[0], i) for i in planes), *there), new[there])
        self.said.emit("The truth was taken. Ctrl+Z, with the prediction selected, takes it back.")
        self.next()

    def _step(self, by: int) -> None:
        # Where the selected mistake was corrected away, the next one has moved into its place.
        gone = self.selected is None and by > 0
        place = self._place if self.selected is None else self.table.place
        if self.table.go_to(place + (0 if gone else by)):
            self._on_chosen()

    def _on_chosen(self) -> None:
        mistake = self.selected
        if mistake is not None and self.mistakes is not None and self._evaluation is not None:
            self._place = self.table.place
            if not self.linked:
                self.said.emit("The prediction is not there any more, so its mistakes cannot be shown.")
                return
            layer = self._evaluation.asked.prediction
            planes = self._evaluation.planes(self.mistakes.plane)
            extent = max(mistake.bottom - mistake.top, mistake.right - mistake.left)
            fly_to(self._viewer, layer, [*planes, mistake.y, mistake.x], extent)
            self._viewer.layers.selection.active = layer
            brush = mistake.predicted_labels if self._evaluation.objects else mistake.truth_labels
            if brush and self._evaluation.plain:
                layer.selected_label = brush[0]
        self._show_outline()
        self._enable()

    def _show_overlay(self, *_changed: object) -> None:
        evaluation, mistakes = self._evaluation, self.mistakes
        if evaluation is None or mistakes is None or not (self.linked and self.over.isChecked()):
            self._overlay.hide()
            return
        known = self._overlay.layer
        place = [*evaluation.planes(mistakes.plane), 0, 0]
        self._overlay.show(evaluation.asked.prediction, place, mistakes.overlay_yx)
        if self._overlay.layer is not known:
            self._overlay.layer.colormap = _colormap()
            self._overlay.layer.features = {"index": range(1, len(KINDS) + 1), "here": KINDS}

    def _show_outline(self) -> None:
        mistake, evaluation, mistakes = self.selected, self._evaluation, self.mistakes
        if mistake is None or evaluation is None or mistakes is None or not self.linked:
            self._outline.hide()
            return
        layer = evaluation.asked.prediction
        # A frame of nothing around it, for napari draws no outline along the edge of a layer.
        mask = np.pad(pixels_of(evaluation, mistakes, mistake), 1)
        outline = max(1, round(OUTLINE / magnification(self._viewer, layer)))
        place = [*evaluation.planes(mistakes.plane), mistake.top - 1, mistake.left - 1]
        self._outline.show(layer, place, mask, outline=outline)

    def _enable(self) -> None:
        some = self.mistakes is not None and bool(self.mistakes.found)
        self.previous_button.setEnabled(some)
        self.next_button.setEnabled(some)
        self.take_button.setEnabled(some and self.selected is not None)


def _hint(evaluation: Evaluation) -> str:
    then = "numbers and list follow" if evaluation.followed else "then evaluate again"
    return f"Click a mistake to see it. Correct the prediction with napari's brush: {then}."


def _colormap() -> DirectLabelColormap:
    colours: dict[int | None, Any] = {0: "transparent", None: "transparent"} | dict(enumerate(COLOURS.values(), 1))
    right = KINDS.index("right") + 1
    colours[right] += f"{round(255 * FAINT):02x}"  # not to hide what nothing has to be done about
    return DirectLabelColormap(color_dict=colours)


def _without_viewer(act: Callable[[], None]) -> Callable[[Any], None]:
    def on_key(viewer: Any) -> None:
        act()

    return on_key

"""A training while it goes on: its curves, and what the network makes of a crop."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget
from skimage.segmentation import find_boundaries
from skimage.transform import resize

from napari_matseg._napari.parts import swatch, text_label
from napari_matseg._napari.plots import PlotPane
from napari_matseg.core.figures.learning import COLUMNS, plot_learning, redraw_learning
from napari_matseg.core.train import TrainProgress
from napari_matseg.core.train_check import Look
from napari_matseg.core.truth import IGNORE
from napari_matseg.settings import ClassSpec

EVERY_S = 1.0  # between two drawings
SIDE, GAP = 190, 6  # px of the pictures
OPACITY = 0.45


class LivePane(QWidget):
    """Curves of loss, IoU and Dice, and beside each other the labels of a crop and what is predicted there."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = text_label()
        self.curves = PlotPane()
        self.scores = text_label()
        self.picture = QLabel()
        self.caption = text_label()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.title, self.picture, self.caption, self.scores, self.curves):
            layout.addWidget(widget)
        self._classes: Sequence[ClassSpec] = ()
        self._seen: dict[int, tuple[float, ...]] = {}
        self._drawn = 0.0
        self._held_out = True
        self.setVisible(False)

    @property
    def history(self) -> list[tuple[float, ...]]:
        """Step, loss, mean IoU and Dice; napari's progress bar lets later steps overtake others."""
        return [self._seen[step] for step in sorted(self._seen)]

    def begin(self, classes: Sequence[ClassSpec], steps: int, name: str, *, held_out: bool) -> None:
        """Show an empty figure for a training of so many steps."""
        self._classes, self._held_out = classes, held_out
        self._seen = {}
        self._drawn = 0.0
        for label in (self.picture, self.caption, self.scores):
            label.setVisible(False)
        self.curves.name = f"{name} learning"
        self.curves.show_plot(plot_learning(self._frame(), steps), "")
        self.setVisible(True)

    def show_step(self, step: TrainProgress) -> None:
        """Let the curves go on, and show what is new."""
        if not math.isnan(step.loss) and step.done not in self._seen:
            accuracy = step.accuracy or {}
            ratios = (accuracy.get("mean_iou"), accuracy.get("mean_dice"))
            self._seen[step.done] = (step.done, step.loss, *(math.nan if one is None else one for one in ratios))
        if step.accuracy is not None:
            self._show_scores(step)
        if step.look is not None:
            self._show_look(step.look)
        if step.look is not None or time.monotonic() > self._drawn + EVERY_S:
            self.redraw()

    def redraw(self) -> None:
        """Draw the curves as far as they have come."""
        self._drawn = time.monotonic()
        if self.curves.plot is not None:
            self.curves.plot = redraw_learning(self.curves.plot, self._frame())
            self.curves.plot.figure.canvas.draw_idle()

    def _frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.history, columns=list(COLUMNS), dtype=float)

    def _show_scores(self, step: TrainProgress) -> None:
        parts = []
        for spec in self._classes:
            iou = step.accuracy["iou"].get(spec.name)
            parts.append(f"{swatch(spec)} {'-' if iou is None else f'{iou:.3f}'}")
        self.scores.setVisible(True)
        self.scores.setText(f"IoU at step {step.done}: " + ", ".join(parts))

    def _show_look(self, look: Look) -> None:
        pictures = [paint(look.image_yx, look.truth_yx, self._classes, filled=True)]
        pictures.append(paint(look.image_yx, look.predicted_yx, self._classes, filled=False))
        gap = np.zeros((pictures[0].shape[0], GAP, 3), np.uint8)
        both = np.ascontiguousarray(np.hstack([pictures[0], gap, pictures[1]]))
        height, width = both.shape[:2]
        image = QImage(both.data, width, height, 3 * width, QImage.Format.Format_RGB888)
        self.picture.setPixmap(QPixmap.fromImage(image))  # which copies the pixels
        for label in (self.picture, self.caption):
            label.setVisible(True)
        where = "held out" if self._held_out else "learnt from"
        self.caption.setText(f"{look.name}, {where}: labels (left), prediction (right)")


def paint(grey_yx: np.ndarray, classes_yx: np.ndarray, classes: Sequence[ClassSpec], *, filled: bool) -> np.ndarray:
    """Picture of a crop with its classes in their colours.

    Parameters
    ----------
    grey_yx : array, shape (height, width), float32
        -1.5 is black, 1.5 white.
    classes_yx : array, shape (height, width), uint8
        255 where there is nothing to show.
    filled : bool
        Whether the first class is coloured, too; else it stays as it is, and the others have outlines.

    Returns
    -------
    array, shape (height, width, 3), uint8
        With 190 px on the longer side.
    """
    grey = np.clip((grey_yx + 1.5) / 3 * 255, 0, 255).astype(np.float32)
    rgb = np.repeat(grey[..., None], 3, axis=-1)
    colours = np.zeros((IGNORE + 1, 3), np.float32)
    colours[: len(classes)] = [spec.colour for spec in classes]
    shown = classes_yx != IGNORE if filled else classes_yx > 0
    mixed = rgb * (1 - OPACITY) + colours[classes_yx] * OPACITY
    rgb = np.where(shown[..., None], mixed, rgb)
    if not filled:
        edges = find_boundaries(classes_yx, mode="inner") & shown
        rgb[edges] = colours[classes_yx][edges]
    height, width = grey_yx.shape
    scale = SIDE / max(height, width)
    small = resize(rgb, (max(1, round(height * scale)), max(1, round(width * scale))), order=1, anti_aliasing=False)
    picture: np.ndarray = small.round().clip(0, 255).astype(np.uint8)
    return picture

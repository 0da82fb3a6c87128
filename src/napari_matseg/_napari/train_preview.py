"""Crops as a training would see them."""

from __future__ import annotations

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from qtpy.QtWidgets import QDialog, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.parts import text_label
from napari_matseg._napari.train_live import paint
from napari_matseg.core.dataset import Crops, Example
from napari_matseg.settings import TrainSettings

ROWS, COLUMNS = 2, 4


class AugmentPreview(QDialog):
    """Some crops of an image, changed at random as in the training, with what is labelled in colour.

    Parameters
    ----------
    example : Example
    settings : TrainSettings
    """

    def __init__(
        self,
        example: Example,
        settings: TrainSettings,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Crops as the training sees them")
        self._classes = settings.classes
        self._crops = Crops([example], settings)
        self._first = 0
        self._figure = Figure(figsize=(8, 4), layout="constrained")
        self._canvas = FigureCanvasQTAgg(self._figure)
        self._canvas.setMinimumSize(720, 360)
        about = text_label()
        about.setText("The same image, changed as in the training. If it looks like none of yours, choose less.")
        again = QPushButton("Others")
        again.clicked.connect(self._others)
        layout = QVBoxLayout(self)
        for widget in (about, self._canvas, again):
            layout.addWidget(widget)
        self._draw()

    def _others(self) -> None:
        self._first += ROWS * COLUMNS
        self._draw()

    def _draw(self) -> None:
        self._figure.clear()
        for number, axes in enumerate(self._figure.subplots(ROWS, COLUMNS).flat, start=self._first):
            image_cyx, truth_yx, _ = self._crops.crop(number)
            axes.imshow(paint(image_cyx.mean(axis=0), truth_yx, self._classes, filled=True))
            axes.set_axis_off()
        self._canvas.draw_idle()

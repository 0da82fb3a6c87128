"""Figures in the dock, as they will be printed."""

from __future__ import annotations

from html import escape
from pathlib import Path

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from qtpy.QtCore import Signal
from qtpy.QtGui import QResizeEvent, QWheelEvent
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.parts import text_label
from napari_matseg._napari.saving import ask_file
from napari_matseg.core.figures.plot import Plot, save_plot
from napari_matseg.errors import MatsegError

KINDS = {"Drawing (*.svg)": ".svg", "Picture (*.png)": ".png", "Page (*.pdf)": ".pdf"}
WIDEST = 620  # px on the screen


class PlotPane(QWidget):
    """A figure as wide as the dock, whose letters and lines grow with it, a text below it, and a button to save it."""

    said = Signal(str)
    failed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plot: Plot | None = None
        self.name = "figure"
        self._canvas: _Canvas | None = None
        self.text = text_label()
        self.save_button = QPushButton("Save figure…")
        self.save_button.setToolTip("As SVG, PNG or PDF, with the numbers that are drawn beside it as CSV.")
        self.save_button.clicked.connect(self._ask_and_save)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addWidget(self.save_button)
        self.show_plot(None, "")

    def show_plot(self, plot: Plot | None, html: str) -> None:
        """Show a figure, or none, and a text, as rich text."""
        if self._canvas is not None:
            self.layout().removeWidget(self._canvas)
            self._canvas.setVisible(False)
            self._canvas.deleteLater()
            self._canvas = None
        self.plot = plot
        if plot is not None:
            self._canvas = _Canvas(plot)
            self._canvas.setMinimumWidth(1)  # else the dock could not become narrower again
            self._canvas.setMaximumWidth(WIDEST)
            self.layout().insertWidget(0, self._canvas)
            self._fit()
        self.text.setText(html)
        self.save_button.setVisible(plot is not None)
        self._make_room()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Give the figure the new width."""
        super().resizeEvent(event)
        self._fit()
        self._make_room()

    def _fit(self) -> None:
        if self._canvas is not None and self.plot is not None:
            width = min(self.width(), WIDEST)
            self._canvas.setFixedHeight(max(1, round(width * self.plot.size_in[1] / self.plot.size_in[0])))

    def _make_room(self) -> None:
        """Keep what is below from covering a text of several lines until the layout has caught up."""
        self.text.setMinimumHeight(max(0, self.text.heightForWidth(self.width())))

    def save(self, path: Path) -> tuple[Path, Path] | None:
        """Write the figure, and its data beside it as CSV; nothing without a figure.

        Raises
        ------
        OutputError
            If they cannot be written.
        """
        return None if self.plot is None else save_plot(self.plot, path)

    def _ask_and_save(self) -> None:
        path = ask_file(self, "Save figure", self.name, KINDS)
        if path is None:
            return
        try:
            saved = self.save(path)
        except MatsegError as error:
            self.failed.emit(str(error))
        else:
            self.said.emit("Saved as " + " and ".join(escape(str(path)) for path in saved or ()) + ".")


class _Canvas(FigureCanvasQTAgg):
    """A figure at its size on paper, magnified."""

    def __init__(self, plot: Plot) -> None:
        super().__init__(plot.figure)
        self._width_in = plot.size_in[0]

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Change the scale, not the size on paper."""
        self.figure.dpi = max(1.0, event.size().width() * self.device_pixel_ratio / self._width_in)
        super().resizeEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to what the figure can be scrolled in."""
        event.ignore()

"""The fields of the Micrograph widget."""

from __future__ import annotations

from html import escape

from qtpy.QtWidgets import QGridLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.facts_table import FactsTable
from napari_matseg._napari.parts import FLAG_COLOUR, Form, LayerChoice, in_red, shrink, text_label
from napari_matseg.core.facts import UNKNOWN, bar_text, size_text
from napari_matseg.core.micrograph import Micrograph

GAP = 4  # px
UNKNOWN_SIZE = "unknown: sizes stay in pixels until you set it"


class MicrographForm(QWidget):
    """Image, pixel size, scale bar, data bar, and the table.

    Parameters
    ----------
    image : LayerChoice
    """

    def __init__(self, image: LayerChoice, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.pixel_size, self.data_bar, self.line = text_label(), text_label(), text_label()
        self.size = _field("such as 1.25 nm", "The side of a pixel, with its unit: nm, µm, mm or Å.")
        self.length = _field("such as 500 nm", "What the scale bar stands for, with its unit: nm, µm, mm or Å.")
        self.set_size = QPushButton("Set")
        self.set_length = QPushButton("Set pixel size")
        self.draw = QPushButton("Draw a line")
        self.draw.setToolTip("Then press at one end of the scale bar in the image and drag to the other.")
        self.find = QPushButton("Find it")
        self.find.setToolTip("Proposes where the scale bar ends; you confirm it.")
        self.drag = QPushButton("Drag its edge")
        self.no_bar = QPushButton("No bar")
        self.no_bar.setToolTip("All rows are image: nothing is left out.")
        self.undo = QPushButton("Undo")
        self.undo.setToolTip("Takes back the last change of pixel size or data bar, on all layers that it changed.")
        self.copy = QPushButton("Copy table")
        self.message = text_label()
        self.table = FactsTable()
        self.copy.clicked.connect(self.table.copy)
        self._lay_out(image)

    def _lay_out(self, image: LayerChoice) -> None:
        top = Form(titles=70)
        top.add("Image", shrink(image))
        top.add("Pixel size", self.pixel_size)
        top.add("", _row(self.size, self.set_size))
        scale = Form(titles=70)
        scale.add("Scale bar", _row(self.draw, self.find))
        scale.add("", self.line)
        scale.add("stands for", _row(self.length, self.set_length))
        bar = Form(titles=70)
        bar.add("Data bar", self.data_bar)
        bar.add("", _row(self.drag, self.no_bar))
        layout = QVBoxLayout(self)
        for part in (top, _gap(), scale, _gap(), bar, _gap(), self.message, self.table):
            layout.addWidget(part)
        layout.addWidget(_row(self.copy, self.undo))
        layout.addStretch()
        self.parts = (top, scale, bar)

    def show_known(self, known: Micrograph | None, *, can_undo: bool) -> None:
        """Show what is known of the image; None where there is no image, or none that can be used."""
        self.undo.setEnabled(can_undo)
        for widget in (self.size, self.set_size, self.draw, self.find, self.length, self.set_length, self.drag):
            widget.setEnabled(known is not None)
        self.no_bar.setEnabled(known is not None and known.data_bar is not None)
        self.table.setVisible(known is not None)
        self.copy.setEnabled(known is not None)
        if known is None:
            self.pixel_size.setText("")
            self.data_bar.setText("")
            return
        if known.pixel_size_nm is None:
            self.pixel_size.setText(f'<span style="color: {FLAG_COLOUR}">{UNKNOWN_SIZE}</span>')
        else:
            told = known.pixel_size_from or "the layer's scale"
            told = "" if told == UNKNOWN else f"<br>from {escape(told)}"
            self.pixel_size.setText(f"<b>{size_text(known.pixel_size_nm)}</b>{told}")
        self.data_bar.setText(bar_text(known))
        self.drag.setText("Mark one" if known.data_bar is None else "Drag its edge")

    def show_line(self, text: str) -> None:
        """Say how long the line is."""
        self.line.setText(text)
        # Wrapped text in a grid gets the height of one line until the layout has caught up.
        self.line.setMinimumHeight(max(0, self.line.heightForWidth(self.line.width())))

    def say(self, text: str) -> None:
        """Show a message, in rich text."""
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def fail(self, text: str) -> None:
        """Show an error, as plain text."""
        self.say(in_red(text))


def _field(example: str, tip: str) -> QLineEdit:
    field = QLineEdit()
    field.setPlaceholderText(example)
    field.setToolTip(tip)
    return field


def _row(*widgets: QWidget) -> QWidget:
    row = QWidget()
    grid = QGridLayout(row)
    grid.setContentsMargins(0, 0, 0, 0)
    for column, widget in enumerate(widgets):
        grid.addWidget(widget, 0, column)
    return row


def _gap() -> QWidget:
    gap = QWidget()
    gap.setFixedHeight(GAP)
    return gap

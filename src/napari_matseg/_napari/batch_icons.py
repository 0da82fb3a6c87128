"""What the rows of a batch are marked with: shapes and colours that everybody can tell apart."""

from __future__ import annotations

from functools import cache

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QImage, QPainter, QPen, QPixmap, QPolygonF

# Of Okabe and Ito; the shapes differ, too.
COLOURS = {"waiting": "#999999", "working": "#56b4e9", "done": "#009e73", "kept": "#009e73", "failed": "#d55e00"}
SIDE = 16
"""Side of the square that the marks are drawn in."""
SHARP = 2
"""Pixels drawn for each one, for screens with fine ones."""


@cache
def icon(state: str) -> QIcon:
    """Mark of a state: a ring waits, a triangle works, a tick is done (in a ring: was there), a cross has failed."""
    pixmap = _clear(SIDE)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    colour = QColor(COLOURS[state])
    painter.setPen(QPen(colour, 1.6))
    disc = QRectF(1.5, 1.5, 13, 13)
    if state in ("done", "failed"):
        painter.setBrush(colour)
    if state == "failed":
        painter.drawRect(disc)  # a square among discs
    elif state == "working":
        painter.setBrush(colour)
        painter.drawPolygon(QPolygonF([QPointF(3, 2), QPointF(14, 8), QPointF(3, 14)]))
    else:
        painter.drawEllipse(disc)
    painter.setPen(QPen(QColor("white") if state in ("done", "failed") else colour, 2))
    if state in ("done", "kept"):
        painter.drawPolyline(QPolygonF([QPointF(4.5, 8.5), QPointF(7, 11), QPointF(11.5, 5.5)]))
    elif state == "failed":
        painter.drawLine(QPointF(5, 5), QPointF(11, 11))
        painter.drawLine(QPointF(5, 11), QPointF(11, 5))
    painter.end()
    return as_icon(pixmap)


def as_icon(pixmap: QPixmap) -> QIcon:
    """Icon that looks the same in a row that is selected, where Qt would tint it."""
    made = QIcon(pixmap)
    made.addPixmap(pixmap, QIcon.Mode.Selected)
    return made


def blank(side: int) -> QIcon:
    """Make what stands for a picture that is not there."""
    pixmap = _clear(side)
    painter = QPainter(pixmap)
    painter.setPen(QPen(QColor(COLOURS["waiting"]), 1, Qt.PenStyle.DotLine))
    painter.drawRect(QRectF(1.5, 1.5, side - 3, side - 3))
    painter.end()
    return as_icon(pixmap)


def centred(image: QImage, side: int) -> QIcon:
    """Picture in the middle of a square, so that the names beside pictures stand below each other."""
    pixmap = _clear(side)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
    scale = side / max(image.width(), image.height())
    width, height = image.width() * scale, image.height() * scale
    painter.drawImage(QRectF((side - width) / 2, (side - height) / 2, width, height), image)
    painter.end()
    return as_icon(pixmap)


def _clear(side: int) -> QPixmap:
    pixmap = QPixmap(side * SHARP, side * SHARP)
    pixmap.setDevicePixelRatio(SHARP)
    pixmap.fill(Qt.GlobalColor.transparent)
    return pixmap

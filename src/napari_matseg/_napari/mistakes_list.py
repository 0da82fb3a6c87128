"""The list of mistakes, with the colours of their kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from pandas import DataFrame
from qtpy.QtCore import QModelIndex
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from napari_matseg._napari.frames import FrameTable
from napari_matseg.core.agreement.mistakes import KINDS, Mistake

# Of Okabe and Ito, to be told apart by everybody.
COLOURS = dict(zip(KINDS, ("#009e73", "#d55e00", "#56b4e9", "#f0e442", "#cc79a7"), strict=True))
TALL = 120  # px
SIDE = 12  # px


class MistakesTable(FrameTable):
    """A row for each mistake."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._found: list[Mistake] = []
        self.setMinimumHeight(TALL)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setItemDelegateForColumn(0, _Icons(self))

    def fill_mistakes(self, found: Sequence[Mistake], *, objects: bool, keep: bool) -> None:
        """Show mistakes; the selected one stays so if it is kept and still among them."""
        before = self.mistake if keep else None
        self._found = list(found)
        table = DataFrame(
            {
                "mistake": [mistake.text for mistake in found],
                "IoU": np.array([mistake.iou for mistake in found], float),
                "area_px": np.array([mistake.area_px for mistake in found], int),
            }
        )
        self.fill(table, ["mistake", *(["IoU"] if objects else []), "area_px"])
        self.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        row = None if before is None else same(before, found)
        if row is not None:
            self.select(np.array([row]))

    @property
    def mistake(self) -> Mistake | None:
        """The one that is selected."""
        row = self.current()
        return None if row is None else self._found[row]

    @property
    def place(self) -> int:
        """How many rows lie above the selected one."""
        return self.shown.tolist().index(self.current())

    def go_to(self, place: int) -> bool:
        """Select the row with so many above it, or the first or last one; say whether there is any."""
        shown = self.shown
        if shown.size:
            self.select(shown[[min(max(place, 0), shown.size - 1)]])
        return bool(shown.size)

    def kind(self, place: int) -> str:
        """Kind of the mistake of a row."""
        return self._found[self.shown[place]].kind


class _Icons(QStyledItemDelegate):
    """Puts the colour of its kind before each mistake."""

    def __init__(self, table: MistakesTable) -> None:
        super().__init__(table)
        self._table = table
        self._of_kind = {kind: _icon(colour) for kind, colour in COLOURS.items()}

    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Add the icon."""
        super().initStyleOption(option, index)
        option.features |= QStyleOptionViewItem.ViewItemFeature.HasDecoration
        option.icon = self._of_kind[self._table.kind(index.row())]
        option.decorationSize = option.icon.availableSizes()[0]


def _icon(colour: str) -> QIcon:
    pixmap = QPixmap(SIDE, SIDE)
    pixmap.fill(QColor(colour))
    return QIcon(pixmap)


def legend(found: Sequence[Mistake], *, objects: bool) -> str:
    """Name the colours, and say how many mistakes have each, as rich text."""
    numbers = Counter(mistake.kind for mistake in found)
    return ", ".join(
        f'<span style="color: {COLOURS[kind]}">■</span>&nbsp;'
        + (kind if kind == KINDS[0] else f"{kind} ({numbers[kind]})").replace(" ", "&nbsp;")
        for kind in (KINDS if objects else KINDS[:3])
    )


def same(before: Mistake, found: Sequence[Mistake]) -> int | None:
    """Find a mistake after the labels were edited: its place among those found, None if it is no longer there."""
    about = before.kind, before.truth_labels, before.predicted_labels
    places = [
        place
        for place, other in enumerate(found)
        if (other.kind, other.truth_labels, other.predicted_labels) == about
        and other.top < before.bottom and before.top < other.bottom
        and other.left < before.right and before.left < other.right
    ]  # fmt: skip
    return min(places, key=lambda place: abs(found[place].area_px - before.area_px), default=None)

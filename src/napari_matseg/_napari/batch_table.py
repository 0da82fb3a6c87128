"""The queue of a batch as a table: each micrograph, its state, its time, and what came of it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt, QTimer, Signal
from qtpy.QtGui import QIcon, QImage

from napari_matseg._napari.batch_icons import blank, centred, icon
from napari_matseg._napari.batch_words import STATES, result
from napari_matseg._napari.run_bar import duration
from napari_matseg.running.states import Outcome, RunProgress, Source

COLUMNS = ("Micrograph", "State", "Time", "Result")
MICROGRAPH, STATE, TIME, RESULT = range(4)
SIDE = 40  # px
MOST_PICTURES = 500
LATELY = 40
"""So many of the pictures asked for are made, the last ones: those before have been scrolled past."""
PAUSE = 80  # ms


@dataclass(slots=True)
class Entry:
    """One micrograph of the queue; `share` and `seconds_left` hold while it is in work."""

    source: Source
    state: str = "waiting"
    share: float = 0.0
    seconds_left: float | None = None
    outcome: Outcome | None = None


class QueueModel(QAbstractTableModel):
    """A row for each micrograph; pictures are asked for when a view first shows their rows."""

    wanted = Signal()
    """Pictures of some rows are needed; see `take_wanted`."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._entries: list[Entry] = []
        self._rows: dict[str, int] = {}
        self._pictures: OrderedDict[int, QIcon] = OrderedDict()
        self._wanted: dict[int, None] = {}
        self._blank = blank(SIDE)
        self._timer = QTimer(self, singleShot=True, interval=PAUSE)
        self._timer.timeout.connect(self.wanted)
        self.numbers: Counter[str] = Counter()

    @property
    def sources(self) -> list[Source]:
        """What the rows are, from the top."""
        return [entry.source for entry in self._entries]

    def entry(self, row: int) -> Entry:
        """Give what stands in a row."""
        return self._entries[row]

    def fill(self, sources: Sequence[Source], *, keep: bool) -> None:
        """Show these micrographs; what is known of those that were there before stays, if it is kept."""
        known = {entry.source: entry for entry in self._entries} if keep else {}
        pictures = {self._entries[row].source: picture for row, picture in self._pictures.items()}
        self.beginResetModel()
        self._entries = [known.get(source) or Entry(source) for source in sources]
        self._rows = {source.name: row for row, source in enumerate(sources)}
        self._pictures = OrderedDict(
            (row, pictures[source]) for row, source in enumerate(sources) if source in pictures
        )
        self._wanted = {}
        self.numbers = Counter(entry.state for entry in self._entries)
        self.endResetModel()

    def take(self, step: RunProgress) -> int | None:
        """Take in what a run tells; give the row it is about."""
        row = None if step.source is None else self._rows.get(step.source.name)
        if row is None or step.state is None:
            return None
        entry = self._entries[row]
        entry.share, entry.seconds_left = step.share, step.file_seconds_left
        if step.outcome is not None:
            entry.outcome = step.outcome
            if step.outcome.files:
                self._pictures.pop(row, None)  # there is one with the result now
        self._set_state(row, step.state)
        return row

    def stop(self) -> None:
        """Let what was in work wait again."""
        for row, entry in enumerate(self._entries):
            if entry.state == "working":
                self._set_state(row, "waiting")

    def _set_state(self, row: int, state: str) -> None:
        entry = self._entries[row]
        self.numbers[entry.state] -= 1
        self.numbers[state] += 1
        entry.state = state
        self.dataChanged.emit(self.index(row, 0), self.index(row, len(COLUMNS) - 1))

    def take_wanted(self) -> list[tuple[int, Entry]]:
        """Rows whose pictures are needed, which then are no longer asked for."""
        rows = list(self._wanted)[-LATELY:]
        self._wanted = {}
        return [(row, self._entries[row]) for row in rows]

    def put_picture(self, row: int, source: Source, rgb_yxs: np.ndarray | None) -> None:
        """Show a picture, shape (height, width, 3), uint8; None where there can be none."""
        if row >= len(self._entries) or self._entries[row].source != source:
            return
        picture = self._blank
        if rgb_yxs is not None:
            height, width, _ = rgb_yxs.shape
            data = np.ascontiguousarray(rgb_yxs)
            picture = centred(QImage(data.data, width, height, 3 * width, QImage.Format.Format_RGB888), SIDE)
        self._pictures[row] = picture
        while len(self._pictures) > MOST_PICTURES:
            self._pictures.popitem(last=False)
        place = self.index(row, MICROGRAPH)
        self.dataChanged.emit(place, place, [Qt.ItemDataRole.DecorationRole])

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """How many micrographs there are."""
        return 0 if parent is not None and parent.isValid() else len(self._entries)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """How many columns there are."""
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Title of a column."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Give what a cell shows."""
        entry, column = self._entries[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return _text(entry, column)
        if role == Qt.ItemDataRole.DecorationRole:
            if column == STATE:
                return icon(entry.state)
            return self._picture(index.row()) if column == MICROGRAPH else None
        if role == Qt.ItemDataRole.ToolTipRole:
            return str(entry.source.path) if column == MICROGRAPH else _text(entry, RESULT) or None
        return None

    def _picture(self, row: int) -> QIcon:
        picture = self._pictures.get(row)
        if picture is None:
            self._wanted.pop(row, None)  # the last one asked for comes last
            self._wanted[row] = None
            self._timer.start()
            return self._blank
        return picture


def _text(entry: Entry, column: int) -> str:
    if column == MICROGRAPH:
        return entry.source.name
    if column == STATE:
        return f"working {entry.share:.0%}" if entry.state == "working" else STATES[entry.state]
    if column == RESULT:
        return result(entry.outcome)
    if entry.state == "working":
        return "" if entry.seconds_left is None else f"{duration(entry.seconds_left)} left"
    return duration(entry.outcome.seconds) if entry.outcome and entry.state == "done" else ""

"""The table of a batch in the dock: bars of what is in work, only the failed ones on demand, the whole of a reason."""

from __future__ import annotations

from qtpy.QtCore import QAbstractProxyModel, QModelIndex, QRectF, QSize, QSortFilterProxyModel, Qt, Signal
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_matseg._napari.batch_icons import COLOURS
from napari_matseg._napari.batch_table import MICROGRAPH, RESULT, SIDE, STATE, TIME, Entry, QueueModel
from napari_matseg._napari.batch_words import reason
from napari_matseg._napari.parts import text_label

WIDTHS = {MICROGRAPH: 160, STATE: 114, TIME: 72}  # px
TALL = 180  # px
BAR, MARK = 4, 18  # px


class Queue(QWidget):
    """The micrographs of a batch, and what is to be known of the one that is selected.

    Parameters
    ----------
    model : QueueModel
    """

    opened = Signal(object)
    """An `Entry` that was clicked twice."""

    def __init__(self, model: QueueModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = model
        self.only_failed = QCheckBox()
        self.proxy = _OnlyFailed(self)
        self.proxy.setSourceModel(model)
        self.view = QTableView()
        self.view.setModel(self.proxy)
        self.reason = text_label()
        self._set_up()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.only_failed)
        layout.addWidget(self.view, 1)
        layout.addWidget(self.reason)
        self.only_failed.toggled.connect(self.proxy.set_only_failed)
        self.view.doubleClicked.connect(self._on_double_click)
        self.view.selectionModel().currentRowChanged.connect(self._say_reason)
        model.dataChanged.connect(self._on_changed)
        model.modelReset.connect(self._on_reset)
        self._on_reset()

    def _set_up(self) -> None:
        view = self.view
        view.setMinimumHeight(TALL)
        view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        view.setIconSize(QSize(SIDE, SIDE))
        view.setShowGrid(False)
        view.setWordWrap(False)
        view.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        view.setItemDelegateForColumn(STATE, _StateDelegate(view))
        view.setItemDelegateForColumn(RESULT, _ResultDelegate(view))
        rows = view.verticalHeader()
        rows.setVisible(False)
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)  # to measure 5,000 rows takes long
        rows.setDefaultSectionSize(SIDE + 6)
        columns = view.horizontalHeader()
        columns.setHighlightSections(False)
        columns.setSectionResizeMode(RESULT, QHeaderView.ResizeMode.Stretch)
        for column, width in WIDTHS.items():
            view.setColumnWidth(column, width)

    @property
    def selected(self) -> Entry | None:
        """The one that is selected."""
        index = self.view.currentIndex()
        return self._model.entry(self.proxy.mapToSource(index).row()) if index.isValid() else None

    def follow(self, row: int) -> None:
        """Bring a row into sight, unless the user looks at another one."""
        if not self.view.currentIndex().isValid():
            index = self.proxy.mapFromSource(self._model.index(row, MICROGRAPH))
            self.view.scrollTo(index, QAbstractItemView.ScrollHint.EnsureVisible)

    def _on_double_click(self, index: QModelIndex) -> None:
        self.opened.emit(self._model.entry(self.proxy.mapToSource(index).row()))

    def _on_changed(self, first: QModelIndex, last: QModelIndex) -> None:
        current = self.proxy.mapToSource(self.view.currentIndex())
        if current.isValid() and first.row() <= current.row() <= last.row():
            self._say_reason()
        self._count_failed()

    def _on_reset(self) -> None:
        self._say_reason()
        self._count_failed()

    def _count_failed(self) -> None:
        failed = self._model.numbers["failed"]
        if not failed:
            self.only_failed.setChecked(False)
        self.only_failed.setEnabled(failed > 0)
        self.only_failed.setText(f"Show only those that failed ({failed})")

    def _say_reason(self, *_index: object) -> None:
        entry = self.selected
        failed = entry is not None and entry.state == "failed"
        self.reason.setVisible(failed)
        if failed:
            self.reason.setText(reason(entry.outcome))


class _OnlyFailed(QSortFilterProxyModel):
    """All rows, or only the failed ones."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._only = False

    def set_only_failed(self, only: bool) -> None:
        self._only = only
        self.invalidate()

    def filterAcceptsRow(self, row: int, parent: QModelIndex) -> bool:
        """Whether a row is shown."""
        return not self._only or self.sourceModel().entry(row).state == "failed"


class _StateDelegate(QStyledItemDelegate):
    """Draws a bar below the state of what is in work."""

    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Make the mark smaller than a picture."""
        super().initStyleOption(option, index)
        option.decorationSize = QSize(MARK, MARK)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Draw a cell."""
        super().paint(painter, option, index)
        model: QAbstractProxyModel = index.model()
        entry = model.sourceModel().entry(model.mapToSource(index).row())
        if entry.state != "working":
            return
        whole = QRectF(option.rect).adjusted(4, 0, -4, 0)
        whole.setTop(whole.bottom() - BAR - 2)
        whole.setHeight(BAR)
        painter.fillRect(whole, QColor(COLOURS["waiting"]))
        whole.setWidth(whole.width() * entry.share)
        painter.fillRect(whole, QColor(COLOURS["working"]))


class _ResultDelegate(QStyledItemDelegate):
    """Leaves out the end of what is too long, where names lose their middle."""

    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Change where it is cut."""
        super().initStyleOption(option, index)
        option.textElideMode = Qt.TextElideMode.ElideRight

"""Buttons for clicking: what the next click does, and what becomes of the mask that it brings."""

from __future__ import annotations

from collections.abc import Callable

from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QCheckBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.prompt_points import ADD, NEW, TAKE_AWAY

TURNS = {
    NEW: ("New object", "Q", "Each click begins an object of its own."),
    ADD: ("Add", "W", "Clicks belong to the present object. For one click: hold Shift."),
    TAKE_AWAY: ("Take away", "E", "Clicks lie beside the object that they hit. For one click: hold Ctrl."),
}


class ClickBar(QWidget):
    """Switch for clicking, and the buttons that go with it."""

    turned = Signal(str)
    """What the next click does now."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.switch = QCheckBox("Click and see")
        self.switch.setToolTip("Shows the mask of each click at once, once the image is embedded.")
        self.turns = {turn: QPushButton(title) for turn, (title, _, _) in TURNS.items()}
        self._group = QButtonGroup(self)
        for turn, button in self.turns.items():
            _, key, tip = TURNS[turn]
            button.setCheckable(True)
            button.setToolTip(f"{tip} (key {key})")
            button.clicked.connect(self._on_turn)
            self._group.addButton(button)
        self.turns[NEW].setChecked(True)
        self.accept_button, self.drop_button = QPushButton("Accept"), QPushButton("Drop")
        self.undo_button = QPushButton("Undo")
        self.accept_button.setToolTip("Put all masks that are previewed into the labels. (Enter)")
        self.drop_button.setToolTip("Forget the last one that is previewed. (Esc)")
        self.undo_button.setToolTip("Take back the last click, move, removal or acceptance. (Ctrl+Z)")
        self._rest = QWidget()
        rest = QVBoxLayout(self._rest)
        rest.setContentsMargins(0, 0, 0, 0)
        for buttons in (self.turns.values(), (self.accept_button, self.drop_button, self.undo_button)):
            row = QHBoxLayout()
            row.setSpacing(4)
            for button in buttons:
                row.addWidget(button)
            rest.addLayout(row)
        keys = QLabel("Enter accepts · Esc drops · Shift adds · Ctrl takes away")
        keys.setWordWrap(True)
        rest.addWidget(keys)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.switch)
        layout.addWidget(self._rest)
        self._rest.setVisible(False)
        self.switch.toggled.connect(self._rest.setVisible)

    @property
    def turn(self) -> str:
        """What the next click does."""
        return next(turn for turn, button in self.turns.items() if button.isChecked())

    def _on_turn(self) -> None:
        self.turned.emit(self.turn)


class Keys:
    """Keys of the viewer; those of the selected layer come first.

    Parameters
    ----------
    viewer : Viewer
    bar : ClickBar
    accept, drop, undo, look : callable
        What Enter, Escape, Ctrl+Z and N do.
    """

    def __init__(
        self,
        viewer: Viewer,
        bar: ClickBar,
        accept: Callable[[], None],
        drop: Callable[[], None],
        undo: Callable[[], None],
        look: Callable[[], None],
    ) -> None:
        self._viewer = viewer
        acts = {"Enter": accept, "Escape": drop, "Control-Z": undo, "N": look}
        acts |= {key: bar.turns[turn].click for turn, (_, key, _) in TURNS.items()}
        self._keys = tuple(acts)
        for key, act in acts.items():
            viewer.bind_key(key, _without_viewer(act), overwrite=True)

    def forget(self) -> None:
        """Give the keys back."""
        for key in self._keys:
            self._viewer.bind_key(key, None, overwrite=True)
        self._keys = ()


def _without_viewer(act: Callable[[], None]) -> Callable[[Viewer], None]:
    def on_key(viewer: Viewer) -> None:
        act()

    return on_key

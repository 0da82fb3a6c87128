"""Buttons and bar of a batch: start, pause, cancel, retry, and how far it is."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.parts import in_red, text_label
from napari_matseg._napari.run_bar import duration

START_TIP = "Does what is not there yet. What failed before, and is still the same, is left to Retry failed."
PAUSE_TIP = "Stops after the tile in work; Resume goes on from there."
CANCEL_TIP = "Stops after the tile in work. What is complete stays, and Start goes on with the rest."
RETRY_TIP = "Does what is not there yet, and tries again what failed."


class BatchBar(QWidget):
    """What can be done now, and how far it has come."""

    pause_toggled = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.start_button, self.pause_button = QPushButton("Start"), QPushButton("Pause")
        self.cancel_button, self.retry_button = QPushButton("Cancel"), QPushButton("Retry failed")
        self.pause_button.setCheckable(True)
        for button, tip in (
            (self.start_button, START_TIP),
            (self.pause_button, PAUSE_TIP),
            (self.cancel_button, CANCEL_TIP),
            (self.retry_button, RETRY_TIP),
        ):
            button.setToolTip(tip)
        self.bar = QProgressBar()
        self.note = QLabel()
        self.message = text_label()
        buttons = QHBoxLayout()
        for button in (self.start_button, self.pause_button, self.cancel_button, self.retry_button):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(buttons)
        for widget in (self.bar, self.note, self.message):
            layout.addWidget(widget)
        self.pause_button.toggled.connect(self._on_paused)
        self.show_idle(failed=0)

    def show_running(self) -> None:
        """Show that work has started."""
        self.message.setText("")
        self.bar.setRange(0, 0)
        self._show(running=True)
        self.retry_button.setEnabled(False)

    def show_idle(self, failed: int) -> None:
        """Show that nothing is in work, and whether there is something to retry."""
        self.pause_button.setChecked(False)
        self._show(running=False)
        self.retry_button.setEnabled(failed > 0)

    def show_cancelling(self) -> None:
        """Show that work will end soon."""
        self.pause_button.setChecked(False)
        self.pause_button.setEnabled(False)
        self.cancel_button.setEnabled(False)
        self.note.setText("stopping after this tile")

    def tell(self, share: float, text: str, seconds_left: float | None) -> None:
        """Tell how far the whole is, from 0 to 1."""
        self.bar.setRange(0, 1000)
        self.bar.setValue(round(1000 * share))
        left = "" if seconds_left is None or self.pause_button.isChecked() else f"; {duration(seconds_left)} left"
        paused = "Paused: " if self.pause_button.isChecked() else ""
        self.note.setText(f"{paused}{text}{left}")

    def say(self, html: str) -> None:
        """Show a message, as rich text."""
        self.message.setText(html)

    def fail(self, text: str) -> None:
        """Show an error, as plain text."""
        self.say(in_red(text))

    def _show(self, *, running: bool) -> None:
        self.start_button.setEnabled(not running)
        self.pause_button.setEnabled(running)
        self.cancel_button.setEnabled(running)
        self.bar.setVisible(running)
        self.note.setVisible(running)
        self.message.setVisible(not running)

    def _on_paused(self, paused: bool) -> None:
        self.pause_button.setText("Resume" if paused else "Pause")
        self.pause_toggled.emit(paused)

"""Run, cancel, and how far it has come."""

from __future__ import annotations

import time
from collections.abc import Callable

from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.jobs import Job
from napari_matseg._napari.parts import in_red, text_label
from napari_matseg.core.progress import Progress

CANCELLED = "Cancelled; nothing was changed."


class RunBar(QWidget):
    """Button to run, button to cancel, progress, and one message for the user.

    Parameters
    ----------
    job : Job
        What the buttons and the bar belong to.
    run : callable
        What the button does.
    verb : str
        What is on it.
    units : str
        What the work goes through, one by one; empty where its notes say how far it has come.

    Attributes
    ----------
    cancelled : str
        What is said, as rich text, once the work was cancelled.
    """

    def __init__(
        self, job: Job, run: Callable[[], None], verb: str, units: str = "tiles", parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.units = units
        self.cancelled = CANCELLED
        self._job = job
        self._started = 0.0
        self.run_button = QPushButton(verb)
        self.cancel_button = QPushButton("Cancel")
        self.bar = QProgressBar()
        self.note = QLabel()
        self.message = text_label()
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 2)
        buttons.addWidget(self.cancel_button, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(buttons)
        for widget in (self.bar, self.note, self.message):
            layout.addWidget(widget)
        self.run_button.clicked.connect(run)  # no lambda, which would keep the widget alive
        self.cancel_button.clicked.connect(self._on_cancel)
        job.progressed.connect(self._on_progressed)
        job.failed.connect(self.fail)
        job.ended.connect(self._on_ended)
        self._show_running(False)

    def begin(self) -> None:
        """Show that work has started."""
        self._started = time.monotonic()
        self.say("")
        self.bar.setRange(0, 0)
        self.note.setText("starting")
        self._show_running(True)

    def say(self, html: str) -> None:
        """Show a message, as rich text."""
        self.message.setText(html)
        self._make_room()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Wrap the message anew."""
        super().resizeEvent(event)
        self._make_room()

    def _make_room(self) -> None:
        """Keep what is below from covering a message of several lines until the layout has caught up."""
        self.message.setMinimumHeight(max(0, self.message.heightForWidth(self.width())))

    def fail(self, text: str) -> None:
        """Show an error, as plain text."""
        self.say(in_red(text))

    def _show_running(self, running: bool) -> None:
        self.run_button.setEnabled(not running)
        self.cancel_button.setEnabled(running)
        self.cancel_button.setVisible(running)
        self.bar.setVisible(running)
        self.note.setVisible(running)
        self.message.setVisible(not running)

    def _on_progressed(self, step: Progress) -> None:
        self.bar.setRange(0, step.total if step.done else 0)
        self.bar.setValue(step.done)
        left = ""
        if step.done:
            elapsed = time.monotonic() - self._started
            left = f", {duration(elapsed * (step.total - step.done) / step.done)} left"
            left = (f", {step.done} of {step.total} {self.units}" if self.units else "") + left
        self.note.setText(step.note + left)

    def _on_cancel(self) -> None:
        self._job.cancel()
        self.cancel_button.setEnabled(False)
        self.note.setText("cancelling after this step")

    def _on_ended(self, cancelled: bool) -> None:
        self._show_running(False)
        if cancelled:
            self.say(self.cancelled)


def duration(seconds: float) -> str:
    """Say how long something takes, as exactly as one cares to know.

    Examples
    --------
    >>> [duration(seconds) for seconds in (0.4, 12.3, 100, 3600 * 3 + 60 * 20)]
    ['0.4 s', '12 s', '2 min', '3 h 20 min']
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"

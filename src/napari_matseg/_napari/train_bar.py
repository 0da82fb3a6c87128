"""Buttons of a training: begin, pause, stop and keep the best, cancel; and how long it will take."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from qtpy.QtWidgets import QHBoxLayout, QPushButton

from napari_matseg._napari.jobs import Job
from napari_matseg._napari.run_bar import RunBar, duration
from napari_matseg._napari.train_job import Control
from napari_matseg.core.progress import Progress
from napari_matseg.core.train import TrainProgress

MEASURED = 40  # steps from which the time of one is taken
ENOUGH = 3


class TrainBar(RunBar):
    """A run bar whose work can be paused, and stopped so that the best is kept."""

    def __init__(self, job: Job, run: Callable[[], None]) -> None:
        super().__init__(job, run, "Train", units="")
        self.control = Control()
        self._times: deque[tuple[float, int]] = deque(maxlen=MEASURED)
        self.pause_button = QPushButton("Pause")
        self.pause_button.setCheckable(True)
        self.stop_button = QPushButton("Stop and keep the best")
        self.stop_button.setToolTip("End after this step; the model is what was best so far on the held-out part.")
        self.cancel_button.setToolTip("End, and keep nothing.")
        row = QHBoxLayout()
        row.addWidget(self.pause_button)
        row.addWidget(self.stop_button, 1)
        self.layout().insertLayout(1, row)
        self.pause_button.toggled.connect(self._on_pause)
        self.stop_button.clicked.connect(self._on_stop)
        self._show_steps(False)

    def begin(self) -> None:
        """Show that work has started, with a new control."""
        self.control = Control()
        self._times.clear()
        self.pause_button.setChecked(False)
        self.pause_button.setEnabled(True)
        self.stop_button.setEnabled(True)
        super().begin()

    def seconds_per_step(self) -> float | None:
        """Time of a step as measured; None before there are enough."""
        if len(self._times) < ENOUGH:
            return None
        (first, before), (last, after) = self._times[0], self._times[-1]
        return (last - first) / (after - before)

    def _show_running(self, running: bool) -> None:
        super()._show_running(running)
        if hasattr(self, "stop_button"):
            self._show_steps(running)

    def _show_steps(self, running: bool) -> None:
        for button in (self.pause_button, self.stop_button):
            button.setVisible(running)

    def _on_progressed(self, step: Progress) -> None:
        learning = isinstance(step, TrainProgress) and step.loss == step.loss
        if learning and self._times and step.done < self._times[-1][1]:  # was overtaken
            return
        self.bar.setRange(0, step.total if learning or step.done else 0)
        self.bar.setValue(step.done)
        if not learning:
            self.note.setText(step.note)
            return
        if self.control.pause.is_set():
            self._times.clear()
        elif not self._times or step.done > self._times[-1][1]:
            self._times.append((time.monotonic(), step.done))
        self._say_where(step)

    def _say_where(self, step: Progress) -> None:
        where = f"step {step.done} of {step.total}"
        seconds = self.seconds_per_step()
        if self.control.stop.is_set():
            where += ", stopping: the best so far is kept"
        elif self.control.pause.is_set():
            where += ", paused"
        elif seconds is not None:
            left = seconds * (step.total - step.done)
            where += f", {seconds:.2g} s each: {duration(left)} left of {duration(seconds * step.total)}"
        self.note.setText(where)

    def _on_pause(self, paused: bool) -> None:
        self.pause_button.setText("Resume" if paused else "Pause")
        if paused:
            self.control.pause.set()
        else:
            self.control.pause.clear()

    def _on_stop(self) -> None:
        self.control.stop.set()
        self.pause_button.setEnabled(False)
        self.stop_button.setEnabled(False)
        self.note.setText("stopping after this step; the best so far is kept")

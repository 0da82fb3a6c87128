"""Run a recipe on many micrographs: choose recipe, micrographs and folder, and watch the queue."""

from __future__ import annotations

import threading
import time
from html import escape
from pathlib import Path

from napari.viewer import Viewer
from qtpy.QtCore import QSize, QTimer, QUrl
from qtpy.QtGui import QDesktopServices, QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari import batch_job
from napari_matseg._napari.batch_bar import BatchBar
from napari_matseg._napari.batch_form import BatchForm
from napari_matseg._napari.batch_inputs import dropped
from napari_matseg._napari.batch_job import Found
from napari_matseg._napari.batch_open import Opener
from napari_matseg._napari.batch_pictures import Pictures
from napari_matseg._napari.batch_queue import Queue
from napari_matseg._napari.batch_table import QueueModel
from napari_matseg._napari.batch_words import counted, files
from napari_matseg._napari.docks import Dock
from napari_matseg._napari.jobs import Job
from napari_matseg._napari.parts import FLAG_COLOUR, Scroll, in_red
from napari_matseg._napari.run_bar import duration
from napari_matseg.core.progress import Progress
from napari_matseg.errors import MatsegError
from napari_matseg.running.states import RunProgress, Summary

WIDTH = 520  # px
PAUSE = 300  # ms
MOST_NOTES = 3
INDEX = "index.html"


class BatchWidget(Dock):
    """Runs a recipe on files and folders; one that cannot be run is named with its reason and stops nothing.

    What is complete stays when the run is cancelled or the dock is closed, and is not made again by the next run.
    """

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._started = 0.0
        self._out: Path | None = None
        self._pause = threading.Event()
        self._job, self._finding = Job(self), Job(self)
        self._due = QTimer(self, singleShot=True, interval=PAUSE)

        self.form = BatchForm(napari_viewer)
        self.bar = BatchBar()
        self.model = QueueModel(self)
        self.queue = Queue(self.model)
        self.pictures = Pictures(self.model, self)
        self.opener = Opener(napari_viewer, self)
        self.index_button, self.folder_button = QPushButton("Open index"), QPushButton("Open folder")
        self.index_button.setToolTip("All results as a page with pictures, in the browser.")
        self._lay_out()
        self._connect()
        self._show_places()
        self.setAcceptDrops(True)

    def _lay_out(self) -> None:
        places = QHBoxLayout()
        places.addWidget(self.index_button)
        places.addWidget(self.folder_button)
        inner = QWidget()
        layout = QVBoxLayout(inner)
        layout.addWidget(self.form)
        layout.addWidget(self.bar)
        layout.addWidget(self.queue, 1)
        layout.addLayout(places)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scroll(inner))

    def _connect(self) -> None:
        self.form.changed.connect(self._due.start)
        self._due.timeout.connect(self._find)
        self.bar.start_button.clicked.connect(self.run)
        self.bar.retry_button.clicked.connect(self.retry)
        self.bar.cancel_button.clicked.connect(self.cancel)
        self.bar.pause_toggled.connect(self._on_paused)
        self.queue.opened.connect(self.opener.open)
        self.opener.failed.connect(self.bar.fail)
        self.index_button.clicked.connect(self._open_index)
        self.folder_button.clicked.connect(self._open_folder)
        self._finding.succeeded.connect(self._on_found)
        self._finding.failed.connect(self._on_not_found)
        self._finding.ended.connect(self._on_finding_ended)
        self._job.progressed.connect(self._on_progressed)
        self._job.succeeded.connect(self._on_succeeded)
        self._job.failed.connect(self.bar.fail)
        self._job.ended.connect(self._on_ended)

    def run(self) -> None:
        """Start, or go on with what is not there yet."""
        self._start(retry_failed=False)

    def retry(self) -> None:
        """Start, and try again what failed before."""
        self._start(retry_failed=True)

    def _start(self, *, retry_failed: bool) -> None:
        if self._job.running:
            return
        inputs = self.form.inputs.inputs
        if not inputs:
            self.bar.fail("There are no micrographs; drop or choose files or folders.")
            return
        try:
            recipe, self._out = self.form.recipe.recipe(), self.form.out
        except MatsegError as error:
            self.bar.fail(str(error))
            return
        self._due.stop()
        self._finding.cancel()
        self._pause.clear()
        self._started = time.monotonic()
        self.form.recipe.describe()
        self.form.setEnabled(False)
        self.queue.view.clearSelection()
        self.bar.show_running()
        work = batch_job.run(recipe, inputs, self._out, self._pause, retry_failed=retry_failed)
        # Not on napari's list of activities: its bars handle events in each step, and so the next steps within it.
        self._job.start(work, None)

    def cancel(self) -> None:
        """Stop soon; what is complete stays."""
        self.bar.show_cancelling()
        self._job.cancel()
        self._pause.clear()  # or it would not come to its next step

    def on_closed(self) -> None:
        """Stop, and take no more notice of the viewer."""
        self._due.stop()
        self._finding.cancel()
        self.pictures.close()
        self.opener.close()
        self.cancel()

    def sizeHint(self) -> QSize:
        """Wide enough for the table."""
        size = super().sizeHint()
        return QSize(max(WIDTH, size.width()), size.height())

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take files and folders, wherever on the widget."""
        if self.form.isEnabled() and dropped(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Put them on the list."""
        self.form.inputs.add(dropped(event.mimeData()))
        event.acceptProposedAction()

    def _find(self) -> None:
        if self._job.running or self._closed:
            return
        if self._finding.running:
            self._finding.cancel()
            self._due.start()
            return
        inputs = self.form.inputs.inputs
        if not inputs:
            self.model.fill([], keep=False)
            self.form.say_found("")
            return
        self.form.say_found("looking for micrographs")
        self._finding.start(batch_job.find(inputs, self.form.out), None)

    def _on_found(self, found: Found, *, keep: bool = True) -> None:
        if self._closed or (keep and self._job.running):
            return
        self.model.fill(found.sources, keep=keep and self._out == self.form.out)
        more = len(found.notes) - MOST_NOTES
        notes = [*found.notes[:MOST_NOTES], *([f"and {more} more like these"] if more > 0 else [])]
        flagged = [f'<span style="color: {FLAG_COLOUR}">{escape(note)}</span>' for note in notes]
        self.form.say_found("<br>".join([f"{files(len(found.sources))} found", *flagged]))

    def _on_not_found(self, text: str) -> None:
        self.model.fill([], keep=False)
        self.form.say_found(in_red(text))

    def _on_finding_ended(self) -> None:
        self._show_places()
        self.bar.retry_button.setEnabled(not self._job.running and self.model.numbers["failed"] > 0)

    def _on_progressed(self, step: Progress) -> None:
        if isinstance(step, Found):
            self._on_found(step, keep=False)
            self.bar.tell(0, "loading the model", None)
        elif isinstance(step, RunProgress):
            row = self.model.take(step)
            if row is not None and step.state == "working":
                self.queue.follow(row)
            share = (step.done + (step.share if step.state == "working" else 0)) / step.total
            said = counted(self.model.numbers)
            self.bar.tell(
                share, f"{step.done} of {files(step.total)}" + (f": {said}" if said else ""), step.seconds_left
            )
        else:
            self.bar.note.setText(step.note)

    def _on_paused(self, paused: bool) -> None:
        (self._pause.set if paused else self._pause.clear)()

    def _on_succeeded(self, summary: Summary) -> None:
        said = counted({"done": summary.done, "kept": summary.kept, "failed": summary.failed})
        took = duration(time.monotonic() - self._started)
        failed = " Click one that failed to read why." if summary.failed else ""
        self.bar.say(
            f"{files(len(summary.outcomes))} in {took}: {said}.<br>Click one twice to see it in the viewer.{failed}"
        )

    def _on_ended(self, cancelled: bool) -> None:
        self.model.stop()
        self.form.setEnabled(True)
        self.bar.show_idle(self.model.numbers["failed"])
        if cancelled:
            complete = self.model.numbers["done"] + self.model.numbers["kept"]
            total = files(self.model.rowCount())
            self.bar.say(f"Cancelled. {complete} of {total} are complete and stay; Start goes on with the rest.")
        self._show_places()

    def _show_places(self) -> None:
        out = self._out
        self.folder_button.setEnabled(out is not None and out.is_dir())
        self.index_button.setEnabled(out is not None and (out / INDEX).is_file())

    def _open_index(self) -> None:
        if self._out is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str((self._out / INDEX).absolute())))

    def _open_folder(self) -> None:
        if self._out is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._out.absolute())))

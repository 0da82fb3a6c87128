"""Embeds in the background what the clicks to come will need."""

from __future__ import annotations

from qtpy.QtCore import QObject

from napari_matseg._napari.jobs import Job
from napari_matseg.core.prompt import PromptSession


class Ahead(QObject):
    """Quiet work, beside answering: details of one image after another, the latest alone."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._next: PromptSession | None = None
        self._job = Job(self)
        self._job.ended.connect(self._begin)

    @property
    def busy(self) -> bool:
        """Whether there is something left to embed."""
        return self._job.running

    def start(self, session: PromptSession) -> None:
        """Embed the details of a session's image, and no others any more."""
        self._next = session
        self._job.cancel()
        self._begin()

    def stop(self) -> None:
        """Leave the rest to be embedded when it is needed."""
        self._next = None
        self._job.cancel()

    def _begin(self) -> None:
        if self._next is not None and not self._job.running:
            session, self._next = self._next, None
            self._job.start(session.ahead_steps(), None)

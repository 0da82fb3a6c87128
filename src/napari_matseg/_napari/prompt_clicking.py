"""What clicking needs: points that are watched, an image that is embedded, and results to add to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer, Signal

from napari_matseg._napari.layers import file_of, full_resolution, micrograph_from_layer, placement
from napari_matseg._napari.prompt_ahead import Ahead
from napari_matseg._napari.prompt_bar import ClickBar
from napari_matseg._napari.prompt_job import embed
from napari_matseg._napari.prompt_live import Live
from napari_matseg._napari.prompt_models import LoadedPromptable
from napari_matseg._napari.prompt_places import in_pixels, plane_of, plane_on_view
from napari_matseg._napari.prompt_points import Clicks
from napari_matseg._napari.prompt_results import Found, Shown
from napari_matseg._napari.prompt_sources import NO_IMAGE, Sources, is_ours
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.prompt import PromptSession
from napari_matseg.errors import MatsegError
from napari_matseg.settings import PromptSettings

SETTLE_MS = 250
"""How long a slider has to rest before another plane is embedded."""
HOW = "Click on an object to see its mask; Enter accepts it."


class Clicking(QObject):
    """Watches the points that are chosen and, while the switch is on, has them answered as they come.

    Parameters
    ----------
    viewer : Viewer
    sources : Sources
    bar : ClickBar
    settings : callable
        Gives the settings as the widget has them; may raise.
    models : LoadedPromptable
    """

    said = Signal(str)
    """Rich text for the user."""
    failed = Signal(str)
    """One line for the user."""
    to_embed = Signal(object, str)
    """Work to be run, and its title; its outcome is for `embedded`."""
    changed = Signal()
    """Results are others."""

    def __init__(
        self,
        viewer: Viewer,
        sources: Sources,
        bar: ClickBar,
        settings: Callable[[], PromptSettings],
        models: LoadedPromptable,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._sources, self._bar, self._settings, self._models = viewer, sources, bar, settings, models
        self.clicks: Clicks | None = None
        self.live: Live | None = None
        self._results: list[tuple[Layer, Shown]] = []
        self._image: Layer | None = None
        self._wanted: Any = None
        self._pixels = 0
        self._refreshing = False
        self._read: tuple[Micrograph, dict[str, Any]] | None = None
        self.ahead = Ahead(self)
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(SETTLE_MS)
        self._settled.timeout.connect(self.prepare)
        bar.switch.toggled.connect(self._on_switch)
        bar.turned.connect(self._on_turned)
        bar.accept_button.clicked.connect(self.accept)
        bar.drop_button.clicked.connect(self.drop)
        bar.undo_button.clicked.connect(self.undo)
        for choice in (sources.image, sources.points):
            choice.currentIndexChanged.connect(self.refresh)
            choice.refreshed.connect(self.refresh)
        viewer.dims.events.current_step.connect(self._on_slider)
        self.refresh()

    @property
    def shown(self) -> Shown | None:
        """Results on the chosen image."""
        image = self._sources.image.layer
        self._results = [(of, shown) for of, shown in self._results if shown.there]
        return next((shown for of, shown in reversed(self._results) if of == image), None)

    def add_results(self, image: Layer, shown: Shown) -> None:
        """Take further results, which stand for the points as they are."""
        self._results.append((image, shown))
        self.refresh()
        if self.live is not None and image == self._image:
            self.live.use(shown)
        self.changed.emit()

    def accept(self) -> None:
        """Put the masks that are previewed into the labels."""
        if self.live is not None:
            self.live.accept()

    def drop(self) -> None:
        """Forget the last mask that is previewed."""
        if self.live is not None:
            self.live.drop()

    def undo(self) -> None:
        """Take back the last thing that was done to points or objects."""
        if self.live is not None:
            self.live.undo()

    def close(self) -> None:
        """Stop, and take no more notice of the viewer."""
        self._settled.stop()
        self._viewer.dims.events.current_step.disconnect(self._on_slider)
        self._end_live()
        self._forget_clicks()

    def refresh(self) -> None:
        """Follow the choice of layers."""
        if self._refreshing:  # what is done here adds and removes layers
            return
        self._refreshing = True
        try:
            self._follow()
        finally:
            self._refreshing = False
        self.changed.emit()

    def _follow(self) -> None:
        image, points = self._sources.image.layer, self._sources.points.layer
        if image is None or points is None:
            self._bar.switch.setChecked(False)
        live = self._bar.switch.isChecked()
        stale = self.clicks is not None and self.clicks.layer != points
        if self.live is not None and (stale or image != self._image):
            self._end_live()
        if stale:
            self._forget_clicks()
        if self.clicks is None and (is_ours(points) or live):
            self._watch(points)
        if live and self.live is None and self.clicks is not None:
            self._begin_live(image)

    def prepare(self) -> None:
        """Have embedded what is on view, unless it is, and answer by the present settings."""
        if self.live is None:
            return
        try:
            settings = self._settings()
            plane = plane_on_view(self._image, self._viewer.dims.point)
            bar = settings.exclude_data_bar
            wanted = (self._pixels, plane, settings.model, settings.device, settings.views, bar)
            if wanted == self._wanted:
                self.live.change(settings)
                return
            self.live.pause()
            self.ahead.stop()
            self._wanted = wanted
            micrograph = micrograph_from_layer(self._image)
        except MatsegError as error:
            self.failed.emit(str(error))
            return
        work = embed(micrograph, file_of(self._image), plane, settings, self._models)
        self.to_embed.emit(work, f"Embedding {self._image.name}")

    def embedded(self, outcome: tuple[PromptSession, Micrograph, dict[str, Any]]) -> None:
        """Begin to answer clicks."""
        session, micrograph, record = outcome
        if self.live is not None:
            self._read = micrograph, record
            self.said.emit(HOW)
            self.live.ready(session, micrograph, self._wanted[1])
            self.ahead.start(session)
            self.prepare()  # settings may have changed meanwhile

    def highest(self) -> int:
        """Highest id that is in use elsewhere than in the points."""
        ids = [0, *(self.shown.found.table if self.shown is not None else ())]
        labels = self._sources.labels.layer
        if labels is not None:
            ids.append(int(np.max(full_resolution(labels))))
        return max(ids)

    def _watch(self, points: Any) -> None:
        try:
            self.clicks = Clicks(points, self._find, self.highest, self)
        except MatsegError as error:
            self._bar.switch.setChecked(False)
            self.failed.emit(str(error))
        else:
            self.clicks.turn = self._bar.turn

    def _forget_clicks(self) -> None:
        if self.clicks is not None:
            self.clicks.forget()
            self.clicks.deleteLater()
        self.clicks = None

    def _begin_live(self, image: Layer) -> None:
        self._image, self._wanted = image, None
        self.live = Live(self._viewer, image, self.clicks, self._begin_results, self)
        self.live.said.connect(self.said)
        self.live.failed.connect(self.failed)
        self.live.accepted.connect(self.changed)
        image.events.data.connect(self._on_pixels)
        if self.shown is not None:
            self.live.use(self.shown)
        self.prepare()

    def _end_live(self) -> None:
        if self.live is not None:
            self._image.events.data.disconnect(self._on_pixels)
            self.live.close()
            self.live.deleteLater()
            self.ahead.stop()
        self.live = self._image = self._wanted = None

    def _begin_results(self) -> Shown:
        """Results for what is accepted on the image; they are added to those that there are."""
        micrograph, record = self._read
        settings = self.live.settings
        found = Found(micrograph, settings, record | {"settings": settings.model_dump(mode="json")})
        top = None if self.clicks is None else self.clicks.layer
        shown = Shown(self._viewer, found, f"{self._image.name} objects", placement(self._image), top)
        self._results.append((self._image, shown))
        return shown

    def _find(self, coordinates: np.ndarray) -> int:
        """Object that is shown under a point; 0 for none."""
        image = self._sources.image.layer
        if image is None:
            return 0
        place = in_pixels(coordinates[None], self.clicks.layer, image, self._viewer.dims.point)
        y, x = place[0, -2:]
        if self.live is not None:
            return self.live.at(y, x)
        plane = int(plane_of(place, image)[0])
        return 0 if self.shown is None else self.shown.found.at(plane, y, x)

    def _on_switch(self, on: bool) -> None:
        if not on:
            self._end_live()
            return
        points = self._sources.points.layer
        if self._sources.image.layer is None:
            self.failed.emit(NO_IMAGE)
        elif points is None:
            self._refreshing = True  # the choices learn of the new layer one by one
            self._sources.new_points()
            self._refreshing = False
        elif points.mode == "pan_zoom":
            self._viewer.layers.selection.active = points
            points.mode = "add"
        self.refresh()

    def _on_turned(self, turn: str) -> None:
        if self.clicks is not None:
            self.clicks.turn = turn

    def _on_slider(self, event: Any = None) -> None:
        if self.live is not None and self._image.ndim > 2:
            self._settled.start()

    def _on_pixels(self, event: Any = None) -> None:
        self._pixels += 1
        self._settled.start()

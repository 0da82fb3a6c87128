"""Files that are slow to look at: what they cost, and a button that makes better ones of them."""

from __future__ import annotations

from collections.abc import Generator
from html import escape
from pathlib import Path
from typing import Any

import napari
from napari.layers import Layer
from napari.utils.notifications import Notification, NotificationSeverity, notification_manager
from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from napari_matseg._napari.docks import Dock
from napari_matseg._napari.jobs import Job
from napari_matseg._napari.layers import KEY, describe, image_layer
from napari_matseg._napari.parts import text_label
from napari_matseg._napari.run_bar import RunBar
from napari_matseg.core.convert import convert_steps, describe_cost, view_bytes
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import Progress
from napari_matseg.core.read import read
from napari_matseg.settings import ViewSettings

TITLE = "Convert"
ENDING = "_tiled.ome.tif"
FILTER = "OME-TIFF (*.tif *.tiff);;OME-Zarr (*.zarr)"
CANCELLED = "Cancelled; no file was written."


def offer_to_convert(micrograph: Micrograph) -> None:
    """Say what a view of a file costs, if it is much, with a button that converts it."""
    viewer = napari.current_viewer()
    if micrograph.source is None or view_bytes(micrograph.pixels) <= ViewSettings().costly_bytes:
        return

    def convert(_notification: Any = None) -> None:
        ConvertBar.open(viewer, micrograph)

    message = f"{micrograph.source.name}: {describe_cost(micrograph)}. A tiled copy is shown faster."
    actions = () if viewer is None else ((f"{TITLE}...", convert),)
    notification_manager.dispatch(Notification(message, NotificationSeverity.INFO, actions))


class ConvertBar(Dock):
    """Converts one file; layers that show it show the new one afterwards, and are otherwise as they were.

    Parameters
    ----------
    viewer : napari.Viewer
    micrograph : Micrograph
        As read from its source.
    """

    def __init__(self, viewer: Any, micrograph: Micrograph, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._micrograph = micrograph
        self.job = Job(self)
        self.job.succeeded.connect(self._on_succeeded)
        about = text_label()
        about.setText(
            f"<b>{escape(micrograph.source.name)}</b>: {describe_cost(micrograph)}.<br>The new file is tiled, "
            "compressed without loss, and has smaller copies for viewing. Pixel size, data bar and the instrument's "
            "record are kept, and the old file stays as it is."
        )
        self.run_bar = RunBar(self.job, self.run, f"{TITLE}...", units="steps")
        self.run_bar.cancelled = CANCELLED
        layout = QVBoxLayout(self)
        layout.addWidget(about)
        layout.addWidget(self.run_bar)
        layout.addStretch()

    @classmethod
    def open(cls, viewer: Any, micrograph: Micrograph) -> ConvertBar:
        """Open it in a dock, and ask for a name at once."""
        bar = cls(viewer, micrograph)
        viewer.window.add_dock_widget(bar, name=f"{TITLE} {micrograph.source.name}", area="right")
        bar.run()
        return bar

    def run(self) -> None:
        """Ask for a name, and convert."""
        source = self._micrograph.source
        proposed = source.with_name(source.name.split(".", maxsplit=1)[0] + ENDING)
        name, _ = QFileDialog.getSaveFileName(self, f"{TITLE} {source.name} into", str(proposed), FILTER)
        if name and not self.job.running:
            self.run_bar.begin()
            self.job.start(_convert(self._micrograph, Path(name)), f"Converting {source.name}")

    def on_closed(self) -> None:
        """Stop."""
        self.job.cancel()

    def _on_succeeded(self, new: Micrograph) -> None:
        data, kwargs, _ = image_layer(new, "")
        is_pyramid = kwargs.get("multiscale", False)
        shown = [layer for layer in self._viewer.layers if self._shows_old(layer) and layer.multiscale == is_pyramid]
        for layer in shown:
            layer.data = data
            layer.metadata = {**layer.metadata, KEY: describe(new)}
        said = "The layer shows it now." if shown else "Open it instead of the old one."
        self.run_bar.say(f"Written: {escape(str(new.source))}. {said}")

    def _shows_old(self, layer: Layer) -> bool:
        known = layer.metadata.get(KEY, {})
        return known.get("kind") == "image" and known.get("source") == str(self._micrograph.source)


def _convert(micrograph: Micrograph, path: Path) -> Generator[Progress, None, Micrograph]:
    """Convert, and read what came out."""
    yield from convert_steps(micrograph, path)
    return read(path)

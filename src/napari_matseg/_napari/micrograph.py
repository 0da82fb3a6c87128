"""What is known of a micrograph, and what the user knows better: its pixel size, and where its data bar is."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from napari.layers import Image, Layer
from napari.viewer import Viewer
from qtpy.QtCore import QSize
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_matseg._napari.docks import Dock
from napari_matseg._napari.jobs import Job
from napari_matseg._napari.layers import as_read, file_of, micrograph_from_layer
from napari_matseg._napari.marks import BAR_COLOUR, LINE_COLOUR, Mark, bar_corners, rows_of
from napari_matseg._napari.micrograph_form import MicrographForm
from napari_matseg._napari.micrograph_line import preview_of_line, propose_line, say_followers, size_of_line
from napari_matseg._napari.parts import LayerChoice, Scroll
from napari_matseg._napari.prompt_places import plane_on_view
from napari_matseg._napari.scaling import Kept, set_data_bar, set_pixel_size
from napari_matseg.core.facts import facts, size_text
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import Progress
from napari_matseg.core.scale_bar import parse_length_nm
from napari_matseg.errors import MatsegError

WIDTH, HEIGHT = 380, 640  # px


class MicrographWidget(Dock):
    """Shows what an image's file says of it; sets pixel size and data bar for all that is done to the image later."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = napari_viewer
        self._watched: Layer | None = None
        self._undo: list[list[Kept]] = []
        self.known: Micrograph | None = None
        self._job = Job(self)
        self._job.succeeded.connect(self._on_read)
        self._job.failed.connect(self._fail)
        self.image = LayerChoice(napari_viewer, [Image], follow=True)
        self.form = MicrographForm(self.image)
        self.bar = Mark(napari_viewer, "data bar", BAR_COLOUR, self._on_bar_dragged)
        self.line = Mark(napari_viewer, "line along the scale bar", LINE_COLOUR, self._on_line_drawn)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scroll(self.form))
        for button, do in (
            (self.form.set_size, self.type_size),
            (self.form.draw, self.draw_line),
            (self.form.find, self.find_line),
            (self.form.set_length, self.set_by_line),
            (self.form.drag, self.drag_bar),
            (self.form.no_bar, self.drop_bar),
            (self.form.undo, self.undo),
        ):
            button.clicked.connect(do)
        self.form.length.textChanged.connect(self._preview)
        self.image.currentIndexChanged.connect(self._on_image)
        self._on_image()

    def type_size(self) -> None:
        """Set the pixel size that is typed."""
        self._try(lambda: self._set_size((parse_length_nm(self.form.size.text()),) * 2, "typed by hand"))

    def draw_line(self) -> None:
        """Let the user draw a line along the scale bar."""
        if self.known is not None:
            self.line.put(self.image.layer, None, "line")
            self.line.take("add_line")
            self.form.say("Press at one end of the scale bar and drag to the other, then type what it stands for.")

    def find_line(self) -> None:
        """Propose the ends of the scale bar."""
        self._try(self._find_line)

    def set_by_line(self) -> None:
        """Set the pixel size by the line and the length that is typed."""
        self._try(lambda: self._set_size(*size_of_line(self.line.corners(), self.form.length.text(), self.known)))

    def drag_bar(self) -> None:
        """Let the user drag the edge of the data bar; a new one is made where there is none."""
        if self.known is None:
            return
        if self.known.data_bar is None:
            self.bar.put(self.image.layer, bar_corners(self.known.shape_yx, None), "rectangle")
            self._on_bar_dragged()
        self.bar.take("select", shape=0)
        self.form.say("Drag the inner edge of the orange rectangle to where the image ends.")

    def drop_bar(self) -> None:
        """Say that there is no data bar."""
        self._try(lambda: self._set_bar(None))

    def undo(self) -> None:
        """Take the last change back."""
        if self._undo:
            for kept in self._undo.pop():
                if kept.layer in self._viewer.layers:
                    kept.restore()
            self._show()

    def on_closed(self) -> None:
        """Stop, and take the marks out of the viewer."""
        self._job.cancel()
        self.image.forget()
        self._watch(None)
        self.bar.remove()
        self.line.remove()

    def sizeHint(self) -> QSize:
        """Wide enough for the table."""
        return QSize(WIDTH, HEIGHT)

    def _try(self, do: Callable[[], None]) -> None:
        if self.known is None:
            self.form.fail("There is no image; open one, or choose an image layer.")
            return
        try:
            do()
        except MatsegError as error:
            self.form.fail(str(error))

    def _on_image(self, *_event: object) -> None:
        """Look at another image: at its file, if another reader left out what it says."""
        self.known = None
        self.line.remove()
        self.bar.remove()
        self.form.say("")
        layer = self.image.layer
        self._watch(layer)
        if layer is None:
            self.form.show_known(None, can_undo=False)
            return
        file = file_of(layer)
        if file is None or self._job.running:
            self._show()
        else:
            self._job.start(_read(layer, file), None)

    def _on_read(self, found: tuple[Layer, Micrograph]) -> None:
        layer, known = found
        if layer == self.image.layer:
            self._show(known)

    def _show(self, known: Micrograph | None = None) -> None:
        """Show what is known of the image now, and mark its data bar."""
        layer = self.image.layer
        if layer is None or self._closed:
            return
        try:
            self.known = known or micrograph_from_layer(layer)
        except MatsegError as error:
            self.known = None
            self.form.show_known(None, can_undo=bool(self._undo))
            self.form.fail(str(error))
            return
        self.form.show_known(self.known, can_undo=bool(self._undo))
        self.form.table.fill(facts(self.known))
        if self.known.data_bar is None:
            self.bar.remove()
        else:
            self.bar.put(layer, bar_corners(self.known.shape_yx, self.known.data_bar), "rectangle")
        corners = self.line.corners()
        if corners is not None:
            self.line.put(layer, corners, "line")
        self._preview()

    def _set_size(self, size_nm: tuple[float, float], told: str) -> None:
        self._undo.append(self._quietly(set_pixel_size, size_nm, told))
        self._viewer.canvas.overlays.scale_bar.visible = True
        self._show()
        self.form.say(
            f"The pixel size is {size_text(size_nm)}; {say_followers([kept.layer for kept in self._undo[-1]])}"
        )

    def _set_bar(self, rows: tuple[int, int] | None) -> None:
        try:
            self._undo.append(self._quietly(set_data_bar, rows))
        finally:
            self._show()
        self.form.say(
            "There is no data bar: all rows count."
            if rows is None
            else f"Rows {rows[0]} to {rows[1] - 1} are left out."
        )

    def _quietly(self, change: Callable[..., list[Kept]], *how: Any) -> list[Kept]:
        layer = self.image.layer
        self._watch(None)
        try:
            return change(self._viewer, layer, *how, self.known)
        finally:
            self._watch(layer)

    def _find_line(self) -> None:
        layer = self.image.layer
        self.line.put(layer, propose_line(self.known, plane_on_view(layer, self._viewer.dims.point)), "line")
        self.line.take("direct", shape=0)
        self._preview()
        self.form.say("Is the line as long as the scale bar? Drag its ends if not, then type what it stands for.")

    def _preview(self, *_event: object) -> None:
        self.form.show_line(preview_of_line(self.line.corners(), self.form.length.text(), self.known))

    def _on_line_drawn(self) -> None:
        if self._closed or self.known is None:
            return
        corners = self.line.corners()
        if corners is not None and len(self.line.layer.data) > 1:  # only the last one counts
            self.line.put(self.image.layer, corners, "line")
        self._preview()

    def _on_bar_dragged(self) -> None:
        if self._closed or self.known is None:
            return
        rows = rows_of(self.bar.corners(), self.known.shape_yx[0])
        if rows != self.known.data_bar:
            self._try(lambda: self._set_bar(rows))
        else:
            self._show()

    def _watch(self, layer: Layer | None) -> None:
        """Notice when the image is given another scale, by whomever."""
        if self._watched is not None:
            self._watched.events.scale.disconnect(self._on_scaled)
            self._watched.events.units.disconnect(self._on_scaled)
        self._watched = layer
        if layer is not None:
            layer.events.scale.connect(self._on_scaled)
            layer.events.units.connect(self._on_scaled)

    def _on_scaled(self, _event: object = None) -> None:
        self._show()

    def _fail(self, text: str) -> None:
        self.form.fail(text)
        self._show()


def _read(layer: Layer, file: Path) -> Generator[Progress, None, tuple[Layer, Micrograph]]:
    yield Progress(0, 1, "reading")
    return layer, as_read(micrograph_from_layer(layer), file)

"""How objects are found that nobody points at, as fields of a form."""

from __future__ import annotations

from napari.viewer import Viewer
from qtpy.QtWidgets import QDoubleSpinBox, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.centres import CentresWidget
from napari_matseg._napari.parts import Form, text_label
from napari_matseg._napari.prompt_form import TITLES
from napari_matseg._napari.prompt_sources import CENTRES, EVERYTHING
from napari_matseg.settings import CentreSettings, EverythingSettings, PromptSettings

ABOUT = {
    CENTRES: "Finds the centre of each particle, and segments it.",
    EVERYTHING: "Looks everywhere; takes its time. Background, lettering and the like may be found, too.",
}


class Search(QWidget):
    """What there is to say about detecting centres, and about looking everywhere.

    Parameters
    ----------
    viewer : Viewer
    """

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.about = text_label()
        self.how_button = QPushButton("Detect centres…")
        self.how_button.setToolTip("Opens Detect centres; while that is open, its settings are used.")
        self.how_button.clicked.connect(self._on_how)
        self.spacing = QDoubleSpinBox()
        self.spacing.setRange(0, 1e4)
        self.spacing.setDecimals(1)
        self.spacing.setSuffix(" px")
        self.spacing.setSpecialValueText("automatic")
        self.spacing.setToolTip("From one point to the next; objects that are much smaller may be missed.")
        self._centres, self._everything = Form(TITLES), Form(TITLES)
        self._centres.add("Settings", self.how_button)
        self._everything.add("Grid", self.spacing)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.about, self._centres, self._everything):
            layout.addWidget(widget)

    def show_what(self, what: str) -> None:
        """Show the fields for what is to be segmented; none for points."""
        self.setVisible(what in ABOUT)
        self.about.setText(ABOUT.get(what, ""))
        self._centres.setVisible(what == CENTRES)
        self._everything.setVisible(what == EVERYTHING)

    def centres(self, settings: PromptSettings) -> CentreSettings:
        """Give the settings of an open Detect centres; the defaults, if there is none.

        Raises
        ------
        SettingsError
            If a value there is impossible.
        """
        for widget in self._viewer.window.dock_widgets.values():
            if isinstance(widget, CentresWidget):
                return widget.settings()
        return CentreSettings(device=settings.device, exclude_data_bar=settings.exclude_data_bar)

    def everything(self) -> EverythingSettings:
        """Give what the fields are set to."""
        return EverythingSettings(spacing=self.spacing.value() or None)

    def _on_how(self) -> None:
        self._viewer.window.add_plugin_dock_widget("napari-matseg", "Detect centres")

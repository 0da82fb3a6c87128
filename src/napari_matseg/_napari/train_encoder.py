"""What the encoder of a training begins with: random weights, pretrained ones, or a file."""

from __future__ import annotations

from html import escape
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.jobs import Job
from napari_matseg._napari.models import BROWSE, NONE, load_torch
from napari_matseg._napari.parts import in_red, shrink, text_label
from napari_matseg.core.encoders.sources import (
    PRETRAININGS,
    PURPOSES,
    EncoderSource,
    fetch_encoder_steps,
    find_source,
    no_such,
    sources_of,
)
from napari_matseg.core.progress import Progress

SCRATCH = "from scratch: random weights"
TITLES = {"imagenet": "ImageNet", "micronet": "MicroNet", "imagenet-micronet": "ImageNet, then MicroNet"}
COST = (
    "Works for every encoder, and learns from your images alone. With one or a few labelled images, weights pretrained "
    "on micrographs (MicroNet) usually give more accurate models, above all of images unlike those."
)
FILES = "Weights (*.pth *.pt *.tar *.safetensors *.ckpt *.bin)"


class _Choice(QComboBox):
    """A list that is filled when it is opened, as looking up what there is may load torch."""

    opened = Signal()

    def showPopup(self) -> None:
        self.opened.emit()
        super().showPopup()


class EncoderWeights(QWidget):
    """What is said of the weights that are chosen in `choice`, to go below it, and the button that fetches them."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._encoder = ""
        self._weights: str | None = None
        self._reason = ""
        self._job = Job(self)
        self.choice = shrink(_Choice())
        self.about = text_label()
        self.fetch_button = QPushButton("Download")
        self.cancel_button = QPushButton("Cancel")
        buttons = QHBoxLayout()
        buttons.addWidget(self.fetch_button)
        buttons.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.about)
        layout.addLayout(buttons)
        self.choice.opened.connect(self._list)
        self.choice.activated.connect(self._on_activated)
        self.fetch_button.clicked.connect(self.fetch)
        self.cancel_button.clicked.connect(self._job.cancel)
        self._job.progressed.connect(self._on_progressed)
        self._job.failed.connect(self._on_failed)
        self._job.ended.connect(self._on_ended)
        self._show()

    @property
    def weights(self) -> str | None:
        """As `TrainSettings.encoder_weights`."""
        return self._weights

    @weights.setter
    def weights(self, weights: str | None) -> None:
        self._weights = weights
        self._show()
        self.changed.emit()

    @property
    def source(self) -> EncoderSource | None:
        """Where the chosen weights are had; None for random weights and files."""
        known = next((one for one in PRETRAININGS if one == self._weights), None)
        return None if known is None else find_source(self._encoder, known)

    def suit(self, encoder: str) -> None:
        """Let the choice be of this encoder."""
        if encoder != self._encoder:
            self._encoder = encoder
            self._show()

    def fetch(self) -> None:
        """Start to download the chosen weights."""
        source = self.source
        if source is None or self._job.running:
            return
        self.fetch_button.setEnabled(False)
        self.cancel_button.setVisible(True)
        self._job.start(fetch_encoder_steps(source.encoder, source.pretraining), f"Downloading {source.name}")

    def close_job(self) -> None:
        """Stop a download; what came of it is kept for another try."""
        self._job.cancel()

    def _list(self) -> None:
        """Offer what there is for the encoder."""
        load_torch()
        known = [(TITLES[source.pretraining], source.pretraining) for source in sources_of(self._encoder)]
        self._fill(known)

    def _fill(self, known: list[tuple[str, str]]) -> None:
        chosen = self._weights
        items = [(SCRATCH, NONE), *known]
        if chosen is not None and chosen not in [weights for _, weights in items]:
            items.append((TITLES.get(chosen, Path(chosen).name), chosen))
        self.choice.blockSignals(True)
        self.choice.clear()
        for title, weights in items:
            self.choice.addItem(title, weights)
        self.choice.insertSeparator(self.choice.count())
        self.choice.addItem(BROWSE, BROWSE)
        self.choice.setCurrentIndex(self.choice.findData(chosen or NONE))
        self.choice.blockSignals(False)

    def _show(self) -> None:
        """Say what is known of the chosen weights."""
        self._fill([])
        source = self.source
        to_fetch = source is not None and not source.here
        if source is not None:
            size = "" if source.megabytes is None else f" ({source.megabytes} MB)"
            self.fetch_button.setText(f"Download{size}")
            here = "Not on this computer yet." if to_fetch else "On this computer."
            self.about.setText(escape(f"{PURPOSES[source.pretraining]}. Licence: {source.licence}. {here}"))
        elif self._weights in PRETRAININGS:
            self.about.setText(escape(no_such(self._encoder, str(self._weights))))
        elif self._weights is not None:
            self.about.setText("A file of yours, of torchvision, timm, segmentation-models-pytorch or MicroNet.")
        else:
            self.about.setText(COST)
        self.fetch_button.setVisible(to_fetch)
        self.fetch_button.setEnabled(not self._job.running)
        self.cancel_button.setVisible(self._job.running)

    def _on_activated(self) -> None:
        chosen = self.choice.currentData()
        if chosen == BROWSE:
            file, _ = QFileDialog.getOpenFileName(self, "Weights of the encoder", "", FILES)
            chosen = file or self._weights
        self.weights = chosen or None

    def _on_progressed(self, step: Progress) -> None:
        self.about.setText(escape(step.note))

    def _on_failed(self, reason: str) -> None:
        self._reason = reason

    def _on_ended(self, cancelled: bool) -> None:
        reason, self._reason = self._reason, ""
        self._show()
        if reason:
            self.about.setText(in_red(reason))
        self.changed.emit()

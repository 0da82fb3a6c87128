"""How a training is to be: its size, network, loss and augmentation, and what it begins with."""

from __future__ import annotations

import re
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QLineEdit, QPushButton, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_matseg._napari.models import DeviceChoice, ModelChoice
from napari_matseg._napari.parts import Form, shrink, text_label
from napari_matseg._napari.train_data import Data
from napari_matseg._napari.train_encoder import EncoderWeights
from napari_matseg.core.checkpoints import ModelCard, available, read_card
from napari_matseg.errors import MatsegError, SettingsError
from napari_matseg.settings import ClassSpec, TrainSettings, make_settings
from napari_matseg.settings.budgets import AUGMENTATIONS, BUDGETS, LOSSES, RESTART, Budget

NETWORKS = {
    "unet": "U-Net",
    "deeplabv3plus": "DeepLabV3+",
    "deeplabv3": "DeepLabV3",
    "hrnetv2": "HRNetV2",
    "segformer": "SegFormer",
    "vit_adapter": "ViT-Adapter",
    "fcn": "FCN",
    "fpn": "Feature pyramid",
}
ENCODERS = {
    "": ("tu-resnet10t", "resnet18", "resnet34", "resnet50", "mobilenet_v2"),
    "hrnetv2": ("tu-hrnet_w18", "tu-hrnet_w32", "tu-hrnet_w48"),
    "segformer": ("mit_b0", "mit_b1", "mit_b2", "mit_b3", "mit_b4", "mit_b5"),
    "vit_adapter": ("tu-vit_tiny_patch16_224", "tu-vit_small_patch16_224", "tu-vit_base_patch16_224"),
}
BY_SIZE = "by size: {}"
LONGEST = 24  # letters of a name that is offered
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


class TrainForm(QWidget):
    """The fields of a training, but for what it learns from."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name = QLineEdit()
        self.name.setPlaceholderText("my-model")
        self.size = QComboBox()
        for size in BUDGETS:
            self.size.addItem(size, size)
        self.about = text_label()
        self.about_text = ""
        self.hold_out = QCheckBox("Hold out a part to judge by")
        self.hold_out.setChecked(True)
        self.held_out = text_label()
        self.start = ModelChoice(first="nothing: random weights")
        self.network, self.encoder, self.loss, self.augmentation = (shrink(QComboBox()) for _ in range(4))
        for name, title in NETWORKS.items():
            self.network.addItem(title, name)
        self.encoder.setEditable(True)
        self.encoder.setToolTip("Or type another of segmentation-models-pytorch's, or tu- and a name of timm's.")
        self.weights = EncoderWeights()
        for loss in LOSSES:
            self.loss.addItem(loss, loss)
        for augmentation in AUGMENTATIONS:
            self.augmentation.addItem(augmentation, augmentation)
        self.preview_button = QPushButton("Preview…")
        self.device = DeviceChoice()
        self._lay_out()
        self.size.currentIndexChanged.connect(self._suit)
        self.network.currentIndexChanged.connect(self._suit)
        self.start.currentIndexChanged.connect(self._suit)
        self.encoder.currentTextChanged.connect(self._suit_weights)
        for signal in (
            self.name.textChanged,
            self.hold_out.toggled,
            self.encoder.currentTextChanged,
            self.weights.changed,
            self.loss.currentIndexChanged,
            self.augmentation.currentIndexChanged,
        ):
            signal.connect(self._on_changed)
        self._suit()

    def _lay_out(self) -> None:
        form = Form()
        form.add("Name", self.name)
        form.add("Size", self.size)
        form.add("", self.about)
        form.add("", self.hold_out)
        form.add("", self.held_out)
        more = Form()
        for title, field in (
            ("Begin with", shrink(self.start)),
            ("Network", self.network),
            ("Encoder", self.encoder),
            ("Its weights", self.weights.choice),
            ("", self.weights),
            ("Loss", self.loss),
            ("Images vary as of", self.augmentation),
            ("", self.preview_button),
            ("Device", shrink(self.device)),
        ):
            more.add(title, field)
        self.advanced = QCollapsible("Network, loss and augmentation", expandedIcon="▾", collapsedIcon="▸")
        self.advanced.addWidget(more)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(form)
        layout.addWidget(self.advanced)

    @property
    def budget(self) -> Budget:
        """What the chosen size stands for."""
        return BUDGETS[self.size.currentData()]

    def chosen_name(self) -> str:
        """Name that the model is to have.

        Raises
        ------
        SettingsError
            If a file cannot have it, or there is such a model.
        """
        name = self.name.text().strip() or self.name.placeholderText()
        if not re.fullmatch(NAME, name):
            raise SettingsError(f"{name}: a model's name has only letters without accents, digits, and _ . - in it.")
        if name in available():
            raise SettingsError(f"{name}: there is a model of that name; choose another.")
        return name

    def suggest(self, name: str) -> None:
        """Offer a name that is made of another one."""
        letters = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name[:LONGEST])
        self.name.setPlaceholderText(free_name(letters.strip("-") or "my-model"))

    def settings(self, name: str, data: Data, classes: tuple[ClassSpec, ...]) -> TrainSettings:
        """Give the settings of a training.

        Raises
        ------
        MatsegError
            If a field makes no sense.
        """
        card = self._card()
        fields = self.budget.fields(self.network.currentData(), self._typed()) | {
            "encoder_weights": self.weights.weights
        }
        if card is not None:
            fields |= {"architecture": card.architecture, "normalise": card.normalise, "start": self.start.model}
            fields["encoder_weights"] = None
            fields["learning_rate"] *= RESTART
        more: dict[str, Any] = {
            "name": name,
            "classes": classes,
            "data": data.settings(name, hold_out=self.hold_out.isChecked()),
            "losses": LOSSES[self.loss.currentData()],
            "augment": AUGMENTATIONS[self.augmentation.currentData()],
            "device": self.device.device,
            "distance": data.objects,
            "pixel_size_nm": data.pixel_size_nm(),
        }
        return make_settings(TrainSettings, **fields | more)

    def _typed(self) -> str | None:
        """Give the encoder that was chosen or typed; None where it goes by size."""
        typed = self.encoder.currentText().strip()
        return None if self.encoder.findText(typed) == 0 or not typed else typed

    def _suit_weights(self, *_changed: object) -> None:
        self.weights.suit(self._typed() or self.budget.network(self.network.currentData()).encoder)

    def _card(self) -> ModelCard | None:
        return None if self.start.model is None else read_card(self.start.model)

    def _suit(self, *_changed: object) -> None:
        """Let the fields fit each other, and say what the size stands for."""
        try:
            card = self._card()
        except MatsegError as error:
            self.about.setText(str(error))
            return
        self.network.setEnabled(card is None)
        self.encoder.setEnabled(card is None)
        self.weights.setEnabled(card is None)
        self.weights.choice.setEnabled(card is None)
        name = self.network.currentData() if card is None else card.architecture.name
        budget = self.budget
        architecture = budget.network(name) if card is None else card.architecture
        if card is None:
            chosen, first = self.encoder.currentText(), BY_SIZE.format(architecture.encoder)
            others = ENCODERS.get(name, ENCODERS[""])
            self.encoder.blockSignals(True)
            self.encoder.clear()
            self.encoder.addItems([first, *others])
            self.encoder.setCurrentText(chosen if chosen in others else first)
            self.encoder.blockSignals(False)
            self._suit_weights()
        self.about_text = (
            f"{budget.steps} steps of {budget.batch} crops of {budget.crop} x {budget.crop} px; "
            f"{NETWORKS[name]} with {architecture.encoder}{_width(architecture.options)}."
        )
        self.about.setText(f"{self.about_text} The first steps tell how long it takes here.")
        self.changed.emit()

    def _on_changed(self, *_changed: object) -> None:
        self.changed.emit()


def free_name(name: str) -> str:
    """Name that no model has: with a number, if need be."""
    taken, number, free = available(), 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _width(options: dict[str, Any]) -> str:
    width = options.get("decoder_channels")
    if width is None:
        return ""
    return f", decoder {'-'.join(map(str, width)) if isinstance(width, list | tuple) else width}"

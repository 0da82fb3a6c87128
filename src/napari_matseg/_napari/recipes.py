"""Save recipe: what a widget is set to, as a file that does the same to a whole folder."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from subprocess import list2cmdline
from typing import Any

from napari.layers import Labels, Layer
from pydantic import ValidationError
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_matseg._napari.layers import KEY, micrograph_from_layer, record_of
from napari_matseg._napari.parts import in_red, text_label
from napari_matseg._napari.saving import ask_file
from napari_matseg.core.recipes import write_recipe
from napari_matseg.errors import InputError, MatsegError, SettingsError
from napari_matseg.settings import (
    MeasureSettings,
    PromptStep,
    ReadSettings,
    Recipe,
    SegmentSettings,
    explain,
    make_recipe,
)

FILES = {"Recipes (*.yaml)": ".yaml", "Recipes (*.yml)": ".yml"}
BY_HAND = (
    "Points that are set by hand are not in it: for each micrograph it reads them from a file beside it, "
    "<i>name</i>_points.csv. For one without, let <i>Points to masks</i> segment detected centres, or everything."
)


class RecipeBar(QWidget):
    """Button that saves a recipe, and what to do with it.

    Parameters
    ----------
    make : callable
        Gives the recipe.
    left_out : str
        What of the widget no recipe holds, as rich text.
    """

    def __init__(self, make: Callable[[], Recipe], left_out: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._make, self._left_out = make, left_out
        self.button = QPushButton("Save recipe…")
        self.button.setToolTip("What is chosen here, as a small text file that does the same to a whole folder.")
        self.message = text_label()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self.message)
        self._say("")
        self.button.clicked.connect(self._on_clicked)

    def save(self, path: Path) -> None:
        """Save what the widget is set to now, named as the file is.

        Raises
        ------
        MatsegError
            If there is nothing to save, or the file cannot be written.
        """
        recipe = self._make().model_copy(update={"name": path.stem})
        write_recipe(recipe, path)
        self._say(_what_now(recipe, path, self._left_out))

    def _on_clicked(self) -> None:
        try:
            file = ask_file(self, "Save recipe", _name(self._make()), FILES)
            if file is not None:
                self.save(file)
        except MatsegError as error:
            self._say(in_red(str(error)))

    def _say(self, html: str) -> None:
        self.message.setText(html)
        self.message.setVisible(bool(html))


def segment_recipe(settings: SegmentSettings, image: Layer | None) -> Recipe:
    """Make a recipe that segments as an image is segmented, and measures what it finds."""
    measure = MeasureSettings(exclude_data_bar=settings.exclude_data_bar)
    return Recipe(read=_read_as(image), segment=settings, measure=measure)


def prompt_recipe(step: PromptStep, image: Layer | None) -> Recipe:
    """Make a recipe that finds objects as they are found on an image, and measures them."""
    measure = MeasureSettings(exclude_data_bar=step.prompt.exclude_data_bar)
    return Recipe(read=_read_as(image), prompt=step, measure=measure)


def measure_recipe(
    labels: Labels,
    image: Layer | None,
    settings: MeasureSettings,
    *,
    classes: bool,
    pixel_size_nm: tuple[float, float] | None,
) -> Recipe:
    """Make a recipe of what made labels, by their record, and of how they are measured.

    Parameters
    ----------
    labels : Labels layer
    image : Layer or None
        What they are labels of.
    settings : MeasureSettings
    classes : bool
        Whether the labels are measured as classes, not as objects.
    pixel_size_nm : (float, float) or None
        Of files that state none; None: as the image has it.

    Raises
    ------
    MatsegError
        If it is not known what made the labels, or they are measured as something else than they are.
    """
    kind, record = labels.metadata.get(KEY, {}).get("kind"), record_of(labels) or {}
    if kind in ("classes", "objects") and (kind == "classes") != classes:
        raise InputError(f"{labels.name}: these are {kind}; a recipe measures them as that: choose so, then save it.")
    try:
        before = _before(record, classes=classes)
    except ValidationError as error:
        raise SettingsError(
            f"{labels.name}: was made by another version, with settings that this one has not ({explain(error)}); "
            "segment again, then save the recipe."
        ) from error
    if before is None:
        raise InputError(
            f"{labels.name}: nothing tells how these labels were made, so that no recipe can make them again; "
            "segment with Segment micrograph or Points to masks, and measure what that gives."
        )
    read = ReadSettings(pixel_size_nm=pixel_size_nm) if pixel_size_nm else _read_as(image)
    return before.model_copy(update={"read": read, "measure": settings})


def _before(record: dict[str, Any], *, classes: bool) -> Recipe | None:
    """Make a recipe of what was done before labels were measured; None if their record does not tell."""
    job, settings = record.get("job"), record.get("settings")
    if "recipe" in record:
        made = make_recipe(record["recipe"], "The record of these labels")
    elif job == "segment":
        made = Recipe.model_validate({"segment": settings})
    elif job == "find":
        made = Recipe.model_validate({"prompt": {"centres": record.get("centres"), "prompt": settings}})
    elif job == "everything":
        step = {"find": "everything", "everything": record.get("everything"), "prompt": settings}
        made = Recipe.model_validate({"prompt": step})
    elif job == "prompt":
        made = Recipe.model_validate({"prompt": {"find": "points", "prompt": settings}})
    else:
        return None
    if made.segment is None:
        return made
    # Whether what is measured is objects, parted where they touch, or connected pieces of classes.
    return made.model_copy(update={"segment": made.segment.model_copy(update={"instances": not classes})})


def _read_as(image: Layer | None) -> ReadSettings:
    """Let files that state no pixel size have that which the user gave an image whose file states none."""
    if image is None or image.metadata.get(KEY, {}).get("pixel_size_nm") is not None:
        return ReadSettings()
    return ReadSettings(pixel_size_nm=micrograph_from_layer(image).pixel_size_nm)


def _name(recipe: Recipe) -> str:
    """Name of a file, for a start."""
    if recipe.segment is not None:
        return f"segment-{Path(recipe.segment.model).stem}"
    return f"{recipe.prompt.find}-{Path(recipe.prompt.prompt.model).stem}"


def _what_now(recipe: Recipe, path: Path, left_out: str) -> str:
    """Say in rich text what was saved, and what to do with it."""
    lines = [
        f"<b>{escape(path.name)}</b> is saved. For a whole folder open it in <i>Batch</i>, or type where it lies:",
        f"<code>napari-matseg run {escape(list2cmdline([path.name]))} FOLDER -o OUT</code>",
    ]
    if recipe.prompt is not None and recipe.prompt.find == "points":
        lines.append(BY_HAND)
    if recipe.read.pixel_size_nm is not None:
        y, x = (f"{side:.4g}" for side in recipe.read.pixel_size_nm)
        size = f"{y} nm" if y == x else f"{y} nm by {x} nm"
        lines.append(f"Files that state no pixel size are taken to have pixels of {size}.")
    return "<br>".join([*lines, left_out] if left_out else lines)

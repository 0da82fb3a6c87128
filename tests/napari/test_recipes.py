from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer
from qtpy.QtWidgets import QFileDialog

from napari_matseg._napari.layers import KEY
from napari_matseg._napari.prompt_sources import CENTRES, EVERYTHING, POINTS
from napari_matseg._napari.recipes import measure_recipe
from napari_matseg.errors import MatsegError
from napari_matseg.settings import (
    CentreSettings,
    EverythingSettings,
    MeasureSettings,
    PromptSettings,
    PromptStep,
    ReadSettings,
    Recipe,
    SegmentSettings,
    read_recipe,
)

Open = Callable[..., Any]
MEASURE = MeasureSettings(edge="guard", quantity="feret_max")
CALIBRATED = {"scale": (2.0, 3.0), "units": ("nm", "nm")}


@pytest.fixture
def open_widget(make_napari_viewer: Any, tiny: str) -> Open:
    """Open a widget in a viewer with these layers."""

    def open_(title: str, *layers: Layer) -> Any:
        viewer = make_napari_viewer()
        for layer in layers:
            viewer.add_layer(layer)
        return viewer.window.add_plugin_dock_widget("napari-matseg", title)[1]

    return open_


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """File that the dialogue gives, and the name that it offered."""
    asked = {"file": ""}

    def ask(_parent: object, _title: str, offered: str, _kinds: str) -> tuple[str, str]:
        asked["offered"] = offered
        return asked["file"], ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", ask)
    return asked


def read_image(noise: np.ndarray, size_nm: list[float] | None, **more: Any) -> Image:
    """Image layer of a file that states this pixel size."""
    known = {"kind": "image", "pixel_size_nm": size_nm, "shape": [0, 0], "axes": "YX", "data_bar_rows": None}
    return Image(noise, name="steel", metadata={KEY: known}, **more)


def labels(kind: str | None, record: dict[str, Any] | None) -> Labels:
    known = {} if kind is None else {KEY: {"kind": kind, "record": record}}
    return Labels(np.ones((8, 8), np.uint8), name="made", metadata=known)


def test_segment_saves_what_it_is_set_to(
    open_widget: Open, tmp_path: Path, noise: np.ndarray, asked: dict[str, str]
) -> None:
    widget = open_widget("Segment micrograph", read_image(noise, None, **CALIBRATED))
    widget.model.model = "tiny"
    widget.objects.setChecked(True)
    widget.data_bar.setChecked(False)
    widget.tiling.setCurrentIndex(widget.tiling.findData("exact"))
    bar = widget.recipe_bar
    bar.button.click()
    assert asked["offered"] == "segment-tiny.yaml"
    assert not bar.message.text(), "no file was chosen"
    asked["file"] = str(tmp_path / "all of it")
    bar.button.click()
    assert read_recipe(tmp_path / "all of it.yaml") == Recipe(
        name="all of it",
        read=ReadSettings(pixel_size_nm=(2, 3)),
        segment=SegmentSettings(model="tiny", instances=True, exclude_data_bar=False, tiling="exact"),
        measure=MeasureSettings(exclude_data_bar=False),
    )
    said = bar.message.text()
    assert "<b>all of it.yaml</b> is saved" in said
    assert "<code>napari-matseg run &quot;all of it.yaml&quot; FOLDER -o OUT</code>" in said
    assert "state no pixel size are taken to have pixels of 2 nm by 3 nm" in said
    asked["file"] = str(tmp_path / "gone" / "a.yml")
    bar.button.click()
    assert "a.yml" in bar.message.text()
    assert "saved" not in bar.message.text()


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (lambda noise: read_image(noise, [2.0, 2.0], **CALIBRATED), None),  # each file says it itself
        (lambda noise: read_image(noise, None), None),
        (lambda noise: Image(noise, **CALIBRATED), (2, 3)),
    ],
)
def test_pixel_size_goes_with_it_where_the_user_gave_it(
    noise: np.ndarray, image: Callable[[np.ndarray], Image], size: tuple[float, float] | None
) -> None:
    made = labels("classes", {"job": "segment", "settings": {}})
    recipe = measure_recipe(made, image(noise), MEASURE, classes=True, pixel_size_nm=None)
    assert recipe.read.pixel_size_nm == size


def test_points_to_masks_saves_how_points_are_found(open_widget: Open, tmp_path: Path, noise: np.ndarray) -> None:
    widget = open_widget("Points to masks", Image(noise))
    widget.form.holes.setValue(7)
    widget.search.spacing.setValue(11)
    prompt = PromptSettings(fill_holes_px=7)
    for what, step in (
        (CENTRES, PromptStep(find="centres", prompt=prompt)),
        (EVERYTHING, PromptStep(find="everything", everything=EverythingSettings(spacing=11), prompt=prompt)),
        (POINTS, PromptStep(find="points", prompt=prompt)),
    ):
        widget.sources.what = what
        widget.recipe_bar.save(tmp_path / "recipe.yaml")
        assert read_recipe(tmp_path / "recipe.yaml") == Recipe(name="recipe", prompt=step)
        said = widget.recipe_bar.message.text()
        assert ("Points that are set by hand are not in it" in said) == (what == POINTS)
        assert "corrected by hand" in said


def test_measure_joins_what_made_the_labels(open_widget: Open, asked: dict[str, str], tmp_path: Path) -> None:
    widget = open_widget("Measure")
    widget.recipe_bar.button.click()
    assert "There are no labels" in widget.recipe_bar.message.text()
    record = {"job": "segment", "settings": SegmentSettings(model="superalloy").model_dump(mode="json")}
    widget._viewer.add_layer(labels("classes", record))
    widget.form.kind.setCurrentIndex(widget.form.kind.findData(True))
    widget.form.pixel_size.setText("1.5")
    widget.sizes.quantity.setCurrentIndex(widget.sizes.quantity.findData("area"))
    asked["file"] = str(tmp_path / "recipe.yaml")
    widget.recipe_bar.button.click()
    assert asked["offered"] == "segment-superalloy.yaml"
    assert read_recipe(tmp_path / "recipe.yaml") == Recipe(
        name="recipe",
        read=ReadSettings(pixel_size_nm=(1.5, 1.5)),
        segment=SegmentSettings(model="superalloy"),
        measure=MeasureSettings(quantity="area"),
    )
    assert "Filters, and what was corrected by hand, are not in it." in widget.recipe_bar.message.text()
    widget.form.kind.setCurrentIndex(widget.form.kind.findData(False))
    widget.recipe_bar.button.click()
    assert "made: these are classes" in widget.recipe_bar.message.text()


CENTRE, EVERY, PROMPT = CentreSettings(depth=0.3), EverythingSettings(spacing=9), PromptSettings(min_iou=0.2)


@pytest.mark.parametrize(
    ("record", "recipe"),
    [
        (
            {"job": "segment", "settings": SegmentSettings().model_dump(mode="json")},
            Recipe(segment=SegmentSettings(instances=True)),
        ),
        (
            {"job": "find", "settings": PROMPT.model_dump(mode="json"), "centres": CENTRE.model_dump(mode="json")},
            Recipe(prompt=PromptStep(centres=CENTRE, prompt=PROMPT)),
        ),
        (
            {"job": "everything", "settings": PROMPT.model_dump(mode="json"), "everything": {"spacing": 9}},
            Recipe(prompt=PromptStep(find="everything", everything=EVERY, prompt=PROMPT)),
        ),
        (
            {"job": "prompt", "settings": PROMPT.model_dump(mode="json"), "prompts": {"1": {}}},
            Recipe(prompt=PromptStep(find="points", prompt=PROMPT)),
        ),
        (
            {"job": "run", "recipe": Recipe(segment=SegmentSettings(), clean={"fill_holes_px": 3}).used()},
            Recipe(segment=SegmentSettings(instances=True), clean={"fill_holes_px": 3}),
        ),
    ],
    ids=lambda value: value.get("job") if isinstance(value, dict) else "",
)
def test_record_of_objects_becomes_a_recipe(record: dict[str, Any], recipe: Recipe) -> None:
    found = measure_recipe(labels("objects", record), None, MEASURE, classes=False, pixel_size_nm=None)
    assert found == recipe.model_copy(update={"measure": MEASURE})


@pytest.mark.parametrize(
    ("made", "classes", "said"),
    [
        (labels(None, None), False, "made: nothing tells how these labels were made"),
        (labels("objects", None), False, "made: nothing tells how these labels were made"),
        (labels("objects", {"job": "truth"}), False, "made: nothing tells"),
        (labels("objects", {"job": "prompt", "settings": {}}), True, "made: these are objects; a recipe measures them"),
        (labels("classes", {"job": "segment", "settings": {}}), False, "made: these are classes"),
        (labels("classes", {"job": "segment", "settings": {"old": 1}}), True, r"made: was made by another .*\.old: "),
        (labels("classes", {"job": "segment"}), True, "made: was made by another version"),
        (labels("objects", {"job": "find", "settings": {}}), False, "made: was made by another version"),
        (labels("objects", {"recipe": {"format": 99}}), False, "record of these labels: is of format 99"),
    ],
)
def test_labels_that_no_recipe_can_make(made: Labels, classes: bool, said: str) -> None:
    with pytest.raises(MatsegError, match=said):
        measure_recipe(made, None, MEASURE, classes=classes, pixel_size_nm=None)

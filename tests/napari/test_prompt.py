from __future__ import annotations

import csv
import gc
import json
import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from napari import current_viewer
from napari.layers import Image, Labels, Layer, Points, Shapes
from napari.utils.key_bindings import coerce_keybinding
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

from napari_matseg._napari import prompt_clicking, prompt_job
from napari_matseg._napari import prompt_models as skin_models
from napari_matseg._napari.centres import CentresWidget
from napari_matseg._napari.layers import KEY, image_layer
from napari_matseg._napari.models import LoadedModels
from napari_matseg._napari.prompt import PromptWidget
from napari_matseg._napari.prompt_layers import NEGATIVE, POSITIVE
from napari_matseg._napari.prompt_points import ADD, NEW, TAKE_AWAY
from napari_matseg._napari.prompt_sources import CENTRES, EVERYTHING, POINTS
from napari_matseg.core.centres import Centres
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.objects import ObjectMask
from napari_matseg.core.progress import Progress
from napari_matseg.core.prompt import PromptProgress
from napari_matseg.core.prompts import Prompt
from napari_matseg.core.sam.weights import PromptableModel
from napari_matseg.errors import InputError, ModelError
from napari_matseg.settings import CentreSettings, EverythingSettings, PromptSettings

RADIUS = 8.2
Wait = Callable[[Any], None]
Open = Callable[..., PromptWidget]


class DiskSession:
    """Stands in for `core.prompt.PromptSession`: answers with a disc round each positive point, less the negative."""

    embedded: ClassVar[list[int]] = []
    ahead: ClassVar[list[int]] = []
    asked: ClassVar[list[Prompt]] = []
    gate: threading.Event | None = None

    def __init__(self, settings: PromptSettings, *, loaded: PromptableModel) -> None:
        self.settings = settings
        self.note = ""
        self._shape = (0, 0)
        self._plane = 0

    def describe_model(self) -> dict[str, str]:
        return {"name": "compact"}

    def set_image_steps(self, micrograph: Micrograph, plane: int = 0) -> Generator[Progress, None, None]:
        yield Progress(0, 3, "reading the image")
        while self.gate is not None and not self.gate.wait(0.01):
            yield Progress(2, 3, "embedding")
        self._shape, self._plane = micrograph.shape_yx, plane
        self.embedded.append(plane)
        yield Progress(3, 3)

    def ahead_steps(self) -> Generator[Progress, None, None]:
        self.ahead.append(self._plane)
        yield Progress(1, 1)

    def predict_steps(self, prompts: Sequence[Prompt]) -> Generator[PromptProgress, None, list[ObjectMask]]:
        found = []
        for k, prompt in enumerate(prompts):
            if prompt.plane != self._plane:
                raise InputError("another plane")
            self.asked.append(prompt)
            found.append(self._disc(prompt))
            yield PromptProgress(k + 1, len(prompts), "segmenting", (found[-1],))
        return found

    def _disc(self, prompt: Prompt) -> ObjectMask:
        y, x = np.ogrid[: self._shape[0], : self._shape[1]]
        inside = np.zeros(self._shape, bool)
        if prompt.mask is not None:
            inside[prompt.mask.where] = prompt.mask.mask_yx
        if prompt.box_yx is not None:
            y0, x0, y1, x1 = prompt.box_yx
            inside |= (y >= y0) & (y <= y1) & (x >= x0) & (x <= x1)
        for positive in (True, False):
            for cy, cx in prompt.points_yx[prompt.positive == positive]:
                inside[(y - cy) ** 2 + (x - cx) ** 2 <= (RADIUS if positive else RADIUS / 2) ** 2] = positive
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        scores = np.where(inside[top:bottom, left:right], 4, -4).astype(np.float16)
        sure = 0.4 if prompt.id % 3 == 0 else 0.95
        return ObjectMask(prompt.id, int(top), int(left), scores, sure, 0.9, prompt.plane)


@pytest.fixture(autouse=True)
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[DiskSession]:
    def load(model: str, device: str) -> PromptableModel:
        if model != "compact":
            raise ModelError(f"{model}: is damaged; get it again.")
        return PromptableModel(None, model, "0" * 64, tmp_path, "BSD-3-Clause")  # type: ignore[arg-type]

    monkeypatch.setenv("NAPARI_MATSEG_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(skin_models, "available_promptable", lambda: {"compact": tmp_path, "vit_b": None})
    monkeypatch.setattr(skin_models, "load_promptable", load)
    monkeypatch.setattr(prompt_job, "PromptSession", DiskSession)
    monkeypatch.setattr(DiskSession, "embedded", [])
    monkeypatch.setattr(DiskSession, "ahead", [])
    monkeypatch.setattr(DiskSession, "asked", [])
    monkeypatch.setattr(prompt_clicking, "SETTLE_MS", 0)
    return DiskSession


@pytest.fixture
def open_widget(make_napari_viewer: Any) -> Open:
    """Open the widget in a viewer with these layers."""

    def open_(*layers: Layer, show: bool = False) -> PromptWidget:
        viewer = make_napari_viewer(show=show)
        for layer in layers:
            viewer.add_layer(layer)
        _, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Points to masks")
        assert isinstance(widget, PromptWidget)
        return widget

    return open_


@pytest.fixture
def settled(qtbot: Any) -> Callable[[PromptWidget], None]:
    """Wait until nothing is embedded or asked any more."""

    def wait(widget: PromptWidget) -> None:
        def idle() -> bool:
            live = widget.clicking.live
            return not widget._job.running and (live is None or not live.busy)

        qtbot.waitUntil(idle, timeout=30_000)

    return wait


Settled = Callable[[PromptWidget], None]


def disc(y: float, x: float, shape: tuple[int, int] = (96, 160)) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= RADIUS**2


def cells(widget: PromptWidget) -> list[list[str]]:
    model = widget.objects.table.model()
    return [[model.data(model.index(y, x)) for x in range(model.columnCount())] for y in range(model.rowCount())]


def image(noise: np.ndarray, **kwargs: Any) -> Image:
    return Image(noise, name="steel", **kwargs)


# ---------------------------------------------------------------- all at once


def test_point_i_becomes_object_i_where_the_image_lies(open_widget: Open, wait_for: Wait, noise: np.ndarray) -> None:
    place = {"scale": (4.0, 5.0), "translate": (100, -50), "rotate": 30, "units": ("nm", "nm")}
    steel = image(noise, **place)
    points = Points([[20, 30], [60, 100], [40, 120]], name="p", **place)
    widget = open_widget(steel, points)
    widget.run_bar.run_button.click()
    wait_for(widget)
    result = widget._viewer.layers["steel objects"]
    assert isinstance(result, Labels), widget.run_bar.message.text()
    for one, (y, x) in enumerate(points.data, start=1):
        np.testing.assert_array_equal(result.data == one, disc(y, x))
    np.testing.assert_allclose(result.data_to_world((5, 7)), steel.data_to_world((5, 7)))
    assert result.units == steel.units
    assert list(points.features["object"]) == [1, 2, 3]
    assert list(points.features["polarity"]) == [POSITIVE] * 3
    features = result.features
    assert list(features["index"]) == [1, 2, 3]
    area = disc(20, 30).sum()
    assert list(features["area_px"]) == [area] * 3
    np.testing.assert_allclose(features["area_nm2"], area * 20.0)
    assert list(features["predicted_iou"]) == [0.95, 0.95, 0.4]
    assert list(features["flagged"]) == [False, False, True]
    assert features["reason"][2] == "low predicted IoU"
    known = result.metadata[KEY]
    assert json.loads(json.dumps(known)) == known
    assert known["kind"] == "objects"
    assert known["record"]["job"] == "prompt"
    assert known["record"]["prompts"]["2"]["points_yx"] == [[60.0, 100.0]]
    assert "3 objects" in widget.run_bar.message.text()
    assert "1 flagged" in widget.run_bar.message.text()


def test_points_in_other_units_and_with_another_transform(open_widget: Open, wait_for: Wait, noise: np.ndarray) -> None:
    steel = image(noise, scale=(2, 2), units=("nm", "nm"), translate=(10, 20))
    turned = {"rotate": 90, "units": ("um", "um")}
    points = Points([Points([[0, 0]], **turned).world_to_data((0.110, 0.220))], **turned)
    widget = open_widget(steel, points)
    widget.run()
    wait_for(widget)
    np.testing.assert_array_equal(widget._viewer.layers["steel objects"].data == 1, disc(50, 100))


def test_objects_of_several_points_and_negative_ones(open_widget: Open, wait_for: Wait, noise: np.ndarray) -> None:
    features = {"object": [7, 7, 9], "polarity": ["positive", "negative", "positive"]}
    points = Points([[20, 30], [20, 36], [60, 100]], features=features)
    widget = open_widget(image(noise), points)
    widget.run()
    wait_for(widget)
    result = widget._viewer.layers["steel objects"].data
    assert set(np.unique(result)) == {0, 7, 9}
    assert result[20, 30] == 7
    assert result[20, 36] == 0


def test_points_that_cannot_be_used_are_named_and_marked(open_widget: Open, wait_for: Wait, noise: np.ndarray) -> None:
    points = Points([[20, 30], [500, 3], [90, 30]], border_color="white")
    micrograph = Micrograph(noise, data_bar=(80, 96))
    widget = open_widget(Layer.create(*image_layer(micrograph, "steel")), points)
    widget.run()
    wait_for(widget)
    text = widget.run_bar.message.text()
    assert "1 object" in text
    assert "point 2 (object 2): y 500, x 3 lies outside the image" in text
    assert "point 3 (object 3): y 90 lies in the data bar" in text
    assert not np.array_equal(points.border_color[1], points.border_color[0])
    assert not np.array_equal(points.border_color[2], points.border_color[0])
    points.data = [[20, 30], [30, 3], [70, 30]]
    widget.run()
    wait_for(widget)
    assert len({tuple(colour) for colour in points.border_color}) == 1


def test_stack_is_segmented_plane_by_plane(open_widget: Open, wait_for: Wait, noise: np.ndarray, session: Any) -> None:
    stack = Image(np.stack([noise] * 3), name="stack")
    widget = open_widget(stack, Points([[0, 20, 30], [2, 60, 100], [5, 3, 3]]))
    widget.run()
    wait_for(widget)
    result = widget._viewer.layers["stack objects"].data
    np.testing.assert_array_equal(result[0] == 1, disc(20, 30))
    np.testing.assert_array_equal(result[2] == 2, disc(60, 100))
    assert not result[1].any()
    assert session.embedded == [0, 2]
    assert "point 3 (object 3): there is no plane" in widget.run_bar.message.text()
    assert [row[:2] for row in cells(widget)] == [["1", "0"], ["2", "2"]]


def test_boxes_and_polygons(open_widget: Open, wait_for: Wait, noise: np.ndarray, session: Any) -> None:
    shapes = Shapes(
        [[[10, 20], [10, 40], [30, 40], [30, 20]], [[50, 50], [50, 90], [80, 50]]], shape_type=["rectangle", "polygon"]
    )
    widget = open_widget(image(noise), shapes)
    widget.sources.shapes.layer = shapes
    widget.run()
    wait_for(widget)
    assert [prompt.box_yx for prompt in session.asked] == [(10, 20, 30, 40), (50, 50, 80, 90)]
    assert session.asked[0].mask is None
    drawn = session.asked[1].mask
    assert drawn.mask_yx.sum() == pytest.approx(30 * 40 / 2, rel=0.1)
    assert set(np.unique(widget._viewer.layers["steel objects"].data)) == {0, 1, 2}
    assert list(shapes.features["object"]) == [1, 2]


def test_labels_are_refined_together_with_their_points(
    open_widget: Open, wait_for: Wait, noise: np.ndarray, session: Any
) -> None:
    labels = np.zeros(noise.shape, np.uint8)
    labels[10:30, 10:30] = 4
    labels[50:70, 100:130] = 6
    known = Labels(labels, name="old")
    points = Points([[20, 20]], features={"object": [4], "polarity": ["negative"]})
    widget = open_widget(image(noise), known, points)
    widget.sources.labels.layer = known
    widget.run()
    wait_for(widget)
    assert [(prompt.id, len(prompt.points_yx), prompt.box_yx) for prompt in session.asked] == [
        (4, 1, None),
        (6, 0, None),
    ]
    result = widget._viewer.layers["steel objects"].data
    np.testing.assert_array_equal(result == 6, labels == 6)
    assert result[20, 20] == 0
    assert result[11, 11] == 4


def test_labels_of_another_image_are_refused(open_widget: Open, noise: np.ndarray) -> None:
    widget = open_widget(image(noise), Labels(np.ones((4, 4), np.uint8), name="other"))
    widget.sources.labels.setCurrentIndex(1)
    widget.run()
    assert "other: has the shape (4, 4), the image (96, 160)" in widget.run_bar.message.text()


def test_nothing_to_do_is_said(open_widget: Open, wait_for: Wait, noise: np.ndarray) -> None:
    widget = open_widget()
    widget.run()
    assert "There is no image" in widget.run_bar.message.text()
    widget.sources.new_button.click()
    assert "There is no image" in widget.run_bar.message.text()
    widget._viewer.add_image(noise)
    widget.run()
    wait_for(widget)
    assert "There is nothing to segment. Add points first." in widget.run_bar.message.text()


@pytest.mark.parametrize(
    ("features", "words"),
    [({"object": ["a"]}, "must hold whole numbers from 1"), ({"polarity": ["odd"]}, "neither positive nor negative")],
)
def test_features_that_make_no_sense(open_widget: Open, noise: np.ndarray, features: Any, words: str) -> None:
    widget = open_widget(image(noise), Points([[20, 30]], features=features, name="mine"))
    widget.run()
    assert "mine: " in widget.run_bar.message.text()
    assert words in widget.run_bar.message.text()


def test_settings_come_from_the_fields(open_widget: Open, noise: np.ndarray) -> None:
    widget = open_widget(image(noise))
    assert widget.settings() == PromptSettings()
    form = widget.form
    form.choice.setCurrentIndex(form.choice.findData("particle"))
    form.overlaps.setCurrentIndex(form.overlaps.findData("separate"))
    form.holes.setValue(3)
    form.specks.setValue(4)
    form.scale.setValue(0.5)
    form.views.setCurrentIndex(form.views.findData(4))
    form.area.high.setValue(50)
    form.data_bar.setChecked(False)
    settings = widget.settings()
    assert (settings.choice, settings.overlaps, settings.fill_holes_px) == ("particle", "separate", 3)
    assert (settings.drop_specks_px, settings.scale, settings.exclude_data_bar) == (4, 0.5, False)
    assert settings.views == 4
    assert settings.area_px is not None
    assert settings.area_px[1] == 50
    assert settings.area_nm2 is None
    form.area.low.setValue(60)
    widget.run()
    assert "the smallest area is above the largest" in widget.run_bar.message.text()


def test_areas_are_in_nm2_where_the_pixel_size_is_known(open_widget: Open, noise: np.ndarray) -> None:
    widget = open_widget(image(noise, scale=(2, 2), units=("nm", "nm")))
    widget.form.area.high.setValue(50)
    settings = widget.settings()
    assert settings.area_px is None
    assert settings.area_nm2 is not None
    widget._viewer.add_image(noise, name="bare")
    assert not widget.form.area.in_nm2
    assert widget.form.area.limits() is None


def test_nothing_is_ever_overwritten_and_overlaps_may_be_kept(
    open_widget: Open, wait_for: Wait, noise: np.ndarray
) -> None:
    widget = open_widget(image(noise), Points([[20, 30], [20, 36]]))
    widget.form.overlaps.setCurrentIndex(widget.form.overlaps.findData("separate"))
    for _ in range(2):
        widget.run()
        wait_for(widget)
    names = ["steel objects", "steel objects 2", "steel objects [1]", "steel objects 2 [1]"]
    layers = widget._viewer.layers
    assert [layer.name for layer in layers if isinstance(layer, Labels)] == names
    np.testing.assert_array_equal(layers[names[0]].data == 1, disc(20, 30))
    np.testing.assert_array_equal(layers[names[1]].data == 2, disc(20, 36))


def test_cancelled_run_changes_nothing(
    open_widget: Open, wait_for: Wait, noise: np.ndarray, session: Any, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    monkeypatch.setattr(session, "gate", threading.Event())
    widget = open_widget(image(noise), Points([[20, 30]]))
    widget.run_bar.run_button.click()
    qtbot.waitUntil(lambda: "embedding" in widget.run_bar.note.text(), timeout=5000)
    widget.run_bar.cancel_button.click()
    wait_for(widget)
    assert "Cancelled" in widget.run_bar.message.text()
    assert len(widget._viewer.layers) == 2


def test_image_removed_while_running(
    open_widget: Open, wait_for: Wait, noise: np.ndarray, session: Any, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(session, "gate", gate)
    widget = open_widget(image(noise, scale=(2, 2)), Points([[20, 30]]))
    widget.run()
    qtbot.waitUntil(lambda: "embedding" in widget.run_bar.note.text(), timeout=5000)
    widget._viewer.layers.clear()
    gate.set()
    wait_for(widget)
    (result,) = widget._viewer.layers
    assert result.name == "steel objects"
    np.testing.assert_array_equal(result.scale, (2, 2))


def test_errors_of_the_model_are_shown(open_widget: Open, wait_for: Wait, noise: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a<b.safetensors"
    path.write_bytes(b"none")
    widget = open_widget(image(noise), Points([[20, 30]]))
    widget.model.choice.model = str(path)
    widget.run()
    wait_for(widget)
    assert "a&lt;b.safetensors: is damaged" in widget.run_bar.message.text()


# ---------------------------------------------------------------- models


def test_known_model_is_fetched(
    open_widget: Open, wait_for: Wait, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from napari_matseg._napari import prompt as module

    def fetch(name: str) -> Generator[Progress, None, Path]:
        yield Progress(1, 2, "fetching vit_b: 1 of 2 MB")
        monkeypatch.setattr(skin_models, "available_promptable", lambda: {"compact": tmp_path, "vit_b": tmp_path})
        return tmp_path

    monkeypatch.setattr(module, "fetch", fetch)
    widget = open_widget(image(noise), Points([[20, 30]]))
    choice = widget.model.choice
    assert choice.itemText(1) == "vit_b (375 MB to download)"
    assert not widget.model.fetch_button.isVisibleTo(widget)
    choice.model = "vit_b"
    assert widget.model.fetch_button.isVisibleTo(widget)
    assert "Apache-2.0" in widget.model.about.text()
    widget.run()
    assert "vit_b: is not on this computer yet; press Download" in widget.run_bar.message.text()
    widget.model.fetch_button.click()
    wait_for(widget)
    assert "vit_b is here" in widget.run_bar.message.text()
    assert not widget.model.fetch_button.isVisibleTo(widget)
    assert widget.settings().model == "vit_b"


def test_model_from_a_file(open_widget: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen = ["", str(tmp_path / "mine.pth")]
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *args: (chosen.pop(0), ""))
    widget = open_widget()
    choice = widget.model.choice

    def browse() -> None:
        choice.setCurrentIndex(choice.count() - 1)
        choice.activated.emit(choice.currentIndex())

    browse()
    assert choice.model == "compact"
    browse()
    assert choice.model == str(tmp_path / "mine.pth")
    assert choice.currentText() == "mine.pth"


# ---------------------------------------------------------------- points


def test_new_points_lie_on_the_image(open_widget: Open, noise: np.ndarray) -> None:
    steel = image(noise, scale=(2, 3), units=("nm", "nm"), rotate=10)
    widget = open_widget(steel)
    widget.sources.new_button.click()
    points = widget.sources.points.layer
    assert points.name == "steel points"
    assert str(points.mode) == "add"
    assert widget._viewer.layers.selection.active == points
    np.testing.assert_allclose(points.data_to_world((5, 7)), steel.data_to_world((5, 7)))
    points.add([[20, 30], [40, 50]])
    points.add([60, 70])
    assert list(points.features["object"]) == [1, 2, 3]
    points.remove([0])
    points.add([1, 1])
    assert list(points.features["object"]) == [2, 3, 4]


def test_points_from_a_table(
    open_widget: Open, noise: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "centres.csv"
    path.write_text("y_nm,x_nm,object,polarity\n40,60,5,1\n44,70,5,0\n")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *args: (str(path), ""))
    widget = open_widget(image(noise, scale=(2, 2), units=("nm", "nm")))
    widget.sources.csv_button.click()
    points = widget._viewer.layers["centres"]
    np.testing.assert_allclose(points.data, [[20, 30], [22, 35]])
    assert list(points.features["object"]) == [5, 5]
    assert list(points.features["polarity"]) == [POSITIVE, NEGATIVE]
    path.write_text("a,b\n1,2\n")
    widget.sources.csv_button.click()
    assert "has no columns" in widget.run_bar.message.text()


def test_points_on_planes_from_a_table(open_widget: Open, noise: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("plane,y,x\n1,20,30\n9,1,1\n")
    widget = open_widget(Image(np.stack([noise] * 2), name="stack"))
    points = widget.sources.load_points(path)
    np.testing.assert_array_equal(points.data[0], [1, 20, 30])
    asked = widget.sources.asked()
    assert list(asked.planes) == [1, 9]


def test_other_layers_are_left_alone_until_they_are_used(open_widget: Open, noise: np.ndarray) -> None:
    points = Points([[1, 2]])
    open_widget(image(noise), points)
    assert points.features.empty


# ---------------------------------------------------------------- clicking


@pytest.fixture
def live(open_widget: Open, settled: Settled, noise: np.ndarray) -> PromptWidget:
    """Widget on an image that can be clicked on."""
    widget = open_widget(image(noise))
    widget.bar.switch.setChecked(True)
    settled(widget)
    return widget


def preview(widget: PromptWidget) -> np.ndarray:
    """Ids that are previewed, in the shape of the image."""
    shown = np.zeros((96, 160), int)
    layer = widget._viewer.layers["preview (not accepted yet)"]
    if layer.visible:
        top, left = (round(c) for c in layer.affine.affine_matrix[-3:-1, -1])
        data = layer.data.reshape(layer.data.shape[-2:])
        shown[top : top + data.shape[0], left : left + data.shape[1]] = data
    return shown


def result(widget: PromptWidget) -> np.ndarray:
    return np.asarray(widget._viewer.layers["steel objects"].data)


def test_click_is_previewed_and_accepted(live: PromptWidget, settled: Settled) -> None:
    assert live._viewer.layers.selection.active.name == "steel points"
    points = live.sources.points.layer
    points.add([20, 30])
    settled(live)
    np.testing.assert_array_equal(preview(live) == 1, disc(20, 30))
    assert "steel objects" not in live._viewer.layers
    assert "Object 1" in live.run_bar.message.text()
    live.clicking.accept()
    assert not preview(live).any()
    np.testing.assert_array_equal(result(live) == 1, disc(20, 30))
    assert cells(live)[0][0] == "1"
    assert live._viewer.layers.selection.active == points
    layer = live._viewer.layers["steel objects"]
    assert layer.metadata[KEY]["record"]["prompts"]["1"]["points_yx"] == [[20.0, 30.0]]
    points.add([60, 100])
    live.clicking.accept()  # before it is answered
    settled(live)
    np.testing.assert_array_equal(result(live) == 2, disc(60, 100))


def test_keys(live: PromptWidget, settled: Settled) -> None:
    keys = live._viewer.keymap

    def press(key: str) -> None:
        keys[coerce_keybinding(key)](live._viewer)

    points = live.sources.points.layer
    points.add([20, 30])
    settled(live)
    press("Enter")
    np.testing.assert_array_equal(result(live) == 1, disc(20, 30))
    points.add([60, 100])
    settled(live)
    press("Escape")
    assert len(points.data) == 1
    assert not preview(live).any()
    press("Control-Z")
    np.testing.assert_array_equal(preview(live) == 2, disc(60, 100))
    press("W")
    assert live.bar.turn == ADD
    press("E")
    assert live.clicking.clicks.turn == TAKE_AWAY
    press("Q")
    assert live.bar.turn == NEW


def test_only_the_mask_of_a_moved_point_changes(live: PromptWidget, settled: Settled, session: Any) -> None:
    points = live.sources.points.layer
    points.add([[20, 30], [60, 100]])
    settled(live)
    live.clicking.accept()
    session.asked.clear()
    points.data = [[24, 40], [60, 100]]
    settled(live)
    assert {prompt.id for prompt in session.asked} == {1}
    np.testing.assert_array_equal(preview(live) == 1, disc(24, 40))
    np.testing.assert_array_equal(result(live) == 1, disc(20, 30))
    live.clicking.accept()
    np.testing.assert_array_equal(result(live) == 1, disc(24, 40))
    np.testing.assert_array_equal(result(live) == 2, disc(60, 100))
    live.clicking.undo()
    np.testing.assert_array_equal(result(live) == 1, disc(20, 30))
    live.clicking.undo()
    settled(live)
    np.testing.assert_array_equal(points.data[0], (20, 30))
    assert not preview(live).any()


def test_object_goes_with_its_last_point_and_comes_back(live: PromptWidget, settled: Settled) -> None:
    points = live.sources.points.layer
    points.add([[20, 30], [60, 100], [80, 20]])
    settled(live)
    live.clicking.accept()
    points.remove([1])
    assert set(np.unique(result(live))) == {0, 1, 3}
    assert [row[0] for row in cells(live)] == ["1", "3"]
    assert list(points.features["object"]) == [1, 3]
    live.clicking.undo()
    assert set(np.unique(result(live))) == {0, 1, 2, 3}
    assert sorted(points.features["object"]) == [1, 2, 3]
    assert [row[0] for row in cells(live)] == ["1", "2", "3"]


def test_negative_click_belongs_to_the_object_that_it_hits(live: PromptWidget, settled: Settled) -> None:
    points = live.sources.points.layer
    points.add([[20, 30], [60, 100]])
    settled(live)
    live.clicking.accept()
    live.bar.turns[TAKE_AWAY].click()
    points.add([20, 33])
    settled(live)
    assert list(points.features["object"]) == [1, 2, 1]
    assert list(points.features["polarity"]) == [POSITIVE, POSITIVE, NEGATIVE]
    assert not np.array_equal(points.face_color[2], points.face_color[0])
    assert preview(live)[20, 33] == 0
    assert preview(live)[20, 24] == 1
    live.bar.turns[ADD].click()
    points.add([20, 44])
    settled(live)
    assert list(points.features["object"]) == [1, 2, 1, 1]
    assert preview(live)[20, 44] == 1


def test_held_keys_count_for_one_click(live: PromptWidget, settled: Settled) -> None:
    points = live.sources.points.layer
    clicks = live.clicking.clicks

    class Press:
        modifiers = ("Shift",)

    points.add([20, 30])
    clicks._on_press(points, Press())
    points.add([20, 40])
    points.add([60, 60])
    settled(live)
    assert list(points.features["object"]) == [1, 1, 2]


def test_drop_puts_an_accepted_object_back(live: PromptWidget, settled: Settled) -> None:
    points = live.sources.points.layer
    points.add([20, 30])
    settled(live)
    live.clicking.accept()
    live.bar.turns[ADD].click()
    points.add([20, 44])
    settled(live)
    live.clicking.drop()
    assert len(points.data) == 1
    assert not preview(live).any()
    np.testing.assert_array_equal(result(live) == 1, disc(20, 30))
    live.clicking.drop()
    assert "nothing to drop" in live.run_bar.message.text()


def test_undo_and_accept_with_nothing_to_do(live: PromptWidget) -> None:
    live.clicking.undo()
    assert "nothing to undo" in live.run_bar.message.text()
    live.clicking.accept()
    assert "nothing to accept" in live.run_bar.message.text()


def test_point_outside_is_said_and_marked(live: PromptWidget, settled: Settled) -> None:
    points = live.sources.points.layer
    points.add([[20, 30], [300, 30]])
    settled(live)
    assert "outside the image" in live.run_bar.message.text()
    assert not np.array_equal(points.border_color[0], points.border_color[1])
    points.data = [[20, 30], [40, 60]]
    settled(live)
    np.testing.assert_array_equal(points.border_color[0], points.border_color[1])


def test_clicking_goes_on_after_all_points_were_segmented(live: PromptWidget, settled: Settled) -> None:
    points = live.sources.points.layer
    points.add([[20, 30], [60, 100]])
    settled(live)
    live.run()
    settled(live)
    assert not preview(live).any()
    points.remove([0])
    assert set(np.unique(result(live))) == {0, 2}
    points.add([20, 60])
    settled(live)
    live.clicking.accept()
    np.testing.assert_array_equal(result(live) == 3, disc(20, 60))


def test_changed_settings_count_for_what_is_not_accepted(live: PromptWidget, settled: Settled, session: Any) -> None:
    points = live.sources.points.layer
    points.add([20, 30])
    settled(live)
    session.asked.clear()
    live.form.choice.setCurrentIndex(live.form.choice.findData("part"))
    settled(live)
    assert len(session.asked) == 1
    assert session.embedded == [0]


def test_looking_more_often_embeds_anew(live: PromptWidget, settled: Settled, session: Any) -> None:
    live.sources.points.layer.add([20, 30])
    settled(live)
    live.form.views.setCurrentIndex(live.form.views.findData(2))
    settled(live)
    assert session.embedded == [0, 0]


def test_cancelling_the_embedding_switches_off(
    open_widget: Open, settled: Settled, noise: np.ndarray, session: Any, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    monkeypatch.setattr(session, "gate", threading.Event())
    widget = open_widget(image(noise))
    widget.bar.switch.setChecked(True)
    qtbot.waitUntil(lambda: "embedding" in widget.run_bar.note.text(), timeout=5000)
    widget.run_bar.cancel_button.click()
    settled(widget)
    assert not widget.bar.switch.isChecked()
    assert "preview (not accepted yet)" not in widget._viewer.layers


def test_image_chosen_anew_while_embedding(
    open_widget: Open, settled: Settled, noise: np.ndarray, session: Any, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(session, "gate", gate)
    widget = open_widget(image(noise), Image(np.zeros((40, 50), np.uint8), name="other"))
    points = widget._viewer.add_points(np.zeros((0, 2)))
    widget.sources.image.layer = widget._viewer.layers["steel"]
    widget.bar.switch.setChecked(True)
    qtbot.waitUntil(lambda: "embedding" in widget.run_bar.note.text(), timeout=5000)
    points.add([20, 30])
    widget.sources.image.layer = widget._viewer.layers["other"]
    gate.set()
    settled(widget)
    assert widget.bar.switch.isChecked()
    points.add([20, 31])
    settled(widget)
    widget.clicking.accept()
    assert widget._viewer.layers["other objects"].data.shape == (40, 50)
    assert "steel objects" not in widget._viewer.layers


@pytest.mark.parametrize("gone", ["steel", "steel points", "preview (not accepted yet)", "steel objects"])
def test_layers_may_be_removed_at_any_time(live: PromptWidget, settled: Settled, gone: str) -> None:
    points = live.sources.points.layer
    points.add([[20, 30], [60, 100]])
    settled(live)
    live.clicking.accept()
    points.add([20, 60])
    settled(live)
    live._viewer.layers.remove(gone)
    settled(live)
    live.clicking.accept()
    live.clicking.undo()
    live.clicking.drop()
    assert live.bar.switch.isChecked() == (gone not in ("steel", "steel points"))
    if gone == "steel objects":
        points.add([80, 60])
        settled(live)
        live.clicking.accept()
        assert result(live).any()


def test_planes_are_embedded_when_they_are_shown(
    open_widget: Open, settled: Settled, noise: np.ndarray, session: Any, qtbot: Any
) -> None:
    widget = open_widget(Image(np.stack([noise] * 3), name="steel"))
    widget._viewer.dims.set_current_step(0, 0)
    widget.bar.switch.setChecked(True)
    settled(widget)
    points = widget.sources.points.layer
    points.add([0, 20, 30])
    settled(widget)
    widget.clicking.accept()
    widget._viewer.dims.set_current_step(0, 2)
    qtbot.waitUntil(lambda: session.embedded == [0, 2], timeout=5000)
    settled(widget)
    points.add([2, 60, 100])
    settled(widget)
    np.testing.assert_array_equal(preview(widget) == 2, disc(60, 100))
    widget.clicking.accept()
    np.testing.assert_array_equal(result(widget)[0] == 1, disc(20, 30))
    np.testing.assert_array_equal(result(widget)[2] == 2, disc(60, 100))


def test_pixels_replaced(live: PromptWidget, settled: Settled, session: Any, qtbot: Any) -> None:
    live._viewer.layers["steel"].data = np.zeros((96, 160), np.uint8)
    qtbot.waitUntil(lambda: session.embedded == [0, 0], timeout=5000)
    settled(live)


def test_clicks_on_the_canvas(open_widget: Open, settled: Settled, noise: np.ndarray) -> None:
    widget = open_widget(image(noise), show=True)
    widget.bar.switch.setChecked(True)
    settled(widget)
    viewer = widget._viewer
    canvas = current_viewer().window._qt_viewer.canvas.native

    def click(y: float, x: float, modifier: Any = Qt.KeyboardModifier.NoModifier) -> None:
        camera = viewer.scene.camera
        place = (np.array([y, x]) - camera.center[-2:]) * camera.zoom + np.array([canvas.height(), canvas.width()]) / 2
        QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, modifier, QPoint(*map(round, place[::-1])))
        settled(widget)

    click(20, 30)
    click(60, 100)
    click(20, 33, Qt.KeyboardModifier.ControlModifier)
    click(60, 110, Qt.KeyboardModifier.ShiftModifier)
    points = widget.sources.points.layer
    np.testing.assert_allclose(points.data, [[20, 30], [60, 100], [20, 33], [60, 110]], atol=0.5)
    assert list(points.features["object"]) == [1, 2, 1, 1]
    assert list(points.features["polarity"]) == [POSITIVE, POSITIVE, NEGATIVE, POSITIVE]
    assert set(np.unique(preview(widget))) == {0, 1, 2}
    QTest.keyClick(canvas, Qt.Key.Key_Return)
    assert set(np.unique(result(widget))) == {0, 1, 2}
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not result(widget).any()


def test_closed_dock_is_forgotten(open_widget: Open, settled: Settled, noise: np.ndarray) -> None:
    widget = open_widget(image(noise))
    widget.bar.switch.setChecked(True)
    settled(widget)
    widget.sources.points.layer.add([20, 30])
    settled(widget)
    widget.clicking.accept()
    viewer, gone = widget._viewer, weakref.ref(widget)
    viewer.window.remove_dock_widget(widget)
    del widget
    gc.collect()
    assert gone() is None


def test_dock_closed_while_clicking(live: PromptWidget, settled: Settled) -> None:
    viewer = live._viewer
    live.sources.points.layer.add([20, 30])
    viewer.window.remove_dock_widget(live)
    settled(live)
    assert [layer.name for layer in viewer.layers] == ["steel", "steel points"]
    assert not viewer.keymap
    viewer.layers["steel points"].add([1, 1])
    viewer.add_image(np.zeros((4, 4)))
    live.deleteLater()


# ---------------------------------------------------------------- table


def test_flagged_objects_are_stepped_through(open_widget: Open, wait_for: Wait, noise: np.ndarray) -> None:
    points = Points([[40, 20 * i] for i in range(1, 8)])
    widget = open_widget(image(noise, scale=(2, 2), units=("nm", "nm")), points, show=True)
    widget.run()
    wait_for(widget)
    assert "7 objects, 2 flagged" in widget.objects.title.text()
    layer = widget._viewer.layers["steel objects"]
    for one in (3, 6, 3):
        widget.objects.next_flagged()
        assert layer.selected_label == one
        assert f"Object {one}: low predicted IoU" in widget.run_bar.message.text()
        y, x = np.argwhere(layer.data == one).mean(axis=0) * 2
        np.testing.assert_allclose(widget._viewer.scene.camera.center[-2:], (y, x), atol=0.5)
        assert widget.objects.table.currentIndex().row() == one - 1
    widget.objects.table.selectRow(4)
    assert layer.selected_label == 5


def test_table_is_saved(
    open_widget: Open, wait_for: Wait, noise: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = open_widget(image(noise), Points([[20, 30], [60, 100]]))
    widget.run()
    wait_for(widget)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args: (str(tmp_path / "t"), ""))
    widget.objects.save_button.click()
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["1", "2"]
    assert rows[0]["area_px"] == str(disc(20, 30).sum())
    assert "Saved as" in widget.run_bar.message.text()


# ---------------------------------------------------------------- without points


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let a search find particles at two places, and tell what it was asked with."""
    places = np.array([[20.0, 30.0], [60.0, 100.0]])
    asked: dict[str, Any] = {"places": places}

    def detect(micrograph: Micrograph, settings: CentreSettings, *, plane: int, loaded: Any) -> Any:
        yield Progress(1, 4)
        asked.update(settings=settings, plane=plane)
        found = asked["places"]
        return Centres(found, np.full(len(found), 16.0), np.ones(len(found)), np.zeros(len(found), np.int8))

    def everything(session: DiskSession, settings: EverythingSettings) -> Any:
        yield Progress(0, 9)
        asked.update(settings=settings, plane=session._plane)
        prompts = [
            Prompt(one, np.array([place]), np.array([True]), plane=session._plane)
            for one, place in enumerate(asked["places"], start=1)
        ]
        return (yield from session.predict_steps(prompts)), prompts

    monkeypatch.setattr(prompt_job, "detect_steps", detect)
    monkeypatch.setattr(prompt_job, "everything_steps", everything)
    monkeypatch.setattr(LoadedModels, "get", lambda *args: None)
    return asked


SEARCHES = [(CENTRES, "centres", "find"), (EVERYTHING, "points", "everything")]


@pytest.mark.parametrize(("what", "name", "job"), SEARCHES)
def test_one_press_finds_segments_and_leaves_the_points(
    open_widget: Open, wait_for: Wait, noise: np.ndarray, searched: Any, what: str, name: str, job: str
) -> None:
    steel = image(noise, scale=(2, 3), units=("nm", "nm"), rotate=10)
    widget = open_widget(steel)
    widget.sources.what = what
    widget.run_bar.run_button.click()
    wait_for(widget)
    objects, points = widget._viewer.layers["steel objects"], widget._viewer.layers[f"steel {name}"]
    np.testing.assert_array_equal(objects.data == 1, disc(20, 30))
    np.testing.assert_array_equal(objects.data == 2, disc(60, 100))
    np.testing.assert_array_equal(points.data, searched["places"])
    np.testing.assert_allclose(points.data_to_world((5, 7)), steel.data_to_world((5, 7)))
    assert list(points.features["object"]) == [1, 2]
    record = objects.metadata[KEY]["record"]
    assert json.loads(json.dumps(record)) == record
    assert record["job"] == job
    assert record[what] == searched["settings"].model_dump(mode="json")
    assert record["prompts"]["2"]["points_yx"] == [[60.0, 100.0]]
    assert [row[0] for row in cells(widget)] == ["1", "2"]
    assert "2 objects" in widget.run_bar.message.text()
    assert "Click and see" in widget.run_bar.message.text()
    # From here on it is about these points,
    assert widget.sources.what == POINTS
    assert widget.sources.points.layer == points
    assert widget.run_bar.run_button.text() == "Segment points"
    # though a recipe finds them anew, as long as they are the ones,
    assert widget.recipe().prompt.find == what
    widget.sources.new_points()
    assert widget.recipe().prompt.find == POINTS
    widget.sources.points.layer = points
    # and on another image about what was chosen.
    widget._viewer.add_image(noise, name="copper")
    assert widget.sources.what == what


@pytest.mark.parametrize(("what", "name", "job"), SEARCHES)
def test_what_was_found_is_corrected_by_clicks(
    open_widget: Open,
    wait_for: Wait,
    settled: Settled,
    noise: np.ndarray,
    searched: Any,
    session: Any,
    what: str,
    name: str,
    job: str,
) -> None:
    widget = open_widget(image(noise))
    widget.sources.what = what
    widget.run()
    wait_for(widget)
    widget.bar.switch.setChecked(True)
    settled(widget)
    points = widget._viewer.layers[f"steel {name}"]
    assert points.mode == "add"
    assert widget._viewer.layers.selection.active == points
    session.asked.clear()
    widget.bar.turns[TAKE_AWAY].click()
    points.add([60, 105])
    settled(widget)
    widget.clicking.accept()
    assert result(widget)[60, 105] == 0
    assert result(widget)[60, 100] == 2
    assert [(prompt.id, len(prompt.points_yx)) for prompt in session.asked] == [(2, 2)]
    points.remove([0])
    assert set(np.unique(result(widget))) == {0, 2}
    assert [row[0] for row in cells(widget)] == ["2"]


@pytest.mark.parametrize("what", [CENTRES, EVERYTHING])
def test_search_is_on_the_plane_that_is_shown(
    open_widget: Open, wait_for: Wait, noise: np.ndarray, searched: Any, what: str
) -> None:
    widget = open_widget(Image(np.stack([noise] * 3), name="stack"))
    widget._viewer.dims.set_point(0, 2)
    widget.sources.what = what
    widget.run()
    wait_for(widget)
    labels = widget._viewer.layers["stack objects"].data
    np.testing.assert_array_equal(labels[2] == 1, disc(20, 30))
    assert not labels[:2].any()
    assert searched["plane"] == 2
    assert widget.sources.points.layer.data[:, 0].tolist() == [2, 2]


@pytest.mark.parametrize(("what", "words"), [(CENTRES, "No centres were found"), (EVERYTHING, "Nothing stood out")])
def test_search_that_finds_nothing(
    open_widget: Open, wait_for: Wait, noise: np.ndarray, searched: Any, what: str, words: str
) -> None:
    searched["places"] = np.zeros((0, 2))
    widget = open_widget(image(noise))
    widget.sources.what = what
    widget.run()
    wait_for(widget)
    assert words in widget.run_bar.message.text()
    assert len(widget._viewer.layers) == 1
    assert widget.sources.what == what


@pytest.mark.parametrize("what", [CENTRES, EVERYTHING])
def test_cancelled_search_changes_nothing(
    open_widget: Open,
    wait_for: Wait,
    noise: np.ndarray,
    searched: Any,
    session: Any,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: Any,
    what: str,
) -> None:
    monkeypatch.setattr(session, "gate", threading.Event())
    widget = open_widget(image(noise))
    widget.sources.what = what
    widget.run()
    qtbot.waitUntil(lambda: "embedding" in widget.run_bar.note.text(), timeout=30_000)
    widget.run_bar.cancel_button.click()
    wait_for(widget)
    assert "Cancelled" in widget.run_bar.message.text()
    assert len(widget._viewer.layers) == 1
    assert widget.sources.what == what


def test_centres_are_found_as_an_open_detect_centres_says(
    open_widget: Open, wait_for: Wait, noise: np.ndarray, searched: Any
) -> None:
    widget = open_widget(image(noise))
    widget.sources.what = CENTRES
    widget.form.data_bar.setChecked(False)
    widget.run()
    wait_for(widget)
    assert searched["settings"] == CentreSettings(exclude_data_bar=False)
    widget.search.how_button.click()
    (centres,) = (w for w in widget._viewer.window.dock_widgets.values() if isinstance(w, CentresWidget))
    centres.method.setCurrentIndex(centres.method.findData("log"))
    centres.largest.setValue(20)
    widget.sources.what = CENTRES
    widget.run()
    wait_for(widget)
    assert searched["settings"].method == "log"
    assert searched["settings"].max_diameter_px == 20
    centres.smallest.setValue(30)
    widget.sources.what = CENTRES
    widget.run()
    assert "above the largest" in widget.run_bar.message.text()


def test_fields_are_those_of_what_is_segmented(
    open_widget: Open, wait_for: Wait, noise: np.ndarray, searched: Any
) -> None:
    widget = open_widget(image(noise))
    fields = widget.sources.new_button, widget.search.how_button, widget.search.spacing
    for what, title, shown in (
        (POINTS, "Segment points", 0),
        (CENTRES, "Detect and segment", 1),
        (EVERYTHING, "Segment everything", 2),
    ):
        widget.sources.what = what
        assert [field.isVisibleTo(widget) for field in fields] == [k == shown for k in range(3)]
        assert widget.run_bar.run_button.text() == title
    widget.search.spacing.setValue(7.5)
    widget.run()
    wait_for(widget)
    assert searched["settings"] == EverythingSettings(spacing=7.5)


def test_details_are_embedded_behind_the_clicks(
    live: PromptWidget, settled: Settled, wait_for: Wait, session: Any, qtbot: Any
) -> None:
    qtbot.waitUntil(lambda: not live.clicking.ahead.busy, timeout=30_000)
    assert session.ahead == [0]
    session.ahead.clear()
    live.bar.switch.setChecked(False)
    live.bar.switch.setChecked(True)
    settled(live)
    qtbot.waitUntil(lambda: not live.clicking.ahead.busy, timeout=30_000)
    assert session.ahead == [0]

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels
from PIL import Image as Picture
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDesktopServices, QDropEvent
from qtpy.QtWidgets import QFileDialog

from napari_matseg._napari import batch_job
from napari_matseg._napari.batch import BatchWidget
from napari_matseg._napari.batch_inputs import folder_beside
from napari_matseg._napari.batch_table import RESULT, STATE
from napari_matseg.core.progress import Progress
from napari_matseg.errors import OutputError, SettingsError
from napari_matseg.running.states import Outcome, RunProgress, Source, Summary
from napari_matseg.settings import Recipe, SegmentSettings, recipe_text

Wait = Callable[[Any], None]
PATIENCE = 60_000  # ms


class Runner:
    """A runner that can be held at a file, fails what is called "d", and keeps what it has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held_at = ""
        self.complete: set[str] = set()
        self.threads: set[threading.Thread] = set()
        self.closed = threading.Event()
        self.error: Exception | None = None
        self.retried: list[bool] = []
        monkeypatch.setattr(batch_job, "run_steps", self.run_steps)

    def run_steps(
        self, recipe: Recipe, sources: Sequence[Source], out: Path, *, pause: threading.Event, retry_failed: bool
    ) -> Generator[Progress, None, Summary]:
        self.threads.add(threading.current_thread())
        self.retried.append(retry_failed)
        outcomes: list[Outcome] = []
        total = len(sources)
        try:
            yield RunProgress(0, total, "loading the model")
            if self.error is not None:
                raise self.error
            for done, source in enumerate(sources):
                yield RunProgress(done, total, source=source, state="working", share=0.5, seconds_left=100.0)
                while pause.is_set() or source.name == self.held_at:
                    time.sleep(0.02)
                    yield RunProgress(done, total, source=source, state="working", share=0.5, seconds_left=100.0)
                outcome = self._outcome(source)
                outcomes.append(outcome)
                yield RunProgress(done + 1, total, source=source, state=outcome.state, share=1.0, outcome=outcome)
            out.mkdir(exist_ok=True)
            (out / "index.html").write_text("index")
            return Summary(tuple(outcomes))
        finally:
            self.closed.set()

    def _outcome(self, source: Source) -> Outcome:
        if source.path.stem == "d":
            return Outcome(source, "failed", f"{source.path}: is damaged; copy it again from its source.")
        there = source.name in self.complete
        self.complete.add(source.name)
        return Outcome(source, "kept" if there else "done", seconds=1.0)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    return Runner(monkeypatch)


@pytest.fixture
def recipe(tmp_path: Path, tiny: str) -> Path:
    path = tmp_path / "phases.yaml"
    path.write_text(recipe_text(Recipe(name="phases", segment=SegmentSettings(model=tiny, device="cpu"))))
    return path


@pytest.fixture
def folder(tmp_path: Path, noise: np.ndarray) -> Path:
    """Three micrographs and a broken one."""
    folder = tmp_path / "today"
    folder.mkdir()
    for name in "abc":
        Picture.fromarray(noise).save(folder / f"{name}.png")
    (folder / "d.png").write_bytes((folder / "a.png").read_bytes()[:200])
    return folder


@pytest.fixture
def open_widget(make_napari_viewer: Any) -> Callable[[], BatchWidget]:
    def open_() -> BatchWidget:
        viewer = make_napari_viewer()
        _, widget = viewer.window.add_plugin_dock_widget("napari-matseg", "Batch")
        assert isinstance(widget, BatchWidget)
        widget.viewer = viewer
        return widget

    return open_


@pytest.fixture
def widget(open_widget: Callable[[], BatchWidget], recipe: Path, folder: Path, qtbot: Any) -> BatchWidget:
    """Set to the recipe and the folder, whose files have been found."""
    widget = open_widget()
    widget.form.recipe.choose(recipe)
    widget.form.inputs.add([str(folder)])
    qtbot.waitUntil(lambda: widget.model.rowCount() == 4, timeout=PATIENCE)
    return widget


def states(widget: BatchWidget) -> list[str]:
    model = widget.model
    return [model.data(model.index(row, STATE)) for row in range(model.rowCount())]


def opened(widget: BatchWidget, row: int, qtbot: Any) -> list[Any]:
    """Layers after a double click."""
    widget.queue.view.doubleClicked.emit(widget.queue.proxy.index(row, 0))
    qtbot.waitUntil(lambda: not widget.opener.job.running, timeout=PATIENCE)
    return list(widget.viewer.layers)


def test_what_is_missing_is_said(open_widget: Callable[[], BatchWidget], recipe: Path) -> None:
    widget = open_widget()
    assert "Choose a recipe file" in widget.form.recipe.about.text()
    widget.bar.start_button.click()
    assert "There are no micrographs; drop or choose files or folders." in widget.bar.message.text()
    with pytest.raises(SettingsError, match="there is no folder for the results; choose one"):
        _ = widget.form.out
    widget.form.inputs.add([str(recipe)])
    widget.bar.start_button.click()
    assert "there is no recipe; choose one, or browse for a recipe file." in widget.bar.message.text()
    widget.form.recipe.choose(recipe)
    assert widget.form.recipe.about.text().startswith("Segments with the model tiny")
    assert not widget.index_button.isEnabled()


def test_a_recipe_that_cannot_be_read_says_why(
    open_widget: Callable[[], BatchWidget], recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = open_widget()
    recipe.write_text(recipe.read_text().replace("measure:", "meassure:"))
    choice = widget.form.recipe
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(recipe), ""))
    choice.choice.setCurrentIndex(choice.choice.count() - 1)
    choice.choice.activated.emit(choice.choice.count() - 1)
    assert choice.choice.currentText() == "phases.yaml"
    assert "there is no such setting" in choice.about.text()
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("", ""))
    choice.choice.setCurrentIndex(choice.choice.count() - 1)
    choice.choice.activated.emit(choice.choice.count() - 1)
    assert choice.choice.currentText() == "phases.yaml"


def test_another_widget_that_is_open_can_be_the_recipe(open_widget: Callable[[], BatchWidget]) -> None:
    widget = open_widget()
    dock, segment = widget.viewer.window.add_plugin_dock_widget("napari-matseg", "Segment micrograph")
    segment.model.model = "superalloy"
    choice = widget.form.recipe
    choice.refresh()
    assert choice.choice.itemText(0) == "as set in Segment micrograph now"
    choice.choose("Segment micrograph")
    assert choice.about.text().startswith("Segments with the model superalloy;")
    segment.objects.setChecked(True)
    assert choice.recipe() == segment.recipe()
    widget.viewer.window.remove_dock_widget(dock)
    choice.refresh()
    assert choice.choice.currentIndex() == -1


def test_a_batch_from_start_to_end(widget: BatchWidget, runner: Runner, wait_for: Wait, folder: Path) -> None:
    assert widget.form.found.text() == "4 micrographs found"
    assert widget.form.out == folder.with_name("today results")
    assert states(widget) == ["waiting"] * 4
    widget.bar.start_button.click()
    assert not widget.form.isEnabled()
    wait_for(widget)
    assert states(widget) == ["done", "done", "done", "failed"]
    assert "3 done, 1 failed" in widget.bar.message.text()
    assert widget.bar.retry_button.isEnabled()
    assert widget.form.isEnabled()
    assert threading.main_thread() not in runner.threads

    (folder / "d.png").rename(folder / "mended.png")
    widget.bar.retry_button.click()
    wait_for(widget)
    assert states(widget) == ["there already", "there already", "there already", "done"]
    assert runner.retried == [False, True]
    assert not widget.bar.retry_button.isEnabled()


def test_index_and_folder_are_opened(
    widget: BatchWidget, runner: Runner, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: seen.append(url.toLocalFile()))
    widget.run()
    wait_for(widget)
    widget.index_button.click()
    widget.folder_button.click()
    out = widget.form.out.as_posix()
    assert seen == [f"{out}/index.html", out]


def test_pausing_holds_the_work_until_it_is_resumed(widget: BatchWidget, runner: Runner, qtbot: Any) -> None:
    runner.held_at = "a"
    widget.run()
    qtbot.waitUntil(lambda: states(widget)[0] == "working 50%", timeout=PATIENCE)
    assert widget.bar.note.text() == "0 of 4 micrographs; 2 min left"
    assert widget.bar.bar.value() == 125
    widget.bar.pause_button.click()
    runner.held_at = ""
    qtbot.waitUntil(lambda: widget.bar.note.text() == "Paused: 0 of 4 micrographs", timeout=PATIENCE)
    assert widget.bar.pause_button.text() == "Resume"
    assert widget.model.numbers["done"] == 0
    widget.bar.pause_button.click()
    qtbot.waitUntil(lambda: not widget._job.running, timeout=PATIENCE)
    assert widget.model.numbers["done"] == 3


@pytest.mark.parametrize("paused", [False, True])
def test_cancelling_keeps_what_is_complete_and_starting_goes_on(
    widget: BatchWidget, runner: Runner, qtbot: Any, wait_for: Wait, paused: bool
) -> None:
    runner.held_at = "c"
    widget.run()
    qtbot.waitUntil(lambda: states(widget)[2] == "working 50%", timeout=PATIENCE)
    widget.bar.pause_button.setChecked(paused)
    widget.bar.cancel_button.click()
    assert not widget.bar.cancel_button.isEnabled()
    wait_for(widget)
    assert runner.closed.is_set()
    assert "2 of 4 micrographs are complete and stay; Start goes on" in widget.bar.message.text()
    assert states(widget) == ["done", "done", "waiting", "waiting"]
    runner.held_at = ""
    widget.run()
    wait_for(widget)
    assert states(widget) == ["there already", "there already", "done", "failed"]


def test_closing_the_dock_cancels(widget: BatchWidget, runner: Runner, qtbot: Any) -> None:
    runner.held_at = "a"
    widget.run()
    qtbot.waitUntil(lambda: widget.model.numbers["working"] == 1, timeout=PATIENCE)
    widget.viewer.window.remove_dock_widget(widget)
    qtbot.waitUntil(lambda: not widget._job.running, timeout=PATIENCE)
    assert runner.closed.is_set()


def test_an_error_of_the_whole_run_is_shown(
    widget: BatchWidget, runner: Runner, wait_for: Wait, notified: Callable[[], list[str]]
) -> None:
    runner.error = OutputError("/out: cannot be written; choose a folder that you may write to.")
    widget.run()
    wait_for(widget)
    assert "choose a folder that you may write to" in widget.bar.message.text()
    assert widget.bar.start_button.isEnabled()
    assert len(notified()) == 1


def test_inputs_are_dropped_typed_chosen_and_removed(
    open_widget: Callable[[], BatchWidget], folder: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    widget, inputs = open_widget(), None
    inputs = widget.form.inputs
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(folder)), QUrl("https://example.org/a.tif")])
    drop = QDropEvent(
        QPointF(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    widget.dropEvent(drop)
    widget.dropEvent(drop)
    assert inputs.inputs == [str(folder)]
    assert widget.form.out_line.placeholderText() == str(folder.with_name("today results"))
    inputs.line.setText(f" {folder / '*.png'} ")
    inputs.line.returnPressed.emit()
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: ([str(folder / "a.png")], ""))
    inputs.files_button.click()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder.parent))
    inputs.folder_button.click()
    assert inputs.inputs == [str(folder), str(folder / "*.png"), str(folder / "a.png"), str(folder.parent)]
    inputs.list.item(1).setSelected(True)
    qtbot.keyClick(inputs.list, Qt.Key.Key_Delete)
    assert inputs.inputs == [str(folder), str(folder / "a.png"), str(folder.parent)]
    inputs.list.clearSelection()
    inputs.remove_button.click()
    assert inputs.inputs == []
    qtbot.waitUntil(lambda: not widget.form.found.text(), timeout=PATIENCE)
    widget.form.out_button.click()
    assert widget.form.out == folder.parent


def test_results_are_suggested_beside_the_inputs(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    assert folder_beside([]) is None
    assert folder_beside([str(tmp_path / "a.tif")]) == tmp_path.with_name(f"{tmp_path.name} results")
    assert folder_beside([str(tmp_path / "**" / "*.tif")]) == tmp_path.with_name(f"{tmp_path.name} results")
    assert folder_beside([tmp_path.anchor]) == Path(tmp_path.anchor) / "results"


def test_an_input_that_is_not_there_is_said(widget: BatchWidget, qtbot: Any, tmp_path: Path) -> None:
    widget.form.inputs.add([str(tmp_path / "gone")])
    qtbot.waitUntil(lambda: "there is no such file" in widget.form.found.text(), timeout=PATIENCE)


def test_results_are_shown_where_the_micrograph_lies(
    widget: BatchWidget, recipe: Path, noise: np.ndarray, folder: Path, wait_for: Wait, qtbot: Any
) -> None:
    text = recipe.read_text().replace("instances: false", "instances: true")
    recipe.write_text(text.replace("pixel_size_nm: null", "pixel_size_nm: [2.0, 2.0]"))  # which PNGs do not state
    widget.run()
    wait_for(widget)
    assert states(widget) == ["done", "done", "done", "failed"]
    assert "% pore" in widget.queue.proxy.index(0, RESULT).data()
    widget.queue.view.selectRow(3)
    assert widget.queue.reason.text().startswith(f"{folder / 'd.png'}: ")
    assert widget.index_button.isEnabled()

    layers = opened(widget, 0, qtbot)
    assert [(type(layer), layer.name) for layer in layers] == [
        (Image, "a"),
        (Labels, "a labels"),
        (Labels, "a objects"),
    ]
    for layer in layers:
        np.testing.assert_allclose(layer.scale, (2.0, 2.0))
        assert {str(unit) for unit in layer.units} == {"nanometer"}
    assert layers[1].features["class"].tolist() == ["matrix", "pore", "crack"]
    assert layers[2].contour > 0

    mine = layers[1]
    mine.paint((3, 3), 1)
    assert [layer.name for layer in opened(widget, 1, qtbot)] == ["a labels", "b", "b labels", "b objects"]
    assert mine in widget.viewer.layers

    Picture.fromarray(noise[:50]).save(folder / "a.png")
    opened(widget, 0, qtbot)
    assert "is of another size than when it was run; run it again." in widget.bar.message.text()
    assert [layer.name for layer in widget.viewer.layers] == ["a labels", "b", "b labels", "b objects"]


def test_what_waits_is_shown_alone(widget: BatchWidget, qtbot: Any) -> None:
    assert [layer.name for layer in opened(widget, 2, qtbot)] == ["c"]


def test_the_last_one_asked_for_is_shown(widget: BatchWidget, qtbot: Any) -> None:
    for row in (0, 1, 2):
        widget.queue.opened.emit(widget.model.entry(row))
    qtbot.waitUntil(lambda: not widget.opener.job.running, timeout=PATIENCE)
    assert [layer.name for layer in widget.viewer.layers] == ["c"]

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage

from napari_matseg._napari import batch_table
from napari_matseg._napari.batch_icons import icon
from napari_matseg._napari.batch_pictures import LONGEST, make
from napari_matseg._napari.batch_queue import Queue
from napari_matseg._napari.batch_table import MICROGRAPH, RESULT, STATE, TIME, QueueModel
from napari_matseg._napari.batch_words import STATES, in_words, result
from napari_matseg.running.states import Outcome, RunProgress, Source
from napari_matseg.settings import (
    CentreSettings,
    CleanSettings,
    OutputSettings,
    PromptSettings,
    PromptStep,
    Recipe,
    SegmentSettings,
)

DISPLAY, DECORATION = Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.DecorationRole


def source(number: int) -> Source:
    return Source(Path(f"/data/{number}.tif"), f"set/{number}")


def step(number: int, state: Any, *, share: float = 0.0, **outcome: Any) -> RunProgress:
    came = Outcome(source(number), state, **outcome) if state in ("done", "kept", "failed") else None
    left = 12.3 if state == "working" else None
    return RunProgress(
        0, 3, source=source(number), state=state, share=share, outcome=came, seconds_left=99.0, file_seconds_left=left
    )


@pytest.fixture
def model(qtbot: Any) -> QueueModel:
    model = QueueModel()
    model.fill([source(number) for number in range(4)], keep=False)
    return model


def texts(model: QueueModel, row: int) -> list[str]:
    return [model.data(model.index(row, column)) for column in range(model.columnCount())]


def test_each_state_is_said_in_words(model: QueueModel) -> None:
    model.take(step(0, "working", share=0.45))
    model.take(step(1, "done", record={"objects": {"n": 7}, "fractions": {"matrix": 0.9, "pore": 0.1}}, seconds=3.0))
    model.take(step(2, "kept", record={"objects": {"n": 1}}, seconds=3.0))
    model.take(step(3, "failed", reason="/data/3.tif: is damaged; copy it again from its source."))
    assert [texts(model, row) for row in range(4)] == [
        ["set/0", "working 45%", "12 s left", ""],
        ["set/1", "done", "3.0 s", "7 objects, 10.0% pore"],
        ["set/2", "there already", "", "1 object"],
        ["set/3", "failed", "", "is damaged; copy it again from its source."],
    ]
    assert model.data(model.index(3, MICROGRAPH), Qt.ItemDataRole.ToolTipRole) == str(Path("/data/3.tif"))
    assert [model.headerData(column, Qt.Orientation.Horizontal) for column in (STATE, TIME)] == ["State", "Time"]
    assert model.headerData(0, Qt.Orientation.Vertical) is None


def test_states_are_counted_and_what_stopped_waits_again(model: QueueModel) -> None:
    for state in ("working", "done"):
        model.take(step(0, state))
    model.take(step(1, "working", share=0.5))
    assert model.numbers == {"waiting": 2, "working": 1, "done": 1}
    model.stop()
    assert model.numbers == {"waiting": 3, "working": 0, "done": 1}
    assert texts(model, 1)[STATE] == "waiting"


def test_what_is_not_about_a_row_changes_nothing(model: QueueModel, qtbot: Any) -> None:
    with qtbot.assertNotEmitted(model.dataChanged):
        assert model.take(RunProgress(0, 4, "loading the model")) is None
        assert model.take(step(99, "working")) is None


def test_other_micrographs_keep_what_is_known_if_asked(model: QueueModel) -> None:
    model.take(step(1, "done"))
    model.fill([source(5), source(1)], keep=True)
    assert [texts(model, row)[STATE] for row in range(2)] == ["waiting", "done"]
    model.fill([source(1)], keep=False)
    assert texts(model, 0)[STATE] == "waiting"
    assert model.numbers == {"waiting": 1}


def test_marks_differ_in_shape_and_not_in_colour_alone(qtbot: Any) -> None:
    def shape(state: str) -> bytes:
        image = icon(state).pixmap(32, 32).toImage().convertToFormat(QImage.Format.Format_Alpha8)
        return bytes(image.constBits().asarray(image.sizeInBytes()))

    assert len({shape(state) for state in STATES}) == len(STATES)


def test_pictures_are_asked_for_as_rows_are_shown(model: QueueModel, qtbot: Any) -> None:
    with qtbot.waitSignal(model.wanted):
        for row in (2, 0, 2):
            model.data(model.index(row, MICROGRAPH), DECORATION)
    assert [row for row, _ in model.take_wanted()] == [0, 2]
    assert model.take_wanted() == []
    model.put_picture(2, source(2), np.full((4, 8, 3), 200, np.uint8))
    with qtbot.assertNotEmitted(model.wanted, wait=200):
        shown = model.data(model.index(2, MICROGRAPH), DECORATION).pixmap(40, 40).toImage()
    assert shown.pixelColor(shown.width() // 2, shown.height() // 2).red() == 200
    assert shown.pixelColor(shown.width() // 2, 1).alpha() == 0  # twice as wide as high
    model.take(step(2, "done", files={"overlay": Path("overlay.png")}))
    model.data(model.index(2, MICROGRAPH), DECORATION)
    assert [entry.outcome.files for _, entry in model.take_wanted()] == [{"overlay": Path("overlay.png")}]


def test_pictures_are_of_what_is_looked_at_last_and_few_are_held(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_table, "MOST_PICTURES", 3)
    model = QueueModel()
    model.fill([source(number) for number in range(100)], keep=False)
    for row in range(100):
        model.data(model.index(row, MICROGRAPH), DECORATION)
    rows = [row for row, _ in model.take_wanted()]
    assert rows == list(range(60, 100))
    for row in rows:
        model.put_picture(row, source(row), None)
    model.put_picture(0, source(50), None)  # the rows were others when it was begun
    model.put_picture(500, source(50), None)
    assert list(model._pictures) == [97, 98, 99]
    model.fill([source(99)], keep=False)
    assert list(model._pictures) == [0]


def test_thousands_of_rows_are_no_burden(qtbot: Any) -> None:
    model = QueueModel()
    queue = Queue(model)
    qtbot.addWidget(queue)
    queue.resize(500, 300)
    queue.show()
    sources = [source(number) for number in range(5000)]
    started = time.process_time()
    model.fill(sources, keep=False)
    for number in range(5000):
        model.take(step(number, "working", share=0.5))
        model.take(step(number, "kept"))
    assert time.process_time() - started < 4
    assert model.numbers["kept"] == 5000
    assert len(model.take_wanted()) < 20


def test_only_the_failed_ones_can_be_shown_and_their_reason_read(model: QueueModel, qtbot: Any) -> None:
    queue = Queue(model)
    qtbot.addWidget(queue)
    queue.show()
    assert not queue.only_failed.isEnabled()
    model.take(step(0, "done"))
    model.take(step(2, "failed", reason="/data/2.tif: is damaged; copy it again from its source."))
    assert queue.only_failed.isEnabled()
    assert queue.only_failed.text() == "Show only those that failed (1)"
    queue.only_failed.setChecked(True)
    assert [queue.proxy.index(row, 0).data() for row in range(queue.proxy.rowCount())] == ["set/2"]
    queue.view.selectRow(0)
    assert queue.reason.isVisible()
    assert queue.reason.text() == "/data/2.tif: is damaged; copy it again from its source."
    with qtbot.waitSignal(queue.opened) as opened:
        queue.view.doubleClicked.emit(queue.proxy.index(0, 0))
    assert opened.args[0].source == source(2)
    model.take(step(2, "working"))
    assert not queue.reason.isVisible()
    assert queue.proxy.rowCount() == 4


def test_the_queue_follows_the_work_until_a_row_is_looked_at(qtbot: Any) -> None:
    model = QueueModel()
    model.fill([source(number) for number in range(200)], keep=False)
    queue = Queue(model)
    qtbot.addWidget(queue)
    queue.show()
    queue.follow(150)
    at = queue.view.verticalScrollBar().value()
    assert at > 0
    queue.view.selectRow(150)
    queue.follow(10)
    assert queue.view.verticalScrollBar().value() == at


def picture(path: Path, overlay: Path | None = None) -> np.ndarray | None:
    (made,) = make([(3, Source(path, path.stem), overlay)])
    assert (made.row, made.source.path) == (3, path)
    return made.rgb_yxs


def test_pictures_of_micrographs(tmp_path: Path, noise: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([noise, noise]), metadata={"axes": "ZYX"})
    stack = picture(tmp_path / "stack.tif")
    assert stack.shape == (48, 80, 3)
    assert LONGEST == 80
    assert (stack.min(), stack.max()) == (0, 255)
    colour = np.zeros((50, 100, 3), np.uint8)
    colour[:, 50:] = (255, 0, 0)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    assert picture(tmp_path / "colour.png")[20, 70].tolist() == [255, 0, 0]
    tifffile.imwrite(tmp_path / "flat.tif", np.full((20, 20), np.nan, np.float32))
    assert picture(tmp_path / "flat.tif").shape == (20, 20, 3)


def test_a_picture_is_of_the_result_if_there_is_one(tmp_path: Path) -> None:
    Image.new("RGB", (400, 200), (0, 150, 0)).save(tmp_path / "overlay.png")
    made = picture(tmp_path / "missing.tif", tmp_path / "overlay.png")
    assert made.shape == (40, 80, 3)
    assert made[0, 0].tolist() == [0, 150, 0]


def test_what_cannot_be_read_has_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.tif").write_bytes(b"II*\0broken")
    assert picture(tmp_path / "broken.tif") is None
    Image.new("L", (400, 200)).save(tmp_path / "huge.png")
    monkeypatch.setattr("napari_matseg._napari.batch_pictures.MOST_PIXELS", 1000)
    assert picture(tmp_path / "huge.png") is None


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (
            Recipe(segment=SegmentSettings(instances=True)),
            "Segments with the model particles, with an id for every object; measures objects and area fractions; "
            "writes labels (TIFF), an overlay and tables (CSV).",
        ),
        (
            Recipe(
                segment=SegmentSettings(model="/models/mine.safetensors"),
                clean=CleanSettings(min_area_px=50, fill_holes_px=9, exclude_edge=True),
                measure=None,
                outputs=OutputSettings(labels="zarr", overlay=False, probabilities=True),
            ),
            "Segments with the model mine; fills holes of up to 9 px; drops what is smaller than 50 px; "
            "drops what the edge cuts; writes labels (OME-Zarr) and probabilities.",
        ),
        (
            Recipe(prompt=PromptStep(), outputs=OutputSettings(overlay=False, tables=("csv", "parquet"))),
            "Finds centres by the model particles and outlines the object at each with the model compact; "
            "measures the objects; writes labels (TIFF) and tables (CSV, Parquet).",
        ),
        (
            Recipe(prompt=PromptStep(centres=CentreSettings(method="log")), measure=None),
            "Finds centres by blobs and outlines the object at each with the model compact; "
            "writes labels (TIFF) and an overlay.",
        ),
        (
            Recipe(
                prompt=PromptStep(find="everything", prompt=PromptSettings(model="large")),
                measure=None,
                outputs=OutputSettings(overlay=False),
            ),
            "Outlines everything it finds with the model large; writes labels (TIFF).",
        ),
        (
            Recipe(prompt=PromptStep(find="points"), measure=None, outputs=OutputSettings(overlay=False)),
            "Outlines the object at each point of the CSV file beside the micrograph with the model compact; "
            "writes labels (TIFF).",
        ),
    ],
)
def test_a_recipe_is_said_in_a_sentence(recipe: Recipe, said: str) -> None:
    assert in_words(recipe) == said


def test_a_failure_without_reason_is_said_to_be_one() -> None:
    assert result(Outcome(source(0), "failed")) == "It is not known why; try again."
    assert RESULT == 3

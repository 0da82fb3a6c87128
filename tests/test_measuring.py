from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_matseg.core.label_files import write_labels
from napari_matseg.core.measure import runs
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import Progress, finish
from napari_matseg.errors import InputError
from napari_matseg.measuring import (
    Measured,
    measure_steps,
    put_together,
    size_rows,
    sizes_of,
)
from napari_matseg.reporting import plots_of, save_figures, save_measured, save_report
from napari_matseg.settings import ClassSpec, MeasureSettings

CLASSES = (
    ClassSpec(name="matrix", colour=(0, 0, 0)),
    ClassSpec(name="carbide", colour=(255, 0, 0)),
    ClassSpec(name="pore", colour=(0, 0, 255)),
)


@pytest.fixture
def classes_yx() -> np.ndarray:
    """Four carbides of 5 x 5, one of them at the edge, and a pore of 3 x 4."""
    classes = np.zeros((40, 60), np.uint8)
    for y, x in ((5, 5), (5, 20), (20, 5), (35, 30)):
        classes[y : y + 5, x : x + 5] = 1
    classes[20:23, 30:34] = 2
    return classes


def measure(labels: object, image: object = None, **how: object) -> Measured:
    return finish(measure_steps(labels, image, **how))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_ids_are_objects(classes_yx: np.ndarray) -> None:
    labels = np.where(classes_yx == 2, 70_000, 0).astype(np.uint32)
    found = measure(labels)
    assert found.table["label"].tolist() == [70_000]
    assert found.table["area_px"].tolist() == [12]
    assert found.fractions() is None


def test_classes_are_taken_apart_and_counted(classes_yx: np.ndarray) -> None:
    found = measure(classes_yx, classes=CLASSES, pixel_size_nm=(2.0, 2.0))
    assert found.table["class"].tolist() == ["carbide"] * 4 + ["pore"]
    assert found.table["area_nm2"].tolist() == [100.0] * 4 + [48.0]
    assert found.table["touches_edge"].tolist() == [False, False, False, True, False]
    fractions = found.fractions().set_index("class")["fraction"]
    assert fractions["carbide"] == pytest.approx(100 / 2400)
    assert fractions.sum() == pytest.approx(1)


def test_sizes_by_class_leave_out_what_the_edge_cuts(classes_yx: np.ndarray) -> None:
    found = measure(classes_yx, classes=CLASSES)
    sizes = sizes_of(found, MeasureSettings(edge="drop"), "class")
    assert {name: len(one.values) for name, one in sizes.items()} == {"carbide": 3, "pore": 1}
    assert {row["name"] for row in size_rows(found)} == {"image", "carbide", "pore"}


def test_a_filter_may_leave_nothing(classes_yx: np.ndarray) -> None:
    found = measure(classes_yx, classes=CLASSES)
    none = sizes_of(found, kept=np.zeros(len(found.table), bool))["all"]
    assert none.n_seen == 0
    assert np.isnan(none.quantile(0.5))


def test_data_bar_is_no_field(classes_yx: np.ndarray) -> None:
    image = Micrograph(np.zeros((40, 60), np.uint8), "YX", pixel_size_nm=(3.0, 3.0), data_bar=(30, 40))
    found = measure(classes_yx, image, classes=CLASSES)
    assert len(found.table) == 4
    assert found.fields[0].shape_yx == (30, 60)
    assert found.fields[0].pixel_size_nm == (3.0, 3.0)
    everything = measure(classes_yx, image, classes=CLASSES, settings=MeasureSettings(exclude_data_bar=False))
    assert len(everything.table) == 5


def test_rows_that_were_segmented_are_in_the_file(classes_yx: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a_labels.tif"
    write_labels(path, classes_yx, classes=CLASSES, pixel_size_nm=(2.0, 2.0), record={"segmented_rows": [0, 30]})
    found = measure(path)
    assert found.fields[0].class_names == ("matrix", "carbide", "pore")
    assert found.table["file"].unique().tolist() == ["a_labels.tif"]
    assert found.record["measured_rows"] == [0, 30]
    assert len(measure(path, classes=()).table) == 2  # ids 1 and 2


def test_spacing_of_each_phase(classes_yx: np.ndarray) -> None:
    spacing = measure(classes_yx, classes=CLASSES, pixel_size_nm=(2.0, 2.0)).fields[0].spacing
    assert [row["of"] for row in spacing] == ["carbide", "pore"]
    assert all(row["mean_free_path_nm"] > 0 for row in spacing)
    (everything,) = measure(classes_yx, classes=()).fields[0].spacing
    assert everything["of"] == "all objects"


def test_planes_are_fields(classes_yx: np.ndarray) -> None:
    stack = Micrograph(np.stack([classes_yx, np.zeros_like(classes_yx)]), "ZYX")
    found = measure(stack, Micrograph(np.ones((2, 40, 60), np.uint16), "ZYX"), classes=CLASSES)
    assert [field.name for field in found.fields] == ["image, plane 0", "image, plane 1"]
    assert found.table["plane"].unique().tolist() == [0]
    assert found.fractions()["fields"].tolist() == [2, 2, 2]
    assert found.table["intensity_mean"].tolist() == [1.0] * 5


def test_progress_goes_through_the_planes(classes_yx: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "BAND", 20 * 60)
    stack = Micrograph(np.stack([classes_yx] * 3), "ZYX")
    notes = [f"measuring plane {plane} of 3" for plane in (1, 1, 2, 2, 3, 3)]
    whole = replace(stack, pixels=(stack.pixels == 2).astype(np.uint8))
    assert list(measure_steps(whole))[1:] == [Progress(20 * i, 120, note) for i, note in enumerate(notes)]
    assert [step.note for step in measure_steps(stack)][3:5] == ["measuring objects in several pieces plane 1 of 3"] * 2
    steps = [step.done for step in measure_steps(stack, classes=CLASSES)][1:]
    assert steps == list(range(0, 240, 20))


def test_empty_labels_give_headed_tables(tmp_path: Path) -> None:
    found = measure(np.zeros((9, 7), np.uint16))
    files = save_measured(found, tmp_path, "none")
    assert rows_of(files["measurements"]) == []
    assert files["measurements"].read_text().startswith("file,label,plane,y,x,area_px,diameter_px")
    assert rows_of(files["sizes"])[0]["d50_px"] == ""


def test_files_hold_what_was_measured(classes_yx: np.ndarray, tmp_path: Path) -> None:
    found = measure(classes_yx, classes=CLASSES)
    files = save_measured(found, tmp_path / "new", "a") | save_figures(found, tmp_path / "new", "a")
    assert [row["label"] for row in rows_of(files["measurements"])] == ["1", "2", "3", "4", "5"]
    assert len(rows_of(files["fractions"])) == 3
    record = json.loads(files["record"].read_text())
    assert record["settings"]["edge"] == "miles-lantuejoul"
    assert Path(record["outputs"]["sizes"]) == files["sizes"]
    assert files["size figure"].read_text().startswith("<?xml")
    assert (tmp_path / "new" / "a_fraction_figure.csv").is_file()


def test_report_is_one_page_with_its_numbers(classes_yx: np.ndarray, tmp_path: Path) -> None:
    found = measure(classes_yx, classes=CLASSES)
    page = save_report(found, tmp_path, "a", classes_yx, classes_yx * 9, more={"Agreement": {"IoU": 0.9}})["report"]
    text = page.read_text()
    for word in ("Size distribution", "Phase fractions", "Agreement", "a_measurements.csv", "carbide"):
        assert word in text


def test_figures_tell_classes_apart(classes_yx: np.ndarray) -> None:
    plots = plots_of(measure(classes_yx, classes=CLASSES))
    assert set(plots) == {"size", "fraction"}
    assert set(plots["size"].data["group"]) == {"carbide", "pore"}


def test_fields_of_several_images_are_one_specimen(classes_yx: np.ndarray) -> None:
    together = put_together([measure(classes_yx, classes=CLASSES) for _ in range(3)])
    assert len(together.table) == 15
    assert together.fractions()["method"].str.contains("E562").all()
    assert {row["of"] for row in size_rows(together)} == {"file", "class", "all"}


def test_units_are_not_mixed(classes_yx: np.ndarray) -> None:
    known, unknown = measure(classes_yx, pixel_size_nm=(2.0, 2.0)), measure(classes_yx)
    together = put_together([known, Measured((replace(unknown.fields[0], name="other"),), {})])
    with pytest.raises(InputError, match="cannot be put together"):
        sizes_of(together)
    assert {row["of"] for row in size_rows(together)} == {"file"}
    assert pd.isna(together.table["diameter_nm"].iloc[-1])


def test_other_classes_have_no_fractions_together(classes_yx: np.ndarray) -> None:
    together = put_together([measure(classes_yx, classes=CLASSES), measure(classes_yx.clip(0, 1), classes=CLASSES[:2])])
    with pytest.raises(InputError, match="other classes"):
        together.fractions()


@pytest.mark.parametrize(
    ("labels", "image", "message"),
    [
        (np.zeros((4, 4), np.float32), None, "whole numbers"),
        (np.zeros((4, 4, 3), np.uint8), None, "without colour"),
        (np.full((4, 4), -1, np.int16), None, "image: holds negative ids"),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8), "the labels (4, 4); give the image"),
    ],
    ids=["float", "colour", "negative", "shape"],
)
def test_what_cannot_be_measured(labels: np.ndarray, image: np.ndarray | None, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        measure(labels, image)


def test_values_that_are_no_class(classes_yx: np.ndarray) -> None:
    with pytest.raises(InputError, match=re.escape("values up to 2, but the classes are 0 to 1 (matrix, carbide)")):
        measure(classes_yx, classes=CLASSES[:2])


def test_objects_that_touch_are_told_apart_by_their_ids():
    classes = np.zeros((20, 30), np.uint8)
    classes[5:15, 5:25] = 1
    ids = np.where(classes, np.where(np.arange(30) < 15, 1, 4), 0).astype(np.uint32)
    specs = tuple(ClassSpec(name=name, colour=(0, 0, 0)) for name in ("matrix", "particle"))
    measured = finish(measure_steps(classes, classes=specs, instances=ids))
    assert measured.table[["label", "class", "area_px"]].to_dict("list") == {
        "label": [1, 4],
        "class": ["particle", "particle"],
        "area_px": [100, 100],
    }
    assert measured.fields[0].pixels.tolist() == [400, 200]

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_matseg.comparing import ClassComparison, ObjectComparison, compare_steps, save_comparison
from napari_matseg.core.label_files import write_labels
from napari_matseg.core.progress import Progress, finish
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec, EvaluateSettings, MeasureSettings

PHASES = (ClassSpec(name="matrix", colour=(0, 0, 0)), ClassSpec(name="pore", colour=(0, 0, 255)))
OBJECTS = EvaluateSettings(objects=True, bootstrap=50)


def squares(*sides: int) -> np.ndarray:
    labels = np.zeros((32, 32 * len(sides)), np.uint16)
    for number, side in enumerate(sides):
        labels[8 : 8 + side, 32 * number + 8 : 32 * number + 8 + side] = number + 1
    return labels


@pytest.fixture
def two(tmp_path: Path) -> list[tuple[Path, Path]]:
    """Two images with truth: one is right, in the other a pore is a row too high."""
    pairs = []
    for number, rows in enumerate((8, 9)):
        truth, predicted = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
        truth[4:12, 4:12] = 255
        predicted[4 : 4 + rows, 4:12] = 1
        pairs.append((tmp_path / f"{number}_labels.tif", tmp_path / f"{number}.png"))
        write_labels(pairs[-1][0], predicted, classes=PHASES, pixel_size_nm=(5.0, 5.0))
        Image.fromarray(truth).save(pairs[-1][1])
    return pairs


def compare(pairs: object, settings: EvaluateSettings | None = None, **more: object) -> ClassComparison:
    return finish(compare_steps(pairs, settings or EvaluateSettings(bootstrap=50), **more))


def test_classes_of_several_images(two: list[tuple[Path, Path]]) -> None:
    found = compare(two)
    tables = found.tables()
    pore = tables["classes"][1]
    assert pore["class"] == "pore"
    assert pore["iou"] == pytest.approx(128 / 136)
    assert pore["hausdorff95_px"] == pytest.approx(0.5)  # 0 and 1
    assert pore["hausdorff95_nm"] == pytest.approx(2.5)
    assert pore["iou_low"] <= pore["iou"] <= pore["iou_high"] == 1
    assert [row["class"] for row in tables["classes"]] == ["matrix", "pore", "mean"]
    assert tables["confusion"][0] == {"truth": "matrix", "matrix": 664, "pore": 8}
    assert tables["fractions"][1]["error_points"] == pytest.approx(1.0)
    assert [row["iou pore"] for row in tables["images"]] == [1.0, pytest.approx(64 / 72)]
    assert any("255 read as 'pore'" in note for note in found.notes)


def test_one_image_has_no_interval(two: list[tuple[Path, Path]]) -> None:
    row = compare(two[:1]).tables()["classes"][1]
    assert row["iou"] == 1
    assert row["iou_low"] is None


def test_classes_against_annotations(tmp_path: Path) -> None:
    predicted = np.zeros((40, 40), np.uint8)
    predicted[5:15, 5:15] = 1
    tifffile.imwrite(tmp_path / "a.tif", predicted)
    square = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[5, 5, 15, 5, 15, 15, 5, 15]]}
    image = {"id": 1, "file_name": "a.tif", "width": 40, "height": 40}
    table = {"images": [image], "categories": [{"id": 1, "name": "pore"}], "annotations": [square]}
    (tmp_path / "a.json").write_text(json.dumps(table))
    pair = [(tmp_path / "a.tif", tmp_path / "a.json")]
    assert compare(pair).scores.pooled_iou == 1
    assert compare(pair, classes=PHASES).scores.pooled_iou == 1
    assert compare(pair, OBJECTS).scores.mean_ap == 1


def test_objects_and_their_sizes(tmp_path: Path) -> None:
    pairs = []
    for number, sides in enumerate(((12, 10, 14), (12, 0, 13))):
        pairs.append((tmp_path / f"{number}_labels.tif", tmp_path / f"{number}.png"))
        write_labels(pairs[-1][0], squares(*sides).astype(np.uint32))
        Image.fromarray(squares(12, 10, 13)).save(pairs[-1][1])
    found = compare(pairs, OBJECTS, measure=MeasureSettings(edge="keep", quantity="area"))
    assert isinstance(found, ObjectComparison)
    tables = found.tables()
    at_half = tables["objects"][0]
    assert (at_half["matched"], at_half["missed"], at_half["false"]) == (5, 1, 0)
    sizes = {row["measure"]: row for row in tables["sizes"]}
    assert (sizes["count"]["predicted"], sizes["count"]["true"]) == (5, 6)
    assert [row["true_d50_px"] for row in tables["images"]] == [144, 144]
    assert [row["f1_50"] for row in tables["images"]] == [1, pytest.approx(4 / 5)]


def test_classes_become_objects(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.tif", (squares(9, 9) > 0).astype(np.uint8), classes=PHASES)
    tifffile.imwrite(tmp_path / "t.tif", squares(9, 9))
    found = compare([(tmp_path / "a.tif", tmp_path / "t.tif")], OBJECTS)
    assert found.scores.mean_ap == 1


def test_data_bar_does_not_count(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.tif", squares(9).astype(np.uint32), record={"segmented_rows": [0, 20]})
    truth = squares(9)
    truth[25:30, 3:9] = 7
    tifffile.imwrite(tmp_path / "t.tif", truth)
    pair = [(tmp_path / "a.tif", tmp_path / "t.tif")]
    assert compare(pair, OBJECTS).scores.counts.n_truth == 1
    everything = compare(pair, OBJECTS, measure=MeasureSettings(exclude_data_bar=False))
    assert everything.scores.counts.n_truth == 2


def test_stack_plane_by_plane(tmp_path: Path) -> None:
    stack = np.stack([squares(9, 9), squares(9, 0)])
    write_labels(tmp_path / "a.tif", stack.astype(np.uint32), axes="ZYX")
    write_labels(tmp_path / "t.tif", np.stack([squares(9, 9)] * 2).astype(np.uint32), axes="ZYX")
    counts = compare([(tmp_path / "a.tif", tmp_path / "t.tif")], OBJECTS).scores.counts
    assert (counts.n_truth, counts.n_predicted) == (4, 3)


def test_tables_are_saved(two: list[tuple[Path, Path]], tmp_path: Path) -> None:
    files = save_comparison(compare(two), tmp_path / "out", "both")
    assert set(files) == {"classes", "overall", "confusion", "fractions", "images", "record"}
    with files["images"].open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2
    record = json.loads(files["record"].read_text())
    assert record["result"]["pooled_iou"] == pytest.approx(record["result"]["tables"]["overall"][0]["value"])


def test_progress_names_each_image(two: list[tuple[Path, Path]]) -> None:
    assert list(compare_steps(two)) == [Progress(i, 2, f"{i}_labels.tif") for i in range(2)]


def test_what_cannot_be_compared(two: list[tuple[Path, Path]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        compare([])
    tifffile.imwrite(tmp_path / "small.tif", np.ones((3, 4), np.uint8))
    with pytest.raises(InputError, match=r"small\.tif.* neither cropped nor scaled"):
        compare([(two[0][0], tmp_path / "small.tif")], OBJECTS)
    tifffile.imwrite(tmp_path / "float.tif", np.ones((20, 20), np.float32))
    with pytest.raises(InputError, match=r"float\.tif: a prediction must be whole numbers"):
        compare([(tmp_path / "float.tif", two[0][1])], OBJECTS)


def test_pieces_of_a_mask_are_objects(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", (squares(9, 9) > 0).astype(np.uint8) * 255)
    tifffile.imwrite(tmp_path / "t.tif", squares(9, 9))
    found = compare([(tmp_path / "a.tif", tmp_path / "t.tif")], OBJECTS)
    assert found.scores.mean_ap == 1
    assert "its 2 connected pieces read as objects" in found.notes[0]

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_matseg.core.label_files import write_labels
from napari_matseg.settings import ClassSpec

Run = Callable[..., tuple[int, str, str]]
PHASES = (ClassSpec(name="matrix", colour=(0, 0, 0)), ClassSpec(name="pore", colour=(0, 0, 255)))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def labels(folder: Path) -> Path:
    """A label image of pores with known sizes, 2 nm a pixel."""
    classes = np.zeros((60, 80), np.uint8)
    for number, side in enumerate((6, 8, 10, 12)):
        classes[10 : 10 + side, 4 + 19 * number : 4 + 19 * number + side] = 1
    write_labels(folder / "a_labels.tif", classes, classes=PHASES, pixel_size_nm=(2.0, 2.0))
    return folder / "a_labels.tif"


@pytest.fixture
def truth(labels: Path) -> Path:
    path = labels.with_name("a.png")
    Image.fromarray((tifffile.imread(labels) * 255).astype(np.uint8)).save(path)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_measure_writes_tables_and_says_where(run: Run, labels: Path) -> None:
    status, out, _ = run("measure", labels, "-o", "out", "--figures", "--report")
    assert status == 0
    assert "a_labels.tif -> out/a_labels_measurements.csv" in out
    assert "one field" in out
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "a_labels_fraction_figure.csv",
        "a_labels_fraction_figure.svg",
        "a_labels_fractions.csv",
        "a_labels_measured.json",
        "a_labels_measurements.csv",
        "a_labels_report.html",
        "a_labels_size_figure.csv",
        "a_labels_size_figure.svg",
        "a_labels_sizes.csv",
        "a_labels_spacing.csv",
    ]
    assert [row["feret_min_nm"] for row in rows_of(Path("out/a_labels_measurements.csv"))] == [
        "12.0",
        "16.0",
        "20.0",
        "24.0",
    ]


def test_measure_of_several_files(run: Run, labels: Path) -> None:
    other = labels.with_name("b_labels.tif")
    other.write_bytes(labels.read_bytes())
    status, out, _ = run("measure", labels, other, "-o", "out", "--json", "--edge", "drop", "--weighting", "area")
    assert status == 0
    found = json.loads(out)
    assert [row["name"] for row in found["sizes"]] == ["a_labels.tif", "b_labels.tif", "all"]
    assert found["sizes"][0]["weighting"] == "area"
    assert "E562" in found["fractions"][0]["method"]
    assert len(rows_of(Path("out/all_measurements.csv"))) == 8


def test_one_bad_file_stops_nothing(run: Run, labels: Path) -> None:
    Path("bad.tif").write_bytes(b"no image")
    status, _, err = run("measure", "bad.tif", labels, "-o", "out")
    assert status == 2
    assert "bad.tif" in err
    assert "1 of 2 files failed" in err
    assert Path("out/a_labels_measurements.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--edge", "torn"), "edge:"),
        (("--quantity", "girth"), "quantity:"),
        (("--guard-px", "-1"), "guard_px:"),
        (("--image", "no.tif"), "no.tif"),
    ],
    ids=["edge", "quantity", "guard", "image"],
)
def test_measure_says_what_is_wrong(run: Run, labels: Path, arguments: tuple[str, str], message: str) -> None:
    status, _, err = run("measure", labels, "-o", "out", *arguments)
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_two_files_of_one_stem_are_refused(run: Run, labels: Path) -> None:
    Path("more").mkdir()
    other = Path("more/a_labels.tif")
    other.write_bytes(labels.read_bytes())
    status, _, err = run("measure", labels, other, "-o", "out")
    assert status == 2
    assert "would both give a_labels_measurements.csv" in err
    assert not Path("out").exists()


def test_evaluate_classes(run: Run, labels: Path, truth: Path) -> None:
    status, out, err = run("evaluate", labels, truth, "--csv", "classes.csv", "-o", "out")
    assert status == 0
    assert "pooled IoU 1.0000" in out
    assert "hausdorff95_nm" in out
    assert "255 read as 'pore'" in err
    assert rows_of(Path("classes.csv"))[1]["boundary_f1"] == "1.0"
    assert Path("out/a_labels_confusion.csv").is_file()


def test_evaluate_objects_in_folders(run: Run, labels: Path, truth: Path) -> None:
    for name, file in (("found", labels), ("truths", truth)):
        Path(name).mkdir()
        for stem in ("a", "b"):
            (Path(name) / f"{stem}{'_labels' if name == 'found' else ''}{file.suffix}").write_bytes(file.read_bytes())
    status, out, _ = run("evaluate", "found", "truths", "--objects", "--quantity", "area")
    assert status == 0
    assert "8 objects predicted, 8 in the truth" in out
    assert "2 images" in out
    status, out, _ = run("evaluate", "found", "truths", "--objects", "--json")
    assert json.loads(out)["mean_ap"] == 1


def test_evaluate_folder_without_truth(run: Run, labels: Path) -> None:
    Path("truths").mkdir()
    status, _, err = run("evaluate", labels, "truths")
    assert status == 2
    assert "holds no truth for a_labels.tif" in err


def test_grains(run: Run, folder: Path) -> None:
    grains = np.kron(np.arange(1, 26).reshape(5, 5), np.ones((20, 20), int)).astype(np.uint16)
    tifffile.imwrite(folder / "g.tif", grains)
    status, out, _ = run("grains", "g.tif", "--pixel-size", 1000, "--csv", "g.csv")
    assert status == 0
    assert "planimetric" in out
    assert [row["method"] for row in rows_of(Path("g.csv"))] == ["planimetric", "intercept"]
    status, _, err = run("grains", "g.tif")
    assert status == 2
    assert "pixel size" in err
    status, _, err = run("grains", "g.tif", "--method", "guess", "--pixel-size", 1)
    assert status == 2
    assert "guess" in err

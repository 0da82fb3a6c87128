from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from roifile import ROI_TYPE, ImagejRoi, roiwrite

from napari_matseg.batch import match
from napari_matseg.core.dataset import load_examples
from napari_matseg.core.evaluate import classes_of, evaluate
from napari_matseg.core.label_files import write_labels
from napari_matseg.core.truth import IGNORE, read_truth
from napari_matseg.core.truth_drawn import kind_of
from napari_matseg.errors import InputError, SettingsError
from napari_matseg.settings import ClassSpec, TrainSettings

PARTICLES = [ClassSpec(name="background", colour=(0, 0, 0)), ClassSpec(name="particle", colour=(255, 0, 0))]
PHASES = [
    ClassSpec(name="matrix", colour=(0, 0, 0)),
    ClassSpec(name="carbide", colour=(255, 0, 0)),
    ClassSpec(name="pore", colour=(0, 0, 255)),
]
SHAPE = (20, 30)


def rois(path: Path, *names: str, **attributes: Any) -> Path:
    found = []
    for i, name in enumerate(names):
        roi = ImagejRoi(roitype=ROI_TYPE.RECT, left=5 * i, top=0, right=5 * i + 4, bottom=i + 1, name=name)
        for key, values in attributes.items():
            setattr(roi, key, values[i])
        found.append(roi)
    roiwrite(path, found, name=[str(i) for i in range(len(names))], mode="w")
    return path


def coco(path: Path, *categories: str, **more: Any) -> Path:
    """One object for each category, of 4, 8, 12 px and so on, in each image."""
    files = more.pop("files", ["a.tif"])
    images = [{"id": i, "file_name": name, "height": SHAPE[0], "width": SHAPE[1]} for i, name in enumerate(files)]
    annotations = [
        {"id": 1, "image_id": i, "category_id": 10 + n, "segmentation": [[x, 0, x + 4, 0, x + 4, n + 1, x, n + 1]]}
        for i in range(len(files))
        for n, x in enumerate(range(0, 5 * len(categories), 5))
    ]
    names = [{"id": 10 + n, "name": name} for n, name in enumerate(categories)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names} | more))
    return path


def counted(path: Path, classes: list[ClassSpec], **options: Any) -> dict[int, int]:
    found = read_truth(path, classes, shape=SHAPE, **options).labels_yx
    assert found.shape == SHAPE
    assert found.dtype == np.uint8
    return dict(zip(*(column.tolist() for column in np.unique(found, return_counts=True)), strict=True))


def test_kinds_by_content(tmp_path: Path) -> None:
    for name, start, kind in (
        ("a.png", b"Iout", "regions"),
        ("b", b"PK\3\4", "regions"),
        ("c", b"PK\5\6", "regions"),
        ("d.zip", b' \n{"images"', "coco"),
        ("e", b"\xef\xbb\xbf[", "coco"),
        ("f.json", b"II*\0", None),
    ):
        (tmp_path / name).write_bytes(start)
        assert kind_of(tmp_path / name) == kind


class TestClasses:
    def test_by_name(self, tmp_path: Path) -> None:
        path = rois(tmp_path / "a.zip", "Pore 1", "carbide-2", "pore_17")
        assert counted(path, PHASES) == {0: 576, 1: 8, 2: 16}
        assert counted(coco(tmp_path / "a.json", "PORE", "carbide", "matrix"), PHASES) == {0: 588, 1: 8, 2: 4}
        assert read_truth(path, PHASES, shape=SHAPE).note == (
            f"{path}: objects read by the names of their classes or their groups"
        )

    def test_by_group(self, tmp_path: Path) -> None:
        path = rois(tmp_path / "a.zip", "0001-0002", "x", "carbide", group=[2, 1, 2])
        assert counted(path, PHASES) == {0: 576, 1: 8 + 12, 2: 4}

    @pytest.mark.parametrize("names", [("", ""), ("0001-0002", "0003-0004"), ("drop 1", "cell")])
    def test_all_of_the_only_class(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        for path in (rois(tmp_path / "a.zip", *names), coco(tmp_path / "a.json", *names)):
            assert counted(path, PARTICLES) == {0: 588, 1: 12}
            assert read_truth(path, PARTICLES, shape=SHAPE).note == f"{path}: objects read as 'particle'"

    def test_names_that_are_no_classes(self, tmp_path: Path) -> None:
        path = coco(tmp_path / "a.json", "pore", "dirt", "")
        for classes, known in ((PHASES, "matrix, carbide, pore"), ([*PARTICLES[:1], PHASES[2]], "background, pore")):
            with pytest.raises(
                InputError, match=rf"a\.json: there are objects of dirt, no name, and the classes are {known};"
            ):
                read_truth(path, classes)

    def test_by_mapping(self, tmp_path: Path) -> None:
        assert counted(coco(tmp_path / "a.json", "x", "y", "z"), PHASES, mapping={10: 2, 11: IGNORE, 12: 0}) == {
            0: 588,
            2: 4,
            255: 8,
        }
        path = rois(tmp_path / "a.zip", "a", "b", group=[7, 0])
        assert counted(path, PHASES, mapping={7: 1, 0: 2}) == {0: 588, 1: 4, 2: 8}
        with pytest.raises(InputError, match=r"a\.zip: the mapping lacks 0, of the groups; add what they mean"):
            read_truth(path, PHASES, {7: 1}, shape=SHAPE)
        with pytest.raises(
            SettingsError, match=r"a\.zip: has groups and no colours; give a mapping from their numbers"
        ):
            read_truth(path, PHASES, {(255, 0, 0): 1}, shape=SHAPE)

    def test_inner_objects_stay_visible(self, tmp_path: Path) -> None:
        path = coco(tmp_path / "a.json", "pore", "carbide")
        content = json.loads(path.read_text())
        content["annotations"][1]["segmentation"] = [[0, 0, 20, 0, 20, 20, 0, 20]]
        path.write_text(json.dumps(content))
        assert counted(path, PHASES) == {0: 200, 1: 396, 2: 4}

    def test_a_stack(self, tmp_path: Path) -> None:
        path = rois(tmp_path / "a.zip", "1", "2", "3", position=[0, 1, 3])
        found = read_truth(path, PARTICLES, shape=(3, *SHAPE)).labels_yx
        assert found.sum(axis=(1, 2)).tolist() == [4 + 8, 4, 4 + 12]
        assert read_truth(path, PARTICLES, shape=(3, 1, *SHAPE)).labels_yx.shape == (3, 1, *SHAPE)
        with pytest.raises(InputError, match=r"a\.json: COCO knows no stacks, and the image has 3 planes"):
            read_truth(coco(tmp_path / "a.json", "pore"), PARTICLES, shape=(3, *SHAPE))

    def test_without_a_shape(self, tmp_path: Path) -> None:
        assert read_truth(coco(tmp_path / "a.json", "x"), PARTICLES).labels_yx.shape == SHAPE
        with pytest.raises(InputError, match=r"do not tell how large their image is"):
            read_truth(rois(tmp_path / "a.zip", "x"), PARTICLES)


class TestWhereTruthIsRead:
    def test_evaluate(self, tmp_path: Path) -> None:
        truth = coco(tmp_path / "all.json", "pore", "carbide", files=["b.png", "a.png"])
        right = read_truth(truth, PHASES, image="a.png").labels_yx
        prediction = tmp_path / "a_labels.tif"
        write_labels(prediction, right, classes=PHASES)
        scores, notes = evaluate(prediction, truth)
        assert scores.iou == pytest.approx([1, 1, 1])
        assert notes == [f"{truth}: objects read by the names of their classes"]
        regions = rois(tmp_path / "a.zip", "pore", "carbide")
        assert evaluate(prediction, regions)[0].iou == pytest.approx([1, 1, 1])
        assert evaluate(np.minimum(right, 1), regions)[0].iou == pytest.approx([1, 1])
        assert [spec.name for spec in classes_of(np.minimum(right, 1), regions)] == ["0", "1"]

    def test_training(self, tmp_path: Path) -> None:
        for folder in ("images", "truth"):
            (tmp_path / folder).mkdir()
        for name in "ab":
            tifffile.imwrite(tmp_path / "images" / f"{name}.tif", np.zeros(SHAPE, np.uint8))
        rois(tmp_path / "truth" / "a_RoiSet.zip", "1", "2")
        table = coco(tmp_path / "truth" / "all.json", "x", "y", files=["b.png"])

        def load(**data: Any) -> list[Any]:
            found = {"images": "images", "truth": "truth", "train": ("a", "b")} | data
            classes = [spec.model_dump() for spec in PARTICLES]
            settings = TrainSettings.model_validate({"name": "t", "classes": classes, "data": found})
            return load_examples(settings, found["train"], tmp_path)

        for instances in (True, False):
            assert [example.classes_yx.sum() for example in load(instances=instances)] == [12, 12]
        content = json.loads(table.read_text())
        content["annotations"][1]["iscrowd"] = 1
        table.write_text(json.dumps(content))
        (example,) = load(instances=True, truth="truth/all.json", train=("b",))
        assert np.unique(example.classes_yx, return_counts=True)[1].tolist() == [588, 4, 8]
        assert example.classes_yx.max() == IGNORE

    def test_batch(self, tmp_path: Path) -> None:
        images = [tmp_path / "a.tif", tmp_path / "b.tif"]
        table = coco(tmp_path / "all.json", "x", files=["a.tif", "b.tif"])
        assert match(images, [table]) == [table, table]
        assert match(images[:1], [table]) == [table]
        (tmp_path / "truth").mkdir()
        regions = rois(tmp_path / "truth" / "B.zip", "1")
        coco(tmp_path / "truth" / "some.json", "x", files=["a.tif"])
        assert match(images, [tmp_path / "truth"]) == [tmp_path / "truth" / "some.json", regions]

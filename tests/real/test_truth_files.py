from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_matseg.core.metrics import Counts, Scores, count
from napari_matseg.core.truth import read_truth
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

if TYPE_CHECKING:
    from pathlib import Path

ALLOY = (
    ClassSpec(name="matrix", colour=(0, 0, 0)),
    ClassSpec(name="secondary", colour=(0, 0, 255)),
    ClassSpec(name="tertiary", colour=(255, 0, 0)),
)
PARTICLES = (ClassSpec(name="background", colour=(0, 0, 0)), ClassSpec(name="particle", colour=(255, 200, 0)))
COATING = (
    ClassSpec(name="background", colour=(0, 0, 0)),
    ClassSpec(name="oxide", colour=(255, 200, 0)),
    ClassSpec(name="crack", colour=(255, 0, 0)),
)


def test_alloy_truth_is_drawn_in_colour_over_the_image(real_data: Path) -> None:
    masks = sorted((real_data / "superalloy" / "masks").glob("*.tif"))
    assert masks
    total = Counts.zero(3)
    for path in masks:
        truth = read_truth(path, ALLOY)
        rgb = np.asarray(Image.open(path).convert("RGB")).astype(int)
        expected = np.select([(rgb == colour).all(axis=-1) for colour in [(0, 0, 255), (255, 0, 0)]], [1, 2], 0)
        np.testing.assert_array_equal(truth.labels_yx, expected)
        assert truth.labels_yx.dtype == np.uint8
        assert truth.note is not None
        assert truth.note.endswith("#0000ff = secondary, #ff0000 = tertiary, other greys = matrix")
        total += count(truth.labels_yx, truth.labels_yx, 3)
    assert Scores(total).pooled_iou == 1
    assert (Scores(total).pixels_truth > 0).all()


def test_particle_truth_is_one_id_per_object(real_data: Path) -> None:
    names = (real_data / "emps" / "test.txt").read_text().split()
    for path in [real_data / "emps" / "labels" / f"{name.partition('.')[0]}.png" for name in names]:
        truth = read_truth(path, PARTICLES)
        objects = np.asarray(Image.open(path))
        np.testing.assert_array_equal(truth.labels_yx, objects > 0)
        n_objects = np.unique(objects[objects > 0]).size
        if n_objects > 1:
            assert truth.note == f"{path}: every value but 0 ({n_objects} of them) read as 'particle'"


def test_coating_truth_is_class_ids(real_data: Path) -> None:
    paths = sorted((real_data / "ebc" / "labels").glob("*.tif"))
    assert paths
    for path in paths:
        truth = read_truth(path, COATING)
        np.testing.assert_array_equal(truth.labels_yx, np.asarray(Image.open(path)))
        assert truth.note is None


def test_truth_of_three_classes_is_no_truth_of_objects(real_data: Path) -> None:
    path = sorted((real_data / "emps" / "labels").glob("*.png"))[0]
    with pytest.raises(InputError, match=f"{path.name}: the class ids are 0 to 2 .*; give a mapping"):
        read_truth(path, ALLOY)

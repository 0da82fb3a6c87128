from __future__ import annotations

import numpy as np
import pytest

from napari_matseg.core.agreement.comparisons import (
    ObjectComparison,
    compare_classes,
    compare_objects,
    predicted_objects,
)
from napari_matseg.core.evaluate import ClassPair
from napari_matseg.settings import EvaluateSettings, MeasureSettings

NAMES = ("matrix", "pore")
SETTINGS = EvaluateSettings(bootstrap=20)
KEEP = MeasureSettings(edge="keep")


def squares(*sides: int) -> np.ndarray:
    labels = np.zeros((24, 24 * len(sides)), np.uint16)
    for number, side in enumerate(sides):
        labels[4 : 4 + side, 24 * number + 4 : 24 * number + 4 + side] = number + 1
    return labels


def of_objects(predicted: np.ndarray, true: np.ndarray, name: str = "") -> ObjectComparison:
    return compare_objects([(predicted, true, None)], SETTINGS, KEEP, name=name)


def test_images_are_added() -> None:
    one, other = of_objects(squares(9, 9), squares(9, 9), "a"), of_objects(squares(9, 0), squares(9, 9), "b")
    both = one + other
    assert both.images == ("a", "b")
    assert both.scores.counts.n_truth == 4
    assert [row["predicted"] for row in both.tables()["images"]] == [2, 1]
    assert [row["ap_low"] is None for row in (one.tables()["objects"][0], both.tables()["objects"][0])] == [True, False]


def test_planes_of_a_stack_are_one_image() -> None:
    true, predicted = np.stack([squares(9, 9)] * 2), np.stack([squares(9, 9), squares(9, 0)])
    found = compare_objects([(*pair, None) for pair in zip(predicted, true, strict=True)], SETTINGS, KEEP)
    assert len(found.images) == len(found.counts) == len(found.true) == 1
    assert (found.scores.counts.n_truth, found.scores.counts.n_predicted) == (4, 3)
    classes = ClassPair((predicted > 0).astype(np.uint8), (true > 0).astype(np.uint8), None, ["said", "said"])
    compared = compare_classes(classes, NAMES, SETTINGS, name="stack")
    assert compared.scores.counts.confusion.sum() == true.size
    assert compared.notes == ("said",)
    assert (compared + compared).images == ("stack", "stack")


def test_pixels_that_do_not_count() -> None:
    true, predicted = squares(9, 9), squares(9, 0)
    left = np.broadcast_to(np.arange(true.shape[1]) < 24, true.shape)
    assert compare_objects([(predicted, true, left)], SETTINGS, KEEP).scores.counts.n_truth == 1
    pair = ClassPair((predicted > 0).astype(np.uint8), (true > 0).astype(np.uint8), left, [])
    assert compare_classes(pair, NAMES, SETTINGS).scores.pooled_iou == 1


def test_what_a_prediction_holds_as_objects() -> None:
    labels = squares(9, 9)[None]
    same, note = predicted_objects(labels, "it", classes=False)
    assert same is labels
    assert note is None
    pieces, note = predicted_objects((labels > 0).astype(np.uint8), "it", classes=True)
    np.testing.assert_array_equal(pieces, labels)
    assert note is None
    pieces, note = predicted_objects((labels > 0).astype(np.uint8) * 255, "it", classes=False)
    np.testing.assert_array_equal(pieces, labels)
    assert note == "it: has one value alone; its 2 connected pieces read as objects"


@pytest.mark.parametrize("labels", [np.zeros((1, 8, 8), np.uint8), squares(9)[None] * 7], ids=["none", "one"])
def test_one_object_keeps_its_id(labels: np.ndarray) -> None:
    found, note = predicted_objects(labels, "it", classes=False)
    np.testing.assert_array_equal(found, labels)
    assert note is None

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_matseg.core.checkpoints import save_model
from napari_matseg.core.evaluate import classes_of, evaluate
from napari_matseg.core.label_files import write_labels
from napari_matseg.errors import InputError, SettingsError
from napari_matseg.settings import ClassSpec

PHASES = (
    ClassSpec(name="matrix", colour=(0, 0, 0)),
    ClassSpec(name="carbide", colour=(255, 0, 0)),
    ClassSpec(name="pore", colour=(0, 0, 255)),
)
PREDICTED = np.array([[0, 1, 1, 2], [0, 1, 2, 2], [0, 0, 0, 0]], dtype=np.uint8)
TRUE = np.array([[0, 1, 1, 1], [0, 0, 2, 2], [0, 0, 0, 0]], dtype=np.uint8)
IOU = [6 / 7, 2 / 4, 2 / 3]


def names(classes: tuple[ClassSpec, ...]) -> list[str]:
    return [spec.name for spec in classes]


def png(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def labels_tif(path: Path, labels: np.ndarray, **options: object) -> Path:
    write_labels(path, labels, **options)
    return path


def test_arrays():
    scores, notes = evaluate(PREDICTED, TRUE, PHASES)
    assert scores.iou == pytest.approx(IOU)
    assert notes == []


def test_files_and_arrays_agree(tmp_path):
    prediction = labels_tif(tmp_path / "p.tif", PREDICTED, classes=PHASES)
    for truth in (TRUE, png(tmp_path / "t.png", TRUE), labels_tif(tmp_path / "t.tif", TRUE)):
        for given_as in (prediction, str(prediction), PREDICTED):
            scores, _ = evaluate(given_as, truth)
            assert scores.iou == pytest.approx(IOU)


def test_classes_are_those_that_the_prediction_names(tmp_path):
    prediction = labels_tif(tmp_path / "p.tif", PREDICTED, classes=PHASES)
    truth = labels_tif(tmp_path / "t.tif", TRUE, classes=PHASES[::-1])
    assert classes_of(prediction, truth) == PHASES
    assert classes_of(PREDICTED, truth) == PHASES[::-1]
    assert classes_of(png(tmp_path / "p.png", PREDICTED), truth) == PHASES[::-1]


def test_classes_of_a_model(tmp_path, make_model):
    model = make_model()
    path = tmp_path / "own.safetensors"
    save_model(path, model.network, model.card)
    prediction = labels_tif(tmp_path / "p.tif", PREDICTED, classes=PHASES)
    assert names(classes_of(prediction, TRUE, path)) == ["matrix", "a", "b"]


def test_classes_that_nothing_names_are_called_by_their_values():
    assert names(classes_of(PREDICTED, np.zeros_like(TRUE))) == ["0", "1", "2"]
    assert names(classes_of(np.zeros_like(TRUE), TRUE)) == ["0", "1", "2"]
    assert names(classes_of(TRUE * 0, TRUE * 0)) == ["0", "1"]
    assert names(classes_of(TRUE > 0, TRUE > 0)) == ["0", "1"]


def test_black_and_white_masks_need_no_names(tmp_path):
    prediction = png(tmp_path / "p.png", np.where(PREDICTED > 0, 255, 0).astype(np.uint8))
    truth = png(tmp_path / "t.png", np.where(TRUE > 0, 255, 0).astype(np.uint8))
    scores, notes = evaluate(prediction, truth)
    assert scores.iou == pytest.approx([6 / 7, 5 / 6])
    assert notes == [f"{prediction}: 255 read as '1'", f"{truth}: 255 read as '1'"]


def test_objects_that_nothing_names_are_no_classes(tmp_path):
    objects = np.arange(100, dtype=np.uint16).reshape(10, 10)
    path = tmp_path / "objects.tif"
    tifffile.imwrite(path, objects)
    for pair in ((path, objects % 2), (objects % 2, path)):
        with pytest.raises(InputError, match=r"objects\.tif: values up to 99 are too many.*name the model"):
            classes_of(*pair)
    with pytest.raises(InputError, match="prediction: values up to 99"):
        classes_of(objects, path)


def test_objects_are_one_class_where_there_is_but_one():
    objects = np.arange(100, dtype=np.uint16).reshape(10, 10)
    scores, notes = evaluate((objects > 49).astype(np.uint8), objects, PHASES[:2])
    assert scores.iou[1] == 50 / 99
    assert "every value but 0 (99 of them) read as 'carbide'" in notes[0]


def test_truth_in_colour(tmp_path):
    colours = np.array([spec.colour for spec in PHASES], dtype=np.uint8)
    truth = png(tmp_path / "t.png", colours[TRUE])
    scores, notes = evaluate(PREDICTED, truth, PHASES)
    assert scores.iou == pytest.approx(IOU)
    assert notes == [f"{truth}: read as #000000 = matrix, #ff0000 = carbide, #0000ff = pore"]
    prediction = labels_tif(tmp_path / "p.tif", PREDICTED, classes=PHASES)
    assert evaluate(prediction, truth)[0].iou == pytest.approx(IOU)
    for unnamed in (truth, colours[TRUE]):
        with pytest.raises(InputError, match=r"is in colour, and nothing says which classes.*name the model"):
            evaluate(PREDICTED, unnamed)


def test_a_mapping_says_what_the_truth_means():
    truth = np.array([10, 128, 255], dtype=np.uint8)[TRUE]
    for classes in (PHASES, None):
        scores, notes = evaluate(PREDICTED, truth, classes, mapping={10: 0, 128: 1, 255: 2})
        assert scores.iou == pytest.approx(IOU)
        assert "10 = " in notes[0]
    with pytest.raises(InputError, match="too many to be classes"):
        evaluate(PREDICTED, truth)


def test_what_a_mapping_ignores_does_not_count():
    truth = np.array([10, 128, 255], dtype=np.uint8)[TRUE]
    scores, _ = evaluate(PREDICTED, truth, mapping={10: 0, 128: 255, 255: 2})
    assert scores.counts.confusion.sum() == 9
    assert scores.counts.n_classes == 3


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.5])
def test_truth_that_is_no_whole_numbers(wrong):
    truth = TRUE.astype(np.float32)
    truth[1, 1] = wrong
    for classes in (PHASES, None):
        with pytest.raises(InputError, match="truth: truth must be whole numbers, but 1 pixel"):
            evaluate(PREDICTED, truth, classes)


def test_truth_with_values_of_no_class():
    with pytest.raises(InputError, match=r"truth: the class ids are 0 to 2 .*there are 9 \(1 pixel\); give a mapping"):
        evaluate(PREDICTED, np.where(TRUE == 2, 9, TRUE)[:, :3], PHASES)
    with pytest.raises(InputError, match="prediction: the class ids are 0 to 2"):
        evaluate(PREDICTED + 1, TRUE, PHASES)
    with pytest.raises(InputError, match="there are -1"):
        evaluate(PREDICTED, TRUE.astype(int) - 1)


def test_another_shape_is_an_error_that_names_the_file(tmp_path):
    truth = png(tmp_path / "t.png", TRUE.T)
    with pytest.raises(InputError, match=r"t\.png: has shape \(4, 3\) and the prediction \(3, 4\); give the truth of"):
        evaluate(PREDICTED, truth, PHASES)
    with pytest.raises(InputError, match=r"^truth: has shape \(2, 4\)"):
        evaluate(PREDICTED, TRUE[:2], PHASES)
    with pytest.raises(InputError, match=r"^truth: has shape \(3,\)"):
        evaluate(PREDICTED, TRUE[:, 0], PHASES)


@pytest.mark.parametrize("width", [3, 4])
def test_a_narrow_stack_is_not_taken_for_colour(width):
    prediction, truth = (np.stack([labels[:, :width]] * 5) for labels in (PREDICTED, TRUE))
    for classes in (None, PHASES):
        scores, _ = evaluate(prediction, truth, classes)
        assert scores.counts.confusion.sum() == 5 * 3 * width


@pytest.mark.parametrize("n_planes", [None, 2])
def test_a_data_bar_that_was_left_out_does_not_count(tmp_path, n_planes):
    labels, truth, axes = PREDICTED, TRUE.copy(), "YX"
    truth[2] = 1  # as it looks in the data bar
    if n_planes:
        labels, truth, axes = np.stack([labels] * 2), np.stack([truth] * 2), "ZYX"
    options = {"classes": PHASES, "axes": axes}
    with_record = labels_tif(tmp_path / "r.tif", labels, record={"segmented_rows": [0, 2]}, **options)
    scores, _ = evaluate(with_record, truth)
    assert scores.counts.confusion.sum() == 8 * (n_planes or 1)
    assert scores.iou == pytest.approx([2 / 3, 2 / 4, 2 / 3])
    without = labels_tif(tmp_path / "w.tif", labels, **options)
    assert evaluate(without, truth)[0].counts.confusion.sum() == 12 * (n_planes or 1)
    # Who gives a mask means it.
    everything = np.ones(labels.shape, dtype=bool)
    assert evaluate(with_record, truth, mask=everything)[0].counts.confusion.sum() == 12 * (n_planes or 1)


def test_a_mask_says_which_pixels_count():
    scores, _ = evaluate(PREDICTED, TRUE, PHASES, mask=PREDICTED == TRUE)
    assert scores.accuracy == 1
    with pytest.raises(InputError, match="mask"):
        evaluate(PREDICTED, TRUE, PHASES, mask=np.ones((2, 2), bool))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"gone\.tif"):
        evaluate(tmp_path / "gone.tif", TRUE)
    with pytest.raises(InputError, match=r"gone\.png: there is no such file"):
        evaluate(PREDICTED, tmp_path / "gone.png", PHASES)
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0 and no more")
    for classes in (None, PHASES):
        with pytest.raises(InputError, match=r"broken\.tif"):
            evaluate(broken, TRUE, classes)


def test_a_mapping_to_a_class_that_there_is_not():
    with pytest.raises(SettingsError, match="mapped to class 3, but the classes go from 0 to 2"):
        evaluate(PREDICTED, TRUE, PHASES, mapping={0: 0, 1: 3, 2: 2})

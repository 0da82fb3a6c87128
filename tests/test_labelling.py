from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_matseg.core.checkpoints import Model
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import finish
from napari_matseg.core.read import read
from napari_matseg.core.uncertainty_picture import uncertainty_rgb
from napari_matseg.errors import SettingsError
from napari_matseg.labelling import label_next, save_uncertainty, uncertainty, uncertainty_steps
from napari_matseg.settings import ClassSpec, SegmentSettings, UncertaintySettings

MakeModel = Callable[..., Model]
TWO = UncertaintySettings(segment=SegmentSettings(device="cpu"), views=2, places=3, place_px=16)


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    """Bright and dark halves, with a doubtful patch, rows 40 to 55 and columns 100 to 115."""
    image = np.zeros((96, 160), np.uint8)
    image[:, 80:] = 200
    image[40:56, 100:116] = 100
    return image


def test_the_doubtful_patch_is_to_be_labelled_next(make_threshold: MakeModel, grey: np.ndarray) -> None:
    found = uncertainty(grey, TWO, loaded=[make_threshold()])
    first = found.places[0]
    assert (first.top, first.left, first.height, first.width) == (40, 100, 16, 16)
    assert found.map.shape == found.classes.shape == grey.shape
    assert found.mean == pytest.approx(float(found.map.mean()), rel=1e-5)
    record = found.record
    assert json.loads(json.dumps(record))["places"][0]["top"] == 40
    assert (record["job"], record["answers"], record["mean_uncertainty"]) == ("uncertainty", 2, found.mean)


def test_the_data_bar_is_left_out(make_threshold: MakeModel, grey: np.ndarray) -> None:
    bar = np.full((20, 160), 100, np.uint8)
    micrograph = Micrograph(np.concatenate([grey, bar]), data_bar=(96, 116))
    found = uncertainty(micrograph, TWO, loaded=[make_threshold()])
    assert not found.map[96:].any()
    assert all(place.top + place.height <= 96 for place in found.places)
    assert found.mean == pytest.approx(uncertainty(grey, TWO, loaded=[make_threshold()]).mean, rel=1e-5)
    kept = uncertainty(micrograph, TWO, loaded=[make_threshold()], exclude_data_bar=False)
    assert kept.map[96:].all()


def test_planes_are_asked_about_one_by_one(make_threshold: MakeModel, grey: np.ndarray) -> None:
    stack = Micrograph(np.stack([np.zeros_like(grey), grey]), "ZYX")
    work = uncertainty_steps(stack, TWO, loaded=[make_threshold()])
    steps = []
    while True:
        try:
            steps.append(next(work))
        except StopIteration as stop:
            found = stop.value
            break
    assert found.map.shape == (2, 96, 160)
    assert any(step.note.endswith("plane 2 of 2") for step in steps)
    assert found.places[0].plane in (0, 1)
    assert len(found.places) == 3


def test_a_large_micrograph_is_worked_on_in_files(make_threshold: MakeModel, grey: np.ndarray, tmp_path: Path) -> None:
    model = make_threshold()
    settings = TWO.model_copy(update={"zoom": 1.0, "contrast": 1.0})
    whole = uncertainty(grey, settings, loaded=[model])
    found = uncertainty(grey, settings, loaded=[model], work=tmp_path, large_px=100)
    assert isinstance(found.map.base, np.memmap) or isinstance(found.map, np.memmap)
    np.testing.assert_allclose(found.map, whole.map, atol=1e-5)
    assert found.places == whole.places
    assert list(tmp_path.iterdir())
    del found
    import gc

    gc.collect()
    assert not list(tmp_path.iterdir())


def test_models_of_an_ensemble_have_the_same_classes(make_threshold: MakeModel, grey: np.ndarray) -> None:
    model = make_threshold()
    dark, _ = model.card.classes
    card = model.card.model_copy(update={"name": "other", "classes": (dark, ClassSpec(name="pore", colour=(1, 1, 1)))})
    with pytest.raises(SettingsError, match="other has classes dark, pore, and threshold dark, bright"):
        uncertainty(grey, TWO, loaded=[model, replace(model, card=card)])


def test_what_is_written(make_threshold: MakeModel, grey: np.ndarray, tmp_path: Path) -> None:
    micrograph = Micrograph(grey, pixel_size_nm=(2.0, 2.0))
    found = uncertainty(micrograph, TWO, loaded=[make_threshold()])
    files = save_uncertainty(found, micrograph, tmp_path / "out", "a")
    assert sorted(path.name for path in files.values()) == sorted(
        ["a_uncertainty.tif", "a_uncertainty.png", "a_label_next.csv", "a_uncertainty.json"]
    )
    np.testing.assert_array_equal(tifffile.imread(files["map"]).squeeze(), found.map)
    assert read(files["map"]).pixel_size_nm == (2.0, 2.0)
    rows = list(csv.DictReader(files["places"].read_text().splitlines()))
    assert (rows[0]["rank"], rows[0]["top"], rows[0]["left"]) == ("1", "40", "100")
    assert json.loads(files["record"].read_text())["outputs"]["map"] == str(files["map"])
    picture = np.asarray(Image.open(files["picture"]))
    assert picture.shape[1:] == (160, 3)
    assert tuple(picture[40, 108]) == (90, 220, 255)  # the frame of the first place


def test_the_picture_of_a_large_micrograph_is_smaller(grey: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_matseg.core import uncertainty_picture as module

    monkeypatch.setattr(module, "OVERLAY_LIMIT", 80)
    map_yx = np.zeros(grey.shape, np.float32)
    assert uncertainty_rgb(Micrograph(grey, pixel_size_nm=(1.0, 1.0), data_bar=(90, 96)), map_yx, ()).shape[1] == 80


def test_the_most_uncertain_image_comes_first(make_threshold: MakeModel, grey: np.ndarray, tmp_path: Path) -> None:
    sure = np.where(grey > 50, 255, 0).astype(np.uint8)
    doubtful = np.tile(np.linspace(0, 255, 160), (96, 1)).astype(np.uint8)
    for name, image in {"sure": sure, "doubtful": doubtful}.items():
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    images = sorted(tmp_path.glob("*.png"))
    ranked = finish(label_next(images, TWO, tmp_path / "out", loaded=[make_threshold()]))
    assert [Path(row["image"]).stem for row in ranked] == ["doubtful", "sure", "broken"]
    assert [row["rank"] for row in ranked] == [1, 2, 3]
    assert "broken.png" in ranked[2]["failed"]
    rows = list(csv.DictReader((tmp_path / "out" / "label_next.csv").read_text().splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert (tmp_path / "out" / "doubtful_uncertainty.tif").exists()


def test_images_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a: two images have this name"):
        finish(label_next([Path("x/a.tif"), Path("y/a.png")], TWO, tmp_path))


def test_mutual_information_needs_two_answers() -> None:
    with pytest.raises(ValueError, match="ask for more views, or further models"):
        UncertaintySettings(measure="mutual_information", views=1)

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from napari_matseg.core.centres import (
    Centres,
    centres_from_model,
    detect_steps,
    find_centres,
    pick,
    respond_steps,
)
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.progress import finish
from napari_matseg.errors import InputError, ModelError, SettingsError
from napari_matseg.settings import CentreSettings

BLOBS = CentreSettings(method="log")


def disc(shape: tuple[int, int], y: float, x: float, diameter: float) -> np.ndarray:
    rows, columns = np.indices(shape)
    return np.hypot(rows - y, columns - x) <= diameter / 2


@pytest.fixture
def scene() -> np.ndarray:
    """Light discs of 12 and 30 px, and a dark one of 20 px, on grey."""
    image = np.full((120, 160), 100, dtype=np.uint8)
    image[disc(image.shape, 30, 40, 12)] = 200
    image[disc(image.shape, 80, 45, 30)] = 220
    image[disc(image.shape, 60, 120, 20)] = 10
    return image


def places(centres: Centres) -> list[list[float]]:
    return sorted(np.rint(centres.points_yx).tolist())


@pytest.mark.parametrize("method", ["log", "doh"])
def test_blobs_by_polarity(scene, method):
    settings = CentreSettings(method=method)
    found = find_centres(scene, settings)
    assert places(found) == [[30, 40], [60, 120], [80, 45]]
    assert (np.diff(found.strength) <= 0).all()
    bright = find_centres(scene, settings.model_copy(update={"polarity": "bright"}))
    assert places(bright) == [[30, 40], [80, 45]]
    assert bright.sign.tolist() == [1, 1]
    dark = find_centres(scene, settings.model_copy(update={"polarity": "dark"}))
    assert places(dark) == [[60, 120]]
    assert dark.sign.tolist() == [-1]
    np.testing.assert_allclose(dark.diameter_px, 20, rtol=0.06)


def test_sizes_in_pixels_and_in_nanometres(scene):
    assert places(find_centres(scene, BLOBS.model_copy(update={"min_diameter_px": 25.0}))) == [[80, 45]]
    assert places(find_centres(scene, BLOBS.model_copy(update={"max_diameter_px": 15.0}))) == [[30, 40]]
    in_nm = BLOBS.model_copy(update={"min_diameter_nm": 30.0, "max_diameter_nm": 50.0})
    assert places(find_centres(Micrograph(scene, pixel_size_nm=(2.0, 2.0)), in_nm)) == [[60, 120]]
    with pytest.raises(SettingsError, match=r"min_diameter_nm needs the pixel size.*or min_diameter_px instead"):
        find_centres(scene, in_nm)
    crossed = CentreSettings(method="log", min_diameter_px=20, max_diameter_nm=30)
    with pytest.raises(SettingsError, match="no diameter is at least 20 px and at most 15 px"):
        find_centres(Micrograph(scene, pixel_size_nm=(2.0, 2.0)), crossed)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min_diameter_px": 3, "min_diameter_nm": 3}, "min_diameter is given in px and in nm"),
        ({"min_diameter_nm": 5, "max_diameter_nm": 3}, "min_diameter_nm must not be above max_diameter_nm"),
        ({"min_diameter_px": 0}, "greater than 0"),
        ({"contrast": 2}, "less than or equal to 1"),
    ],
)
def test_settings_that_contradict_themselves(given, message):
    with pytest.raises(ValidationError, match=message):
        CentreSettings(**given)


def test_one_look_serves_many_settings(scene):
    micrograph = Micrograph(scene, pixel_size_nm=(1.0, 1.0))
    responses = finish(respond_steps(micrograph, BLOBS))
    for changed in (
        {"polarity": "dark"},
        {"contrast": 0.9},
        {"overlap": 0.9},
        {"exclude_edge": True},
        {"min_diameter_px": 25.0},
        {"max_diameter_nm": 15.0},
    ):
        settings = BLOBS.model_copy(update=changed)
        assert responses.covers(settings)
        assert places(pick(responses, settings)) == places(find_centres(micrograph, settings))
    first = pick(responses, BLOBS)
    first.points_yx[:] = 0  # what is given out is nobody's memory
    assert places(pick(responses, BLOBS)) == [[30, 40], [60, 120], [80, 45]]


def test_other_settings_need_another_look(scene):
    narrow = BLOBS.model_copy(update={"min_diameter_px": 10.0, "max_diameter_px": 25.0})
    responses = finish(respond_steps(Micrograph(scene), narrow))
    assert responses.covers(narrow.model_copy(update={"min_diameter_px": 12.0}))
    for changed in (
        {"method": "doh"},
        {"min_diameter_px": 9.0},
        {"max_diameter_px": 30.0},
        {"exclude_data_bar": False},
    ):
        settings = narrow.model_copy(update=changed)
        assert not responses.covers(settings)
        with pytest.raises(InputError, match="need another look at the image"):
            pick(responses, settings)


@pytest.mark.parametrize("method", ["log", "model"])
@pytest.mark.parametrize("bar", [(90, 120), (0, 40)])
def test_nothing_is_found_in_the_data_bar(scene, make_threshold, method, bar):
    scene[slice(*bar)] = 0
    scene[disc(scene.shape, sum(bar) / 2, 100, 14)] = 255
    settings = CentreSettings(method=method, device="cpu")
    micrograph = Micrograph(scene, data_bar=bar)
    model = make_threshold(distance=True)
    found = finish(detect_steps(micrograph, settings, loaded=model))
    assert len(found)
    rows = micrograph.content_rows
    assert ((found.points_yx[:, 0] >= rows.start) & (found.points_yx[:, 0] <= rows.stop - 1)).all()
    assert np.abs(found.points_yx - (80, 45)).sum(axis=1).min() < (4 if bar[0] == 0 else 12)
    kept = finish(detect_steps(micrograph, settings.model_copy(update={"exclude_data_bar": False}), loaded=model))
    assert np.abs(kept.points_yx - (sum(bar) / 2, 100)).sum(axis=1).min() < 2


def test_objects_at_the_edge_can_be_left_out():
    classes = (disc((60, 80), 30, 6, 14) | disc((60, 80), 30, 40, 14)).astype(np.uint8)
    for find in (
        lambda settings: centres_from_model(classes, None, settings),
        lambda settings: find_centres(classes, settings.model_copy(update={"method": "log", "polarity": "bright"})),
    ):
        assert len(find(CentreSettings())) == 2
        assert places(find(CentreSettings(exclude_edge=True))) == [[30, 40]]


@pytest.mark.parametrize("method", ["log", "doh", "model"])
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 1), np.uint8),
        np.full((1, 40), 7, np.uint8),
        np.zeros((50, 30), np.uint16),
        np.full((20, 20), np.nan, np.float32),
    ],
    ids=["pixel", "row", "constant", "nan"],
)
def test_where_there_is_nothing_nothing_is_found(make_threshold, method, image):
    found = finish(
        detect_steps(Micrograph(image), CentreSettings(method=method, device="cpu"), loaded=make_threshold())
    )
    assert found.points_yx.shape == (0, 2)
    assert len(found) == len(found.diameter_px) == len(found.sign) == 0


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float64, np.bool_])
def test_pixels_of_any_type(dtype):
    image = disc((70, 90), 30, 50, 16).astype(dtype) * (1 if dtype is np.bool_ else dtype(1000))
    assert places(find_centres(image, BLOBS))[0] == [30, 50]


def test_true_colour_and_planes(scene):
    colour = Micrograph(np.stack([np.repeat(plane[..., None], 3, 2) for plane in (scene, scene[::-1])]), "ZYXS")
    assert places(find_centres(colour, BLOBS, plane=1)) == [[39, 45], [59, 120], [89, 40]]
    with pytest.raises(InputError, match="no plane 2"):
        find_centres(colour, BLOBS, plane=2)


def test_pixels_that_are_no_number_are_no_centre(scene):
    image = scene.astype(np.float32)
    image[disc(image.shape, 60, 120, 26)] = np.nan
    assert places(find_centres(image, BLOBS)) == [[30, 40], [80, 45]]


def test_a_size_beyond_the_image_finds_nothing(scene):
    assert len(find_centres(scene, BLOBS.model_copy(update={"min_diameter_px": 5000.0}))) == 0


def test_a_model_with_a_depth_map(scene, make_threshold):
    model = make_threshold(distance=True)
    settings = CentreSettings(device="cpu", depth=0.5)
    responses = finish(respond_steps(Micrograph(scene), settings, loaded=model))
    found = pick(responses, settings)
    assert places(found) == [[30, 40], [80, 45]]
    np.testing.assert_allclose(np.sort(found.diameter_px), [12, 30], rtol=0.06)
    assert found.sign.tolist() == [0, 0]
    assert len(pick(responses, settings.model_copy(update={"depth": 0.99}))) == 0
    assert len(pick(responses, settings.model_copy(update={"min_diameter_px": 20.0}))) == 1
    assert not responses.covers(settings.model_copy(update={"model": "superalloy"}))


def test_touching_objects_without_a_depth_map():
    classes = (disc((60, 90), 30, 30, 30) | disc((60, 90), 30, 55, 26)).astype(np.uint8)
    found = centres_from_model(classes)
    np.testing.assert_allclose(sorted(found.points_yx.tolist()), [[30, 29.5], [30, 55.5]], atol=1.5)
    np.testing.assert_allclose(np.sort(found.strength), [13, 15], atol=1)
    assert len(centres_from_model(classes, settings=CentreSettings(neck=0))) == 1
    other = classes.copy()
    other[:, 43:] *= 2
    assert len(centres_from_model(other, settings=CentreSettings(neck=0))) == 2


def test_a_centre_lies_in_its_object():
    ring = (disc((60, 60), 30, 30, 40) & ~disc((60, 60), 30, 30, 24)).astype(np.uint8)
    point = np.rint(centres_from_model(ring, settings=CentreSettings(neck=0)).points_yx).astype(int)
    assert len(point) == 1
    assert ring[tuple(point[0])]


def test_a_model_that_is_not_there(scene):
    with pytest.raises(ModelError, match="nowhere"):
        find_centres(scene, CentreSettings(model="nowhere", device="cpu"))


def test_a_model_is_the_default_and_says_what_it_does(scene, make_threshold):
    notes = [step.note for step in detect_steps(Micrograph(scene), loaded=make_threshold())]
    assert notes[0] == "loading the model"
    assert notes[-1] == "looking for centres"


def test_closing_cancels(scene):
    work = detect_steps(Micrograph(scene), BLOBS)
    next(work)
    work.close()


def test_a_file_is_read(tmp_path: Path, scene):
    import tifffile

    path = tmp_path / "scene.tif"
    tifffile.imwrite(path, scene)
    assert len(find_centres(path, BLOBS)) == 3
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "none.tif"))):
        find_centres(tmp_path / "none.tif", BLOBS)

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.objects import ObjectMask
from napari_matseg.core.progress import Progress, finish
from napari_matseg.core.prompts import Prompt, make_prompts
from napari_matseg.core.read import read
from napari_matseg.prompting import centre_steps, everything_in_steps, find_steps, prompt_steps, save_objects
from napari_matseg.settings import CentreSettings, EverythingSettings, PromptSettings


class DiscSession:
    """Stands for a session: every prompt is answered with a disc of radius 6 at its first point."""

    def __init__(self, **settings: object) -> None:
        self.settings = PromptSettings(**settings)
        self.planes: list[int] = []

    def describe_model(self) -> dict[str, str]:
        return {"name": "discs"}

    def set_image_steps(self, micrograph, plane=0):
        self.planes.append(plane)
        self.shape = micrograph.shape_yx
        yield Progress(1, 1)

    def predict_steps(self, prompts):
        yield Progress(0, 1)
        return [self.disc(prompt) for prompt in prompts]

    def disc(self, prompt: Prompt) -> ObjectMask:
        y, x = np.indices(self.shape)
        scores = 6.5 - np.hypot(y - prompt.points_yx[0, 0], x - prompt.points_yx[0, 1])
        return ObjectMask(prompt.id, 0, 0, scores.astype(np.float16), 0.9, 0.95, prompt.plane)


def prompts_at(*points: tuple[float, float], shape=(60, 80), **more):
    return make_prompts(np.array(points), shape_yx=shape, **more)


def test_object_i_comes_from_point_i():
    prompts, left = prompts_at((20, 20), (40, 60), (99, 1))
    result = finish(prompt_steps(np.zeros((60, 80), np.uint8), prompts, DiscSession(), left=left))
    assert result.labels.dtype == np.uint32
    assert result.labels[20, 20] == 1
    assert result.labels[40, 60] == 2
    assert [row["label"] for row in result.table] == [1, 2]
    assert [row["area_px"] for row in result.table] == [np.count_nonzero(result.labels == i) for i in (1, 2)]
    assert result.left[0].row == 3
    assert result.record["left_out"] == [str(result.left[0])]


def test_planes_of_a_stack_are_asked_one_by_one():
    prompts, _ = prompts_at((20, 20), (40, 60), planes=[0, 2], n_planes=3)
    session = DiscSession()
    stack = Micrograph(np.zeros((3, 60, 80), np.uint8), "ZYX")
    result = finish(prompt_steps(stack, prompts, session))
    assert session.planes == [0, 2]
    assert result.labels.shape == (3, 60, 80)
    assert result.labels[0, 20, 20] == 1
    assert result.labels[2, 40, 60] == 2
    assert not result.labels[1].any()
    assert [row["plane"] for row in result.table] == [0, 2]


def test_no_prompt_is_no_object():
    result = finish(prompt_steps(np.zeros((6, 8), np.uint8), (), DiscSession()))
    assert result.labels.shape == (6, 8)
    assert not result.labels.any()
    assert result.table == []


def test_overlaps_may_be_kept_apart():
    prompts, _ = prompts_at((20, 20), (20, 24))
    result = finish(prompt_steps(np.zeros((60, 80), np.uint8), prompts, DiscSession(overlaps="separate")))
    assert len(result.layers) == 2
    assert np.count_nonzero(result.layers[0]) == np.count_nonzero(result.layers[1])


def test_files_hold_what_came_out(tmp_path):
    micrograph = Micrograph(np.zeros((60, 80), np.uint8), pixel_size_nm=(2.0, 2.0))
    prompts, _ = prompts_at((20, 20), (40, 60))
    result = finish(prompt_steps(micrograph, prompts, DiscSession()))
    files = save_objects(result, micrograph, tmp_path / "new", "a")
    assert {path.name for path in files.values()} == {
        "a_labels.tif",
        "a_objects.csv",
        "a_overlay.png",
        "a_record.json",
    }
    np.testing.assert_array_equal(tifffile.imread(files["labels"]), result.labels)
    assert read(files["labels"]).pixel_size_nm == pytest.approx((2.0, 2.0))
    rows = list(csv.DictReader(files["objects"].read_text().splitlines()))
    assert [row["label"] for row in rows] == ["1", "2"]
    assert float(rows[0]["area_nm2"]) == 4 * float(rows[0]["area_px"])
    assert json.loads(files["record"].read_text())["model"] == {"name": "discs"}


def test_further_layers_are_files_of_their_own(tmp_path):
    prompts, _ = prompts_at((20, 20), (20, 24))
    micrograph = Micrograph(np.zeros((60, 80), np.uint8))
    result = finish(prompt_steps(micrograph, prompts, DiscSession(overlaps="separate")))
    files = save_objects(result, micrograph, tmp_path, "a")
    assert files["labels 2"] == tmp_path / "a_labels_2.tif"


def blobs() -> np.ndarray:
    y, x = np.indices((60, 80))
    image = np.full((60, 80), 20.0)
    for place in ((20, 20), (40, 60)):
        image[np.hypot(y - place[0], x - place[1]) < 6] = 200
    return ndimage.gaussian_filter(image, 1)


def test_found_centres_become_objects():
    stack = Micrograph(np.stack([blobs(), blobs()]).astype(np.uint8), "ZYX")
    how = CentreSettings(method="log", polarity="bright")
    table = finish(centre_steps(stack, how))
    assert table.planes is not None
    assert table.planes.tolist() == [0, 0, 1, 1]
    result = finish(find_steps(stack, how, DiscSession()))
    assert [row["plane"] for row in result.table] == [0, 0, 1, 1]
    assert {int(result.labels[0, 20, 20]), int(result.labels[0, 40, 60])} == {1, 2}
    assert {int(result.labels[1, 20, 20]), int(result.labels[1, 40, 60])} == {3, 4}
    assert result.record["centres"]["method"] == "log"


def test_everything_is_numbered_through_the_stack(monkeypatch):
    def everything(session, settings):
        yield Progress(0, 1)
        prompt = Prompt(1, np.array([[20.0, 20.0]]), np.array([True]))
        return [session.disc(prompt)], [prompt]

    monkeypatch.setattr("napari_matseg.prompting.everything_steps", everything)
    stack = Micrograph(np.zeros((2, 60, 80), np.uint8), "TYX")
    result = finish(everything_in_steps(stack, EverythingSettings(), DiscSession()))
    assert result.labels[:, 20, 20].tolist() == [1, 2]
    assert [row["plane"] for row in result.table] == [0, 1]


def test_closing_stops(tmp_path: Path):
    prompts, _ = prompts_at((20, 20))
    work = prompt_steps(np.zeros((60, 80), np.uint8), prompts, DiscSession())
    next(work)
    work.close()
    assert list(tmp_path.iterdir()) == []

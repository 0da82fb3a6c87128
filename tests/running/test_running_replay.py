from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_matseg.errors import InputError, SettingsError
from napari_matseg.running import replay
from napari_matseg.running.one_file import process
from napari_matseg.running.replay import with_device
from napari_matseg.running.states import Source
from napari_matseg.settings import Recipe


@pytest.fixture
def record(tiny_recipe: Recipe, write_image: Callable[..., Path], tmp_path: Path) -> Path:
    out = tmp_path / "out"
    out.mkdir()
    plain = tiny_recipe.model_dump()
    plain["segment"]["instances"], plain["clean"]["min_area_px"] = True, 3
    return process(Source(write_image("a.tif"), "sub/a"), Recipe.model_validate(plain), out).files["record"]


def edit(record: Path, **changes: object) -> None:
    record.write_text(json.dumps(json.loads(record.read_text()) | changes))


def test_the_same_comes_out(record, tmp_path):
    before = {path: path.read_bytes() for path in record.parent.iterdir()}
    found = replay(record, tmp_path / "again")
    assert (found.is_same, found.differing, found.differences) == (True, {}, ())
    assert found.outcome.files["labels"] == tmp_path / "again" / "a_labels.tif"
    assert {path: path.read_bytes() for path in record.parent.iterdir()} == before


def test_as_many_threads_as_then(record, tmp_path, monkeypatch):
    import torch

    seen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    then = json.loads(record.read_text())["machine"]["threads"]
    edit(record, machine=json.loads(record.read_text())["machine"] | {"threads": 3})
    replay(record, tmp_path / "again")
    assert seen == [3, then]


def test_tiles_as_they_were(tiny_recipe, write_image, tmp_path):
    plain = tiny_recipe.model_dump()
    plain["segment"] |= {"tiling": "blend", "tile": 64}
    out = tmp_path / "out"
    out.mkdir()
    source = Source(write_image("a.tif", shape=(150, 170)), "a")
    record = process(source, Recipe.model_validate(plain), out).files["record"]
    plain["segment"]["tile"] = None  # as where the memory decides
    edit(record, recipe=plain)
    found = replay(record, tmp_path / "again")
    assert found.is_same
    assert found.outcome.record["segmentation"]["planes"][0]["tiling"]["tiles"] > 1


def test_what_is_not_as_it_was_is_told(record, tmp_path, write_image):
    old = json.loads(record.read_text())
    write_image("a.tif", 1)
    edit(
        record,
        machine=old["machine"] | {"processor": "abacus", "gpu": "a large one"},
        versions=old["versions"] | {"numpy": "0.1", "gone": "2"},
        model=old["model"] | {"weights_sha256": "another", "refiner_sha256": "one"},
        python="2.7",
    )
    found = replay(record, tmp_path / "again")
    assert not found.is_same
    assert set(found.differing) == {"labels", "instances"}
    assert all(n is not None and n > 0 for n in found.differing.values())
    said = "\n".join(found.differences)
    for part in (
        "the input: its content is not what it was",
        "the model: tiny has other weights than tiny had",
        "the model: tiny has another refiner than tiny had",
        "Python: 2.7 then, 3.",
        f"numpy: 0.1 then, {np.__version__} now",
        "gone: 2 then, none now",
        "processor: abacus then,",
        "gpu: a large one then, none now",
    ):
        assert part in said


def test_without_the_old_labels_their_hash_is_left(record, tmp_path, write_image):
    (record.parent / "a_labels.tif").unlink()
    assert replay(record, tmp_path / "again").is_same
    write_image("a.tif", 1)
    assert replay(record, tmp_path / "once more").differing["labels"] is None


def test_an_image_that_moved(record, tmp_path):
    image = Path(json.loads(record.read_text())["image"]["path"])
    moved = image.rename(image.with_name("moved.tif"))
    with pytest.raises(InputError, match="there is no such file"):
        replay(record, tmp_path / "again")
    assert replay(record, tmp_path / "again", moved).is_same


def test_no_replay_over_outputs(record, tmp_path):
    with pytest.raises(SettingsError, match="has outputs of a already; choose another folder"):
        replay(record, record.parent)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read .*; name a record"),
        ("{", "is no JSON or is damaged"),
        ('{"job": "segment"}', "is no record of a run"),
        ("[]", "is no record of a run"),
    ],
)
def test_what_is_no_record(tmp_path, content, message):
    path = tmp_path / "a_record.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        replay(path, tmp_path / "again")


def test_a_recipe_that_is_not_known_any_more(record, tmp_path):
    edit(record, recipe={"segment": {"moddel": "x"}})
    with pytest.raises(InputError, match=r"its recipe cannot be used .*another version"):
        replay(record, tmp_path / "again")


def test_another_device(tiny_recipe):
    assert with_device(tiny_recipe, None) is tiny_recipe
    assert with_device(tiny_recipe, "cuda:1").segment.device == "cuda:1"
    prompts = with_device(Recipe.model_validate({"prompt": {}}), "cpu").prompt
    assert (prompts.prompt.device, prompts.centres.device) == ("cpu", "cpu")
    with pytest.raises(SettingsError):
        with_device(tiny_recipe, "abacus")

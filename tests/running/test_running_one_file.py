from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from napari_matseg.core.label_files import read_labels_info
from napari_matseg.core.progress import finish
from napari_matseg.core.provenance import hash_file
from napari_matseg.core.read import read
from napari_matseg.errors import OutputError
from napari_matseg.pipeline import segment
from napari_matseg.running import one_file
from napari_matseg.running.commit import claim, committed
from napari_matseg.running.one_file import attempt, attempt_steps, process, process_steps
from napari_matseg.running.outputs import hash_pixels
from napari_matseg.running.states import Outcome, Source
from napari_matseg.settings import Recipe


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def change(recipe: Recipe, **parts: Any) -> Recipe:
    """Change parts of a recipe, of which dictionaries are merged."""
    plain = recipe.model_dump()
    for name, part in parts.items():
        plain[name] = {**(plain[name] or {}), **part} if isinstance(part, dict) else part
    return Recipe.model_validate(plain)


def pixels(outcome: Outcome, what: str = "labels") -> np.ndarray:
    return np.asarray(read(outcome.files[what], find_bar=False).pixels)


def done(outcome: Outcome) -> Outcome:
    assert outcome.state == "done", outcome.reason
    return outcome


def test_all_outputs(tiny_recipe, write_image, out):
    path = write_image("a.tif")
    outcome = done(process(Source(path, "sub/a"), tiny_recipe, out))
    names = {what: file.relative_to(out).as_posix() for what, file in outcome.files.items()}
    assert names == {
        "labels": "sub/a_labels.tif",
        "overlay": "sub/a_overlay.png",
        "thumbnail": "sub/a_thumbnail.jpg",
        "objects": "sub/a_objects.csv",
        "record": "sub/a_record.json",
    }
    expected = segment(path, tiny_recipe.segment)
    np.testing.assert_array_equal(pixels(outcome), expected.classes)
    assert read_labels_info(outcome.files["labels"])[0] == expected.specs
    with Image.open(outcome.files["overlay"]) as overlay:
        assert overlay.width == 48
    record = json.loads(outcome.files["record"].read_text())
    assert record == outcome.record == committed(out, "sub/a")
    assert (record["format"], record["job"], record["image"]["sha256"]) == (1, "run", hash_file(path))
    assert record["image"]["path"] == str(path)
    assert Recipe.model_validate(record["recipe"]) == tiny_recipe
    assert record["fractions"] == expected.record["fractions"]
    assert record["pixels"] == expected.record["pixels"]
    assert record["pixels_sha256"]["labels"] == hash_pixels(expected.classes)
    assert record["model"]["weights_sha256"]
    assert record["machine"]["threads"] >= 1
    assert set(record["seconds"]) == {"read", "find", "measure", "write", "all"}
    table = pd.read_csv(outcome.files["objects"])
    assert len(table) == record["objects"]["n"] == record["fields"][0]["objects"]
    assert "file" not in table.columns
    assert pickle.loads(pickle.dumps(outcome)) == outcome  # noqa: S301 - as a pool sends it


@pytest.mark.parametrize(
    ("shape", "dtype", "more"),
    [
        ((3, 40, 48), "uint8", {"metadata": {"axes": "ZYX"}}),
        ((40, 48), "uint16", {}),
        ((40, 48, 3), "uint8", {"photometric": "rgb"}),
        ((2, 40, 48, 3), "uint8", {"photometric": "rgb", "metadata": {"axes": "TYXS"}}),
    ],
)
def test_stacks_colour_and_depth(tiny_recipe, write_image, out, shape, dtype, more):
    path = write_image("a.tif", shape=shape, dtype=dtype, **more)
    recipe = change(
        tiny_recipe,
        segment={"instances": True},
        outputs={"probabilities": True, "tables": ("csv", "parquet")},
        clean={"min_area_px": 4},
    )
    outcome = done(process(Source(path, "a"), recipe, out))
    labels, instances = pixels(outcome), pixels(outcome, "instances")
    assert labels.shape == instances.shape == read(path).pixels.shape[: labels.ndim]
    np.testing.assert_array_equal(instances > 0, labels > 0)
    expected = segment(path, recipe.segment, probabilities=True)
    np.testing.assert_array_equal(pixels(outcome, "uncleaned_labels"), expected.classes)
    np.testing.assert_array_equal(pixels(outcome, "uncleaned_instances"), expected.instances)
    assert (labels > 0).sum() < (expected.classes > 0).sum()
    np.testing.assert_array_equal(pixels(outcome, "probabilities").ravel(), expected.probabilities.ravel())
    assert outcome.files["objects parquet"].name == "a_objects.parquet"
    table = pd.read_parquet(outcome.files["objects parquet"])
    assert table["area_px"].min() >= 4
    for plane, of_plane in table.groupby("plane"):
        ids = instances.reshape(-1, 40, 48)[plane]
        assert of_plane["label"].tolist() == np.unique(ids[ids > 0]).tolist()
    counts = np.bincount(labels.ravel(), minlength=3)
    assert list(outcome.record["pixels"].values()) == counts.tolist()


def test_a_channel_and_a_pixel_size(tiny_recipe, write_image, out):
    path = write_image("a.tif", shape=(40, 48, 3), photometric="rgb")
    recipe = change(tiny_recipe, read={"channel": "green", "pixel_size_nm": (2.0, 3.0)})
    outcome = done(process(Source(path, "a"), recipe, out))
    np.testing.assert_array_equal(pixels(outcome), segment(tifffile.imread(path)[..., 1], recipe.segment).classes)
    assert read(outcome.files["labels"], find_bar=False).pixel_size_nm == (2.0, 3.0)
    assert "area_nm2" in pd.read_csv(outcome.files["objects"]).columns


def test_a_pixel_size_that_the_file_states_holds(tiny_recipe, write_image, out):
    path = write_image("a.tif", resolution=(1e7, 1e7), resolutionunit="CENTIMETER")
    recipe = change(tiny_recipe, read={"pixel_size_nm": (2.0, 3.0)})
    assert done(process(Source(path, "a"), recipe, out)).record["image"]["pixel_size_nm"] == [1.0, 1.0]


def test_the_same_is_kept(tiny_recipe, write_image, out, networks):
    source = Source(write_image("a.tif"), "a")
    first = done(process(source, tiny_recipe, out))
    before = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.is_file()}
    outcome = process(source, change(tiny_recipe, name="other", segment={"device": "auto"}), out)
    assert (outcome.state, outcome.reason) == ("kept", None)
    assert (outcome.files, outcome.record) == (first.files, first.record)
    assert networks == ["a.tif"]
    assert {path: path.stat().st_mtime_ns for path in out.iterdir() if path.is_file()} == before


CHANGES: list[tuple[dict[str, Any], bool]] = [
    ({"measure": {"min_area_px": 3}}, False),
    ({"measure": None}, False),
    ({"clean": {"min_area_px": 6}}, False),
    ({"outputs": {"tables": ("parquet",)}}, False),
    ({"outputs": {"overlay": False}}, False),
    ({"outputs": {"labels": "zarr"}}, False),
    ({"read": {"pixel_size_nm": (2.0, 2.0)}}, False),
    ({"outputs": {"probabilities": True}}, True),
    ({"segment": {"instances": True}}, True),
    ({"segment": {"tiling": "whole"}}, True),
]


@pytest.mark.parametrize(("parts", "network"), CHANGES)
def test_a_change_of_the_recipe_redoes_what_it_touches(tiny_recipe, write_image, out, networks, parts, network):
    source = Source(write_image("a.tif"), "a")
    before = done(process(source, tiny_recipe, out))
    labels = before.files["labels"].stat().st_mtime_ns
    wanted = change(tiny_recipe, **parts)
    outcome = done(process(source, wanted, out))
    assert networks == ["a.tif"] * (2 if network else 1)
    fresh = out.with_name("fresh")
    fresh.mkdir()
    expected = done(process(source, wanted, fresh))
    assert {file.name for file in outcome.files.values()} == {file.name for file in expected.files.values()}
    assert {path.name for path in out.iterdir()} == {path.name for path in fresh.iterdir()}
    np.testing.assert_array_equal(pixels(outcome), pixels(expected))
    for what in ("keys", "fractions", "pixels", "pixels_sha256", "image", "recipe"):
        assert outcome.record[what] == expected.record[what]
    assert outcome.record.get("objects") == expected.record.get("objects")
    if set(parts) <= {"measure"}:
        assert outcome.files["labels"].stat().st_mtime_ns == labels
    assert process(source, wanted, out).state == "kept"


def test_cleaned_labels_are_cleaned_anew_from_what_the_network_gave(tiny_recipe, write_image, out, networks):
    source = Source(write_image("a.tif"), "a")
    plain = done(process(source, tiny_recipe, out))
    expected = pixels(plain)
    process(source, change(tiny_recipe, clean={"min_area_px": 20}), out)
    outcome = done(process(source, change(tiny_recipe, clean={"min_area_px": 0}), out))
    np.testing.assert_array_equal(pixels(outcome), expected)
    assert networks == ["a.tif"]
    assert not list(out.glob("*uncleaned*"))


def test_probabilities_stay_while_something_else_changes(tiny_recipe, write_image, out, networks):
    source = Source(write_image("a.tif"), "a")
    recipe = change(tiny_recipe, outputs={"probabilities": True})
    before = done(process(source, recipe, out))
    content = before.files["probabilities"].read_bytes()
    outcome = done(process(source, change(recipe, clean={"min_area_px": 5}), out))
    assert outcome.files["probabilities"].read_bytes() == content
    assert networks == ["a.tif"]


def test_a_changed_input_is_noticed(tiny_recipe, write_image, out, networks):
    source = Source(write_image("a.tif", 0), "a")
    first = done(process(source, tiny_recipe, out))
    write_image("a.tif", 1)
    second = done(process(source, tiny_recipe, out))
    assert networks == ["a.tif", "a.tif"]
    assert first.record["image"]["sha256"] != second.record["image"]["sha256"]
    source.path.touch()  # the same content
    assert process(source, tiny_recipe, out).state == "kept"


def test_a_changed_model_is_noticed(tiny_recipe, tiny_file, make_model, write_image, out, networks, tmp_path):
    from napari_matseg.core.checkpoints import save_model

    model = tmp_path / "model.safetensors"
    shutil.copy(tiny_file, model)
    source = Source(write_image("a.tif"), "a")
    recipe = change(tiny_recipe, segment={"model": str(model)})
    process(source, tiny_recipe, out)
    assert process(source, recipe, out).state == "kept"  # it is the same in another place
    made = make_model()
    save_model(model, made.network, made.card.model_copy(update={"description": "another"}))
    done(process(source, recipe, out))
    assert len(networks) == 2


@pytest.mark.parametrize("what", ["labels", "objects", "overlay", "record"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"x")])
def test_what_is_missing_or_damaged_is_made_again(tiny_recipe, write_image, out, networks, what, damage):
    source = Source(write_image("a.tif"), "a")
    before = done(process(source, tiny_recipe, out))
    content = pixels(before)
    damage(before.files[what])
    outcome = done(process(source, tiny_recipe, out))
    np.testing.assert_array_equal(pixels(outcome), content)
    assert process(source, tiny_recipe, out).state == "kept"


def test_labels_that_were_changed_by_hand_are_not_measured(tiny_recipe, write_image, out, networks):
    source = Source(write_image("a.tif"), "a")
    before = done(process(source, tiny_recipe, out))
    content = bytearray(before.files["labels"].read_bytes())
    content[-1] ^= 1
    before.files["labels"].write_bytes(content)
    done(process(source, change(tiny_recipe, measure={"min_area_px": 2}), out))
    assert len(networks) == 2


def test_an_input_that_changes_while_it_is_read(tiny_recipe, write_image, out, monkeypatch):
    source = Source(write_image("a.tif"), "a")
    real = one_file.read_input

    def replaced(path: Path, settings: Any) -> Any:
        micrograph = real(path, settings)
        write_image("a.tif", 1)
        return micrograph

    monkeypatch.setattr(one_file, "read_input", replaced)
    outcome = process(source, tiny_recipe, out)
    assert outcome.state == "failed"
    assert str(outcome.reason).startswith(f"{source.path}: changed or went away while it was worked on; run it again")
    assert committed(out, "a") is None


def test_an_input_that_changes_while_the_network_works(tiny_recipe, write_image, out):
    source = Source(write_image("a.tif"), "a")
    with closing(attempt_steps(source, tiny_recipe, out)) as work:
        while next(work).note != "segmenting":
            pass
        source.path.unlink()
        assert "changed or went away" in str(finish(work).reason)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("our\nown"), "met an error that should not be (ValueError: our own); please report it with a_f"),
        (MemoryError(), "does not fit into the memory"),
        (OSError(5, "Input/output error"), "could not be worked on (OSError: [Errno 5] Input/output error); check the"),
    ],
)
def test_an_error_is_told_and_not_raised(tiny_recipe, write_image, out, monkeypatch, error, reason):
    def fails(*_: object) -> None:
        raise error

    source = Source(write_image("a.tif"), "sub/a")
    monkeypatch.setattr(one_file, "clean_in_steps", fails)
    outcome = process(source, tiny_recipe, out)
    assert outcome.state == "failed"
    assert str(outcome.reason).startswith(f"{source.path}: {reason}")
    note = (out / "sub" / "a_failed.txt").read_text()
    assert note.splitlines()[0] == outcome.reason
    assert "Traceback" in note
    assert [path.name for path in (out / "sub").iterdir()] == ["a_failed.txt"]
    monkeypatch.undo()
    done(process(source, tiny_recipe, out))
    assert not (out / "sub" / "a_failed.txt").exists()


def test_a_user_s_mistake_has_no_traceback(tiny_recipe, tmp_path, out):
    bad = tmp_path / "bad.tif"
    bad.write_text("no image")
    outcome = process(Source(bad, "bad"), tiny_recipe, out)
    assert outcome.reason == f"{bad}: is not an image that can be read; convert it to TIFF, PNG, JPEG or BMP."
    assert "Traceback" not in (out / "bad_failed.txt").read_text()


def test_what_failed_is_not_tried_again_unless_asked_or_changed(tiny_recipe, tmp_path, out):
    bad = tmp_path / "bad.tif"
    bad.write_text("no image")
    source = Source(bad, "bad")
    first = attempt(source, tiny_recipe, out, retry_failed=False)
    before = (out / "bad_failed.txt").stat().st_mtime_ns
    assert attempt(source, tiny_recipe, out, retry_failed=False).reason == first.reason
    assert (out / "bad_failed.txt").stat().st_mtime_ns == before
    attempt(source, tiny_recipe, out)
    assert (out / "bad_failed.txt").stat().st_mtime_ns > before
    tifffile.imwrite(bad, np.zeros((40, 48), np.uint8))
    done(attempt(source, tiny_recipe, out, retry_failed=False))


def test_another_run_at_work(tiny_recipe, write_image, out):
    source = Source(write_image("a.tif"), "a")
    with claim(out, "a") as ours:
        assert ours
        assert attempt(source, tiny_recipe, out) is None
        work = process_steps(source, tiny_recipe, out)
        assert next(work).note == "waiting for another run"
    done(finish(work))


@pytest.mark.parametrize("at", ["reading", "segmenting", "measuring", "writing"])
def test_cancelling_leaves_nothing(tiny_recipe, write_image, out, at):
    work = attempt_steps(Source(write_image("a.tif"), "a"), tiny_recipe, out)
    while next(work).note != at:
        pass
    work.close()
    assert [path.name for path in out.rglob("*") if path.is_file()] == []


def test_interrupting_goes_through(tiny_recipe, write_image, out, monkeypatch):
    def interrupts(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(one_file, "write_outputs", interrupts)
    with pytest.raises(KeyboardInterrupt):
        process(Source(write_image("a.tif"), "a"), tiny_recipe, out)
    assert [path.name for path in out.rglob("*") if path.is_file()] == []


def test_progress_rises_to_the_end(tiny_recipe, write_image, out):
    steps = list(attempt_steps(Source(write_image("a.tif"), "a"), tiny_recipe, out))
    shares = [step.done / step.total for step in steps]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.1 < 0.9 < shares[-1] <= 1


def test_the_input_stays_as_it_is(tiny_recipe, write_image, out):
    path = write_image("a.tif")
    path.chmod(0o444)
    before = (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode)
    done(process(Source(path, "a"), tiny_recipe, out))
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode) == before
    assert [one.name for one in path.parent.iterdir()] == ["a.tif"]


def test_a_full_disk_is_told(tiny_recipe, write_image, out, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OutputError("a: cannot be written, since the disk is full; free some space and run it again.")

    monkeypatch.setattr("napari_matseg.running.outputs.write_labels", full)
    outcome = process(Source(write_image("a.tif"), "a"), tiny_recipe, out)
    assert "disk is full" in str(outcome.reason)
    assert committed(out, "a") is None


@pytest.fixture
def points(write_image: Callable[..., Path]) -> Path:
    path = write_image("a.tif", shape=(64, 64))
    path.with_name("a_points.csv").write_text("y,x\n20,20\n40,40\n")
    return path


def test_points_beside_the_image(points, out, networks):
    recipe = Recipe.model_validate(
        {"prompt": {"find": "points", "prompt": {"cache_gb": 0, "device": "cpu"}}, "clean": {"min_area_px": 1}}
    )
    source = Source(points, "a")
    outcome = done(process(source, recipe, out))
    table = pd.read_csv(outcome.files["objects"])
    assert set(table["label"]) <= {1, 2}
    assert {"predicted_iou", "stability", "flagged", "prompts", "diameter_px"} <= set(table.columns)
    labels = pixels(outcome)
    assert table["label"].tolist() == np.unique(labels[labels > 0]).tolist()
    assert outcome.record["objects"]["n"] == len(table)
    assert "fractions" not in outcome.record
    assert process(source, recipe, out).state == "kept"
    again = done(process(source, change(recipe, clean={"min_area_px": 0}), out))
    assert networks == ["a.tif"]
    assert {"predicted_iou", "prompts"} <= set(pd.read_csv(again.files["objects"]).columns)
    points.with_name("a_points.csv").write_text("y,x\n20,20\n")
    done(process(source, recipe, out))
    assert networks == ["a.tif", "a.tif"]
    points.with_name("a_points.csv").unlink()
    assert "a_points.csv: there is no such file" in str(process(source, recipe, out).reason)


def test_centres(tiny_file, write_image, out):
    recipe = Recipe.model_validate(
        {
            "prompt": {
                "centres": {"model": str(tiny_file), "device": "cpu", "min_diameter_px": 12},
                "prompt": {"cache_gb": 0, "device": "cpu"},
            },
            "measure": None,
        }
    )
    outcome = done(process(Source(write_image("a.tif", shape=(64, 64)), "a"), recipe, out))
    assert "objects" not in outcome.files
    assert outcome.record["segmentation"]["job"] == "find"
    assert outcome.record["objects"]["n"] == len(outcome.record["prompted"])


def test_a_large_micrograph_is_cleaned_and_measured_from_its_files(tiny_recipe, write_image, out, monkeypatch):
    source = Source(write_image("a.tif"), "a")
    how = {"clean": {"min_area_px": 4, "fill_holes_px": 6, "exclude_edge": True}, "outputs": {"labels": "zarr"}}
    recipe = change(tiny_recipe, segment={"instances": True}, **how)
    inside = done(process(source, recipe, out))
    (out / "large").mkdir()

    def load(*_: object) -> None:
        raise AssertionError("labels in files are not to be cleaned in memory")

    monkeypatch.setattr("napari_matseg.running.work.clean_classes", load)
    monkeypatch.setattr("napari_matseg.core.measure.runs.BAND", 500)
    large = done(process(source, change(recipe, segment={"large_px": 1}), out / "large"))
    for what in ("labels", "instances", "uncleaned_labels", "uncleaned_instances"):
        np.testing.assert_array_equal(pixels(large, what), pixels(inside, what))
    tables = [pd.read_csv(outcome.files["objects"]) for outcome in (inside, large)]
    pd.testing.assert_frame_equal(*tables)
    for key in ("pixels", "fields", "objects"):
        assert large.record[key] == inside.record[key]
    assert not list(out.rglob(".large-*"))

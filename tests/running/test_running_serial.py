from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import napari_matseg
from napari_matseg.core.progress import finish
from napari_matseg.errors import InputError, ModelError, OutputError, SettingsError
from napari_matseg.running import one_file, run, run_steps, serial
from napari_matseg.running.commit import claim
from napari_matseg.running.inputs import find_inputs
from napari_matseg.running.states import RunProgress, Source, Summary
from napari_matseg.settings import Recipe


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def sources(write_image: Callable[..., Path], tmp_path: Path, out: Path) -> list[Source]:
    """Three micrographs and, between them, a file that is none."""
    for seed, name in enumerate(("a.tif", "b.tif", "d.tif")):
        write_image(name, seed)
    (tmp_path / "in" / "c.tif").write_text("no image")
    return find_inputs([tmp_path / "in"], out)[0]


def states(summary: Summary) -> list[str]:
    return [outcome.state for outcome in summary.outcomes]


def test_one_bad_file_stops_nothing(tiny_recipe, sources, out):
    steps: list[RunProgress] = []
    work = run_steps(tiny_recipe, sources, out)
    while True:
        try:
            steps.append(next(work))
        except StopIteration as stop:
            summary: Summary = stop.value
            break
    assert [outcome.source.name for outcome in summary.outcomes] == ["a", "b", "c", "d"]
    assert states(summary) == ["done", "done", "failed", "done"]
    assert (summary.done, summary.kept, summary.failed) == (3, 0, 1)
    assert "is not an image" in str(summary.outcomes[2].reason)
    assert {"index", "summary", "images"} <= set(summary.files)
    ended = [step for step in steps if step.outcome is not None]
    assert [(step.source.name, step.state, step.done) for step in ended] == [
        ("a", "done", 1),
        ("b", "done", 2),
        ("c", "failed", 3),
        ("d", "done", 4),
    ]
    assert {step.total for step in steps} == {4}
    of_d = [step for step in steps if step.source is not None and step.source.name == "d" and step.state == "working"]
    assert [step.share for step in of_d] == sorted(step.share for step in of_d)
    assert all(step.seconds_left is not None and step.seconds_left >= 0 for step in of_d[1:])
    assert all(step.file_seconds_left is not None for step in of_d[1:])
    assert ended[-1].seconds_left == 0


def test_the_model_is_loaded_once_and_let_go(tiny_recipe, sources, out, monkeypatch):
    from napari_matseg.running import models

    loaded = []
    real = models.load_model
    monkeypatch.setattr(models, "load_model", lambda *given: loaded.append(given) or real(*given))
    finish(run_steps(tiny_recipe, sources, out))
    assert len(loaded) == 1
    assert models._load.cache_info().currsize == 0


def test_the_next_file_is_read_while_the_network_works(tiny_recipe, sources, out, monkeypatch):
    read = threading.Event()
    real_read, real_find = one_file.read_input, one_file.find_in_steps
    overlaps: list[bool] = []

    def reading(path, *given):
        if path.name == "b.tif":
            read.set()
        return real_read(path, *given)

    def finding(micrograph, path, *given):
        if path.name == "a.tif":
            overlaps.append(read.wait(10))
        return real_find(micrograph, path, *given)

    monkeypatch.setattr(one_file, "read_input", reading)
    monkeypatch.setattr(one_file, "find_in_steps", finding)
    finish(run_steps(tiny_recipe, sources[:2], out))
    assert overlaps == [True]


def test_no_more_than_one_file_is_read_ahead(tiny_recipe, sources, out, monkeypatch):
    order: list[str] = []
    real = serial.prepare
    monkeypatch.setattr(serial, "prepare", lambda source, *given: order.append(source.name) or real(source, *given))
    for step in run_steps(tiny_recipe, sources, out):
        if step.source is not None and step.source.name == "a" and step.note.endswith("writing"):
            assert set(order) <= {"a", "b"}


def test_a_run_that_was_broken_off_goes_on(tiny_recipe, sources, out, networks):
    with closing(run_steps(tiny_recipe, sources, out)) as work:
        for step in work:
            if step.source is not None and step.source.name == "b" and step.share > 0.5:
                break
    assert networks == ["a.tif", "b.tif"]
    assert not (out / "b_record.json").exists()
    assert not [path for path in out.rglob("*") if path.is_file() and path.suffix in (".tmp", ".claim")]
    assert states(finish(run_steps(tiny_recipe, sources, out))) == ["kept", "done", "failed", "done"]
    assert networks == ["a.tif", "b.tif", "b.tif", "d.tif"]
    assert states(finish(run_steps(tiny_recipe, sources, out))) == ["kept", "kept", "failed", "kept"]
    assert states(finish(run_steps(tiny_recipe, sources, out, retry_failed=False))) == [
        "kept",
        "kept",
        "failed",
        "kept",
    ]


def test_the_same_labels_each_time(tiny_recipe, sources, out, tmp_path):
    first = finish(run_steps(tiny_recipe, sources, out))
    second = finish(run_steps(tiny_recipe, sources, tmp_path / "other"))
    for one, other in zip(first.outcomes, second.outcomes, strict=True):
        assert one.record.get("pixels_sha256") == other.record.get("pixels_sha256")


def test_pausing(tiny_recipe, sources, out, monkeypatch):
    monkeypatch.setattr(serial, "PAUSE", 0.01)
    pause = threading.Event()
    work = run_steps(tiny_recipe, sources, out, pause=pause)
    while next(work).share < 0.1:
        pass
    pause.set()
    held = [next(work) for _ in range(3)]
    assert [step.note for step in held] == ["paused"] * 3
    assert held[0].source is not None
    assert held[0].source.name == "a"
    pause.clear()
    assert finish(work).done == 3


def test_two_runs_share_the_work(tiny_recipe, sources, out, monkeypatch):
    monkeypatch.setattr(serial, "PAUSE", 0.01)
    out.mkdir()
    taken = claim(out, "a")
    assert taken.__enter__()
    work = run_steps(tiny_recipe, sources, out)
    seen: list[str] = []
    for step in work:
        if step.source is not None and step.source.name == "a" and step.state == "waiting":
            seen.append("a waits")
        if step.outcome is not None:
            seen.append(step.outcome.source.name)
            if seen[-1] == "d":
                taken.__exit__(None, None, None)
    assert seen[:4] == ["a waits", "b", "c", "d"]
    assert seen[-1] == "a"


def test_what_cannot_be_run_is_said_at_once(tiny_recipe, tiny_file, sources, out, tmp_path):
    wrong = {"model": {"model": "gone"}, "device": {"model": str(tiny_file), "device": "cuda:99"}}
    for what, error in (("model", ModelError), ("device", SettingsError)):
        with pytest.raises(error):
            finish(run_steps(Recipe.model_validate({"segment": wrong[what]}), sources, out))
    assert [path.name for path in out.rglob("*") if path.is_file()] == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        finish(run_steps(tiny_recipe, sources, tmp_path / "file"))


def test_a_folder_that_may_not_be_written_to(tiny_recipe, sources, out, monkeypatch):
    out.mkdir()
    monkeypatch.setattr("os.access", lambda *_: False)  # the user that tests may be one who may all
    with pytest.raises(OutputError, match="may not be written to; choose another folder"):
        finish(run_steps(tiny_recipe, sources, out))


def test_no_files_at_all(tiny_recipe, out):
    summary = finish(run_steps(tiny_recipe, [], out))
    assert summary.outcomes == ()
    assert summary.files["index"].exists()


def test_run_takes_paths(tiny_recipe, write_image, out, tmp_path):
    write_image("one/a.tif")
    write_image("two/a.tif", 1)
    recipe = tmp_path / "recipe.yaml"
    napari_matseg.write_recipe(tiny_recipe, recipe)
    work = run(recipe, [tmp_path / "in" / "one", tmp_path / "in" / "two"], str(out))
    outcomes = []
    while True:
        try:
            outcomes.append(next(work))
        except StopIteration as stop:
            summary = stop.value
            break
    assert tuple(outcomes) == summary.outcomes
    assert len({outcome.source.name for outcome in outcomes}) == 2
    assert {outcome.state for outcome in napari_matseg.run(tiny_recipe, str(tmp_path / "in"), out)} == {"kept"}
    with pytest.raises(InputError):
        next(run(tiny_recipe, tmp_path / "gone", out))


def test_closing_run_ends_it(tiny_recipe, sources, out):
    work = run(tiny_recipe, sources[0].path.parent, out)
    next(work)
    work.close()
    assert not (out / "index.html").exists()

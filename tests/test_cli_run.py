from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_matseg.running.states import RunProgress, Source, Summary

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def recipe(tiny_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(f"format: 1\nsegment: {{model: {tiny_file}, device: cpu}}\n")
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for seed, name in enumerate(("a.tif", "b.tif")):
        values = np.random.default_rng(seed).integers(0, 255, (40, 48), dtype=np.uint8)
        tifffile.imwrite(folder / name, values, photometric="minisblack")
    return folder


def test_all_is_well_and_goes_on(run: Run, recipe: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("run", recipe, images, "-o", out) == (
        0,
        f"2 done, 0 kept from before, 0 failed: {out / 'index.html'}\n",
        "",
    )
    (out / "b_labels.tif").unlink()
    assert run("run", recipe, images, "-o", out)[1].startswith("1 done, 1 kept from before, 0 failed")


def test_some_failed(run: Run, recipe: Path, images: Path, tmp_path: Path) -> None:
    (images / "bad.tif").write_text("no image")
    status, out, err = run("run", recipe, images, "-o", tmp_path / "out")
    assert status == 1
    assert out.startswith("2 done, 0 kept from before, 1 failed")
    assert err == (
        f"failed: {images / 'bad.tif'}: is not an image that can be read; convert it to TIFF, PNG, JPEG or BMP.\n"
    )
    status, out, _ = run("run", recipe, images, "-o", tmp_path / "out", "--no-retry-failed", "--json")
    found = json.loads(out)
    assert (status, found["done"], found["kept"], list(found["failed"])) == (1, 0, 2, ["bad"])
    assert Path(found["files"]["index"]).exists()


def test_many_that_failed_are_not_all_listed(run: Run, recipe: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"gone{i}.tif\n" for i in range(25)))
    status, out, err = run("run", recipe, listed, "-o", tmp_path / "out")
    assert (status, len(err.splitlines())) == (1, 21)
    assert err.splitlines()[-1] == "and 5 more that failed; the index lists them all."
    assert out.startswith("0 done, 0 kept from before, 25 failed")


@pytest.mark.parametrize(
    ("content", "more", "message"),
    [
        ("format: 1\nsegment: {model: gone}\n", (), "no such model or file"),
        ("format: 1\nsegmnet: {}\n", (), "segmnet"),
        ("format: 1\nsegment: {}\n", ("--device", "abacus"), "device"),
        ("format: 1\nsegment: {}\n", ("--workers", "0"), "workers"),
    ],
)
def test_a_user_s_mistake(run: Run, images: Path, tmp_path: Path, content: str, more: tuple[str, ...], message: str):
    recipe = tmp_path / "wrong.yaml"
    recipe.write_text(content)
    status, out, err = run("run", recipe, images, "-o", tmp_path / "out", *more)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert message in err


def test_what_is_not_there(run: Run, recipe: Path, tmp_path: Path) -> None:
    status, _, err = run("run", recipe, tmp_path / "gone", "-o", tmp_path / "out")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "gone" in err


def test_interrupting(run: Run, recipe: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupts(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_matseg.running.one_file.write_outputs", interrupts)
    status, out, err = run("run", recipe, images, "-o", tmp_path / "out")
    assert (status, out, err) == (130, "", "stopped.\n")
    monkeypatch.undo()
    assert run("run", recipe, images, "-o", tmp_path / "out")[0] == 0


def test_the_device_of_the_recipe_may_be_another(run: Run, images: Path, tiny_file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"format: 1\nsegment: {{model: {tiny_file}, device: 'cuda:99'}}\n")
    assert run("run", recipe, images, "-o", tmp_path / "out")[0] == 2
    assert run("run", recipe, images, "-o", tmp_path / "out", "--device", "cpu")[0] == 0


def test_workers_share_the_cores(
    run: Run, recipe: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    begun: list[int] = []

    def start(number: int) -> ThreadPoolExecutor:  # for processes take seconds to begin
        begun.append(number)
        return ThreadPoolExecutor(number)

    monkeypatch.setattr("napari_matseg.running.workers.Workers", start)
    assert run("run", recipe, images, "-o", tmp_path / "out", "--workers", "2")[0] == 0
    assert begun == [2]


def test_replay(run: Run, recipe: Path, images: Path, tmp_path: Path) -> None:
    run("run", recipe, images, "-o", tmp_path / "out")
    record = tmp_path / "out" / "a_record.json"
    assert run("replay", record, "-o", tmp_path / "again") == (0, "The labels are the same, bit for bit.\n", "")
    status, out, _ = run("replay", record, "-o", tmp_path / "other", "--image", images / "b.tif", "--json")
    found = json.loads(out)
    assert (status, found["same"]) == (1, False)
    assert found["differing_pixels"]["labels"] > 0
    status, out, _ = run("replay", record, "-o", tmp_path / "third", "--image", images / "b.tif")
    assert status == 1
    assert out.splitlines()[1:] == [
        "not as it was: the input: its content is not what it was",
        "The labels are not the same.",
    ]
    assert run("replay", record, "-o", tmp_path / "out")[0] == 2


def test_the_time_left_is_told() -> None:
    from napari_matseg.cli_run import _with_time_left

    def work():  # type: ignore[no-untyped-def]
        yield RunProgress(0, 2, "a: segmenting", Source(Path("a"), "a"), "working", 0.5, 600.0)
        yield RunProgress(0, 2, "b: reading", seconds_left=None)
        return Summary(())

    assert [step.note for step in _with_time_left(work())] == ["a: segmenting, 10 min left", "b: reading"]

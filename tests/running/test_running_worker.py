from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest

from napari_matseg.running import worker
from napari_matseg.running.keys import model_hash
from napari_matseg.running.worker import (
    Needs,
    describe_versions,
    find_fault,
    list_gpus,
    mark_folder,
    needs_of_task,
    take_gpu,
    use_threads,
)
from napari_matseg.settings import PromptStep, Recipe, SegmentSettings


@pytest.fixture(autouse=True)
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[IO[bytes]]]:
    """Locks that no other process on this machine has."""
    files: list[IO[bytes]] = []
    monkeypatch.setattr(worker.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(worker, "_slots", [])
    for name in worker.JOB_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield files
    for file in (*files, *worker._slots):
        file.close()


def take_as_another_process(monkeypatch: pytest.MonkeyPatch, visible: str, held: list[IO[bytes]]) -> str | None:
    """A lock holds against another opening of the file as against another process."""
    monkeypatch.setattr(worker, "_slots", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    taken = take_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == (visible if taken is None else taken)
    held += worker._slots
    return taken


def test_each_process_takes_the_gpu_that_the_fewest_have(
    monkeypatch: pytest.MonkeyPatch, held: list[IO[bytes]]
) -> None:
    assert [take_as_another_process(monkeypatch, "2, 5", held) for _ in range(5)] == ["2", "5", "2", "5", "2"]


def test_a_gpu_is_free_again_once_its_process_has_ended(monkeypatch: pytest.MonkeyPatch, held: list[IO[bytes]]) -> None:
    assert take_as_another_process(monkeypatch, "0,1", held) == "0"
    assert take_as_another_process(monkeypatch, "0,1", held) == "1"
    held.pop(0).close()
    assert take_as_another_process(monkeypatch, "0,1", held) == "0"


def test_the_gpus_of_another_job_are_others(monkeypatch: pytest.MonkeyPatch, held: list[IO[bytes]]) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert take_as_another_process(monkeypatch, "GPU-ab/1,GPU-ab/2", held) == "GPU-ab/1"
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    assert take_as_another_process(monkeypatch, "GPU-ab/1,GPU-ab/2", held) == "GPU-ab/1"


def test_a_process_keeps_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    assert take_gpu() == "3"
    assert take_gpu() is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


@pytest.mark.parametrize("visible", ["", "-1", "NoDevFiles"])
def test_takes_none_where_none_is_to_be_seen(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert take_gpu() is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for nvidia-smi")
@pytest.mark.parametrize(("script", "found"), [("printf '0\\n1\\n'", ["0", "1"]), ("exit 9", [])])
def test_asks_the_driver_where_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, found: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list_gpus() == []
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert list_gpus() == found


def test_computes_on_as_many_threads_as_asked() -> None:
    import torch

    before = torch.get_num_threads()
    try:
        use_threads(3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_there_are_no_needs_outside_of_a_task() -> None:
    assert needs_of_task() is None


@pytest.fixture
def needs(tmp_path: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> Needs:
    """What this process has."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    recipe = Recipe(segment=SegmentSettings(model=str(tiny_file), device="cpu"))
    (tmp_path / "image.zarr").mkdir()
    return Needs(
        "run",
        "login",
        tmp_path / "image.zarr",
        tmp_path / "out",
        mark_folder(tmp_path / "out"),
        recipe,
        model_hash(recipe),
        describe_versions(),
    )


def test_finds_no_fault_in_a_process_that_has_what_is_needed(needs: Needs) -> None:
    assert find_fault(needs) is None
    assert mark_folder(needs.out) == needs.folder_id
    assert [path.name for path in (needs.out / ".napari-matseg").iterdir()] == ["folder.id"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"segment": SegmentSettings(model="gone", device="cpu")}, "gone: no such model or file"),
        ({"segment": SegmentSettings(device="cuda:77")}, "device 'cuda:77' is not on this machine"),
        ({"segment": None, "prompt": PromptStep(prompt={"model": "gone"})}, "gone: no such promptable model"),
    ],
)
def test_says_what_a_recipe_needs_that_is_not_there(needs: Needs, change: dict[str, Any], reason: str) -> None:
    fault = find_fault(replace(needs, recipe=needs.recipe.model_copy(update=change)))
    assert f"{socket.gethostname()}: {reason}" in str(fault)


def test_says_that_it_cannot_write(needs: Needs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    fault = find_fault(needs)
    assert fault == (
        f"{socket.gethostname()}: cannot write to {needs.out} (Permission denied); give the user there the right to."
    )

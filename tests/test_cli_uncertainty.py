from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of two images."""
    images = tmp_path / "images"
    images.mkdir()
    for seed in range(2):
        noise = np.random.default_rng(seed).integers(0, 255, (64, 96), dtype=np.uint8)
        Image.fromarray(noise).save(images / f"{seed}.png")
    return images


def test_a_folder_is_ranked(run: Run, tiny_file: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, said, _ = run("uncertainty", folder, "-m", tiny_file, "-o", out, "--views", 2, "--device", "cpu")
    assert status == 0
    header, first, second = said.splitlines()
    assert header.split() == ["rank", "image", "uncertainty", "failed"]
    assert first.startswith("1") or first.strip().startswith("1")
    assert {"0.png", "1.png"} == {Path(line.split()[1]).name for line in (first, second)}
    assert sorted(path.name for path in out.iterdir()) == [
        "0_label_next.csv",
        "0_uncertainty.json",
        "0_uncertainty.png",
        "0_uncertainty.tif",
        "1_label_next.csv",
        "1_uncertainty.json",
        "1_uncertainty.png",
        "1_uncertainty.tif",
        "label_next.csv",
    ]


def test_an_ensemble_as_json(run: Run, tiny_file: Path, folder: Path, tmp_path: Path) -> None:
    ask = ["uncertainty", folder / "0.png", "-m", tiny_file, "-m", tiny_file, "-o", tmp_path, "--views", 1]
    status, said, _ = run(*ask, "--measure", "mutual_information", "--json", "--device", "cpu")
    assert status == 0
    (row,) = json.loads(said)["images"]
    assert row["uncertainty"] == pytest.approx(0, abs=1e-5)  # the same model twice gives the same answer
    assert json.loads((tmp_path / "0_uncertainty.json").read_text())["answers"] == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--views", 9], "views"),
        (["--measure", "luck"], "measure"),
        (["--views", 1, "--measure", "mutual_information"], "ask for more views"),
    ],
)
def test_what_makes_no_sense_is_one_line(run: Run, tiny_file: Path, folder: Path, more: list, said: str) -> None:
    status, _, error = run("uncertainty", folder, "-m", tiny_file, *more)
    assert status == 2
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_a_broken_image_is_named(run: Run, tiny_file: Path, folder: Path, tmp_path: Path) -> None:
    broken = folder / "2.png"
    broken.write_bytes(b"x")
    status, said, error = run("uncertainty", folder, "-m", tiny_file, "-o", tmp_path / "o", "--views", 1)
    assert status == 2
    assert "1 of 3 images failed" in error
    assert "2.png" in said
    status, _, error = run("uncertainty", broken, "-m", tiny_file, "-o", tmp_path / "o", "--views", 1)
    assert status == 2
    assert "2.png" in error

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_are_listed_with_their_licences(run: Run) -> None:
    status, out, err = run("samples")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()][1:4] == ["particles", "superalloy", "cracks"]
    assert "MIT; Yildirim and Cole 2021, doi 10.1021/acs.jcim.0c01455" in out


def test_a_drawn_one_is_written_with_its_truth(run: Run, here: Path) -> None:
    status, out, _ = run("samples", "cracks", "-o", "data")
    assert status == 0
    assert out.split() == ["data/cracks.tif", "data/cracks_truth.tif"]
    assert all((here / path).is_file() for path in out.split())


def test_a_public_one_is_fetched_and_its_licence_shown(run: Run, here: Path, public_sets: Path) -> None:
    status, out, _ = run("samples", "emps", "-o", "particles/emps")
    assert status == 0
    assert "Licence: MIT" in out
    assert "its source states no checksum" in out
    assert "particles/emps: 2 images with truth; sha256 of the archive" in out
    assert (here / "particles" / "emps" / "SOURCE.json").is_file()


def test_no_such_sample(run: Run) -> None:
    status, out, err = run("samples", "cells")
    assert (status, out) == (2, "")
    assert err == "cells: is no sample; there are particles, superalloy, cracks, emps, nasa.\n"

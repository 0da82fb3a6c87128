from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from distributed import LocalCluster

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def recipe(tiny_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"format: 1\nsegment: {{model: {tiny_file}, device: cpu}}\nmeasure: null\n")
    tifffile.imwrite(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 255, (48, 64), dtype=np.uint8))
    return path


def test_runs_on_the_workers_of_a_cluster_and_of_a_scheduler(run: Run, recipe: Path, tmp_path: Path) -> None:
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("kind: local\narguments: {processes: false}\n")
    status, out, err = run("run", recipe, tmp_path / "a.tif", "--out", tmp_path / "out", "--cluster", cluster)
    assert (status, err) == (0, "")
    assert "1 done, 0 kept" in out
    with LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as local:
        address = ["--scheduler", local.scheduler_address]
        status, out, err = run("run", recipe, tmp_path / "a.tif", "--out", tmp_path / "out", *address)
    assert (status, err) == (0, "")
    assert "0 done, 1 kept" in out


def test_takes_one_way_to_share_work(run: Run, recipe: Path, tmp_path: Path) -> None:
    more = ["--workers", 2, "--scheduler", "tcp://127.0.0.1:1"]
    status, _, err = run("run", recipe, tmp_path / "a.tif", "--out", tmp_path / "out", *more)
    assert status == 2
    assert err == "--workers, --scheduler and --cluster are three ways to share work; give one of them.\n"

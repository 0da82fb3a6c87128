from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml

from napari_matseg.core.architectures import build_network
from napari_matseg.core.checkpoints import load_model, read_card
from napari_matseg.core.progress import finish
from napari_matseg.core.ranks import Ranks
from napari_matseg.core.train import train_steps
from napari_matseg.errors import SettingsError
from napari_matseg.settings import TrainSettings

ROOT = Path(__file__).parents[2]
CLASSES = [{"name": "dark", "colour": [0, 0, 0]}, {"name": "bright", "colour": [255, 0, 0]}]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipe, with its data beside it, of losses that are ratios over the whole batch."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("images", "truth"):
        (folder / name).mkdir()
    for number in range(2):
        truth = np.zeros((80, 96), np.uint8)
        truth[20:60, 10 : 40 + 20 * number] = 1
        tifffile.imwrite(folder / "truth" / f"{number}.tif", truth)
        grey = 60 + 120 * truth + rng.normal(0, 10, truth.shape)
        tifffile.imwrite(folder / "images" / f"{number}.tif", grey.clip(0, 255).astype(np.uint8))
    settings = {
        "name": "blocks",
        "classes": CLASSES,
        "data": {"images": "images", "truth": "truth", "train": ["0"], "validation": ["1"]},
        "architecture": {"encoder": "tu-resnet10t", "encoder_depth": 3, "options": {"decoder_channels": [16, 8, 8]}},
        "losses": [{"name": "dice"}, {"name": "lovasz"}],
        "crop": 64,
        "batch": 4,
        "steps": 4,
        "evaluate_every": 2,
        "warmup_steps": 0,
        "learning_rate": 1e-3,
        "average": 0.5,
        "device": "cpu",
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_two_processes_learn_the_same_as_one(recipe: Path, tmp_path: Path) -> None:
    settings = TrainSettings.model_validate(yaml.safe_load(recipe.read_text()))
    alone = finish(train_steps(settings, recipe.parent, tmp_path / "one"))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "napari_matseg"]
    done = subprocess.run(
        [sys.executable, *torchrun, "train", str(recipe), "-o", str(tmp_path / "two")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"segment with", done.stdout) == ["segment with"]
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["blocks.safetensors"]
    shared = tmp_path / "two" / "blocks.safetensors"
    one, two = read_card(alone), read_card(shared)
    assert one.recipe == two.recipe
    assert two.accuracy["validation"]["pooled_iou"] == pytest.approx(one.accuracy["validation"]["pooled_iou"], abs=1e-3)
    torch.manual_seed(settings.seed)
    start = _learnt(build_network(settings.architecture, len(settings.classes)))
    ones, twos = _learnt(load_model(alone).network), _learnt(load_model(shared).network)
    # Not for each weight by itself: Adam makes a whole step even where the gradient is nothing but rounding.
    assert (twos - ones).norm() < 0.05 * (ones - start).norm()


def _learnt(network: torch.nn.Module) -> torch.Tensor:
    """All that a network has learnt, batch norms' statistics too, in one row."""
    return torch.cat([value.float().ravel() for name, value in network.state_dict().items() if "tracked" not in name])


class TestAlone:
    def test_without_torchrun(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RANK", "3")  # of some other program
        assert Ranks.here() == Ranks(0, 1, 0)

    def test_nothing_is_shared(self) -> None:
        ranks, network, part = Ranks(), torch.nn.Conv2d(1, 1, 1), torch.ones(2)
        assert ranks.share(network) is network
        assert ranks.gather(part) is part
        assert ranks.agree(True, torch.device("cpu"))
        assert ranks.device("auto") == "auto"


class TestTogether:
    @pytest.fixture(autouse=True)
    def second_of_two(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
            monkeypatch.setenv(name, value)

    def test_as_torchrun_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ranks = Ranks.here()
        assert ranks == Ranks(1, 2, 1)
        assert not ranks.is_first
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        asked = ("auto", "cuda", "cpu", "cuda:0")
        assert [ranks.device(one) for one in asked] == ["cuda:1", "cuda:1", "cpu", "cuda:0"]

    def test_batch_that_cannot_be_shared_out(self, recipe: Path, tmp_path: Path) -> None:
        settings = TrainSettings.model_validate(yaml.safe_load(recipe.read_text()) | {"batch": 3})
        with pytest.raises(SettingsError, match="batch: 3 crops cannot be shared out to 2 processes alike"):
            next(train_steps(settings, recipe.parent, tmp_path))

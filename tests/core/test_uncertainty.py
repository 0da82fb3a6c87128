from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_matseg.core import uncertainty as module
from napari_matseg.core.checkpoints import Model
from napari_matseg.core.predict import TooLargeError
from napari_matseg.core.progress import Progress, finish
from napari_matseg.core.uncertainty import Unsure, entropy, unsure_steps
from napari_matseg.errors import InputError, OutputError
from napari_matseg.settings import SegmentSettings, UncertaintySettings

MakeModel = Callable[..., Model]


def _ask(models: list[Model], image: np.ndarray, folder: Path | None = None, **changes: object) -> Unsure:
    import torch

    settings = UncertaintySettings(**changes)
    planes = [image[None]] * len(models)
    return finish(unsure_steps(planes, "a.tif", models, settings, torch.device("cpu"), torch.float32, folder))


@pytest.fixture(scope="module")
def ramp() -> np.ndarray:
    """Grey that rises from left to right."""
    return np.tile(np.arange(0, 192, dtype=np.uint8), (64, 1))


@pytest.mark.parametrize("measure", ["entropy", "margin"])
def test_what_is_halfway_is_unsure(make_threshold: MakeModel, ramp: np.ndarray, measure: str) -> None:
    found = _ask([make_threshold()], ramp, measure=measure, views=8, zoom=1.1)
    assert found.map_yx.shape == found.classes_yx.shape == ramp.shape
    assert found.answers == 8
    profile = found.map_yx.mean(axis=0)
    assert abs(int(profile.argmax()) - 96) <= 4
    assert profile[96] > 0.95
    assert profile[5] < profile[60] < profile[90]
    assert (0 <= found.map_yx).all()
    assert (found.map_yx <= 1).all()
    assert not found.classes_yx[:, :90].any()
    assert found.classes_yx[:, 102:].all()


def test_one_answer_is_the_entropy_of_its_probabilities(make_threshold: MakeModel, ramp: np.ndarray) -> None:
    found = _ask([make_threshold()], ramp, views=1)
    grey = np.clip(2 * (ramp - ramp.min()) / np.ptp(ramp) - 1, -3, 3)
    low, high = np.percentile(ramp, (1, 99), method="inverted_cdf")
    grey = 2 * (ramp.astype(float) - low) / (high - low) - 1
    p = 1 / (1 + np.exp(-grey))
    expected = -(p * np.log(p) + (1 - p) * np.log(1 - p)) / np.log(2)
    np.testing.assert_allclose(found.map_yx, expected, atol=1e-3)


def test_mutual_information_is_what_answers_differ_by(make_threshold: MakeModel, ramp: np.ndarray) -> None:
    model = make_threshold()
    alike = _ask([model], ramp, measure="mutual_information", views=8, zoom=1, contrast=1)
    assert alike.map_yx.max() < 1e-5  # the model looks at single pixels, so turning changes nothing
    differ = _ask([model], ramp, measure="mutual_information", views=8, zoom=1, contrast=4)
    assert differ.map_yx.max() > 0.01
    assert (differ.map_yx <= _ask([model], ramp, views=8, zoom=1, contrast=4).map_yx + 1e-6).all()


def test_an_ensemble_asks_each_model(make_model: MakeModel, make_threshold: MakeModel, ramp: np.ndarray) -> None:
    first, second = make_threshold(), make_threshold(stride=16)
    both = _ask([first, second], ramp, views=2)
    assert both.answers == 4
    np.testing.assert_allclose(both.map_yx, _ask([first], ramp, views=2).map_yx, atol=1e-5)


@pytest.mark.parametrize("tiling", ["auto", "blend"])
def test_tiles_and_files_change_nothing(
    make_threshold: MakeModel, ramp: np.ndarray, tmp_path: Path, tiling: str
) -> None:
    model = make_threshold()
    segment = SegmentSettings(tile=64, tiling=tiling)
    whole = _ask([model], ramp, measure="mutual_information", views=4)
    tiled = _ask([model], ramp, measure="mutual_information", views=4, segment=segment)
    np.testing.assert_allclose(tiled.map_yx, whole.map_yx, atol=1e-5)
    # In files no view is turned by a quarter, which this model cannot tell but by where it is magnified.
    stored = _ask([model], ramp, tmp_path, measure="mutual_information", views=4, segment=segment, zoom=1)
    plain = _ask([model], ramp, measure="mutual_information", views=4, zoom=1)
    assert isinstance(stored.map_yx, np.memmap)
    np.testing.assert_allclose(stored.map_yx, plain.map_yx, atol=1e-5)
    np.testing.assert_array_equal(stored.classes_yx, plain.classes_yx)


def test_a_network_is_asked_again_with_smaller_tiles(
    make_threshold: MakeModel, ramp: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_threshold()
    expected = _ask([model], ramp, views=3, segment=SegmentSettings(tiling="blend"))
    tiles: list[int] = []
    inner = module.predict

    def predict(*args: object, **kwargs: object) -> object:
        tiles.append(args[3].tile)
        if tiles[-1] > 100 and len(tiles) > 1:
            raise TooLargeError
        yield from inner(*args, **kwargs)

    monkeypatch.setattr(module, "predict", predict)
    found = _ask([model], ramp, views=3, segment=SegmentSettings(tiling="blend"))
    assert tiles[-1] <= 100 < tiles[0]
    np.testing.assert_allclose(found.map_yx, expected.map_yx, atol=1e-5)


def test_no_tile_is_small_enough(make_threshold: MakeModel, ramp: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(*args: object, **kwargs: object) -> object:
        raise TooLargeError
        yield

    monkeypatch.setattr(module, "predict", predict)
    with pytest.raises(InputError, match=r"a\.tif: memory ran out at tiles of \d+ px"):
        _ask([make_threshold()], ramp, views=2)


def test_the_folder_must_have_room(
    make_threshold: MakeModel, ramp: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(OutputError, match="are needed on the way"):
        _ask([make_threshold()], ramp, tmp_path)


def test_progress_counts_all_tiles_and_closing_cancels(make_threshold: MakeModel, ramp: np.ndarray) -> None:
    import torch

    settings = UncertaintySettings(views=2)
    work = unsure_steps([ramp[None]], "a", [make_threshold()], settings, torch.device("cpu"), torch.float32)
    steps = [step for step in work if step.note.startswith("asking")]
    assert steps[-1] == Progress(2, 2, "asking, 2 of 2")
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    work = unsure_steps([ramp[None]], "a", [make_threshold()], settings, torch.device("cpu"), torch.float32)
    next(work)
    work.close()


def test_entropy_is_a_share_of_the_largest() -> None:
    third = np.full((3, 2), 1 / 3)
    np.testing.assert_allclose(entropy(third), 1)
    assert entropy(np.array([[1.0], [0.0], [0.0]])).tolist() == [0.0]

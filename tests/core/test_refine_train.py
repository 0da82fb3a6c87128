from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from pydantic import ValidationError

from napari_matseg.core import allocator
from napari_matseg.core.objects import ObjectMask
from napari_matseg.core.progress import finish
from napari_matseg.core.refine import examples as examples_module
from napari_matseg.core.refine.crops import SIDE
from napari_matseg.core.refine.draws import Draws
from napari_matseg.core.refine.examples import AskedExample, ask_steps
from napari_matseg.core.refine.files import (
    RefinerCard,
    find_refiner,
    load_refiner,
    refiner_folder,
    save_refiner,
)
from napari_matseg.core.refine.network import Refiner
from napari_matseg.core.refine.train import RefineTrainer, refine_loss, refine_train_steps
from napari_matseg.core.sam.zoo import promptable_folder
from napari_matseg.errors import ModelError, SettingsError
from napari_matseg.settings import RefineTrainSettings, load_recipe

CPU = torch.device("cpu")
TINY = {"channels": (8, 8, 16), "blocks": (1, 1, 1), "decoder_channels": (8, 8)}


class Knows:
    """Answers with the square round the first click, or with the box."""

    def __init__(self, settings: Any) -> None:
        assert not settings.refine
        self.shape = (0, 0)

    def set_image(self, image: np.ndarray) -> None:
        self.shape = image.shape

    def predict_steps(self, prompts: list[Any]) -> Generator[None, None, list[ObjectMask]]:
        yield
        found = []
        for prompt in prompts:
            if prompt.box_yx is None:
                y, x = prompt.points_yx[0]
                box = y - 8, x - 8, y + 8, x + 8
            else:
                box = prompt.box_yx
            y0, x0, y1, x1 = np.clip(np.rint(box), 0, [*self.shape, *self.shape]).astype(int)
            found.append(ObjectMask(1, y0, x0, np.full((max(y1 - y0, 1), max(x1 - x0, 1)), np.float16(4)), 0.9, 0.9))
        return found


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the user's own models, empty."""
    monkeypatch.setenv("NAPARI_MATSEG_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three micrographs with discs, and a promptable model that is quick."""
    monkeypatch.setattr(examples_module, "PromptSession", Knows)
    monkeypatch.setattr(examples_module, "SYNTHETIC", 2)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:160, :200]
    for number in range(3):
        labels = np.zeros((160, 200), np.uint16)
        for one in range(1, 6):
            labels[np.hypot(y - rng.uniform(0, 160), x - rng.uniform(0, 200)) < rng.uniform(8, 20)] = one
        image = (60 + 100 * (labels > 0) + rng.normal(0, 8, labels.shape)).clip(0, 255).astype(np.uint8)
        for folder, array in (("images", image), ("labels", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / folder / f"{number}.tif", array)
    return tmp_path


def make_settings(**changes: object) -> RefineTrainSettings:
    source = {"data": {"images": "images", "truth": "labels", "train": ["0", "1"], "validation": ["2"]}, "share": 0.8}
    source["data"]["instances"] = True  # type: ignore[index]
    plain = {
        "name": "tiny",
        "refines": "compact",
        "sources": [source],
        "steps": 4,
        "batch": 3,
        "evaluate_every": 2,
        "warmup_steps": 1,
        "device": "cpu",
        **TINY,
    }
    return RefineTrainSettings.model_validate(plain | changes)


def asked(data: Path, **changes: object) -> tuple[list[tuple[float, list[AskedExample]]], list[AskedExample]]:
    return finish(ask_steps(make_settings(**changes), data))


def test_objects_are_asked_for_by_clicks_and_boxes(data: Path) -> None:
    sources, validation = asked(data, objects=3)
    assert [share for share, _ in sources] == pytest.approx([0.8, 0.2])
    assert [len(examples) for _, examples in sources] == [2, 2]
    for example in [*(one for _, examples in sources for one in examples), *validation]:
        assert 0 < len(example.asked) <= 3
        for one in example.asked:
            assert example.objects_yx[one.click_yx] == one.id
            assert one.clicked.mask_yx.any()
            assert one.boxed.mask_yx.any()
    for one in validation[0].asked:
        assert one.drawn == one.box
    again, _ = asked(data, objects=3)
    assert [a.asked[0].click_yx for a in again[0][1]] == [a.asked[0].click_yx for a in sources[0][1]]
    others, _ = asked(data, objects=3, seed=1)
    assert [a.asked[0].drawn for a in others[0][1]] != [a.asked[0].drawn for a in sources[0][1]]


@pytest.fixture
def draws(data: Path) -> Draws:
    """Of micrographs for which the promptable model knew the truth."""
    sources, _ = asked(data)
    known = []
    for share, examples in sources:
        exact = []
        for example in examples:
            objects = []
            for one in example.asked:
                y0, x0, y1, x1 = (int(edge + 0.5) for edge in one.box)
                inside = example.objects_yx[y0:y1, x0:x1] == one.id
                answer = ObjectMask(1, y0, x0, np.where(inside, np.float16(9), np.float16(-9)), 1, 1)
                objects.append(replace(one, clicked=answer, boxed=answer))
            exact.append(replace(example, asked=objects))
        known.append((share, exact))
    return Draws(known, make_settings(boxes=0.5, corrections=0.5))


def test_what_is_learnt_from_fits_together(draws: Draws) -> None:
    """Answer, box, clicks and truth lie on each other, however the crop is turned."""
    kinds = {"answered": 0, "boxed": 0, "clicked": 0, "against": 0, "beyond": 0}
    for number in range(120):
        one = draws.draw(number)
        grey, inside, box, positive, negative, answer = one.maps
        truth = one.truth_yx & one.inside_yx
        assert one.maps.dtype == np.float32
        assert one.maps.shape == (6, SIDE, SIDE)
        assert np.abs(grey).max() <= 1.25
        np.testing.assert_array_equal(inside > 0, one.inside_yx)
        assert 0.01 < truth.mean() < 0.9
        assert box.any() or positive.any()
        kinds["beyond"] += not one.inside_yx.all()
        if answer.any():
            kinds["answered"] += 1
            found = (answer > 0) & one.inside_yx
            assert (found & truth).sum() / (found | truth).sum() > 0.8
        if box.any():
            kinds["boxed"] += 1
            assert (truth & (box > 0)).sum() / truth.sum() > 0.75
        if positive.any():
            kinds["clicked"] += 1
            assert (truth & (positive > 0)).any()
        if negative.any():
            kinds["against"] += 1
            assert (~one.truth_yx & (negative > 0)).any()
    assert min(kinds.values()) >= 5, kinds


def test_a_number_stands_for_a_crop(draws: Draws) -> None:
    np.testing.assert_array_equal(draws.draw(3).maps, draws.draw(3).maps)
    assert not np.array_equal(draws.draw(3).maps, draws.draw(4).maps)


def run(data: Path, out: Path, **changes: object) -> tuple[list[Any], Path]:
    steps = refine_train_steps(make_settings(**changes), data, out)
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            return seen, stop.value


def test_training_writes_a_refiner_that_is_found(data: Path, models: Path) -> None:
    seen, path = run(data, refiner_folder(), name="compact")
    assert [step.note for step in seen[:2]] == ["asking compact, 0 of 5", "asking compact, 1 of 5"]
    steps = seen[5:]
    assert [step.done for step in steps] == [1, 2, 3, 4]
    assert all(np.isfinite(step.loss) for step in steps)
    assert [step.accuracy is not None for step in steps] == [False, True, False, True]
    assert set(steps[-1].accuracy) == {"click asked", "click redrawn", "box asked", "box redrawn"}
    assert not (refiner_folder() / "compact.resume").exists()
    assert find_refiner("compact") == path
    assert find_refiner("another that was trained from it") == path
    loaded = load_refiner(path, CPU)
    assert loaded.card.refines == "compact"
    assert len(loaded.card.refines_sha256) == 64
    assert loaded.card.accuracy["validation"]["box redrawn"] == steps[-1].accuracy["box redrawn"]
    assert loaded.card.recipe["steps"] == 4
    assert not loaded.network.training


def test_training_goes_on_where_it_was_stopped(data: Path, tmp_path: Path) -> None:
    _, whole = run(data, tmp_path / "whole")
    broken = refine_train_steps(make_settings(), data, tmp_path / "broken")
    for step in broken:
        if step.done == 3:
            assert len(allocator._holders) == 1
            broken.close()
    assert not allocator._holders
    seen, path = run(data, tmp_path / "broken")
    assert [step.done for step in seen if step.loss is not None][-2:] == [3, 4]
    hashes = [load_refiner(one, CPU).card.weights_sha256 for one in (whole, path)]
    assert hashes[0] == hashes[1]
    steps = refine_train_steps(make_settings(), data, tmp_path / "else")
    for step in steps:
        if step.done == 2:
            steps.close()
    with pytest.raises(SettingsError, match="other settings"):
        run(data, tmp_path / "else", seed=1)


def test_it_learns(draws: Draws) -> None:
    trainer = RefineTrainer(make_settings(steps=40, learning_rate=5e-3))
    batch = [draws.draw(number) for number in range(4)]
    losses = [trainer.advance(batch) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]


def test_what_lies_beyond_the_micrograph_is_no_mistake() -> None:
    truth = torch.zeros(1, 16, 16, dtype=torch.bool)
    truth[:, 4:12, 4:12] = True
    inside = torch.ones_like(truth)
    inside[:, :, 8:] = False
    scores = torch.where(truth, 9.0, -9.0)
    sure = torch.ones(1)
    assert float(refine_loss(scores, sure, truth, inside)) < 0.01
    beyond = torch.where(inside, scores, torch.full_like(scores, 9.0))
    torch.testing.assert_close(refine_loss(beyond, sure, truth, inside), refine_loss(scores, sure, truth, inside))
    assert float(refine_loss(-scores, sure, truth, inside)) > 1


@pytest.mark.parametrize("changes", [{}, TINY])
def test_network_gives_a_score_for_each_pixel(changes: dict[str, Any]) -> None:
    network = Refiner(**changes).eval()
    scores, iou = network(torch.rand(2, 6, 3 * network.stride, 2 * network.stride))
    assert scores.shape == (2, 3 * network.stride, 2 * network.stride)
    assert iou.shape == (2,)
    assert ((iou >= 0) & (iou <= 1)).all()


def card(**changes: Any) -> RefinerCard:
    return RefinerCard.model_validate({"name": "tiny", "refines": "compact", **TINY} | changes)


def test_file_holds_what_was_saved(tmp_path: Path) -> None:
    network = card().build()
    written = save_refiner(tmp_path / "tiny.safetensors", network, card(licence="BSD-3-Clause"))
    loaded = load_refiner(tmp_path / "tiny.safetensors", CPU)
    assert loaded.card == written
    assert written.weights_sha256
    for name, value in network.state_dict().items():
        torch.testing.assert_close(loaded.network.state_dict()[name], value, atol=1e-3, rtol=1e-3)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_refiner(path, card().build(), card())
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"tiny.safetensors: the weights are not those its card was written for"):
        load_refiner(path, CPU)
    path.write_bytes(content[:40])
    with pytest.raises(ModelError, match=r"tiny.safetensors: is not a model file or is damaged"):
        load_refiner(path, CPU)
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(ModelError, match=r"tiny.safetensors: is no refiner"):
        load_refiner(path, CPU)
    save_file({"a": torch.ones(1)}, path, {"napari_matseg_refiner": '{"name": "a"}'})
    with pytest.raises(ModelError, match=r"its card cannot be used .*newer"):
        load_refiner(path, CPU)
    save_refiner(path, card().build(), card(channels=(8, 8, 32)))
    with pytest.raises(ModelError, match="do not fit its card"):
        load_refiner(path, CPU)


def test_the_users_refiner_wins_and_each_model_may_have_its_own(models: Path) -> None:
    shipped = find_refiner("compact")
    assert shipped is not None
    assert shipped.parent.name == "refiners"
    assert find_refiner("mine") == shipped
    refiner_folder().mkdir(parents=True)
    for name in ("compact", "mine"):
        save_refiner(refiner_folder() / f"{name}.safetensors", card().build(), card())
        assert find_refiner(name) == refiner_folder() / f"{name}.safetensors"
    assert find_refiner("other") == refiner_folder() / "compact.safetensors"
    assert promptable_folder() != refiner_folder()


def test_recipe_of_the_shipped_refiner() -> None:
    folder = Path(__file__).parents[2] / "recipes" / "refiners"
    recipe = load_recipe(folder / "compact.yaml")
    assert isinstance(recipe, RefineTrainSettings)
    path = find_refiner(recipe.refines)
    assert path is not None
    shipped = load_refiner(path, CPU).card
    assert shipped.recipe == recipe.model_dump(mode="json")
    with pytest.raises(ValidationError, match="one shorter"):
        make_settings(blocks=(1, 1))
    with pytest.raises(ValidationError, match="for models that know classes"):
        make_settings(augment={"elastic": 0.5})

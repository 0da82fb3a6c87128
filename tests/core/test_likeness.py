from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from napari_matseg.core.checkpoints import Model
from napari_matseg.core.likeness import (
    QUANTITIES,
    LearntFrom,
    Look,
    learnt_from,
    learnt_from_training,
    look_of,
    unlike,
    warn_of,
)
from napari_matseg.core.micrograph import Micrograph
from napari_matseg.core.pixels import LazyPixels
from napari_matseg.settings import ClassDataSettings, ClassSpec, NormaliseSettings, TrainSettings

ALL = slice(None)
PLAIN = NormaliseSettings()
NUMBERS = {"tone": 0.0, "contrast": 0.5, "noise": -3.0, "sharpness": 0.5, "structure_px": 4.5}


def _blobs(
    seed: int = 0, *, sigma: float = 4.0, noise: float = 0.05, shape: tuple[int, int] = (256, 256)
) -> np.ndarray:
    """Grey structures of about that size, with noise: uint8."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
    values = smooth / smooth.std() / 6 + 0.5 + noise * rng.standard_normal(shape)
    return np.uint8(np.clip(values, 0, 1) * 255)


def _look(pixels: np.ndarray, **known: Any) -> Look:
    return look_of(Micrograph(pixels, **known), ALL, PLAIN)


@pytest.fixture(scope="module")
def known() -> LearntFrom:
    return learnt_from(_look(_blobs(seed)) for seed in range(6))


def test_another_of_the_kind_is_no_surprise(known: LearntFrom) -> None:
    assert known.images == 6
    assert set(known.ranges) == set(QUANTITIES)
    for seed in (10, 11, 12):
        assert unlike(_look(_blobs(seed)), known) == []


def test_grey_levels_and_their_type_do_not_matter(known: LearntFrom) -> None:
    pixels = _blobs(20)
    assert unlike(_look(pixels.astype(np.uint16) * 40 + 700), known) == []
    assert unlike(_look(pixels.astype(np.float32) / 10 - 3), known) == []


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (_blobs(30, noise=0.3), "it has more noise than what the model learnt from ("),
        (ndimage.gaussian_filter(_blobs(31), 2.5), "it is less sharp than"),
        (_blobs(32, sigma=16.0), "its structures are larger than in"),
        (_blobs(33, sigma=1.0, noise=0.0), "its structures are smaller than in"),
        (np.where(_blobs(34) > 190, 255, _blobs(34) // 8).astype(np.uint8), "it is mostly darker than"),
    ],
)
def test_what_is_otherwise_is_said(pixels: np.ndarray, said: str, known: LearntFrom) -> None:
    assert any(one.startswith(said) for one in unlike(_look(pixels), known))


def test_pixel_size_outside_what_was_learnt_is_said() -> None:
    looks = [Look(size, None, NUMBERS) for size in (9.0, 11.0)]
    known = learnt_from(looks)
    assert known.pixel_size_nm == (9.0, 11.0)
    assert unlike(Look(3.1, None, NUMBERS), known) == [
        "this micrograph has 3.1 nm/px, the model learnt from 9 to 11 nm/px: expect mistakes, as everything looks 2.9 "
        "times larger; resample it to about 9 nm/px."
    ]
    (said,) = unlike(Look(22.0, None, NUMBERS), known)
    assert "looks 2 times smaller; resample it to about 11 nm/px" in said
    assert unlike(Look(22.0, None, NUMBERS), known, (0.4, 2.0)) == []  # such images it saw, reduced
    assert unlike(Look(10.0, None, NUMBERS), known) == unlike(Look(None, None, NUMBERS), known) == []
    assert learnt_from([*looks, Look(None, None, NUMBERS)]).pixel_size_nm is None


def test_another_detector_is_said() -> None:
    known = learnt_from([Look(None, one, NUMBERS) for one in ("ETD", "ETD", "TLD")])
    assert known.detectors == ("ETD", "TLD")
    (said,) = unlike(Look(None, "CBS", NUMBERS), known)
    assert said.startswith("this micrograph was taken with detector CBS, the model learnt from ETD, TLD:")
    assert unlike(Look(None, "ETD", NUMBERS), known) == unlike(Look(None, None, NUMBERS), known) == []
    assert learnt_from([Look(None, "ETD", NUMBERS), Look(None, None, NUMBERS)]).detectors == ()


def test_single_strange_images_do_not_widen_the_range() -> None:
    looks = [Look(None, None, NUMBERS)] * 60 + [Look(None, None, NUMBERS | {"noise": 0.0})]
    low, high = learnt_from(looks).ranges["noise"]
    assert (low, high) == (-3.0, -3.0)


def test_a_card_without_statistics_says_nothing() -> None:
    assert unlike(Look(1e9, "x", dict.fromkeys(NUMBERS, 99.0)), None) == []


def test_text_for_the_card() -> None:
    known = learnt_from([Look(9.0, "ETD", NUMBERS)] * 2)
    assert known.to_text() == ("Warns of micrographs unlike those it learnt from: 2 images; 9 nm/px; detector ETD.")
    assert LearntFrom.model_validate_json(known.model_dump_json()) == known


def test_of_a_large_image_some_windows_are_read() -> None:
    tile = _blobs(40, shape=(512, 512))
    read: list[int] = []

    def box(_: int, where: tuple[range, range]) -> np.ndarray:
        rows, columns = where
        read.append(len(rows) * len(columns))
        return tile[np.ix_([y % 512 for y in rows], [x % 512 for x in columns])]

    large = Micrograph(LazyPixels((4096, 4096), np.dtype(np.uint8), 0, box))
    scale = (0.0, 255.0)
    from napari_matseg.core.normalise import GreyScale

    look = look_of(large, ALL, GreyScale((scale[0],), (scale[1],)))
    assert sum(read) <= 16 * 512 * 512 + 16
    small = look_of(Micrograph(tile), ALL, GreyScale((scale[0],), (scale[1],)))
    for name, value in small.numbers.items():
        assert look.numbers[name] == pytest.approx(value, abs=0.1)


@pytest.mark.parametrize("pixels", [np.zeros((20, 20), np.uint8), np.ones((3, 2), np.uint8), np.full((9, 9), np.nan)])
def test_images_with_nothing_on_them_are_measured(pixels: np.ndarray) -> None:
    look = _look(pixels)
    assert all(np.isfinite(value) for value in look.numbers.values())
    assert unlike(look, learnt_from([look])) == []


def test_the_images_of_a_training_are_summed_up(tmp_path: Path) -> None:
    from PIL import Image

    for seed in range(3):
        Image.fromarray(_blobs(seed, shape=(96, 96))).save(tmp_path / f"{seed}.png")
        (tmp_path / "truth").mkdir(exist_ok=True)
        Image.fromarray(np.zeros((96, 96), np.uint8)).save(tmp_path / "truth" / f"{seed}.png")
    settings = TrainSettings(
        name="a",
        classes=(ClassSpec(name="m", colour=(0, 0, 0)), ClassSpec(name="p", colour=(9, 9, 9))),
        data=ClassDataSettings(images=Path(), truth=Path("truth"), train=("0", "1"), validation=("2",)),
    )
    found = learnt_from_training(settings, ("0", "1"), tmp_path)
    assert found == learnt_from(_look(_blobs(seed, shape=(96, 96))) for seed in (0, 1))


def test_a_card_knows_how_its_training_magnified(make_threshold: Callable[..., Model]) -> None:
    micrograph = Micrograph(_blobs(0), pixel_size_nm=(20.0, 20.0))
    plane = {"grey_low": [0.0], "grey_high": [255.0]}
    look = look_of(micrograph, ALL, PLAIN)
    known = learnt_from([Look(10.0, None, look.numbers)])
    card = make_threshold().card
    assert warn_of(card, micrograph, ALL, plane) == []
    card = card.model_copy(update={"learnt_from": known})
    assert "20 nm/px" in warn_of(card, micrograph, ALL, plane)[0]
    card = card.model_copy(update={"recipe": {"augment": {"scale": [0.5, 2.0]}}})
    assert not any("nm/px" in said for said in warn_of(card, micrograph, ALL, plane))

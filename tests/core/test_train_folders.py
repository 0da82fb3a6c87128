from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_matseg.core.label_files import write_labels
from napari_matseg.core.progress import Progress, finish
from napari_matseg.core.train_folders import Folders, colour_of, look_into
from napari_matseg.core.train_pairs import NOTHING
from napari_matseg.errors import InputError
from napari_matseg.settings import ClassSpec

Put = Callable[..., Folders]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Write truths with an image for each, and look into the folders."""

    def write(*truths: np.ndarray) -> Folders:
        images, folder = tmp_path / "images", tmp_path / "truth"
        images.mkdir()
        folder.mkdir()
        for number, truth in enumerate(truths):
            tifffile.imwrite(images / f"{number}.tif", np.zeros(truth.shape[:2], np.uint8))
            tifffile.imwrite(folder / f"{number}_mask.tif", truth)
        return finish(look_into(images, folder))

    return write


def names(found: Folders) -> list[str]:
    return [spec.name for spec in found.classes]


def values(*given: int) -> np.ndarray:
    return np.resize(np.array(given, np.uint8), (8, 9))


def test_class_ids_of_all_truths(put: Put) -> None:
    found = put(values(0, 1), values(0, 3))
    assert names(found) == ["background", "class 1", "class 2", "class 3"]
    assert len({spec.colour for spec in found.classes}) == 4
    assert (found.unlabelled, found.objects, len(found.pairs)) == (None, False, 2)


@pytest.mark.parametrize("high", [1, 128, 255])
def test_black_and_white(put: Put, high: int) -> None:
    found = put(values(0, high), values(0))
    assert len(found.classes) == 2
    assert (found.unlabelled, found.objects) == (None, False)


def test_255_among_class_ids_is_not_labelled(put: Put) -> None:
    found = put(values(0, 1, 2, 255))
    assert names(found) == ["background", "class 1", "class 2"]
    assert found.unlabelled == 255


def test_ids_of_objects(put: Put) -> None:
    found = put(np.arange(90, dtype=np.uint16).reshape(9, 10))
    assert found.objects
    assert names(found) == ["background", "object"]


def test_colours(put: Put) -> None:
    picture = np.full((8, 9, 3), 90, np.uint8)
    picture[2:4], picture[6:] = (0, 0, 255), (255, 0, 0)
    found = put(picture)
    assert [spec.colour for spec in found.classes] == [(0, 0, 0), (0, 0, 255), (255, 0, 0)]


def test_colours_of_a_picture(put: Put) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (8, 9, 3)).astype(np.uint8)
    with pytest.raises(InputError, match=r"0_mask\.tif: has \d+ colours, too many to be classes; save the truth"):
        put(noise)


@pytest.mark.parametrize("sparse", [False, True])
def test_classes_that_a_file_names(tmp_path: Path, sparse: bool) -> None:
    specs = (ClassSpec(name="matrix", colour=(1, 1, 1)), ClassSpec(name="pore", colour=(9, 0, 0)))
    named = (NOTHING, *specs) if sparse else specs
    for folder in ("images", "truth"):
        (tmp_path / folder).mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", np.zeros((8, 9), np.uint8))
    write_labels(tmp_path / "truth" / "a.tif", values(0, 1), classes=named)
    found = finish(look_into(tmp_path / "images", tmp_path / "truth"))
    assert found.classes == named
    assert found.unlabelled == (0 if sparse else None)


def test_tells_how_far_it_is(tmp_path: Path, put: Put) -> None:
    put(values(0, 1), values(0, 2))
    steps = list(look_into(tmp_path / "images", tmp_path / "truth"))
    assert steps == [Progress(0, 2, "looking at 0_mask.tif"), Progress(1, 2, "looking at 1_mask.tif")]


def test_image_without_a_truth(tmp_path: Path, put: Put) -> None:
    put(values(0, 1))
    tifffile.imwrite(tmp_path / "images" / "new.tif", values(0))
    with pytest.raises(InputError, match=r"holds no truth for new\.tif"):
        finish(look_into(tmp_path / "images", tmp_path / "truth"))


def test_colours_of_classes_do_not_end() -> None:
    assert len({colour_of(i) for i in range(6)}) == 6
    assert colour_of(6) == colour_of(0)

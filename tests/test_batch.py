from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_matseg.batch import Batch, check_names, match
from napari_matseg.core.progress import finish
from napari_matseg.errors import InputError, ModelError, SettingsError
from napari_matseg.settings import SegmentSettings


@pytest.fixture
def batch(tiny_file: Path, tmp_path: Path) -> Batch:
    return Batch(SegmentSettings(model=str(tiny_file), device="cpu"), tmp_path / "out")


def put(path: Path, high: int = 255, shape: tuple[int, int] = (40, 48)) -> Path:
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, high, shape).astype(np.uint8))
    return path


class TestSteps:
    def test_without_truth(self, batch: Batch, tmp_path: Path) -> None:
        image = put(tmp_path / "a.tif")
        done = finish(batch.steps(image))
        assert done.micrograph.source == image
        assert done.segmentation.classes.shape == (40, 48)
        assert done.truth is done.scores is batch.counts is None
        assert all(path.is_file() for path in done.files.values())
        assert set(batch.images[str(image)]) == {"fractions", "warnings", "files"}

    def test_with_truth(self, batch: Batch, tmp_path: Path) -> None:
        truth = put(tmp_path / "t.tif", 3)
        for name in "ab":
            done = finish(batch.steps(put(tmp_path / f"{name}.tif"), truth))
            assert done.scores is not None
        assert batch.counts is not None
        np.testing.assert_array_equal(batch.counts.confusion, 2 * done.scores.counts.confusion)
        assert batch.iou_per_image() == batch.images[str(tmp_path / "a.tif")]["iou"]

    def test_class_that_is_nowhere_has_no_mean(self, batch: Batch) -> None:
        batch.images = {
            "a": {"iou": {"matrix": 1.0, "a": 0.5, "b": None}},
            "b": {"iou": {"matrix": 0.5, "a": None, "b": None}},
        }
        assert batch.iou_per_image() == {"matrix": 0.75, "a": 0.5, "b": None}

    def test_cancelled(self, batch: Batch, tmp_path: Path) -> None:
        with closing(batch.steps(put(tmp_path / "a.tif"))) as work:
            assert next(work).done == 0
        assert batch.images == {}
        assert not list((tmp_path / "out").iterdir())

    def test_bad_truth_is_found_before_the_work(self, batch: Batch, tmp_path: Path) -> None:
        image = put(tmp_path / "a.tif")
        with pytest.raises(InputError, match=r"t\.tif: shape \(40, 49\) is not that of .*a\.tif, \(40, 48\)"):
            next(batch.steps(image, put(tmp_path / "t.tif", 3, (40, 49))))
        assert not (tmp_path / "out").exists()

    def test_no_model_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="no such model"):
            Batch(SegmentSettings(model="nonsense"), tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestMatching:
    def test_without_truth(self) -> None:
        assert match([Path("a"), Path("b")], None) == match([Path("a"), Path("b")], []) == [None, None]

    def test_in_the_same_order(self) -> None:
        assert match([Path("a"), Path("b")], [Path("y"), Path("x")]) == [Path("y"), Path("x")]

    @pytest.mark.parametrize("ending", ["", "_mask", "_truth", "_label", "_labels", "_gt"])
    @pytest.mark.parametrize("suffix", [".tif", ".png", ".TIF"])
    def test_in_a_folder(self, tmp_path: Path, ending: str, suffix: str) -> None:
        truth = tmp_path / f"a.v1{ending}{suffix}"
        truth.touch()
        (tmp_path / "a.v10.tif").touch()
        (tmp_path / "a.v1.json").touch()
        assert match([Path("elsewhere/a.v1.tif")], [tmp_path]) == [truth]

    def test_beside_the_image(self, tmp_path: Path) -> None:
        image, truth = tmp_path / "a.tif", tmp_path / "a_mask.png"
        image.touch()
        truth.touch()
        assert match([image], [tmp_path]) == [truth]

    def test_folder_with_none_or_several(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"holds no truth for a\.tif; it should be named a or a_mask"):
            match([Path("a.tif")], [tmp_path])
        (tmp_path / "a.png").touch()
        (tmp_path / "a_mask.png").touch()
        with pytest.raises(InputError, match=r"holds more than one truth for a\.tif"):
            match([Path("a.tif")], [tmp_path])

    def test_numbers_that_differ(self) -> None:
        with pytest.raises(SettingsError, match="there are 1 images but 2 truths"):
            match([Path("a")], [Path("x"), Path("y")])


class TestNames:
    def test_names_that_are_free(self, tmp_path: Path) -> None:
        check_names([Path("a.tif"), Path("b.tif")], [Path("a_labels.tif"), None], tmp_path)

    @pytest.mark.parametrize("images", [("a.tif", "a.png"), ("x/a.tif", "y/a.tif"), ("a.tif", "a.tif")])
    def test_results_of_one_name(self, images: tuple[str, str]) -> None:
        with pytest.raises(SettingsError, match=r"would both give a_labels\.tif"):
            check_names([Path(image) for image in images], [None, None], Path("out"))

    @pytest.mark.parametrize("ending", ["_labels.tif", "_instances.tif", "_overlay.png", "_record.json"])
    def test_results_never_replace_what_they_are_made_from(self, tmp_path: Path, ending: str) -> None:
        image = tmp_path / "a.tif"
        given = tmp_path / "out" / ".." / f"a{ending}"
        with pytest.raises(SettingsError, match=rf"a{ending} would be replaced by a result; choose another folder"):
            check_names([image], [given], tmp_path)
        with pytest.raises(SettingsError, match="would be replaced"):
            check_names([image, given], [None, None], tmp_path)
        check_names([image], [given], tmp_path / "out")

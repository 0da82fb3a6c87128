from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.dataset import Example
from napari_matseg.core.splits import check_apart, digest_of, digests_of, group_of, make_folds, split_images
from napari_matseg.errors import InputError, SettingsError
from napari_matseg.settings import ClassDataSettings, make_settings


def data(**given: Any) -> ClassDataSettings:
    return make_settings(ClassDataSettings, **{"images": "images", "truth": "truth", "train": ()} | given)


PIECES = tuple(f"m{micrograph}_{piece}.tif" for micrograph in range(4) for piece in range(3))


class TestSplitImages:
    def test_as_named(self) -> None:
        split = split_images(data(train=("a", "b"), validation=("c",), test=("d",)), 0, Path())
        assert split.parts == {"train": ("a", "b"), "validation": ("c",), "test": ("d",)}
        assert split.put_into(data()).test == ("d",)

    def test_from_text_files(self, tmp_path: Path) -> None:
        (tmp_path / "test.txt").write_text("x.tif\n\ny.tif\n")
        assert split_images(data(train=("a",), test=Path("test.txt")), 0, tmp_path).test == ("x.tif", "y.tif")

    @pytest.mark.parametrize(
        ("lists", "message"),
        [
            ({"train": ("a", "b.tif"), "test": ("b.png",)}, "^b is in both train and test; an image can be in one"),
            ({"train": ("a",), "validation": ("c",), "test": ("c",)}, "^c is in both validation and test"),
            ({"train": ("a",), "validation": ("a",)}, "^a is in both train and validation"),
        ],
    )
    def test_image_in_two(self, lists: dict[str, Any], message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            split_images(data(**lists), 0, Path())

    def test_share_holds_out_whole_groups(self) -> None:
        for seed in range(20):
            split = split_images(data(train=PIECES, validation=0.2, group=r"m\d"), seed, Path())
            assert len(split.validation) == 3
            assert {name[:2] for name in split.train}.isdisjoint({name[:2] for name in split.validation})
            assert sorted(split.train + split.validation) == sorted(PIECES)

    def test_share_of_one_group(self) -> None:
        with pytest.raises(SettingsError, match="'m': all images are of one group, and none can be held out"):
            split_images(data(train=PIECES, validation=0.2, group="m"), 0, Path())

    def test_group_in_two_lists(self) -> None:
        lists = data(train=("m1_a", "m2_a"), test=("m2_b",), group=r"m\d")
        with pytest.raises(SettingsError, match=r"^m2_a in train and m2_b in test are of the same group, 'm2'; put"):
            split_images(lists, 0, Path())

    def test_group_that_a_name_has_not(self) -> None:
        with pytest.raises(SettingsError, match=r"^b: has nothing that data.group, 'm\\\\d', is about; correct"):
            split_images(data(train=("m1", "b"), group=r"m\d"), 0, Path())

    def test_group_that_is_no_expression(self) -> None:
        with pytest.raises(SettingsError, match=r"group: '\(' is no regular expression \(.*\); correct it"):
            data(group="(")


class TestFolds:
    @given(n=st.integers(2, 30), folds=st.integers(2, 30), seed=st.integers(0, 99))
    def test_each_image_is_in_one_fold_and_folds_are_alike(self, n: int, folds: int, seed: int) -> None:
        names = [f"{i}.tif" for i in range(n)]
        if folds > n:
            with pytest.raises(SettingsError, match=rf"{folds} folds cannot be made of {n} images; take 2 to as many"):
                make_folds(names, folds, None, seed)
            return
        made = make_folds(names, folds, None, seed)
        assert sorted(name for fold in made for name in fold) == sorted(names)
        assert max(map(len, made)) - min(map(len, made)) <= 1

    def test_groups_stay_together(self) -> None:
        made = make_folds(PIECES, 3, r"^(m\d)_", 1)
        of_group = [{group_of(name, r"^(m\d)_") for name in fold} for fold in made]
        assert sorted(group for groups in of_group for group in groups) == ["m0", "m1", "m2", "m3"]

    def test_fewer_groups_than_folds(self) -> None:
        with pytest.raises(SettingsError, match="5 folds cannot be made of 4 groups of images"):
            make_folds(PIECES, 5, r"m\d", 0)

    def test_the_seed_decides(self) -> None:
        assert make_folds(PIECES, 3, None, 1) == make_folds(PIECES, 3, None, 1) != make_folds(PIECES, 3, None, 2)


class TestCopies:
    def test_are_found_whatever_their_names_and_files(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        (tmp_path / "truth").mkdir()
        grey = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
        for name, compression in (("a", None), ("b", "zlib"), ("c", None)):
            tifffile.imwrite(tmp_path / "images" / f"{name}.tif", grey + (name == "c"), compression=compression)
            tifffile.imwrite(tmp_path / "truth" / f"{name}.tif", grey)
        found = digests_of(data(), ["a", "b", "c"], tmp_path, 1)
        assert found["a"] == found["b"] != found["c"]
        assert found["a"] == digest_of(Example("a", grey[None], grey))
        with pytest.raises(InputError, match=r"^b in test is the same image as a in train; leave one of them out"):
            check_apart({"train": {"a": found["a"], "c": found["c"]}, "test": {"b": found["b"]}})
        check_apart({"train": {"a": found["a"], "b": found["b"]}, "test": {"c": found["c"]}})

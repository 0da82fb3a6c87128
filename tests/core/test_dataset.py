from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_matseg.core.dataset import UNKNOWN_DISTANCE, Crops, Example, load_examples, relative_depth, split
from napari_matseg.core.synthetic import write_demo
from napari_matseg.errors import InputError, SettingsError
from napari_matseg.settings import TrainSettings

CLASSES = [{"name": "background", "colour": (0, 0, 0)}, {"name": "particle", "colour": (255, 0, 0)}]
PLAIN = {"scale": (1, 1), "aspect": 1, "rotate": False, "brightness": 0, "contrast": (1, 1), "gamma": (1, 1)}
PLAIN |= dict.fromkeys(("invert", "shading", "blur", "noise"), 0)


def recipe(data: dict[str, Any] | None = None, **settings: Any) -> TrainSettings:
    data = {"images": "images", "truth": "truth", "train": ("a",)} | (data or {})
    return TrainSettings.model_validate({"name": "test", "classes": CLASSES, "data": data, "crop": 64} | settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "truth").mkdir()
    return tmp_path


@pytest.fixture
def put(folder: Path) -> Callable[..., None]:
    """Write an image with its truth: a bright square of class 1."""

    def write(image: str, truth: str | None = None, shape: tuple[int, int] = (70, 90)) -> None:
        pixels = np.random.default_rng(0).integers(0, 100, shape).astype(np.uint8)
        pixels[20:40, 30:60] += 120
        classes = np.zeros(shape, np.uint8)
        classes[20:40, 30:60] = 1
        save(folder / "images" / image, pixels)
        save(folder / "truth" / (truth or image), classes)

    return write


def save(path: Path, pixels: np.ndarray) -> None:
    if path.suffix.lower() in (".tif", ".tiff"):
        tifffile.imwrite(path, pixels)
    else:
        Image.fromarray(pixels).save(path)


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a disc, and the distance of each pixel from its centre."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    distance = np.hypot(y - centre[0], x - centre[1])
    return (distance <= radius).astype(np.uint8), distance


def names_of(settings: TrainSettings, folder: Path) -> tuple[list[str], list[str]]:
    return split(settings.data, settings.seed, folder)


class TestSplit:
    @given(st.integers(2, 50), st.floats(0.01, 0.99), st.integers(0, 999))
    def test_share_is_held_out_by_image(self, n: int, share: float, seed: int) -> None:
        names = tuple(f"image{i}" for i in range(n))
        settings = recipe({"train": names, "validation": share}, seed=seed)
        if round(share * n) == n:
            with pytest.raises(SettingsError, match="no image to train on"):
                names_of(settings, Path())
            return
        train, validation = names_of(settings, Path())
        assert sorted(train + validation) == sorted(names)
        assert len(validation) == max(1, round(share * n))
        assert (train, validation) == names_of(settings, Path())

    def test_another_seed_holds_out_others(self) -> None:
        data = {"train": tuple("abcdefghijkl"), "validation": 0.25}
        assert len({tuple(names_of(recipe(data, seed=seed), Path())[1]) for seed in range(5)}) > 1

    def test_lists_in_the_recipe(self) -> None:
        assert names_of(recipe({"train": ("a", "b"), "validation": ("c",)}), Path()) == (["a", "b"], ["c"])
        assert names_of(recipe({"train": ("a", "b")}), Path()) == (["a", "b"], [])

    def test_lists_in_files(self, tmp_path: Path) -> None:
        (tmp_path / "train.txt").write_bytes(b"a\r\nwith space.tif\r\n\r\n  b.v2  \r\n")
        (tmp_path / "validation.txt").write_text("c")
        settings = recipe({"train": Path("train.txt"), "validation": Path("validation.txt")})
        assert names_of(settings, tmp_path) == (["a", "with space.tif", "b.v2"], ["c"])

    @pytest.mark.parametrize(("train", "validation"), [("a", "a"), ("a.tif", "a"), ("a.tif", "a.png")])
    def test_no_image_is_in_both(self, train: str, validation: str) -> None:
        with pytest.raises(SettingsError, match="a is in both train and validation; an image can be in one only"):
            names_of(recipe({"train": (train, "b"), "validation": (validation,)}), Path())

    def test_dots_tell_images_apart(self) -> None:
        assert names_of(recipe({"train": ("a.1",), "validation": ("a.2",)}), Path()) == (["a.1"], ["a.2"])

    def test_nothing_to_train_on(self) -> None:
        with pytest.raises(SettingsError, match=r"no image to train on; name some under data\.train"):
            names_of(recipe({"train": ()}), Path())

    def test_list_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"train\.txt: cannot be read .*; check the data folder"):
            names_of(recipe({"train": Path("train.txt")}), tmp_path)

    def test_list_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00\x80")
        with pytest.raises(SettingsError, match=r"train\.txt: is no text file"):
            names_of(recipe({"train": Path("train.txt")}), tmp_path)


class TestLoading:
    @pytest.mark.parametrize(
        ("name", "image", "truth", "suffix"),
        [
            ("a.tif", "a.tif", "a.tif", ""),
            ("a", "a.png", "a.tif", ""),
            ("a.tif", "a.tif", "a_mask.png", "_mask"),
            ("a.5kV", "a.5kV.tif", "a.5kV_mask.tif", "_mask"),
            ("a.5kV.tif", "a.5kV.tif", "a.5kV.png", ""),
            ("a", "a.TIF", "a.PNG", ""),
        ],
    )
    def test_files_are_found(
        self, folder: Path, put: Callable[..., None], name: str, image: str, truth: str, suffix: str
    ) -> None:
        put(image, truth)
        (example,) = load_examples(recipe({"truth_suffix": suffix}), [name], folder)
        assert example.image_cyx.shape == (1, 70, 90)
        assert example.classes_yx.dtype == np.uint8
        assert example.classes_yx.sum() == 600
        assert example.image_cyx[0][example.classes_yx == 1].min() >= 120
        assert example.distance_yx is None

    def test_channels_are_those_of_the_network(self, folder: Path, put: Callable[..., None]) -> None:
        put("a.tif")
        (example,) = load_examples(recipe(architecture={"in_channels": 3}), ["a"], folder)
        assert example.image_cyx.shape == (3, 70, 90)

    def test_data_bar_is_left_out(self, folder: Path) -> None:
        image, truth = write_demo(folder / "images" / "a.tif", shape=(128, 256))
        truth.rename(folder / "truth" / "a.tif")
        (example,) = load_examples(recipe(), ["a"], folder)
        assert example.image_cyx.shape == (1, 128, 256)
        assert example.classes_yx.shape == (128, 256)
        assert tifffile.imread(image).shape[0] > 128

    def test_image_is_missing(self, folder: Path) -> None:
        with pytest.raises(InputError, match=r"images.a: there is no such image; check the names in the recipe"):
            load_examples(recipe(), ["a"], folder)

    def test_truth_is_missing(self, folder: Path, put: Callable[..., None]) -> None:
        put("a.tif")
        (folder / "truth" / "a.tif").unlink()
        with pytest.raises(InputError, match=r"truth.a: there is no such truth"):
            load_examples(recipe(), ["a.tif"], folder)

    def test_truth_has_another_shape(self, folder: Path, put: Callable[..., None]) -> None:
        put("a.tif")
        save(folder / "truth" / "a.tif", np.zeros((70, 91), np.uint8))
        with pytest.raises(InputError, match=r"truth.a\.tif: shape \(70, 91\) is not that of its image .*\(70, 90\)"):
            load_examples(recipe(), ["a"], folder)

    def test_truth_has_unknown_values(self, folder: Path, put: Callable[..., None]) -> None:
        put("a.tif")
        truth = np.zeros((70, 90), np.uint8)
        truth[0, 0] = 9
        save(folder / "truth" / "a.tif", truth)
        classes = [*CLASSES, {"name": "pore", "colour": (0, 0, 255)}]
        with pytest.raises(InputError, match=r"truth.a\.tif: the class ids are 0 to 2 .* there are 9"):
            load_examples(recipe(classes=classes), ["a"], folder)

    def test_what_is_not_labelled_is_ignored(self, folder: Path, put: Callable[..., None]) -> None:
        put("a.tif")
        painted = np.zeros((70, 90), np.uint8)
        painted[10:12], painted[20:22] = 1, 2
        save(folder / "truth" / "a.tif", painted)
        (example,) = load_examples(recipe({"unlabelled": 0}), ["a"], folder)
        np.testing.assert_array_equal(example.classes_yx, painted - np.uint8(1))
        assert set(np.unique(example.classes_yx)) == {0, 1, 255}
        save(folder / "truth" / "a.tif", np.where(painted == 2, 9, painted).astype(np.uint8))
        (example,) = load_examples(recipe({"unlabelled": 9}), ["a"], folder)
        np.testing.assert_array_equal(example.classes_yx, np.where(painted == 2, 255, painted))

    def test_strokes_in_colour_over_the_micrograph(self, folder: Path, put: Callable[..., None]) -> None:
        put("a.tif")
        drawn = np.full((70, 90, 3), 77, np.uint8)
        drawn[5, 5:9], drawn[6, 5:9] = (255, 0, 0), (0, 0, 255)
        save(folder / "truth" / "a.tif", drawn)
        classes = [{"name": "matrix", "colour": (255, 0, 0)}, {"name": "pore", "colour": (0, 0, 255)}]
        (example,) = load_examples(recipe({"unlabelled": 0}, classes=classes), ["a"], folder)
        assert [int((example.classes_yx == i).sum()) for i in (0, 1, 255)] == [4, 4, 6292]

    def test_objects_are_of_class_1_with_their_depth(self, folder: Path, put: Callable[..., None]) -> None:
        put("a.tif")
        objects = np.zeros((70, 90), np.uint32)
        objects[10:31, 10:31] = 7
        objects[10:31, 31:52] = 4_000_000_000  # ids need not be near each other
        save(folder / "truth" / "a.tif", objects)
        (example,) = load_examples(recipe({"instances": True}, distance=True), ["a"], folder)
        np.testing.assert_array_equal(example.classes_yx, objects > 0)
        assert example.distance_yx is not None
        assert example.distance_yx[20, 20] == example.distance_yx[20, 41] == 1
        assert example.distance_yx[20, 30] == example.distance_yx[20, 31] == 0

    @pytest.mark.parametrize(
        "objects",
        [
            np.full((70, 90), -1, np.int16),
            np.ones((70, 90), np.float32),
            np.random.default_rng(0).integers(0, 255, (70, 90, 3)).astype(np.uint8),
        ],
        ids=["negative", "float", "colour"],
    )
    def test_objects_that_are_none(self, folder: Path, put: Callable[..., None], objects: np.ndarray) -> None:
        put("a.tif")
        save(folder / "truth" / "a.tif", objects)
        with pytest.raises(InputError, match=r"truth.a\.tif: must hold whole numbers, 0 and one for each object"):
            load_examples(recipe({"instances": True}), ["a"], folder)


class TestDepth:
    def test_of_a_disc(self) -> None:
        objects, distance = disc((101, 121), (50, 60), 40)
        expected = np.clip(1 - distance / 40, 0, 1)
        np.testing.assert_allclose(relative_depth(objects), expected, atol=0.05)

    def test_the_frame_is_no_edge(self) -> None:
        objects, distance = disc((51, 121), (0, 60), 40)
        expected = np.clip(1 - distance / 40, 0, 1)
        np.testing.assert_allclose(relative_depth(objects), expected, atol=0.05)

    def test_objects_that_touch_have_an_edge_between_them(self) -> None:
        objects = np.zeros((30, 60), np.int32)
        objects[5:25, 5:30], objects[5:25, 30:55] = 1, 2
        depth = relative_depth(objects)
        assert not depth[:, 29:31].any()
        assert depth[5:25, 5:30].max() == depth[5:25, 30:55].max() == 1
        np.testing.assert_allclose(depth, depth[:, ::-1])

    def test_each_object_has_its_own_measure(self) -> None:
        small, _ = disc((80, 80), (15, 15), 8)
        large, _ = disc((80, 80), (48, 48), 28)
        depth = relative_depth(small + 2 * large)
        assert depth[15, 15] == depth[48, 48] == 1

    def test_without_objects(self) -> None:
        depth = relative_depth(np.zeros((5, 7), np.uint16))
        np.testing.assert_array_equal(depth, np.zeros((5, 7)))
        assert depth.dtype == np.float32

    def test_object_without_edges(self) -> None:
        np.testing.assert_array_equal(relative_depth(np.ones((20, 30), np.uint8)), np.ones((20, 30)))

    def test_object_of_a_pixel(self) -> None:
        objects = np.zeros((5, 5), np.uint8)
        objects[2, 2] = 1
        assert not relative_depth(objects).any()


class TestCrops:
    @pytest.fixture
    def example(self) -> Example:
        classes, distance = disc((150, 170), (70, 90), 50)
        grey = (60 + 120 * classes + np.random.default_rng(0).integers(0, 9, classes.shape)).astype(np.uint8)
        return Example("disc", grey[None], classes, np.clip(1 - distance / 50, 0, 1).astype(np.float32))

    def test_the_number_decides(self, example: Example) -> None:
        other = Example("other", 255 - example.image_cyx, example.classes_yx)
        settings = recipe(augment={"burnt_in": 0.5}, synthetic=0.5)
        crops, again = Crops([example, other], settings), Crops([example, other], settings)
        forth = [crops.crop(number) for number in range(6)]
        back = [again.crop(number) for number in reversed(range(6))][::-1]
        for one, same in zip(forth, back, strict=True):
            for array, expected in zip(one, same, strict=True):
                np.testing.assert_array_equal(array, expected)
        assert len({image.tobytes() for image, _, _ in forth}) == 6
        reseeded = Crops([example, other], recipe(augment={"burnt_in": 0.5}, synthetic=0.5, seed=1)).crop(0)
        assert reseeded[0].tobytes() != forth[0][0].tobytes()

    def test_image_truth_and_distance_are_of_one_place(self, example: Example) -> None:
        settings = recipe(augment=PLAIN | {"rotate": True, "scale": (0.7, 1.5)}, crop=96)
        crops = Crops([example], settings)
        for number in range(10):
            image, classes, distance = crops.crop(number)
            assert image.shape == (1, 96, 96)
            assert classes.shape == distance.shape == (96, 96)
            assert (image.dtype, classes.dtype, distance.dtype) == (np.float32, np.uint8, np.float32)
            assert ((image[0] > 0) == (classes == 1)).mean() > 0.97
            assert ((distance > 0.03) == (classes == 1)).mean() > 0.95

    def test_distance_that_is_not_learnt_is_marked(self, example: Example) -> None:
        crops = Crops([Example("disc", example.image_cyx, example.classes_yx)], recipe())
        assert (crops.crop(0)[2] == UNKNOWN_DISTANCE).all()

    def test_where_little_is_labelled_crops_are_there(self) -> None:
        classes = np.full((400, 500), 255, np.uint8)
        classes[30:33, 30:300], classes[380:383, 480:484] = 0, 1
        crops = Crops([Example("steel", np.zeros((1, 400, 500), np.uint8), classes)], recipe(augment={"scale": (1, 1)}))
        seen = [set(np.unique(crops.crop(number)[1])) - {255} for number in range(40)]
        assert sum(map(bool, seen)) > 36  # one in a distorted corner may miss its pixel
        assert 10 < sum(1 in classes for classes in seen) < 30, "each class as often, however many pixels it has"

    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_synthetic_micrographs(self, example: Example, n_classes: int, channels: int) -> None:
        classes = [*CLASSES, {"name": "tertiary", "colour": (0, 0, 255)}][:n_classes]
        settings = recipe(
            classes=classes, synthetic=1.0, distance=n_classes == 2, architecture={"in_channels": channels}
        )
        crops = Crops([Example("disc", np.repeat(example.image_cyx, channels, axis=0), example.classes_yx)], settings)
        found = set()
        for number in range(3):
            image, truth, distance = crops.crop(number)
            assert image.shape == (channels, 64, 64)
            found |= set(np.unique(truth))
            assert (distance == UNKNOWN_DISTANCE).all() == (n_classes == 3)
        assert found <= set(range(n_classes))
        assert len(found) > 1

    def test_lettering_changes_the_image_but_not_the_truth(self, example: Example) -> None:
        plain = Crops([example], recipe(augment=PLAIN, crop=128))
        burnt = Crops([example], recipe(augment=PLAIN | {"burnt_in": 1.0}, crop=128))
        changed = [np.abs(burnt.crop(n)[0] - plain.crop(n)[0]).max() for n in range(3)]
        assert max(changed) > 0.5

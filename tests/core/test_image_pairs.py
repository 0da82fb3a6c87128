from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from napari_matseg.core.image_pairs import bare, file_named, find_images, match_files, without_suffix
from napari_matseg.errors import InputError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def coco(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    path.write_text(json.dumps({"images": images, "annotations": []}))
    return path


def matched(images: Path, truth: Path, **options: object) -> dict[str, str]:
    pairs = match_files(images, truth, **options)
    return {str(image.relative_to(images)): str(found.relative_to(truth)) for image, found in pairs}


@pytest.mark.parametrize(
    ("image", "truth"),
    [
        ("a.tif", "a.png"),
        ("a.tif", "a_mask.TIF"),
        ("a.tif", "A-masks.tiff"),
        ("a.tif", "a labels.png"),
        ("a.tif", "a.seg.png"),
        ("a.tif", "a__objects.bmp"),
        ("a.tif", "a_RoiSet.zip"),
        ("a.tif", "a.roi"),
        ("a.tif", "a_annotations.json"),
        ("a_labels.tif", "a.png"),
        ("a_labels.tif", "a_gt.png"),
        ("a_labels.tif", "a_labels.png"),
        ("a_instances.ome.tif", "a.ome.tif"),
        ("Straße.tif", "STRASSE_truth.png"),
        (unicodedata.normalize("NFC", "Gefüge.tif"), unicodedata.normalize("NFD", "gefüge_mask.tif")),
        ("mask.tif", "mask.png"),
        ("a.5kV.tif", "a.5kV_mask.png"),
    ],
)
def test_names_that_match(tmp_path: Path, image: str, truth: str) -> None:
    folder = touch(tmp_path, truth, "b.tif", "a2.tif", "a_overlay.png", ".a.tif")
    assert match_files([Path("elsewhere") / image], folder) == [(Path("elsewhere") / image, folder / truth)]


def test_a_truth_of_the_very_name_is_that_of_the_image(tmp_path: Path) -> None:
    images, truth = touch(tmp_path / "i", "a.tif", "a_seg.tif"), touch(tmp_path / "t", "a_mask.png", "a_seg_mask.png")
    assert match_files([images / "a.tif", images / "a_seg.tif"], truth) == [
        (images / "a.tif", truth / "a_mask.png"),
        (images / "a_seg.tif", truth / "a_seg_mask.png"),
    ]


def test_sub_folders(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "a.tif", "x/a.tif", "x/y/a.tif", "x/b.tif", "z/c.tif")
    truth = touch(tmp_path / "truth", "a.png", "X/a_mask.png", "x/y/a.png", "b.png", "elsewhere/c.png", ".git/c.png")
    assert matched(images, truth) == {
        "a.tif": "a.png",
        "x/a.tif": "X/a_mask.png",
        "x/b.tif": "b.png",
        "x/y/a.tif": "x/y/a.png",
        "z/c.tif": "elsewhere/c.png",
    }


def test_one_folder_for_both(tmp_path: Path) -> None:
    folder = touch(tmp_path, "a.tif", "a_mask.png", "b.tif", "b.zip", "c.tif", "c.png.json", "c.json")
    assert matched(folder, folder) == {"a.tif": "a_mask.png", "b.tif": "b.zip", "c.tif": "c.json"}


def test_truth_inside_the_folder_of_images(tmp_path: Path) -> None:
    folder = touch(tmp_path, "a.tif", "truth/a.tif")
    assert matched(folder, folder / "truth") == {"a.tif": "a.tif"}
    assert match_files(folder / "truth", folder) == [(folder / "truth" / "a.tif", folder / "a.tif")]


def test_results_of_a_segmentation(tmp_path: Path) -> None:
    results = touch(tmp_path / "results", *(f"a{end}" for end in ("_labels.tif", "_instances.tif", "_overlay.png")))
    touch(results, "a_record.json", "b_labels.tif", "b_overlay.png")
    truth = touch(tmp_path / "truth", "a.tif", "b.tif", "c.tif")
    assert list(matched(results, truth, prefer=("labels", ""))) == ["a_labels.tif", "b_labels.tif"]
    assert list(matched(results, truth, prefer=("instances", "labels"))) == ["a_instances.tif", "b_labels.tif"]
    with pytest.raises(InputError, match=r"^a_instances\.tif, a_labels\.tif: are of one image; leave"):
        match_files(results, truth)


def test_none_and_several(tmp_path: Path) -> None:
    folder = touch(tmp_path, "a.png", "a_mask.png", "b.txt")
    with pytest.raises(
        InputError, match=r"holds more than one truth for a\.tif: a\.png, a_mask\.png; leave one, named"
    ):
        match_files([Path("b.tif"), Path("a.tif")], folder)
    images = [Path(f"{name}.tif") for name in "bcdefgh"]
    with pytest.raises(
        InputError, match=r"holds no truth for b\.tif, .*, f\.tif and 2 more; it should be named b or b_"
    ):
        match_files(images, folder)
    with pytest.raises(InputError, match=r"holds no image; name another folder"):
        find_images(touch(tmp_path / "empty", "a.txt", "a_overlay.png"))
    with pytest.raises(InputError, match=r"^a\.png, a\.tif: are of one image; leave one in"):
        find_images(touch(tmp_path / "two", "a.tif", "a.png"))


class TestOneFile:
    def test_for_one_image(self, tmp_path: Path) -> None:
        assert match_files(Path("a.tif"), Path("b.png")) == [(Path("a.tif"), Path("b.png"))]
        with pytest.raises(InputError, match=r"b\.png: there is no such file or folder"):
            match_files([Path("a.tif"), Path("c.tif")], Path("b.png"))
        truth = touch(tmp_path, "b.png") / "b.png"
        with pytest.raises(InputError, match=r"b\.png: is the truth of one image, and there are 2; give a folder"):
            match_files([Path("a.tif"), Path("c.tif")], truth)

    def test_coco_for_all(self, tmp_path: Path) -> None:
        images = touch(tmp_path / "images", "a.tif", "b.png", "x/c.tif")
        table = coco(tmp_path / "all.json", "a.png", "train/B.png", "c.tif")
        pairs = match_files(images, table)
        assert [image.name for image, _ in pairs] == ["a.tif", "b.png", "c.tif"]
        assert {truth for _, truth in pairs} == {table}
        touch(images, "d.tif", "e.tif")
        with pytest.raises(InputError, match=r"all\.json: does not list d\.tif, e\.tif; give the truth of these"):
            match_files(images, table)

    def test_coco_in_a_folder(self, tmp_path: Path) -> None:
        images = [Path("a.tif"), Path("b.tif"), Path("c.tif")]
        folder = touch(tmp_path, "b.png", "other.json")
        first, last = coco(tmp_path / "1.json", "a.tif", "b.tif"), coco(tmp_path / "deep" / "2.json", "c.tif")
        assert [truth for _, truth in match_files(images, folder)] == [first, folder / "b.png", last]


class TestNamed:
    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("a", "a.tif"),
            ("a.png", "a.png"),
            ("a.jpg", "a.tif"),
            ("A", "a.tif"),
            ("b.5kV", "b.5kV.PNG"),
            ("b", None),
            ("c", "c.zip"),
            ("d", None),
            ("Ä", "A\u0308.tif"),
        ],
    )
    def test_files(self, tmp_path: Path, name: str, found: str | None) -> None:
        folder = touch(tmp_path, "a.png", "a.tif", "b.5kV.PNG", "c.zip", "d.txt", "d/d.tif", "A\u0308.tif")
        assert file_named(folder, name) == (None if found is None else folder / found)

    def test_no_folder(self, tmp_path: Path) -> None:
        assert file_named(tmp_path / "none", "a") is None

    def test_a_store_is_one_image(self, tmp_path: Path) -> None:
        folder = touch(tmp_path, "x/a.zarr/0/0.tif", "x/b.dm3", "x/c.MRC", "truth/a.png", "truth/b_mask.tif", "x/c.png")
        assert find_images(folder / "x/a.zarr") == [folder / "x/a.zarr"]
        assert file_named(folder / "x", "a") == file_named(folder / "x", "a.zarr") == folder / "x/a.zarr"
        (folder / "x/c.png").unlink()
        assert find_images(folder / "x") == [folder / "x" / name for name in ("a.zarr", "b.dm3", "c.MRC")]
        assert match_files([folder / "x/a.zarr", folder / "x/b.dm3"], folder / "truth") == [
            (folder / "x/a.zarr", folder / "truth/a.png"),
            (folder / "x/b.dm3", folder / "truth/b_mask.tif"),
        ]
        assert match_files(folder / "x/b.dm3", folder / "x/a.zarr") == [(folder / "x/b.dm3", folder / "x/a.zarr")]

    def test_suffixes(self) -> None:
        assert [without_suffix(name) for name in ("a.TIF", "a.5kV", "a.b.png")] == ["a", "a.5kV", "a.b"]

    def test_endings(self) -> None:
        assert [bare(name) for name in ("a_mask", "a_b", "mask", "_mask", "a_mask_2", "a.v1_gt", "amask")] == [
            "a",
            "a_b",
            "mask",
            "_mask",
            "a_mask_2",
            "a.v1",
            "amask",
        ]

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from roifile import ROI_TYPE, ImagejRoi, roiwrite

from napari_matseg.core.truth_objects import read_objects
from napari_matseg.errors import InputError

SHAPE = (40, 50)


def labels() -> np.ndarray:
    found = np.zeros(SHAPE, dtype=np.uint16)
    found[2:14, 3:17], found[2:14, 20:34], found[20:32, 3:17] = 3, 7, 200
    return found


def box(left: int, top: int, width: int, height: int, position: int = 0, name: str = "") -> ImagejRoi:
    return ImagejRoi(
        roitype=ROI_TYPE.RECT, left=left, top=top, right=left + width, bottom=top + height, position=position, name=name
    )


def coco(path: Path, *, crowd: bool = False) -> Path:
    square, inner = [[0, 0, 10, 0, 10, 10, 0, 10]], [[2, 2, 5, 2, 5, 5, 2, 5]]
    entry = {"id": 1, "file_name": "a.tif", "height": SHAPE[0], "width": SHAPE[1]}
    annotations = [
        {"id": 5, "image_id": 1, "category_id": 2, "segmentation": square, "iscrowd": int(crowd)},
        {"id": 6, "image_id": 1, "category_id": 1, "segmentation": inner, "iscrowd": 0},
        {"id": 7, "image_id": 1, "segmentation": [[20, 0, 23, 0, 23, 1, 20, 1]]},
    ]
    categories = [{"id": 1, "name": "pore"}, {"id": 2, "name": "grain"}]
    path.write_text(json.dumps({"images": [entry], "annotations": annotations, "categories": categories}))
    return path


class TestPictures:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.float32])
    def test_ids_in_tiff(self, tmp_path: Path, dtype: type) -> None:
        tifffile.imwrite(tmp_path / "a.tif", labels().astype(dtype))
        found = read_objects(tmp_path / "a.tif", shape_yx=SHAPE)
        np.testing.assert_array_equal(found.labels_yx, labels())
        assert found.labels_yx.dtype == np.uint32
        assert (found.classes, found.ignore_yx, found.note) == ({}, None, None)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_ids_in_png(self, tmp_path: Path, dtype: type) -> None:
        Image.fromarray(labels().astype(dtype)).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_objects(str(tmp_path / "a.png")).labels_yx, labels())

    def test_a_plane_of_a_stack(self, tmp_path: Path) -> None:
        stack = np.stack([labels() * 0, labels(), labels() + 1])
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
        np.testing.assert_array_equal(read_objects(tmp_path / "a.tif", plane=1).labels_yx, labels())
        with pytest.raises(InputError, match=r"a\.tif: there is no plane 3"):
            read_objects(tmp_path / "a.tif", plane=3)

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_indices_of_a_palette_are_ids(self, tmp_path: Path, suffix: str) -> None:
        """Even where two have one colour, or one is white."""
        colours = np.zeros((256, 3), dtype=np.uint8)
        colours[3], colours[7], colours[200] = (255, 255, 255), (9, 90, 9), (9, 90, 9)
        path = tmp_path / f"a{suffix}"
        if suffix == ".png":
            picture = Image.fromarray(labels().astype(np.uint8), mode=None)
            picture.putpalette(colours.tobytes())
            picture.save(path)
        else:
            tifffile.imwrite(
                path, labels().astype(np.uint8), photometric="palette", colormap=colours.T * np.uint16(257)
            )
        found = read_objects(path)
        np.testing.assert_array_equal(found.labels_yx, labels())
        assert found.note is None

    def test_a_drawing_in_a_palette_goes_by_its_colours(self, tmp_path: Path) -> None:
        indices = np.where(labels() == 0, 1, np.where(labels() == 3, 0, 2)).astype(np.uint8)
        picture = Image.fromarray(indices)
        picture.putpalette([255, 0, 0, 255, 255, 255, 0, 0, 255])
        picture.save(tmp_path / "a.png")
        found = read_objects(tmp_path / "a.png", kind="pieces").labels_yx
        np.testing.assert_array_equal(found > 0, labels() > 0)

    @pytest.mark.parametrize("mode", ["RGBA", "P", "LA"])
    def test_what_is_transparent_is_ground(self, tmp_path: Path, mode: str) -> None:
        pixels = np.full((*SHAPE, 4), (200, 0, 0, 0), dtype=np.uint8)
        for value, colour in {3: (0, 200, 0, 255), 7: (0, 0, 200, 255), 200: (90, 90, 0, 255)}.items():
            pixels[labels() == value] = colour
        picture = Image.fromarray(pixels)
        if mode == "P":
            indices = Image.fromarray(
                np.select([labels() == 3, labels() == 7, labels() == 200], [0, 1, 2], 3).astype("u1")
            )
            indices.putpalette([0, 200, 0, 0, 0, 200, 90, 90, 0, 200, 0, 0])
            indices.save(tmp_path / "a.png", transparency=3)
        else:
            picture.convert(mode).save(tmp_path / "a.png")
        found = read_objects(tmp_path / "a.png").labels_yx
        np.testing.assert_array_equal(found > 0, labels() > 0)
        assert len(np.unique(found)) == 4

    def test_in_colour_in_tiff(self, tmp_path: Path) -> None:
        pixels = np.random.default_rng(0).integers(1, 254, (201, 3), dtype=np.uint8)[labels()]
        pixels[labels() == 0] = 255
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
        found = read_objects(tmp_path / "a.tif")
        np.testing.assert_array_equal(found.labels_yx > 0, labels() > 0)
        assert found.note == f"{tmp_path / 'a.tif'}: each of 3 colours read as an object"

    def test_mask(self, tmp_path: Path) -> None:
        Image.fromarray(labels() > 0).save(tmp_path / "a.png")
        found = read_objects(tmp_path / "a.png")
        assert found.labels_yx.max() == 3
        assert found.note == f"{tmp_path / 'a.png'}: 3 connected pieces read as objects"

    def test_of_another_shape(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", labels())
        with pytest.raises(
            InputError, match=r"a\.tif: shape \(40, 50\) is not that of its image b\.tif, \(50, 40\); give"
        ):
            read_objects(tmp_path / "a.tif", shape_yx=(50, 40), image="b.tif")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="there is no such file"):
            read_objects(tmp_path / "a.tif")
        (tmp_path / "a.txt").write_text("nothing")
        with pytest.raises(InputError, match="is not an image that can be read"):
            read_objects(tmp_path / "a.txt")


class TestRegions:
    def test_of_one_image(self, tmp_path: Path) -> None:
        line = ImagejRoi(roitype=ROI_TYPE.LINE, x2=3.0, name="scale")
        roiwrite(tmp_path / "a.zip", [box(0, 0, 10, 10, name="pore 1"), line, box(2, 2, 3, 3, name="2")])
        found = read_objects(tmp_path / "a.zip", shape_yx=SHAPE)
        assert np.bincount(found.labels_yx.ravel()).tolist() == [1900, 91, 9]
        assert found.classes == {1: "pore"}
        assert found.note == (
            f"{tmp_path / 'a.zip'}: lines, points and texts, left out: 1; "
            "objects that overlap smaller ones, which have the pixels of both: 1"
        )

    def test_known_by_their_content(self, tmp_path: Path) -> None:
        box(0, 0, 10, 10).tofile(tmp_path / "a.tif.dat")
        assert read_objects(tmp_path / "a.tif.dat", shape_yx=SHAPE).labels_yx.sum() == 100

    def test_need_the_shape(self, tmp_path: Path) -> None:
        roiwrite(tmp_path / "a.zip", [box(0, 0, 10, 10)])
        with pytest.raises(InputError, match=r"a\.zip: regions of ImageJ do not tell how large their image is; give"):
            read_objects(tmp_path / "a.zip")

    def test_planes(self, tmp_path: Path) -> None:
        roiwrite(tmp_path / "a.zip", [box(0, 0, n + 1, 1, position=n, name=str(n)) for n in range(3)])
        found = read_objects(tmp_path / "a.zip", shape_yx=SHAPE, plane=1)
        assert np.bincount(found.labels_yx.ravel())[1:].sum() == 3
        assert found.note is not None
        assert "regions on other planes, left out: 1" in found.note

    def test_all_on_other_planes(self, tmp_path: Path) -> None:
        roiwrite(tmp_path / "a.zip", [box(0, 0, 9, 9, position=4)])
        with pytest.raises(InputError, match=r"a\.zip: its regions are on other planes than this, such as 3 \(counted"):
            read_objects(tmp_path / "a.zip", shape_yx=SHAPE)


class TestCoco:
    def test_objects_and_their_classes(self, tmp_path: Path) -> None:
        found = read_objects(coco(tmp_path / "a.json"), image="run/a_labels.tif")
        assert np.bincount(found.labels_yx.ravel()).tolist() == [1897, 91, 9, 3]
        assert found.classes == {1: "grain", 2: "pore"}
        assert found.ignore_yx is None

    def test_crowds_do_not_count(self, tmp_path: Path) -> None:
        found = read_objects(coco(tmp_path / "a.json", crowd=True))
        assert np.bincount(found.labels_yx.ravel()).tolist() == [1988, 0, 9, 3]
        assert found.classes == {2: "pore"}
        assert found.ignore_yx is not None
        assert found.ignore_yx.sum() == 91
        assert found.note == f"{tmp_path / 'a.json'}: crowds, of no object: 1"

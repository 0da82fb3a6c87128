from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.draw import disk, ellipse_perimeter
from skimage.measure import label
from skimage.segmentation import find_boundaries

from napari_matseg.core.truth_pictures import Painted, objects_in
from napari_matseg.errors import InputError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def read(pixels: object, kind: Any = "auto", **options: Any) -> Painted:
    return objects_in(np.asarray(pixels), kind, "t.png", **options)


def ids(dtype: type = np.uint16) -> np.ndarray:
    """Four objects, one of them in two pieces, with gaps between the ids."""
    labels = np.zeros((40, 50), dtype=dtype)
    for value, (top, left) in {3: (2, 3), 7: (2, 20), 200: (20, 3), 90: (25, 25)}.items():
        labels[top : top + 12, left : left + 14] = value
    labels[0, 49] = 7
    return labels


def same_objects(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether two label images differ in nothing but the ids."""
    pairs = np.unique(np.stack([one.ravel(), two.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(one)) == len(np.unique(two)) and not (pairs.min(0) == 0)[1:].any()


def coloured(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    colours = np.random.default_rng(seed).integers(1, 254, (int(labels.max()) + 1, 3), dtype=np.uint8)
    colours[0] = 0
    return colours[labels]


def drawn(*centres: tuple[int, int, int], shape: tuple[int, int] = (120, 140), width: int = 1) -> np.ndarray:
    """Circles."""
    lines = np.zeros(shape, dtype=bool)
    for y, x, radius in centres:
        for r in range(radius, radius + width):
            lines[ellipse_perimeter(y, x, r, r, shape=shape)] = True
    return ndimage.binary_closing(lines, np.ones((3, 3))) if width > 1 else lines


CIRCLES = ((30, 30, 18), (70, 90, 30), (95, 25, 12))


class TestIds:
    @pytest.mark.parametrize("kind", ["auto", "values"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int64, np.float32, np.float64])
    def test_stay_what_they_are(self, dtype: type, kind: str) -> None:
        found = read(ids(dtype), kind)
        np.testing.assert_array_equal(found.labels_yx, ids())
        assert found.labels_yx.dtype == np.uint32
        assert (found.names, found.note) == ({}, None)

    def test_up_to_the_largest(self) -> None:
        labels = ids(np.uint32)
        labels[labels == 3] = 2**32 - 1
        for kind in ("auto", "ids", "values"):
            np.testing.assert_array_equal(read(labels, kind).labels_yx, labels)

    @pytest.mark.parametrize(("bad", "message"), [(-1, "go from -1 to 200"), (2**32, "go from 0 to 4294967296")])
    def test_beyond(self, bad: int, message: str) -> None:
        labels = ids(np.int64)
        labels[0, 0] = bad
        with pytest.raises(InputError, match=rf"t\.png: ids {message}; they must be from 0 to 4294967295"):
            read(labels)
        with pytest.raises(InputError, match=r"t\.png: must hold whole numbers, 0 and one for each object"):
            read(labels, "ids")

    def test_that_are_none(self) -> None:
        with pytest.raises(
            InputError, match=r"t\.png: truth must be whole numbers, but 1 pixel\(s\) are not, such as 0\.5"
        ):
            read([[0.5, 1], [2, 0]])
        for pixels in (ids(np.float32), coloured(ids())):
            with pytest.raises(InputError, match="must hold whole numbers, 0 and one for each object"):
                read(pixels, "ids")

    def test_nothing_and_everything(self) -> None:
        assert read(np.zeros((5, 7), np.uint8)).labels_yx.tolist() == [[0] * 7] * 5
        assert read(np.full((5, 7), 9, np.uint8), "ids").labels_yx.tolist() == [[9] * 7] * 5
        assert read(np.full((5, 7), 9, np.uint8)).labels_yx.tolist() == [[1] * 7] * 5
        assert read(np.full((1, 1), 9, np.uint8)).labels_yx.tolist() == [[1]]

    def test_one_object_in_several_pieces(self) -> None:
        """A single value alone is a mask; that it is an object has to be said."""
        labels = np.where(ids() == 7, 7, 0)
        assert read(labels).labels_yx.max() == 2
        np.testing.assert_array_equal(read(labels, "values").labels_yx, labels)

    def test_a_micrograph_is_none(self) -> None:
        image = np.random.default_rng(0).integers(0, 256, (80, 80), dtype=np.uint8)
        with pytest.raises(
            InputError, match=r"t\.png: must hold .*, but has 255 values in \d+ pieces, like a micrograph"
        ):
            read(image)
        with pytest.raises(InputError, match=r"but has 6400 colours in \d+ pieces, like a micrograph or a JPEG"):
            read(np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8))


class TestMasks:
    @pytest.mark.parametrize("high", [1, 255, True, 65535])
    def test_connected_pieces_are_objects(self, high: int) -> None:
        mask = np.where(ids() > 0, high, 0) if high is not True else ids() > 0
        found = read(mask)
        np.testing.assert_array_equal(found.labels_yx, label(mask > 0, connectivity=2))
        assert found.note == "t.png: 5 connected pieces read as objects"
        assert found.names == {}

    def test_pixels_that_share_a_corner_are_connected(self) -> None:
        assert read([[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 1, 0]]).labels_yx.tolist() == [
            [1, 0, 1],
            [0, 1, 0],
            [0, 0, 0],
            [0, 2, 0],
        ]

    def test_one_piece_is_plain(self) -> None:
        assert read(np.eye(9, dtype=np.uint8)).note is None


class TestColours:
    @pytest.mark.parametrize("kind", ["auto", "values"])
    @pytest.mark.parametrize("ground", [0, 255])
    def test_each_is_an_object(self, ground: int, kind: str) -> None:
        pixels = coloured(ids())
        pixels[ids() == 0] = ground
        found = read(pixels, kind)
        assert same_objects(found.labels_yx, ids())
        assert [found.labels_yx[y, x] for y, x in [(0, 49), (2, 3), (25, 25), (20, 3)]] == [1, 2, 4, 3]
        assert found.note == (None if kind == "values" else "t.png: each of 4 colours read as an object")

    def test_transparent_is_ground(self) -> None:
        pixels = coloured(ids())
        pixels[ids() == 0] = RED
        found = read(pixels, clear_yx=ids() == 0)
        assert same_objects(found.labels_yx, ids())
        assert read(ids(), clear_yx=ids() == 7).labels_yx.max() == 200
        assert not (read(ids(), clear_yx=ids() == 7).labels_yx == 7).any()

    def test_over_a_micrograph(self) -> None:
        grey = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
        pixels = np.where((ids() > 0)[..., None], coloured(ids()), grey[..., None])
        found = read(pixels)
        assert same_objects(found.labels_yx, ids())
        assert found.note == "t.png: each of 4 colours read as an object, greys as ground"

    def test_a_few_greys_are_objects(self) -> None:
        pixels = coloured(ids())
        pixels[ids() == 90] = 128
        assert same_objects(read(pixels).labels_yx, ids())

    def test_few_in_many_pieces_are_classes(self) -> None:
        pixels = np.zeros((60, 60, 3), dtype=np.uint8)
        for i in range(9):
            pixels[6 * i : 6 * i + 4, 2:7] = RED
            pixels[6 * i : 6 * i + 4, 20:40] = BLUE
        found = read(pixels)
        assert same_objects(found.labels_yx, label(pixels.any(axis=-1), connectivity=2))
        assert found.note == "t.png: 2 colours read as classes, and their 18 connected pieces as objects"
        assert {found.names[i] for i in np.unique(found.labels_yx[:, :10]) if i} == {"#ff0000"}
        assert sorted(found.names.values()) == ["#0000ff"] * 9 + ["#ff0000"] * 9
        assert len(np.unique(read(pixels, "values").labels_yx)) == 3

    def test_classes_of_grey(self) -> None:
        classes = np.zeros((60, 60), dtype=np.uint8)
        classes[::6, ::6], classes[3::6, 3::6] = 1, 2
        found = read(classes)
        assert found.labels_yx.max() == 200
        assert set(found.names.values()) == {"1", "2"}
        assert read(classes, "values").labels_yx.max() == 2

    def test_pieces_that_touch_are_parted_by_colour(self) -> None:
        pixels = np.zeros((6, 9, 3), dtype=np.uint8)
        pixels[:, :3], pixels[:, 3:6], pixels[:, 6:] = RED, BLUE, RED
        assert read(pixels, "pieces").labels_yx[0].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]

    def test_of_16_bits(self) -> None:
        with pytest.raises(InputError, match=r"t\.png: colours must be from 0 to 255; save the truth with 8 bits"):
            read(np.full((4, 4, 3), 999, dtype=np.uint16))


class TestOutlines:
    @pytest.mark.parametrize("width", [1, 2, 3, 5])
    @pytest.mark.parametrize("drawn_in", ["bright", "dark", "red", "each its own colour"])
    def test_insides_are_objects_with_their_lines(self, drawn_in: str, width: int) -> None:
        lines = drawn(*CIRCLES, width=width)
        pixels: np.ndarray = np.where(lines, 255, 0).astype(np.uint8)
        if drawn_in == "dark":
            pixels = 255 - pixels
        elif drawn_in == "red":
            pixels = np.where(lines[..., None], np.array(RED, np.uint8), np.uint8(0))
        elif drawn_in == "each its own colour":
            pixels = coloured(label(lines, connectivity=2))
        filled = ndimage.binary_fill_holes(lines)
        for kind in ("auto", "outlines"):
            found = read(pixels, kind)
            np.testing.assert_array_equal(found.labels_yx, label(filled, connectivity=2))
        note = "t.png: the insides of 3 outlines read as objects, with the nearest of their lines"
        assert read(pixels).note == note
        assert read(pixels, "outlines").note is None

    def test_lines_between_objects_go_to_the_nearest(self) -> None:
        lines = np.zeros((20, 31), dtype=bool)
        lines[[2, 17], 3:28] = lines[2:18, [3, 27]] = True
        lines[2:18, 14:17] = True
        found = read(lines).labels_yx
        assert found[10].tolist() == [0] * 3 + [1] * 12 + [found[10, 15]] + [2] * 12 + [0] * 3

    def test_a_grain_mosaic_has_no_ground(self) -> None:
        y, x = np.mgrid[:90, :100]
        seeds = np.random.default_rng(0).uniform(0, 95, (25, 2))
        grains = ((y[..., None] - seeds[:, 0]) ** 2 + (x[..., None] - seeds[:, 1]) ** 2).argmin(axis=-1)
        lines = find_boundaries(grains, mode="inner")
        for pixels in (lines, ~lines):
            found = read(pixels)
            assert found.labels_yx.all()
            assert found.note is not None
            assert "of them are closed by the frame of the image" in found.note
            parted = label(~lines, connectivity=1, return_num=True)
            large = np.count_nonzero(np.bincount(parted[0].ravel())[1:] >= 4)
            assert found.labels_yx.max() == large

    def test_fibres_across_the_image_are_no_outlines(self) -> None:
        mask = np.zeros((80, 90), dtype=np.uint8)
        mask[20:23] = mask[:, 50:52] = 1
        assert read(mask).labels_yx.max() == 1
        mask = np.zeros((80, 90), dtype=np.uint8)
        mask[20:23] = 1
        np.testing.assert_array_equal(read(mask).labels_yx, mask)
        assert read(np.eye(30, dtype=np.uint8)).labels_yx.sum() == 30

    def test_an_object_that_the_frame_cuts(self) -> None:
        found = read(drawn((60, 0, 30), (60, 100, 20)))
        assert found.labels_yx[60, 0] != found.labels_yx[60, 100] != 0
        assert found.note is not None
        assert found.note.endswith("; 1 of them are closed by the frame of the image")

    def test_open_lines_are_told(self) -> None:
        lines = drawn(*CIRCLES)
        lines[30:33, 47:50] = False
        for kind in ("auto", "outlines"):
            found = read(lines, kind)
            assert found.labels_yx.max() == 2
            assert found.note is not None
            assert found.note.endswith("; 1 lines close around nothing, such as that at row 12, column 30") or (
                "1 lines close around nothing, such as that at row 12" in found.note
            )

    def test_none_closed(self) -> None:
        lines = np.zeros((30, 30), dtype=np.uint8)
        lines[5:25, 5] = lines[5, 5:25] = 1
        with pytest.raises(InputError, match=r"t\.png: no outline is closed; close them"):
            read(lines, "outlines")
        assert read(lines).labels_yx.max() == 1  # a bent fibre is an object
        with pytest.raises(InputError, match=r"t\.png: nothing is drawn; give outlines on an empty ground"):
            read(np.zeros((9, 9), np.uint8), "outlines")

    def test_solid_objects_are_no_outlines(self) -> None:
        mask = np.zeros((60, 60), dtype=np.uint8)
        mask[5:30, 5:30] = 255
        mask[12:20, 12:20] = 0  # a hole
        mask[40:44, 10:50] = 255
        np.testing.assert_array_equal(read(mask).labels_yx > 0, mask > 0)

    def test_small_rings_are_no_outlines(self) -> None:
        mask = drawn((20, 20, 4), (50, 50, 4), width=3)
        np.testing.assert_array_equal(read(mask).labels_yx > 0, mask)

    @given(st.lists(st.tuples(st.integers(8, 110), st.integers(8, 130), st.integers(5, 30)), min_size=1, max_size=3))
    def test_nothing_is_lost_but_what_is_open(self, circles: list[tuple[int, int, int]]) -> None:
        lines = drawn(*circles)
        found = read(lines, "outlines").labels_yx
        insides = label(~lines, connectivity=1)
        corners = {insides[0, 0], insides[0, -1], insides[-1, 0], insides[-1, -1]}
        inner = [i for i in range(1, insides.max() + 1) if i not in corners and (insides == i).sum() >= 4]
        assert found.max() >= len(inner)
        assert all(len(np.unique(found[insides == i])) == 1 and found[insides == i][0] > 0 for i in inner)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_colours_and_ids_agree(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros((64, 64), dtype=np.uint16)
    for value in range(1, n + 1):
        y, x = rng.integers(0, 64, 2)
        labels[disk((y, x), 5, shape=labels.shape)] = value
    for value in np.unique(labels)[1:]:  # each in one piece
        pieces = label(labels == value, connectivity=2)
        labels[pieces > 1] = 0
    assert same_objects(read(coloured(labels, seed)).labels_yx, read(labels, "ids").labels_yx)

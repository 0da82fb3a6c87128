from __future__ import annotations

import contextlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from napari_matseg.core.truth_coco import draw_coco, lists_image
from napari_matseg.errors import InputError

SHAPE = (20, 30)
MASKS = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 9)), elements=st.integers(0, 1))
SQUARE = [[0, 0, 10, 0, 10, 10, 0, 10]]


def content(*outlines: object, shape: tuple[int, int] = SHAPE, **more: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 3, "file_name": "a.png", "height": shape[0], "width": shape[1]}],
        "annotations": [
            {"id": i, "image_id": 3, "category_id": 1, "segmentation": outline} for i, outline in enumerate(outlines)
        ],
        "categories": [{"id": 1, "name": "pore"}, {"id": 2, "name": "carbide"}],
    } | more


def save(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data))
    return path


def paint(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    return draw_coco(path, None, shape)[0].paint()[0]


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    flat = mask.ravel(order="F")
    ends = np.append(np.flatnonzero(np.diff(flat)) + 1, flat.size)
    counts = np.diff(ends, prepend=0).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def compressed(mask: np.ndarray) -> dict[str, Any]:
    code = coco_mask.encode(np.asfortranarray(mask))
    return {"size": code["size"], "counts": code["counts"].decode()}


def drawn_by_pycocotools(outline: list[float]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # how it makes arrays
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([outline], *SHAPE)))


def test_areas_are_exact(tmp_path: Path) -> None:
    expected = np.zeros(SHAPE, dtype=np.uint32)
    expected[:10, :10] = 1
    found = paint(save(tmp_path / "a.json", content(SQUARE)))
    np.testing.assert_array_equal(found, expected)
    theirs = drawn_by_pycocotools([float(v) for v in SQUARE[0]])
    np.testing.assert_array_equal(found, theirs)


def test_pieces_of_an_object_are_joined(tmp_path: Path) -> None:
    pieces = [*SQUARE, [5, 5, 15, 5, 15, 15, 5, 15], [20, 1, 25, 1, 25, 3, 20, 3]]
    assert np.bincount(paint(save(tmp_path / "a.json", content(pieces))).ravel()).tolist() == [600 - 185, 185]


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 200)), min_size=3, max_size=8))
def test_outlines_are_those_of_pycocotools_but_for_their_rounding(
    tmp_path_factory: pytest.TempPathFactory, corners: list[tuple[int, int]]
) -> None:
    """pycocotools draws on a grid of fifths of a pixel, so pixels may differ along the outline and nowhere else."""
    outline = (np.array(corners) / 10).ravel().tolist()
    found = paint(save(tmp_path_factory.mktemp("coco") / "a.json", content([outline]))) > 0
    theirs = drawn_by_pycocotools(outline) > 0
    y, x = np.nonzero(found != theirs)
    points = np.array(corners) / 10
    start, side = points, np.roll(points, -1, axis=0) - points
    for centre in np.column_stack([x, y]) + 0.5:
        along = ((centre - start) * side).sum(axis=1) / np.maximum((side**2).sum(axis=1), 1e-12)
        foot = start + np.clip(along, 0, 1)[:, None] * side
        assert np.sqrt(((centre - foot) ** 2).sum(axis=1)).min() < 0.5


@given(MASKS)
def test_codes_are_those_of_pycocotools(tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray) -> None:
    folder = tmp_path_factory.mktemp("coco")
    for code in (compressed(mask), uncompressed(mask)):
        path = save(folder / "a.json", content(code, shape=mask.shape))
        np.testing.assert_array_equal(paint(path), mask)


def test_long_codes(tmp_path: Path) -> None:
    mask = (np.random.default_rng(0).random((700, 900)) < 0.3).astype(np.uint8)
    mask[100:600, 200:800] = 1
    path = save(tmp_path / "a.json", content(compressed(mask), shape=mask.shape))
    np.testing.assert_array_equal(paint(path), mask)


def test_an_object_inside_another_does_not_vanish(tmp_path: Path) -> None:
    inner, outer = [[3, 3, 6, 3, 6, 6, 3, 6]], SQUARE
    for outlines in ([inner, outer], [outer, inner]):
        drawn, _ = draw_coco(save(tmp_path / "a.json", content(*outlines)), None, None)
        ids, notes = drawn.paint()
        assert sorted(np.bincount(ids.ravel())[1:].tolist()) == [9, 91]
        assert notes == ["objects that overlap smaller ones, which have the pixels of both: 1"]


def test_two_of_one_shape(tmp_path: Path) -> None:
    ids, notes = draw_coco(save(tmp_path / "a.json", content(SQUARE, SQUARE)), None, None)[0].paint()
    assert np.bincount(ids.ravel()).tolist() == [500, 0, 100]
    assert notes[1] == "objects that lie under others entirely, left out: 1"


def test_crowds_have_what_is_left(tmp_path: Path) -> None:
    data = content(SQUARE, [[0, 0, 3, 0, 3, 3, 0, 3]])
    data["annotations"][1]["iscrowd"] = 1
    drawn, _ = draw_coco(save(tmp_path / "a.json", data), None, None)
    assert drawn.crowd.tolist() == [False, True]
    assert np.bincount(drawn.paint()[0].ravel()).tolist() == [500, 100]


def test_objects_outside_are_cut_or_left_out(tmp_path: Path) -> None:
    data = content([[-5, -5, 5, -5, 5, 5, -5, 5]], [[100, 1, 200, 1, 200, 9]], [[1, 1, 2, 2]])
    ids, notes = draw_coco(save(tmp_path / "a.json", data), None, None)[0].paint()
    assert np.bincount(ids.ravel()).tolist() == [575, 25]
    assert notes == ["objects outside the image or without a pixel, left out: 2"]


def test_categories_and_boxes(tmp_path: Path) -> None:
    data = content(SQUARE, SQUARE, [], SQUARE, {})
    data["annotations"][1]["category_id"] = 2
    data["annotations"][3]["category_id"] = 99
    data["annotations"].append({"id": 9, "image_id": 4, "category_id": 1, "segmentation": SQUARE})
    drawn, notes = draw_coco(save(tmp_path / "a.json", data), None, None)
    assert drawn.names == ("pore", "carbide", "")
    assert drawn.numbers.tolist() == [1, 2, 99]
    assert notes == ["boxes without an outline, left out: 2"]


class TestImages:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        names = ["run/a.png", "Probe Ä.TIF", "b_labels.png", "run 2\\c.png", "x/d.png", "y/d.png"]
        images = [{"id": i, "file_name": name, "height": SHAPE[0], "width": SHAPE[1]} for i, name in enumerate(names)]
        outlines = [
            {"id": i, "image_id": i, "segmentation": [[0, 0, i + 1, 0, i + 1, 1, 0, 1]]} for i in range(len(names))
        ]
        return save(tmp_path / "a.json", {"images": images, "annotations": outlines})

    @pytest.mark.parametrize(
        ("image", "area"),
        [
            ("a.png", 1),
            ("elsewhere/A.tif", 1),
            ("a_mask.png", 1),
            ("probe A\u0308.jpg", 2),
            ("b.tif", 3),
            ("c.png", 4),
            ("data/y/d.png", 6),
        ],
    )
    def test_are_found_by_their_names(self, path: Path, image: str, area: int) -> None:
        assert draw_coco(path, image, SHAPE)[0].paint()[0].sum() == area
        assert lists_image(path, Path(image))

    def test_that_are_not_listed(self, path: Path) -> None:
        assert not lists_image(path, "e.png")
        with pytest.raises(InputError, match=r"a\.json: does not list e\.png, but run/a\.png, .* and 1 more; give"):
            draw_coco(path, "e.png", SHAPE)
        with pytest.raises(InputError, match=r"a\.json: lists d\.png more than once \(x/d\.png, y/d\.png\); leave one"):
            draw_coco(path, "d.png", SHAPE)
        with pytest.raises(InputError, match=r"a\.json: lists run/a\.png, .*; say which image is meant"):
            draw_coco(path, None, SHAPE)

    def test_of_another_size(self, path: Path) -> None:
        with pytest.raises(
            InputError, match=r"a\.json: shape \(20, 30\) is not that of its image run/a\.png, \(20, 31\)"
        ):
            draw_coco(path, "a.png", (20, 31))

    def test_without_a_size(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.json", content(SQUARE, images=[{"id": 3, "file_name": "a.png"}]))
        assert paint(path, SHAPE).sum() == 100
        with pytest.raises(InputError, match=r"height and width of a\.png are None and None; correct them"):
            paint(path)

    def test_a_file_that_changes_is_read_again(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.json", content(SQUARE))
        assert paint(path).sum() == 100
        assert paint(save(path, content([[0, 0, 3, 0, 3, 3, 0, 3]]))).sum() == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("\xff{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is no COCO file"),
        ('{"images": []}', "is no COCO file"),
        ('{"images": {}, "annotations": []}', "images is no list of objects"),
        ('{"images": [1], "annotations": []}', "images is no list of objects"),
        ('{"images": [{}], "annotations": [[]]}', "annotations is no list of objects"),
        ('{"images": [{}], "annotations": [], "categories": 3}', "categories is no list of objects"),
        ('{"images": [], "annotations": []}', "lists no image"),
        ('{"images": [{"height": "9", "width": 9}], "annotations": []}', "height and width of None are 9 and 9"),
        ('{"images": [{"height": -9, "width": 9}], "annotations": []}', "height and width of None are -9 and 9"),
        ('{"images": [{"height": 1000000, "width": 1000000}], "annotations": []}', "None has 1000000 x 1000000 pixels"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=rf"a\.json: {message}") as caught:
        draw_coco(path, None, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ("text", "segmentation is neither outlines nor a run-length code"),
        ([1, 2, 3, 4, 5, 6], "an outline is no list of x and y"),
        ([[1, 2, 3]], "an outline is no list of x and y"),
        ([[1, 2, [3], 4]], "an outline is no list of x and y"),
        ([["1", "2", "3", "4", "5", "6"]], "an outline is no list of numbers"),
        ([[1, 2, None, 4, 5, 6]], "an outline is no list of numbers"),
        ([[1, 2, float("nan"), 4, 5, 6]], "an outline has a corner that is no place in an image"),
        ([[1, 2, 1e300, 4, 5, 6]], "an outline has a corner that is no place in an image"),
        ([[1, 2, -(2**63), 4, 5, 6]], "an outline has a corner that is no place in an image"),
        ({"size": [20, 31], "counts": [620]}, r"its code is for an image of size \[20, 31\]"),
        ({"size": 3, "counts": [600]}, "its code is for an image of size 3"),
        ({"size": [20, 30], "counts": [599]}, "its code does not fill an image of 600 pixels"),
        ({"size": [20, 30], "counts": [0, 10**12, 1]}, "its code does not fill an image"),
        ({"size": [20, 30], "counts": [-1, 601]}, "its code is no list of counts"),
        ({"size": [20, 30], "counts": [600.0]}, "its code is no list of counts"),
        ({"size": [20, 30], "counts": [10**30]}, "its code is no list of counts"),
        ({"size": [20, 30]}, "its code is no list of counts"),
        ({"size": [20, 30], "counts": ""}, "its compressed code is damaged"),
        ({"size": [20, 30], "counts": "o"}, "its compressed code is damaged"),
        ({"size": [20, 30], "counts": "o" * 9 + "0"}, "its compressed code is damaged"),
        ({"size": [20, 30], "counts": "€"}, "its compressed code is damaged|does not fill"),
        ({"size": [20, 30], "counts": "@"}, "its code does not fill an image"),
    ],
)
def test_annotations_that_make_no_sense(tmp_path: Path, outline: object, message: str) -> None:
    path = save(tmp_path / "a.json", content(SQUARE, outline))
    with pytest.raises(InputError, match=rf"a\.json: annotation 1: {message}.*; export it again\.$"):
        draw_coco(path, None, None)


@given(st.text(st.characters(min_codepoint=40, max_codepoint=115), max_size=30))
def test_any_code_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, counts: str) -> None:
    path = save(tmp_path_factory.mktemp("coco") / "a.json", content({"size": [20, 30], "counts": counts}))
    with contextlib.suppress(InputError):
        assert paint(path).shape == SHAPE


def test_codes_that_cover_the_image_time_and_again(tmp_path: Path) -> None:
    outlines = [{"size": [600, 600], "counts": [0, 360_000]}] * 2000
    path = save(tmp_path / "a.json", content(*outlines, shape=(600, 600)))
    with pytest.raises(InputError, match=r"a\.json: the objects together have 36360000 pixels or more"):
        draw_coco(path, None, None)


def test_number_of_a_category(tmp_path: Path) -> None:
    data = content(SQUARE)
    data["annotations"][0]["category_id"] = 2**70
    with pytest.raises(InputError, match=r"annotation 0: category_id is no whole number"):
        draw_coco(save(tmp_path / "a.json", data), None, None)


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_matseg.core.truth_coco.MOST_BYTES", 99)
    with pytest.raises(InputError, match=r"a\.json: has more than 0 GiB; split it by images"):
        draw_coco(save(tmp_path / "a.json", content(SQUARE)), None, None)


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.json: cannot be read \(No such file"):
        lists_image(tmp_path / "a.json", "a.png")

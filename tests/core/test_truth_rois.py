from __future__ import annotations

import contextlib
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi, roiwrite
from skimage.draw import polygon2mask

from napari_matseg.core.truth_rois import draw_regions, read_regions
from napari_matseg.errors import InputError

SHAPE = (60, 80)


def polygon(corners: object, **attributes: object) -> ImagejRoi:
    roi = ImagejRoi.frompoints(np.array(corners), name="")
    roi.roitype = ROI_TYPE.POLYGON
    return with_(roi, **attributes)


def box(kind: ROI_TYPE, left: int, top: int, width: int, height: int, **attributes: object) -> ImagejRoi:
    roi = ImagejRoi(roitype=kind, left=left, top=top, right=left + width, bottom=top + height)
    return with_(roi, **attributes)


def composite(*path: float, **attributes: object) -> ImagejRoi:
    roi = ImagejRoi(roitype=ROI_TYPE.RECT, shape_roi_size=len(path))
    roi.multi_coordinates = np.array(path, dtype=np.float32)
    return with_(roi, **attributes)


def with_(roi: ImagejRoi, **attributes: object) -> ImagejRoi:
    for name, value in attributes.items():
        setattr(roi, name, value)
    return roi


def save(path: Path, *rois: ImagejRoi) -> Path:
    roiwrite(path, rois, name=[f"{i}.roi" for i in range(len(rois))], mode="w")
    return path


def paint(path: Path, shape: tuple[int, int] = SHAPE, plane: int = 0) -> np.ndarray:
    return draw_regions(read_regions(path)[0], shape, plane, path).paint()[0]


def areas(path: Path, **options: int) -> list[int]:
    return np.bincount(paint(path, **options).ravel())[1:].tolist()


SQUARE = polygon([(0, 0), (10, 0), (10, 10), (0, 10)])


def test_areas_are_exact(tmp_path: Path) -> None:
    labels = paint(save(tmp_path / "a.zip", SQUARE, box(ROI_TYPE.RECT, 20, 30, 7, 5)))
    expected = np.zeros(SHAPE, dtype=np.uint32)
    expected[:10, :10], expected[30:35, 20:27] = 1, 2
    np.testing.assert_array_equal(labels, expected)


def test_a_single_region(tmp_path: Path) -> None:
    SQUARE.tofile(tmp_path / "a.roi")
    assert areas(tmp_path / "a.roi") == [100]
    (region,), notes = read_regions(tmp_path / "a.roi")
    assert region.name == "a"
    assert notes == []


@pytest.mark.parametrize("kind", [ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED])
def test_kinds_of_outlines(tmp_path: Path, kind: ROI_TYPE) -> None:
    assert areas(save(tmp_path / "a.zip", polygon([(1, 2), (11, 2), (11, 12), (1, 12)], roitype=kind))) == [100]


@given(st.lists(st.tuples(st.integers(0, 8000), st.integers(0, 6000)), min_size=3, max_size=12))
def test_what_roifile_writes_is_read(tmp_path_factory: pytest.TempPathFactory, corners: list[tuple[int, int]]) -> None:
    ring = (np.array(corners) / 100 + 0.0037).astype(np.float32)
    path = save(tmp_path_factory.mktemp("rois") / "a.zip", polygon(ring))
    np.testing.assert_array_equal(paint(path) > 0, polygon2mask(SHAPE, ring[:, ::-1].astype(float) - 0.5))


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (10, 10), (13, 8), (50, 30), (25, 25)])
def test_ovals_have_the_pixels_whose_centres_are_inside(tmp_path: Path, size: tuple[int, int]) -> None:
    """As ImageJ's OvalRoi.getMask has it: a centre on the ellipse counts."""
    width, height = size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    a, b = width / 2, height / 2
    expected = (x - (a - 0.5)) ** 2 / a**2 + (y - (b - 0.5)) ** 2 / b**2 <= 1
    found = paint(save(tmp_path / "a.zip", box(ROI_TYPE.OVAL, 4, 6, width, height)))
    np.testing.assert_array_equal(found[6 : 6 + height, 4 : 4 + width] > 0, expected)
    assert found.astype(bool).sum() == expected.sum()


def test_boxes_between_pixels(tmp_path: Path) -> None:
    options = ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    fine = {"options": options, "xd": 3.4, "yd": 2.6, "widthd": 10.2, "heightd": 4.0}
    found = paint(save(tmp_path / "a.zip", box(ROI_TYPE.RECT, 3, 3, 10, 4, **fine)))
    assert np.argwhere(found).min(axis=0).tolist() == [3, 3]
    assert np.argwhere(found).max(axis=0).tolist() == [6, 13]
    whole = {"options": options, "xd": 3.0, "yd": 2.0, "widthd": 20.0, "heightd": 20.0}
    assert areas(save(tmp_path / "b.zip", box(ROI_TYPE.OVAL, 3, 2, 1, 1, **whole))) == areas(
        save(tmp_path / "c.zip", box(ROI_TYPE.OVAL, 3, 2, 20, 20))
    )


def test_rounded_corners(tmp_path: Path) -> None:
    sharp = box(ROI_TYPE.RECT, 5, 5, 40, 30)
    (found,) = areas(save(tmp_path / "a.zip", with_(sharp, rounded_rect_arc_size=20)))
    assert found == pytest.approx(40 * 30 - (4 - np.pi) * 10**2, rel=0.005)
    like_an_oval = save(tmp_path / "b.zip", box(ROI_TYPE.RECT, 5, 5, 20, 20, rounded_rect_arc_size=99))
    assert areas(like_an_oval) == areas(save(tmp_path / "c.zip", box(ROI_TYPE.OVAL, 5, 5, 20, 20)))


def test_holes_and_pieces_of_composites(tmp_path: Path) -> None:
    ring = composite(
        *(0, 2, 2, 1, 22, 2, 1, 22, 22, 1, 2, 22, 4),
        *(0, 7, 7, 1, 17, 7, 1, 17, 17, 1, 7, 17, 4),
        *(0, 40, 2, 1, 45, 2, 1, 45, 5, 1, 40, 5, 4),
    )
    found = paint(save(tmp_path / "a.zip", ring))
    assert found[10, 10] == 0
    assert found[3, 3] == found[3, 42] == 1
    assert found.sum() == 20**2 - 10**2 + 15


def test_curves_of_composites(tmp_path: Path) -> None:
    k = 20 * 4 / 3 * (np.sqrt(2) - 1)  # of the usual circle of four cubic curves
    circle = [0, 50, 30, 3, 50, 30 + k, 30 + k, 50, 30, 50, 3, 30 - k, 50, 10, 30 + k, 10, 30]
    circle += [3, 10, 30 - k, 30 - k, 10, 30, 10, 3, 30 + k, 10, 50, 30 - k, 50, 30, 4]
    (area,) = areas(save(tmp_path / "a.zip", composite(*circle)))
    assert area == pytest.approx(np.pi * 20**2, rel=0.01)
    parabola = composite(0, 10, 40, 2, 30, 0, 50, 40, 4)
    (area,) = areas(save(tmp_path / "b.zip", parabola))
    assert area == pytest.approx(40 * 20 * 2 / 3, rel=0.02)


def test_lines_and_points_are_no_objects(tmp_path: Path) -> None:
    others = [
        polygon([(1, 1), (9, 9)], roitype=kind) for kind in (ROI_TYPE.POLYLINE, ROI_TYPE.POINT, ROI_TYPE.FREELINE)
    ]
    others += [ImagejRoi(roitype=ROI_TYPE.LINE, x2=4.0), box(ROI_TYPE.RECT, 1, 1, 9, 9, subtype=ROI_SUBTYPE.TEXT)]
    path = save(tmp_path / "a.zip", *others, SQUARE)
    assert areas(path) == [100]
    assert read_regions(path)[1] == ["lines, points and texts, left out: 5"]
    with pytest.raises(InputError, match=r"b\.zip: holds no region that is an area"):
        read_regions(save(tmp_path / "b.zip", *others))


def test_splines_are_said_to_be_polygons(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zip", polygon([(1, 1), (9, 1), (9, 9)], options=ROI_OPTIONS.SPLINE_FIT))
    assert read_regions(path)[1] == ["splines read as polygons: 1"]


class TestPlanes:
    def test_positions_in_a_stack(self, tmp_path: Path) -> None:
        at = [box(ROI_TYPE.RECT, 0, 0, n + 1, 1, position=n) for n in range(4)]
        path = save(tmp_path / "a.zip", *at)
        assert [paint(path, plane=plane).astype(bool).sum() for plane in range(4)] == [2, 3, 4, 1]

    @pytest.mark.parametrize("axis", ["c_position", "z_position", "t_position"])
    def test_positions_in_a_hyperstack(self, tmp_path: Path, axis: str) -> None:
        at = [box(ROI_TYPE.RECT, 0, 0, n, 1, c_position=1, z_position=1, t_position=1) for n in (1, 2)]
        path = save(tmp_path / "a.zip", at[0], with_(at[1], **{axis: 2}))
        assert [paint(path, plane=plane).astype(bool).sum() for plane in range(3)] == [1, 2, 0]

    def test_several_axes(self, tmp_path: Path) -> None:
        one, two = (box(ROI_TYPE.RECT, 0, 0, 2, 2) for _ in range(2))
        path = save(tmp_path / "a.zip", with_(one, z_position=2), with_(two, t_position=2))
        with pytest.raises(InputError, match=r"a\.zip: the regions lie on a hyperstack, along z and t"):
            paint(path)


def test_names_and_groups(tmp_path: Path) -> None:
    rois = [with_(box(ROI_TYPE.RECT, 0, 0, 2, 2), name=name) for name in ("pore 12", "Pore-003", "0012-0034", "")]
    rois[1].group = 7
    regions, _ = read_regions(save(tmp_path / "a.zip", *rois))
    drawn = draw_regions(regions, SHAPE, 0, tmp_path)
    assert drawn.names == ("pore", "Pore", "", "")
    assert drawn.numbers.tolist() == [0, 7, 0, 0]


def test_what_else_is_in_the_zip_does_not_matter(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zip", SQUARE)
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("__MACOSX/._0.roi", "._0.roi", "notes.txt", "folder/"):
            archive.writestr(name, b"nonsense")
        archive.writestr("folder/1.ROI", box(ROI_TYPE.RECT, 20, 0, 3, 3).tobytes())
    assert areas(path) == [100, 9]


class TestHostileFiles:
    def test_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("napari_matseg.core.truth_rois.MOST_BYTES", 2**20)
        path = tmp_path / "bomb.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("0.roi", SQUARE.tobytes() + bytes(2**24))
        assert path.stat().st_size < 2**15
        tracemalloc.start()
        with pytest.raises(InputError, match=r"bomb\.zip: unpacks to more than 1 MiB; save fewer regions in it\.$"):
            read_regions(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
        tracemalloc.stop()

    def test_bomb_of_good_regions(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("napari_matseg.core.truth_rois.MOST_BYTES", 250)
        path = save(tmp_path / "a.zip", SQUARE, SQUARE)
        with pytest.raises(InputError, match=r"a\.zip: unpacks to more than 0 MiB; save fewer regions in it\.$"):
            read_regions(path)
        SQUARE.tofile(tmp_path / "a.roi")
        (tmp_path / "a.roi").write_bytes((tmp_path / "a.roi").read_bytes() + bytes(250))
        with pytest.raises(InputError, match=r"a\.roi: is too large for a region"):
            read_regions(tmp_path / "a.roi")

    @pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
    def test_corners_that_are_no_place(self, tmp_path: Path, bad: float) -> None:
        corners = np.array([(1, 1), (9, 1), (9, 9)], dtype=np.float32)
        roi = polygon(corners)
        roi.subpixel_coordinates[1, 0] = bad
        for path in (save(tmp_path / "a.zip", SQUARE, roi), save(tmp_path / "b.zip", composite(0, 1, bad, 4))):
            with pytest.raises(InputError, match=r"zip: \d\.roi: has a corner that is no place in an image; draw"):
                read_regions(path)

    @pytest.mark.parametrize("path", [(7, 1, 1), (1, 2, 3), (0, 1), (np.nan, 1, 1), (4,)])
    def test_composites_that_are_none(self, tmp_path: Path, path: tuple[float, ...]) -> None:
        with pytest.raises(InputError, match=r"a\.zip: 0\.roi: is damaged"):
            read_regions(save(tmp_path / "a.zip", composite(*path)))

    @given(data=st.data())
    def test_damage_is_read_or_refused(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
        good = bytearray(polygon(np.array([(1, 1), (9, 1), (9, 9)], dtype=np.float32), name="a").tobytes())
        for place in data.draw(st.lists(st.integers(4, len(good) - 1), min_size=1, max_size=6)):
            good[place] = data.draw(st.integers(0, 255))
        path = tmp_path_factory.mktemp("rois") / "a.roi"
        path.write_bytes(good[: data.draw(st.integers(4, len(good)))])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with contextlib.suppress(InputError):
                assert paint(path).shape == SHAPE

    def test_zip_that_is_none(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.zip", SQUARE)
        whole = bytearray(path.read_bytes())
        whole[60:90] = bytes(30)
        path.write_bytes(whole)
        with pytest.raises(InputError, match=r"a\.zip: (cannot be unpacked|0\.roi: is damaged)"):
            read_regions(path)
        path.write_bytes(b"PK\3\4" + bytes(99))
        with pytest.raises(InputError, match=r"a\.zip: is damaged, or is no region"):
            read_regions(path)

    def test_locked_zip(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.zip", SQUARE)
        data = path.read_bytes()
        at = data.index(b"PK\1\2")
        flagged = bytearray(data)
        flagged[6:8] = flagged[at + 8 : at + 10] = struct.pack("<H", 1)
        path.write_bytes(flagged)
        with pytest.raises(InputError, match=r"a\.zip: cannot be unpacked .*encrypted"):
            read_regions(path)

    def test_ovals_that_cover_the_image_time_and_again(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.zip", *[box(ROI_TYPE.OVAL, -900, -900, 3000, 3000)] * 110)
        with pytest.raises(InputError, match=r"a\.zip: the objects together have \d+ pixels or more, many times"):
            paint(path, (500, 500))

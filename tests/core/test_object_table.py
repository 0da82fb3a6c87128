import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_matseg.core import object_table as module
from napari_matseg.core.assembly import Assembly
from napari_matseg.core.export import write_csv
from napari_matseg.core.object_table import object_table
from napari_matseg.core.objects import ObjectMask
from napari_matseg.settings import PromptSettings

SETTINGS = PromptSettings()


def block(label, top, left, height, width, iou=0.9, stability=0.9, plane=0):
    return ObjectMask(label, top, left, np.ones((height, width), np.float16), iou, stability, plane)


def assemble(many, overlaps="score", shape=(20, 30)):
    made = Assembly(shape, overlaps)
    made.put_all(many)
    return made


def table(many, overlaps="score", settings=SETTINGS, **options):
    made = assemble(many, overlaps)
    return object_table(made.objects.values(), made.layers(), settings, **options)


def test_a_row_for_each_object_by_ascending_label():
    nothing = ObjectMask(4, 0, 0, np.zeros((0, 0), np.float16), iou=0.123456, stability=0.0, plane=2)
    rows = table([block(7, 2, 10, 3, 4, plane=2), nothing], n_prompts={7: 3})
    assert rows == [
        {
            "label": 4,
            "plane": 2,
            "y": None,
            "x": None,
            "area_px": 0,
            "predicted_iou": 0.1235,
            "stability": 0.0,
            "touches_edge": False,
            "flagged": True,
            "reason": "nothing found",
            "prompts": 0,
        },
        {
            "label": 7,
            "plane": 2,
            "y": 3.0,
            "x": 11.5,
            "area_px": 12,
            "predicted_iou": 0.9,
            "stability": 0.9,
            "touches_edge": False,
            "flagged": False,
            "reason": "",
            "prompts": 3,
        },
    ]


def test_no_objects():
    assert object_table([], [np.ones((3, 3), np.uint32)], SETTINGS) == []


def test_areas_in_nm_where_the_pixel_size_is_known():
    (row,) = table([block(1, 2, 2, 3, 4)], pixel_size_nm=(2.0, 0.5))
    assert row["area_nm2"] == 12.0
    assert list(row)[4:6] == ["area_px", "area_nm2"]


@pytest.mark.parametrize("top", [0, 5, 17])
@pytest.mark.parametrize("left", [0, 5, 26])
def test_touching_the_edge(top, left):
    (row,) = table([block(1, top, left, 3, 4)])
    assert row["touches_edge"] == (top != 5 or left != 5)


def test_touching_the_data_bar():
    many = [block(1, 5, 2, 3, 3), block(2, 4, 8, 3, 3), block(3, 12, 2, 3, 3), block(4, 13, 8, 3, 3)]
    assert [row["touches_edge"] for row in table(many, data_bar=(8, 12))] == [True, False, True, False]


@pytest.mark.parametrize(
    ("many", "reason"),
    [
        ([block(1, 2, 2, 3, 3, iou=0.4)], "low predicted IoU"),
        ([block(1, 2, 2, 3, 3, stability=0.7)], "unstable"),
        ([block(1, 2, 2, 3, 3, iou=0.4, stability=0.7)], "low predicted IoU, unstable"),
        ([block(2, 2, 2, 3, 3), block(1, 2, 2, 3, 4)], "mostly hidden by object 2"),
        ([block(2, 2, 2, 3, 2), block(3, 2, 4, 3, 1), block(1, 2, 2, 3, 4)], "mostly hidden by object 2"),
        ([block(2, 2, 2, 3, 2), block(3, 2, 4, 3, 1), block(1, 2, 2, 3, 3)], "hidden by object 2"),
        ([block(2, 2, 2, 3, 2), block(1, 2, 2, 3, 4)], ""),  # half of it is left
    ],
)
def test_why_an_object_is_flagged(many, reason):
    row = table(many)[0]
    assert row["label"] == 1
    assert row["reason"] == reason
    assert row["flagged"] == bool(reason)


def test_what_is_kept_apart_hides_nothing():
    rows = table([block(1, 2, 2, 3, 4), block(2, 2, 2, 3, 3)], "separate")
    assert [(row["area_px"], row["reason"]) for row in rows] == [(12, ""), (9, "")]


def test_what_the_user_erased():
    found = block(1, 2, 2, 3, 4)
    labels = np.zeros((20, 30), np.uint32)
    assert object_table([found], [labels], SETTINGS)[0]["reason"] == "erased"
    labels[2, 2] = 1
    assert object_table([found], [labels], SETTINGS)[0]["reason"] == "mostly erased"


def test_what_the_user_painted_counts():
    labels = np.zeros((20, 30), np.uint32)
    labels[10:12, 20:25] = 1
    row = object_table([block(1, 2, 2, 3, 3)], [labels], SETTINGS)[0]
    assert (row["y"], row["x"], row["area_px"]) == (10.5, 22, 10)


@pytest.mark.parametrize(
    ("limits", "pixel_size_nm", "flagged"),
    [
        ({"area_px": (9, 9)}, None, False),
        ({"area_px": (10, 20)}, None, True),
        ({"area_px": (1, 8)}, None, True),
        ({"area_nm2": (36, 36)}, (2.0, 2.0), False),
        ({"area_nm2": (37, 99)}, (2.0, 2.0), True),
        ({"area_nm2": (36, 36), "area_px": (1, 2)}, (2.0, 2.0), False),
        ({"area_nm2": (37, 99), "area_px": (9, 9)}, None, False),
    ],
)
def test_limits_of_the_area(limits, pixel_size_nm, flagged):
    (row,) = table([block(1, 2, 2, 3, 3)], settings=PromptSettings(**limits), pixel_size_nm=pixel_size_nm)
    assert row["reason"] == ("area outside limits" if flagged else "")


@given(
    arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4)), st.integers(1, 30)
)
def test_numbers_are_those_of_the_pixels(labels, band):
    objects = [block(label, 0, 0, 1, 1) for label in (1, 2, 4)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BAND", band)
        rows = object_table(objects, [labels], SETTINGS)
    for row in rows:
        y, x = np.nonzero(labels == row["label"])
        assert row["area_px"] == y.size
        if y.size:
            assert row["y"] == pytest.approx(y.mean(), abs=1e-3)
            assert row["x"] == pytest.approx(x.mean(), abs=1e-3)
        edge = (y == 0) | (x == 0) | (y == labels.shape[0] - 1) | (x == labels.shape[1] - 1)
        assert row["touches_edge"] == edge.any()


def test_a_part_of_the_plane_is_enough_where_it_holds_the_objects():
    made = assemble([block(1, 2, 2, 3, 4), block(2, 15, 20, 5, 10)])
    for label, where in ((1, (slice(1, 9), slice(2, 9))), (2, (slice(15, 20), slice(12, 30)))):
        found = [made.objects[label]]
        assert object_table(found, made.layers(), SETTINGS, where=where) == object_table(found, made.layers(), SETTINGS)


def test_written_and_read_again(tmp_path):
    rows = table([block(1, 2, 2, 3, 3), ObjectMask(2, 0, 0, np.zeros((0, 0), np.float16), 0.0, 0.0)])
    write_csv(tmp_path / "a_objects.csv", rows)
    with (tmp_path / "a_objects.csv").open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["label"] for row in read] == ["1", "2"]
    assert (read[0]["y"], read[0]["flagged"]) == ("3.0", "False")
    assert (read[1]["y"], read[1]["reason"]) == ("", "nothing found")

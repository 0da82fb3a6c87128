from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_matseg.core.point_files import PointTable, read_boxes, read_points, write_points
from napari_matseg.errors import InputError, OutputError


@pytest.fixture
def file(tmp_path: Path):
    def write(text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "points.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 5), st.just(2)), elements=st.floats(-1e6, 1e6)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_what_is_written_is_read_again(tmp_path_factory, points, objects, polarity, planes):
    path = tmp_path_factory.mktemp("points") / "p.csv"
    n = len(points)
    table = PointTable(
        points,
        np.arange(3, n + 3) if objects else None,
        np.arange(n) % 2 == 0 if polarity else None,
        np.arange(n) if planes else None,
    )
    write_points(path, table, {"diameter_px": np.ones(n)})
    found = read_points(path)
    for ours, theirs in zip(vars(table).values(), vars(found).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(found) == n


@pytest.mark.parametrize(
    "text",
    [
        "y,x\n1.5,2\n3,4\n",
        "\ufeffX,Y,name\r\n2,1.5,a\r\n4,3,b\r\n",
        "y;x\n1,5;2\n\n3;4\n",
        "y;x;name\n1.5;2.0;a,b\n3;4;c\n",
        ' "x" , "y"\n2, 1.5\n4, 3',
        "y\tx\n1.5\t2\n3\t4",
        "index,axis-0,axis-1\n0.0,1.5,2.0\n1.0,3.0,4.0\n",
        "y_nm,x_nm\n3,8\n6,16\n",
        "y,x,y_nm,x_nm\n1.5,2,0,0\n3,4,0,0\n",
    ],
)
def test_columns_are_found_as_people_write_them(file, text):
    table = read_points(file(text), (2.0, 4.0))
    assert table.points_yx.tolist() == [[1.5, 2.0], [3.0, 4.0]]
    assert table.objects is table.positive is table.planes is None


def test_objects_polarity_and_planes(file):
    table = read_points(file("polarity,plane,object,y,x\n1,0,4,1,1\nNegative,1.0,4,2,2\n+,0,5,3,3\nFALSE,0,5.0,4,4\n"))
    assert table.positive.tolist() == [True, False, True, False]
    assert table.objects.tolist() == [4, 4, 5, 5]
    assert table.planes.tolist() == [0, 1, 0, 0]


def test_the_first_of_three_axes_is_the_plane(file):
    table = read_points(file("index,axis-0,axis-1,axis-2\n0,2.0,1.5,2\n1,1.9999,3,4\n"))
    assert table.planes.tolist() == [2, 2]
    assert table.points_yx.tolist() == [[1.5, 2.0], [3.0, 4.0]]


def test_letters_of_another_encoding_do_not_matter(file):
    assert len(read_points(file("y,x,d [µm]\n1,2,3\n", "cp1252"))) == 1


def test_no_row_is_no_point(file):
    table = read_points(file("y,x,object\n"))
    assert table.points_yx.shape == (0, 2)
    assert table.objects.shape == (0,)
    assert read_boxes(file("y0,x0,y1,x1\n")).boxes_yx.shape == (0, 4)


def test_bad_rows_are_named_by_their_lines(file):
    path = file(
        "y,x,object,polarity,plane\n1,2,1,1,0\n\nabc,2,1,1,0\n1,,1,1,0\n1,2,0,1,0\n1,2,1,maybe,0\n1,2,1,1,-1\nnan,1"
    )
    with pytest.raises(InputError) as caught:
        read_points(path)
    assert str(caught.value) == (
        f"{path}: line 4: y 'abc' is no number; line 5: x is empty; "
        "line 6: object '0' is no id; ids are whole numbers from 1; "
        "line 7: polarity 'maybe' is neither positive nor negative; "
        "line 8: plane '-1' is no plane; planes count from 0; "
        "line 9: y 'nan' is no number; correct or remove these rows."
    )


def test_a_message_does_not_grow_with_the_file(file):
    with pytest.raises(InputError, match=r"line 9: y is empty; and 92 more; correct"):
        read_points(file("y,x\n" + ",1\n" * 100))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no columns y,x in pixels, y_nm,x_nm, or axis-0,axis-1; name them in the first line"),
        ("10,20\n30,40\n", "has no columns"),
        ("y,z\n1,2\n", "has no columns"),
        (
            "y_nm,x_nm\n1,2\n",
            "is in nm, and the pixel size of the micrograph is not known; give the pixel size, or pixels",
        ),
        ("axis-0,axis-1,axis-2,axis-3\n1,2,3,4\n", "four dimensions or more; keep the plane, y and x alone"),
        ("y,x\n" + "a" * 200_000 + ",2\n", "line 2 is not CSV"),
        ("y,x,plane\n1,2,0.5\n", "line 2: plane '0.5' is no whole number"),
        ("y,x,object\n1,2,inf\n", "line 2: object 'inf' is no whole number"),
    ],
)
def test_files_that_cannot_be_read_say_why(file, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_points(file(text))
    assert "points.csv" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: cannot be read \(No such file or directory\); check the path"):
        read_points(tmp_path / "none.csv")


def test_boxes(file):
    table = read_boxes(file("object;x1;y1;x0;y0\n3;4;3;2;1,5\n"))
    assert table.boxes_yx.tolist() == [[1.5, 2.0, 3.0, 4.0]]
    assert table.objects.tolist() == [3]
    assert len(table) == 1
    in_nm = file("y0_nm,x0_nm,y1_nm,x1_nm,plane\n2,4,6,8,1\n")
    assert read_boxes(in_nm, (2.0, 4.0)).boxes_yx.tolist() == [[1, 1, 3, 2]]
    with pytest.raises(InputError, match="is in nm"):
        read_boxes(in_nm)
    with pytest.raises(InputError, match=r"has no columns y0,x0,y1,x1 \(or y0_nm,x0_nm,y1_nm,x1_nm\)"):
        read_boxes(file("y,x\n1,2\n"))


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OutputError, match="none"):
        write_points(tmp_path / "none" / "p.csv", PointTable(np.zeros((1, 2))))

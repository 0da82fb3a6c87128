import dask.array as da
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import pdist
from skimage.measure import regionprops_table

from napari_matseg.core.labels import label_objects
from napari_matseg.core.measure import runs as module
from napari_matseg.core.measure.shapes import measure_objects
from napari_matseg.errors import InputError

NUMBERS = [
    "diameter",
    "feret_max",
    "feret_min",
    "major_axis",
    "minor_axis",
    "perimeter",
    "height",
    "width",
]
LABELS = arrays(
    np.uint32, st.tuples(st.integers(1, 9), st.integers(1, 11)), elements=st.sampled_from([0, 0, 1, 4, 2**32 - 1])
)


def ellipse(major, minor, degrees, pixel=(1.0, 1.0), centre=(0.0, 0.0), side=40):
    """Mask of an ellipse of these semi-axes, turned counter-clockwise as seen on screen."""
    y, x = (np.mgrid[-side : side + 1, -side : side + 1].T - centre).T
    right, up = x * pixel[1], -y * pixel[0]
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (((right * c + up * s) / major) ** 2 + ((up * c - right * s) / minor) ** 2 <= 1).astype(np.uint8)


@pytest.fixture(scope="module")
def scene():
    """Labels with gaps between ids, objects in several pieces and with holes, their classes and grey values."""
    rng = np.random.default_rng(3)
    labels = np.kron(rng.integers(0, 40, (14, 18)), np.ones((4, 3), int)).astype(np.uint32)
    labels = np.where(rng.random(labels.shape) < 0.2, 0, labels * 107_374_182)
    return labels, rng.normal(1000, 3, labels.shape).astype(np.float32), rng.integers(0, 3, labels.shape, np.uint8)


class TestColumns:
    LENGTHS = ("diameter", "feret_max", "feret_min", "major_axis", "minor_axis")

    def expected(self, u, area=(), class_=(), intensity=()):
        return [
            *("label", "plane", *class_, "y", "x", "area_px", *area),
            *(f"{name}_{u}" for name in self.LENGTHS),
            *("aspect_ratio", "orientation_deg", f"perimeter_{u}", "circularity", "solidity"),
            *(f"height_{u}", f"width_{u}", "touches_edge", *intensity),
        ]

    def test_without_anything_else(self):
        assert list(measure_objects(np.eye(3, dtype=int))) == self.expected("px")

    def test_with_everything(self):
        labels = np.eye(3, dtype=int)
        found = measure_objects(labels, labels, pixel_size_nm=(1, 2), classes_yx=labels)
        grey = [f"intensity_{name}" for name in ("mean", "std", "min", "max", "sum")]
        assert list(found) == self.expected("nm", ["area_nm2"], ["class"], grey)

    @pytest.mark.parametrize("shape", [(4, 5), (0, 5), (4, 0)])
    def test_of_nothing_are_the_same_as_of_something(self, shape):
        def measure(labels):
            return measure_objects(labels, labels * 1.5, pixel_size_nm=(1, 2), classes_yx=labels)

        none, some = measure(np.zeros(shape, np.uint8)), measure(np.ones((2, 2), np.uint8))
        assert len(none) == 0
        assert none.dtypes.to_dict() == some.dtypes.to_dict()
        assert len(pd.concat([none, some])) == 1

    def test_rows_are_by_ascending_label_and_tell_the_plane(self):
        found = measure_objects(np.array([[2**32 - 1, 0, 5], [5, 0, 7]], np.uint32), plane=4)
        assert found["label"].tolist() == [5, 7, 2**32 - 1]
        assert found["plane"].tolist() == [4, 4, 4]
        assert found["area_px"].tolist() == [2, 1, 1]


class TestClosedForms:
    def test_of_a_rectangle_in_nanometres(self):
        labels = np.zeros((20, 30), np.uint16)
        labels[3:8, 5:20] = 9
        row = measure_objects(labels, pixel_size_nm=(2.0, 0.5)).iloc[0]
        assert (row["y"], row["x"], row["area_px"], row["area_nm2"]) == (5, 12, 75, 75)
        assert row["diameter_nm"] == pytest.approx(2 * np.sqrt(75 / np.pi))
        assert row["feret_max_nm"] == pytest.approx(np.hypot(10, 7.5))
        assert row["feret_min_nm"] == 7.5
        # A rectangle of sides a has the second moments a^2 / 12, an ellipse of axes a has a^2 / 16.
        assert row["major_axis_nm"] == pytest.approx(10 * np.sqrt(4 / 3))
        assert row["minor_axis_nm"] == pytest.approx(7.5 * np.sqrt(4 / 3))
        assert row["aspect_ratio"] == pytest.approx(10 / 7.5)
        assert row["orientation_deg"] == 90, "twice as many columns as rows, and yet it stands upright"
        assert row["circularity"] == pytest.approx(4 * np.pi * 75 / row["perimeter_nm"] ** 2)
        assert (row["solidity"], row["height_nm"], row["width_nm"]) == (1, 10, 7.5)

    def test_of_one_pixel(self):
        row = measure_objects(np.array([[0, 3]])).iloc[0]
        assert (row["y"], row["x"], row["area_px"], row["feret_min_px"], row["solidity"]) == (0, 1, 1, 1, 1)
        assert row["feret_max_px"] == pytest.approx(np.sqrt(2))
        assert row["major_axis_px"] == row["minor_axis_px"] == pytest.approx(np.sqrt(4 / 3))
        assert row["circularity"] > 1, "not cut, as the docstring says"
        assert np.isnan(row["orientation_deg"])

    def test_of_an_object_that_fills_the_frame(self):
        row = measure_objects(np.full((6, 4), 2**32 - 1, np.uint32)).iloc[0]
        assert (row["area_px"], row["height_px"], row["width_px"], row["touches_edge"]) == (24, 6, 4, True)

    def test_of_an_object_in_two_pieces(self):
        labels = np.zeros((9, 5), int)
        labels[0, 0] = labels[8, 0] = 1
        row = measure_objects(labels).iloc[0]
        assert (row["y"], row["height_px"], row["feret_min_px"]) == (4, 9, 1)
        assert row["solidity"] == pytest.approx(2 / 9)

    @pytest.mark.parametrize("pixel", [(1.0, 1.0), (1.5, 0.75), (0.5, 1.0)])
    @pytest.mark.parametrize("degrees", [0, 20, 45, 90, 135, 160, 179])
    def test_of_an_ellipse(self, pixel, degrees):
        found = measure_objects(ellipse(20, 8, degrees, pixel, (0.3, 0.1)), pixel_size_nm=pixel).iloc[0]
        assert abs((found["orientation_deg"] - degrees + 90) % 180 - 90) < 1
        assert 0 <= found["orientation_deg"] < 180
        assert found["major_axis_nm"] == pytest.approx(40, rel=0.02)
        assert found["minor_axis_nm"] == pytest.approx(16, rel=0.02)
        assert found["diameter_nm"] == pytest.approx(2 * np.sqrt(160), rel=0.01)
        assert found["feret_max_nm"] == pytest.approx(40, abs=np.hypot(*pixel) + 0.1)
        assert found["feret_min_nm"] == pytest.approx(16, abs=np.hypot(*pixel) + 0.1)
        assert found["solidity"] > 0.9

    def test_what_rises_to_the_right_on_screen_is_at_45_degrees(self):
        assert measure_objects(np.fliplr(np.eye(5, dtype=int)))["orientation_deg"].tolist() == [45]
        assert measure_objects(np.eye(5, dtype=int))["orientation_deg"].tolist() == [135]

    def test_turned_upside_down_an_angle_just_below_zero_is_none_of_180(self):
        labels = ellipse(20, 8, 0)
        assert measure_objects(labels)["orientation_deg"].tolist() == [0]

    def test_of_what_is_as_high_as_wide_there_is_no_orientation(self):
        assert np.isnan(measure_objects(np.ones((7, 7), int))["orientation_deg"][0])
        assert measure_objects(np.ones((7, 7), int), pixel_size_nm=(1, 1.01))["orientation_deg"].tolist() == [0]


class TestAgreement:
    def test_with_scikit_image(self, scene):
        labels, image, _ = scene
        # Of each object on its own, for regionprops takes an area of zeros for each id that is not there.
        ids, compact = np.unique(labels, return_inverse=True)
        names = ("area", "centroid", "axis_major_length", "axis_minor_length", "bbox", "orientation")
        expected = regionprops_table(compact.reshape(labels.shape), image, (*names, "intensity_mean", "intensity_std"))
        found = measure_objects(labels, image)
        assert found["label"].tolist() == ids[1:].tolist()
        assert found["area_px"].tolist() == expected["area"].tolist()
        for ours, theirs in (
            ("y", "centroid-0"),
            ("x", "centroid-1"),
            ("intensity_mean", "intensity_mean"),
        ):
            assert found[ours].to_numpy() == pytest.approx(expected[theirs], rel=1e-5), ours
        for ours, theirs in (("major_axis_px", "axis_major_length"), ("minor_axis_px", "axis_minor_length")):
            # There a pixel is a point: the twelfth that a square has itself is missing.
            assert found[ours].to_numpy() == pytest.approx(np.sqrt(expected[theirs] ** 2 + 16 / 12)), ours
        assert found["intensity_std"].to_numpy() == pytest.approx(expected["intensity_std"], rel=1e-3)
        assert found["height_px"].tolist() == (expected["bbox-2"] - expected["bbox-0"]).tolist()
        assert found["width_px"].tolist() == (expected["bbox-3"] - expected["bbox-1"]).tolist()
        # There from the axis of the rows to that of the columns, here counter-clockwise from that of the columns.
        apart = found["orientation_deg"].to_numpy() - (90 + np.degrees(expected["orientation"]))
        assert np.abs((apart + 90) % 180 - 90).max() < 1e-5

    @given(labels=LABELS, pixel=st.sampled_from([(1.0, 1.0), (3.0, 2.0)]))
    def test_with_brute_force(self, labels, pixel):
        found = measure_objects(labels, pixel_size_nm=pixel)
        assert found["label"].tolist() == np.unique(labels[labels > 0]).tolist()
        for _, row in found.iterrows():
            where = np.argwhere(labels == row["label"])
            corners = np.concatenate([where + step for step in ((0, 0), (0, 1), (1, 0), (1, 1))])
            assert row["feret_max_nm"] == pytest.approx(pdist(corners * pixel).max())
            assert row[["y", "x"]].tolist() == pytest.approx(where.mean(0).tolist())
            covariance = np.diag(np.square(pixel)) / 12 + np.cov(where.T * np.transpose([pixel]), bias=True)
            axes = 4 * np.sqrt(np.linalg.eigvalsh(covariance))
            assert row[["minor_axis_nm", "major_axis_nm"]].tolist() == pytest.approx(axes.tolist())
            assert row["touches_edge"] == bool(((where == 0) | (where == np.array(labels.shape) - 1)).any())


class TestLaws:
    @given(labels=LABELS, band=st.integers(1, 60))
    def test_bands_change_nothing(self, labels, band):
        image, classes = np.sqrt(np.arange(labels.size)).reshape(labels.shape), (labels % 3).astype(np.uint8)
        classes[::2] = 1
        whole = measure_objects(labels, image, classes_yx=classes)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "BAND", band)
            parts = measure_objects(labels, image, classes_yx=classes)
        pd.testing.assert_frame_equal(parts, whole)

    @given(labels=LABELS, factor=st.integers(2, 5))
    def test_lengths_grow_with_the_pixels(self, labels, factor):
        small, large = (measure_objects(labels, pixel_size_nm=(1.5 * n, 2.5 * n)) for n in (1, factor))
        for name in NUMBERS:
            assert large[f"{name}_nm"].to_numpy() == pytest.approx(factor * small[f"{name}_nm"].to_numpy()), name
        for name in ("aspect_ratio", "circularity", "solidity"):
            assert large[name].to_numpy() == pytest.approx(small[name].to_numpy()), name

    @given(labels=LABELS)
    def test_transposed_labels_and_pixels_are_the_same_objects(self, labels):
        one, other = measure_objects(labels, pixel_size_nm=(1, 2)), measure_objects(labels.T, pixel_size_nm=(2, 1))
        names = {"y": "x", "x": "y", "height_nm": "width_nm", "width_nm": "height_nm"}
        pd.testing.assert_frame_equal(
            one.drop(columns="orientation_deg"),
            other.rename(columns=names)[list(one)].drop(columns="orientation_deg"),
        )

    @given(labels=LABELS)
    def test_what_bounds_what(self, labels):
        found = measure_objects(labels)
        assert (found["feret_min_px"] <= found["feret_max_px"]).all()
        assert (found["feret_max_px"] <= np.hypot(found["height_px"], found["width_px"]) + 1e-9).all()
        assert (found["feret_min_px"] <= found[["height_px", "width_px"]].min(axis=1) + 1e-9).all()
        assert (found["aspect_ratio"] >= 1).all()
        assert found["solidity"].between(0, 1 + 1e-12).all()

    def test_far_from_the_origin_no_digits_are_lost(self):
        near = ellipse(20, 8, 30)
        far = np.zeros((near.shape[0], 300_000), np.uint8)
        far[:, -near.shape[1] :] = near
        one, other = (measure_objects(a, pixel_size_nm=(1e-3, 5.0)) for a in (near, far))
        same = [name for name in one if name != "x"]
        pd.testing.assert_frame_equal(
            one[same].assign(touches_edge=True), other[same].assign(touches_edge=True), rtol=1e-9
        )
        assert other["x"][0] - one["x"][0] == pytest.approx(300_000 - near.shape[1], abs=1e-6)


class TestEdges:
    LABELS = np.array([[1, 0, 0, 0, 0], [0, 0, 2, 0, 3], [0, 4, 4, 0, 0], [0, 0, 5, 0, 0], [6, 6, 0, 0, 7]])

    def test_of_the_image(self):
        assert measure_objects(self.LABELS)["touches_edge"].tolist() == [True, False, True, False, False, True, True]

    def test_of_the_rows_given(self):
        found = measure_objects(self.LABELS, rows=slice(1, 4))
        assert found["label"].tolist() == [2, 3, 4, 5]
        assert found["touches_edge"].tolist() == [True, True, False, True]
        assert found["y"].tolist() == [1, 1, 2, 3], "in the image, not in the rows"

    def test_what_is_outside_the_rows_is_not_measured(self):
        column = np.ones((8, 3), int)
        found = measure_objects(column, rows=slice(2, -1)).iloc[0]
        assert (found["area_px"], found["y"], found["height_px"]) == (15, 4, 5)
        assert found["perimeter_px"] == measure_objects(column[:5])["perimeter_px"][0]
        assert len(measure_objects(column, rows=slice(3, 3))) == 0


class TestGreyValues:
    def test_leave_out_what_is_not_a_number(self):
        labels = np.array([[1, 1, 1], [1, 2, 2], [0, 3, 0]])
        image = np.array([[1.0, np.nan, 3.0], [8.0, np.nan, np.nan], [np.nan, 5.0, 7.0]])
        found = measure_objects(labels, image).set_index("label").filter(like="intensity")
        assert found.loc[1].tolist() == pytest.approx([4, np.std([1, 3, 8]), 1, 8, 12])
        assert found.loc[2].tolist() == pytest.approx([np.nan] * 4 + [0], nan_ok=True)
        assert found.loc[3].tolist() == [5, 0, 5, 5, 5]

    def test_of_integers_are_exact(self):
        image = np.array([[65535, 65535, 65534]], np.uint16)
        found = measure_objects(np.ones((1, 3), int), image).iloc[0]
        assert found["intensity_sum"] == 196604
        assert found["intensity_std"] == pytest.approx(np.sqrt(2) / 3)

    def test_far_from_zero_keep_their_spread(self, monkeypatch):
        monkeypatch.setattr(module, "BAND", 40)
        image = 1e9 + np.arange(200.0).reshape(20, 10)
        assert measure_objects(np.ones((20, 10), int), image)["intensity_std"][0] == pytest.approx(
            np.std(np.arange(200)), rel=1e-6
        )

    def test_that_are_infinite_have_no_spread(self):
        found = measure_objects(np.ones((2, 2), int), np.array([[0, np.inf], [1, 2]])).iloc[0]
        assert found["intensity_mean"] == found["intensity_max"] == np.inf
        assert np.isnan(found["intensity_std"])


class TestClasses:
    LABELS = np.array([[1, 1, 1], [2, 2, 0], [3, 0, 0]])
    CLASSES = np.array([[2, 1, 2], [2, 1, 0], [0, 2, 2]])

    def test_are_those_of_most_pixels(self):
        found = measure_objects(self.LABELS, classes_yx=self.CLASSES, class_names=("matrix", "pore", "carbide"))
        assert found["class"].tolist() == ["carbide", "pore", "matrix"]

    def test_without_names_are_called_by_their_ids(self):
        assert measure_objects(self.LABELS, classes_yx=self.CLASSES)["class"].tolist() == ["2", "1", "0"]

    def test_without_a_name_among_names_are_an_error(self):
        with pytest.raises(
            InputError, match=r"classes: there is a class 2 in objects, but names only for 0 to 1; name"
        ):
            measure_objects(self.LABELS, classes_yx=self.CLASSES, class_names=("matrix", "pore"))


class Recorder:
    """Stands for a file: gives rows, and remembers how many at a time and which."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.asked = array, array.shape, array.dtype, []

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        self.asked += [range(rows.start, rows.stop)]
        return self.array[rows]


class TestLaziness:
    @pytest.mark.parametrize("in_one_piece", [True, False])
    def test_few_rows_are_read_at_a_time_and_twice_only_for_pieces(self, scene, monkeypatch, in_one_piece):
        monkeypatch.setattr(module, "BAND", 5 * scene[0].shape[1])
        if in_one_piece:
            scene = label_objects(scene[2]), *scene[1:]
        lazy = [Recorder(array) for array in scene]
        found = measure_objects(lazy[0], lazy[1], classes_yx=lazy[2], rows=slice(3, 50))
        pd.testing.assert_frame_equal(
            found, measure_objects(scene[0], scene[1], classes_yx=scene[2], rows=slice(3, 50))
        )
        for array in lazy:
            assert [y for rows in array.asked for y in rows] == list(range(3, 50)) * (1 if in_one_piece else 2)
            assert max(map(len, array.asked)) == 5

    def test_memory_mapped_and_dask_arrays_are_as_good(self, scene, tmp_path):
        labels, image, _ = scene
        np.save(tmp_path / "labels.npy", labels)
        mapped = np.load(tmp_path / "labels.npy", mmap_mode="r")
        pd.testing.assert_frame_equal(
            measure_objects(mapped, da.from_array(image, chunks=16)), measure_objects(labels, image)
        )


class TestErrors:
    @pytest.mark.parametrize(
        ("labels", "options", "message"),
        [
            (np.zeros((2, 2)), {}, r"labels: ids must be integers, not float64; give each object an id"),
            (np.ones((2, 2), bool), {}, r"labels: ids must be integers, not bool; give each object an id of its own"),
            (
                np.zeros((2, 3, 4), int),
                {},
                r"labels: need the shape \(height, width\), not \(2, 3, 4\); measure plane by",
            ),
            (np.zeros(3, int), {}, r"labels: need the shape \(height, width\), not \(3,\)"),
            (np.array([[0, 1], [1, -2]]), {}, r"labels: there is a negative id, -2 at row 1, column 1; make ids"),
            (
                np.eye(2, dtype=int),
                {"image_yx": np.zeros((2, 3))},
                r"labels and image differ in shape, \(2, 2\) and \(2, 3",
            ),
            (np.eye(2, dtype=int), {"image_yx": np.zeros((2, 2, 3))}, r"with one value for each pixel"),
            (np.eye(2, dtype=int), {"classes_yx": np.zeros((1, 2), int)}, r"labels and classes differ in shape"),
            (
                np.eye(2, dtype=int),
                {"classes_yx": np.zeros((2, 2))},
                r"classes: ids must be integers, not float64; take",
            ),
            (
                np.eye(2, dtype=int),
                {"classes_yx": -np.eye(2, dtype=int)},
                r"classes: there is a negative id, -1 at row 0",
            ),
            (np.eye(2, dtype=int), {"pixel_size_nm": (0, 1.5)}, r"pixel size: 0 x 1.5 nm is no size; give the height"),
            (np.eye(2, dtype=int), {"pixel_size_nm": (1.5, np.nan)}, r"pixel size: 1.5 x nan nm is no size"),
        ],
    )
    def test_say_what_is_wrong_and_what_to_do(self, labels, options, message):
        with pytest.raises(InputError, match=message):
            measure_objects(labels, **options)

    def test_name_the_row_in_the_image(self, monkeypatch):
        monkeypatch.setattr(module, "BAND", 4)
        labels = np.zeros((7, 2), int)
        labels[5, 1] = -1
        with pytest.raises(InputError, match="-1 at row 5, column 1"):
            measure_objects(labels)

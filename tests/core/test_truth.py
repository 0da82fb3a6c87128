from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_matseg.core.metrics import count
from napari_matseg.core.truth import IGNORE, parse_mapping, read_truth, to_classes
from napari_matseg.errors import InputError, SettingsError
from napari_matseg.settings import ClassSpec

if TYPE_CHECKING:
    from pathlib import Path

BLUE, RED, GREEN = (0, 0, 255), (255, 0, 0), (0, 255, 0)
ALLOY = (
    ClassSpec(name="matrix", colour=(0, 0, 0)),
    ClassSpec(name="secondary", colour=BLUE),
    ClassSpec(name="tertiary", colour=RED),
)
PARTICLES = (ClassSpec(name="background", colour=(0, 0, 0)), ClassSpec(name="particle", colour=RED))


def draw(*colours: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    """One row of pixels, twice, so that it is a picture."""
    return np.array([colours, colours], dtype=dtype)


# Values


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.float32, np.float64])
def test_class_ids_stay_what_they_are(dtype: type) -> None:
    truth = to_classes(np.array([[0, 1], [2, 1]], dtype=dtype), ALLOY)
    assert truth.labels_yx.tolist() == [[0, 1], [2, 1]]
    assert truth.labels_yx.dtype == np.uint8
    assert truth.note is None


def test_booleans_are_class_ids() -> None:
    truth = to_classes(np.array([[False, True]]), PARTICLES)
    assert truth.labels_yx.tolist() == [[0, 1]]
    assert truth.labels_yx.dtype == np.uint8
    assert truth.note is None


def test_result_is_apart_from_the_input() -> None:
    pixels = np.zeros((2, 2), dtype=np.uint8)
    to_classes(pixels, ALLOY).labels_yx[:] = 1
    assert not pixels.any()


def test_black_and_white_is_the_one_class_there_is() -> None:
    truth = to_classes(np.array([[0, 255], [255, 0]], dtype=np.uint8), PARTICLES, name="mask.tif")
    assert truth.labels_yx.tolist() == [[0, 1], [1, 0]]
    assert truth.note == "mask.tif: 255 read as 'particle'"


@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=3), elements=st.integers(0, 2000)))
def test_object_ids_are_the_one_class_there_is(objects: np.ndarray) -> None:
    truth = to_classes(objects, PARTICLES, colour=False)
    np.testing.assert_array_equal(truth.labels_yx, objects > 0)
    n_ids = len(set(objects[objects > 0].tolist()))
    if n_ids > 1:
        assert truth.note == f"truth: every value but 0 ({n_ids} of them) read as 'particle'"


def test_planes_are_kept() -> None:
    assert to_classes(np.zeros((2, 3, 4, 5), dtype=np.uint8), ALLOY).labels_yx.shape == (2, 3, 4, 5)
    assert to_classes(np.zeros((2, 3, 4, 5, 3), dtype=np.uint8), ALLOY).labels_yx.shape == (2, 3, 4, 5)


def test_values_that_are_no_class_are_listed_with_the_remedy() -> None:
    pixels = np.array([[0, 1, 2, 255], [200, 255, 0, 0]], dtype=np.uint8)
    message = r"mask.tif: the class ids are 0 to 2 \(matrix, secondary, tertiary\), but there are "
    message += r"255 \(2 pixels\), 200 \(1 pixel\); give a mapping, such as 255=tertiary"
    with pytest.raises(InputError, match=message):
        to_classes(pixels, ALLOY, name="mask.tif")


def test_black_and_white_is_not_enough_for_three_classes() -> None:
    with pytest.raises(InputError, match=r"there are 255 \(1 pixel\); give a mapping"):
        to_classes(np.array([[0, 255]], dtype=np.uint8), ALLOY)


def test_negative_values_are_no_objects() -> None:
    with pytest.raises(InputError, match=r"-1 \(1 pixel\)"):
        to_classes(np.array([[0, 1, -1]]), PARTICLES)


@pytest.mark.parametrize("strange", [0.5, np.nan, np.inf, -np.inf, 1e300])
def test_floats_must_be_whole_numbers(strange: float) -> None:
    with pytest.raises(InputError, match=r"x.tif: truth must be whole numbers, but 1 pixel\(s\) are not, such as"):
        to_classes(np.array([[0.0, 1.0, strange]]), ALLOY, name="x.tif")


def test_other_types_are_no_truth() -> None:
    with pytest.raises(InputError, match="truth must be whole numbers, not complex128"):
        to_classes(np.zeros((2, 2), dtype=complex), ALLOY)


def test_empty_truth_is_refused() -> None:
    with pytest.raises(InputError, match=r"holds no pixels \(shape \(0, 5\)\)"):
        to_classes(np.zeros((0, 5), dtype=np.uint8), ALLOY)


@pytest.mark.parametrize("n_classes", [0, 256])
def test_class_ids_must_fit_into_a_byte(n_classes: int) -> None:
    with pytest.raises(SettingsError, match=f"1 to 255 classes, not {n_classes}"):
        to_classes(np.zeros((2, 2), dtype=np.uint8), ALLOY[:1] * n_classes)


# Colours


def test_colours_drawn_over_a_grey_image() -> None:
    truth = to_classes(draw(BLUE, (17, 17, 17), RED, (255, 255, 255), (0, 0, 0)), ALLOY, name="mask.tif")
    assert truth.labels_yx.tolist() == [[1, 0, 2, 0, 0]] * 2
    assert truth.labels_yx.dtype == np.uint8
    meaning = "#000000 = matrix, #0000ff = secondary, #ff0000 = tertiary, other greys = matrix"
    assert truth.note == f"mask.tif: read as {meaning}"


def test_note_names_other_greys_only_where_there_are() -> None:
    assert "other greys" not in str(to_classes(draw(BLUE, (0, 0, 0)), ALLOY).note)


def test_alpha_is_not_used() -> None:
    assert to_classes(draw((*BLUE, 0), (9, 9, 9, 255)), ALLOY).labels_yx.tolist() == [[1, 0]] * 2


def test_grey_class_goes_before_the_grey_of_the_image() -> None:
    classes = (*ALLOY, ClassSpec(name="pore", colour=(255, 255, 255)))
    assert to_classes(draw((255,) * 3, (254,) * 3), classes).labels_yx.tolist() == [[3, 0]] * 2


@given(st.lists(st.sampled_from([BLUE, RED, (0, 0, 0), (1, 1, 1), (254, 254, 254)]), min_size=1, max_size=30))
def test_each_pixel_by_itself(colours: list[tuple[int, int, int]]) -> None:
    expected = [{BLUE: 1, RED: 2}.get(colour, 0) for colour in colours]
    assert to_classes(draw(*colours), ALLOY).labels_yx.tolist() == [expected] * 2


def test_colours_that_are_no_class_are_listed_with_the_remedy() -> None:
    message = r"mask.tif: the colours are #000000 = matrix, #0000ff = secondary, #ff0000 = tertiary, but there are "
    message += r"#00ff00 \(4 pixels\), #0000fe \(2 pixels\); give a mapping, such as #00ff00=tertiary"
    with pytest.raises(InputError, match=message):
        to_classes(draw(GREEN, (0, 0, 254), GREEN), ALLOY, name="mask.tif")


def test_photograph_is_refused_without_listing_it_all() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    with pytest.raises(InputError, match=r"and \d+ more; give a mapping") as caught:
        to_classes(noise, ALLOY)
    assert len(str(caught.value)) < 400


def test_wide_colours_are_refused_but_wide_types_are_not() -> None:
    assert to_classes(draw(BLUE, dtype=np.uint16), ALLOY).labels_yx.tolist() == [[1]] * 2
    with pytest.raises(InputError, match="must be from 0 to 255, but go from 0 to 65535; save the truth with 8 bits"):
        to_classes(draw((0, 0, 65535), dtype=np.uint16), ALLOY)


def test_classes_of_one_colour_cannot_be_told_apart() -> None:
    with pytest.raises(SettingsError, match="two classes have the same colour"):
        to_classes(draw(BLUE), (*ALLOY, ClassSpec(name="other", colour=BLUE)))


def test_width_of_three_is_colour_only_if_not_said_otherwise() -> None:
    stack = np.zeros((2, 5, 3), dtype=np.uint8)
    assert to_classes(stack, ALLOY).labels_yx.shape == (2, 5)
    assert to_classes(stack, ALLOY, colour=False).labels_yx.shape == (2, 5, 3)
    assert to_classes(np.zeros((5, 3), dtype=np.uint8), ALLOY).labels_yx.shape == (5, 3)


def test_picture_larger_than_a_chunk() -> None:
    rng = np.random.default_rng(0)
    expected = rng.integers(0, 3, (300, 301))
    picture = np.array([(40, 40, 40), BLUE, RED], dtype=np.uint8)[expected]
    np.testing.assert_array_equal(to_classes(picture, ALLOY).labels_yx, expected)
    np.testing.assert_array_equal(to_classes(picture.transpose(1, 0, 2), ALLOY).labels_yx, expected.T)


# Mappings


def test_mapping_of_values() -> None:
    truth = to_classes(np.array([[0, 128, 255]], dtype=np.uint8), ALLOY, {0: 0, 128: 2, 255: 1}, "mask.tif")
    assert truth.labels_yx.tolist() == [[0, 2, 1]]
    assert truth.note == "mask.tif: read as 0 = matrix, 128 = tertiary, 255 = secondary"


def test_mapping_goes_before_class_ids() -> None:
    assert to_classes(np.array([[0, 1]]), PARTICLES, {0: 1, 1: 0}).labels_yx.tolist() == [[1, 0]]


@given(st.dictionaries(st.integers(-(2**40), 2**40), st.integers(0, 2), min_size=1, max_size=20), st.data())
def test_mapping_is_looked_up_for_each_pixel(mapping: dict[int, int], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.sampled_from(sorted(mapping)), min_size=1))
    assert to_classes([values], ALLOY, mapping).labels_yx.tolist() == [[mapping[value] for value in values]]


def test_values_that_the_mapping_lacks_are_listed() -> None:
    with pytest.raises(InputError, match=r"mask.tif: the mapping lacks 7 \(2 pixels\), 1 \(1 pixel\); add"):
        to_classes(np.array([[0, 7, 7, 1]]), ALLOY, {0: 0, 255: 1}, "mask.tif")
    with pytest.raises(InputError, match=r"the mapping lacks 0 \(1 pixel\)"):
        to_classes(np.array([[0]]), ALLOY, {})
    with pytest.raises(InputError, match=r"the mapping lacks 0 \(1 pixel\)"):
        to_classes(np.array([[0]]), ALLOY, {BLUE: 1})


def test_mapping_of_colours_leaves_the_grey_image_to_class_0() -> None:
    truth = to_classes(draw(GREEN, (80, 80, 80), BLUE), ALLOY, {GREEN: 1, BLUE: 2})
    assert truth.labels_yx.tolist() == [[1, 0, 2]] * 2
    assert truth.note == "truth: read as #00ff00 = secondary, #0000ff = tertiary, other greys = matrix"


def test_colours_that_the_mapping_lacks_are_listed() -> None:
    with pytest.raises(InputError, match=r"colours are #00ff00 = secondary, but there are #ff0000 \(2 pixels\)"):
        to_classes(draw(GREEN, RED), ALLOY, {GREEN: 1})


def test_mapping_that_names_a_grey_must_name_them_all() -> None:
    assert to_classes(draw(BLUE, (255,) * 3), ALLOY, {BLUE: 1, 255: 2}).labels_yx.tolist() == [[1, 2]] * 2
    with pytest.raises(InputError, match=r"there are #505050 \(2 pixels\)"):
        to_classes(draw(BLUE, (80, 80, 80)), ALLOY, {BLUE: 1, 255: 2})


def test_grey_is_the_same_as_value_and_as_colour() -> None:
    # A drawing in greys alone may be stored as grey or as true colour.
    for mapping in ({0: 0, 255: 2}, {(0, 0, 0): 0, (255, 255, 255): 2}):
        assert to_classes(np.array([[0, 255]]), ALLOY, mapping).labels_yx.tolist() == [[0, 2]]
        assert to_classes(draw((0, 0, 0), (255,) * 3), ALLOY, mapping).labels_yx.tolist() == [[0, 2]] * 2
    with pytest.raises(SettingsError, match="both as a value and as a colour"):
        to_classes(np.array([[7]]), ALLOY, {7: 0, (7, 7, 7): 1})


def test_what_is_ignored_is_left_out_of_the_counts() -> None:
    truth = to_classes(np.array([[0, 9, 255]]), ALLOY, {0: 0, 9: 1, 255: IGNORE})
    assert truth.note == "truth: read as 0 = matrix, 9 = secondary, 255 = ignore"
    assert count([[0, 1, 2]], truth.labels_yx, 3, ignore=IGNORE).confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("class_id", [3, -1, 254])
def test_mapping_to_a_class_that_is_not_there(class_id: int) -> None:
    with pytest.raises(SettingsError, match=rf"#0000ff is mapped to class {class_id}, but the classes go from 0 to 2"):
        to_classes(draw(BLUE), ALLOY, {BLUE: class_id})


def test_note_of_a_long_mapping_is_cut() -> None:
    note = str(to_classes(np.array([[0]]), ALLOY, dict.fromkeys(range(1000), 0)).note)
    assert note.endswith("15 = matrix and 984 more")


# The command line


def test_mapping_as_it_is_written() -> None:
    text = "0=matrix, #0000ff = secondary,255=tertiary,#00FF00=1,-7=ignore"
    assert parse_mapping(text, ALLOY) == {0: 0, BLUE: 1, 255: 2, GREEN: 1, -7: IGNORE}


def test_name_of_a_class_goes_before_an_id() -> None:
    classes = (ClassSpec(name="1", colour=(0, 0, 0)), ClassSpec(name="ignore", colour=RED))
    assert parse_mapping("5=1,6=ignore", classes) == {5: 0, 6: 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a pixel value or #rrggbb"),
        ("matrix", "must be a pixel value or #rrggbb"),
        ("0=matrix,", "must be a pixel value or #rrggbb"),
        (
            "blue=secondary",
            "'blue=secondary': must be a pixel value or #rrggbb, '=', and a class, such as 255=tertiary",
        ),
        ("#00f=secondary", "must be a pixel value or #rrggbb"),
        ("0.5=matrix", "must be a pixel value or #rrggbb"),
        ("9999999999999999999=matrix", "must be a pixel value or #rrggbb"),
        ("0", "there is no class ''"),
        ("0=gamma", r"'0=gamma': there is no class 'gamma'; choose matrix \(0\), secondary \(1\), tertiary \(2\) or"),
        ("0=3", "there is no class '3'"),
        ("0=matrix,0=secondary", "'0=secondary': 0 is given twice"),
        ("#0000FF=1,#0000ff=1", "given twice"),
    ],
)
def test_nonsense_is_no_mapping(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_mapping(text, ALLOY)


# Files


@pytest.mark.parametrize(
    ("pixels", "classes", "expected"),
    [
        (np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8), ALLOY, [[0, 1, 2], [2, 1, 0]]),
        (np.array([[0, 300], [7, 0]], dtype=np.uint16), PARTICLES, [[0, 1], [1, 0]]),
        (draw(BLUE, (60, 60, 60), RED), ALLOY, [[1, 0, 2]] * 2),
        (draw((*BLUE, 255), (60, 60, 60, 255), (*RED, 255)), ALLOY, [[1, 0, 2]] * 2),
        (draw((0, 0, 0), (255, 255, 255)), PARTICLES, [[0, 1]] * 2),
    ],
)
def test_truth_from_a_file(tmp_path: Path, pixels: np.ndarray, classes: Any, expected: list[list[int]]) -> None:
    path = tmp_path / "truth.tif"
    colour = (
        {"photometric": "rgb", "extrasamples": ["unassalpha"] * (pixels.shape[-1] == 4)} if pixels.ndim == 3 else {}
    )
    tifffile.imwrite(path, pixels, **colour)
    assert read_truth(path, classes).labels_yx.tolist() == expected


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "truth.tif"
    tifffile.imwrite(path, np.full((4, 4), 9, dtype=np.uint8))
    with pytest.raises(InputError, match=r"truth.tif: .*9 \(16 pixels\)"):
        read_truth(path, ALLOY)
    assert read_truth(path, ALLOY, {9: 2}).labels_yx.tolist() == [[2] * 4] * 4


def test_stack_of_truths(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    stack = np.random.default_rng(0).integers(0, 3, (3, 6, 7), dtype=np.uint8)
    tifffile.imwrite(path, stack, photometric="minisblack")
    np.testing.assert_array_equal(read_truth(path, ALLOY).labels_yx, stack)

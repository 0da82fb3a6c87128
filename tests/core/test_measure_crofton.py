import numpy as np
import pytest
from scipy.special import ellipe
from skimage.measure import label, perimeter_crofton, regionprops

from napari_matseg.core.measure.shapes import measure_objects


def drawn(inside, half, n, rng, pixel=(1.0, 1.0)):
    """Draw n shapes of known size, one below the other, each with another centre between pixels."""
    reach_y, reach_x = (int(half / size) + 2 for size in pixel)
    y, x = np.mgrid[-reach_y : reach_y + 1, -reach_x : reach_x + 1]
    one = []
    for k in range(n):
        shift_y, shift_x = rng.uniform(-0.5, 0.5, 2)
        one.append(np.where(inside((y + shift_y) * pixel[0], (x + shift_x) * pixel[1]), k + 1, 0))
    return np.concatenate(one)


def error(labels, true, pixel=(1.0, 1.0)):
    return (measure_objects(labels, pixel_size_nm=pixel)["perimeter_nm"] / true - 1).mean()


@pytest.mark.parametrize("radius", [5, 7, 10, 20, 50, 100])
def test_of_discs_there_is_no_bias(radius):
    labels = drawn(lambda y, x: y**2 + x**2 <= radius**2, radius, 4000 // radius, np.random.default_rng(radius))
    assert abs(error(labels, 2 * np.pi * radius)) < 0.005


@pytest.mark.parametrize("pixel", [(2.0, 1.0), (1.0, 3.0)])
def test_of_discs_there_is_no_bias_with_pixels_that_are_no_squares(pixel):
    labels = drawn(lambda y, x: y**2 + x**2 <= 30**2, 30, 100, np.random.default_rng(0), pixel)
    assert abs(error(labels, 2 * np.pi * 30, pixel)) < 0.005


@pytest.mark.parametrize(("major", "minor", "limit"), [(40, 20, 0.003), (60, 12, 0.015)])
@pytest.mark.parametrize("degrees", [0, 10, 22.5, 45, 70])
def test_of_ellipses_the_error_is_small(major, minor, limit, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    labels = drawn(
        lambda y, x: ((x * c - y * s) / major) ** 2 + ((x * s + y * c) / minor) ** 2 <= 1,
        major,
        20,
        np.random.default_rng(1),
    )
    assert abs(error(labels, 4 * major * ellipe(1 - (minor / major) ** 2))) < limit


@pytest.mark.parametrize("pixel", [(1.0, 1.0), (2.0, 1.0)])
def test_of_squares_it_is_right_in_the_mean_of_their_orientations(pixel):
    side, errors = 100, []
    for degrees in np.arange(1.25, 90, 2.5):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        labels = drawn(
            lambda y, x, c=c, s=s: np.maximum(abs(x * c - y * s), abs(x * s + y * c)) <= side / 2,
            side,
            3,
            np.random.default_rng(2),
            pixel,
        )
        errors.append(error(labels, 4 * side, pixel))
    assert abs(np.mean(errors)) < 0.01
    # What the docstring states of a straight outline, and the corners that are cut.
    lowest, highest = {1.0: (-0.065, 0.027), 2.0: (-0.11, 0.087)}[pixel[0]]
    assert lowest < min(errors) < -0.04
    assert 0.01 < max(errors) < highest


def test_of_rectangles_there_is_a_closed_form():
    labels = np.zeros((60, 80), np.uint8)
    labels[10:30, 20:70] = 1
    height, width = 20, 50
    diagonal_lines = height + width - 1
    expected = np.pi / 4 * (height + width + 2 * diagonal_lines / np.sqrt(2))
    assert measure_objects(labels)["perimeter_px"].tolist() == pytest.approx([expected])
    # The same rectangle in nanometres, with twice the width of a pixel.
    slope = np.arctan2(1, 2)
    expected = np.pi * (height * slope / np.pi + width * 2 * (0.5 - slope / np.pi) + diagonal_lines / np.sqrt(5))
    assert measure_objects(labels, pixel_size_nm=(1, 2))["perimeter_nm"].tolist() == pytest.approx([expected])


def test_agrees_with_scikit_image():
    blobs = np.random.default_rng(0).random((60, 80)) < 0.4
    labels = label(blobs, connectivity=1).astype(np.uint16) * 7
    labels[0], labels[:, -1] = 0, 0
    expected = [perimeter_crofton(region.image, directions=4) for region in regionprops(labels)]
    assert measure_objects(labels)["perimeter_px"].to_numpy() == pytest.approx(np.array(expected))


def test_the_frame_is_an_outline_and_so_is_a_hole():
    inside = np.zeros((12, 14), np.uint8)
    inside[1:-1, 1:-1] = 1
    whole = measure_objects(inside)["perimeter_px"]
    assert measure_objects(inside[1:-1, 1:-1])["perimeter_px"].tolist() == whole.tolist()
    assert measure_objects(np.pad(inside, 3)[4:-4])["perimeter_px"].tolist() == whole.tolist()
    pierced = inside.copy()
    pierced[5:8, 5:8] = 0
    hole = np.zeros_like(inside)
    hole[5:8, 5:8] = 1
    assert measure_objects(pierced)["perimeter_px"][0] == pytest.approx(
        whole[0] + measure_objects(hole)["perimeter_px"][0]
    )


def test_between_objects_that_touch_both_have_an_outline():
    labels = np.repeat([[1, 2]], 4, axis=0).repeat(4, axis=1)
    alone = measure_objects(np.where(labels == 1, 1, 0))["perimeter_px"][0]
    assert measure_objects(labels)["perimeter_px"].tolist() == pytest.approx([alone, alone])

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_matseg.core.measure.spacing import mean_free_path, nearest_gaps, nearest_neighbours
from napari_matseg.errors import InputError


def places(*yx: tuple[float, float]) -> pd.DataFrame:
    return pd.DataFrame(np.array(yx, np.float64).reshape(-1, 2), columns=["y", "x"])


def lattice(n: int, step: int) -> pd.DataFrame:
    y, x = np.mgrid[:n, :n] * step + (step - 1) / 2
    return pd.DataFrame({"y": y.ravel(), "x": x.ravel()})


@pytest.mark.parametrize("pixel_size_nm", [None, (2.0, 2.0)])
def test_stripes_have_their_period(pixel_size_nm: tuple[float, float] | None) -> None:
    period, wide, n = 16, 6, 200
    stripes = np.tile(np.arange(n * period) % period < wide, (400, 1))
    found = mean_free_path(stripes, pixel_size_nm)
    unit = 1.0 if pixel_size_nm is None else 2.0
    assert found.fraction == wide / period
    across, along, falling, rising = found.per_length
    assert across == pytest.approx(1 / (period * unit), rel=0.01)
    assert along == 0
    assert [falling, rising] == pytest.approx([1 / (period * unit * 2**0.5)] * 2, rel=0.01)
    mean = (1 + 2**0.5) / 4 / period  # over the four directions
    assert found.mean_free_path == pytest.approx((1 - wide / period) / mean * unit, rel=0.01)
    assert found.mean_chord == pytest.approx(wide / period / mean * unit, rel=0.01)
    row = found.to_dict()
    name = "px" if pixel_size_nm is None else "nm"
    assert row[f"mean_free_path_horizontal_{name}"] == pytest.approx((period - wide) * unit, rel=0.01)
    assert np.isnan(row[f"mean_free_path_vertical_{name}"])


def test_squares_on_a_lattice_in_closed_form() -> None:
    period, side, n = 20, 8, 60
    one = np.zeros((period, period), bool)
    one[:side, :side] = True
    found = mean_free_path(np.tile(one, (n, n)))
    # A row meets a square per period on side / period of the rows; diagonals see both sides of each square.
    straight = side / period / period
    assert found.per_length[0] == pytest.approx(straight, rel=0.02)
    assert found.per_length[1] == pytest.approx(straight, rel=0.02)
    assert found.per_length[2] == pytest.approx((2 * side - 1) / period**2 / 2**0.5, rel=0.02)
    assert found.fraction == pytest.approx((side / period) ** 2)


def test_discs_in_closed_form() -> None:
    """N_L is the number of discs per area times their diameter, whatever the direction."""
    radius, period, n = 15, 50, 10
    y, x = np.mgrid[:period, :period] - period / 2
    found = mean_free_path(np.tile(y**2 + x**2 <= radius**2, (n, n)))
    assert found.pieces_per_length == pytest.approx(2 * radius / period**2, rel=0.03)
    assert found.mean_chord == pytest.approx(np.pi * radius / 2, rel=0.03)


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_phase_and_matrix_change_places(phase: np.ndarray) -> None:
    found, other = mean_free_path(phase), mean_free_path(~phase)
    assert found.mean_free_path == pytest.approx(other.mean_chord, nan_ok=True)
    turned = mean_free_path(phase.T)
    assert turned.mean_free_path == pytest.approx(found.mean_free_path, nan_ok=True)
    assert mean_free_path(phase, (3.0, 3.0)).mean_chord == pytest.approx(3 * found.mean_chord, nan_ok=True)


@pytest.mark.parametrize("fill", [False, True])
def test_a_phase_nowhere_or_everywhere_has_no_path(fill: bool) -> None:
    found = mean_free_path(np.full((5, 7), fill))
    assert found.fraction == fill
    assert np.isnan([found.mean_free_path, found.mean_chord]).all()


def test_pixels_that_are_not_square_keep_lengths() -> None:
    y, x = np.mgrid[:120, :60] * [[[0.5]], [[1.0]]] - 29.6
    found = mean_free_path(np.tile(y**2 + x**2 <= 20**2, (4, 4)), (5.0, 10.0))
    assert found.mean_chord == pytest.approx(np.pi / 2 * 200, rel=0.02)
    assert sum(found.weights) == pytest.approx(1)


def test_a_phase_must_be_a_boolean_image() -> None:
    with pytest.raises(InputError, match="boolean image of rows and columns, not uint8"):
        mean_free_path(np.zeros((3, 3), np.uint8))


def test_square_lattice_has_its_step() -> None:
    found = nearest_neighbours(lattice(10, 8), (80, 80))
    assert set(found.distances) == {8.0}
    assert found.distances.size == 64  # those in the outermost rows and columns are nearer to the edge
    assert (found.mean, found.std) == (8.0, 0.0)
    assert found.random_mean == pytest.approx(4)
    assert found.ratio == pytest.approx(2)
    assert found.to_dict()["n_seen"] == 100


def test_pixel_size_and_first_row() -> None:
    table = lattice(10, 8)
    table["y"] += 30
    found = nearest_neighbours(table, (80, 80), (2.0, 3.0), first_row=30)
    assert set(found.distances) == {16.0}
    assert (found.unit, found.field_area) == ("nm", 160.0 * 240)
    assert "nearest_neighbour_mean_nm" in found.to_dict()


def test_random_places_have_a_ratio_of_one() -> None:
    """In fields of few objects, where to keep those whose neighbour is uncertain would make distances too large."""
    rng = np.random.default_rng(0)
    fields = []
    for _ in range(150):
        n = rng.poisson(20)
        fields.append(nearest_neighbours(places(*rng.uniform(-0.5, 99.5, (n, 2))), (100, 100)))
    total = sum(fields[1:], fields[0])
    assert total.n_seen == sum(field.n_seen for field in fields)
    assert total.mean == pytest.approx(0.5 / (20 / 1e4) ** 0.5, rel=0.04)
    assert total.ratio == pytest.approx(1, abs=0.04)
    unweighted = total.distances.mean()
    assert unweighted < 0.93 * total.mean  # near ones are more often certain


@pytest.mark.parametrize("table", [places(), places((3, 4)), places((0, 0), (9, 9))])
def test_too_few_neighbours_give_nan(table: pd.DataFrame) -> None:
    found = nearest_neighbours(table, (10, 10))
    assert np.isnan([found.mean, found.std, found.ratio]).all()
    assert found.n_seen == len(table)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="outside the field of 10 x 10 px"):
        nearest_neighbours(places((3, 12)), (10, 10))
    with pytest.raises(InputError, match="between centres in px and between centres in nm cannot"):
        _ = nearest_neighbours(places(), (10, 10)) + nearest_neighbours(places(), (10, 10), (1.0, 1.0))


@pytest.mark.parametrize("pixel", [(1.0, 1.0), (2.0, 3.0)])
def test_gaps_agree_with_all_pairs_of_pixels(pixel: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    labels = np.zeros((90, 110), np.uint32)
    y, x = np.indices(labels.shape)
    for k in range(25):
        cy, cx, radius = rng.uniform(0, 90), rng.uniform(0, 110), rng.uniform(2, 8)
        labels[((y - cy) ** 2 + (x - cx) ** 2 <= radius**2) & (labels == 0)] = 2**32 - 1 - 7 * k
    found = nearest_gaps(labels, pixel)

    exact = []
    for label in np.unique(labels)[1:]:
        here, there = np.argwhere(labels == label), np.argwhere((labels != label) & (labels > 0))
        apart = np.maximum(np.abs(here[:, None] - there) - 1, 0) * pixel
        gap = np.hypot(*apart.T).min()
        if gap < (np.minimum(here.min(axis=0), np.array(labels.shape) - 1 - here.max(axis=0)) * pixel).min():
            exact.append(gap)
    assert found.n_seen == len(np.unique(labels)) - 1
    assert found.distances.size == len(exact)
    over = np.sort(found.distances) - np.sort(exact)
    assert (over >= -1e-9).all()
    assert over.max() < max(pixel)


def test_gaps_of_squares_on_a_lattice() -> None:
    labels = np.zeros((80, 80), np.int64)
    for k in range(64):
        labels[10 * (k // 8) + 3 : 10 * (k // 8) + 7, 10 * (k % 8) + 3 : 10 * (k % 8) + 7] = k + 1
    found = nearest_gaps(labels, (5.0, 5.0))
    assert set(found.distances) == {30.0}
    assert found.distances.size == 36
    assert np.isnan(found.ratio)
    assert found.to_dict()["nearest_neighbour_mean_nm"] == pytest.approx(30)
    touching = np.array([[0, 0, 0, 0], [0, 1, 2, 0], [0, 0, 0, 0]])
    assert nearest_gaps(touching).distances.tolist() == [0, 0]
    with pytest.raises(InputError, match="between centres in px and between outlines in nm"):
        _ = nearest_neighbours(places(), (10, 10)) + found


def test_gaps_need_two_objects_and_an_image() -> None:
    assert np.isnan(nearest_gaps(np.ones((4, 4), int)).mean)
    assert nearest_gaps(np.zeros((4, 4), int)).n_seen == 0
    with pytest.raises(InputError, match="image of integers, not float64"):
        nearest_gaps(np.zeros((4, 4)))

from __future__ import annotations

import numpy as np
import pytest

from napari_matseg.core.measure.grains import (
    GrainSize,
    direction_weights,
    grains_of,
    intercept,
    planimetric,
)
from napari_matseg.errors import InputError

PIXEL_NM = (100.0, 100.0)


def mosaic(shape: tuple[int, int], density: float, seed: int) -> np.ndarray:
    """Cells of nuclei strewn at random (Poisson-Voronoi), cut from a larger plane."""
    from scipy.spatial import KDTree

    rng = np.random.default_rng(seed)
    margin = 4 / density**0.5
    plane = np.array(shape) + 2 * margin
    nuclei = rng.uniform(-margin, plane - margin, (rng.poisson(density * plane.prod()), 2))
    nearest = KDTree(nuclei).query(np.argwhere(np.ones(shape, bool)))[1]
    return (nearest + 1).reshape(shape)


def squares(n: int, side: int) -> np.ndarray:
    return np.arange(1, n * n + 1, dtype=np.uint32).reshape(n, n).repeat(side, 0).repeat(side, 1)


def outlined(labels: np.ndarray) -> np.ndarray:
    """Take away the last row and column of each grain."""
    found = labels.copy()
    found[:-1][labels[1:] != labels[:-1]] = 0
    found[:, :-1][labels[:, 1:] != labels[:, :-1]] = 0
    return found


def g_of_density(per_mm2: float) -> float:
    return 3.321928 * np.log10(per_mm2) - 2.954


def g_of_intercept(mm: float) -> float:
    return -6.643856 * np.log10(mm) - 3.288


@pytest.mark.parametrize("seed", range(3))
def test_planimetric_finds_the_density_of_a_voronoi_mosaic(seed: int) -> None:
    density = 1 / 150
    found = planimetric([mosaic((400, 500), density, seed)], PIXEL_NM)
    true = g_of_density(density / 1e-8)
    assert found.ci95_low < true < found.ci95_high
    assert found.g == pytest.approx(true, abs=0.1)
    assert found.fields == 1
    assert "one field" in found.interval


@pytest.mark.parametrize("seed", range(2))
def test_intercept_finds_the_boundary_length_of_a_voronoi_mosaic(seed: int) -> None:
    density = 1 / 400
    found = intercept([mosaic((500, 600), density, seed)], PIXEL_NM)
    # Boundaries of 2 sqrt(N_A) per area, of which lines cross 2 / pi per length (Okabe et al. 2000).
    true = g_of_intercept(np.pi / (4 * density**0.5) * 1e-4)
    assert found.ci95_low < true < found.ci95_high
    assert found.g == pytest.approx(true, abs=0.1)
    assert found.mean_intercept_um == pytest.approx(np.pi / (4 * density**0.5) * 0.1, rel=0.04)


def test_intervals_over_fields_cover_the_truth() -> None:
    density, within = 1 / 60, []
    for seed in range(12):
        fields = [mosaic((60, 70), density, 100 + 5 * seed + k) for k in range(5)]
        found = planimetric(fields, PIXEL_NM)
        within.append(found.ci95_low <= g_of_density(density / 1e-8) <= found.ci95_high)
    assert np.mean(within) >= 0.8


@pytest.mark.parametrize("outline", [False, True])
def test_squares_have_the_grain_size_of_their_side(outline: bool) -> None:
    side, n = 20, 12
    labels = squares(n, side)
    labels = outlined(labels) if outline else labels
    cut = labels[side // 2 : -side // 2, side // 2 : -side // 2]  # the corners lie in the middle of grains
    found = planimetric([cut], PIXEL_NM)
    assert found.counted == (n - 1) ** 2
    assert found.density == pytest.approx(1 / (side * 1e-4) ** 2)
    assert found.g == pytest.approx(g_of_density(found.density))
    assert found.mean_area_um2 == pytest.approx((side * 0.1) ** 2)
    assert found.mean_diameter_um == pytest.approx(side * 0.1 * (4 / np.pi) ** 0.5)


def test_counts_of_squares_along_test_lines_are_those_along_all() -> None:
    side, n = 20, 12
    found = intercept([squares(n, side)], PIXEL_NM)
    straight = (n - 1) / (n * side - 1)  # crossings per step along rows and columns
    per_step = [straight, straight]
    labels = squares(n, side)
    for image in (labels, labels[::-1]):
        lines = [image.diagonal(k) for k in range(1 - n * side, n * side)]
        crossed = sum(np.count_nonzero(line[1:] != line[:-1]) for line in lines)
        per_step.append(crossed / sum(line.size - 1 for line in lines) / 2**0.5)
    assert found.density == pytest.approx(np.mean(per_step) / 1e-4, rel=0.01)
    assert found.g == pytest.approx(g_of_intercept(1 / found.density))


def test_boundary_pixels_count_once() -> None:
    labels = mosaic((400, 500), 1 / 400, 0)
    plain, drawn = intercept([labels], PIXEL_NM), intercept([outlined(labels)], PIXEL_NM)
    assert drawn.density == pytest.approx(plain.density, rel=0.02)


@pytest.mark.parametrize(
    ("line", "crossings"),
    [
        ([1, 1, 2, 2], 1),
        ([1, 0, 0, 2], 1),
        ([1, 0, 1, 1], 0),  # met, not crossed
        ([0, 1, 1, 2], 1),
        ([0, 1, 1, 0], 0),
        ([0, 0, 0, 0], 0),
    ],
)
def test_rules_of_counting_along_a_line(line: list[int], crossings: float) -> None:
    found = intercept([np.array([line])], PIXEL_NM)
    assert found.density == pytest.approx(crossings / (3 * 1e-4))


@pytest.mark.parametrize("corner", [1, 0])
def test_planimetric_rule_is_saltykovs(corner: int) -> None:
    labels = np.arange(1, 10).reshape(3, 3).repeat(4, 0).repeat(4, 1)
    if not corner:
        labels[0, 0] = 0
    assert planimetric([labels], PIXEL_NM).counted == 1 + 4 / 2 + 1


def test_fields_follow_astm_e112() -> None:
    fields = [squares(n, 5) for n in (6, 8, 7)]
    fields = [labels[:30, :30] for labels in fields]
    fields[1][:10, :10] = 1
    found = planimetric(fields, PIXEL_NM)
    per_mm2 = np.array([planimetric([labels], PIXEL_NM).density for labels in fields])
    half = 4.303 * per_mm2.std(ddof=1) / 3**0.5
    assert found.density == pytest.approx(per_mm2.mean())
    assert found.relative_accuracy_percent == pytest.approx(100 * half / per_mm2.mean(), rel=1e-3)
    assert found.ci95_high == pytest.approx(g_of_density(per_mm2.mean() + half), abs=1e-3)
    assert "over fields" in found.interval


def test_large_ids_with_gaps_and_pixels_that_are_not_square() -> None:
    labels = squares(9, 10)
    far = labels * np.uint32(400) + np.uint32(2**32 - 1 - 400 * 81)
    assert far.max() == 2**32 - 1
    assert planimetric([far], PIXEL_NM) == planimetric([labels], PIXEL_NM)
    assert intercept([far], PIXEL_NM) == intercept([labels], PIXEL_NM)
    # Squares of 10 x 10 px, drawn with pixels half as high.
    tall = intercept([labels.repeat(2, 0)], (50.0, 100.0))
    assert tall.g == pytest.approx(intercept([labels], PIXEL_NM).g, abs=0.15)
    assert planimetric([labels.repeat(2, 0)], (50.0, 100.0)).g == pytest.approx(planimetric([labels], PIXEL_NM).g)


@pytest.mark.parametrize("labels", [np.ones((9, 7), int), np.zeros((9, 7), int), np.ones((1, 1), int)])
def test_too_few_grains_have_no_size(labels: np.ndarray) -> None:
    for method in (planimetric, intercept):
        found = method([labels], PIXEL_NM)
        assert np.isnan([found.g, found.ci95_low, found.ci95_high]).all()
        assert np.isnan([found.mean_area_um2, found.mean_diameter_um, found.mean_intercept_um]).all()


def test_the_row_of_either_method_has_the_same_columns() -> None:
    rows = [method([squares(5, 8)], PIXEL_NM).to_dict() for method in (planimetric, intercept)]
    assert list(rows[0]) == list(rows[1])
    assert np.isnan([rows[0]["mean_intercept_um"], rows[1]["grains_per_mm2"]]).all()
    assert rows[0]["grain_size_g"] > 0


def test_grain_size_needs_a_pixel_size_and_images() -> None:
    for method in (planimetric, intercept):
        with pytest.raises(InputError, match="needs the pixel size, which is not known; set it"):
            method([squares(3, 3)], None)
        with pytest.raises(InputError, match="no field"):
            method([], PIXEL_NM)
        with pytest.raises(InputError, match=r"image of integers, not float64 of shape \(3, 3\)"):
            method([np.ones((3, 3))], PIXEL_NM)


def test_grains_are_what_boundaries_part() -> None:
    labels = squares(4, 10)
    grains = grains_of(outlined(labels) == 0)
    assert grains.shape == labels.shape
    assert grains.min() == 1
    assert grains.max() == 16
    assert np.mean(grains == labels) > 0.9
    found: GrainSize = planimetric([grains], PIXEL_NM)
    assert found.counted == planimetric([labels], PIXEL_NM).counted


def test_a_diagonal_boundary_parts_and_specks_go() -> None:
    boundary = np.eye(40, dtype=bool)
    assert grains_of(boundary).max() == 2
    boundary[10:15, 20:25] = True
    boundary[12, 22] = False  # a speck within a thick boundary
    assert grains_of(boundary).max() == 2
    assert grains_of(boundary, min_area_px=0).max() == 3


def test_boundaries_everywhere_or_nowhere() -> None:
    assert not grains_of(np.ones((20, 30), bool)).any()
    assert (grains_of(np.zeros((20, 30), bool)) == 1).all()
    assert not grains_of(np.zeros((2, 3), bool)).any()
    with pytest.raises(InputError, match="boolean image of rows and columns, not int64"):
        grains_of(np.zeros((2, 3), np.int64))


def test_direction_weights_are_angles() -> None:
    assert sum(direction_weights(1, 3)) == pytest.approx(1)
    assert direction_weights(1, 3)[0] < 0.25 < direction_weights(1, 3)[1]

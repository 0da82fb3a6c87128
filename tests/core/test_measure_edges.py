from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_matseg.core.measure.edges import describe, edge_weights
from napari_matseg.core.measure.sizes import Sizes, pool, size_distribution
from napari_matseg.errors import InputError
from napari_matseg.settings import MeasureSettings

sides = st.integers(8, 20)


def weigh(boxes: np.ndarray, shape: tuple[int, int], **kwargs: object) -> tuple[np.ndarray, str]:
    """Weigh rectangles of top, left, height, width."""
    top, left, height, width = boxes.reshape(-1, 4).T
    touches = (top <= 0) | (left <= 0) | (top + height >= shape[0]) | (left + width >= shape[1])
    centres = np.stack([top + (height - 1) / 2, left + (width - 1) / 2], axis=1)
    extents = np.stack([height, width], axis=1).astype(float)
    return edge_weights(centres, extents, touches, shape, MeasureSettings(**kwargs))


def all_places(size: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Put a rectangle at each place at which it shows in the field."""
    tops, lefts = np.arange(1 - size[0], shape[0]), np.arange(1 - size[1], shape[1])
    y, x = np.meshgrid(tops, lefts, indexing="ij")
    return np.stack([y.ravel(), x.ravel(), np.full(y.size, size[0]), np.full(y.size, size[1])], axis=1)


@settings(max_examples=25)
@given(sides, sides, st.integers(1, 6), st.integers(1, 6))
def test_miles_lantuejoul_weights_of_all_places_are_the_field(h: int, w: int, high: int, wide: int) -> None:
    weights, words = weigh(all_places((high, wide), (h, w)), (h, w))
    assert weights.sum() == pytest.approx(h * w)
    assert words == "Miles-Lantuéjoul weights"


@settings(max_examples=25)
@given(sides, sides, st.integers(1, 3), st.integers(1, 3))
def test_guarded_weights_of_all_places_are_the_field(h: int, w: int, high: int, wide: int) -> None:
    weights, words = weigh(all_places((high, wide), (h, w)), (h, w), edge="guard")
    assert weights.sum() == pytest.approx(h * w)
    assert words == f"guard frame of {max(high, wide)} px"


def test_no_correction_says_so() -> None:
    boxes = np.array([[0, 3, 2, 2], [4, 4, 2, 2]])
    assert weigh(boxes, (10, 10), edge="drop")[0].tolist() == [0, 1]
    assert weigh(boxes, (10, 10), edge="keep")[0].tolist() == [1, 1]
    assert "not corrected" in weigh(boxes, (10, 10), edge="drop")[1]
    assert "not corrected" in weigh(boxes, (10, 10), edge="keep")[1]


def test_an_object_as_large_as_the_field_is_left_out_and_told() -> None:
    weights, words = weigh(np.array([[0, 2, 10, 3], [4, 6, 2, 2]]), (10, 12))
    assert weights[0] == 0
    assert np.isfinite(weights).all()
    assert words == "Miles-Lantuéjoul weights, 1 object as large as the field left out"


def test_a_guard_narrower_than_objects_is_told() -> None:
    weights, words = weigh(np.array([[0, 10, 9, 4], [12, 12, 2, 2]]), (30, 30), edge="guard", guard_px=3)
    assert (weights > 0).all()
    assert words == "guard frame of 3 px, 1 object in it cut by the edge"


def test_impossible_corrections_are_refused() -> None:
    with pytest.raises(InputError, match="guard of 5 px leaves no frame in a field of 10 x 12 px; set a narrower"):
        weigh(np.array([[4, 4, 2, 2]]), (10, 12), edge="guard", guard_px=5)
    with pytest.raises(InputError, match=r"leaves no frame .* take Miles-Lantuéjoul"):
        weigh(np.array([[1, 1, 8, 2]]), (10, 12), edge="guard")
    with pytest.raises(InputError, match="20 x 2 px does not lie within a field of 10 x 12 px"):
        edge_weights(np.zeros((1, 2)), np.array([[20.0, 2]]), np.array([False]), (10, 12), MeasureSettings())


def test_corrections_of_many_fields_fit_a_line() -> None:
    assert describe(["a", "b", "a"]) == "a; b"
    assert describe(list("abcde")) == "a; b; c; and 2 more"


SHAPE = (300, 420)
MARGIN = 120
FIELDS = 60
DENSITY = 60 / (SHAPE[0] * SHAPE[1])


@cache
def cut_particles() -> tuple[list[pd.DataFrame], np.ndarray]:
    """Tables of discs and ellipses strewn on planes larger than their fields, and the true diameters of all."""
    rng = np.random.default_rng(7)
    plane = np.array(SHAPE) + 2 * MARGIN
    tables, truth = [], []
    for _ in range(FIELDS):
        n = rng.poisson(DENSITY * plane.prod())
        centres = rng.uniform(-MARGIN, plane - MARGIN, (n, 2))
        diameter = np.minimum(rng.lognormal(np.log(50), 0.4, n), 140)
        aspect = np.where(rng.random(n) < 0.5, 1.0, 1.6)
        angle = rng.uniform(0, np.pi, n)
        truth.append(diameter)
        tables.append(photograph(centres, diameter, aspect, angle))
    return tables, np.concatenate(truth)


def photograph(centres: np.ndarray, diameter: np.ndarray, aspect: np.ndarray, angle: np.ndarray) -> pd.DataFrame:
    """Measure what shows in the field, in pixels; the areas of whole particles are taken as they are."""
    a, b = diameter / 2 * aspect**0.5, diameter / 2 / aspect**0.5
    half = np.stack([np.hypot(a * np.sin(angle), b * np.cos(angle)), np.hypot(a * np.cos(angle), b * np.sin(angle))], 1)
    first, last = np.ceil(centres - half), np.floor(centres + half)
    edge = np.array(SHAPE) - 1
    shows = ((last >= 0) & (first <= edge)).all(axis=1)
    touches = ((first <= 0) | (last >= edge)).any(axis=1)
    area, centroid = np.pi * a * b, centres.copy()
    first, last = np.maximum(first, 0), np.minimum(last, edge)
    for k in np.flatnonzero(shows & touches):
        (top, left), (bottom, right) = first[k].astype(int), last[k].astype(int) + 1
        dy, dx = np.arange(top, bottom)[:, None] - centres[k, 0], np.arange(left, right) - centres[k, 1]
        along, across = dx * np.cos(angle[k]) + dy * np.sin(angle[k]), dy * np.cos(angle[k]) - dx * np.sin(angle[k])
        y, x = np.nonzero((along / a[k]) ** 2 + (across / b[k]) ** 2 <= 1)
        area[k] = y.size
        if y.size:
            centroid[k] = top + y.mean(), left + x.mean()
    seen = shows & (area > 0)
    height, width = (last - first + 1)[seen].T
    return pd.DataFrame(
        {
            "y": centroid[seen, 0],
            "x": centroid[seen, 1],
            "area_px": area[seen],
            "diameter_px": (4 / np.pi * area[seen]) ** 0.5,
            "height_px": height,
            "width_px": width,
            "touches_edge": touches[seen],
        }
    )


def errors(**kwargs: object) -> dict[str, float]:
    """Relative errors of the mean, of D50 by number and by area, and of the number density."""
    tables, truth = cut_particles()
    found = pool([size_distribution(table, MeasureSettings(**kwargs), SHAPE) for table in tables])
    true = Sizes(np.sort(truth), np.ones(truth.size), np.sort(truth) ** 2, "", "", "", 0, 1.0)
    return {
        "mean": found.mean() / true.mean() - 1,
        "d50": found.quantile(0.5) / true.quantile(0.5) - 1,
        "d50 by area": found.quantile(0.5, "area") / true.quantile(0.5, "area") - 1,
        "density": found.density / DENSITY - 1,
    }


def test_miles_lantuejoul_removes_the_bias_of_the_frame() -> None:
    error = errors()
    assert abs(error["mean"]) < 0.02
    assert abs(error["d50"]) < 0.02
    assert abs(error["d50 by area"]) < 0.03
    assert abs(error["density"]) < 0.03


def test_a_guard_frame_removes_the_bias_too_with_fewer_objects() -> None:
    error = errors(edge="guard", guard_px=100)
    assert abs(error["mean"]) < 0.04
    assert abs(error["density"]) < 0.12  # 600 objects: three times their Poisson error


@pytest.mark.parametrize(("edge", "size", "density"), [("drop", -0.04, -0.2), ("keep", -0.1, 0.2)])
def test_without_a_correction_the_frame_biases(edge: str, size: float, density: float) -> None:
    error = errors(edge=edge)
    assert error["mean"] < size
    assert error["d50"] < size
    assert abs(error["density"]) > abs(density)
    assert np.sign(error["density"]) == np.sign(density)

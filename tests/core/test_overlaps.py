from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.blobs import Extrema
from napari_matseg.core.overlaps import _share, suppress

blobs = st.lists(
    st.tuples(st.floats(0, 60), st.floats(0, 60), st.floats(2, 60), st.floats(-1, 1).filter(bool)), max_size=12
)


def as_extrema(rows: list[tuple[float, float, float, float]]) -> Extrema:
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Extrema(table[:, :2], table[:, 2], table[:, 3])


def one_by_one(found: Extrema, overlap: float) -> list[int]:
    """The rule as it reads: from the strongest down, keep what overlaps nothing that is kept."""
    kept: list[int] = []
    for i in np.argsort(-np.abs(found.contrast), kind="stable"):
        distance = np.hypot(*(found.points_yx[kept] - found.points_yx[i]).T)
        radii = found.diameter_px / 2
        if not (_share(distance, radii[kept], np.full(len(kept), radii[i])) > overlap).any():
            kept.append(int(i))
    return kept


@given(blobs, st.floats(0, 1))
def test_the_strongest_are_kept(rows, overlap):
    found = as_extrema(rows)
    expected = found[np.array(one_by_one(found, overlap), dtype=int)]
    kept = suppress(found, overlap)
    np.testing.assert_array_equal(kept.points_yx, expected.points_yx)
    np.testing.assert_array_equal(kept.contrast, expected.contrast)


@pytest.mark.parametrize(("distance", "a", "b"), [(10, 8, 8), (10, 3, 9), (6, 3, 9), (5.5, 2.5, 7), (1, 4, 4)])
def test_share_is_that_of_the_pixels(distance, a, b):
    y, x = np.indices((800, 800)) / 20 - 20
    one, other = np.hypot(y, x) < a, np.hypot(y, x - distance) < b
    expected = (one & other).sum() / min(one.sum(), other.sum())
    share = _share(np.array([distance]), np.array([a]), np.array([b]))[0]
    np.testing.assert_allclose(share, expected, atol=0.01)


def test_share_at_its_ends():
    share = _share(np.array([0.0, 0, 7, 7.1, 1]), np.array([3.0, 3, 3, 3, 2]), np.array([3.0, 9, 4, 4, 3]))
    np.testing.assert_allclose(share, [1, 1, 0, 0, 1], atol=1e-9)


def test_many_are_few_seconds():
    rng = np.random.default_rng(0)
    n = 20_000
    found = Extrema(rng.random((n, 2)) * 2000, rng.choice([6.0, 9.0, 70.0], n, p=[0.7, 0.29, 0.01]), rng.random(n))
    assert 0 < len(suppress(found, 0.1)) < n

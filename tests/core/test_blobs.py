from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_matseg.core import blobs
from napari_matseg.core.blobs import Extrema, find_extrema
from napari_matseg.core.normalise import GreyScale
from napari_matseg.core.progress import finish

UNIT = GreyScale((0.0,), (1.0,))


def discs(shape: tuple[int, int], centres: list[tuple[float, float, float]], contrast: float = 1.0) -> np.ndarray:
    """Discs (y, x, diameter) with smooth edges."""
    rows, columns = np.indices(shape)
    inside = [np.clip(d / 2 + 0.5 - np.hypot(rows - y, columns - x), 0, 1) for y, x, d in centres]
    return (contrast * np.max(inside, axis=0)).astype(np.float32)


def search(image: np.ndarray, smallest: float = 4, largest: float = 200, operator: str = "log") -> Extrema:
    found = finish(find_extrema(image, UNIT, smallest, largest, operator))  # type: ignore[arg-type]
    return found[np.argsort(-np.abs(found.contrast))]


@pytest.mark.parametrize("operator", ["log", "doh"])
@pytest.mark.parametrize("diameter", [5, 8, 13, 25, 50, 90])
@pytest.mark.parametrize("contrast", [0.8, -0.4])
def test_a_disc_gives_its_centre_diameter_and_contrast(operator, diameter, contrast):
    y, x = 95.3, 120.6
    image = discs((200, 230), [(y, x, diameter)], contrast)
    found = search(image, operator=operator)[:1]
    np.testing.assert_allclose(found.points_yx[0], (y, x), atol=max(0.2, 0.03 * diameter))
    np.testing.assert_allclose(found.diameter_px, diameter, rtol=0.05)
    np.testing.assert_allclose(found.contrast, contrast, rtol=0.08)


def test_small_and_large_are_found_together():
    centres = [(20, 25, 6), (90, 100, 60), (30, 70, 12)]
    found = search(discs((160, 180), centres))[:3]
    order = np.argsort(found.diameter_px)
    np.testing.assert_allclose(found.points_yx[order], [centres[i][:2] for i in (0, 2, 1)], atol=1)


@pytest.mark.parametrize("operator", ["log", "doh"])
def test_an_inverted_image_gives_the_same_with_the_other_sign(operator):
    image = np.random.default_rng(0).random((50, 70), dtype=np.float32) - 0.5
    scale = GreyScale((-1.0,), (1.0,))
    one = finish(find_extrema(image, scale, 4, 20, operator))
    other = finish(find_extrema(-image, scale, 4, 20, operator))
    assert len(one) > 10
    for found in (one, other):
        assert (found.diameter_px >= 4).all()
        assert (found.diameter_px <= 20).all()
    key, back = np.lexsort(one.points_yx.T), np.lexsort(other.points_yx.T)
    np.testing.assert_array_equal(one.points_yx[key], other.points_yx[back])
    np.testing.assert_array_equal(one.contrast[key], -other.contrast[back])


@pytest.mark.parametrize("operator", ["log", "doh"])
def test_strips_change_nothing(operator, monkeypatch):
    image = np.random.default_rng(1).random((701, 33), dtype=np.float32)
    whole = finish(find_extrema(image, UNIT, 5, 30, operator))
    monkeypatch.setattr(blobs, "STRIP", 1)
    strips = finish(find_extrema(image, UNIT, 5, 30, operator))
    assert len(whole) > 40
    tables = [np.column_stack([f.points_yx, f.diameter_px, f.contrast]) for f in (whole, strips)]
    one, other = (table[np.lexsort(table.round(6).T)] for table in tables)
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("operator", ["log", "doh"])
def test_edges_and_lines_are_no_blobs(operator):
    rows, columns = np.indices((120, 140))
    step = (rows + 0.4 * columns > 90).astype(np.float32)
    line = (np.abs(rows + 0.4 * columns - 90) < 4).astype(np.float32)
    for image in (step, line):
        found = search(image, 4, 30, operator)
        middle = np.all((found.points_yx > 20) & (found.points_yx < (100, 120)), axis=1)
        assert not (middle & (np.abs(found.contrast) > 0.1)).any()


def test_half_a_disc_at_the_edge_has_its_centre_there():
    found = search(discs((100, 120), [(-0.5, 60, 24)]))[:1]
    np.testing.assert_allclose(found.points_yx[0], (0, 60), atol=1)
    np.testing.assert_allclose(found.diameter_px, 24, rtol=0.15)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 3), (40, 40)])
def test_an_image_of_one_grey_has_no_blobs(shape):
    assert len(search(np.full(shape, 0.7, np.float32))) == 0


@pytest.mark.parametrize(("smallest", "largest"), [(300, 900), (9, 8)])
def test_no_diameter_is_no_blob(smallest, largest):
    work = find_extrema(discs((60, 60), [(30, 30, 20)]), UNIT, smallest, largest)
    assert len(finish(work)) == 0


def test_only_large_diameters_are_looked_for_where_that_is_asked():
    found = search(discs((200, 200), [(100, 100, 80), (20, 20, 8)]), 60, 100)
    assert len(found)
    np.testing.assert_allclose(found.points_yx[0], (100, 100), atol=2)


def test_progress_rises_to_its_total_and_closing_cancels():
    image = np.zeros((900, 40), np.float32)
    steps = list(find_extrema(image, UNIT, 4, 40))
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert steps[-1].done == steps[-1].total
    before = threading.active_count()
    work = find_extrema(image, UNIT, 4, 40)
    next(work)
    work.close()
    assert threading.active_count() == before

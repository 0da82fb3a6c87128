from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.large import parts
from napari_matseg.core.large.parts import bands_of, in_strips, parts_of, units_of
from napari_matseg.core.plan import Plan
from napari_matseg.core.tile import plan_blend, plan_tiles


@given(
    shape=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    side=st.sampled_from([64, 96, 256]),
    blend=st.booleans(),
    largest=st.sampled_from([30, 64, 2048]),
)
def test_parts_cover_each_pixel_once_and_bands_each_unit(shape, side, blend, largest):
    tiles = plan_blend(shape, side, 0.5, 16) if blend else plan_tiles(shape, side, 16, 16)
    plan = Plan("blend" if blend else "halo", tiles, 1, side, 16, 16)
    units = units_of(plan, shape)
    before, parts.SIDE = parts.SIDE, largest
    try:
        found = parts_of(units)
    finally:
        parts.SIDE = before
    seen = np.zeros(shape, int)
    for part in found:
        assert max(part.shape) <= largest
        unit = units[part.unit]
        assert unit.top <= part.top < part.bottom <= unit.bottom
        assert unit.left <= part.left < part.right <= unit.right
        seen[part.where] += 1
    assert (seen == 1).all()
    bands = bands_of(plan, units, 3)
    assert [number for band in bands for number in range(band.first, band.stop)] == list(range(len(units)))
    assert {band.plane for band in bands} == {3}


def test_strips_bound_the_width_and_go_down_one_after_the_other(monkeypatch):
    monkeypatch.setattr(parts, "STRIP", 200)
    plan = in_strips(Plan("staged", plan_tiles((1000, 500), 100, 0, 4), 1, 100, 0, 4))
    units = units_of(plan, (1000, 500))
    bands = bands_of(plan, units, 0)
    seen = []
    for band in bands:
        inside = units[band.first : band.stop]
        left, right = min(unit.left for unit in inside), max(unit.right for unit in inside)
        assert right - left <= 200
        seen.append((left, min(unit.top for unit in inside)))
    assert seen == sorted(seen)
    assert len({left for left, _ in seen}) == 3
    assert sorted(plan.tiles, key=lambda tile: (tile.y.start, tile.x.start)) == plan_tiles((1000, 500), 100, 0, 4)
    halo = Plan("halo", plan_tiles((1000, 500), 100, 8, 4), 1, 100, 8, 4)
    assert in_strips(halo) is halo


def test_a_band_is_a_row_of_tiles_or_some_where_its_surroundings_cost():
    tiles = plan_tiles((1000, 500), 100, 0, 4)
    lengths = {}
    for strategy in ("halo", "staged"):
        plan = Plan(strategy, tiles, 1, 100, 0, 4)
        bands = bands_of(plan, units_of(plan, (1000, 500)), 0)
        lengths[strategy] = [band.stop - band.first for band in bands]
    assert lengths == {"halo": [5] * 10, "staged": [20, 20, 10]}

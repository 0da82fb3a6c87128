from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.large import rows
from napari_matseg.core.large.rows import RowCache
from napari_matseg.core.micrograph import Micrograph

PIXELS = np.random.default_rng(0).integers(0, 255, (100, 30, 3), dtype=np.uint8)


class Strips:
    """Pixels of which only whole rows can be had, and how many values were."""

    shape, dtype = PIXELS.shape, PIXELS.dtype

    def __init__(self) -> None:
        self.values = 0

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        self.values += PIXELS[key[0]].size
        return PIXELS[key]


@given(
    channels=st.sampled_from([1, 3]),
    most=st.integers(0, 60_000),
    spans=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100), st.integers(0, 30), st.integers(0, 30))),
)
def test_what_is_kept_is_what_is_there(channels, most, spans):
    micrograph = Micrograph(PIXELS, "YXS")
    cache = RowCache(micrograph.view(0, channels, slice(5, 95)), most)
    whole = micrograph.plane(0, channels)[:, 5:95]
    assert (cache.shape, cache.dtype) == (whole.shape, whole.dtype)
    before, rows.ROWS = rows.ROWS, 16
    try:
        for top, bottom, left, right in spans:
            key = slice(None), slice(top, bottom), slice(left, right)
            np.testing.assert_array_equal(cache[key], whole[key])
    finally:
        rows.ROWS = before


def test_rows_are_read_once_for_all_windows_of_a_band(monkeypatch):
    monkeypatch.setattr(rows, "ROWS", 16)
    strips = Strips()
    cache = RowCache(Micrograph(strips, "YXS").view(0, 3))
    for top in range(0, 100, 20):
        for left in range(0, 30, 5):
            cache[:, top : top + 30, left : left + 10]
    assert strips.values == PIXELS.size


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(rows, "ROWS", 16)
    cache = RowCache(Micrograph(PIXELS, "YXS").view(0, 3), 4 * 16 * 30 * 3)
    for top in range(0, 100, 10):
        cache[:, top : top + 30, :]
    assert len(cache._kept) <= 4

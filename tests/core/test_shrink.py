from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core import shrink
from napari_matseg.core.shrink import shrink_image, shrink_labels


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40))
def test_mean_of_an_image_stays(height, width, longest):
    image = np.random.default_rng(height).integers(0, 1000, (height, width)).astype(np.uint16)
    small = shrink_image(image, longest)
    assert max(small.shape) == min(max(image.shape), longest)
    assert small.shape == shrink_labels(image, longest).shape
    if min(image.shape) >= longest:  # else a side may be rounded to fewer pixels than its share
        assert image.min() <= small.min()
        assert small.max() <= image.max()
    if height % small.shape[0] == 0 and width % small.shape[1] == 0:
        assert small.mean() == pytest.approx(image.mean(), rel=1e-4)


def test_blocks_are_averaged_over_bands(monkeypatch):
    image = np.random.default_rng(0).normal(size=(120, 90))
    monkeypatch.setattr(shrink, "BAND", 1000)
    expected = image.reshape(40, 3, 30, 3).mean(axis=(1, 3))
    assert np.allclose(shrink_image(image, 40), expected, atol=1e-6)


def test_a_ramp_stays_where_it_is():
    ramp = np.broadcast_to(np.arange(1000, dtype=np.float32), (10, 1000))
    small = shrink_image(ramp, 300)
    middles = (np.arange(300) + 0.5) * 1000 / 300 - 0.5
    assert np.abs(small - middles).max() < 1.5
    assert np.abs(shrink_labels(ramp, 300) - middles).max() <= 1


def test_small_images_stay_and_labels_are_never_mixed():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(shrink_image(image, 4), image)
    labels = np.full((50, 60), 2**32 - 1, np.uint32)
    labels[25:] = 7
    assert set(np.unique(shrink_labels(labels, 10))) == {7, 2**32 - 1}


def test_what_is_read_is_no_more_than_a_band(monkeypatch):
    class Lazy:
        shape = (1000, 100)
        longest_read = 0

        def __getitem__(self, rows: slice) -> np.ndarray:
            n = len(range(*rows.indices(1000)))
            Lazy.longest_read = max(Lazy.longest_read, n)
            return np.ones((n, 100), np.uint8)

    monkeypatch.setattr(shrink, "BAND", 5000)
    assert (shrink_image(Lazy(), 100) == 1).all()
    assert Lazy.longest_read == 50

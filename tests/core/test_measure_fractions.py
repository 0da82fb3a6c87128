from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.measure.fractions import one_field_std, phase_fractions, ratio_over_fields
from napari_matseg.errors import InputError

NAMES = ["matrix", "phase"]


def test_fields_of_equal_size_follow_astm_e562() -> None:
    fractions = np.array([0.11, 0.13, 0.12, 0.16, 0.13])
    part = np.round(fractions * 1000).astype(int)
    row = phase_fractions(np.stack([1000 - part, part], axis=1), NAMES).iloc[1]
    mean, std = fractions.mean(), fractions.std(ddof=1)
    half = 2.776 * std / 5**0.5  # E562's multiplier for five fields
    assert row["fraction"] == pytest.approx(mean)
    assert row["std"] == pytest.approx(std)
    assert row["ci95_low"] == pytest.approx(mean - half, rel=1e-4)
    assert row["ci95_high"] == pytest.approx(mean + half, rel=1e-4)
    assert row["relative_accuracy_percent"] == pytest.approx(100 * half / mean, rel=1e-3)
    assert (row["fields"], row["method"]) == (5, "ASTM E562")


@pytest.mark.parametrize(("n", "t"), [(2, 12.706), (10, 2.262), (20, 2.093), (30, 2.045)])
def test_multipliers_are_those_of_the_standard(n: int, t: float) -> None:
    found = ratio_over_fields(np.arange(n), np.ones(n))
    assert found.half_width == pytest.approx(t * found.std / n**0.5, rel=2e-4)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 500)), min_size=2, max_size=9), st.integers(2, 5))
def test_large_fields_weigh_as_much_as_their_area(counts: list[tuple[int, int]], factor: int) -> None:
    pixels = np.array(counts)
    table = phase_fractions(pixels, NAMES)
    assert table["fraction"].tolist() == pytest.approx(pixels.sum(axis=0) / pixels.sum())
    finer = phase_fractions(factor * pixels, NAMES)
    np.testing.assert_allclose(finer["ci95_low"], table["ci95_low"], atol=1e-9)
    low, high = table["ci95_low"].dropna(), table["ci95_high"].dropna()
    assert ((low >= 0) & (high <= 1)).all()


def test_fields_of_unequal_size_are_told() -> None:
    assert phase_fractions([[50, 50], [20, 30]], NAMES)["method"].tolist() == ["ASTM E562, fields weighted by area"] * 2


def test_interval_of_unequal_fields_covers_the_truth() -> None:
    rng = np.random.default_rng(3)
    within = []
    for _ in range(300):
        area = rng.integers(100, 1000, 12)
        within.append(np.array(ratio_over_fields(rng.binomial(area, 0.3), area)))
    value, _, half = np.transpose(within)
    assert 0.9 < np.mean(np.abs(value - 0.3) < half) < 0.98


def test_one_field_has_an_interval_only_with_a_method() -> None:
    row = phase_fractions([[70, 30]], NAMES).iloc[1]
    assert row["fraction"] == 0.3
    assert np.isnan([row["std"], row["ci95_low"], row["ci95_high"], row["relative_accuracy_percent"]]).all()
    assert row["method"] == "one field, no interval"

    row = phase_fractions([[70, 30]], NAMES, one_field_std=[0.05, 0.05]).iloc[1]
    assert 0.2 < row["ci95_low"] < 0.3 < row["ci95_high"] < 0.41
    assert row["relative_accuracy_percent"] == pytest.approx(100 * 1.96 * 0.05 / 0.3, rel=1e-4)
    assert (row["std"], row["method"]) == (0.05, "one field, integral range")
    wide = phase_fractions([[99, 1]], NAMES, one_field_std=[0.02, 0.02])
    assert (wide["ci95_low"] > 0).all()
    assert (wide["ci95_high"] < 1).all()


def test_what_cannot_be_said_is_nan() -> None:
    table = phase_fractions([[10, 0], [20, 0]], NAMES)
    assert table["fraction"].tolist() == [1, 0]
    assert table[["ci95_low", "ci95_high"]].isna().all(axis=None)
    assert np.isnan(table["relative_accuracy_percent"][1])
    nothing = phase_fractions(np.zeros((3, 2), int), NAMES)
    assert nothing["fraction"].isna().all()
    assert nothing["fields"].tolist() == [0, 0]
    assert nothing["method"].tolist() == ["no field", "no field"]
    assert list(phase_fractions(np.zeros((0, 2), int), NAMES).columns) == list(table.columns)


def test_counts_must_fit_the_classes() -> None:
    with pytest.raises(InputError, match=r"a column for each of 2 classes, not the shape \(1, 3\)"):
        phase_fractions([[1, 2, 3]], NAMES)
    with pytest.raises(InputError, match="cannot be -1"):
        phase_fractions([[1, -1]], NAMES)


def test_independent_pixels_vary_like_a_binomial() -> None:
    rng = np.random.default_rng(0)
    noise = (rng.random((120, 90)) < 0.3).astype(np.uint8)
    assert one_field_std(noise, 2) == pytest.approx((0.3 * 0.7 / noise.size) ** 0.5, rel=0.15)


def test_independent_squares_vary_like_a_binomial_of_them() -> None:
    rng = np.random.default_rng(2)
    squares = (rng.random((60, 60)) < 0.3).astype(np.uint8)
    assert one_field_std(squares.repeat(5, 0).repeat(5, 1), 2) == pytest.approx((0.21 / 60**2) ** 0.5, rel=0.15)
    # Past 1024 pixels a side in blocks, here of 2 pixels, of which squares are no multiple.
    some = squares[:20]
    assert one_field_std(some.repeat(19, 0).repeat(19, 1), 2) == pytest.approx((0.21 / some.size) ** 0.5, rel=0.15)


def test_a_mask_takes_its_pixels_out_of_the_field() -> None:
    rng = np.random.default_rng(1)
    noise = (rng.random((100, 100)) < 0.5).astype(np.uint8)
    mask = np.zeros(noise.shape, bool)
    mask[:50, :50] = True
    noise[60:] = 1
    assert one_field_std(noise, 2, mask) == pytest.approx(0.5 / 50, rel=0.2)
    np.testing.assert_allclose(one_field_std(noise, 2, mask), one_field_std(noise[:50, :50], 2), rtol=1e-6)


def test_one_field_cannot_always_say() -> None:
    assert np.isnan(one_field_std(np.ones((20, 20), np.uint8), 3)).all()
    halves = np.zeros((40, 40), np.uint8)
    halves[:20] = 1
    assert np.isnan(one_field_std(halves, 2)).all()
    assert np.isnan(one_field_std(halves, 2, np.zeros(halves.shape, bool))).all()
    assert np.isnan(one_field_std([[0]], 2)).all()


def test_images_and_masks_must_fit() -> None:
    with pytest.raises(InputError, match="image of rows and columns"):
        one_field_std(np.zeros(5, int), 2)
    with pytest.raises(InputError, match=r"mask has the shape \(3, 4\), the classes \(4, 3\)"):
        one_field_std(np.zeros((4, 3), int), 2, np.ones((3, 4), bool))


def test_interval_from_one_field_covers_the_truth() -> None:
    """Discs strewn at random that may overlap (Boolean model), whose true fraction is known."""
    rng = np.random.default_rng(4)
    radius, fraction, shape, n_fields = 6.0, 0.3, np.array([100, 120]), 60
    density = -np.log(1 - fraction) / (np.pi * radius**2)
    y, x = np.indices(shape)
    within, fractions, stds = 0, [], []
    for _ in range(n_fields):
        n = rng.poisson(density * (shape + 4 * radius).prod())
        field = np.zeros(shape, np.uint8)
        for cy, cx in rng.uniform(-2 * radius, shape + 2 * radius, (n, 2)):
            at = (slice(max(0, int(cy - radius)), max(0, int(cy + radius) + 2)),
                  slice(max(0, int(cx - radius)), max(0, int(cx + radius) + 2)))  # fmt: skip
            field[at] |= (y[at] - cy) ** 2 + (x[at] - cx) ** 2 <= radius**2
        std = one_field_std(field, 2)
        row = phase_fractions([np.bincount(field.ravel(), minlength=2)], NAMES, std).iloc[1]
        within += row["ci95_low"] <= fraction <= row["ci95_high"]
        fractions.append(row["fraction"])
        stds.append(row["std"])
    assert 0.9 <= within / n_fields <= 1.0
    assert np.sqrt(np.mean(np.square(stds))) == pytest.approx(np.std(fractions, ddof=1), rel=0.2)

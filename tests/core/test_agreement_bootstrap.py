from __future__ import annotations

from dataclasses import dataclass
from time import process_time

import numpy as np
import pytest

from napari_matseg.core.agreement.bootstrap import interval
from napari_matseg.core.agreement.boundaries import BoundaryScores, count_boundaries
from napari_matseg.core.agreement.instances import InstanceScores, count_instances
from napari_matseg.core.agreement.pairs import count_pairs
from napari_matseg.core.metrics import Counts, Scores
from napari_matseg.errors import InputError
from napari_matseg.settings import EvaluateSettings


def confusions(n: int, n_classes: int = 3, seed: int = 0) -> list[Counts]:
    rng = np.random.default_rng(seed)
    return [
        Counts(rng.integers(0, 1000, (n_classes, n_classes)) + np.eye(n_classes, dtype=int) * 2000) for _ in range(n)
    ]


def test_agrees_with_scipy() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(1).gamma(2, size=60)
    ours = interval(
        [np.array([value, 1.0]) for value in values],
        lambda total: total[0] / total[1],
        EvaluateSettings(bootstrap=9000),
    )
    theirs = bootstrap((values,), np.mean, n_resamples=9000, method="percentile", rng=2).confidence_interval
    np.testing.assert_allclose(ours, theirs, rtol=0.02)


def test_agrees_with_adding_the_drawn_images_one_by_one() -> None:
    images = confusions(7)
    drawn = np.random.default_rng(5).multinomial(7, np.full(7, 1 / 7), size=50)
    scores = [Scores(sum((images[i] for i in np.repeat(np.arange(7), times)), Counts.zero(3))).iou for times in drawn]
    low, high = interval(images, lambda counts: Scores(counts).iou, EvaluateSettings(bootstrap=50, seed=5))
    np.testing.assert_allclose([low, high], np.quantile(scores, [0.025, 0.975], axis=0))


def test_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        images = [np.array([value, 1.0]) for value in rng.normal(10, 2, 40)]
        low, high = interval(
            images, lambda total: float(total[0] / total[1]), EvaluateSettings(bootstrap=300, seed=seed)
        )
        covered += low <= 10 <= high
    assert 88 <= covered <= 99


def test_a_float_gives_floats_and_the_seed_decides() -> None:
    images = confusions(5)
    first = interval(images, lambda counts: Scores(counts).mean_iou, EvaluateSettings(seed=3))
    again = interval(images, lambda counts: Scores(counts).mean_iou, EvaluateSettings(seed=3))
    other = interval(images, lambda counts: Scores(counts).mean_iou, EvaluateSettings(seed=4))
    assert first == again != other
    assert all(type(limit) is float for limit in first)


def test_equal_images_leave_no_doubt() -> None:
    low, high = interval(confusions(1) * 6, lambda counts: Scores(counts).iou, EvaluateSettings())
    np.testing.assert_array_equal(low, high)
    np.testing.assert_array_equal(low, Scores(confusions(1)[0]).iou)


def test_whole_numbers_stay_whole_and_other_fields_stay_as_they_are() -> None:
    truth = np.zeros((9, 9), np.uint8)
    truth[2:6, 2:6] = 1
    seen = []

    def look(counts: object) -> float:
        seen.append(counts)
        return 0.0

    images = [count_instances(count_pairs(np.roll(truth, k, 0), truth)) for k in range(3)]
    interval(images, look, EvaluateSettings(bootstrap=4))
    for counts in seen:
        assert counts.thresholds == images[0].thresholds
        assert counts.matched.dtype == np.int64
        assert counts.n_truth == counts.n_images == 3


def test_takes_counts_of_objects_and_of_boundaries() -> None:
    truth = np.zeros((14, 20), np.uint8)
    truth[3:7, 3:7] = 1
    truth[9:13, 9:13] = 2
    shifted = [np.roll(truth, k, 1) for k in (0, 1, 1, 2, 3)]
    settings = EvaluateSettings(bootstrap=200)
    low, high = interval(
        [count_instances(count_pairs(image, truth)) for image in shifted],
        lambda counts: InstanceScores(counts).ap,
        settings,
    )
    assert 0 <= low[0] < high[0] <= 1
    assert low.shape == (10,)
    low, high = interval(
        [count_boundaries(image, truth, 3, tolerance_px=1) for image in shifted],
        lambda counts: BoundaryScores(counts).hausdorff95,
        settings,
    )
    assert (low >= 0).all()
    assert (high <= 3).all()
    assert (low < high).all()


def test_draws_without_a_score_are_left_out() -> None:
    only_one_has_it = [np.array([1, 2]), *([np.array([0, 0])] * 4)]

    def share(total: np.ndarray) -> np.ndarray:
        return np.array([total[0] / total[1] if total[1] else np.nan, np.nan, 1.0])

    low, high = interval(only_one_has_it, share, EvaluateSettings(bootstrap=100))
    np.testing.assert_array_equal(low, [0.5, np.nan, 1.0])
    np.testing.assert_array_equal(high, [0.5, np.nan, 1.0])


@pytest.mark.parametrize(("n", "draws"), [(1, 2000), (5, 0)])
def test_one_image_or_no_draws_say_nothing(n: int, draws: int) -> None:
    images, settings = confusions(n), EvaluateSettings(bootstrap=draws)
    assert all(np.isnan(interval(images, lambda counts: Scores(counts).mean_iou, settings)))
    low, high = interval(images, lambda counts: Scores(counts).iou, settings)
    assert np.isnan(low).all()
    assert low.shape == high.shape == (3,)


def test_two_thousand_draws_of_four_hundred_images_take_about_a_second() -> None:
    images = confusions(400, n_classes=5)
    start = process_time()
    interval(images, lambda counts: Scores(counts).iou, EvaluateSettings())
    assert process_time() - start < 3


def test_what_cannot_be_used_is_told() -> None:
    with pytest.raises(InputError, match="at least one image; there are none"):
        interval([], lambda counts: 0.0, EvaluateSettings())
    with pytest.raises(InputError, match="counts of 3 and of 2 classes cannot be added"):
        interval([*confusions(2), *confusions(1, 2)], lambda counts: 0.0, EvaluateSettings())


def test_any_frozen_dataclass_that_adds_up_will_do() -> None:
    @dataclass(frozen=True)
    class Tally:
        name: str
        tolerance: float
        hits: int
        tries: float

        def __add__(self, other: Tally) -> Tally:
            return Tally(self.name, self.tolerance, self.hits + other.hits, self.tries + other.tries)

    low, high = interval(
        [Tally("a", 2.0, 1, 2.0), Tally("a", 2.0, 2, 2.0)],
        lambda tally: tally.hits / tally.tries * tally.tolerance,
        EvaluateSettings(),
    )
    assert (low, high) == (1.0, 2.0)
